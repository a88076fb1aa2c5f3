//! What an operator may delete on NATS while workers run, and what then becomes of the jobs: nothing
//! stalls without a word, and what is lost is said to be.

use std::time::{Duration, Instant};

use backstack_producer::topology::{check, ensure};
use backstack_schemas::topology::{Bucket, job_key};
use backstack_schemas::{ErrorCode, Job, JobId, JobStatus};
use backstack_tests::raw_nats::RawNats;
use backstack_tests::{Midway, Worker, World};
use serde_json::{Value, json};

const ACK_WAIT: Duration = Duration::from_secs(2);
const LISTEN: &str = "--listen=127.0.0.1:0";
const QUEUE: &str = "BACKSTACK_ACTIONS";

/// How soon what was deleted has to be told.
const TOLD_WITHIN: Duration = Duration::from_secs(5);

fn assert_completed(job: &Job) {
    assert_eq!(job.status, JobStatus::Completed, "{job:#?}");
}

fn assert_lost(job: &Job) {
    assert_eq!(job.status, JobStatus::Error, "{job:#?}");
    let error = job.error.as_ref().expect("why");
    assert_eq!(error.code, ErrorCode::Lost, "{error}");
    assert!(error.detail.contains("Publish the action again"), "{error}");
}

async fn ask(world: &World, what: &str, body: Value) -> Value {
    let answer = world.ask(what, &body).await;
    answer.unwrap_or_else(|error| panic!("{what}: {error}"))
}

async fn delete_stream(world: &World, stream: &str) {
    ask(world, &format!("STREAM.DELETE.{stream}"), Value::Null).await;
}

/// Makes what is missing, as a worker that is started does.
async fn make_missing(world: &World) {
    let made = ensure(world.client(), world.topology(), world.choices()).await;
    made.unwrap_or_else(|error| panic!("{error}"));
}

async fn sequence(world: &World, job: JobId) -> u64 {
    let job = world.job_when("web", job, "known to the queue", |job| {
        job.sequence.is_some()
    });
    job.await.sequence.expect("a sequence")
}

#[tokio::test]
async fn consumers_that_are_deleted_are_made_again_and_nothing_is_lost() {
    let world = World::with_ack_wait(ACK_WAIT).await;
    let worker = Worker::start(&world, &[LISTEN]).await;
    let midway = Midway::reach(&world).await;
    let queued = world.publish("web", "sync_repo", "").await;
    for consumer in world.topology().consumers(world.choices()) {
        let what = format!("CONSUMER.DELETE.{QUEUE}.{}", consumer.name);
        ask(&world, &what, Value::Null).await;
    }
    let since = Instant::now();
    worker
        .said("somebody deleted consumers of the work queue")
        .await;
    assert!(since.elapsed() < TOLD_WITHIN, "{:?}", since.elapsed());
    worker.ready(&world).await;
    let report = check(world.client(), world.topology())
        .await
        .expect("a report");
    assert!(report.is_right(), "{report:?}");
    worker
        .readyz_when("ready", |answer| answer.status == 200)
        .await;
    let again = worker.metric("backstack_consumers_recreated_total").await;
    assert!(again >= Some(33.0), "{again:?}");

    let (remote, gate, job) = midway.release();
    let ended = world.ended("web", job).await;
    assert_completed(&ended);
    assert_eq!((ended.attempt, ended.run), (1, 1), "{ended:#?}");
    assert_completed(&world.ended("web", queued).await);
    assert_eq!(remote.draw(), "main  m0 m1\na     main: a1\n");
    assert_eq!(gate.pushed().len(), 1);
    assert_completed(&world.run("web", "sync_repo", "").await);
    world.queue_empty().await;
}

