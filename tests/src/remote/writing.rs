//! How a remote's objects and references are written; what the words of [`Remote`] have in common.

use backstack_schemas::ObjectId;
use git2::build::TreeUpdateBuilder;
use git2::{Commit, FileMode, Index, Oid, Signature, Time, Tree};

use super::story::{self, Change};
use super::{Remote, id, tree_of};

/// 2024-01-01T00:00:00Z; earlier than any clock that a test runs by.
pub(super) const FIRST_COMMIT_AT: i64 = 1_704_067_200;

impl Remote {
    /// The first commit.
    pub(super) fn plant(&self) {
        let empty = self.git.treebuilder(None).and_then(|tree| tree.write());
        let empty = self.tree(empty.expect("the empty tree"));
        let tree = self.changed(&empty, &story::own_file("m0"));
        let root = self.write(&[], &tree, "m0");
        self.set(&self.trunk, root, "m0");
    }

    pub(super) fn add(&self, branch: &str, changes: &[Change], message: &str) -> Oid {
        let tip = self.tip(branch);
        let commit = self.write(&[&tip], &self.changed(&tree_of(&tip), changes), message);
        self.set(branch, commit, "commit");
        commit
    }

    pub(super) fn replace(
        &self,
        branch: &str,
        old: &Commit<'_>,
        tree: &Tree<'_>,
        message: &str,
    ) -> ObjectId {
        let parents: Vec<_> = old.parents().collect();
        let parents: Vec<_> = parents.iter().collect();
        let new = self.write_as(&old.author(), &parents, tree, message);
        self.set(branch, new, "amend");
        id(new)
    }

    pub(super) fn advance_trunk(&self, commit: Oid) -> ObjectId {
        self.set(&self.trunk, commit, "merge");
        id(commit)
    }

    #[track_caller]
    pub(super) fn merged_tree(&self, into: &str, from: &str) -> Tree<'_> {
        let (into_tip, from_tip) = (self.tip(into), self.tip(from));
        let merged = self
            .git
            .merge_commits(&into_tip, &from_tip, None)
            .expect("a merge");
        self.written(merged, &format!("merge {from} into {into}"))
    }

    #[track_caller]
    pub(super) fn written(&self, mut index: Index, what: &str) -> Tree<'_> {
        assert!(!index.has_conflicts(), "{what}: conflict");
        self.tree(index.write_tree_to(&self.git).expect("a tree"))
    }

    pub(super) fn write(&self, parents: &[&Commit<'_>], tree: &Tree<'_>, message: &str) -> Oid {
        let at = Time::new(self.next_date.get(), 0);
        let author = Signature::new("Ann Author", "ann@example.com", &at).expect("a signature");
        self.write_as(&author, parents, tree, message)
    }

    /// Each commit is a minute after the one made before it, wherever that went.
    pub(super) fn write_as(
        &self,
        author: &Signature<'_>,
        parents: &[&Commit<'_>],
        tree: &Tree<'_>,
        message: &str,
    ) -> Oid {
        let at = self.next_date.replace(self.next_date.get() + 60);
        let at = Time::new(at, 0);
        let committer =
            Signature::new("Carl Committer", "carl@example.com", &at).expect("a signature");
        let message = if message.ends_with('\n') {
            message.to_owned()
        } else {
            format!("{message}\n")
        };
        let commit = self
            .git
            .commit(None, author, &committer, &message, tree, parents);
        commit.expect("a commit")
    }

    pub(super) fn changed(&self, tree: &Tree<'_>, changes: &[Change]) -> Tree<'_> {
        let mut update = TreeUpdateBuilder::new();
        for change in changes {
            match change {
                Change::Write { path, content } => {
                    let blob = self.git.blob(content.as_bytes()).expect("a blob");
                    update.upsert(path.as_str(), blob, FileMode::Blob);
                }
                Change::Remove { path } => {
                    update.remove(path.as_str());
                }
            }
        }
        self.tree(update.create_updated(&self.git, tree).expect("a tree"))
    }

    pub(super) fn set(&self, branch: &str, target: Oid, why: &str) {
        let name = format!("refs/heads/{branch}");
        let set = self.git.reference(&name, target, true, why);
        set.unwrap_or_else(|error| panic!("{branch:?} cannot be set: {error}"));
    }

    fn tree(&self, tree: Oid) -> Tree<'_> {
        self.git.find_tree(tree).expect("a tree")
    }
}
