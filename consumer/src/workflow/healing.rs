//! Branches that leave their stack: merged, become empty, or unregistered. Their children get what
//! they stood on, and a base that keeps the commits of the one that left out of the children's own.

use backstack_engine::heal::{self, Healed};
use backstack_engine::merged::{Candidate, find};
use backstack_engine::replay::Merger;
use backstack_schemas::outcome::{Merged, Reparented};
use backstack_schemas::{Branch, BranchName, Step};

use super::history;
use super::session::{Session, stop_tracking};
use crate::run::{Halt, Run};

/// Takes branches out of their stack, in the session's rows and in the job's result; returns how many
/// children got another parent.
///
/// # Errors
/// The history could not be read, or the run was stopped.
pub async fn untrack(
    run: &Run,
    session: &mut Session,
    branches: Vec<BranchName>,
) -> Result<usize, Halt> {
    if branches.is_empty() {
        return Ok(0);
    }
    let (mut stack, control) = (session.stack(), run.control.clone());
    let leaving = branches.clone();
    let healed = session
        .with_mirror(move |mirror| {
            history::with(mirror, &control, |history| {
                let mut healed = Vec::new();
                for branch in &leaving {
                    healed.extend(heal::untrack(&mut stack, branch, history)?);
                }
                Ok(healed)
            })?
        })
        .await?;
    for branch in &branches {
        session.rows.get_mut(branch).map(stop_tracking);
    }
    // A child that loses several parents in a row is named once, with the last of them.
    let children = healed.len();
    for child in healed {
        adopt(session, child);
    }
    Ok(children)
}

fn adopt(session: &mut Session, child: Healed) {
    let Some(row) = session
        .rows
        .get_mut(&child.branch)
        .filter(|row| row.tracked)
    else {
        return;
    };
    row.parent = Some(child.to.clone());
    row.base = child.base;
    let known = session
        .result
        .reparented
        .iter_mut()
        .find(|known| known.branch == child.branch);
    match known {
        Some(known) => known.to = child.to,
        None => session.result.reparented.push(Reparented {
            branch: child.branch,
            from: child.from,
            to: child.to,
        }),
    }
}

/// Finds the branches that were merged and takes them out of their stacks.
///
/// # Errors
/// The history could not be read, or the run was stopped.
pub async fn heal_merged(run: &Run, session: &mut Session) -> Result<(), Halt> {
    run.enter(Step::Plan, "Looking for merged branches", 0);
    let tracked = session.rows.values().filter(|row| row.tracked);
    let candidates: Vec<_> = tracked.filter_map(|row| candidate(session, row)).collect();
    let Some((_, trunk)) = session
        .on_remote(&session.trunk)
        .filter(|_| !candidates.is_empty())
    else {
        return Ok(());
    };
    let control = run.control.clone();
    let found = session
        .with_mirror(move |mirror| {
            let mut merger = Merger::open(mirror.path(), mirror.git(), &control)?;
            find(mirror.repo(), trunk, &candidates, &mut merger, &control)
        })
        .await?;
    let into = session.trunk.clone();
    let merged = found.iter().map(|(branch, _)| branch.clone()).collect();
    session
        .result
        .merged
        .extend(found.into_iter().map(|(branch, how)| Merged {
            branch,
            into: into.clone(),
            how,
        }));
    untrack(run, session, merged).await?;
    Ok(())
}

/// A tracked branch as merged detection takes it. Where the branch is gone from the remote, the head
/// that it had counts.
fn candidate(session: &Session, row: &Branch) -> Option<Candidate> {
    let parent = row.parent.clone()?;
    Some(Candidate {
        branch: row.branch.clone(),
        base: row.base,
        head: row.head.or_else(|| row.former_heads.first().copied())?,
        recorded_head: session
            .before
            .get(&row.branch)
            .and_then(|known| known.value.head),
        parent_head: session.rows.get(&parent).and_then(|parent| parent.head),
        parent,
    })
}
