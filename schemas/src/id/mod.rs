//! Ids and names, each validated once where it enters.
//!
//! Every type here parses with [`FromStr`], refuses bad input with an [`InvalidId`] that says what
//! is wrong, and reads and writes JSON as the plain string.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a string is not the id or name it was taken for; one sentence a person can act on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {given:?} {problem}")]
pub struct InvalidId {
    what: &'static str,
    given: String,
    problem: String,
}

impl InvalidId {
    pub(crate) fn new(what: &'static str, given: &str, problem: impl Into<String>) -> Self {
        // A hostile name may be of any length; the sentence stays readable.
        let given = given.chars().take(80).collect();
        Self {
            what,
            given,
            problem: problem.into(),
        }
    }
}

/// Serde, `Display`, `AsRef<str>` and JSON Schema for a type that is a validated string.
macro_rules! string_id {
    ($name:ident, $pattern:expr, $about:expr) => {
        impl $name {
            /// The name as written on the wire.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        wire_string!($name, $pattern, $about);
    };
}

/// Serde and JSON Schema through `Display` and `FromStr`.
macro_rules! wire_string {
    ($name:ident, $pattern:expr, $about:expr) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": "string",
                    "pattern": $pattern,
                    "description": $about
                })
            }
        }
    };
}

mod branch;
mod object;
mod uuid;

pub use branch::{BranchName, MAX_BRANCH_BYTES};
pub use object::ObjectId;
pub use uuid::{JobId, TaskId};

/// Prefix of every subject and bucket of one Backstack installation; `backstack` unless configured.
///
/// `[a-z][a-z0-9_-]{0,31}`: one NATS token that is also a bucket name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Namespace(String);

impl Namespace {
    /// The namespace in upper case, as stream names carry it.
    pub fn upper(&self) -> String {
        self.0.to_ascii_uppercase()
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self("backstack".to_owned())
    }
}

impl FromStr for Namespace {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let tail = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
        match text.as_bytes() {
            [first, rest @ ..]
                if first.is_ascii_lowercase()
                    && rest.len() < 32
                    && rest.iter().all(|b| tail(*b)) =>
            {
                Ok(Self(text.to_owned()))
            }
            _ => Err(InvalidId::new(
                "namespace",
                text,
                "must be 1 to 32 of a-z, 0-9, _ and -, starting with a letter",
            )),
        }
    }
}

string_id!(
    Namespace,
    "^[a-z][a-z0-9_-]{0,31}$",
    "Prefix of every subject and bucket."
);

/// A repository's short name, one token of a subject: `[a-z0-9][a-z0-9_-]{0,62}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepoId(String);

impl FromStr for RepoId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let head = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let tail = |b: u8| head(b) || b == b'_' || b == b'-';
        match text.as_bytes() {
            [first, rest @ ..]
                if head(*first) && rest.len() < 63 && rest.iter().all(|b| tail(*b)) =>
            {
                Ok(Self(text.to_owned()))
            }
            _ => Err(InvalidId::new(
                "repository name",
                text,
                "must be 1 to 63 of a-z, 0-9, _ and -, starting with a letter or digit",
            )),
        }
    }
}

string_id!(
    RepoId,
    "^[a-z0-9][a-z0-9_-]{0,62}$",
    "A repository's short name."
);

/// One worker process: `<host>/<pid>/<random>`. The last part keeps a restarted process with the
/// same process id apart from its predecessor.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct WorkerId(String);

impl WorkerId {
    /// A new id for the process `pid` on `host`, with a random part of its own.
    pub fn generate(host: &str, pid: u32) -> Self {
        let random = ::uuid::Uuid::new_v4().simple().to_string();
        Self(format!("{host}/{pid}/{}", &random[..8]))
    }

    /// The id as written in rows.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests;
