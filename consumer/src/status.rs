//! The row of the job that this process runs: taken, changed and ended by compare-and-set.
//!
//! JetStream does not fence workers, so the row does. Each run takes it with a new `run`; from then
//! on every change is a compare-and-set on the revision this process wrote last. A lost one is read
//! again: same worker and run, and somebody else merely asked for a cancel (or our own write's reply
//! was lost); anything else, and this run has been replaced and must stop without a trace.

use std::sync::Arc;
use std::time::Duration;

use backstack_producer::clock::Clock;
use backstack_producer::rows::{Created, RowError, Rows, Updated};
use backstack_schemas::job::IllegalTransition;
use backstack_schemas::topology::{Bucket, ROW_LIFETIME, job_key};
use backstack_schemas::{
    ErrorCode, Job, JobError, JobEvent, JobSpec, JobStatus, Step, Timestamp, WorkerId,
};

use crate::decide::exhausted_without_a_word;
use crate::delivery::Hold;
use crate::message::StoredMessage;

/// What a run needs to know of its message before it takes the row.
#[derive(Debug)]
pub struct Claim {
    /// The job, as the message tells it.
    pub spec: JobSpec,
    /// The message's sequence.
    pub sequence: u64,
    /// When the message was stored.
    pub stored_at: Timestamp,
    /// The message as held.
    pub hold: Arc<Hold>,
    /// This process.
    pub worker: WorkerId,
    /// Attempts granted.
    pub max_attempts: u32,
}

/// What the row said to a message whose turn has come.
#[derive(Debug)]
pub enum Begin {
    /// The row is ours: run.
    Run(Box<JobRow>),
    /// The job has ended; its message only needs an acknowledgement.
    Ended {
        /// Its row.
        job: Box<Job>,
        /// Whether it ended just now, since it may not run any more.
        by_us: bool,
    },
    /// It waits for its next attempt, which is due after this long.
    NotYet(Duration),
    /// A live worker has it; if that one dies the server delivers the message again.
    NotOurs,
    /// The row is another job's, with the same id.
    Duplicate,
}

/// Why the row could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum Overtaken {
    /// Another run has the row: stop, push nothing, acknowledge nothing.
    #[error("another run has taken the job over")]
    Replaced,
    /// The message is no longer ours.
    #[error("the message is no longer held")]
    Lapsed,
    /// A bug: the change is not one that the state machine has.
    #[error(transparent)]
    Illegal(#[from] IllegalTransition),
}

/// A job's row as it is in the bucket, or as it is to be made.
#[derive(Debug)]
struct StoredRow {
    rows: Rows,
    clock: Arc<Clock>,
    key: String,
    job: Job,
    /// 0 where there is no row yet.
    revision: u64,
}

impl StoredRow {
    /// The row of a job whose message was stored at `stored_at` with `sequence`.
    async fn find(
        rows: &Rows,
        clock: &Arc<Clock>,
        spec: &JobSpec,
        sequence: u64,
        stored_at: Timestamp,
    ) -> Result<Self, RowError> {
        let key = job_key(&spec.repo, spec.job_id);
        let found = rows.get_leader::<Job>(Bucket::Jobs, &key).await?;
        let (job, revision) = match found {
            Some(row) => (row.value, row.revision),
            None => (Job::queued(spec.clone(), Some(sequence), stored_at), 0),
        };
        let (rows, clock) = (rows.clone(), Arc::clone(clock));
        Ok(Self {
            rows,
            clock,
            key,
            job,
            revision,
        })
    }

    /// Writes the row after `event`, made anew where there was none; `false` where somebody else
    /// wrote first, or the row is not in a state for it.
    async fn try_write(&mut self, event: JobEvent) -> Result<bool, RowError> {
        let Ok(next) = self.job.apply(event, self.clock.now()) else {
            return Ok(false);
        };
        let revision = if self.revision == 0 {
            match self.rows.create(Bucket::Jobs, &self.key, &next).await? {
                Created::Made(revision) => Some(revision),
                Created::Exists(_) => None,
            }
        } else {
            match self
                .rows
                .update(Bucket::Jobs, &self.key, &next, self.revision)
                .await?
            {
                Updated::Done(revision) => Some(revision),
                Updated::Lost { .. } => None,
            }
        };
        if let Some(revision) = revision {
            self.job = next;
            self.revision = revision;
        }
        Ok(revision.is_some())
    }
}

