//! One named case of "merged" or "not merged" each.

use backstack_schemas::outcome::MergedHow::{Ancestor, PatchId, Squash};

use crate::builder::{Repo, Tracked};

/// `a` on `main` with two commits, and its row; `main` is checked out and has moved on since.
fn branch_of_two() -> (Repo, Tracked) {
    let repo = Repo::start();
    repo.branch("a", "main");
    repo.edit_commit("app.txt", 3, "first");
    repo.edit_commit("app.txt", 20, "second");
    let row = repo.track("a", "main");
    repo.checkout("main");
    repo.edit_commit("lib.txt", 10, "elsewhere");
    (repo, row)
}

/// A stack of `a` (two commits) and `b` (two commits) on `main`, and their rows.
fn stack_of_two() -> (Repo, Tracked, Tracked) {
    let (repo, a) = branch_of_two();
    repo.branch("b", "a");
    repo.edit_commit("lib.txt", 2, "third");
    repo.edit_commit("app.txt", 12, "fourth");
    let b = repo.track("b", "a");
    repo.checkout("main");
    (repo, a, b)
}

#[test]
fn an_open_branch_is_not_merged() {
    let (repo, a) = branch_of_two();
    assert_eq!(repo.how(&a), None);
}

#[test]
fn squash_merged() {
    let (repo, a) = branch_of_two();
    repo.squash("a");
    assert_eq!(repo.how(&a), Some(Squash));
    repo.edit_commit("lib.txt", 11, "later");
    assert_eq!(repo.how(&a), Some(Squash));
}

#[test]
fn a_squash_of_one_commit_is_that_commit() {
    let repo = Repo::start();
    repo.branch("a", "main");
    repo.edit_commit("app.txt", 3, "only");
    let a = repo.track("a", "main");
    repo.checkout("main");
    repo.squash("a");
    assert_eq!(repo.how(&a), Some(PatchId));
}

#[test]
fn merged_by_fast_forward() {
    let repo = Repo::start();
    repo.branch("a", "main");
    repo.edit_commit("app.txt", 3, "first");
    let a = repo.track("a", "main");
    repo.checkout("main");
    repo.git(&["merge", "-q", "--ff-only", "a"]);
    assert_eq!(repo.how(&a), Some(Ancestor));
    repo.edit_commit("app.txt", 3, "trunk goes on, on the same line");
    assert_eq!(repo.how(&a), Some(Ancestor));
}

#[test]
fn merged_by_rebase() {
    let (repo, a) = branch_of_two();
    repo.rebase_merge("a", "main");
    assert_eq!(repo.how(&a), Some(PatchId));
}

#[test]
fn merged_by_merge_commit() {
    let (repo, a) = branch_of_two();
    repo.git(&["merge", "-q", "--no-ff", "--no-edit", "a"]);
    assert_eq!(repo.how(&a), Some(Ancestor));
    repo.edit_commit("app.txt", 3, "trunk goes on");
    assert_eq!(repo.how(&a), Some(Ancestor));
}

#[test]
fn a_rebased_copy_merged_by_merge_commit() {
    let (repo, a) = branch_of_two();
    repo.git(&["checkout", "-q", "--detach", "a"]);
    repo.git(&["rebase", "-q", "main"]);
    repo.git(&["checkout", "-q", "-b", "copy"]);
    repo.checkout("main");
    repo.edit_commit("lib.txt", 20, "meanwhile");
    repo.git(&["merge", "-q", "--no-ff", "--no-edit", "copy"]);
    assert_eq!(repo.how(&a), Some(PatchId));
}

#[test]
fn a_merge_that_left_the_rebased_copy_out_is_no_landing() {
    let (repo, a) = branch_of_two();
    repo.git(&["checkout", "-q", "--detach", "a"]);
    repo.git(&["rebase", "-q", "main"]);
    repo.git(&["checkout", "-q", "-b", "copy"]);
    repo.checkout("main");
    repo.git(&["merge", "-q", "--no-ff", "-s", "ours", "--no-edit", "copy"]);
    assert_eq!(repo.how(&a), None);
}

#[test]
fn rebased_by_its_owner_and_then_fast_forwarded() {
    let (repo, a) = branch_of_two();
    repo.checkout("a");
    repo.git(&["rebase", "-q", "main"]);
    repo.checkout("main");
    repo.git(&["merge", "-q", "--ff-only", "a"]);
    assert_eq!(repo.how(&a), Some(Ancestor));
}

