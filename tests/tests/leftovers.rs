//! Messages that the server's disk still has though they were acknowledged, as a kill between two writes
//! leaves them: put back from a copy of the stream's files, with the server stopped.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use backstack_schemas::{ErrorCode, JobId, JobStatus};
use backstack_tests::{Worker, World};

const QUEUE: &str = "BACKSTACK_ACTIONS";
const JOBS: &str = "KV_backstack_jobs";
const LISTEN: &str = "--listen=127.0.0.1:0";

/// A stream's messages as they were, without what its consumers know.
struct Copy {
    of: PathBuf,
    copy: PathBuf,
}

impl Copy {
    /// Of a server that is stopped.
    fn of(world: &World, stream: &str) -> Self {
        let streams = world.dir().join("nats/jetstream/$G/streams");
        let of = streams.join(stream).join("msgs");
        let copy = world.dir().join(format!("copy-of-{stream}"));
        copy_all(&of, &copy);
        Self { of, copy }
    }

    fn put_back(&self) {
        std::fs::remove_dir_all(&self.of).expect("to remove what is there");
        copy_all(&self.copy, &self.of);
    }
}

fn copy_all(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(status.expect("cp").success(), "{}", from.display());
}

/// Has `job` done by a worker, and then the streams be as they were before.
async fn forget_what_was_done(world: &World, job: JobId, streams: &[&str]) {
    world.server().stop().await;
    let copies: Vec<_> = streams
        .iter()
        .map(|stream| Copy::of(world, stream))
        .collect();
    world.server().restart().await.expect("a server");
    let worker = Worker::start(world, &[]).await;
    let ended = world.ended("web", job).await;
    assert_eq!(ended.status, JobStatus::Completed, "{ended:#?}");
    world.queue_empty().await;
    assert_eq!(worker.stop().await.code, 0);
    world.server().stop().await;
    copies.iter().for_each(Copy::put_back);
    world.server().restart().await.expect("a server");
    assert_eq!(
        world.stored(QUEUE).await,
        1,
        "the stream has the message again"
    );
}

#[tokio::test]
async fn a_message_whose_job_has_ended_is_removed_and_not_run_again() {
    let world = World::with_ack_wait(Duration::from_secs(1)).await;
    let _remote = world.repo("web").await;
    let job = world.publish("web", "sync_repo", "").await;
    forget_what_was_done(&world, job, &[QUEUE]).await;
    let before = world.job("web", job).await;
    let worker = Worker::start(&world, &[LISTEN]).await;
    world.queue_empty().await;
    assert_eq!(world.job("web", job).await, before);
    assert_eq!(
        worker.metric("backstack_leftovers_removed_total").await,
        Some(1.0)
    );
    assert_eq!(worker.metric("backstack_lost_jobs_total").await, Some(0.0));
}

/// The row was set back too: the job is queued, and nobody will ever be given its message.
#[tokio::test]
async fn a_message_that_will_never_be_delivered_does_not_hold_up_its_repository() {
    let world = World::with_ack_wait(Duration::from_secs(1)).await;
    let _remote = world.repo("web").await;
    let job = world.publish("web", "sync_repo", "").await;
    forget_what_was_done(&world, job, &[QUEUE, JOBS]).await;
    let worker = Worker::start(&world, &[LISTEN]).await;
    let next = world
        .publish("web", "sync_repo", r#"{"dry_run": true}"#)
        .await;
    let ended = world.ended("web", next).await;
    assert_eq!(ended.status, JobStatus::Completed, "{ended:#?}");
    let lost = world.ended("web", job).await;
    assert_eq!(lost.error.map(|error| error.code), Some(ErrorCode::Lost));
    world.queue_empty().await;
    assert_eq!(
        worker.metric("backstack_leftovers_removed_total").await,
        Some(1.0)
    );
    assert_eq!(worker.metric("backstack_lost_jobs_total").await, Some(1.0));
}
