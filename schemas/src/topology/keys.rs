//! The keys of the rows, and the ids of messages.

use crate::id::{BranchName, JobId, RepoId, TaskId};

/// The key of a job's row.
pub fn job_key(repo: &RepoId, job: JobId) -> String {
    format!("{repo}.{job}")
}

/// The key of a branch's row.
pub fn branch_key(repo: &RepoId, branch: &BranchName) -> String {
    format!("{repo}.{}", branch.to_key())
}

/// The key of a task's row.
pub fn task_key(repo: &RepoId, task: TaskId) -> String {
    format!("{repo}.{task}")
}

/// The key that says which task has a branch; created if absent, so that one creator wins.
pub fn task_branch_key(repo: &RepoId, branch: &BranchName) -> String {
    format!("{repo}.branch.{}", branch.to_key())
}

/// The `Nats-Msg-Id` that makes publishing the same job again a duplicate. Message ids are unique
/// over the whole stream, job ids only over a repository.
pub fn message_id(repo: &RepoId, job: JobId) -> String {
    format!("{repo}.{job}")
}
