//! From a message whose turn has come to its settlement.
//!
//! ```text
//! message ──► decode ──► JobRow::begin ──► workflow, watched ──► decide ──► row ──► ack or nak
//!               │             │                    │
//!               ▼             ▼                    ▼ replaced, or no longer held
//!          dead letter   ended, not ours      let go without a word
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::Client;
use backstack_producer::api::ApiError;
use backstack_producer::rows::{RowError, Rows};
use backstack_schemas::topology::DeadReason;
use backstack_schemas::{
    Action, ActionMessage, ErrorCode, InvalidAction, Job, JobError, JobId, JobSpec, JobStatus,
    RepoId, Topology, WorkerId,
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span, field};

use crate::dead_letter::DeadLetters;
use crate::decide::{Outcome, settle};
use crate::delivery::{Delivered, Delivery, Verdict};
use crate::guard::Guard;
use crate::keeper::Keeper;
use crate::message::StoredMessage;
use crate::metrics::{Ending, Metrics};
use crate::permits::Permits;
use crate::pull::PullBoard;
use crate::row_hints::RowHints;
use crate::run::Run;
use crate::status::{self, Begin, Claim, JobRow, Overtaken};
use crate::stream::ActionsStream;
use crate::tasks;
use crate::ticket::Tickets;
use crate::unreadable::Screening;
use crate::vitals::Vitals;
use crate::workflow::{self, Context};
use backstack_producer::clock::Clock;

/// How long a message goes back for when the buckets do not answer.
const UNREACHABLE_PAUSE: Duration = Duration::from_secs(1);

/// From how long on a run's acknowledgement is worth another look at the streams.
const LONG_RUN: Duration = Duration::from_secs(1);

/// Whether a message that was run is done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Its job is terminal.
    Finished,
    /// It will be delivered again, here or elsewhere.
    Unfinished,
}

/// What bounds a job.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Attempts a job has.
    pub max_attempts: u32,
    /// How long the server waits for a sign of life.
    pub ack_wait: Duration,
    /// How long one attempt may take.
    pub action_timeout: Duration,
}

/// Everything it takes to run a message's job.
#[derive(Debug)]
pub struct Runner {
    /// The connection.
    pub client: Client,
    /// The buckets.
    pub rows: Rows,
    /// The names.
    pub topology: Topology,
    /// The work queue.
    pub stream: ActionsStream,
    /// Whose turn it is.
    pub tickets: Tickets,
    /// Server time.
    pub clock: Arc<Clock>,
    /// Signs of life.
    pub keeper: Keeper,
    /// Places for running jobs.
    pub permits: Permits,
    /// Whether what is delivered breaks the connection.
    pub screening: Arc<Screening>,
    /// Where messages go that no job can be made of.
    pub dead_letters: DeadLetters,
    /// Hints that a repository's job rows changed.
    pub hints: RowHints,
    /// What the actions work with.
    pub context: Context,
    /// Whether all of that is there, and still the same.
    pub guard: Guard,
    /// How it stands with the pulls.
    pub pulls: PullBoard,
    /// Tasks that must not end.
    pub vitals: Vitals,
    /// What is counted and measured.
    pub metrics: Arc<Metrics>,
    /// This process.
    pub worker: WorkerId,
    /// What bounds a job.
    pub limits: Limits,
    /// Set when no more work is taken on and what waits is handed back.
    pub drain: CancellationToken,
    /// Set when what still runs must be handed back too.
    pub abort: CancellationToken,
}

impl Runner {
    /// Whether the worker is shutting down.
    pub fn is_draining(&self) -> bool {
        self.drain.is_cancelled()
    }

    /// Returns when the worker begins to shut down; never if it already does.
    pub async fn drain_begins(&self) {
        if self.is_draining() {
            std::future::pending::<()>().await;
        }
        self.drain.cancelled().await;
    }

    /// Returns when there is room for another message, and nothing speaks against asking for one.
    pub async fn ready_for_more(&self) {
        self.screening.settled().await;
        self.permits.until_one_is_free().await;
    }

    /// Returns when a job row of the repository may have changed.
    pub async fn row_changed(&self, repo: &RepoId) {
        self.hints.changed(repo).await;
    }

    /// Holds a message from now on.
    pub fn hold(&self, message: Delivered) -> Delivery {
        let (client, ack_wait) = (self.client.clone(), self.limits.ack_wait);
        let delivery = Delivery::new(client, message, ack_wait, self.guard.generation());
        self.keeper.keep(delivery.hold());
        delivery
    }

