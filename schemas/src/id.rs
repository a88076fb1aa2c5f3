//! Ids and names, each validated once where it enters.
//!
//! Every type here parses with [`FromStr`], refuses bad input with an [`InvalidId`] that says what
//! is wrong, and reads and writes JSON as the plain string.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

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

/// Longest branch name taken, in bytes. Escaped in a key it may be three times as long, and a
/// subject has to fit into NATS' control line of 4,096 bytes.
pub const MAX_BRANCH_BYTES: usize = 1_000;

/// A branch without `refs/heads/`, one that git itself would accept (`git check-ref-format`), and
/// that no program can take for an option.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BranchName(String);

impl BranchName {
    /// The full name of the ref: `refs/heads/<branch>`.
    pub fn full_ref(&self) -> String {
        format!("refs/heads/{}", self.0)
    }

    /// The branch as the last part of a key: every byte outside `[A-Za-z0-9_/-]` as `=XX`, so
    /// `fix/a.b` is `fix/a=2Eb`.
    pub fn to_key(&self) -> String {
        let mut key = String::with_capacity(self.0.len());
        for byte in self.0.bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'/' | b'-') {
                key.push(char::from(byte));
            } else {
                key.push_str(&format!("={byte:02X}"));
            }
        }
        key
    }

    /// The branch that [`to_key`](Self::to_key) wrote; only that spelling is accepted, so that a
    /// branch has exactly one key.
    pub fn from_key(key: &str) -> Result<Self, InvalidId> {
        let bad = || InvalidId::new("branch key", key, "is not an escaped branch name");
        let mut bytes = Vec::with_capacity(key.len());
        let mut rest = key.as_bytes();
        while let Some((&first, tail)) = rest.split_first() {
            rest = tail;
            if first != b'=' {
                bytes.push(first);
                continue;
            }
            let (hex, tail) = rest.split_at_checked(2).ok_or_else(bad)?;
            let hex = std::str::from_utf8(hex).map_err(|_| bad())?;
            bytes.push(u8::from_str_radix(hex, 16).map_err(|_| bad())?);
            rest = tail;
        }
        let branch: Self = String::from_utf8(bytes).map_err(|_| bad())?.parse()?;
        if branch.to_key() == key {
            Ok(branch)
        } else {
            Err(bad())
        }
    }
}

impl FromStr for BranchName {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        match refname_problem(text) {
            None => Ok(Self(text.to_owned())),
            Some(problem) => Err(InvalidId::new("branch name", text, problem)),
        }
    }
}

/// What `git check-ref-format --branch` would hold against the name (its manual lists the rules),
/// and our bound on the length.
fn refname_problem(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        return Some("is empty");
    }
    if name.len() > MAX_BRANCH_BYTES {
        return Some("is longer than 1,000 bytes");
    }
    if name.starts_with('-') {
        return Some("starts with '-', which git refuses");
    }
    if name == "HEAD" {
        return Some("is reserved by git");
    }
    if name.starts_with("refs/heads/") {
        return Some("must be given without 'refs/heads/'");
    }
    if name.starts_with('/') || name.ends_with('/') || name.contains("//") {
        return Some("has an empty part between slashes, which git refuses");
    }
    if name.contains("..") || name.contains("@{") || name.ends_with('.') || name == "@" {
        return Some("contains '..' or '@{', is '@' or ends with '.', which git refuses");
    }
    if name
        .split('/')
        .any(|part| part.starts_with('.') || part.ends_with(".lock"))
    {
        return Some("has a part that starts with '.' or ends with '.lock', which git refuses");
    }
    let forbidden = |c: char| c.is_ascii_control() || " ~^:?*[\\".contains(c);
    if name.contains(forbidden) {
        return Some(
            "contains a space, a control character or one of ~ ^ : ? * [ \\, which git refuses",
        );
    }
    None
}

string_id!(
    BranchName,
    "^[^\\s~^:?*\\[\\\\-][^\\s~^:?*\\[\\\\]*$",
    "A branch, without refs/heads/, as git accepts it."
);

/// A full SHA-1 object id: 40 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId([u8; 20]);

impl ObjectId {
    /// From the raw 20 bytes.
    pub const fn from_bytes(bytes: [u8; 20]) -> Self {
        Self(bytes)
    }

    /// The raw 20 bytes.
    pub const fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }

    /// The first eight digits, for sentences and drawings.
    pub fn short(&self) -> String {
        self.to_string()[..8].to_owned()
    }
}

impl FromStr for ObjectId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() == 64 && text.bytes().all(lower_hex) {
            return Err(InvalidId::new(
                "object id",
                text,
                "is SHA-256, which is not supported",
            ));
        }
        if text.len() != 40 || !text.bytes().all(lower_hex) {
            return Err(InvalidId::new(
                "object id",
                text,
                "must be a full object id, 40 lower-case hexadecimal digits",
            ));
        }
        let mut bytes = [0; 20];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digit = |d: u8| {
                if d.is_ascii_digit() {
                    d - b'0'
                } else {
                    d - b'a' + 10
                }
            };
            *byte = digit(pair[0]) << 4 | digit(pair[1]);
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

