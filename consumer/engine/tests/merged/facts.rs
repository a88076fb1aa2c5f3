//! What rows say of a branch, against what git says.

use backstack_engine::facts::{StackFacts, head_facts, stack_facts};
use backstack_schemas::branch::DiffStat;

use crate::builder::{GitMerger, Repo};

/// The facts of `branch` on `parent`, with the base that is recorded at `base`.
fn facts(repo: &Repo, branch: &str, parent: &str, base: Option<&str>) -> StackFacts {
    stack_facts(
        &repo.open(),
        repo.id(branch),
        repo.id(parent),
        base.map(|base| repo.id(base)),
        repo.id("main"),
        &mut GitMerger::new(repo),
    )
    .unwrap()
}

/// What `git diff --shortstat` says, without renames.
fn git_stat(repo: &Repo, from: &str, to: &str) -> DiffStat {
    let printed = repo.git(&["diff", "--shortstat", "--no-renames", from, to]);
    let count = |what: &str| {
        printed
            .split(',')
            .find(|part| part.contains(what))
            .map_or(0, |part| {
                part.trim().split(' ').next().unwrap().parse().unwrap()
            })
    };
    DiffStat {
        files: count("file"),
        insertions: count("insertion"),
        deletions: count("deletion"),
    }
}

#[test]
fn a_branch_on_its_parents_head() {
    let repo = Repo::start();
    repo.branch("a", "main");
    repo.edit_commit("app.txt", 3, "first");
    repo.write("new.txt", "one\ntwo\nthree");
    repo.commit("second");
    assert_eq!(
        facts(&repo, "a", "main", Some("main")),
        StackFacts {
            ahead: 2,
            behind: 0,
            needs_restack: false,
            conflicts_with_trunk: false,
            diff: DiffStat {
                files: 2,
                insertions: 4,
                deletions: 1,
            },
        }
    );
}

#[test]
fn a_branch_whose_parent_moved_on() {
    let repo = Repo::start();
    repo.branch("a", "main");
    repo.edit_commit("app.txt", 3, "first");
    repo.checkout("main");
    repo.edit_commit("app.txt", 20, "elsewhere");
    let beside = facts(&repo, "a", "main", Some("a~1"));
    assert_eq!((beside.ahead, beside.behind), (1, 1));
    assert!(beside.needs_restack && !beside.conflicts_with_trunk);
    repo.edit_commit("app.txt", 3, "the same line");
    let clashing = facts(&repo, "a", "main", Some("a~1"));
    assert_eq!((clashing.ahead, clashing.behind), (1, 2));
    assert!(clashing.conflicts_with_trunk);
    assert_eq!(clashing.diff, git_stat(&repo, "a~1", "a"));
}

#[test]
fn a_branch_within_its_parent() {
    let repo = Repo::start();
    repo.git(&["branch", "a"]);
    repo.edit_commit("app.txt", 3, "trunk goes on");
    let facts = facts(&repo, "a", "main", None);
    assert_eq!((facts.ahead, facts.behind), (0, 1));
    assert!(facts.needs_restack && !facts.conflicts_with_trunk);
    assert_eq!(facts.diff, DiffStat::default());
}

#[test]
fn the_diff_starts_at_the_recorded_base_where_the_parent_was_rewritten() {
    let repo = Repo::start();
    repo.branch("a", "main");
    repo.edit_commit("lib.txt", 3, "first");
    repo.branch("b", "a");
    repo.edit_commit("app.txt", 3, "second");
    repo.checkout("a");
    repo.edit("lib.txt", 3, "first, amended");
    repo.git(&["commit", "-q", "-a", "--amend", "--no-edit"]);
    let recorded = facts(&repo, "b", "a", Some("b~1"));
    assert_eq!(recorded.diff, git_stat(&repo, "b~1", "b"));
    assert_eq!((recorded.ahead, recorded.behind), (2, 1));
    let unknown = facts(&repo, "b", "a", None);
    assert_eq!(unknown.diff, git_stat(&repo, "main", "b"));
    let elsewhere = facts(&repo, "b", "a", Some("a"));
    assert_eq!(elsewhere.diff, unknown.diff, "a base outside the branch");
}

