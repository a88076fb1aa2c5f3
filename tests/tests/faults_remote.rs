//! Remotes behind a network that fails: over `git://` and smart HTTP, through a link that refuses,
//! breaks, goes silent or is slow. Each failure gets its code, in time; what may pass is tried again
//! when the row says, and the job completes by itself once the remote is back.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use backstack_schemas::{ErrorCode, Job, JobStatus, Step, Timestamp};
use backstack_tests::git_host::{GitHost, Protocol};
use backstack_tests::rows::DEADLINE;
use backstack_tests::{Fault, Gate, Remote, Worker, World, shown};
use futures_util::future::join_all;

const ACK_WAIT: Duration = Duration::from_secs(2);

/// Bytes of a pack after which it is under way, and far from its end.
const MID_PACK: u64 = 200_000;

/// Bytes of a file that does not compress.
const LARGE: usize = 1_200_000;

/// How much longer than it must a step may take on a machine that has other work.
const SLACK: Duration = Duration::from_secs(4);

/// A world with the repository `web` on a host of its own.
struct Far {
    remote: Remote,
    host: GitHost,
    world: World,
}

impl Far {
    async fn start(protocol: Protocol) -> Self {
        let world = World::with_ack_wait(ACK_WAIT).await;
        let remote = world.remote("web");
        let host = GitHost::start(&world, protocol).await;
        world.add_repo("web", &host.url("web")).await;
        Self {
            remote,
            host,
            world,
        }
    }

    async fn worker(&self, arguments: &[&str]) -> Worker {
        let all = [&["--allow-protocol=git,http"], arguments].concat();
        Worker::start(&self.world, &all).await
    }

    /// Waits until the job's first attempt has failed.
    async fn waits(&self, job: backstack_schemas::JobId) -> Job {
        self.world
            .job_when("web", job, "waiting for its retry", |job| {
                job.next_attempt_at.is_some()
            })
            .await
    }

    /// Tracks `a` and moves trunk on, so that a restack pushes `a`.
    async fn stack(&self) {
        self.remote.stack("main <- a: a1");
        self.world.register("web", &["a"]).await;
        self.remote.commit("main", &[("m1", "m1\n")], "m1");
    }

    fn assert_restacked(&self) {
        assert_eq!(self.remote.draw(), "main  m0 m1\na     main: a1\n");
    }
}

/// Text that no compression makes smaller than three quarters.
fn noise(bytes: usize) -> String {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'0' + u8::try_from(state % 64).expect("less than 64"))
    };
    (0..bytes).map(|_| next()).collect()
}

/// A failed attempt's row: queued again, with the reason and a time that is due soon.
#[track_caller]
fn assert_waits(job: &Job, code: ErrorCode, attempt: u32) {
    assert_eq!(job.status, JobStatus::Queued, "{job:#?}");
    assert_eq!((job.attempt, job.run), (attempt, u64::from(attempt)));
    let error = job.error.as_ref().expect("why it failed");
    assert_eq!((error.code, error.retryable), (code, true), "{error:?}");
    let due = job.next_attempt_at.expect("when it is tried again");
    let wait = due.since(job.updated_at);
    let longest = Duration::from_secs(1 << attempt.min(5));
    assert!(
        wait >= Duration::from_secs(1) && wait <= longest,
        "{wait:?}"
    );
}

#[track_caller]
fn assert_completed(job: &Job, attempts: u32) {
    assert_eq!(job.status, JobStatus::Completed, "{job:#?}");
    assert_eq!((job.attempt, job.run), (attempts, u64::from(attempts)));
    assert_eq!((&job.error, job.next_attempt_at), (&None, None));
}

/// When a job's row turned `running`, for the `nth` time from 0.
fn began(job: &Job, nth: usize) -> Timestamp {
    let running =
        |transition: &&backstack_schemas::job::Transition| transition.status == JobStatus::Running;
    job.transitions
        .iter()
        .filter(running)
        .nth(nth)
        .expect("a run")
        .at
}

