//! What a kill, a full disk or a bad one leave in a mirror, and how it is put right.
//!
//! A file in each mirror says whether a job has it in hand; a job that ends well says so there. Who
//! finds otherwise when opening knows that the job before was cut short, and looks only then:
//!
//! - Cut short: stale locks and half-written files go, refs that were torn go (the next fetch or
//!   [`set_pins`](super::Mirror::set_pins) writes them again).
//! - Said to be damaged: besides, git checks every object. Where that fails the mirror is made
//!   afresh, and what was pinned is saved from the old one as far as it is whole.
//!
//! Only the holder of the state directory's lock and of the repository's turn gets here, so no git
//! of this service can be at work in the mirror.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use backstack_schemas::remote::Protocol;
use backstack_schemas::{ObjectId, RemoteUrl};

use super::pins;
use super::refs::Refs;
use super::store::{MirrorStore, io_error};
use crate::control::Control;
use crate::error::EngineError;
use crate::git::{Failure, RemotePolicy};

/// What the next one to open a mirror must look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Suspicion {
    /// Nothing: the job ended well.
    None,
    /// Locks, half files, torn refs.
    Interrupted,
    /// Every object.
    Damaged,
}

/// Says what state a mirror is in; written in place, since on some disks making a file takes longer
/// than all the rest of opening a mirror. Its time of change is when the mirror was last used.
const STATE: &str = "backstack-state";

// Of one length, so that writing one over another leaves nothing of it.
const CLEAN: &[u8; 8] = b"clean  \n";
const IN_USE: &[u8; 8] = b"in use \n";
const DAMAGED: &[u8; 8] = b"damaged\n";

/// Git wants one that is a branch's; whether there is such a branch makes no difference.
const HEAD: &str = "ref: refs/heads/main\n";

const CONFIG: &str = "\
[core]
\trepositoryformatversion = 0
\tfilemode = true
\tbare = true
\tlogAllRefUpdates = false
[gc]
\tauto = 0
[maintenance]
\tauto = false
";

/// Makes the mirror at `path` ready to be opened, made or healed as need be, and notes that it is in
/// use.
pub(super) fn prepare(
    store: &MirrorStore,
    path: &Path,
    url: &RemoteUrl,
    control: &Control,
) -> Result<(), EngineError> {
    match found(path) {
        Suspicion::None => {}
        Suspicion::Interrupted => {
            tracing::warn!(mirror = %path.display(), "a job was cut short; tidying its mirror");
            tidy(path);
        }
        Suspicion::Damaged => {
            tidy(path);
            if !is_whole(store, path, control)? {
                set_aside(store, path)?;
            }
        }
    }
    save_pins(store, path, url, control)?;
    enter(path, url)
}

/// Makes what is missing and notes that it is in use.
pub(super) fn enter(path: &Path, url: &RemoteUrl) -> Result<(), EngineError> {
    lay_out(path, url).map_err(|error| io_error("preparing", path, &error))?;
    note(path, IN_USE).map_err(|error| io_error("marking", path, &error))
}

/// Notes how a job left it.
pub(super) fn settle(path: &Path, suspicion: Suspicion) {
    let settled = match suspicion {
        Suspicion::None => note(path, CLEAN),
        Suspicion::Interrupted => Ok(()),
        Suspicion::Damaged => note(path, DAMAGED),
    };
    if let Err(error) = settled {
        tracing::warn!(mirror = %path.display(), %error, "the mirror's state could not be noted");
    }
}

/// When a job last took it or gave it back.
pub(super) fn last_used(path: &Path) -> SystemTime {
    fs::metadata(path.join(STATE))
        .and_then(|metadata| metadata.modified())
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

/// What the last one noted.
fn found(path: &Path) -> Suspicion {
    match fs::read(path.join(STATE)) {
        Ok(text) if text == CLEAN => Suspicion::None,
        Ok(text) if text == DAMAGED => Suspicion::Damaged,
        Err(_) if !path.exists() => Suspicion::None,
        _ => Suspicion::Interrupted,
    }
}

fn note(path: &Path, text: &[u8]) -> io::Result<()> {
    File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path.join(STATE))?
        .write_all(text)
}

/// Makes everything that must be there and is not as it must be.
fn lay_out(path: &Path, url: &RemoteUrl) -> io::Result<()> {
    if !path.join("HEAD").exists() {
        tracing::info!(url = url.without_user(), mirror = %path.display(), "making a mirror");
    }
    for dir in ["objects/info", "objects/pack", "refs/heads", "info"] {
        fs::create_dir_all(path.join(dir))?;
    }
    remove_loose_heads(path)?;
    let description = format!("Mirror of {}\n", url.without_user());
    for (name, text) in [
        ("config", CONFIG),
        ("HEAD", HEAD),
        ("description", description.as_str()),
    ] {
        let file = path.join(name);
        if fs::read(&file).ok().as_deref() != Some(text.as_bytes()) {
            write_whole(&file, text)?;
        }
    }
    Ok(())
}

/// Branches live in one file (see `refs.rs`); one that somebody made by hand beside it
/// would hide what is fetched.
fn remove_loose_heads(path: &Path) -> io::Result<()> {
    let heads = path.join("refs/heads");
    if fs::read_dir(&heads)?.next().is_some() {
        fs::remove_dir_all(&heads)?;
        fs::create_dir(&heads)?;
    }
    Ok(())
}

/// Writes the file such that it is either the old or the new one, whenever one looks.
fn write_whole(file: &Path, text: &str) -> io::Result<()> {
    let new = file.with_extension("new");
    let mut out = File::create(&new)?;
    out.write_all(text.as_bytes())?;
    fs::rename(&new, file)
}

