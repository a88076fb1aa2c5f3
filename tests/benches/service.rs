//! `cargo bench -p backstack-tests`: what the queue costs, beside what NATS itself costs.
//!
//! Everything is measured in one run against one private nats-server: the raw floor (one publish
//! that is acknowledged, one key-value put), accepting an action, from publishing to `running`, 500
//! queued restacks that have nothing to do, and a worker that idles; then, on a server of its own, a
//! warm action beside `git fetch` ([`warm`]; `-- warm` measures that alone). The worker is a process of
//! its own: this program, started again. Figures are medians; ratios hold on other machines too.

mod warm;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use async_nats::jetstream;
use backstack_consumer::Config;
use backstack_consumer::dev::process::Process;
use backstack_producer::client::Client;
use backstack_schemas::topology::Bucket;
use backstack_schemas::{Action, ActionMessage, Job, JobStatus, RepoId, Topology};
use backstack_tests::{Remote, World};
use clap::Parser as _;
use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const SAMPLES: usize = 2_000;
const RUNNING_SAMPLES: usize = 300;
const REPOSITORIES: usize = 50;
const JOBS_EACH: usize = 10;
const IDLE: Duration = Duration::from_secs(20);

#[derive(clap::Parser)]
struct WorkerArguments {
    /// Where the worker says how long each step of a job took.
    #[arg(long)]
    steps_log: Option<PathBuf>,
    #[command(flatten)]
    config: Config,
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let mut arguments = std::env::args().peekable();
    let program = arguments.next().unwrap_or_default();
    if arguments.next_if(|argument| argument == "worker").is_some() {
        let arguments = WorkerArguments::parse_from([program].into_iter().chain(arguments));
        if let Some(file) = &arguments.steps_log {
            log_steps(file);
        }
        let done = runtime.block_on(backstack_consumer::run(
            arguments.config,
            CancellationToken::new(),
        ));
        return done.map_or_else(
            |error| {
                eprintln!("{error}");
                ExitCode::FAILURE
            },
            |()| ExitCode::SUCCESS,
        );
    }
    let warm_only = arguments.any(|argument| argument == "warm");
    runtime.block_on(async {
        if !warm_only {
            measure_queue().await;
        }
        measure_warm().await;
    });
    ExitCode::SUCCESS
}

/// Writes the log of the workflow's steps, one JSON object a line.
fn log_steps(file: &Path) {
    let file = File::create(file).expect("a file for the log");
    tracing_subscriber::fmt()
        .json()
        .with_env_filter("backstack_consumer=info,backstack_consumer::workflow=debug")
        .with_writer(Mutex::new(file))
        .init();
}

async fn measure_warm() {
    let world = World::start().await;
    let client = Client::new(world.client().clone(), Topology::default());
    warm::measure(&world, &client).await;
}

async fn measure_queue() {
    let world = World::start().await;
    let client = Client::new(world.client().clone(), Topology::default());
    let remotes = prepare(&world);
    let floor = floor(&world).await;
    accept(&client, floor).await;

    let worker = start_worker(&world);
    register(&world, &remotes).await;
    publish_to_running(&world, &client).await;
    // What was accepted for a repository that is not there has to end first.
    world.queue_empty().await;
    idle(&worker).await;
    stop(worker).await;
    throughput(&world, &client).await;
}

/// Small repositories, each with a stack of two branches that is up to date.
fn prepare(world: &World) -> Vec<Remote> {
    let remote = |n| {
        let remote = world.remote(name(n).as_str());
        remote.stack("main <- a: a1 <- b: b1");
        remote
    };
    (0..REPOSITORIES).map(remote).collect()
}

fn name(n: usize) -> RepoId {
    format!("repo-{n}").parse().expect("a name")
}

/// The medians of one acknowledged publish and one key-value put, together.
async fn floor(world: &World) -> Duration {
    let jetstream = jetstream::new(world.client().clone());
    let stream = jetstream::stream::Config {
        name: "FLOOR".to_owned(),
        subjects: vec!["floor.>".to_owned()],
        ..Default::default()
    };
    jetstream.create_stream(stream).await.expect("a stream");
    let bucket = jetstream::kv::Config {
        bucket: "floor".to_owned(),
        history: 4,
        ..Default::default()
    };
    let bucket = jetstream.create_key_value(bucket).await.expect("a bucket");
    let (mut publishes, mut puts) = (Vec::new(), Vec::new());
    for n in 0..SAMPLES {
        let began = Instant::now();
        let sent = jetstream
            .publish("floor.x", "{}".into())
            .await
            .expect("a publish");
        sent.await.expect("an acknowledgement");
        publishes.push(began.elapsed());
        let value = "x".repeat(700);
        let began = Instant::now();
        bucket
            .put(format!("key-{n}"), value.into())
            .await
            .expect("a put");
        puts.push(began.elapsed());
    }
    let (publish, put) = (median(publishes), median(puts));
    println!(
        "floor     publish {publish:?}, key-value put {put:?}, together {:?}",
        publish + put
    );
    publish + put
}

/// Actions for a repository that no worker serves: message and row, nothing else.
async fn accept(client: &Client, floor: Duration) {
    let repo: RepoId = "nobody".parse().expect("a name");
    let mut took = Vec::new();
    for _ in 0..SAMPLES {
        let began = Instant::now();
        client
            .publish(&repo, Action::RestackRepo.into())
            .await
            .expect("accepted");
        took.push(began.elapsed());
    }
    let took = median(took);
    println!(
        "accept    {took:?}, {:.2} of the floor (at most 1.5)",
        ratio(took, floor)
    );
}

