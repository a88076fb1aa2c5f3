//! Whether the streams, buckets and consumers that the worker stands on are there, right, and the same
//! as before.
//!
//! An operator may delete any of them while workers run. They are looked at every ack wait, on each new
//! connection, and whenever a pull is refused. What is then done:
//!
//! | found | done |
//! |---|---|
//! | a consumer is gone | made again, as the contract has it, with an error in the log |
//! | a stream or bucket is gone | an error in the log, no new work until it is there again |
//! | it is there again, another one, or set back | an error in the log; nothing that the former one delivered is acknowledged any more, and work goes on |
//! | a setting is not what it must be | an error in the log |
//!
//! A stream that is gone is not made anew here. Its messages, or a bucket's rows, could not be restored
//! from a backup any more once an empty one had taken its name, and with an empty bucket every queued job
//! would end in an error. So work waits for a person, who restores it, or has it made anew by starting a
//! worker. Until then nothing more is lost than was deleted.
//!
//! Which stream it is tell its time of creation, which a restored backup keeps, and its newest sequence,
//! which never goes back by itself. Where the server does not answer nothing is known, and nothing done.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_nats::Client;
use backstack_producer::topology::{
    FoundStream, StreamIdentity, Survey, TopologyError, make_consumers, survey,
};
use backstack_schemas::Topology;
use backstack_schemas::topology::Choices;
use tokio::sync::{Mutex, Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::delivery::Generation;
use crate::metrics::Metrics;

/// How long a look may take; one request of it may take as long.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long what was seen is still believed by those who can wait.
const FRESH: Duration = Duration::from_secs(1);

/// The shortest time between two looks, whatever asks for them.
const REST: Duration = Duration::from_millis(500);

/// How often to look: at most and at least, and while something is missing.
const INTERVALS: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(30));
const WHILE_MISSING: Duration = Duration::from_millis(500);

/// Something that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

/// What was seen last.
#[derive(Clone, Debug, Default)]
struct View {
    at: Option<Instant>,
    problems: Vec<Problem>,
}

/// Looks after the topology. Clones look after the same.
#[derive(Clone, Debug)]
pub struct Guard(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    client: Client,
    topology: Topology,
    choices: Choices,
    metrics: Arc<Metrics>,
    generation: Generation,
    /// How often a bucket has become another one.
    buckets_replaced: watch::Sender<u64>,
    /// Whether every stream is there.
    complete: watch::Sender<bool>,
    look_again: Notify,
    known_problems: AtomicUsize,
    /// Held while looking, so that nobody looks twice at a time.
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    view: View,
    streams: HashMap<String, Known>,
}

/// What is remembered of a stream.
#[derive(Debug)]
struct Known {
    identity: StreamIdentity,
    is_there: bool,
    /// Whether the last look found a lower sequence than the one before. A new leader may be behind for
    /// a moment, so it takes two.
    suspected: bool,
}

/// What a look at one stream means.
#[derive(Debug, PartialEq, Eq)]
enum Change {
    None,
    Missing,
    Back,
    Replaced(&'static str),
    Suspected,
}

impl Known {
    fn new(identity: StreamIdentity) -> Self {
        Self {
            identity,
            is_there: true,
            suspected: false,
        }
    }

    /// Takes in what was seen now.
    fn see(&mut self, now: Option<StreamIdentity>) -> Change {
        let Some(now) = now else {
            let was_there = std::mem::replace(&mut self.is_there, false);
            return if was_there {
                Change::Missing
            } else {
                Change::None
            };
        };
        let was_there = std::mem::replace(&mut self.is_there, true);
        if now.created != self.identity.created {
            *self = Self::new(now);
            return Change::Replaced("deleted and made anew");
        }
        if now.last_sequence < self.identity.last_sequence {
            if !std::mem::replace(&mut self.suspected, true) {
                return Change::Suspected;
            }
            *self = Self::new(now);
            return Change::Replaced("set back to an earlier state");
        }
        *self = Self::new(now);
        if was_there {
            Change::None
        } else {
            Change::Back
        }
    }
}

impl Guard {
    /// A guard that has not looked yet.
    pub fn new(
        client: Client,
        topology: Topology,
        choices: Choices,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self(Arc::new(Shared {
            client,
            topology,
            choices,
            metrics,
            generation: Generation::default(),
            buckets_replaced: watch::Sender::new(0),
            complete: watch::Sender::new(true),
            look_again: Notify::new(),
            known_problems: AtomicUsize::new(0),
            seen: Mutex::default(),
        }))
    }

