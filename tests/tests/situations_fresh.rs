//! Branches without a commit of their own.

use backstack_tests::{Worker, World};

/// A fresh branch that somebody fast-forwards along with trunk never looks merged, not even when it is
/// synced again after that.
#[tokio::test]
async fn a_fresh_branch_that_follows_trunk_is_not_merged() {
    let world = World::start().await;
    let remote = world.repo("web").await;
    remote.stack("main <- fresh:");
    let _worker = Worker::start(&world, &[]).await;
    world.register("web", &["fresh"]).await;
    for commit in ["m1", "m2", "m3"] {
        remote.commit("main", &[(commit, commit)], commit);
        remote.force("fresh", "main");
        let job = world.run("web", "sync_repo", "{}").await;
        assert_eq!(job.result.unwrap().merged, [], "{commit}");
        let row = world.branch("web", "fresh").await.unwrap();
        assert!(row.tracked);
        assert_eq!(row.base, Some(remote.head("fresh")), "{commit}");
    }
}
