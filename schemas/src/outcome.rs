//! What came out of a job: its result, its error, and every word either may use.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::{BranchName, ObjectId};

/// What a job did, on `completed`; on `error`, what it had done all the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct JobResult {
    /// Branches that were pushed or, in a dry run, would be.
    pub moved: Vec<Moved>,
    /// Branches that already stood on their parent's head.
    pub up_to_date: Vec<BranchName>,
    /// Branches whose own commits could not be replayed, each with the first commit that failed.
    pub conflicts: Vec<Conflict>,
    /// Branches left as they are, and why.
    pub skipped: Vec<Skipped>,
    /// Branches found merged; they are no longer tracked.
    pub merged: Vec<Merged>,
    /// Branches that got another parent.
    pub reparented: Vec<Reparented>,
    /// Commits that were not carried over.
    pub dropped_commits: Vec<DroppedCommit>,
    /// What `register_existing_branch` recorded.
    pub registered: Option<Registered>,
    /// Where trunk was and is, when the fetch moved it.
    pub trunk: Option<TrunkMoved>,
    /// Whether lists were cut to keep the row within its size.
    pub truncated: bool,
}

impl JobResult {
    /// Shortens the longest lists, from their ends, until the result's JSON takes at most `limit`
    /// bytes, and says so in `truncated`.
    pub fn truncate_to(&mut self, limit: usize) {
        while serde_json::to_vec(self).map_or(0, |json| json.len()) > limit {
            self.truncated = true;
            if !self.halve_longest_list() {
                return;
            }
        }
    }

    /// Drops the second half of the list that takes most room; `false` where all are empty.
    fn halve_longest_list(&mut self) -> bool {
        fn bytes<T: Serialize>(list: &[T]) -> usize {
            if list.is_empty() {
                0
            } else {
                serde_json::to_vec(list).map_or(0, |json| json.len())
            }
        }
        let sizes = [
            bytes(&self.moved),
            bytes(&self.up_to_date),
            bytes(&self.conflicts),
            bytes(&self.skipped),
            bytes(&self.merged),
            bytes(&self.reparented),
            bytes(&self.dropped_commits),
        ];
        let Some(longest) = (0..sizes.len())
            .max_by_key(|i| sizes[*i])
            .filter(|i| sizes[*i] > 0)
        else {
            return false;
        };
        // A conflict's own list of paths may be what is too long.
        if longest == 2 && self.conflicts.len() == 1 && self.conflicts[0].paths.len() > 1 {
            let paths = &mut self.conflicts[0].paths;
            paths.truncate(paths.len() / 2);
            return true;
        }
        match longest {
            0 => self.moved.truncate(self.moved.len() / 2),
            1 => self.up_to_date.truncate(self.up_to_date.len() / 2),
            2 => self.conflicts.truncate(self.conflicts.len() / 2),
            3 => self.skipped.truncate(self.skipped.len() / 2),
            4 => self.merged.truncate(self.merged.len() / 2),
            5 => self.reparented.truncate(self.reparented.len() / 2),
            _ => self
                .dropped_commits
                .truncate(self.dropped_commits.len() / 2),
        }
        true
    }
}

/// A branch's ref went from one commit to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Moved {
    /// The branch.
    pub branch: BranchName,
    /// Its head before.
    pub from: ObjectId,
    /// Its head now.
    pub to: ObjectId,
}

/// A commit that could not be replayed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Conflict {
    /// The branch whose own commit it is.
    pub branch: BranchName,
    /// The commit that failed.
    pub commit: ObjectId,
    /// The head it was to be replayed onto.
    pub onto: ObjectId,
    /// Where it clashed.
    pub paths: Vec<ConflictPath>,
}

/// One path of a conflict.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct ConflictPath {
    /// The path from the repository's root; bytes that are not UTF-8 are replaced.
    pub path: String,
    /// How the two sides clash there.
    pub kind: ConflictKind,
}

