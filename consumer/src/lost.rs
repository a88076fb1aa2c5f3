//! Jobs whose message is gone: somebody deleted it, so nobody will ever run them.
//!
//! Every worker looks through the job rows now and then. A row that has not ended, and whose message
//! the stream's leader does not have, ends as `lost`. Whether it has the message is judged by the message
//! and not by its sequence alone: in a stream that was made anew, another message may have it. A job that
//! was published again there is not lost.
//!
//! No job of a live worker is hit: its message leaves the stream only after its row has ended. Where
//! somebody deleted the message of a job that runs, its worker may well finish it; such a row has to stay
//! as it is for as long as an attempt may take, measured here, before it counts as lost.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use backstack_producer::api::ApiError;
use backstack_producer::rows::{Keys, Row, RowError, Updated};
use backstack_schemas::topology::{Bucket, job_key};
use backstack_schemas::{ErrorCode, Job, JobError, JobEvent, JobStatus, RepoId};
use serde::Deserialize;
use tokio::time::Instant;

use crate::message::StoredMessage;
use crate::runner::Runner;

/// The part of a job's row that tells whether its message ought to be there.
#[derive(Deserialize)]
struct Expecting {
    repo: RepoId,
    status: JobStatus,
    sequence: Option<u64>,
}

/// The stream or the bucket did not answer.
#[derive(Debug, thiserror::Error)]
enum NoAnswer {
    #[error(transparent)]
    Stream(#[from] ApiError),
    #[error(transparent)]
    Rows(#[from] RowError),
}

/// Running jobs without a message: the revision of each one's row, and since when it is the same.
type Orphans = HashMap<String, (u64, Instant)>;

/// Looks for lost jobs every five ack waits, until the worker drains.
pub async fn watch_for_lost_jobs(runner: Arc<Runner>) {
    let pause = (runner.limits.ack_wait * 5).max(Duration::from_secs(5));
    let mut orphans = Orphans::new();
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = runner.drain.cancelled() => return,
        }
        match end_lost_jobs(&runner, &mut orphans).await {
            Ok(0) => {}
            Ok(lost) => tracing::error!(lost, "jobs were lost: their messages are gone"),
            Err(error) => tracing::warn!(%error, "could not look for lost jobs"),
        }
    }
}

/// Ends every job whose message is gone; returns how many.
async fn end_lost_jobs(runner: &Runner, orphans: &mut Orphans) -> Result<usize, NoAnswer> {
    let listed = runner
        .rows
        .list::<Expecting>(Bucket::Jobs, &Keys::All)
        .await?;
    let mut queued = QueuedJobs::default();
    let mut still = Orphans::new();
    let mut lost = 0;
    for (key, row) in listed.rows {
        let value = &row.value;
        let Some(sequence) = value.sequence.filter(|_| !value.status.is_terminal()) else {
            continue;
        };
        // Where the leader does not answer, nothing is known, and nothing is done.
        let stored = runner.stream.get(sequence).await?;
        let has_it = stored.is_some_and(|message| key_of(runner, &message).as_ref() == Some(&key));
        if has_it || queued.has(runner, &value.repo, &key).await? {
            continue;
        }
        if value.status == JobStatus::Running {
            let known = orphans
                .get(&key)
                .filter(|(revision, _)| *revision == row.revision);
            let (revision, since) = known.copied().unwrap_or((row.revision, Instant::now()));
            if since.elapsed() < runner.limits.action_timeout {
                still.insert(key, (revision, since));
                continue;
            }
        }
        lost += usize::from(end_if_lost(runner, &key, &row).await?);
    }
    // Only now: a search that broke off forgets nothing.
    *orphans = still;
    Ok(lost)
}

/// The keys of the jobs that the stream has messages of, for the repositories that were asked about.
#[derive(Default)]
struct QueuedJobs(HashMap<RepoId, HashSet<String>>);

impl QueuedJobs {
    /// Whether some message of the repository is that job's.
    async fn has(&mut self, runner: &Runner, repo: &RepoId, key: &str) -> Result<bool, NoAnswer> {
        if !self.0.contains_key(repo) {
            self.0
                .insert(repo.clone(), queued_jobs(runner, repo).await?);
        }
        Ok(self.0[repo].contains(key))
    }
}

async fn queued_jobs(runner: &Runner, repo: &RepoId) -> Result<HashSet<String>, NoAnswer> {
    let filter = runner.topology.queue_filter_of_any_partition(repo);
    let mut keys = HashSet::new();
    let mut floor = 1;
    while let Some(message) = runner.stream.next_from_leader(&filter, floor).await? {
        floor = message.sequence + 1;
        keys.extend(key_of(runner, &message));
    }
    Ok(keys)
}

/// The key of the row of the job that a message is.
fn key_of(runner: &Runner, message: &StoredMessage) -> Option<String> {
    let subject = runner.topology.parse_queue_subject(&message.subject)?;
    let job = message.job_id(&runner.topology, &subject.repo, &subject.action);
    Some(job_key(&subject.repo, job))
}

/// Ends the job unless its row has changed, now that its message is known to be gone.
async fn end_if_lost(runner: &Runner, key: &str, seen: &Row<Expecting>) -> Result<bool, RowError> {
    let row: Option<Row<Job>> = runner.rows.get_leader(Bucket::Jobs, key).await?;
    let Some(row) = row.filter(|row| row.revision == seen.revision) else {
        return Ok(false);
    };
    let fail = JobEvent::Fail {
        error: lost(),
        result: None,
    };
    let Ok(ended) = row.value.apply(fail, runner.clock.now()) else {
        return Ok(false);
    };
    let written = runner
        .rows
        .update(Bucket::Jobs, key, &ended, row.revision)
        .await?;
    let done = matches!(written, Updated::Done(_));
    if done {
        runner.metrics.lost_jobs.inc();
        tracing::error!(job = key, "the job is lost: its message is gone");
    }
    Ok(done)
}

/// The error of a job that nobody will ever run.
pub(crate) fn lost() -> JobError {
    let detail = "Its message is gone from the work queue though it had not ended; somebody deleted \
                  it. Publish the action again if it is still wanted";
    JobError::new(ErrorCode::Lost, detail)
}
