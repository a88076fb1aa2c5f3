//! Messages that the stream still has though no consumer will deliver them again.
//!
//! A server that is killed right after it took an acknowledgement can have it on disk in the consumer and
//! not in the stream. Such a message stays for ever: it is counted as queued, and where its job had not
//! ended it would hold up its repository without a word. So now and then each consumer is asked up to
//! where everything is acknowledged, and what the stream has at or below that is a leftover, once it was
//! seen there for several ack waits.
//!
//! | its job | done |
//! |---|---|
//! | ended | the message is removed |
//! | not ended, or without a row | the job ends as `lost`, then the message is removed |
//! | another one's id, or no job at all | it is buried, then removed |
//!
//! Never touches a message that a consumer still has to deliver or waits for: those keep the point up to
//! where everything is acknowledged below themselves.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use backstack_producer::api::ApiError;
use backstack_producer::rows::RowError;
use backstack_producer::topology::{TopologyError, acknowledged_through};
use backstack_schemas::topology::{Bucket, DeadReason, job_key};
use backstack_schemas::{Job, JobSpec};
use tokio::time::Instant;

use crate::lost::lost;
use crate::message::{StoredMessage, Ticket};
use crate::runner::Runner;
use crate::status;

/// The stream, its consumers or the buckets did not answer.
#[derive(Debug, thiserror::Error)]
enum NoAnswer {
    #[error(transparent)]
    Stream(#[from] ApiError),
    #[error(transparent)]
    Topology(#[from] TopologyError),
    #[error(transparent)]
    Rows(#[from] RowError),
}

/// Leftovers, by what is stored first on each consumer's subjects, and since when they are known.
type Known = HashMap<String, (Ticket, Instant)>;

/// Looks for leftovers every five ack waits, until the worker drains.
pub async fn watch_for_leftovers(runner: Arc<Runner>) {
    let pause = (runner.limits.ack_wait * 5).max(Duration::from_secs(5));
    let mut known = Known::new();
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = runner.drain.cancelled() => return,
        }
        if let Err(error) = remove_leftovers(&runner, &mut known).await {
            tracing::debug!(%error, "could not look for leftovers");
        }
    }
}

/// Removes each consumer's oldest leftovers that are known for long enough.
async fn remove_leftovers(runner: &Runner, known: &mut Known) -> Result<(), NoAnswer> {
    let consumers = acknowledged_through(&runner.client, &runner.topology).await?;
    let mut before = std::mem::take(known);
    let patience = runner.limits.ack_wait * 4;
    for consumer in consumers {
        let mut floor = 1;
        while floor <= consumer.sequence {
            let next = runner
                .stream
                .next_from_leader(&consumer.filter, floor)
                .await?;
            let Some(message) = next.filter(|message| message.sequence <= consumer.sequence) else {
                break;
            };
            floor = message.sequence + 1;
            let ticket = message.ticket();
            let key = format!("{} {}", consumer.name, ticket.sequence);
            let seen = before
                .remove(&key)
                .filter(|(earlier, _)| *earlier == ticket);
            let since = seen.map_or_else(Instant::now, |(_, since)| since);
            if since.elapsed() < patience {
                known.insert(key, (ticket, since));
            } else {
                remove(runner, &message).await?;
            }
        }
    }
    Ok(())
}

/// In an order that may end anywhere and begin again: the row, the letter, the message.
async fn remove(runner: &Runner, message: &StoredMessage) -> Result<(), NoAnswer> {
    let subject = runner.topology.parse_queue_subject(&message.subject);
    let reason = match &subject {
        None => Some(DeadReason::BadSubject),
        Some(subject) => {
            let job_id = message.job_id(&runner.topology, &subject.repo, &subject.action);
            match message.decode(&subject.action) {
                Err(_) => Some(DeadReason::BadPayload),
                Ok(action) => {
                    let spec = JobSpec::new(subject.repo.clone(), job_id, &action);
                    end(runner, message, &spec).await?
                }
            }
        }
    };
    if let Some(reason) = reason {
        runner.dead_letters.bury(reason, message).await?;
        runner.metrics.buried(reason);
    }
    runner.stream.delete(message.sequence).await?;
    runner.metrics.leftovers_removed.inc();
    tracing::warn!(
        sequence = message.sequence,
        subject = message.subject,
        "a message that was acknowledged long ago was still stored; it is removed"
    );
    Ok(())
}

/// Ends the job where it has not; where its id is another job's, says so.
async fn end(
    runner: &Runner,
    message: &StoredMessage,
    spec: &JobSpec,
) -> Result<Option<DeadReason>, NoAnswer> {
    let key = job_key(&spec.repo, spec.job_id);
    let row = runner.rows.get_leader::<Job>(Bucket::Jobs, &key).await?;
    match row.map(|row| row.value) {
        Some(job) if job.spec != *spec => return Ok(Some(DeadReason::DuplicateJob)),
        Some(job) if job.status.is_terminal() => return Ok(None),
        _ => {}
    }
    status::refuse(&runner.rows, &runner.clock, spec, message, &lost()).await?;
    runner.metrics.lost_jobs.inc();
    tracing::error!(
        job = key,
        "the job is lost: its message was acknowledged though it had not ended"
    );
    Ok(None)
}
