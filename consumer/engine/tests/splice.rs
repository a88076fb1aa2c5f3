//! When a change may be spliced in without asking git: conditions S1 to S11 of the replay's
//! `splice` module, each with the case in which dropping it would give a wrong tree.
//!
//! A "spliced" case runs with a git that can do nothing, so that it fails where git is asked.

mod support;

use std::collections::BTreeMap;

use backstack_engine::Control;
use backstack_engine::git::Git;
use backstack_engine::replay::{Merge, Merger};
use backstack_schemas::outcome::ConflictKind::{self, *};
use support::{Files, Setup, listed, real_git};

/// Eight lines, enough for git to know a renamed file again.
const TEXT: &str = "1\n2\n3\n4\n5\n6\n7\n8\n";
const TEXT_TOP: &str = "1 top\n2\n3\n4\n5\n6\n7\n8\n";
const TEXT_END: &str = "1\n2\n3\n4\n5\n6\n7\n8 end\n";
const TEXT_BOTH: &str = "1 top\n2\n3\n4\n5\n6\n7\n8 end\n";
const OTHER: &str = "a\nb\nc\nd\ne\nf\ng\nh\n";

#[test]
fn s1_what_the_target_did_not_touch_becomes_what_the_commit_says() {
    let cases: [[Files; 4]; 4] = [
        [
            &[("f", TEXT), ("k", "k")],
            &[("f", TEXT_TOP), ("k", "k")],
            &[("f", TEXT), ("k", "q")],
            &[("f", TEXT_TOP), ("k", "q")],
        ],
        [
            &[("f", TEXT), ("k", "k")],
            &[("k", "k")],
            &[("f", TEXT), ("k", "q")],
            &[("k", "q")],
        ],
        [
            &[("f", "x"), ("k", "k")],
            &[("f/g", "y"), ("k", "k")],
            &[("f", "x"), ("k", "q")],
            &[("f/g", "y"), ("k", "q")],
        ],
        [
            &[("d/f", "x"), ("k", "k")],
            &[("d", "->k"), ("k", "k")],
            &[("d/f", "x"), ("k", "q")],
            &[("d", "->k"), ("k", "q")],
        ],
    ];
    for [base, theirs, ours, want] in cases {
        spliced(base, theirs, ours, want);
    }
}

#[test]
fn s2_additions_go_together_where_they_do_not_clash() {
    spliced(
        &[("k", "k")],
        &[("k", "k"), ("d/a", "a"), ("d/e/s", "s")],
        &[("k", "k"), ("d/b", "b"), ("d/e/s", "s")],
        &[("k", "k"), ("d/a", "a"), ("d/b", "b"), ("d/e/s", "s")],
    );
    conflict(
        &[("k", "k")],
        &[("k", "k"), ("n", TEXT)],
        &[("k", "k"), ("n", OTHER)],
        &[("n", AddAdd)],
    );
    conflict(
        &[("k", "k")],
        &[("k", "k"), ("n", TEXT)],
        &[("k", "k"), ("n/m", OTHER)],
        &[("n", Directory)],
    );
}

#[test]
fn s3_a_file_gone_on_both_sides_may_be_renamed_on_both() {
    conflict(
        &[("f", TEXT)],
        &[("g", TEXT_TOP)],
        &[("h", TEXT_END)],
        &[("f", Rename), ("g", Rename), ("h", Rename)],
    );
}

#[test]
fn s4_the_same_change_on_both_sides_may_hide_two_renames() {
    conflict(
        &[("d/f", TEXT), ("d/k", "k")],
        &[("d/k", "k"), ("g", TEXT)],
        &[("d/k", "k"), ("h", TEXT)],
        &[("d/f", Rename), ("g", Rename), ("h", Rename)],
    );
    // Where nothing came or went, it hides nothing.
    spliced(
        &[("d/f", TEXT), ("d/e/k", "k"), ("q", "q")],
        &[("d/f", TEXT_TOP), ("d/e/k", "!k"), ("q", "q")],
        &[("d/f", TEXT_TOP), ("d/e/k", "!k"), ("q", "qq")],
        &[("d/f", TEXT_TOP), ("d/e/k", "!k"), ("q", "qq")],
    );
}