#[test]
fn merged_and_then_amended() {
    let (repo, a) = branch_of_two();
    repo.squash("a");
    repo.checkout("a");
    repo.edit("app.txt", 25, "an afterthought");
    repo.git(&["commit", "-q", "-a", "--amend", "--no-edit"]);
    repo.checkout("main");
    assert_eq!(repo.how(&a), None);
}

#[test]
fn merged_by_merge_commit_and_then_moved_on() {
    let (repo, a) = branch_of_two();
    repo.git(&["merge", "-q", "--no-ff", "--no-edit", "a"]);
    repo.checkout("a");
    repo.edit_commit("lib.txt", 25, "one more");
    assert_eq!(repo.how(&a), None);
}

#[test]
fn squashed_and_then_moved_on() {
    let (repo, a) = branch_of_two();
    repo.squash("a");
    repo.checkout("a");
    repo.edit_commit("lib.txt", 25, "one more");
    assert_eq!(repo.how(&a), None);
}

#[test]
fn a_fresh_branch_at_trunks_head() {
    let repo = Repo::start();
    repo.git(&["branch", "a"]);
    let a = repo.track("a", "main");
    assert_eq!(repo.how(&a), None);
    repo.edit_commit("app.txt", 1, "trunk goes on");
    assert_eq!(repo.how(&a), None);
}

#[test]
fn a_fresh_branch_that_followed_trunk() {
    let repo = Repo::start();
    repo.git(&["branch", "a"]);
    let a = repo.track("a", "main");
    repo.edit_commit("app.txt", 1, "trunk goes on");
    repo.edit_commit("app.txt", 2, "and on");
    repo.git(&["branch", "-qf", "a", "main"]);
    assert_eq!(repo.how(&a), None, "at trunk's head");
    repo.edit_commit("app.txt", 3, "and on");
    assert_eq!(repo.how(&a), None, "behind trunk");
}

#[test]
fn a_branch_without_a_recorded_base() {
    let (repo, mut a) = branch_of_two();
    repo.squash("a");
    a.base = None;
    assert_eq!(repo.how(&a), None);
}

#[test]
fn a_branch_whose_recorded_base_is_not_in_the_repository() {
    let (repo, mut a) = branch_of_two();
    repo.squash("a");
    a.base = Some("1234567890123456789012345678901234567890".parse().unwrap());
    assert_eq!(repo.how(&a), None);
}

#[test]
fn a_child_without_commits_behind_its_parent() {
    let repo = Repo::start();
    repo.branch("a", "main");
    repo.edit_commit("app.txt", 3, "first");
    repo.git(&["branch", "b", "a"]);
    let b = repo.track("b", "a");
    repo.edit_commit("app.txt", 4, "second");
    let a = repo.track("a", "main");
    assert_eq!(repo.merged(&[&a, &b]), []);
    repo.checkout("main");
    repo.git(&["merge", "-q", "--no-ff", "--no-edit", "a"]);
    assert_eq!(repo.merged(&[&a, &b]), [("a".to_owned(), Ancestor)]);
}

#[test]
fn empty_commits_only() {
    let repo = Repo::start();
    repo.branch("a", "main");
    repo.commit("nothing");
    repo.commit("nothing again");
    let a = repo.track("a", "main");
    repo.checkout("main");
    assert_eq!(repo.how(&a), None);
    repo.git(&["merge", "-q", "--no-ff", "--no-edit", "a"]);
    assert_eq!(repo.how(&a), None);
}

#[test]
fn empty_commits_among_others_do_not_matter() {
    let (repo, a) = branch_of_two();
    repo.checkout("a");
    repo.commit("nothing");
    repo.checkout("main");
    repo.rebase_merge("a~1", "a~3");
    assert_eq!(repo.how(&a), Some(PatchId));
}

#[test]
fn a_revert_of_the_squash() {
    let (repo, a) = branch_of_two();
    let squash = repo.squash("a");
    repo.edit_commit("lib.txt", 25, "between");
    repo.revert(&squash.to_string());
    assert_eq!(repo.how(&a), None);
    repo.edit_commit("app.txt", 3, "later, on the same line");
    assert_eq!(repo.how(&a), None);
}

