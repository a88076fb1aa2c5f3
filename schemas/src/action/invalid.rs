//! Why a message is no action.

use super::ActionKind;
use super::fields::COMMON_FIELDS;

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
pub(super) fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}
