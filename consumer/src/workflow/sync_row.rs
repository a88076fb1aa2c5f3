//! What the repository's row says of the newest sync.

use backstack_producer::rows::{Row, Updated};
use backstack_schemas::topology::Bucket;
use backstack_schemas::{Repository, SyncStatus};

use super::context::Context;
use super::failure::{internal, unreadable};
use super::session::Session;
use crate::run::{Halt, Run};

/// How often a write is tried again that somebody else's overtook.
const TRIES: usize = 5;

/// The branch rows match the remote as of this session's fetch.
///
/// # Errors
/// The bucket did not answer.
pub async fn note_success(context: &Context, run: &Run, session: &Session) -> Result<(), Halt> {
    write(context, &session.repo, |row| {
        row.trunk.get_or_insert_with(|| session.trunk.clone());
        row.sync.status = SyncStatus::Synced;
        row.sync.synced_at = Some(context.now());
        row.sync.through_sequence = Some(session.through_sequence);
        row.sync.job_id = Some(run.spec.job_id);
        row.sync.message = None;
    })
    .await
}

/// The remote could not be fetched. A bucket that does not answer is passed over: the job's own row
/// tells the same.
pub async fn note_failure(context: &Context, run: &Run, repo: &Row<Repository>, halt: &Halt) {
    let Halt::Failed { error, .. } = halt else {
        return;
    };
    if run.spec.dry_run {
        return;
    }
    let noted = write(context, repo, |row| {
        row.sync.status = SyncStatus::Error;
        row.sync.job_id = Some(run.spec.job_id);
        row.sync.message = Some(error.detail.clone());
    });
    if noted.await.is_err() {
        tracing::warn!("the repository's row does not tell of the failed sync");
    }
}

/// Changes the row by compare-and-set, on what it is now. A row that was removed, or points to
/// another remote by now, is left alone.
async fn write(
    context: &Context,
    read: &Row<Repository>,
    change: impl Fn(&mut Repository),
) -> Result<(), Halt> {
    let key = read.value.repo.as_str();
    let (mut row, mut revision) = (read.value.clone(), read.revision);
    for _ in 0..TRIES {
        change(&mut row);
        let written = context
            .rows()
            .update(Bucket::Repos, key, &row, revision)
            .await;
        if let Updated::Done(_) = written.map_err(unreadable)? {
            return Ok(());
        }
        let now = context
            .rows()
            .get_leader::<Repository>(Bucket::Repos, key)
            .await;
        match now.map_err(unreadable)? {
            Some(now) if now.value.remote_url == read.value.remote_url => {
                (row, revision) = (now.value, now.revision);
            }
            _ => return Ok(()),
        }
    }
    Err(internal(format!(
        "the row of the repository {key} changes too fast to be written"
    ))
    .into())
}
