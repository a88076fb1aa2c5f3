//! What the service counts and measures, for Prometheus: every name, every help text, every label.
//!
//! Nowhere else is a metric named. [`OPERATING.md`](../OPERATING.md) has the same list in a table, and a
//! test keeps the two equal. Labels take few values that are known beforehand: the seven actions, how a
//! run can end, the buckets. There is no label for the repository or the branch: anybody who may publish
//! can invent one, and each would be kept for ever, here and in every Prometheus that scrapes this. Rows
//! and log lines say which repository it was.
//!
//! Counting never waits and never fails.

use std::fmt;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use backstack_engine::mirror::Stats;
use backstack_schemas::topology::{Bucket, DeadReason};
use backstack_schemas::{ActionKind, JobStatus, Timestamp};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

/// The content type of what [`Metrics::text`] returns.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Names and values of labels.
type Labels<const N: usize> = [(&'static str, &'static str); N];

/// A histogram for each value of one label.
type Histograms = Family<Labels<1>, Histogram, fn() -> Histogram>;

/// From an overtaken sync to the default action timeout.
const RUN_SECONDS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 900.0,
];

/// From a worker that idles to a queue that waits for hours.
const WAIT_SECONDS: [f64; 13] = [
    0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1_800.0, 7_200.0,
];

/// Attempts are few.
const ATTEMPTS: [f64; 6] = [1.0, 2.0, 3.0, 4.0, 5.0, 10.0];

/// How a run ended, for the label of that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// As the job's row says: terminal, or queued again for a retry.
    Row(JobStatus, Option<&'static str>),
    /// The worker shut down.
    HandedBack,
    /// Another run took the job over, or its message was no longer held.
    Replaced,
}

impl Ending {
    fn as_str(self) -> &'static str {
        match self {
            Self::HandedBack => "handed_back",
            Self::Replaced => "replaced",
            Self::Row(JobStatus::Queued | JobStatus::Running, _) => "retried",
            Self::Row(JobStatus::Error, Some(code)) => code,
            Self::Row(status, _) => status.as_str(),
        }
    }
}

/// Everything that is counted and measured. One for each worker.
pub struct Metrics {
    registry: Registry,
    runs: Family<Labels<2>, Counter>,
    run_time: Histograms,
    queue_wait: Histogram,
    attempts: Histogram,
    fetch_time: Histograms,
    push_time: Histograms,
    mirrors: Gauge,
    mirror_bytes: Gauge,
    held: Family<Labels<1>, Gauge>,
    permits: Gauge,
    permits_in_use: Gauge,
    deliveries: Family<Labels<1>, Counter>,
    /// Pulls that the server refused or never answered.
    pub pulls_refused: Counter,
    dead_letters: Family<Labels<1>, Counter>,
    /// Jobs that ended as lost.
    pub lost_jobs: Counter,
    /// Finished messages that the stream had kept.
    pub leftovers_removed: Counter,
    row_conflicts: Family<Labels<1>, Counter>,
    /// Connections to NATS that were made after the first.
    pub reconnects: Counter,
    connected: Gauge,
    stream_problems: Gauge,
    /// Streams and buckets found to be other ones than before.
    pub streams_replaced: Counter,
    /// Consumers that were gone and made again.
    pub consumers_recreated: Counter,
    draining: Gauge,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Everything at zero. What has labels is there from the start for the values that are sure to come,
    /// so that rates can be taken of the first event.
    pub fn new() -> Self {
        let by_run_time = || Histograms::new_with_constructor(|| Histogram::new(RUN_SECONDS));
        let mut registry = Registry::with_prefix("backstack");
        let to = &mut registry;
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        to.register("build", "The program that is running", build);
        let metrics = Self {
            runs: add(
                to,
                "runs",
                "Runs of jobs that ended here, and messages refused without one, by action and ending: completed, cancelled, retried, handed_back, replaced, or the error code",
            ),
            run_time: add_seconds(
                to,
                "run",
                "How long runs took, retried ones included",
                by_run_time(),
            ),
            queue_wait: add_seconds(
                to,
                "queue_wait",
                "From storing an action to its first run",
                Histogram::new(WAIT_SECONDS),
            ),
            attempts: add_given(
                to,
                "job_attempts",
                "Attempts that jobs which ended here had taken",
                Histogram::new(ATTEMPTS),
            ),
            fetch_time: add_seconds(
                to,
                "fetch",
                "How long fetching from remotes took, by outcome: ok or error",
                by_run_time(),
            ),
            push_time: add_seconds(
                to,
                "push",
                "How long pushing to remotes took, by outcome: ok or error",
                by_run_time(),
            ),
            mirrors: add(
                to,
                "mirrors",
                "Mirrors in the state directory, looked through once a minute",
            ),
            mirror_bytes: add_bytes(to, "mirrors", "Bytes that the mirrors take up"),
            held: add(
                to,
                "held_messages",
                "Messages that this worker holds, by state: waiting for their turn, or running",
            ),
            permits: add(
                to,
                "permits",
                "Jobs that may run here at once (--concurrency)",
            ),
            permits_in_use: add(
                to,
                "permits_in_use",
                "Jobs that run here now, or are about to",
            ),
            deliveries: add(
                to,
                "deliveries",
                "Messages that came in, by whether they had been delivered before",
            ),
            pulls_refused: add(
                to,
                "pulls_refused",
                "Pulls that the server refused or never answered",
            ),
            dead_letters: add(
                to,
                "dead_letters",
                "Messages that no job could be made of, by reason",
            ),
            lost_jobs: add(
                to,
                "lost_jobs",
                "Jobs that ended as lost, since their message was gone",
            ),
            leftovers_removed: add(
                to,
                "leftovers_removed",
                "Messages that the stream had kept though no consumer would deliver them again, and that were removed",
            ),
            row_conflicts: add(
                to,
                "row_conflicts",
                "Writes of rows that found another revision than they expected, by bucket",
            ),
            reconnects: add(
                to,
                "nats_reconnects",
                "Connections to NATS that were made after the first",
            ),
            connected: add(
                to,
                "nats_connected",
                "1 while there is a connection to NATS",
            ),
            stream_problems: add(
                to,
                "topology_problems",
                "Streams, buckets and consumers that are missing or have other settings than they must",
            ),
            streams_replaced: add(
                to,
                "streams_replaced",
                "Streams and buckets found deleted and made anew, or set back",
            ),
            consumers_recreated: add(
                to,
                "consumers_recreated",
                "Consumers that somebody had deleted and that were made again",
            ),
            draining: add(to, "draining", "1 once the worker has begun to shut down"),
            registry,
        };
        metrics.begin_at_zero();
        metrics
    }

