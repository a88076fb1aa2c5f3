//! Objects read out of the repository's packs.
//!
//! Guarantees: what is given is what git gives for that id, as far as the pack is not damaged without
//! its checksums telling (git does not hash what it reads either). All that is not plain is `None`: an
//! object that is in no pack or in one that came later, packs of another format, damage, objects of
//! [`LARGEST`] bytes and more. Never writes.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use backstack_schemas::ObjectId;
use git2::ObjectType;

use super::super::cache::{self, Cache};
use super::LARGEST;
use super::delta;
use super::entry::{EntryReader, Kind};
use super::index::{ID, Index};

/// Packs that are opened, each with two files; a repository that is maintained has fewer.
const PACKS: usize = 64;
/// Longest chain of deltas that git makes.
const CHAIN: usize = 4_095;
/// Bytes of bases of deltas that are kept.
const BASES: usize = 8 * 1024 * 1024;

/// The packs that a repository had when they were opened.
#[derive(Debug)]
pub(super) struct Packs {
    packs: Vec<Pack>,
}

#[derive(Debug)]
struct Pack {
    index: Index,
    file: File,
}

impl Packs {
    /// Opens the packs in an object directory; those that cannot be read are left out.
    pub fn open(objects_dir: &Path) -> Self {
        let mut packs: Vec<_> = index_paths(&objects_dir.join("pack"))
            .unwrap_or_default()
            .iter()
            .filter_map(|path| Pack::open(path).ok())
            .collect();
        // Most objects are in the largest one.
        packs.sort_by_key(|pack| std::cmp::Reverse(pack.index.objects()));
        Self { packs }
    }
}

/// Some index files of that directory, as many as are used.
fn index_paths(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for file in fs::read_dir(dir)? {
        let path = file?.path();
        if path.extension() == Some(OsStr::new("idx")) && paths.len() < PACKS {
            paths.push(path);
        }
    }
    Ok(paths)
}

impl Pack {
    /// Opens a pack by its index, and checks that the two belong together.
    fn open(index: &Path) -> io::Result<Self> {
        let file = File::open(index.with_extension("pack"))?;
        let index = Index::open(index)?;
        let (mut head, mut checksum) = ([0; 12], [0; ID]);
        file.read_exact_at(&mut head, 0)?;
        let end = file.metadata()?.len().saturating_sub(ID as u64);
        file.read_exact_at(&mut checksum, end)?;
        let known = head.starts_with(b"PACK\0\0\0\x02") || head.starts_with(b"PACK\0\0\0\x03");
        if !known || head[8..] != (index.objects() as u32).to_be_bytes() {
            return Err(io::Error::other("is no pack of version 2 or 3"));
        }
        if checksum != index.pack_checksum() {
            return Err(io::Error::other("is not the pack of its index"));
        }
        Ok(Self { index, file })
    }
}

/// Reads objects from packs, for one thread; several may read from the same.
pub(super) struct PackReader {
    packs: Arc<Packs>,
    /// The pack that had the last object; the next one is probably there, too.
    last: usize,
    entries: EntryReader,
    /// Objects that deltas were or may be made from, by pack and offset.
    bases: Cache<(usize, u64), Object>,
    /// Room for the deltas of one object, and for what one makes.
    deltas: Deltas,
    made: Vec<u8>,
}

/// An object's kind and content.
pub(in super::super) type Object = (ObjectType, Arc<[u8]>);

impl cache::Weighed for Object {
    fn bytes(&self) -> usize {
        self.1.len()
    }
}

impl PackReader {
    /// A reader of these packs.
    pub fn new(packs: Arc<Packs>) -> Self {
        Self {
            packs,
            last: 0,
            entries: EntryReader::default(),
            bases: Cache::new(BASES),
            deltas: Deltas::default(),
            made: Vec::new(),
        }
    }

    /// The object; `None` where it is not in these packs for certain, or not to be read here.
    pub fn read(&mut self, id: ObjectId) -> Option<Object> {
        let packs = Arc::clone(&self.packs);
        let others = (0..packs.packs.len()).filter(|at| *at != self.last);
        let (at, offset) = std::iter::once(self.last)
            .chain(others)
            .find_map(|at| Some((at, packs.packs.get(at)?.index.find(id)?)))?;
        self.last = at;
        self.object(&packs.packs[at], offset)
    }

    /// The object at that offset of the pack that was found last.
    fn object(&mut self, pack: &Pack, offset: u64) -> Option<Object> {
        let mut at = offset;
        self.deltas.clear();
        let (kind, mut object) = loop {
            if let Some(known) = self.bases.get(&(self.last, at)) {
                break known;
            }
            let head = self.entries.head(&pack.file, at)?;
            if head.size >= LARGEST || self.deltas.len() > CHAIN {
                return None;
            }
            let content = self.entries.content(&pack.file, at, head)?;
            let base = match head.kind {
                Kind::Whole(kind) => {
                    let object: Arc<[u8]> = content.into();
                    let shared = Arc::clone(&object);
                    self.bases.insert((self.last, at), (kind, shared));
                    break (kind, object);
                }
                Kind::DeltaAt(base) => base,
                Kind::DeltaOf(base) => pack.index.find(base)?,
            };
            self.deltas.push(at, content);
            at = base;
        };
        while let Some((at, delta)) = self.deltas.last() {
            object = delta::apply(&object, delta, &mut self.made)?.into();
            self.bases
                .insert((self.last, at), (kind, Arc::clone(&object)));
            self.deltas.pop();
        }
        Some((kind, object))
    }
}

/// Deltas that lead from an object to its base, one after the other in one place.
#[derive(Default)]
struct Deltas {
    bytes: Vec<u8>,
    /// For each the offset of its entry and where it begins.
    starts: Vec<(u64, usize)>,
}

