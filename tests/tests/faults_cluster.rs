//! Three nats-servers with three replicas of everything, of which one at a time is killed or stopped, in
//! turn and under load: as with one server that is well, nothing is lost, done twice or out of order.
//!
//! A stopped server keeps its connections, answers nothing, and lags behind the others when it runs again:
//! what it then says of the queue must fool nobody.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use backstack_consumer::dev::nats_server::PrivateServer;
use backstack_producer::rows::{Keys, RowEvent, Watch};
use backstack_schemas::topology::{Bucket, Choices};
use backstack_schemas::{Job, JobId, JobStatus};
use backstack_tests::rows::DEADLINE;
use backstack_tests::{Gate, Options, Remote, Worker, World, long_form};
use futures_util::future::join_all;
use serde_json::Value;

/// An election takes some seconds, and a busy machine more.
const ACK_WAIT: Duration = Duration::from_secs(6);

/// How long a fault lasts.
const LASTS: Duration = Duration::from_secs(2);

const REPOS: usize = 30;
const ACTIONS: usize = 10;

async fn cluster() -> World {
    let choices = Choices {
        replicas: 3,
        ack_wait: ACK_WAIT,
    };
    World::with(Options {
        choices,
        ..Options::default()
    })
    .await
}

/// What is done to a server.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Kill,
    Stop,
}

