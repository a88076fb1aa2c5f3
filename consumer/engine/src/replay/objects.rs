//! The objects a replay reads and those it makes.
//!
//! What is made stays in memory; [`Objects::into_new`] hands it over when the replay is done. Only
//! git's own merges need objects on disk earlier, and those go to a [`Quarantine`], as does what git
//! writes. So a replay that is thrown away, a dry run included, leaves nothing in the repository.
//!
//! An object that another process adds meanwhile is seen; nothing here ever removes one.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use backstack_schemas::ObjectId;
use git2::{ObjectType, Repository};
use sha1::{Digest, Sha1};

use super::cache::{Cache, SharedCache};
use super::commit::Commit;
use super::pack::{self, Packed};
use super::quarantine::Quarantine;
use super::stored::{self, Object, SharedPacks, Stored};
use super::tree::{Item, Tree, Unusual};
use crate::error::EngineError;

/// The empty tree, which git knows whether it is stored or not.
pub(super) const EMPTY_TREE: ObjectId = ObjectId::from_bytes([
    0x4b, 0x82, 0x5d, 0xc6, 0x42, 0xcb, 0x6e, 0xb9, 0xa0, 0x60, 0xe5, 0x4b, 0xf8, 0xd6, 0x92, 0x88,
    0xfb, 0xee, 0x49, 0x04,
]);

/// Bytes of trees that are kept.
const TREES: usize = 32 * 1024 * 1024;
/// Bytes of files and commits that are kept.
const CONTENTS: usize = 8 * 1024 * 1024;

/// Objects that are in memory only, until [`write`](Self::write) puts them into the repository.
#[derive(Default)]
#[must_use = "new commits are lost unless they are written"]
pub struct NewObjects {
    objects: Vec<New>,
}

impl NewObjects {
    /// Number of objects.
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// Writes them into the repository as one pack, on disk when this returns; nothing where there
    /// are none. A crash leaves all of them or none.
    ///
    /// # Errors
    ///
    /// [`EngineError::Internal`] where the repository cannot be written.
    pub fn write(&self, git_dir: &Path) -> Result<(), EngineError> {
        if self.objects.is_empty() {
            return Ok(());
        }
        let mut seen = std::collections::HashSet::with_capacity(self.objects.len());
        let packed: Vec<Packed> = self
            .objects
            .iter()
            .filter(|object| seen.insert(object.id))
            .map(|object| Packed {
                id: object.id,
                kind: object.kind,
                data: &object.data,
            })
            .collect();
        let objects_dir = stored::objects_dir(&stored::open(git_dir)?);
        pack::write(&objects_dir, &packed).map_err(|error| {
            EngineError::disk(
                &format!("writing new objects to {}", objects_dir.display()),
                &error,
            )
        })
    }

    pub(super) fn append(&mut self, mut other: Self) {
        self.objects.append(&mut other.objects);
    }
}

impl fmt::Debug for NewObjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NewObjects({})", self.objects.len())
    }
}

struct New {
    id: ObjectId,
    kind: ObjectType,
    data: Arc<[u8]>,
    /// Whether git sees it.
    quarantined: bool,
}

/// An object git may have written, what stood in its place before, and its path.
type Written = (ObjectId, Option<ObjectId>, Vec<u8>);

/// What a commit says that a replay onto it, or of its children, asks for.
#[derive(Clone, Copy)]
pub(super) struct CommitFacts {
    pub tree: ObjectId,
    /// Seconds since the Unix epoch; `None` where the commit's header does not say.
    pub committed_at: Option<i64>,
}

/// What the threads of one replay share; clones are the same.
#[derive(Clone)]
pub(super) struct Shared {
    packs: SharedPacks,
    trees: Trees,
    /// Files and commits.
    contents: SharedCache<Object>,
}

type Trees = SharedCache<Arc<Tree>>;

impl Default for Shared {
    fn default() -> Self {
        Self {
            packs: SharedPacks::default(),
            trees: SharedCache::new(TREES),
            contents: SharedCache::new(CONTENTS),
        }
    }
}

/// Reads from one repository and from what has been made; of one thread.
pub(super) struct Objects {
    stored: Stored,
    new: Vec<New>,
    index: HashMap<ObjectId, usize>,
    /// Parsed trees: this thread's, new ones included, and those of all.
    trees: Cache<ObjectId, Arc<Tree>>,
    shared: Shared,
    commits: HashMap<ObjectId, CommitFacts>,
    quarantine: Option<Quarantine>,
}

impl Objects {
    pub fn open(git_dir: &Path, shared: Shared) -> Result<Self, EngineError> {
        Ok(Self {
            stored: Stored::open(git_dir, &shared.packs)?,
            new: Vec::new(),
            index: HashMap::new(),
            trees: Cache::new(TREES),
            shared,
            commits: HashMap::new(),
            quarantine: None,
        })
    }