/// Ends the job of a message that asks for nothing that can be run. Another job's row stays as it is,
/// and so does one that has ended.
///
/// # Errors
/// The bucket did not answer.
pub async fn refuse(
    rows: &Rows,
    clock: &Arc<Clock>,
    spec: &JobSpec,
    message: &StoredMessage,
    error: &JobError,
) -> Result<(), RowError> {
    let (sequence, stored_at) = (message.sequence, message.stored_at());
    loop {
        let mut row = StoredRow::find(rows, clock, spec, sequence, stored_at).await?;
        let ended = row.job.status.is_terminal() || row.job.spec != *spec;
        let fail = JobEvent::Fail {
            error: error.clone(),
            result: None,
        };
        if ended || row.try_write(fail).await? {
            return Ok(());
        }
    }
}

/// A job's row that this process has taken.
#[derive(Debug)]
pub struct JobRow {
    stored: StoredRow,
    hold: Arc<Hold>,
    follows_fence: bool,
}

impl JobRow {
    /// Takes the row for a run, ends it where it may not run any more, or says why not.
    ///
    /// # Errors
    /// The bucket did not answer; nothing was taken as far as is known.
    pub async fn begin(rows: &Rows, clock: &Arc<Clock>, claim: &Claim) -> Result<Begin, RowError> {
        let (spec, sequence, stored_at) = (&claim.spec, claim.sequence, claim.stored_at);
        loop {
            let mut stored = StoredRow::find(rows, clock, spec, sequence, stored_at).await?;
            match claim.judge(&stored, clock.now()) {
                Judgement::Not(begin) => return Ok(begin),
                Judgement::Refuse(error) => {
                    let fail = JobEvent::Fail {
                        error,
                        result: None,
                    };
                    if stored.try_write(fail).await? {
                        return Ok(Begin::Ended {
                            job: Box::new(stored.job),
                            by_us: true,
                        });
                    }
                }
                Judgement::Cancel => {
                    if stored.try_write(JobEvent::Cancel).await? {
                        return Ok(Begin::Ended {
                            job: Box::new(stored.job),
                            by_us: true,
                        });
                    }
                }
                Judgement::Start => {
                    let follows_fence = is_past_fence(&stored.job);
                    if stored.try_write(claim.start()).await? {
                        return Ok(Begin::Run(Box::new(Self {
                            stored,
                            hold: Arc::clone(&claim.hold),
                            follows_fence,
                        })));
                    }
                }
            }
        }
    }

    /// The row as last written or read.
    pub fn job(&self) -> &Job {
        &self.stored.job
    }

    /// Whether the run before this one was replaced when it may have pushed already.
    pub fn follows_fence(&self) -> bool {
        self.follows_fence
    }

    /// Whether somebody asked for a cancel, as far as this row has been read.
    pub fn cancel_requested(&self) -> bool {
        self.stored.job.cancel_requested
    }

    /// Changes the row. While the bucket does not answer it tries again, for as long as the message
    /// is held.
    pub async fn apply(&mut self, event: JobEvent) -> Result<(), Overtaken> {
        loop {
            let before = self.stored.job.status;
            // Says so where the state machine does not have it; `try_write` only fails.
            self.stored
                .job
                .apply(event.clone(), self.stored.clock.now())?;
            match self.stored.try_write(event.clone()).await {
                Ok(true) => return Ok(()),
                Ok(false) => self.read_again().await?,
                Err(error) => self.pause_after(&error).await?,
            }
            // Only this run changes its status, so this is our own write, whose reply was lost.
            if before == JobStatus::Running && self.stored.job.status != before {
                return Ok(());
            }
        }
    }