#[test]
fn a_revert_of_the_revert() {
    let (repo, a) = branch_of_two();
    let squash = repo.squash("a");
    let revert = repo.revert(&squash.to_string());
    assert_eq!(repo.how(&a), None);
    let again = repo.revert(&revert.to_string());
    assert_eq!(repo.how(&a), Some(Squash));
    repo.revert(&again.to_string());
    assert_eq!(repo.how(&a), None);
}

#[test]
fn a_revert_of_one_rebased_commit() {
    let (repo, a) = branch_of_two();
    repo.rebase_merge("a", "main");
    repo.revert("main~1");
    assert_eq!(repo.how(&a), None);
    repo.revert("main");
    assert_eq!(repo.how(&a), Some(PatchId));
}

#[test]
fn one_revert_of_all_rebased_commits() {
    let (repo, a) = branch_of_two();
    repo.rebase_merge("a", "main");
    repo.git(&["revert", "--no-commit", "main~2..main"]);
    repo.commit("revert both");
    assert_eq!(repo.how(&a), None);
}

#[test]
fn a_revert_of_one_squashed_commit() {
    let (repo, a) = branch_of_two();
    repo.squash("a");
    repo.revert("a~1");
    assert_eq!(repo.how(&a), None);
}

#[test]
fn a_revert_of_what_was_left_of_it() {
    let repo = Repo::start();
    let first = repo.read("app.txt").lines().nth(3).unwrap().to_owned();
    repo.branch("a", "main");
    repo.edit("app.txt", 3, "one");
    repo.edit("lib.txt", 20, "two");
    repo.commit("both");
    let a = repo.track("a", "main");
    repo.checkout("main");
    let squash = repo.squash("a");
    repo.edit_commit("app.txt", 3, &first);
    assert_eq!(repo.how(&a), Some(PatchId));
    let revert = repo.revert(&squash.to_string());
    assert_eq!(repo.how(&a), None);
    repo.revert(&revert.to_string());
    assert_eq!(repo.how(&a), Some(PatchId), "as before the revert");
}

#[test]
fn a_revert_of_a_fast_forwarded_commit() {
    let repo = Repo::start();
    repo.branch("a", "main");
    repo.edit_commit("app.txt", 3, "first");
    repo.edit_commit("lib.txt", 3, "second");
    let a = repo.track("a", "main");
    repo.checkout("main");
    repo.git(&["merge", "-q", "--ff-only", "a"]);
    let revert = repo.revert("a");
    assert_eq!(repo.how(&a), None);
    repo.revert(&revert.to_string());
    assert_eq!(repo.how(&a), Some(Ancestor));
}

#[test]
fn a_revert_of_the_merge() {
    let (repo, a) = branch_of_two();
    repo.git(&["merge", "-q", "--no-ff", "--no-edit", "a"]);
    repo.edit_commit("lib.txt", 25, "between");
    repo.git(&["revert", "--no-edit", "-m", "1", "main~1"]);
    assert_eq!(repo.how(&a), None);
    repo.revert("main");
    assert_eq!(repo.how(&a), Some(Ancestor));
}

#[test]
fn a_revert_of_the_merge_of_a_branch_that_had_merged_trunk() {
    let (repo, a) = branch_of_two();
    repo.checkout("a");
    repo.git(&["merge", "-q", "--no-edit", "main"]);
    repo.checkout("main");
    repo.edit_commit("lib.txt", 20, "meanwhile");
    repo.git(&["merge", "-q", "--no-ff", "--no-edit", "a"]);
    assert_eq!(repo.how(&a), Some(Ancestor));
    repo.git(&["revert", "--no-edit", "-m", "1", "main"]);
    assert_eq!(repo.how(&a), None);
}

#[test]
fn an_undo_that_conflicts_where_it_would_be_exact_leaves_a_doubt() {
    let repo = Repo::start();
    repo.branch("a", "main");
    repo.edit_commit("app.txt", 3, "first");
    let a = repo.track("a", "main");
    repo.checkout("main");
    let squash = repo.squash("a");
    repo.edit_commit("app.txt", 4, "right beside");
    let output = repo.try_git(&["revert", "--no-edit", &squash.to_string()]);
    assert!(!output.status.success(), "it conflicts");
    repo.git(&["reset", "-q", "--hard"]);
    repo.edit_commit("app.txt", 3, "app.txt line 3");
    assert_eq!(repo.how(&a), None);
}

