//! Histories made in memory and in a bare repository: files are edited and committed without a work
//! tree, and every merge is git's own. A history costs a few milliseconds.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

use backstack_engine::Control;
use backstack_engine::git::Git;
use backstack_engine::merged::{self, Candidate};
use backstack_engine::replay::Merger;
use backstack_schemas::ObjectId;
use backstack_schemas::outcome::MergedHow;
use git2::{DiffOptions, ObjectType, Oid, Repository};

use crate::builder::{Tracked, lines};
use crate::merge_tree::MergeTree;

/// Contents by name; there are no directories.
type Files = BTreeMap<String, String>;

/// A repository in which one history after the other is made.
pub struct Place {
    dir: tempfile::TempDir,
    repo: Repository,
    git: Git,
    merges: MergeTree,
}

impl Place {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let repo = Repository::init_bare(dir.path()).unwrap();
        let merges = MergeTree::start(dir.path());
        Self {
            dir,
            repo,
            git: Git::discover(None).unwrap(),
            merges,
        }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// One history: its branches, and what is checked out, with changes that are not committed yet.
pub struct World<'a> {
    place: &'a mut Place,
    heads: BTreeMap<String, Oid>,
    on: String,
    files: Files,
    clock: i64,
}

impl<'a> World<'a> {
    /// `main` with `app.txt` and `lib.txt`, thirty different lines each.
    pub fn start(place: &'a mut Place) -> Self {
        let named = |name: &str| (name.to_owned(), lines(name));
        let mut world = Self {
            place,
            heads: BTreeMap::new(),
            on: "main".to_owned(),
            files: ["app.txt", "lib.txt"].map(named).into(),
            clock: 1_700_000_000,
        };
        world.commit("start");
        world
    }

    pub fn read(&self, file: &str) -> String {
        self.files[file].clone()
    }

    pub fn write(&mut self, file: &str, content: String) {
        self.files.insert(file.to_owned(), content);
    }

    pub fn file_names(&self) -> Vec<String> {
        self.files.keys().cloned().collect()
    }

    pub fn head(&self, branch: &str) -> Oid {
        self.heads[branch]
    }

    /// A commit's first parent.
    pub fn parent(&self, commit: Oid) -> Oid {
        self.commit_at(commit).parent_id(0).unwrap()
    }

    pub fn tree_of(&self, branch: &str) -> Oid {
        self.tree(self.head(branch))
    }

    pub fn checkout(&mut self, branch: &str) {
        self.on = branch.to_owned();
        self.files = self.files_of(self.tree_of(branch));
    }

    /// A new branch at `at`, checked out.
    pub fn branch(&mut self, name: &str, at: &str) {
        self.heads.insert(name.to_owned(), self.head(at));
        self.checkout(name);
    }

    /// Whether anything is not committed yet.
    pub fn is_changed(&self) -> bool {
        self.files != self.files_of(self.tree_of(&self.on))
    }

    /// Commits everything as it is, even nothing.
    pub fn commit(&mut self, message: &str) {
        let parents: Vec<Oid> = self.heads.get(&self.on).copied().into_iter().collect();
        let tree = self.write_tree();
        self.commit_tree(tree, &parents, message);
    }

    /// Puts everything as it is into the newest commit.
    pub fn amend(&mut self) {
        let newest = self.head(&self.on);
        let parents: Vec<Oid> = self.commit_at(newest).parent_ids().collect();
        let tree = self.write_tree();
        self.commit_tree(tree, &parents, "amended");
    }

    /// Moves what is checked out to `branch`, if that is ahead.
    pub fn fast_forward(&mut self, branch: &str) -> bool {
        let (here, there) = (self.head(&self.on), self.head(branch));
        if self.is_ancestor(there, here) {
            return true;
        }
        let ahead = self.is_ancestor(here, there);
        if ahead {
            self.move_to(there);
        }
        ahead
    }

    /// Merges `branch` by a merge commit, even where it is ahead.
    pub fn merge_commit(&mut self, branch: &str) -> bool {
        let (here, there) = (self.head(&self.on), self.head(branch));
        if self.is_ancestor(there, here) {
            return true;
        }
        let merged = self.place.merges.commits(id(here), id(there));
        if let Some(tree) = merged {
            self.commit_tree(oid(tree), &[here, there], "merge");
        }
        merged.is_some()
    }

    /// Merges `branch` as one commit.
    pub fn squash(&mut self, branch: &str) -> bool {
        let (here, there) = (self.head(&self.on), self.head(branch));
        let merged = if self.is_ancestor(there, here) {
            Some(id(self.tree(here)))
        } else {
            self.place.merges.commits(id(here), id(there))
        };
        if let Some(tree) = merged {
            self.commit_tree(oid(tree), &[here], "squash");
        }
        merged.is_some()
    }

