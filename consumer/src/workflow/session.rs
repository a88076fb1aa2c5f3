//! The pre-sync that every action begins with, and the state it works on from then on.
//!
//! A [`Session`] holds the repository's mirror after a fetch, the branch rows as the bucket has them
//! and as they are to be. Actions change only the latter; [`crate::projection`] writes the difference.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use backstack_engine::EngineError;
use backstack_engine::graph::Stack;
use backstack_engine::mirror::{Fetched, Mirror};
use backstack_producer::rows::{Row, RowError};
use backstack_schemas::outcome::TrunkMoved;
use backstack_schemas::topology::Bucket;
use backstack_schemas::{
    Branch, BranchName, ErrorCode, JobError, JobResult, ObjectId, RepoId, Repository, Step,
    Timestamp,
};
use parking_lot::Mutex;
use serde_json::Value;

use super::branch_rows::{Kept, KnownRows};
use super::context::Context;
use super::failure::{internal, job_error, unreadable};
use super::outlook::{self, Outlook};
use super::patience::is_answer;
use super::timing::timed;
use crate::run::{Halt, Run};

/// How long the row of a tracked branch stays after the branch went from the remote.
const GONE_BRANCH_LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// A repository that was just fetched, and its rows.
#[derive(Debug)]
pub struct Session {
    /// The repository's row as read at the beginning.
    pub repo: Row<Repository>,
    /// The branch that stacks stand on; on the remote.
    pub trunk: BranchName,
    /// The branch rows as the bucket has them.
    pub before: Arc<KnownRows>,
    /// The branch rows as they are to be. Facts that depend on commits are filled in last.
    pub rows: BTreeMap<BranchName, Branch>,
    /// What the job did so far.
    pub result: JobResult,
    /// The stream's last sequence when the fetch began.
    pub through_sequence: u64,
    /// What was worked out while the fetch went on.
    pub outlook: Outlook,
    /// Behind a mutex only because a mirror cannot be shared between threads, and a session is looked
    /// at by asynchronous code; it is never waited for.
    mirror: Mutex<Option<Mirror>>,
}

impl Session {
    /// The pre-sync: reads the rows, fetches, and brings the rows up to what the remote has.
    ///
    /// # Errors
    /// [`Halt::Failed`] with `unknown_repo`, `trunk_not_found`, or what the remote or the buckets did.
    pub async fn begin(
        context: &Context,
        run: &Run,
        repo: Row<Repository>,
        asked: Asked,
    ) -> Result<Self, Halt> {
        run.enter(Step::Fetch, "Fetching from the remote", 0);
        let Asked {
            through_sequence,
            rows,
        } = asked;
        let (fetched, before) = timed("fetch", async {
            let (kept, id) = (rows.clone(), &repo.value.repo);
            tokio::join!(
                fetch(context, run, &repo.value, kept),
                branch_rows(context, run, id, rows),
            )
        })
        .await;
        let (fetch, before) = (fetched?, before.map_err(unreadable)?);
        let Fetch {
            mirror,
            fetched,
            default_branch,
            outlook,
        } = fetch;
        let missing = outlook.as_ref().map(|outlook| outlook.missing.clone());
        for name in &fetched.ignored {
            tracing::warn!(name, "a branch whose name no row can hold is passed over");
        }
        let trunk = trunk(&repo.value, default_branch, &fetched)?;
        let rows = before
            .iter()
            .map(|(name, row)| (name.clone(), row.value.clone()))
            .collect();
        let mut session = Self {
            repo,
            trunk,
            before,
            rows,
            result: JobResult::default(),
            through_sequence,
            outlook: outlook.unwrap_or_default(),
            mirror: Mutex::new(Some(mirror)),
        };
        session.take_in(&fetched.heads, context.now());
        let obtaining = session.obtain_what_rows_name(context, run, missing);
        timed("obtain", obtaining).await?;
        Ok(session)
    }

    /// Fetches once more, for what moved between the fetch and the push.
    ///
    /// # Errors
    /// As [`begin`](Self::begin).
    pub async fn fetch_again(&mut self, context: &Context, run: &Run) -> Result<(), Halt> {
        run.enter(
            Step::Fetch,
            "Fetching again, since the remote has moved on",
            0,
        );
        self.through_sequence = context.last_sequence(run).await?;
        let (control, metrics) = (run.control.clone(), Arc::clone(context.metrics()));
        let fetching = self
            .with_mirror(move |mirror| metrics.fetching(|| mirror.fetch(&control, &mut |_, _| {})));
        let fetched = timed("fetch", fetching).await?;
        if !fetched.heads.contains_key(&self.trunk) {
            return Err(no_trunk(&self.trunk).into());
        }
        self.take_in(&fetched.heads, context.now());
        Ok(())
    }

