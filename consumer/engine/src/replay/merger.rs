//! Merging trees as git does, by the cheapest of three ways that is certain to give git's result:
//! splicing, git's content merge for single files, git itself.

use std::path::{Path, PathBuf};

use backstack_schemas::ObjectId;
use backstack_schemas::outcome::{ConflictKind, ConflictPath};
use git2::ObjectType;

use super::attributes::{ContentRules, same_attributes};
use super::merge_tree::{MergeTree, Places};
use super::objects::{NewObjects, Objects, Shared};
use super::splice::{Stop, splice};
use super::xdiff;
use crate::control::Control;
use crate::error::EngineError;
use crate::git::Git;

/// What came of a merge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Merge {
    /// The merged tree.
    Clean(ObjectId),
    /// The paths that clash, sorted, as git itself reports them.
    Conflict(Vec<ConflictPath>),
}

/// Merges in one repository, for one thread. What it makes stays in memory until
/// [`into_new_objects`](Self::into_new_objects) hands it over.
pub struct Merger {
    objects: Objects,
    rules: ContentRules,
    /// Whether this git merges files as the linked libgit2 does.
    contents: bool,
    git: Git,
    git_dir: PathBuf,
    merge_tree: Option<MergeTree>,
    control: Control,
}

impl Merger {
    /// A merger for the repository whose git directory this is.
    ///
    /// # Errors
    ///
    /// [`EngineError::Internal`] where there is no repository.
    pub fn open(git_dir: &Path, git: &Git, control: &Control) -> Result<Self, EngineError> {
        Self::sharing(git_dir, git, control, Shared::default())
    }

    /// As [`open`](Self::open), for one of several threads that share what they read.
    pub(super) fn sharing(
        git_dir: &Path,
        git: &Git,
        control: &Control,
        shared: Shared,
    ) -> Result<Self, EngineError> {
        let objects = Objects::open(git_dir, shared)?;
        let version = git.version();
        Ok(Self {
            rules: ContentRules::of(&objects),
            objects,
            contents: xdiff::equals_git((version.major, version.minor)),
            git: git.clone(),
            git_dir: git_dir.to_owned(),
            merge_tree: None,
            control: control.clone(),
        })
    }

    /// The objects made so far.
    pub fn into_new_objects(self) -> NewObjects {
        self.objects.into_new()
    }

    /// Merges the change from `base` to `theirs` into `ours`, all of them trees, as a rebase merges
    /// each commit. A conflict is git's own.
    ///
    /// # Errors
    ///
    /// What the control says; [`EngineError::Internal`] where an object is missing or git fails.
    pub fn merge_trees(
        &mut self,
        base: ObjectId,
        ours: ObjectId,
        theirs: ObjectId,
    ) -> Result<Merge, EngineError> {
        self.control.check()?;
        let sides = [base, theirs, ours];
        match splice(&mut self.objects, &mut self.rules, self.contents, sides) {
            Ok(tree) => Ok(Merge::Clean(tree)),
            Err(Stop::Failed(error)) => Err(error),
            Err(Stop::ForGit) => self.by_git(base, ours, theirs),
        }
    }

    /// Merges two commits as `git merge` does, merge bases and all; the commits must be in the
    /// repository.
    ///
    /// # Errors
    ///
    /// As [`merge_trees`](Self::merge_trees).
    pub fn merge_commits(
        &mut self,
        ours: ObjectId,
        theirs: ObjectId,
    ) -> Result<Merge, EngineError> {
        let tree = self.objects.commit_facts(ours)?.tree;
        self.merge_into(ours, tree, theirs)
    }

    /// The tree that `git merge` makes of these parents without help; `None` where it cannot.
    ///
    /// Parents beyond the second are merged one after the other, which is stricter than git's
    /// octopus: a merge that only the octopus gives counts as one with changes of its own.
    ///
    /// # Errors
    ///
    /// As [`merge_trees`](Self::merge_trees).
    pub fn automatic_merge(
        &mut self,
        parents: &[ObjectId],
    ) -> Result<Option<ObjectId>, EngineError> {
        let Some((first, rest)) = parents.split_first() else {
            return Ok(None);
        };
        let mut head = *first;
        let mut tree = self.objects.commit_facts(head)?.tree;
        for (merged, parent) in rest.iter().enumerate() {
            let Merge::Clean(clean) = self.merge_into(head, tree, *parent)? else {
                return Ok(None);
            };
            tree = clean;
            if merged + 1 < rest.len() {
                head = self.scratch_merge(tree, head, *parent)?;
            }
        }
        Ok(Some(tree))
    }