    /// Which stream the work queue is; passes when it becomes another one.
    pub fn generation(&self) -> &Generation {
        &self.0.generation
    }

    /// Counts the buckets that became other ones, for those who remember their rows.
    pub fn buckets_replaced(&self) -> watch::Receiver<u64> {
        self.0.buckets_replaced.subscribe()
    }

    /// Whether every stream and bucket is there, as far as is known.
    pub fn is_complete(&self) -> bool {
        *self.0.complete.borrow()
    }

    /// Returns while every stream and bucket is there.
    pub async fn until_complete(&self) {
        let mut complete = self.0.complete.subscribe();
        // The sender is in `self`.
        let _ = complete.wait_for(|complete| *complete).await;
    }

    /// Something was refused: look soon.
    pub fn look_soon(&self) {
        self.0.look_again.notify_one();
    }

    /// What is not as it must be, as of the last second.
    pub async fn problems(&self) -> Vec<Problem> {
        let mut seen = self.0.seen.lock().await;
        if seen.view.at.is_none_or(|at| at.elapsed() > FRESH) {
            self.0.look(&mut seen).await;
        }
        seen.view.problems.clone()
    }

    /// What was not as it must be when it was last looked at.
    pub fn known_problems(&self) -> usize {
        self.0.known_problems.load(Ordering::Relaxed)
    }