#[tokio::test]
async fn a_job_whose_queued_message_is_deleted_ends_as_lost_and_its_neighbours_run() {
    let world = World::with_ack_wait(ACK_WAIT).await;
    let worker = Worker::start(&world, &[LISTEN]).await;
    let midway = Midway::reach(&world).await;
    let deleted = world.publish("web", "sync_repo", "").await;
    put_queued_row(&world, deleted).await;
    let next = world.publish("web", "restack_repo", "").await;
    delete_message(&world, deleted).await;
    assert_lost(&world.ended("web", deleted).await);
    assert_eq!(worker.metric("backstack_lost_jobs_total").await, Some(1.0));
    let (_, _, job) = midway.release();
    assert_completed(&world.ended("web", job).await);
    assert_completed(&world.ended("web", next).await);
    world.queue_empty().await;
}

fn key(job: JobId) -> String {
    job_key(&"web".parse().expect("a name"), job)
}

/// Deletes a job's message from the queue.
async fn delete_message(world: &World, job: JobId) {
    let body = json!({ "seq": sequence(world, job).await });
    ask(world, &format!("STREAM.MSG.DELETE.{QUEUE}"), body).await;
}

/// Writes the row that a client makes of a message that it has just published, as the newest of the
/// queue.
async fn put_queued_row(world: &World, job: JobId) {
    let info = ask(world, &format!("STREAM.INFO.{QUEUE}"), Value::Null).await;
    let at = info["ts"].as_str().expect("a time")[..23].to_owned() + "Z";
    let row = json!({
        "job_id": job, "repo": "web", "action": "sync_repo",
        "branch": null, "parent": null, "base": null, "task_id": null, "retry_of": null,
        "requested_by": null, "status": "queued", "message": "Waiting for its turn", "progress": null,
        "attempt": 0, "max_attempts": 5, "next_attempt_at": null, "run": 0, "worker": null,
        "sequence": info["state"]["last_seq"], "delivery": null,
        "transitions": [{ "at": at, "status": "queued", "worker": null }],
        "created_at": at, "updated_at": at, "started_at": null, "finished_at": null,
        "result": null, "error": null,
    });
    world.put_row(Bucket::Jobs, &key(job), &row).await;
}

#[tokio::test]
async fn a_job_that_runs_goes_on_without_its_message() {
    let world = World::with_ack_wait(ACK_WAIT).await;
    let _worker = Worker::start(&world, &[]).await;
    let midway = Midway::reach(&world).await;
    delete_message(&world, midway.job).await;
    // Longer than from one search for lost jobs to the next.
    tokio::time::sleep(ACK_WAIT * 11).await;
    let (remote, gate, job) = midway.release();
    assert_completed(&world.ended("web", job).await);
    assert_eq!(remote.draw(), "main  m0 m1\na     main: a1\n");
    assert_eq!(gate.pushed().len(), 1);
    assert_completed(&world.run("web", "sync_repo", "").await);
}

#[tokio::test]
async fn a_job_whose_worker_died_and_whose_message_is_deleted_ends_as_lost() {
    let world = World::with_ack_wait(ACK_WAIT).await;
    let killed = Worker::start(&world, &[]).await;
    let midway = Midway::reach(&world).await;
    killed.kill9().await;
    delete_message(&world, midway.job).await;
    let _worker = Worker::start(&world, &["--action-timeout=1s"]).await;
    assert_lost(&world.ended("web", midway.job).await);
    midway.release();
    assert_completed(&world.run("web", "sync_repo", "").await);
}

#[tokio::test]
async fn the_rows_of_a_queued_and_of_a_running_job_may_be_deleted() {
    let world = World::with_ack_wait(ACK_WAIT).await;
    let worker = Worker::start(&world, &[]).await;
    let midway = Midway::reach(&world).await;
    let queued = world.publish("web", "restack_repo", "").await;
    put_queued_row(&world, queued).await;
    let jobs = world.bucket(Bucket::Jobs).await;
    jobs.purge(key(queued)).await.expect("to delete it");
    jobs.purge(key(midway.job)).await.expect("to delete it");
    worker.said("without a trace").await;
    let (remote, gate, job) = midway.release();
    for job in [job, queued] {
        assert_eq!(
            world.ended("web", job).await.error.map(|error| error.code),
            None
        );
    }
    assert_eq!(remote.draw(), "main  m0 m1\na     main: a1\n");
    assert!(gate.pushed().len() <= 1, "{:?}", gate.pushed());
    world.queue_empty().await;
}