#[test]
fn the_diff_starts_at_the_merge_base_where_that_is_nearer() {
    let repo = Repo::start();
    repo.branch("a", "main");
    repo.edit_commit("app.txt", 3, "first");
    repo.checkout("main");
    repo.edit_commit("lib.txt", 3, "trunk goes on");
    repo.checkout("a");
    repo.git(&["merge", "-q", "--no-edit", "main"]);
    let merged = facts(&repo, "a", "main", Some("main~1"));
    assert_eq!(merged.diff, git_stat(&repo, "main", "a"));
    assert_eq!(merged.diff.files, 1);
}

#[test]
fn counts_what_git_counts() {
    let repo = Repo::start();
    repo.write("logo.bin", [0, 1, 2]);
    repo.write("dir/deep/file.txt", "one\ntwo");
    repo.write("link", "x");
    repo.commit("more");
    repo.branch("a", "main");
    repo.write("logo.bin", [0, 1, 2, 3, b'\n']);
    repo.git(&["mv", "dir/deep/file.txt", "dir/file.txt"]);
    repo.git(&["rm", "-q", "link"]);
    repo.write("link/inner", "y\n");
    repo.edit("app.txt", 0, "top");
    repo.edit("app.txt", 29, "bottom");
    repo.commit("all kinds");
    repo.git(&["update-index", "--chmod=+x", "lib.txt"]);
    let submodule = format!("160000,{},vendor", repo.id("main"));
    repo.git(&["update-index", "--add", "--cacheinfo", &submodule]);
    repo.git(&["commit", "-q", "-m", "mode and submodule"]);
    let facts = facts(&repo, "a", "main", Some("main"));
    assert_eq!(facts.diff, git_stat(&repo, "main", "a"));
}

#[test]
fn several_merge_bases_are_merged_as_git_merges_them() {
    let repo = Repo::start();
    repo.branch("a", "main");
    repo.edit_commit("app.txt", 3, "from a");
    repo.checkout("main");
    repo.edit_commit("lib.txt", 3, "from main");
    repo.git(&["tag", "old"]);
    repo.git(&["merge", "-q", "--no-edit", "a"]);
    repo.checkout("a");
    repo.git(&["merge", "-q", "--no-edit", "old"]);
    repo.edit_commit("app.txt", 3, "from a, again");
    repo.checkout("main");
    repo.edit_commit("app.txt", 20, "elsewhere");
    let bases = repo.git(&["merge-base", "--all", "a", "main"]);
    assert_eq!(bases.lines().count(), 2);
    assert!(!facts(&repo, "a", "main", None).conflicts_with_trunk);
    repo.edit_commit("app.txt", 3, "from main, too");
    assert!(facts(&repo, "a", "main", None).conflicts_with_trunk);
}

#[test]
fn a_branch_without_a_commit_in_common_conflicts() {
    let repo = Repo::start();
    repo.git(&["checkout", "-q", "--orphan", "a"]);
    repo.edit_commit("app.txt", 3, "another start");
    let facts = facts(&repo, "a", "main", None);
    assert!(facts.conflicts_with_trunk && facts.needs_restack);
    assert_eq!((facts.ahead, facts.behind), (1, 1));
    assert_eq!((facts.diff.files, facts.diff.insertions), (2, 60));
}

#[test]
fn the_newest_commit_is_shown() {
    let repo = Repo::start();
    repo.commit("A subject\n\nand a body");
    let facts = head_facts(&repo.open(), repo.id("main")).unwrap();
    assert_eq!((&*facts.subject, &*facts.author), ("A subject", "Ada"));
    let seconds: i64 = repo.git(&["log", "-1", "--format=%ct"]).parse().unwrap();
    assert_eq!(facts.committed_at.unwrap().unix_seconds(), seconds);
}

#[test]
fn odd_text_is_made_fit_to_be_shown() {
    let repo = Repo::start();
    repo.write("message", b"\n \nCaf\xe9 \x1b[31m red\nsecond line");
    let latin = "i18n.commitEncoding=ISO-8859-1";
    let options = ["-q", "--allow-empty", "--cleanup=verbatim", "-F", "message"];
    repo.git(&[&["-c", latin, "commit"][..], &options[..]].concat());
    let subject = |repo: &Repo| head_facts(&repo.open(), repo.id("main")).unwrap().subject;
    assert_eq!(subject(&repo), "Caf\u{fffd} \u{fffd}[31m red");
    repo.commit(&"ü".repeat(2_000));
    assert_eq!(subject(&repo), "ü".repeat(500));
}
