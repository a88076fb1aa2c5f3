//! The judgement of one case: where its commits landed on trunk, and whether they still stand.
//!
//! A *landing* is a place on trunk that has one own commit, or all of them. An own commit is merged
//! where one of its landings has no later commit that undoes it, alone or together with the others.

use std::rc::Rc;

use backstack_schemas::outcome::MergedHow;
use git2::{Oid, Repository};

use super::TreeMerger;
use super::case::{Ancestor, Case, Evidence, OwnCommit};
use super::change::{Change, Undone};
use super::trunk::{Marked, Trunk, is_automatic};
use crate::control::Control;
use crate::error::EngineError;

/// How many times a change is followed through being undone, redone, undone and so on.
const MAX_TURNS: usize = 8;

/// How the case's branch is merged, if it is.
pub(super) fn of(
    repo: &Repository,
    trunk: &Trunk,
    case: &Case,
    merge: &mut dyn TreeMerger,
    control: &Control,
) -> Result<Option<MergedHow>, EngineError> {
    let mut judge = Judge {
        repo,
        trunk,
        merge,
        control,
    };
    judge.how(case)
}

struct Judge<'a> {
    repo: &'a Repository,
    trunk: &'a Trunk,
    merge: &'a mut dyn TreeMerger,
    control: &'a Control,
}

/// A place on trunk at which own commits of the case have arrived.
struct Landing<'a> {
    /// Trunk's commits from before it; any other may undo it.
    before: Marked,
    /// What its commit changed on trunk.
    change: Option<&'a Change>,
}

impl<'a> Judge<'a> {
    fn how(&mut self, case: &Case) -> Result<Option<MergedHow>, EngineError> {
        if !case.own.iter().any(OwnCommit::is_plain) {
            return Ok(None);
        }
        let mut open: Vec<_> = case.own.iter().collect();
        if let Some(ancestor) = &case.ancestor {
            if !self.is_evident(ancestor)? {
                return Ok(None);
            }
            self.settle(case, &self.as_ancestor(case, ancestor), &mut open)?;
            if open.is_empty() {
                return Ok(Some(MergedHow::Ancestor));
            }
        }
        self.landed(case, open)
    }

    /// Whether the commits that are on trunk were ever the branch's own.
    fn is_evident(&mut self, ancestor: &Ancestor) -> Result<bool, EngineError> {
        match &ancestor.evidence {
            Evidence::Recorded => Ok(true),
            Evidence::Rebased(recorded) => {
                let own = recorded.own.iter().collect();
                Ok(self.landed(recorded, own)?.is_some())
            }
        }
    }