/// The hardest case: sequences begin again at one, so that new messages have those of old ones.
#[tokio::test]
async fn a_queue_that_is_deleted_and_made_anew_loses_what_it_held_and_nothing_that_comes_after() {
    let world = World::with_ack_wait(ACK_WAIT).await;
    let worker = Worker::start(&world, &[LISTEN]).await;
    let midway = Midway::reach(&world).await;
    let held = sequence(&world, midway.job).await;
    let queued = world.publish("web", "sync_repo", "").await;
    put_queued_row(&world, queued).await;

    delete_stream(&world, QUEUE).await;
    let since = Instant::now();
    let answer = worker
        .readyz_when("not ready", |answer| {
            answer.status == 503 && answer.problem("topology").is_some()
        })
        .await;
    assert!(since.elapsed() < TOLD_WITHIN, "{:?}", since.elapsed());
    let problem = answer.problem("topology").expect("a problem");
    assert!(
        problem.contains(&format!("the stream {QUEUE} is missing")),
        "{problem}"
    );
    worker.said("nats stream restore").await;
    assert!(
        !worker.program().stderr().contains("jobs were lost"),
        "it may be restored"
    );

    make_missing(&world).await;
    // One of these has the sequence of the message whose job still runs, one that of the queued one.
    let mut fresh = Vec::new();
    for _ in 0..held + 2 {
        fresh.push(world.publish("web", "restack_repo", "").await);
    }
    let other = world.repo("api").await;
    other.stack("main <- b: b1");
    let elsewhere = world.publish("api", "sync_repo", "").await;
    worker
        .said("the work queue was deleted and made anew")
        .await;
    worker
        .readyz_when("ready", |answer| answer.status == 200)
        .await;
    assert_completed(&world.ended("api", elsewhere).await);

    let (remote, gate, job) = midway.release();
    assert_completed(&world.ended("web", job).await);
    for job in fresh {
        assert_completed(&world.ended("web", job).await);
    }
    assert_lost(&world.ended("web", queued).await);
    assert_eq!(remote.draw(), "main  m0 m1\na     main: a1\n");
    assert_eq!(gate.pushed().len(), 1);
    world.queue_empty().await;
    let replaced = worker.metric("backstack_streams_replaced_total").await;
    assert_eq!(replaced, Some(1.0));
}

/// The same for messages that no client can read, of which each is looked at once only.
#[tokio::test]
async fn what_cannot_be_read_is_found_in_a_queue_that_was_made_anew_too() {
    let world = World::with_ack_wait(ACK_WAIT).await;
    let worker = Worker::start(&world, &[]).await;
    publish_unreadable(&world, "one").await;
    world.stored_when(&world.topology().dead_stream(), 1).await;
    let _remote = world.repo("web").await;
    assert_completed(&world.run("web", "sync_repo", "").await);
    delete_stream(&world, QUEUE).await;
    worker.said("is missing").await;
    make_missing(&world).await;
    worker
        .said("the work queue was deleted and made anew")
        .await;
    // It has the sequence of the first one, and is another letter all the same.
    publish_unreadable(&world, "other").await;
    world.queue_empty().await;
    let letters = world.dead_letters().await;
    let payloads: Vec<_> = letters
        .iter()
        .map(|letter| letter.payload.as_slice())
        .collect();
    assert_eq!(payloads, [&b"one"[..], b"other"]);
    assert_completed(&world.run("web", "sync_repo", "").await);
}

/// A message with a header that is no text.
async fn publish_unreadable(world: &World, payload: &str) {
    let subject = b"backstack.actions.web.sync_repo";
    let header = b"NATS/1.0\r\nA: \xff\r\n\r\n";
    RawNats::store(world, subject, header, payload.as_bytes()).await;
}

