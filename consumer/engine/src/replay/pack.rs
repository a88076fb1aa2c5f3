//! One pack with its index, written from a list of objects.
//!
//! libgit2's pack builder walks whole trees and its indexer reads the pack again; here every object
//! is in hand, so the pack is written once, and the index from what is known then. The formats are
//! those of git's `gitformat-pack` manual: pack version 2 without deltas, index version 2.
//!
//! Guarantees: both files are complete and on disk before either has its name, the index comes
//! last, and so a crash leaves either the whole pack or files named `tmp_*`, which git's gc removes.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use backstack_schemas::ObjectId;
use git2::ObjectType;
use sha1::{Digest, Sha1};
use tempfile::NamedTempFile;

use super::zlib::Deflater;

/// So many bytes are written at once: what is written next is then still near the processor.
const CHUNK: usize = 128 * 1024;

/// An object to be written.
pub(super) struct Packed<'a> {
    pub id: ObjectId,
    pub kind: ObjectType,
    pub data: &'a [u8],
}

/// What the index says of one object.
struct Indexed {
    id: ObjectId,
    crc: u32,
    offset: u64,
}

/// Writes the objects, each given once, as a pack into the repository's `objects/pack`.
///
/// # Errors
///
/// Those of the file system; nothing with a final name is left behind then.
pub(super) fn write(objects_dir: &Path, objects: &[Packed]) -> io::Result<()> {
    let dir = objects_dir.join("pack");
    fs::create_dir_all(&dir)?;
    let mut pack = temporary(&dir, "tmp_pack_")?;
    let (mut entries, checksum) = write_pack(&mut pack, objects)?;
    entries.sort_unstable_by_key(|entry| entry.id);
    let mut index = temporary(&dir, "tmp_idx_")?;
    index.write_all(&index_bytes(&entries, &checksum))?;
    let name = format!("pack-{}", hex(&checksum));
    for (file, extension) in [(pack, "pack"), (index, "idx")] {
        file.as_file().sync_data()?;
        file.persist(dir.join(format!("{name}.{extension}")))?;
    }
    File::open(&dir)?.sync_all()
}

/// A file that git's gc knows as a leftover, readable as packs are.
fn temporary(dir: &Path, prefix: &str) -> io::Result<NamedTempFile> {
    use std::os::unix::fs::PermissionsExt;
    tempfile::Builder::new()
        .prefix(prefix)
        .permissions(fs::Permissions::from_mode(0o444))
        .tempfile_in(dir)
}

/// Writes the pack; its entries in the order written, and its checksum.
fn write_pack(out: &mut impl Write, objects: &[Packed]) -> io::Result<(Vec<Indexed>, [u8; 20])> {
    let count = u32::try_from(objects.len()).map_err(io::Error::other)?;
    let mut sum = Sha1::new();
    let mut buffer = Vec::with_capacity(2 * CHUNK);
    buffer.extend_from_slice(b"PACK\0\0\0\x02");
    buffer.extend_from_slice(&count.to_be_bytes());
    let mut written = 0;
    let mut entries = Vec::with_capacity(objects.len());
    let mut deflater = Deflater::default();
    for object in objects {
        let start = buffer.len();
        write_header(&mut buffer, object);
        deflater.deflate(&[object.data], &mut buffer)?;
        entries.push(Indexed {
            id: object.id,
            crc: crc32fast::hash(&buffer[start..]),
            offset: written + start as u64,
        });
        if buffer.len() >= CHUNK {
            sum.update(&buffer);
            out.write_all(&buffer)?;
            written += buffer.len() as u64;
            buffer.clear();
        }
    }
    sum.update(&buffer);
    out.write_all(&buffer)?;
    let checksum: [u8; 20] = sum.finalize().into();
    out.write_all(&checksum)?;
    Ok((entries, checksum))
}

/// Appends kind and size in git's variable-length form.
fn write_header(buffer: &mut Vec<u8>, object: &Packed) {
    let kind = match object.kind {
        ObjectType::Commit => 1,
        ObjectType::Tree => 2,
        _ => 3,
    };
    let mut size = object.data.len();
    let mut byte = (kind << 4) | (size & 15) as u8;
    size >>= 4;
    while size > 0 {
        buffer.push(byte | 0x80);
        byte = (size & 0x7f) as u8;
        size >>= 7;
    }
    buffer.push(byte);
}

