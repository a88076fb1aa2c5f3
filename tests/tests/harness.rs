//! The harness itself: what every other system test takes for granted.

use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use backstack_schemas::topology::{Bucket, job_key};
use backstack_schemas::{ActionMessage, Job, JobId, JobSpec, JobStatus, RepoId, Timestamp};
use backstack_tests::world::processes_naming;
use backstack_tests::{Worker, World};

/// The row of a job that a publisher would write.
fn queued(repo: &str, job: JobId) -> Job {
    let repo: RepoId = repo.parse().unwrap();
    let message = ActionMessage::from(backstack_schemas::Action::RestackRepo);
    let at = Timestamp::from_unix_millis(1_800_000_000_000).unwrap();
    Job::queued(JobSpec::new(repo, job, &message), None, at)
}

#[tokio::test]
async fn a_world_starts_in_well_under_a_second_and_has_every_stream_and_consumer() {
    let started = Instant::now();
    let world = World::start().await;
    let took = started.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
    for spec in world.topology().streams(world.choices()) {
        let info = world
            .ask(
                &format!("STREAM.INFO.{}", spec.name),
                &serde_json::Value::Null,
            )
            .await;
        assert_eq!(spec.mismatches(&info.unwrap()["config"]), []);
    }
    assert_eq!(world.fewest_waiting_pulls().await, Some(0));
}

#[tokio::test]
async fn a_blank_world_has_no_stream() {
    let world = World::blank().await;
    assert_eq!(world.fewest_waiting_pulls().await, None);
    let names = world
        .ask("STREAM.NAMES", &serde_json::Value::Null)
        .await
        .unwrap();
    assert_eq!(names["total"], 0);
}

#[tokio::test]
async fn what_was_accepted_is_there_after_the_server_was_killed() {
    let world = World::start().await;
    let _remote = world.repo("web").await;
    let job = world.publish("web", "restack_repo", "{}").await;
    world.server().kill9().await;
    world.server().restart().await.unwrap();
    assert_eq!(world.stored("BACKSTACK_ACTIONS").await, 1);
    assert_eq!(world.repository("web").await.unwrap().repo.as_str(), "web");
    let again = world.publish_as(job, "web", "restack_repo", "{}").await;
    assert!(
        again.duplicate,
        "the message id is still known while the message is stored"
    );
}

#[tokio::test]
async fn an_action_is_stored_under_its_partition() {
    let world = World::start().await;
    world.publish("web", "sync_repo", "").await;
    let stream = world
        .jetstream()
        .get_stream("BACKSTACK_ACTIONS")
        .await
        .unwrap();
    let message = stream.get_raw_message(1).await.unwrap();
    let subject = world
        .topology()
        .parse_queue_subject(&message.subject)
        .unwrap();
    assert_eq!(
        (subject.repo.as_str(), subject.action.as_str()),
        ("web", "sync_repo")
    );
}

#[tokio::test]
async fn what_no_stream_takes_is_not_accepted() {
    let world = World::start().await;
    let refused = world
        .publish_raw("elsewhere.web", HeaderMap::new(), b"{}")
        .await;
    assert!(refused.is_err());
}

#[tokio::test]
async fn a_row_is_awaited_from_before_it_exists_until_it_is_right() {
    let world = World::start().await;
    let job = JobId::generate();
    let key = job_key(&"web".parse().unwrap(), job);
    let row = queued("web", job);
    let mut ended = row.clone();
    ended.status = JobStatus::Completed;
    let write = async {
        world.put_row(Bucket::Jobs, &key, &row).await;
        world
            .job_when("web", job, "queued", |job| job.status == JobStatus::Queued)
            .await;
        world.put_row(Bucket::Jobs, &key, &ended).await;
    };
    let (seen, ()) = tokio::join!(world.ended("web", job), write);
    assert_eq!(seen, ended);
    assert_eq!(world.job("web", job).await, Some(ended));
    assert_eq!(world.job("web", JobId::generate()).await, None);
}

#[tokio::test]
async fn waiting_for_a_row_survives_a_killed_server() {
    let world = World::start().await;
    let job = JobId::generate();
    let key = job_key(&"web".parse().unwrap(), job);
    let row = queued("web", job);
    let mut ended = row.clone();
    ended.status = JobStatus::Completed;
    world.put_row(Bucket::Jobs, &key, &row).await;
    let disturb = async {
        world.server().kill9().await;
        world.server().restart().await.unwrap();
        world.put_row(Bucket::Jobs, &key, &ended).await;
    };
    let (seen, ()) = tokio::join!(world.ended("web", job), disturb);
    assert_eq!(seen, ended);
    let revisions = world.job_history("web", job).await;
    let rows: Vec<_> = revisions.iter().map(|(_, row)| row).collect();
    assert_eq!(rows, [&row, &ended]);
}

#[tokio::test]
async fn dead_letters_are_read_in_order() {
    let world = World::start().await;
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", "BACKSTACK_ACTIONS:7");
    world
        .publish_raw("backstack.dead.bad_payload", headers, b"{")
        .await
        .unwrap();
    world
        .publish_raw("backstack.dead.bad_subject", HeaderMap::new(), b"")
        .await
        .unwrap();
    world.stored_when("BACKSTACK_DEAD", 2).await;
    let letters = world.dead_letters().await;
    let subjects: Vec<_> = letters
        .iter()
        .map(|letter| letter.subject.as_str())
        .collect();
    assert_eq!(
        subjects,
        ["backstack.dead.bad_payload", "backstack.dead.bad_subject"]
    );
    assert_eq!(letters[0].payload, b"{");
    assert_eq!(
        letters[0].headers.get("Nats-Msg-Id").unwrap().as_str(),
        "BACKSTACK_ACTIONS:7"
    );
}

#[tokio::test]
async fn a_login_is_used_by_the_harness_and_handed_to_programs() {
    let options = backstack_tests::Options {
        nats_config: "authorization { users = [{ user: ann, password: secret }] }".to_owned(),
        login: "ann:secret@".to_owned(),
        ..Default::default()
    };
    let world = World::with(options).await;
    world.publish("web", "sync_repo", "").await;
    assert!(world.nats_url().starts_with("nats://ann:secret@127.0.0.1:"));
}

#[tokio::test]
async fn a_cluster_accepts_actions_with_any_one_server_gone() {
    let world = World::cluster().await;
    world.publish("web", "sync_repo", "").await;
    let leader = world.servers().leader().await.unwrap();
    world.servers().servers()[leader].kill9().await;
    world.servers().ready().await.unwrap();
    // The stream may have had its own leader there, and elects another.
    world.publish("web", "sync_repo", "").await;
    world.stored_when("BACKSTACK_ACTIONS", 2).await;
}

#[tokio::test]
#[should_panic(expected = "instead of getting ready")]
async fn a_worker_that_ends_instead_of_getting_ready_is_told() {
    let world = World::start().await;
    Worker::start(&world, &["--no-such-flag"]).await;
}

#[tokio::test]
async fn nothing_is_left_of_a_world() {
    let world = World::start().await;
    let dir = world.dir().to_owned();
    let _remote = world.repo("web").await;
    assert!(dir.join("web.git").exists());
    drop(world);
    assert!(!dir.exists());
    assert_eq!(processes_naming(&dir), []);
}
