//! Sections 6 and 7 of the contract: the actions of one repository run one at a time in the order in
//! which they were stored, whatever the number of workers and whatever happens to them; different
//! repositories do not wait for each other.
//!
//! Order is judged by the revisions of the job bucket: a recorder sees every write of every row.

use std::collections::HashMap;
use std::time::Duration;

use backstack_schemas::topology::Bucket;
use backstack_schemas::{ErrorCode, Job, JobId, JobStatus};
use backstack_tests::rows::DEADLINE;
use backstack_tests::{Gate, Worker, World};
use futures_util::StreamExt as _;
use tokio::task::JoinHandle;

/// Every write to the job bucket from now on, in the order of revisions.
struct Recorder(JoinHandle<Vec<(u64, Job)>>);

impl Recorder {
    /// Records until `count` jobs have ended.
    async fn start(world: &World, count: usize) -> Self {
        let bucket = world.bucket(Bucket::Jobs).await;
        let mut writes = bucket.watch_all().await.expect("a watch");
        Self(tokio::spawn(async move {
            let (mut seen, mut ended) = (Vec::new(), 0);
            while ended < count {
                let write = writes.next().await.expect("a watch").expect("a write");
                let job: Job = serde_json::from_slice(&write.value).expect("a job");
                ended += usize::from(job.status.is_terminal());
                seen.push((write.revision, job));
            }
            seen
        }))
    }

    async fn finish(self) -> Vec<(u64, Job)> {
        let finished = tokio::time::timeout(DEADLINE, self.0).await;
        finished
            .expect("all jobs end")
            .expect("rows that can be read")
    }
}

/// Of each repository, `jobs` in the order in which they were stored: each runs only when all before
/// it have ended, and ends once.
fn assert_in_order(writes: &[(u64, Job)], jobs: &[JobId]) {
    let place: HashMap<_, _> = jobs.iter().zip(0..).collect();
    let mut ended = 0;
    for (revision, job) in writes {
        let Some(place) = place.get(&job.spec.job_id) else {
            continue;
        };
        match job.status {
            JobStatus::Running => assert_eq!(
                *place, ended,
                "at revision {revision} number {place} runs, but {ended} have ended: {job:#?}"
            ),
            JobStatus::Queued => assert!(*place >= ended, "an ended job is queued: {job:#?}"),
            JobStatus::Completed | JobStatus::Error | JobStatus::Cancelled => {
                assert_eq!(*place, ended, "ended out of turn, or twice: {job:#?}");
                ended += 1;
            }
        }
    }
    assert_eq!(ended, jobs.len(), "not all have ended");
}