/// How long the first run took.
fn first_run(job: &Job) -> Duration {
    job.updated_at.since(began(job, 0))
}

/// Every mirror of the worker, checked by git itself; and nothing half-written is left in it.
fn assert_mirrors_whole(worker: &Worker) {
    let mirrors = worker.state().join("mirrors");
    for entry in std::fs::read_dir(mirrors).expect("mirrors").flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|extension| extension != "git") {
            continue;
        }
        let checked = Command::new("git")
            .arg("-C")
            .arg(&path)
            .args(["fsck", "--full", "--strict", "--no-dangling"])
            .output()
            .expect("git fsck");
        let said = String::from_utf8_lossy(&checked.stderr).into_owned();
        assert!(checked.status.success(), "{}: {said}", path.display());
        assert_eq!(half_written(&path), Vec::<PathBuf>::new());
    }
}

fn half_written(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a directory").flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if path.is_dir() {
            found.extend(half_written(&path));
        } else if name.starts_with("tmp_") || name.ends_with(".lock") {
            found.push(path);
        }
    }
    found
}

/// The processes of the groups that a worker has made for its gits.
fn gits_of(worker: &Worker) -> Vec<String> {
    let listed = Command::new("ps")
        .args(["-eo", "pid=,ppid=,pgid=,args="])
        .output();
    let listed = String::from_utf8_lossy(&listed.expect("ps").stdout).into_owned();
    let fields = |line: &str| {
        let numbers: Vec<u32> = line
            .split_whitespace()
            .take(3)
            .filter_map(|field| field.parse().ok())
            .collect();
        (numbers[0], numbers[1], numbers[2])
    };
    let groups: Vec<u32> = listed
        .lines()
        .map(fields)
        .filter(|(pid, parent, group)| *parent == worker.pid() && pid == group)
        .map(|(pid, _, _)| pid)
        .collect();
    listed
        .lines()
        .filter(|line| groups.contains(&fields(line).2))
        .map(str::to_owned)
        .collect()
}

/// The processes, by id, that are still there; those that only wait to be reaped are not.
fn alive(pids: &[String]) -> Vec<String> {
    let pids = pids
        .iter()
        .filter_map(|line| line.split_whitespace().next());
    pids.filter(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = stat
            .rsplit(") ")
            .next()
            .and_then(|rest| rest.chars().next());
        state.is_some_and(|state| state != 'Z')
    })
    .map(str::to_owned)
    .collect()
}

