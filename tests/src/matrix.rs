//! Faults at every step of every action.
//!
//! A [`Lane`] is a world in which one action is asked for again and again, each time in a fresh
//! repository of the same shape. Its first run is not disturbed: it gives the places where a run can be
//! stopped, and what has to come of it. In a *round* one worker has many jobs, each standing at a place
//! of its own, when something happens to the worker; then all of the jobs must come to the same end as
//! the first, in time, with one effect.

mod lost_report;
mod place;
mod round;
mod script;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use backstack_schemas::topology::{Bucket, task_key};
use backstack_schemas::{Branch, JobId, JobStatus, Task, TaskId, TaskStatus};
use futures_util::future::join_all;
use serde_json::json;

pub use place::Place;
pub use round::Successor;
pub use script::{SCRIPTS, Script};

use crate::git_stops::GitStops;
use crate::history::{History, Recorder};
use crate::ref_log::RefLog;
use crate::remote::Remote;
use crate::wire::{self, Wire};
use crate::world::World;
use crate::{Worker, shown};

/// The ack wait of every lane.
pub const ACK_WAIT: Duration = Duration::from_secs(2);

/// How long after the ack wait a dead worker's jobs may take to be done.
const DONE_WITHIN: Duration = Duration::from_secs(3);

/// Where that is exceeded: how many times as long as undisturbed jobs of the same number, on the same
/// machine with whatever else it has to do, they may have taken.
const TIMES_UNDISTURBED: u32 = 6;

/// A world for one action.
pub struct Lane {
    world: World,
    script: Script,
    /// The branch rows before the action, those of a repository that was tracked for real.
    rows: Vec<Branch>,
    expected: Expected,
    places: Vec<Place>,
    recorder: Recorder,
    history: Mutex<History>,
    logs: Mutex<BTreeMap<String, RefLog>>,
}

/// What has to come of each run.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Expected {
    draw: String,
    stack: String,
    facts: String,
    /// The branches that were moved on the remote, each as often as it was.
    moves: Vec<String>,
    task: Option<TaskStatus>,
}

/// One repository of a lane, before its action.
struct Replica {
    repo: String,
    remote: Remote,
    task: Option<TaskId>,
    job: JobId,
}

impl Lane {
    /// Builds the world and runs the action once, undisturbed.
    pub async fn start(script: Script) -> Self {
        let world = World::with_ack_wait(ACK_WAIT).await;
        let recorder = Recorder::start(&world).await;
        let template = world.repo("template").await;
        script.build(&template);
        let worker = Worker::start(&world, &[]).await;
        world.register("template", &script::TRACKED).await;
        worker.kill9().await;
        let mut lane = Self {
            rows: world.branches("template").await,
            world,
            script,
            expected: Expected {
                draw: String::new(),
                stack: String::new(),
                facts: String::new(),
                moves: Vec::new(),
                task: None,
            },
            places: Vec::new(),
            recorder,
            history: Mutex::default(),
            logs: Mutex::default(),
        };
        lane.run_undisturbed().await;
        lane
    }

    /// Where a run of the action can be stopped.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// What can be lost in a run of the action.
    pub fn losses(&self) -> Vec<Place> {
        place::losses(&self.places)
    }

    /// Jobs were done in time, `took` after what happened to their worker, of which `lawful` is the
    /// time in which nothing need happen. Asks `count` undisturbed jobs where a busy machine may be why
    /// they were not.
    async fn assert_in_time(&self, name: &str, took: Duration, lawful: Duration, count: usize) {
        if took < lawful + DONE_WITHIN {
            return;
        }
        let mut replicas = Vec::new();
        for number in 0..count {
            replicas.push(self.replica(&format!("{name}-control-{number}")).await);
        }
        let since = Instant::now();
        for replica in &replicas {
            self.publish(replica).await;
        }
        let ended = replicas.iter().map(|it| self.world.ended(&it.repo, it.job));
        join_all(ended).await;
        let undisturbed = since.elapsed();
        eprintln!(
            "{name}: {count} jobs were done {:?} late; undisturbed ones take {undisturbed:?}",
            took - lawful - DONE_WITHIN
        );
        assert!(
            took < lawful + undisturbed * TIMES_UNDISTURBED,
            "{name}: {count} jobs were done after {took:?}, but {count} that nothing had happened to in \
             {undisturbed:?}"
        );
    }

