//! What moved a remote's branches: every move, in order, and by whom.
//!
//! A hook of the remote writes it, at the moment at which git itself commits the move, so real pushes
//! and `git update-ref` are in it, and what libgit2 does is not.

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
        log.lines()
            .filter_map(|line| {
                parse(line).unwrap_or_else(|| panic!("{}: {line:?}", self.file.display()))
            })
            .collect()
    }
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
