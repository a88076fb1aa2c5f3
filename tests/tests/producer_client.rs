//! Publishing, following, cancelling and retrying against a real server, with the worker's part played
//! by writes to the row.

use std::time::{Duration, Instant};

use backstack_producer::client::{Added, JobUpdate};
use backstack_producer::rows::{Keys, RowEvent};
use backstack_producer::{Client, ClientError, ConnectOptions, api, connect};
use backstack_schemas::topology::{Bucket, job_key};
use backstack_schemas::{
    Action, ActionMessage, Job, JobEvent, JobId, JobResult, JobStatus, RepoId, SyncStatus,
    TaskStatus, Timestamp, Topology, WorkerId,
};
use backstack_tests::{Options, World};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(20);

async fn installation() -> (World, Client) {
    let world = World::start().await;
    let client = world.producer().await;
    (world, client)
}

fn web() -> RepoId {
    "web".parse().unwrap()
}

/// The worker's part: one event on the job's row.
async fn happens(client: &Client, job_id: JobId, event: JobEvent) -> Job {
    let (rows, key) = (client.rows(), job_key(&web(), job_id));
    let row = rows
        .get_leader::<Job>(Bucket::Jobs, &key)
        .await
        .unwrap()
        .unwrap();
    let job = row.value.apply(event, rows.clock().now()).unwrap();
    rows.update(Bucket::Jobs, &key, &job, row.revision)
        .await
        .unwrap();
    job
}

fn start() -> JobEvent {
    JobEvent::Start {
        worker: WorkerId::generate("host", 1),
        sequence: 1,
        delivery: 1,
        max_attempts: 5,
    }
}

fn complete() -> JobEvent {
    JobEvent::Complete {
        message: "Done".to_owned(),
        result: JobResult::default(),
    }
}

#[tokio::test]
async fn a_published_action_is_in_its_partition_and_has_a_row() {
    let (_world, client) = installation().await;
    let published = client
        .publish(&web(), Action::RestackRepo.into())
        .await
        .unwrap();
    assert_eq!((published.sequence, published.duplicate), (1, false));
    let row = published.row.unwrap();
    assert_eq!(row.value.status, JobStatus::Queued);
    assert_eq!(row.value.sequence, Some(1));

    let found = client.job(&web(), published.job_id).await.unwrap().unwrap();
    assert_eq!((found.value, found.revision), (row.value, row.revision));
    let body = json!({ "seq": 1 });
    let nats = client.rows().client();
    let stored = api::ask(nats, "STREAM.MSG.GET.BACKSTACK_ACTIONS", &body)
        .await
        .unwrap();
    let subject = stored["message"]["subject"].as_str().unwrap();
    let taken = client.topology().parse_queue_subject(subject).unwrap();
    assert_eq!((taken.repo, taken.action.as_str()), (web(), "restack_repo"));
}

#[tokio::test]
async fn publishing_the_same_id_again_is_one_job() {
    let (_world, client) = installation().await;
    let message = ActionMessage {
        job_id: Some(JobId::generate()),
        ..Action::RestackRepo.into()
    };
    let first = client.publish(&web(), message.clone()).await.unwrap();
    let second = client.publish(&web(), message.clone()).await.unwrap();
    assert!(second.duplicate);
    assert_eq!(
        (second.sequence, &second.row),
        (
            first.sequence,
            &first.row.map(|row| {
                // The store time is the server's there and an estimate here.
                let at = second.row.as_ref().unwrap().at;
                backstack_producer::rows::Row { at, ..row }
            })
        )
    );

    let other = ActionMessage {
        action: Action::SyncRepo { restack: false },
        ..message
    };
    let error = client.publish(&web(), other).await.unwrap_err();
    assert!(matches!(error, ClientError::JobIdTaken { .. }), "{error}");
}

