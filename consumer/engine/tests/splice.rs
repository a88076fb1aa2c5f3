//! When a change may be spliced in without asking git: conditions S1 to S11 of the replay's
//! `splice` module, each with the case in which dropping it would give a wrong tree.
//!
//! A "spliced" case runs with a git that can do nothing, so that it fails where git is asked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use backstack_engine::Control;
use backstack_engine::git::Git;
use backstack_engine::replay::{Merge, Merger};
use backstack_schemas::ObjectId;
use backstack_schemas::outcome::ConflictKind::{self, *};
use git2::{ObjectType, Oid, Repository};

/// Paths and contents. `->` is a link, `@` a submodule, `!` an executable file.
type Files = &'static [(&'static str, &'static str)];

/// Eight lines, enough for git to know a renamed file again.
const TEXT: &str = "1\n2\n3\n4\n5\n6\n7\n8\n";
const TEXT_TOP: &str = "1 top\n2\n3\n4\n5\n6\n7\n8\n";
const TEXT_END: &str = "1\n2\n3\n4\n5\n6\n7\n8 end\n";
const TEXT_BOTH: &str = "1 top\n2\n3\n4\n5\n6\n7\n8 end\n";
const OTHER: &str = "a\nb\nc\nd\ne\nf\ng\nh\n";

