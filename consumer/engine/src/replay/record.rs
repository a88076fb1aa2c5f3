//! What `git merge-tree --stdin -z --messages` prints for one merge, parsed. Pure.
//!
//! A record is `<status> <tree> <stage entry>* "" <message>* ""`, each field ended by a NUL; a
//! message is `<count> <path>{count} <type> <text>`.

use std::collections::BTreeMap;

use backstack_schemas::ObjectId;
use backstack_schemas::outcome::{ConflictKind, ConflictPath};

/// One merge's outcome.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub clean: bool,
    /// The merged tree; with conflict markers where it is not clean.
    pub tree: ObjectId,
    /// Paths in conflict, by stage.
    stages: Vec<(u8, Vec<u8>)>,
    messages: Vec<Message>,
}

#[derive(Debug, PartialEq, Eq)]
struct Message {
    paths: Vec<Vec<u8>>,
    kind: Option<ConflictKind>,
}

/// What the bytes so far hold.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// A record and the number of its bytes.
    Whole(Record, usize),
    /// The start of one.
    Partial,
    /// Nothing git prints.
    Garbage,
}

/// Parses the record at the start of `bytes`.
pub(super) fn parse(bytes: &[u8]) -> Parsed {
    // Told at once: a field of something else may never end.
    if !b"0\0".starts_with(&bytes[..bytes.len().min(2)])
        && !b"1\0".starts_with(&bytes[..bytes.len().min(2)])
    {
        return Parsed::Garbage;
    }
    let mut fields = Fields { bytes, at: 0 };
    match record(&mut fields) {
        Ok(record) => Parsed::Whole(record, fields.at),
        Err(Broken::Short) => Parsed::Partial,
        Err(Broken::Wrong) => Parsed::Garbage,
    }
}

enum Broken {
    Short,
    Wrong,
}

struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    fn next(&mut self) -> Result<&'a [u8], Broken> {
        let rest = &self.bytes[self.at..];
        let length = rest
            .iter()
            .position(|byte| *byte == 0)
            .ok_or(Broken::Short)?;
        self.at += length + 1;
        Ok(&rest[..length])
    }

    fn text(&mut self) -> Result<&'a str, Broken> {
        std::str::from_utf8(self.next()?).map_err(|_| Broken::Wrong)
    }
}

fn record(fields: &mut Fields) -> Result<Record, Broken> {
    let clean = match fields.next()? {
        b"1" => true,
        b"0" => false,
        _ => return Err(Broken::Wrong),
    };
    let tree = fields.text()?.parse().map_err(|_| Broken::Wrong)?;
    let mut stages = Vec::new();
    loop {
        match fields.next()? {
            b"" => break,
            entry => stages.push(stage(entry).ok_or(Broken::Wrong)?),
        }
    }
    let mut messages = Vec::new();
    loop {
        match fields.text()? {
            "" => break,
            count => messages.push(message(count, fields)?),
        }
    }
    Ok(Record {
        clean,
        tree,
        stages,
        messages,
    })
}

/// The stage and path of `<mode> <object> <stage>\t<path>`.
fn stage(entry: &[u8]) -> Option<(u8, Vec<u8>)> {
    let tab = entry.iter().position(|byte| *byte == b'\t')?;
    let stage = entry[..tab].last()?.checked_sub(b'0')?;
    (1..=3)
        .contains(&stage)
        .then(|| (stage, entry[tab + 1..].to_vec()))
}

fn message(count: &str, fields: &mut Fields) -> Result<Message, Broken> {
    let count: usize = count.parse().map_err(|_| Broken::Wrong)?;
    let paths = (0..count)
        .map(|_| fields.next().map(<[u8]>::to_vec))
        .collect::<Result<_, _>>()?;
    let kind = fields.next()?;
    let text = fields.next()?;
    Ok(Message {
        paths,
        kind: kind_of(kind, text),
    })
}

