//! Commit objects as raw bytes: what a replayed commit keeps and what it gets anew.
//!
//! Kept byte for byte: the author with date and time zone, the `encoding` and `change-id` headers,
//! the message but for leading blank lines, which git's own rebase cuts off too. Given anew: tree, parent,
//! committer. Left out: signatures, which the new commit would break, and every other header.

use std::ops::Range;
use std::sync::Arc;

use backstack_schemas::ObjectId;

use super::Committer;
use super::objects::CommitFacts;

/// A parsed commit object.
#[derive(Clone, Debug)]
pub(super) struct Commit {
    raw: Arc<[u8]>,
    /// Its tree.
    pub tree: ObjectId,
    /// Its parents.
    pub parents: Vec<ObjectId>,
    committed_at: Option<i64>,
    author: Range<usize>,
    /// Whole header lines, `encoding` and `change-id`, in the order in which they stand.
    kept: Vec<Range<usize>>,
    message: Range<usize>,
}

impl Commit {
    /// Parses a commit object's content; what is wrong with it otherwise.
    pub fn parse(raw: Arc<[u8]>) -> Result<Self, &'static str> {
        let mut tree = None;
        let mut parents = Vec::new();
        let mut author = None;
        let mut committed_at = None;
        let mut kept = Vec::new();
        let mut at = 0;
        while at < raw.len() && raw[at] != b'\n' {
            let end = header_end(&raw, at);
            let header = &raw[at..end];
            if !header.ends_with(b"\n") {
                return Err("ends in the middle of a header");
            }
            let (key, value) = split_at_space(header);
            match key {
                b"tree" => tree = tree.or(parse_id(value)),
                b"parent" => parents.push(parse_id(value).ok_or("has a damaged parent line")?),
                b"author" if author.is_none() => author = Some(at..end),
                b"committer" => committed_at = committed_at.or(parse_date(value)),
                b"encoding" | b"change-id" => kept.push(at..end),
                _ => {}
            }
            at = end;
        }
        let message = (at + 1).min(raw.len())..raw.len();
        Ok(Self {
            tree: tree.ok_or("has no tree")?,
            author: author.ok_or("has no author")?,
            raw,
            parents,
            committed_at,
            kept,
            message,
        })
    }

    /// What others ask of it.
    pub fn facts(&self) -> CommitFacts {
        CommitFacts {
            tree: self.tree,
            committed_at: self.committed_at,
        }
    }

    /// The content of this commit replayed: with that tree, on that parent, committed at `date`.
    pub fn replayed(
        &self,
        tree: ObjectId,
        parent: ObjectId,
        committer: &Committer,
        date: i64,
    ) -> Vec<u8> {
        let mut new = format!("tree {tree}\nparent {parent}\n").into_bytes();
        new.extend_from_slice(&self.raw[self.author.clone()]);
        let (name, email) = (plain(&committer.name), plain(&committer.email));
        new.extend_from_slice(format!("committer {name} <{email}> {date} +0000\n").as_bytes());
        for header in &self.kept {
            new.extend_from_slice(&self.raw[header.clone()]);
        }
        new.push(b'\n');
        new.extend_from_slice(without_leading_blank_lines(&self.raw[self.message.clone()]));
        new
    }
}

/// Where the header that starts at `at` ends, with the continuation lines it has.
fn header_end(raw: &[u8], at: usize) -> usize {
    let mut end = at;
    loop {
        let rest = &raw[end..];
        end += rest
            .iter()
            .position(|byte| *byte == b'\n')
            .map_or(rest.len(), |n| n + 1);
        if raw.get(end) != Some(&b' ') {
            return end;
        }
    }
}

fn split_at_space(header: &[u8]) -> (&[u8], &[u8]) {
    let line = header.strip_suffix(b"\n").unwrap_or(header);
    match line.iter().position(|byte| *byte == b' ') {
        Some(space) => (&line[..space], &line[space + 1..]),
        None => (line, b""),
    }
}

fn parse_id(value: &[u8]) -> Option<ObjectId> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// The seconds in `Name <email> seconds zone`.
fn parse_date(identity: &[u8]) -> Option<i64> {
    let after_email = identity.rsplit(|byte| *byte == b'>').next()?;
    let text = std::str::from_utf8(after_email).ok()?;
    text.split_ascii_whitespace().next()?.parse().ok()
}

/// A name or address without what would end it inside a commit.
fn plain(text: &str) -> String {
    let kept: String = text
        .chars()
        .filter(|c| !c.is_control() && !matches!(c, '<' | '>'))
        .collect();
    kept.trim().to_owned()
}

