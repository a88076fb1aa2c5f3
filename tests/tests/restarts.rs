//! Workers and servers that are killed, stopped, suspended or drained in the middle of a job: every
//! job ends once, with one effect, and as many attempts as it really had.
//!
//! After a server was killed nothing here waits for an empty queue: the server may have forgotten on
//! disk that it removed an acknowledged message. Such a message has a row that tells it is done.

use std::time::{Duration, Instant};

use backstack_schemas::{ErrorCode, Job, JobStatus};
use backstack_tests::rows::DEADLINE;
use backstack_tests::{Gate, Midway, Remote, Worker, World};
use serde_json::json;

const ACK_WAIT: Duration = Duration::from_secs(2);

/// How long after a worker's death its job may take to be done by another.
const TAKEN_OVER_WITHIN: Duration = ACK_WAIT.saturating_add(Duration::from_secs(3));

/// The restack is on the remote, by a single move of the ref.
fn assert_one_effect(remote: &Remote, gate: &Gate) {
    assert_eq!(remote.draw(), "main  m0 m1\na     main: a1\n");
    let pushed = gate.pushed();
    assert!(
        pushed.len() <= 1,
        "more than one push took effect: {pushed:?}"
    );
}

fn assert_completed(job: &Job, attempt: u32, run: u64) {
    assert_eq!(job.status, JobStatus::Completed, "{job:#?}");
    assert_eq!((job.attempt, job.run), (attempt, run), "{job:#?}");
}

fn is_by(job: &Job, worker: &Worker) -> bool {
    let part = format!("/{}/", worker.pid());
    job.worker
        .as_ref()
        .is_some_and(|id| id.as_str().contains(&part))
}

#[tokio::test]
async fn a_killed_workers_job_is_done_by_another() {
    let world = World::with_ack_wait(ACK_WAIT).await;
    let killed = Worker::start(&world, &[]).await;
    let midway = Midway::reach(&world).await;
    let survivor = Worker::start(&world, &[]).await;
    killed.kill9().await;
    let since = Instant::now();
    let (remote, gate, job) = midway.release();
    let ended = world.ended("web", job).await;
    assert!(since.elapsed() < TAKEN_OVER_WITHIN, "{:?}", since.elapsed());
    assert_completed(&ended, 2, 2);
    assert!(is_by(&ended, &survivor), "{ended:#?}");
    assert_one_effect(&remote, &gate);
    world.queue_empty().await;
}

#[tokio::test]
async fn a_killed_workers_job_is_done_by_its_successor_on_the_same_mirrors() {
    let world = World::with_ack_wait(ACK_WAIT).await;
    let killed = Worker::start(&world, &[]).await;
    let midway = Midway::reach(&world).await;
    killed.kill9().await;
    let since = Instant::now();
    let successor = Worker::launch_on(&world, killed.state(), &[]);
    let (remote, gate, job) = midway.release();
    let ended = world.ended("web", job).await;
    assert!(since.elapsed() < TAKEN_OVER_WITHIN, "{:?}", since.elapsed());
    assert_completed(&ended, 2, 2);
    assert!(is_by(&ended, &successor), "{ended:#?}");
    assert_one_effect(&remote, &gate);
    world.queue_empty().await;
}

#[tokio::test]
async fn a_job_that_kills_its_workers_ends() {
    let world = World::with_ack_wait(ACK_WAIT).await;
    let first = Worker::start(&world, &["--max-attempts=2"]).await;
    let Midway {
        gate, job, arrived, ..
    } = Midway::reach(&world).await;
    let second = Worker::start(&world, &["--max-attempts=2"]).await;
    first.kill9().await;
    world
        .job_when("web", job, "run again", |job| job.run == 2)
        .await;
    let third = Worker::start(&world, &["--max-attempts=2"]).await;
    second.kill9().await;
    let ended = world.ended("web", job).await;
    assert_eq!(ended.status, JobStatus::Error, "{ended:#?}");
    let error = ended.error.expect("an error");
    assert_eq!(error.code, ErrorCode::AttemptsExhausted);
    assert!(error.detail.contains("without a word"), "{}", error.detail);
    drop((arrived, gate, third));
    world.queue_empty().await;
}

