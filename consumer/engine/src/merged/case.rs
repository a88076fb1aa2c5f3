//! A branch in question: its own commits, and what they change one by one and together.

use std::collections::HashMap;
use std::rc::Rc;

use backstack_schemas::BranchName;
use git2::{ErrorCode, Oid, Repository};

use super::Candidate;
use super::change::Change;
use super::trunk::Trunk;
use crate::error::EngineError;
use crate::tree_diff::oid;

/// A branch with more own commits than this is not judged.
const MAX_OWN: usize = 2_000;

/// A branch with at least one own commit that changes something.
pub(super) struct Case {
    pub branch: BranchName,
    parent: BranchName,
    head: Oid,
    base: Oid,
    /// Own commits that change something, newest first.
    pub own: Vec<OwnCommit>,
    /// Their changes together: the branch's, and the chain's from trunk up to it.
    pub together: Vec<Rc<Change>>,
    /// The chain's change from trunk up to the branch; the branch's where it stands on trunk.
    pub chain: Option<Rc<Change>>,
    /// The chains up to branches that stand on this one and have its head in their histories. What
    /// such a branch took back of this one is not in them.
    pub above: Vec<Rc<Change>>,
    /// Merge bases of the head and trunk: what is new on trunk is in none of their histories.
    pub since: Vec<Oid>,
    /// Set where the head is an ancestor of trunk.
    pub ancestor: Option<Ancestor>,
}

/// An own commit.
pub(super) enum OwnCommit {
    /// With one parent.
    Plain(Change),
    /// A merge of two commits into `tree`; it changes something where git by itself would have made
    /// another tree.
    Merge { tree: Oid, ours: Oid, theirs: Oid },
    /// A root commit or a merge of more than two: what it changes cannot be told.
    Opaque,
}

/// What is known of a branch whose head is an ancestor of trunk.
pub(super) struct Ancestor {
    /// The merge on trunk's line that brought it in; `None` where it is on the line itself.
    pub merge: Option<usize>,
    /// What that merge changed on trunk.
    pub merged: Option<Change>,
    /// Why its own commits are known to be the branch's and not trunk's.
    pub evidence: Evidence,
}

/// Whether commits now on trunk were the branch's before.
pub(super) enum Evidence {
    /// One of them was on the branch when its head was last recorded.
    Recorded,
    /// None was, but the commits that were may have landed rebased.
    Rebased(Box<Case>),
}

impl Case {
    /// The case of `candidate`; `None` where it cannot be merged, or nobody can say.
    pub fn of(
        repo: &Repository,
        trunk: Oid,
        candidate: &Candidate,
    ) -> Result<Option<Self>, EngineError> {
        let Some(base) = candidate.base else {
            return Ok(None);
        };
        let (base, head) = (oid(base)?, oid(candidate.head)?);
        if !has_commit(repo, base)? || !has_commit(repo, head)? {
            return Ok(None);
        }
        let since = merge_bases(repo, head, trunk)?;
        match since[..] {
            [] => Ok(None),
            [only] if only == head => Self::on_trunk(repo, trunk, candidate, base, head),
            _ => Self::beside_trunk(repo, trunk, candidate, base, head, since),
        }
    }

    /// The case of a branch whose head is not in trunk.
    fn beside_trunk(
        repo: &Repository,
        trunk: Oid,
        candidate: &Candidate,
        base: Oid,
        head: Oid,
        since: Vec<Oid>,
    ) -> Result<Option<Self>, EngineError> {
        let mut hidden = vec![base, trunk];
        let mut starts = since.clone();
        if is_ancestor(repo, base, head)? {
            starts.push(base);
        }
        if let Some(parent) = candidate.parent_head.map(oid).transpose()?
            && has_commit(repo, parent)?
        {
            hidden.push(parent);
            starts.extend(merge_bases(repo, head, parent)?);
        }
        let Some(own) = own_commits(repo, head, &hidden)? else {
            return Ok(None);
        };
        let whole = match newest(repo, starts)?[..] {
            [start] => change(repo, start, head)?,
            _ => None,
        };
        let chain = match since[..] {
            [start] => change(repo, start, head)?,
            _ => None,
        };
        Ok(Some(Self {
            branch: candidate.branch.clone(),
            parent: candidate.parent.clone(),
            head,
            base,
            own,
            together: together(whole, chain.clone()),
            chain,
            above: Vec::new(),
            since,
            ancestor: None,
        }))
    }

