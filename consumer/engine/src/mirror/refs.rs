//! The mirror's refs, in one file.
//!
//! All of them live in `packed-refs`, which this module writes, and none in a file of its own: a
//! fetch that brings a thousand branches writes one file and not a thousand (on a slow disk that
//! is a second), readers see either all of a change or nothing of it, and a branch may take a
//! directory's place. Git reads the file as its own.
//!
//! Only the mirror's holder writes it, so it needs no lock; it is replaced by renaming.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use backstack_schemas::ObjectId;

/// Where branches are.
pub(super) const HEADS: &[u8] = b"refs/heads/";

/// What git must know to search the file and not to look for tags behind the ids.
const HEADER: &[u8] = b"# pack-refs with: peeled fully-peeled sorted \n";

/// All refs of a mirror; names are bytes, since a remote's need not be text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Refs(BTreeMap<Vec<u8>, ObjectId>);

impl Refs {
    /// Those in the mirror's file; none where there is no file.
    pub(super) fn read(mirror: &Path) -> io::Result<Self> {
        match fs::read(file(mirror)) {
            Ok(bytes) => Self::parse(&bytes).ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidData, "packed-refs is damaged")
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    /// Replaces the mirror's file.
    pub(super) fn write(&self, mirror: &Path) -> io::Result<()> {
        let mut bytes = HEADER.to_vec();
        for (name, id) in &self.0 {
            bytes.extend_from_slice(id.to_string().as_bytes());
            bytes.push(b' ');
            bytes.extend_from_slice(name);
            bytes.push(b'\n');
        }
        let file = file(mirror);
        let new = file.with_extension("new");
        let written = fs::write(&new, bytes).and_then(|()| fs::rename(&new, &file));
        if written.is_err() {
            // On a full disk half a file is in the way; that it cannot go either changes nothing.
            let _ = fs::remove_file(&new);
        }
        written
    }

    pub(super) fn get(&self, name: &[u8]) -> Option<ObjectId> {
        self.0.get(name).copied()
    }

    pub(super) fn set(&mut self, name: impl Into<Vec<u8>>, id: ObjectId) {
        self.0.insert(name.into(), id);
    }

    pub(super) fn remove(&mut self, name: &[u8]) {
        self.0.remove(name);
    }

    /// The branches, without `refs/heads/`.
    pub(super) fn heads(&self) -> impl Iterator<Item = (&[u8], ObjectId)> {
        self.0
            .iter()
            .filter_map(|(name, id)| Some((name.strip_prefix(HEADS)?, *id)))
    }

    /// `None` where a line is not a ref's; a cut file is never taken for a shorter one.
    fn parse(bytes: &[u8]) -> Option<Self> {
        if !bytes.is_empty() && !bytes.ends_with(b"\n") {
            return None;
        }
        let mut refs = BTreeMap::new();
        for line in bytes.split(|b| *b == b'\n') {
            // Comments, and what a tag stands for: git adds those, and no ref here is a tag's.
            if line.is_empty() || line.starts_with(b"#") || line.starts_with(b"^") {
                continue;
            }
            let (id, name) = line.split_at_checked(40)?;
            let name = name.strip_prefix(b" ")?;
            if !name.starts_with(b"refs/") {
                return None;
            }
            refs.insert(name.to_vec(), std::str::from_utf8(id).ok()?.parse().ok()?);
        }
        Some(Self(refs))
    }
}

fn file(mirror: &Path) -> PathBuf {
    mirror.join("packed-refs")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(n: u8) -> ObjectId {
        ObjectId::from_bytes([n; 20])
    }

    #[test]
    fn what_is_written_is_read_and_git_reads_it_too() {
        let dir = tempfile::tempdir().unwrap();
        let repo = git2::Repository::init_bare(dir.path()).unwrap();
        let mut refs = Refs::default();
        let names = ["refs/heads/b", "refs/heads/a/b", "refs/heads/a.b", "refs/x"];
        for (name, n) in names.into_iter().zip(1..) {
            refs.set(name, id(n));
        }
        refs.write(dir.path()).unwrap();
        assert_eq!(Refs::read(dir.path()).unwrap(), refs);
        for (name, n) in names.into_iter().zip(1..) {
            let target = repo.find_reference(name).unwrap().target().unwrap();
            assert_eq!(target.as_bytes(), id(n).as_bytes(), "{name}");
        }
        let heads: Vec<&[u8]> = refs.heads().map(|(name, _)| name).collect();
        assert_eq!(heads, [b"a.b".as_slice(), b"a/b", b"b"]);
    }

    #[test]
    fn a_cut_file_is_damaged_and_an_absent_one_empty() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Refs::read(dir.path()).unwrap(), Refs::default());
        let mut refs = Refs::default();
        refs.set("refs/heads/a", id(1));
        refs.write(dir.path()).unwrap();
        let whole = fs::read(file(dir.path())).unwrap();
        let (first, last) = (HEADER.len() + 1, whole.len() - 1);
        for end in first..=last {
            fs::write(file(dir.path()), &whole[..end]).unwrap();
            assert!(Refs::read(dir.path()).is_err(), "cut at {end}");
        }
    }

    /// A ref's name as git takes it: parts of letters, dots in between, and bytes that are no text.
    fn ref_name() -> impl Strategy<Value = Vec<u8>> {
        let part = proptest::collection::vec(
            prop_oneof![
                Just(b"a".to_vec()),
                Just(b"a.b".to_vec()),
                Just(b"\xff".to_vec()),
                Just(b"-".to_vec())
            ],
            1..4,
        );
        proptest::collection::vec(part, 1..4).prop_map(|parts| {
            let parts: Vec<Vec<u8>> = parts.into_iter().map(|part| part.concat()).collect();
            [b"refs/heads/", parts.join(&b'/').as_slice()].concat()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn any_refs_are_read_as_written_and_by_git_too(
            written in proptest::collection::btree_map(ref_name(), any::<[u8; 20]>(), 0..12),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let repo = git2::Repository::init_bare(dir.path()).unwrap();
            let commit = {
                let tree = repo.find_tree(repo.treebuilder(None).unwrap().write().unwrap()).unwrap();
                let who = git2::Signature::new("a", "a", &git2::Time::new(0, 0)).unwrap();
                repo.commit(None, &who, &who, "", &tree, &[]).unwrap()
            };
            let mut refs = Refs::default();
            for (name, id) in &written {
                refs.set(name.clone(), ObjectId::from_bytes(*id));
            }
            refs.write(dir.path()).unwrap();
            prop_assert_eq!(&Refs::read(dir.path()).unwrap(), &refs);
            // Git shows no refs to objects it does not have.
            for name in written.keys() {
                refs.set(name.clone(), commit.to_string().parse::<ObjectId>().unwrap());
            }
            refs.write(dir.path()).unwrap();
            let shown = std::process::Command::new("git")
                .arg("--git-dir")
                .arg(dir.path())
                .args(["for-each-ref", "--format=%(objectname) %(refname)"])
                .output()
                .unwrap();
            let lines = written.keys().map(|name| {
                [commit.to_string().as_bytes(), b" ", name.as_slice(), b"\n"].concat()
            });
            prop_assert_eq!(shown.stdout, lines.collect::<Vec<_>>().concat());
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_read_the_same_once_it_is_written(
            lines in proptest::collection::vec("([0-9a-f]{40} refs/[ -~]{0,12}|#[ -~]{0,9}|\\^[0-9a-f]{40})", 0..9),
        ) {
            let text = lines.iter().fold(String::new(), |text, line| text + line + "\n");
            let refs = Refs::parse(text.as_bytes()).unwrap();
            let dir = tempfile::tempdir().unwrap();
            refs.write(dir.path()).unwrap();
            prop_assert_eq!(Refs::read(dir.path()).unwrap(), refs);
        }

        #[test]
        fn parsing_never_panics(bytes in any::<Vec<u8>>(), text in "[0-9a-f \\n^#/]{0,200}") {
            Refs::parse(&bytes);
            Refs::parse(text.as_bytes());
        }
    }
}
