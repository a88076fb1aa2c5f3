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

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::action::{Action, ActionKind, ActionMessage};
use crate::id::{BranchName, JobId, ObjectId, RepoId, TaskId, WorkerId};
use crate::outcome::{JobError, JobResult};
use crate::time::Timestamp;

/// Largest row, in bytes of JSON; longer lists in the result are cut.
pub const MAX_ROW_BYTES: usize = 256 * 1024;

/// How many changes of status a row remembers.
pub const MAX_TRANSITIONS: usize = 16;

/// Attempts a job has unless the worker is told otherwise.
pub const DEFAULT_MAX_ATTEMPTS: u32 = 5;

/// What a job was asked to do; never changes after the row was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JobSpec {
    /// The job's id.
    pub job_id: JobId,
    /// Its repository.
    pub repo: RepoId,
    /// The action's name as in the subject; in the row of a refused message possibly no action.
    pub action: String,
    /// The branch it is about.
    pub branch: Option<BranchName>,
    /// The parent it names.
    pub parent: Option<BranchName>,
    /// The base it names.
    pub base: Option<ObjectId>,
    /// Whether a sync restacks afterwards.
    #[serde(default)]
    pub restack: bool,
    /// Whether nothing is pushed and no row but this one changes.
    #[serde(default)]
    pub dry_run: bool,
    /// The task it attaches.
    pub task_id: Option<TaskId>,
    /// The ended job that it repeats.
    pub retry_of: Option<JobId>,
    /// Who asked, in the publisher's words.
    pub requested_by: Option<String>,
}

impl JobSpec {
    /// What `message` asks of `repo`, under the id that was settled for it.
    pub fn new(repo: RepoId, job_id: JobId, message: &ActionMessage) -> Self {
        let action = &message.action;
        let mut spec = Self::nameless(repo, job_id, action.kind().as_str());
        spec.branch = action.branch().cloned();
        spec.dry_run = message.dry_run;
        spec.retry_of = message.retry_of;
        spec.requested_by = message.requested_by.clone();
        match action {
            Action::SyncRepo { restack } => spec.restack = *restack,
            Action::ReparentBranch { parent, base, .. } => {
                spec.parent = Some(parent.clone());
                spec.base = *base;
            }
            Action::RegisterExistingBranch {
                parent,
                base,
                task_id,
                ..
            } => {
                spec.parent = parent.clone();
                spec.base = *base;
                spec.task_id = *task_id;
            }
            Action::RestackRepo
            | Action::RestackSubtree { .. }
            | Action::RebaseBranch { .. }
            | Action::UnregisterBranch { .. } => {}
        }
        spec
    }

    /// The spec of a message that could not be decoded: its action's name and no fields.
    pub fn nameless(repo: RepoId, job_id: JobId, action: &str) -> Self {
        Self {
            job_id,
            repo,
            action: action.to_owned(),
            branch: None,
            parent: None,
            base: None,
            restack: false,
            dry_run: false,
            task_id: None,
            retry_of: None,
            requested_by: None,
        }
    }

    /// The action's kind, where it is one.
    pub fn kind(&self) -> Option<ActionKind> {
        self.action.parse().ok()
    }

    /// The message that asks for the same again; `None` where the row is of a refused message.
    pub fn to_message(&self) -> Option<ActionMessage> {
        let branch = || self.branch.clone();
        let action = match self.kind()? {
            ActionKind::SyncRepo => Action::SyncRepo {
                restack: self.restack,
            },
            ActionKind::RestackRepo => Action::RestackRepo,
            ActionKind::RestackSubtree => Action::RestackSubtree { branch: branch()? },
            ActionKind::RebaseBranch => Action::RebaseBranch { branch: branch()? },
            ActionKind::ReparentBranch => Action::ReparentBranch {
                branch: branch()?,
                parent: self.parent.clone()?,
                base: self.base,
            },
            ActionKind::RegisterExistingBranch => Action::RegisterExistingBranch {
                branch: branch()?,
                parent: self.parent.clone(),
                base: self.base,
                task_id: self.task_id,
            },
            ActionKind::UnregisterBranch => Action::UnregisterBranch { branch: branch()? },
        };
        Some(ActionMessage {
            job_id: Some(self.job_id),
            action,
            dry_run: self.dry_run,
            retry_of: self.retry_of,
            requested_by: self.requested_by.clone(),
        })
    }
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobStatus {
    /// Accepted; waits for its turn, for a worker, or for its next attempt.
    Queued,
    /// A worker is at it.
    Running,
    /// Done.
    Completed,
    /// Ended without success; `error` says why.
    Error,
    /// Ended because somebody asked for that.
    Cancelled,
}

impl JobStatus {
    /// Every status there is.
    pub const ALL: [Self; 5] = [
        Self::Queued,
        Self::Running,
        Self::Completed,
        Self::Error,
        Self::Cancelled,
    ];

