//! What can be asked for, and the JSON that asks for it (contract, sections 2 and 4).
//!
//! Decoding is strict: an unknown field, or one that the action does not use, is refused, so that a
//! misspelt field never changes what a message means.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::id::{BranchName, JobId, ObjectId, TaskId};

mod fields;
mod invalid;
mod schema;

use fields::{Field, Fields};
pub use invalid::InvalidAction;
use invalid::shown;
pub use schema::payload_schema;

/// Longest `requested_by`, in characters.
pub const MAX_REQUESTED_BY: usize = 200;

/// An action's name, the last token of its subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ActionKind {
    /// Fetch, find merged branches, refresh the branch rows.
    SyncRepo,
    /// Replay every tracked branch onto its parent.
    RestackRepo,
    /// The same for a branch and its descendants.
    RestackSubtree,
    /// The same for one branch alone.
    RebaseBranch,
    /// Give a branch another parent; its descendants follow.
    ReparentBranch,
    /// Start tracking a branch that is on the remote.
    RegisterExistingBranch,
    /// Stop tracking a branch.
    UnregisterBranch,
}

impl ActionKind {
    /// Every action there is.
    pub const ALL: [Self; 7] = [
        Self::SyncRepo,
        Self::RestackRepo,
        Self::RestackSubtree,
        Self::RebaseBranch,
        Self::ReparentBranch,
        Self::RegisterExistingBranch,
        Self::UnregisterBranch,
    ];

    /// The name as written in subjects and rows.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SyncRepo => "sync_repo",
            Self::RestackRepo => "restack_repo",
            Self::RestackSubtree => "restack_subtree",
            Self::RebaseBranch => "rebase_branch",
            Self::ReparentBranch => "reparent_branch",
            Self::RegisterExistingBranch => "register_existing_branch",
            Self::UnregisterBranch => "unregister_branch",
        }
    }

    /// The fields that this action alone, among others, may carry.
    const fn fields(self) -> &'static [Field] {
        match self {
            Self::SyncRepo => &[Field::RESTACK],
            Self::RestackRepo => &[],
            Self::RestackSubtree | Self::RebaseBranch | Self::UnregisterBranch => &[Field::BRANCH],
            Self::ReparentBranch => &[Field::BRANCH, Field::PARENT, Field::BASE],
            Self::RegisterExistingBranch => &[
                Field::BRANCH,
                Field::PARENT_IF_KNOWN,
                Field::BASE,
                Field::TASK_ID,
            ],
        }
    }
}

impl fmt::Display for ActionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for ActionKind {
    type Err = InvalidAction;

    fn from_str(text: &str) -> Result<Self, InvalidAction> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| InvalidAction::UnknownAction(shown(text)))
    }
}

/// What is asked of a repository, with just the fields that the action uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// See [`ActionKind::SyncRepo`].
    SyncRepo {
        /// Whether to restack everything afterwards.
        restack: bool,
    },
    /// See [`ActionKind::RestackRepo`].
    RestackRepo,
    /// See [`ActionKind::RestackSubtree`].
    RestackSubtree {
        /// The lowest branch to replay.
        branch: BranchName,
    },
    /// See [`ActionKind::RebaseBranch`].
    RebaseBranch {
        /// The only branch to replay.
        branch: BranchName,
    },
    /// See [`ActionKind::ReparentBranch`].
    ReparentBranch {
        /// The branch that moves.
        branch: BranchName,
        /// What it moves onto: trunk or a tracked branch.
        parent: BranchName,
        /// Where its own commits start, where the publisher knows better.
        base: Option<ObjectId>,
    },
    /// See [`ActionKind::RegisterExistingBranch`].
    RegisterExistingBranch {
        /// The branch to track.
        branch: BranchName,
        /// What it stands on; found from the history where absent.
        parent: Option<BranchName>,
        /// Where its own commits start, where the publisher knows better.
        base: Option<ObjectId>,
        /// The task to attach.
        task_id: Option<TaskId>,
    },
    /// See [`ActionKind::UnregisterBranch`].
    UnregisterBranch {
        /// The branch to stop tracking.
        branch: BranchName,
    },
}

impl Action {
    /// The action's name.
    pub const fn kind(&self) -> ActionKind {
        match self {
            Self::SyncRepo { .. } => ActionKind::SyncRepo,
            Self::RestackRepo => ActionKind::RestackRepo,
            Self::RestackSubtree { .. } => ActionKind::RestackSubtree,
            Self::RebaseBranch { .. } => ActionKind::RebaseBranch,
            Self::ReparentBranch { .. } => ActionKind::ReparentBranch,
            Self::RegisterExistingBranch { .. } => ActionKind::RegisterExistingBranch,
            Self::UnregisterBranch { .. } => ActionKind::UnregisterBranch,
        }
    }

