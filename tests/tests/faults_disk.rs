//! Disks that are full to the last byte: the workers' mirrors, and JetStream's store. What cannot be
//! stored is refused or tried again, and says what to do; nothing is damaged; it goes on when there
//! is room.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use backstack_schemas::topology::Choices;
use backstack_schemas::{ErrorCode, Job, JobId, JobStatus};
use backstack_tests::rows::DEADLINE;
use backstack_tests::{Gate, Options, Remote, SmallDisk, Worker, World};
use serde_json::{Value, json};

/// Room for a few small mirrors.
const DISK: u64 = 16 << 20;

/// Bytes of a file that does not compress.
const LARGE: usize = 1 << 20;

/// A world whose worker has its state on a small disk.
struct Cramped {
    worker: Worker,
    disk: SmallDisk,
    world: World,
}

impl Cramped {
    async fn start() -> Self {
        let world = World::start().await;
        let disk = SmallDisk::mount(&world.dir().join("disk"), DISK).await;
        let state = disk.path().join("state");
        let worker = Worker::launch_through(&world, &disk.starter(), &state, &[], &[]);
        worker.ready(&world).await;
        Self {
            worker,
            disk,
            world,
        }
    }

    /// Waits until the job's first attempt has failed for want of room, which is told so that
    /// somebody can do something about it.
    async fn waits_for_room(&self, repo: &str, job: JobId) {
        let waiting = self
            .world
            .job_when(repo, job, "waiting for its retry", |job| {
                job.next_attempt_at.is_some() || job.status.is_terminal()
            })
            .await;
        assert_eq!(
            (waiting.status, waiting.attempt),
            (JobStatus::Queued, 1),
            "{waiting:#?}"
        );
        let error = waiting.error.expect("why it failed");
        assert_eq!((error.code, error.retryable), (ErrorCode::Internal, true));
        for word in [
            "disk that holds the state directory is full",
            "--mirror-budget",
        ] {
            assert!(error.detail.contains(word), "{}", error.detail);
        }
        assert!(waiting.message.contains("is full"), "{}", waiting.message);
    }

    /// Git itself finds nothing wrong with any mirror, and nothing half-written is left.
    fn assert_mirrors_whole(&self) {
        let seen = self.disk.seen().join("state/mirrors");
        let inside = self.disk.path().join("state/mirrors");
        let mut checked = 0;
        for entry in std::fs::read_dir(seen).expect("mirrors").flatten() {
            let name = entry.file_name();
            if name.to_string_lossy().ends_with(".git") {
                self.check(&inside.join(name));
                checked += 1;
            }
        }
        assert!(checked > 0);
    }

    fn check(&self, mirror: &Path) {
        let starter = self.disk.starter();
        let run = |words: &[&str]| {
            let mut command = Command::new(&starter[0]);
            let output = command.args(&starter[1..]).args(words).output();
            let output = output.expect("a program on the disk");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{words:?}: {said}");
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let path = mirror.to_str().expect("a path in UTF-8");
        run(&[
            "git",
            "-C",
            path,
            "fsck",
            "--full",
            "--strict",
            "--no-dangling",
        ]);
        let left = run(&["find", path, "-name", "tmp_*"]);
        assert_eq!(left, "", "half-written files");
    }
}

/// Text that does not compress below three quarters; another one for each seed.
fn noise(bytes: usize, seed: u64) -> String {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ (seed << 32 | 1);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'0' + u8::try_from(state % 64).expect("less than 64"))
    };
    (0..bytes).map(|_| next()).collect()
}

#[track_caller]
fn assert_completed(job: &Job) {
    assert_eq!(job.status, JobStatus::Completed, "{job:#?}");
    assert_eq!(job.error, None);
}

/// A mirror that does not fit is tried again; the others go on, and so does this one when there is room.
#[tokio::test]
async fn a_mirror_that_does_not_fit_is_fetched_when_there_is_room() {
    let cramped = Cramped::start().await;
    let world = &cramped.world;
    let _small = world.repo("small").await;
    assert_completed(&world.run("small", "sync_repo", "").await);
    let large = world.repo("large").await;
    large.commit("main", &[("large", &noise(LARGE, 1))], "large");
    cramped.disk.leave(600_000);
    let job = world.publish("large", "sync_repo", "").await;
    cramped.waits_for_room("large", job).await;
    let other = world.run("small", "restack_repo", "").await;
    assert_completed(&other);
    assert_eq!(other.attempt, 1);
    cramped.disk.make_room();
    assert_completed(&world.ended("large", job).await);
    let head = world.branch("large", "main").await.expect("a row").head;
    assert_eq!(head, Some(large.head("main")));
    cramped.assert_mirrors_whole();
}

