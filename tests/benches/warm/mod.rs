//! What a warm action costs beside `git fetch`, and where its time goes.
//!
//! One repository, thirty branches of three commits in one stack, a worker that has its mirror. Two
//! things are measured, each in turns with what it is compared with, and told as medians:
//!
//! - a `restack_repo` that has nothing to do, beside `git fetch` in a bare mirror of the same remote;
//! - a `restack_repo` after trunk moved, so that all thirty branches are replayed and pushed.
//!
//! The steps are the worker's own, from its log (`backstack_consumer::workflow`, level `debug`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use backstack_producer::client::Client;
use backstack_schemas::{Action, Job, JobStatus, RepoId};
use backstack_tests::{Remote, World};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::{job_changes, median, next_change, ratio, start_worker_logging, stop};

const BRANCHES: usize = 30;
const COMMITS: usize = 3;
const NOTHING_TO_DO: usize = 100;
const PUSHES: usize = 20;
const REPO: &str = "warm";

/// How long the machine is left alone between two samples, so that what a `git fetch` left running
/// (its maintenance) is no part of the next.
const PAUSE: Duration = Duration::from_millis(20);

/// When a job did what, as its row's watchers hear of it.
struct Timed {
    job: Job,
    published: Instant,
    running: Instant,
    ended: Instant,
}

impl Timed {
    fn since_running(&self) -> Duration {
        self.ended - self.running
    }

    fn since_publishing(&self) -> Duration {
        self.ended - self.published
    }
}

/// Measures both and prints them.
pub async fn measure(world: &World, client: &Client) {
    let remote = prepare(world);
    let log = world.dir().join("worker.log");
    let worker = start_worker_logging(world, &log);
    world.add_repo(REPO, &remote.url()).await;
    let branches: Vec<_> = (0..BRANCHES).map(branch).collect();
    let branches: Vec<_> = branches.iter().map(String::as_str).collect();
    world.register(REPO, &branches).await;
    let mut changes = job_changes(world).await;
    nothing_to_do(world, client, &remote, &mut changes, &log).await;
    thirty_pushes(client, &remote, &mut changes, &log).await;
    stop(worker).await;
}

fn branch(n: usize) -> String {
    format!("s{n:02}")
}

fn prepare(world: &World) -> Remote {
    let remote = world.remote(REPO);
    let segment = |n| {
        let commits: Vec<_> = (0..COMMITS).map(|c| format!("{}-{c}", branch(n))).collect();
        format!(" <- {}: {}", branch(n), commits.join(" "))
    };
    let stack: String = (0..BRANCHES).map(segment).collect();
    remote.stack(&format!("main{stack}"));
    remote
}

/// A restack that finds everything up to date, and a plain `git fetch` that finds nothing new.
async fn nothing_to_do(
    world: &World,
    client: &Client,
    remote: &Remote,
    changes: &mut mpsc::UnboundedReceiver<(Job, Instant)>,
    log: &Path,
) {
    let mirror = mirror(world, remote);
    let (mut fetches, mut bare_fetches) = (Vec::new(), Vec::new());
    let (mut jobs, mut steps) = (Vec::new(), Vec::new());
    for n in 0..=NOTHING_TO_DO {
        let fetch = git_fetch(&mirror, &[]);
        tokio::time::sleep(PAUSE).await;
        let bare_fetch = git_fetch(&mirror, &["--no-auto-maintenance"]);
        tokio::time::sleep(PAUSE).await;
        let job = restack(client, changes).await;
        assert_eq!(job.job.status, JobStatus::Completed, "{}", job.job.message);
        tokio::time::sleep(PAUSE).await;
        // The first of each finds nothing in memory.
        if n > 0 {
            fetches.push(fetch);
            bare_fetches.push(bare_fetch);
            jobs.push(job.since_running());
            steps.push(job);
        }
    }
    let published = median(steps.iter().map(Timed::since_publishing).collect());
    let (fetch, bare_fetch, job) = (median(fetches), median(bare_fetches), median(jobs));
    println!(
        "warm      nothing to do, {BRANCHES} branches: {job:?} from running to completed \
         ({published:?} from publishing); git fetch {fetch:?}: {:.2} of it (at most 1.5); git fetch \
         --no-auto-maintenance {bare_fetch:?}: {:.2} of it",
        ratio(job, fetch),
        ratio(job, bare_fetch),
    );
    print_steps(log, &steps);
}