    /// The repository, for its configuration and its paths.
    pub fn repository(&self) -> &Repository {
        self.stored.repository()
    }

    /// What has been made.
    pub fn into_new(self) -> NewObjects {
        NewObjects { objects: self.new }
    }

    /// A tree, parsed; [`Unusual`] where git would not write it so.
    pub fn tree(&mut self, id: ObjectId) -> Result<Result<Arc<Tree>, Unusual>, EngineError> {
        if let Some(tree) = self.trees.get(&id) {
            return Ok(Ok(tree));
        }
        let is_new = self.index.contains_key(&id);
        if let Some(tree) = self.shared.trees.get(&id).filter(|_| !is_new) {
            self.trees.insert(id, Arc::clone(&tree));
            return Ok(Ok(tree));
        }
        let tree = match Tree::parse(self.read(id, ObjectType::Tree)?) {
            Ok(tree) => Arc::new(tree),
            Err(unusual) => return Ok(Err(unusual)),
        };
        if !is_new {
            self.shared.trees.insert(id, Arc::clone(&tree));
        }
        self.trees.insert(id, Arc::clone(&tree));
        Ok(Ok(tree))
    }

    /// A file's content.
    pub fn blob(&mut self, id: ObjectId) -> Result<Arc<[u8]>, EngineError> {
        self.read(id, ObjectType::Blob)
    }

    /// A commit.
    pub fn commit(&mut self, id: ObjectId) -> Result<Commit, EngineError> {
        let raw = self.read(id, ObjectType::Commit)?;
        let commit = Commit::parse(raw)
            .map_err(|problem| EngineError::Internal(format!("commit {id} {problem}")))?;
        self.commits.insert(id, commit.facts());
        Ok(commit)
    }

    /// A commit's tree and date.
    pub fn commit_facts(&mut self, id: ObjectId) -> Result<CommitFacts, EngineError> {
        match self.commits.get(&id) {
            Some(facts) => Ok(*facts),
            None => Ok(self.commit(id)?.facts()),
        }
    }

    /// Adds an object; its id.
    pub fn add(&mut self, kind: ObjectType, data: Vec<u8>) -> Result<ObjectId, EngineError> {
        let id = hash(kind, &data)?;
        self.insert(id, kind, data.into(), false);
        Ok(id)
    }

    /// A point to [`forget_since`](Self::forget_since).
    pub fn mark(&self) -> usize {
        self.new.len()
    }

    /// Forgets what was added since the mark.
    pub fn forget_since(&mut self, mark: usize) {
        for object in self.new.drain(mark..) {
            self.index.remove(&object.id);
            self.trees.remove(&object.id);
        }
    }

    /// The directory that the merging git takes as its object directory.
    pub fn quarantine_dir(&mut self) -> Result<PathBuf, EngineError> {
        Ok(self.quarantine()?.path().to_owned())
    }

    /// Makes a tree, with all that is in it, visible to the merging git.
    pub fn show(&mut self, tree: ObjectId) -> Result<(), EngineError> {
        self.quarantine()?;
        let mut todo = vec![tree];
        while let Some(id) = todo.pop() {
            let Some(&at) = self.index.get(&id) else {
                continue;
            };
            if std::mem::replace(&mut self.new[at].quarantined, true) {
                continue;
            }
            if self.new[at].kind == ObjectType::Tree
                && let Ok(tree) = self.tree(id)?
            {
                todo.extend(tree.entries().map(|(_, item)| item.id));
            }
            self.write_to_quarantine(id, self.new[at].kind, &self.new[at].data)?;
        }
        Ok(())
    }

    /// Puts an object that is no part of the result where the merging git sees it; its id.
    pub fn show_scratch(&mut self, kind: ObjectType, data: &[u8]) -> Result<ObjectId, EngineError> {
        let id = hash(kind, data)?;
        self.quarantine()?;
        self.write_to_quarantine(id, kind, data)?;
        Ok(id)
    }

    /// Takes over from the quarantine what git wrote for a tree that it made from `like`. It wrote
    /// nothing below a tree that it did not write itself, nor below one that is also in `like`.
    /// Gives the paths of files that hold `marker`.
    pub fn adopt(
        &mut self,
        tree: ObjectId,
        like: ObjectId,
        marker: &[u8],
    ) -> Result<Vec<Vec<u8>>, EngineError> {
        let mut marked = Vec::new();
        let mut todo = vec![(tree, Some(like), Vec::new())];
        while let Some((id, like, path)) = todo.pop() {
            if Some(id) == like || self.index.contains_key(&id) {
                continue;
            }
            let Some((kind, data)) = self.read_quarantined(id)? else {
                continue;
            };
            if kind == ObjectType::Blob && memchr::memmem::find(&data, marker).is_some() {
                marked.push(path);
                continue;
            }
            self.insert(id, kind, data.into(), true);
            if kind == ObjectType::Tree {
                todo.extend(self.written_below(id, like, &path)?);
            }
        }
        Ok(marked)
    }

