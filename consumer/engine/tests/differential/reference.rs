//! What real `git rebase --onto` does with a branch, in a work tree.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use backstack_schemas::outcome::ConflictKind;
use git2::{Oid, Repository};

use crate::history::{Branch, NEWEST};

/// The committer of both sides.
pub const NAME: &str = "Reference";
pub const EMAIL: &str = "reference@example.com";

/// A repository with a work tree.
pub struct WorkTree {
    dir: PathBuf,
}

/// What became of a branch.
#[derive(Debug)]
pub enum Rebased {
    /// New commits, oldest first, and the old ones that were dropped.
    Clean {
        head: Oid,
        commits: Vec<Oid>,
        dropped: Vec<Oid>,
    },
    /// The commit that stopped it, and the paths in conflict with their kinds.
    Conflict {
        commit: Oid,
        paths: BTreeMap<String, ConflictKind>,
    },
}

impl WorkTree {
    pub fn init(dir: &Path) -> Self {
        let tree = Self {
            dir: dir.to_owned(),
        };
        tree.git(&["init", "-q", "-b", "none", "."]);
        tree
    }

    /// Its git directory.
    pub fn git_dir(&self) -> PathBuf {
        self.dir.join(".git")
    }

    /// Rebases a branch, which leaves its ref where it was; `Err` where git could not even start.
    pub fn rebase(&self, branch: &Branch, onto: Oid) -> Result<Rebased, String> {
        let (onto, head) = (onto.to_string(), branch.head.to_string());
        let upstream = branch
            .base
            .map_or("--root".to_owned(), |base| base.to_string());
        self.git(&["checkout", "-q", "-f", "--detach", &head]);
        self.git(&["clean", "-q", "-ffdx"]);
        let output = self.try_git(&["rebase", "--onto", &onto, &upstream]);
        let said = [&output.stdout[..], &output.stderr[..]].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        let repo = Repository::open(&self.dir).unwrap();
        if output.status.success() {
            let head = repo.head().unwrap().target().unwrap();
            return Ok(Rebased::Clean {
                head,
                commits: self.own_commits(&format!("{onto}..{head}"), None),
                dropped: dropped(&said),
            });
        }
        let stopped = repo.refname_to_id("REBASE_HEAD");
        let conflict = stopped.map(|commit| Rebased::Conflict {
            commit,
            paths: self.conflicts(&said),
        });
        self.try_git(&["rebase", "--quit"]);
        match conflict {
            Ok(conflict) if said.contains("CONFLICT") => Ok(conflict),
            _ => {
                // A git that aborted leaves its lock behind.
                let _ = std::fs::remove_file(self.git_dir().join("index.lock"));
                Err(said)
            }
        }
    }

    /// Commits of a range without merges, in the order a rebase takes them. A rebase of a whole
    /// history (`--root`) leaves out what `upstream` has by patch-id, but for empty commits.
    pub fn own_commits(&self, range: &str, upstream: Option<Oid>) -> Vec<Oid> {
        let list = ["rev-list", "--topo-order", "--reverse", "--no-merges"];
        let Some(upstream) = upstream else {
            return lines(&self.git(&[&list[..], &[range]].concat()));
        };
        let both = format!("{upstream}...{range}");
        let marked = self.git(&[&list[..], &["--right-only", "--cherry-mark", &both]].concat());
        let repo = Repository::open(&self.dir).unwrap();
        let is_own = |line: &&str| line.starts_with('+') || is_empty(&repo, &line[1..]);
        marked
            .lines()
            .filter(is_own)
            .map(|line| Oid::from_str(&line[1..]).unwrap())
            .collect()
    }

    /// Merge commits of a range.
    pub fn merges(&self, range: &str) -> Vec<Oid> {
        lines(&self.git(&["rev-list", "--topo-order", "--reverse", "--merges", range]))
    }