    /// Looks now and then, and on each new connection, until the worker drains.
    pub async fn watch(self, drain: CancellationToken, mut connections: watch::Receiver<u64>) {
        let usual = self.0.choices.ack_wait.clamp(INTERVALS.0, INTERVALS.1);
        loop {
            self.0.look(&mut *self.0.seen.lock().await).await;
            let pause = if *self.0.complete.borrow() {
                usual
            } else {
                WHILE_MISSING
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.0.look_again.notified() => tokio::time::sleep(REST).await,
                _ = connections.changed() => {}
                () = drain.cancelled() => return,
            }
        }
    }
}

impl Shared {
    async fn look(&self, seen: &mut Seen) {
        let asked = survey(&self.client, &self.topology, self.choices);
        let surveyed = match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(survey)) => Ok(survey),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("JetStream did not answer within {PATIENCE:?}")),
        };
        let was_answered = surveyed.is_ok();
        let problems = match surveyed {
            Ok(survey) => self.take_in(seen, survey).await,
            Err(what) => vec![Problem {
                what: format!("the streams cannot be looked at: {what}"),
                remedy: "look at the nats-server, its log, and this user's permissions".to_owned(),
            }],
        };
        for problem in problems.iter().filter(|p| !seen.view.problems.contains(p)) {
            // Elections and restarts pass; what was seen does not.
            if was_answered {
                tracing::error!(remedy = problem.remedy, "{}", problem.what);
            } else {
                tracing::warn!(remedy = problem.remedy, "{}", problem.what);
            }
        }
        if problems.is_empty() && !seen.view.problems.is_empty() {
            tracing::info!("streams, buckets and consumers are there and right again");
        }
        self.known_problems.store(problems.len(), Ordering::Relaxed);
        seen.view = View {
            at: Some(Instant::now()),
            problems,
        };
    }

    /// Compares what was found with what was known, does what is to be done, and returns what is wrong.
    async fn take_in(&self, seen: &mut Seen, survey: Survey) -> Vec<Problem> {
        let mut problems = Vec::new();
        for stream in &survey.streams {
            self.compare(seen, stream);
            if stream.identity.is_none() {
                problems.push(missing(&stream.name));
            }
        }
        let is_complete = problems.is_empty();
        self.complete
            .send_if_modified(|complete| std::mem::replace(complete, is_complete) != is_complete);
        let of_streams = survey.streams.iter().flat_map(|stream| &stream.mismatches);
        for mismatch in of_streams.chain(&survey.mismatches) {
            problems.push(Problem {
                what: mismatch.to_string(),
                remedy: "change it with `nats stream edit` or `nats consumer edit`".to_owned(),
            });
        }
        if !survey.missing_consumers.is_empty()
            && let Err(error) = self.make_again(&survey.missing_consumers).await
        {
            problems.push(Problem {
                what: format!(
                    "consumers are missing and could not be made again: {}: {error}",
                    survey.missing_consumers.join(", ")
                ),
                remedy: "look at the nats-server's log, and this user's permissions".to_owned(),
            });
        }
        problems
    }

    fn compare(&self, seen: &mut Seen, stream: &FoundStream) {
        let name = stream.name.as_str();
        let change = match (seen.streams.get_mut(name), &stream.identity) {
            (Some(known), identity) => known.see(identity.clone()),
            (None, Some(identity)) => {
                seen.streams
                    .insert(name.to_owned(), Known::new(identity.clone()));
                Change::None
            }
            (None, None) => Change::None,
        };
        match change {
            // The problem itself is told in the log.
            Change::None | Change::Missing => {}
            Change::Back => {
                tracing::warn!(stream = name, "the stream is there again, with all it had")
            }
            Change::Suspected => self.look_again.notify_one(),
            Change::Replaced(how) => self.replaced(name, how),
        }
    }

    fn replaced(&self, name: &str, how: &str) {
        self.metrics.streams_replaced.inc();
        if name == self.topology.actions_stream() {
            self.generation.pass();
            tracing::error!(
                stream = name,
                "the work queue was {how}: what was queued in it is lost but for what it has now; \
                 jobs without a message end as lost"
            );
        } else {
            tracing::error!(stream = name, "the stream was {how}: what it held is gone");
            if name.starts_with("KV_") {
                self.buckets_replaced.send_modify(|count| *count += 1);
            }
        }
    }

    async fn make_again(&self, names: &[String]) -> Result<(), TopologyError> {
        let gone = names.join(", ");
        make_consumers(&self.client, &self.topology, self.choices, names).await?;
        self.metrics.consumers_recreated.inc_by(names.len() as u64);
        tracing::error!(
            consumers = gone,
            "somebody deleted consumers of the work queue; they were made again, and what waited is \
             delivered again"
        );
        Ok(())
    }
}

fn missing(name: &str) -> Problem {
    Problem {
        what: format!("the stream {name} is missing: somebody deleted it; no new work is taken on"),
        remedy:
            "restore it from a backup (`nats stream restore`), or start a worker, which makes it \
                 anew and empty: `backstackd run`"
                .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(created: &str, last_sequence: u64) -> StreamIdentity {
        StreamIdentity {
            created: created.to_owned(),
            last_sequence,
        }
    }

    #[test]
    fn a_stream_that_was_made_anew_is_another_one() {
        let mut known = Known::new(identity("one", 7));
        assert_eq!(known.see(Some(identity("one", 9))), Change::None);
        assert_eq!(known.see(None), Change::Missing);
        assert_eq!(known.see(None), Change::None);
        assert_eq!(known.see(Some(identity("one", 9))), Change::Back);
        assert!(matches!(
            known.see(Some(identity("two", 12))),
            Change::Replaced(_)
        ));
        assert_eq!(known.see(Some(identity("two", 12))), Change::None);
    }

    #[test]
    fn a_sequence_that_went_back_is_believed_when_it_is_seen_twice() {
        let mut known = Known::new(identity("one", 7));
        assert_eq!(known.see(Some(identity("one", 6))), Change::Suspected);
        assert_eq!(known.see(Some(identity("one", 7))), Change::None);
        assert_eq!(known.see(Some(identity("one", 5))), Change::Suspected);
        assert!(matches!(
            known.see(Some(identity("one", 5))),
            Change::Replaced(_)
        ));
        assert_eq!(known.see(Some(identity("one", 5))), Change::None);
    }
}
