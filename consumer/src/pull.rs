//! Pulling: one task for each partition's consumer, and one for what no partition took.
//!
//! Each asks for one message at a time, with the priority that this worker has for the partition:
//! the server serves the lowest number that waits, so the same repositories keep coming to the worker
//! whose mirrors are warm, and overflow to another when that one is full or gone. While no permit is
//! free, or a stream or bucket is missing, nothing new is asked for. The [`PullBoard`] says which consumers
//! are not being pulled from, and why.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Message, StatusCode, Subscriber, UnsubscribeError};
use backstack_producer::rows::Rows;
use backstack_schemas::topology::{Bucket, PARTITIONS, PRIORITY_GROUP, QueueSubject, job_key};
use backstack_schemas::{JobStatus, Topology, WorkerId};
use bytes::Bytes;
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::delivery::{Delivered, FoundRunning, Verdict};
use crate::line::Lines;
use crate::message::StoredMessage;
use crate::runner::Runner;

/// How long taking back one pull may take when the worker stops; without a connection it takes forever.
const GIVE_BACK_WITHIN: Duration = Duration::from_secs(1);

/// Priorities are 0 to 9, the lowest first.
const PRIORITIES: u64 = 10;

/// How long a pull that came after a refused one must stand before it counts as accepted: a refusal
/// comes within milliseconds.
const STANDS_AFTER: Duration = Duration::from_millis(500);

/// How it stands with the pulls at each consumer. Clones show the same.
#[derive(Clone, Debug, Default)]
pub struct PullBoard(Arc<Mutex<BTreeMap<String, Standing>>>);

/// How it stands with the pulls at one consumer.
#[derive(Clone, Debug, Default)]
struct Standing {
    /// When the newest pull was asked for.
    asked: Option<Instant>,
    /// Why pulls do not work, as far as is known.
    refused: Option<String>,
}

impl PullBoard {
    fn asked(&self, consumer: &str) {
        let mut board = self.0.lock();
        board.entry(consumer.to_owned()).or_default().asked = Some(Instant::now());
    }

    fn answered(&self, consumer: &str, refused: Option<String>) {
        let mut board = self.0.lock();
        let standing = board.entry(consumer.to_owned()).or_default();
        if refused.is_some() {
            standing.asked = None;
        }
        standing.refused = refused;
    }

    /// The consumers that are not being pulled from, each with the reason.
    pub fn refused(&self) -> Vec<(String, String)> {
        let board = self.0.lock();
        let refused = board.iter().filter_map(|(consumer, standing)| {
            let stands = standing.asked.is_some_and(|at| at.elapsed() > STANDS_AFTER);
            let why = standing.refused.as_ref().filter(|_| !stands)?;
            Some((consumer.clone(), why.clone()))
        });
        refused.collect()
    }

    /// How many consumers have been asked for work at all.
    pub fn known(&self) -> usize {
        self.0.lock().len()
    }
}

/// Pulls from every consumer until the runner drains.
#[derive(Debug)]
pub struct Pulls {
    runner: Arc<Runner>,
    lines: Arc<Lines>,
    /// How many connections were made; pulls that a lost one took along are asked for anew.
    connections: watch::Receiver<u64>,
}

/// One consumer to pull from.
struct Source {
    consumer: String,
    /// Absent for the consumer of what no partition took: it has no priority group.
    priority: Option<u64>,
}

impl Pulls {
    /// Pulls for `runner` into `lines`.
    pub fn new(
        runner: Arc<Runner>,
        lines: Arc<Lines>,
        connections: watch::Receiver<u64>,
    ) -> Arc<Self> {
        Arc::new(Self {
            runner,
            lines,
            connections,
        })
    }

    /// Pulls until the runner drains; returns when the last message that had been sent is dealt with.
    pub async fn run(self: Arc<Self>) {
        let tasks = TaskTracker::new();
        for source in sources(&self.runner.worker) {
            let name = format!("pull at {}", source.consumer);
            let pull = Arc::clone(&self).pull_from(source);
            tasks.spawn(self.runner.vitals.watched(&name, pull));
        }
        tasks.close();
        tasks.wait().await;
    }

