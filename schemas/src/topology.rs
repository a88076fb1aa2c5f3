//! Every subject, stream, consumer and bucket: its name and its settings, and nowhere else.
//!
//! Settings are JSON objects with the names that the JetStream API uses, so that what is asked for,
//! what is compared and what an error names are one and the same. Nothing here talks to a server.
//!
//! ```text
//!  <ns>.actions.<repo>.<action>  ──transform──►  <ns>.queue.<partition>.<repo>.<action>
//!                                                 stream <NS>_ACTIONS, work queue
//!                                                   └─ worker-00 … worker-31, worker-rest
//!  <ns>.schedules.> ─► <NS>_SCHEDULES ─► <ns>.scheduled.> ──sourced into──┘
//! ```

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::action::ActionKind;
use crate::id::{BranchName, JobId, Namespace, RepoId, TaskId};

/// Partitions of the work queue, one consumer each; fixed, since it is part of stored subjects.
pub const PARTITIONS: u32 = 32;

/// Largest action message, in bytes.
pub const MAX_ACTION_BYTES: usize = 64 * 1024;

/// How long JetStream remembers message ids.
pub const DUPLICATE_WINDOW: Duration = Duration::from_secs(10 * 60);

/// How long after its last write a job's row expires, and a dead letter after it came.
pub const ROW_LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How long the marker of a deleted row stays, so that every watch hears of the deletion.
pub const MARKER_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a worker may hold a message without a sign of life, unless the operator says otherwise.
pub const DEFAULT_ACK_WAIT: Duration = Duration::from_secs(30);

/// Deliveries that a consumer may have open at once. Messages that wait for their turn count too;
/// with fewer, a long queue of one repository holds up the others of its partition.
pub const MAX_ACK_PENDING: u32 = 65_536;

/// The priority group that every worker pulls in.
pub const PRIORITY_GROUP: &str = "workers";

/// The names of one installation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    namespace: Namespace,
}

/// What the operator may choose; the rest is fixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choices {
    /// 1 or 3; set once, when the streams are made.
    pub replicas: u8,
    /// The consumers' ack wait.
    pub ack_wait: Duration,
}

impl Default for Choices {
    fn default() -> Self {
        Self {
            replicas: 1,
            ack_wait: DEFAULT_ACK_WAIT,
        }
    }
}

/// A stream (a bucket is one too) and the settings it must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamSpec {
    /// The stream's name.
    pub name: String,
    /// Its configuration, as `$JS.API.STREAM.CREATE` takes it.
    pub config: Value,
}

/// A consumer and the settings it must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerSpec {
    /// The stream it reads.
    pub stream: String,
    /// Its durable name.
    pub name: String,
    /// Its configuration, as the `config` member of `$JS.API.CONSUMER.CREATE` takes it.
    pub config: Value,
}

/// One setting that is not what it must be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{of}: {setting} is {is}, but must be {must_be}")]
pub struct Mismatch {
    /// The stream, bucket or consumer.
    pub of: String,
    /// The setting, as the JetStream API spells it.
    pub setting: String,
    /// What it is.
    pub is: Value,
    /// What it must be.
    pub must_be: Value,
}

/// The four buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bucket {
    /// Repository rows.
    Repos,
    /// Job rows.
    Jobs,
    /// Branch rows.
    Branches,
    /// Task rows, and which task has a branch.
    Tasks,
}

impl Bucket {
    /// Every bucket.
    pub const ALL: [Self; 4] = [Self::Repos, Self::Jobs, Self::Branches, Self::Tasks];

    const fn suffix(self) -> &'static str {
        match self {
            Self::Repos => "repos",
            Self::Jobs => "jobs",
            Self::Branches => "branches",
            Self::Tasks => "tasks",
        }
    }

    const fn history(self) -> u32 {
        match self {
            Self::Branches => 1,
            Self::Repos | Self::Jobs | Self::Tasks => 4,
        }
    }

    const fn lifetime(self) -> Duration {
        match self {
            Self::Jobs => ROW_LIFETIME,
            Self::Repos | Self::Branches | Self::Tasks => Duration::ZERO,
        }
    }
}

/// Why a message is in the dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeadReason {
    /// Its subject names no repository and action.
    BadSubject,
    /// Its payload, or its action, is none.
    BadPayload,
    /// Its job id is another job's.
    DuplicateJob,
}