/// The first publisher died between its message and its row, and somebody takes the same id for
/// something else: that must not become the row of the first one's message.
#[tokio::test]
async fn a_duplicate_of_someone_elses_message_makes_no_row() {
    let (_world, client) = installation().await;
    let job_id = JobId::generate();
    let subject = client
        .topology()
        .action_subject(&web(), Action::RestackRepo.kind());
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Nats-Msg-Id", format!("web.{job_id}"));
    let nats = client.rows().client();
    api::publish(nats, &subject, Some(headers), "{}".into(), SOON)
        .await
        .unwrap();

    let message = ActionMessage {
        job_id: Some(job_id),
        ..Action::SyncRepo { restack: true }.into()
    };
    let published = client.publish(&web(), message).await.unwrap();
    assert!(published.duplicate);
    assert_eq!(published.row, None);
    assert_eq!(client.job(&web(), job_id).await.unwrap(), None);
}

#[tokio::test]
async fn a_row_that_the_worker_wrote_first_stays() {
    let (_world, client) = installation().await;
    let message = ActionMessage {
        job_id: Some(JobId::generate()),
        ..Action::RestackRepo.into()
    };
    let job_id = client
        .publish(&web(), message.clone())
        .await
        .unwrap()
        .job_id;
    happens(&client, job_id, start()).await;
    let again = client.publish(&web(), message).await.unwrap();
    assert_eq!(again.row.unwrap().value.status, JobStatus::Running);
}

#[tokio::test]
async fn what_the_worker_would_refuse_is_not_sent() {
    let (_world, client) = installation().await;
    let message = ActionMessage {
        requested_by: Some("x".repeat(201)),
        ..Action::RestackRepo.into()
    };
    let error = client.publish(&web(), message).await.unwrap_err();
    assert!(matches!(error, ClientError::Invalid(_)), "{error}");
    assert!(client.jobs(None, None).await.unwrap().rows.is_empty());
}

