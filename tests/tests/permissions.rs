//! Users with the permissions that `backstack permissions` prints, and no others: each can do its work
//! and nothing else, and what is denied is named, at once.

use std::time::{Duration, Instant};

use backstack_producer::api::{self, ApiError};
use backstack_producer::{Client, ConnectOptions, connect};
use backstack_schemas::topology::{Bucket, User};
use backstack_schemas::{Action, JobStatus, RepoId, Topology};
use backstack_tests::rows::DEADLINE;
use backstack_tests::{Options, Output, Remote, Worker, World};
use bytes::Bytes;
use serde_json::Value;

/// How long a denied call may take; unanswered ones take five times as long.
const AT_ONCE: Duration = Duration::from_secs(1);

/// A server that knows the four users, and `web`, a publisher for that repository alone.
struct Permitted {
    remote: Remote,
    world: World,
}

impl Permitted {
    async fn start() -> Self {
        let world = World::with(Options {
            nats_config: configuration(),
            login: "admin:pw@".to_owned(),
            blank: true,
            ..Options::default()
        })
        .await;
        let remote = world.remote("web");
        remote.stack("main <- a: a1 <- b: b1");
        Self { remote, world }
    }

    fn flags(&self, user: &str) -> [String; 2] {
        let url = self.world.nats_url_as(&format!("{user}:pw@"));
        [
            format!("--nats-url={url}"),
            format!("--inbox-prefix=_INBOX_{user}"),
        ]
    }

    async fn worker(&self) -> Worker {
        let flags = self.flags("worker");
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        Worker::start(&self.world, &flags).await
    }

    async fn run(&self, user: &str, line: &str) -> Output {
        let flags = self.flags(user);
        let words = line.split_whitespace().map(str::to_owned);
        let words: Vec<String> = words.chain(flags).collect();
        self.world.backstack(words).await
    }

    async fn may(&self, user: &str, line: &str) -> String {
        let output = self.run(user, line).await;
        assert_eq!(output.code, 0, "{user}: {line}: {}", output.stderr);
        output.stdout
    }

    /// The command ends with 3, at once, and names what is missing.
    async fn may_not(&self, user: &str, line: &str, missing: &str) {
        let since = Instant::now();
        let output = self.run(user, line).await;
        let took = since.elapsed();
        assert_eq!(output.code, 3, "{user}: {line}: {}", output.stdout);
        let said = format!("does not permit this user to publish on {missing}");
        assert!(
            output.stderr.contains(&said),
            "{user}: {line}: {}",
            output.stderr
        );
        assert!(took < AT_ONCE * 3, "{user}: {line}: {took:?}");
    }

    async fn nats(&self, user: &str) -> async_nats::Client {
        let options = ConnectOptions {
            inbox_prefix: Some(format!("_INBOX_{user}")),
            ..ConnectOptions::to(self.world.nats_url_as(&format!("{user}:pw@")))
        };
        connect(&options)
            .await
            .unwrap_or_else(|error| panic!("{error}"))
    }

    async fn client(&self, user: &str) -> Client {
        Client::new(self.nats(user).await, Topology::default())
    }
}

/// The example that comes with the containers, with an administrator and one more publisher.
fn configuration() -> String {
    let example = include_str!("../../docker/nats-users.conf");
    let mut config = example.to_owned();
    for user in User::ALL {
        let password = format!("$BACKSTACK_{}_PASSWORD", user.as_str().to_uppercase());
        assert!(config.contains(&password), "{password}");
        config = config.replace(&password, "pw");
    }
    let topology = Topology::default();
    let web = "web".parse().expect("a repository");
    let web = topology.permissions(User::Publisher, Some(&web), "_INBOX_web");
    let more = format!(
        "users: [\n{{ user: admin, password: pw }}\n{{ user: web, password: pw, permissions {{ \
         publish {{ allow: {:?} }}, subscribe {{ allow: {:?} }} }} }}\n",
        web.publish, web.subscribe
    );
    let (before, after) = config.split_once("users: [\n").expect("users");
    format!("{before}{more}{after}")
}

