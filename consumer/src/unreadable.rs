//! Messages that the client library cannot read: it drops the connection when one is delivered.
//!
//! JetStream stores headers and subjects as bytes, whatever they are; the library wants text. One such
//! message would come again after each ack wait, break the connection of the worker that it comes to,
//! and hold up its repository for ever. So whenever a connection had to be made anew, the work queue
//! is looked through, by the one question whose answer is JSON. What cannot be read goes to the dead
//! letters, gets its error row, and is deleted. A message is looked at once only.
//!
//! Never touches a message that can be delivered.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{HeaderName, StatusCode};
use backstack_producer::api::ApiError;
use backstack_producer::rows::RowError;
use backstack_schemas::topology::DeadReason;
use backstack_schemas::{ErrorCode, JobError, JobSpec};
use tokio::sync::watch;

use crate::message::StoredMessage;
use crate::runner::Runner;
use crate::status;

/// How long to wait where the server does not answer; a connection that breaks again is a usual reason.
const PAUSE: Duration = Duration::from_millis(100);

/// The stream or the bucket did not answer.
#[derive(Debug, thiserror::Error)]
enum NoAnswer {
    #[error(transparent)]
    Stream(#[from] ApiError),
    #[error(transparent)]
    Rows(#[from] RowError),
}

/// Looks through the queue after every connection but the first, until the worker drains.
pub async fn watch_for_unreadable(runner: Arc<Runner>, mut connections: watch::Receiver<u64>) {
    let generation = runner.guard.generation();
    let (mut floor, mut of) = (1, generation.now());
    loop {
        tokio::select! {
            made = connections.wait_for(|made| *made > 1) => if made.is_err() { return },
            () = runner.drain.cancelled() => return,
        }
        // In a stream that was made anew, nothing was looked at yet.
        if of != generation.now() {
            (floor, of) = (1, generation.now());
        }
        while let Err(error) = remove_unreadable(&runner, &mut floor).await {
            tracing::debug!(%error, floor, "looking for unreadable messages goes on");
            tokio::time::sleep(PAUSE).await;
        }
        tokio::select! {
            changed = connections.changed() => if changed.is_err() { return },
            () = runner.drain.cancelled() => return,
        }
    }
}

/// Removes what cannot be read at or after `floor`, which rises past everything that was looked at.
async fn remove_unreadable(runner: &Runner, floor: &mut u64) -> Result<(), NoAnswer> {
    while let Some((message, headers)) = runner.stream.next_with_raw_headers(*floor).await? {
        if let Some(problem) = problem(&message.subject, &headers) {
            remove(runner, &message, &problem).await?;
        }
        *floor = message.sequence + 1;
    }
    Ok(())
}

/// In an order that may end anywhere and begin again: the row, the letter, the message.
async fn remove(runner: &Runner, message: &StoredMessage, problem: &str) -> Result<(), NoAnswer> {
    let published = runner.topology.published_subject(&message.subject);
    let reason = match runner.topology.parse_action_subject(&published) {
        Some((repo, action)) => {
            let job_id = message.job_id(&runner.topology, &repo, &action);
            let spec = match message.decode(&action) {
                Ok(action) => JobSpec::new(repo, job_id, &action),
                Err(_) => JobSpec::nameless(repo, job_id, &action),
            };
            let error = JobError::new(ErrorCode::InvalidAction, advice(problem));
            status::refuse(&runner.rows, &runner.clock, &spec, message, &error).await?;
            DeadReason::BadPayload
        }
        None => DeadReason::BadSubject,
    };
    runner.dead_letters.bury(reason, message).await?;
    runner.metrics.buried(reason);
    runner.stream.delete(message.sequence).await?;
    Ok(())
}

fn advice(problem: &str) -> String {
    format!(
        "the message cannot be read: {problem}; publish it again with a subject in UTF-8 and each \
         header as a line `Name: value` in UTF-8"
    )
}

/// Why the client library would not read a message with this subject and these stored headers, by the
/// rules that it reads by.
fn problem(subject: &str, headers: &[u8]) -> Option<String> {
    // The leader's answer is JSON, in which bytes that are no text are replaced by this.
    if subject.contains(char::REPLACEMENT_CHARACTER) {
        return Some("its subject is not UTF-8".to_owned());
    }
    if headers.is_empty() {
        return None;
    }
    let Ok(text) = str::from_utf8(headers) else {
        return Some("its headers are not UTF-8".to_owned());
    };
    let mut lines = text.lines();
    let Some(status) = lines.next().and_then(|line| line.strip_prefix("NATS/1.0")) else {
        return Some("its headers do not begin with NATS/1.0".to_owned());
    };
    let status = status.split_whitespace().next().unwrap_or_default();
    if !status.is_empty() && status.parse::<StatusCode>().is_err() {
        return Some(format!(
            "its status {status:?} is no number from 100 to 999"
        ));
    }
    let mut previous = false;
    for line in lines.filter(|line| !line.is_empty()) {
        // A line that begins with a space goes on with the value before it.
        if previous && line.starts_with(char::is_whitespace) {
            continue;
        }
        let name = line.split_once(':').map(|(name, _)| name);
        previous = name.is_some_and(|name| name.parse::<HeaderName>().is_ok());
        if !previous {
            let shown: String = line.chars().take(80).collect();
            return Some(format!("{shown:?} is no header"));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_library_reads_is_left_alone() {
        for headers in [
            &b""[..],
            b"NATS/1.0\r\n\r\n",
            b"NATS/1.0 503\r\n\r\n",
            b"NATS/1.0 404 No Messages\r\nA: b\r\n\r\n",
            b"NATS/1.0\r\nNats-Msg-Id: web.x\r\nA:b\r\n  c\r\nD:\r\n\r\n",
            "NATS/1.0\r\nA: \u{fc}\r\n\r\n".as_bytes(),
        ] {
            let text = String::from_utf8_lossy(headers);
            assert_eq!(
                problem("backstack.queue.1.web.sync_repo", headers),
                None,
                "{text}"
            );
        }
    }

    #[test]
    fn what_it_does_not_is_told() {
        for (headers, word) in [
            (&b"NATS/1.0\r\nA: \xff\r\n\r\n"[..], "UTF-8"),
            (b"NATS/1.0\r\nnonsense\r\n\r\n", "\"nonsense\" is no header"),
            (b"NATS/1.0\r\n : b\r\n\r\n", "is no header"),
            (b"NATS/1.0 soon\r\n\r\n", "status"),
            (b"HTTP/1.1\r\n\r\n", "NATS/1.0"),
        ] {
            let problem = problem("backstack.queue.1.web.sync_repo", headers);
            assert!(
                problem.as_ref().is_some_and(|p| p.contains(word)),
                "{word}: {problem:?}"
            );
        }
        assert!(problem("backstack.queue.1.w\u{fffd}.x", b"").is_some());
    }
}