    /// Picks the commits after `base` up to `tip`, one line; all of them or none. One that changes
    /// nothing here stops it, as it stops git.
    pub fn pick(&mut self, base: Oid, tip: Oid) -> bool {
        let mut commits = Vec::new();
        let mut at = tip;
        while at != base {
            commits.push(at);
            at = self.commit_at(at).parent_id(0).unwrap();
        }
        commits.reverse();
        let changes: Vec<_> = commits.into_iter().map(|c| self.change_of(c)).collect();
        !changes.is_empty() && self.make_changes(&changes, "picked")
    }

    /// Takes back what `commits` changed against their first parents, newest first, a commit each;
    /// all of them or none.
    pub fn revert_each(&mut self, commits: &[Oid]) -> bool {
        let inverse = |commit: &Oid| {
            let (before, after) = self.change_of(*commit);
            (after, before)
        };
        let changes: Vec<_> = commits.iter().rev().map(inverse).collect();
        self.make_changes(&changes, "revert")
    }

    /// The same in one commit, which may come to nothing.
    pub fn revert_as_one(&mut self, commits: &[Oid]) -> bool {
        let here = self.head(&self.on);
        let mut tree = self.tree(here);
        for commit in commits.iter().rev() {
            let (before, after) = self.change_of(*commit);
            let undone = self.place.merges.change(id(after), id(tree), id(before));
            let Some(undone) = undone else {
                return false;
            };
            tree = oid(undone);
        }
        self.commit_tree(tree, &[here], "revert");
        true
    }

    /// A line that the newest commit of trunk added since `before`, the first in the diff.
    pub fn added_since(&self, before: Oid) -> Option<String> {
        let repo = &self.place.repo;
        let [old, new] = [before, self.head("main")].map(|c| self.commit_at(c).tree().unwrap());
        let mut options = DiffOptions::new();
        options.context_lines(0);
        let diff = repo.diff_tree_to_tree(Some(&old), Some(&new), Some(&mut options));
        let mut added = None;
        let all = diff.unwrap().print(git2::DiffFormat::Patch, |_, _, line| {
            if line.origin() == '+' {
                let text = String::from_utf8_lossy(line.content());
                added = Some(text.trim_end_matches('\n').to_owned());
            }
            added.is_none()
        });
        assert!(all.is_ok() || added.is_some());
        added
    }

    /// Trunk's commits since `before`, along its own line, oldest first.
    pub fn since(&self, before: Oid) -> Vec<Oid> {
        let mut commits = Vec::new();
        let mut at = self.head("main");
        while at != before && !self.is_ancestor(at, before) {
            commits.push(at);
            at = self.commit_at(at).parent_id(0).unwrap();
        }
        commits.reverse();
        commits
    }

    /// Whether a commit is one of `base..tip`.
    pub fn is_in(&self, commit: Oid, base: Oid, tip: Oid) -> bool {
        self.is_ancestor(commit, tip) && !self.is_ancestor(commit, base)
    }

    /// The row of `name` at this moment, standing on `parent`.
    pub fn track(&self, name: &str, parent: &str) -> Tracked {
        let (head, below) = (self.head(name), self.head(parent));
        Tracked {
            name: name.to_owned(),
            parent: parent.to_owned(),
            base: Some(id(self.place.repo.merge_base(head, below).unwrap())),
            recorded_head: Some(id(head)),
        }
    }

    /// Which of `rows` are merged into `main` as it is now, with the merges the service uses.
    pub fn merged(&self, rows: &[&Tracked]) -> Vec<(String, MergedHow)> {
        let head = |name: &str| self.heads.get(name).copied().map(id);
        let candidate = |row: &&Tracked| Candidate {
            branch: row.name.parse().unwrap(),
            parent: row.parent.parse().unwrap(),
            base: row.base,
            head: head(&row.name).unwrap(),
            recorded_head: row.recorded_head,
            parent_head: head(&row.parent),
        };
        let candidates: Vec<_> = rows.iter().map(candidate).collect();
        let control = Control::unbounded();
        let mut merger = Merger::open(self.place.path(), &self.place.git, &control).unwrap();
        let repo = &self.place.repo;
        let main = id(self.head("main"));
        let found = merged::find(repo, main, &candidates, &mut merger, &control).unwrap();
        let named = found.into_iter().map(|(name, how)| (name.to_string(), how));
        named.collect()
    }