/// The index of entries sorted by id.
fn index_bytes(entries: &[Indexed], pack_checksum: &[u8; 20]) -> Vec<u8> {
    let mut bytes = b"\xfftOc\0\0\0\x02".to_vec();
    let mut below = 0;
    for first in 0..=u8::MAX {
        below += entries[below..].partition_point(|entry| entry.id.as_bytes()[0] <= first);
        // The pack's own count is 32 bits wide.
        bytes.extend_from_slice(&(below as u32).to_be_bytes());
    }
    for entry in entries {
        bytes.extend_from_slice(entry.id.as_bytes());
    }
    for entry in entries {
        bytes.extend_from_slice(&entry.crc.to_be_bytes());
    }
    let mut large = Vec::new();
    for entry in entries {
        let offset = match u32::try_from(entry.offset) {
            Ok(offset) if offset < 1 << 31 => offset,
            _ => {
                large.push(entry.offset);
                1 << 31 | (large.len() - 1) as u32
            }
        };
        bytes.extend_from_slice(&offset.to_be_bytes());
    }
    for offset in large {
        bytes.extend_from_slice(&offset.to_be_bytes());
    }
    bytes.extend_from_slice(pack_checksum);
    let own: [u8; 20] = Sha1::digest(&bytes).into();
    bytes.extend_from_slice(&own);
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn git_finds_nothing_wrong_with_any_pack_and_reads_all_of_it(
            contents in vec((vec(any::<u8>(), 0..30), 1usize..1_000), 1..12),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let repo = git2::Repository::init_bare(dir.path()).unwrap();
            let contents: Vec<Vec<u8>> = contents.into_iter().map(|(part, times)| part.repeat(times)).collect();
            let mut objects: Vec<Packed> = contents
                .iter()
                .map(|data| Packed {
                    id: super::super::objects::hash(ObjectType::Blob, data).unwrap(),
                    kind: ObjectType::Blob,
                    data,
                })
                .collect();
            objects.sort_by_key(|object| object.id);
            objects.dedup_by_key(|object| object.id);
            write(&dir.path().join("objects"), &objects).unwrap();
            for object in &objects {
                let id = git2::Oid::from_bytes(object.id.as_bytes()).unwrap();
                prop_assert!(repo.find_blob(id).unwrap().content() == object.data);
            }
            let pack = fs::read_dir(dir.path().join("objects/pack"))
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .find(|path| path.extension().is_some_and(|end| end == "idx"));
            let verified = std::process::Command::new("git")
                .arg("verify-pack")
                .arg(pack.unwrap())
                .output()
                .unwrap();
            prop_assert!(verified.status.success(), "{verified:?}");
        }
    }

    #[test]
    fn git_reads_what_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let repo = git2::Repository::init_bare(dir.path()).unwrap();
        let contents: Vec<Vec<u8>> = (0..300_usize)
            .map(|n| format!("{n} ").into_bytes().repeat(n * n % 5_000))
            .collect();
        let mut objects: Vec<Packed> = contents
            .iter()
            .map(|data| Packed {
                id: super::super::objects::hash(ObjectType::Blob, data).unwrap(),
                kind: ObjectType::Blob,
                data,
            })
            .collect();
        objects.sort_by_key(|object| object.id);
        objects.dedup_by_key(|object| object.id);
        write(&dir.path().join("objects"), &objects).unwrap();
        for object in &objects {
            let id = git2::Oid::from_bytes(object.id.as_bytes()).unwrap();
            assert_eq!(repo.find_blob(id).unwrap().content(), object.data);
        }
        let verified = std::process::Command::new("git")
            .args(["-C".as_ref(), dir.path().as_os_str()])
            .args(["fsck", "--strict", "--no-dangling"])
            .output()
            .unwrap();
        assert!(verified.status.success(), "{verified:?}");
    }

    #[test]
    fn offsets_beyond_two_gibibytes_go_into_the_large_table() {
        let entries = [1, 2].map(|n: u8| Indexed {
            id: ObjectId::from_bytes([n; 20]),
            crc: 0,
            offset: u64::from(n) << 31,
        });
        let bytes = index_bytes(&entries, &[0; 20]);
        let offsets = 8 + 1024 + 2 * 20 + 2 * 4;
        assert_eq!(bytes[offsets..offsets + 8], [0x80, 0, 0, 0, 0x80, 0, 0, 1]);
        assert_eq!(
            bytes[offsets + 8..offsets + 16],
            (1_u64 << 31).to_be_bytes()
        );
    }
}
