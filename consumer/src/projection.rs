//! The post-sync: branch rows as the mirror and the action leave them, written where they changed.
//!
//! What a row says of commits (counts, diffs, whether it conflicts with trunk) is worked out only
//! where what it depends on is another than in the row before, so that a repository of ten thousand
//! branches costs a listing.

use std::collections::BTreeMap;

use backstack_engine::facts::{head_facts, stack_facts};
use backstack_engine::mirror::{Mirror, to_oid};
use backstack_engine::replay::Merger;
use backstack_engine::{Control, EngineError};
use backstack_producer::rows::{Updated, Write};
use backstack_schemas::topology::{Bucket, branch_key};
use backstack_schemas::{
    Branch, BranchName, ErrorCode, JobError, ObjectId, RepoId, Step, Timestamp,
};

use crate::run::{Halt, Run};
use crate::workflow::branch_rows::KnownRows;
use crate::workflow::failure::unreadable;
use crate::workflow::session::Session;
use crate::workflow::timing::timed;
use crate::workflow::{Context, sync_row};

/// Brings the branch rows in the bucket up to the session's, and the repository's row with them. A dry
/// run writes nothing.
///
/// # Errors
/// [`Halt`]: the mirror could not be read, a bucket did not answer, or somebody else writes the same
/// rows.
pub async fn write(context: &Context, run: &Run, session: &mut Session) -> Result<(), Halt> {
    if run.spec.dry_run {
        return Ok(());
    }
    run.enter(Step::Rows, "Writing branch rows", 0);
    // Of branches that left their stack in this run, those that are gone from the remote as well.
    session
        .rows
        .retain(|_, row| row.head.is_some() || row.is_kept());
    timed("facts", fill_in(run, session)).await?;
    timed("rows", async {
        write_changes(context, session).await?;
        sync_row::note_success(context, run, session).await
    })
    .await
}

/// Works out what rows say of commits, and pins the commits that rows name.
async fn fill_in(run: &Run, session: &mut Session) -> Result<(), Halt> {
    let named = session.named_commits();
    if session.outlook.is_settled(&named) && is_complete(&session.before, &session.rows) {
        return Ok(());
    }
    let (before, control) = (session.before.clone(), run.control.clone());
    let mut rows = std::mem::take(&mut session.rows);
    session.rows = session
        .with_mirror(move |mirror| {
            follow_trunk(mirror, &before, &mut rows)?;
            Facts {
                mirror,
                control: &control,
                merger: None,
            }
            .fill_in(&before, &mut rows)?;
            mirror.set_pins(&named)?;
            mirror.maintain(&control)?;
            Ok(rows)
        })
        .await?;
    Ok(())
}

/// Writes the rows that are another than before, and removes those that are gone.
///
/// A run may be killed between any two writes, and the next one has nothing but the rows to see what is
/// still to be done. So they go in an order, each group only when the one before is written:
///
/// 1. Rows whose branch has not moved. Their facts hang on the heads in other rows: were the parent's
///    new head written and the row itself not, the next run would find nothing changed that the facts
///    depend on, and leave them as they are for good.
/// 2. Rows whose branch has moved.
/// 3. Rows of branches that leave their stack. Only they tell what is to become of the branches that
///    stood on them.
async fn write_changes(context: &Context, session: &mut Session) -> Result<(), Halt> {
    let repo = session.repo.value.repo.clone();
    let changes = changes(&repo, session, context.now());
    if changes.is_empty() {
        return Ok(());
    }
    let stays = |branch: &BranchName| {
        let known = session.before.get(branch).map(|known| known.value.head);
        known.is_some() && known == session.rows.get(branch).map(|row| row.head)
    };
    let leaves = |branch: &BranchName| {
        let was_tracked = session
            .before
            .get(branch)
            .is_some_and(|known| known.value.tracked);
        was_tracked && session.rows.get(branch).is_none_or(|row| !row.tracked)
    };
    let (leaving, others): (Vec<_>, Vec<_>) =
        changes.into_iter().partition(|(branch, _)| leaves(branch));
    let (stay, moved): (Vec<_>, Vec<_>) = others.into_iter().partition(|(branch, _)| stays(branch));
    let mut known = (*session.before).clone();
    for changes in [stay, moved, leaving] {
        let (branches, writes): (Vec<_>, Vec<_>) = changes.into_iter().unzip();
        let written = context.rows().write_all(Bucket::Branches, writes).await;
        for (branch, outcome) in branches.into_iter().zip(written) {
            match outcome.map_err(unreadable)? {
                Updated::Done(revision) => {
                    known.note(&branch, session.rows.get(&branch), revision);
                }
                Updated::Lost { .. } => {
                    context.branch_rows().forget(&repo);
                    return Err(overtaken(&branch).into());
                }
            }
        }
    }
    context.branch_rows().keep(&repo, known);
    Ok(())
}

