//! One job, many jobs, ending one early and doing one again.

use std::cmp::Reverse;

use backstack_schemas::job::IllegalTransition;
use backstack_schemas::topology::{Bucket, job_key};
use backstack_schemas::{Job, JobEvent, JobId, JobStatus, RepoId};

use super::{Client, ClientError, Published};
use crate::rows::{Keys, Listed, Row, Updated};

/// Rows of one kind, and those that are there and cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// The others.
    pub unreadable: Vec<Unreadable>,
}

/// A row that is there and cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Its key.
    pub key: String,
    /// What is wrong with it.
    pub problem: String,
}

impl<T> From<Listed<T>> for Found<T> {
    fn from(listed: Listed<T>) -> Self {
        let unreadable = listed.unreadable.into_iter();
        Self {
            unreadable: unreadable
                .map(|(key, problem)| Unreadable { key, problem })
                .collect(),
            rows: listed.rows.into_values().map(|row| row.value).collect(),
        }
    }
}

/// What became of a wish to cancel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cancelled {
    /// The row: `cancelled` where the job was queued, else `running` and told to stop at its next
    /// step before the push.
    pub job: Job,
}

impl Client {
    /// A job's row; `None` where there is none (yet).
    ///
    /// # Errors
    /// [`ClientError::Rows`]
    pub async fn job(&self, repo: &RepoId, job_id: JobId) -> Result<Option<Row<Job>>, ClientError> {
        let key = job_key(repo, job_id);
        Ok(self.rows.get(Bucket::Jobs, &key).await?)
    }

    /// The jobs of one repository or of all, those of one status or all, the newest first.
    ///
    /// # Errors
    /// [`ClientError::Rows`]
    pub async fn jobs(
        &self,
        repo: Option<&RepoId>,
        status: Option<JobStatus>,
    ) -> Result<Found<Job>, ClientError> {
        let keys = repo.map_or(Keys::All, |repo| Keys::Of(repo.clone()));
        let mut found = Found::from(self.rows.list::<Job>(Bucket::Jobs, &keys).await?);
        found
            .rows
            .retain(|job| status.is_none_or(|status| job.status == status));
        found
            .rows
            .sort_by_key(|job| Reverse((job.created_at, job.sequence)));
        Ok(found)
    }

    /// Ends a queued job, or tells a running one to stop before it pushes.
    ///
    /// # Errors
    /// [`ClientError::NoSuchJob`] while its row is not there; [`ClientError::Ended`] where it is too
    /// late.
    pub async fn cancel(&self, repo: &RepoId, job_id: JobId) -> Result<Cancelled, ClientError> {
        let key = job_key(repo, job_id);
        loop {
            let row = self.rows.get_leader::<Job>(Bucket::Jobs, &key).await?;
            let Some(row) = row else {
                return Err(no_such_job(repo, job_id));
            };
            if row.value.cancel_requested && !row.value.status.is_terminal() {
                return Ok(Cancelled { job: row.value });
            }
            let now = self.rows.server_now().await;
            let job = match row.value.apply(JobEvent::RequestCancel, now) {
                Ok(job) => job,
                Err(IllegalTransition { status, .. }) => {
                    return Err(ClientError::Ended { job_id, status });
                }
            };
            // Lost means that the job moved on meanwhile: look again.
            let update = self.rows.update(Bucket::Jobs, &key, &job, row.revision);
            if let Updated::Done(_) = update.await? {
                return Ok(Cancelled { job });
            }
        }
    }

    /// Publishes a new job that asks for what an ended one asked for, and names it.
    ///
    /// # Errors
    /// [`ClientError::NotEnded`] while there is something to wait for; as
    /// [`publish`](Self::publish) otherwise.
    pub async fn retry(
        &self,
        repo: &RepoId,
        job_id: JobId,
        requested_by: Option<String>,
    ) -> Result<Published, ClientError> {
        let row = self.job(repo, job_id).await?;
        let job = row.ok_or_else(|| no_such_job(repo, job_id))?.value;
        if !job.status.is_terminal() {
            return Err(ClientError::NotEnded {
                repo: repo.clone(),
                job_id,
                status: job.status,
            });
        }
        let message = job.spec.to_message();
        let mut message = message.ok_or(ClientError::NotRetryable { job_id })?;
        message.job_id = None;
        message.retry_of = Some(job_id);
        message.requested_by = requested_by.or(message.requested_by);
        self.publish(repo, message).await
    }
}

fn no_such_job(repo: &RepoId, job_id: JobId) -> ClientError {
    ClientError::NoSuchJob {
        repo: repo.clone(),
        job_id,
    }
}