/// The kind of a conflict by git's stable short type, and for "contents", which also stands for
/// two added files, by the text; `None` for mere information.
fn kind_of(kind: &[u8], text: &[u8]) -> Option<ConflictKind> {
    let kind = String::from_utf8_lossy(kind);
    let kind = kind.strip_prefix("CONFLICT")?.trim_start();
    Some(match kind.trim_matches(['(', ')']) {
        "binary" => ConflictKind::Binary,
        "modify/delete" => ConflictKind::ModifyDelete,
        "file/directory" => ConflictKind::Directory,
        kind if kind.contains("directory rename") => ConflictKind::Directory,
        kind if kind.starts_with("rename") => ConflictKind::Rename,
        kind if kind.starts_with("submodule") => ConflictKind::Submodule,
        _ if text.starts_with(b"CONFLICT (add/add)") => ConflictKind::AddAdd,
        _ => ConflictKind::Content,
    })
}

/// What tells most about a path that several messages name; the first wins.
const TELLING: [ConflictKind; 7] = [
    ConflictKind::Submodule,
    ConflictKind::Binary,
    ConflictKind::Directory,
    ConflictKind::Rename,
    ConflictKind::ModifyDelete,
    ConflictKind::AddAdd,
    ConflictKind::Content,
];

impl Record {
    /// The paths in conflict, sorted, each once with its kind. `labels` are what git was given as
    /// names of the two sides; it appends them to paths it moves aside, and here they go again.
    pub fn conflicts(&self, labels: [&str; 2]) -> Vec<ConflictPath> {
        let clean = |path: &[u8]| String::from_utf8_lossy(without_label(path, labels)).into_owned();
        let mut stages: BTreeMap<String, u8> = BTreeMap::new();
        for (stage, path) in &self.stages {
            *stages.entry(clean(path)).or_default() |= 1 << stage;
        }
        let mut kinds: BTreeMap<String, ConflictKind> = BTreeMap::new();
        let rank = |kind| TELLING.iter().position(|k| *k == kind);
        for message in &self.messages {
            let Some(kind) = message.kind else { continue };
            for path in &message.paths {
                let known = kinds.entry(clean(path)).or_insert(kind);
                if rank(kind) < rank(*known) {
                    *known = kind;
                }
            }
        }
        // A conflict about directories alone leaves no path unmerged; then its messages name them.
        if stages.is_empty() {
            stages = kinds.keys().map(|path| (path.clone(), 0)).collect();
        }
        let kind = |path: &String, stages| kinds.get(path).copied().unwrap_or(by_stages(stages));
        stages
            .into_iter()
            .map(|(path, stages)| ConflictPath {
                kind: kind(&path, stages),
                path,
            })
            .collect()
    }
}

/// The kind of a conflict that no message names: what is there of base, ours and theirs.
fn by_stages(stages: u8) -> ConflictKind {
    match stages {
        0b1100 => ConflictKind::AddAdd,
        0b0110 | 0b1010 => ConflictKind::ModifyDelete,
        _ => ConflictKind::Content,
    }
}

