//! The Backstack wire contract as types: what any program on the same NATS account may rely on.
//!
//! Nothing here does input or output. A name or an id is validated once, where it enters, and is
//! a newtype from then on; a [`Job`] changes only through [`Job::apply`]; every subject, stream,
//! consumer and bucket is named in [`topology`] and nowhere else.
//!
//! | question | module |
//! |---|---|
//! | what may an id, a branch name or a key look like? | [`id`] |
//! | what can be asked for, and how is it encoded? | [`action`] |
//! | what states does a job have, and what moves it? | [`job`] |
//! | what came out of it? | [`outcome`] |
//! | what do the other rows hold? | [`repo`], [`branch`], [`task`] |
//! | what are the things on NATS called, and how are they set up? | [`topology`] |
//! | what do the rows and messages look like to other languages? | [`json`] |
//! | what is a URL that git may be given? | [`remote`] |
//! | which trace does a message belong to? | [`trace`] |

pub mod action;
pub mod branch;
pub mod id;
pub mod job;
pub mod json;
pub mod outcome;
pub mod remote;
pub mod repo;
pub mod task;
pub mod time;
pub mod topology;
pub mod trace;

pub use action::{Action, ActionKind, ActionMessage, InvalidAction};
pub use branch::{Branch, DiffStat};
pub use id::{BranchName, InvalidId, JobId, Namespace, ObjectId, RepoId, TaskId, WorkerId};
pub use job::{Job, JobEvent, JobSpec, JobStatus, Progress, Step};
pub use outcome::{ErrorCode, JobError, JobResult};
pub use remote::RemoteUrl;
pub use repo::{Repository, Sync, SyncStatus};
pub use task::{Task, TaskStatus};
pub use time::Timestamp;
pub use topology::Topology;
pub use trace::TraceParent;