    fn begin_at_zero(&self) {
        for action in ActionKind::ALL {
            let action = ("action", action.as_str());
            drop(self.runs.get_or_create(&[action, ("ending", "completed")]));
            drop(self.run_time.get_or_create(&[action]));
        }
        for outcome in ["ok", "error"] {
            drop(self.fetch_time.get_or_create(&[("outcome", outcome)]));
            drop(self.push_time.get_or_create(&[("outcome", outcome)]));
        }
        for again in ["false", "true"] {
            drop(self.deliveries.get_or_create(&[("again", again)]));
        }
        for reason in [
            DeadReason::BadSubject,
            DeadReason::BadPayload,
            DeadReason::DuplicateJob,
        ] {
            let reason = [("reason", reason.as_str())];
            drop(self.dead_letters.get_or_create(&reason));
        }
        self.set_held(0, 0);
        self.set_row_conflicts([0; 4]);
    }

    /// A run has ended, or a message was refused without one.
    pub fn ended(&self, action: &str, ending: Ending) {
        let labels = [("action", known(action)), ("ending", ending.as_str())];
        self.runs.get_or_create(&labels).inc();
    }

    /// How long a run took.
    pub fn ran_for(&self, action: &str, time: Duration) {
        let histogram = self.run_time.get_or_create(&[("action", known(action))]);
        histogram.observe(time.as_secs_f64());
    }

    /// A message stored at `stored_at` began its first run at `now`.
    pub fn waited(&self, stored_at: Timestamp, now: Timestamp) {
        self.queue_wait.observe(now.since(stored_at).as_secs_f64());
    }

    /// A job that ended here had taken this many attempts.
    pub fn took_attempts(&self, attempts: u32) {
        self.attempts.observe(f64::from(attempts));
    }

    /// Does a fetch and measures it.
    pub fn fetching<T, E>(&self, fetch: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        measured(&self.fetch_time, fetch)
    }

    /// Does a push and measures it.
    pub fn pushing<T, E>(&self, push: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        measured(&self.push_time, push)
    }

    /// What the mirrors take up.
    pub fn set_mirrors(&self, stats: Stats) {
        self.mirrors.set(whole(stats.mirrors));
        self.mirror_bytes.set(whole(stats.bytes));
    }

    /// Messages held.
    pub fn set_held(&self, waiting: usize, running: usize) {
        let held = |state| self.held.get_or_create_owned(&[("state", state)]);
        held("waiting").set(whole(waiting));
        held("running").set(whole(running));
    }

    /// Places for running jobs, and those that are taken.
    pub fn set_permits(&self, all: usize, in_use: usize) {
        self.permits.set(whole(all));
        self.permits_in_use.set(whole(in_use));
    }

    /// A message came in for the `count`th time.
    pub fn delivered(&self, count: u64) {
        let again = if count > 1 { "true" } else { "false" };
        self.deliveries.get_or_create(&[("again", again)]).inc();
    }

    /// A message went to the dead letters.
    pub fn buried(&self, reason: DeadReason) {
        self.dead_letters
            .get_or_create(&[("reason", reason.as_str())])
            .inc();
    }

    /// Conditional writes that lost, in the order of [`Bucket::ALL`].
    pub fn set_row_conflicts(&self, conflicts: [u64; 4]) {
        for (bucket, count) in Bucket::ALL.into_iter().zip(conflicts) {
            let name = match bucket {
                Bucket::Repos => "repos",
                Bucket::Jobs => "jobs",
                Bucket::Branches => "branches",
                Bucket::Tasks => "tasks",
            };
            let counter = self.row_conflicts.get_or_create(&[("bucket", name)]);
            counter.inner().store(count, Ordering::Relaxed);
        }
    }

