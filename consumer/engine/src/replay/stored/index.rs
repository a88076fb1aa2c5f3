//! Where an object lies in a pack: its index file, version 2 of git's `gitformat-pack` manual.
//!
//! Ids are spread evenly, so a look-up guesses where an id stands and is mostly right to within a
//! few dozen ids: it touches two pages or three, however large the index is. The file is mapped, since
//! those pages are asked for again and again, and no file that is maintained has many of them.

use std::fs::File;
use std::io;
use std::path::Path;

use backstack_schemas::ObjectId;
use memmap2::Mmap;

/// Length of an id and of a checksum.
pub(super) const ID: usize = 20;
/// Where the sorted ids begin: after the signature and 256 counts.
const IDS: usize = 8 + 4 * 256;
/// Guesses by the id before the halves of what is left are taken instead.
const GUESSES: usize = 4;
/// What is left when no more guesses are made.
const FEW: usize = 32;

/// An open index.
#[derive(Debug)]
pub(super) struct Index {
    map: Mmap,
    objects: usize,
}

/// Maps an index into memory.
fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: what is mapped must not change while it is. Git writes an index under another name,
    // never changes it once it has its own, and removes it whole, which a mapping survives; git and
    // libgit2 rely on it, too.
    unsafe { Mmap::map(file) }
}

impl Index {
    /// Opens an index and checks that it has the length its head tells.
    pub fn open(path: &Path) -> io::Result<Self> {
        let map = map(&File::open(path)?)?;
        let objects = match (map.get(..8), map.get(IDS - 4..IDS)) {
            (Some(b"\xfftOc\0\0\0\x02"), Some(count)) => number(count),
            _ => return Err(io::Error::other("is no index of version 2")),
        };
        let index = Self { map, objects };
        let counts = (0..=u8::MAX).map(|first| index.not_above(first));
        if !counts.is_sorted() || index.map.len() < index.large() + 2 * ID {
            return Err(io::Error::other("is not as long as its head tells"));
        }
        Ok(index)
    }

    /// Number of objects.
    pub fn objects(&self) -> usize {
        self.objects
    }

    /// The checksum at the end of the pack that this is the index of.
    pub fn pack_checksum(&self) -> &[u8] {
        &self.map[self.map.len() - 2 * ID..][..ID]
    }

    /// Where in the pack the object begins; `None` where it is not in there.
    pub fn find(&self, id: ObjectId) -> Option<u64> {
        let (ids, _) = self.map[IDS..][..self.objects * ID].as_chunks::<ID>();
        let id = id.as_bytes();
        let wanted = key(id);
        // What is left to search, and between which keys it lies.
        let mut low = match id[0] {
            0 => 0,
            first => self.not_above(first - 1),
        };
        let mut high = self.not_above(id[0]);
        let mut keys = [
            u64::from(id[0]) << 56,
            (u64::from(id[0]) << 56) | u64::MAX >> 8,
        ];
        for _ in 0..GUESSES {
            let left = high - low;
            let [below, above] = keys;
            if left <= FEW || !(below..=above).contains(&wanted) {
                break;
            }
            let part = u128::from(wanted - below) * left as u128;
            let guess = low + (part / (u128::from(above - below) + 1)) as usize;
            // The id is expected this near: the guess is off by half the square root or so.
            let reach = left.isqrt() + 1;
            let start = guess.saturating_sub(reach).max(low);
            let end = (guess + reach).min(high);
            if *id < ids[start] {
                (high, keys[1]) = (start, key(&ids[start]));
            } else if *id > ids[end - 1] {
                (low, keys[0]) = (end, key(&ids[end - 1]));
            } else {
                (low, high) = (start, end);
                break;
            }
        }
        let at = low + ids[low..high].binary_search(id).ok()?;
        self.offset(at)
    }

    /// Where in the pack the object with this place among the sorted ids begins; `None` where the
    /// index is damaged.
    fn offset(&self, at: usize) -> Option<u64> {
        const LARGE: usize = 1 << 31;
        let offsets = IDS + self.objects * (ID + 4);
        let offset = number(&self.map[offsets + at * 4..]);
        if offset & LARGE == 0 {
            return Some(offset as u64);
        }
        let ids_end = self.map.len() - 2 * ID;
        let large = self.large() + (offset ^ LARGE) * 8;
        let bytes = self.map[..ids_end].get(large..)?.first_chunk()?;
        Some(u64::from_be_bytes(*bytes))
    }

    /// Where the table of offsets beyond 31 bits begins.
    fn large(&self) -> usize {
        IDS + self.objects * (ID + 4 + 4)
    }

    /// How many ids begin with this byte or a smaller one.
    fn not_above(&self, first: u8) -> usize {
        number(&self.map[8 + usize::from(first) * 4..])
    }
}

/// The number in the first four bytes, of which there are as many.
fn number(bytes: &[u8]) -> usize {
    bytes[..4]
        .iter()
        .fold(0, |number, byte| number << 8 | usize::from(*byte))
}

/// The first eight bytes of an id as a number.
fn key(id: &[u8; ID]) -> u64 {
    id[..8]
        .iter()
        .fold(0, |key, byte| key << 8 | u64::from(*byte))
}