impl DeadReason {
    /// The reason as the last token of the subject.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadSubject => "bad_subject",
            Self::BadPayload => "bad_payload",
            Self::DuplicateJob => "duplicate_job",
        }
    }
}

/// A subject of the work queue, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSubject {
    /// The partition that the server computed from the repository.
    pub partition: u32,
    /// The repository.
    pub repo: RepoId,
    /// The action's name; possibly no action.
    pub action: String,
}

impl Topology {
    /// The names under `namespace`.
    pub fn new(namespace: Namespace) -> Self {
        Self { namespace }
    }

    /// The namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The work queue's stream.
    pub fn actions_stream(&self) -> String {
        format!("{}_ACTIONS", self.namespace.upper())
    }

    /// The stream of schedules.
    pub fn schedules_stream(&self) -> String {
        format!("{}_SCHEDULES", self.namespace.upper())
    }

    /// The dead letters' stream.
    pub fn dead_stream(&self) -> String {
        format!("{}_DEAD", self.namespace.upper())
    }

    /// Where an action is published.
    pub fn action_subject(&self, repo: &RepoId, action: ActionKind) -> String {
        format!("{}.actions.{repo}.{action}", self.namespace)
    }

    /// Where the dead letters of `reason` go.
    pub fn dead_subject(&self, reason: DeadReason) -> String {
        format!("{}.dead.{}", self.namespace, reason.as_str())
    }

    /// Every stored subject of one repository: what its tickets are asked by.
    pub fn queue_filter(&self, partition: u32, repo: &RepoId) -> String {
        format!("{}.queue.{partition}.{repo}.*", self.namespace)
    }

    /// Takes a stored subject apart; `None` where it names no repository of ours, so that no job can
    /// be made of the message.
    pub fn parse_queue_subject(&self, subject: &str) -> Option<QueueSubject> {
        let rest = subject
            .strip_prefix(self.namespace.as_str())?
            .strip_prefix(".queue.")?;
        let mut tokens = rest.split('.');
        let (partition, repo, action) = (tokens.next()?, tokens.next()?, tokens.next()?);
        if tokens.next().is_some() {
            return None;
        }
        Some(QueueSubject {
            partition: partition.parse().ok()?,
            repo: repo.parse().ok()?,
            action: action.to_owned(),
        })
    }

    /// Where a message must be published to be stored on `stored`: what its publisher wrote, but for a
    /// message that a schedule made. A subject that no transform took is returned as it is.
    pub fn published_subject(&self, stored: &str) -> String {
        let queue = format!("{}.queue.", self.namespace);
        let rest = stored
            .strip_prefix(&queue)
            .and_then(|rest| rest.split_once('.'));
        match rest {
            Some((_partition, rest)) => format!("{}.actions.{rest}", self.namespace),
            None => stored.to_owned(),
        }
    }

    /// Takes a subject apart that an action was published on; `None` where it names no repository.
    pub fn parse_action_subject(&self, subject: &str) -> Option<(RepoId, String)> {
        let rest = subject
            .strip_prefix(self.namespace.as_str())?
            .strip_prefix(".actions.")?;
        let (repo, action) = rest.split_once('.')?;
        Some((repo.parse().ok()?, action.to_owned()))
    }

    /// The name of a bucket.
    pub fn bucket(&self, bucket: Bucket) -> String {
        format!("{}_{}", self.namespace, bucket.suffix())
    }

    /// The stream behind a bucket.
    pub fn bucket_stream(&self, bucket: Bucket) -> String {
        format!("KV_{}", self.bucket(bucket))
    }

    /// The subject of a bucket's key.
    pub fn key_subject(&self, bucket: Bucket, key: &str) -> String {
        format!("$KV.{}.{key}", self.bucket(bucket))
    }

    /// Every stream, the four buckets' included, as this installation needs them.
    pub fn streams(&self, choices: Choices) -> Vec<StreamSpec> {
        // The schedules first: the work queue sources from them.
        let mut streams = vec![
            self.schedules(choices),
            self.actions(choices),
            self.dead(choices),
        ];
        streams.extend(Bucket::ALL.map(|bucket| self.bucket_spec(bucket, choices)));
        streams
    }

