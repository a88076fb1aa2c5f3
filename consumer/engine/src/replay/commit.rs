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
    }
}