/// Not a byte is left: neither for objects nor for refs, nor for a new mirror's directory.
#[tokio::test]
async fn without_a_byte_left_jobs_wait_for_room_and_lose_nothing() {
    let cramped = Cramped::start().await;
    let world = &cramped.world;
    let web = world.repo("web").await;
    web.stack("main <- a: a1 <- b: b1");
    world.register("web", &["a", "b"]).await;
    web.commit("main", &[("m1", "m1\n")], "m1");
    let gate = Gate::open(&web);
    let _new = world.repo("new").await;
    cramped.disk.leave(0);
    let restack = world.publish("web", "restack_repo", "").await;
    let first = world.publish("new", "sync_repo", "").await;
    cramped.waits_for_room("web", restack).await;
    cramped.waits_for_room("new", first).await;
    assert_eq!(web.draw(), "main  m0 m1\na     main~1: a1\nb     a: b1\n");
    cramped.disk.make_room();
    assert_completed(&world.ended("web", restack).await);
    assert_completed(&world.ended("new", first).await);
    assert_eq!(web.draw(), "main  m0 m1\na     main: a1\nb     a: b1\n");
    assert_eq!(gate.pushed().len(), 2, "one move for each branch");
    cramped.assert_mirrors_whole();
    assert_eq!(cramped.worker.stop().await.code, 0);
}

/// The fetch fits and what the replay makes does not: nothing is pushed that is not whole.
#[tokio::test]
async fn a_replay_that_does_not_fit_pushes_nothing_until_it_does() {
    let cramped = Cramped::start().await;
    let world = &cramped.world;
    let web = world.repo("web").await;
    let lines: Vec<String> = (0..16).map(|line| noise(LARGE / 16, line)).collect();
    let with = |line: usize, text: &str| {
        let mut lines = lines.clone();
        text.clone_into(&mut lines[line]);
        lines.join("\n") + "\n"
    };
    web.commit("main", &[("large", &with(0, &lines[0]))], "large");
    web.stack("main <- a: a1");
    web.commit("a", &[("large", &with(15, "ours"))], "a2");
    world.register("web", &["a"]).await;
    web.commit("main", &[("large", &with(0, "theirs"))], "m1");
    let gate = Gate::open(&web);
    let before = web.draw();
    // The fetch brings three quarters of a mebibyte; the merged file takes as much again.
    cramped.disk.leave(1_200_000);
    let job = world.publish("web", "restack_repo", "").await;
    cramped.waits_for_room("web", job).await;
    assert_eq!(web.draw(), before);
    assert_eq!(gate.pushed(), Vec::<String>::new());
    cramped.disk.make_room();
    assert_completed(&world.ended("web", job).await);
    assert_eq!(gate.pushed().len(), 1);
    let merged = web.show("a:large");
    assert!(merged.starts_with("theirs\n") && merged.trim_end().ends_with("\nours"));
    cramped.assert_mirrors_whole();
}

/// What JetStream is permitted to store in the tests below.
const STORE: usize = 8 << 20;

async fn limited() -> World {
    let choices = Choices {
        ack_wait: Duration::from_secs(2),
        ..Choices::default()
    };
    World::with(Options {
        nats_config: format!("jetstream {{ max_file_store: {STORE} }}"),
        choices,
        ..Options::default()
    })
    .await
}

/// Takes all that is left of JetStream's store, to less than a row.
async fn fill(world: &World) {
    let filler = json!({"name": "FILLER", "subjects": ["filler"], "storage": "file"});
    let made = world.ask("STREAM.CREATE.FILLER", &filler).await;
    made.unwrap_or_else(|error| panic!("{error}"));
    for size in [256 * 1024, 16 * 1024, 1024, 64, 1] {
        let payload = vec![b'x'; size];
        let publish = || world.publish_raw("filler", HeaderMap::new(), &payload);
        while publish().await.is_ok() {}
    }
}

async fn empty(world: &World) {
    let gone = world.ask("STREAM.DELETE.FILLER", &Value::Null).await;
    gone.unwrap_or_else(|error| panic!("{error}"));
}

