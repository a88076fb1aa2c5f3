//! A message that kills its worker, or its git, each time: it ends as `attempts_exhausted` after as many
//! attempts as jobs have, and its neighbours go on.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backstack_schemas::{ErrorCode, Job, JobStatus};
use backstack_tests::program::write_script;
use backstack_tests::{History, Recorder, Remote, Worker, World};

const ACK_WAIT: Duration = Duration::from_secs(2);

/// A git that does `harm` when it is to fetch for the repository `poison`, and is slow for others: so
/// that neighbours run when harm is done.
fn harmful_git(world: &World, harm: &str) -> PathBuf {
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in\n*/poison.*\\ fetch\\ *) {harm} ;;\n*/slow-*\\ fetch\\ *) sleep 1 ;;\n\
         esac\nexec git \"$@\"\n"
    );
    let file = world.dir().join("harmful-git");
    write_script(&file, &script);
    file
}

async fn stacked(world: &World, name: &str) -> Remote {
    let remote = world.repo(name).await;
    remote.stack("main <- a: a1");
    remote
}

async fn assert_kept(world: &World, recorder: &Recorder) {
    let history = History {
        writes: recorder.writes(world).await,
        ..History::default()
    };
    history.assert_kept();
}

fn assert_exhausted(job: &Job, attempts: u32, says: &str) {
    assert_eq!(job.status, JobStatus::Error, "{job:#?}");
    assert_eq!(job.attempt, attempts, "{job:#?}");
    let error = job.error.as_ref().expect("why");
    assert_eq!(error.code, ErrorCode::AttemptsExhausted, "{job:#?}");
    assert!(error.detail.contains(says), "{}", error.detail);
}

#[tokio::test]
async fn a_git_that_is_killed_each_time_costs_its_own_job_alone() {
    let world = World::with_ack_wait(ACK_WAIT).await;
    let recorder = Recorder::start(&world).await;
    let _remotes = [
        stacked(&world, "poison").await,
        stacked(&world, "good").await,
    ];
    let git = harmful_git(&world, "kill -9 $$");
    let git = format!("--git={}", git.display());
    let _worker = Worker::start(&world, &[&git, "--max-attempts=2"]).await;
    let poison = world.publish("poison", "sync_repo", "").await;
    let behind = world.publish("poison", "sync_repo", "").await;
    let good = world.run("good", "sync_repo", "").await;
    assert_eq!(good.status, JobStatus::Completed, "{good:#?}");
    assert_eq!(good.run, 1, "{good:#?}");
    assert_exhausted(&world.ended("poison", poison).await, 2, "SIGKILL");
    assert_exhausted(&world.ended("poison", behind).await, 2, "SIGKILL");
    world.queue_empty().await;
    assert_kept(&world, &recorder).await;
}

/// Workers that are started again whenever they die, as a service manager does it.
async fn keep_running(world: &World, arguments: &[&str], enough: &AtomicBool) -> usize {
    let mut worker = Worker::start(world, arguments).await;
    let mut deaths = 0;
    while !enough.load(Ordering::Relaxed) {
        let died =
            tokio::time::timeout(Duration::from_millis(50), worker.program().process().wait());
        if died.await.is_ok() {
            deaths += 1;
            worker = Worker::launch_on(world, worker.state(), arguments);
        }
    }
    deaths
}

/// The default of five attempts: what runs beside the job that kills is hit with it, and must not
/// share its end.
#[tokio::test]
async fn a_job_that_kills_each_of_its_workers_ends_and_its_neighbours_complete() {
    const NEIGHBOURS: usize = 6;
    let world = World::with_ack_wait(ACK_WAIT).await;
    let recorder = Recorder::start(&world).await;
    let mut remotes = vec![stacked(&world, "poison").await];
    for number in 0..NEIGHBOURS {
        remotes.push(stacked(&world, &format!("slow-{number}")).await);
    }
    let git = harmful_git(&world, "kill -9 $PPID; exit 1");
    let git = format!("--git={}", git.display());
    let enough = AtomicBool::new(false);
    let arguments = [git.as_str(), "--concurrency=8"];
    let story = async {
        let poison = world.publish("poison", "sync_repo", "").await;
        let mut neighbours = Vec::new();
        for number in 0..NEIGHBOURS {
            let repo = format!("slow-{number}");
            let job = world.publish(&repo, "sync_repo", "").await;
            neighbours.push((repo, job));
        }
        let ended = world.ended("poison", poison).await;
        assert_exhausted(&ended, 5, "without a word");
        for (repo, job) in neighbours {
            let ended = world.ended(&repo, job).await;
            assert_eq!(ended.status, JobStatus::Completed, "{ended:#?}");
        }
        enough.store(true, Ordering::Relaxed);
    };
    let (deaths, ()) = tokio::join!(keep_running(&world, &arguments, &enough), story);
    assert_eq!(deaths, 5, "one for each attempt");
    world.queue_empty().await;
    assert_kept(&world, &recorder).await;
}