impl Deltas {
    fn push(&mut self, offset: u64, delta: &[u8]) {
        self.starts.push((offset, self.bytes.len()));
        self.bytes.extend_from_slice(delta);
    }

    fn last(&self) -> Option<(u64, &[u8])> {
        let (offset, start) = *self.starts.last()?;
        Some((offset, &self.bytes[start..]))
    }

    fn pop(&mut self) {
        if let Some((_, start)) = self.starts.pop() {
            self.bytes.truncate(start);
        }
    }

    fn len(&self) -> usize {
        self.starts.len()
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.starts.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// A packed repository: files that are versions of one another, one that does not shrink and one
    /// that is too large to be read here.
    fn repository(dir: &Path, settings: &[&str]) -> git2::Repository {
        let repo = git2::Repository::init_bare(dir).unwrap();
        let mut random = 7_u64;
        let mut noise = |_| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (random >> 33) as u8
        };
        let mut text: Vec<u8> = (0..400)
            .flat_map(|n| format!("line {n}\n").into_bytes())
            .collect();
        let who = git2::Signature::new("A", "a@example.com", &git2::Time::new(0, 0)).unwrap();
        let mut parent = None;
        let mut tree = repo.treebuilder(None).unwrap();
        let contents = [(0..200_000).map(&mut noise).collect(), vec![0; LARGEST]];
        for (at, content) in contents.iter().enumerate() {
            let content: &Vec<u8> = content;
            let id = repo.blob(content).unwrap();
            tree.insert(format!("other{at}"), id, 0o100_644).unwrap();
        }
        for version in 0..80 {
            text.splice(
                version * 10..version * 10 + 3,
                format!("v{version} ").into_bytes(),
            );
            let id = repo.blob(&text).unwrap();
            tree.insert(format!("file{}", version % 50), id, 0o100_644)
                .unwrap();
            let tree = repo.find_tree(tree.write().unwrap()).unwrap();
            let below = parent.map(|id| repo.find_commit(id).unwrap());
            let message = format!("version {version}");
            let parents: Vec<_> = below.iter().collect();
            parent = Some(
                repo.commit(Some("HEAD"), &who, &who, &message, &tree, &parents)
                    .unwrap(),
            );
        }
        drop(tree);
        for arguments in [
            &[settings, &["repack", "-adfq", "--depth=50"]].concat(),
            &["prune-packed"][..].to_vec(),
        ] {
            let done = Command::new("git")
                .arg("-C")
                .arg(dir)
                .args(arguments)
                .output()
                .unwrap();
            assert!(done.status.success(), "{done:?}");
        }
        repo
    }

    /// Every object as libgit2 reads it.
    fn all(repo: &git2::Repository) -> Vec<(ObjectId, ObjectType, Vec<u8>)> {
        let odb = repo.odb().unwrap();
        let mut all = Vec::new();
        odb.foreach(|id| {
            let object = odb.read(*id).unwrap();
            let id = ObjectId::from_bytes(id.as_bytes().try_into().unwrap());
            all.push((id, object.kind(), object.data().to_vec()));
            true
        })
        .unwrap();
        all
    }

    #[test]
    fn every_packed_object_is_read_as_libgit2_reads_it() {
        for settings in [&[][..], &["-c", "repack.useDeltaBaseOffset=false"]] {
            let dir = tempfile::tempdir().unwrap();
            let repo = repository(dir.path(), settings);
            let packs = Arc::new(Packs::open(&repo.path().join("objects")));
            let mut reader = PackReader::new(Arc::clone(&packs));
            let all = all(&repo);
            assert!(all.len() > 240, "{}", all.len());
            for (id, kind, content) in &all {
                let read = reader.read(*id);
                if content.len() < LARGEST {
                    assert_eq!(read, Some((*kind, content.as_slice().into())), "{id}");
                } else {
                    assert_eq!(read, None);
                }
                let mut other = *id.as_bytes();
                other[19] ^= 1;
                assert_eq!(reader.read(ObjectId::from_bytes(other)), None);
            }
            for first in [0, 0x7f, 0xff] {
                assert_eq!(reader.read(ObjectId::from_bytes([first; 20])), None);
            }
        }
    }

    #[test]
    fn damage_costs_the_objects_it_hits() {
        let dir = tempfile::tempdir().unwrap();
        let repo = repository(dir.path(), &[]);
        let all = all(&repo);
        let objects = repo.path().join("objects");
        let index = index_paths(&objects.join("pack")).unwrap().remove(0);
        // The checksums at the ends and the counts at the start tell that a file is not the right one.
        for (path, parts) in [(index.with_extension("pack"), 12..20), (index, 8..40)] {
            let good = fs::read(&path).unwrap();
            fs::remove_file(&path).unwrap();
            for at in (parts.start..good.len() - parts.end).step_by(good.len() / 60) {
                let mut bad = good.clone();
                bad[at] ^= 0x55;
                fs::write(&path, &bad).unwrap();
                let mut reader = PackReader::new(Arc::new(Packs::open(&objects)));
                let read = all.iter().map(|(id, ..)| reader.read(*id));
                let lost = read.zip(&all).filter(|(read, (_, kind, content))| {
                    !read
                        .as_ref()
                        .is_some_and(|(is, read)| is == kind && **read == **content)
                });
                // A chain of deltas hangs together; damaged counts make an index of no use.
                let counts = at < 8 + 1_024 && path.extension() == Some(OsStr::new("idx"));
                let lost = lost.count();
                assert!(lost < 150 || counts, "{} {at}: {lost}", path.display());
            }
            fs::write(&path, &good[..good.len() / 2]).unwrap();
            assert!(Packs::open(&objects).packs.is_empty());
            fs::write(&path, good).unwrap();
        }
    }
}