/// A restack that moves and pushes every branch, since trunk moved.
async fn thirty_pushes(
    client: &Client,
    remote: &Remote,
    changes: &mut mpsc::UnboundedReceiver<(Job, Instant)>,
    log: &Path,
) {
    let mut steps = Vec::new();
    for n in 0..=PUSHES {
        let name = format!("trunk-{n}");
        remote.commit("main", &[(name.as_str(), "moved on")], &name);
        let job = restack(client, changes).await;
        let moved = job
            .job
            .result
            .as_ref()
            .map_or(0, |result| result.moved.len());
        assert_eq!(moved, BRANCHES, "{}", job.job.message);
        tokio::time::sleep(PAUSE).await;
        if n > 0 {
            steps.push(job);
        }
    }
    println!(
        "warm      {BRANCHES} branches of {COMMITS} commits replayed and pushed: {:?} from running to \
         completed ({:?} from publishing)",
        median(steps.iter().map(Timed::since_running).collect()),
        median(steps.iter().map(Timed::since_publishing).collect()),
    );
    print_steps(log, &steps);
}

async fn restack(client: &Client, changes: &mut mpsc::UnboundedReceiver<(Job, Instant)>) -> Timed {
    let repo: RepoId = REPO.parse().expect("a name");
    let published = Instant::now();
    let accepted = client.publish(&repo, Action::RestackRepo.into()).await;
    let job_id = accepted.expect("accepted").job_id;
    let mut running = None;
    loop {
        let (job, at) = next_change(changes).await;
        if job.spec.job_id != job_id {
            continue;
        }
        if job.status == JobStatus::Running {
            running.get_or_insert(at);
        }
        if job.status.is_terminal() {
            return Timed {
                published,
                running: running.unwrap_or_else(|| panic!("it never ran: {job:?}")),
                ended: at,
                job,
            };
        }
    }
}

/// A bare mirror that git itself made.
fn mirror(world: &World, remote: &Remote) -> PathBuf {
    let mirror = world.dir().join("mirror.git");
    let done = git()
        .args(["clone", "--quiet", "--mirror"])
        .arg(remote.url())
        .arg(&mirror)
        .status();
    assert!(done.expect("git runs").success());
    mirror
}

/// How long one `git fetch` takes that finds nothing new.
fn git_fetch(mirror: &Path, options: &[&str]) -> Duration {
    let mut command = git();
    command.arg("-C").arg(mirror).arg("fetch").args(options);
    let began = Instant::now();
    let done = command.status().expect("git runs");
    let took = began.elapsed();
    assert!(done.success());
    took
}

/// Git as it comes, without anybody's configuration.
fn git() -> Command {
    let mut command = Command::new("git");
    command
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// The medians of each step over the jobs, in the order in which the steps ended first.
fn print_steps(log: &Path, jobs: &[Timed]) {
    let ids: Vec<_> = jobs
        .iter()
        .map(|one| one.job.spec.job_id.to_string())
        .collect();
    let text = std::fs::read_to_string(log).expect("the worker's log");
    let mut order: Vec<String> = Vec::new();
    let mut took: BTreeMap<String, BTreeMap<String, Duration>> = BTreeMap::new();
    for line in text.lines() {
        let event: Value = serde_json::from_str(line).expect("a line of the log is JSON");
        let fields = &event["fields"];
        let (Some(step), Some(micros)) = (fields["step"].as_str(), fields["took_us"].as_u64())
        else {
            continue;
        };
        let job = event["span"]["job_id"].as_str().unwrap_or_default();
        if !ids.iter().any(|id| id == job) {
            continue;
        }
        if !order.iter().any(|known| known == step) {
            order.push(step.to_owned());
        }
        // A step that a job did twice counts with both.
        let of_step = took.entry(step.to_owned()).or_default();
        *of_step.entry(job.to_owned()).or_default() += Duration::from_micros(micros);
    }
    let mut told = Duration::ZERO;
    for step in order {
        let median = median(took[&step].values().copied().collect());
        told += median;
        println!("            {step:<8}{:>8.2} ms", milliseconds(median));
    }
    println!(
        "            {:<8}{:>8.2} ms",
        "together",
        milliseconds(told)
    );
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}