#[test]
fn s5_a_directory_the_target_renamed_takes_the_changes_along() {
    merged(
        &[("d/f", TEXT), ("d/g", OTHER)],
        &[("d/f", TEXT_TOP), ("d/g", OTHER)],
        &[("e/f", TEXT), ("e/g", OTHER)],
        &[("e/f", TEXT_TOP), ("e/g", OTHER)],
    );
    conflict(
        &[("d/f", TEXT), ("d/g", OTHER)],
        &[("d/f", TEXT), ("d/g", OTHER), ("d/n", "new")],
        &[("e/f", TEXT), ("e/g", OTHER)],
        &[("e/n", Directory)],
    );
}

#[test]
fn s6_a_directory_the_commit_renamed_takes_the_targets_changes_along() {
    merged(
        &[("d/f", TEXT), ("d/g", OTHER)],
        &[("d", "now a file"), ("e/f", TEXT), ("e/g", OTHER)],
        &[("d/f", TEXT_TOP), ("d/g", OTHER)],
        &[("d", "now a file"), ("e/f", TEXT_TOP), ("e/g", OTHER)],
    );
    conflict(
        &[("d/f", TEXT), ("d/g", OTHER)],
        &[("e/f", TEXT), ("e/g", OTHER)],
        &[("d/f", TEXT), ("d/g", OTHER), ("d/n", "new")],
        &[("e/n", Directory)],
    );
}

#[test]
fn s7_a_file_the_target_renamed_takes_the_commits_edit() {
    merged(
        &[("f", TEXT), ("k", "k")],
        &[("f", TEXT_TOP), ("k", "k")],
        &[("g", TEXT), ("k", "k")],
        &[("g", TEXT_TOP), ("k", "k")],
    );
    conflict(
        &[("f", TEXT), ("k", "k")],
        &[("f", TEXT_TOP), ("k", "k")],
        &[("k", "k")],
        &[("f", ModifyDelete)],
    );
}

#[test]
fn s8_a_file_the_commit_renamed_takes_the_targets_edit() {
    merged(
        &[("f", TEXT), ("k", "k")],
        &[("g", TEXT), ("k", "k")],
        &[("f", TEXT_TOP), ("k", "k")],
        &[("g", TEXT_TOP), ("k", "k")],
    );
    conflict(
        &[("f", TEXT), ("k", "k")],
        &[("k", "k")],
        &[("f", TEXT_TOP), ("k", "k")],
        &[("f", ModifyDelete)],
    );
}

#[test]
fn s9_mode_and_content_go_each_by_itself() {
    spliced(
        &[("f", TEXT)],
        &[("f", "!1\n2\n3\n4\n5\n6\n7\n8\n")],
        &[("f", TEXT_TOP)],
        &[("f", "!1 top\n2\n3\n4\n5\n6\n7\n8\n")],
    );
    spliced(
        &[("f", TEXT)],
        &[("f", TEXT_TOP)],
        &[("f", TEXT_END)],
        &[("f", TEXT_BOTH)],
    );
    conflict(
        &[("f", TEXT)],
        &[("f", TEXT_TOP)],
        &[("f", "1 other\n2\n3\n4\n5\n6\n7\n8\n")],
        &[("f", Content)],
    );
}

#[test]
fn s9_a_git_with_another_histogram_merges_the_files_itself() {
    let setup = Setup::new();
    let [base, theirs, ours] = [TEXT, TEXT_TOP, TEXT_END].map(|text| setup.tree(&[("f", text)]));
    let control = Control::unbounded();
    let powerless = setup.powerless_git("2.54.0");
    let mut merger = Merger::open(setup.git_dir(), &powerless, &control).unwrap();
    assert!(
        merger.merge_trees(base, ours, theirs).is_err(),
        "merged without git"
    );
    let able = setup.scripted_git("2.54.1", "exec \"$git\" \"$@\"");
    let mut merger = Merger::open(setup.git_dir(), &able, &control).unwrap();
    let Merge::Clean(tree) = merger.merge_trees(base, ours, theirs).unwrap() else {
        panic!("git merges it");
    };
    merger.into_new_objects().write(setup.git_dir()).unwrap();
    assert_eq!(setup.files(tree), listed(&[("f", TEXT_BOTH)]));
}

