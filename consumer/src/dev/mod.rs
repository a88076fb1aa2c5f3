//! Everything that one machine needs to run Backstack on its own.
//!
//! | question | module |
//! |---|---|
//! | how does one try it out on a repository? | [`local`], the command `backstackd dev` |
//! | what does it do, shown? | [`demo`], the command `backstackd demo` |
//! | which nats-server, and how is a private one run? | [`nats_server`] |
//! | how do child processes not outlive us? | [`process`] |
//!
//! Guarantees that nothing started here outlives its owner. Never touches a process that it did not
//! start.

pub mod demo;
pub mod local;
pub mod nats_server;
pub mod process;