/// Its own jobs wait for it, in their order; those of other repositories do not. Nobody has to do
/// anything when it is back.
#[tokio::test]
async fn a_remote_that_is_down_holds_back_its_own_jobs_until_it_is_back() {
    let far = Far::start(Protocol::Git).await;
    let _near = far.world.repo("api").await;
    let _worker = far.worker(&[]).await;
    far.stack().await;
    far.host.link().set(Fault::Refuse).await;
    let first = far.world.publish("web", "restack_repo", "").await;
    let second = far
        .world
        .publish("web", "unregister_branch", r#"{"branch": "a"}"#)
        .await;
    let waiting = far.waits(first).await;
    assert_waits(&waiting, ErrorCode::RemoteUnreachable, 1);
    let detail = &waiting.error.as_ref().expect("why").detail;
    assert!(detail.contains("Connection refused"), "{detail}");
    assert!(first_run(&waiting) < SLACK, "{waiting:#?}");

    let near = far.world.run("api", "sync_repo", "").await;
    assert_completed(&near, 1);
    let again = far
        .world
        .job_when("web", first, "waiting for its third attempt", |job| {
            job.attempt == 2 && job.next_attempt_at.is_some()
        })
        .await;
    assert_waits(&again, ErrorCode::RemoteUnreachable, 2);
    let due = waiting.next_attempt_at.expect("a time");
    let second_run = began(&again, 1);
    assert!(second_run >= due, "begun at {second_run}, due at {due}");
    assert!(
        second_run.since(due) < SLACK,
        "begun at {second_run}, due at {due}"
    );
    let behind = far.world.job("web", second).await;
    assert!(
        behind.is_none_or(|job| job.run == 0),
        "it overtook the first"
    );

    far.host.link().set(Fault::None).await;
    let done = far.world.ended("web", first).await;
    assert_completed(&done, 3);
    assert_completed(&far.world.ended("web", second).await, 1);
    far.assert_restacked();
    let (last, next) = (
        far.world.job_history("web", first).await,
        far.world.job_history("web", second).await,
    );
    let handed_over = last.last().expect("the end of the first").0;
    let taken_on = next
        .iter()
        .find(|(_, row)| row.status == JobStatus::Running);
    assert!(handed_over < taken_on.expect("the second's run").0);
    far.world.queue_empty().await;
}

#[tokio::test]
async fn a_remote_that_stays_down_exhausts_the_attempts() {
    for protocol in Protocol::ALL {
        let far = Far::start(protocol).await;
        let _worker = far.worker(&["--max-attempts=2"]).await;
        far.host.link().set(Fault::Refuse).await;
        let since = Instant::now();
        let job = far.world.run("web", "sync_repo", "").await;
        assert!(since.elapsed() < Duration::from_secs(2) + SLACK * 2);
        assert_eq!((job.status, job.attempt), (JobStatus::Error, 2), "{job:#?}");
        let error = job.error.expect("why");
        assert_eq!(error.code, ErrorCode::AttemptsExhausted);
        for word in [
            "All 2 attempts",
            "remote_unreachable",
            &far.host.link().address()[..9],
        ] {
            assert!(
                error.detail.contains(word),
                "{protocol:?}: {}",
                error.detail
            );
        }
        let row = far.world.repository("web").await.expect("a row");
        let said = row.sync.message.expect("why the sync failed");
        assert!(said.contains("127.0.0.1"), "{said}");
        far.world.queue_empty().await;
    }
}

/// A hang is told from slowness by the action's time alone. Nothing of what was started stays.
#[tokio::test]
async fn a_fetch_that_hangs_in_mid_pack_is_killed_with_all_it_started() {
    join_all(Protocol::ALL.map(hang_in_mid_pack)).await;
}

async fn hang_in_mid_pack(protocol: Protocol) {
    const LIMIT: Duration = Duration::from_secs(5);
    let far = Far::start(protocol).await;
    let large = noise(LARGE);
    far.remote.commit("main", &[("large", &large)], "large");
    let worker = far.worker(&["--action-timeout=5s"]).await;
    far.host.link().set(Fault::HangAfter(MID_PACK)).await;
    let job = far.world.publish("web", "sync_repo", "").await;
    let until = Instant::now() + DEADLINE;
    let mut gits = Vec::new();
    // The fetch itself, and what unpacks, or over HTTP what speaks it.
    while far.host.link().hung() == 0 || gits.len() < 2 {
        assert!(Instant::now() < until, "no pack was on its way: {gits:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
        gits = gits_of(&worker);
    }
    let waiting = far.waits(job).await;
    assert_waits(&waiting, ErrorCode::Timeout, 1);
    let took = first_run(&waiting);
    assert!(took >= LIMIT && took < LIMIT + SLACK, "{took:?}");
    assert_eq!(alive(&gits), Vec::<String>::new(), "of {gits:#?}");
    far.host.link().set(Fault::None).await;
    assert_completed(&far.world.ended("web", job).await, 2);
    assert_mirrors_whole(&worker);
    assert_eq!(worker.stop().await.code, 0);
}

#[tokio::test]
async fn a_connection_that_breaks_in_mid_pack_is_made_again() {
    for protocol in Protocol::ALL {
        let far = Far::start(protocol).await;
        far.remote
            .commit("main", &[("large", &noise(LARGE))], "large");
        let worker = far.worker(&[]).await;
        far.host.link().set(Fault::CutAfter(MID_PACK)).await;
        let job = far.world.publish("web", "sync_repo", "").await;
        let waiting = far.waits(job).await;
        assert_waits(&waiting, ErrorCode::RemoteUnreachable, 1);
        assert!(first_run(&waiting) < SLACK, "{waiting:#?}");
        assert_eq!(
            far.world.branches("web").await,
            [],
            "a row of what never came"
        );
        far.host.link().set(Fault::None).await;
        assert_completed(&far.world.ended("web", job).await, 2);
        let head = far.world.branch("web", "main").await.expect("a row").head;
        assert_eq!(head, Some(far.remote.head("main")));
        assert_mirrors_whole(&worker);
    }
}

/// Far slower than the ack wait: the message stays this worker's, and the row says how far it is.
#[tokio::test]
async fn a_slow_remote_is_waited_for() {
    for protocol in Protocol::ALL {
        let far = Far::start(protocol).await;
        for part in 0..60 {
            let name = format!("part-{part}");
            let content = format!("{part} {}", &noise(LARGE)[part * 20_000..][..20_000]);
            far.remote.commit("main", &[(&name, &content)], &name);
        }
        let worker = far.worker(&["--action-timeout=30s"]).await;
        far.host.link().set(Fault::Slow(200_000)).await;
        let job = far.world.publish("web", "sync_repo", "").await;
        let midway = far
            .world
            .job_when("web", job, "in the middle of its fetch", |job| {
                job.progress
                    .is_some_and(|at| at.step == Step::Fetch && 0 < at.done && at.done < at.total)
            })
            .await;
        assert_eq!(midway.status, JobStatus::Running);
        let done = far.world.ended("web", job).await;
        assert_completed(&done, 1);
        assert_eq!(done.delivery, Some(1), "it was delivered again");
        assert!(
            done.updated_at.since(began(&done, 0)) > ACK_WAIT,
            "the test shows nothing"
        );
        assert_mirrors_whole(&worker);
    }
}

/// The remote has moved its refs when the connection breaks; asking it what it has tells.
#[tokio::test]
async fn a_push_whose_answer_is_lost_is_made_once() {
    for protocol in Protocol::ALL {
        let far = Far::start(protocol).await;
        let _worker = far.worker(&[]).await;
        far.stack().await;
        let gate = Gate::close(&far.remote);
        let job = far.world.publish("web", "restack_repo", "").await;
        let arrived = gate.arrived().await;
        far.host.link().mute_open();
        gate.release();
        drop(arrived);
        let done = far.world.ended("web", job).await;
        assert_completed(&done, 1);
        assert_eq!(shown::job(&far.remote, &done), "trunk m0..m1; moved a");
        far.assert_restacked();
        assert_eq!(gate.pushed().len(), 1);
    }
}

/// What was sent stands at the remote after the sender was killed, and comes through in the end:
/// beside the push that is made again, that is one effect.
#[tokio::test]
async fn a_push_that_hangs_is_killed_and_made_again() {
    let far = Far::start(Protocol::Git).await;
    let worker = far.worker(&["--action-timeout=2s"]).await;
    far.stack().await;
    let gate = Gate::close(&far.remote);
    let job = far.world.publish("web", "restack_repo", "").await;
    let arrived = gate.arrived().await;
    let gits = gits_of(&worker);
    assert!(gits.iter().any(|line| line.contains("push")), "{gits:?}");
    let waiting = far.waits(job).await;
    assert_waits(&waiting, ErrorCode::Timeout, 1);
    assert_eq!(alive(&gits), Vec::<String>::new(), "of {gits:#?}");
    gate.release();
    drop(arrived);
    let done = far.world.ended("web", job).await;
    assert_completed(&done, 2);
    far.assert_restacked();
    assert!(gate.pushed().len() <= 1, "{:?}", gate.pushed());
}

#[tokio::test]
async fn hooks_refuse_over_the_network_as_they_do_on_disk() {
    for protocol in Protocol::ALL {
        let far = Far::start(protocol).await;
        let _worker = far.worker(&[]).await;
        far.remote.stack("main <- a: a1 <- b: b1");
        far.remote.stack("a <- c: c1");
        far.world.register("web", &["a", "b", "c"]).await;
        far.remote.commit("main", &[("m1", "m1\n")], "m1");
        let one = "#!/bin/sh\nif [ $1 = refs/heads/b ]; then echo b is for releases; exit 1; fi\n";
        far.remote.hook("update", one);
        let job = far.world.run("web", "restack_repo", "").await;
        assert_eq!(
            shown::job(&far.remote, &job),
            "remote_rejected! trunk m0..m1; moved a c; skipped b(rejected)"
        );
        assert_eq!(job.attempt, 1, "it is not tried again");
        let detail = job.error.expect("why").detail;
        assert!(detail.contains("b is for releases"), "{detail}");

        far.remote.remove_hook("update");
        let all = "#!/bin/sh\necho no pushes on Fridays; exit 1\n";
        far.remote.hook("pre-receive", all);
        far.remote.commit("main", &[("m2", "m2\n")], "m2");
        let job = far.world.run("web", "restack_repo", "").await;
        let refused = "skipped a(rejected) b(rejected) c(rejected)";
        assert_eq!(
            shown::job(&far.remote, &job),
            format!("remote_rejected! trunk m1..m2; {refused}")
        );
        let detail = job.error.expect("why").detail;
        assert!(detail.contains("no pushes on Fridays"), "{detail}");
    }
}

/// One attempt, so that what is tried again ends at once as exhausted, and says after what.
#[tokio::test]
async fn what_a_server_answers_decides_the_code() {
    let far = Far::start(Protocol::Http).await;
    let _worker = far.worker(&["--max-attempts=1"]).await;
    for (status, code) in [
        (401, ErrorCode::RemoteAuthFailed),
        (403, ErrorCode::RemoteAuthFailed),
        (404, ErrorCode::RemoteUnreachable),
        (429, ErrorCode::RemoteUnreachable),
        (500, ErrorCode::RemoteUnreachable),
        (503, ErrorCode::RemoteUnreachable),
    ] {
        far.host.answer_with(status);
        let since = Instant::now();
        let job = far.world.run("web", "sync_repo", "").await;
        assert!(since.elapsed() < SLACK, "{status}: {:?}", since.elapsed());
        let error = job.error.expect("why");
        if code.is_retryable() {
            assert_eq!(
                error.code,
                ErrorCode::AttemptsExhausted,
                "{status}: {error:?}"
            );
            let last = format!("{}:", code.as_str());
            assert!(error.detail.contains(&last), "{status}: {}", error.detail);
        } else {
            assert_eq!(error.code, code, "{status}: {error:?}");
        }
    }
    far.host.answer_with(0);
    assert_completed(&far.world.run("web", "sync_repo", "").await, 1);
}

/// A lock that a process left behind when it was killed: only a person can tell that nobody holds it,
/// so the job ends, and says what the remote said.
#[tokio::test]
async fn a_lock_that_was_left_on_the_remote_is_told_in_its_words() {
    for protocol in Protocol::ALL {
        let far = Far::start(protocol).await;
        let _worker = far.worker(&["--max-attempts=1"]).await;
        far.stack().await;
        let lock = far.remote.path().join("refs/heads/a.lock");
        std::fs::create_dir_all(lock.parent().unwrap()).unwrap();
        std::fs::write(&lock, "").unwrap();
        let before = far.remote.draw();
        let job = far.world.run("web", "restack_repo", "").await;
        let error = job.error.expect("why");
        assert_eq!(error.code, ErrorCode::AttemptsExhausted);
        for word in [
            "branch_moved",
            "holds a locked",
            "cannot lock ref",
            "a.lock",
            "File exists",
        ] {
            assert!(error.detail.contains(word), "{word}: {}", error.detail);
        }
        assert_eq!(far.remote.draw(), before);
        std::fs::remove_file(&lock).unwrap();
        assert_completed(&far.world.run("web", "restack_repo", "").await, 1);
        far.assert_restacked();
    }
}