#[test]
fn s9_binary_files_are_never_merged_by_lines() {
    conflict(
        &[("f", "\x001\n2\n3\n4\n5\n")],
        &[("f", "\x001 top\n2\n3\n4\n5\n")],
        &[("f", "\x001\n2\n3\n4\n5 end\n")],
        &[("f", Binary)],
    );
}

#[test]
fn s9_merge_drivers_of_the_target_count_as_in_a_rebases_work_tree() {
    const UNION: (&str, &str) = (".gitattributes", "*.log merge=union\n");
    // Union keeps both lines; it counts where the target has it...
    merged(
        &[UNION, ("f.log", "one\n")],
        &[UNION, ("f.log", "one\na\n")],
        &[UNION, ("f.log", "one\nb\n")],
        &[UNION, ("f.log", "one\nb\na\n")],
    );
    // ... added by trunk meanwhile, too, and not where only the commit has it.
    merged(
        &[("f.log", "one\n")],
        &[("f.log", "one\na\n")],
        &[UNION, ("f.log", "one\nb\n")],
        &[UNION, ("f.log", "one\nb\na\n")],
    );
    conflict(
        &[("f.log", "one\n")],
        &[UNION, ("f.log", "one\na\n")],
        &[("f.log", "one\nb\n")],
        &[("f.log", Content)],
    );
    // A directory's own file, a macro, and one that unsets it.
    merged(
        &[("d/.gitattributes", "f* merge=union\n"), ("d/f", "one\n")],
        &[
            ("d/.gitattributes", "f* merge=union\n"),
            ("d/f", "one\na\n"),
        ],
        &[
            ("d/.gitattributes", "f* merge=union\n"),
            ("d/f", "one\nb\n"),
        ],
        &[
            ("d/.gitattributes", "f* merge=union\n"),
            ("d/f", "one\nb\na\n"),
        ],
    );
    conflict(
        &[(".gitattributes", "f binary\n"), ("f", TEXT)],
        &[(".gitattributes", "f binary\n"), ("f", TEXT_TOP)],
        &[(".gitattributes", "f binary\n"), ("f", TEXT_END)],
        &[("f", Binary)],
    );
}

#[test]
fn s9_attributes_of_other_files_leave_the_splice_alone() {
    const PNG: (&str, &str) = (".gitattributes", "*.png binary\n/docs/x merge=union\n");
    spliced(
        &[(".gitattributes", "*.png binary\n"), ("f", TEXT)],
        &[(".gitattributes", "*.png binary\n"), ("f", TEXT_TOP)],
        &[(".gitattributes", "*.png binary\n"), ("f", TEXT_END)],
        &[(".gitattributes", "*.png binary\n"), ("f", TEXT_BOTH)],
    );
    // A pattern with a slash is left to git, which merges all the same.
    merged(
        &[PNG, ("f", TEXT)],
        &[PNG, ("f", TEXT_TOP)],
        &[PNG, ("f", TEXT_END)],
        &[PNG, ("f", TEXT_BOTH)],
    );
}

#[test]
fn s10_links_submodules_and_kinds_are_for_git() {
    conflict(
        &[("l", "->a")],
        &[("l", "->b")],
        &[("l", "->c")],
        &[("l", Content)],
    );
    conflict(
        &[("m", "@1")],
        &[("m", "@2")],
        &[("m", "@3")],
        &[("m", Submodule)],
    );
    conflict(
        &[("f", TEXT)],
        &[("f", "->a")],
        &[("f", TEXT_TOP)],
        &[("f", Content)],
    );
    // The same on both sides, or on one side alone, is no matter.
    spliced(
        &[("l", "->a"), ("m", "@1"), ("k", "k")],
        &[("l", "->b"), ("m", "@2"), ("k", "k")],
        &[("l", "->b"), ("m", "@1"), ("k", "q")],
        &[("l", "->b"), ("m", "@2"), ("k", "q")],
    );
}

