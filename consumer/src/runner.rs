//! From a message whose turn has come to its settlement.
//!
//! ```text
//! message ──► decode ──► JobRow::begin ──► workflow, watched ──► decide ──► row ──► ack or nak
//!               │             │                    │
//!               ▼             ▼                    ▼ replaced, or no longer held
//!          dead letter   ended, not ours      let go without a word
//! ```

use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use backstack_producer::api::ApiError;
use backstack_producer::rows::{RowError, Rows};
use backstack_schemas::topology::DeadReason;
use backstack_schemas::{
    Action, ActionMessage, ErrorCode, InvalidAction, Job, JobError, JobSpec, RepoId, Topology,
    WorkerId,
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::dead_letter::DeadLetters;
use crate::decide::{Outcome, settle};
use crate::delivery::{Delivered, Delivery, Verdict};
use crate::keeper::Keeper;
use crate::message::StoredMessage;
use crate::permits::Permits;
use crate::row_hints::RowHints;
use crate::run::Run;
use crate::status::{self, Begin, Claim, JobRow, Overtaken};
use crate::stream::ActionsStream;
use crate::tasks;
use crate::ticket::Tickets;
use crate::unreadable::Screening;
use crate::workflow::{self, Context};
use backstack_producer::clock::Clock;

/// How long a message goes back for when the buckets do not answer.
const UNREACHABLE_PAUSE: Duration = Duration::from_secs(1);

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
        let delivery = Delivery::new(self.client.clone(), message, self.limits.ack_wait);
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
        let span = tracing::info_span!(
            "job",
            %job_id,
            repo = %subject.repo,
            action = subject.action,
            sequence = message.sequence,
        );
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
                tracing::info!(attempt = row.job().attempt, run = row.job().run, "runs");
                self.attempt(delivery, &message, *row, action.action).await
            }
            Ok(Begin::Ended(job)) => self.finish(delivery, &job, Verdict::Ack).await,
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
        let run = Run::new(row, action, message.sequence, message.stored_at(), limit);
        let outcome = {
            let mut work = std::pin::pin!(workflow::perform(&self.context, &run));
            let ended = tokio::select! {
                ended = &mut work => ended,
                // The engine notices that it was stopped; nothing of it may be left behind.
                () = run.watch(&self.abort) => work.await,
            };
            run.outcome(ended)
        };
        let Some(outcome) = outcome else {
            delivery.let_go();
            return Ended::Unfinished;
        };
        self.conclude(delivery, run.into_row(), outcome).await
    }

    async fn conclude(&self, delivery: Delivery, mut row: JobRow, outcome: Outcome) -> Ended {
        let attempt = row.job().attempt;
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
                delivery.let_go();
                return Ended::Unfinished;
            }
            Err(error @ Overtaken::Illegal(_)) => {
                tracing::error!(%error, "the row refused how the run ended");
                delivery.let_go();
                return Ended::Unfinished;
            }
        }
        let job = row.job();
        tracing::info!(status = %job.status, message = job.message, "ended");
        self.finish(delivery, job, settlement.verdict).await
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
        let error = JobError::new(ErrorCode::InvalidAction, problem.to_string());
        let refused = status::refuse(&self.rows, &self.clock, &spec, &message, &error).await;
        if let Err(error) = refused {
            return give_back(delivery, &error).await;
        }
        delivery.settle(Verdict::Term).await;
        Ended::Finished
    }

    async fn bury(&self, delivery: Delivery, reason: DeadReason, message: &StoredMessage) -> Ended {
        match self.dead_letters.bury(reason, message).await {
            Ok(()) => {
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

/// A number from 0 to 1.
fn random_fraction() -> f64 {
    f64::from(uuid::Uuid::new_v4().as_fields().0) / f64::from(u32::MAX)
}