    /// Forgets the objects made since the mark, when `tree` was merged into for the first time.
    pub(super) fn forget_since(&mut self, mark: usize, tree: ObjectId) -> Result<(), EngineError> {
        // The running git may be known by a tree that is forgotten now.
        if self.merge_tree.is_some() {
            self.merge_tree(tree)?;
        }
        self.objects.forget_since(mark);
        Ok(())
    }

    /// The objects this merger reads and makes.
    pub(super) fn objects(&mut self) -> &mut Objects {
        &mut self.objects
    }

    /// What bounds it.
    pub(super) fn control(&self) -> &Control {
        &self.control
    }

    /// Merges a commit into another, whose tree is given.
    fn merge_into(
        &mut self,
        ours: ObjectId,
        tree: ObjectId,
        theirs: ObjectId,
    ) -> Result<Merge, EngineError> {
        self.control.check()?;
        self.ask(&format!("{ours} {theirs}"), [ours, theirs], tree)
    }

    fn by_git(
        &mut self,
        base: ObjectId,
        ours: ObjectId,
        theirs: ObjectId,
    ) -> Result<Merge, EngineError> {
        for tree in [base, ours, theirs] {
            self.objects.show(tree)?;
        }
        self.ask(&format!("{base} -- {ours} {theirs}"), [ours, theirs], ours)
    }

    fn ask(
        &mut self,
        question: &str,
        labels: [ObjectId; 2],
        attributes: ObjectId,
    ) -> Result<Merge, EngineError> {
        let control = self.control.clone();
        let record = self.merge_tree(attributes)?.ask(question, &control)?;
        if record.clean {
            return self.adopt(record.tree, attributes, labels[0]);
        }
        let labels = labels.map(|label| label.to_string());
        Ok(Merge::Conflict(record.conflicts([&labels[0], &labels[1]])))
    }

    /// Takes over a tree that git calls clean. Where both sides renamed a file in the same way and
    /// one made another in its old place, git (2.47) leaves conflict markers in it all the same;
    /// that is a conflict, since nobody wants markers pushed. `ours` is the name in the markers.
    fn adopt(
        &mut self,
        tree: ObjectId,
        like: ObjectId,
        ours: ObjectId,
    ) -> Result<Merge, EngineError> {
        let mark = self.objects.mark();
        let marked = self
            .objects
            .adopt(tree, like, format!("<<<<<<< {ours}").as_bytes())?;
        if marked.is_empty() {
            return Ok(Merge::Clean(tree));
        }
        self.objects.forget_since(mark);
        let mut paths: Vec<_> = marked
            .iter()
            .map(|path| ConflictPath {
                path: String::from_utf8_lossy(path).into_owned(),
                kind: ConflictKind::Content,
            })
            .collect();
        paths.sort();
        Ok(Merge::Conflict(paths))
    }

    /// The running git, or a new one where the attributes are no longer those it was started with.
    fn merge_tree(&mut self, attributes: ObjectId) -> Result<&mut MergeTree, EngineError> {
        let same = match &self.merge_tree {
            Some(running) => same_attributes(&mut self.objects, running.attributes(), attributes)?,
            None => false,
        };
        self.objects.show(attributes)?;
        if !same {
            let places = Places {
                git_dir: self.git_dir.clone(),
                objects: self.objects.quarantine_dir()?,
            };
            self.merge_tree = None;
            let new = MergeTree::new(&self.git, places, attributes);
            return Ok(self.merge_tree.insert(new));
        }
        let running = self
            .merge_tree
            .as_mut()
            .ok_or_else(|| EngineError::Internal("git merge-tree is gone".to_owned()))?;
        running.take_attributes_from(attributes);
        Ok(running)
    }

    /// A merge commit for git alone to see, on the way to a merge of more than two parents.
    fn scratch_merge(
        &mut self,
        tree: ObjectId,
        first: ObjectId,
        second: ObjectId,
    ) -> Result<ObjectId, EngineError> {
        let who = "Backstack <backstack@localhost> 0 +0000";
        let commit = format!(
            "tree {tree}\nparent {first}\nparent {second}\nauthor {who}\ncommitter {who}\n\n"
        );
        self.objects
            .show_scratch(ObjectType::Commit, commit.as_bytes())
    }
}