/// Git calls a line blank where it holds nothing but spaces, tabs and carriage returns.
fn without_leading_blank_lines(message: &[u8]) -> &[u8] {
    let mut rest = message;
    loop {
        let line = rest
            .iter()
            .position(|byte| *byte == b'\n')
            .map_or(rest.len(), |n| n + 1);
        let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        if line == 0 || !rest[..line].iter().all(blank) {
            return rest;
        }
        rest = &rest[line..];
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const TREE: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";

    fn id(digit: &str) -> ObjectId {
        digit.repeat(40).parse().unwrap()
    }

    fn replayed(raw: &[u8]) -> Vec<u8> {
        let committer = Committer {
            name: "Back <Stack>\n".to_owned(),
            email: "b@example.com".to_owned(),
            at_least: 0,
        };
        let commit = Commit::parse(raw.into()).unwrap();
        commit.replayed(id("a"), id("b"), &committer, 77)
    }

    #[test]
    fn author_encoding_change_id_and_message_stay_byte_for_byte() {
        let (tree, old) = (TREE, id("c"));
        let mut raw = format!("tree {tree}\nparent {old}\nauthor ").into_bytes();
        raw.extend_from_slice(b"J\xf6rg <j@x> 5 -0730\ncommitter C <c@x> 9 +0200\n");
        raw.extend_from_slice(b"gpgsig -----BEGIN\n line\n \n -----END\nencoding ISO-8859-1\n");
        raw.extend_from_slice(b"HG:extra x\nchange-id zyx\n\n \t\n\nGr\xfc\xdfe\n\n\nno newline");
        let mut want = format!("tree {}\nparent {}\nauthor ", id("a"), id("b")).into_bytes();
        want.extend_from_slice(b"J\xf6rg <j@x> 5 -0730\n");
        want.extend_from_slice(b"committer Back Stack <b@example.com> 77 +0000\n");
        want.extend_from_slice(b"encoding ISO-8859-1\nchange-id zyx\n\n");
        want.extend_from_slice(b"Gr\xfc\xdfe\n\n\nno newline");
        assert_eq!(replayed(&raw), want);
    }

    #[test]
    fn a_commit_tells_tree_parents_and_date() {
        let raw = format!(
            "tree {TREE}\nparent {}\nparent {}\nauthor A <a> 1 +0000\ncommitter > <c>d> 42 +0000\n",
            id("1"),
            id("2")
        );
        let commit = Commit::parse(raw.as_bytes().into()).unwrap();
        assert_eq!(commit.parents, [id("1"), id("2")]);
        assert_eq!(commit.facts().committed_at, Some(42));
        assert_eq!(commit.facts().tree.to_string(), TREE);
    }

    #[test]
    fn a_message_of_blank_lines_becomes_empty() {
        let raw = format!("tree {TREE}\nauthor A <a> 1 +0000\n\n\n \n");
        assert!(replayed(raw.as_bytes()).ends_with(b"+0000\n\n"));
    }

    #[test]
    fn a_commit_without_tree_or_author_is_refused() {
        let no_author = format!("tree {TREE}\n\nx");
        assert!(Commit::parse(no_author.as_bytes().into()).is_err());
        assert!(Commit::parse(b"author A <a> 1 +0000\n\nx"[..].into()).is_err());
        let cut = format!("tree {TREE}\nauthor A <a> 1 +00");
        assert!(Commit::parse(cut.as_bytes().into()).is_err());
    }

    /// A line of a header or a message; not one that continues another.
    fn line() -> impl Strategy<Value = Vec<u8>> {
        vec(prop_oneof![b'!'..=b'~', 0x80..=u8::MAX, Just(b' ')], 0..20).prop_map(|mut line| {
            line.splice(..0, *b"x");
            line
        })
    }

    fn raw_commit(
        parents: &[[u8; 20]],
        author: &[u8],
        date: i64,
        extra: &[Vec<u8>],
        message: &[u8],
    ) -> Vec<u8> {
        let mut raw = format!("tree {TREE}\n").into_bytes();
        for parent in parents {
            raw.extend_from_slice(format!("parent {}\n", ObjectId::from_bytes(*parent)).as_bytes());
        }
        for part in [b"author ", author, b" <a@x> 5 +0100\n"] {
            raw.extend_from_slice(part);
        }
        raw.extend_from_slice(format!("committer C <c@x> {date} +0000\n").as_bytes());
        for header in extra {
            raw.extend_from_slice(header);
            raw.push(b'\n');
        }
        raw.push(b'\n');
        raw.extend_from_slice(message);
        raw
    }

    proptest! {
        #[test]
        fn any_commit_is_read_as_libgit2_reads_it_and_keeps_what_it_should(
            parents in vec(any::<[u8; 20]>(), 0..4), author in line(), date in 0i64..4_000_000_000,
            extra in vec(line(), 0..3), message in vec(line(), 0..4),
        ) {
            let message = message.join(&b'\n');
            let raw = raw_commit(&parents, &author, date, &extra, &message);
            let commit = Commit::parse(raw.as_slice().into()).unwrap();
            let theirs = git2::Oid::hash_object(git2::ObjectType::Commit, &raw).unwrap();
            let dir = tempfile::tempdir().unwrap();
            let repo = git2::Repository::init_bare(dir.path()).unwrap();
            let written = repo.odb().unwrap().write(git2::ObjectType::Commit, &raw).unwrap();
            prop_assert_eq!(written, theirs);
            let theirs = repo.find_commit(written).unwrap();
            prop_assert_eq!(commit.tree.to_string(), theirs.tree_id().to_string());
            let ids: Vec<String> = theirs.parent_ids().map(|id| id.to_string()).collect();
            prop_assert_eq!(commit.parents.iter().map(ToString::to_string).collect::<Vec<_>>(), ids);
            prop_assert_eq!(commit.facts().committed_at, Some(theirs.time().seconds()));
            prop_assert_eq!(&raw[commit.message.clone()], theirs.message_raw_bytes());

            let new = replayed(&raw);
            let again = Commit::parse(new.as_slice().into()).unwrap();
            prop_assert_eq!(&again.parents, &[id("b")]);
            prop_assert_eq!(&new[again.author.clone()], &raw[commit.author.clone()]);
            prop_assert_eq!(&new[again.message.clone()], message.as_slice());
            prop_assert_eq!(replayed(&new), new);
        }

        #[test]
        fn parsing_never_panics(bytes in any::<Vec<u8>>(), text in "[a-z 0-9<>\n]{0,120}") {
            for start in ["", "tree ", &format!("tree {TREE}\nauthor ")] {
                for rest in [bytes.as_slice(), text.as_bytes()] {
                    let raw = [start.as_bytes(), rest].concat();
                    if Commit::parse(raw.as_slice().into()).is_ok() {
                        replayed(&raw);
                    }
                }
            }
        }
    }
}