/// The path without `~<label>`, and the number git adds where that is taken, too.
fn without_label<'a>(path: &'a [u8], labels: [&str; 2]) -> &'a [u8] {
    let numbered = path
        .iter()
        .rposition(|byte| *byte == b'_')
        .filter(|at| path.len() > at + 1 && path[at + 1..].iter().all(u8::is_ascii_digit));
    for end in [Some(path.len()), numbered].into_iter().flatten() {
        for label in labels {
            let stem = path[..end].strip_suffix(label.as_bytes());
            if let Some(stem) = stem.and_then(|stem| stem.strip_suffix(b"~")) {
                return stem;
            }
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const TREE: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";

    fn bytes_of(fields: &[&str]) -> Vec<u8> {
        fields
            .iter()
            .flat_map(|field| [field.as_bytes(), b"\0"].concat())
            .collect()
    }

    fn whole(fields: &[&str]) -> Record {
        match parse(&bytes_of(fields)) {
            Parsed::Whole(record, length) => {
                assert_eq!(length, bytes_of(fields).len());
                record
            }
            other => panic!("{other:?}"),
        }
    }

    fn conflicts(fields: &[&str]) -> Vec<(String, ConflictKind)> {
        let conflicts = whole(fields).conflicts(["aaa", "bbb"]);
        conflicts.into_iter().map(|c| (c.path, c.kind)).collect()
    }

    #[test]
    fn a_clean_merge_may_have_messages() {
        let record = whole(&[
            "1",
            TREE,
            "",
            "1",
            "f",
            "Auto-merging",
            "Auto-merging f\n",
            "",
        ]);
        assert!(record.clean && record.conflicts(["a", "b"]).is_empty());
        assert_eq!(record.tree.to_string(), TREE);
    }

    #[test]
    fn every_beginning_of_a_record_is_partial() {
        let all = bytes_of(&[
            "0",
            TREE,
            "100644 x 2\tf",
            "",
            "1",
            "f",
            "CONFLICT (contents)",
            "m",
            "",
        ]);
        for end in 0..all.len() {
            assert_eq!(parse(&all[..end]), Parsed::Partial, "{end}");
        }
        assert!(matches!(parse(&all), Parsed::Whole(_, n) if n == all.len()));
    }

    #[test]
    fn what_git_does_not_print_is_garbage() {
        for bad in [
            &["2", TREE][..],
            &["1", "x"],
            &["0", TREE, "no stage"],
            &["0", TREE, "100644 x 9\tf"],
            &["1", TREE, "", "x"],
        ] {
            assert_eq!(parse(&bytes_of(bad)), Parsed::Garbage, "{bad:?}");
        }
        assert_eq!(parse(b"fatal: no field ends here"), Parsed::Garbage);
    }

    #[test]
    fn kinds_come_from_types_and_the_most_telling_wins() {
        let stage = |stage: u8, path: &str| format!("100644 {TREE} {stage}\t{path}");
        let (one, two, three) = (stage(1, "f"), stage(2, "f"), stage(3, "f"));
        let fields = |kind: &'static str, text: &'static str| {
            vec!["0", TREE, &one, &two, &three, "", "1", "f", kind, text, ""]
        };
        for (kind, text, want) in [
            (
                "CONFLICT (contents)",
                "CONFLICT (content): m",
                ConflictKind::Content,
            ),
            (
                "CONFLICT (contents)",
                "CONFLICT (add/add): m",
                ConflictKind::AddAdd,
            ),
            ("CONFLICT (binary)", "warning: m", ConflictKind::Binary),
            ("CONFLICT (modify/delete)", "m", ConflictKind::ModifyDelete),
            ("CONFLICT (rename/delete)", "m", ConflictKind::Rename),
            (
                "CONFLICT (rename involved in collision)",
                "m",
                ConflictKind::Rename,
            ),
            ("CONFLICT (file/directory)", "m", ConflictKind::Directory),
            (
                "CONFLICT (directory rename suggested)",
                "m",
                ConflictKind::Directory,
            ),
            (
                "CONFLICT(directory rename unclear split)",
                "m",
                ConflictKind::Directory,
            ),
            (
                "CONFLICT (submodule not initialized)",
                "m",
                ConflictKind::Submodule,
            ),
            ("CONFLICT (distinct modes)", "m", ConflictKind::Content),
        ] {
            assert_eq!(
                conflicts(&fields(kind, text)),
                [("f".to_owned(), want)],
                "{kind}"
            );
        }
        let mut both = fields("CONFLICT (contents)", "CONFLICT (content): m");
        both.pop();
        both.extend(["1", "f", "CONFLICT (binary)", "m", ""]);
        assert_eq!(conflicts(&both), [("f".to_owned(), ConflictKind::Binary)]);
    }

    #[test]
    fn without_a_message_the_stages_tell() {
        let stage = |stage: u8| format!("100644 {TREE} {stage}\tf");
        for (present, want) in [
            (&[2, 3][..], ConflictKind::AddAdd),
            (&[1, 2], ConflictKind::ModifyDelete),
            (&[1, 3], ConflictKind::ModifyDelete),
            (&[1, 2, 3], ConflictKind::Content),
        ] {
            let stages: Vec<String> = present.iter().map(|n| stage(*n)).collect();
            let mut fields = vec!["0", TREE];
            fields.extend(stages.iter().map(String::as_str));
            fields.extend(["", ""]);
            assert_eq!(conflicts(&fields), [("f".to_owned(), want)]);
        }
    }

    #[test]
    fn a_conflict_without_unmerged_paths_names_those_of_its_messages() {
        let fields = [
            "0",
            TREE,
            "",
            "1",
            "d",
            "CONFLICT(directory rename unclear split)",
            "m",
            "",
        ];
        assert_eq!(
            conflicts(&fields),
            [("d".to_owned(), ConflictKind::Directory)]
        );
    }

    #[test]
    fn paths_moved_aside_are_named_as_they_were() {
        for (path, want) in [
            ("d/f~aaa", "d/f"),
            ("f~bbb_12", "f"),
            ("f~ccc", "f~ccc"),
            ("f_1", "f_1"),
        ] {
            assert_eq!(
                without_label(path.as_bytes(), ["aaa", "bbb"]),
                want.as_bytes()
            );
        }
    }

    /// Bytes of a path, or of a message's text.
    fn field() -> impl Strategy<Value = Vec<u8>> {
        vec(1..=u8::MAX, 1..9)
    }

    proptest! {
        #[test]
        fn any_record_is_read_as_written_and_every_beginning_of_it_is_partial(
            clean: bool,
            tree: [u8; 20],
            stages in vec((1u8..4, field()), 0..5),
            messages in vec((vec(field(), 0..3), "(CONFLICT ?\\([a-z/ ]{0,12}\\)|Auto-merging)", field()), 0..4),
            after in any::<Vec<u8>>(),
        ) {
            let tree = ObjectId::from_bytes(tree);
            let mut bytes = format!("{}\0{tree}\0", u8::from(clean)).into_bytes();
            for (stage, path) in &stages {
                bytes.extend_from_slice(format!("100644 {tree} {stage}\t").as_bytes());
                bytes.extend_from_slice(path);
                bytes.push(0);
            }
            bytes.push(0);
            let mut want = Vec::new();
            for (paths, kind, text) in messages {
                bytes.extend_from_slice(format!("{}\0", paths.len()).as_bytes());
                for field in paths.iter().map(Vec::as_slice).chain([kind.as_bytes(), &text]) {
                    bytes.extend_from_slice(field);
                    bytes.push(0);
                }
                let kind = kind_of(kind.as_bytes(), &text);
                want.push(Message { paths, kind });
            }
            bytes.push(0);
            let length = bytes.len();
            for end in 0..length {
                prop_assert_eq!(parse(&bytes[..end]), Parsed::Partial);
            }
            bytes.extend_from_slice(&after);
            let record = Record { clean, tree, stages, messages: want };
            prop_assert_eq!(parse(&bytes), Parsed::Whole(record, length));
        }

        #[test]
        fn nothing_that_is_printed_makes_parsing_panic(
            bytes in any::<Vec<u8>>(),
            fields in vec("([01]|[0-9a-f]{40}|[0-9]{1,3} x [0-9]\ta|[0-9]{1,20}|a~b_[0-9]|CONFLICT \\(x\\)|)", 0..12),
        ) {
            let texts: Vec<&str> = fields.iter().map(String::as_str).collect();
            for start in [&[][..], &["0", TREE]] {
                let all = bytes_of(&[start, &texts].concat());
                if let Parsed::Whole(record, length) = parse(&all) {
                    prop_assert!(length <= all.len());
                    record.conflicts(["a", "b"]);
                }
            }
            parse(&bytes);
        }

        #[test]
        fn a_path_moved_aside_is_named_as_it_was(path in "[a-z~_0-9/]{1,12}", number in proptest::option::of(0u32..99)) {
            let end = number.map(|n| format!("_{n}")).unwrap_or_default();
            for label in ["aaaaaaa", "bbbbbbb"] {
                let aside = format!("{path}~{label}{end}");
                prop_assert_eq!(without_label(aside.as_bytes(), ["aaaaaaa", "bbbbbbb"]), path.as_bytes());
            }
        }
    }
}
