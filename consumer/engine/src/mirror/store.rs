//! The state directory's mirrors: one process, one job per repository.
//!
//! ```text
//!  <state>/lock                               held while a process runs; its pid inside
//!  <state>/git-core/                          links to git's own programs, but for what it must not start
//!  <state>/mirrors/<repo>.<hash of URL>.git   one mirror for each repository and URL
//!  <state>/mirrors/.trash/                    what is being deleted
//! ```
//!
//! A changed URL is another directory: a new remote. The old one is the first to go when the
//! budget needs the room, as it is no longer used.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use backstack_schemas::{RemoteUrl, RepoId};
use git2::{ObjectType, Oid};
use rustix::fs::{FlockOperation, flock};

use super::Mirror;
use super::fetch::{Fetched, fetching};
use super::heal::{self, Suspicion};
use crate::control::Control;
use crate::error::EngineError;
use crate::git::{Git, RemotePolicy};

/// How often a job that waits for its repository looks at its control.
const TICK: Duration = Duration::from_millis(50);

/// What mirrors take up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// How many there are.
    pub mirrors: usize,
    /// Bytes on disk, as the files' lengths say.
    pub bytes: u64,
}

/// All mirrors of one state directory; clones are the same store.
///
/// The directory is this process's until the last clone and the last [`Mirror`] are dropped.
#[derive(Clone, Debug)]
pub struct MirrorStore(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    mirrors: PathBuf,
    git: Git,
    policy: RemotePolicy,
    budget: Option<u64>,
    /// The mirror each repository's job has in hand.
    in_use: Mutex<HashMap<RepoId, PathBuf>>,
    given_back: Condvar,
    /// The lock on the directory; released when closed.
    _lock: File,
}

impl MirrorStore {
    /// Takes the state directory, making it where it is not there (mode 0700).
    ///
    /// `budget` is what mirrors may take up, in bytes; see [`enforce_budget`](Self::enforce_budget).
    ///
    /// # Errors
    ///
    /// [`EngineError::StateDirInUse`] where another process has it; [`EngineError::Internal`]
    /// where it cannot be written.
    pub fn open(
        state_dir: &Path,
        git: Git,
        policy: RemotePolicy,
        budget: Option<u64>,
    ) -> Result<Self, EngineError> {
        super::prepare_libgit2();
        make_private(state_dir)?;
        let lock = lock(state_dir)?;
        let mirrors = state_dir.join("mirrors");
        make_private(&mirrors)?;
        let git = git.fenced(&state_dir.join("git-core"))?;
        let store = Self(Arc::new(Shared {
            mirrors,
            git,
            policy,
            budget,
            in_use: Mutex::default(),
            given_back: Condvar::new(),
            _lock: lock,
        }));
        store.empty_trash();
        Ok(store)
    }

    /// The repository's mirror of that remote: opened, healed where a job before was cut short,
    /// made where there is none. Nothing is fetched.
    ///
    /// Jobs of one repository take turns: where another holds its mirror (one that was overtaken
    /// and is being stopped), this waits until that is dropped.
    ///
    /// # Errors
    ///
    /// [`EngineError::RemoteNotAllowed`]; what the control says; [`EngineError::Internal`] where
    /// the directory cannot be used.
    pub fn mirror(
        &self,
        repo: &RepoId,
        url: &RemoteUrl,
        control: &Control,
    ) -> Result<Mirror, EngineError> {
        let (in_use, path) = self.prepare(repo, url, control)?;
        open(in_use, path, url)
    }

    /// The same, and then [fetched](Mirror::fetch): quicker than one after the other, since the mirror
    /// is opened while git talks to the remote. `meanwhile` is called then as well, with the mirror as
    /// the job before left it, for what can be found out without knowing what the fetch brings. What it
    /// returns comes back, unless the mirror was damaged and had to be healed.
    ///
    /// # Errors
    ///
    /// As [`mirror`](Self::mirror) and [`Mirror::fetch`].
    pub fn fetched<T>(
        &self,
        repo: &RepoId,
        url: &RemoteUrl,
        control: &Control,
        progress: &mut dyn FnMut(u64, u64),
        meanwhile: impl FnOnce(&Mirror) -> T,
    ) -> Result<(Mirror, Fetched, Option<T>), EngineError> {
        let (in_use, path) = self.prepare(repo, url, control)?;
        control.check()?;
        let command = self.git().wire_command(&path, self.policy(), url)?;
        let process = fetching(command, url).begin()?;
        let mut mirror = open(in_use, path, url)?;
        let (fetched, found) = mirror.finish_fetch(process, control, progress, meanwhile)?;
        Ok((mirror, fetched, found))
    }