/// The worker makes all there is to be made; the client gives every command there is, without a right
/// that the contract does not list.
#[tokio::test]
async fn a_worker_and_a_client_do_all_their_work() {
    let permitted = Permitted::start().await;
    let worker = permitted.worker().await;
    let url = permitted.remote.url();
    for line in [
        format!("repo add web {url} --trunk main"),
        "repo list".to_owned(),
        "sync web --wait".to_owned(),
        "register web a --wait".to_owned(),
        "register web b --parent a --wait".to_owned(),
        "restack web --wait".to_owned(),
        "restack web a --wait".to_owned(),
        "rebase web b --wait".to_owned(),
        "reparent web b main --dry-run --wait".to_owned(),
        "sync web --restack --wait".to_owned(),
        "stack web".to_owned(),
        "jobs".to_owned(),
        "jobs web --status completed".to_owned(),
        "task create web a --title Work".to_owned(),
        "task list web".to_owned(),
        "doctor".to_owned(),
    ] {
        permitted.may("client", &line).await;
    }
    permitted.remote.commit("main", &[("m1", "m1\n")], "m1");
    permitted.may("client", "restack web --wait").await;
    assert_eq!(
        permitted.remote.draw(),
        "main  m0 m1\na     main: a1\nb     a: b1\n"
    );

    let client = permitted.client("client").await;
    let web: RepoId = "web".parse().unwrap();
    let jobs = client.jobs(Some(&web), None).await.unwrap().rows;
    let ended = jobs[0].spec.job_id;
    permitted
        .may("client", &format!("job show web {ended}"))
        .await;
    permitted
        .may("client", &format!("job retry web {ended}"))
        .await;
    // A job that waits for its next attempt can be cancelled.
    let gone = format!(
        "repo add gone file://{}/gone.git",
        permitted.world.dir().display()
    );
    permitted.may("client", &gone).await;
    let gone: RepoId = "gone".parse().unwrap();
    let published = client
        .publish(&gone, Action::RestackRepo.into())
        .await
        .unwrap();
    let job = published.job_id;
    let waits = permitted
        .world
        .job_when("gone", job, "waiting", |job| job.next_attempt_at.is_some());
    waits.await;
    permitted
        .may("client", &format!("job cancel gone {job}"))
        .await;
    let row = permitted.world.job("gone", job).await.unwrap();
    assert_eq!(row.status, JobStatus::Cancelled);
    permitted.may("client", "unregister web b --wait").await;

    assert!(!permitted.world.branches("web").await.is_empty());
    permitted.may("client", "repo remove web").await;
    // The client may not write branch rows: the worker deletes them.
    let until = Instant::now() + DEADLINE;
    while !permitted.world.branches("web").await.is_empty() {
        assert!(Instant::now() < until, "the branch rows are still there");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(worker.stop().await.code, 0);
    let said = worker.program().stderr();
    assert!(!said.contains("iolation"), "{said}");
}

#[tokio::test]
async fn a_watcher_sees_everything_and_changes_nothing() {
    let permitted = Permitted::start().await;
    let _worker = permitted.worker().await;
    let url = permitted.remote.url();
    permitted
        .may("client", &format!("repo add web {url} --trunk main"))
        .await;
    permitted.may("client", "register web a --wait").await;
    permitted
        .may("client", "task create web a --title Work")
        .await;
    let client = permitted.client("client").await;
    let web: RepoId = "web".parse().unwrap();
    let job = client.jobs(Some(&web), None).await.unwrap().rows[0]
        .spec
        .job_id;

    for (line, shows) in [
        ("repo list".to_owned(), "web"),
        ("jobs web".to_owned(), "completed"),
        (format!("job show web {job}"), "completed"),
        ("stack web".to_owned(), "a"),
        ("task list web".to_owned(), "Work"),
    ] {
        let shown = permitted.may("watcher", &line).await;
        assert!(shown.contains(shows), "{line}: {shown}");
    }
    let flags = permitted.flags("watcher");
    let words = ["watch", "web", "--json"].map(str::to_owned);
    let watching = permitted
        .world
        .start_backstack(words.into_iter().chain(flags).collect::<Vec<_>>());
    permitted.may("client", "sync web --wait").await;
    let row: Value = serde_json::from_str(&watching.line(1).await).unwrap();
    assert_eq!(row["repo"], "web");

    for (line, missing) in [
        (
            "sync web".to_owned(),
            "backstack.actions.web.sync_repo".to_owned(),
        ),
        (
            "task create web b --title B".to_owned(),
            "$KV.backstack_tasks.web.branch.b".to_owned(),
        ),
        (
            format!("repo add api {url}"),
            "$KV.backstack_repos.api".to_owned(),
        ),
        (
            format!("job cancel web {job}"),
            "$JS.API.STREAM.MSG.GET.KV_backstack_jobs".to_owned(),
        ),
    ] {
        permitted.may_not("watcher", &line, &missing).await;
    }
}

/// It loses nothing: the worker writes the row that it may not write. It does not wait for that row.
#[tokio::test]
async fn a_publisher_publishes_at_once_and_does_nothing_else() {
    let permitted = Permitted::start().await;
    let _worker = permitted.worker().await;
    let url = permitted.remote.url();
    permitted
        .may("client", &format!("repo add web {url} --trunk main"))
        .await;

    let publisher = permitted.client("publisher").await;
    let web: RepoId = "web".parse().unwrap();
    let mut last = None;
    let since = Instant::now();
    for _ in 0..20 {
        let published = publisher
            .publish(&web, Action::RestackRepo.into())
            .await
            .unwrap();
        assert_eq!(published.row, None);
        last = Some(published.job_id);
    }
    // Each used to wait a second for an answer that does not come.
    assert!(
        since.elapsed() < Duration::from_secs(5),
        "{:?}",
        since.elapsed()
    );
    let ended = permitted.world.ended("web", last.unwrap()).await;
    assert_eq!(ended.status, JobStatus::Completed, "{ended:#?}");
    let log = std::fs::read_to_string(permitted.world.server().log_file()).unwrap();
    let violations = log.lines().filter(|line| line.contains("iolation")).count();
    assert!(
        violations <= 2,
        "the server is asked again and again:\n{log}"
    );

    let said = permitted.may("publisher", "sync web").await;
    assert!(said.starts_with("queued web sync_repo as job "), "{said}");
    for (line, missing) in [
        ("jobs", "$JS.API.CONSUMER.CREATE.KV_backstack_jobs."),
        ("sync web --wait", "$JS.API.STREAM.INFO.KV_backstack_jobs"),
        ("repo list", "$JS.API."),
        ("repo add api /tmp/x", "$KV.backstack_repos.api"),
    ] {
        permitted.may_not("publisher", line, missing).await;
    }
    permitted.may("web", "sync web").await;
    permitted
        .may_not("web", "sync api", "backstack.actions.api.sync_repo")
        .await;
}

/// Asked for directly, without the client library's ways: who may what, by subject.
#[tokio::test]
async fn nobody_may_do_what_is_not_theirs() {
    let permitted = Permitted::start().await;
    let _worker = permitted.worker().await;
    let everybody = [
        "$JS.API.STREAM.DELETE.BACKSTACK_ACTIONS",
        "$JS.API.STREAM.PURGE.BACKSTACK_ACTIONS",
        "$JS.API.STREAM.UPDATE.BACKSTACK_ACTIONS",
        "$JS.API.STREAM.PURGE.KV_backstack_jobs",
        "$JS.API.STREAM.MSG.DELETE.KV_backstack_jobs",
        "$JS.API.STREAM.CREATE.OTHER",
        "$JS.API.STREAM.INFO.OTHER",
        "$JS.API.STREAM.NAMES",
        "$JS.API.CONSUMER.DELETE.BACKSTACK_ACTIONS.worker-00",
        "$JS.API.ACCOUNT.PURGE.X",
        "$KV.other.key",
        "backstack.queue.0.web.sync_repo",
        "backstack.schedules.web.nightly",
        "backstack.scheduled.web.sync_repo",
        "backstack.actions.web",
        "_INBOX_admin.x",
        "$SYS.REQ.SERVER.PING",
    ];
    let service = [
        "backstack.dead.bad_payload",
        "$KV.backstack_branches.web.a",
        "$JS.API.STREAM.MSG.DELETE.BACKSTACK_ACTIONS",
        "$JS.API.CONSUMER.MSG.NEXT.BACKSTACK_ACTIONS.worker-00",
        "$JS.API.CONSUMER.CREATE.BACKSTACK_ACTIONS.x",
        "$JS.API.STREAM.MSG.GET.BACKSTACK_ACTIONS",
        "$JS.API.DIRECT.GET.BACKSTACK_ACTIONS",
        "$JS.ACK.BACKSTACK_ACTIONS.worker-00.1.1.1.1700000000000000000.0",
    ];
    let rows = [
        "$KV.backstack_jobs.web.x",
        "$KV.backstack_repos.web",
        "$KV.backstack_tasks.web.x",
        "$JS.API.STREAM.MSG.GET.KV_backstack_jobs",
    ];
    let reading = [
        "$JS.API.STREAM.INFO.KV_backstack_jobs",
        "$JS.API.CONSUMER.CREATE.KV_backstack_jobs.x.$KV.backstack_jobs.>",
        "$JS.API.DIRECT.GET.KV_backstack_jobs.$KV.backstack_jobs.web.x",
    ];
    let publishing = ["backstack.actions.web.sync_repo"];
    for (user, denied) in [
        ("publisher", [&service[..], &rows, &reading].concat()),
        ("client", service.to_vec()),
        ("watcher", [&service[..], &rows, &publishing].concat()),
        ("worker", publishing.to_vec()),
        ("web", vec!["backstack.actions.api.sync_repo"]),
    ] {
        let nats = permitted.nats(user).await;
        for subject in everybody.iter().chain(&denied) {
            let asked = api::request(&nats, subject, None, Bytes::new(), AT_ONCE * 5);
            let since = Instant::now();
            let error = asked
                .await
                .map(|answer| panic!("{user}: {subject}: {answer:?}"));
            let wanted = ApiError::Denied {
                subject: (*subject).to_owned(),
            };
            assert_eq!(error.unwrap_err(), wanted, "{user}");
            assert!(since.elapsed() < AT_ONCE, "{user}: {subject}");
        }
    }
    assert_eq!(permitted.world.stored("BACKSTACK_ACTIONS").await, 0);
    for bucket in Bucket::ALL {
        let stream = Topology::default().bucket_stream(bucket);
        assert_eq!(permitted.world.stored(&stream).await, 0);
    }
}

/// One user cannot read what another is answered.
#[tokio::test]
async fn replies_are_read_by_those_who_asked() {
    let permitted = Permitted::start().await;
    let _worker = permitted.worker().await;
    for line in ["jobs", "sync web", "repo list"] {
        let words = line.split_whitespace().map(str::to_owned);
        let url = permitted.flags("client")[0].clone();
        let theirs = "--inbox-prefix=_INBOX_worker".to_owned();
        let since = Instant::now();
        let output = permitted
            .world
            .backstack(words.chain([url, theirs]).collect::<Vec<_>>())
            .await;
        assert_eq!(output.code, 3, "{line}: {}", output.stdout);
        for word in [
            "permit this user to subscribe to _INBOX_worker.",
            "--inbox-prefix",
        ] {
            assert!(output.stderr.contains(word), "{line}: {}", output.stderr);
        }
        assert!(
            since.elapsed() < AT_ONCE * 3,
            "{line}: {:?}",
            since.elapsed()
        );
    }
}

/// A worker that lacks one right says which, before it takes any work on.
#[tokio::test]
async fn a_worker_that_may_not_make_a_bucket_names_the_right_it_lacks() {
    let lacking = "$JS.API.STREAM.CREATE.KV_backstack_jobs";
    let config = configuration().replace(&format!("\"{lacking}\""), "");
    assert!(!config.contains(lacking));
    let world = World::with(Options {
        nats_config: config,
        login: "admin:pw@".to_owned(),
        blank: true,
        ..Options::default()
    })
    .await;
    let url = format!("--nats-url={}", world.nats_url_as("worker:pw@"));
    let worker = Worker::launch(&world, &[&url, "--inbox-prefix=_INBOX_worker"]);
    let output = worker.program().output().await;
    assert_eq!(output.code, 3, "{}", output.stderr);
    for word in [lacking, "does not permit", "backstack permissions worker"] {
        assert!(output.stderr.contains(word), "{word}: {}", output.stderr);
    }
}

/// What is printed is what the tests above were run with.
#[tokio::test]
async fn what_is_printed_is_what_a_server_takes() {
    let world = World::with(Options {
        blank: true,
        core_only: true,
        ..Options::default()
    })
    .await;
    for user in User::ALL {
        let permissions = Topology::default().permissions(user, None, "_INBOX_x");
        let name = user.as_str();
        let output = world
            .backstack(["permissions", name, "--json", "--inbox-prefix=_INBOX_x"])
            .await;
        assert_eq!(output.code, 0, "{}", output.stderr);
        let printed: Value = serde_json::from_str(&output.stdout).unwrap();
        assert_eq!(
            printed["publish"]["allow"],
            serde_json::json!(permissions.publish)
        );
        assert_eq!(
            printed["subscribe"]["allow"],
            serde_json::json!(["_INBOX_x.>"])
        );
        let text = world.backstack(["permissions", name]).await.stdout;
        for subject in &permissions.publish {
            assert!(text.contains(&format!("    \"{subject}\"\n")), "{text}");
        }
        assert!(text.contains(&format!("\"_INBOX_{name}.>\"")), "{text}");
    }
    let one = [
        "permissions",
        "publisher",
        "--repo=web",
        "--namespace=acme",
        "--json",
    ];
    let printed = world.backstack(one).await.stdout;
    assert!(printed.contains("acme.actions.web.*"), "{printed}");
}
