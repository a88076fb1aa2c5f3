//! Jobs whose message is gone: somebody deleted it, so nobody will ever run them.
//!
//! Every worker looks through the job rows now and then. A row that has not ended, and whose message
//! the stream's leader does not have, ends as `lost`. No job of a live worker is hit: its message
//! leaves the stream only after its row has ended.

use std::sync::Arc;
use std::time::Duration;

use backstack_producer::rows::{Keys, Row, RowError, Updated};
use backstack_schemas::topology::Bucket;
use backstack_schemas::{ErrorCode, Job, JobError, JobEvent, JobStatus};
use serde::Deserialize;

use crate::runner::Runner;

/// The part of a job's row that tells whether its message ought to be there.
#[derive(Deserialize)]
struct Expecting {
    status: JobStatus,
    sequence: Option<u64>,
}

/// Looks for lost jobs every ten ack waits, until the worker drains.
pub async fn watch_for_lost_jobs(runner: Arc<Runner>) {
    let pause = (runner.limits.ack_wait * 10).max(Duration::from_secs(10));
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = runner.drain.cancelled() => return,
        }
        match end_lost_jobs(&runner).await {
            Ok(0) => {}
            Ok(lost) => tracing::error!(lost, "jobs were lost: their messages are gone"),
            Err(error) => tracing::warn!(%error, "could not look for lost jobs"),
        }
    }
}

/// Ends every job whose message is gone; returns how many.
async fn end_lost_jobs(runner: &Runner) -> Result<usize, RowError> {
    let listed = runner
        .rows
        .list::<Expecting>(Bucket::Jobs, &Keys::All)
        .await?;
    let mut lost = 0;
    for (key, row) in listed.rows {
        let sequence = row
            .value
            .sequence
            .filter(|_| !row.value.status.is_terminal());
        let Some(sequence) = sequence else { continue };
        // Where the leader does not answer, nothing is known, and nothing is done.
        if runner.stream.has(sequence).await.unwrap_or(true) {
            continue;
        }
        lost += usize::from(end_if_lost(runner, &key, sequence).await?);
    }
    Ok(lost)
}

/// Ends the job unless it has ended by itself, now that its message is known to be gone.
async fn end_if_lost(runner: &Runner, key: &str, sequence: u64) -> Result<bool, RowError> {
    let row: Option<Row<Job>> = runner.rows.get_leader(Bucket::Jobs, key).await?;
    let Some(row) = row.filter(|row| row.value.sequence == Some(sequence)) else {
        return Ok(false);
    };
    let detail = "Its message is gone from the work queue though it had not ended; somebody deleted \
                  it. Publish the action again if it is still wanted";
    let error = JobError::new(ErrorCode::Lost, detail);
    let fail = JobEvent::Fail {
        error,
        result: None,
    };
    let Ok(ended) = row.value.apply(fail, runner.clock.now()) else {
        return Ok(false);
    };
    let written = runner
        .rows
        .update(Bucket::Jobs, key, &ended, row.revision)
        .await?;
    Ok(matches!(written, Updated::Done(_)))
}