/// The repository's row tells up to which sequence its branches are synced, in a stream that is no more.
#[tokio::test]
async fn a_sync_is_not_overtaken_by_one_of_a_former_queue() {
    let world = World::with_ack_wait(ACK_WAIT).await;
    let remote = world.repo("web").await;
    remote.stack("main <- a: a1");
    let worker = Worker::start(&world, &[]).await;
    for _ in 0..5 {
        assert_completed(&world.run("web", "sync_repo", "").await);
    }
    worker.stop().await;
    world.queue_empty().await;
    delete_stream(&world, QUEUE).await;
    remote.stack("main <- b: b1");
    let worker = Worker::start(&world, &[]).await;
    assert_completed(&world.run("web", "sync_repo", "").await);
    assert!(world.branch("web", "b").await.is_some(), "it did fetch");
    worker.stop().await;
}

/// Every bucket, one after another: jobs wait instead of failing for want of it.
#[tokio::test]
async fn without_a_bucket_jobs_wait_until_it_is_there_again() {
    let world = World::with_ack_wait(ACK_WAIT).await;
    let worker = Worker::start(&world, &[LISTEN]).await;
    let remote = world.repo("web").await;
    remote.stack("main <- a: a1");
    world.register("web", &["a"]).await;
    for bucket in [Bucket::Branches, Bucket::Tasks, Bucket::Jobs, Bucket::Repos] {
        let repo = world.repository("web").await.expect("its row");
        let stream = world.topology().bucket_stream(bucket);
        delete_stream(&world, &stream).await;
        let answer = worker
            .readyz_when("not ready", |answer| answer.status == 503)
            .await;
        let problem = answer.problem("topology").expect("a problem");
        assert!(problem.contains(&stream), "{problem}");
        let job = world.publish("web", "sync_repo", "").await;
        // Long enough for every attempt to be used up, were there any.
        tokio::time::sleep(ACK_WAIT * 2).await;
        assert_eq!(world.stored(QUEUE).await, 1, "it waits");
        // Suspended, so that it does not see the bucket before the repository's row is in it again.
        worker.pause();
        make_missing(&world).await;
        if bucket == Bucket::Repos {
            world.put_row(Bucket::Repos, "web", &repo).await;
        }
        worker.resume();
        let ended = world.ended("web", job).await;
        assert_completed(&ended);
        assert_eq!((ended.attempt, ended.run), (1, 1), "{ended:#?}");
        worker
            .readyz_when("ready", |answer| answer.status == 200)
            .await;
        world.queue_empty().await;
    }
    assert!(
        world.branch("web", "a").await.is_some(),
        "branch rows are made again"
    );
    let replaced = worker.metric("backstack_streams_replaced_total").await;
    assert_eq!(replaced, Some(4.0));
}

#[tokio::test]
async fn a_setting_that_is_changed_is_told_and_left_alone() {
    let world = World::with_ack_wait(ACK_WAIT).await;
    let worker = Worker::start(&world, &[LISTEN]).await;
    worker
        .readyz_when("ready", |answer| answer.status == 200)
        .await;
    let info = ask(&world, &format!("STREAM.INFO.{QUEUE}"), Value::Null).await;
    let mut config = info["config"].clone();
    config["duplicate_window"] = json!(60_000_000_000_u64);
    ask(&world, &format!("STREAM.UPDATE.{QUEUE}"), config).await;
    let answer = worker
        .readyz_when("not ready", |answer| answer.status == 503)
        .await;
    let problem = answer.problem("topology").expect("a problem");
    let line = "BACKSTACK_ACTIONS: duplicate_window is 60000000000, but must be 600000000000";
    assert!(problem.contains(line), "{problem}");
    assert_eq!(
        worker.metric("backstack_topology_problems").await,
        Some(1.0)
    );
    worker.said(line).await;
    let _remote = world.repo("web").await;
    assert_completed(&world.run("web", "sync_repo", "").await);
}

#[tokio::test]
async fn the_queue_cannot_be_purged() {
    let world = World::with_ack_wait(ACK_WAIT).await;
    let job = world.publish("web", "sync_repo", "").await;
    let refused = world
        .ask(&format!("STREAM.PURGE.{QUEUE}"), &Value::Null)
        .await;
    assert!(refused.is_err(), "{refused:?}");
    let _remote = world.repo("web").await;
    let _worker = Worker::start(&world, &[]).await;
    assert_completed(&world.ended("web", job).await);
}
