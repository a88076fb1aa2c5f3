//! What a program does with Backstack: publish actions, and look after the rows that follow.
//!
//! ```text
//!  publish ──► work queue ──ack──► accepted: the job will end exactly once
//!     └─then─► row "queued", if there is none yet ──► worker ──► row … ──► watch
//! ```
//!
//! A job is accepted when its message is stored; the row comes second, here or by the worker. A
//! [`Client`] holds no state but its connection and is cheap to clone.

mod jobs;
mod publish;
mod repos;
mod tasks;
mod watch;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use async_nats::Client as Nats;
use backstack_schemas::{
    BranchName, InvalidAction, JobId, JobStatus, RepoId, TaskId, Topology, TraceParent,
};

pub use jobs::{Cancelled, Found, Unreadable};
pub use publish::Published;
pub use repos::{Added, Removed};
pub use tasks::{MAX_TITLE, SYNC_MAX_AGE};
pub use watch::{Change, Changes, JobUpdate, JobWatch};

use crate::api::ApiError;
use crate::rows::{RowError, Rows};

/// Publishes actions, reads and watches their rows.
#[derive(Clone, Debug)]
pub struct Client {
    rows: Rows,
    trace: Option<TraceParent>,
    /// Whether the server has said that this user may write no job rows. It is not asked again, since
    /// it would note each time in its log that it was.
    may_not_write_jobs: Arc<AtomicBool>,
}

/// Why something could not be done. Each says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The action is wrong; nothing was sent.
    #[error(transparent)]
    Invalid(#[from] InvalidAction),
    /// The message is larger than the queue takes; nothing was sent.
    #[error(
        "the message has {bytes} bytes, but the queue takes at most {limit}; shorten its fields"
    )]
    TooLarge {
        /// Its size, headers included.
        bytes: usize,
        /// The largest there may be.
        limit: usize,
    },
    /// There is no queue for the action.
    #[error(
        "there is no stream {stream} for actions on this NATS server; start the service, which makes \
         it: `backstackd run`, or `backstackd dev` to try it out; or check --namespace"
    )]
    NoQueue {
        /// The stream that is missing.
        stream: String,
    },
    /// JetStream is off.
    #[error(
        "JetStream is not enabled on this NATS server, or not for this account; start it with \
         `nats-server -js`, or `backstackd dev` to try Backstack out"
    )]
    NoJetStream,
    /// No acknowledgement came, however often it was tried.
    #[error(
        "the queue did not acknowledge job {job_id} within {within:?} ({error}); it may have been \
         accepted all the same: publishing it again with the same job id is safe"
    )]
    Unacknowledged {
        /// The job's id.
        job_id: JobId,
        /// How long it was tried.
        within: Duration,
        /// What came of the last try.
        error: ApiError,
    },
    /// The queue does not take the message.
    #[error("the queue refused the action: {0}{hint}", hint = refusal_hint(.0))]
    Refused(ApiError),
    /// The id belongs to another job.
    #[error(
        "{repo} already has a job {job_id}, which asks for something else; choose another job id, or \
         none"
    )]
    JobIdTaken {
        /// The repository.
        repo: RepoId,
        /// The id.
        job_id: JobId,
    },
    /// The rows cannot be read or written.
    #[error(transparent)]
    Rows(#[from] RowError),
    /// There is no such job, or its row is not written yet.
    #[error(
        "{repo} has no job {job_id}; if it was published just now, try again, else see `backstack \
         jobs {repo}`"
    )]
    NoSuchJob {
        /// The repository.
        repo: RepoId,
        /// The id.
        job_id: JobId,
    },
    /// The job has ended, so that there is nothing to cancel.
    #[error("job {job_id} has ended already: it is {status}")]
    Ended {
        /// The job's id.
        job_id: JobId,
        /// How it ended.
        status: JobStatus,
    },
    /// The job has not ended, so that there is nothing to repeat.
    #[error(
        "job {job_id} is {status}; only a job that has ended can be retried. Watch it with `backstack \
         watch {repo}`, or cancel it first"
    )]
    NotEnded {
        /// The repository.
        repo: RepoId,
        /// The job's id.
        job_id: JobId,
        /// Where it stands.
        status: JobStatus,
    },
    /// The row is of a message that was no action.
    #[error(
        "job {job_id} was refused for what it asked; it cannot be retried, only asked for rightly"
    )]
    NotRetryable {
        /// The job's id.
        job_id: JobId,
    },
    /// The name is taken by another repository.
    #[error(
        "{repo} is already there with {what} {is}; to change that, remove it first: `backstack repo \
         remove {repo}`"
    )]
    RepoTaken {
        /// The repository.
        repo: RepoId,
        /// `the URL` or `the trunk`.
        what: &'static str,
        /// What it is.
        is: String,
    },
    /// Another task has the branch.
    #[error("{branch} has a task already, {task_id}; see `backstack task list {repo}`")]
    BranchHasTask {
        /// The repository.
        repo: RepoId,
        /// The branch.
        branch: BranchName,
        /// Its task.
        task_id: TaskId,
    },
    /// A task's title that will not do.
    #[error("the title has {characters} characters; it must have 1 to {limit}", limit = MAX_TITLE)]
    BadTitle {
        /// How many it has.
        characters: usize,
    },
    /// There is no such repository.
    #[error("there is no repository {repo}; see `backstack repo list`")]
    NoSuchRepo {
        /// The repository.
        repo: RepoId,
    },
}

/// What to do about a queue that refuses.
fn refusal_hint(error: &ApiError) -> &'static str {
    if error.is_full() {
        "; JetStream has no room: free some, or grant more (max_file_store, or the account's limits), \
         and publish again"
    } else if error.is_denied() {
        "; `backstack permissions publisher` prints what publishing needs"
    } else {
        ""
    }
}

impl ClientError {
    /// Whether NATS, JetStream or the service's streams are not there, so that something has to be
    /// started rather than asked for differently.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::NoQueue { .. } | Self::NoJetStream | Self::Unacknowledged { .. } => true,
            Self::Refused(error) => error.is_transient() || error.is_denied() || error.is_full(),
            Self::Rows(error) => {
                error.is_transient() || error.is_missing_bucket() || error.is_denied()
            }
            _ => false,
        }
    }
}

impl Client {
    /// A client over a connection. Asks nothing.
    pub fn new(nats: Nats, topology: Topology) -> Self {
        Self {
            rows: Rows::new(nats, topology),
            trace: None,
            may_not_write_jobs: Arc::default(),
        }
    }

    /// The same client, whose actions belong to a trace: they carry it in their `traceparent` header.
    #[must_use]
    pub fn traced(self, trace: Option<TraceParent>) -> Self {
        Self { trace, ..self }
    }

    /// The rows, for what has no method here.
    pub fn rows(&self) -> &Rows {
        &self.rows
    }

    /// The names of the installation.
    pub fn topology(&self) -> &Topology {
        self.rows.topology()
    }

    fn nats(&self) -> &Nats {
        self.rows.client()
    }
}
