//! The row of a job and its state machine (contract, section 3).
//!
//! ```text
//! queued ──► running ──► completed | error | cancelled
//!   ▲  │        │
//!   │  └────────┼──► cancelled | error
//!   └───────────┘    retry due, or handed back by a worker that shuts down
//! ```
//!
//! A row changes only through [`Job::apply`], which refuses every transition that is not drawn
//! here; a terminal row never changes again.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::WorkerId;
use crate::outcome::{JobError, JobResult};
use crate::time::Timestamp;

mod spec;
mod status;

pub use spec::JobSpec;
pub use status::{JobStatus, Progress, Step, Transition};

/// Largest row, in bytes of JSON; longer lists in the result are cut.
pub const MAX_ROW_BYTES: usize = 256 * 1024;

/// How many changes of status a row remembers.
pub const MAX_TRANSITIONS: usize = 16;

/// Attempts a job has unless the worker is told otherwise.
pub const DEFAULT_MAX_ATTEMPTS: u32 = 5;

/// A job as its row tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Job {
    /// What it was asked to do.
    #[serde(flatten)]
    pub spec: JobSpec,
    /// Where it stands.
    pub status: JobStatus,
    /// One sentence for a person.
    pub message: String,
    /// How far it is, while it runs.
    pub progress: Option<Progress>,
    /// Tries that count against `max_attempts`.
    pub attempt: u32,
    /// Tries it has.
    pub max_attempts: u32,
    /// When it is tried again, while it waits for that.
    pub next_attempt_at: Option<Timestamp>,
    /// Whether somebody asked a running job to stop.
    #[serde(default)]
    pub cancel_requested: bool,
    /// Every start, those that were given back included; never goes down. It is the fence.
    pub run: u64,
    /// The worker that has it or had it last.
    pub worker: Option<WorkerId>,
    /// The message's sequence in the work queue.
    pub sequence: Option<u64>,
    /// How often the message had been delivered when the run began.
    pub delivery: Option<u64>,
    /// The newest changes of status, oldest first, at most [`MAX_TRANSITIONS`].
    pub transitions: Vec<Transition>,
    /// When the job was accepted.
    pub created_at: Timestamp,
    /// When this row last changed.
    pub updated_at: Timestamp,
    /// When it first ran.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// What it did.
    pub result: Option<JobResult>,
    /// Why it failed; on a queued job, why its last attempt did.
    pub error: Option<JobError>,
}

/// What happens to a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobEvent {
    /// A worker begins a run: the first, a further attempt, or a take-over.
    Start {
        /// The worker.
        worker: WorkerId,
        /// The message's sequence.
        sequence: u64,
        /// The message's delivery count.
        delivery: u64,
        /// How many attempts this worker grants.
        max_attempts: u32,
    },
    /// The run got on; no change of status.
    Report {
        /// What it does, in a sentence.
        message: String,
        /// How far it is.
        progress: Progress,
    },
    /// The attempt failed and another is due.
    Retry {
        /// Why it failed.
        error: JobError,
        /// When the next is due.
        next_attempt_at: Timestamp,
    },
    /// The worker shuts down and gives the job and its attempt back.
    HandBack,
    /// Somebody wants it to stop: ends a queued job, flags a running one.
    RequestCancel,
    /// A running job stopped because of the flag.
    Cancel,
    /// The run did what was asked.
    Complete {
        /// What it did, in a sentence.
        message: String,
        /// What it did.
        result: JobResult,
    },
    /// The job ends without success, before it ran or in a run.
    Fail {
        /// Why.
        error: JobError,
        /// What it did all the same.
        result: Option<JobResult>,
    },
}

/// A transition that the state machine does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a job that is {status} cannot {event}")]
pub struct IllegalTransition {
    /// Where the job stands.
    pub status: JobStatus,
    /// What was to happen.
    pub event: &'static str,
}

impl Job {
    /// The row of a job that was just accepted.
    pub fn queued(spec: JobSpec, sequence: Option<u64>, at: Timestamp) -> Self {
        Self {
            spec,
            status: JobStatus::Queued,
            message: "Waiting for its turn".to_owned(),
            progress: None,
            attempt: 0,
            max_attempts: DEFAULT_MAX_ATTEMPTS,
            next_attempt_at: None,
            cancel_requested: false,
            run: 0,
            worker: None,
            sequence,
            delivery: None,
            transitions: vec![Transition {
                at,
                status: JobStatus::Queued,
                worker: None,
            }],
            created_at: at,
            updated_at: at,
            started_at: None,
            finished_at: None,
            result: None,
            error: None,
        }
    }