#[tokio::test]
async fn without_the_service_publishing_fails_at_once_and_says_what_to_start() {
    let world = World::blank().await;
    let client = world.producer().await;
    let began = Instant::now();
    let error = client
        .publish(&web(), Action::RestackRepo.into())
        .await
        .unwrap_err();
    assert!(error.is_unavailable());
    assert!(error.to_string().contains("backstackd run"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(3));

    let world = World::with(Options {
        core_only: true,
        ..Options::default()
    })
    .await;
    let client = world.producer().await;
    let error = client
        .publish(&web(), Action::RestackRepo.into())
        .await
        .unwrap_err();
    assert!(matches!(error, ClientError::NoJetStream), "{error}");
}

#[tokio::test]
async fn publishing_goes_on_through_a_restart_and_stores_once() {
    let (world, client) = installation().await;
    client
        .publish(&web(), Action::RestackRepo.into())
        .await
        .unwrap();
    world.server().kill9().await;
    let publishing = tokio::spawn({
        let client = client.clone();
        async move { client.publish(&web(), Action::RestackRepo.into()).await }
    });
    // The outage is longer than one try lasts.
    tokio::time::sleep(Duration::from_secs(4)).await;
    world.server().restart().await.unwrap();
    let published = publishing.await.unwrap().unwrap();
    let info = api::ask(
        client.rows().client(),
        "STREAM.INFO.BACKSTACK_ACTIONS",
        &Value::Null,
    );
    assert_eq!(info.await.unwrap()["state"]["messages"], 2);
    let row = client.job(&web(), published.job_id).await.unwrap();
    assert_eq!(row.unwrap().value.sequence, Some(published.sequence));
}

/// The contract's publisher: it may publish and read its inbox, and nothing else.
#[tokio::test]
async fn a_user_who_may_only_publish_loses_nothing() {
    let config = "authorization { users: [\
        { user: \"admin\", password: \"pw\" }, \
        { user: \"ci\", password: \"pw\", permissions: { \
            publish: \"backstack.actions.*.*\", subscribe: \"_INBOX_ci.>\" } } ] }";
    let world = World::with(Options {
        nats_config: config.to_owned(),
        login: "admin:pw@".to_owned(),
        ..Options::default()
    })
    .await;
    let options = ConnectOptions {
        inbox_prefix: Some("_INBOX_ci".to_owned()),
        ..ConnectOptions::to(world.nats_url_as("ci:pw@"))
    };
    let ci = Client::new(connect(&options).await.unwrap(), Topology::default());
    let published = ci
        .publish(&web(), Action::RestackRepo.into())
        .await
        .unwrap();
    assert_eq!((published.sequence, published.row), (1, None));
}

#[tokio::test]
async fn a_job_is_followed_from_before_its_row_to_its_end() {
    let (world, client) = installation().await;
    let job_id = JobId::generate();
    let mut watch = client.watch_job(&web(), job_id).await.unwrap();
    assert_eq!(
        timeout(SOON, watch.next()).await.unwrap(),
        Some(JobUpdate::Absent)
    );

    let message = ActionMessage {
        job_id: Some(job_id),
        ..Action::RestackRepo.into()
    };
    client.publish(&web(), message).await.unwrap();
    happens(&client, job_id, start()).await;
    world.server().kill9().await;
    world.server().restart().await.unwrap();
    happens(&client, job_id, complete()).await;
    let ended = timeout(SOON, watch.ended()).await.unwrap().unwrap();
    assert_eq!(ended.status, JobStatus::Completed);
    assert_eq!(watch.next().await, None);

    let mut late = client.watch_job(&web(), job_id).await.unwrap();
    assert_eq!(timeout(SOON, late.ended()).await.unwrap(), Some(ended));
}

#[tokio::test]
async fn cancelling_ends_a_queued_job_and_flags_a_running_one() {
    let (_world, client) = installation().await;
    let job_id = client
        .publish(&web(), Action::RestackRepo.into())
        .await
        .unwrap()
        .job_id;
    let job = client.cancel(&web(), job_id).await.unwrap().job;
    assert_eq!(job.status, JobStatus::Cancelled);
    let error = client.cancel(&web(), job_id).await.unwrap_err();
    assert!(matches!(error, ClientError::Ended { .. }), "{error}");

    let job_id = client
        .publish(&web(), Action::RestackRepo.into())
        .await
        .unwrap()
        .job_id;
    happens(&client, job_id, start()).await;
    for _ in 0..2 {
        let job = client.cancel(&web(), job_id).await.unwrap().job;
        assert_eq!(
            (job.status, job.cancel_requested),
            (JobStatus::Running, true)
        );
    }
    let error = client.cancel(&web(), JobId::generate()).await.unwrap_err();
    assert!(error.to_string().contains("try again"), "{error}");
}

#[tokio::test]
async fn an_ended_job_is_done_again_under_a_new_id() {
    let (_world, client) = installation().await;
    let action = Action::RebaseBranch {
        branch: "fix/a.b".parse().unwrap(),
    };
    let message = ActionMessage {
        dry_run: true,
        requested_by: Some("alice".to_owned()),
        ..action.into()
    };
    let job_id = client.publish(&web(), message).await.unwrap().job_id;
    let error = client.retry(&web(), job_id, None).await.unwrap_err();
    assert!(matches!(error, ClientError::NotEnded { .. }), "{error}");
    client.cancel(&web(), job_id).await.unwrap();
    let again = client
        .retry(&web(), job_id, Some("bob".to_owned()))
        .await
        .unwrap();
    let spec = again.row.unwrap().value.spec;
    assert_ne!(spec.job_id, job_id);
    assert_eq!(spec.retry_of, Some(job_id));
    assert_eq!(
        (spec.dry_run, spec.requested_by.as_deref()),
        (true, Some("bob"))
    );
    assert_eq!(spec.branch.unwrap().as_str(), "fix/a.b");
}

#[tokio::test]
async fn jobs_are_listed_newest_first_and_by_status() {
    let (_world, client) = installation().await;
    let api: RepoId = "api".parse().unwrap();
    let first = client
        .publish(&web(), Action::RestackRepo.into())
        .await
        .unwrap();
    let second = client
        .publish(&web(), Action::RestackRepo.into())
        .await
        .unwrap();
    let third = client
        .publish(&api, Action::RestackRepo.into())
        .await
        .unwrap();
    happens(&client, first.job_id, start()).await;
    let ids = async |repo: Option<&RepoId>, status| -> Vec<JobId> {
        let found = client.jobs(repo, status).await.unwrap();
        found.rows.into_iter().map(|job| job.spec.job_id).collect()
    };
    assert_eq!(
        ids(None, None).await,
        [third.job_id, second.job_id, first.job_id]
    );
    assert_eq!(ids(Some(&web()), None).await, [second.job_id, first.job_id]);
    assert_eq!(ids(None, Some(JobStatus::Running)).await, [first.job_id]);
}

#[tokio::test]
async fn a_repository_is_added_once_and_removed_with_all_that_is_its() {
    let (_world, client) = installation().await;
    let url = "https://git.example/web.git";
    let add = async |url: &str, trunk: Option<&str>| {
        let trunk = trunk.map(|name| name.parse().unwrap());
        client.add_repo(&web(), url.parse().unwrap(), trunk).await
    };
    assert!(matches!(add(url, None).await.unwrap(), Added::New(_)));
    assert!(matches!(add(url, None).await.unwrap(), Added::Already(_)));
    let named = add(url, Some("main")).await.unwrap();
    assert_eq!(named.repository().trunk.as_ref().unwrap().as_str(), "main");
    for (url, trunk) in [
        ("https://git.example/other.git", None),
        (url, Some("master")),
    ] {
        let error = add(url, trunk).await.unwrap_err();
        assert!(
            error.to_string().contains("backstack repo remove web"),
            "{error}"
        );
    }
    let names: Vec<_> = client
        .repos()
        .await
        .unwrap()
        .rows
        .into_iter()
        .map(|r| r.repo)
        .collect();
    assert_eq!(names, [web()]);

    let job_id = client
        .publish(&web(), Action::RestackRepo.into())
        .await
        .unwrap()
        .job_id;
    let rows = client.rows();
    rows.put(Bucket::Branches, "web.a", &json!({}))
        .await
        .unwrap();
    rows.put(Bucket::Branches, "other.a", &json!({}))
        .await
        .unwrap();
    rows.put(Bucket::Tasks, "web.branch.a", &json!("t"))
        .await
        .unwrap();
    let removed = client.remove_repo(&web()).await.unwrap();
    assert_eq!((removed.jobs, removed.branches, removed.tasks), (1, 1, 1));
    let job = client.job(&web(), job_id).await.unwrap().unwrap().value;
    assert_eq!(job.status, JobStatus::Cancelled);
    let left = rows
        .list::<Value>(Bucket::Branches, &Keys::All)
        .await
        .unwrap();
    assert_eq!(left.rows.into_keys().collect::<Vec<_>>(), ["other.a"]);
    let error = client.remove_repo(&web()).await.unwrap_err();
    assert!(matches!(error, ClientError::NoSuchRepo { .. }), "{error}");
}

#[tokio::test]
async fn everything_that_happens_to_a_repository_is_heard() {
    use backstack_producer::client::Change;

    let (_world, client) = installation().await;
    let mut changes = client.watch_repo(&web()).await.unwrap();
    for _ in 0..4 {
        let change = timeout(SOON, changes.next()).await.unwrap().unwrap();
        let initialised = match change {
            Change::Repo(event) => event == RowEvent::Initialised,
            Change::Branch(event) => event == RowEvent::Initialised,
            Change::Job(event) => *event == RowEvent::Initialised,
            Change::Task(event) => event == RowEvent::Initialised,
        };
        assert!(initialised);
    }
    client
        .add_repo(&web(), "/srv/web.git".parse().unwrap(), None)
        .await
        .unwrap();
    let change = timeout(SOON, changes.next()).await.unwrap().unwrap();
    assert!(matches!(change, Change::Repo(RowEvent::Row { ref key, .. }) if key == "web"));
    client
        .publish(&"other".parse().unwrap(), Action::RestackRepo.into())
        .await
        .unwrap();
    client
        .publish(&web(), Action::RestackRepo.into())
        .await
        .unwrap();
    let change = timeout(SOON, changes.next()).await.unwrap().unwrap();
    let Change::Job(event) = change else {
        panic!("{change:?}");
    };
    assert!(matches!(*event, RowEvent::Row { ref row, .. } if row.value.spec.repo == web()));
}

/// A repository that was synced `ago`, with one branch.
async fn synced(client: &Client, ago: Duration) {
    let url = "https://git.example/web.git".parse().unwrap();
    let mut repo = client
        .add_repo(&web(), url, None)
        .await
        .unwrap()
        .repository()
        .clone();
    let now = client.rows().clock().now();
    let then = now.unix_millis() - i64::try_from(ago.as_millis()).unwrap();
    repo.sync.status = SyncStatus::Synced;
    repo.sync.synced_at = Timestamp::from_unix_millis(then);
    client
        .rows()
        .put(Bucket::Repos, "web", &repo)
        .await
        .unwrap();
    let row = json!({
        "repo": "web", "branch": "a", "head": "1".repeat(40), "is_trunk": false, "tracked": true,
        "parent": "main", "first_seen_at": now, "updated_at": now,
    });
    client
        .rows()
        .put(Bucket::Branches, "web.a", &row)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_task_on_a_branch_that_a_recent_sync_saw_is_ready_at_once() {
    let (_world, client) = installation().await;
    synced(&client, Duration::from_secs(60)).await;
    let branch = "a".parse().unwrap();
    let task = client
        .create_task(&web(), &branch, "Login form", None)
        .await
        .unwrap();
    assert_eq!(task.status, TaskStatus::Ready);
    assert_eq!(task.parent.as_ref().unwrap().as_str(), "main");
    assert_eq!(
        client.tasks(&web()).await.unwrap().rows.as_slice(),
        std::slice::from_ref(&task)
    );
    assert!(client.jobs(None, None).await.unwrap().rows.is_empty());

    let error = client
        .create_task(&web(), &branch, "Another", None)
        .await
        .unwrap_err();
    assert!(matches!(error, ClientError::BranchHasTask { task_id, .. } if task_id == task.task_id));
}

#[tokio::test]
async fn a_task_on_a_branch_that_is_not_known_well_asks_for_it() {
    let (_world, client) = installation().await;
    synced(&client, Duration::from_secs(600)).await;
    for name in ["a", "unknown"] {
        let branch = name.parse().unwrap();
        let task = client
            .create_task(&web(), &branch, "Login form", None)
            .await
            .unwrap();
        assert_eq!(task.status, TaskStatus::PendingBranchAttach);
        let job = client
            .job(&web(), task.job_id.unwrap())
            .await
            .unwrap()
            .unwrap()
            .value;
        assert_eq!(job.spec.action, "register_existing_branch");
        assert_eq!(job.spec.task_id, Some(task.task_id));
        assert_eq!(job.spec.branch, Some(branch));
    }
}

#[tokio::test]
async fn of_several_who_create_a_task_on_one_branch_at_once_one_does() {
    let (_world, client) = installation().await;
    synced(&client, Duration::ZERO).await;
    let branch = "a".parse().unwrap();
    let web = web();
    let creating = (0..8).map(|_| client.create_task(&web, &branch, "Login form", None));
    let results = futures_util::future::join_all(creating).await;
    let winner = results
        .iter()
        .find_map(|result| result.as_ref().ok())
        .unwrap()
        .task_id;
    for result in results {
        match result {
            Ok(task) => assert_eq!(task.task_id, winner),
            Err(ClientError::BranchHasTask { task_id, .. }) => assert_eq!(task_id, winner),
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(client.tasks(&web).await.unwrap().rows.len(), 1);
}

#[tokio::test]
async fn a_task_needs_a_repository_and_a_title() {
    let (_world, client) = installation().await;
    let branch = "a".parse().unwrap();
    let error = client
        .create_task(&web(), &branch, "Login form", None)
        .await
        .unwrap_err();
    assert!(matches!(error, ClientError::NoSuchRepo { .. }), "{error}");
    let error = client
        .create_task(&web(), &branch, "", None)
        .await
        .unwrap_err();
    assert!(
        matches!(error, ClientError::BadTitle { characters: 0 }),
        "{error}"
    );
}