    /// The status as written on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Error => "error",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether the row never changes again.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Error | Self::Cancelled)
    }
}

impl fmt::Display for JobStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How far a running job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Progress {
    /// The step it is at.
    pub step: Step,
    /// How much of the step is done: objects for `fetch`, branches or commits elsewhere.
    pub done: u64,
    /// Of how much; 0 where that is not known yet.
    pub total: u64,
}

/// The steps of an action, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The pre-sync: fetching from the remote.
    Fetch,
    /// Finding merged branches and what is to be replayed onto what.
    Plan,
    /// Replaying commits.
    Restack,
    /// Pushing what moved.
    Push,
    /// The post-sync: writing the branch rows.
    Rows,
}

impl Step {
    /// The step as written on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fetch => "fetch",
            Self::Plan => "plan",
            Self::Restack => "restack",
            Self::Push => "push",
            Self::Rows => "rows",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One change of status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Transition {
    /// When.
    pub at: Timestamp,
    /// To what.
    pub status: JobStatus,
    /// By which worker, where one had a hand in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerId>,
}

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
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::outcome::ErrorCode;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_unix_millis(second * 1_000).unwrap()
    }

    fn queued() -> Job {
        let spec = JobSpec::new(
            "web".parse().unwrap(),
            JobId::generate(),
            &Action::RestackRepo.into(),
        );
        Job::queued(spec, Some(7), at(0))
    }

    fn start(delivery: u64) -> JobEvent {
        let worker = WorkerId::generate("host", 1);
        JobEvent::Start {
            worker,
            sequence: 7,
            delivery,
            max_attempts: 5,
        }
    }

    fn fail(code: ErrorCode) -> JobEvent {
        JobEvent::Fail {
            error: JobError::new(code, "because"),
            result: None,
        }
    }

    fn complete() -> JobEvent {
        JobEvent::Complete {
            message: "Done".to_owned(),
            result: JobResult::default(),
        }
    }

    fn retry() -> JobEvent {
        JobEvent::Retry {
            error: JobError::new(ErrorCode::RemoteUnreachable, "no route"),
            next_attempt_at: at(9),
        }
    }

    #[test]
    fn runs_and_completes() {
        let running = queued().apply(start(1), at(1)).unwrap();
        assert_eq!(
            (running.status, running.attempt, running.run),
            (JobStatus::Running, 1, 1)
        );
        let done = running.apply(complete(), at(2)).unwrap();
        assert_eq!(done.status, JobStatus::Completed);
        assert_eq!(
            (done.started_at, done.finished_at),
            (Some(at(1)), Some(at(2)))
        );
        let statuses: Vec<_> = done.transitions.iter().map(|t| t.status.as_str()).collect();
        assert_eq!(statuses, ["queued", "running", "completed"]);
    }

    #[test]
    fn a_retry_waits_in_the_queue_and_counts() {
        let waiting = queued()
            .apply(start(1), at(1))
            .unwrap()
            .apply(retry(), at(2))
            .unwrap();
        assert_eq!(
            (waiting.status, waiting.next_attempt_at),
            (JobStatus::Queued, Some(at(9)))
        );
        let again = waiting.apply(start(2), at(9)).unwrap();
        assert_eq!(
            (again.attempt, again.run, again.next_attempt_at),
            (2, 2, None)
        );
        assert_eq!(again.started_at, Some(at(1)), "when it first ran");
    }

    #[test]
    fn a_shutdown_gives_the_attempt_back_but_not_the_run() {
        let back = queued()
            .apply(start(1), at(1))
            .unwrap()
            .apply(JobEvent::HandBack, at(2))
            .unwrap();
        assert_eq!(
            (back.status, back.attempt, back.run),
            (JobStatus::Queued, 0, 1)
        );
    }

    #[test]
    fn cancelling_ends_a_queued_job_and_flags_a_running_one() {
        let ended = queued().apply(JobEvent::RequestCancel, at(1)).unwrap();
        assert_eq!(ended.status, JobStatus::Cancelled);
        let running = queued().apply(start(1), at(1)).unwrap();
        let flagged = running.apply(JobEvent::RequestCancel, at(2)).unwrap();
        assert_eq!(
            (flagged.status, flagged.cancel_requested),
            (JobStatus::Running, true)
        );
        assert_eq!(
            flagged.apply(JobEvent::Cancel, at(3)).unwrap().status,
            JobStatus::Cancelled
        );
    }

    #[test]
    fn a_job_may_be_refused_before_it_runs_but_not_complete() {
        assert_eq!(
            queued().apply(fail(ErrorCode::Expired), at(1)).unwrap().run,
            0
        );
        let error = queued().apply(complete(), at(1)).unwrap_err();
        assert_eq!(error.to_string(), "a job that is queued cannot complete");
    }

    #[test]
    fn time_never_goes_back_in_a_row() {
        let running = queued().apply(start(1), at(100)).unwrap();
        assert_eq!(
            running.apply(complete(), at(5)).unwrap().finished_at,
            Some(at(100))
        );
    }

    #[test]
    fn the_newest_transitions_are_kept() {
        let mut job = queued();
        for n in 0..20 {
            job = job
                .apply(start(n), at(1))
                .unwrap()
                .apply(retry(), at(2))
                .unwrap();
        }
        assert_eq!(job.transitions.len(), MAX_TRANSITIONS);
        assert_eq!(job.transitions.last().unwrap().status, JobStatus::Queued);
    }

    #[test]
    fn a_row_stays_within_its_size_whatever_a_remote_says() {
        let branch = |i: usize| format!("b/{i}-{}", "x".repeat(900)).parse().unwrap();
        let result = JobResult {
            up_to_date: (0..2_000).map(branch).collect(),
            ..Default::default()
        };
        let error = JobError::new(ErrorCode::Internal, "é".repeat(300_000));
        let running = queued().apply(start(1), at(1)).unwrap();
        let row = running
            .apply(
                JobEvent::Fail {
                    error,
                    result: Some(result),
                },
                at(2),
            )
            .unwrap();
        assert!(serde_json::to_vec(&row).unwrap().len() <= MAX_ROW_BYTES);
        assert!(row.result.unwrap().truncated);
    }

    #[test]
    fn a_row_reads_back_and_asks_for_the_same_again() {
        let job = queued().apply(start(1), at(1)).unwrap();
        let json = serde_json::to_string(&job).unwrap();
        assert_eq!(serde_json::from_str::<Job>(&json).unwrap(), job);
        assert_eq!(job.spec.to_message().unwrap().action, Action::RestackRepo);
    }

    proptest! {
        /// Whatever happens to a job, in whatever order, what the contract promises of rows holds.
        #[test]
        fn every_history_keeps_the_promises(picks in proptest::collection::vec(0usize..8, 0..60)) {
            let mut job = queued();
            for (second, pick) in picks.into_iter().enumerate() {
                let event = match pick {
                    0 => start(1),
                    1 => JobEvent::Report {
                        message: "On it".to_owned(),
                        progress: Progress { step: Step::Push, done: 1, total: 2 },
                    },
                    2 => retry(),
                    3 => JobEvent::HandBack,
                    4 => JobEvent::RequestCancel,
                    5 => JobEvent::Cancel,
                    6 => complete(),
                    _ => fail(ErrorCode::Conflict),
                };
                match job.apply(event, at(second as i64)) {
                    Ok(next) => {
                        prop_assert!(!job.status.is_terminal(), "terminal rows never change");
                        prop_assert!(next.run >= job.run);
                        prop_assert!(next.updated_at >= job.updated_at);
                        prop_assert_eq!(next.status.is_terminal(), next.finished_at.is_some());
                        prop_assert!(next.attempt as u64 <= next.run);
                        prop_assert_eq!(&next.spec, &job.spec);
                        job = next;
                    }
                    Err(error) => prop_assert_eq!(error.status, job.status),
                }
            }
        }
    }
}