wire_string!(ObjectId, "^[0-9a-f]{40}$", "A full git object id.");

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

/// One worker process: `<host>/<pid>/<random>`. The last part keeps a restarted process with the
/// same process id apart from its predecessor.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct WorkerId(String);

impl WorkerId {
    /// A new id for the process `pid` on `host`, with a random part of its own.
    pub fn generate(host: &str, pid: u32) -> Self {
        let random = Uuid::new_v4().simple().to_string();
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn repository_names_are_one_lower_case_token() {
        for good in ["web", "0", "a_b-c", &"x".repeat(63)] {
            assert!(good.parse::<RepoId>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "-web",
            "_web",
            "Web",
            "a.b",
            "a b",
            "*",
            ">",
            "é",
            &"x".repeat(64),
        ] {
            assert!(bad.parse::<RepoId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn branch_names_follow_git() {
        for good in [
            "main",
            "fix/a.b",
            "ünïcode/é",
            "a@b",
            "feature-1",
            "@a",
            "x/HEAD",
        ] {
            assert!(good.parse::<BranchName>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "-x",
            "HEAD",
            "@",
            "a..b",
            "a@{b",
            "a.",
            ".a",
            "x/.a",
            "a.lock",
            "a.lock/b",
            "a b",
            "a~b",
            "a^b",
            "a:b",
            "a?b",
            "a*b",
            "a[b",
            "a\\b",
            "/a",
            "a/",
            "a//b",
            "a\tb",
            "a\u{7f}",
            "refs/heads/a",
            &"x".repeat(1001),
        ] {
            assert!(bad.parse::<BranchName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_bad_name_is_named_in_the_error() {
        let error = "a..b".parse::<BranchName>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "branch name \"a..b\" contains '..' or '@{', is '@' or ends with '.', which git refuses"
        );
    }

    #[test]
    fn branch_keys_escape_what_nats_would_read() {
        let key = |name: &str| name.parse::<BranchName>().unwrap().to_key();
        assert_eq!(key("fix/a.b"), "fix/a=2Eb");
        assert_eq!(key("é"), "=C3=A9");
        assert_eq!(key("a=b"), "a=3Db");
    }

    #[test]
    fn only_the_one_spelling_of_a_branch_key_is_read() {
        for bad in ["a=2", "a=2e", "a=zz", "=61", "a.b", "a=", "=FF"] {
            assert!(BranchName::from_key(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn uuids_are_canonical_only() {
        let canonical = "01999999-9999-7999-8999-99999999abcd";
        assert_eq!(canonical.parse::<JobId>().unwrap().to_string(), canonical);
        for bad in [
            &canonical.to_uppercase(),
            &canonical.replace('-', ""),
            "{}",
            "",
        ] {
            assert!(bad.parse::<JobId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn message_ids_are_read_bare_or_with_their_own_repository() {
        let repo: RepoId = "web".parse().unwrap();
        let id = JobId::generate();
        assert_eq!(JobId::from_message_id(&id.to_string(), &repo), Some(id));
        assert_eq!(
            JobId::from_message_id(&format!("web.{id}"), &repo),
            Some(id)
        );
        assert_eq!(JobId::from_message_id(&format!("api.{id}"), &repo), None);
        assert_eq!(JobId::from_message_id("once-a-day", &repo), None);
    }

    #[test]
    fn a_derived_id_depends_on_stream_sequence_and_time() {
        let id = JobId::derived("BACKSTACK_ACTIONS", 7, 1_000);
        assert_eq!(id, JobId::derived("BACKSTACK_ACTIONS", 7, 1_000));
        for other in [
            ("OTHER", 7, 1_000),
            ("BACKSTACK_ACTIONS", 8, 1_000),
            ("BACKSTACK_ACTIONS", 7, 1),
        ] {
            assert_ne!(id, JobId::derived(other.0, other.1, other.2));
        }
    }

    proptest! {
        #[test]
        fn branch_keys_round_trip(name in "\\PC{1,40}") {
            if let Ok(branch) = name.parse::<BranchName>() {
                let key = branch.to_key();
                let nats = |b: u8| b.is_ascii_alphanumeric() || b"_/=-".contains(&b);
                prop_assert!(key.bytes().all(nats));
                prop_assert_eq!(BranchName::from_key(&key).unwrap(), branch);
            }
        }

        #[test]
        fn any_key_either_reads_back_the_same_or_is_refused(key in ".{0,40}") {
            if let Ok(branch) = BranchName::from_key(&key) {
                prop_assert_eq!(branch.to_key(), key);
            }
        }

        #[test]
        fn object_ids_round_trip(bytes: [u8; 20]) {
            let id = ObjectId::from_bytes(bytes);
            prop_assert_eq!(id.to_string().parse::<ObjectId>().unwrap(), id);
        }
    }
}
