//! Tasks: somebody's piece of work on one branch, made at once whether or not the branch is at hand.
//!
//! A branch has one task: whoever creates the key `<repo>.branch.<branch>` first has it. That key comes
//! before the task's row, so a creator that dies in between leaves a claim without a task; such a claim
//! is taken over once it is old enough that nobody can still be about to write the row.

use std::time::Duration;

use backstack_schemas::topology::{Bucket, branch_key, task_branch_key, task_key};
use backstack_schemas::{
    Action, ActionMessage, Branch, BranchName, JobId, RepoId, Repository, SyncStatus, Task, TaskId,
    TaskStatus, Timestamp,
};

use super::{Client, ClientError, Found};
use crate::rows::{Created, Keys, Row, Updated};

/// How long after a sync its branch rows are taken at their word.
pub const SYNC_MAX_AGE: Duration = Duration::from_secs(5 * 60);

/// Longest title of a task, in characters.
pub const MAX_TITLE: usize = 200;

/// How long a creator may take from its claim to its row.
const CLAIM_MAX_AGE: Duration = Duration::from_secs(60);

impl Client {
    /// Creates a task on a branch: ready at once where the branch was seen by a recent sync, else pending
    /// while a `register_existing_branch` looks for it. Never waits for git.
    ///
    /// # Errors
    /// [`ClientError::BranchHasTask`] where another task was first; [`ClientError::NoSuchRepo`]; as
    /// [`publish`](Self::publish), after which there is no task, unless the action may have been stored.
    pub async fn create_task(
        &self,
        repo: &RepoId,
        branch: &BranchName,
        title: &str,
        requested_by: Option<String>,
    ) -> Result<Task, ClientError> {
        let characters = title.chars().count();
        if characters == 0 || characters > MAX_TITLE {
            return Err(ClientError::BadTitle { characters });
        }
        let known = self.repo(repo).await?;
        let known = known.ok_or_else(|| ClientError::NoSuchRepo { repo: repo.clone() })?;
        let task_id = TaskId::generate();
        self.claim(repo, branch, task_id).await?;
        let key = branch_key(repo, branch);
        let row = self.rows.get::<Branch>(Bucket::Branches, &key).await?;
        let now = self.rows.server_now().await;
        let task = new_task(repo, branch, title, task_id, now);
        match row.filter(|row| row.value.head.is_some() && is_fresh(&known.value, now)) {
            Some(row) => self.make_ready(task, row.value).await,
            None => self.make_pending(task, requested_by).await,
        }
    }

    /// A repository's tasks, in the order in which they were made.
    ///
    /// # Errors
    /// [`ClientError::Rows`]
    pub async fn tasks(&self, repo: &RepoId) -> Result<Found<Task>, ClientError> {
        // One token after the repository: the claims of branches have two and more.
        let keys = Keys::Matching(format!("{repo}.*"));
        let mut found = Found::from(self.rows.list::<Task>(Bucket::Tasks, &keys).await?);
        found
            .rows
            .sort_by_key(|task| (task.created_at, task.task_id));
        Ok(found)
    }

    /// Takes the branch for the task.
    async fn claim(
        &self,
        repo: &RepoId,
        branch: &BranchName,
        task_id: TaskId,
    ) -> Result<(), ClientError> {
        let key = task_branch_key(repo, branch);
        let there = match self.rows.create(Bucket::Tasks, &key, &task_id).await? {
            Created::Made(_) => return Ok(()),
            Created::Exists(there) => there,
        };
        if there.value != task_id && !self.is_abandoned(repo, &there).await? {
            return Err(has_task(repo, branch, there.value));
        }
        let update = self
            .rows
            .update(Bucket::Tasks, &key, &task_id, there.revision);
        match update.await? {
            Updated::Done(_) => Ok(()),
            Updated::Lost { .. } => Err(has_task(repo, branch, there.value)),
        }
    }

    /// Whether a claim's task was never written and will not be.
    async fn is_abandoned(&self, repo: &RepoId, claim: &Row<TaskId>) -> Result<bool, ClientError> {
        if self.rows.server_now().await.since(claim.at) < CLAIM_MAX_AGE {
            return Ok(false);
        }
        let key = task_key(repo, claim.value);
        let task = self.rows.get_leader::<Task>(Bucket::Tasks, &key).await?;
        Ok(task.is_none())
    }

    async fn make_ready(&self, task: Task, row: Branch) -> Result<Task, ClientError> {
        let task = Task {
            status: TaskStatus::Ready,
            head: row.head,
            parent: row.parent,
            ..task
        };
        self.write_task(&task).await?;
        Ok(task)
    }

    /// Writes the task, then asks for its branch: the worker finds the row when it is done.
    async fn make_pending(
        &self,
        task: Task,
        requested_by: Option<String>,
    ) -> Result<Task, ClientError> {
        let job_id = JobId::generate();
        let task = Task {
            job_id: Some(job_id),
            message: Some("Looking for the branch".to_owned()),
            ..task
        };
        self.write_task(&task).await?;
        let action = Action::RegisterExistingBranch {
            branch: task.branch.clone(),
            parent: None,
            base: None,
            task_id: Some(task.task_id),
        };
        let message = ActionMessage {
            requested_by,
            ..action.into()
        };
        match self.publish_as(&task.repo, job_id, true, message).await {
            Ok(_) => Ok(task),
            // It may have been stored all the same: then the worker needs the row.
            Err(error @ ClientError::Unacknowledged { .. }) => Err(error),
            Err(error) => {
                self.forget(&task).await?;
                Err(error)
            }
        }
    }

    async fn write_task(&self, task: &Task) -> Result<(), ClientError> {
        let key = task_key(&task.repo, task.task_id);
        self.rows.put(Bucket::Tasks, &key, task).await?;
        Ok(())
    }

    async fn forget(&self, task: &Task) -> Result<(), ClientError> {
        let (row, claim) = (
            task_key(&task.repo, task.task_id),
            task_branch_key(&task.repo, &task.branch),
        );
        self.rows.delete(Bucket::Tasks, &row).await?;
        self.rows.delete(Bucket::Tasks, &claim).await?;
        Ok(())
    }
}

fn new_task(
    repo: &RepoId,
    branch: &BranchName,
    title: &str,
    task_id: TaskId,
    at: Timestamp,
) -> Task {
    Task {
        repo: repo.clone(),
        task_id,
        title: title.to_owned(),
        branch: branch.clone(),
        status: TaskStatus::PendingBranchAttach,
        head: None,
        parent: None,
        job_id: None,
        message: None,
        created_at: at,
        updated_at: at,
    }
}

/// Whether the repository's branch rows may be taken at their word.
fn is_fresh(repo: &Repository, now: Timestamp) -> bool {
    let synced_at = repo.sync.synced_at;
    repo.sync.status != SyncStatus::Error
        && synced_at.is_some_and(|at| now.since(at) < SYNC_MAX_AGE)
}

fn has_task(repo: &RepoId, branch: &BranchName, task_id: TaskId) -> ClientError {
    ClientError::BranchHasTask {
        repo: repo.clone(),
        branch: branch.clone(),
        task_id,
    }
}