/// Removes what a git leaves behind that was killed or met a full disk.
pub(super) fn tidy(path: &Path) {
    let is_lock = |name: &str| name.ends_with(".lock") || name == "gc.pid";
    let is_half = |name: &str| name.starts_with("tmp_") || name.starts_with("incoming-");
    remove_where(path, 0, &is_lock);
    remove_where(&path.join("refs"), usize::MAX, &is_lock);
    remove_where(&path.join("objects"), 1, &|name| {
        is_lock(name) || is_half(name)
    });
    remove_torn_refs(path, &path.join("refs"));
    remove_torn_packed_refs(path);
}

/// Removes what is so named in `dir` and `depth` levels of directories below.
fn remove_where(dir: &Path, depth: usize, unwanted: &dyn Fn(&str) -> bool) {
    for (path, is_dir) in entries(dir) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if unwanted(&name) {
            remove(&path, is_dir);
        } else if is_dir && depth > 0 {
            remove_where(&path, depth - 1, unwanted);
        }
    }
}

/// Removes loose refs that name nothing; a crash of the machine leaves empty files.
fn remove_torn_refs(mirror: &Path, dir: &Path) {
    for (path, is_dir) in entries(dir) {
        if is_dir {
            remove_torn_refs(mirror, &path);
        } else if !is_ref(&path) {
            tracing::warn!(mirror = %mirror.display(), file = %path.display(), "removing a torn ref");
            remove(&path, false);
        }
    }
}

/// Whether the file holds one object id or names another ref.
fn is_ref(file: &Path) -> bool {
    fs::read_to_string(file).is_ok_and(|text| {
        let text = text.trim_end();
        text.starts_with("ref: refs/") || text.parse::<ObjectId>().is_ok()
    })
}

/// Removes the file of refs where it cannot be read; the next fetch brings it back.
fn remove_torn_packed_refs(mirror: &Path) {
    if let Err(error) = Refs::read(mirror) {
        tracing::warn!(mirror = %mirror.display(), %error, "removing torn refs");
        remove(&mirror.join("packed-refs"), false);
    }
}

fn entries(dir: &Path) -> Vec<(PathBuf, bool)> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    entries
        .filter_map(Result::ok)
        .map(|entry| {
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            (entry.path(), is_dir)
        })
        .collect()
}

fn remove(path: &Path, is_dir: bool) {
    let removed = if is_dir {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    if let Err(error) = removed {
        tracing::warn!(path = %path.display(), %error, "a leftover could not be removed");
    }
}

/// Whether git can read every object that a ref leads to.
pub(super) fn is_whole(
    store: &MirrorStore,
    path: &Path,
    control: &Control,
) -> Result<bool, EngineError> {
    let output = store
        .git()
        .command(path)
        .args(["fsck", "--full", "--no-dangling", "--no-progress"])
        .run(control)?;
    if !output.success() {
        let Failure { said, .. } = output.failure();
        tracing::warn!(mirror = %path.display(), %said, "the mirror is damaged");
    }
    Ok(output.success())
}

/// Where a damaged mirror waits until what was pinned in it is saved.
fn aside(path: &Path) -> PathBuf {
    path.with_extension("git-damaged")
}

/// Moves a damaged mirror out of the way.
pub(super) fn set_aside(store: &MirrorStore, path: &Path) -> Result<(), EngineError> {
    tracing::warn!(mirror = %path.display(), "making the damaged mirror afresh");
    let old = aside(path);
    if old.exists() {
        store.trash(&old)?;
    }
    fs::rename(path, &old).map_err(|error| io_error("moving", path, &error))
}

/// Copies what was pinned in the mirror that was set aside, as far as it is whole, and deletes
/// that; does nothing where there is none. Cut short, it is done again the next time.
pub(super) fn save_pins(
    store: &MirrorStore,
    path: &Path,
    url: &RemoteUrl,
    control: &Control,
) -> Result<(), EngineError> {
    let old = aside(path);
    if !old.exists() {
        return Ok(());
    }
    lay_out(path, url).map_err(|error| io_error("preparing", path, &error))?;
    let pinned = pins_of(&old);
    let saved = save(store, &old, path, url, &pinned, control)?;
    let pinned = pinned.len();
    tracing::warn!(
        url = url.without_user(),
        pinned,
        saved,
        "pinned commits saved from the damaged mirror"
    );
    store.trash(&old)?;
    store.empty_trash();
    Ok(())
}

/// What a damaged mirror had pinned, as far as it can be read.
fn pins_of(old: &Path) -> Vec<ObjectId> {
    let refs = Refs::read(old).unwrap_or_default();
    git2::Repository::open_bare(old)
        .and_then(|repo| pins::pinned(&repo, &refs))
        .map(|pinned| pinned.into_iter().collect())
        .unwrap_or_default()
}

/// Copies commits with all they lead to: all at once, or, where one of them is damaged, each by
/// itself. The number that could be saved.
fn save(
    store: &MirrorStore,
    old: &Path,
    new: &Path,
    url: &RemoteUrl,
    ids: &[ObjectId],
    control: &Control,
) -> Result<usize, EngineError> {
    let copy = |ids: &[ObjectId]| -> Result<bool, EngineError> {
        let policy = RemotePolicy {
            allow_protocols: vec![Protocol::File],
            ..RemotePolicy::default()
        };
        let command = store.git().wire_command(new, &policy, url)?;
        let command = super::fetch::wanting(command, ids.iter().copied(), old.as_os_str());
        Ok(command.run(control)?.success())
    };
    if ids.is_empty() || copy(ids)? {
        return Ok(ids.len());
    }
    let mut saved = 0;
    for id in ids {
        saved += usize::from(copy(&[*id])?);
    }
    Ok(saved)
}
