//! The Backstack service: durable pull consumers that run repository actions in the background.
//!
//! [`run()`] connects, makes or checks every stream and bucket, and works until it is told to drain.
//! A message goes through these modules:
//!
//! ```text
//!  pull ──► line ──► ticket ──► runner ──► workflow ──► engine (git)
//!            │ its turn?          │ row by compare-and-set   │
//!            ▼                    ▼                          ▼
//!          keeper              status, run               projection (branch rows)
//! ```
//!
//! | question | module |
//! |---|---|
//! | how do messages come in? | [`pull`] |
//! | who waits for whom? | [`mod@line`], [`ticket`], [`row_hints`] |
//! | until when is a message ours, and how is it settled? | [`delivery`], [`keeper`], [`boot_time`] |
//! | which job is a message? | [`message`], [`stream`] |
//! | who may run it, and what does its row say? | [`status`], [`mod@run`], [`runner`] |
//! | what becomes of an attempt? | [`decide`] |
//! | what do the actions do? | [`workflow`], [`projection`] |
//! | where does a message go that is no action, or that cannot even be read? | [`dead_letter`], [`unreadable`] |
//! | what of jobs whose message is gone, or tasks that wait for one? | [`lost`], [`tasks`] |
//! | what of messages that the stream forgot to remove? | [`leftovers`] |
//! | what if somebody deletes a stream, a bucket, a consumer? | [`guard`] |
//! | does it work, and how much? | [`readiness`], [`vitals`], [`metrics`], over HTTP by [`listen`] |
//! | what is left of a repository that was removed? | [`removed`] |
//! | how do mirrors stay within their budget? | [`housekeeping`] |
//! | how is it all run on one machine? | [`dev`] |

pub mod boot_time;
pub mod config;
pub mod dead_letter;
pub mod decide;
pub mod delivery;
pub mod dev;
pub mod guard;
pub mod housekeeping;
pub mod keeper;
pub mod leftovers;
pub mod line;
pub mod listen;
pub mod lost;
pub mod message;
pub mod metrics;
pub mod permits;
pub mod projection;
pub mod pull;
pub mod readiness;
pub mod removed;
pub mod row_hints;
pub mod run;
pub mod runner;
pub mod service;
pub mod status;
pub mod stream;
pub mod tasks;
pub mod ticket;
pub mod unreadable;
pub mod vitals;
pub mod workflow;

pub use config::Config;
pub use service::{ServiceError, run};