#[test]
fn s1_what_the_target_did_not_touch_becomes_what_the_commit_says() {
    let cases: [(Files, Files, Files, Files); 4] = [
        (
            &[("f", TEXT), ("k", "k")],
            &[("f", TEXT_TOP), ("k", "k")],
            &[("f", TEXT), ("k", "q")],
            &[("f", TEXT_TOP), ("k", "q")],
        ),
        (
            &[("f", TEXT), ("k", "k")],
            &[("k", "k")],
            &[("f", TEXT), ("k", "q")],
            &[("k", "q")],
        ),
        (
            &[("f", "x"), ("k", "k")],
            &[("f/g", "y"), ("k", "k")],
            &[("f", "x"), ("k", "q")],
            &[("f/g", "y"), ("k", "q")],
        ),
        (
            &[("d/f", "x"), ("k", "k")],
            &[("d", "->k"), ("k", "k")],
            &[("d/f", "x"), ("k", "q")],
            &[("d", "->k"), ("k", "q")],
        ),
    ];
    for (base, theirs, ours, want) in cases {
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

/// The merge gives `want`, without git being asked.
fn spliced(base: Files, theirs: Files, ours: Files, want: Files) {
    let setup = Setup::new();
    let powerless = setup.powerless_git();
    assert_eq!(setup.merge(&powerless, base, theirs, ours), Ok(files(want)));
    assert_eq!(
        setup.merge(&real_git(), base, theirs, ours),
        Ok(files(want))
    );
}

/// The merge gives `want`; git has to be asked.
fn merged(base: Files, theirs: Files, ours: Files, want: Files) {
    let setup = Setup::new();
    setup.needs_git(base, theirs, ours);
    assert_eq!(
        setup.merge(&real_git(), base, theirs, ours),
        Ok(files(want))
    );
}

/// The merge conflicts in these paths.
fn conflict(base: Files, theirs: Files, ours: Files, want: &[(&str, ConflictKind)]) {
    let setup = Setup::new();
    setup.needs_git(base, theirs, ours);
    let want = want
        .iter()
        .map(|(path, kind)| ((*path).to_owned(), *kind))
        .collect();
    assert_eq!(setup.merge(&real_git(), base, theirs, ours), Err(want));
}

type Paths = BTreeMap<String, String>;

fn files(files: Files) -> Paths {
    files
        .iter()
        .map(|(path, content)| ((*path).to_owned(), (*content).to_owned()))
        .collect()
}

fn real_git() -> Git {
    Git::discover(None).unwrap()
}

struct Setup {
    dir: tempfile::TempDir,
    repo: Repository,
}

impl Setup {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let repo = Repository::init_bare(dir.path().join("repo")).unwrap();
        Self { dir, repo }
    }

    /// A git that knows its version, and nothing else.
    fn powerless_git(&self) -> Git {
        let program: PathBuf = self.dir.path().join("git");
        // Written by another process: this one's other threads start programs meanwhile, which
        // inherit what is open for writing, and a file open for writing cannot be run.
        let write = "printf '#!/bin/sh\n[ \"$1\" = version ] && echo git version 2.47.3\n' > \"$0\" && chmod +x \"$0\"";
        let written = Command::new("sh")
            .arg("-c")
            .arg(write)
            .arg(&program)
            .status();
        assert!(written.unwrap().success());
        Git::discover(Some(program)).unwrap()
    }

    fn git_dir(&self) -> &Path {
        self.repo.path()
    }

    fn needs_git(&self, base: Files, theirs: Files, ours: Files) {
        let control = Control::unbounded();
        let mut merger = Merger::open(self.git_dir(), &self.powerless_git(), &control).unwrap();
        let [base, theirs, ours] = [base, theirs, ours].map(|side| self.tree(side));
        assert!(
            merger.merge_trees(base, ours, theirs).is_err(),
            "spliced without git"
        );
    }

    fn merge(
        &self,
        git: &Git,
        base: Files,
        theirs: Files,
        ours: Files,
    ) -> Result<Paths, Vec<(String, ConflictKind)>> {
        let mut merger = Merger::open(self.git_dir(), git, &Control::unbounded()).unwrap();
        let [base, theirs, ours] = [base, theirs, ours].map(|side| self.tree(side));
        match merger.merge_trees(base, ours, theirs).unwrap() {
            Merge::Clean(tree) => {
                merger.into_new_objects().write(self.git_dir()).unwrap();
                let repo = Repository::open(self.git_dir()).unwrap();
                let mut paths = Paths::new();
                read(
                    &repo,
                    Oid::from_bytes(tree.as_bytes()).unwrap(),
                    "",
                    &mut paths,
                );
                Ok(paths)
            }
            Merge::Conflict(paths) => Err(paths.into_iter().map(|p| (p.path, p.kind)).collect()),
        }
    }

    fn tree(&self, files: Files) -> ObjectId {
        let files: Vec<_> = files
            .iter()
            .map(|(path, content)| (*path, *content))
            .collect();
        self.subtree(&files).to_string().parse().unwrap()
    }

    /// Written as raw bytes: libgit2 would look for the submodules' commits.
    fn subtree(&self, files: &[(&str, &str)]) -> Oid {
        let blob = |text: &str| self.repo.blob(text.as_bytes()).unwrap();
        let mut dirs: BTreeMap<&str, Vec<(&str, &str)>> = BTreeMap::new();
        let mut entries: BTreeMap<String, (u32, &str, Oid)> = BTreeMap::new();
        for (path, content) in files {
            if let Some((dir, rest)) = path.split_once('/') {
                dirs.entry(dir).or_default().push((rest, content));
                continue;
            }
            let (mode, id) = match content.split_at_checked(1) {
                Some(("@", digit)) => (0o160_000, Oid::from_str(&digit.repeat(40)).unwrap()),
                Some(("!", text)) => (0o100_755, blob(text)),
                Some(("-", link)) if link.starts_with('>') => (0o120_000, blob(&link[1..])),
                _ => (0o100_644, blob(content)),
            };
            entries.insert((*path).to_owned(), (mode, path, id));
        }
        for (dir, inside) in dirs {
            entries.insert(format!("{dir}/"), (0o040_000, dir, self.subtree(&inside)));
        }
        let mut raw = Vec::new();
        for (mode, name, id) in entries.values() {
            raw.extend(format!("{mode:o} {name}\0").bytes());
            raw.extend(id.as_bytes());
        }
        let odb = self.repo.odb().unwrap();
        odb.write(ObjectType::Tree, &raw).unwrap()
    }
}

/// Reads a tree back into the notation of [`Files`].
fn read(repo: &Repository, tree: Oid, dir: &str, paths: &mut Paths) {
    for entry in repo.find_tree(tree).unwrap().iter() {
        let path = format!("{dir}{}", entry.name().unwrap());
        let text =
            || String::from_utf8(repo.find_blob(entry.id()).unwrap().content().to_vec()).unwrap();
        let content = match entry.filemode_raw() {
            0o040_000 => {
                read(repo, entry.id(), &format!("{path}/"), paths);
                continue;
            }
            0o160_000 => format!("@{}", &entry.id().to_string()[..1]),
            0o120_000 => format!("->{}", text()),
            0o100_755 => format!("!{}", text()),
            _ => text(),
        };
        paths.insert(path, content);
    }
}