/// What there is to write, each write expecting the row that was read.
fn changes(repo: &RepoId, session: &mut Session, now: Timestamp) -> Vec<(BranchName, Write)> {
    let (before, rows) = (&session.before, &mut session.rows);
    let gone = before
        .iter()
        .filter(|(branch, _)| !rows.contains_key(*branch));
    let mut changes: Vec<_> = gone
        .map(|(branch, known)| {
            let write = Write::delete(branch_key(repo, branch)).expecting(known.revision);
            (branch.clone(), write)
        })
        .collect();
    for (branch, row) in rows {
        let known = before.get(branch);
        if known.is_some_and(|known| !is_changed(&known.value, row)) {
            continue;
        }
        row.updated_at = now;
        let write = Write::put(branch_key(repo, branch), row);
        let write = match known {
            Some(known) => write.expecting(known.revision),
            // Where there was none, a deleted one's marker may stand; it has a revision too.
            None => write,
        };
        changes.push((branch.clone(), write));
    }
    changes
}

/// Only the run that has the repository writes its branch rows, so another writer means that this
/// run was replaced, or that somebody edits rows by hand; another attempt reads them anew.
fn overtaken(branch: &BranchName) -> JobError {
    let detail = format!("The row of {branch} was changed by somebody else while this job ran");
    JobError::new(ErrorCode::Internal, detail)
}

/// Whether anything but the time of the change differs.
fn is_changed(before: &Branch, after: &Branch) -> bool {
    let but_for_time = || Branch {
        updated_at: after.updated_at,
        ..before.clone()
    };
    // Nearly always nothing differs at all, and then nothing is copied.
    before != after && but_for_time() != *after
}

/// Whether the rows are as the bucket has them, and say of commits all that they should.
fn is_complete(before: &KnownRows, rows: &BTreeMap<BranchName, Branch>) -> bool {
    let stand = standings(rows.iter());
    let is_complete = |(branch, row): (&BranchName, &Branch)| {
        let known = before.get(branch).map(|known| &known.value);
        let has_facts = match stand.get(branch) {
            Some(_) => row.ahead.is_some(),
            None => is_clear(row),
        };
        known.is_some_and(|known| !is_changed(known, row))
            && (row.head.is_none() || row.subject.is_some())
            && has_facts
    };
    before.iter().count() == rows.len() && rows.iter().all(is_complete)
}

/// What the facts of a stacked branch depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Standing {
    head: ObjectId,
    parent_head: ObjectId,
    base: Option<ObjectId>,
    trunk_head: ObjectId,
}

/// The standings of all branches that have facts: those in a stack or with a task that are on the
/// remote, as is what they stand on. A task's branch that is in no stack is held against trunk.
fn standings<'a>(
    rows: impl Iterator<Item = (&'a BranchName, &'a Branch)>,
) -> BTreeMap<BranchName, Standing> {
    let rows: BTreeMap<_, _> = rows.collect();
    let trunk_head = rows
        .values()
        .find(|row| row.is_trunk)
        .and_then(|row| row.head);
    let standing = |row: &Branch| {
        let parent_head = match &row.parent {
            Some(parent) => rows.get(parent)?.head,
            None => trunk_head,
        };
        Some(Standing {
            head: row.head.filter(|_| row.is_kept() && !row.is_trunk)?,
            parent_head: parent_head?,
            base: row.base,
            trunk_head: trunk_head?,
        })
    };
    rows.iter()
        .filter_map(|(branch, row)| Some(((*branch).clone(), standing(row)?)))
        .collect()
}