/// Whom it is done to: who leads the stream, who follows, or who leads them all.
#[derive(Clone, Copy, Debug)]
enum Victim {
    Leader(&'static str),
    Follower(&'static str),
    MetaLeader,
}

const FAULTS: [(Fault, Victim); 6] = [
    (Fault::Kill, Victim::Leader("BACKSTACK_ACTIONS")),
    (Fault::Stop, Victim::Follower("BACKSTACK_ACTIONS")),
    (Fault::Kill, Victim::Leader("KV_backstack_jobs")),
    (Fault::Stop, Victim::Leader("BACKSTACK_ACTIONS")),
    (Fault::Kill, Victim::MetaLeader),
    (Fault::Stop, Victim::Leader("KV_backstack_jobs")),
];

async fn find(world: &World, victim: Victim) -> &PrivateServer {
    let servers = world.servers().servers();
    let (stream, leads) = match victim {
        Victim::Leader(stream) => (stream, true),
        Victim::Follower(stream) => (stream, false),
        Victim::MetaLeader => {
            let until = Instant::now() + DEADLINE;
            loop {
                if let Some(index) = world.servers().leader().await {
                    return &servers[index];
                }
                assert!(Instant::now() < until, "nobody leads the cluster");
            }
        }
    };
    let until = Instant::now() + DEADLINE;
    loop {
        let info = world
            .ask(&format!("STREAM.INFO.{stream}"), &Value::Null)
            .await;
        let info = info.unwrap_or_default();
        let leader = info["cluster"]["leader"].as_str().unwrap_or_default();
        let found = servers
            .iter()
            .find(|server| (server.name() == leader) == leads);
        match found {
            Some(server) if !leader.is_empty() => return server,
            _ => assert!(Instant::now() < until, "{stream} has no leader: {info}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// One fault from its beginning until the cluster is whole again.
async fn happen(world: &World, fault: Fault, victim: Victim) {
    let server = find(world, victim).await;
    match fault {
        Fault::Kill => {
            server.kill9().await;
            tokio::time::sleep(LASTS).await;
            server.relaunch().await.expect("a server");
        }
        Fault::Stop => {
            server.pause();
            tokio::time::sleep(LASTS).await;
            server.resume();
        }
    }
    let ready = world.servers().ready().await;
    ready.unwrap_or_else(|error| panic!("after {fault:?} of {victim:?}: {error}"));
}

/// A repository, and the jobs that were published for it, in the order of their acceptance.
struct Load {
    name: String,
    remote: Remote,
    gate: Gate,
    jobs: Vec<(u64, JobId)>,
}

impl Load {
    async fn new(world: &World, number: usize) -> Self {
        let name = format!("repo-{number}");
        let remote = world.repo(&name).await;
        remote.stack("main <- a: a1");
        let gate = Gate::open(&remote);
        Self {
            name,
            remote,
            gate,
            jobs: Vec::new(),
        }
    }

    /// Trunk moves on, and somebody asks for a restack, so often.
    async fn publish(&mut self, world: &World, actions: usize, progress: &Progress) {
        for number in 0..actions {
            let file = format!("m{number}");
            self.remote.commit("main", &[(&file, "m\n")], &file);
            let job = JobId::generate();
            let ack = world.publish_as(job, &self.name, "restack_repo", "").await;
            self.jobs.push((ack.sequence, job));
            progress.accepted.set(progress.accepted.get() + 1);
        }
    }

    /// Every push stands on the one before it, and the last one is what the actions come to.
    fn assert_remote(&self) {
        let name = &self.name;
        let drawn = self.remote.draw();
        let lines: Vec<&str> = drawn.lines().collect();
        assert_eq!(lines[1], "a     main: a1", "{name}: {drawn}");
        let pushed = self.gate.pushed();
        assert!(pushed.len() <= self.jobs.len(), "{name}: {pushed:#?}");
        let ends = pushed.iter().map(|line| {
            let mut words = line.split(' ');
            (
                words.next().unwrap_or_default(),
                words.next().unwrap_or_default(),
            )
        });
        let ends: Vec<_> = ends.collect();
        for pair in ends.windows(2) {
            assert_eq!(pair[0].1, pair[1].0, "{name}: {pushed:#?}");
        }
    }
}

/// How far a test is.
#[derive(Default)]
struct Progress {
    /// Jobs that were accepted so far.
    accepted: Cell<usize>,
    /// Whether those are all there will be.
    published: Cell<bool>,
    /// Whether all of them have ended.
    done: Cell<bool>,
}

/// Every change of a job's row, by its key, with its revision.
type History = BTreeMap<String, Vec<(u64, Job)>>;

async fn watch_jobs(world: &World) -> Watch<Job> {
    let producer = world.producer().await;
    let watched = producer.rows().watch::<Job>(Bucket::Jobs, Keys::All);
    watched.await.expect("a watch")
}

/// Notes every change of every job's row until all that were accepted have ended; the watch lives through
/// all of the faults.
async fn note(mut watch: Watch<Job>, progress: &Progress) -> History {
    let mut history = History::new();
    let (mut newest, mut ended) = (0, 0);
    let mut last_end = Instant::now();
    while !progress.published.get() || ended < progress.accepted.get() {
        let event = tokio::time::timeout(Duration::from_millis(200), watch.next_event());
        match event.await {
            Ok(Some(RowEvent::Row { key, row })) => {
                assert!(
                    row.revision > newest,
                    "{key} at {} after {newest}",
                    row.revision
                );
                newest = row.revision;
                if row.value.status.is_terminal() {
                    ended += 1;
                    last_end = Instant::now();
                }
                history
                    .entry(key)
                    .or_default()
                    .push((row.revision, row.value));
            }
            Ok(Some(RowEvent::Initialised)) | Err(_) => {}
            Ok(other) => panic!("{other:?}"),
        }
        let accepted = progress.accepted.get();
        assert!(
            last_end.elapsed() < DEADLINE,
            "{ended} of {accepted} jobs have ended, and no more in {DEADLINE:?}"
        );
    }
    progress.done.set(true);
    history
}

/// What the rows of one repository must have gone through; returns how many runs there were.
fn assert_history(load: &mut Load, history: &History) -> u64 {
    load.jobs.sort_unstable();
    let mut runs = 0;
    let mut handed_over = 0;
    for (sequence, job) in &load.jobs {
        let key = format!("{}.{job}", load.name);
        let rows = history
            .get(&key)
            .unwrap_or_else(|| panic!("{key} has no row"));
        let (end, last) = rows.last().expect("a row");
        assert_eq!(last.status, JobStatus::Completed, "{key}: {last:#?}");
        assert_eq!(last.sequence, Some(*sequence), "{key}");
        let ends = rows
            .iter()
            .filter(|(_, row)| row.status.is_terminal())
            .count();
        assert_eq!(ends, 1, "{key} changed after its end: {rows:#?}");
        let fences: Vec<u64> = rows.iter().map(|(_, row)| row.run).collect();
        assert!(fences.is_sorted(), "{key}: {fences:?}");
        let running = |(_, row): &&(u64, Job)| row.status == JobStatus::Running;
        let began = rows.iter().find(running).map(|(revision, _)| *revision);
        assert!(
            began.unwrap_or(*end) > handed_over,
            "{key} began before the job before it had ended"
        );
        handed_over = *end;
        runs += last.run;
    }
    runs
}

#[tokio::test]
async fn servers_killed_and_stopped_in_turn_under_load_lose_and_reorder_nothing() {
    let times = long_form();
    let world = cluster().await;
    let mut loads = Vec::new();
    for number in 0..REPOS {
        loads.push(Load::new(&world, number).await);
    }
    let workers = [
        Worker::start(&world, &[]).await,
        Worker::start(&world, &[]).await,
    ];
    let registered = loads.iter().map(|load| world.register(&load.name, &["a"]));
    join_all(registered).await;
    let progress = Progress::default();
    progress.accepted.set(REPOS);
    let faults = Cell::new(0);
    let work = async {
        let published = loads
            .iter_mut()
            .map(|load| load.publish(&world, ACTIONS * times, &progress));
        join_all(published).await;
        progress.published.set(true);
    };
    let chaos = async {
        // Each at least once, and then for as long as there is work.
        while faults.get() < FAULTS.len() || !progress.done.get() {
            let (fault, victim) = FAULTS[faults.get() % FAULTS.len()];
            happen(&world, fault, victim).await;
            faults.set(faults.get() + 1);
            tokio::time::sleep(LASTS).await;
        }
    };
    let watch = watch_jobs(&world).await;
    let (history, (), ()) = tokio::join!(note(watch, &progress), work, chaos);
    let mut runs = 0;
    for load in &mut loads {
        runs += assert_history(load, &history);
        load.assert_remote();
    }
    let jobs = (REPOS * ACTIONS * times) as u64;
    eprintln!("{jobs} jobs, {runs} runs, {} faults", faults.get());
    // A fault ends at most what runs at that moment.
    let concurrency: u64 = workers.len() as u64 * 4;
    let most = jobs + faults.get() as u64 * concurrency;
    assert!(
        runs <= most,
        "{runs} runs of {jobs} jobs under {} faults",
        faults.get()
    );
    world.queue_empty().await;
    for worker in &workers {
        assert_eq!(worker.program().process().ended(), None);
    }
}

/// The worker's own server keeps the connection and says nothing: the worker notices, and goes on with
/// another, before anybody does anything about that server.
#[tokio::test]
async fn a_worker_whose_server_goes_silent_goes_on_with_another() {
    let world = cluster().await;
    let own = world.client().server_info().server_name;
    let servers = world.servers().servers();
    let silent = servers.iter().find(|server| server.name() != own);
    let silent = silent.expect("another server");
    let web = world.repo("web").await;
    web.stack("main <- a: a1");
    let url = format!("--nats-url={}", silent.url());
    let _worker = Worker::start(&world, &[&url]).await;
    world.register("web", &["a"]).await;
    let before = world.run("web", "sync_repo", "").await;
    assert_eq!(before.status, JobStatus::Completed, "{before:#?}");
    silent.pause();
    let since = Instant::now();
    web.commit("main", &[("m1", "m1\n")], "m1");
    let job = world.publish("web", "restack_repo", "").await;
    let ended = world.ended("web", job).await;
    let took = since.elapsed();
    silent.resume();
    assert_eq!(
        (ended.status, ended.attempt),
        (JobStatus::Completed, 1),
        "{ended:#?}"
    );
    assert!(took < Duration::from_secs(30), "{took:?}");
    assert_eq!(web.draw(), "main  m0 m1\na     main: a1\n");
}