    /// The row after `event`, at the time `at` (or at the row's last change, where the clock went
    /// back since).
    ///
    /// # Errors
    /// [`IllegalTransition`] where the event cannot happen to a job in this state.
    pub fn apply(&self, event: JobEvent, at: Timestamp) -> Result<Self, IllegalTransition> {
        use JobStatus::{Cancelled, Completed, Error, Queued, Running};

        let at = at.max(self.updated_at);
        let mut next = Self {
            updated_at: at,
            ..self.clone()
        };
        match (self.status, event) {
            (
                Queued | Running,
                JobEvent::Start {
                    worker,
                    sequence,
                    delivery,
                    max_attempts,
                },
            ) => {
                next.attempt += 1;
                next.run += 1;
                next.max_attempts = max_attempts;
                next.sequence = Some(sequence);
                next.delivery = Some(delivery);
                next.worker = Some(worker);
                next.started_at.get_or_insert(at);
                next.message = format!("Attempt {} of {max_attempts} has begun", next.attempt);
                next.error = None;
                next.enter(Running, at);
            }
            (Running, JobEvent::Report { message, progress }) => {
                next.message = message;
                next.progress = Some(progress);
            }
            // Nobody wants it tried again.
            (Running, JobEvent::Retry { error, .. }) if self.cancel_requested => {
                next.message = format!(
                    "Cancelled instead of tried again; attempt {} failed: {}",
                    self.attempt, error.detail
                );
                next.error = Some(error);
                next.enter(Cancelled, at);
            }
            (Running, JobEvent::HandBack) if self.cancel_requested => {
                next.message = "Cancelled while its worker was shutting down".to_owned();
                next.enter(Cancelled, at);
            }
            (
                Running,
                JobEvent::Retry {
                    error,
                    next_attempt_at,
                },
            ) => {
                next.message = format!(
                    "Attempt {} of {} failed, the next is due at {next_attempt_at}: {}",
                    self.attempt, self.max_attempts, error.detail
                );
                next.error = Some(error);
                next.enter(Queued, at);
                next.next_attempt_at = Some(next_attempt_at);
            }
            (Running, JobEvent::HandBack) => {
                next.attempt = self.attempt.saturating_sub(1);
                next.message = "Handed back by a worker that is shutting down".to_owned();
                next.enter(Queued, at);
            }
            (Queued, JobEvent::RequestCancel) => {
                next.message = "Cancelled before it ran".to_owned();
                next.enter(Cancelled, at);
            }
            (Running, JobEvent::RequestCancel) => next.cancel_requested = true,
            (Running, JobEvent::Cancel) => {
                next.message = "Cancelled before anything was pushed".to_owned();
                next.enter(Cancelled, at);
            }
            (Running, JobEvent::Complete { message, result }) => {
                next.message = message;
                next.result = Some(result);
                next.enter(Completed, at);
            }
            (Queued | Running, JobEvent::Fail { error, result }) => {
                next.message.clone_from(&error.detail);
                next.error = Some(error);
                next.result = result;
                next.enter(Error, at);
            }
            (status, event) => {
                return Err(IllegalTransition {
                    status,
                    event: event.verb(),
                });
            }
        }
        next.fit();
        Ok(next)
    }

    /// Changes the status and what hangs on it.
    fn enter(&mut self, status: JobStatus, at: Timestamp) {
        self.status = status;
        self.progress = None;
        self.next_attempt_at = None;
        if status.is_terminal() {
            self.finished_at = Some(at);
        }
        self.transitions.push(Transition {
            at,
            status,
            worker: self.worker.clone(),
        });
        let surplus = self.transitions.len().saturating_sub(MAX_TRANSITIONS);
        self.transitions.drain(..surplus);
    }

    /// Cuts what may be long, so that the row stays within [`MAX_ROW_BYTES`].
    fn fit(&mut self) {
        /// Room for everything but the result, sentences included.
        const REST: usize = 32 * 1024;
        cut(&mut self.message);
        if let Some(error) = &mut self.error {
            cut(&mut error.detail);
        }
        if let Some(result) = &mut self.result {
            result.truncate_to(MAX_ROW_BYTES - REST);
        }
    }
}

/// Cuts a sentence that a remote may have made arbitrarily long.
fn cut(text: &mut String) {
    const LONGEST: usize = 4_000;
    if text.len() > LONGEST {
        let end = (0..=LONGEST)
            .rev()
            .find(|i| text.is_char_boundary(*i))
            .unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
}

impl JobEvent {
    /// The event as the end of "a job that is … cannot …".
    const fn verb(&self) -> &'static str {
        match self {
            Self::Start { .. } => "start",
            Self::Report { .. } => "report progress",
            Self::Retry { .. } => "be retried",
            Self::HandBack => "be handed back",
            Self::RequestCancel | Self::Cancel => "be cancelled",
            Self::Complete { .. } => "complete",
            Self::Fail { .. } => "fail",
        }
    }
}

#[cfg(test)]
mod tests;
