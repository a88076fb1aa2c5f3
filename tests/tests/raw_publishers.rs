//! Publishers that know nothing of Backstack but its subjects: what `nats pub` sends gets a job row,
//! and what is no action ends in the dead letters without harm to anybody else.

use std::time::Duration;

use async_nats::HeaderMap;
use backstack_schemas::topology::{Bucket, MAX_ACTION_BYTES, job_key};
use backstack_schemas::{ErrorCode, Job, JobId, JobStatus};
use backstack_tests::raw_nats::RawNats;
use backstack_tests::rows::DeadLetter;
use backstack_tests::{Worker, World};
use serde_json::{Value, json};

const NATS_MESSAGE_ID: &str = "Nats-Msg-Id";
const STREAM: &str = "BACKSTACK_ACTIONS";
const SYNC: &str = "backstack.actions.web.sync_repo";

/// A world with the repository `web` and nobody who works.
async fn unattended() -> (World, backstack_tests::Remote) {
    let world = World::start().await;
    let remote = world.repo("web").await;
    (world, remote)
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, *value);
    }
    headers
}

/// The id that a stored message without one of its own gives its job.
async fn derived_id(world: &World, sequence: u64) -> JobId {
    let stream = world.jetstream().get_stream(STREAM).await;
    let message = stream.expect("the queue").get_raw_message(sequence).await;
    let message = message.unwrap_or_else(|error| panic!("message {sequence}: {error}"));
    JobId::derived(STREAM, sequence, message.time.unix_timestamp_nanos())
}

fn header<'a>(letter: &'a DeadLetter, name: &str) -> Option<&'a str> {
    letter.headers.get(name).map(|value| value.as_str())
}

#[tokio::test]
async fn a_plain_publish_gets_a_job_row() {
    let (world, _remote) = unattended().await;
    // No reply subject and no header: not even an acknowledgement is waited for.
    for payload in ["{}", ""] {
        let sent = world.client().publish(SYNC, payload.into());
        sent.await.expect("a connection");
    }
    world.stored_when(STREAM, 2).await;
    let ids = [derived_id(&world, 1).await, derived_id(&world, 2).await];
    let _worker = Worker::start(&world, &[]).await;
    for (id, sequence) in ids.into_iter().zip(1..) {
        let job = world.ended("web", id).await;
        assert_eq!(job.status, JobStatus::Completed, "{job:#?}");
        assert_eq!(job.sequence, Some(sequence));
        assert_eq!(job.spec.requested_by, None);
    }
    world.queue_empty().await;
}

#[tokio::test]
async fn a_message_id_names_the_job_where_it_is_a_uuid() {
    let (world, _remote) = unattended().await;
    let ids: Vec<_> = (0..5).map(|_| JobId::generate()).collect();
    let names = [
        ids[0].to_string(),
        format!("web.{}", ids[1]),
        // Not this repository's, not a UUID, not in canonical form: ids of their own.
        format!("api.{}", ids[2]),
        "nightly".to_owned(),
        ids[4].to_string().to_uppercase(),
    ];
    for name in &names {
        let sent = world.publish_raw(SYNC, headers(&[(NATS_MESSAGE_ID, name)]), b"");
        sent.await.expect("accepted");
    }
    let mut expected = vec![ids[0], ids[1]];
    for sequence in 3..=5 {
        expected.push(derived_id(&world, sequence).await);
    }
    let _worker = Worker::start(&world, &[]).await;
    for (id, name) in expected.into_iter().zip(&names) {
        let job = world.ended("web", id).await;
        assert_eq!(job.status, JobStatus::Completed, "{name}: {job:#?}");
    }
    assert_eq!(world.job("web", ids[2]).await, None);
    assert_eq!(world.job("web", ids[4]).await, None);
}

