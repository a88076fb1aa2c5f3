//! The row of a repository.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::{BranchName, JobId, RepoId};
use crate::remote::RemoteUrl;
use crate::time::Timestamp;

/// A repository that actions may name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Repository {
    /// Its short name.
    pub repo: RepoId,
    /// Where it is; never holds a password.
    pub remote_url: RemoteUrl,
    /// The branch that stacks stand on; null until the first sync finds the remote's HEAD.
    pub trunk: Option<BranchName>,
    /// When the row was made.
    pub created_at: Timestamp,
    /// How fresh the branch rows are.
    pub sync: Sync,
}

impl Repository {
    /// A new row, not synced yet.
    pub fn new(
        repo: RepoId,
        remote_url: RemoteUrl,
        trunk: Option<BranchName>,
        at: Timestamp,
    ) -> Self {
        Self {
            repo,
            remote_url,
            trunk,
            created_at: at,
            sync: Sync::default(),
        }
    }
}

/// How fresh a repository's branch rows are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sync {
    /// Where the newest sync stands.
    pub status: SyncStatus,
    /// When the branch rows last matched the remote.
    pub synced_at: Option<Timestamp>,
    /// The stream's last sequence when that fetch began: a plain `sync_repo` stored at or before it
    /// has nothing left to do.
    pub through_sequence: Option<u64>,
    /// The job that did it, or does it.
    pub job_id: Option<JobId>,
    /// One sentence for a person.
    pub message: Option<String>,
}

/// Where a repository's newest sync stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SyncStatus {
    /// Never synced, and nothing asked for it yet.
    #[default]
    Pending,
    /// A job waits for its turn.
    Queued,
    /// A job is at it.
    Running,
    /// The branch rows match the remote as of `synced_at`.
    Synced,
    /// The last one failed; `message` says why.
    Error,
}
