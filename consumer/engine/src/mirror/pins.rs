//! What rows name stays: recorded heads, bases and former heads are kept from collection.
//!
//! All of them hang on one ref, `refs/backstack/pins`: a commit of the empty tree whose parents
//! they are. Whatever their number, changing them writes one object and the file of refs, so a kill
//! leaves either the old set or the new one; and the same set is always the same commit, so seeing
//! that nothing changed costs one read. It never leaves this machine.

use std::collections::BTreeSet;
use std::path::Path;

use backstack_schemas::ObjectId;
use git2::{ObjectType, Repository};

use super::fetch::WANTED;
use super::refs::Refs;
use super::{Mirror, from_oid, is_absent, maintenance, to_oid};
use crate::error::EngineError;

/// The ref that everything pinned hangs on.
pub const PINS: &str = "refs/backstack/pins";

impl Mirror {
    /// Keeps exactly these commits, and all they lead to, from now on; those that the mirror does
    /// not have are returned (see [`obtain`](Mirror::obtain)).
    ///
    /// # Errors
    ///
    /// [`EngineError::Internal`] where the mirror cannot be read or written.
    pub fn set_pins(&self, ids: &BTreeSet<ObjectId>) -> Result<Vec<ObjectId>, EngineError> {
        let repo = self.repo();
        let odb = repo.odb()?;
        let mut refs = self.refs()?;
        let pinned = pinned(repo, &refs)?;
        let is_commit = |id: &ObjectId| {
            pinned.contains(id)
                || odb
                    .read_header(to_oid(*id))
                    .is_ok_and(|(_, kind)| kind == ObjectType::Commit)
        };
        let (keep, missing): (BTreeSet<ObjectId>, BTreeSet<ObjectId>) =
            ids.iter().copied().partition(is_commit);
        if keep != pinned {
            match write_pins(repo, &keep)? {
                Some(pins) => refs.set(PINS, pins),
                None => refs.remove(PINS.as_bytes()),
            }
            self.write_refs(&refs)?;
        }
        // What was obtained is pinned by now, or was not wanted after all.
        remove_wanted(repo)?;
        self.pinned.set(true);
        Ok(missing.into_iter().collect())
    }

    /// Whether [`set_pins`](Self::set_pins) with these, and [`maintain`](Self::maintain) after it,
    /// would find nothing to do.
    ///
    /// # Errors
    ///
    /// [`EngineError::Internal`] where the mirror cannot be read.
    pub fn is_settled(&self, ids: &BTreeSet<ObjectId>) -> Result<bool, EngineError> {
        let kept = self.pins()? == *ids;
        Ok(kept && !has_wanted(self.path()) && !maintenance::is_worth_it(self.path()))
    }

    /// What is kept.
    ///
    /// # Errors
    ///
    /// [`EngineError::Internal`] where the mirror cannot be read.
    pub fn pins(&self) -> Result<BTreeSet<ObjectId>, EngineError> {
        Ok(pinned(self.repo(), &self.refs()?)?)
    }
}

/// The parents of the commit that the pins hang on; none where that commit is gone.
pub(super) fn pinned(repo: &Repository, refs: &Refs) -> Result<BTreeSet<ObjectId>, git2::Error> {
    let Some(tip) = refs.get(PINS.as_bytes()) else {
        return Ok(BTreeSet::new());
    };
    match repo.find_commit(to_oid(tip)) {
        Ok(commit) => Ok(commit.parent_ids().filter_map(from_oid).collect()),
        Err(error) if is_absent(&error) => Ok(BTreeSet::new()),
        Err(error) => Err(error),
    }
}

/// Writes the commit that the pins hang on; `None` where there are none.
fn write_pins(
    repo: &Repository,
    ids: &BTreeSet<ObjectId>,
) -> Result<Option<ObjectId>, git2::Error> {
    if ids.is_empty() {
        return Ok(None);
    }
    let odb = repo.odb()?;
    let tree = odb.write(ObjectType::Tree, b"")?;
    let mut text = format!("tree {tree}\n");
    for id in ids {
        text.push_str(&format!("parent {id}\n"));
    }
    text.push_str("author backstack <> 0 +0000\ncommitter backstack <> 0 +0000\n\npins\n");
    Ok(from_oid(odb.write(ObjectType::Commit, text.as_bytes())?))
}

/// Whether there may be refs that [`Mirror::obtain`] left. Git made them, each in a file of its own.
fn has_wanted(mirror: &Path) -> bool {
    std::fs::read_dir(mirror.join(WANTED)).is_ok_and(|mut entries| entries.next().is_some())
}

/// Removes the refs that [`Mirror::obtain`] left.
fn remove_wanted(repo: &Repository) -> Result<(), git2::Error> {
    for reference in repo.references_glob(&format!("{WANTED}*"))? {
        reference?.delete()?;
    }
    Ok(())
}
