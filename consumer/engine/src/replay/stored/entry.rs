//! One entry of a pack, as git's `gitformat-pack` manual tells: its head, and its content inflated.

use std::fs::File;
use std::os::unix::fs::FileExt;

use backstack_schemas::ObjectId;
use flate2::{Decompress, FlushDecompress, Status};
use git2::ObjectType;

use super::index::ID;

/// What an entry holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An object.
    Whole(ObjectType),
    /// A delta to the object that begins there in the pack.
    DeltaAt(u64),
    /// A delta to that object.
    DeltaOf(ObjectId),
}

/// The head of an entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub kind: Kind,
    /// Length of the inflated content.
    pub size: usize,
    /// Where its content begins, counted from the entry's start.
    content: usize,
}

/// Bytes read at first: most entries are smaller.
const AT_FIRST: usize = 512;
/// Bytes read at once when the first did not do.
const THEN: usize = 64 * 1024;

/// Reads entries; what it needs for that is set up once.
pub(super) struct EntryReader {
    stream: Decompress,
    /// The entry as far as it was read.
    bytes: Vec<u8>,
    /// Room for its content.
    room: Vec<u8>,
}

impl Default for EntryReader {
    fn default() -> Self {
        Self {
            stream: Decompress::new(true),
            bytes: Vec::new(),
            room: Vec::new(),
        }
    }
}

impl EntryReader {
    /// The head of the entry at `offset`; `None` where it cannot be read.
    pub fn head(&mut self, pack: &File, offset: u64) -> Option<Head> {
        self.bytes.clear();
        self.read_on(pack, offset, AT_FIRST)?;
        head(&self.bytes, offset)
    }

    /// The content of the entry whose head was read last; `None` where it cannot be read.
    pub fn content(&mut self, pack: &File, offset: u64, head: Head) -> Option<&[u8]> {
        self.stream.reset(true);
        // With room for one byte more, a stream that is too long is told from one that is not.
        if self.room.len() <= head.size {
            self.room.resize(head.size + 1, 0);
        }
        let mut from = head.content;
        loop {
            let (read, made) = (self.stream.total_in(), self.stream.total_out() as usize);
            let room = &mut self.room[made..=head.size];
            let status = self
                .stream
                .decompress(&self.bytes[from..], room, FlushDecompress::None)
                .ok()?;
            from += (self.stream.total_in() - read) as usize;
            let made = self.stream.total_out() as usize;
            if status == Status::StreamEnd {
                return (made == head.size).then_some(&self.room[..made]);
            }
            if made > head.size || from < self.bytes.len() {
                return None;
            }
            // What does not shrink is hardly longer than its content.
            let longest = head.size - made + head.size / 1_000 + 64;
            self.read_on(pack, offset, longest.min(THEN))?;
        }
    }

    /// Reads more of the entry at `offset`; `None` where there is no more.
    fn read_on(&mut self, pack: &File, offset: u64, count: usize) -> Option<()> {
        let known = self.bytes.len();
        self.bytes.resize(known + count, 0);
        let read = pack.read_at(&mut self.bytes[known..], offset + known as u64);
        let read = read.unwrap_or(0);
        self.bytes.truncate(known + read);
        (read > 0).then_some(())
    }
}

/// The head at the start of `bytes`, which are those at `offset` in the pack; `None` where it is damaged.
fn head(bytes: &[u8], offset: u64) -> Option<Head> {
    let mut at = 0;
    let mut next = || {
        at += 1;
        bytes.get(at - 1).copied()
    };
    let mut byte = next()?;
    let kind = byte >> 4 & 7;
    let mut size = usize::from(byte & 15);
    let mut shift = 4;
    while byte & 0x80 != 0 {
        byte = next()?;
        let bits = usize::from(byte & 0x7f);
        size |= bits.checked_shl(shift).filter(|s| s >> shift == bits)?;
        shift += 7;
    }
    let kind = match kind {
        1 => Kind::Whole(ObjectType::Commit),
        2 => Kind::Whole(ObjectType::Tree),
        3 => Kind::Whole(ObjectType::Blob),
        4 => Kind::Whole(ObjectType::Tag),
        6 => {
            // Seven bits a byte, the highest first, each further byte adding one to what came before.
            let mut byte = next()?;
            let mut back = u64::from(byte & 0x7f);
            while byte & 0x80 != 0 {
                byte = next()?;
                back = (back + 1).checked_mul(1 << 7)? | u64::from(byte & 0x7f);
            }
            Kind::DeltaAt(offset.checked_sub(back).filter(|base| *base < offset)?)
        }
        7 => {
            let id = bytes.get(at..)?.first_chunk::<ID>()?;
            at += ID;
            Kind::DeltaOf(ObjectId::from_bytes(*id))
        }
        _ => return None,
    };
    Some(Head {
        kind,
        size,
        content: at,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_head_makes_it_panic_and_a_base_is_always_before(bytes in any::<Vec<u8>>(), offset: u64) {
            if let Some(head) = head(&bytes, offset) {
                prop_assert!(head.content <= bytes.len());
                if let Kind::DeltaAt(base) = head.kind {
                    prop_assert!(base < offset);
                }
            }
        }

        #[test]
        fn a_head_is_read_as_it_was_written(kind in 1u8..5, size in 0usize..1 << 40) {
            let (mut byte, mut rest) = (kind << 4 | (size & 15) as u8, size >> 4);
            let mut bytes = Vec::new();
            while rest > 0 {
                bytes.push(byte | 0x80);
                byte = (rest & 0x7f) as u8;
                rest >>= 7;
            }
            bytes.push(byte);
            let read = head(&bytes, 0).unwrap();
            prop_assert_eq!((read.size, read.content), (size, bytes.len()));
            prop_assert!(matches!(read.kind, Kind::Whole(_)));
        }
    }

    #[test]
    fn heads_tell_kind_size_and_base() {
        let blob = head(&[0xb5, 0x0a], 100).unwrap();
        let whole = Kind::Whole(ObjectType::Blob);
        assert_eq!((blob.kind, blob.size, blob.content), (whole, 165, 2));
        let at = head(&[0x65, 0x80, 0x00], 1_000).unwrap();
        assert_eq!((at.kind, at.size), (Kind::DeltaAt(1_000 - 128), 5));
        let of = head(&[[0x71].as_slice(), &[9; ID]].concat(), 0).unwrap();
        assert_eq!(of.kind, Kind::DeltaOf(ObjectId::from_bytes([9; ID])));
    }

    #[test]
    fn damaged_heads_are_refused() {
        let endless = [0xbf; 12];
        for (bytes, offset) in [
            (&[][..], 0),
            // Kinds that git has not given a meaning.
            (&[0x01], 0),
            (&[0x51], 0),
            // A base that is itself, and one before the pack.
            (&[0x61, 0x00], 50),
            (&[0x61, 0x33], 50),
            // Cut short, and a size that no memory has.
            (&[0x91], 0),
            (&[0x71, 1, 2], 0),
            (&endless, 0),
        ] {
            assert!(head(bytes, offset).is_none(), "{bytes:?}");
        }
    }
}
