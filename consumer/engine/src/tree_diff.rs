//! Which files differ between two trees, by reading only the directories that differ.
//!
//! Guarantees: the cost follows the size of the change, not of the repository; no blob is read; a
//! file that became a directory is a file gone and files added. It finds no renames.

use std::cmp::Ordering;
use std::ops::ControlFlow;

use backstack_schemas::ObjectId;
use git2::{Odb, Oid, Repository};

use crate::error::EngineError;

/// Git's own bound on how deep trees may nest (`core.maxTreeDepth`).
const MAX_DEPTH: usize = 2_048;

/// Mode of a directory in a tree.
const TREE: u32 = 0o040_000;
/// Mode of a submodule in a tree: its id names a commit of another repository.
pub(crate) const GITLINK: u32 = 0o160_000;

/// What a tree holds at a path that is not a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// As the tree has it, octal in git's own listings.
    pub mode: u32,
    /// The blob, or a submodule's commit.
    pub id: Oid,
}

/// A path at which two trees differ; at least one side is present.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Changed<'a> {
    /// The whole path, parts separated by slashes.
    pub path: &'a [u8],
    /// What the old tree has there.
    pub old: Option<Entry>,
    /// What the new tree has there.
    pub new: Option<Entry>,
}

/// Who is told of the differences; either method may end the walk.
pub(crate) trait Visitor {
    /// A directory that differs, before anything in it.
    fn directory(&mut self, _path: &[u8]) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    /// A file that differs.
    fn file(&mut self, changed: &Changed<'_>) -> Result<ControlFlow<()>, EngineError>;
}

/// Tells `visitor` of each difference between the trees `old` and `new`, where `None` is an empty
/// one. `Break` where the visitor ended it.
///
/// # Errors
///
/// The visitor's; [`EngineError::Internal`] where a tree is missing or is none.
pub(crate) fn walk(
    repo: &Repository,
    old: Option<Oid>,
    new: Option<Oid>,
    visitor: &mut dyn Visitor,
) -> Result<ControlFlow<()>, EngineError> {
    if old == new {
        return Ok(ControlFlow::Continue(()));
    }
    let mut walk = Walk {
        odb: repo.odb()?,
        path: Vec::new(),
        visitor,
    };
    walk.directory(old, new, 0)
}

struct Walk<'r, 'v> {
    odb: Odb<'r>,
    path: Vec<u8>,
    visitor: &'v mut dyn Visitor,
}

impl Walk<'_, '_> {
    fn directory(
        &mut self,
        old: Option<Oid>,
        new: Option<Oid>,
        depth: usize,
    ) -> Result<ControlFlow<()>, EngineError> {
        if depth > MAX_DEPTH {
            return Err(EngineError::Internal(format!(
                "a tree nests deeper than {MAX_DEPTH} directories"
            )));
        }
        let (old, new) = (self.read(old)?, self.read(new)?);
        let (mut olds, mut news) = (Raw(&old), Raw(&new));
        let (mut x, mut y) = (olds.next()?, news.next()?);
        loop {
            let order = match (&x, &y) {
                (None, None) => return Ok(ControlFlow::Continue(())),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(x), Some(y)) => x.order(y),
            };
            let left = if order.is_le() { x } else { None };
            let right = if order.is_ge() { y } else { None };
            if self.entry(left, right, depth)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
            if order.is_le() {
                x = olds.next()?;
            }
            if order.is_ge() {
                y = news.next()?;
            }
        }
    }