    /// Runs the job of a message whose turn has come, and settles the message.
    pub async fn run(&self, delivery: Delivery, message: StoredMessage) -> Ended {
        self.clock.saw(message.stored_at());
        let Some(subject) = self.topology.parse_queue_subject(&message.subject) else {
            return self.bury(delivery, DeadReason::BadSubject, &message).await;
        };
        let job_id = message.job_id(&self.topology, &subject.repo, &subject.action);
        let span = span(&message, job_id, &subject.repo, &subject.action);
        async {
            match message.decode(&subject.action) {
                Ok(action) => {
                    let spec = JobSpec::new(subject.repo.clone(), job_id, &action);
                    self.run_action(delivery, message, spec, action).await
                }
                Err(problem) => {
                    let spec = JobSpec::nameless(subject.repo.clone(), job_id, &subject.action);
                    self.refuse(delivery, message, spec, problem).await
                }
            }
        }
        .instrument(span)
        .await
    }

    /// Ends a message that is in no partition, since its subject is none that the stream's transform
    /// takes or that names a repository; where it does name one, with a row there.
    pub async fn refuse_untaken(&self, delivery: Delivery, message: StoredMessage) -> Ended {
        let published = self.topology.published_subject(&message.subject);
        let Some((repo, action)) = self.topology.parse_action_subject(&published) else {
            return self.bury(delivery, DeadReason::BadSubject, &message).await;
        };
        let job_id = message.job_id(&self.topology, &repo, &action);
        let spec = JobSpec::nameless(repo, job_id, &action);
        self.refuse(
            delivery,
            message,
            spec,
            InvalidAction::UnknownAction(action),
        )
        .await
    }

    async fn run_action(
        &self,
        delivery: Delivery,
        message: StoredMessage,
        spec: JobSpec,
        action: ActionMessage,
    ) -> Ended {
        let claim = self.claim(&delivery, &message, spec);
        match JobRow::begin(&self.rows, &self.clock, &claim).await {
            Ok(Begin::Run(row)) => {
                let span = Span::current();
                span.record("attempt", row.job().attempt);
                span.record("run", row.job().run);
                tracing::info!("runs");
                if row.job().run == 1 {
                    self.metrics.waited(message.stored_at(), self.clock.now());
                }
                self.attempt(delivery, &message, *row, action.action).await
            }
            Ok(Begin::Ended { job, by_us }) => {
                if by_us {
                    self.count_end(&job);
                }
                self.finish(delivery, &job, Verdict::Ack).await
            }
            Ok(Begin::NotYet(due_in)) => {
                delivery.settle(Verdict::Nak(due_in)).await;
                Ended::Unfinished
            }
            Ok(Begin::NotOurs) => {
                tracing::info!("another worker has it");
                delivery.let_go();
                Ended::Unfinished
            }
            Ok(Begin::Duplicate) => {
                self.bury(delivery, DeadReason::DuplicateJob, &message)
                    .await
            }
            Err(error) => give_back(delivery, &error).await,
        }
    }

    fn claim(&self, delivery: &Delivery, message: &StoredMessage, spec: JobSpec) -> Claim {
        Claim {
            spec,
            sequence: message.sequence,
            stored_at: message.stored_at(),
            hold: Arc::clone(delivery.hold()),
            worker: self.worker.clone(),
            max_attempts: self.limits.max_attempts,
        }
    }

    /// One attempt: the workflow with its watchdog, then the last write and the settlement.
    async fn attempt(
        &self,
        delivery: Delivery,
        message: &StoredMessage,
        row: JobRow,
        action: Action,
    ) -> Ended {
        let limit = self.limits.action_timeout;
        let name = row.job().spec.action.clone();
        let run = Run::new(row, action, message.sequence, message.stored_at(), limit);
        let began = Instant::now();
        let outcome = {
            let mut work = std::pin::pin!(workflow::perform(&self.context, &run));
            let ended = tokio::select! {
                ended = &mut work => ended,
                // The engine notices that it was stopped; nothing of it may be left behind.
                () = run.watch(&self.abort) => work.await,
            };
            run.outcome(ended)
        };
        self.metrics.ran_for(&name, began.elapsed());
        let Some(outcome) = outcome else {
            self.metrics.ended(&name, Ending::Replaced);
            delivery.let_go();
            return Ended::Unfinished;
        };
        // Meanwhile the work queue may have become another stream, to which an acknowledgement of this
        // message means another one.
        if began.elapsed() > LONG_RUN {
            self.guard.problems().await;
        }
        self.conclude(delivery, run.into_row(), outcome).await
    }

    /// Counts how a run ended, or that a message was refused without one, as the row says it.
    fn count_end(&self, job: &Job) {
        let code = job.error.as_ref().map(|error| error.code.as_str());
        self.metrics
            .ended(&job.spec.action, Ending::Row(job.status, code));
        if job.status.is_terminal() {
            self.metrics.took_attempts(job.attempt);
        }
    }

