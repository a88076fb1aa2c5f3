//! A nats-server that is killed with kill -9, again and again: no accepted action is lost, and pulls and
//! watches go on by themselves.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use backstack_producer::rows::RowEvent;
use backstack_schemas::{JobId, JobStatus};
use backstack_tests::matrix::{Lane, SCRIPTS};
use backstack_tests::rows::DEADLINE;
use backstack_tests::{History, Recorder, RefLog, Remote, Worker, World};
use futures_util::future::join_all;

const ACK_WAIT: Duration = Duration::from_secs(2);

/// How often the server is killed.
const KILLS: usize = 10;

async fn kill_and_restart(world: &World) {
    world.server().kill9().await;
    world.server().restart().await.expect("a server");
}

#[tokio::test]
async fn an_idle_worker_survives_ten_servers() {
    let world = World::with_ack_wait(ACK_WAIT).await;
    let _remote = world.repo("web").await;
    let _worker = Worker::start(&world, &[]).await;
    for _ in 0..KILLS {
        kill_and_restart(&world).await;
    }
    let since = Instant::now();
    let job = world.run("web", "sync_repo", "").await;
    assert_eq!(job.status, JobStatus::Completed, "{job:#?}");
    assert_eq!((job.attempt, job.run), (1, 1), "{job:#?}");
    assert!(
        since.elapsed() < ACK_WAIT * 2,
        "pulls came back after {:?}",
        since.elapsed()
    );
}

/// A repository whose trunk moves on while its stack is restacked over and over.
struct Busy {
    name: String,
    remote: Remote,
    log: RefLog,
}

impl Busy {
    async fn new(world: &World, number: usize) -> Self {
        let name = format!("busy-{number}");
        let remote = world.repo(&name).await;
        remote.stack("main <- a: a1 <- b: b1");
        let log = RefLog::start(&remote);
        Self { name, remote, log }
    }

    /// Publishes until it is told to stop; every job that was accepted, with its sequence.
    async fn publish(&self, world: &World, stop: &AtomicBool) -> Vec<(JobId, u64)> {
        let mut accepted = Vec::new();
        for number in 0.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let file = format!("m{number}");
            self.remote.commit("main", &[(&file, "m\n")], &file);
            let action = ["restack_repo", "sync_repo"][number % 2];
            let job = JobId::generate();
            let ack = world.publish_as(job, &self.name, action, "").await;
            accepted.push((job, ack.sequence));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        accepted
    }
}

#[tokio::test]
async fn nothing_is_lost_when_the_server_is_killed_ten_times_under_load() {
    let world = World::with_ack_wait(ACK_WAIT).await;
    let recorder = Recorder::start(&world).await;
    let _workers = [
        Worker::start(&world, &[]).await,
        Worker::start(&world, &[]).await,
    ];
    let repos = join_all((0..3).map(|number| Busy::new(&world, number))).await;
    for repo in &repos {
        world.register(&repo.name, &["a", "b"]).await;
    }
    // Somebody looks on all the time.
    let producer = world.producer().await;
    let mut watch = producer.watch_jobs(None).await.expect("a watch");
    let stop = AtomicBool::new(false);
    let kill = async {
        for _ in 0..KILLS {
            tokio::time::sleep(Duration::from_millis(400)).await;
            kill_and_restart(&world).await;
        }
        stop.store(true, Ordering::Relaxed);
    };
    let publish = join_all(repos.iter().map(|repo| repo.publish(&world, &stop)));
    let (published, ()) = tokio::join!(publish, kill);
    let mut history = History::default();
    let mut waited_for = BTreeMap::new();
    for (repo, accepted) in repos.iter().zip(published) {
        for (job, sequence) in accepted {
            history.accept(&repo.name, job, sequence);
            waited_for.insert(job, repo.name.clone());
        }
    }
    let accepted = waited_for.len();
    // The watch that was there all along hears of each end.
    let until = Instant::now() + DEADLINE;
    while !waited_for.is_empty() {
        let left = until.saturating_duration_since(Instant::now());
        let event = tokio::time::timeout(left, watch.next_event()).await;
        let event = event.unwrap_or_else(|_| panic!("no end is told of {waited_for:?}"));
        if let Some(RowEvent::Row { row, .. }) = event
            && row.value.status.is_terminal()
        {
            waited_for.remove(&row.value.spec.job_id);
        }
    }
    history.writes = recorder.writes(&world).await;
    for repo in &repos {
        history.moves.insert(repo.name.clone(), repo.log.moves());
        let last = world.run(&repo.name, "restack_repo", "").await;
        assert_eq!(last.status, JobStatus::Completed, "{last:#?}");
        let drawn = repo.remote.draw();
        assert!(drawn.contains("\na     main: a1\nb     a: b1\n"), "{drawn}");
    }
    history.assert_kept();
    println!("{accepted} accepted actions, {KILLS} kills");
}

/// The server dies when the worker's message has just reached it, or its answer is on the way, at
/// every step.
#[tokio::test]
async fn the_server_is_killed_at_every_step() {
    let script = SCRIPTS.into_iter().find(|it| it.action == "restack_repo");
    let lane = Lane::start(script.expect("a script")).await;
    for (number, places) in lane.places().chunks(8).enumerate() {
        lane.kill_server(&format!("round-{number}"), places).await;
    }
    lane.finish().await;
}

/// Many clients publish the same job at once, over a server that is killed meanwhile, again when it is
/// done, and again to a server that has forgotten it.
#[tokio::test]
async fn a_job_that_is_published_again_and_again_runs_once() {
    const CLIENTS: usize = 16;
    let world = World::with_ack_wait(ACK_WAIT).await;
    let recorder = Recorder::start(&world).await;
    let remote = world.repo("web").await;
    remote.stack("main <- a: a1");
    let log = RefLog::start(&remote);
    let _worker = Worker::start(&world, &[]).await;
    world.register("web", &["a"]).await;
    remote.commit("main", &[("m1", "m1\n")], "m1");
    let job = JobId::generate();
    let mut history = History::default();
    let all_at_once =
        || join_all((0..CLIENTS).map(|_| world.publish_as(job, "web", "restack_repo", "")));
    let (acks, ()) = tokio::join!(all_at_once(), kill_and_restart(&world));
    for ack in acks {
        history.accept("web", job, ack.sequence);
    }
    let first = world.ended("web", job).await;
    assert_eq!(first.status, JobStatus::Completed, "{first:#?}");
    for _ in 0..2 {
        all_at_once().await;
        // Its message is seen before that of the next job of the repository.
        world.run("web", "sync_repo", "").await;
        kill_and_restart(&world).await;
    }
    all_at_once().await;
    world.run("web", "sync_repo", "").await;
    assert_eq!(world.job("web", job).await, Some(first), "it ended once");
    history.writes = recorder.writes(&world).await;
    history.moves.insert("web".to_owned(), log.moves());
    history.assert_kept();
    let starts: Vec<_> = history
        .writes
        .iter()
        .filter(|write| write.job.spec.job_id == job)
        .map(|write| write.job.run)
        .collect();
    assert_eq!(starts.last(), Some(&1), "{starts:?}");
    assert_eq!(log.moves().len(), 1, "{:?}", log.moves());
}