    /// The case of a branch whose head is an ancestor of trunk, or trunk's own.
    fn on_trunk(
        repo: &Repository,
        trunk: Oid,
        candidate: &Candidate,
        base: Oid,
        head: Oid,
    ) -> Result<Option<Self>, EngineError> {
        let Some(own) = own_commits(repo, head, &[base])? else {
            return Ok(None);
        };
        let Some(evidence) = evidence(repo, trunk, candidate, base, head)? else {
            return Ok(None);
        };
        Ok(Some(Self {
            branch: candidate.branch.clone(),
            parent: candidate.parent.clone(),
            head,
            base,
            own,
            together: change(repo, base, head)?.into_iter().collect(),
            chain: None,
            above: Vec::new(),
            since: vec![head],
            ancestor: Some(Ancestor {
                merge: None,
                merged: None,
                evidence,
            }),
        }))
    }

    /// Finds the merge that brought the head into trunk, and leaves out of the own commits what was
    /// on trunk before it.
    pub fn find_merge(&mut self, repo: &Repository, trunk: &Trunk) -> Result<(), EngineError> {
        let Some(ancestor) = &mut self.ancestor else {
            return Ok(());
        };
        ancestor.merge = trunk.merge_of(self.head);
        if let Some(position) = ancestor.merge {
            ancestor.merged = trunk.read_change(repo, position)?;
            let before: Vec<_> = trunk.first_parent(position).into_iter().collect();
            let hidden = [&before[..], &[self.base]].concat();
            self.own = own_commits(repo, self.head, &hidden)?.unwrap_or_default();
        }
        Ok(())
    }

    /// The commits from which on trunk has to be looked at.
    pub fn starts(&self) -> Vec<Oid> {
        let mut starts = self.since.clone();
        if let Some(Evidence::Rebased(recorded)) = self.ancestor.as_ref().map(|a| &a.evidence) {
            starts.extend_from_slice(&recorded.since);
        }
        starts
    }

    /// All changes that have to be looked for on trunk.
    pub fn changes(&self) -> impl Iterator<Item = &Change> {
        let recorded = match self.ancestor.as_ref().map(|a| &a.evidence) {
            Some(Evidence::Rebased(recorded)) => Some(recorded),
            _ => None,
        };
        let merged = self.ancestor.as_ref().and_then(|a| a.merged.as_ref());
        self.plain_changes()
            .chain(merged)
            .chain(recorded.into_iter().flat_map(|case| case.plain_changes()))
    }

    fn plain_changes(&self) -> impl Iterator<Item = &Change> {
        let own = self.own.iter().filter_map(OwnCommit::change);
        let together = self.together.iter().chain(&self.above);
        own.chain(together.map(Rc::as_ref))
    }
}

/// Adds to each case the chains of the branches that stand on it: squashed together with them, it is
/// merged as well.
pub(super) fn share_chains(repo: &Repository, cases: &mut [Case]) -> Result<(), EngineError> {
    let by_name: HashMap<_, _> = cases
        .iter()
        .enumerate()
        .map(|(at, case)| (case.branch.clone(), at))
        .collect();
    for top in 0..cases.len() {
        let Some(chain) = cases[top].chain.clone() else {
            continue;
        };
        let mut at = top;
        // Rows may hold a circle of parents; no chain is longer than there are cases.
        for _ in 0..cases.len() {
            let Some(&below) = by_name.get(&cases[at].parent) else {
                break;
            };
            let lower = &cases[below];
            if lower.ancestor.is_some() || !is_ancestor(repo, lower.head, cases[top].head)? {
                break;
            }
            cases[below].above.push(Rc::clone(&chain));
            at = below;
        }
    }
    Ok(())
}

