//! Section 6 of the contract: a queued job is cancelled at once, a running one at its next step before
//! the push, one that has pushed not at all. What was cancelled leaves no effect and holds nobody up.

use std::time::{Duration, Instant};

use backstack_producer::Client;
use backstack_schemas::{ErrorCode, Job, JobId, JobStatus, RepoId};
use backstack_tests::{Gate, Remote, Worker, World};

const ACK_WAIT: Duration = Duration::from_secs(2);

/// Progress is looked after twice a second; the rest is what a busy machine may take.
const STOPS_WITHIN: Duration = Duration::from_secs(4);

fn web() -> RepoId {
    "web".parse().expect("a name")
}

/// A remote with `a` tracked and trunk moved on, so that a restack has something to push.
async fn behind_trunk(world: &World) -> Remote {
    let remote = world.repo("web").await;
    remote.stack("main <- a: a1");
    world.register("web", &["a"]).await;
    remote.commit("main", &[("m1", "m1\n")], "m1");
    remote
}

const NOT_RESTACKED: &str = "main  m0 m1\na     main~1: a1\n";
const RESTACKED: &str = "main  m0 m1\na     main: a1\n";

async fn cancel(client: &Client, job: JobId) -> Job {
    client.cancel(&web(), job).await.expect("a cancel").job
}

fn assert_cancelled(job: &Job) {
    assert_eq!(job.status, JobStatus::Cancelled, "{job:#?}");
    assert!(job.result.is_none(), "{job:#?}");
}

/// Listens, takes connections and says nothing: a fetch from it goes on until it is stopped.
fn silent() -> (std::net::TcpListener, String) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    (listener, format!("git://{address}/web.git"))
}