/// A branch that had no commit of its own and moved along with trunk still has none: its base moves
/// along, or else the commits of trunk would look like its own that trunk has got, and the branch
/// like one that was merged.
fn follow_trunk(
    mirror: &Mirror,
    before: &KnownRows,
    rows: &mut BTreeMap<BranchName, Branch>,
) -> Result<(), EngineError> {
    let trunk = rows
        .values()
        .find(|row| row.is_trunk)
        .and_then(|row| row.head);
    let Some(trunk) = trunk else { return Ok(()) };
    for (branch, row) in rows.iter_mut().filter(|(_, row)| row.tracked) {
        let known = before.get(branch).map(|known| &known.value);
        let was_empty = known.is_some_and(|known| known.head.is_some() && known.head == known.base);
        let (Some(head), Some(known)) = (row.head, known.filter(|_| was_empty)) else {
            continue;
        };
        if known.head == Some(head) || known.base != row.base {
            continue;
        }
        let (head_oid, trunk_oid) = (to_oid(head), to_oid(trunk));
        if head == trunk || mirror.repo().graph_descendant_of(trunk_oid, head_oid)? {
            row.base = Some(head);
        }
    }
    Ok(())
}

/// Works facts out from a mirror.
struct Facts<'a> {
    mirror: &'a Mirror,
    control: &'a Control,
    merger: Option<Merger>,
}

impl Facts<'_> {
    fn fill_in(
        &mut self,
        before: &KnownRows,
        rows: &mut BTreeMap<BranchName, Branch>,
    ) -> Result<(), EngineError> {
        let stood = standings(before.iter().map(|(branch, row)| (branch, &row.value)));
        let stand = standings(rows.iter());
        for (branch, row) in rows {
            self.control.check()?;
            self.head(row, before.get(branch).map(|known| &known.value))?;
            match stand.get(branch) {
                None => clear(row),
                Some(now) if stood.get(branch) == Some(now) && row.ahead.is_some() => {}
                Some(now) => self.stack(row, *now)?,
            }
        }
        Ok(())
    }

    fn head(&self, row: &mut Branch, known: Option<&Branch>) -> Result<(), EngineError> {
        let Some(head) = row.head else { return Ok(()) };
        if known.is_some_and(|known| known.head == Some(head) && known.subject.is_some()) {
            return Ok(());
        }
        let facts = head_facts(self.mirror.repo(), head)?;
        row.subject = Some(facts.subject);
        row.author = Some(facts.author);
        row.committed_at = facts.committed_at;
        Ok(())
    }

    fn stack(&mut self, row: &mut Branch, now: Standing) -> Result<(), EngineError> {
        let merger = match self.merger.as_mut() {
            Some(merger) => merger,
            None => {
                let (path, git) = (self.mirror.path(), self.mirror.git());
                self.merger.insert(Merger::open(path, git, self.control)?)
            }
        };
        let repo = self.mirror.repo();
        let facts = stack_facts(
            repo,
            now.head,
            now.parent_head,
            now.base,
            now.trunk_head,
            merger,
        )?;
        row.ahead = Some(facts.ahead);
        row.behind = Some(facts.behind);
        row.needs_restack = Some(facts.needs_restack);
        row.conflicts_with_trunk = Some(facts.conflicts_with_trunk);
        row.diff = Some(facts.diff);
        Ok(())
    }
}

/// A branch that has no facts.
fn clear(row: &mut Branch) {
    row.ahead = None;
    row.behind = None;
    row.needs_restack = None;
    row.conflicts_with_trunk = None;
    row.diff = None;
}

/// Whether it has none.
fn is_clear(row: &Branch) -> bool {
    row.ahead.is_none()
        && row.behind.is_none()
        && row.needs_restack.is_none()
        && row.conflicts_with_trunk.is_none()
        && row.diff.is_none()
}