    /// Every consumer of the work queue.
    pub fn consumers(&self, choices: Choices) -> Vec<ConsumerSpec> {
        let partitions = (0..PARTITIONS).map(|partition| self.worker(partition, choices));
        partitions.chain([self.rest(choices)]).collect()
    }

    /// The durable name of a partition's consumer.
    pub fn worker_name(partition: u32) -> String {
        format!("worker-{partition:02}")
    }

    /// The durable name of the consumer of what the transform did not take.
    pub const REST_NAME: &'static str = "worker-rest";

    fn actions(&self, choices: Choices) -> StreamSpec {
        let ns = &self.namespace;
        let transform = |from: &str| {
            json!({
                "src": format!("{ns}.{from}.*.*"),
                "dest": format!(
                    "{ns}.queue.{{{{partition({PARTITIONS},1)}}}}.{{{{wildcard(1)}}}}.{{{{wildcard(2)}}}}"
                ),
            })
        };
        let own = json!({
            "subjects": [format!("{ns}.actions.*.*")],
            "subject_transform": transform("actions"),
            "sources": [{
                "name": self.schedules_stream(),
                "subject_transforms": [transform("scheduled")],
            }],
            "retention": "workqueue",
            "discard": "new",
            "allow_direct": true,
            "deny_purge": true,
            "allow_rollup_hdrs": false,
            "allow_msg_schedules": false,
            "max_msg_size": MAX_ACTION_BYTES,
            "duplicate_window": nanos(DUPLICATE_WINDOW),
        });
        stream(self.actions_stream(), own, choices)
    }

    fn schedules(&self, choices: Choices) -> StreamSpec {
        let ns = &self.namespace;
        let own = json!({
            "subjects": [format!("{ns}.schedules.*.*"), format!("{ns}.scheduled.*.*")],
            "retention": "limits",
            "allow_direct": true,
            "allow_msg_schedules": true,
            "allow_msg_ttl": true,
            // The server forces the next two on wherever schedules are allowed.
            "allow_rollup_hdrs": true,
            "deny_purge": false,
            "max_msg_size": MAX_ACTION_BYTES,
        });
        stream(self.schedules_stream(), own, choices)
    }

    fn dead(&self, choices: Choices) -> StreamSpec {
        let own = json!({
            "subjects": [format!("{}.dead.>", self.namespace)],
            "retention": "limits",
            "allow_direct": true,
            "max_age": nanos(ROW_LIFETIME),
            "duplicate_window": nanos(DUPLICATE_WINDOW),
        });
        stream(self.dead_stream(), own, choices)
    }

    fn bucket_spec(&self, bucket: Bucket, choices: Choices) -> StreamSpec {
        let name = self.bucket(bucket);
        let own = json!({
            "subjects": [format!("$KV.{name}.>")],
            "retention": "limits",
            "discard": "new",
            "max_msgs_per_subject": bucket.history(),
            "max_age": nanos(bucket.lifetime()),
            "allow_direct": true,
            // A deletion replaces what the row was by a marker that goes after a while.
            "allow_rollup_hdrs": true,
            "allow_msg_ttl": true,
            "deny_delete": true,
        });
        stream(self.bucket_stream(bucket), own, choices)
    }

    fn worker(&self, partition: u32, choices: Choices) -> ConsumerSpec {
        let own = json!({
            "filter_subject": format!("{}.queue.{partition}.>", self.namespace),
            "priority_groups": [PRIORITY_GROUP],
            "priority_policy": "prioritized",
        });
        consumer(
            self.actions_stream(),
            Self::worker_name(partition),
            own,
            choices,
        )
    }

    fn rest(&self, choices: Choices) -> ConsumerSpec {
        let own = json!({ "filter_subject": format!("{}.actions.>", self.namespace) });
        consumer(
            self.actions_stream(),
            Self::REST_NAME.to_owned(),
            own,
            choices,
        )
    }
}

/// The key of a job's row.
pub fn job_key(repo: &RepoId, job: JobId) -> String {
    format!("{repo}.{job}")
}

/// The key of a branch's row.
pub fn branch_key(repo: &RepoId, branch: &BranchName) -> String {
    format!("{repo}.{}", branch.to_key())
}