    /// Runs git, which must succeed; its output.
    pub fn git(&self, arguments: &[&str]) -> String {
        let output = self.try_git(arguments);
        assert!(output.status.success(), "git {arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn try_git(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("git");
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.arg("-C").arg(&self.dir).args(arguments);
        command
            .env_clear()
            .env("PATH", path)
            .env("LC_ALL", "C")
            .env("HOME", "/nonexistent");
        command
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null");
        command
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_EDITOR", "false");
        command
            .env("GIT_COMMITTER_NAME", NAME)
            .env("GIT_COMMITTER_EMAIL", EMAIL);
        command.env("GIT_COMMITTER_DATE", format!("{NEWEST} +0000"));
        command.output().unwrap()
    }

    fn conflicts(&self, said: &str) -> BTreeMap<String, ConflictKind> {
        let unmerged = self.git(&["ls-files", "-u", "-z"]);
        let paths = unmerged
            .split_terminator('\0')
            .filter_map(|entry| entry.split_once('\t'));
        paths
            .map(|(_, path)| path)
            .map(|path| (plain(path), kind_in(said, path)))
            .collect()
    }
}

/// Whether a commit has its parent's tree.
fn is_empty(repo: &Repository, id: &str) -> bool {
    let commit = repo.find_commit(Oid::from_str(id).unwrap()).unwrap();
    commit
        .parent(0)
        .is_ok_and(|parent| parent.tree_id() == commit.tree_id())
}

fn lines(output: &str) -> Vec<Oid> {
    output
        .lines()
        .map(|line| Oid::from_str(line).unwrap())
        .collect()
}

/// What a rebase says of commits that became empty.
fn dropped(said: &str) -> Vec<Oid> {
    // Progress stands before it on the line, ended by a carriage return.
    said.split(['\n', '\r'])
        .filter_map(|line| line.strip_prefix("dropping "))
        .filter_map(|rest| Oid::from_str(rest.split(' ').next()?).ok())
        .collect()
}

/// A path that was moved aside, as it is called.
fn plain(path: &str) -> String {
    match path.rsplit_once('~') {
        Some((stem, _)) => stem.to_owned(),
        None => path.to_owned(),
    }
}

/// The kind of conflict that the printed messages tell of a path. They are sentences for people;
/// what they say of several paths is told by the first word in brackets.
fn kind_in(said: &str, path: &str) -> ConflictKind {
    const KINDS: [(&str, ConflictKind); 12] = [
        ("CONFLICT (submodule", ConflictKind::Submodule),
        ("Cannot merge binary files", ConflictKind::Binary),
        ("CONFLICT (file/directory)", ConflictKind::Directory),
        ("CONFLICT (file location)", ConflictKind::Directory),
        ("CONFLICT (directory rename", ConflictKind::Directory),
        ("CONFLICT (implicit dir rename)", ConflictKind::Directory),
        ("CONFLICT (rename", ConflictKind::Rename),
        ("CONFLICT (modify/delete)", ConflictKind::ModifyDelete),
        ("CONFLICT (add/add)", ConflictKind::AddAdd),
        ("CONFLICT (content)", ConflictKind::Content),
        ("CONFLICT (distinct", ConflictKind::Content),
        ("CONFLICT (", ConflictKind::Content),
    ];
    let plain = plain(path);
    let names = |line: &str| {
        // Here git does not count the name before the rename among the paths in conflict.
        let line = match line.split_once(" renamed to ") {
            Some((start, rest)) if start.starts_with("CONFLICT (file location)") => rest,
            _ => line,
        };
        // Behind the path stand the names of the sides, `(HEAD vs. 1a2b3c4 (subject):former/path)`,
        // which are no paths in conflict.
        let line = match line.split_once("Cannot merge binary files: ") {
            Some((_, rest)) => rest.split(" (").next().unwrap_or(rest),
            None => line,
        };
        [path, &plain].iter().any(|path| stands_in(line, path))
    };
    let of_path: Vec<&str> = said.lines().filter(|line| names(line)).collect();
    KINDS
        .iter()
        .find(|(text, _)| of_path.iter().any(|line| line.contains(text)))
        .map_or(ConflictKind::Content, |(_, kind)| *kind)
}

/// Whether a path stands in a message as a word of its own.
fn stands_in(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + path.len()..]
            .trim_start_matches('.')
            .chars()
            .next();
        let apart = |c: Option<char>| c.is_none_or(|c| " :,;".contains(c));
        apart(before) && apart(after)
    })
}
