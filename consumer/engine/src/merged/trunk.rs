//! Trunk's new commits: those that some branch has not, read once for all of them.

use std::collections::HashMap;

use git2::{Oid, Repository, Sort};

use super::TreeMerger;
use super::change::{Change, Wanted};
use crate::control::Control;
use crate::error::EngineError;
use crate::tree_diff::{object_id, oid};

/// Trunk's commits down to the oldest merge base of the branches in question.
pub(super) struct Trunk {
    /// Children before their parents.
    commits: Vec<TrunkCommit>,
    index: HashMap<Oid, usize>,
    /// Positions of trunk's own line, each the first parent of the one before; newest first, which
    /// is ascending.
    line: Vec<usize>,
    /// Commits by what they touch, newest first.
    by_paths: HashMap<u64, Vec<usize>>,
}

/// A commit of trunk.
pub(super) struct TrunkCommit {
    id: Oid,
    parents: Vec<Oid>,
    tree: Oid,
    /// What it changes against its first parent; `None` where no branch in question touches that.
    change: Option<Change>,
}

/// Some of trunk's commits, by position.
pub(super) struct Marked(Vec<bool>);

impl Marked {
    /// Whether the commit at `position` is one of them.
    pub fn has(&self, position: usize) -> bool {
        self.0.get(position).copied().unwrap_or(false)
    }
}

impl Trunk {
    /// The commits of `head` that are not in every history of `bases`.
    pub fn read(
        repo: &Repository,
        head: Oid,
        bases: &[Oid],
        control: &Control,
    ) -> Result<Self, EngineError> {
        let mut walk = repo.revwalk()?;
        walk.set_sorting(Sort::TOPOLOGICAL)?;
        walk.push(head)?;
        if let Some(base) = common_base(repo, bases)? {
            walk.hide(base)?;
        }
        let mut trunk = Self {
            commits: Vec::new(),
            index: HashMap::new(),
            line: Vec::new(),
            by_paths: HashMap::new(),
        };
        for id in walk {
            control.check()?;
            trunk.add(repo, id?)?;
        }
        trunk.line = trunk.first_parents(head);
        Ok(trunk)
    }

    fn add(&mut self, repo: &Repository, id: Oid) -> Result<(), EngineError> {
        let commit = repo.find_commit(id)?;
        self.index.insert(id, self.commits.len());
        self.commits.push(TrunkCommit {
            id,
            parents: commit.parent_ids().collect(),
            tree: commit.tree_id(),
            change: None,
        });
        Ok(())
    }

    /// Finds out what each commit changes, where that is among what is wanted.
    pub fn read_changes(
        &mut self,
        repo: &Repository,
        wanted: &Wanted,
        control: &Control,
    ) -> Result<(), EngineError> {
        for position in 0..self.commits.len() {
            control.check()?;
            let commit = &self.commits[position];
            let Some(parent) = commit.parents.first() else {
                continue;
            };
            let before = match self.index.get(parent) {
                Some(position) => self.commits[*position].tree,
                None => repo.find_commit(*parent)?.tree_id(),
            };
            if let Some(change) = Change::within(repo, before, commit.tree, wanted)? {
                let alike = self.by_paths.entry(change.paths.forward).or_default();
                alike.push(position);
                self.commits[position].change = Some(change);
            }
        }
        Ok(())
    }

    /// Commits that touch what `forward`, a sum of [`Paths`](super::change::Paths), touches, with
    /// their changes; newest first.
    pub fn touching(&self, forward: u64) -> impl Iterator<Item = (usize, &Change)> {
        let positions = self.by_paths.get(&forward).map_or(&[][..], Vec::as_slice);
        positions
            .iter()
            .filter_map(|at| Some((*at, self.commits[*at].change.as_ref()?)))
    }