/// Jobs that none of the others makes superfluous.
async fn publish_backlog(world: &World, repo: &str, count: usize) -> Vec<JobId> {
    let kinds = [
        ("sync_repo", r#"{"restack": true}"#),
        ("restack_repo", ""),
        ("sync_repo", r#"{"dry_run": true}"#),
        ("rebase_branch", r#"{"branch": "nobody"}"#),
        ("no_such_action", ""),
    ];
    let mut jobs = Vec::new();
    for (action, body) in kinds.iter().cycle().take(count) {
        jobs.push(world.publish(repo, action, body).await);
    }
    jobs
}

#[tokio::test]
async fn one_worker_keeps_the_stored_order() {
    keeps_the_stored_order(1).await;
}

#[tokio::test]
async fn three_workers_keep_the_stored_order() {
    keeps_the_stored_order(3).await;
}

async fn keeps_the_stored_order(count: usize) {
    let world = World::start().await;
    let mut remotes = Vec::new();
    let repos = ["web", "api"];
    for repo in repos {
        remotes.push(world.repo(repo).await);
    }
    let recorder = Recorder::start(&world, 40).await;
    let mut backlogs = Vec::new();
    for repo in repos {
        backlogs.push(publish_backlog(&world, repo, 10).await);
    }
    let mut workers = Vec::new();
    for _ in 0..count {
        workers.push(Worker::start(&world, &[]).await);
    }
    // More comes in while they work.
    for (repo, backlog) in repos.into_iter().zip(&mut backlogs) {
        backlog.extend(publish_backlog(&world, repo, 10).await);
    }
    let writes = recorder.finish().await;
    for backlog in &backlogs {
        assert_in_order(&writes, backlog);
    }
    for (_, job) in &writes {
        assert!(job.run <= 1, "nothing was disturbed: {job:#?}");
    }
    world.queue_empty().await;
}

#[tokio::test]
async fn order_is_kept_when_workers_are_killed_and_drained() {
    let world = World::with_ack_wait(Duration::from_secs(2)).await;
    let _remote = world.repo("web").await;
    let recorder = Recorder::start(&world, 30).await;
    let killed = Worker::start(&world, &[]).await;
    let backlog = publish_backlog(&world, "web", 30).await;
    let drained = Worker::start(&world, &[]).await;
    let _stays = Worker::start(&world, &[]).await;
    world.ended("web", backlog[5]).await;
    killed.kill9().await;
    world.ended("web", backlog[15]).await;
    let output = drained.stop().await;
    assert_eq!(output.code, 0, "{}", output.stderr);
    let writes = recorder.finish().await;
    assert_in_order(&writes, &backlog);
    // One kill can have cost one job one attempt, and the drain none.
    let repeated = writes
        .iter()
        .filter(|(_, job)| job.status.is_terminal() && job.attempt > 1);
    assert!(repeated.count() <= 1, "{writes:#?}");
    world.queue_empty().await;
}

#[tokio::test]
async fn repositories_do_not_wait_for_each_other() {
    const QUEUED: usize = 300;
    const OTHERS: usize = 20;
    let world = World::start().await;
    let busy = world.repo("busy").await;
    busy.stack("main <- a: a1");
    let mut remotes = Vec::new();
    for number in 0..OTHERS {
        remotes.push(world.repo(&format!("other-{number}")).await);
    }
    let _worker = Worker::start(&world, &["--concurrency=4"]).await;
    world.register("busy", &["a"]).await;
    busy.commit("main", &[("m1", "m1\n")], "m1");
    let gate = Gate::close(&busy);
    let slow = world.publish("busy", "restack_repo", "").await;
    let arrived = gate.arrived().await;
    let mut queued = vec![slow];
    for _ in 0..QUEUED {
        queued.push(world.publish("busy", "sync_repo", "").await);
    }
    let mut others = Vec::new();
    for number in 0..OTHERS {
        let repo = format!("other-{number}");
        let job = world.publish(&repo, "sync_repo", "").await;
        others.push((repo, job));
    }
    for (repo, job) in &others {
        let ended = world.ended(repo, *job).await;
        assert_eq!(ended.status, JobStatus::Completed, "{ended:#?}");
        assert_eq!(ended.run, 1, "{ended:#?}");
    }
    let row = world.job("busy", slow).await.expect("a row");
    assert_eq!(row.status, JobStatus::Running, "they waited: {row:#?}");
    assert_eq!(world.job("busy", queued[1]).await, None, "out of turn");
    let recorder = Recorder::start(&world, queued.len()).await;
    gate.release();
    drop(arrived);
    let writes = recorder.finish().await;
    assert_in_order(&writes, &queued);
    world.queue_empty().await;
}

#[tokio::test]
async fn a_retry_holds_back_its_own_repository_only() {
    let world = World::start().await;
    let remote = world.remote("web");
    let _other = world.repo("api").await;
    let away = format!("file://{}/not-yet.git", world.dir().display());
    world.add_repo("web", &away).await;
    let recorder = Recorder::start(&world, 4).await;
    let _workers = [
        Worker::start(&world, &[]).await,
        Worker::start(&world, &[]).await,
    ];
    let mut jobs = Vec::new();
    for action in ["sync_repo", "restack_repo", "sync_repo"] {
        jobs.push(world.publish("web", action, "").await);
    }
    let failed = world
        .job_when("web", jobs[0], "waiting for its retry", |job| {
            job.next_attempt_at.is_some()
        })
        .await;
    assert_eq!(
        failed.error.expect("why").code,
        ErrorCode::RemoteUnreachable
    );
    let job = world.run("api", "sync_repo", "").await;
    assert_eq!(job.status, JobStatus::Completed, "{job:#?}");
    let row = world.job("web", jobs[0]).await.expect("a row");
    assert_eq!(row.status, JobStatus::Queued, "api waited for it: {row:#?}");
    for later in &jobs[1..] {
        assert_eq!(world.job("web", *later).await, None, "out of turn");
    }
    world.add_repo("web", &remote.url()).await;
    let writes = recorder.finish().await;
    assert_in_order(&writes, &jobs);
    let last = |id: &JobId| {
        let of_job = writes.iter().rev().find(|(_, job)| job.spec.job_id == *id);
        of_job.expect("a row").1.clone()
    };
    assert_eq!((last(&jobs[0]).attempt, last(&jobs[1]).attempt), (2, 1));
    for job in &jobs {
        assert_eq!(last(job).status, JobStatus::Completed);
    }
}

#[tokio::test]
async fn overtaken_syncs_complete_without_git() {
    let world = World::start().await;
    let _remote = world.repo("web").await;
    let mut plain = Vec::new();
    for _ in 0..20 {
        plain.push(world.publish("web", "sync_repo", "").await);
    }
    let dry = world
        .publish("web", "sync_repo", r#"{"dry_run": true}"#)
        .await;
    let _worker = Worker::start(&world, &[]).await;
    let mut overtaken = 0;
    for job in &plain {
        let ended = world.ended("web", *job).await;
        assert_eq!(ended.status, JobStatus::Completed, "{ended:#?}");
        overtaken += usize::from(ended.message.contains("has done it already"));
    }
    assert_eq!(overtaken, 19, "all but the first");
    let ended = world.ended("web", dry).await;
    assert!(
        ended.message.starts_with("Synced"),
        "only a plain one is overtaken: {ended:#?}"
    );
    // A fetch would have put its own job there.
    let row = world.repository("web").await.expect("the row");
    assert_eq!(row.sync.job_id, Some(plain[0]), "{row:#?}");
    let later = world.run("web", "sync_repo", "").await;
    assert!(later.message.starts_with("Synced"), "{later:#?}");
}

/// What was asked for after the fetch began is not covered by it.
#[tokio::test]
async fn a_failed_sync_overtakes_nothing() {
    let world = World::start().await;
    let remote = world.remote("web");
    world
        .add_repo("web", &format!("file://{}/nowhere", world.dir().display()))
        .await;
    let first = world.publish("web", "sync_repo", "").await;
    let second = world.publish("web", "sync_repo", "").await;
    let _worker = Worker::start(&world, &["--max-attempts=1"]).await;
    for job in [first, second] {
        let ended = world.ended("web", job).await;
        assert_eq!(ended.status, JobStatus::Error, "{ended:#?}");
    }
    world.add_repo("web", &remote.url()).await;
    let third = world.run("web", "sync_repo", "").await;
    assert!(third.message.starts_with("Synced"), "{third:#?}");
}