    /// How things stand with the connection, the topology and the drain.
    pub fn set_standing(&self, connected: bool, topology_problems: usize, draining: bool) {
        self.connected.set(i64::from(connected));
        self.stream_problems.set(whole(topology_problems));
        self.draining.set(i64::from(draining));
    }

    /// All of it in OpenMetrics' text format.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// The action for a label: what is none of ours is `other`, since anybody can publish anything.
fn known(action: &str) -> &'static str {
    action
        .parse::<ActionKind>()
        .map_or("other", ActionKind::as_str)
}

fn whole(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

fn measured<T, E>(times: &Histograms, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    let began = Instant::now();
    let done = work();
    let outcome = if done.is_ok() { "ok" } else { "error" };
    let histogram = times.get_or_create(&[("outcome", outcome)]);
    histogram.observe(began.elapsed().as_secs_f64());
    done
}

/// Registers a metric that begins at zero.
fn add<M>(registry: &mut Registry, name: &str, help: &str) -> M
where
    M: prometheus_client::registry::Metric + Clone + Default,
{
    add_given(registry, name, help, M::default())
}

fn add_given<M>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M
where
    M: prometheus_client::registry::Metric + Clone,
{
    registry.register(name, help, metric.clone());
    metric
}

fn add_seconds<M>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M
where
    M: prometheus_client::registry::Metric + Clone,
{
    registry.register_with_unit(name, help, Unit::Seconds, metric.clone());
    metric
}

fn add_bytes(registry: &mut Registry, name: &str, help: &str) -> Gauge {
    let metric = Gauge::default();
    registry.register_with_unit(name, help, Unit::Bytes, metric.clone());
    metric
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What the exposition says of itself: type, labels and help of each metric, as the table has them.
    fn exposed() -> BTreeSet<String> {
        let text = Metrics::new().text();
        let helps = text.lines().filter_map(|line| line.strip_prefix("# HELP "));
        helps
            .map(|line| {
                let (family, help) = line.split_once(' ').unwrap();
                let kind = text.lines().find_map(|line| {
                    line.strip_prefix("# TYPE ")?
                        .strip_prefix(family)?
                        .strip_prefix(' ')
                });
                let kind = kind.unwrap();
                let name = match kind {
                    "counter" => format!("{family}_total"),
                    "info" => format!("{family}_info"),
                    _ => family.to_owned(),
                };
                let labels = labels(&text, family);
                let help = help.trim_end_matches('.');
                format!("| `{name}` | {kind} | {labels} | {help} |")
            })
            .collect()
    }

    /// The labels of a metric's samples, but for those that its type brings along.
    fn labels(text: &str, family: &str) -> String {
        let mut labels = BTreeSet::new();
        let samples = text.lines().filter_map(|line| line.strip_prefix(family));
        for sample in samples.filter(|rest| rest.starts_with(['{', '_'])) {
            let inside = sample.split_once('{').and_then(|(suffix, rest)| {
                let known = ["", "_total", "_info", "_bucket", "_sum", "_count"];
                known.contains(&suffix).then_some(rest.split_once('}')?.0)
            });
            for label in inside
                .unwrap_or_default()
                .split(',')
                .filter(|l| !l.is_empty())
            {
                labels.insert(format!("`{}`", label.split_once('=').unwrap().0));
            }
        }
        labels.remove("`le`");
        labels.into_iter().collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn the_table_for_operators_is_what_is_exposed() {
        let documented: BTreeSet<String> = include_str!("../OPERATING.md")
            .lines()
            .filter(|line| line.starts_with("| `backstack_"))
            .map(str::to_owned)
            .collect();
        let exposed = exposed();
        let missing: Vec<_> = exposed.difference(&documented).collect();
        let surplus: Vec<_> = documented.difference(&exposed).collect();
        assert!(
            missing.is_empty() && surplus.is_empty(),
            "OPERATING.md lacks {missing:#?} and has too much {surplus:#?}"
        );
    }

    #[test]
    fn an_action_that_anybody_invented_is_no_label() {
        let metrics = Metrics::new();
        metrics.ended("x\"} 1\nevil{y=\"", Ending::Replaced);
        let text = metrics.text();
        assert!(
            text.contains(r#"backstack_runs_total{action="other",ending="replaced"} 1"#),
            "{text}"
        );
        assert!(!text.contains("evil"), "{text}");
    }

    #[test]
    fn an_ending_is_the_rows_word_for_it() {
        for (ending, word) in [
            (Ending::Row(JobStatus::Completed, None), "completed"),
            (Ending::Row(JobStatus::Cancelled, None), "cancelled"),
            (Ending::Row(JobStatus::Error, Some("conflict")), "conflict"),
            (Ending::Row(JobStatus::Queued, Some("timeout")), "retried"),
            (Ending::HandedBack, "handed_back"),
            (Ending::Replaced, "replaced"),
        ] {
            assert_eq!(ending.as_str(), word);
        }
    }
}
