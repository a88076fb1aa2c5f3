//! The repositories that actions may name, and their branches.

use backstack_schemas::topology::Bucket;
use backstack_schemas::{Branch, BranchName, Job, RemoteUrl, RepoId, Repository};
use serde::de::IgnoredAny;

use super::{Client, ClientError, Found};
use crate::rows::{Created, Keys, Row, RowError, Updated, Write};

/// What became of adding a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is new.
    New(Repository),
    /// It was there like this already.
    Already(Repository),
}

impl Added {
    /// The row.
    pub fn repository(&self) -> &Repository {
        match self {
            Self::New(repository) | Self::Already(repository) => repository,
        }
    }
}

/// What went with a repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Jobs that were cancelled, or are running and told to stop.
    pub jobs: usize,
    /// Branch rows that were deleted.
    pub branches: usize,
    /// Task rows that were deleted.
    pub tasks: usize,
}

impl Client {
    /// A repository's row; `None` where there is none.
    ///
    /// # Errors
    /// [`ClientError::Rows`]
    pub async fn repo(&self, repo: &RepoId) -> Result<Option<Row<Repository>>, ClientError> {
        Ok(self.rows.get(Bucket::Repos, repo.as_str()).await?)
    }

    /// Every repository, in the order of their names.
    ///
    /// # Errors
    /// [`ClientError::Rows`]
    pub async fn repos(&self) -> Result<Found<Repository>, ClientError> {
        let listed = self.rows.list::<Repository>(Bucket::Repos, &Keys::All);
        Ok(listed.await?.into())
    }

    /// A repository's branches, in the order of their names.
    ///
    /// # Errors
    /// [`ClientError::Rows`]
    pub async fn branches(&self, repo: &RepoId) -> Result<Found<Branch>, ClientError> {
        let keys = Keys::Of(repo.clone());
        let listed = self.rows.list::<Branch>(Bucket::Branches, &keys).await?;
        let mut found = Found::from(listed);
        found.rows.sort_by(|a, b| a.branch.cmp(&b.branch));
        Ok(found)
    }

    /// Adds a repository, so that actions may name it. Adding it again as it is changes nothing; a
    /// trunk may be given later, as long as none was found.
    ///
    /// # Errors
    /// [`ClientError::RepoTaken`] where the name has another URL or trunk.
    pub async fn add_repo(
        &self,
        repo: &RepoId,
        url: RemoteUrl,
        trunk: Option<BranchName>,
    ) -> Result<Added, ClientError> {
        let now = self.rows.server_now().await;
        let new = Repository::new(repo.clone(), url, trunk, now);
        loop {
            let row = match self.rows.create(Bucket::Repos, repo.as_str(), &new).await? {
                Created::Made(_) => return Ok(Added::New(new)),
                Created::Exists(row) => row,
            };
            let Some(wanted) = reconcile(&new, &row.value)? else {
                return Ok(Added::Already(row.value));
            };
            let key = repo.as_str();
            let update = self.rows.update(Bucket::Repos, key, &wanted, row.revision);
            if let Updated::Done(_) = update.await? {
                return Ok(Added::Already(wanted));
            }
        }
    }

    /// Removes a repository: its jobs that have not ended are cancelled or told to stop, its branch and
    /// task rows go. Nothing on the remote changes. Doing it again finishes what was broken off.
    ///
    /// A worker does the same when it sees that the repository is gone, so whoever may not write branch
    /// rows leaves them to it.
    ///
    /// # Errors
    /// [`ClientError::NoSuchRepo`] where there is nothing to remove.
    pub async fn remove_repo(&self, repo: &RepoId) -> Result<Removed, ClientError> {
        let key = repo.as_str();
        // The row first: jobs that start from here on find no repository.
        let existed = match self.rows.get_leader::<IgnoredAny>(Bucket::Repos, key).await {
            Ok(row) => row.is_some(),
            Err(RowError::Unreadable { .. }) => true,
            Err(error) => return Err(error.into()),
        };
        // Counted now: a worker may be faster.
        let branches = self.keys(Bucket::Branches, repo).await?.len();
        let tasks = self.keys(Bucket::Tasks, repo).await?.len();
        if existed {
            self.rows.delete(Bucket::Repos, key).await?;
        }
        let removed = Removed {
            jobs: self.stop_jobs(repo).await?,
            branches: branches.max(self.delete_all(Bucket::Branches, repo).await?),
            tasks: tasks.max(self.delete_all(Bucket::Tasks, repo).await?),
        };
        if existed || removed != Removed::default() {
            Ok(removed)
        } else {
            Err(ClientError::NoSuchRepo { repo: repo.clone() })
        }
    }

    async fn stop_jobs(&self, repo: &RepoId) -> Result<usize, ClientError> {
        let mut stopped = 0;
        let is_open = |job: &&Job| !job.status.is_terminal();
        let found = self.jobs(Some(repo), None).await?;
        for job in found.rows.iter().filter(is_open) {
            match self.cancel(repo, job.spec.job_id).await {
                Ok(_) => stopped += 1,
                // It ended by itself meanwhile.
                Err(ClientError::Ended { .. } | ClientError::NoSuchJob { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(stopped)
    }

    /// Deletes the rows of a repository, as far as this user may.
    async fn delete_all(&self, bucket: Bucket, repo: &RepoId) -> Result<usize, ClientError> {
        let keys = self.keys(bucket, repo).await?;
        let count = keys.len();
        let mut deletions = keys.into_iter().map(Write::delete);
        // One alone, so that a server that does not permit it has to say so once.
        let Some(first) = deletions.next() else {
            return Ok(0);
        };
        match self.rows.write(bucket, first).await {
            Err(error) if error.is_denied() => return Ok(0),
            deleted => deleted?,
        };
        let results = self.rows.write_all(bucket, deletions).await;
        results.into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok(count)
    }

    /// The keys of a repository's rows, those that cannot be read included.
    async fn keys(&self, bucket: Bucket, repo: &RepoId) -> Result<Vec<String>, ClientError> {
        let keys = Keys::Of(repo.clone());
        let listed = self.rows.list_leader::<IgnoredAny>(bucket, &keys).await?;
        let unreadable = listed.unreadable.into_keys();
        Ok(listed.rows.into_keys().chain(unreadable).collect())
    }
}

/// What the row that is there has to become for `new`: `None` for nothing.
fn reconcile(new: &Repository, there: &Repository) -> Result<Option<Repository>, ClientError> {
    let taken = |what, is: String| ClientError::RepoTaken {
        repo: there.repo.clone(),
        what,
        is,
    };
    if new.remote_url != there.remote_url {
        return Err(taken("the URL", there.remote_url.to_string()));
    }
    match (&new.trunk, &there.trunk) {
        (None, _) => Ok(None),
        (Some(new), Some(there)) if new == there => Ok(None),
        (Some(_), Some(there)) => Err(taken("the trunk", there.to_string())),
        (Some(trunk), None) => Ok(Some(Repository {
            trunk: Some(trunk.clone()),
            ..there.clone()
        })),
    }
}
