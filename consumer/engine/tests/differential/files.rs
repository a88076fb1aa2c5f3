//! What a tree holds, and the ways in which people change it.

use std::collections::BTreeMap;

use crate::contents::with_other_line_ends;
use crate::contents::{attributes, binary, edit_repetitive, edited, repetitive, text};
use crate::rng::Rng;

/// A file, link or submodule: mode, and content or (for submodules) the commit's 20 bytes.
pub type Entry = (u32, Vec<u8>);

/// All entries by path. No path is a directory of another.
pub type Files = BTreeMap<Vec<u8>, Entry>;

// None is a word of git's messages.
const NAMES: [&[u8]; 12] = [
    b"aa",
    b"b",
    b"c",
    b"d.txt",
    b"e.c",
    b"f.bin",
    b"aa.b",
    b"aa-",
    b"n\xff",
    b"\xc3\xa4",
    b"x yy",
    b"zz",
];
const DIRS: [&[u8]; 7] = [
    b"",
    b"aa/",
    b"lib/",
    b"src/",
    b"src/deep/",
    b"src/deep/er/",
    b"lib/aa.b/",
];

const FILE: u32 = 0o100_644;
const EXECUTABLE: u32 = 0o100_755;
const LINK: u32 = 0o120_000;
const SUBMODULE: u32 = 0o160_000;

/// The tree a history starts from.
pub fn initial(rng: &mut Rng) -> Files {
    let mut files = Files::new();
    let mut entries = 0;
    let mut start = rng.taken().len();
    while rng.again(entries, 1, 18) {
        entries += 1;
        let path = path(rng);
        let entry = entry(rng);
        put(&mut files, path, entry);
        rng.span(start);
        start = rng.taken().len();
    }
    if rng.chance(15) {
        let dir: &[u8] = if rng.chance(50) {
            b"wide/"
        } else {
            b"1/2/3/4/5/6/7/"
        };
        let (low, high) = *rng.pick(&[(20, 60), (200, 300)]).unwrap_or(&(1, 2));
        for n in 0..rng.between(low, high) {
            let content = format!("{dir:?} {n}\n").repeat(1 + n % 9).into_bytes();
            put(
                &mut files,
                [dir, format!("w{n}").as_bytes()].concat(),
                (FILE, content),
            );
        }
    }
    if rng.chance(60) {
        let content = repetitive(rng);
        put(&mut files, HOT.to_vec(), (FILE, content));
    }
    if rng.chance(30) {
        put(&mut files, b"lib/b".to_vec(), (SUBMODULE, vec![1; 20]));
    }
    if rng.chance(35) {
        put(
            &mut files,
            b".gitattributes".to_vec(),
            (FILE, attributes(rng)),
        );
    }
    files
}

/// A file of few different lines that everyone edits: there git's histogram diff and other diffs
/// tell apart in different ways what changed.
const HOT: &[u8] = b"src/hot.c";

/// One change of one to a few entries.
pub fn change(files: &mut Files, rng: &mut Rng) {
    if let Some((FILE, content)) = files.get_mut(HOT)
        && rng.chance(50)
    {
        return edit_repetitive(content, rng);
    }
    match rng.below(100) {
        0..36 => edit(files, rng),
        36..38 => change_line_ends(files, rng),
        38..47 => {
            let (path, entry) = (path(rng), entry(rng));
            put(files, path, entry);
        }
        47..54 => {
            if let Some(path) = existing(files, rng) {
                files.remove(&path);
            }
        }
        54..66 => rename_file(files, rng),
        66..76 => rename_directory(files, rng),
        76..80 => change_mode(files, rng),
        80..82 => {
            let path = path(rng);
            put(files, path, (LINK, b"a/b".to_vec()));
        }
        82..86 => {
            let path = submodule(files, rng).unwrap_or_else(|| path(rng));
            put(files, path, (SUBMODULE, vec![rng.between(1, 3) as u8; 20]));
        }
        86..90 => swap_kind(files, rng),
        90..94 => {
            let dir = rng.pick(&DIRS).copied().unwrap_or_default();
            let content = attributes(rng);
            put(files, [dir, b".gitattributes"].concat(), (FILE, content));
        }
        94..97 => delete_directory(files, rng),
        _ => copy(files, rng),
    }
}

/// Puts an entry, and removes what stands in its way.
fn put(files: &mut Files, path: Vec<u8>, entry: Entry) {
    let inside = [path.as_slice(), b"/"].concat();
    let is_above = |other: &[u8]| match path.strip_prefix(other) {
        Some(rest) => rest.starts_with(b"/"),
        None => false,
    };
    files.retain(|other, _| !other.starts_with(&inside) && !is_above(other));
    files.insert(path, entry);
}

fn path(rng: &mut Rng) -> Vec<u8> {
    let dir = rng.pick(&DIRS).copied().unwrap_or_default();
    let name = rng.pick(&NAMES).copied().unwrap_or_default();
    [dir, name].concat()
}

fn existing(files: &Files, rng: &mut Rng) -> Option<Vec<u8>> {
    let paths: Vec<_> = files.keys().collect();
    rng.pick(&paths).map(|path| path.to_vec())
}

