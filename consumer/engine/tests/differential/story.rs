//! A history as a person reads it: each commit, and what it changes.

use std::fmt::Write;

use crate::files::{Entry, Files};
use crate::history::{History, Made};

/// The story.
pub fn of(history: &History) -> String {
    let mut story = String::new();
    for made in &history.commits {
        let parents: Vec<String> = made.parents.iter().map(short).collect();
        let message = made.raw.splitn(2, |byte| *byte == b'\n').last();
        let (id, line) = (short(&made.id), made.line);
        writeln!(story, "{id} {line:?}, on {parents:?}").unwrap();
        let rest = message.unwrap_or_default();
        writeln!(story, "  {}", cut(rest)).unwrap();
        for change in changes(before(history, made), &made.files) {
            writeln!(story, "  {change}").unwrap();
        }
    }
    for branch in &history.branches {
        let base = branch.base.as_ref().map(short);
        let (name, head) = (&branch.name, short(&branch.head));
        writeln!(story, "{name}: {base:?}..{head}").unwrap();
    }
    writeln!(story, "onto {}", short(&history.onto)).unwrap();
    story
}

/// The files of a commit's first parent.
pub fn before<'a>(history: &'a History, made: &Made) -> Option<&'a Files> {
    let parent = made.parents.first()?;
    let parent = history.commits.iter().find(|other| other.id == *parent)?;
    Some(&parent.files)
}

fn short(id: &git2::Oid) -> String {
    id.to_string()[..8].to_owned()
}

fn changes(old: Option<&Files>, new: &Files) -> Vec<String> {
    let none = Files::new();
    let old = old.unwrap_or(&none);
    let gone = old
        .keys()
        .filter(|path| !new.contains_key(*path))
        .map(|path| format!("- {}", path.escape_ascii()));
    let came = new
        .iter()
        .filter(|(path, entry)| old.get(*path) != Some(entry))
        .map(|(path, entry)| format!("+ {}: {}", path.escape_ascii(), shown(entry)));
    gone.chain(came).collect()
}

fn shown((mode, content): &Entry) -> String {
    format!("{mode:o} {}", cut(content))
}

fn cut(bytes: &[u8]) -> String {
    let shown = bytes.escape_ascii().to_string();
    match shown.char_indices().nth(300) {
        Some((at, _)) => format!("{}… ({} bytes)", &shown[..at], bytes.len()),
        None => shown,
    }
}
