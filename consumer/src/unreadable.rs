//! Messages that the client library cannot read: it drops the connection when one is delivered.
//!
//! JetStream stores headers and subjects as bytes, whatever they are; the library wants text. One such
//! message would come again after each ack wait, break the connection of the worker that it comes to,
//! and hold up its repository for ever. So whenever a connection had to be made anew, the work queue
//! is looked through, by the one question whose answer is JSON. What cannot be read goes to the dead
//! letters, gets its error row, and is deleted. A message is looked at once only.
//!
//! Where there are many of them the connection breaks as soon as it is made. So the looking through is
//! done over a connection of its own, to which nothing is delivered, and after a connection that broke
//! soon nothing is pulled until it is done. A few of these messages do not break the connection but close
//! the client for good; then the queue is looked through and the worker starts anew.
//!
//! The queue is looked through as well where no consumer has some of its messages, for a while.
//!
//! Never touches a message that can be delivered.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, HeaderName, StatusCode};
use backstack_producer::api::ApiError;
use backstack_producer::clock::Clock;
use backstack_producer::connect::{ConnectError, ConnectOptions, connect};
use backstack_producer::rows::{RowError, Rows};
use backstack_schemas::topology::DeadReason;
use backstack_schemas::{ErrorCode, JobError, JobSpec};
use futures_util::StreamExt as _;
use futures_util::future::try_join_all;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::dead_letter::DeadLetters;
use crate::message::StoredMessage;
use crate::metrics::Metrics;
use crate::runner::Runner;
use crate::status;
use crate::stream::ActionsStream;

/// How long to wait where the server does not answer; a connection that breaks again is a usual reason.
const PAUSE: Duration = Duration::from_millis(100);

/// How short-lived a connection is that something delivered may have broken.
const SHORT: Duration = Duration::from_secs(5);

/// Into how many parts the queue is divided to be looked through.
const PARTS: u64 = 32;

/// How long pulls wait at most until the queue has been looked through.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whether pulls have to wait, since what they bring breaks the connection.
#[derive(Debug)]
pub struct Screening {
    connected_at: Mutex<Option<Instant>>,
    needed: watch::Sender<bool>,
}

impl Default for Screening {
    fn default() -> Self {
        Self {
            connected_at: Mutex::default(),
            needed: watch::Sender::new(false),
        }
    }
}

impl Screening {
    /// A connection was made; where the one before it was short-lived, pulls wait from now on.
    pub fn connected(&self) {
        let before = self.connected_at.lock().replace(Instant::now());
        if before.is_some_and(|before| before.elapsed() < SHORT) {
            self.needed.send_replace(true);
        }
    }

    /// Returns when nothing speaks against pulling.
    pub async fn settled(&self) {
        let mut needed = self.needed.subscribe();
        let settled = needed.wait_for(|needed| !needed);
        if tokio::time::timeout(PATIENCE, settled).await.is_err() {
            tracing::warn!("the queue could not be looked through for unreadable messages");
        }
    }

    fn done(&self) {
        self.needed.send_replace(false);
    }
}