/// The path of a submodule, mostly, where there is one.
fn submodule(files: &Files, rng: &mut Rng) -> Option<Vec<u8>> {
    let submodules = files.iter().filter(|(_, entry)| entry.0 == SUBMODULE);
    let paths: Vec<_> = submodules.map(|(path, _)| path).collect();
    let path = rng.pick(&paths).map(|path| path.to_vec());
    path.filter(|_| rng.chance(80))
}

fn entry(rng: &mut Rng) -> Entry {
    match rng.below(20) {
        15 => (LINK, b"target".to_vec()),
        16 => (SUBMODULE, vec![1; 20]),
        17 => (EXECUTABLE, text(rng)),
        18 => (FILE, binary(rng)),
        19 => (FILE, Vec::new()),
        _ => (FILE, text(rng)),
    }
}

/// Edits a regular file's lines here and there; a binary file's bytes.
fn edit(files: &mut Files, rng: &mut Rng) {
    let regular: Vec<Vec<u8>> = files
        .iter()
        .filter(|(_, (mode, _))| *mode & 0o170_000 == 0o100_000)
        .map(|(path, _)| path.clone())
        .collect();
    let Some(path) = rng.pick(&regular).cloned() else {
        return;
    };
    if let Some((_, content)) = files.get_mut(&path) {
        let edited = edited(content, rng);
        *content = edited;
    }
}

fn change_line_ends(files: &mut Files, rng: &mut Rng) {
    let Some(path) = existing(files, rng) else {
        return;
    };
    if let Some((FILE | EXECUTABLE, content)) = files.get_mut(&path) {
        *content = with_other_line_ends(content);
    }
}

fn rename_file(files: &mut Files, rng: &mut Rng) {
    let Some(from) = existing(files, rng) else {
        return;
    };
    let to = path(rng);
    if let Some((mode, mut content)) = files.remove(&from) {
        if rng.chance(40) && mode != SUBMODULE && mode != LINK {
            content = edited(&content, rng);
        }
        put(files, to, (mode, content));
    }
}

/// The directories that hold something, with their slashes.
fn directories(files: &Files) -> Vec<Vec<u8>> {
    let mut dirs: Vec<Vec<u8>> = files
        .keys()
        .filter_map(|path| {
            path.iter()
                .rposition(|b| *b == b'/')
                .map(|at| path[..=at].to_vec())
        })
        .collect();
    dirs.dedup();
    dirs
}

fn rename_directory(files: &mut Files, rng: &mut Rng) {
    let Some(from) = rng.pick(&directories(files)).cloned() else {
        return;
    };
    let to: &[u8] = rng
        .pick(&[
            b"".as_slice(),
            b"new/",
            b"moved/",
            b"lib/",
            b"src/",
            b"src/in/",
        ])
        .copied()
        .unwrap_or_default();
    let inside: Vec<Vec<u8>> = files
        .keys()
        .filter(|path| path.starts_with(&from))
        .cloned()
        .collect();
    for path in inside {
        if rng.chance(6) {
            continue;
        }
        if let Some(entry) = files.remove(&path) {
            put(files, [to, &path[from.len()..]].concat(), entry);
        }
    }
}

fn delete_directory(files: &mut Files, rng: &mut Rng) {
    if let Some(dir) = rng.pick(&directories(files)).cloned() {
        files.retain(|path, _| !path.starts_with(&dir));
    }
}

fn change_mode(files: &mut Files, rng: &mut Rng) {
    let Some(path) = existing(files, rng) else {
        return;
    };
    if let Some((mode, _)) = files.get_mut(&path) {
        *mode = match *mode {
            FILE => EXECUTABLE,
            EXECUTABLE => FILE,
            other => other,
        };
    }
}

/// A file becomes a link or a directory, a directory a file.
fn swap_kind(files: &mut Files, rng: &mut Rng) {
    if rng.chance(40) {
        if let Some(dir) = rng.pick(&directories(files)).cloned() {
            let entry = entry(rng);
            put(files, dir[..dir.len() - 1].to_vec(), entry);
        }
        return;
    }
    let Some(path) = existing(files, rng) else {
        return;
    };
    if rng.chance(50) {
        put(files, path, (LINK, b"elsewhere".to_vec()));
    } else if let Some(entry) = files.remove(&path) {
        put(files, [path.as_slice(), b"/inner"].concat(), entry);
    }
}

fn copy(files: &mut Files, rng: &mut Rng) {
    let Some(from) = existing(files, rng) else {
        return;
    };
    if let Some(entry) = files.get(&from).cloned() {
        let to = path(rng);
        put(files, to, entry);
    }
}

/// Makes in `files` the changes from `old` to `new` that still fit.
pub fn pick_up(files: &mut Files, old: &Files, new: &Files) {
    let paths: Vec<&Vec<u8>> = old.keys().chain(new.keys()).collect();
    for path in paths {
        let (before, after) = (old.get(path), new.get(path));
        if before != after && files.get(path) == before {
            match after {
                Some(entry) => put(files, path.clone(), entry.clone()),
                None => drop(files.remove(path)),
            }
        }
    }
}