    /// Runs engine code on the mirror, on a thread that may block.
    ///
    /// # Errors
    /// What `work` came to.
    pub async fn with_mirror<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Mirror) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, Halt> {
        let Some(mut mirror) = self.mirror.get_mut().take() else {
            return Err(
                internal("the mirror is gone, since an earlier step of this run broke").into(),
            );
        };
        let (mirror, done) = blocking(move || {
            let done = work(&mut mirror);
            // Whatever could not be read may be damaged; the next run looks before it works on it.
            if matches!(done, Err(EngineError::Internal(_))) {
                mirror.mark_damaged();
            }
            (mirror, done)
        })
        .await?;
        *self.mirror.get_mut() = Some(mirror);
        done.map_err(job_error)
    }

    /// The stack as the engine takes it.
    pub fn stack(&self) -> Stack {
        outlook::stack(&self.trunk, self.rows.iter())
    }

    /// The row of a branch that is on the remote.
    pub fn on_remote(&self, branch: &BranchName) -> Option<(&Branch, ObjectId)> {
        let row = self.rows.get(branch)?;
        Some((row, row.head?))
    }

    /// Every commit that the rows of stacks and tasks, and trunk's, name.
    pub fn named_commits(&self) -> BTreeSet<ObjectId> {
        outlook::named_commits(self.rows.values())
    }

    /// Brings the rows up to what a fetch saw.
    fn take_in(&mut self, heads: &BTreeMap<BranchName, ObjectId>, now: Timestamp) {
        for (branch, head) in heads {
            match self.rows.get_mut(branch) {
                Some(row) => row.move_head(Some(*head)),
                None => {
                    let row = Branch::new(self.repo.value.repo.clone(), branch.clone(), *head, now);
                    self.rows.insert(branch.clone(), row);
                }
            }
        }
        self.rows.retain(|branch, row| {
            if !heads.contains_key(branch) {
                row.move_head(None);
            }
            row.head.is_some()
                || (row.is_kept() && now.since(row.updated_at) < GONE_BRANCH_LIFETIME)
        });
        for (branch, row) in &mut self.rows {
            row.is_trunk = *branch == self.trunk;
            if row.is_trunk {
                stop_tracking(row);
            }
        }
        self.note_trunk(heads);
    }

    /// Trunk's move belongs to the result of the job whose fetch saw it.
    fn note_trunk(&mut self, heads: &BTreeMap<BranchName, ObjectId>) {
        let from = self.before.get(&self.trunk).and_then(|row| row.value.head);
        if let Some(to) = heads
            .get(&self.trunk)
            .copied()
            .filter(|to| Some(*to) != from)
        {
            self.result.trunk = Some(TrunkMoved {
                branch: self.trunk.clone(),
                from,
                to,
            });
        }
    }

    /// Asks the remote for commits that rows name and this mirror never saw, since another worker
    /// recorded them. `missing` are those that were not there before the fetch, where that was looked
    /// at: what the rows name besides by now, the fetch has brought.
    async fn obtain_what_rows_name(
        &mut self,
        context: &Context,
        run: &Run,
        missing: Option<Vec<ObjectId>>,
    ) -> Result<(), Halt> {
        let repo = self.repo.value.repo.clone();
        let mut named = self.named_commits();
        if let Some(missing) = missing {
            named.retain(|id| missing.contains(id));
        }
        named.retain(|id| !context.is_unobtainable(&repo, *id));
        if named.is_empty() {
            return Ok(());
        }
        let control = run.control.clone();
        let missing = self
            .with_mirror(move |mirror| {
                let wanted: Vec<_> = named.into_iter().filter(|id| !mirror.has(*id)).collect();
                if wanted.is_empty() {
                    Ok(wanted)
                } else {
                    mirror.obtain(&wanted, &control)
                }
            })
            .await?;
        context.note_unobtainable(&repo, &missing);
        Ok(())
    }
}

/// What NATS is asked before a fetch begins.
#[derive(Debug)]
pub struct Asked {
    /// The stream's last sequence.
    through_sequence: u64,
    /// What is known of the branch rows.
    rows: Kept,
}

/// Asks for what a fetch must know before it begins.
///
/// # Errors
/// `internal` where NATS did not answer.
pub async fn ask(context: &Context, run: &Run) -> Result<Asked, Halt> {
    let rows = async {
        loop {
            let rows = context.branch_rows();
            let kept = rows.kept(context.rows(), &run.spec.repo).await;
            if is_answer(run, &kept).await {
                return kept.map_err(unreadable);
            }
        }
    };
    let (through_sequence, rows) = tokio::try_join!(context.last_sequence(run), rows)?;
    Ok(Asked {
        through_sequence,
        rows,
    })
}

/// Takes a branch out of its stack.
pub fn stop_tracking(row: &mut Branch) {
    row.tracked = false;
    row.parent = None;
    row.base = None;
}