#[test]
fn s11_a_directory_emptied_from_both_sides_is_gone() {
    spliced(
        &[("d/a", "a"), ("d/b", OTHER), ("k", "k")],
        &[("d/b", OTHER), ("k", "k")],
        &[("d/a", "a"), ("k", "k")],
        &[("k", "k")],
    );
    spliced(
        &[("a", "a"), ("b", OTHER)],
        &[("b", OTHER)],
        &[("a", "a")],
        &[],
    );
}

#[test]
fn conflict_markers_in_a_merge_git_calls_clean_are_a_conflict() {
    conflict(
        &[
            ("lib/x", "1\n2\n3\n4\n5\n6\n7\n"),
            ("old/f", TEXT),
            ("old/g", OTHER),
        ],
        &[("lib/x", "z\n"), ("new/f", TEXT), ("new/g", OTHER)],
        &[("new/f", TEXT), ("new/g", OTHER), ("old/f", TEXT_TOP)],
        &[("new/f", Content)],
    );
}

#[test]
fn directories_of_any_depth_are_merged_the_deepest_by_git() {
    for (depth, by_git) in [(200, false), (300, true)] {
        let setup = Setup::new();
        let deep = |content| {
            let innermost = setup.tree(&[("f", content)]);
            (0..depth).fold(innermost, |tree, _| setup.directory("d", tree))
        };
        let [base, theirs, ours] = [TEXT, TEXT_TOP, TEXT_END].map(deep);
        let merge = |git: &Git| {
            let mut merger = Merger::open(setup.git_dir(), git, &Control::unbounded()).unwrap();
            merger.merge_trees(base, ours, theirs)
        };
        assert_eq!(
            merge(&setup.powerless_git("2.47.3")).is_err(),
            by_git,
            "{depth}"
        );
        let want = Merge::Clean(deep(TEXT_BOTH));
        assert_eq!(merge(&real_git()).unwrap(), want, "{depth}");
    }
}

/// The merge gives `want`, without git being asked.
fn spliced(base: Files, theirs: Files, ours: Files, want: Files) {
    let setup = Setup::new();
    let powerless = setup.powerless_git("2.47.3");
    assert_eq!(
        merge(&setup, &powerless, base, theirs, ours),
        Ok(listed(want))
    );
}

/// The merge gives `want`; git has to be asked.
fn merged(base: Files, theirs: Files, ours: Files, want: Files) {
    let setup = Setup::new();
    needs_git(&setup, base, theirs, ours);
    assert_eq!(
        merge(&setup, &real_git(), base, theirs, ours),
        Ok(listed(want))
    );
}

/// The merge conflicts in these paths.
fn conflict(base: Files, theirs: Files, ours: Files, want: &[(&str, ConflictKind)]) {
    let setup = Setup::new();
    needs_git(&setup, base, theirs, ours);
    let want = want
        .iter()
        .map(|(path, kind)| ((*path).to_owned(), *kind))
        .collect();
    assert_eq!(merge(&setup, &real_git(), base, theirs, ours), Err(want));
}

type Merged = Result<BTreeMap<String, String>, Vec<(String, ConflictKind)>>;

fn needs_git(setup: &Setup, base: Files, theirs: Files, ours: Files) {
    let git = setup.powerless_git("2.47.3");
    let mut merger = Merger::open(setup.git_dir(), &git, &Control::unbounded()).unwrap();
    let [base, theirs, ours] = [base, theirs, ours].map(|side| setup.tree(side));
    assert!(
        merger.merge_trees(base, ours, theirs).is_err(),
        "spliced without git"
    );
}

fn merge(setup: &Setup, git: &Git, base: Files, theirs: Files, ours: Files) -> Merged {
    let mut merger = Merger::open(setup.git_dir(), git, &Control::unbounded()).unwrap();
    let [base, theirs, ours] = [base, theirs, ours].map(|side| setup.tree(side));
    match merger.merge_trees(base, ours, theirs).unwrap() {
        Merge::Clean(tree) => {
            merger.into_new_objects().write(setup.git_dir()).unwrap();
            Ok(setup.files(tree))
        }
        Merge::Conflict(paths) => Err(paths.into_iter().map(|p| (p.path, p.kind)).collect()),
    }
}
