//! Workers and clients whose wall clock is wrong, by an hour or by forty days, either way. What they write
//! is the server's time, and what they decide is what the others decide.
#![cfg(target_os = "linux")]

use std::ffi::OsStr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use backstack_schemas::topology::Bucket;
use backstack_schemas::{ErrorCode, Job, JobStatus, Repository, TaskStatus, Timestamp};
use backstack_tests::clock_shim::ClockShim;
use backstack_tests::{Gate, Program, Worker, World};

const HOUR: i64 = 3_600;

/// Longer than rows are kept, and than a branch that is gone.
const FORTY_DAYS: i64 = 40 * 24 * HOUR;

const ACK_WAIT: Duration = Duration::from_secs(2);

/// How much later than it must something may happen on a machine that has other work.
const SLACK: Duration = Duration::from_secs(4);

async fn impatient() -> (World, ClockShim) {
    let world = World::with_ack_wait(ACK_WAIT).await;
    let shim = ClockShim::build(&world);
    (world, shim)
}

/// A worker whose clock, and whose git's, is off; the test fails where it is not.
async fn worker_off_by(world: &World, shim: &ClockShim, seconds: i64) -> Worker {
    let git = shim.git(seconds);
    let off = ClockShim::gits_time(&git) - now().unix_millis() / 1_000;
    assert!((off - seconds).abs() < 60, "git's clock is off by {off} s");
    let variables = shim.variables(seconds);
    let variables = variables
        .each_ref()
        .map(|(name, value)| (*name, value.as_os_str()));
    let state = world.dir().join(format!("state-of-{seconds}"));
    let git = format!("--git={}", git.display());
    let worker = Worker::launch_through(world, &[], &state, &[&git], &variables);
    worker.ready(world).await;
    worker.said("ready for work").await;
    let said = worker.program().stderr();
    let logged = said.split_whitespace().next().unwrap_or_default();
    let logged: Timestamp = serde_json::from_value(logged.into()).expect("a log line's time");
    let off = (logged.unix_millis() - now().unix_millis()) / 1_000;
    assert!(
        (off - seconds).abs() < 60,
        "the worker's clock is off by {off} s"
    );
    worker
}

/// The machine's own clock, which is the server's.
fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a clock");
    let millis = i64::try_from(since.as_millis()).expect("a clock");
    Timestamp::from_unix_millis(millis).expect("a time")
}

/// Every time in the row is one between the two, and they are in order.
#[track_caller]
fn assert_between(job: &Job, before: Timestamp, after: Timestamp) {
    let mut times = vec![job.created_at];
    times.extend(job.transitions.iter().map(|transition| transition.at));
    times.extend(job.finished_at);
    times.push(job.updated_at);
    assert!(times.is_sorted(), "{times:?}");
    times.extend(job.started_at);
    for at in times {
        assert_time(at, before, after);
    }
}

/// Estimates lie a little in the past, since what they are made of does.
#[track_caller]
fn assert_time(at: Timestamp, before: Timestamp, after: Timestamp) {
    let early = before.since(at);
    assert!(
        early < Duration::from_secs(2) && at <= after,
        "{at}: {before} to {after}"
    );
}