    /// What is in a tree that git wrote, and not in the one it was made from.
    fn written_below(
        &mut self,
        tree: ObjectId,
        like: Option<ObjectId>,
        path: &[u8],
    ) -> Result<Vec<Written>, EngineError> {
        let Ok(tree) = self.tree(tree)? else {
            return Err(EngineError::Internal(format!(
                "git wrote an odd tree {tree}"
            )));
        };
        let like = match like {
            // Of a tree that cannot be compared with, everything counts as changed.
            Some(like) => self.tree(like)?.unwrap_or_default(),
            None => Arc::default(),
        };
        let tree_of = |item: Option<Item>| item.filter(|i| i.is_tree()).map(|i| i.id);
        let below = |name: &[u8]| {
            let slash: &[u8] = if path.is_empty() { b"" } else { b"/" };
            [path, slash, name].concat()
        };
        let changes = like.changes(&tree).into_iter();
        Ok(changes
            .filter_map(|c| Some((c.new?.id, tree_of(c.old), below(c.name))))
            .collect())
    }

    fn insert(&mut self, id: ObjectId, kind: ObjectType, data: Arc<[u8]>, quarantined: bool) {
        if let std::collections::hash_map::Entry::Vacant(vacant) = self.index.entry(id) {
            vacant.insert(self.new.len());
            self.new.push(New {
                id,
                kind,
                data,
                quarantined,
            });
        }
    }

    fn read(&mut self, id: ObjectId, kind: ObjectType) -> Result<Arc<[u8]>, EngineError> {
        if let Some(at) = self.index.get(&id) {
            return Ok(Arc::clone(&self.new[*at].data));
        }
        if id == EMPTY_TREE {
            return Ok(Arc::default());
        }
        if kind == ObjectType::Tree {
            return self.stored.read(id, kind);
        }
        if let Some((_, content)) = self.shared.contents.get(&id).filter(|(is, _)| *is == kind) {
            return Ok(content);
        }
        let content = self.stored.read(id, kind)?;
        let object = (kind, Arc::clone(&content));
        self.shared.contents.insert(id, object);
        Ok(content)
    }

    fn quarantine(&mut self) -> Result<&Quarantine, EngineError> {
        if self.quarantine.is_none() {
            let new =
                Quarantine::new(self.stored.dir()).map_err(|error| self.unwritable(&error))?;
            self.quarantine = Some(new);
        }
        self.quarantine
            .as_ref()
            .ok_or_else(|| EngineError::Internal("there is no quarantine".to_owned()))
    }

    fn read_quarantined(&self, id: ObjectId) -> Result<Option<(ObjectType, Vec<u8>)>, EngineError> {
        match &self.quarantine {
            Some(quarantine) => quarantine.read(id).map_err(|error| self.unwritable(&error)),
            None => Ok(None),
        }
    }

    fn write_to_quarantine(
        &self,
        id: ObjectId,
        kind: ObjectType,
        data: &[u8],
    ) -> Result<(), EngineError> {
        match &self.quarantine {
            Some(quarantine) => quarantine
                .write(id, kind, data)
                .map_err(|error| self.unwritable(&error)),
            None => Ok(()),
        }
    }

    fn unwritable(&self, error: &std::io::Error) -> EngineError {
        let dir = self.stored.dir().display();
        EngineError::disk(&format!("writing temporary objects in {dir}"), error)
    }
}

/// The id of an object of this content.
///
/// Files and commits hold whatever people put there, and are hashed as git does it, on the watch
/// for collision attacks. Trees are hashed plainly, which takes a fifth of the time: they are
/// mostly ids, and whoever they are pushed to checks again.
pub(super) fn hash(kind: ObjectType, data: &[u8]) -> Result<ObjectId, EngineError> {
    if kind != ObjectType::Tree {
        return object_id(git2::Oid::hash_object(kind, data)?);
    }
    let mut sum = Sha1::new_with_prefix(format!("tree {}\0", data.len()));
    sum.update(data);
    Ok(ObjectId::from_bytes(sum.finalize().into()))
}

/// libgit2's id as ours.
fn object_id(id: git2::Oid) -> Result<ObjectId, EngineError> {
    match id.as_bytes().try_into() {
        Ok(bytes) => Ok(ObjectId::from_bytes(bytes)),
        Err(_) => Err(EngineError::Internal(format!(
            "object id {id} is not SHA-1"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_gits_for_every_kind() {
        for kind in [ObjectType::Blob, ObjectType::Tree, ObjectType::Commit] {
            for data in [&b""[..], b"content"] {
                let git = git2::Oid::hash_object(kind, data).unwrap().to_string();
                assert_eq!(hash(kind, data).unwrap().to_string(), git);
            }
        }
        assert_eq!(hash(ObjectType::Tree, b"").unwrap(), EMPTY_TREE);
    }
}
