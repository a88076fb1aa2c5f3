//! The client side of Backstack: publishes actions and reads, writes and watches their rows.
//!
//! Nothing here runs git. The service is built on the same modules, so that there is one
//! implementation of every write with an expected revision and of every watch.
//!
//! | question | module |
//! |---|---|
//! | how does one get onto NATS, and what if it is not there? | [`mod@connect`] |
//! | are the streams, buckets and consumers there, and right? | [`topology`] |
//! | how are rows read, written, listed and watched? | [`rows`] |
//! | can this machine, as this user, use Backstack? | [`doctor`] |
//! | what does the command `backstack` do? | [`cli`] |
//! | what time is it for a row? | [`clock`] |
//! | how are actions published, jobs followed, cancelled and retried? | [`client`] |
//! | how is the JetStream API asked, and what does it refuse? | [`api`], `denials` |

pub mod api;
pub mod cli;
pub mod client;
pub mod clock;
pub mod connect;
mod denials;
pub mod doctor;
pub mod rows;
pub mod topology;

pub use backstack_schemas as schemas;
pub use client::{Client, ClientError, Published};
pub use connect::{ConnectError, ConnectOptions, connect};
pub use rows::Rows;