    /// One name of a directory, the same kind on both sides where both are present.
    fn entry(
        &mut self,
        old: Option<Named<'_>>,
        new: Option<Named<'_>>,
        depth: usize,
    ) -> Result<ControlFlow<()>, EngineError> {
        let Some(named) = old.or(new) else {
            return Ok(ControlFlow::Continue(()));
        };
        if old.map(|o| o.entry) == new.map(|n| n.entry) {
            return Ok(ControlFlow::Continue(()));
        }
        let length = self.path.len();
        if length > 0 {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(named.name);
        let flow = if named.is_tree() {
            if self.visitor.directory(&self.path).is_break() {
                ControlFlow::Break(())
            } else {
                let id = |side: Option<Named<'_>>| side.map(|s| s.entry.id);
                self.directory(id(old), id(new), depth + 1)?
            }
        } else {
            self.visitor.file(&Changed {
                path: &self.path,
                old: old.map(|o| o.entry),
                new: new.map(|n| n.entry),
            })?
        };
        self.path.truncate(length);
        Ok(flow)
    }

    fn read(&self, tree: Option<Oid>) -> Result<Vec<u8>, EngineError> {
        match tree {
            None => Ok(Vec::new()),
            Some(id) => Ok(self.odb.read(id)?.data().to_vec()),
        }
    }
}

/// What is left to parse of a tree: `<octal mode> <name> NUL <20 bytes>`, again and again.
struct Raw<'a>(&'a [u8]);

/// An entry and its name.
#[derive(Clone, Copy)]
struct Named<'a> {
    name: &'a [u8],
    entry: Entry,
}

impl<'a> Raw<'a> {
    fn next(&mut self) -> Result<Option<Named<'a>>, EngineError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let bad = || EngineError::Internal("a tree object cannot be read".to_owned());
        let cut = |bytes: &'a [u8], at: u8| {
            let end = bytes.iter().position(|b| *b == at).ok_or_else(bad)?;
            Ok::<_, EngineError>((&bytes[..end], &bytes[end + 1..]))
        };
        let (mode, rest) = cut(self.0, b' ')?;
        let (name, rest) = cut(rest, 0)?;
        let (id, rest) = rest.split_at_checked(20).ok_or_else(bad)?;
        let mode = std::str::from_utf8(mode).map_err(|_| bad())?;
        self.0 = rest;
        Ok(Some(Named {
            name,
            entry: Entry {
                mode: u32::from_str_radix(mode, 8).map_err(|_| bad())?,
                id: Oid::from_bytes(id)?,
            },
        }))
    }
}

impl Named<'_> {
    fn is_tree(&self) -> bool {
        self.entry.mode == TREE
    }

    /// Git's order of a tree's entries: a directory's name counts as if it ended with a slash.
    fn order(&self, other: &Self) -> Ordering {
        let common = self.name.len().min(other.name.len());
        let end = |of: &Self| match of.name.get(common) {
            Some(byte) => *byte,
            None if of.is_tree() => b'/',
            None => 0,
        };
        self.name[..common]
            .cmp(&other.name[..common])
            .then_with(|| end(self).cmp(&end(other)))
    }
}

/// The id as libgit2 has it.
pub(crate) fn oid(id: ObjectId) -> Result<Oid, EngineError> {
    Ok(Oid::from_bytes(id.as_bytes())?)
}

/// The id as the rows have it.
pub(crate) fn object_id(oid: Oid) -> Result<ObjectId, EngineError> {
    let bytes = oid.as_bytes().try_into().map_err(|_| {
        EngineError::Internal(format!(
            "{oid} is no SHA-1 id; such repositories are not supported"
        ))
    })?;
    Ok(ObjectId::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_tree_is_read_as_written_and_nothing_panics(
            entries in vec(("[1-7][0-7]{4,5}", vec(1..=u8::MAX, 1..9), any::<[u8; 20]>()), 0..6), bytes in any::<Vec<u8>>(),
        ) {
            let mut raw = Vec::new();
            for (mode, name, id) in &entries {
                for part in [mode.as_bytes(), b" ", name, b"\0", id] {
                    raw.extend_from_slice(part);
                }
            }
            let mut left = Raw(&raw);
            for (mode, name, id) in &entries {
                let read = left.next().unwrap().unwrap();
                prop_assert_eq!(read.name, name);
                prop_assert_eq!(format!("{:o}", read.entry.mode), mode.clone());
                prop_assert_eq!(read.entry.id.as_bytes(), id);
            }
            prop_assert!(left.next().unwrap().is_none());
            let mut left = Raw(&bytes);
            while let Ok(Some(_)) = left.next() {}
        }
    }
}
