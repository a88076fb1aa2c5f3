//! Where a job stands, and how far it is.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::WorkerId;
use crate::time::Timestamp;

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobStatus {
    /// Accepted; waits for its turn, for a worker, or for its next attempt.
    Queued,
    /// A worker is at it.
    Running,
    /// Done.
    Completed,
    /// Ended without success; `error` says why.
    Error,
    /// Ended because somebody asked for that.
    Cancelled,
}

impl JobStatus {
    /// Every status there is.
    pub const ALL: [Self; 5] = [
        Self::Queued,
        Self::Running,
        Self::Completed,
        Self::Error,
        Self::Cancelled,
    ];

    /// The status as written on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Error => "error",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether the row never changes again.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Error | Self::Cancelled)
    }
}

impl fmt::Display for JobStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How far a running job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Progress {
    /// The step it is at.
    pub step: Step,
    /// How much of the step is done: objects for `fetch`, branches or commits elsewhere.
    pub done: u64,
    /// Of how much; 0 where that is not known yet.
    pub total: u64,
}

/// The steps of an action, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The pre-sync: fetching from the remote.
    Fetch,
    /// Finding merged branches and what is to be replayed onto what.
    Plan,
    /// Replaying commits.
    Restack,
    /// Pushing what moved.
    Push,
    /// The post-sync: writing the branch rows.
    Rows,
}

impl Step {
    /// The step as written on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fetch => "fetch",
            Self::Plan => "plan",
            Self::Restack => "restack",
            Self::Push => "push",
            Self::Rows => "rows",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One change of status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Transition {
    /// When.
    pub at: Timestamp,
    /// To what.
    pub status: JobStatus,
    /// By which worker, where one had a hand in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerId>,
}