#[test]
fn a_revert_put_back_where_that_would_conflict_leaves_a_doubt() {
    let repo = Repo::start();
    repo.branch("a", "main");
    repo.edit_commit("app.txt", 3, "first");
    let a = repo.track("a", "main");
    repo.checkout("main");
    let squash = repo.squash("a");
    repo.revert(&squash.to_string());
    repo.edit_commit("app.txt", 4, "right beside");
    repo.edit_commit("app.txt", 3, "first");
    assert_eq!(repo.how(&a), None);
}

#[test]
fn a_revert_inside_what_was_merged_on_top() {
    let (repo, a) = branch_of_two();
    repo.branch("b", "a");
    repo.revert("a");
    repo.edit_commit("lib.txt", 2, "other");
    let b = repo.track("b", "a");
    repo.checkout("main");
    repo.git(&["merge", "-q", "--no-ff", "--no-edit", "b"]);
    assert_eq!(repo.merged(&[&a, &b]), [("b".to_owned(), Ancestor)]);
}

#[test]
fn a_squash_that_differs_in_white_space() {
    let repo = Repo::start();
    repo.branch("a", "main");
    repo.edit_commit("app.txt", 3, "if x { y }");
    let a = repo.track("a", "main");
    repo.checkout("main");
    repo.edit_commit("app.txt", 3, "if x {  y }");
    assert_eq!(repo.how(&a), None);
}

#[test]
fn a_revert_that_differs_in_white_space_is_no_exact_inverse() {
    let (repo, a) = branch_of_two();
    repo.squash("a");
    repo.edit("app.txt", 3, "app.txt  line 3");
    repo.edit("app.txt", 20, "app.txt  line 20");
    repo.commit("nearly a revert");
    assert_eq!(repo.how(&a), Some(Squash));
}

#[test]
fn later_trunk_commits_on_the_same_lines() {
    let (repo, a) = branch_of_two();
    repo.squash("a");
    repo.edit_commit("app.txt", 3, "first, improved");
    repo.edit_commit("app.txt", 20, "second, improved");
    repo.edit_commit("app.txt", 4, "beside");
    assert_eq!(repo.how(&a), Some(Squash));
}

#[test]
fn earlier_trunk_commits_beside_the_same_lines() {
    let (repo, a) = branch_of_two();
    repo.edit_commit("app.txt", 5, "in the context of the diff");
    repo.squash("a");
    assert_eq!(repo.how(&a), Some(Squash));
}

#[test]
fn a_squash_with_a_conflict_resolved_by_hand() {
    let (repo, a) = branch_of_two();
    repo.edit_commit("app.txt", 3, "trunk's idea");
    let output = repo.try_git(&["merge", "-q", "--squash", "a"]);
    assert!(!output.status.success(), "it conflicts");
    repo.git(&["checkout", "--ours", "app.txt"]);
    repo.edit("app.txt", 3, "both ideas");
    repo.edit_commit("app.txt", 20, "second");
    assert_eq!(repo.how(&a), None);
}

#[test]
fn a_squash_with_something_added() {
    let (repo, a) = branch_of_two();
    repo.git(&["merge", "-q", "--squash", "a"]);
    repo.edit_commit("app.txt", 28, "while at it");
    assert_eq!(repo.how(&a), None);
}

#[test]
fn a_squash_with_something_left_out() {
    let (repo, a) = branch_of_two();
    repo.git(&["merge", "-q", "--squash", "a"]);
    repo.edit_commit("app.txt", 20, "app.txt line 20");
    assert_eq!(repo.how(&a), None);
}

#[test]
fn one_of_two_commits_picked() {
    let (repo, a) = branch_of_two();
    repo.git(&["cherry-pick", "a"]);
    assert_eq!(repo.how(&a), None);
    repo.git(&["cherry-pick", "a~1"]);
    assert_eq!(repo.how(&a), Some(PatchId));
}