    async fn pull_from(self: Arc<Self>, source: Source) {
        let mut connections = self.connections.clone();
        let inbox = self.runner.client.new_inbox();
        let subscribed = self.runner.client.subscribe(format!("{inbox}.*")).await;
        // Subscribing fails only on a client that is closed for good.
        let Ok(mut replies) = subscribed else { return };
        for number in 0_u64.. {
            tokio::select! {
                () = self.runner.drain.cancelled() => break,
                () = self.may_ask() => {}
            }
            connections.mark_unchanged();
            let pull = format!("{inbox}.{number}");
            self.ask(&source, &pull).await;
            tokio::select! {
                () = self.runner.drain.cancelled() => break,
                () = self.answer(&source, &pull, &mut replies) => {}
                // A lost connection takes the pull along.
                _ = connections.changed() => {}
            }
        }
        self.give_back(replies, &source).await;
    }

    /// Returns when there is room for a job, and everything that it needs is there.
    async fn may_ask(&self) {
        self.runner.guard.until_complete().await;
        self.runner.ready_for_more().await;
    }

    /// Waits for the answer to a pull and deals with it. Each pull has a subject of its own: what the
    /// server still says of an earlier one, which a reconnect left behind, asks for nothing.
    async fn answer(&self, source: &Source, pull: &str, replies: &mut Subscriber) {
        let patience = self.expires() + Duration::from_secs(2);
        let answered = tokio::time::timeout(patience, async {
            while let Some(message) = replies.next().await {
                if message.status.is_none() || message.subject.as_str() == pull {
                    return Some(message);
                }
            }
            None
        });
        match answered.await {
            Ok(Some(message)) => self.take(message, source).await,
            // The client is closed for good; the drain is all that is left to wait for.
            Ok(None) => self.runner.drain.cancelled().await,
            Err(_) => self.refused(
                source,
                "the server never answered; is it reachable, and is this \
                user permitted to publish on $JS.API.CONSUMER.MSG.NEXT.>?",
            ),
        }
    }

    /// A pull came to nothing that ought to have stood.
    fn refused(&self, source: &Source, why: &str) {
        let runner = &self.runner;
        runner
            .pulls
            .answered(&source.consumer, Some(why.to_owned()));
        runner.metrics.pulls_refused.inc();
        runner.guard.look_soon();
    }

    /// How long the server keeps a pull that nothing answers.
    fn expires(&self) -> Duration {
        (self.runner.limits.ack_wait / 2).clamp(Duration::from_secs(1), Duration::from_secs(15))
    }

