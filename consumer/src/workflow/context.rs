//! What every action works with: the buckets, the mirrors, git, and who commits.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use backstack_engine::EngineError;
use backstack_engine::git::{CredentialFile, Git, RemotePolicy};
use backstack_engine::mirror::MirrorStore;
use backstack_producer::rows::Rows;
use backstack_schemas::{ObjectId, RepoId, Timestamp};
use parking_lot::Mutex;

use super::branch_rows::BranchRows;
use super::failure::internal;
use super::patience::is_answer;
use crate::config::{Config, Identity};
use crate::metrics::Metrics;
use crate::run::{Halt, Run};
use crate::stream::ActionsStream;

/// Everything that actions work with.
#[derive(Debug)]
pub struct Context {
    rows: Rows,
    stream: ActionsStream,
    store: MirrorStore,
    committer: Identity,
    metrics: Arc<Metrics>,
    branches: BranchRows,
    /// Commits that rows name and that a remote would not give; not asked for again.
    unobtainable: Mutex<HashMap<RepoId, HashSet<ObjectId>>>,
}

impl Context {
    /// Takes the state directory and finds git.
    ///
    /// # Errors
    /// [`EngineError::StateDirInUse`], [`EngineError::GitUnusable`], or what the disk did.
    pub async fn open(
        config: &Config,
        rows: Rows,
        stream: ActionsStream,
        metrics: Arc<Metrics>,
    ) -> Result<Self, EngineError> {
        let credentials = config.credentials.as_deref();
        let credentials = credentials.map(CredentialFile::open).transpose()?;
        let policy = RemotePolicy {
            allow_protocols: config.allow_protocol.clone(),
            allow_hosts: config.allow_host.clone(),
            git_config: config.git_config.clone(),
            credentials,
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
            metrics,
            branches: BranchRows::default(),
            unobtainable: Mutex::default(),
        })
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

    /// What is counted and measured.
    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Who commits what is replayed.
    pub(crate) fn committer(&self) -> &Identity {
        &self.committer
    }

    /// Server time, for rows.
    pub(crate) fn now(&self) -> Timestamp {
        self.rows.clock().now()
    }

    /// The work queue's newest sequence.
    pub(crate) async fn last_sequence(&self, run: &Run) -> Result<u64, Halt> {
        let state = loop {
            let state = self.stream.state().await;
            if is_answer(run, &state).await {
                break state;
            }
        };
        let state = state.map_err(|error| internal(format!("the work queue: {error}")))?;
        // A sync that began now ends after this, by the clock that stamps messages.
        if let Some(time) = state.server_time {
            self.rows.clock().told(time);
        }
        Ok(state.last_sequence)
    }

    pub(crate) fn is_unobtainable(&self, repo: &RepoId, id: ObjectId) -> bool {
        self.unobtainable
            .lock()
            .get(repo)
            .is_some_and(|ids| ids.contains(&id))
    }

    pub(crate) fn note_unobtainable(&self, repo: &RepoId, ids: &[ObjectId]) {
        if !ids.is_empty() {
            self.unobtainable
                .lock()
                .entry(repo.clone())
                .or_default()
                .extend(ids);
        }
    }
}
