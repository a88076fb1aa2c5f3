//! What moved a remote's branches: every move, in order, and by whom.
//!
//! A hook of the remote writes it, at the moment at which git itself commits the move, so real pushes
//! and `git update-ref` are in it, and what libgit2 does is not.
//!
//! On a remote that is a directory, the process that moves the branches is a child of the worker's
//! git, and may be killed with it when it has moved some of them and before the hook has run. Such a
//! move is told by the next one, which begins elsewhere than the last one ended.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use backstack_schemas::ObjectId;

use crate::gate::quoted;
use crate::remote::Remote;

/// The variable that tells who moves a branch; workers do not have it.
pub const MOVED_BY: &str = "BACKSTACK_TEST_USER";

/// The log of a remote.
#[derive(Clone, Debug)]
pub struct RefLog {
    file: PathBuf,
}

/// One move of one branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefMove {
    /// Who moved it: a worker where there is no name.
    pub by: Option<String>,
    /// The branch.
    pub branch: String,
    /// From where; `None` where it was made.
    pub from: Option<ObjectId>,
    /// To where; `None` where it was deleted.
    pub to: Option<ObjectId>,
}

impl RefLog {
    /// Begins to log.
    pub fn start(remote: &Remote) -> Self {
        let file = remote.path().join("ref-log");
        remote.hook(
            "reference-transaction",
            &format!(
                "#!/bin/sh\n[ \"$1\" = committed ] || exit 0\n\
                 sed \"s|^|${{{MOVED_BY}:--}} |\" >>{}\n",
                quoted(&file)
            ),
        );
        Self { file }
    }

    /// All moves so far.
    pub fn moves(&self) -> Vec<RefMove> {
        let log = std::fs::read_to_string(&self.file).unwrap_or_default();
        let moves = log.lines().filter_map(|line| {
            parse(line).unwrap_or_else(|| panic!("{}: {line:?}", self.file.display()))
        });
        with_untold(moves)
    }
}

/// The moves of each branch, each beginning where the one before ended: hooks of moves that follow each
/// other closely may run the other way round, and where a move was not told, it is put in. No branch
/// ever comes back to where it was.
fn with_untold(moves: impl Iterator<Item = RefMove>) -> Vec<RefMove> {
    let mut branches: BTreeMap<String, Vec<RefMove>> = BTreeMap::new();
    for one in moves {
        branches.entry(one.branch.clone()).or_default().push(one);
    }
    branches.into_values().flat_map(chain).collect()
}

fn chain(mut told: Vec<RefMove>) -> Vec<RefMove> {
    let mut chain: Vec<RefMove> = Vec::new();
    while !told.is_empty() {
        let head = chain.last().map(|last| last.to);
        let follows = told.iter().position(|one| Some(one.from) == head);
        let begins = || {
            let ends: HashSet<_> = told.iter().map(|one| one.to).collect();
            told.iter().position(|one| !ends.contains(&one.from))
        };
        let next = told.remove(follows.or_else(begins).unwrap_or(0));
        if let Some(head) = head.filter(|head| *head != next.from) {
            chain.push(RefMove {
                by: None,
                branch: next.branch.clone(),
                from: head,
                to: next.from,
            });
        }
        chain.push(next);
    }
    chain
}

/// One line, `<who> <from> <to> <ref>`; the inner `None` is for what is no branch, or no move.
fn parse(line: &str) -> Option<Option<RefMove>> {
    let mut words = line.split(' ');
    let (by, from, to, name) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let Some(branch) = name.strip_prefix("refs/heads/").filter(|_| from != to) else {
        return Some(None);
    };
    let id = |text: &str| {
        if text.bytes().all(|byte| byte == b'0') {
            return Some(None);
        }
        text.parse().ok().map(Some)
    };
    Some(Some(RefMove {
        by: Some(by).filter(|by| *by != "-").map(str::to_owned),
        branch: branch.to_owned(),
        from: id(from)?,
        to: id(to)?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(by: &str, from: char, to: char, name: &str) -> String {
        let id = |digit: char| digit.to_string().repeat(40);
        format!("{by} {} {} {name}", id(from), id(to))
    }

    fn moves(lines: &[String]) -> Vec<(Option<String>, String)> {
        let moves = lines.iter().filter_map(|line| parse(line).expect("a line"));
        let end = |id: Option<ObjectId>| id.map_or('-', |id| id.to_string().remove(0));
        with_untold(moves)
            .into_iter()
            .map(|one| {
                (
                    one.by,
                    format!("{} {}{}", one.branch, end(one.from), end(one.to)),
                )
            })
            .collect()
    }

    #[test]
    fn moves_of_branches_are_read_and_nothing_else() {
        let log = [
            line("ann", '0', '1', "refs/heads/a"),
            line("-", '1', '2', "refs/heads/a"),
            line("-", '2', '2', "refs/heads/a"),
            line("-", '0', '9', "refs/tags/t"),
        ];
        let ann = Some("ann".to_owned());
        let expected = [(ann, "a -1"), (None, "a 12")];
        assert_eq!(
            moves(&log),
            expected.map(|(by, what)| (by, what.to_owned()))
        );
        assert_eq!(parse("a b"), None);
    }

    #[test]
    fn a_move_that_was_told_late_or_not_at_all_is_in_its_place() {
        let log = [
            line("ann", '0', '1', "refs/heads/a"),
            line("ann", '0', '7', "refs/heads/b"),
            line("-", '4', '5', "refs/heads/a"),
            line("-", '2', '3', "refs/heads/a"),
            line("-", '3', '4', "refs/heads/a"),
        ];
        let told: Vec<_> = moves(&log).into_iter().map(|(_, what)| what).collect();
        assert_eq!(told, ["a -1", "a 12", "a 23", "a 34", "a 45", "b -7"]);
    }
}