/// How two sides of a replay clash.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum ConflictKind {
    /// Both changed the same lines.
    Content,
    /// One changed what the other deleted.
    ModifyDelete,
    /// Both added the path, with different content.
    AddAdd,
    /// One or both renamed it, in ways that do not go together.
    Rename,
    /// A file where the other has a directory, or a directory that was renamed.
    Directory,
    /// A submodule's commit.
    Submodule,
    /// Both changed a binary file.
    Binary,
}

/// A branch left as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Skipped {
    /// The branch.
    pub branch: BranchName,
    /// Why.
    pub reason: SkipReason,
}

/// Why a branch was left as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SkipReason {
    /// Its parent, or one below, conflicts.
    ParentConflict,
    /// Its parent is gone from the remote.
    ParentMissing,
    /// It is gone from the remote itself.
    MissingOnRemote,
    /// The remote refused it, or a branch below it.
    Rejected,
    /// Where its own commits start cannot be told; registering it again with `base` says so.
    AmbiguousBase,
    /// A merge commit of its own holds changes that flattening would lose.
    MergeHasChanges,
}

/// A branch whose work is on trunk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Merged {
    /// The branch.
    pub branch: BranchName,
    /// The branch that has its work now.
    pub into: BranchName,
    /// How that was found.
    pub how: MergedHow,
}

/// How a branch was found to be merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MergedHow {
    /// Its head is an ancestor of trunk.
    Ancestor,
    /// Each of its own commits is a trunk commit's exact change.
    PatchId,
    /// Its whole diff is one trunk commit's exact change.
    Squash,
    /// Replayed, none of its commits changed anything.
    BecameEmpty,
}

/// A branch that got another parent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reparented {
    /// The branch.
    pub branch: BranchName,
    /// Its parent before.
    pub from: BranchName,
    /// Its parent now.
    pub to: BranchName,
}

/// A commit that was not carried over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DroppedCommit {
    /// The branch it was on.
    pub branch: BranchName,
    /// The commit.
    pub commit: ObjectId,
    /// Why.
    pub reason: DropReason,
}

/// Why a commit was not carried over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DropReason {
    /// Its change is in the new parent already.
    BecameEmpty,
    /// A merge that is git's own automatic one; its sides were replayed one after the other.
    MergeFlattened,
}

/// What `register_existing_branch` recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Registered {
    /// The branch.
    pub branch: BranchName,
    /// Its parent, as given or as found.
    pub parent: BranchName,
    /// Where its own commits start.
    pub base: ObjectId,
    /// Its head.
    pub head: ObjectId,
}

/// Where trunk was and is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TrunkMoved {
    /// Trunk.
    pub branch: BranchName,
    /// Its head in the rows before; null at the first sync.
    pub from: Option<ObjectId>,
    /// Its head now.
    pub to: ObjectId,
}

/// Why a job ended in `error`, or why its last attempt did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JobError {
    /// The kind, for programs.
    pub code: ErrorCode,
    /// Whether another attempt may end otherwise; always [`ErrorCode::is_retryable`] of the code.
    pub retryable: bool,
    /// What was wrong and what to do, for a person; never holds a credential.
    pub detail: String,
}

impl JobError {
    /// An error of this kind.
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self {
            code,
            retryable: code.is_retryable(),
            detail: detail.into(),
        }
    }
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)
    }
}