/// The key of a task's row.
pub fn task_key(repo: &RepoId, task: TaskId) -> String {
    format!("{repo}.{task}")
}

/// The key that says which task has a branch; created if absent, so that one creator wins.
pub fn task_branch_key(repo: &RepoId, branch: &BranchName) -> String {
    format!("{repo}.branch.{}", branch.to_key())
}

/// The `Nats-Msg-Id` that makes publishing the same job again a duplicate. Message ids are unique
/// over the whole stream, job ids only over a repository.
pub fn message_id(repo: &RepoId, job: JobId) -> String {
    format!("{repo}.{job}")
}

/// A stream's own settings over those that all of them share.
fn stream(name: String, own: Value, choices: Choices) -> StreamSpec {
    let mut config = json!({
        "name": name,
        "storage": "file",
        "num_replicas": choices.replicas,
        "discard": "old",
        "max_msgs": -1,
        "max_bytes": -1,
        "max_age": 0,
        "max_msgs_per_subject": -1,
        "max_msg_size": -1,
        "max_consumers": -1,
        // With any of these, messages and rows would be refused or would vanish.
        "sealed": false,
        "discard_new_per_subject": false,
        "allow_msg_ttl": false,
    });
    merge(&mut config, own);
    StreamSpec { name, config }
}

/// A consumer's own settings over those that all of them share.
fn consumer(stream: String, name: String, own: Value, choices: Choices) -> ConsumerSpec {
    let mut config = json!({
        "name": name,
        "durable_name": name,
        "deliver_policy": "all",
        "ack_policy": "explicit",
        "ack_wait": nanos(choices.ack_wait),
        "max_ack_pending": MAX_ACK_PENDING,
        "max_deliver": -1,
        // A consumer that forgets payloads, itself or how to wait is none of ours.
        "headers_only": false,
        "inactive_threshold": 0,
        "backoff": [],
        "max_batch": 0,
        "max_bytes": 0,
        "max_expires": 0,
    });
    merge(&mut config, own);
    ConsumerSpec {
        stream,
        name,
        config,
    }
}

fn merge(config: &mut Value, own: Value) {
    if let (Value::Object(config), Value::Object(own)) = (config, own) {
        config.extend(own);
    }
}

/// A duration as JetStream writes it. Ours are all far below what an `i64` of nanoseconds holds.
fn nanos(span: Duration) -> i64 {
    i64::try_from(span.as_nanos()).unwrap_or(i64::MAX)
}

impl StreamSpec {
    /// Every setting of `actual`, a stream's configuration as the server tells it, that is not what
    /// it must be.
    pub fn mismatches(&self, actual: &Value) -> Vec<Mismatch> {
        mismatches(&self.name, &self.config, actual)
    }
}

impl ConsumerSpec {
    /// The same for a consumer's configuration.
    pub fn mismatches(&self, actual: &Value) -> Vec<Mismatch> {
        mismatches(
            &format!("{} {}", self.stream, self.name),
            &self.config,
            actual,
        )
    }
}

fn mismatches(of: &str, expected: &Value, actual: &Value) -> Vec<Mismatch> {
    let none = Map::new();
    let expected = expected.as_object().unwrap_or(&none);
    expected
        .iter()
        .filter(|(setting, must_be)| !same(must_be, &actual[setting.as_str()]))
        .map(|(setting, must_be)| Mismatch {
            of: of.to_owned(),
            setting: setting.clone(),
            is: actual[setting.as_str()].clone(),
            must_be: must_be.clone(),
        })
        .collect()
}

/// Whether two settings are the same. The server leaves out what is false, zero or empty, and adds
/// members to objects that we did not ask about.
fn same(must_be: &Value, is: &Value) -> bool {
    match (must_be, is) {
        (Value::Object(must_be), Value::Object(is)) => must_be
            .iter()
            .all(|(name, value)| same(value, is.get(name).unwrap_or(&Value::Null))),
        (Value::Array(must_be), Value::Array(is)) => {
            must_be.len() == is.len() && must_be.iter().zip(is).all(|(m, i)| same(m, i))
        }
        (must_be, Value::Null) => is_default(must_be),
        (must_be, is) => must_be == is,
    }
}