/// Why the commits from `base` to `head`, all in trunk, are known to be the branch's own; `None`
/// where they are not.
fn evidence(
    repo: &Repository,
    trunk: Oid,
    candidate: &Candidate,
    base: Oid,
    head: Oid,
) -> Result<Option<Evidence>, EngineError> {
    let Some(recorded) = candidate.recorded_head.map(oid).transpose()? else {
        return Ok(None);
    };
    if !has_commit(repo, recorded)? {
        return Ok(None);
    }
    let shared = merge_bases(repo, head, recorded)?;
    for commit in shared {
        if own_commits(repo, commit, &[base])?.is_some() {
            return Ok(Some(Evidence::Recorded));
        }
    }
    let since = merge_bases(repo, recorded, trunk)?;
    if since.is_empty() || since[..] == [recorded] {
        return Ok(None);
    }
    let rebased = Case::beside_trunk(repo, trunk, candidate, base, recorded, since)?;
    Ok(rebased.map(|case| Evidence::Rebased(Box::new(case))))
}

/// Commits of `head` that are in no history of `hidden` and may change something; `None` where no
/// plain one does, or there are too many.
fn own_commits(
    repo: &Repository,
    head: Oid,
    hidden: &[Oid],
) -> Result<Option<Vec<OwnCommit>>, EngineError> {
    let mut walk = repo.revwalk()?;
    walk.push(head)?;
    for id in hidden {
        walk.hide(*id)?;
    }
    let mut own = Vec::new();
    for (count, id) in walk.enumerate() {
        if count == MAX_OWN {
            return Ok(None);
        }
        own.extend(OwnCommit::read(repo, id?)?);
    }
    let changes = own.iter().any(OwnCommit::is_plain);
    Ok(changes.then_some(own))
}

impl OwnCommit {
    /// Whether what it changes is known.
    pub fn is_plain(&self) -> bool {
        self.change().is_some()
    }

    /// What it changes, where that is known.
    pub fn change(&self) -> Option<&Change> {
        match self {
            Self::Plain(change) => Some(change),
            _ => None,
        }
    }

    /// The commit; `None` where it has one parent and changes nothing.
    fn read(repo: &Repository, id: Oid) -> Result<Option<Self>, EngineError> {
        let commit = repo.find_commit(id)?;
        let parents: Vec<_> = commit.parent_ids().collect();
        Ok(match parents[..] {
            [parent] => {
                let before = repo.find_commit(parent)?.tree_id();
                Change::between(repo, before, commit.tree_id())?.map(Self::Plain)
            }
            [ours, theirs] => Some(Self::Merge {
                tree: commit.tree_id(),
                ours,
                theirs,
            }),
            _ => Some(Self::Opaque),
        })
    }
}

/// What the commit `to` has other than the commit `from`.
fn change(repo: &Repository, from: Oid, to: Oid) -> Result<Option<Rc<Change>>, EngineError> {
    let tree = |id| repo.find_commit(id).map(|commit| commit.tree_id());
    Ok(Change::between(repo, tree(from)?, tree(to)?)?.map(Rc::new))
}

/// Both, or one where they are the same.
fn together(whole: Option<Rc<Change>>, chain: Option<Rc<Change>>) -> Vec<Rc<Change>> {
    let same = match (&whole, &chain) {
        (Some(whole), Some(chain)) => (whole.from, whole.to) == (chain.from, chain.to),
        _ => false,
    };
    let chain = chain.filter(|_| !same);
    whole.into_iter().chain(chain).collect()
}

/// Those of `commits` that are in no other's history.
fn newest(repo: &Repository, mut commits: Vec<Oid>) -> Result<Vec<Oid>, EngineError> {
    commits.sort_unstable();
    commits.dedup();
    let mut newest = Vec::new();
    for commit in &commits {
        let mut older = false;
        for other in &commits {
            older = older || (other != commit && is_ancestor(repo, *commit, *other)?);
        }
        if !older {
            newest.push(*commit);
        }
    }
    Ok(newest)
}

fn is_ancestor(repo: &Repository, ancestor: Oid, of: Oid) -> Result<bool, EngineError> {
    Ok(ancestor == of || repo.graph_descendant_of(of, ancestor)?)
}

fn merge_bases(repo: &Repository, one: Oid, two: Oid) -> Result<Vec<Oid>, EngineError> {
    match repo.merge_bases(one, two) {
        Ok(bases) => Ok(bases.to_vec()),
        Err(error) if error.code() == ErrorCode::NotFound => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

fn has_commit(repo: &Repository, id: Oid) -> Result<bool, EngineError> {
    match repo.find_commit(id) {
        Ok(_) => Ok(true),
        Err(error) if error.code() == ErrorCode::NotFound => Ok(false),
        Err(error) => Err(error.into()),
    }
}
