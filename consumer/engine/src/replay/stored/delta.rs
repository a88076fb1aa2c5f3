//! Deltas, as packs store objects that are like another: git's `gitformat-pack` manual, "Deltified
//! representation".

use super::LARGEST;

/// The object that `delta` makes of `base`, in the room given; `None` where the delta is damaged or
/// of another base, or where it claims to make [`LARGEST`] bytes or more.
pub(super) fn apply<'a>(base: &[u8], delta: &[u8], object: &'a mut Vec<u8>) -> Option<&'a [u8]> {
    let mut delta = delta;
    if size(&mut delta)? != base.len() {
        return None;
    }
    let length = size(&mut delta).filter(|length| *length < LARGEST)?;
    object.clear();
    object.try_reserve(length).ok()?;
    while let Some((&code, rest)) = delta.split_first() {
        delta = rest;
        let piece = if code & 0x80 != 0 {
            let start = number(&mut delta, code & 0x0f)?;
            let count = match number(&mut delta, code >> 4 & 0x07)? {
                0 => 0x1_0000,
                count => count,
            };
            base.get(start..start.checked_add(count)?)?
        } else {
            // Code 0 is reserved.
            let (literal, rest) = delta.split_at_checked(usize::from(code).max(1))?;
            delta = rest;
            if code == 0 {
                return None;
            }
            literal
        };
        if object.len() + piece.len() > length {
            return None;
        }
        object.extend_from_slice(piece);
    }
    (object.len() == length).then_some(object.as_slice())
}

/// A size: seven bits a byte, the lowest first.
fn size(from: &mut &[u8]) -> Option<usize> {
    let mut size = 0_usize;
    for shift in (0..usize::BITS).step_by(7) {
        let (&byte, rest) = from.split_first()?;
        *from = rest;
        let bits = usize::from(byte & 0x7f);
        size |= bits.checked_shl(shift).filter(|s| s >> shift == bits)?;
        if byte & 0x80 == 0 {
            return Some(size);
        }
    }
    None
}

/// A number of which only the bytes that `present` names are stored, the lowest first.
fn number(from: &mut &[u8], present: u8) -> Option<usize> {
    let mut number = 0;
    for at in (0..4).filter(|at| present >> at & 1 == 1) {
        let (&byte, rest) = from.split_first()?;
        *from = rest;
        number |= usize::from(byte) << (8 * at);
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// A size, or the bytes of one that are not zero.
    fn put_size(delta: &mut Vec<u8>, mut size: usize) {
        while size > 0x7f {
            delta.push(0x80 | (size & 0x7f) as u8);
            size >>= 7;
        }
        delta.push(size as u8);
    }

    #[test]
    fn no_room_is_made_for_what_a_damaged_delta_claims() {
        let mut delta = vec![0];
        put_size(&mut delta, LARGEST);
        let mut made = Vec::new();
        assert_eq!(apply(b"", &delta, &mut made), None);
        assert_eq!(made.capacity(), 0);
    }

    proptest! {
        #[test]
        fn any_delta_makes_what_it_was_written_for(
            base in vec(any::<u8>(), 1..400),
            pieces in vec((any::<prop::sample::Index>(), 1usize..200, vec(any::<u8>(), 1..127), any::<bool>()), 0..8),
        ) {
            let (mut object, mut codes) = (Vec::new(), Vec::new());
            for (start, length, literal, copied) in pieces {
                if copied {
                    let start = start.index(base.len());
                    let length = length.min(base.len() - start);
                    codes.push(0x80 | 0x03 | 0x10);
                    codes.extend([start as u8, (start >> 8) as u8, length as u8]);
                    object.extend_from_slice(&base[start..start + length]);
                } else {
                    codes.push(literal.len() as u8);
                    codes.extend_from_slice(&literal);
                    object.extend_from_slice(&literal);
                }
            }
            let mut delta = Vec::new();
            put_size(&mut delta, base.len());
            put_size(&mut delta, object.len());
            delta.extend(codes);
            let mut made = Vec::new();
            prop_assert_eq!(apply(&base, &delta, &mut made), Some(object.as_slice()));
        }

        #[test]
        fn no_delta_makes_it_panic(base in vec(any::<u8>(), 0..40), codes in vec(any::<u8>(), 0..40), length in 0usize..60) {
            let mut delta = Vec::new();
            put_size(&mut delta, base.len());
            put_size(&mut delta, length);
            delta.extend(&codes);
            let mut made = Vec::new();
            prop_assert!(apply(&base, &delta, &mut made).is_none_or(|object| object.len() == length));
            apply(&base, &codes, &mut made);
        }
    }

    const BASE: &[u8] = b"0123456789";

    #[test]
    fn copies_and_literals_make_an_object() {
        // Copy 3 from 2, insert "ab", copy 4 from 0.
        let delta = [10, 9, 0x91, 2, 3, 2, b'a', b'b', 0x90, 4];
        assert_eq!(apply(BASE, &delta, &mut Vec::new()).unwrap(), b"234ab0123");
    }

    #[test]
    fn a_copy_of_no_length_is_64_kibibytes() {
        let base = vec![7; 0x1_0001];
        let delta = [0x81, 0x80, 4, 0x80, 0x80, 4, 0x81, 1];
        assert_eq!(apply(&base, &delta, &mut Vec::new()).unwrap(), &base[1..]);
    }

    #[test]
    fn damaged_deltas_are_refused() {
        for delta in [
            &[][..],
            // Another base.
            &[11, 1, 1, b'a'],
            // Beyond the base.
            &[10, 2, 0x91, 9, 2],
            // Cut short: the literal, the number, the size.
            &[10, 2, 2, b'a'],
            &[10, 2, 0x91, 9],
            &[10, 0x80],
            // Too short, too long, the reserved code.
            &[10, 2, 1, b'a'],
            &[10, 2, 3, b'a', b'b', b'c'],
            &[10, 2, 0, b'a', b'b'],
            // Sizes that no memory has.
            &[
                10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 1, b'a',
            ],
            &[10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 1, b'a'],
        ] {
            assert_eq!(apply(BASE, delta, &mut Vec::new()), None, "{delta:?}");
        }
    }
}