/// The server did not answer, or not so that it could be used.
#[derive(Debug, thiserror::Error)]
enum NoAnswer {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Stream(#[from] ApiError),
    #[error(transparent)]
    Rows(#[from] RowError),
}

/// Looks through the queue after every connection but the first, and where messages are stranded, until
/// the worker drains.
pub async fn watch_for_unreadable(
    runner: Arc<Runner>,
    options: ConnectOptions,
    mut connections: watch::Receiver<u64>,
) {
    let generation = runner.guard.generation();
    let (mut floor, mut of, mut screen) = (1, generation.now(), None);
    let mut stranded_before = false;
    let look_again = (runner.limits.ack_wait * 5).max(Duration::from_secs(5));
    loop {
        let seen = *connections.borrow_and_update();
        // In a stream that was made anew, nothing was looked at yet.
        if of != generation.now() {
            (floor, of) = (1, generation.now());
        }
        if seen > 1 {
            while let Err(error) = look_through(&runner, &options, &mut screen, &mut floor).await {
                tracing::debug!(%error, "looking for unreadable messages goes on");
                tokio::time::sleep(PAUSE).await;
            }
            if *connections.borrow() == seen {
                runner.screening.done();
            }
        }
        let mut next_look = std::pin::pin!(tokio::time::sleep(look_again));
        loop {
            tokio::select! {
                changed = connections.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                () = &mut next_look => {
                    let stranded = runner.stream.stranded().await.unwrap_or(0);
                    if stranded > 0 && stranded_before {
                        tracing::warn!(stranded, "no consumer has some of the messages");
                        floor = 1;
                        let looked = look_through(&runner, &options, &mut screen, &mut floor).await;
                        if let Err(error) = looked {
                            tracing::warn!(%error, "the queue could not be looked through");
                        }
                    }
                    stranded_before = stranded > 0;
                    next_look.set(tokio::time::sleep(look_again));
                }
                () = runner.drain.cancelled() => return,
            }
        }
    }
}

/// Returns when the client has closed for good: a message that was delivered has brought the library
/// down, since nothing else does.
pub async fn closed_for_good(client: &Client) {
    if let Ok(mut nothing) = client.subscribe(client.new_inbox()).await {
        while nothing.next().await.is_some() {}
    }
}

/// Looks through the whole queue over a connection that is made for it, for as long as pulls may wait.
pub async fn look_through_all(runner: &Runner, options: &ConnectOptions) {
    let (mut floor, mut screen) = (1, None);
    let until = Instant::now() + PATIENCE;
    while let Err(error) = look_through(runner, options, &mut screen, &mut floor).await {
        if Instant::now() > until {
            tracing::error!(%error, "the queue could not be looked through for unreadable messages");
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn look_through(
    runner: &Runner,
    options: &ConnectOptions,
    screen: &mut Option<Screen>,
    floor: &mut u64,
) -> Result<(), NoAnswer> {
    let screen = match screen {
        Some(screen) => screen,
        None => screen.insert(Screen::open(runner, options).await?),
    };
    let last = screen.stream.state().await?.last_sequence;
    // Several parts at once, since each message is a question of its own.
    let part = last.saturating_sub(*floor) / PARTS + 1;
    let parts = (0..PARTS).map(|number| {
        let first = *floor + number * part;
        screen.remove_unreadable(first..(first + part).min(last + 1))
    });
    try_join_all(parts).await?;
    *floor = (*floor).max(last + 1);
    Ok(())
}

/// What the looking through works with, over its own connection.
struct Screen {
    metrics: Arc<Metrics>,
    clock: Arc<Clock>,
    rows: Rows,
    stream: ActionsStream,
    dead_letters: DeadLetters,
}

impl Screen {
    async fn open(runner: &Runner, options: &ConnectOptions) -> Result<Self, NoAnswer> {
        let client = connect(options).await?;
        let topology = runner.topology.clone();
        Ok(Self {
            metrics: Arc::clone(&runner.metrics),
            clock: Arc::clone(&runner.clock),
            rows: Rows::new(client.clone(), topology.clone()),
            stream: ActionsStream::new(client.clone(), &topology),
            dead_letters: DeadLetters::new(client, topology),
        })
    }

    /// Removes what cannot be read among the messages with these sequences.
    async fn remove_unreadable(&self, sequences: Range<u64>) -> Result<(), NoAnswer> {
        let mut floor = sequences.start;
        while floor < sequences.end {
            let Some((message, headers)) = self.stream.next_with_raw_headers(floor).await? else {
                return Ok(());
            };
            if message.sequence >= sequences.end {
                return Ok(());
            }
            if let Some(problem) = problem(&message.subject, &headers) {
                self.remove(&message, &problem).await?;
            }
            floor = message.sequence + 1;
        }
        Ok(())
    }

    /// In an order that may end anywhere and begin again: the letter, the row, the message.
    async fn remove(&self, message: &StoredMessage, problem: &str) -> Result<(), NoAnswer> {
        let topology = self.rows.topology();
        let published = topology.published_subject(&message.subject);
        let named = topology.parse_action_subject(&published);
        let reason = match named {
            Some(_) => DeadReason::BadPayload,
            None => DeadReason::BadSubject,
        };
        self.dead_letters.bury(reason, message).await?;
        self.metrics.buried(reason);
        if let Some((repo, action)) = named {
            let job_id = message.job_id(topology, &repo, &action);
            let spec = match message.decode(&action) {
                Ok(action) => JobSpec::new(repo, job_id, &action),
                Err(_) => JobSpec::nameless(repo, job_id, &action),
            };
            let error = JobError::new(ErrorCode::InvalidAction, advice(problem));
            status::refuse(&self.rows, &self.clock, &spec, message, &error).await?;
        }
        self.stream.delete(message.sequence).await?;
        Ok(())
    }
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
    // The server's own index takes this byte for something else, and no consumer finds the message.
    if subject.contains('\u{7f}') {
        return Some("its subject has a DEL character in it".to_owned());
    }
    if headers.is_empty() {
        return None;
    }
    // Only where there are headers is the line with the subject taken apart at these.
    if subject.contains(char::is_whitespace) {
        return Some("its subject has white space in it".to_owned());
    }
    let Ok(text) = str::from_utf8(headers) else {
        return Some("its headers are not UTF-8".to_owned());
    };
    let mut lines = text.lines().peekable();
    let Some(status) = lines.next().and_then(|line| line.strip_prefix("NATS/1.0")) else {
        return Some("its headers do not begin with NATS/1.0".to_owned());
    };
    let status = status.trim().split(' ').next().unwrap_or_default().trim();
    if !status.is_empty() && status.parse::<StatusCode>().is_err() {
        return Some(format!(
            "its status {status:?} is no number from 100 to 999"
        ));
    }
    while let Some(line) = lines.next() {
        if line.is_empty() {
            continue;
        }
        let named = line
            .split_once(':')
            .filter(|(name, _)| name.parse::<HeaderName>().is_ok());
        let Some((name, first)) = named else {
            let shown: String = line.chars().take(80).collect();
            return Some(format!("{shown:?} is no header"));
        };
        // A line that begins with white space goes on with the value before it.
        let mut value = first.trim_start().to_owned();
        while let Some(more) = lines.next_if(|line| line.starts_with(char::is_whitespace)) {
            value.push_str(more);
        }
        // The library would not refuse it but panic, and take the connection along for good.
        if value.trim_end().contains(['\r', '\n']) {
            return Some(format!("its header {name:?} has a carriage return in it"));
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
            (b"NATS/1.0\r\nA: b\rc\r\n\r\n", "carriage return"),
            (b"NATS/1.0\r\nA: b\r\n\rc\r\n\r\n", "carriage return"),
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
        let wide = "backstack.queue.1.w\u{a0}.x";
        assert!(problem(wide, b"NATS/1.0\r\n\r\n").is_some());
        assert_eq!(problem(wide, b""), None);
        assert!(problem("backstack.queue.1.w\u{7f}.x", b"").is_some());
    }
}
