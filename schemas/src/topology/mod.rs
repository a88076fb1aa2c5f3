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

use crate::action::ActionKind;
use crate::id::{Namespace, RepoId};

mod keys;
mod permissions;
mod settings;
mod spec;

pub use keys::{branch_key, job_key, message_id, task_branch_key, task_key};
pub use permissions::{Permissions, User};
pub use spec::{ConsumerSpec, Mismatch, StreamSpec};

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

    /// The same for whoever does not know the partition.
    pub fn queue_filter_of_any_partition(&self, repo: &RepoId) -> String {
        format!("{}.queue.*.{repo}.*", self.namespace)
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
}

#[cfg(test)]
mod tests;