    async fn run_undisturbed(&mut self) {
        let wire = Wire::start(&self.world).await;
        let stops = GitStops::new(self.world.dir().join("undisturbed"));
        let worker = self.worker(&wire, &stops).await;
        let replica = self.replica("undisturbed").await;
        let before = wire.trace().len();
        self.publish(&replica).await;
        let job = self.world.ended(&replica.repo, replica.job).await;
        assert_eq!(job.status, JobStatus::Completed, "{job:#?}");
        self.world.queue_empty().await;
        let steps = wire::steps(&wire.trace()[before..], &replica.repo);
        self.places = place::places(&steps, &stops.commands(&replica.repo));
        self.expected = self.outcome(&replica).await;
        worker.kill9().await;
    }

    /// A worker behind a wire, with a git that can be stopped.
    async fn worker(&self, wire: &Wire, stops: &GitStops) -> Worker {
        let url = format!("--nats-url={}", wire.url());
        let git = format!("--git={}", stops.script().display());
        let worker = Worker::start(&self.world, &[&url, &git, "--concurrency=64"]).await;
        // What the server still knows of a worker that was killed just now looks as if this one were
        // ready.
        worker.said("ready for work").await;
        worker
    }

    /// A repository of its own for one run.
    async fn replica(&self, repo: &str) -> Replica {
        let remote = self.world.repo(repo).await;
        self.script.build(&remote);
        for row in &self.rows {
            let row = Branch {
                repo: repo.parse().expect("a repository"),
                ..row.clone()
            };
            let key = backstack_schemas::topology::branch_key(&row.repo, &row.branch);
            self.world.put_row(Bucket::Branches, &key, &row).await;
        }
        self.script.go_on(&remote);
        let log = RefLog::start(&remote);
        lock(&self.logs).insert(repo.to_owned(), log);
        let job = JobId::generate();
        let task = if self.script.has_task {
            Some(self.task(repo, job).await)
        } else {
            None
        };
        Replica {
            repo: repo.to_owned(),
            remote,
            task,
            job,
        }
    }

    /// A task that waits for the action's job.
    async fn task(&self, repo: &str, job: JobId) -> TaskId {
        let task = TaskId::generate();
        let at = "2024-01-01T00:00:00.000Z";
        let row = json!({
            "repo": repo, "task_id": task, "title": "A task", "branch": script::TASK_BRANCH,
            "status": "pending_branch_attach", "head": null, "parent": null, "job_id": job,
            "message": null, "created_at": at, "updated_at": at,
        });
        let key = task_key(&repo.parse().expect("a repository"), task);
        self.world.put_row(Bucket::Tasks, &key, &row).await;
        task
    }

    /// Asks for the action.
    async fn publish(&self, replica: &Replica) {
        let body = self.script.body(replica.task);
        let (repo, action) = (&replica.repo, self.script.action);
        let accepted = self.world.publish_as(replica.job, repo, action, &body);
        let sequence = accepted.await.sequence;
        lock(&self.history).accept(repo, replica.job, sequence);
    }

    /// What came of a run, on the remote and in the rows.
    async fn outcome(&self, replica: &Replica) -> Expected {
        let (repo, remote) = (&replica.repo, &replica.remote);
        let rows = self.world.branches(repo).await;
        let log = lock(&self.logs)[repo].clone();
        let mut moves: Vec<_> = log.moves().into_iter().map(|one| one.branch).collect();
        moves.sort();
        let task = match replica.task {
            Some(task) => self.world.task(repo, task).await,
            None => None,
        };
        Expected {
            draw: remote.draw(),
            stack: shown::stack(remote, &rows),
            facts: shown::facts(&rows),
            moves,
            task: task.map(|task: Task| task.status),
        }
    }

    /// Holds everything that happened in the lane against what is promised.
    pub async fn finish(self) {
        let mut history = self
            .history
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        history.writes = self.recorder.writes(&self.world).await;
        let logs = self.logs.into_inner();
        for (repo, log) in logs.unwrap_or_else(std::sync::PoisonError::into_inner) {
            history.moves.insert(repo, log.moves());
        }
        history.assert_kept();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// How often a job has to have run by its end, where it was stopped at a place and done by another.
fn expected_runs(places: &[Place], place: &Place) -> u64 {
    let index_of = |wanted: &Place| places.iter().position(|place| place == wanted);
    let taken = index_of(&Place::Answered("take job row".to_owned()));
    let ended = index_of(&Place::Answered("end job row".to_owned()));
    let here = index_of(place);
    if here >= taken && here < ended { 2 } else { 1 }
}
