//! What people and their tools write into commits, beside trees and parents.

use crate::rng::Rng;

/// An author line.
pub fn author(rng: &mut Rng, date: i64) -> Vec<u8> {
    const NAMES: [&[u8]; 5] = [
        b"A U Thor",
        b"\xc3\x84 \xc3\x96",
        b"J\xf6rg",
        b"O'Neil \"x\", Jr.",
        b"a",
    ];
    const ZONES: [&str; 4] = ["+0000", "-0730", "+1400", "+0200"];
    let name = NAMES[rng.below(NAMES.len())];
    let zone = ZONES[rng.below(ZONES.len())];
    let date = format!(" <a@example.com> {date} {zone}\n");
    [b"author ", name, date.as_bytes()].concat()
}

/// Encodings that a header may name. In the first two the bytes used here mean what they mean in
/// Latin-1; nobody knows the last.
const ENCODINGS: [&str; 4] = ["ISO-8859-1", "ISO-8859-15", "UTF-8", "x-nobodys"];

/// The headers behind the committer, and the message, in which `n` stands.
pub fn headers_and_message(rng: &mut Rng, n: i64) -> Vec<u8> {
    const SIGNATURE: &str =
        "gpgsig -----BEGIN PGP SIGNATURE-----\n \n x\n -----END PGP SIGNATURE-----\n";
    let mut raw = Vec::new();
    if rng.chance(8) {
        raw.extend(SIGNATURE.bytes());
    }
    let encoded = rng.chance(10);
    if encoded {
        let encoding = ENCODINGS[rng.below(ENCODINGS.len())];
        raw.extend(format!("encoding {encoding}\n").bytes());
    }
    if rng.chance(8) {
        raw.extend(format!("change-id zyxw{n}\n").bytes());
    }
    raw.push(b'\n');
    let bytes = |start: String| start.bytes().chain(*b"\xfc\xdf\n").collect();
    let message: Vec<u8> = match rng.below(14) {
        7 => format!("\n \t\n\nblank lines first {n}\n").into(),
        8 => format!("no newline {n}").into(),
        9 => format!("trailing {n}\n\nbody\n\n\n").into(),
        10 => Vec::new(),
        11 => bytes(format!("not utf-8 {n}: ")),
        12 => format!("# comment {n}\n\n#x\n").into(),
        13 => format!("crlf {n}\r\n\r\nbody\r\n").into(),
        _ if encoded => bytes(format!("encoded {n}: ")),
        _ => format!("commit {n}\n\nbody\n").into(),
    };
    raw.extend(message);
    raw
}

/// Whether a commit's text, in this encoding, is Latin-1 for git.
pub fn is_latin1(encoding: &[u8]) -> bool {
    ENCODINGS[..2]
        .iter()
        .any(|known| known.as_bytes() == encoding)
}