    /// Reads the row anew, for a cancel that somebody may have asked for.
    pub async fn refresh(&mut self) -> Result<(), Overtaken> {
        self.read_again().await
    }

    /// Adopts what the row is now, if it is still this run's.
    async fn read_again(&mut self) -> Result<(), Overtaken> {
        let row = loop {
            match self
                .stored
                .rows
                .get_leader::<Job>(Bucket::Jobs, &self.stored.key)
                .await
            {
                Ok(row) => break row.ok_or(Overtaken::Replaced)?,
                Err(error) => self.pause_after(&error).await?,
            }
        };
        let mine =
            row.value.run == self.stored.job.run && row.value.worker == self.stored.job.worker;
        if !mine {
            return Err(Overtaken::Replaced);
        }
        self.stored.job = row.value;
        self.stored.revision = row.revision;
        Ok(())
    }

    async fn pause_after(&self, error: &RowError) -> Result<(), Overtaken> {
        if !self.hold.is_held() {
            return Err(Overtaken::Lapsed);
        }
        tracing::warn!(key = self.stored.key, %error, "the job's row could not be reached; trying again");
        tokio::time::sleep(Duration::from_millis(200)).await;
        Ok(())
    }
}

/// Whether a message may take its row.
enum Judgement {
    Start,
    Cancel,
    Refuse(JobError),
    Not(Begin),
}

impl Claim {
    fn start(&self) -> JobEvent {
        JobEvent::Start {
            worker: self.worker.clone(),
            sequence: self.sequence,
            delivery: self.hold.count(),
            max_attempts: self.max_attempts,
        }
    }

    /// The take-over rules of the design, on the row as it is.
    fn judge(&self, row: &StoredRow, now: Timestamp) -> Judgement {
        let job = &row.job;
        if job.spec != self.spec {
            return Judgement::Not(Begin::Duplicate);
        }
        if job.status.is_terminal() {
            return Judgement::Not(Begin::Ended {
                job: Box::new(job.clone()),
                by_us: false,
            });
        }
        if job.status == JobStatus::Running && !self.may_take_over(job) {
            return Judgement::Not(Begin::NotOurs);
        }
        if job.status == JobStatus::Running && job.cancel_requested && !is_past_fence(job) {
            return Judgement::Cancel;
        }
        let due_in = job
            .next_attempt_at
            .map_or(Duration::ZERO, |due| due.since(now));
        if due_in > Duration::ZERO {
            return Judgement::Not(Begin::NotYet(due_in));
        }
        if row.revision == 0 && now.since(self.stored_at) > ROW_LIFETIME {
            return Judgement::Refuse(expired());
        }
        if job.attempt >= self.max_attempts {
            return Judgement::Refuse(exhausted_without_a_word(self.max_attempts));
        }
        Judgement::Start
    }

    /// A row that is running is taken over from oneself, or from a worker whose message the server
    /// has given to us since: our delivery is newer than the row's, and the row was in this very run
    /// when that delivery came. Else a message that was merely slow to arrive would replace a live
    /// worker.
    fn may_take_over(&self, job: &Job) -> bool {
        job.worker.as_ref() == Some(&self.worker)
            || (job.delivery.is_none_or(|theirs| self.hold.count() > theirs)
                && self
                    .hold
                    .found_running()
                    .is_some_and(|found| found.run == job.run))
    }
}

/// Whether the row's run has written its fence, so that its push may be on the remote.
fn is_past_fence(job: &Job) -> bool {
    job.status == JobStatus::Running
        && job
            .progress
            .is_some_and(|progress| matches!(progress.step, Step::Push | Step::Rows))
}

/// The error of a message that outlived the row that would say whether its job has ended.
fn expired() -> JobError {
    let detail = "The message waited longer than job rows are kept (30 days), so whether it was done \
                  already cannot be told; publish the action again if it is still wanted";
    JobError::new(ErrorCode::Expired, detail)
}