    /// The branch it is about, where it is about one.
    pub const fn branch(&self) -> Option<&BranchName> {
        match self {
            Self::SyncRepo { .. } | Self::RestackRepo => None,
            Self::RestackSubtree { branch }
            | Self::RebaseBranch { branch }
            | Self::ReparentBranch { branch, .. }
            | Self::RegisterExistingBranch { branch, .. }
            | Self::UnregisterBranch { branch } => Some(branch),
        }
    }
}

/// An action as published: the action and what goes with any action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActionMessage {
    /// The job's id, where the publisher chose one.
    pub job_id: Option<JobId>,
    /// What to do.
    pub action: Action,
    /// Whether to do all of it but the push and the row changes.
    pub dry_run: bool,
    /// The ended job that this one repeats.
    pub retry_of: Option<JobId>,
    /// Who asked, in the publisher's words; at most [`MAX_REQUESTED_BY`] characters.
    pub requested_by: Option<String>,
}

impl From<Action> for ActionMessage {
    fn from(action: Action) -> Self {
        Self {
            job_id: None,
            action,
            dry_run: false,
            retry_of: None,
            requested_by: None,
        }
    }
}

impl ActionMessage {
    /// Reads the payload of a message on the subject of `kind`. An empty payload is an empty object;
    /// null is the same as absent.
    ///
    /// # Errors
    /// Names the first thing wrong with it; the sentence is meant for the publisher.
    pub fn decode(kind: ActionKind, payload: &[u8]) -> Result<Self, InvalidAction> {
        let mut fields = Fields::parse(kind, payload)?;
        let message = Self {
            job_id: fields.take("job_id")?,
            dry_run: fields.take("dry_run")?.unwrap_or(false),
            retry_of: fields.take("retry_of")?,
            requested_by: fields.take("requested_by")?,
            action: match kind {
                ActionKind::SyncRepo => Action::SyncRepo {
                    restack: fields.take("restack")?.unwrap_or(false),
                },
                ActionKind::RestackRepo => Action::RestackRepo,
                ActionKind::RestackSubtree => Action::RestackSubtree {
                    branch: fields.need("branch")?,
                },
                ActionKind::RebaseBranch => Action::RebaseBranch {
                    branch: fields.need("branch")?,
                },
                ActionKind::ReparentBranch => Action::ReparentBranch {
                    branch: fields.need("branch")?,
                    parent: fields.need("parent")?,
                    base: fields.take("base")?,
                },
                ActionKind::RegisterExistingBranch => Action::RegisterExistingBranch {
                    branch: fields.need("branch")?,
                    parent: fields.take("parent")?,
                    base: fields.take("base")?,
                    task_id: fields.take("task_id")?,
                },
                ActionKind::UnregisterBranch => Action::UnregisterBranch {
                    branch: fields.need("branch")?,
                },
            },
        };
        message.check()
    }

    /// The rules that hold over a field's whole value.
    fn check(self) -> Result<Self, InvalidAction> {
        let length = self
            .requested_by
            .as_ref()
            .map_or(0, |who| who.chars().count());
        if length > MAX_REQUESTED_BY {
            return Err(InvalidAction::BadField {
                field: "requested_by",
                problem: format!("has {length} characters; at most {MAX_REQUESTED_BY} are allowed"),
            });
        }
        Ok(self)
    }

    /// The payload that [`decode`](Self::decode) reads; what is absent or false is left out.
    pub fn encode(&self) -> Vec<u8> {
        let mut fields = Map::new();
        let mut put = |name: &str, value: Value| {
            if !value.is_null() && value != Value::Bool(false) {
                fields.insert(name.to_owned(), value);
            }
        };
        put("job_id", json!(self.job_id));
        put("dry_run", json!(self.dry_run));
        put("retry_of", json!(self.retry_of));
        put("requested_by", json!(self.requested_by));
        put("branch", json!(self.action.branch()));
        match &self.action {
            Action::SyncRepo { restack } => put("restack", json!(restack)),
            Action::ReparentBranch { parent, base, .. } => {
                put("parent", json!(parent));
                put("base", json!(base));
            }
            Action::RegisterExistingBranch {
                parent,
                base,
                task_id,
                ..
            } => {
                put("parent", json!(parent));
                put("base", json!(base));
                put("task_id", json!(task_id));
            }
            Action::RestackRepo
            | Action::RestackSubtree { .. }
            | Action::RebaseBranch { .. }
            | Action::UnregisterBranch { .. } => {}
        }
        Value::Object(fields).to_string().into_bytes()
    }
}

#[cfg(test)]
mod tests;