#[tokio::test]
async fn what_waits_is_cancelled_at_once_and_never_runs() {
    let world = World::start().await;
    let client = world.producer().await;
    let _worker = Worker::start(&world, &[]).await;
    let remote = behind_trunk(&world).await;
    let gate = Gate::close(&remote);
    let running = world.publish("web", "restack_repo", "").await;
    let arrived = gate.arrived().await;
    let unwanted = client
        .publish(
            &web(),
            backstack_schemas::Action::SyncRepo { restack: true }.into(),
        )
        .await
        .expect("a job");
    let last = world
        .publish("web", "sync_repo", r#"{"restack": true}"#)
        .await;
    assert_cancelled(&cancel(&client, unwanted.job_id).await);
    gate.release();
    drop(arrived);
    for job in [running, last] {
        let ended = world.ended("web", job).await;
        assert_eq!(ended.status, JobStatus::Completed, "{ended:#?}");
    }
    let row = world.job("web", unwanted.job_id).await.expect("a row");
    assert_cancelled(&row);
    assert_eq!(
        (row.run, row.worker.as_ref()),
        (0, None),
        "it ran: {row:#?}"
    );
    assert_eq!(remote.draw(), RESTACKED);
    world.queue_empty().await;
}

#[tokio::test]
async fn what_runs_stops_before_its_push_and_leaves_no_process() {
    let world = World::start().await;
    let client = world.producer().await;
    let (_listener, url) = silent();
    world.add_repo("web", &url).await;
    let _worker = Worker::start(&world, &["--allow-protocol=git,file"]).await;
    let job = world.publish("web", "sync_repo", "").await;
    world
        .job_when("web", job, "fetching", |job| job.progress.is_some())
        .await;
    let since = Instant::now();
    let flagged = cancel(&client, job).await;
    assert_eq!(
        (flagged.status, flagged.cancel_requested),
        (JobStatus::Running, true)
    );
    assert_cancelled(&world.ended("web", job).await);
    assert!(since.elapsed() < STOPS_WITHIN, "{:?}", since.elapsed());
    // The worker itself, and no git.
    assert_eq!(world.processes().len(), 1, "{:?}", world.processes());
    world.queue_empty().await;
    let remote = world.remote("web");
    world.add_repo("web", &remote.url()).await;
    let next = world.run("web", "sync_repo", "").await;
    assert_eq!(next.status, JobStatus::Completed, "{next:#?}");
}

#[tokio::test]
async fn what_has_pushed_is_completed() {
    let world = World::start().await;
    let client = world.producer().await;
    let _worker = Worker::start(&world, &[]).await;
    let remote = behind_trunk(&world).await;
    let gate = Gate::close(&remote);
    let job = world.publish("web", "restack_repo", "").await;
    let arrived = gate.arrived().await;
    assert!(cancel(&client, job).await.cancel_requested);
    gate.release();
    drop(arrived);
    let ended = world.ended("web", job).await;
    assert_eq!(ended.status, JobStatus::Completed, "{ended:#?}");
    assert_eq!(remote.draw(), RESTACKED);
    assert_eq!(gate.pushed().len(), 1);
}

#[tokio::test]
async fn what_waits_for_its_retry_is_cancelled_and_the_next_one_does_not_wait_for_it() {
    let world = World::start().await;
    let client = world.producer().await;
    let nowhere = format!("file://{}/nowhere", world.dir().display());
    world.add_repo("web", &nowhere).await;
    let _worker = Worker::start(&world, &[]).await;
    let job = world.publish("web", "restack_repo", "").await;
    // The later an attempt, the longer the pause after it: the third is followed by 2 s at least.
    let waiting = world
        .job_when("web", job, "waiting for its fourth attempt", |job| {
            job.attempt == 3 && job.next_attempt_at.is_some()
        })
        .await;
    let remote = world.remote("web");
    world.add_repo("web", &remote.url()).await;
    assert_cancelled(&cancel(&client, job).await);
    let next = world.run("web", "sync_repo", "").await;
    assert_eq!(next.status, JobStatus::Completed, "{next:#?}");
    let due = waiting.next_attempt_at.expect("a time");
    assert!(
        next.finished_at.expect("an end") < due,
        "it waited until {due}: {next:#?}"
    );
    let row = world.job("web", job).await.expect("a row");
    assert_eq!((row.status, row.run), (JobStatus::Cancelled, 3), "{row:#?}");
    world.queue_empty().await;
}

/// The cancel comes while nobody is there to hear it: whoever takes the job over ends it.
#[tokio::test]
async fn a_cancel_outlives_the_worker_that_was_told() {
    let world = World::with_ack_wait(ACK_WAIT).await;
    let client = world.producer().await;
    let (_listener, url) = silent();
    world.add_repo("web", &url).await;
    let flags = ["--allow-protocol=git,file"];
    let killed = Worker::start(&world, &flags).await;
    let job = world.publish("web", "restack_repo", "").await;
    world
        .job_when("web", job, "fetching", |job| job.progress.is_some())
        .await;
    killed.pause();
    assert!(cancel(&client, job).await.cancel_requested);
    killed.kill9().await;
    let _successor = Worker::start(&world, &flags).await;
    let ended = world.ended("web", job).await;
    assert_cancelled(&ended);
    assert_eq!(ended.run, 1, "it ran once more: {ended:#?}");
    world.queue_empty().await;
}

/// The first worker may have pushed. Here it had not, so the second stops where it would.
#[tokio::test]
async fn a_cancel_after_the_fence_of_a_killed_worker_stops_before_a_second_push() {
    let world = World::with_ack_wait(ACK_WAIT).await;
    let client = world.producer().await;
    let killed = Worker::start(&world, &[]).await;
    let remote = behind_trunk(&world).await;
    let gate = Gate::close(&remote);
    let job = world.publish("web", "restack_repo", "").await;
    let arrived = gate.arrived().await;
    killed.kill9().await;
    assert!(cancel(&client, job).await.cancel_requested);
    let _successor = Worker::start(&world, &[]).await;
    let ended = world.ended("web", job).await;
    assert_cancelled(&ended);
    assert_eq!(ended.run, 2, "{ended:#?}");
    gate.release();
    drop(arrived);
    assert_eq!(remote.draw(), NOT_RESTACKED);
    assert_eq!(gate.pushed(), Vec::<String>::new());
    world.queue_empty().await;
}

/// A failure that would be tried again, of a job that nobody wants any more.
#[tokio::test]
async fn a_cancelled_job_is_not_tried_again() {
    let world = World::start().await;
    let client = world.producer().await;
    let (listener, url) = silent();
    world.add_repo("web", &url).await;
    let _worker = Worker::start(&world, &["--allow-protocol=git"]).await;
    let job = world.publish("web", "sync_repo", "").await;
    let (connection, _) = listener.accept().expect("git comes");
    world
        .job_when("web", job, "fetching", |job| job.progress.is_some())
        .await;
    let flagged = cancel(&client, job).await;
    // The fetch breaks before the worker looks at its row again, or after it: both end the job.
    drop((connection, listener));
    assert!(flagged.cancel_requested);
    let ended = world.ended("web", job).await;
    assert_eq!(ended.status, JobStatus::Cancelled, "{ended:#?}");
    assert_eq!((ended.run, ended.next_attempt_at), (1, None), "{ended:#?}");
    if let Some(error) = ended.error {
        assert_eq!(error.code, ErrorCode::RemoteUnreachable);
    }
    world.queue_empty().await;
}

#[tokio::test]
async fn the_command_cancels_and_retries_what_a_worker_has() {
    let world = World::start().await;
    let remote = behind_trunk_unattended(&world).await;
    let job = world.publish("web", "restack_repo", "").await;
    // Without a worker or a publisher's row there is none yet.
    let early = world
        .backstack(["job", "cancel", "web", &job.to_string()])
        .await;
    assert_eq!(early.code, 2, "{}", early.stderr);
    assert!(early.stderr.contains("try again"), "{}", early.stderr);
    let client = world.producer().await;
    let queued = client
        .publish(&web(), backstack_schemas::Action::RestackRepo.into())
        .await
        .expect("a job");
    let id = queued.job_id.to_string();
    let cancelled = world.backstack(["job", "cancel", "web", &id]).await;
    assert_eq!(cancelled.code, 0, "{}", cancelled.stderr);
    let _worker = Worker::start(&world, &[]).await;
    let done = world.ended("web", job).await;
    assert_eq!(done.status, JobStatus::Completed, "{done:#?}");
    assert_cancelled(&world.job("web", queued.job_id).await.expect("a row"));
    let again = world
        .backstack(["job", "retry", "web", &id, "--wait", "--json"])
        .await;
    assert_eq!(again.code, 0, "{}", again.stderr);
    let last = again.stdout.lines().last().expect("a row");
    let row: Job = serde_json::from_str(last).expect("a job");
    assert_eq!(row.spec.retry_of, Some(queued.job_id));
    assert_eq!(row.status, JobStatus::Completed, "{row:#?}");
    assert_eq!(remote.draw(), RESTACKED);
    world.queue_empty().await;
}

/// As [`behind_trunk`], with a worker that is gone afterwards.
async fn behind_trunk_unattended(world: &World) -> Remote {
    let worker = Worker::start(world, &[]).await;
    let remote = behind_trunk(world).await;
    let output = worker.stop().await;
    assert_eq!(output.code, 0, "{}", output.stderr);
    remote
}