    /// The landing of a branch whose head is in trunk: the merge that brought it there, or the head
    /// itself.
    fn as_ancestor<'c>(&self, case: &Case, ancestor: &'c Ancestor) -> Landing<'c> {
        let before_merge = ancestor
            .merge
            .and_then(|position| self.trunk.first_parent(position));
        let heads: Vec<Oid> = before_merge.into_iter().chain(case.since.clone()).collect();
        Landing {
            before: self.trunk.in_history(&heads),
            change: ancestor.merged.as_ref(),
        }
    }

    /// How the commits in `open` are in trunk's new commits; `None` where one of them is not.
    fn landed<'c>(
        &mut self,
        case: &'c Case,
        mut open: Vec<&'c OwnCommit>,
    ) -> Result<Option<MergedHow>, EngineError> {
        self.settle_singly(case, &mut open)?;
        if open.is_empty() {
            return Ok(Some(MergedHow::PatchId));
        }
        self.settle_together(case, &mut open)?;
        Ok(open.is_empty().then_some(MergedHow::Squash))
    }

    /// Takes out of `open` each commit that has a trunk commit to itself.
    fn settle_singly(
        &mut self,
        case: &Case,
        open: &mut Vec<&OwnCommit>,
    ) -> Result<(), EngineError> {
        try_retain(open, |own| match own {
            OwnCommit::Plain(change) => Ok(!self.landed_singly(case, change)?),
            _ => Ok(true),
        })?;
        // Merging is dear, and of use only where the merges are all that is open.
        if open.iter().any(|own| own.is_plain()) {
            return Ok(());
        }
        try_retain(open, |own| match own {
            OwnCommit::Merge { tree, ours, theirs } => {
                Ok(!is_automatic(*tree, *ours, *theirs, self.merge)?)
            }
            _ => Ok(true),
        })
    }

    /// Whether some trunk commit is exactly `change`, and stands.
    fn landed_singly(&mut self, case: &Case, change: &Change) -> Result<bool, EngineError> {
        let trunk = self.trunk;
        for (position, landed) in trunk.touching(change.paths.forward) {
            if self.is_landing(case, change, position, landed)?
                && !self.is_undone(case, Some(change), &self.at(position, landed))?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Takes out of `open` the commits that stand on trunk since all of them landed as one.
    fn settle_together(
        &mut self,
        case: &Case,
        open: &mut Vec<&OwnCommit>,
    ) -> Result<(), EngineError> {
        let trunk = self.trunk;
        let whole = case.together.iter().map(|change| (change, None));
        let part = case
            .above
            .iter()
            .map(|change| (change, case.chain.as_ref()));
        for (change, part) in whole.chain(part) {
            for (position, landed) in trunk.touching(change.paths.forward) {
                if !open.is_empty()
                    && self.is_landing(case, change, position, landed)?
                    && self.holds(landed, part)?
                {
                    self.settle(case, &self.at(position, landed), open)?;
                }
            }
        }
        Ok(())
    }

    /// Takes out of `open` the commits that stand on trunk since `landing`, which has them all.
    fn settle(
        &mut self,
        case: &Case,
        landing: &Landing<'_>,
        open: &mut Vec<&OwnCommit>,
    ) -> Result<(), EngineError> {
        try_retain(open, |own| self.is_undone(case, own.change(), landing))
    }

    fn at<'c>(&self, position: usize, change: &'c Change) -> Landing<'c> {
        Landing {
            before: self.trunk.in_history(&[self.trunk.id(position)]),
            change: Some(change),
        }
    }

    /// Whether the trunk commit at `position` is exactly `change`, and trunk still carries it.
    fn is_landing(
        &mut self,
        case: &Case,
        change: &Change,
        position: usize,
        landed: &Change,
    ) -> Result<bool, EngineError> {
        self.control.check()?;
        Ok(change.resembles(landed, self.repo)?
            && self.is_new(case, position)?
            && change.is_exactly(landed, self.merge)?
            && self.trunk.carries(position, self.merge)?)
    }

    /// Whether the branch does not have the trunk commit itself. A walk may list commits that it
    /// should hide where clocks were wrong; this asks the graph.
    fn is_new(&self, case: &Case, position: usize) -> Result<bool, EngineError> {
        let id = self.trunk.id(position);
        for base in &case.since {
            if *base == id || self.repo.graph_descendant_of(*base, id)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether what landed with a chain holds `part`: a branch further up may have taken it back.
    fn holds(&mut self, landed: &Change, part: Option<&Rc<Change>>) -> Result<bool, EngineError> {
        part.map_or(Ok(true), |part| part.is_held_by(landed.to, self.merge))
    }

    /// Whether a commit from after the landing undoes `own`, or everything that it came with.
    fn is_undone(
        &mut self,
        case: &Case,
        own: Option<&Change>,
        landing: &Landing<'_>,
    ) -> Result<bool, EngineError> {
        let together = case.together.iter().chain(&case.above).map(Rc::as_ref);
        for change in own.into_iter().chain(landing.change).chain(together) {
            if self.is_taken_back(change, &landing.before, Certainty::Possible, 0)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a commit that is not from `before` undoes `change`, and is not itself taken back.
    ///
    /// What is asked of that commit turns around with each step: a possible undo is enough to doubt
    /// the change, and only a certain undo of the undo settles the doubt.
    fn is_taken_back(
        &mut self,
        change: &Change,
        before: &Marked,
        certainty: Certainty,
        depth: usize,
    ) -> Result<bool, EngineError> {
        let trunk = self.trunk;
        for (position, later) in trunk.touching_within(change) {
            if before.has(position) || !self.undoes(position, later, change, certainty)? {
                continue;
            }
            let until = self.trunk.in_history(&[self.trunk.id(position)]);
            let other = certainty.other();
            if depth == MAX_TURNS {
                return Ok(certainty == Certainty::Possible);
            }
            if !self.is_taken_back(later, &until, other, depth + 1)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn undoes(
        &mut self,
        position: usize,
        later: &Change,
        change: &Change,
        certainty: Certainty,
    ) -> Result<bool, EngineError> {
        // Where part of the change was gone already, what undoes the rest looks like less than its
        // inverse, and only the merge tells.
        let looks_so = change.may_be_undone_by(later, self.repo)?;
        if !looks_so && certainty == Certainty::Certain {
            return Ok(false);
        }
        self.control.check()?;
        let undone = change.undone_by(later, self.merge)?;
        match certainty {
            Certainty::Possible if looks_so => Ok(undone != Undone::No),
            Certainty::Possible => Ok(undone == Undone::Exactly),
            Certainty::Certain => {
                Ok(undone == Undone::Exactly && self.trunk.carries(position, self.merge)?)
            }
        }
    }
}

/// How sure it has to be that a commit undoes another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Certainty {
    Possible,
    Certain,
}

impl Certainty {
    fn other(self) -> Self {
        match self {
            Self::Possible => Self::Certain,
            Self::Certain => Self::Possible,
        }
    }
}

/// [`Vec::retain`] for a question that may fail.
fn try_retain<T>(
    items: &mut Vec<T>,
    mut keep: impl FnMut(&T) -> Result<bool, EngineError>,
) -> Result<(), EngineError> {
    let mut kept = Vec::with_capacity(items.len());
    for item in items.drain(..) {
        if keep(&item)? {
            kept.push(item);
        }
    }
    *items = kept;
    Ok(())
}
