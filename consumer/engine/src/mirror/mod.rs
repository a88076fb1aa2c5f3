//! Bare mirrors on disk: where they live, how they fetch, push, keep what rows name, and heal.
//!
//! ```text
//!  MirrorStore::open(state dir)          one process per state directory
//!       │ mirror(repo, url)              one job per repository at a time; heals what a kill left
//!       ▼
//!  Mirror ── fetch() ──► heads           refs/heads/* is what the remote had at the last fetch
//!       │── obtain(), set_pins()         refs/backstack/* keeps what rows name from collection
//!       │── repo(), git()                for whoever replays
//!       └── push() ──► Pushed            one atomic push, every ref under a lease
//! ```
//!
//! A mirror is a cache: all of it can be fetched again, but for commits that the remote has given
//! up and that rows still name, and those are pinned. Nothing here is ever pushed that was not
//! asked for, and trunk never.
//!
//! | question | module |
//! |---|---|
//! | which mirrors are there, who may use one? | [`store`] |
//! | what does the remote have? | [`fetch`] |
//! | how is a push made, and what does its answer mean? | [`push`], [`report`] |
//! | what must never be collected? | [`pins`] |
//! | where are its refs? | `refs` |
//! | what if a process was killed half-way, or the disk lied? | [`heal`] |
//! | how do mirrors stay small? | [`maintenance`] |

pub mod fetch;
pub mod heal;
pub mod maintenance;
pub mod pins;
pub mod push;
mod refs;
pub mod report;
pub mod store;

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Once;

use backstack_schemas::{ObjectId, RemoteUrl, RepoId};
use git2::{ConfigLevel, ErrorCode, Oid};

pub use fetch::Fetched;
pub use push::{Pushed, RefUpdate, Refusal};
pub use store::{MirrorStore, Stats};

use crate::error::EngineError;
use crate::git::{Git, GitCommand, Output};
use heal::Suspicion;
use store::InUse;

/// A repository's bare mirror, in use by one job until it is dropped.
///
/// It may move between threads but is not shared by them; a thread that reads along opens its own
/// `git2::Repository` at [`path`](Self::path).
pub struct Mirror {
    /// Gives the repository back to the store when dropped.
    in_use: InUse,
    url: RemoteUrl,
    path: PathBuf,
    repository: git2::Repository,
    /// What the next one to open it must look at; settled when this is dropped.
    suspicion: Cell<Suspicion>,
    /// Whether this job has said what to keep.
    pinned: Cell<bool>,
}

impl std::fmt::Debug for Mirror {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mirror").field("path", &self.path).finish()
    }
}

impl Mirror {
    /// The repository it mirrors.
    pub fn repo_id(&self) -> &RepoId {
        self.in_use.repo()
    }

    /// The remote.
    pub fn url(&self) -> &RemoteUrl {
        &self.url
    }

    /// The bare repository's directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The bare repository.
    pub fn repo(&self) -> &git2::Repository {
        &self.repository
    }

    /// The git command to be used with it.
    pub fn git(&self) -> &Git {
        self.in_use.store().git()
    }

    /// Whether the object is there.
    pub fn has(&self, id: ObjectId) -> bool {
        self.repository
            .odb()
            .is_ok_and(|odb| odb.exists(to_oid(id)))
    }

    /// Says that something in it cannot be read: the next one to open it checks all of it, and
    /// fetches it afresh where it is indeed damaged.
    pub fn mark_damaged(&self) {
        self.suspicion.set(Suspicion::Damaged);
    }

    /// A command in it that may talk to nobody.
    fn local(&self) -> GitCommand {
        self.git().command(&self.path)
    }

    /// A command in it that may talk to its remote.
    fn wire(&self) -> Result<GitCommand, EngineError> {
        self.git()
            .wire_command(&self.path, self.in_use.store().policy(), &self.url)
    }

    /// Notes that a command was killed, which may have left locks and half files.
    fn noting_interruption(
        &self,
        result: Result<Output, EngineError>,
    ) -> Result<Output, EngineError> {
        let killed = match &result {
            Ok(output) => output.code().is_none(),
            Err(_) => true,
        };
        if killed && self.suspicion.get() == Suspicion::None {
            self.suspicion.set(Suspicion::Interrupted);
        }
        result
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        heal::settle(&self.path, self.suspicion.get());
    }
}

/// libgit2's form of the id.
pub fn to_oid(id: ObjectId) -> Oid {
    // Twenty bytes are always an id; the zero id is what remains to be said otherwise.
    Oid::from_bytes(id.as_bytes()).unwrap_or(Oid::ZERO_SHA1)
}

/// The id from libgit2's form; `None` for one that is not SHA-1.
pub fn from_oid(oid: Oid) -> Option<ObjectId> {
    oid.as_bytes().try_into().ok().map(ObjectId::from_bytes)
}

/// Whether libgit2 failed because there is no such thing.
fn is_absent(error: &git2::Error) -> bool {
    error.code() == ErrorCode::NotFound
}

/// Sets libgit2's process-wide options, once. [`MirrorStore::open`] does it; whoever uses libgit2
/// without a store does it before.
///
/// - No configuration of the system or the user is read.
/// - A repository's owner is not checked: the state directory is the operator's, whoever owns the
///   volume it is on.
/// - Objects are not hashed again at each read, nor their references checked at each write: git
///   did the former when it fetched them, and the engine only writes what it has just read.
pub fn prepare_libgit2() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        git2::opts::strict_object_creation(false);
        git2::opts::strict_hash_verification(false);
        let levels = [
            ConfigLevel::System,
            ConfigLevel::XDG,
            ConfigLevel::Global,
            ConfigLevel::ProgramData,
        ];
        for level in levels {
            // SAFETY: libgit2 reads and writes this option without a lock. It is set before the
            // first repository of this process is opened, and never again.
            if let Err(error) = unsafe { git2::opts::set_search_path(level, "") } {
                tracing::warn!(%error, "libgit2 keeps reading configuration of the system");
            }
        }
        // SAFETY: as above.
        if let Err(error) = unsafe { git2::opts::set_verify_owner_validation(false) } {
            tracing::warn!(%error, "libgit2 keeps checking the owners of repositories");
        }
    });
}
