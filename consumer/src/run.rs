//! One run of a job: what its workflow may ask and tell while it is at it.
//!
//! A workflow sees a [`Run`] and nothing of queues: it reports progress, writes the fence before it
//! pushes, and ends when the run's [`Control`] says stop. A watchdog beside it writes the progress,
//! at most twice a second, and stops the run when the message is no longer held, when the row was
//! taken over, when somebody asked for a cancel, or when the worker's time to drain is up.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use backstack_engine::Control;
use backstack_schemas::{
    Action, JobError, JobEvent, JobResult, JobSpec, Progress, Step, Timestamp,
};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::decide::Outcome;
use crate::status::{JobRow, Overtaken};

/// How often progress is written, and the row looked at for a cancel.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);

/// Why a run was stopped from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// It is not ours any more: stop without a trace.
    Replaced,
    /// Somebody asked for a cancel.
    Cancelled,
    /// The worker shuts down.
    ShuttingDown,
}

/// Why a workflow ended without an outcome.
#[derive(Debug)]
pub enum Halt {
    /// The run was stopped; [`Run::stopped`] says why.
    Stopped,
    /// The job, or this attempt of it, failed.
    Failed {
        /// Why.
        error: JobError,
        /// What was done all the same.
        result: Option<Box<JobResult>>,
    },
}

impl From<JobError> for Halt {
    fn from(error: JobError) -> Self {
        Self::Failed {
            error,
            result: None,
        }
    }
}

/// One run of one job.
#[derive(Debug)]
pub struct Run {
    /// What the job was asked to do, as its row says it.
    pub spec: JobSpec,
    /// The same as the workflow takes it.
    pub action: Action,
    /// The message's sequence in the work queue.
    pub sequence: u64,
    /// When the message was stored; no commit of the job is dated before it.
    pub stored_at: Timestamp,
    /// Whether the job ran before, so that what it asks for may be done already.
    pub again: bool,
    /// Bounds the engine's work.
    pub control: Control,
    row: tokio::sync::Mutex<JobRow>,
    report: Reporter,
    stopped: OnceLock<Stopped>,
}

/// Tells a run's progress, from whatever thread.
#[derive(Clone, Debug, Default)]
pub struct Reporter(Arc<Mutex<Report>>);

impl Reporter {
    /// How far the step is.
    pub fn advance(&self, done: u64, total: u64) {
        let mut report = self.0.lock();
        if let Some(progress) = &mut report.progress {
            (progress.done, progress.total) = (done, total);
            report.written = false;
        }
    }
}

/// The progress that is to be written next.
#[derive(Debug, Default)]
struct Report {
    message: String,
    progress: Option<Progress>,
    written: bool,
    /// From here on a cancel comes too late. Where the run before this one may have pushed, that is
    /// so from the start, until the fence shows that there is something left to push.
    pushed: bool,
}

impl Run {
    /// A run that has taken its row.
    pub fn new(
        row: JobRow,
        action: Action,
        sequence: u64,
        stored_at: Timestamp,
        time_limit: Duration,
    ) -> Self {
        let report = Report {
            pushed: row.follows_fence(),
            ..Report::default()
        };
        Self {
            spec: row.job().spec.clone(),
            action,
            sequence,
            stored_at,
            again: row.job().run > 1,
            control: Control::within(time_limit),
            row: tokio::sync::Mutex::new(row),
            report: Reporter(Arc::new(Mutex::new(report))),
            stopped: OnceLock::new(),
        }
    }

    /// Enters a step; `message` is one sentence for a person.
    pub fn enter(&self, step: Step, message: impl Into<String>, total: u64) {
        let mut report = self.report.0.lock();
        report.message = message.into();
        report.progress = Some(Progress {
            step,
            done: 0,
            total,
        });
        report.written = false;
    }

    /// Tells progress from an engine's thread.
    pub fn reporter(&self) -> Reporter {
        self.report.clone()
    }

    /// The fence, right before the push: a write of the row, never a read, that succeeds only while
    /// this run has it.
    ///
    /// # Errors
    /// [`Halt::Stopped`] where the run was replaced or a cancel was asked for: push nothing.
    pub async fn fence(&self, message: impl Into<String>, total: u64) -> Result<(), Halt> {
        self.enter(Step::Push, message, total);
        let mut row = self.row.lock().await;
        self.write_report(&mut row)
            .await
            .map_err(|error| self.stop_for(&error))?;
        if row.cancel_requested() {
            return Err(self.stop(Stopped::Cancelled));
        }
        if self.stopped().is_some() {
            return Err(Halt::Stopped);
        }
        self.report.0.lock().pushed = true;
        Ok(())
    }

    /// Why the run was stopped from outside, where it was.
    pub fn stopped(&self) -> Option<Stopped> {
        self.stopped.get().copied()
    }

    /// Writes progress and looks out for reasons to stop; returns when it has stopped the run.
    pub async fn watch(&self, abort: &CancellationToken) {
        let mut ticks = tokio::time::interval(WATCH_INTERVAL);
        ticks.tick().await;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = abort.cancelled() => {
                    self.stop(Stopped::ShuttingDown);
                    return;
                }
            }
            if self.look_after_row().await.is_err() {
                return;
            }
        }
    }

    async fn look_after_row(&self) -> Result<(), Halt> {
        let mut row = self.row.lock().await;
        let unwritten = !self.report.0.lock().written;
        let outcome = if unwritten {
            self.write_report(&mut row).await
        } else {
            row.refresh().await
        };
        outcome.map_err(|error| self.stop_for(&error))?;
        if row.cancel_requested() && !self.report.0.lock().pushed {
            return Err(self.stop(Stopped::Cancelled));
        }
        Ok(())
    }

    async fn write_report(&self, row: &mut JobRow) -> Result<(), Overtaken> {
        let event = {
            let mut report = self.report.0.lock();
            report.written = true;
            let Some(progress) = report.progress else {
                return Ok(());
            };
            JobEvent::Report {
                message: report.message.clone(),
                progress,
            }
        };
        row.apply(event).await
    }

    fn stop_for(&self, error: &Overtaken) -> Halt {
        tracing::warn!(job = %self.spec.job_id, %error, "the run stops without a trace");
        self.stop(Stopped::Replaced)
    }

    /// Stops the engine's work; the first reason counts.
    pub fn stop(&self, why: Stopped) -> Halt {
        let _ = self.stopped.set(why);
        self.control.stop();
        Halt::Stopped
    }

    /// What the attempt came to, once its workflow has ended; `None` where it was replaced.
    pub fn outcome(&self, ended: Result<Outcome, Halt>) -> Option<Outcome> {
        let stopped = self.stopped();
        if stopped == Some(Stopped::Replaced) {
            return None;
        }
        match ended {
            Ok(outcome) => Some(outcome),
            // A failure that stopping did not cause stands.
            Err(Halt::Failed { error, result }) if stopped.is_none() || !error.retryable => {
                Some(Outcome::Failed {
                    error,
                    result: result.map(|result| *result),
                })
            }
            Err(_) if stopped == Some(Stopped::Cancelled) => Some(Outcome::Cancelled),
            Err(_) => Some(Outcome::HandedBack),
        }
    }

    /// The row, for the last write.
    pub fn into_row(self) -> JobRow {
        self.row.into_inner()
    }
}
