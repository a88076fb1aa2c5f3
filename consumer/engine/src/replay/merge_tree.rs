//! Git's own merge: one long-lived `git merge-tree` for many merges.
//!
//! Guarantees: an answer is git's. Where the process dies or prints what cannot be understood, it is
//! started again once for that merge, and then the merge is an error, never a guess.
//!
//! # Where a record ends
//!
//! Git before 2.49 keeps back the last NUL of a record until the next merge, and without it
//! nothing tells whether more messages follow. So each question is followed by a second one whose
//! answer is known, the merge of nothing into nothing; when that has come, the first is whole.
//!
//! # Settings
//!
//! Those of a rebase without configuration. Git's default rename limit for merges, 7,000, holds;
//! attributes come from the tree that is merged into, as in a rebase's work tree.

use std::path::PathBuf;

use backstack_schemas::ObjectId;

use super::objects::EMPTY_TREE;
use super::record::{self, Parsed, Record};
use crate::control::Control;
use crate::error::EngineError;
use crate::git::{Git, GitProcess};

/// Where git reads and writes; see [`super::quarantine`].
#[derive(Clone, Debug)]
pub(super) struct Places {
    pub git_dir: PathBuf,
    pub objects: PathBuf,
}

/// A git that merges; started when first asked.
pub(super) struct MergeTree {
    git: Git,
    places: Places,
    /// Tree whose attributes files count.
    attributes: ObjectId,
    running: Option<Conversation>,
}

struct Conversation {
    process: GitProcess,
    /// What git printed and nobody has parsed.
    printed: Vec<u8>,
    /// Whether the last record's final NUL is still to come.
    owes_nul: bool,
}

impl MergeTree {
    /// A git that takes attributes from the tree `attributes`.
    pub fn new(git: &Git, places: Places, attributes: ObjectId) -> Self {
        Self {
            git: git.clone(),
            places,
            attributes,
            running: None,
        }
    }

    /// The tree whose attributes count.
    pub fn attributes(&self) -> ObjectId {
        self.attributes
    }

    /// Names another tree with the same attributes files, the next to compare with.
    pub fn take_attributes_from(&mut self, tree: ObjectId) {
        self.attributes = tree;
    }

    /// Asks for one merge: `<base> -- <ours> <theirs>`, or `<ours> <theirs>` for commits whose base
    /// git is to find.
    ///
    /// # Errors
    ///
    /// What the control says; [`EngineError::Internal`] where git failed twice at this merge.
    pub fn ask(&mut self, question: &str, control: &Control) -> Result<Record, EngineError> {
        let first = match self.try_ask(question, control) {
            Err(EngineError::Internal(first)) => first,
            other => return other,
        };
        tracing::warn!(question, error = first, "git merge-tree is started again");
        self.running = None;
        self.try_ask(question, control).map_err(|error| {
            self.running = None;
            match error {
                EngineError::Internal(second) => EngineError::Internal(format!(
                    "git merge-tree failed twice at the merge {question}: {second}"
                )),
                other => other,
            }
        })
    }

    fn try_ask(&mut self, question: &str, control: &Control) -> Result<Record, EngineError> {
        let conversation = match &mut self.running {
            Some(conversation) => conversation,
            none => none.insert(Conversation::start(
                &self.git,
                &self.places,
                self.attributes,
            )?),
        };
        conversation.ask(question, control)
    }
}

impl Conversation {
    fn start(git: &Git, places: &Places, attributes: ObjectId) -> Result<Self, EngineError> {
        let command = git
            .command(&places.git_dir)
            .env("GIT_OBJECT_DIRECTORY", &places.objects)
            .global(format!("--attr-source={attributes}"))
            .config("merge.renames", "true")
            .config("merge.conflictStyle", "merge")
            .config("merge.directoryRenames", "conflict")
            .config("merge.renormalize", "false")
            .args(["merge-tree", "--write-tree", "--stdin", "-z", "--messages"])
            .arg("--allow-unrelated-histories");
        Ok(Self {
            process: command.spawn()?,
            printed: Vec::new(),
            owes_nul: false,
        })
    }

    fn ask(&mut self, question: &str, control: &Control) -> Result<Record, EngineError> {
        let lines = format!("{question}\n{EMPTY_TREE} -- {EMPTY_TREE} {EMPTY_TREE}\n");
        self.process.send(lines.as_bytes(), control)?;
        let nothing = format!("1\0{EMPTY_TREE}\0\0").into_bytes();
        loop {
            if self.process.receive(&mut self.printed, control)? == 0 {
                return Err(self.died());
            }
            if self.owes_nul && self.printed.first() == Some(&0) {
                self.printed.remove(0);
                self.owes_nul = false;
            }
            match record::parse(&self.printed) {
                Parsed::Whole(record, end) if self.printed[end..].starts_with(&nothing) => {
                    self.printed.drain(..end + nothing.len());
                    self.owes_nul = self.printed.first() != Some(&0);
                    self.printed.clear();
                    return Ok(record);
                }
                Parsed::Garbage => return Err(self.died()),
                _ => {}
            }
        }
    }

    fn died(&self) -> EngineError {
        let said = self.process.stderr_tail();
        EngineError::Internal(format!("git gave no answer: {}", said.trim()))
    }
}
