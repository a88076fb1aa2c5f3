//! What an operator sees of a worker: `/healthz`, `/readyz`, `/metrics`, and its log.

use std::ffi::OsStr;
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use backstack_schemas::JobStatus;
use backstack_tests::listening::get;
use backstack_tests::{Midway, Program, Worker, World};
use serde_json::Value;

const LISTEN: &str = "--listen=127.0.0.1:0";

/// How soon what happened has to show.
const TOLD_WITHIN: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_worker_that_works_says_so() {
    let world = World::start().await;
    let worker = Worker::start(&world, &[LISTEN]).await;
    let ready = worker
        .readyz_when("ready", |answer| answer.status == 200)
        .await;
    assert_eq!(ready.json()["ready"], true);
    for check in ["nats", "topology", "pulls", "state_dir", "git", "drain"] {
        assert_eq!(ready.problem(check), None);
    }
    let alive = worker.get("/healthz").await;
    assert_eq!((alive.status, alive.body.as_str()), (200, "ok\n"));
    assert_eq!(worker.get("/nothing").await.status, 404);
}

#[tokio::test]
async fn an_address_that_cannot_be_had_is_told_before_anything_starts() {
    let world = World::blank().await;
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");
    let worker = Worker::launch(&world, &[&format!("--listen={address}")]);
    let output = worker.program().output().await;
    assert_eq!(output.code, 2, "{}", output.stderr);
    for word in [
        &format!("--listen {address}"),
        "another process",
        "choose another port",
    ] {
        assert!(output.stderr.contains(word), "{word}: {}", output.stderr);
    }
    assert!(!worker.state().exists(), "nothing was made");

    let worker = Worker::launch(&world, &["--listen=localhost"]);
    let output = worker.program().output().await;
    assert_eq!(output.code, 2, "{}", output.stderr);
    assert!(
        output.stderr.contains("like 127.0.0.1:8790"),
        "{}",
        output.stderr
    );
}

#[tokio::test]
async fn without_nats_a_worker_lives_and_is_not_ready_until_it_is_back() {
    let world = World::start().await;
    let worker = Worker::start(&world, &[LISTEN]).await;
    worker
        .readyz_when("ready", |answer| answer.status == 200)
        .await;
    world.server().kill9().await;
    let since = Instant::now();
    let answer = worker
        .readyz_when("not ready", |answer| answer.status == 503)
        .await;
    assert!(since.elapsed() < TOLD_WITHIN, "{:?}", since.elapsed());
    assert!(
        answer
            .problem("nats")
            .is_some_and(|p| p.contains("no connection")),
        "{answer:?}"
    );
    assert_eq!(worker.get("/healthz").await.status, 200);
    assert_eq!(worker.metric("backstack_nats_connected").await, Some(0.0));

    world.server().restart().await.expect("a server");
    worker
        .readyz_when("ready again", |answer| answer.status == 200)
        .await;
    assert_eq!(worker.metric("backstack_nats_connected").await, Some(1.0));
    assert_eq!(
        worker.metric("backstack_nats_reconnects_total").await,
        Some(1.0)
    );
    let _remote = world.repo("web").await;
    let job = world.run("web", "sync_repo", "").await;
    assert_eq!(job.status, JobStatus::Completed, "{job:#?}");
}