    /// The repository's turn, and where its mirror is, ready to be opened.
    fn prepare(
        &self,
        repo: &RepoId,
        url: &RemoteUrl,
        control: &Control,
    ) -> Result<(InUse, PathBuf), EngineError> {
        self.policy().check(url)?;
        self.check_outside(url)?;
        let path = self.directory(repo, url);
        let in_use = self.take(repo, &path, control)?;
        heal::prepare(self, &path, url, control)?;
        Ok((in_use, path))
    }

    /// Deletes every mirror of the repository, unless a job has it in hand; the bytes freed.
    ///
    /// # Errors
    ///
    /// [`EngineError::Internal`] where the disk fails.
    pub fn remove(&self, repo: &RepoId) -> Result<u64, EngineError> {
        let of_repo = self.list()?.into_iter().filter(|dir| {
            dir.file_name()
                .and_then(|name| name.to_str())
                .and_then(|name| name.split_once('.'))
                .is_some_and(|(name, _)| name == repo.as_str())
        });
        let mut freed = 0;
        for dir in of_repo {
            let bytes = size_of(&dir);
            if self.discard(&dir)? {
                freed += bytes;
            }
        }
        Ok(freed)
    }

    /// How many mirrors there are and what they take up. It reads every directory.
    ///
    /// # Errors
    ///
    /// [`EngineError::Internal`] where the disk fails.
    pub fn stats(&self) -> Result<Stats, EngineError> {
        let mirrors = self.list()?;
        Ok(Stats {
            mirrors: mirrors.len(),
            bytes: mirrors.iter().map(|dir| size_of(dir)).sum(),
        })
    }

    /// Deletes mirrors, those first that were not used for longest, until the rest is within the
    /// budget; one that a job has in hand never. The bytes freed.
    ///
    /// # Errors
    ///
    /// [`EngineError::Internal`] where the disk fails.
    pub fn enforce_budget(&self) -> Result<u64, EngineError> {
        let Some(budget) = self.0.budget else {
            return Ok(0);
        };
        let mut mirrors: Vec<(SystemTime, u64, PathBuf)> = self
            .list()?
            .into_iter()
            .map(|dir| (heal::last_used(&dir), size_of(&dir), dir))
            .collect();
        mirrors.sort();
        let mut excess = mirrors
            .iter()
            .map(|(_, bytes, _)| bytes)
            .sum::<u64>()
            .saturating_sub(budget);
        let mut freed = 0;
        for (_, bytes, dir) in mirrors {
            if excess == 0 {
                break;
            }
            if self.discard(&dir)? {
                tracing::info!(mirror = %dir.display(), bytes, "mirror deleted: over budget");
                excess = excess.saturating_sub(bytes);
                freed += bytes;
            }
        }
        Ok(freed)
    }

    /// The git program that is used.
    pub fn git_program(&self) -> &Path {
        self.git().program()
    }

    pub(super) fn git(&self) -> &Git {
        &self.0.git
    }

    pub(super) fn policy(&self) -> &RemotePolicy {
        &self.0.policy
    }

    /// Moves the directory out of the way, then deletes it; `false` where a job has it in hand.
    ///
    /// Killed in between, it is deleted at the next start.
    fn discard(&self, dir: &Path) -> Result<bool, EngineError> {
        {
            let in_use = self.in_use();
            let is_dir = |path: &PathBuf| path.with_extension("") == dir.with_extension("");
            if in_use.values().any(is_dir) {
                return Ok(false);
            }
            self.trash(dir)?;
        }
        self.empty_trash();
        Ok(true)
    }

    /// Moves the directory to the trash, whoever has it in hand.
    pub(super) fn trash(&self, dir: &Path) -> Result<(), EngineError> {
        let trash = self.0.mirrors.join(".trash");
        make_private(&trash)?;
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        // Each free name is tried in turn; another thread may take it, which rename notices.
        for number in 0.. {
            let target = trash.join(format!("{name}.{number}"));
            match fs::rename(dir, &target) {
                Ok(()) => break,
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
                Err(error) => return Err(io_error("moving", dir, &error)),
            }
        }
        Ok(())
    }