#[tokio::test]
async fn what_a_worker_with_a_wrong_clock_writes_is_the_servers_time() {
    for seconds in [HOUR, -HOUR, FORTY_DAYS, -FORTY_DAYS] {
        let before = now();
        let (world, shim) = impatient().await;
        let web = world.repo("web").await;
        web.stack("main <- a: a1 <- b: b1 <- gone: c1");
        // Without a row: to a worker forty days ahead it is older than rows are kept.
        let waiting = world.publish("web", "sync_repo", "").await;
        let _worker = worker_off_by(&world, &shim, seconds).await;
        assert_between(&world.ended("web", waiting).await, before, now());
        world.register("web", &["a", "b", "gone"]).await;
        web.delete("gone");
        web.commit("main", &[("m1", "m1\n")], "m1");
        let restacked = world.publish("web", "restack_repo", "").await;
        let job = world.ended("web", restacked).await;
        assert_eq!(job.status, JobStatus::Completed, "{job:#?}");
        assert_between(&job, before, now());
        assert_eq!(web.draw(), "main  m0 m1\na     main: a1\nb     a: b1\n");

        // The commits are dated by when the action was stored.
        for branch in ["a", "b"] {
            let dated = web.git(&["log", "-1", "--format=%ct", branch]);
            let dated: i64 = dated.parse().expect("seconds");
            let at = Timestamp::from_unix_millis(dated * 1_000).expect("a time");
            assert_time(at, before, now());
            let row = world.branch("web", branch).await.expect("a row");
            assert_time(row.updated_at, before, now());
            assert_time(row.first_seen_at, before, now());
        }
        let repo: Repository = world.row(Bucket::Repos, "web").await.expect("a row");
        assert_time(repo.sync.synced_at.expect("a sync"), before, now());
        // What has just gone is kept, though by that clock it went forty days ago.
        world.run("web", "sync_repo", r#"{"restack": true}"#).await;
        let gone = world
            .branch("web", "gone")
            .await
            .expect("the row of a branch that is gone");
        assert_eq!(gone.head, None);
    }
}

#[tokio::test]
async fn retries_come_when_they_are_due() {
    for seconds in [HOUR, -HOUR] {
        let (world, shim) = impatient().await;
        let url = format!("file://{}/nowhere.git", world.dir().display());
        world.add_repo("web", &url).await;
        let _worker = worker_off_by(&world, &shim, seconds).await;
        let before = now();
        let since = Instant::now();
        let job = world.publish("web", "sync_repo", "").await;
        let again = world
            .job_when("web", job, "waiting for its third attempt", |job| {
                job.attempt == 2 && job.next_attempt_at.is_some()
            })
            .await;
        assert_eq!(
            again.error.as_ref().expect("why").code,
            ErrorCode::RemoteUnreachable
        );
        assert_between(&again, before, now());
        let due = again
            .next_attempt_at
            .expect("a time")
            .since(again.updated_at);
        assert!(
            due >= Duration::from_secs(1) && due <= Duration::from_secs(4),
            "{due:?}"
        );
        let took = since.elapsed();
        assert!(
            took >= Duration::from_secs(1) && took < Duration::from_secs(2) + SLACK,
            "{took:?}"
        );
        // The worker that takes it up has another opinion of the time, and is not asked for it.
        let _remote = world.remote("nowhere");
        let done = world.ended("web", job).await;
        assert_eq!(
            (done.status, done.attempt),
            (JobStatus::Completed, 3),
            "{done:#?}"
        );
    }
}

/// Two hours and more lie between them: each takes the other's rows as they are.
#[tokio::test]
async fn workers_two_hours_apart_share_the_work_in_order() {
    let (world, shim) = impatient().await;
    let before = now();
    let web = world.repo("web").await;
    web.stack("main <- a: a1");
    let ahead = worker_off_by(&world, &shim, HOUR).await;
    let behind = worker_off_by(&world, &shim, -HOUR).await;
    world.register("web", &["a"]).await;
    for round in 0..2 {
        web.commit("main", &[("m", &format!("{round}\n"))], "m");
        let gate = Gate::close(&web);
        let mut jobs = vec![world.publish("web", "restack_repo", "").await];
        let arrived = gate.arrived().await;
        for _ in 0..6 {
            jobs.push(
                world
                    .publish("web", "sync_repo", r#"{"restack": true}"#)
                    .await,
            );
        }
        // In the second round whoever has it dies, and the other takes over.
        let since = Instant::now();
        if round == 1 {
            let holder = world.job("web", jobs[0]).await.expect("a row");
            let holder = holder.worker.expect("a worker").to_string();
            let is_ahead = holder.contains(&format!("/{}/", ahead.pid()));
            if is_ahead { &ahead } else { &behind }.kill9().await;
        }
        gate.release();
        drop(arrived);
        let mut last = 0;
        for (nth, job) in jobs.into_iter().enumerate() {
            let ended = world.ended("web", job).await;
            assert_eq!(ended.status, JobStatus::Completed, "{ended:#?}");
            let runs = if round == 1 && nth == 0 { 2 } else { 1 };
            assert_eq!(
                (ended.run, ended.attempt),
                (runs, u32::try_from(runs).unwrap())
            );
            assert_between(&ended, before, now());
            if nth == 0 {
                assert!(since.elapsed() < ACK_WAIT + Duration::from_secs(3) + SLACK);
            }
            let history = world.job_history("web", job).await;
            let began = history
                .iter()
                .find(|(_, row)| row.run == runs)
                .expect("a run")
                .0;
            assert!(
                began > last,
                "a job began before the one before it had ended"
            );
            last = history.last().expect("an end").0;
        }
        assert!(gate.pushed().len() <= 1, "{:?}", gate.pushed());
    }
    world.queue_empty().await;
}

/// A command that has heard nothing from the server yet asks for its time before it writes any.
#[tokio::test]
async fn a_client_with_a_wrong_clock_writes_the_servers_time() {
    for seconds in [HOUR, -HOUR] {
        let before = now();
        let (world, shim) = impatient().await;
        let web = world.remote("web");
        web.stack("main <- a: a1");
        let variables = shim.variables(seconds);
        let variables: Vec<(&str, &OsStr)> = variables
            .iter()
            .map(|(name, value)| (*name, value.as_os_str()))
            .collect();
        let run = async |arguments: &[&str]| {
            let output = Program::start_with(&world, "backstack", arguments, &variables)
                .output()
                .await;
            assert_eq!(output.code, 0, "{arguments:?}: {}", output.stderr);
            output.stdout
        };
        run(&["repo", "add", "web", &web.url()]).await;
        let repo: Repository = world.row(Bucket::Repos, "web").await.expect("a row");
        assert_time(repo.created_at, before, now());
        let printed = run(&["sync", "web", "--json"]).await;
        let job: Job = serde_json::from_str(&printed).expect("a row");
        assert_time(job.created_at, before, now());
        let printed = run(&[
            "job",
            "cancel",
            "web",
            &job.spec.job_id.to_string(),
            "--json",
        ])
        .await;
        let cancelled: Job = serde_json::from_str(&printed).expect("a row");
        assert_between(&cancelled, before, now());
    }
}

/// A repository that was synced six minutes ago says little of what is there now, whoever asks, and however
/// little that has heard from the server before.
#[tokio::test]
async fn whether_a_sync_is_fresh_is_judged_by_the_servers_time() {
    let (world, shim) = impatient().await;
    let web = world.repo("web").await;
    web.stack("main <- a: a1");
    let worker = Worker::start(&world, &[]).await;
    world.run("web", "sync_repo", "").await;
    worker.stop().await;
    for (seconds, age, status) in [
        (-HOUR, 360, TaskStatus::PendingBranchAttach),
        (HOUR, 60, TaskStatus::Ready),
        (0, 360, TaskStatus::PendingBranchAttach),
    ] {
        let mut repo: Repository = world.row(Bucket::Repos, "web").await.expect("a row");
        let synced = now().unix_millis() - age * 1_000;
        repo.sync.synced_at = Timestamp::from_unix_millis(synced);
        world.put_row(Bucket::Repos, "web", &repo).await;
        let branch = format!("a-{}", seconds + age);
        web.force(&branch, "a");
        let mut row = world.branch("web", "a").await.expect("a row");
        row.branch = branch.parse().expect("a branch");
        world
            .put_row(Bucket::Branches, &format!("web.{branch}"), &row)
            .await;
        let variables = shim.variables(seconds);
        let variables: Vec<(&str, &OsStr)> = variables
            .iter()
            .map(|(name, value)| (*name, value.as_os_str()))
            .collect();
        let arguments = [
            "task", "create", "web", &branch, "--title", "Work", "--json",
        ];
        let output = Program::start_with(&world, "backstack", &arguments, &variables)
            .output()
            .await;
        assert_eq!(output.code, 0, "{}", output.stderr);
        let task: backstack_schemas::Task = serde_json::from_str(&output.stdout).expect("a row");
        assert_eq!(
            task.status, status,
            "off by {seconds} s, synced {age} s ago"
        );
    }
}

/// A row tells when it was stored, not what time it is.
#[tokio::test]
async fn a_client_that_has_seen_old_rows_alone_asks_for_the_time() {
    let (world, _) = impatient().await;
    let _web = world.repo("web").await;
    // The age of the row is what this is about.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let client = world.producer().await;
    let row = client.repo(&"web".parse().unwrap()).await.unwrap();
    assert!(row.is_some());
    let guessed = now().since(client.rows().clock().now());
    assert!(
        guessed > Duration::from_secs(2),
        "the test shows nothing: {guessed:?}"
    );
    let late = now().since(client.rows().server_now().await);
    assert!(late < Duration::from_secs(1), "{late:?} late");
}