fn is_default(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topology() -> Topology {
        Topology::default()
    }

    #[test]
    fn names_are_those_of_the_contract() {
        let t = Topology::new("acme-1".parse().unwrap());
        let repo: RepoId = "web".parse().unwrap();
        assert_eq!(t.actions_stream(), "ACME-1_ACTIONS");
        assert_eq!(
            t.action_subject(&repo, ActionKind::SyncRepo),
            "acme-1.actions.web.sync_repo"
        );
        assert_eq!(t.bucket_stream(Bucket::Jobs), "KV_acme-1_jobs");
        assert_eq!(
            t.dead_subject(DeadReason::BadPayload),
            "acme-1.dead.bad_payload"
        );
        assert_eq!(Topology::worker_name(7), "worker-07");
        let branch: BranchName = "fix/a.b".parse().unwrap();
        assert_eq!(branch_key(&repo, &branch), "web.fix/a=2Eb");
        assert_eq!(task_branch_key(&repo, &branch), "web.branch.fix/a=2Eb");
    }

    #[test]
    fn published_subjects_are_read_from_stored_ones() {
        let t = topology();
        let published = t.published_subject("backstack.queue.7.Web.x");
        assert_eq!(published, "backstack.actions.Web.x");
        assert_eq!(t.parse_action_subject(&published), None);
        let untaken = "backstack.actions.web.*";
        assert_eq!(t.published_subject(untaken), untaken);
        let (repo, action) = t.parse_action_subject(untaken).unwrap();
        assert_eq!((repo.as_str(), action.as_str()), ("web", "*"));
        assert_eq!(
            t.parse_action_subject("backstack.actions.*.sync_repo"),
            None
        );
    }

    #[test]
    fn stored_subjects_are_taken_apart_and_nothing_else_is() {
        let t = topology();
        let subject = t
            .parse_queue_subject("backstack.queue.7.web.restack_repo")
            .unwrap();
        assert_eq!((subject.partition, subject.repo.as_str()), (7, "web"));
        assert_eq!(subject.action, "restack_repo");
        for other in [
            "backstack.queue.7.WEB.restack_repo",
            "backstack.queue.x.web.restack_repo",
            "backstack.queue.7.web",
            "backstack.queue.7.web.restack_repo.more",
            "backstack.actions.*.restack_repo",
            "other.queue.7.web.restack_repo",
        ] {
            assert_eq!(t.parse_queue_subject(other), None, "{other}");
        }
    }

    #[test]
    fn there_are_three_streams_four_buckets_and_a_consumer_for_each_partition() {
        let streams = topology().streams(Choices::default());
        let names: Vec<_> = streams.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "BACKSTACK_SCHEDULES",
                "BACKSTACK_ACTIONS",
                "BACKSTACK_DEAD",
                "KV_backstack_repos",
                "KV_backstack_jobs",
                "KV_backstack_branches",
                "KV_backstack_tasks",
            ]
        );
        let consumers = topology().consumers(Choices::default());
        assert_eq!(consumers.len(), 33);
        assert_eq!(
            consumers[31].config["filter_subject"],
            "backstack.queue.31.>"
        );
        assert_eq!(
            consumers[32].config["filter_subject"],
            "backstack.actions.>"
        );
    }

    #[test]
    fn a_wrong_setting_is_named_with_what_it_is_and_must_be() {
        let spec = topology().actions(Choices::default());
        let mut actual = spec.config.clone();
        actual["max_msgs"] = json!(100);
        actual["deny_purge"] = Value::Null;
        let found: Vec<_> = spec
            .mismatches(&actual)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            found,
            [
                "BACKSTACK_ACTIONS: deny_purge is null, but must be true",
                "BACKSTACK_ACTIONS: max_msgs is 100, but must be -1",
            ]
        );
    }

    #[test]
    fn what_the_server_leaves_out_or_adds_is_no_difference() {
        let spec = topology().actions(Choices::default());
        let mut actual = spec.config.clone();
        let members = actual.as_object_mut().unwrap();
        members.remove("max_age");
        members.remove("allow_rollup_hdrs");
        members.insert("metadata".to_owned(), json!({"_nats.ver": "2.15.1"}));
        actual["sources"][0]["added"] = json!(1);
        assert_eq!(spec.mismatches(&actual), []);
    }
}
