//! What happened, held against what is promised.
//!
//! A [`History`] is what the job bucket, the work queue and the remotes recorded: every accepted
//! action, every write of every job's row, every move of every branch. [`History::violations`] says
//! where that breaks a promise:
//!
//! - every accepted action reaches exactly one terminal status, and terminal rows never change;
//! - a row is written by the newest run alone;
//! - runs of one repository never overlap and follow the stream's order;
//! - a job's effect is on the remote once, and nothing is moved there that no job stands for.

mod recorder;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use backstack_schemas::{Job, JobId, JobStatus};

pub use recorder::Recorder;

use crate::ref_log::RefMove;

/// An action that the stream has acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The job.
    pub job: JobId,
    /// The message's place in the stream.
    pub sequence: u64,
}

/// One write of a job's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowWrite {
    /// Its place among all writes of the bucket.
    pub revision: u64,
    /// The row from then on.
    pub job: Job,
}

/// What was recorded.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The accepted actions of each repository.
    pub accepted: BTreeMap<String, Vec<Accepted>>,
    /// Every write of a job's row, in the order of revisions.
    pub writes: Vec<RowWrite>,
    /// Every move of a branch of each repository, in order.
    pub moves: BTreeMap<String, Vec<RefMove>>,
}

/// What is promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// Every accepted action reaches exactly one terminal status.
    EndsOnce,
    /// Terminal rows never change.
    EndStays,
    /// A row is written by its newest run alone.
    NewestRunWrites,
    /// Runs of one repository follow the stream's order and never overlap.
    InOrder,
    /// A job's effect is on the remote once.
    OneEffect,
}

/// A promise that was broken, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub promise: Promise,
    /// Where.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.promise, self.what)
    }
}

/// The writes of one job, in order.
type Life<'a> = Vec<&'a RowWrite>;

impl History {
    /// Notes that an action was accepted. One that is accepted again is the same action.
    pub fn accept(&mut self, repo: &str, job: JobId, sequence: u64) {
        let accepted = self.accepted.entry(repo.to_owned()).or_default();
        if accepted.iter().all(|known| known.job != job) {
            accepted.push(Accepted { job, sequence });
        }
    }

    /// Every broken promise; none is the aim.
    pub fn violations(&self) -> Vec<Violation> {
        let mut lives: BTreeMap<(&str, JobId), Life<'_>> = BTreeMap::new();
        for write in &self.writes {
            let spec = &write.job.spec;
            let life = lives.entry((spec.repo.as_str(), spec.job_id)).or_default();
            life.push(write);
        }
        let mut found = Vec::new();
        for (repo, accepted) in &self.accepted {
            for one in accepted {
                if !lives.contains_key(&(repo.as_str(), one.job)) {
                    let what = format!("{repo} {}: accepted, and there is no row", one.job);
                    found.push(violation(Promise::EndsOnce, what));
                }
            }
        }
        for life in lives.values() {
            check_life(life, &mut found);
        }
        self.check_order(&lives, &mut found);
        for (repo, moves) in &self.moves {
            check_moves(repo, moves, &lives, &mut found);
        }
        found
    }

    /// Panics with every broken promise and the whole history, if there is any.
    #[track_caller]
    pub fn assert_kept(&self) {
        let violations = self.violations();
        assert!(
            violations.is_empty(),
            "{} promises broken:\n{}\nin\n{self}",
            violations.len(),
            lines(&violations)
        );
    }

    fn check_order(&self, lives: &BTreeMap<(&str, JobId), Life<'_>>, found: &mut Vec<Violation>) {
        for (repo, accepted) in &self.accepted {
            let mut accepted = accepted.clone();
            accepted.sort_by_key(|one| one.sequence);
            // The newest end among the earlier ones; unknown where one has not ended.
            let mut ended = Some(0);
            for one in accepted {
                let life = lives.get(&(repo.as_str(), one.job));
                let writes = || life.into_iter().flatten();
                let ran = writes().find(|write| write.job.status == JobStatus::Running);
                if let Some(ran) = ran
                    && ended.is_none_or(|ended| ended > ran.revision)
                {
                    let what = format!(
                        "{repo} {}: number {} runs at revision {}, but those before it ended at {ended:?}",
                        one.job, one.sequence, ran.revision
                    );
                    found.push(violation(Promise::InOrder, what));
                }
                let end = writes().find(|write| write.job.status.is_terminal());
                ended = match (ended, end) {
                    (Some(ended), Some(end)) => Some(ended.max(end.revision)),
                    _ => None,
                };
            }
        }
    }
}

fn violation(promise: Promise, what: String) -> Violation {
    Violation { promise, what }
}