    /// Deletes what is in the trash; what resists is tried again next time.
    pub(super) fn empty_trash(&self) {
        let trash = self.0.mirrors.join(".trash");
        if let Err(error) = fs::remove_dir_all(&trash)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, trash = %trash.display(), "deleted mirrors could not be removed");
        }
    }

    /// Every mirror's directory, those included that were set aside as damaged.
    fn list(&self) -> Result<Vec<PathBuf>, EngineError> {
        let dir = &self.0.mirrors;
        let read = || -> io::Result<Vec<PathBuf>> {
            fs::read_dir(dir)?
                .map(|entry| Ok(entry?.path()))
                .filter(|path| path.as_ref().map_or(true, |path| is_mirror(path)))
                .collect()
        };
        read().map_err(|error| io_error("reading", dir, &error))
    }

    /// Refuses a remote that is in the state directory: a push there would go to a mirror, or to what
    /// keeps mirrors in order.
    fn check_outside(&self, url: &RemoteUrl) -> Result<(), EngineError> {
        let Some(path) = url.path_on_this_machine() else {
            return Ok(());
        };
        let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let state_dir = self.0.mirrors.parent().unwrap_or(&self.0.mirrors);
        if real(Path::new(&path)).starts_with(real(state_dir)) {
            return Err(EngineError::RemoteNotAllowed(format!(
                "the remote {url} is in the service's own state directory; name the repository it \
                 was made from"
            )));
        }
        Ok(())
    }

    fn directory(&self, repo: &RepoId, url: &RemoteUrl) -> PathBuf {
        // Hashing text cannot fail; were it to, the zero id would still be a valid name.
        let hash =
            Oid::hash_object(ObjectType::Blob, url.as_str().as_bytes()).unwrap_or(Oid::ZERO_SHA1);
        self.0.mirrors.join(format!("{repo}.{hash}.git"))
    }

    /// Waits for the repository's turn.
    fn take(&self, repo: &RepoId, path: &Path, control: &Control) -> Result<InUse, EngineError> {
        let mut in_use = self.in_use();
        while in_use.contains_key(repo) {
            control.check()?;
            in_use = self
                .0
                .given_back
                .wait_timeout(in_use, TICK)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        in_use.insert(repo.clone(), path.to_owned());
        Ok(InUse {
            store: self.clone(),
            repo: repo.clone(),
        })
    }

    fn in_use(&self) -> MutexGuard<'_, HashMap<RepoId, PathBuf>> {
        // A panic elsewhere leaves the map as it was: each change of it is a single call.
        self.0.in_use.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open(in_use: InUse, path: PathBuf, url: &RemoteUrl) -> Result<Mirror, EngineError> {
    Ok(Mirror {
        in_use,
        url: url.clone(),
        repository: git2::Repository::open_bare(&path)?,
        path,
        suspicion: Suspicion::None.into(),
        pinned: false.into(),
    })
}

/// A repository's turn; the next one comes when it is dropped.
#[derive(Debug)]
pub(super) struct InUse {
    store: MirrorStore,
    repo: RepoId,
}

impl InUse {
    pub(super) fn store(&self) -> &MirrorStore {
        &self.store
    }

    pub(super) fn repo(&self) -> &RepoId {
        &self.repo
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.store.in_use().remove(&self.repo);
        self.store.0.given_back.notify_all();
    }
}

/// Takes the lock on the state directory and writes this process's id into it.
fn lock(state_dir: &Path) -> Result<File, EngineError> {
    let path = state_dir.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|error| io_error("opening", &path, &error))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut pid = String::new();
            let known = file.read_to_string(&mut pid).is_ok() && !pid.trim().is_empty();
            return Err(EngineError::StateDirInUse {
                path: state_dir.to_owned(),
                pid: if known { pid.trim() } else { "unknown" }.to_owned(),
            });
        }
        Err(error) => return Err(io_error("locking", &path, &error.into())),
    }
    let write = |file: &mut File| -> io::Result<()> {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    write(&mut file).map_err(|error| io_error("writing", &path, &error))?;
    Ok(file)
}

/// Makes the directory, readable by nobody else; one that is there stays as it is.
fn make_private(dir: &Path) -> Result<(), EngineError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| io_error("making", dir, &error))
}

/// Whether a directory in the store is a mirror, or one set aside; the trash is neither.
fn is_mirror(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "git" || extension == "git-damaged")
}

/// The lengths of all files below; what vanishes meanwhile counts nothing.
fn size_of(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else {
        return 0;
    };
    entries
        .filter_map(Result::ok)
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => size_of(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

/// The error for a file operation on the state directory.
pub(super) fn io_error(doing: &str, path: &Path, error: &io::Error) -> EngineError {
    EngineError::disk(&format!("{doing} {}", path.display()), error)
}