/// The repository's row.
///
/// # Errors
/// `unknown_repo`; `remote_not_allowed` where the row's URL is none that git may be given; `internal`
/// where the row cannot be used for another reason.
pub async fn repository(context: &Context, run: &Run) -> Result<Row<Repository>, Halt> {
    let repo = &run.spec.repo;
    let row = loop {
        let rows = context.rows();
        let row = rows.get_leader::<Value>(Bucket::Repos, repo.as_str()).await;
        if is_answer(run, &row).await {
            break row;
        }
    };
    let row = row.map_err(unreadable)?.ok_or_else(|| unknown_repo(repo))?;
    Ok(Row {
        value: read_repository(repo, row.value)?,
        revision: row.revision,
        at: row.at,
    })
}

async fn branch_rows(
    context: &Context,
    run: &Run,
    repo: &RepoId,
    kept: Kept,
) -> Result<Arc<KnownRows>, RowError> {
    loop {
        let rows = context.branch_rows();
        let known = rows.load(context.rows(), repo, kept.clone()).await;
        if is_answer(run, &known).await {
            return known;
        }
    }
}

/// Reads a row that anybody who may write the bucket can have made.
fn read_repository(repo: &RepoId, row: Value) -> Result<Repository, JobError> {
    let url = row["remote_url"].as_str().unwrap_or_default();
    if let Err(problem) = url.parse::<backstack_schemas::RemoteUrl>() {
        let detail = format!("{problem}; remove the repository and add it again with another URL");
        return Err(JobError::new(ErrorCode::RemoteNotAllowed, detail));
    }
    let unusable = |problem: String| {
        internal(format!(
            "the row of the repository {repo} cannot be used: {problem}; remove the repository and \
             add it again"
        ))
    };
    let value: Repository =
        serde_json::from_value(row).map_err(|error| unusable(error.to_string()))?;
    // Mirror, branch rows and order go by the name, so it must be the one the job was queued under.
    if value.repo != *repo {
        return Err(unusable(format!("it is that of {}", value.repo)));
    }
    Ok(value)
}

fn unknown_repo(repo: &RepoId) -> JobError {
    JobError::new(
        ErrorCode::UnknownRepo,
        format!("There is no repository {repo}; add it with `backstack repo add {repo} <url>`"),
    )
}

/// What a fetch came to.
struct Fetch {
    mirror: Mirror,
    fetched: Fetched,
    /// Asked for only where the repository's row names no trunk.
    default_branch: Option<BranchName>,
    /// Known only where the rows were.
    outlook: Option<Outlook>,
}

async fn fetch(context: &Context, run: &Run, repo: &Repository, kept: Kept) -> Result<Fetch, Halt> {
    let (store, control) = (context.store().clone(), run.control.clone());
    let (id, url, trunk) = (
        repo.repo.clone(),
        repo.remote_url.clone(),
        repo.trunk.clone(),
    );
    let (report, goal) = (run.reporter(), outlook::goal(&run.action));
    let metrics = Arc::clone(context.metrics());
    blocking(move || {
        let mut progress = |done, total| report.advance(done, total);
        let look = |mirror: &Mirror| match &kept {
            Kept::Current(rows) => Some(Outlook::of(mirror, rows, trunk.as_ref(), goal, &control)),
            Kept::Stale { .. } => None,
        };
        let (mirror, fetched, outlook) =
            metrics.fetching(|| store.fetched(&id, &url, &control, &mut progress, look))?;
        let default_branch = if trunk.is_some() {
            None
        } else {
            mirror.default_branch(&control)?
        };
        Ok(Fetch {
            outlook: outlook.flatten(),
            mirror,
            fetched,
            default_branch,
        })
    })
    .await?
    .map_err(|error: EngineError| job_error(error))
}

fn trunk(
    repo: &Repository,
    default_branch: Option<BranchName>,
    fetched: &Fetched,
) -> Result<BranchName, JobError> {
    let trunk = repo.trunk.clone().or(default_branch).ok_or_else(|| {
        JobError::new(
            ErrorCode::TrunkNotFound,
            "The remote has no default branch; name the trunk with `backstack repo add … --trunk B`",
        )
    })?;
    if fetched.heads.contains_key(&trunk) {
        Ok(trunk)
    } else {
        Err(no_trunk(&trunk))
    }
}

fn no_trunk(trunk: &BranchName) -> JobError {
    let detail = format!("The trunk {trunk} is not on the remote; push it, or name another trunk");
    JobError::new(ErrorCode::TrunkNotFound, detail)
}

/// Runs `work` on a thread that may block.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Halt> {
    let span = tracing::Span::current();
    tokio::task::spawn_blocking(move || span.in_scope(work))
        .await
        .map_err(|error| internal(format!("a step of the job broke: {error}")).into())
}