#[tokio::test]
async fn a_worker_that_drains_is_not_ready_and_still_answers() {
    let world = World::start().await;
    let worker = Worker::start(&world, &[LISTEN]).await;
    let midway = Midway::reach(&world).await;
    worker
        .readyz_when("ready", |answer| answer.status == 200)
        .await;
    assert_eq!(
        worker
            .metric(r#"backstack_held_messages{state="running"}"#)
            .await,
        Some(1.0)
    );
    assert_eq!(worker.metric("backstack_permits_in_use").await, Some(1.0));
    worker.program().process().terminate();
    let answer = worker
        .readyz_when("draining", |answer| answer.status == 503)
        .await;
    assert!(
        answer
            .problem("drain")
            .is_some_and(|p| p.contains("shutting down")),
        "{answer:?}"
    );
    assert_eq!(worker.get("/healthz").await.status, 200);
    assert_eq!(worker.metric("backstack_draining").await, Some(1.0));
    let (_remote, _gate, job) = midway.release();
    let ended = world.ended("web", job).await;
    assert_eq!(ended.status, JobStatus::Completed, "{ended:#?}");
    assert_eq!(worker.program().output().await.code, 0);
}

#[tokio::test]
async fn a_state_directory_or_git_that_goes_away_is_told_until_it_is_back() {
    let world = World::start().await;
    let git = world.dir().join("git");
    std::os::unix::fs::symlink(git_on_path(), &git).expect("a link");
    let named = format!("--git={}", git.display());
    let worker = Worker::start(&world, &[LISTEN, &named]).await;
    worker
        .readyz_when("ready", |answer| answer.status == 200)
        .await;

    let (mirrors, away) = (worker.state().join("mirrors"), world.dir().join("away"));
    std::fs::rename(&mirrors, &away).expect("to move it");
    let answer = worker
        .readyz_when("not ready", |answer| answer.status == 503)
        .await;
    let problem = answer.problem("state_dir").expect("a problem");
    assert!(
        problem.contains(&worker.state().display().to_string()),
        "{problem}"
    );
    std::fs::rename(&away, &mirrors).expect("to move it back");
    worker
        .readyz_when("ready again", |answer| answer.status == 200)
        .await;

    std::fs::remove_file(&git).expect("to remove it");
    let answer = worker
        .readyz_when("not ready", |answer| answer.status == 503)
        .await;
    let problem = answer.problem("git").expect("a problem");
    assert!(problem.contains(&git.display().to_string()), "{problem}");
    std::os::unix::fs::symlink("/bin/false", &git).expect("a link");
    let answer = worker
        .readyz_when("still not ready", |a| {
            a.problem("git") != Some(problem.clone())
        })
        .await;
    assert!(
        answer.problem("git").is_some(),
        "a program that is no git: {answer:?}"
    );
    std::fs::remove_file(&git).expect("to remove it");
    std::os::unix::fs::symlink(git_on_path(), &git).expect("a link");
    worker
        .readyz_when("ready again", |answer| answer.status == 200)
        .await;
}

fn git_on_path() -> std::path::PathBuf {
    let path = std::env::var_os("PATH").expect("a PATH");
    let mut found = std::env::split_paths(&path).map(|dir| dir.join("git"));
    found.find(|file| Path::exists(file)).expect("git")
}

#[tokio::test]
async fn what_happened_is_counted_and_measured() {
    let world = World::start().await;
    let worker = Worker::start(&world, &[LISTEN]).await;
    let remote = world.repo("web").await;
    remote.stack("main <- a: a1");
    world.register("web", &["a"]).await;
    remote.commit("main", &[("m1", "m1\n")], "m1");
    let job = world.run("web", "restack_repo", "").await;
    assert_eq!(job.status, JobStatus::Completed, "{job:#?}");
    let refused = world
        .run("web", "rebase_branch", r#"{"branch": "nowhere"}"#)
        .await;
    assert_eq!(refused.status, JobStatus::Error, "{refused:#?}");
    let bad = world.run("web", "sync_repo", r#"{"branch": "a"}"#).await;
    assert_eq!(bad.status, JobStatus::Error, "{bad:#?}");
    let unheard_of = world.run("web", "make_coffee", "").await;
    assert_eq!(unheard_of.status, JobStatus::Error, "{unheard_of:#?}");
    world.queue_empty().await;

    for (sample, value) in [
        (
            r#"backstack_runs_total{action="register_existing_branch",ending="completed"}"#,
            1.0,
        ),
        (
            r#"backstack_runs_total{action="restack_repo",ending="completed"}"#,
            1.0,
        ),
        (
            r#"backstack_runs_total{action="rebase_branch",ending="branch_not_found"}"#,
            1.0,
        ),
        (
            r#"backstack_runs_total{action="sync_repo",ending="invalid_action"}"#,
            1.0,
        ),
        (
            r#"backstack_runs_total{action="other",ending="invalid_action"}"#,
            1.0,
        ),
        (r#"backstack_run_seconds_count{action="restack_repo"}"#, 1.0),
        ("backstack_queue_wait_seconds_count", 3.0),
        (r#"backstack_job_attempts_bucket{le="1.0"}"#, 3.0),
        (r#"backstack_fetch_seconds_count{outcome="ok"}"#, 3.0),
        (r#"backstack_push_seconds_count{outcome="ok"}"#, 1.0),
        (r#"backstack_push_seconds_count{outcome="error"}"#, 0.0),
        (r#"backstack_dead_letters_total{reason="bad_payload"}"#, 1.0),
        (r#"backstack_dead_letters_total{reason="bad_subject"}"#, 1.0),
        (r#"backstack_deliveries_total{again="false"}"#, 5.0),
        (r#"backstack_held_messages{state="running"}"#, 0.0),
        ("backstack_permits_in_use", 0.0),
        ("backstack_topology_problems", 0.0),
        ("backstack_draining", 0.0),
    ] {
        assert_eq!(worker.metric(sample).await, Some(value), "{sample}");
    }
    let answer = worker.get("/metrics").await;
    assert!(
        answer
            .head
            .contains("application/openmetrics-text; version=1.0.0"),
        "{}",
        answer.head
    );
    assert!(answer.body.ends_with("# EOF\n"), "{}", answer.body);
    assert!(
        !answer.body.contains("web"),
        "no repository is a label: {}",
        answer.body
    );
    assert_eq!(worker.stop().await.code, 0);
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

/// Log lines about jobs of a worker that logs JSON, once one has ended: message and span. Clients may
/// know of the end before the worker says so.
async fn lines(worker: &Worker) -> Vec<(String, Value)> {
    worker.said("\"ended\"").await;
    let said = worker.program().stderr();
    let lines = said.lines().map(|line| {
        let line: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert!(
            line["timestamp"].is_string() && line["level"].is_string(),
            "{line}"
        );
        let message = line["message"].as_str().unwrap_or_default().to_owned();
        (message, line["span"].clone())
    });
    lines.filter(|(_, span)| span["name"] == "job").collect()
}

#[tokio::test]
async fn every_log_line_of_a_job_says_which_attempt_of_which_job_and_which_trace() {
    let world = World::start().await;
    let state = world.dir().join("state");
    let log: [(&str, &OsStr); 1] = [("BACKSTACK_LOG", "debug,async_nats=warn".as_ref())];
    let worker = Worker::launch_with(&world, &state, &["--log-format=json"], &log);
    worker.ready(&world).await;
    let _remote = world.repo("web").await;
    let mut headers = HeaderMap::new();
    headers.insert("traceparent", format!("00-{TRACE}-{SPAN}-01"));
    let job = "01999999-9999-7999-8999-99999999abcd";
    headers.insert("Nats-Msg-Id", format!("web.{job}"));
    let sent = world
        .publish_raw("backstack.actions.web.sync_repo", headers, b"")
        .await;
    sent.expect("an acknowledgement");
    let ended = world.ended("web", job.parse().expect("an id")).await;
    assert_eq!(ended.status, JobStatus::Completed, "{ended:#?}");
    world.queue_empty().await;

    let lines = lines(&worker).await;
    for message in ["runs", "git", "ended"] {
        assert!(
            lines.iter().any(|(said, _)| said == message),
            "{message}: {lines:#?}"
        );
    }
    let from = lines
        .iter()
        .position(|(said, _)| said == "runs")
        .expect("it ran");
    for (said, span) in &lines[from..] {
        assert_eq!(span["job_id"], job, "{said}");
        assert_eq!(span["repo"], "web", "{said}");
        assert_eq!(span["action"], "sync_repo", "{said}");
        assert_eq!(
            (&span["attempt"], &span["run"]),
            (&1.into(), &1.into()),
            "{said}: {span}"
        );
        assert_eq!(span["trace_id"], TRACE, "{said}");
        assert_eq!(span["parent_span_id"], SPAN, "{said}");
    }
}

#[tokio::test]
async fn a_trace_that_is_none_is_ignored() {
    let world = World::start().await;
    let worker = Worker::start(&world, &["--log-format=json"]).await;
    let _remote = world.repo("web").await;
    let mut headers = HeaderMap::new();
    headers.insert(
        "traceparent",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
    );
    let sent = world
        .publish_raw("backstack.actions.web.sync_repo", headers, b"")
        .await;
    sent.expect("an acknowledgement");
    world.queue_empty().await;
    let lines = lines(&worker).await;
    assert!(lines.iter().any(|(said, _)| said == "ended"), "{lines:#?}");
    assert!(
        lines.iter().all(|(_, span)| span["trace_id"].is_null()),
        "{lines:#?}"
    );
}

#[tokio::test]
async fn the_command_and_the_dead_letters_carry_a_trace_along() {
    let world = World::start().await;
    let worker = Worker::start(&world, &["--log-format=json"]).await;
    let _remote = world.repo("web").await;
    let trace = format!("00-{TRACE}-{SPAN}-01");
    let variables: [(&str, &OsStr); 1] = [("TRACEPARENT", trace.as_ref())];
    let command = Program::start_with(&world, "backstack", &["sync", "web", "--wait"], &variables);
    let output = command.output().await;
    assert_eq!(output.code, 0, "{}", output.stderr);
    let lines = lines(&worker).await;
    let ended = lines
        .iter()
        .find(|(said, _)| said == "ended")
        .expect("it ended");
    assert_eq!(ended.1["trace_id"], TRACE, "{ended:?}");

    let mut headers = HeaderMap::new();
    headers.insert("traceparent", trace.as_str());
    let sent = world
        .publish_raw("backstack.actions.web.sync_repo", headers, b"{")
        .await;
    sent.expect("an acknowledgement");
    world.queue_empty().await;
    let letters = world.dead_letters().await;
    let kept = letters[0]
        .headers
        .get("traceparent")
        .map(|value| value.as_str());
    assert_eq!(kept, Some(trace.as_str()));
}

/// Whoever asks again and again, as many at a time, costs a worker next to nothing.
#[tokio::test]
async fn two_hundred_questions_at_once_are_one_look() {
    let world = World::start().await;
    let worker = Worker::start(&world, &[LISTEN]).await;
    let address = worker.address().await;
    worker
        .readyz_when("ready", |answer| answer.status == 200)
        .await;
    let before = api_requests(&world).await;
    let asked = (0..200).map(|_| get(address, "/readyz"));
    let began = Instant::now();
    for answer in futures_util::future::join_all(asked).await {
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let looks = began.elapsed().as_secs() + 2;
    let requests = api_requests(&world).await - before;
    // A look is ten requests; the harness and what goes on beside add some.
    assert!(
        requests < looks * 10 + 60,
        "{requests} requests to JetStream"
    );
}

async fn api_requests(world: &World) -> u64 {
    let info = world
        .ask("INFO", &Value::Null)
        .await
        .expect("what the account did");
    info["api"]["total"].as_u64().expect("a count")
}
