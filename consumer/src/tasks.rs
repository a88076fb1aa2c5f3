//! Tasks that wait for their branch: the end of the job that was to attach it is theirs.

use backstack_producer::rows::{RowError, Rows, Updated};
use backstack_schemas::topology::{Bucket, task_key};
use backstack_schemas::{Job, JobStatus, Task, TaskStatus};

/// Turns the job's task to `ready` or `error`, where the job has ended and the task still waits for
/// it. Doing it again changes nothing, so it is done before each acknowledgement.
///
/// # Errors
/// The bucket did not answer; the message must not be given up yet.
pub async fn settle(rows: &Rows, job: &Job) -> Result<(), RowError> {
    let Some(task_id) = job.spec.task_id.filter(|_| job.status.is_terminal()) else {
        return Ok(());
    };
    let key = task_key(&job.spec.repo, task_id);
    loop {
        let Some(row) = rows.get_leader::<Task>(Bucket::Tasks, &key).await? else {
            return Ok(());
        };
        let waits = row.value.status == TaskStatus::PendingBranchAttach;
        let for_this = row.value.job_id.is_none_or(|id| id == job.spec.job_id);
        if !waits || !for_this || job.spec.dry_run {
            return Ok(());
        }
        let mut task = settled(row.value, job);
        task.updated_at = rows.clock().now();
        if let Updated::Done(_) = rows
            .update(Bucket::Tasks, &key, &task, row.revision)
            .await?
        {
            return Ok(());
        }
    }
}

fn settled(task: Task, job: &Job) -> Task {
    let registered = job
        .result
        .as_ref()
        .and_then(|result| result.registered.as_ref());
    match (job.status, registered) {
        (JobStatus::Completed, Some(registered)) => Task {
            status: TaskStatus::Ready,
            head: Some(registered.head),
            parent: Some(registered.parent.clone()),
            message: None,
            job_id: Some(job.spec.job_id),
            ..task
        },
        _ => Task {
            status: TaskStatus::Error,
            message: Some(job.message.clone()),
            job_id: Some(job.spec.job_id),
            ..task
        },
    }
}