#[test]
fn the_same_change_from_before_the_branch_is_not_its_merge() {
    let repo = Repo::start();
    repo.edit_commit("app.txt", 3, "first");
    repo.revert("main");
    repo.branch("a", "main");
    repo.edit_commit("app.txt", 3, "first");
    let a = repo.track("a", "main");
    repo.checkout("main");
    repo.edit_commit("lib.txt", 3, "trunk goes on");
    assert_eq!(repo.how(&a), None);
}

#[test]
fn the_same_change_from_before_the_branch_beside_an_older_branch() {
    let repo = Repo::start();
    repo.branch("old", "main");
    repo.edit_commit("lib.txt", 20, "old");
    let old = repo.track("old", "main");
    repo.checkout("main");
    for line in ["first", "something else", "app.txt line 3"] {
        repo.edit_commit("app.txt", 3, line);
    }
    repo.branch("a", "main");
    repo.edit_commit("app.txt", 3, "first");
    let a = repo.track("a", "main");
    repo.checkout("main");
    repo.squash("old");
    let merged = repo.merged(&[&old, &a]);
    assert_eq!(merged, [("old".to_owned(), PatchId)]);
}

#[test]
fn two_merged_branches_in_the_middle_of_a_stack() {
    let (repo, a, b) = stack_of_two();
    repo.branch("c", "b");
    repo.edit_commit("app.txt", 27, "fifth");
    repo.edit_commit("app.txt", 28, "sixth");
    let c = repo.track("c", "b");
    repo.branch("d", "c");
    repo.edit_commit("lib.txt", 28, "seventh");
    let d = repo.track("d", "c");
    repo.checkout("main");
    repo.rebase_merge("c", "b");
    repo.rebase_merge("b", "a");
    assert_eq!(
        repo.merged(&[&a, &b, &c, &d]),
        [("b".to_owned(), PatchId), ("c".to_owned(), PatchId)]
    );
}

#[test]
fn squashed_one_after_the_other() {
    let (repo, a, b) = stack_of_two();
    repo.squash("a");
    assert_eq!(repo.merged(&[&a, &b]), [("a".to_owned(), Squash)]);
    repo.edit_commit("lib.txt", 28, "between");
    repo.squash("b");
    let both = [("a".to_owned(), Squash), ("b".to_owned(), Squash)];
    assert_eq!(repo.merged(&[&a, &b]), both);
}

#[test]
fn what_a_child_merged_from_its_parent_is_not_its_own() {
    let (repo, _, b) = stack_of_two();
    repo.checkout("a");
    repo.edit_commit("app.txt", 27, "the parent goes on");
    let a = repo.track("a", "main");
    repo.checkout("b");
    repo.git(&["merge", "-q", "--no-edit", "a"]);
    repo.checkout("main");
    repo.squash("a");
    repo.git(&["cherry-pick", "b^~1", "b^"]);
    assert_eq!(
        repo.merged(&[&a, &b]),
        [("a".to_owned(), Squash), ("b".to_owned(), PatchId)]
    );
}

#[test]
fn a_stack_squashed_into_one_commit() {
    let (repo, a, b) = stack_of_two();
    let squash = repo.squash("b");
    let both = [("a".to_owned(), Squash), ("b".to_owned(), Squash)];
    assert_eq!(repo.merged(&[&a, &b]), both);
    repo.revert(&squash.to_string());
    assert_eq!(repo.merged(&[&a, &b]), []);
}

#[test]
fn a_stack_squashed_into_one_commit_that_takes_the_lower_branch_back() {
    let (repo, a) = branch_of_two();
    repo.branch("b", "a");
    repo.git(&["revert", "--no-edit", "a"]);
    repo.git(&["revert", "--no-edit", "a~1"]);
    repo.edit_commit("lib.txt", 2, "instead");
    repo.edit_commit("lib.txt", 3, "instead");
    let b = repo.track("b", "a");
    repo.checkout("main");
    repo.squash("b");
    let merged = repo.merged(&[&a, &b]);
    assert!(merged.iter().all(|(branch, _)| branch == "b"), "{merged:?}");
}

#[test]
fn deleted_on_the_remote_after_the_squash() {
    let (repo, a) = branch_of_two();
    repo.squash("a");
    repo.git(&["branch", "-qD", "a"]);
    assert_eq!(repo.how(&a), Some(Squash));
}

