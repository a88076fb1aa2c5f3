//! Everything that one machine needs to run Backstack on its own.
//!
//! Guarantees that nothing started here outlives its owner. Never touches a process that it did not
//! start.

pub mod nats_server;
pub mod process;
