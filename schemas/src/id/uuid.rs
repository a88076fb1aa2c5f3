//! Ids that are UUIDs: of jobs and of tasks.

use std::fmt;
use std::str::FromStr;

use ::uuid::Uuid;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{InvalidId, RepoId};

/// UUID newtypes: parsed from the canonical form only, so that one job has one key.
macro_rules! uuid_id {
    ($name:ident, $what:expr) => {
        impl $name {
            /// A new id, ordered by the time of its making (UUIDv7).
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }

            /// From a UUID that is known to be one.
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The UUID itself.
            pub const fn as_uuid(&self) -> &Uuid {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                match Uuid::try_parse(text) {
                    Ok(uuid) if uuid.hyphenated().to_string() == text => Ok(Self(uuid)),
                    _ => Err(InvalidId::new(
                        $what,
                        text,
                        "must be a UUID in its canonical form, lower case with hyphens",
                    )),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0.hyphenated(), f)
            }
        }

        wire_string!(
            $name,
            "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$",
            "A UUID in its canonical form."
        );
    };
}

/// A job's id, unique within its repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(Uuid);

uuid_id!(JobId, "job id");

impl JobId {
    /// Space of the ids derived from a stored message, itself a UUIDv5 of `backstack.job` in the
    /// URL namespace.
    fn space() -> Uuid {
        Uuid::new_v5(&Uuid::NAMESPACE_URL, b"backstack.job")
    }

    /// The id of a message whose publisher gave none: a UUIDv5 of the stream's name, the message's
    /// sequence and its store time in nanoseconds since the Unix epoch. A redelivery has the same
    /// three, hence the same id.
    pub fn derived(stream: &str, sequence: u64, stored_unix_nanos: i128) -> Self {
        let name = format!("{stream}:{sequence}:{stored_unix_nanos}");
        Self(Uuid::new_v5(&Self::space(), name.as_bytes()))
    }

    /// The id in a `Nats-Msg-Id` header, bare or as `<repo>.<uuid>` of that repository; `None` where
    /// the header holds something else.
    pub fn from_message_id(header: &str, repo: &RepoId) -> Option<Self> {
        let bare = match header.split_once('.') {
            Some((prefix, rest)) if prefix == repo.as_str() => rest,
            Some(_) => return None,
            None => header,
        };
        bare.parse().ok()
    }
}

/// A task's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(Uuid);

uuid_id!(TaskId, "task id");
