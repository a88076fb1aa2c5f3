//! What people do to a repository meanwhile: commits on trunk and on branches, amended commits, new
//! branches, merges. Each move is made by the real git under the old value, as a push with a lease is,
//! so nobody overwrites anybody.
//!
//! Every commit adds a file that no other has. So it is known what a branch must have in the end:
//! what its parent has, and the files of its own commits.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};

use backstack_tests::ref_log::MOVED_BY;
use backstack_tests::{RefLog, Remote};
use git2::{FileMode, Oid, Repository, Signature, Time};

use crate::random::Random;

/// A repository and what people know of it.
pub struct Place {
    pub name: String,
    pub remote: Remote,
    pub log: RefLog,
    git: Repository,
    /// Of every branch but trunk, the files of its own commits.
    pub own: BTreeMap<String, BTreeSet<String>>,
    /// Branches whose commits are in trunk; nobody works on them any more.
    pub merged: BTreeSet<String>,
    commits: usize,
}

/// What somebody did.
pub enum Deed {
    /// A branch was made on another.
    Branched { branch: String, parent: String },
    /// Something else.
    Other,
    /// Somebody else was faster.
    Nothing,
}

impl Place {
    pub fn new(name: String, remote: Remote) -> Self {
        let log = RefLog::start(&remote);
        let git = Repository::open_bare(remote.path()).expect("the remote");
        Self {
            name,
            remote,
            log,
            git,
            own: BTreeMap::new(),
            merged: BTreeSet::new(),
            commits: 0,
        }
    }

    /// Branches that people work on.
    pub fn open(&self) -> Vec<String> {
        let open = self.own.keys();
        open.filter(|branch| !self.merged.contains(*branch))
            .cloned()
            .collect()
    }

    /// Does something.
    pub fn act(&mut self, random: &mut Random) -> Deed {
        let open = self.open();
        let branch = random.pick(&open).cloned();
        match (random.below(10), branch) {
            (0..=2, _) => self.commit("main"),
            (3..=5, Some(branch)) => self.commit(&branch),
            (6, Some(branch)) => self.amend(&branch),
            (7, Some(branch)) if random.one_in(4) => self.merge(&branch),
            _ if open.len() < 8 => {
                let mut parents = open;
                parents.push("main".to_owned());
                let parent = random.pick(&parents).cloned().unwrap_or_default();
                self.branch(&parent)
            }
            _ => self.commit("main"),
        }
    }

    /// A branch on another, with a commit.
    pub fn branch(&mut self, parent: &str) -> Deed {
        let branch = format!("b{}", self.own.len());
        let on = self.head(parent);
        let (commit, file) = self.written(on, &[on]);
        if !self.update(&branch, None, commit) {
            return Deed::Nothing;
        }
        self.own.insert(branch.clone(), BTreeSet::from([file]));
        Deed::Branched {
            branch,
            parent: parent.to_owned(),
        }
    }

    fn commit(&mut self, branch: &str) -> Deed {
        let head = self.head(branch);
        let (commit, file) = self.written(head, &[head]);
        if !self.update(branch, Some(head), commit) {
            return Deed::Nothing;
        }
        if let Some(own) = self.own.get_mut(branch) {
            own.insert(file);
        }
        Deed::Other
    }

    /// Replaces the newest commit by one that has another file too.
    fn amend(&mut self, branch: &str) -> Deed {
        let head = self.head(branch);
        let parents: Vec<Oid> = {
            let commit = self.git.find_commit(head).expect("a commit");
            commit.parent_ids().collect()
        };
        let (commit, file) = self.written(head, &parents);
        if !self.update(branch, Some(head), commit) {
            return Deed::Nothing;
        }
        if let Some(own) = self.own.get_mut(branch) {
            own.insert(file);
        }
        Deed::Other
    }

    /// Squashes a branch that stands on trunk into it, as a hosting service does.
    fn merge(&mut self, branch: &str) -> Deed {
        let (main, head) = (self.head("main"), self.head(branch));
        let theirs = self.files(branch);
        let of_others = self
            .own
            .iter()
            .filter(|(name, _)| name.as_str() != branch && !self.merged.contains(*name));
        // Only one that has nobody else's commits in it.
        if of_others
            .flat_map(|(_, files)| files)
            .any(|file| theirs.contains(file))
        {
            return Deed::Nothing;
        }
        let tree = {
            let (ours, theirs) = (self.found(main), self.found(head));
            let merged = self.git.merge_commits(&ours, &theirs, None);
            let mut index = merged.expect("a merge");
            index.write_tree_to(&self.git).expect("no conflict")
        };
        let commit = self.write(tree, &[main], &format!("squash {branch}"));
        if !self.update("main", Some(main), commit) {
            return Deed::Nothing;
        }
        self.merged.insert(branch.to_owned());
        Deed::Other
    }

    /// A commit with the tree of `like` and a file of its own.
    fn written(&mut self, like: Oid, parents: &[Oid]) -> (Oid, String) {
        self.commits += 1;
        let file = format!("f{}", self.commits);
        let tree = {
            let tree = self.found(like).tree().expect("a tree");
            let blob = self.git.blob(file.as_bytes()).expect("a blob");
            let mut update = git2::build::TreeUpdateBuilder::new();
            update.upsert(file.as_str(), blob, FileMode::Blob);
            update.create_updated(&self.git, &tree).expect("a tree")
        };
        (self.write(tree, parents, &file), file)
    }

    fn write(&mut self, tree: Oid, parents: &[Oid], message: &str) -> Oid {
        self.commits += 1;
        let seconds = 1_704_067_200 + 60 * i64::try_from(self.commits).unwrap_or(0);
        let who = Signature::new("Ann Author", "ann@example.com", &Time::new(seconds, 0));
        let who = who.expect("a signature");
        let parents: Vec<_> = parents.iter().map(|id| self.found(*id)).collect();
        let parents: Vec<_> = parents.iter().collect();
        let tree = self.git.find_tree(tree).expect("a tree");
        let written = self.git.commit(None, &who, &who, message, &tree, &parents);
        written.expect("a commit")
    }

    fn found(&self, id: Oid) -> git2::Commit<'_> {
        self.git.find_commit(id).expect("a commit")
    }

    /// A branch's head now.
    pub fn head(&self, branch: &str) -> Oid {
        let name = format!("refs/heads/{branch}");
        let found = self.git.refname_to_id(&name);
        found.unwrap_or_else(|error| panic!("{} {branch}: {error}", self.name))
    }

    /// The files of a branch.
    pub fn files(&self, branch: &str) -> BTreeSet<String> {
        let tree = self.found(self.head(branch)).tree().expect("a tree");
        tree.iter()
            .filter_map(|entry| entry.name().ok().map(str::to_owned))
            .collect()
    }

    /// Whether one commit is reached from another.
    pub fn stands_on(&self, head: Oid, parent: Oid) -> bool {
        head == parent || self.git.graph_descendant_of(head, parent).unwrap_or(false)
    }

    /// Moves a branch if it is where it was read; `false` where somebody else was faster.
    fn update(&self, branch: &str, from: Option<Oid>, to: Oid) -> bool {
        let from = from.unwrap_or(Oid::ZERO_SHA1).to_string();
        let name = format!("refs/heads/{branch}");
        let updated = Command::new("git")
            .arg("-C")
            .arg(self.remote.path())
            .args(["update-ref", &name, &to.to_string(), &from])
            .env(MOVED_BY, "ann")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status();
        updated.expect("git").success()
    }
}
