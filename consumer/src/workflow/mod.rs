//! What the actions do: one file each, from the pre-sync to the post-sync.
//!
//! ```text
//!  Session::begin ──► the action ──► fence, push ──► projection::write
//!  (pre-sync)         plan, replay    (stacking)      (post-sync)
//! ```
//!
//! A workflow knows nothing of queues. It ends in an [`Outcome`] or a [`Halt`]; what becomes of the
//! job is decided elsewhere. Running one again after a crash converges: it fetches afresh, finds what
//! was pushed, and writes the rows that are still missing.

pub(crate) mod branch_rows;
mod healing;
mod history;
mod register_existing_branch;
mod reparent_branch;
mod restack;
pub(crate) mod session;
mod stacking;
mod sync_repo;
pub(crate) mod sync_row;
mod unregister_branch;

use std::collections::{HashMap, HashSet};

use backstack_engine::EngineError;
use backstack_engine::git::{Git, RemotePolicy};
use backstack_engine::mirror::MirrorStore;
use backstack_engine::plan::{Goal, PlanError};
use backstack_producer::rows::Rows;
use backstack_schemas::{Action, BranchName, ErrorCode, JobError, ObjectId, RepoId, Timestamp};
use parking_lot::Mutex;

use crate::config::{Config, Identity};
use crate::decide::Outcome;
use crate::run::{Halt, Run};
use crate::stream::ActionsStream;
use branch_rows::BranchRows;
use session::{Session, internal};

/// Everything that actions work with.
#[derive(Debug)]
pub struct Workflow {
    rows: Rows,
    stream: ActionsStream,
    store: MirrorStore,
    committer: Identity,
    branches: BranchRows,
    /// Commits that rows name and that a remote would not give; not asked for again.
    unobtainable: Mutex<HashMap<RepoId, HashSet<ObjectId>>>,
}

impl Workflow {
    /// Takes the state directory and finds git.
    ///
    /// # Errors
    /// [`EngineError::StateDirInUse`], [`EngineError::GitUnusable`], or what the disk did.
    pub async fn open(
        config: &Config,
        rows: Rows,
        stream: ActionsStream,
    ) -> Result<Self, EngineError> {
        let policy = RemotePolicy {
            allow_protocols: config.allow_protocol.clone(),
            allow_hosts: config.allow_host.clone(),
            git_config: config.git_config.clone(),
            ..RemotePolicy::default().inherit_environment()
        };
        let (dir, git, budget) = (
            config.state_dir.clone(),
            config.git.clone(),
            config.mirror_budget,
        );
        let open = move || MirrorStore::open(&dir, Git::discover(git)?, policy, budget);
        let store = tokio::task::spawn_blocking(open)
            .await
            .map_err(|error| EngineError::Internal(error.to_string()))??;
        Ok(Self {
            rows,
            stream,
            store,
            committer: config.committer.clone(),
            branches: BranchRows::default(),
            unobtainable: Mutex::default(),
        })
    }

    /// Does what the run's action asks for.
    ///
    /// # Errors
    /// [`Halt`]: the run was stopped, or the attempt failed.
    pub async fn perform(&self, run: &Run) -> Result<Outcome, Halt> {
        let repo = session::repository(self, &run.spec.repo).await?;
        if sync_repo::is_overtaken(run, &repo.value) {
            return Ok(sync_repo::overtaken());
        }
        let session = match Session::begin(self, run, repo.clone()).await {
            Ok(session) => session,
            Err(halt) => {
                sync_row::note_failure(self, run, &repo, &halt).await;
                return Err(halt);
            }
        };
        match &run.action {
            Action::SyncRepo { restack } => sync_repo::perform(self, run, session, *restack).await,
            Action::RestackRepo => restack::perform(self, run, session, Goal::All).await,
            Action::RestackSubtree { branch } => {
                restack::perform(self, run, session, Goal::Subtree(branch.clone())).await
            }
            Action::RebaseBranch { branch } => {
                restack::perform(self, run, session, Goal::Only(branch.clone())).await
            }
            Action::ReparentBranch {
                branch,
                parent,
                base,
            } => reparent_branch::perform(self, run, session, branch, parent, *base).await,
            Action::RegisterExistingBranch {
                branch,
                parent,
                base,
                task_id,
            } => {
                let wish = register_existing_branch::Wish {
                    branch,
                    parent: parent.as_ref(),
                    base: *base,
                    task_id: *task_id,
                };
                register_existing_branch::perform(self, run, session, wish).await
            }
            Action::UnregisterBranch { branch } => {
                unregister_branch::perform(self, run, session, branch).await
            }
        }
    }

