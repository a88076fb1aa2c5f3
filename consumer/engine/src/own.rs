//! A branch's own commits: where they start, and which they are.
//!
//! The rules are those of the contract, section 4, "Own commits". What stands in a branch below its
//! own commits was its parent's at some time, so every head that the parent is known to have had
//! bounds them from below, but for commits that the parent has given up: nobody but the child has
//! those now, and they stay in it. How that is told is the question of `own/given_up.rs`.

mod given_up;

use std::cell::OnceCell;
use std::collections::HashSet;

use backstack_schemas::ObjectId;

use crate::error::EngineError;
use crate::history::History;

/// What is known of where a branch stands.
#[derive(Clone, Debug)]
pub struct Standing<'a> {
    /// The branch's head.
    pub head: ObjectId,
    /// The recorded commit at which its own commits start.
    pub base: Option<ObjectId>,
    /// The parent's head; `None` where it is gone.
    pub parent: Option<ObjectId>,
    /// Heads the parent had before, newest first.
    pub former: &'a [ObjectId],
    /// Trunk's head.
    pub trunk: ObjectId,
}

/// A branch's own commits, or why they cannot be told or moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Own {
    /// They are these.
    Commits(OwnCommits),
    /// Someone rewrote the parent more than once, and the branch stands on a version that nobody
    /// recorded.
    Ambiguous,
    /// A merge commit among them holds changes that flattening would lose.
    MergeHasChanges,
}

/// A branch's own commits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnCommits {
    /// Those that are replayed, oldest first; no merges.
    pub commits: Vec<ObjectId>,
    /// Merge commits, each git's own automatic one.
    pub flattened: Vec<ObjectId>,
}

/// What branches have and trunk has not, found in one walk when first asked for.
///
/// Each restack adds a former head to every row, and hardly any of them is in a branch still. To look
/// for each in each branch's history takes longer than the replay.
pub struct AboveTrunk<'a> {
    history: &'a dyn History,
    heads: Vec<ObjectId>,
    trunk: ObjectId,
    found: OnceCell<HashSet<ObjectId>>,
}

impl<'a> AboveTrunk<'a> {
    /// What is in any of `heads` and not in `trunk`.
    pub fn new(history: &'a dyn History, heads: Vec<ObjectId>, trunk: ObjectId) -> Self {
        Self {
            history,
            heads,
            trunk,
            found: OnceCell::new(),
        }
    }

    fn contains(&self, id: ObjectId) -> Result<bool, EngineError> {
        if let Some(found) = self.found.get() {
            return Ok(found.contains(&id));
        }
        let found = self.history.above(&self.heads, &[self.trunk])?;
        Ok(self.found.get_or_init(|| found).contains(&id))
    }
}

