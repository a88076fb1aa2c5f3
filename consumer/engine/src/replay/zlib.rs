//! Zlib streams, as objects are stored in packs and in files.
//!
//! Setting up a compressor costs more than compressing the trees and commits a replay makes, and
//! trees are mostly ids, which do not shrink. So small objects go into stored blocks (RFC 1951,
//! section 3.2.4), uncompressed; git's gc compresses them when it repacks.

use std::io;

use flate2::{Compress, Compression, FlushCompress, Status};

/// Objects of this many bytes and more are compressed.
const COMPRESSED_FROM: usize = 16 * 1024;

/// Longest stored block.
const BLOCK: usize = 0xffff;

/// Makes zlib streams; the compressor is set up once.
#[derive(Default)]
pub(super) struct Deflater {
    compressor: Option<Compress>,
}

impl Deflater {
    /// Appends the stream of the parts, one after the other, to `out`.
    pub fn deflate(&mut self, parts: &[&[u8]], out: &mut Vec<u8>) -> io::Result<()> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if length < COMPRESSED_FROM {
            store(&parts.concat(), out);
            return Ok(());
        }
        let fastest = || Compress::new(Compression::fast(), true);
        let compressor = self.compressor.get_or_insert_with(fastest);
        compressor.reset();
        let before = compressor.total_in();
        for part in parts {
            let start = compressor.total_in();
            loop {
                let done = (compressor.total_in() - start) as usize;
                if done == part.len() {
                    break;
                }
                out.reserve(16 * 1024);
                compressor.compress_vec(&part[done..], out, FlushCompress::None)?;
            }
        }
        debug_assert_eq!(compressor.total_in() - before, length as u64);
        loop {
            out.reserve(16 * 1024);
            if compressor.compress_vec(&[], out, FlushCompress::Finish)? == Status::StreamEnd {
                return Ok(());
            }
        }
    }
}

/// Appends a zlib stream of stored blocks.
fn store(data: &[u8], out: &mut Vec<u8>) {
    // Deflate with a 32 KiB window, fastest level; the two bytes are divisible by 31.
    out.extend_from_slice(&[0x78, 0x01]);
    let mut rest = data;
    loop {
        let (block, after) = rest.split_at(rest.len().min(BLOCK));
        let length = block.len() as u16;
        out.push(u8::from(after.is_empty()));
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(block);
        if after.is_empty() {
            break;
        }
        rest = after;
    }
    out.extend_from_slice(&adler32(data).to_be_bytes());
}

/// The checksum of RFC 1950, section 8.2.
fn adler32(data: &[u8]) -> u32 {
    const MODULUS: u32 = 65_521;
    /// So many bytes can be summed before 32 bits overflow.
    const RUN: usize = 5_552;
    let (mut a, mut b) = (1_u32, 0_u32);
    for run in data.chunks(RUN) {
        for byte in run {
            a += u32::from(*byte);
            b += a;
        }
        a %= MODULUS;
        b %= MODULUS;
    }
    b << 16 | a
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whatever_goes_in_comes_back_and_one_stream_leaves_nothing_in_the_next(
            parts in vec((vec(any::<u8>(), 0..40), 1usize..1_500), 1..5),
        ) {
            let parts: Vec<Vec<u8>> = parts.into_iter().map(|(part, times)| part.repeat(times)).collect();
            let mut deflater = Deflater::default();
            for _ in 0..2 {
                let slices: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
                let mut stream = Vec::new();
                deflater.deflate(&slices, &mut stream).unwrap();
                let mut reader = flate2::bufread::ZlibDecoder::new(&stream[..]);
                let mut back = Vec::new();
                reader.read_to_end(&mut back).unwrap();
                prop_assert!(back == parts.concat());
                prop_assert!(reader.into_inner().is_empty());
            }
        }
    }

    #[test]
    fn every_length_comes_back() {
        let mut deflater = Deflater::default();
        let data: Vec<u8> = (0..200_000_u32)
            .map(|n| (n.wrapping_mul(n) >> 7) as u8)
            .collect();
        for length in [0, 1, 100, 5_552, 16_383, 16_384, 65_535, 65_536, 200_000] {
            let (head, tail) = data[..length].split_at(length / 3);
            let mut stream = Vec::new();
            deflater.deflate(&[head, tail], &mut stream).unwrap();
            let mut back = Vec::new();
            flate2::read::ZlibDecoder::new(&stream[..])
                .read_to_end(&mut back)
                .unwrap();
            assert_eq!(back, data[..length], "{length}");
        }
    }

    #[test]
    fn stored_blocks_may_be_many() {
        let data: Vec<u8> = (0..150_000_u32).map(|n| (n % 251) as u8).collect();
        let mut stream = Vec::new();
        store(&data, &mut stream);
        let mut back = Vec::new();
        flate2::read::ZlibDecoder::new(&stream[..])
            .read_to_end(&mut back)
            .unwrap();
        assert_eq!(back, data);
    }
}