    /// The mirrors.
    pub(crate) fn store(&self) -> &MirrorStore {
        &self.store
    }

    /// The buckets.
    pub(crate) fn rows(&self) -> &Rows {
        &self.rows
    }

    /// Branch rows that were read or written lately.
    pub(crate) fn branch_rows(&self) -> &BranchRows {
        &self.branches
    }

    /// Server time, for rows.
    pub(crate) fn now(&self) -> Timestamp {
        self.rows.clock().now()
    }

    /// The work queue's newest sequence.
    async fn last_sequence(&self) -> Result<u64, Halt> {
        let state = self.stream.state().await;
        Ok(state
            .map_err(|error| internal(format!("the work queue: {error}")))?
            .last_sequence)
    }

    fn is_unobtainable(&self, repo: &RepoId, id: ObjectId) -> bool {
        self.unobtainable
            .lock()
            .get(repo)
            .is_some_and(|ids| ids.contains(&id))
    }

    fn note_unobtainable(&self, repo: &RepoId, ids: &[ObjectId]) {
        if !ids.is_empty() {
            self.unobtainable
                .lock()
                .entry(repo.clone())
                .or_default()
                .extend(ids);
        }
    }
}

/// The code and the sentence that an engine's error gets in the row.
fn job_error(error: EngineError) -> Halt {
    let code = match &error {
        EngineError::Stopped => return Halt::Stopped,
        EngineError::RemoteNotAllowed(_) => ErrorCode::RemoteNotAllowed,
        EngineError::RemoteUnreachable(_) => ErrorCode::RemoteUnreachable,
        EngineError::RemoteAuthFailed(_) => ErrorCode::RemoteAuthFailed,
        EngineError::RemoteRejected(_) => ErrorCode::RemoteRejected,
        EngineError::BranchMoved(_) => ErrorCode::BranchMoved,
        EngineError::UnrelatedHistory { .. } => ErrorCode::UnrelatedHistory,
        EngineError::Timeout => ErrorCode::Timeout,
        EngineError::StateDirInUse { .. }
        | EngineError::GitUnusable(_)
        | EngineError::Internal(_) => ErrorCode::Internal,
    };
    JobError::new(code, error.to_string()).into()
}

/// The same for what planning refused.
fn plan_error(error: PlanError) -> Halt {
    match error {
        PlanError::Engine(error) => job_error(error),
        PlanError::Refused(refusal) => JobError::new(refusal.code(), refusal.to_string()).into(),
    }
}

/// What a tracked branch stands on; it may be gone from the remote.
fn tracked_parent(session: &Session, branch: &BranchName) -> Result<BranchName, JobError> {
    if *branch == session.trunk {
        let detail = format!("{branch} is the trunk, which is not part of any stack");
        return Err(JobError::new(ErrorCode::TrunkIsImmutable, detail));
    }
    let row = session.rows.get(branch).ok_or_else(|| {
        let detail = format!("There is no branch {branch} on the remote, and none was recorded");
        JobError::new(ErrorCode::BranchNotFound, detail)
    })?;
    row.parent.clone().filter(|_| row.tracked).ok_or_else(|| {
        let detail = format!("{branch} is not part of a stack, so there is nothing to take out");
        JobError::new(ErrorCode::BranchNotTracked, detail)
    })
}