#[tokio::test]
async fn the_payloads_job_id_goes_before_the_message_id() {
    let (world, _remote) = unattended().await;
    let (ours, theirs) = (JobId::generate(), JobId::generate());
    let payload = json!({"job_id": ours, "requested_by": "cron"}).to_string();
    let message_id = headers(&[(NATS_MESSAGE_ID, &format!("web.{theirs}"))]);
    let sent = world.publish_raw(SYNC, message_id, payload.as_bytes());
    sent.await.expect("accepted");
    let _worker = Worker::start(&world, &[]).await;
    let job = world.ended("web", ours).await;
    assert_eq!(job.status, JobStatus::Completed, "{job:#?}");
    assert_eq!(job.spec.requested_by.as_deref(), Some("cron"));
    world.queue_empty().await;
    assert_eq!(world.job("web", theirs).await, None);
}

#[tokio::test]
async fn publishing_twice_runs_once() {
    let (world, _remote) = unattended().await;
    let job = JobId::generate();
    let first = world.publish_as(job, "web", "sync_repo", "").await;
    let second = world.publish_as(job, "web", "sync_repo", "").await;
    assert!(!first.duplicate && second.duplicate);
    assert_eq!(first.sequence, second.sequence);
    assert_eq!(world.stored(STREAM).await, 1);
    let _worker = Worker::start(&world, &[]).await;
    let ended = world.ended("web", job).await;
    assert_eq!((ended.run, ended.attempt), (1, 1), "{ended:#?}");
    let third = world.publish_as(job, "web", "sync_repo", "").await;
    assert!(
        third.duplicate,
        "known for ten minutes, acknowledged or not"
    );
    assert_eq!(world.job("web", job).await, Some(ended));
}

#[tokio::test]
async fn what_is_done_is_not_done_again() {
    let (world, _remote) = unattended().await;
    let _worker = Worker::start(&world, &[]).await;
    let job = JobId::generate();
    // Without a message id JetStream cannot tell that it is the same.
    let payload = json!({ "job_id": job }).to_string();
    let publish = || world.publish_raw(SYNC, HeaderMap::new(), payload.as_bytes());
    publish().await.expect("accepted");
    world.ended("web", job).await;
    let before = world.job_history("web", job).await;
    let again = publish().await.expect("accepted");
    assert_eq!((again.duplicate, again.sequence), (false, 2));
    world.queue_empty().await;
    assert_eq!(
        world.job_history("web", job).await,
        before,
        "the row changed"
    );
    assert_eq!(world.dead_letters().await.len(), 0);
}

#[tokio::test]
async fn the_job_row_remembers_what_a_restarted_server_forgets() {
    let (world, _remote) = unattended().await;
    let _worker = Worker::start(&world, &[]).await;
    let job = JobId::generate();
    world.publish_as(job, "web", "sync_repo", "").await;
    let ended = world.ended("web", job).await;
    world.queue_empty().await;
    world.server().kill9().await;
    world.server().restart().await.expect("a server");
    let again = world.publish_as(job, "web", "sync_repo", "").await;
    // Its turn comes after the one that is looked at.
    world.run("web", "restack_repo", "").await;
    assert!(
        !again.duplicate,
        "the test shows nothing: the server remembered"
    );
    assert_eq!(world.job("web", job).await, Some(ended));
}

#[tokio::test]
async fn a_job_id_used_again_for_something_else_is_a_dead_letter() {
    let (world, _remote) = unattended().await;
    let _worker = Worker::start(&world, &[]).await;
    let job = JobId::generate();
    let payload = json!({ "job_id": job }).to_string();
    let accepted = world.publish_raw(SYNC, HeaderMap::new(), payload.as_bytes());
    accepted.await.expect("accepted");
    let ended = world.ended("web", job).await;
    for (sequence, subject, body) in [
        (
            2,
            "backstack.actions.web.restack_repo",
            json!({ "job_id": job }),
        ),
        (3, SYNC, json!({"job_id": job, "dry_run": true})),
        (4, SYNC, json!({"job_id": job, "requested_by": "mallory"})),
    ] {
        let payload = body.to_string();
        let sent = world.publish_raw(subject, HeaderMap::new(), payload.as_bytes());
        sent.await.expect("accepted");
        world.queue_empty().await;
        let letters = world.dead_letters().await;
        let letter = letters.last().expect("a dead letter");
        assert_eq!(letter.subject, "backstack.dead.duplicate_job");
        assert_eq!(letter.payload, payload.as_bytes());
        assert_eq!(header(letter, "Backstack-Subject"), Some(subject));
        let id = format!("{STREAM}:{sequence}");
        assert_eq!(header(letter, "Nats-Msg-Id"), Some(id.as_str()));
    }
    assert_eq!(world.dead_letters().await.len(), 3);
    assert_eq!(world.job("web", job).await, Some(ended));
}

