//! Many repositories with long queues, and workers that are killed all the time.
//!
//! ```sh
//! cargo run --release -p backstack-tests --example crowd -- --actions 10000 --repos 1000 --workers 3
//! ```
//!
//! Every repository has a stack of one branch that is behind. Its actions are queued before the workers
//! start; then one of them is killed with kill -9 every few seconds and started again. Prints how long
//! it took, how often jobs were begun anew and how much memory a worker took at most, without its git
//! processes; exits with a panic where an action was not done, out of order or twice.

use std::time::{Duration, Instant};

use backstack_schemas::topology::{Bucket, branch_key};
use backstack_schemas::{Branch, JobId};
use backstack_tests::{History, Recorder, RefLog, Remote, Worker, World};
use clap::Parser;
use futures_util::stream::{self, StreamExt as _};

/// The most memory that a worker may take.
const MEMORY_KIB: u64 = 150 * 1024;

#[derive(Parser)]
struct Arguments {
    /// Actions in all
    #[arg(long, default_value_t = 10_000)]
    actions: usize,
    /// Repositories
    #[arg(long, default_value_t = 1_000)]
    repos: usize,
    /// Workers
    #[arg(long, default_value_t = 3)]
    workers: usize,
    /// Seconds between two kills
    #[arg(long, default_value_t = 5)]
    kill_every: u64,
}

struct Repo {
    name: String,
    _remote: Remote,
    log: RefLog,
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    let world = World::with_ack_wait(Duration::from_secs(2)).await;
    let recorder = Recorder::start(&world).await;
    let rows = tracked_rows(&world).await;
    let mut repos = Vec::new();
    for number in 0..arguments.repos {
        repos.push(behind(&world, &format!("repo-{number}"), &rows).await);
    }
    let mut history = History::default();
    let accepted = queue(&world, &repos, arguments.actions).await;
    for (repo, job, sequence) in &accepted {
        history.accept(repo, *job, *sequence);
    }
    println!(
        "{} actions of {} repositories are queued",
        accepted.len(),
        repos.len()
    );

    let began = Instant::now();
    let mut workers = Vec::new();
    for _ in 0..arguments.workers {
        workers.push(Worker::launch(&world, &["--max-attempts=100"]));
    }
    let (kills, peak) = kill_until_done(&world, &mut workers, arguments.kill_every).await;
    let took = began.elapsed();

    history.writes = recorder.writes(&world).await;
    for repo in repos {
        history.moves.insert(repo.name, repo.log.moves());
    }
    history.assert_kept();
    let again = history
        .writes
        .iter()
        .filter(|write| write.job.status.is_terminal());
    let again = again.filter(|write| write.job.run > 1).count();
    println!(
        "all done in order in {took:.1?}, {:.0} a second; {kills} kills, {again} jobs ran more than once; \
         a worker took {:.1} MB at most",
        accepted.len() as f64 / took.as_secs_f64(),
        peak as f64 / 1024.0
    );
    assert!(peak < MEMORY_KIB, "a worker took {peak} KiB");
}

/// The rows of a repository whose stack was tracked for real.
async fn tracked_rows(world: &World) -> Vec<Branch> {
    let template = world.repo("template").await;
    stack(&template);
    let worker = Worker::start(world, &[]).await;
    world.register("template", &["a"]).await;
    worker.kill9().await;
    world.branches("template").await
}

fn stack(remote: &Remote) {
    remote.stack("main <- a: a1");
}

/// A repository with these rows whose trunk has moved on.
async fn behind(world: &World, name: &str, rows: &[Branch]) -> Repo {
    let remote = world.repo(name).await;
    stack(&remote);
    for row in rows {
        let row = Branch {
            repo: name.parse().expect("a repository"),
            ..row.clone()
        };
        let key = branch_key(&row.repo, &row.branch);
        world.put_row(Bucket::Branches, &key, &row).await;
    }
    remote.commit("main", &[("m1", "m1\n")], "m1");
    let log = RefLog::start(&remote);
    Repo {
        name: name.to_owned(),
        _remote: remote,
        log,
    }
}

/// Queues the actions, one of each repository after the other.
async fn queue(world: &World, repos: &[Repo], actions: usize) -> Vec<(String, JobId, u64)> {
    let kinds = [
        ("restack_repo", ""),
        ("sync_repo", r#"{"restack": true}"#),
        ("rebase_branch", r#"{"branch": "a"}"#),
        ("sync_repo", ""),
    ];
    let turns = repos.iter().cycle().take(actions).enumerate();
    let published = turns.map(|(number, repo)| async move {
        let (action, body) = kinds[number / repos.len() % kinds.len()];
        let job = JobId::generate();
        let ack = world.publish_as(job, &repo.name, action, body).await;
        (repo.name.clone(), job, ack.sequence)
    });
    stream::iter(published).buffered(64).collect().await
}

/// Kills one worker after the other until the queue is empty; how many, and the most memory that one
/// took, in KiB.
async fn kill_until_done(world: &World, workers: &mut [Worker], every: u64) -> (usize, u64) {
    let stream = world.topology().actions_stream();
    let (mut kills, mut peak, mut last) = (0, 0, Instant::now());
    while world.stored(&stream).await > 0 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        peak = workers
            .iter()
            .filter_map(memory)
            .chain([peak])
            .max()
            .unwrap_or(peak);
        if last.elapsed() < Duration::from_secs(every) {
            continue;
        }
        let number = kills % workers.len();
        let worker = &mut workers[number];
        worker.kill9().await;
        *worker = Worker::launch_on(world, worker.state(), &["--max-attempts=100"]);
        (kills, last) = (kills + 1, Instant::now());
    }
    (kills, peak)
}

/// The most memory that a worker has taken since it started, in KiB.
fn memory(worker: &Worker) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", worker.pid())).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
