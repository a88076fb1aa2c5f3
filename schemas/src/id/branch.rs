//! Branch names, and how a key spells them.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::InvalidId;

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
