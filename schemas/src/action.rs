//! What can be asked for, and the JSON that asks for it (contract, sections 2 and 4).
//!
//! Decoding is strict: an unknown field, or one that the action does not use, is refused, so that a
//! misspelt field never changes what a message means.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::id::{BranchName, JobId, ObjectId, TaskId};

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

/// A field of the message, and whether its action needs it.
struct Field {
    name: &'static str,
    required: bool,
}

impl Field {
    const BRANCH: Self = Self {
        name: "branch",
        required: true,
    };
    const PARENT: Self = Self {
        name: "parent",
        required: true,
    };
    const PARENT_IF_KNOWN: Self = Self {
        name: "parent",
        required: false,
    };
    const BASE: Self = Self {
        name: "base",
        required: false,
    };
    const TASK_ID: Self = Self {
        name: "task_id",
        required: false,
    };
    const RESTACK: Self = Self {
        name: "restack",
        required: false,
    };
}

/// The fields that every action may carry.
const COMMON_FIELDS: [&str; 4] = ["job_id", "dry_run", "retry_of", "requested_by"];

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

/// The fields of a payload that have not been read yet.
struct Fields(Map<String, Value>);

impl Fields {
    /// Parses the object and refuses fields that `kind` does not use.
    fn parse(kind: ActionKind, payload: &[u8]) -> Result<Self, InvalidAction> {
        let mut fields = object(payload)?;
        fields.retain(|_, value| !value.is_null());
        for name in fields.keys() {
            let known = kind.fields().iter().map(|f| f.name).chain(COMMON_FIELDS);
            if !known.into_iter().any(|known| known == name) {
                return Err(InvalidAction::UnknownField {
                    kind,
                    field: shown(name),
                });
            }
        }
        let missing = kind
            .fields()
            .iter()
            .find(|f| f.required && !fields.contains_key(f.name));
        match missing {
            Some(field) => Err(InvalidAction::MissingField {
                kind,
                field: field.name,
            }),
            None => Ok(Self(fields)),
        }
    }

    fn take<T: DeserializeOwned>(
        &mut self,
        field: &'static str,
    ) -> Result<Option<T>, InvalidAction> {
        let Some(value) = self.0.remove(field) else {
            return Ok(None);
        };
        serde_json::from_value(value)
            .map(Some)
            .map_err(|error| InvalidAction::BadField {
                field,
                problem: error.to_string(),
            })
    }

    /// A field that [`parse`](Self::parse) has made sure is there.
    fn need<T: DeserializeOwned>(&mut self, field: &'static str) -> Result<T, InvalidAction> {
        self.take(field)?.ok_or_else(|| InvalidAction::BadField {
            field,
            problem: "is missing".to_owned(),
        })
    }
}

/// The payload's object; empty where the payload is.
fn object(payload: &[u8]) -> Result<Map<String, Value>, InvalidAction> {
    if payload.is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_slice(payload) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(InvalidAction::NotAnObject),
        Err(error) => Err(InvalidAction::NotJson(error.to_string())),
    }
}

