//! The fields of a payload: which there are, and reading them one by one.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::invalid::shown;
use super::{ActionKind, InvalidAction};

/// A field of the message, and whether its action needs it.
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) required: bool,
}

impl Field {
    pub(super) const BRANCH: Self = Self {
        name: "branch",
        required: true,
    };
    pub(super) const PARENT: Self = Self {
        name: "parent",
        required: true,
    };
    pub(super) const PARENT_IF_KNOWN: Self = Self {
        name: "parent",
        required: false,
    };
    pub(super) const BASE: Self = Self {
        name: "base",
        required: false,
    };
    pub(super) const TASK_ID: Self = Self {
        name: "task_id",
        required: false,
    };
    pub(super) const RESTACK: Self = Self {
        name: "restack",
        required: false,
    };
}

/// The fields that every action may carry.
pub(super) const COMMON_FIELDS: [&str; 4] = ["job_id", "dry_run", "retry_of", "requested_by"];

/// The fields of a payload that have not been read yet.
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    /// Parses the object and refuses fields that `kind` does not use.
    pub(super) fn parse(kind: ActionKind, payload: &[u8]) -> Result<Self, InvalidAction> {
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

    pub(super) fn take<T: DeserializeOwned>(
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
    pub(super) fn need<T: DeserializeOwned>(
        &mut self,
        field: &'static str,
    ) -> Result<T, InvalidAction> {
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