#[test]
fn trunk_merged_into_the_branch_before_the_squash() {
    let (repo, a) = branch_of_two();
    repo.checkout("a");
    repo.git(&["merge", "-q", "--no-edit", "main"]);
    repo.edit_commit("lib.txt", 25, "after the merge");
    repo.checkout("main");
    repo.edit_commit("lib.txt", 1, "meanwhile");
    repo.squash("a");
    assert_eq!(repo.how(&a), Some(Squash));
}

#[test]
fn a_merge_inside_the_branch_counts_where_it_changes_something() {
    for by_hand in [false, true] {
        let (repo, a) = branch_of_two();
        repo.checkout("a");
        repo.git(&["merge", "-q", "--no-commit", "--no-ff", "main"]);
        if by_hand {
            repo.edit("lib.txt", 25, "slipped in");
        }
        repo.commit("merge main");
        repo.checkout("main");
        repo.git(&["cherry-pick", "a^~1", "a^"]);
        assert_eq!(repo.how(&a), (!by_hand).then_some(PatchId));
    }
}

#[test]
fn a_side_branch_merged_into_the_branch_before_the_squash() {
    let (repo, a) = branch_of_two();
    repo.branch("side", "a~1");
    repo.edit_commit("lib.txt", 25, "from the side");
    repo.checkout("a");
    repo.git(&["merge", "-q", "--no-edit", "side"]);
    repo.checkout("main");
    repo.squash("a");
    assert_eq!(repo.how(&a), Some(Squash));
}

#[test]
fn binary_files() {
    let repo = Repo::start();
    repo.write("logo.bin", [0, 1, 2, 3]);
    repo.commit("logo");
    repo.branch("a", "main");
    repo.write("logo.bin", [0, 1, 2, 4]);
    repo.commit("better logo");
    let a = repo.track("a", "main");
    repo.checkout("main");
    repo.edit_commit("lib.txt", 3, "elsewhere");
    assert_eq!(repo.how(&a), None);
    repo.write("logo.bin", [0, 1, 2, 5]);
    repo.commit("another logo");
    assert_eq!(repo.how(&a), None, "another change of the same file");
    repo.git(&["reset", "-q", "--hard", "HEAD~1"]);
    repo.squash("a");
    repo.write("logo.bin", [0, 9]);
    repo.commit("yet another logo");
    assert_eq!(repo.how(&a), Some(PatchId));
    repo.write("logo.bin", [0, 1, 2, 4]);
    repo.commit("back");
    repo.revert("main~2");
    assert_eq!(repo.how(&a), None);
}

#[test]
fn mode_changes() {
    let repo = Repo::start();
    repo.branch("a", "main");
    repo.git(&["update-index", "--chmod=+x", "app.txt"]);
    repo.git(&["commit", "-q", "-m", "executable"]);
    repo.git(&["reset", "-q", "--hard"]);
    let a = repo.track("a", "main");
    repo.checkout("main");
    repo.edit_commit("app.txt", 3, "same file, not the mode");
    assert_eq!(repo.how(&a), None);
    repo.squash("a");
    assert_eq!(repo.how(&a), Some(PatchId));
    repo.revert("main");
    assert_eq!(repo.how(&a), None);
}

#[test]
fn renames_and_removals() {
    let repo = Repo::start();
    repo.branch("a", "main");
    repo.git(&["mv", "app.txt", "moved.txt"]);
    repo.commit("move");
    repo.git(&["rm", "-q", "lib.txt"]);
    repo.commit("remove");
    let a = repo.track("a", "main");
    repo.checkout("main");
    repo.write("other.txt", "trunk goes on");
    repo.commit("elsewhere");
    let squash = repo.squash("a");
    assert_eq!(repo.how(&a), Some(Squash));
    repo.revert(&squash.to_string());
    assert_eq!(repo.how(&a), None);
}

#[test]
fn a_rename_merged_where_trunk_had_edited_the_file() {
    let repo = Repo::start();
    repo.branch("a", "main");
    repo.git(&["mv", "app.txt", "moved.txt"]);
    repo.commit("move");
    let a = repo.track("a", "main");
    repo.checkout("main");
    repo.edit_commit("app.txt", 3, "trunk edits the old name");
    repo.squash("a");
    assert_eq!(repo.how(&a), Some(PatchId));
}