fn start_worker(world: &World) -> Process {
    Process::spawn(worker(world)).expect("a worker")
}

/// The same, with the log that [`log_steps`] writes.
fn start_worker_logging(world: &World, log: &Path) -> Process {
    let mut command = worker(world);
    command.arg("--steps-log").arg(log);
    Process::spawn(command).expect("a worker")
}

fn worker(world: &World) -> std::process::Command {
    let mut command = std::process::Command::new(std::env::current_exe().expect("a path"));
    command
        .arg("worker")
        .arg("--nats-url")
        .arg(world.nats_url())
        .arg("--state-dir")
        .arg(world.dir().join("state"))
        .args(["--allow-protocol", "file"]);
    command
}

async fn stop(worker: Process) {
    worker.stop(Duration::from_secs(10)).await;
}

async fn register(world: &World, remotes: &[Remote]) {
    for (n, remote) in remotes.iter().enumerate() {
        let name = name(n);
        world.add_repo(name.as_str(), &remote.url()).await;
        world.register(name.as_str(), &["a", "b"]).await;
    }
}

/// From the call that publishes to the row that says `running`, one job at a time. The row is heard
/// of as its worker writes it, which may be before the publisher has its own answers.
async fn publish_to_running(world: &World, client: &Client) {
    let mut changes = job_changes(world).await;
    let mut took = Vec::new();
    for n in 0..RUNNING_SAMPLES {
        let began = Instant::now();
        client
            .publish(&name(n % REPOSITORIES), restack())
            .await
            .expect("accepted");
        let mut running = None;
        loop {
            let (job, at) = next_change(&mut changes).await;
            if job.status == JobStatus::Running {
                running.get_or_insert(at);
            }
            if job.status.is_terminal() {
                break;
            }
        }
        took.extend(running.map(|at| at - began));
    }
    println!(
        "running   {:?} after publishing began (at most 5 ms)",
        median(took)
    );
}

/// Queues restacks that find everything up to date, then lets one worker loose on them.
async fn throughput(world: &World, client: &Client) {
    let jobs = REPOSITORIES * JOBS_EACH;
    for n in 0..jobs {
        client
            .publish(&name(n % REPOSITORIES), restack())
            .await
            .expect("accepted");
    }
    let mut changes = job_changes(world).await;
    let worker = start_worker(world);
    let (mut first, mut last, mut ended) = (None, None, 0);
    while ended < jobs {
        let (job, at) = next_change(&mut changes).await;
        first.get_or_insert(at);
        if job.status.is_terminal() {
            assert_eq!(job.status, JobStatus::Completed, "{}", job.message);
            (last, ended) = (Some(at), ended + 1);
        }
    }
    let took = last
        .zip(first)
        .map_or(Duration::ZERO, |(last, first)| last - first);
    println!(
        "no-op     {jobs} restacks of {REPOSITORIES} repositories in {took:?}: {:.0} a second, git \
         fetch included (at least 100)",
        jobs as f64 / took.as_secs_f64()
    );
    stop(worker).await;
}

fn restack() -> ActionMessage {
    Action::RestackSubtree {
        branch: "a".parse().expect("a name"),
    }
    .into()
}

/// Changes of job rows with the time at which they were heard of.
async fn job_changes(world: &World) -> mpsc::UnboundedReceiver<(Job, Instant)> {
    let subject = Topology::default().key_subject(Bucket::Jobs, ">");
    let mut changes = world
        .client()
        .subscribe(subject)
        .await
        .expect("a subscription");
    world.client().flush().await.expect("a connection");
    let (heard, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(change) = changes.next().await {
            let at = Instant::now();
            let Ok(job) = serde_json::from_slice(&change.payload) else {
                continue;
            };
            if heard.send((job, at)).is_err() {
                return;
            }
        }
    });
    receiver
}

async fn next_change(changes: &mut mpsc::UnboundedReceiver<(Job, Instant)>) -> (Job, Instant) {
    let next = tokio::time::timeout(Duration::from_secs(30), changes.recv()).await;
    next.expect("jobs go on").expect("a connection")
}

/// What a worker takes that has nothing to do.
async fn idle(worker: &Process) {
    let before = cpu_ticks(worker.pid());
    tokio::time::sleep(IDLE).await;
    let ticks = cpu_ticks(worker.pid()) - before;
    // Linux counts in hundredths of a second.
    let share = ticks as f64 / (IDLE.as_secs_f64() * 100.0);
    println!(
        "idle      {:.2}% of a core (under 1), {} MB (under 60)",
        share * 100.0,
        resident_bytes(worker.pid()) / 1_000_000
    );
}

fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit(") ").next().unwrap_or_default();
    let field = |n: usize| {
        after_name
            .split(' ')
            .nth(n)
            .and_then(|t| t.parse::<u64>().ok())
    };
    field(11).unwrap_or(0) + field(12).unwrap_or(0)
}

fn resident_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap_or_default();
    let kilobytes: u64 = line
        .trim()
        .trim_end_matches(" kB")
        .trim()
        .parse()
        .unwrap_or(0);
    kilobytes * 1_024
}

fn median(mut samples: Vec<Duration>) -> Duration {
    samples.sort_unstable();
    samples.get(samples.len() / 2).copied().unwrap_or_default()
}

fn ratio(one: Duration, other: Duration) -> f64 {
    one.as_secs_f64() / other.as_secs_f64()
}
