//! Why engine work could not be done. A conflict is a result, not an error; see [`crate::replay`].
//!
//! Each variant is one decision of the caller: which code the job's row gets and whether to retry.

use std::io;
use std::path::PathBuf;

use backstack_schemas::BranchName;

/// Why a piece of engine work ended without a result.
///
/// No variant's text ever holds a credential: URLs are cut to what [`RemoteUrl`] allows, and what
/// git printed is scrubbed before it gets here.
///
/// [`RemoteUrl`]: backstack_schemas::RemoteUrl
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The operator has not allowed the remote's protocol or host.
    #[error("{0}")]
    RemoteNotAllowed(String),
    /// The network failed, or there is no repository at the URL.
    #[error("the remote could not be reached: {0}")]
    RemoteUnreachable(String),
    /// The remote did not take the credentials.
    #[error("the remote refused the credentials: {0}")]
    RemoteAuthFailed(String),
    /// The remote refused the whole push: a hook, or no support for atomic pushes.
    #[error("the remote refused the push: {0}")]
    RemoteRejected(String),
    /// A ref on the remote is no longer what was fetched.
    #[error("{} moved on the remote since it was fetched", list(.0))]
    BranchMoved(Vec<BranchName>),
    /// The remote would not move these, although nobody else had: a lock that somebody holds there, or
    /// left behind.
    #[error("the remote holds {} locked: {said}", list(.branches))]
    BranchLocked {
        /// The branches.
        branches: Vec<BranchName>,
        /// What the remote said.
        said: String,
    },
    /// Two branches have no commit in common.
    #[error("{branch} and {other} have no history in common")]
    UnrelatedHistory {
        /// The branch that was to be replayed.
        branch: BranchName,
        /// What it was to be replayed onto.
        other: BranchName,
    },
    /// The deadline passed; what was running has been killed.
    #[error("the action's time was up")]
    Timeout,
    /// The caller asked to stop.
    #[error("stopped on request")]
    Stopped,
    /// Another process has the state directory.
    #[error("{} is in use by another process (pid {pid}); give each backstackd its own --state-dir", .path.display())]
    StateDirInUse {
        /// The state directory.
        path: PathBuf,
        /// The holder's process id, as it wrote it; `unknown` where it could not be read.
        pid: String,
    },
    /// No usable git command.
    #[error("{0}")]
    GitUnusable(String),
    /// Anything unforeseen.
    #[error("{0}")]
    Internal(String),
}

impl EngineError {
    /// The disk failed at `doing`, which names the file.
    pub(crate) fn disk(doing: &str, error: &io::Error) -> Self {
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        if full.contains(&error.kind()) {
            Self::disk_full(&format!("{doing}: {error}"))
        } else {
            Self::Internal(format!("{doing} failed: {error}"))
        }
    }

    /// The disk is full, and what to do about it.
    pub(crate) fn disk_full(said: &str) -> Self {
        Self::Internal(format!(
            "the disk that holds the state directory is full; free some space or lower \
             --mirror-budget ({said})"
        ))
    }
}

impl From<git2::Error> for EngineError {
    fn from(error: git2::Error) -> Self {
        let said = format!("libgit2: {}", error.message());
        if FULL.iter().any(|words| said.contains(words)) {
            Self::disk_full(&said)
        } else {
            Self::Internal(said)
        }
    }
}

/// The system's words for a disk that is full, in the C locale.
pub(crate) const FULL: &[&str] = &["No space left on device", "Disk quota exceeded"];

/// The first few names, for a sentence.
fn list(branches: &[BranchName]) -> String {
    let mut names = branches
        .iter()
        .take(3)
        .map(BranchName::as_str)
        .collect::<Vec<_>>()
        .join(", ");
    if branches.len() > 3 {
        names.push_str(&format!(" and {} more", branches.len() - 3));
    }
    names
}