#[test]
fn a_file_that_becomes_a_directory() {
    let repo = Repo::start();
    repo.branch("a", "main");
    repo.git(&["rm", "-q", "app.txt"]);
    repo.write("app.txt/inner", "one");
    repo.write("app.txt-beside", "two");
    repo.commit("file to directory");
    let a = repo.track("a", "main");
    repo.checkout("main");
    repo.edit_commit("lib.txt", 3, "elsewhere");
    assert_eq!(repo.how(&a), None);
    repo.squash("a");
    assert_eq!(repo.how(&a), Some(PatchId));
}

#[test]
fn switched_on_and_off_and_on() {
    let repo = Repo::start();
    repo.branch("a", "main");
    for line in ["on", "app.txt line 3", "on"] {
        repo.edit_commit("app.txt", 3, line);
    }
    let a = repo.track("a", "main");
    repo.checkout("main");
    repo.edit_commit("lib.txt", 3, "elsewhere");
    repo.squash("a~2");
    assert_eq!(repo.how(&a), Some(Squash), "all of it together is on");
    repo.revert("main");
    assert_eq!(repo.how(&a), None);
}

#[test]
fn the_same_lines_added_elsewhere() {
    for (by_branch, by_trunk) in [(5, 25), (25, 5)] {
        let repo = Repo::start();
        repo.branch("a", "main");
        let line = repo
            .read("app.txt")
            .lines()
            .nth(by_branch)
            .unwrap()
            .to_owned();
        repo.edit_commit("app.txt", by_branch, &format!("}}\n{line}"));
        let a = repo.track("a", "main");
        repo.checkout("main");
        let line = repo
            .read("app.txt")
            .lines()
            .nth(by_trunk)
            .unwrap()
            .to_owned();
        repo.edit_commit("app.txt", by_trunk, &format!("}}\n{line}"));
        assert_eq!(repo.how(&a), None);
    }
}

#[test]
fn the_same_lines_removed_elsewhere_are_no_revert() {
    let repo = Repo::start();
    repo.edit_commit("app.txt", 25, "}");
    repo.branch("a", "main");
    repo.edit_commit("app.txt", 5, "}\nand");
    let a = repo.track("a", "main");
    repo.checkout("main");
    repo.squash("a");
    assert_eq!(repo.how(&a), Some(PatchId));
    repo.edit("app.txt", 5, "app.txt line 5");
    repo.edit_commit("app.txt", 6, "and\n}");
    assert_eq!(repo.how(&a), Some(PatchId));
}

#[test]
fn commits_thrown_away_for_trunks() {
    let (repo, a) = branch_of_two();
    repo.git(&["branch", "-qf", "a", "main"]);
    assert_eq!(repo.how(&a), None);
    repo.edit_commit("lib.txt", 20, "trunk goes on");
    assert_eq!(repo.how(&a), None);
}

#[test]
fn only_an_empty_commit_on_top_of_trunks() {
    let repo = Repo::start();
    repo.git(&["branch", "a"]);
    let mut a = repo.track("a", "main");
    repo.edit_commit("app.txt", 3, "trunk goes on");
    repo.git(&["branch", "-qf", "a", "main"]);
    repo.checkout("a");
    repo.commit("nothing");
    a.recorded_head = Some(repo.id("a"));
    repo.checkout("main");
    repo.git(&["merge", "-q", "--no-ff", "--no-edit", "a"]);
    assert_eq!(repo.how(&a), None);
}

#[test]
fn history_without_a_common_commit() {
    let (repo, mut a) = branch_of_two();
    repo.git(&["checkout", "-q", "--orphan", "other"]);
    repo.commit("another start");
    a.name = "other".to_owned();
    assert_eq!(repo.how(&a), None);
}

#[test]
fn trunk_pulled_so_that_its_old_line_is_the_second_parent() {
    let (repo, a) = branch_of_two();
    repo.squash("a");
    repo.branch("local", "main~2");
    repo.edit_commit("lib.txt", 28, "local work");
    repo.git(&["merge", "-q", "--no-edit", "main"]);
    repo.git(&["branch", "-qf", "main", "local"]);
    repo.checkout("main");
    assert_eq!(repo.how(&a), Some(Squash));
    repo.revert("main^2");
    assert_eq!(repo.how(&a), None);
}