/// Why a message is no action; a job's row gets it as `invalid_action`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAction {
    /// The subject's last token is no action.
    #[error("there is no action {0:?}; the actions are {list}", list = action_list())]
    UnknownAction(String),
    /// The payload is not JSON.
    #[error("the payload is not JSON: {0}")]
    NotJson(String),
    /// The payload is JSON, but not an object.
    #[error("the payload must be a JSON object, for example {{\"branch\": \"feature-a\"}}")]
    NotAnObject,
    /// A field that no action, or not this one, uses.
    #[error("{kind} has no field {field:?}; its fields are {list}", list = field_list(*.kind))]
    UnknownField {
        /// The action.
        kind: ActionKind,
        /// The field.
        field: String,
    },
    /// A field that the action needs.
    #[error("{kind} needs the field {field:?}")]
    MissingField {
        /// The action.
        kind: ActionKind,
        /// The field.
        field: &'static str,
    },
    /// A field whose value will not do.
    #[error("field {field:?}: {problem}")]
    BadField {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

fn action_list() -> String {
    ActionKind::ALL.map(ActionKind::as_str).join(", ")
}

fn field_list(kind: ActionKind) -> String {
    let own = kind.fields().iter().map(|field| field.name);
    own.chain(COMMON_FIELDS).collect::<Vec<_>>().join(", ")
}

/// The start of what somebody sent, short enough for a sentence.
fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

/// The JSON Schema of the payload of `kind`, made from the same table that decoding uses.
pub fn payload_schema(kind: ActionKind) -> Value {
    let mut generator = schemars::generate::SchemaSettings::draft2020_12()
        .with(|settings| settings.inline_subschemas = true)
        .into_generator();
    let mut schema_of = |name: &str| match name {
        "job_id" | "retry_of" => json!(generator.subschema_for::<JobId>()),
        "task_id" => json!(generator.subschema_for::<TaskId>()),
        "branch" | "parent" => json!(generator.subschema_for::<BranchName>()),
        "base" => json!(generator.subschema_for::<ObjectId>()),
        "requested_by" => json!({"type": "string", "maxLength": MAX_REQUESTED_BY}),
        _ => json!({"type": "boolean", "default": false}),
    };
    let mut properties = Map::new();
    for name in kind
        .fields()
        .iter()
        .map(|field| field.name)
        .chain(COMMON_FIELDS)
    {
        properties.insert(name.to_owned(), schema_of(name));
    }
    let required: Vec<_> = kind
        .fields()
        .iter()
        .filter(|f| f.required)
        .map(|f| f.name)
        .collect();
    for (name, schema) in &mut properties {
        if !required.contains(&name.as_str()) {
            *schema = json!({"anyOf": [schema.take(), {"type": "null"}]});
        }
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": kind.as_str(),
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(kind: ActionKind, payload: &str) -> Result<ActionMessage, String> {
        ActionMessage::decode(kind, payload.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn an_empty_payload_is_an_empty_object() {
        let message = decode(ActionKind::RestackRepo, "").unwrap();
        assert_eq!(message, Action::RestackRepo.into());
        assert_eq!(decode(ActionKind::RestackRepo, "{}").unwrap(), message);
    }

    #[test]
    fn null_is_absent() {
        let message = decode(ActionKind::SyncRepo, r#"{"restack": null, "job_id": null}"#).unwrap();
        assert_eq!(message, Action::SyncRepo { restack: false }.into());
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let branch: BranchName = "fix/a.b".parse().unwrap();
        let base = Some(ObjectId::from_bytes([9; 20]));
        let parent: BranchName = "main".parse().unwrap();
        let task_id = Some(TaskId::generate());
        for action in [
            Action::SyncRepo { restack: true },
            Action::RestackRepo,
            Action::RestackSubtree {
                branch: branch.clone(),
            },
            Action::RebaseBranch {
                branch: branch.clone(),
            },
            Action::ReparentBranch {
                branch: branch.clone(),
                parent: parent.clone(),
                base,
            },
            Action::RegisterExistingBranch {
                branch: branch.clone(),
                parent: Some(parent),
                base,
                task_id,
            },
            Action::UnregisterBranch { branch },
        ] {
            let message = ActionMessage {
                job_id: Some(JobId::generate()),
                dry_run: true,
                retry_of: Some(JobId::generate()),
                requested_by: Some("alice".to_owned()),
                ..action.into()
            };
            let decoded = ActionMessage::decode(message.action.kind(), &message.encode());
            assert_eq!(decoded.unwrap(), message);
        }
    }

    #[test]
    fn a_wrong_payload_is_refused_with_what_is_wrong() {
        use ActionKind::*;
        for (kind, payload, part) in [
            (RestackSubtree, "{", "not JSON"),
            (RestackSubtree, "[]", "must be a JSON object"),
            (RestackSubtree, "{}", "needs the field \"branch\""),
            (RestackSubtree, "", "needs the field \"branch\""),
            (
                RestackSubtree,
                r#"{"branch": null}"#,
                "needs the field \"branch\"",
            ),
            (
                RestackSubtree,
                r#"{"brnach": "a"}"#,
                "has no field \"brnach\"",
            ),
            (RestackRepo, r#"{"branch": "a"}"#, "has no field \"branch\""),
            (
                RestackRepo,
                r#"{"restack": false}"#,
                "has no field \"restack\"",
            ),
            (
                ReparentBranch,
                r#"{"branch": "a"}"#,
                "needs the field \"parent\"",
            ),
            (RebaseBranch, r#"{"branch": "a..b"}"#, "which git refuses"),
            (RebaseBranch, r#"{"branch": 1}"#, "field \"branch\""),
            (SyncRepo, r#"{"dry_run": "yes"}"#, "field \"dry_run\""),
            (SyncRepo, r#"{"job_id": "1"}"#, "canonical form"),
            (
                RegisterExistingBranch,
                r#"{"branch": "a", "base": "abc"}"#,
                "full object id",
            ),
        ] {
            let error = decode(kind, payload).unwrap_err();
            assert!(error.contains(part), "{payload}: {error}");
        }
        let long = format!(r#"{{"requested_by": "{}"}}"#, "x".repeat(201));
        assert!(
            decode(SyncRepo, &long)
                .unwrap_err()
                .contains("201 characters")
        );
    }

    #[test]
    fn an_unknown_action_is_answered_with_those_there_are() {
        let error = "restack".parse::<ActionKind>().unwrap_err().to_string();
        assert!(error.starts_with("there is no action \"restack\"; the actions are sync_repo, "));
    }

    proptest! {
        #[test]
        fn no_payload_makes_decoding_panic(payload: Vec<u8>) {
            for kind in ActionKind::ALL {
                let _ = ActionMessage::decode(kind, &payload);
            }
        }
    }
}