    /// Commits that change files that `change` changes, and no others, with their changes; newest
    /// first.
    pub fn touching_within<'a>(
        &'a self,
        change: &'a Change,
    ) -> impl Iterator<Item = (usize, &'a Change)> {
        self.commits
            .iter()
            .enumerate()
            .filter_map(|(at, commit)| Some((at, commit.change.as_ref()?)))
            .filter(|(_, later)| later.touches_within(change))
    }

    /// What the commit at `position` changes against its first parent.
    pub fn read_change(
        &self,
        repo: &Repository,
        position: usize,
    ) -> Result<Option<Change>, EngineError> {
        let commit = &self.commits[position];
        let Some(parent) = commit.parents.first() else {
            return Ok(None);
        };
        Change::between(repo, repo.find_commit(*parent)?.tree_id(), commit.tree)
    }

    /// First parent of the commit at `position`.
    pub fn first_parent(&self, position: usize) -> Option<Oid> {
        self.commits[position].parents.first().copied()
    }

    /// The commits that are `ids` or in their histories.
    pub fn in_history(&self, ids: &[Oid]) -> Marked {
        let mut marked = vec![false; self.commits.len()];
        for position in ids.iter().filter_map(|id| self.index.get(id)) {
            marked[*position] = true;
        }
        for position in 0..self.commits.len() {
            if marked[position] {
                for parent in &self.commits[position].parents {
                    if let Some(parent) = self.index.get(parent) {
                        marked[*parent] = true;
                    }
                }
            }
        }
        Marked(marked)
    }

    /// The commit at `position`.
    pub fn id(&self, position: usize) -> Oid {
        self.commits[position].id
    }

    /// The commits that have `id` in their histories, and `id` itself.
    fn descendants(&self, id: Oid) -> Marked {
        let mut marked = vec![false; self.commits.len()];
        for position in (0..self.commits.len()).rev() {
            let commit = &self.commits[position];
            marked[position] = commit.id == id
                || commit.parents.iter().any(|parent| {
                    *parent == id || self.index.get(parent).is_some_and(|at| marked[*at])
                });
        }
        Marked(marked)
    }

    /// The merge on trunk's line that brought in `id`; `None` where `id` is itself on the line.
    pub fn merge_of(&self, id: Oid) -> Option<usize> {
        let with = self.descendants(id);
        let oldest = *self.line.iter().rev().find(|at| with.has(**at))?;
        let commit = &self.commits[oldest];
        (commit.id != id && commit.parents.first() != Some(&id)).then_some(oldest)
    }

    /// Whether what the commit at `position` did is still in trunk, as far as merges go: it is on
    /// trunk's own line, or each merge by which it got there is the one git makes by itself. A
    /// merge made by hand may have left it out.
    pub fn carries(
        &self,
        position: usize,
        merge: &mut dyn TreeMerger,
    ) -> Result<bool, EngineError> {
        if self.line.binary_search(&position).is_ok() {
            return Ok(true);
        }
        let id = self.commits[position].id;
        let with = self.descendants(id);
        let mut line = self.line.clone();
        loop {
            let Some(entered) = line.iter().rev().find(|at| with.has(**at)) else {
                return Ok(false);
            };
            let commit = &self.commits[*entered];
            if commit.id == id {
                return Ok(true);
            }
            let [ours, theirs] = commit.parents[..] else {
                return Ok(false);
            };
            if !is_automatic(commit.tree, ours, theirs, merge)? {
                return Ok(false);
            }
            line = self.first_parents(theirs);
        }
    }

    /// Positions of `id` and its first parents, newest first.
    fn first_parents(&self, id: Oid) -> Vec<usize> {
        let next = |at: &usize| {
            let parent = self.commits[*at].parents.first()?;
            self.index.get(parent).copied()
        };
        std::iter::successors(self.index.get(&id).copied(), next).collect()
    }
}

/// Whether `tree` is what git makes of merging the two commits, with nobody's help.
pub(super) fn is_automatic(
    tree: Oid,
    ours: Oid,
    theirs: Oid,
    merge: &mut dyn TreeMerger,
) -> Result<bool, EngineError> {
    let merged = merge.clean_merge_of_commits(object_id(ours)?, object_id(theirs)?)?;
    Ok(merged.map(oid).transpose()? == Some(tree))
}

/// A commit in the history of all of `bases`, as new as there is.
fn common_base(repo: &Repository, bases: &[Oid]) -> Result<Option<Oid>, EngineError> {
    match bases {
        [] => Ok(None),
        [only] => Ok(Some(*only)),
        several => match repo.merge_base_octopus(several) {
            Ok(base) => Ok(Some(base)),
            Err(error) if error.code() == git2::ErrorCode::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        },
    }
}
