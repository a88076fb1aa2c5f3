//! Following one job to its end, and everything that happens.

use std::pin::Pin;
use std::task::{Context, Poll};

use backstack_schemas::topology::{Bucket, job_key};
use backstack_schemas::{Branch, Job, JobId, RepoId, Repository};
use futures_util::Stream;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use serde_json::Value;

use super::{Client, ClientError};
use crate::rows::{Keys, RowEvent, Watch};

/// What the watch of one job sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobUpdate {
    /// The row as it is now. Where the job has ended, this is the last.
    Row(Box<Job>),
    /// There is no row yet; it will come.
    Absent,
    /// The row was deleted; one may come again.
    Deleted,
    /// The row cannot be read.
    Unreadable(String),
}

/// A job followed to its end.
#[derive(Debug)]
pub struct JobWatch {
    watch: Watch<Job>,
    seen: bool,
    ended: bool,
}

impl JobWatch {
    /// The next news; `None` after the row of a job that has ended. Safe to drop while it waits.
    pub async fn next(&mut self) -> Option<JobUpdate> {
        while !self.ended {
            match self.watch.next_event().await? {
                RowEvent::Row { row, .. } => {
                    self.seen = true;
                    self.ended = row.value.status.is_terminal();
                    return Some(JobUpdate::Row(Box::new(row.value)));
                }
                RowEvent::Deleted { .. } => return Some(JobUpdate::Deleted),
                RowEvent::Unreadable { error, .. } => return Some(JobUpdate::Unreadable(error)),
                RowEvent::Initialised if !self.seen => return Some(JobUpdate::Absent),
                RowEvent::Initialised => {}
                RowEvent::Reset => self.seen = false,
            }
        }
        None
    }

    /// Follows the job to its end, or until the watch is given up by dropping this.
    pub async fn ended(&mut self) -> Option<Job> {
        let mut last = None;
        while let Some(update) = self.next().await {
            if let JobUpdate::Row(job) = update {
                last = Some(*job);
            }
        }
        last
    }
}

/// A row of any bucket as it is or changed.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A repository's.
    Repo(RowEvent<Repository>),
    /// A branch's.
    Branch(RowEvent<Branch>),
    /// A job's.
    Job(Box<RowEvent<Job>>),
    /// A task's, or which task has a branch: two kinds of rows in one bucket.
    Task(RowEvent<Value>),
}

/// Everything that happens; ends only when it is dropped.
pub struct Changes(BoxStream<'static, Change>);

impl Stream for Changes {
    type Item = Change;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(cx)
    }
}

impl Client {
    /// Follows a job to its end, from before its row is there.
    ///
    /// # Errors
    /// [`ClientError::Rows`] where the watch cannot even begin.
    pub async fn watch_job(&self, repo: &RepoId, job_id: JobId) -> Result<JobWatch, ClientError> {
        let key = Keys::One(job_key(repo, job_id));
        Ok(JobWatch {
            watch: self.rows.watch(Bucket::Jobs, key).await?,
            seen: false,
            ended: false,
        })
    }

    /// The jobs of one repository or of all: those that are there, then every change.
    ///
    /// # Errors
    /// As [`watch_job`](Self::watch_job).
    pub async fn watch_jobs(&self, repo: Option<&RepoId>) -> Result<Watch<Job>, ClientError> {
        Ok(self.rows.watch(Bucket::Jobs, of(repo)).await?)
    }

    /// All rows of one repository: those that are there, then every change. Each bucket says
    /// [`Initialised`](RowEvent::Initialised) for itself.
    ///
    /// # Errors
    /// As [`watch_job`](Self::watch_job).
    pub async fn watch_repo(&self, repo: &RepoId) -> Result<Changes, ClientError> {
        self.changes(Keys::One(repo.to_string()), of(Some(repo)))
            .await
    }

    /// All rows of all repositories, in the same way.
    ///
    /// # Errors
    /// As [`watch_job`](Self::watch_job).
    pub async fn watch_all(&self) -> Result<Changes, ClientError> {
        self.changes(Keys::All, Keys::All).await
    }

    async fn changes(&self, repos: Keys, others: Keys) -> Result<Changes, ClientError> {
        let (repos, branches, jobs, tasks) = tokio::try_join!(
            self.rows.watch(Bucket::Repos, repos),
            self.rows.watch(Bucket::Branches, others.clone()),
            self.rows.watch(Bucket::Jobs, others.clone()),
            self.rows.watch(Bucket::Tasks, others),
        )?;
        Ok(Changes(
            stream::select_all([
                repos.map(Change::Repo).boxed(),
                branches.map(Change::Branch).boxed(),
                jobs.map(|event| Change::Job(Box::new(event))).boxed(),
                tasks.map(Change::Task).boxed(),
            ])
            .boxed(),
        ))
    }
}

fn of(repo: Option<&RepoId>) -> Keys {
    repo.map_or(Keys::All, |repo| Keys::Of(repo.clone()))
}
