//! What the system tests stand on: real nats-servers, real bare remotes, real processes.
//!
//! A test tells a story: it builds a stack, acts, and compares a drawn commit graph. Where something
//! does not happen in time or cannot be done, the harness panics and says what it last saw, so that a
//! test is only the story. Everything that was started ends with the value that stands for it, also
//! when a test panics; what the processes said is printed then.
//!
//! ```no_run
//! # use backstack_tests::{Worker, World};
//! # async fn story() {
//! let world = World::start().await;
//! let remote = world.repo("web").await;
//! remote.stack("main <- a: a1 a2 <- b: b1");
//! let _worker = Worker::start(&world, &[]).await;
//! world.register("web", &["a", "b"]).await;
//! remote.commit("main", &[("m1", "m1\n")], "m1");
//! world.run("web", "restack_repo", "{}").await;
//! assert_eq!(remote.draw(), "main  m0 m1\na     main: a1 a2\nb     a: b1\n");
//! # }
//! ```
//!
//! | question | module |
//! |---|---|
//! | what is on the remote, and what do people do there? | [`remote`] |
//! | what runs, and where? | [`world`] |
//! | how are actions published and rows awaited? | [`rows`] |
//! | what did an action do to one stack? | [`scene`] |
//! | how are jobs and rows written for comparing? | [`shown`] |
//! | how are the real programs run? | [`program`] |
//! | how does a test act in the middle of a job? | [`midway`], [`gate`], [`wire`], [`git_stops`] |
//! | what happens at every step of every action? | [`matrix`] |
//! | did all that happened keep what is promised? | [`history`], [`ref_log`] |
//! | what does a worker say over HTTP? | [`listening`] |
//! | how is git, or anything else, served over HTTP? | [`http`] |
//! | how is sent what no client library sends? | [`raw_nats`] |
//! | how is a program's clock wrong? | [`clock_shim`] |
//! | how does a disk get full? | [`small_disk`] |
//! | how are remotes served over sockets, and what goes wrong on the way? | [`git_host`], [`link`] |

pub mod clock_shim;
pub mod gate;
pub mod git_host;
pub mod git_stops;
pub mod history;
pub mod http;
pub mod link;
pub mod listening;
pub mod matrix;
pub mod midway;
mod named_pipe;
pub mod program;
pub mod raw_nats;
pub mod ref_log;
pub mod remote;
pub mod rows;
pub mod scene;
pub mod shown;
pub mod small_disk;
pub mod wire;
pub mod world;

pub use gate::Gate;
pub use git_host::GitHost;
pub use git_stops::GitStops;
pub use history::{History, Recorder};
pub use http::HttpServer;
pub use link::{Fault, Link};
pub use midway::Midway;
pub use program::{Output, Program, Worker};
pub use ref_log::RefLog;
pub use remote::Remote;
pub use scene::Scene;
pub use small_disk::SmallDisk;
pub use wire::Wire;
pub use world::{Options, World};

/// How many times as much a test does that can do more: 1, unless `BACKSTACK_TEST_LONG` says otherwise.
///
/// # Panics
/// Where that is no whole number above 0.
pub fn long_form() -> usize {
    let Ok(text) = std::env::var("BACKSTACK_TEST_LONG") else {
        return 1;
    };
    match text.parse() {
        Ok(0) | Err(_) => panic!("BACKSTACK_TEST_LONG is {text:?}; it must be a number above 0"),
        Ok(times) => times,
    }
}
