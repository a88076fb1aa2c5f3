//! A directory for the objects that git has to see before the replay is done, and for those that
//! it writes itself.
//!
//! It stands in for the repository's own object directory in the environment of the git that
//! merges, with the repository's as its alternate, as git's own receive-pack does it. So nothing
//! reaches the repository before the caller says so, and a crash leaves a `tmp_objdir-*` directory
//! that git's gc removes.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use backstack_schemas::ObjectId;
use flate2::read::ZlibDecoder;
use git2::ObjectType;
use tempfile::TempDir;

use super::zlib::Deflater;

/// A temporary object directory; removed when dropped.
#[derive(Debug)]
pub(super) struct Quarantine {
    dir: TempDir,
}

impl Quarantine {
    /// An empty one inside the repository's object directory, an absolute path.
    pub fn new(objects_dir: &Path) -> io::Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("tmp_objdir-backstack-")
            .tempdir_in(objects_dir)?;
        let info = dir.path().join("info");
        fs::create_dir(&info)?;
        let mut line = quoted(objects_dir);
        line.push(b'\n');
        fs::write(info.join("alternates"), line)?;
        Ok(Self { dir })
    }

    /// The directory: the value of `GIT_OBJECT_DIRECTORY`.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Adds an object. There is no sync: what is here never outlives the process.
    pub fn write(&self, id: ObjectId, kind: ObjectType, data: &[u8]) -> io::Result<()> {
        let path = self.object_path(id);
        let header = format!("{} {}\0", kind.str(), data.len());
        let mut bytes = Vec::with_capacity(data.len() + 64);
        Deflater::default().deflate(&[header.as_bytes(), data], &mut bytes)?;
        let written = File::create(&path).and_then(|mut file| file.write_all(&bytes));
        match written {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                path.parent().map_or(Ok(()), fs::create_dir_all)?;
                fs::write(&path, bytes)
            }
            other => other,
        }
    }

    /// The object of that id, where it is in here.
    pub fn read(&self, id: ObjectId) -> io::Result<Option<(ObjectType, Vec<u8>)>> {
        let file = match File::open(self.object_path(id)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        ZlibDecoder::new(file).read_to_end(&mut bytes)?;
        split_header(&bytes)
            .map(|(kind, start)| Some((kind, bytes.split_off(start))))
            .ok_or_else(|| io::Error::other(format!("object {id} is damaged")))
    }

    fn object_path(&self, id: ObjectId) -> PathBuf {
        let hex = id.to_string();
        self.dir.path().join(&hex[..2]).join(&hex[2..])
    }
}

/// Kind and start of the content of `<kind> <size>\0<content>`.
fn split_header(bytes: &[u8]) -> Option<(ObjectType, usize)> {
    let nul = bytes.iter().position(|byte| *byte == 0)?;
    let (kind, size) = std::str::from_utf8(&bytes[..nul]).ok()?.split_once(' ')?;
    let kind = ObjectType::from_str(kind)?;
    (size.parse().ok() == Some(bytes.len() - nul - 1)).then_some((kind, nul + 1))
}

/// A path as git's `alternates` file takes it: quoted, since a line may otherwise be a comment.
fn quoted(path: &Path) -> Vec<u8> {
    let mut line = vec![b'"'];
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'"' | b'\\' => line.extend_from_slice(&[b'\\', *byte]),
            b'\n' => line.extend_from_slice(b"\\n"),
            _ => line.push(*byte),
        }
    }
    line.push(b'"');
    line
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_objects_header_is_read_as_written_and_nothing_panics(content in any::<Vec<u8>>(), bytes in any::<Vec<u8>>()) {
            let whole = [format!("blob {}\0", content.len()).as_bytes(), &content].concat();
            let (kind, start) = split_header(&whole).unwrap();
            prop_assert_eq!((kind, &whole[start..]), (ObjectType::Blob, content.as_slice()));
            prop_assert_eq!(split_header(&[&whole[..], b"x"].concat()), None);
            split_header(&bytes);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn git_finds_the_repository_whatever_its_name(
            name in vec(prop_oneof![Just(b'"'), Just(b'\\'), Just(b'\n'), Just(b'#'), Just(b' '), Just(b':'), b'a'..=b'c', 0xf0..=u8::MAX], 1..9),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let git_dir = dir.path().join(OsString::from_vec(name));
            let repo = git2::Repository::init_bare(&git_dir).unwrap();
            let known = repo.blob(b"known").unwrap().to_string();
            let quarantine = Quarantine::new(&git_dir.join("objects")).unwrap();
            let shown = std::process::Command::new("git")
                .arg("--git-dir")
                .arg(&git_dir)
                .args(["cat-file", "blob", &known])
                .env("GIT_OBJECT_DIRECTORY", quarantine.path())
                .output()
                .unwrap();
            prop_assert_eq!(shown.stdout, b"known", "{:?}", String::from_utf8_lossy(&shown.stderr));
        }
    }

    #[test]
    fn git_sees_both_the_quarantine_and_the_repository() {
        let dir = tempfile::Builder::new().prefix("a\"b#").tempdir().unwrap();
        let repo = git2::Repository::init_bare(dir.path()).unwrap();
        let known = repo.blob(b"known").unwrap().to_string();
        let objects = dir.path().join("objects");
        let quarantine = Quarantine::new(&objects).unwrap();
        let id = super::super::objects::hash(ObjectType::Blob, b"new").unwrap();
        quarantine.write(id, ObjectType::Blob, b"new").unwrap();
        let read = quarantine.read(id).unwrap().unwrap();
        assert_eq!(read, (ObjectType::Blob, b"new".to_vec()));
        for (id, content) in [(id.to_string(), "new"), (known, "known")] {
            let shown = std::process::Command::new("git")
                .arg("--git-dir")
                .arg(dir.path())
                .args(["cat-file", "blob", &id])
                .env("GIT_OBJECT_DIRECTORY", quarantine.path())
                .output()
                .unwrap();
            assert_eq!(shown.stdout, content.as_bytes(), "{shown:?}");
        }
        let path = quarantine.path().to_owned();
        drop(quarantine);
        assert!(!path.exists());
    }

    #[test]
    fn an_absent_object_is_none_and_a_damaged_one_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let quarantine = Quarantine::new(dir.path()).unwrap();
        let id = ObjectId::from_bytes([1; 20]);
        assert!(quarantine.read(id).unwrap().is_none());
        quarantine.write(id, ObjectType::Blob, b"x").unwrap();
        fs::write(quarantine.object_path(id), b"not zlib").unwrap();
        assert!(quarantine.read(id).is_err());
    }
}
