//! The row of a task: somebody's piece of work on one branch.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::{BranchName, JobId, ObjectId, RepoId, TaskId};
use crate::time::Timestamp;

/// A task on a branch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Task {
    /// Its repository.
    pub repo: RepoId,
    /// Its id.
    pub task_id: TaskId,
    /// What it is about.
    pub title: String,
    /// The branch it works on; one task a branch.
    pub branch: BranchName,
    /// Whether the branch is at hand.
    pub status: TaskStatus,
    /// The branch's head as last known.
    pub head: Option<ObjectId>,
    /// The branch's parent as last known.
    pub parent: Option<BranchName>,
    /// The job that attaches the branch, where one was needed.
    pub job_id: Option<JobId>,
    /// One sentence for a person.
    pub message: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When this row last changed.
    pub updated_at: Timestamp,
}

/// Whether a task's branch is at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaskStatus {
    /// The branch row was fresh, or the job has attached it.
    Ready,
    /// A `register_existing_branch` job is looking for the branch.
    PendingBranchAttach,
    /// That job ended in an error; `message` says why.
    Error,
}