    async fn ask(&self, source: &Source, inbox: &str) {
        let mut request = json!({"batch": 1, "expires": self.expires().as_nanos() as u64});
        if let Some(priority) = source.priority {
            request["group"] = json!(PRIORITY_GROUP);
            request["priority"] = json!(priority);
        }
        let subject = format!(
            "$JS.API.CONSUMER.MSG.NEXT.{}.{}",
            self.runner.topology.actions_stream(),
            source.consumer
        );
        let payload = Bytes::from(request.to_string());
        self.runner.pulls.asked(&source.consumer);
        let asked = self
            .runner
            .client
            .publish_with_reply(subject, inbox.to_owned(), payload)
            .await;
        if let Err(error) = asked {
            tracing::warn!(source.consumer, %error, "could not ask for a message");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// A reply to a pull: a message, or a status that says why there is none. What has an ack subject
    /// is a message, also where its publisher gave it a status line of its own.
    async fn take(&self, message: Message, source: &Source) {
        if let Some(delivered) = message.reply.as_ref().and_then(Delivered::parse) {
            self.runner.pulls.answered(&source.consumer, None);
            self.runner.metrics.delivered(delivered.count);
            return self.sort(delivered, message).await;
        }
        let why = message.description.unwrap_or_default();
        match message.status {
            Some(StatusCode::TIMEOUT | StatusCode::NOT_FOUND | StatusCode::IDLE_HEARTBEAT) => {
                self.runner.pulls.answered(&source.consumer, None);
            }
            Some(StatusCode::NO_RESPONDERS) => {
                self.refused(source, "nobody answers for this consumer");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Some(status) => {
                self.refused(source, &format!("{status} {why}"));
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
            None => tracing::warn!(subject = %message.subject, "a message without an ack subject"),
        }
    }

    /// A delivered message goes to its repository's line, or to the dead letters.
    async fn sort(&self, mut delivered: Delivered, message: Message) {
        let topology = &self.runner.topology;
        let stored = StoredMessage {
            sequence: delivered.sequence,
            stored_nanos: delivered.stored_nanos,
            subject: message.subject.to_string(),
            headers: message.headers.unwrap_or_default(),
            payload: message.payload,
        };
        let Some(subject) = topology.parse_queue_subject(&stored.subject) else {
            // No partition, so no line.
            let delivery = self.runner.hold(delivered);
            self.runner.refuse_untaken(delivery, stored).await;
            return;
        };
        if delivered.count > 1 {
            delivered.found_running =
                found_running(&self.runner.rows, topology, &stored, &subject).await;
        }
        self.lines.arrive(&subject, delivered);
    }

    /// Takes the interest in further messages back, and hands back those that were on their way.
    async fn give_back(&self, mut replies: Subscriber, source: &Source) {
        let hand_back = async {
            replies.drain().await?;
            while let Some(message) = replies.next().await {
                if let Some(delivered) = message.reply.as_ref().and_then(Delivered::parse) {
                    self.runner
                        .hold(delivered)
                        .settle(Verdict::Nak(Duration::ZERO))
                        .await;
                }
            }
            Ok::<_, UnsubscribeError>(())
        };
        match tokio::time::timeout(GIVE_BACK_WITHIN, hand_back).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(source.consumer, %error, "could not unsubscribe"),
            // The server forgets the pull with the connection, and delivers again what it had sent.
            Err(_) => tracing::debug!(source.consumer, "the server did not confirm in time"),
        }
    }
}

/// What the row of a redelivered message's job says, where it is `running`: only such a row may be
/// taken over by this delivery.
async fn found_running(
    rows: &Rows,
    topology: &Topology,
    message: &StoredMessage,
    subject: &QueueSubject,
) -> Option<FoundRunning> {
    #[derive(Deserialize)]
    struct Running {
        status: JobStatus,
        run: u64,
        attempt: u32,
    }
    let job = message.job_id(topology, &subject.repo, &subject.action);
    let key = job_key(&subject.repo, job);
    let row = rows
        .get_leader::<Running>(Bucket::Jobs, &key)
        .await
        .ok()??;
    let Running {
        status,
        run,
        attempt,
    } = row.value;
    (status == JobStatus::Running).then_some(FoundRunning { run, attempt })
}

fn sources(worker: &WorkerId) -> Vec<Source> {
    let partitions = (0..PARTITIONS).map(|partition| Source {
        consumer: Topology::worker_name(partition),
        priority: Some(priority(worker, partition)),
    });
    let rest = Source {
        consumer: Topology::REST_NAME.to_owned(),
        priority: None,
    };
    partitions.chain([rest]).collect()
}

/// This worker's priority for a partition: a hash of both (FNV-1a), so that each worker is first in
/// line for about a tenth of the partitions and no list of members is needed.
fn priority(worker: &WorkerId, partition: u32) -> u64 {
    let bytes = worker.as_str().bytes().chain(partition.to_be_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    // The low bits of FNV-1a hardly mix; fold the high ones in.
    (hash ^ (hash >> 32)) % PRIORITIES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities_spread_the_partitions_over_the_workers() {
        let workers: Vec<_> = (1..=20)
            .map(|pid| WorkerId::generate("host", pid))
            .collect();
        let mut counts = [0_u32; PRIORITIES as usize];
        for worker in &workers {
            for partition in 0..PARTITIONS {
                counts[usize::try_from(priority(worker, partition)).unwrap()] += 1;
            }
        }
        // 640 draws over ten numbers: 64 each, and far from none anywhere.
        assert!(counts.iter().all(|count| *count > 30), "{counts:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_stands_until_an_answer_or_a_pull_that_is_not_refused() {
        let board = PullBoard::default();
        board.asked("worker-07");
        assert_eq!(board.refused(), []);
        let refused = [("worker-07".to_owned(), "409".to_owned())];
        board.answered("worker-07", Some("409".to_owned()));
        assert_eq!(board.refused(), refused);
        board.asked("worker-07");
        assert_eq!(board.refused(), refused, "it may be refused in a moment");
        tokio::time::advance(STANDS_AFTER * 2).await;
        assert_eq!(board.refused(), []);
        board.answered("worker-07", Some("409".to_owned()));
        board.answered("worker-07", None);
        assert_eq!((board.refused(), board.known()), (vec![], 1));
    }

    #[test]
    fn every_partition_and_the_rest_is_pulled_from() {
        let sources = sources(&WorkerId::generate("host", 1));
        assert_eq!(sources.len(), 33);
        assert!(sources[32].priority.is_none());
    }
}
