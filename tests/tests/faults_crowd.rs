//! Long queues: one repository's costs no other anything.

use backstack_schemas::{JobId, JobStatus};
use backstack_tests::history::Promise;
use backstack_tests::{History, Recorder, Worker, World};
use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt as _};

const QUEUED: usize = 2_000;
const OTHERS: usize = 50;

/// Publishes to a repository, many at a time, in order.
async fn publish_many(world: &World, repo: &str, count: usize) -> Vec<(JobId, u64)> {
    let jobs: Vec<_> = (0..count).map(|_| JobId::generate()).collect();
    let accepted = stream::iter(&jobs).map(|job| async {
        let ack = world
            .publish_as(*job, repo, "sync_repo", r#"{"dry_run": true}"#)
            .await;
        (*job, ack.sequence)
    });
    accepted.buffered(64).collect().await
}

#[tokio::test]
async fn fifty_repositories_do_not_wait_for_one_with_two_thousand_actions() {
    let world = World::start().await;
    let recorder = Recorder::start(&world).await;
    let _busy = world.repo("busy").await;
    let mut remotes = Vec::new();
    for number in 0..OTHERS {
        remotes.push(world.repo(&format!("other-{number}")).await);
    }
    let mut history = History::default();
    let queued = publish_many(&world, "busy", QUEUED).await;
    for (job, sequence) in &queued {
        history.accept("busy", *job, *sequence);
    }
    let mut others = Vec::new();
    for number in 0..OTHERS {
        let repo = format!("other-{number}");
        let accepted = publish_many(&world, &repo, 1).await;
        let (job, sequence) = accepted[0];
        history.accept(&repo, job, sequence);
        others.push((repo, job));
    }
    let _worker = Worker::start(&world, &[]).await;
    let ended = join_all(others.iter().map(|(repo, job)| world.ended(repo, *job))).await;
    for job in &ended {
        assert_eq!(job.status, JobStatus::Completed, "{job:#?}");
    }
    history.writes = recorder.writes(&world).await;
    let busy = history.writes.iter().map(|write| &write.job);
    let busy = busy.filter(|job| job.spec.repo.as_str() == "busy" && job.status.is_terminal());
    let busy = busy.count();
    println!("{OTHERS} repositories were done when the other had done {busy} of {QUEUED}");
    assert!(busy < QUEUED / 4, "they waited for {busy} others");
    // It goes on, and in order.
    let broken = history.violations().into_iter();
    let broken: Vec<_> = broken
        .filter(|violation| violation.promise != Promise::EndsOnce)
        .collect();
    assert_eq!(broken, []);
    world.ended("busy", queued[busy].0).await;
}