/// The same id under another repository is another job.
#[tokio::test]
async fn job_ids_belong_to_their_repository() {
    let (world, _remote) = unattended().await;
    let _other = world.repo("api").await;
    let _worker = Worker::start(&world, &[]).await;
    let job = JobId::generate();
    for repo in ["web", "api"] {
        let accepted = world.publish_as(job, repo, "sync_repo", "").await;
        assert!(!accepted.duplicate);
        let ended = world.ended(repo, job).await;
        assert_eq!(ended.status, JobStatus::Completed, "{ended:#?}");
    }
}

#[tokio::test]
async fn an_undecodable_payload_is_kept_whole_and_told() {
    let (world, _remote) = unattended().await;
    let _worker = Worker::start(&world, &[]).await;
    let job = JobId::generate();
    let deep = format!("{}{}", "[".repeat(1_000), "]".repeat(1_000));
    let deep_field = format!(r#"{{"branch": {deep}}}"#);
    let payloads: [&[u8]; 7] = [
        b"{",
        b"\xff\xfe{}",
        b"{\"requested_by\": \"\xc3\x28\"}",
        b"\0\0\0",
        deep.as_bytes(),
        deep_field.as_bytes(),
        b"{\"dry_run\": true, }",
    ];
    for (payload, nth) in payloads.iter().zip(1_u64..) {
        let id = if nth == 1 { job } else { JobId::generate() };
        let sent = headers(&[
            (NATS_MESSAGE_ID, &format!("web.{id}")),
            ("Trace-Id", "t-17"),
            ("Trace-Id", "t-18"),
        ]);
        let accepted = world.publish_raw(SYNC, sent, payload).await;
        let sequence = accepted.expect("accepted").sequence;
        let row = world.ended("web", id).await;
        assert_invalid(&row, "not JSON");
        world.stored_when("BACKSTACK_DEAD", nth).await;
        let letters = world.dead_letters().await;
        let letter = letters.last().expect("a dead letter");
        assert_eq!(letter.subject, "backstack.dead.bad_payload");
        assert_eq!(letter.payload, *payload);
        assert_eq!(header(letter, "Backstack-Subject"), Some(SYNC));
        let name = format!("{STREAM}:{sequence}");
        assert_eq!(header(letter, "Nats-Msg-Id"), Some(name.as_str()));
        let written = stored_headers(&world, "BACKSTACK_DEAD", nth).await;
        for own in ["Trace-Id: t-17\r\n", "Trace-Id: t-18\r\n"] {
            assert!(written.contains(own), "{own:?} is not in {written:?}");
        }
    }
    world.queue_empty().await;
}

/// A stored message's headers as they were written, repeated ones too.
async fn stored_headers(world: &World, stream: &str, sequence: u64) -> String {
    use base64::Engine as _;
    let body = json!({ "seq": sequence });
    let answer = world.ask(&format!("STREAM.MSG.GET.{stream}"), &body).await;
    let answer = answer.expect("a message");
    let headers = answer["message"]["hdrs"].as_str().unwrap_or_default();
    let headers = base64::engine::general_purpose::STANDARD.decode(headers);
    String::from_utf8_lossy(&headers.expect("base64")).into_owned()
}

fn assert_invalid(row: &Job, says: &str) {
    assert_eq!(row.status, JobStatus::Error, "{row:#?}");
    let error = row.error.as_ref().expect("an error");
    assert_eq!(error.code, ErrorCode::InvalidAction);
    assert!(error.detail.contains(says), "{}", error.detail);
}

#[tokio::test]
async fn a_subject_that_names_no_repository_is_a_dead_letter_without_a_row() {
    let (world, _remote) = unattended().await;
    let _worker = Worker::start(&world, &[]).await;
    let subjects = [
        // A literal `*` is stored as it is, outside all partitions.
        "backstack.actions.*.sync_repo".to_owned(),
        "backstack.actions.Web.sync_repo".to_owned(),
        "backstack.actions.-web.sync_repo".to_owned(),
        "backstack.actions.wéb.sync_repo".to_owned(),
        format!("backstack.actions.{}.sync_repo", "w".repeat(64)),
    ];
    for (subject, nth) in subjects.iter().zip(1_u64..) {
        let sent = world.publish_raw(subject, HeaderMap::new(), br#"{"dry_run": true}"#);
        let sequence = sent.await.expect("accepted").sequence;
        world.stored_when("BACKSTACK_DEAD", nth).await;
        let letters = world.dead_letters().await;
        let letter = letters.last().expect("a dead letter");
        assert_eq!(letter.subject, "backstack.dead.bad_subject", "{subject}");
        assert_eq!(letter.payload, br#"{"dry_run": true}"#);
        assert_eq!(header(letter, "Backstack-Subject"), Some(subject.as_str()));
        let name = format!("{STREAM}:{sequence}");
        assert_eq!(header(letter, "Nats-Msg-Id"), Some(name.as_str()));
    }
    world.queue_empty().await;
    assert_eq!(world.stored("KV_backstack_jobs").await, 0, "nobody's rows");
}

#[tokio::test]
async fn an_unknown_action_is_told_in_the_repositorys_row() {
    let (world, _remote) = unattended().await;
    let _worker = Worker::start(&world, &[]).await;
    for (action, nth) in [("deploy", 1), ("*", 2), ("sync_repo_", 3)] {
        let subject = format!("backstack.actions.web.{action}");
        let id = JobId::generate();
        let sent = headers(&[(NATS_MESSAGE_ID, &id.to_string())]);
        world
            .publish_raw(&subject, sent, b"")
            .await
            .expect("accepted");
        world.stored_when("BACKSTACK_DEAD", nth).await;
        let letters = world.dead_letters().await;
        let letter = letters.last().expect("a dead letter");
        assert_eq!(letter.subject, "backstack.dead.bad_subject");
        assert_eq!(header(letter, "Backstack-Subject"), Some(subject.as_str()));
        let row = world.ended("web", id).await;
        assert_invalid(&row, "there is no action");
        assert_eq!(row.spec.action, action);
    }
    world.queue_empty().await;
}

/// Headers that mean something to JetStream would make the copy fail, or do something else.
#[tokio::test]
async fn headers_that_mean_something_to_jetstream_do_not_stop_a_dead_letter() {
    let (world, _remote) = unattended().await;
    let _worker = Worker::start(&world, &[]).await;
    let last = |sequence: u64| sequence.to_string();
    let mut accepted = 0;
    for (name, value) in [
        ("Nats-Expected-Stream", STREAM.to_owned()),
        ("Nats-Expected-Last-Sequence", last(1)),
        ("Nats-Expected-Last-Subject-Sequence", last(0)),
        (
            "Nats-Expected-Last-Subject-Sequence-Subject",
            "x.y".to_owned(),
        ),
        ("Nats-Expected-Last-Msg-Id", "x".to_owned()),
        ("Nats-Rollup", "all".to_owned()),
        ("Nats-TTL", "1s".to_owned()),
        ("Nats-Marker-Reason", "MaxAge".to_owned()),
        ("Nats-Schedule", "@every 1s".to_owned()),
        ("Nats-Schedule-Target", "backstack.dead.x".to_owned()),
        ("Nats-Schedule-TTL", "1s".to_owned()),
        ("Nats-Scheduler", "backstack.schedules.web.x".to_owned()),
        ("Nats-Schedule-Next", "purge".to_owned()),
        ("Nats-Incr", "1".to_owned()),
        ("Nats-Batch-Id", "b".to_owned()),
        ("Nats-Batch-Sequence", "1".to_owned()),
        ("Nats-Batch-Commit", "1".to_owned()),
        ("Nats-Required-Api-Level", "0".to_owned()),
        ("Nats-Stream-Source", "X 1 > >".to_owned()),
        ("Nats-Subject", "backstack.queue.0.api.sync_repo".to_owned()),
        ("Nats-Sequence", "99".to_owned()),
        ("Nats-Time-Stamp", "soon".to_owned()),
        ("Nats-Num-Pending", "7".to_owned()),
        ("Status", "503".to_owned()),
        ("Description", "x".to_owned()),
    ] {
        let sent = world.publish_raw(SYNC, headers(&[(name, &value)]), b"{");
        // What JetStream refuses itself needs no dead letter.
        accepted += u64::from(sent.await.is_ok());
        world.stored_when("BACKSTACK_DEAD", accepted).await;
        world.queue_empty().await;
    }
    assert!(accepted > 8, "JetStream refused nearly all: {accepted}");
    let job = world.run("web", "sync_repo", "").await;
    assert_eq!(job.status, JobStatus::Completed, "{job:#?}");
}

#[tokio::test]
async fn what_is_too_large_is_refused_when_it_is_published() {
    let (world, _remote) = unattended().await;
    let _worker = Worker::start(&world, &[]).await;
    let padded = |bytes: usize| format!("{{}}{}", " ".repeat(bytes - 2));
    let largest = padded(MAX_ACTION_BYTES);
    let fits = world.publish_raw(SYNC, HeaderMap::new(), largest.as_bytes());
    fits.await.expect("64 KiB are accepted");
    let one_more = padded(MAX_ACTION_BYTES + 1);
    let refused = world.publish_raw(SYNC, HeaderMap::new(), one_more.as_bytes());
    let error = refused.await.expect_err("65,537 bytes").to_string();
    assert!(error.contains("maximum"), "{error}");
    world.queue_empty().await;
    assert_eq!(world.dead_letters().await.len(), 0);
}

/// A row that the publisher made before the worker came to it is taken over, not replaced.
#[tokio::test]
async fn a_publishers_own_row_is_used() {
    let (world, _remote) = unattended().await;
    let job = world
        .publish("web", "sync_repo", r#"{"requested_by": "alice"}"#)
        .await;
    let key = job_key(&"web".parse().unwrap(), job);
    let row = json!({
        "job_id": job, "repo": "web", "action": "sync_repo", "requested_by": "alice",
        "status": "queued", "message": "Accepted", "attempt": 0, "max_attempts": 5, "run": 0,
        "transitions": [{"at": "2026-11-22T10:00:00.000Z", "status": "queued"}],
        "created_at": "2026-11-22T10:00:00.000Z", "updated_at": "2026-11-22T10:00:00.000Z",
    });
    world.put_row::<Value>(Bucket::Jobs, &key, &row).await;
    let _worker = Worker::start(&world, &[]).await;
    let ended = world.ended("web", job).await;
    assert_eq!(ended.status, JobStatus::Completed, "{ended:#?}");
    assert_eq!(ended.created_at.to_string(), "2026-11-22T10:00:00.000Z");
    assert_eq!(world.dead_letters().await.len(), 0);
}

/// The headers that a direct get adds cannot be forged: whoever may publish for one repository asks
/// for nothing in another.
#[tokio::test]
async fn headers_cannot_lead_into_another_repository() {
    let (world, _remote) = unattended().await;
    let _other = world.repo("api").await;
    let first = JobId::generate();
    let forged = headers(&[
        (NATS_MESSAGE_ID, &first.to_string()),
        ("Nats-Subject", "backstack.queue.0.api.sync_repo"),
        ("Nats-Sequence", "2"),
        ("Nats-Time-Stamp", "2020-01-01T00:00:00Z"),
    ]);
    let accepted = world.publish_raw(SYNC, forged, b"");
    accepted.await.expect("accepted");
    let second = world.publish("web", "sync_repo", "").await;
    let _worker = Worker::start(&world, &[]).await;
    for (job, sequence) in [(first, 1), (second, 2)] {
        let ended = world.ended("web", job).await;
        assert_eq!(ended.status, JobStatus::Completed, "{ended:#?}");
        assert_eq!(ended.sequence, Some(sequence));
        assert_eq!(world.job("api", job).await, None);
    }
    world.queue_empty().await;
}

#[tokio::test]
async fn a_status_line_does_not_hide_a_message() {
    let (world, _remote) = unattended().await;
    let _worker = Worker::start(&world, &[]).await;
    for status in ["404 No Messages", "408 Request Timeout", "503", "100 Idle"] {
        let id = JobId::generate();
        let header = format!("NATS/1.0 {status}\r\nNats-Msg-Id: {id}\r\n\r\n");
        RawNats::store(&world, SYNC.as_bytes(), header.as_bytes(), b"").await;
        let job = world.ended("web", id).await;
        assert_eq!(job.status, JobStatus::Completed, "{status}: {job:#?}");
        world.queue_empty().await;
    }
}

/// What no client library sends, the client library of the workers cannot read: it drops the
/// connection. Such a message is found, buried and removed, and others go on.
#[tokio::test]
async fn what_cannot_even_be_read_is_a_dead_letter() {
    let world = World::with_ack_wait(Duration::from_secs(2)).await;
    let _remote = world.repo("web").await;
    let _worker = Worker::start(&world, &[]).await;
    let id = JobId::generate();
    let not_text = [
        format!("NATS/1.0\r\nNats-Msg-Id: {id}\r\nX: ").as_bytes(),
        b"\xff\xfe\r\n\r\n",
    ]
    .concat();
    RawNats::store(&world, SYNC.as_bytes(), &not_text, b"").await;
    let row = world.ended("web", id).await;
    assert_invalid(&row, "headers are not UTF-8");
    assert_eq!(row.spec.action, "sync_repo");
    let no_header = b"NATS/1.0\r\nnonsense\r\n\r\n";
    RawNats::store(&world, SYNC.as_bytes(), no_header, b"{}").await;
    let no_subject = b"backstack.actions.w\xff.sync_repo";
    RawNats::store(&world, no_subject, b"NATS/1.0\r\n\r\n", b"").await;
    let job = world.run("web", "sync_repo", "").await;
    assert_eq!(job.status, JobStatus::Completed, "{job:#?}");
    world.queue_empty().await;
    let letters = world.dead_letters().await;
    let subjects: Vec<_> = letters
        .iter()
        .map(|letter| letter.subject.as_str())
        .collect();
    let (payload, subject) = ("backstack.dead.bad_payload", "backstack.dead.bad_subject");
    assert_eq!(subjects, [payload, payload, subject]);
    assert_eq!(header(&letters[0], "Backstack-Subject"), Some(SYNC));
    assert_eq!(letters[1].payload, b"{}");
}

/// A few of those do not break the connection but end the library's work on it. The worker looks through the
/// queue and starts anew, under the same process id.
#[tokio::test]
async fn what_brings_the_client_library_down_is_a_dead_letter_too() {
    let world = World::with_ack_wait(Duration::from_secs(2)).await;
    let _remote = world.repo("web").await;
    let worker = Worker::start(&world, &[]).await;
    for header in ["X: a\rb", "X: a\r\n\rb"] {
        let id = JobId::generate();
        let block = format!("NATS/1.0\r\nNats-Msg-Id: {id}\r\n{header}\r\n\r\n");
        RawNats::store(&world, SYNC.as_bytes(), block.as_bytes(), b"").await;
        let row = world.ended("web", id).await;
        assert_invalid(&row, "carriage return");
        let job = world.run("web", "sync_repo", "").await;
        assert_eq!(job.status, JobStatus::Completed, "{job:#?}");
    }
    world.queue_empty().await;
    assert_eq!(world.dead_letters().await.len(), 2);
    assert_eq!(worker.stop().await.code, 0);
}
