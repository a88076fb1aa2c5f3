//! Stack planning and replay on bare git repositories: git, and nothing else.
//!
//! The engine knows no queue, no rows and no terminal. It is blocking code; whoever calls it from an
//! asynchronous program does so on a thread that may block, and bounds it with a [`Control`].
//!
//! One action runs through it in this order:
//!
//! ```text
//!  rows ──► Stack ──► plan() ──► Plan ──► replay() ──► Replayed ──► Mirror::push()
//!             ▲         ▲                    │
//!  Mirror::fetch()   History           objects and one pack on disk
//! ```
//!
//! | question | module |
//! |---|---|
//! | what stands on what? | [`graph`] |
//! | what is to be replayed onto what? | [`plan`] |
//! | which commits are a branch's own? | [`own`], [`history`] |
//! | what becomes of the children of a branch that leaves? | [`heal`] |
//! | what does a new branch stand on? | [`register`] |
//! | how are they replayed without a work tree? | [`replay`] |
//! | is a branch merged? | [`merged`] |
//! | what do the rows say of a branch? | [`facts`] |
//! | where do mirrors live, how do they fetch and push? | [`mirror`] |
//! | how is the git command run? | [`git`] |

pub mod control;
pub mod error;
pub mod facts;
pub mod git;
pub mod graph;
pub mod heal;
pub mod history;
pub mod merged;
pub mod mirror;
pub mod own;
pub mod plan;
pub mod register;
pub mod replay;
mod tree_diff;

pub use control::Control;
pub use error::EngineError;
