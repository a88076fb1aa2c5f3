//! What is left of repositories that were removed: their branch and task rows.
//!
//! Whoever removes a repository deletes its row and, as far as it may, the rest. It need not be permitted to
//! write branch rows, which are the service's, and it may die half-way. So every worker watches the
//! repositories, and deletes what belongs to one that is gone. Only rows that are as they were when the
//! repository was seen to be gone are deleted: one that is added again meanwhile keeps what it gets.

use std::sync::Arc;
use std::time::Duration;

use backstack_producer::rows::{Keys, RowError, RowEvent, Rows, Updated, Write};
use backstack_schemas::RepoId;
use backstack_schemas::topology::Bucket;
use serde::de::IgnoredAny;

use crate::runner::Runner;

/// How long to wait where a bucket does not answer.
const PAUSE: Duration = Duration::from_secs(1);

/// Deletes what removed repositories leave, until the worker drains.
pub async fn watch_for_removed(runner: Arc<Runner>) {
    tokio::select! {
        () = watch(&runner.rows) => {}
        () = runner.drain.cancelled() => {}
    }
}

async fn watch(rows: &Rows) {
    loop {
        match rows.watch::<IgnoredAny>(Bucket::Repos, Keys::All).await {
            Ok(mut repos) => {
                while let Some(event) = repos.next_event().await {
                    let RowEvent::Deleted { key, .. } = event else {
                        continue;
                    };
                    let Ok(repo) = key.parse::<RepoId>() else {
                        continue;
                    };
                    while let Err(error) = clear(rows, &repo).await {
                        tracing::warn!(%repo, %error, "the rows of a removed repository are still there");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the repositories cannot be watched");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Deletes the rows of a repository that is gone.
async fn clear(rows: &Rows, repo: &RepoId) -> Result<(), RowError> {
    let keys = Keys::Of(repo.clone());
    for bucket in [Bucket::Branches, Bucket::Tasks] {
        let listed = rows.list_leader::<IgnoredAny>(bucket, &keys).await?;
        // Looked for after the list: whoever adds it again writes its row first.
        let row = rows.get_leader::<IgnoredAny>(Bucket::Repos, repo.as_str());
        match row.await {
            Ok(None) => {}
            Ok(Some(_)) | Err(RowError::Unreadable { .. }) => return Ok(()),
            Err(error) => return Err(error),
        }
        let deletions = listed
            .rows
            .into_iter()
            .map(|(key, row)| Write::delete(key).expecting(row.revision));
        let results = rows.write_all(bucket, deletions).await;
        let results: Vec<_> = results.into_iter().collect::<Result<_, _>>()?;
        let done = results
            .iter()
            .filter(|r| matches!(r, Updated::Done(_)))
            .count();
        if done > 0 {
            tracing::info!(%repo, ?bucket, done, "the rows of a removed repository are deleted");
        }
    }
    Ok(())
}
