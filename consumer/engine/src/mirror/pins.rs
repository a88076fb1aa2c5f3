//! What rows name stays: recorded heads, bases and former heads are kept from collection.
//!
//! All of them hang on one ref, `refs/backstack/pins`: a commit of the empty tree whose parents
//! they are. Whatever their number, changing them writes one object and renames one file, so a kill
//! leaves either the old set or the new one; and the same set is always the same commit, so seeing
//! that nothing changed costs one read. It never leaves this machine.

use std::collections::BTreeSet;

use backstack_schemas::ObjectId;
use git2::{ObjectType, Repository};

use super::fetch::WANTED;
use super::{Mirror, from_oid, is_absent, to_oid};
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
        let pinned = pinned(repo)?;
        let is_commit = |id: &ObjectId| {
            pinned.contains(id)
                || odb
                    .read_header(to_oid(*id))
                    .is_ok_and(|(_, kind)| kind == ObjectType::Commit)
        };
        let (keep, missing): (BTreeSet<ObjectId>, BTreeSet<ObjectId>) =
            ids.iter().copied().partition(is_commit);
        if keep != pinned {
            write_pins(repo, &keep)?;
        }
        // What was obtained is pinned by now, or was not wanted after all.
        remove_wanted(repo)?;
        self.pinned.set(true);
        Ok(missing.into_iter().collect())
    }

    /// What is kept.
    ///
    /// # Errors
    ///
    /// [`EngineError::Internal`] where the mirror cannot be read.
    pub fn pins(&self) -> Result<BTreeSet<ObjectId>, EngineError> {
        Ok(pinned(self.repo())?)
    }
}

/// The parents of the commit that the pins hang on.
pub(super) fn pinned(repo: &Repository) -> Result<BTreeSet<ObjectId>, git2::Error> {
    let tip = match repo.find_reference(PINS) {
        Ok(reference) => reference.target(),
        Err(error) if is_absent(&error) => None,
        Err(error) => return Err(error),
    };
    match tip.map(|tip| repo.find_commit(tip)) {
        Some(Ok(commit)) => Ok(commit.parent_ids().filter_map(from_oid).collect()),
        Some(Err(error)) if !is_absent(&error) => Err(error),
        _ => Ok(BTreeSet::new()),
    }
}

fn write_pins(repo: &Repository, ids: &BTreeSet<ObjectId>) -> Result<(), git2::Error> {
    if ids.is_empty() {
        return repo.find_reference(PINS)?.delete();
    }
    let odb = repo.odb()?;
    let tree = odb.write(ObjectType::Tree, b"")?;
    let mut text = format!("tree {tree}\n");
    for id in ids {
        text.push_str(&format!("parent {id}\n"));
    }
    text.push_str("author backstack <> 0 +0000\ncommitter backstack <> 0 +0000\n\npins\n");
    let commit = odb.write(ObjectType::Commit, text.as_bytes())?;
    repo.reference(PINS, commit, true, "pins")?;
    Ok(())
}

/// Removes the refs that [`Mirror::obtain`] left.
fn remove_wanted(repo: &Repository) -> Result<(), git2::Error> {
    for reference in repo.references_glob(&format!("{WANTED}*"))? {
        reference?.delete()?;
    }
    Ok(())
}