/// Declares the codes once, with their spelling and whether they are retried.
macro_rules! error_codes {
    ($($(#[doc = $doc:expr])+ $name:ident = $text:literal, retried: $retried:literal;)+) => {
        /// The kind of a job's error (contract, section 3).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum ErrorCode {
            $($(#[doc = $doc])+ $name,)+
        }

        impl ErrorCode {
            /// Every code there is.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The code as written on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// Whether the job is tried again after it.
            pub const fn is_retryable(self) -> bool {
                match self { $(Self::$name => $retried,)+ }
            }
        }
    };
}

error_codes! {
    /// Unknown action, bad JSON, a field missing, unknown or not the action's, a bad branch name.
    InvalidAction = "invalid_action", retried: false;
    /// No such repository row.
    UnknownRepo = "unknown_repo", retried: false;
    /// The branch is not on the remote after the pre-sync.
    BranchNotFound = "branch_not_found", retried: false;
    /// The parent is not on the remote after the pre-sync.
    ParentNotFound = "parent_not_found", retried: false;
    /// Trunk is not on the remote after the pre-sync.
    TrunkNotFound = "trunk_not_found", retried: false;
    /// The branch belongs to another task.
    BranchHasTask = "branch_has_task", retried: false;
    /// Where the branch's own commits start cannot be told.
    AmbiguousBase = "ambiguous_base", retried: false;
    /// An own merge commit holds changes that flattening would lose.
    MergeHasChanges = "merge_has_changes", retried: false;
    /// The operator has not allowed this protocol or host, or the URL is unsafe.
    RemoteNotAllowed = "remote_not_allowed", retried: false;
    /// A stack action on a branch without a parent.
    BranchNotTracked = "branch_not_tracked", retried: false;
    /// The new parent is the branch itself or one of its descendants.
    Cycle = "cycle", retried: false;
    /// An action that would move trunk.
    TrunkIsImmutable = "trunk_is_immutable", retried: false;
    /// At least one branch could not be replayed; the clean ones were pushed.
    Conflict = "conflict", retried: false;
    /// The two branches have no merge base.
    UnrelatedHistory = "unrelated_history", retried: false;
    /// The remote did not take the credentials.
    RemoteAuthFailed = "remote_auth_failed", retried: false;
    /// A hook, a protected branch, or a server without atomic pushes.
    RemoteRejected = "remote_rejected", retried: false;
    /// The network, or no repository at the URL.
    RemoteUnreachable = "remote_unreachable", retried: true;
    /// The action took longer than it may.
    Timeout = "timeout", retried: true;
    /// Someone pushed between fetch and push, three times in one attempt.
    BranchMoved = "branch_moved", retried: true;
    /// Anything unforeseen.
    Internal = "internal", retried: true;
    /// The last attempt failed too; its error stands in `detail`.
    AttemptsExhausted = "attempts_exhausted", retried: false;
    /// The message was older than the rows' lifetime and had no row.
    Expired = "expired", retried: false;
    /// The message is gone from the stream though the job had not ended.
    Lost = "lost", retried: false;
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_spelled_the_same_for_people_and_on_the_wire() {
        for code in ErrorCode::ALL {
            let wire = serde_json::to_value(code).unwrap();
            assert_eq!(wire, code.as_str());
        }
    }

    #[test]
    fn only_what_may_pass_is_retried() {
        let retried: Vec<_> = ErrorCode::ALL
            .iter()
            .filter(|c| c.is_retryable())
            .map(|c| c.as_str())
            .collect();
        assert_eq!(
            retried,
            ["remote_unreachable", "timeout", "branch_moved", "internal"]
        );
    }

    #[test]
    fn a_result_that_is_too_large_is_cut_and_says_so() {
        let branch = |i: usize| format!("feature/{i:04}").parse::<BranchName>().unwrap();
        let mut result = JobResult {
            up_to_date: (0..5_000).map(branch).collect(),
            skipped: vec![Skipped {
                branch: branch(0),
                reason: SkipReason::Rejected,
            }],
            ..JobResult::default()
        };
        result.truncate_to(10_000);
        assert!(result.truncated);
        assert!(serde_json::to_vec(&result).unwrap().len() <= 10_000);
        assert!(!result.up_to_date.is_empty(), "it keeps what fits");
        assert_eq!(result.skipped.len(), 1, "short lists stay whole");
    }

    #[test]
    fn a_conflict_with_endless_paths_is_cut_too() {
        let id = ObjectId::from_bytes([7; 20]);
        let path = |i| ConflictPath {
            path: format!("dir/file-{i}"),
            kind: ConflictKind::Content,
        };
        let mut result = JobResult {
            conflicts: vec![Conflict {
                branch: "a".parse().unwrap(),
                commit: id,
                onto: id,
                paths: (0..10_000).map(path).collect(),
            }],
            ..JobResult::default()
        };
        result.truncate_to(4_096);
        assert!(result.truncated && !result.conflicts[0].paths.is_empty());
    }
}
