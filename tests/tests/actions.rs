//! Each action, from publishing to the commit graph on the remote.

use backstack_schemas::JobStatus;
use backstack_tests::{Worker, World};

#[tokio::test]
async fn a_stack_follows_its_trunk() {
    let world = World::start().await;
    let remote = world.repo("web").await;
    remote.stack("main <- a: a1 a2 <- b: b1");
    let _worker = Worker::start(&world, &[]).await;
    world.register("web", &["a", "b"]).await;
    remote.commit("main", &[("m1", "m1\n")], "m1");
    let job = world.run("web", "restack_repo", "{}").await;
    assert_eq!(job.status, JobStatus::Completed, "{job:#?}");
    assert_eq!(
        remote.draw(),
        "main  m0 m1\na     main: a1 a2\nb     a: b1\n"
    );
}