impl Standing<'_> {
    /// The branch's own commits. `above_trunk` knows the branch, and the same trunk.
    pub fn own(
        &self,
        history: &dyn History,
        above_trunk: &AboveTrunk<'_>,
    ) -> Result<Own, EngineError> {
        // Trunk hides all of its own, so what is in it bounds nothing more.
        let mut hidden = self.bounds(history, |id| above_trunk.contains(id))?;
        hidden.extend(self.parent);
        hidden.push(self.trunk);
        let own = history.reachable(self.head, &hidden)?;
        if self.is_ambiguous(history, &own)? {
            return Ok(Own::Ambiguous);
        }
        flatten(history, own)
    }

    /// What bounds the own commits from below: the recorded base and the parent's former heads, those
    /// that are in the branch, each without what the parent has given up of it. (What the parent's
    /// head and trunk reach bounds them too, and with it every merge base.)
    pub fn boundaries(&self, history: &dyn History) -> Result<Vec<ObjectId>, EngineError> {
        self.bounds(history, |_| Ok(true))
    }

    /// The boundaries among those commits that `counts`.
    fn bounds(
        &self,
        history: &dyn History,
        counts: impl Fn(ObjectId) -> Result<bool, EngineError>,
    ) -> Result<Vec<ObjectId>, EngineError> {
        let mut seen = HashSet::new();
        let mut found = Vec::new();
        for id in self.base.iter().chain(self.former).copied() {
            if !seen.insert(id) || !counts(id)? || !history.is_ancestor(id, self.head)? {
                continue;
            }
            match self.given_up_of(history, id)? {
                given_up if given_up.is_empty() => found.push(id),
                given_up => found.extend(below(history, &given_up)?),
            }
        }
        Ok(found)
    }

    /// The boundary that leaves the fewest own commits, merge bases with the parent and trunk
    /// included; `None` where the branch has nothing in common with any.
    pub fn nearest_boundary(&self, history: &dyn History) -> Result<Option<ObjectId>, EngineError> {
        let mut candidates = self.boundaries(history)?;
        for other in self.parent.into_iter().chain([self.trunk]) {
            candidates.extend(history.merge_bases(self.head, other)?);
        }
        nearest(history, self.head, candidates)
    }

    /// The base of a branch that stands on its parent's head: that head. But for one: a base that
    /// lies above it and never was the parent's is where a branch below was healed away, or what a
    /// person said. It stays, or what it keeps out of the own commits would come back into them.
    pub fn base_on(
        &self,
        parent: ObjectId,
        history: &dyn History,
    ) -> Result<ObjectId, EngineError> {
        match self.base {
            Some(base)
                if base != parent
                    && !self.former.contains(&base)
                    && history.is_ancestor(parent, base)?
                    && history.is_ancestor(base, self.head)? =>
            {
                Ok(base)
            }
            _ => Ok(parent),
        }
    }

    /// The commits of `id` that the parent has given up. Only of what was the parent's own head can
    /// that be said.
    fn given_up_of(
        &self,
        history: &dyn History,
        id: ObjectId,
    ) -> Result<Vec<ObjectId>, EngineError> {
        let known_at = self.former.iter().position(|former| *former == id);
        match (known_at, self.parent) {
            (Some(at), Some(parent)) => given_up::of(history, id, &self.former[..at], parent),
            _ => Ok(Vec::new()),
        }
    }

    /// Whether would-be own commits are another version of the parent's (contract, section 4,
    /// `ambiguous_base`). The recorded base counts as a version of the parent: after healing it is
    /// the head of one that is no longer there.
    fn is_ambiguous(&self, history: &dyn History, own: &[ObjectId]) -> Result<bool, EngineError> {
        if own.is_empty() || self.is_in_head(history, self.base)? {
            return Ok(false);
        }
        if self.is_in_head(history, self.parent)? {
            return Ok(false);
        }
        let authored = authors(history, own)?;
        let recorded = self.former.iter().copied().chain(self.base);
        for head in self.parent.into_iter().chain(recorded) {
            if history.commit(head)?.is_none() {
                continue;
            }
            let others = history.reachable(head, &[self.head])?;
            if !authored.is_disjoint(&authors(history, &others)?) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_in_head(&self, history: &dyn History, id: Option<ObjectId>) -> Result<bool, EngineError> {
        id.map_or(Ok(false), |id| history.is_ancestor(id, self.head))
    }
}

/// Splits own commits into those that are replayed and the merges that are not.
pub(crate) fn flatten(history: &dyn History, own: Vec<ObjectId>) -> Result<Own, EngineError> {
    let mut split = OwnCommits::default();
    for id in own {
        let merges = history.commit(id)?.is_some_and(|c| c.parents.len() > 1);
        if !merges {
            split.commits.push(id);
        } else if history.merge_is_automatic(id)? {
            split.flattened.push(id);
        } else {
            return Ok(Own::MergeHasChanges);
        }
    }
    Ok(Own::Commits(split))
}

/// The one of `candidates`, all in `head`, above which `head` has the fewest commits; the first
/// where several are equally near.
pub(crate) fn nearest(
    history: &dyn History,
    head: ObjectId,
    candidates: Vec<ObjectId>,
) -> Result<Option<ObjectId>, EngineError> {
    let mut best: Option<(usize, ObjectId)> = None;
    for id in candidates {
        let distance = history.reachable(head, &[id])?.len();
        if best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, id));
        }
    }
    Ok(best.map(|(_, id)| id))
}

/// The parents of these commits that are not among them.
fn below(history: &dyn History, commits: &[ObjectId]) -> Result<Vec<ObjectId>, EngineError> {
    let among: HashSet<_> = commits.iter().copied().collect();
    let mut found = Vec::new();
    for id in commits {
        if let Some(commit) = history.commit(*id)? {
            found.extend(
                commit
                    .parents
                    .iter()
                    .copied()
                    .filter(|id| !among.contains(id)),
            );
        }
    }
    Ok(found)
}

/// The author lines, dates included, of these commits.
fn authors(history: &dyn History, commits: &[ObjectId]) -> Result<HashSet<Vec<u8>>, EngineError> {
    let mut found = HashSet::new();
    for id in commits {
        found.extend(history.commit(*id)?.map(|commit| commit.author.clone()));
    }
    Ok(found)
}
