//! A job in the middle of its work: fetched, planned and replayed, not yet pushed.

use backstack_schemas::JobId;

use crate::gate::{Arrived, Gate};
use crate::remote::Remote;
use crate::world::World;

/// A restack of `a` that stands before its push, at a gate.
pub struct Midway {
    /// The repository `web`, whose trunk has moved on under `a`.
    pub remote: Remote,
    /// Where the push stands.
    pub gate: Gate,
    /// The restack.
    pub job: JobId,
    /// Keeps the push where it is.
    pub arrived: Arrived,
}

impl Midway {
    /// Tracks `a`, moves trunk on, and restacks up to the push. A worker has to run.
    pub async fn reach(world: &World) -> Self {
        let remote = world.repo("web").await;
        remote.stack("main <- a: a1");
        world.register("web", &["a"]).await;
        remote.commit("main", &[("m1", "m1\n")], "m1");
        let gate = Gate::close(&remote);
        let job = world.publish("web", "restack_repo", "").await;
        let arrived = gate.arrived().await;
        Self {
            remote,
            gate,
            job,
            arrived,
        }
    }

    /// Lets the push through, and all that come after it.
    pub fn release(self) -> (Remote, Gate, JobId) {
        self.gate.release();
        drop(self.arrived);
        (self.remote, self.gate, self.job)
    }
}