    async fn conclude(&self, delivery: Delivery, mut row: JobRow, outcome: Outcome) -> Ended {
        let attempt = row.job().attempt;
        let hands_back = matches!(outcome, Outcome::HandedBack);
        let jitter = random_fraction();
        let settlement = settle(
            outcome,
            attempt,
            self.limits.max_attempts,
            self.clock.now(),
            jitter,
        );
        match row.apply(settlement.event).await {
            Ok(()) => {}
            Err(error @ (Overtaken::Replaced | Overtaken::Lapsed)) => {
                tracing::warn!(%error, "the run ends without a trace");
                self.metrics.ended(&row.job().spec.action, Ending::Replaced);
                delivery.let_go();
                return Ended::Unfinished;
            }
            Err(error @ Overtaken::Illegal(_)) => {
                tracing::error!(%error, "the row refused how the run ended");
                self.metrics.ended(&row.job().spec.action, Ending::Replaced);
                delivery.let_go();
                return Ended::Unfinished;
            }
        }
        let job = row.job();
        tracing::info!(status = %job.status, said = job.message, "ended");
        // What is to be cancelled is neither tried again nor handed back.
        let verdict = if job.status.is_terminal() {
            Verdict::Ack
        } else {
            settlement.verdict
        };
        if hands_back && !job.status.is_terminal() {
            self.metrics.ended(&job.spec.action, Ending::HandedBack);
        } else {
            self.count_end(job);
        }
        self.finish(delivery, job, verdict).await
    }

    /// Settles a message whose job's row says what became of it.
    async fn finish(&self, delivery: Delivery, job: &Job, verdict: Verdict) -> Ended {
        if let Err(error) = tasks::settle(&self.rows, job).await {
            tracing::warn!(%error, "the job's task could not be told; the message comes back");
            delivery.settle(Verdict::Nak(UNREACHABLE_PAUSE)).await;
            return Ended::Unfinished;
        }
        delivery.settle(verdict).await;
        if job.status.is_terminal() {
            Ended::Finished
        } else {
            Ended::Unfinished
        }
    }

    /// A message that asks for nothing that can be run: the dead letters have it whole, and its row says
    /// why.
    async fn refuse(
        &self,
        delivery: Delivery,
        message: StoredMessage,
        spec: JobSpec,
        problem: InvalidAction,
    ) -> Ended {
        let reason = match problem {
            InvalidAction::UnknownAction(_) => DeadReason::BadSubject,
            _ => DeadReason::BadPayload,
        };
        // The letter first: a message whose row has ended counts as finished, whatever is still to be
        // done for it.
        if let Err(error) = self.dead_letters.bury(reason, &message).await {
            return not_buried(delivery, &error).await;
        }
        self.metrics.buried(reason);
        let error = JobError::new(ErrorCode::InvalidAction, problem.to_string());
        let code = error.code.as_str();
        let refused = status::refuse(&self.rows, &self.clock, &spec, &message, &error).await;
        if let Err(error) = refused {
            return give_back(delivery, &error).await;
        }
        self.metrics
            .ended(&spec.action, Ending::Row(JobStatus::Error, Some(code)));
        delivery.settle(Verdict::Term).await;
        Ended::Finished
    }

    async fn bury(&self, delivery: Delivery, reason: DeadReason, message: &StoredMessage) -> Ended {
        match self.dead_letters.bury(reason, message).await {
            Ok(()) => {
                self.metrics.buried(reason);
                delivery.settle(Verdict::Term).await;
                Ended::Finished
            }
            Err(error) => not_buried(delivery, &error).await,
        }
    }
}

async fn not_buried(delivery: Delivery, error: &ApiError) -> Ended {
    tracing::warn!(%error, "the dead letters did not take the message");
    delivery.settle(Verdict::Nak(UNREACHABLE_PAUSE)).await;
    Ended::Unfinished
}

async fn give_back(delivery: Delivery, error: &RowError) -> Ended {
    tracing::warn!(%error, "the job's row could not be taken; the message goes back");
    delivery.settle(Verdict::Nak(UNREACHABLE_PAUSE)).await;
    Ended::Unfinished
}

/// What every log line of a job carries. The attempt and the run are known once the row is taken.
fn span(message: &StoredMessage, job_id: JobId, repo: &RepoId, action: &str) -> Span {
    let span = tracing::info_span!(
        "job",
        %job_id,
        %repo,
        action,
        sequence = message.sequence,
        attempt = field::Empty,
        run = field::Empty,
        trace_id = field::Empty,
        parent_span_id = field::Empty,
    );
    if let Some(parent) = message.trace_parent() {
        span.record("trace_id", parent.trace_id());
        span.record("parent_span_id", parent.span_id());
    }
    span
}

/// A number from 0 to 1.
fn random_fraction() -> f64 {
    f64::from(uuid::Uuid::new_v4().as_fields().0) / f64::from(u32::MAX)
}