#[tokio::test]
async fn a_drain_lets_what_runs_finish_and_hands_back_what_waits() {
    let world = World::start().await;
    let leaving = Worker::start(&world, &[]).await;
    let midway = Midway::reach(&world).await;
    let mut waiting = Vec::new();
    for _ in 0..5 {
        waiting.push(
            world
                .publish("web", "sync_repo", r#"{"restack": true}"#)
                .await,
        );
    }
    let staying = Worker::start(&world, &[]).await;
    leaving.program().process().terminate();
    leaving.said("draining").await;
    let running = world.job("web", midway.job).await.expect("a row");
    assert_eq!(running.status, JobStatus::Running, "{running:#?}");
    let (remote, gate, job) = midway.release();
    let output = leaving.program().output().await;
    assert_eq!(output.code, 0, "{}", output.stderr);
    let ended = world.ended("web", job).await;
    assert_completed(&ended, 1, 1);
    assert!(is_by(&ended, &leaving), "{ended:#?}");
    for job in waiting {
        let ended = world.ended("web", job).await;
        assert_completed(&ended, 1, 1);
        assert!(is_by(&ended, &staying), "{ended:#?}");
    }
    assert_one_effect(&remote, &gate);
    world.queue_empty().await;
}

#[tokio::test]
async fn a_drain_whose_time_is_up_hands_back_what_runs() {
    let world = World::start().await;
    let leaving = Worker::start(&world, &["--drain-timeout=300ms"]).await;
    let midway = Midway::reach(&world).await;
    let since = Instant::now();
    let output = leaving.stop().await;
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert!(
        since.elapsed() < Duration::from_secs(3),
        "{:?}",
        since.elapsed()
    );
    let back = world.job("web", midway.job).await.expect("a row");
    assert_eq!(back.status, JobStatus::Queued, "{back:#?}");
    assert_eq!(
        (back.attempt, back.run),
        (0, 1),
        "the attempt is given back"
    );
    assert!(back.message.contains("shutting down"), "{}", back.message);
    let staying = Worker::start(&world, &[]).await;
    let (remote, gate, job) = midway.release();
    let ended = world.ended("web", job).await;
    // The ack wait is 30 s: it came back because it was handed back.
    assert!(
        since.elapsed() < Duration::from_secs(15),
        "{:?}",
        since.elapsed()
    );
    assert_completed(&ended, 1, 2);
    assert!(is_by(&ended, &staying), "{ended:#?}");
    assert_one_effect(&remote, &gate);
}

/// A push that is stopped while the remote holds its locks: who holds them gets the time to let go.
#[tokio::test]
async fn a_push_that_is_stopped_leaves_no_lock_on_the_remote() {
    let world = World::start().await;
    let leaving = Worker::start(&world, &["--drain-timeout=100ms"]).await;
    let remote = world.repo("web").await;
    remote.stack("main <- a: a1");
    world.register("web", &["a"]).await;
    remote.commit("main", &[("m1", "m1\n")], "m1");
    let gate = Gate::close(&remote);
    remote.remove_hook("pre-receive");
    let wait = "#!/bin/sh\n[ \"$1\" != prepared ] || [ ! -p gate ] || cat gate\nexit 0\n";
    remote.hook("reference-transaction", wait);
    let job = world.publish("web", "restack_repo", "").await;
    let arrived = gate.arrived().await;
    let lock = remote.path().join("refs/heads/a.lock");
    assert!(lock.exists(), "the test shows nothing: nothing is locked");
    let output = leaving.stop().await;
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert!(!lock.exists(), "the branch is locked for ever");
    gate.release();
    drop(arrived);
    let _next = Worker::start(&world, &[]).await;
    let ended = world.ended("web", job).await;
    assert_completed(&ended, 1, 2);
    assert_one_effect(&remote, &gate);
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let world = World::with_ack_wait(ACK_WAIT).await;
    let leaving = Worker::start(&world, &["--drain-timeout=1h"]).await;
    let midway = Midway::reach(&world).await;
    leaving.program().process().terminate();
    leaving.said("draining").await;
    let since = Instant::now();
    leaving.program().process().interrupt();
    let output = leaving.program().output().await;
    assert!(
        since.elapsed() < Duration::from_secs(1),
        "{:?}",
        since.elapsed()
    );
    assert_eq!(output.code, 130, "{}", output.stderr);
    let _next = Worker::start(&world, &[]).await;
    let (remote, gate, job) = midway.release();
    let ended = world.ended("web", job).await;
    assert_completed(&ended, 2, 2);
    assert_one_effect(&remote, &gate);
}

#[tokio::test]
async fn a_drain_ends_though_nats_is_gone() {
    let world = World::with_ack_wait(ACK_WAIT).await;
    let leaving = Worker::start(&world, &["--drain-timeout=300ms"]).await;
    let midway = Midway::reach(&world).await;
    for _ in 0..20 {
        world.publish("web", "sync_repo", "").await;
    }
    world.server().kill9().await;
    leaving.said("lost").await;
    let since = Instant::now();
    leaving.program().process().terminate();
    let output = leaving.program().output().await;
    assert!(
        since.elapsed() < Duration::from_secs(10),
        "{:?}",
        since.elapsed()
    );
    assert_eq!(output.code, 0, "{}", output.stderr);
    drop(midway);
}

#[tokio::test]
async fn an_idle_worker_survives_its_server() {
    let world = World::start().await;
    let _remote = world.repo("web").await;
    let _worker = Worker::start(&world, &[]).await;
    for _ in 0..2 {
        world.server().kill9().await;
        world.server().restart().await.expect("a server");
        let since = Instant::now();
        let job = world.run("web", "sync_repo", "").await;
        assert_completed(&job, 1, 1);
        assert!(
            since.elapsed() < Duration::from_secs(4),
            "{:?}",
            since.elapsed()
        );
    }
}

#[tokio::test]
async fn a_job_survives_its_server() {
    let world = World::start().await;
    let _worker = Worker::start(&world, &[]).await;
    let midway = Midway::reach(&world).await;
    world.server().kill9().await;
    world.server().restart().await.expect("a server");
    let (remote, gate, job) = midway.release();
    let ended = world.ended("web", job).await;
    assert_completed(&ended, 1, 1);
    assert_one_effect(&remote, &gate);
    let next = world.run("web", "sync_repo", "").await;
    assert_eq!(next.status, JobStatus::Completed, "{next:#?}");
}

/// The push comes through while nobody can be told, and the message is delivered again afterwards.
#[tokio::test]
async fn a_job_that_outlives_its_message_has_one_effect() {
    let world = World::with_ack_wait(ACK_WAIT).await;
    let worker = Worker::start(&world, &[]).await;
    let midway = Midway::reach(&world).await;
    world.server().kill9().await;
    let (remote, gate, job) = midway.release();
    worker.said("without a trace").await;
    world.server().restart().await.expect("a server");
    let ended = world.ended("web", job).await;
    assert_completed(&ended, 2, 2);
    assert_one_effect(&remote, &gate);
    assert_eq!(gate.pushed().len(), 1);
}

#[tokio::test]
async fn a_suspended_worker_does_not_disturb_its_successor() {
    let world = World::with_ack_wait(ACK_WAIT).await;
    let suspended = Worker::start(&world, &[]).await;
    let midway = Midway::reach(&world).await;
    let successor = Worker::start(&world, &[]).await;
    suspended.pause();
    world
        .job_when("web", midway.job, "taken over", |job| job.run == 2)
        .await;
    suspended.resume();
    suspended.said("without a trace").await;
    let (remote, gate, job) = midway.release();
    let ended = world.ended("web", job).await;
    assert_completed(&ended, 2, 2);
    assert!(is_by(&ended, &successor), "{ended:#?}");
    assert_eq!(ended.delivery, Some(2), "{ended:#?}");
    assert_one_effect(&remote, &gate);
    world.queue_empty().await;
    let history = world.job_history("web", job).await;
    for (_, row) in history.iter().filter(|(_, row)| row.run == 2) {
        assert!(is_by(row, &successor), "a stale write: {row:#?}");
    }
}

/// Nobody else is there, so the message comes back to the worker that still runs its job: it is kept
/// from then on and not delivered over and over.
#[tokio::test]
async fn a_suspended_worker_that_nobody_replaced_goes_on() {
    let world = World::with_ack_wait(ACK_WAIT).await;
    let worker = Worker::start(&world, &[]).await;
    let midway = Midway::reach(&world).await;
    let before = deliveries(&world).await;
    worker.pause();
    tokio::time::sleep(ACK_WAIT + Duration::from_millis(500)).await;
    worker.resume();
    let until = Instant::now() + DEADLINE;
    while deliveries(&world).await == before {
        assert!(
            Instant::now() < until,
            "the message was not delivered again"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // What is kept is not delivered again, however long the job takes.
    tokio::time::sleep(ACK_WAIT * 2).await;
    assert_eq!(deliveries(&world).await, before + 1);
    let (remote, gate, job) = midway.release();
    let ended = world.ended("web", job).await;
    assert_completed(&ended, 1, 1);
    assert_one_effect(&remote, &gate);
    world.queue_empty().await;
}

/// Deliveries of the work queue's messages so far, over all consumers.
async fn deliveries(world: &World) -> u64 {
    let list = world
        .ask("CONSUMER.LIST.BACKSTACK_ACTIONS", &json!({}))
        .await;
    let list = list.expect("the consumers");
    let consumers = list["consumers"].as_array().expect("a list");
    consumers
        .iter()
        .filter_map(|consumer| consumer["delivered"]["consumer_seq"].as_u64())
        .sum()
}

#[tokio::test]
async fn what_keeps_failing_ends_with_its_last_error() {
    let world = World::start().await;
    let url = format!("file://{}/nowhere.git", world.dir().display());
    world.add_repo("web", &url).await;
    let _worker = Worker::start(&world, &["--max-attempts=2"]).await;
    let job = world.publish("web", "sync_repo", "").await;
    let waiting = world
        .job_when("web", job, "waiting for its retry", |job| {
            job.next_attempt_at.is_some()
        })
        .await;
    assert_eq!((waiting.status, waiting.attempt), (JobStatus::Queued, 1));
    let error = waiting.error.expect("why it failed");
    assert_eq!(error.code, ErrorCode::RemoteUnreachable);
    let ended = world.ended("web", job).await;
    assert_eq!((ended.attempt, ended.max_attempts), (2, 2), "{ended:#?}");
    let error = ended.error.expect("why it failed");
    assert_eq!(error.code, ErrorCode::AttemptsExhausted);
    for word in ["All 2 attempts", "remote_unreachable", "nowhere.git"] {
        assert!(error.detail.contains(word), "{}", error.detail);
    }
    let statuses: Vec<_> = ended
        .transitions
        .iter()
        .map(|t| t.status.as_str())
        .collect();
    assert_eq!(
        statuses,
        ["queued", "running", "queued", "running", "error"]
    );
    world.queue_empty().await;
}

#[tokio::test]
async fn a_fetch_that_hangs_is_killed_with_all_it_started() {
    let world = World::start().await;
    // Takes connections and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("an address");
    world
        .add_repo("web", &format!("git://{address}/web.git"))
        .await;
    let worker = Worker::start(
        &world,
        &[
            "--allow-protocol=git",
            "--action-timeout=500ms",
            "--max-attempts=2",
        ],
    )
    .await;
    let job = world.publish("web", "sync_repo", "").await;
    let waiting = world
        .job_when("web", job, "waiting for its retry", |job| {
            job.next_attempt_at.is_some()
        })
        .await;
    assert_eq!(waiting.error.expect("why").code, ErrorCode::Timeout);
    assert_eq!(children(worker.pid()), Vec::<String>::new());
    let ended = world.ended("web", job).await;
    let error = ended.error.expect("why it failed");
    assert_eq!(error.code, ErrorCode::AttemptsExhausted);
    assert!(error.detail.contains("timeout"), "{}", error.detail);
    assert_eq!(children(worker.pid()), Vec::<String>::new());
    assert_eq!(world.processes().len(), 1, "{:?}", world.processes());
}

/// The processes that a process has started and that still run.
fn children(parent: u32) -> Vec<String> {
    let listed = std::process::Command::new("ps")
        .args(["-o", "args=", "--ppid", &parent.to_string()])
        .output()
        .expect("ps");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    listed.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn two_workers_cannot_have_one_state_directory() {
    let world = World::start().await;
    let _remote = world.repo("web").await;
    let first = Worker::start(&world, &[]).await;
    let second = Worker::launch_on(&world, first.state(), &[]);
    let output = second.program().output().await;
    assert_eq!(output.code, 2, "{}", output.stderr);
    let state = first.state().display().to_string();
    let pid = format!("pid {}", first.pid());
    for word in ["in use", state.as_str(), pid.as_str(), "--state-dir"] {
        assert!(output.stderr.contains(word), "{word}: {}", output.stderr);
    }
    let job = world.run("web", "sync_repo", "").await;
    assert_completed(&job, 1, 1);
}

#[tokio::test]
async fn without_a_server_the_worker_says_what_to_start() {
    let world = World::start().await;
    let url = world.nats_url();
    world.server().kill9().await;
    let since = Instant::now();
    let output = Worker::launch(&world, &[]).program().output().await;
    assert!(
        since.elapsed() < Duration::from_secs(5),
        "{:?}",
        since.elapsed()
    );
    assert_eq!(output.code, 3, "{}", output.stderr);
    for word in [
        url.as_str(),
        "nats-server -js",
        "backstackd dev",
        "--nats-url",
    ] {
        assert!(output.stderr.contains(word), "{word}: {}", output.stderr);
    }
}

#[tokio::test]
async fn a_stream_with_other_settings_is_named_and_left_alone() {
    let world = World::start().await;
    let stream = "STREAM.INFO.KV_backstack_jobs";
    let mut config = world.ask(stream, &json!({})).await.expect("the bucket")["config"].clone();
    config["max_msgs_per_subject"] = json!(2);
    let update = world.ask("STREAM.UPDATE.KV_backstack_jobs", &config).await;
    update.expect("another history");
    let output = Worker::launch(&world, &[]).program().output().await;
    assert_eq!(output.code, 3, "{}", output.stderr);
    let line = "KV_backstack_jobs: max_msgs_per_subject is 2, but must be 4";
    assert!(output.stderr.contains(line), "{}", output.stderr);
    assert!(
        output.stderr.contains("nats stream edit"),
        "{}",
        output.stderr
    );
    let after = world.ask(stream, &json!({})).await.expect("the bucket");
    assert_eq!(
        after["config"]["max_msgs_per_subject"], 2,
        "nothing is repaired"
    );
}
