//! What real `git rebase --onto` does with a branch, in a work tree.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use backstack_schemas::outcome::ConflictKind;
use git2::{ObjectType, Oid, Repository, RepositoryInitOptions};

use crate::history::{Branch, NEWEST};

/// The committer of both sides.
pub const NAME: &str = "Reference";
pub const EMAIL: &str = "reference@example.com";

/// A repository with a work tree.
pub struct WorkTree {
    dir: PathBuf,
    repo: Repository,
    /// A commit that holds nothing, as little as the work tree between two rebases.
    nothing: Oid,
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
        let repo = Repository::init_opts(dir, RepositoryInitOptions::new().initial_head("none"));
        drop(repo.unwrap());
        // What a rebase gives is the same with these; it is done sooner.
        let settings = "[core]\nfsync = none\nlogAllRefUpdates = false\n[gc]\nauto = 0\n\
                        [maintenance]\nauto = false\n";
        let mut config = std::fs::read_to_string(dir.join(".git/config")).unwrap();
        config.push_str(settings);
        std::fs::write(dir.join(".git/config"), config).unwrap();
        let repo = Repository::open(dir).unwrap();
        let odb = repo.odb().unwrap();
        let tree = odb.write(ObjectType::Tree, b"").unwrap();
        let who = format!("{NAME} <{EMAIL}> 0 +0000");
        let commit = format!("tree {tree}\nauthor {who}\ncommitter {who}\n\n");
        let nothing = odb.write(ObjectType::Commit, commit.as_bytes()).unwrap();
        drop(odb);
        Self {
            dir: dir.to_owned(),
            repo,
            nothing,
        }
    }

    /// Its git directory.
    pub fn git_dir(&self) -> PathBuf {
        self.dir.join(".git")
    }

    pub fn repo(&self) -> &Repository {
        &self.repo
    }

    /// Packs everything there is, as a mirror mostly has it.
    pub fn pack(&self) {
        self.git(&["repack", "-a", "-d", "-q"]);
    }

    /// Rebases a branch, which leaves its ref where it was; `Err` where git could not even start.
    pub fn rebase(&self, branch: &Branch, onto: Oid) -> Result<Rebased, String> {
        let (onto_text, head) = (onto.to_string(), branch.head.to_string());
        self.clear();
        let mut rebase = vec!["rebase", "--onto", &onto_text];
        let base = branch.base.map(|base| base.to_string());
        rebase.push(base.as_deref().unwrap_or("--root"));
        rebase.push(&head);
        let output = git_in(&self.dir, &rebase);
        let said = [&output.stdout[..], &output.stderr[..]].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        if output.status.success() {
            let head = self.repo.head().unwrap().target().unwrap();
            return Ok(Rebased::Clean {
                head,
                commits: self.line(onto, head),
                dropped: dropped(&said),
            });
        }
        match self.repo.refname_to_id("REBASE_HEAD") {
            Ok(commit) if said.contains("CONFLICT") => Ok(Rebased::Conflict {
                commit,
                paths: self.conflicts(&said),
            }),
            _ => Err(said),
        }
    }

    /// Leaves nothing of the rebase before: neither files nor an index nor what git notes of a
    /// rebase. `HEAD` is a commit without files, so all is as after a checkout of that.
    fn clear(&self) {
        for entry in std::fs::read_dir(&self.dir).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name() == ".git" {
                continue;
            }
            remove(&entry.path());
        }
        for name in [
            "index",
            "index.lock",
            "rebase-merge",
            "rebase-apply",
            "sequencer",
            "REBASE_HEAD",
            "CHERRY_PICK_HEAD",
            "ORIG_HEAD",
            "AUTO_MERGE",
            "MERGE_MSG",
            "HEAD.lock",
        ] {
            remove(&self.git_dir().join(name));
        }
        std::fs::write(self.git_dir().join("HEAD"), format!("{}\n", self.nothing)).unwrap();
    }

    /// The commits from `onto`, without it, to `head`, oldest first, each the parent of the next.
    fn line(&self, onto: Oid, head: Oid) -> Vec<Oid> {
        let mut commits = Vec::new();
        let mut at = head;
        while at != onto {
            commits.push(at);
            let commit = self.repo.find_commit(at).unwrap();
            assert_eq!(commit.parent_count(), 1, "a rebase gives one line");
            at = commit.parent_id(0).unwrap();
        }
        commits.reverse();
        commits
    }

    /// Commits of a range in the order in which a rebase takes them: those with one parent or none,
    /// and the merges. A rebase of a whole history (`--root`) leaves out what `upstream` has by
    /// patch-id, but for empty commits.
    pub fn own_commits(&self, range: &str, upstream: Option<Oid>) -> (Vec<Oid>, Vec<Oid>) {
        let list = ["rev-list", "--topo-order", "--reverse", "--parents"];
        let printed = self.git(&[&list[..], &[range]].concat());
        let commits = printed.lines().map(|line| {
            let mut ids = line.split(' ').map(|id| Oid::from_str(id).unwrap());
            (ids.next().unwrap(), ids.count() > 1)
        });
        let (merges, plain): (Vec<_>, Vec<_>) = commits.partition(|(_, is_merge)| *is_merge);
        let ids = |commits: Vec<(Oid, bool)>| commits.into_iter().map(|(id, _)| id).collect();
        let (mut plain, merges): (Vec<Oid>, Vec<Oid>) = (ids(plain), ids(merges));
        if let Some(upstream) = upstream {
            let both = format!("{upstream}...{range}");
            let mark = ["rev-list", "--right-only", "--cherry-mark", "--no-merges"];
            let marked = self.git(&[&mark[..], &[&both]].concat());
            let there = |id: &Oid| marked.contains(&format!("={id}"));
            plain.retain(|id| is_empty(&self.repo, *id) || !there(id));
        }
        (plain, merges)
    }

    /// Runs git, which must succeed; its output.
    pub fn git(&self, arguments: &[&str]) -> String {
        let output = git_in(&self.dir, arguments);
        assert!(output.status.success(), "git {arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn conflicts(&self, said: &str) -> BTreeMap<String, ConflictKind> {
        let mut index = self.repo.index().unwrap();
        index.read(true).unwrap();
        let conflicts = index.conflicts().unwrap().map(Result::unwrap);
        conflicts
            .flat_map(|conflict| [conflict.ancestor, conflict.our, conflict.their])
            .flatten()
            .map(|entry| String::from_utf8_lossy(&entry.path).into_owned())
            .map(|path| (plain(&path), kind_in(said, &path)))
            .collect()
    }
}

/// Removes a file, a link or a directory; one that is not there is all right.
fn remove(path: &Path) {
    let Ok(metadata) = std::fs::symlink_metadata(path) else {
        return;
    };
    let removed = if metadata.is_dir() {
        std::fs::remove_dir_all(path)
    } else {
        std::fs::remove_file(path)
    };
    removed.unwrap();
}

fn git_in(dir: &Path, arguments: &[&str]) -> Output {
    Command::new("git")
        .arg("-C")
        .arg(dir)
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("LC_ALL", "C")
        .env("HOME", "/nonexistent")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_ATTR_NOSYSTEM", "1")
        .env("GIT_EDITOR", "false")
        .env("GIT_COMMITTER_NAME", NAME)
        .env("GIT_COMMITTER_EMAIL", EMAIL)
        .env("GIT_COMMITTER_DATE", format!("{NEWEST} +0000"))
        .output()
        .unwrap()
}

/// Whether a commit has its parent's tree.
fn is_empty(repo: &Repository, id: Oid) -> bool {
    let commit = repo.find_commit(id).unwrap();
    commit
        .parent(0)
        .is_ok_and(|parent| parent.tree_id() == commit.tree_id())
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
