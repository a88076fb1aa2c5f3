//! The branch rows of repositories that were worked on lately, as the bucket has them.
//!
//! Rows are read anew whenever the bucket's newest sequence under the repository is another one than
//! when they were kept, so what is kept here is never older than what reading would give.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use backstack_producer::rows::{Keys, Row, RowError, Rows};
use backstack_schemas::topology::Bucket;
use backstack_schemas::{Branch, BranchName, RepoId};
use parking_lot::Mutex;

/// How many rows are kept in all; past that, everything but the newest repository's is forgotten.
const MOST_ROWS: usize = 100_000;

/// Branch rows by repository.
#[derive(Debug, Default)]
pub struct BranchRows {
    kept: Mutex<HashMap<RepoId, Arc<KnownRows>>>,
}

/// The branch rows of one repository as they are in the bucket.
#[derive(Clone, Debug, Default)]
pub struct KnownRows {
    rows: BTreeMap<BranchName, Row<Branch>>,
    /// The newest revision under the repository, deletions included.
    newest: u64,
}

/// What is kept of a repository's rows, held against the bucket.
#[derive(Clone, Debug)]
pub enum Kept {
    /// The rows as the bucket has them.
    Current(Arc<KnownRows>),
    /// They are to be read.
    Stale {
        /// The newest revision under the repository, deletions included.
        newest: u64,
    },
}

impl KnownRows {
    /// A branch's row.
    pub fn get(&self, branch: &BranchName) -> Option<&Row<Branch>> {
        self.rows.get(branch)
    }

    /// All rows, by branch.
    pub fn iter(&self) -> impl Iterator<Item = (&BranchName, &Row<Branch>)> {
        self.rows.iter()
    }

    /// A row was written, or removed, and this is the revision of that.
    pub fn note(&mut self, branch: &BranchName, row: Option<&Branch>, revision: u64) {
        match row {
            Some(row) => {
                let row = Row {
                    value: row.clone(),
                    revision,
                    at: row.updated_at,
                };
                self.rows.insert(branch.clone(), row);
            }
            None => {
                self.rows.remove(branch);
            }
        }
        self.newest = self.newest.max(revision);
    }
}

impl BranchRows {
    /// Whether what is kept of the repository's rows is what the bucket has: one small question.
    ///
    /// # Errors
    /// The bucket did not answer.
    pub async fn kept(&self, rows: &Rows, repo: &RepoId) -> Result<Kept, RowError> {
        let keys = Keys::Of(repo.clone());
        let newest = rows.newest(Bucket::Branches, &keys).await?.unwrap_or(0);
        let kept = self.kept.lock().get(repo).map(Arc::clone);
        Ok(match kept.filter(|kept| kept.newest == newest) {
            Some(kept) => Kept::Current(kept),
            None => Kept::Stale { newest },
        })
    }

    /// The repository's branch rows, read where they are not kept; those that cannot be read are left
    /// out, and a later write makes them anew.
    ///
    /// # Errors
    /// The bucket did not answer.
    pub async fn load(
        &self,
        rows: &Rows,
        repo: &RepoId,
        kept: Kept,
    ) -> Result<Arc<KnownRows>, RowError> {
        let newest = match kept {
            Kept::Current(kept) => return Ok(kept),
            Kept::Stale { newest } => newest,
        };
        let keys = Keys::Of(repo.clone());
        let listed = rows.list_leader::<Branch>(Bucket::Branches, &keys).await?;
        for (key, problem) in &listed.unreadable {
            tracing::warn!(key, problem, "a branch row cannot be read; it is made anew");
        }
        let rows = listed
            .rows
            .into_values()
            .map(|row| (row.value.branch.clone(), row))
            .collect();
        Ok(self.keep(repo, KnownRows { rows, newest }))
    }

    /// Keeps rows that were just read or written.
    pub fn keep(&self, repo: &RepoId, known: KnownRows) -> Arc<KnownRows> {
        let mut kept = self.kept.lock();
        let others: usize = kept
            .iter()
            .filter(|(other, _)| *other != repo)
            .map(|(_, k)| k.rows.len())
            .sum();
        if others + known.rows.len() > MOST_ROWS {
            kept.clear();
        }
        let known = Arc::new(known);
        kept.insert(repo.clone(), Arc::clone(&known));
        known
    }

    /// Forgets every row: the bucket has become another one.
    pub fn forget_all(&self) {
        self.kept.lock().clear();
    }

    /// Forgets a repository's rows.
    pub fn forget(&self, repo: &RepoId) {
        self.kept.lock().remove(repo);
    }
}