#[tokio::test]
async fn a_publish_without_room_is_refused_and_says_what_to_do() {
    let world = limited().await;
    let _web = world.repo("web").await;
    let _worker = Worker::start(&world, &[]).await;
    fill(&world).await;
    let since = Instant::now();
    let refused = world.backstack(["sync", "web", "--wait"]).await;
    assert_eq!(refused.code, 3, "{}", refused.stdout);
    for word in ["refused", "no room", "max_file_store"] {
        assert!(refused.stderr.contains(word), "{}", refused.stderr);
    }
    assert!(
        since.elapsed() < Duration::from_secs(5),
        "{:?}",
        since.elapsed()
    );
    assert_eq!(
        world.stored("BACKSTACK_ACTIONS").await,
        0,
        "a refused action is stored"
    );
    assert_eq!(
        world.stored("KV_backstack_jobs").await,
        0,
        "a row without its message"
    );
    empty(&world).await;
    let accepted = world.backstack(["sync", "web", "--wait"]).await;
    assert_eq!(accepted.code, 0, "{}", accepted.stderr);
}

/// The job's row can take no more, and neither can those of the branches: the run holds its message, and
/// ends when there is room, with one effect.
#[tokio::test]
async fn a_job_that_runs_out_of_room_for_its_row_ends_when_there_is_room() {
    let world = limited().await;
    let web = world.repo("web").await;
    let _api = world.repo("api").await;
    web.stack("main <- a: a1 <- b: b1");
    let worker = Worker::start(&world, &[]).await;
    world.register("web", &["a", "b"]).await;
    web.commit("main", &[("m1", "m1\n")], "m1");
    let gate = Gate::close(&web);
    let job = world.publish("web", "restack_repo", "").await;
    let arrived = gate.arrived().await;
    // Accepted, and without a row: its turn comes while there is no room for one.
    worker.pause();
    let accepted = world.publish("api", "sync_repo", "").await;
    fill(&world).await;
    worker.resume();
    gate.release();
    drop(arrived);
    let until = Instant::now() + DEADLINE;
    while gate.pushed().is_empty() {
        assert!(Instant::now() < until, "nothing was pushed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Longer than the ack wait: whoever does not hold the message loses it in this time.
    worker.said("could not be reached; trying again").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let row = world.job("web", job).await.expect("a row");
    assert!(!row.status.is_terminal(), "{row:#?}");
    assert_eq!(world.job("api", accepted).await, None);
    empty(&world).await;
    assert_completed(&world.ended("web", job).await);
    assert_completed(&world.ended("api", accepted).await);
    assert_eq!(web.draw(), "main  m0 m1\na     main: a1\nb     a: b1\n");
    assert_eq!(gate.pushed().len(), 2, "one move for each branch");
    let row = world.branch("web", "a").await.expect("a row");
    assert_eq!(row.head, Some(web.head("a")));
    let next = world.run("web", "restack_repo", "").await;
    assert_completed(&next);
    world.queue_empty().await;
}

/// The server's own disk is full: what it acknowledged is there when it runs again with more room, and
/// what it did not acknowledge was refused.
#[tokio::test]
async fn a_server_whose_disk_fills_up_loses_nothing_that_it_accepted() {
    let choices = Choices {
        ack_wait: Duration::from_secs(2),
        ..Choices::default()
    };
    let world = World::with(Options {
        nats_config: "jetstream { max_file_store: 1GB }".to_owned(),
        nats_disk: Some(24 << 20),
        choices,
        ..Options::default()
    })
    .await;
    let repos: Vec<(String, Remote)> = {
        let mut repos = Vec::new();
        for number in 0..4 {
            let name = format!("repo-{number}");
            let remote = world.repo(&name).await;
            repos.push((name, remote));
        }
        repos
    };
    let worker = Worker::start(&world, &[]).await;
    let mut accepted = Vec::new();
    let mut refused = 0;
    world.nats_disk().leave(64 << 10);
    for number in 0.. {
        let (repo, _) = &repos[number % repos.len()];
        let job = JobId::generate();
        let subject = format!("backstack.actions.{repo}.restack_repo");
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", format!("{repo}.{job}"));
        let sent = world.publish_raw(&subject, headers, b"{}");
        match tokio::time::timeout(Duration::from_secs(2), sent).await {
            Ok(Ok(_)) => accepted.push((repo.clone(), job)),
            Ok(Err(_)) | Err(_) => refused += 1,
        }
        if refused >= 3 {
            break;
        }
    }
    assert!(!accepted.is_empty());
    let said = world.backstack(["sync", "repo-0"]).await;
    assert_eq!(said.code, 3, "{}", said.stderr);
    world.nats_disk().make_room();
    world.server().restart().await.expect("a server");
    for (repo, job) in &accepted {
        let row = world.ended(repo, *job).await;
        assert_eq!(row.status, JobStatus::Completed, "{row:#?}");
        assert_eq!(row.attempt, row.attempt.min(2), "{row:#?}");
    }
    for (repo, _) in &repos {
        assert_completed(&world.run(repo, "sync_repo", "").await);
    }
    assert_eq!(worker.program().process().ended(), None);
}
