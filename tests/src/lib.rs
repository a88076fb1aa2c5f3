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
//! | how does a test act in the middle of a job? | [`gate`], [`wire`], [`git_stops`] |
//! | what happens at every step of every action? | [`matrix`] |
//! | did all that happened keep what is promised? | [`history`], [`ref_log`] |

pub mod gate;
pub mod git_stops;
pub mod history;
pub mod matrix;
pub mod program;
pub mod ref_log;
pub mod remote;
pub mod rows;
pub mod scene;
pub mod shown;
pub mod wire;
pub mod world;

pub use gate::Gate;
pub use git_stops::GitStops;
pub use history::{History, Recorder};
pub use program::{Output, Program, Worker};
pub use ref_log::RefLog;
pub use remote::Remote;
pub use scene::Scene;
pub use wire::Wire;
pub use world::{Options, World};