/// What holds for each job by itself.
fn check_life(life: &Life<'_>, found: &mut Vec<Violation>) {
    let Some(last) = life.last() else { return };
    let name = format!("{} {}", last.job.spec.repo, last.job.spec.job_id);
    let terminal = |status: JobStatus| status.is_terminal();
    if !terminal(last.job.status) {
        let what = format!("{name}: is {} in the end", last.job.status);
        found.push(violation(Promise::EndsOnce, what));
    }
    let ends = last.job.transitions.iter();
    let ends = ends.filter(|change| terminal(change.status)).count();
    if ends > 1 {
        let what = format!("{name}: ended {ends} times");
        found.push(violation(Promise::EndsOnce, what));
    }
    for (before, after) in life.iter().zip(life.iter().skip(1)) {
        let at = after.revision;
        if terminal(before.job.status) {
            let what = format!(
                "{name}: written at {at} after it had ended at {}",
                before.revision
            );
            found.push(violation(Promise::EndStays, what));
        }
        let same_run = before.job.run == after.job.run;
        if after.job.run < before.job.run || (same_run && before.job.worker != after.job.worker) {
            let what = format!(
                "{name}: run {} of {} is written at {at} over run {} of {}",
                after.job.run,
                worker(&after.job),
                before.job.run,
                worker(&before.job)
            );
            found.push(violation(Promise::NewestRunWrites, what));
        }
    }
}

fn worker(job: &Job) -> String {
    job.worker
        .as_ref()
        .map_or("nobody".to_owned(), ToString::to_string)
}

/// What holds for the branches of one repository.
fn check_moves(
    repo: &str,
    moves: &[RefMove],
    lives: &BTreeMap<(&str, JobId), Life<'_>>,
    found: &mut Vec<Violation>,
) {
    let jobs: Vec<&Job> = lives
        .iter()
        .filter(|((of, _), _)| *of == repo)
        .filter_map(|(_, life)| Some(&life.last()?.job))
        .collect();
    let by_workers: Vec<_> = moves.iter().filter(|one| one.by.is_none()).collect();
    let mut seen = BTreeSet::new();
    for one in &by_workers {
        if !seen.insert((&one.branch, one.from, one.to)) {
            let what = format!("{repo}: moved twice: {}", shown(one));
            found.push(violation(Promise::OneEffect, what));
        }
    }
    let mut claimed = BTreeSet::new();
    for job in &jobs {
        let told = job.result.iter().flat_map(|result| &result.moved);
        for told in told.filter(|_| !job.spec.dry_run) {
            let branch = told.branch.as_str().to_owned();
            let there = by_workers.iter().any(|one| {
                (one.branch.as_str(), one.from, one.to)
                    == (branch.as_str(), Some(told.from), Some(told.to))
            });
            let id = job.spec.job_id;
            if !there {
                let what = format!("{repo} {id}: says that it moved {branch}, and it did not");
                found.push(violation(Promise::OneEffect, what));
            }
            if !claimed.insert((branch.clone(), told.from, told.to)) {
                let what = format!("{repo} {id}: says that it moved {branch} as another job did");
                found.push(violation(Promise::OneEffect, what));
            }
        }
    }
    // A run that was broken off after its push is not told of in the result of the one that ended.
    let broken_off = jobs.iter().any(|job| job.run > 1);
    for one in by_workers {
        let told = one.from.zip(one.to);
        let told = told.is_some_and(|(from, to)| claimed.contains(&(one.branch.clone(), from, to)));
        if !told && !broken_off {
            let what = format!("{repo}: no job moved {}", shown(one));
            found.push(violation(Promise::OneEffect, what));
        }
    }
}

fn shown(one: &RefMove) -> String {
    let end = |id: Option<backstack_schemas::ObjectId>| {
        id.map_or("nothing".to_owned(), |id| id.to_string()[..10].to_owned())
    };
    format!(
        "{} from {} to {} by {}",
        one.branch,
        end(one.from),
        end(one.to),
        one.by.as_deref().unwrap_or("a worker")
    )
}

fn lines<T: fmt::Display>(items: &[T]) -> String {
    items.iter().map(|item| format!("  {item}\n")).collect()
}

/// Everything that was recorded, one line each.
impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (repo, accepted) in &self.accepted {
            for one in accepted {
                writeln!(f, "accepted {repo} {} as {}", one.job, one.sequence)?;
            }
        }
        for write in &self.writes {
            let job = &write.job;
            let spec = &job.spec;
            writeln!(
                f,
                "{:6} {} {} {} {} run {} attempt {} delivery {:?} by {}: {}",
                write.revision,
                spec.repo,
                spec.job_id,
                spec.action,
                job.status,
                job.run,
                job.attempt,
                job.delivery,
                worker(job),
                job.message
            )?;
        }
        for (repo, moves) in &self.moves {
            for one in moves {
                writeln!(f, "moved {repo} {}", shown(one))?;
            }
        }
        Ok(())
    }
}