    /// Whether a commit of the branch is taken back exactly by some commit of trunk: git's merge of
    /// the inverse onto that commit's parent gives its tree. People take lines away that others
    /// have added, and then what was merged is no longer there.
    pub fn has_an_inverse_on_trunk(&mut self, row: &Tracked) -> bool {
        let between = |world: &Self, base: Oid, tip: Oid| -> Vec<Oid> {
            let mut walk = world.place.repo.revwalk().unwrap();
            walk.push(tip).unwrap();
            walk.hide(base).unwrap();
            walk.map(Result::unwrap).collect()
        };
        let base = oid(row.base.unwrap());
        let own = between(self, base, self.head(&row.name));
        let trunk = between(self, base, self.head("main"));
        own.iter().any(|own| {
            let (before, after) = self.change_of(*own);
            trunk.iter().any(|other| {
                let (from, to) = self.change_of(*other);
                let undone = self.place.merges.change(id(after), id(from), id(before));
                undone.is_some_and(|tree| oid(tree) == to)
            })
        })
    }

    /// All commits, newest first, and where the branches are.
    pub fn log(&self) -> String {
        let mut log = String::new();
        let mut walk = self.place.repo.revwalk().unwrap();
        walk.set_sorting(git2::Sort::TOPOLOGICAL).unwrap();
        for head in self.heads.values() {
            walk.push(*head).unwrap();
        }
        let short = |id: Oid| id.to_string()[..8].to_owned();
        for commit in walk.map(Result::unwrap) {
            let parents: Vec<_> = self.commit_at(commit).parent_ids().map(short).collect();
            let branches = self.heads.iter().filter(|(_, head)| **head == commit);
            let branches: BTreeSet<_> = branches.map(|(name, _)| name).collect();
            let found = self.commit_at(commit);
            let message = found.message().unwrap_or_default();
            let commit = short(commit);
            writeln!(log, "{commit} {message} on {parents:?} {branches:?}").unwrap();
        }
        log
    }

    /// Makes changes, each from the first tree to the second, as commits; all of them or none. One
    /// that changes nothing counts as failed.
    fn make_changes(&mut self, changes: &[(Oid, Oid)], message: &str) -> bool {
        let start = self.head(&self.on);
        for (before, after) in changes {
            let here = self.head(&self.on);
            let tree = self.tree(here);
            let made = self
                .place
                .merges
                .change(id(*before), id(tree), id(*after))
                .map(oid)
                .filter(|made| *made != tree);
            let Some(made) = made else {
                self.move_to(start);
                return false;
            };
            self.commit_tree(made, &[here], message);
        }
        true
    }

    /// The trees before and after a commit.
    fn change_of(&self, commit: Oid) -> (Oid, Oid) {
        let commit = self.commit_at(commit);
        (commit.parent(0).unwrap().tree_id(), commit.tree_id())
    }

    fn commit_tree(&mut self, tree: Oid, parents: &[Oid], message: &str) {
        self.clock += 1;
        let mut raw = format!("tree {tree}\n");
        for parent in parents {
            writeln!(raw, "parent {parent}").unwrap();
        }
        let who = format!("Ada <ada@example.com> {} +0000", self.clock);
        write!(raw, "author {who}\ncommitter {who}\n\n{message}").unwrap();
        let odb = self.place.repo.odb().unwrap();
        let commit = odb.write(ObjectType::Commit, raw.as_bytes()).unwrap();
        drop(odb);
        self.move_to(commit);
    }

    fn move_to(&mut self, commit: Oid) {
        let on = self.on.clone();
        self.heads.insert(on.clone(), commit);
        self.checkout(&on);
    }

    fn write_tree(&self) -> Oid {
        let repo = &self.place.repo;
        let mut tree = repo.treebuilder(None).unwrap();
        for (name, content) in &self.files {
            let blob = repo.blob(content.as_bytes()).unwrap();
            tree.insert(name, blob, 0o100_644).unwrap();
        }
        tree.write().unwrap()
    }

    fn files_of(&self, tree: Oid) -> Files {
        let repo = &self.place.repo;
        let content = |id| String::from_utf8(repo.find_blob(id).unwrap().content().to_vec());
        let tree = repo.find_tree(tree).unwrap();
        let named = tree.iter().map(|entry| {
            let name = entry.name().unwrap().to_owned();
            (name, content(entry.id()).unwrap())
        });
        named.collect()
    }

    fn tree(&self, commit: Oid) -> Oid {
        self.commit_at(commit).tree_id()
    }

    fn commit_at(&self, id: Oid) -> git2::Commit<'_> {
        self.place.repo.find_commit(id).unwrap()
    }

    fn is_ancestor(&self, ancestor: Oid, of: Oid) -> bool {
        ancestor == of || self.place.repo.graph_descendant_of(of, ancestor).unwrap()
    }
}

/// libgit2's id as ours.
pub fn id(id: Oid) -> ObjectId {
    id.to_string().parse().unwrap()
}

/// Ours as libgit2's.
pub fn oid(id: ObjectId) -> Oid {
    Oid::from_bytes(id.as_bytes()).unwrap()
}
