//! The command against a real server, with the worker's part played by writes to the row.

mod common;

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use backstack_producer::Client;
use backstack_producer::topology::ensure;
use backstack_schemas::topology::{Bucket, Choices, PRIORITY_GROUP, branch_key, job_key};
use backstack_schemas::{
    Branch, ErrorCode, Job, JobError, JobEvent, JobId, JobResult, JobStatus, Progress, RepoId,
    Step, Topology, WorkerId,
};
use common::Server;
use serde_json::{Value, json};
use tokio::process::{Child, Command as TokioCommand};

/// The command, built from what is there now: cargo builds another package's programs only when told.
fn backstack() -> &'static PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let status = Command::new(env!("CARGO"))
            .args([
                "build",
                "--quiet",
                "-p",
                "backstack-producer",
                "--bin",
                "backstack",
            ])
            .status();
        assert!(status.expect("cargo runs").success());
        let test = std::env::current_exe().expect("this test's path");
        let target = test.ancestors().nth(2).expect("target/debug/deps");
        target.join("backstack")
    })
}

/// An installation and the command on it.
struct Setting {
    server: Server,
    client: Client,
}

impl Setting {
    async fn new() -> Self {
        let server = Server::start().await;
        let client = Client::new(server.client().await, Topology::default());
        let made = ensure(
            client.rows().client(),
            client.topology(),
            Choices::default(),
        )
        .await;
        made.expect("the topology is made");
        Self { server, client }
    }

    fn command(&self, line: &str) -> TokioCommand {
        let mut command = TokioCommand::new(backstack());
        command
            .args(line.split_whitespace())
            .env_clear()
            .env("NATS_URL", self.server.url())
            .env("USER", "alice")
            .env("LC_ALL", "C.UTF-8")
            .kill_on_drop(true);
        command
    }

    async fn run(&self, line: &str) -> Output {
        self.command(line).output().await.expect("the command runs")
    }

    /// Runs it, and expects it to end with `code`.
    async fn expect(&self, code: i32, line: &str) -> String {
        let output = self.run(line).await;
        assert_eq!(output.status.code(), Some(code), "{line}: {output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    fn spawn(&self, line: &str) -> Child {
        let mut command = self.command(line);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("the command starts")
    }

    /// The only job that there is, as soon as it is there.
    async fn only_job(&self) -> JobId {
        for _ in 0..500 {
            let found = self.client.jobs(None, None).await.unwrap();
            if let [job] = found.rows.as_slice() {
                return job.spec.job_id;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("no job came");
    }

    /// The worker's part.
    async fn happens(&self, job_id: JobId, event: JobEvent) {
        let (rows, key) = (self.client.rows(), job_key(&web(), job_id));
        let row = rows
            .get_leader::<Job>(Bucket::Jobs, &key)
            .await
            .unwrap()
            .unwrap();
        let job = row.value.apply(event, rows.clock().now()).unwrap();
        rows.update(Bucket::Jobs, &key, &job, row.revision)
            .await
            .unwrap();
    }
}

fn web() -> RepoId {
    "web".parse().unwrap()
}

fn start() -> JobEvent {
    JobEvent::Start {
        worker: WorkerId::generate("host", 1),
        sequence: 1,
        delivery: 1,
        max_attempts: 5,
    }
}

fn restacking() -> JobEvent {
    JobEvent::Report {
        message: "Restacking 3 of 9 branches".to_owned(),
        progress: Progress {
            step: Step::Restack,
            done: 3,
            total: 9,
        },
    }
}

fn complete() -> JobEvent {
    JobEvent::Complete {
        message: "Restacked 9 branches".to_owned(),
        result: JobResult::default(),
    }
}

/// Each line as the row it is.
fn jobs(text: &str) -> Vec<Job> {
    let rows = text.lines().map(serde_json::from_str);
    rows.collect::<Result<_, _>>()
        .expect("rows and nothing else")
}

#[tokio::test]
async fn every_action_command_publishes_what_it_says() {
    let setting = Setting::new().await;
    let base = "1".repeat(40);
    let with_base = format!("register web a --parent main --base {base} --json");
    for (line, action, part) in [
        ("sync web --json", "sync_repo", json!({"restack": false})),
        (
            "sync web --restack --json",
            "sync_repo",
            json!({"restack": true}),
        ),
        (
            "restack web --json",
            "restack_repo",
            json!({"branch": null}),
        ),
        (
            "restack web a --json --dry-run",
            "restack_subtree",
            json!({"branch": "a", "dry_run": true}),
        ),
        (
            "rebase web fix/a.b --json",
            "rebase_branch",
            json!({"branch": "fix/a.b"}),
        ),
        (
            "reparent web a b --json",
            "reparent_branch",
            json!({"branch": "a", "parent": "b"}),
        ),
        (
            &with_base,
            "register_existing_branch",
            json!({"parent": "main", "base": base}),
        ),
        (
            "unregister web a --json --requested-by bob",
            "unregister_branch",
            json!({"requested_by": "bob"}),
        ),
    ] {
        let text = setting.expect(0, line).await;
        let row: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(row["action"], action, "{line}");
        for (field, value) in part.as_object().unwrap() {
            assert_eq!(&row[field], value, "{line}: {field}");
        }
        let id = row["job_id"].as_str().unwrap().parse().unwrap();
        let stored = setting.client.job(&web(), id).await.unwrap().unwrap();
        assert_eq!(json!(stored.value), row, "{line}");
    }
    let found = setting.client.jobs(None, None).await.unwrap().rows;
    let asked = found
        .iter()
        .filter_map(|job| job.spec.requested_by.as_deref());
    assert_eq!(asked.filter(|who| *who == "alice").count(), 7);
}

#[tokio::test]
async fn waiting_prints_plain_lines_and_the_report() {
    let setting = Setting::new().await;
    let waiting = setting.spawn("restack web --wait");
    let job = setting.only_job().await;
    for event in [start(), restacking(), complete()] {
        setting.happens(job, event).await;
    }
    let output = waiting.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let report =
        format!("✓ completed  web restack_repo  {job}\n  Restacked 9 branches\n  asked by alice");
    assert!(text.contains(&report), "{text}");
    assert!(!text.contains('\u{1b}'), "no colours: {text:?}");
    assert!(output.stderr.is_empty(), "no bars");
}

#[tokio::test]
async fn waiting_with_json_prints_rows_and_the_last_has_ended() {
    let setting = Setting::new().await;
    let waiting = setting.spawn("restack web --wait --json");
    let job = setting.only_job().await;
    for event in [start(), complete()] {
        setting.happens(job, event).await;
    }
    let output = waiting.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(0));
    let rows = jobs(std::str::from_utf8(&output.stdout).unwrap());
    assert!(rows.iter().all(|row| row.spec.job_id == job));
    assert_eq!(rows.last().unwrap().status, JobStatus::Completed);
}

#[tokio::test]
async fn a_job_that_fails_or_is_cancelled_exits_1() {
    let setting = Setting::new().await;
    let waiting = setting.spawn("restack web --wait");
    let job = setting.only_job().await;
    let error = JobError::new(ErrorCode::UnknownRepo, "there is no repository web");
    let result = None;
    setting.happens(job, JobEvent::Fail { error, result }).await;
    let output = waiting.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("→ add it first: backstack repo add web <url>"),
        "{text}"
    );

    let text = setting
        .expect(0, &format!("job retry web {job} --json"))
        .await;
    let again = jobs(&text).remove(0).spec.job_id;
    let waiting = setting.spawn(&format!("job show web {again} --wait"));
    setting.expect(0, &format!("job cancel web {again}")).await;
    let output = waiting.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    setting.expect(2, &format!("job cancel web {again}")).await;
}

#[tokio::test]
async fn interrupted_it_exits_130_and_says_where_the_job_is() {
    let setting = Setting::new().await;
    let mut waiting = setting.spawn("restack web --wait");
    let job = setting.only_job().await;
    // Its first line means that it waits.
    let mut stdout = tokio::io::BufReader::new(waiting.stdout.take().unwrap());
    let mut line = String::new();
    tokio::io::AsyncBufReadExt::read_line(&mut stdout, &mut line)
        .await
        .unwrap();
    interrupt(&waiting);
    let output = waiting.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    let last = text.lines().last().unwrap();
    assert!(
        last.ends_with(&format!("backstack job show web {job}")),
        "{text}"
    );
    let row = setting.client.job(&web(), job).await.unwrap().unwrap();
    assert_eq!(row.value.status, JobStatus::Queued, "the job goes on");
}

fn interrupt(child: &Child) {
    let id = child.id().expect("it runs").to_string();
    let status = Command::new("kill").args(["-INT", &id]).status();
    assert!(status.expect("kill runs").success());
}

#[tokio::test]
async fn waiting_outlives_a_server_that_is_killed() {
    let mut setting = Setting::new().await;
    let waiting = setting.spawn("restack web --wait");
    let job = setting.only_job().await;
    setting.happens(job, start()).await;
    setting.server.kill();
    setting.server.start_again().await;
    setting.happens(job, complete()).await;
    let ended = tokio::time::timeout(Duration::from_secs(20), waiting.wait_with_output()).await;
    let output = ended.unwrap().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[tokio::test]
async fn repositories_are_added_listed_and_removed() {
    let setting = Setting::new().await;
    let url = "https://git.example/web.git";
    let text = setting.expect(0, &format!("repo add web {url}")).await;
    assert!(text.contains("backstack sync web --wait"), "{text}");
    setting.expect(0, &format!("repo add web {url}")).await;
    setting
        .expect(2, "repo add web https://git.example/other.git")
        .await;
    let text = setting.expect(0, "repo list --json").await;
    assert_eq!(
        serde_json::from_str::<Value>(&text).unwrap()["remote_url"],
        url
    );
    let text = setting.expect(0, "repo list").await;
    assert_eq!(text.lines().count(), 2, "{text}");
    setting.expect(0, "repo remove web").await;
    setting.expect(2, "repo remove web").await;
    setting.expect(2, "stack web").await;
}

#[tokio::test]
async fn a_stack_is_drawn_and_told_as_rows() {
    let setting = Setting::new().await;
    setting
        .expect(0, "repo add web https://git.example/web.git --trunk main")
        .await;
    for (name, parent) in [
        ("main", None),
        ("a", Some("main")),
        ("fix/a.b", Some("a")),
        ("wip", None),
    ] {
        let row = branch(name, parent);
        let key = branch_key(&row.repo, &row.branch);
        setting
            .client
            .rows()
            .put(Bucket::Branches, &key, &row)
            .await
            .unwrap();
    }
    let text = setting.expect(0, "stack web").await;
    let tree = text
        .lines()
        .skip(2)
        .zip(["main  ", "└── a  ", "    └── fix/a.b  "]);
    for (line, start) in tree {
        assert!(line.starts_with(start), "{text}");
    }
    assert!(text.contains("1 other branch is not tracked"), "{text}");
    let rows = setting.expect(0, "stack web --json").await;
    let names = rows
        .lines()
        .map(|line| serde_json::from_str::<Branch>(line).unwrap().branch);
    let names: Vec<_> = names.map(|name| name.to_string()).collect();
    assert_eq!(names, ["a", "fix/a.b", "main", "wip"]);
}

fn branch(name: &str, parent: Option<&str>) -> Branch {
    let tracked = parent.is_some();
    let row = json!({
        "repo": "web", "branch": name, "head": "1".repeat(40), "is_trunk": name == "main",
        "tracked": tracked, "parent": parent, "base": null, "ahead": null, "behind": null,
        "needs_restack": tracked.then_some(false), "conflicts_with_trunk": null, "diff": null,
        "subject": "Work", "author": "Alice", "committed_at": null, "task_id": null,
        "first_seen_at": "2026-11-22T10:00:00.000Z", "updated_at": "2026-11-22T10:00:00.000Z",
    });
    serde_json::from_value(row).unwrap()
}

#[tokio::test]
async fn a_watch_prints_one_line_per_change() {
    let setting = Setting::new().await;
    let ended = jobs(&setting.expect(0, "sync web --json").await)
        .remove(0)
        .spec
        .job_id;
    setting.client.cancel(&web(), ended).await.unwrap();
    let open = jobs(&setting.expect(0, "restack web --json").await)
        .remove(0)
        .spec
        .job_id;
    let mut watch = setting.spawn("watch web --json");
    let stdout = tokio::io::BufReader::new(watch.stdout.take().unwrap());
    let mut lines = tokio::io::AsyncBufReadExt::lines(stdout);
    for status in [JobStatus::Queued, JobStatus::Running, JobStatus::Completed] {
        let line = tokio::time::timeout(Duration::from_secs(20), lines.next_line()).await;
        let row = jobs(&line.unwrap().unwrap().unwrap()).remove(0);
        assert_eq!((row.spec.job_id, row.status), (open, status));
        match status {
            JobStatus::Queued => setting.happens(open, start()).await,
            JobStatus::Running => setting.happens(open, complete()).await,
            _ => {}
        }
    }
    interrupt(&watch);
    assert_eq!(watch.wait().await.unwrap().code(), Some(130));
}

#[tokio::test]
async fn without_the_service_it_exits_3_in_time_and_says_what_to_start() {
    let server = Server::start().await;
    let client = Client::new(server.client().await, Topology::default());
    let setting = Setting { server, client };
    let began = Instant::now();
    for line in [
        "restack web",
        "restack web --wait",
        "jobs",
        "stack web",
        "repo list",
        "watch",
    ] {
        let output = setting.run(line).await;
        assert_eq!(output.status.code(), Some(3), "{line}: {output:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains("backstackd run"), "{line}: {text}");
    }
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn doctor_finds_what_is_missing_and_is_content_when_nothing_is() {
    let setting = Setting::new().await;
    let text = setting.expect(3, "doctor").await;
    assert!(
        text.contains("problem  no worker is waiting for work"),
        "{text}"
    );
    assert_eq!(text.matches("problem").count(), 1, "{text}");

    // A worker that waits, as the server sees it.
    let nats = setting.client.rows().client();
    let body = json!({"batch": 1, "expires": 30_000_000_000_u64, "group": PRIORITY_GROUP});
    let next = "$JS.API.CONSUMER.MSG.NEXT.BACKSTACK_ACTIONS.worker-00";
    let _waits = nats.subscribe("pull").await.unwrap();
    nats.publish_with_reply(next, "pull", body.to_string().into())
        .await
        .unwrap();
    nats.flush().await.unwrap();
    let text = setting.expect(0, "doctor").await;
    assert!(!text.contains("problem"), "{text}");
    let rows = setting.expect(0, "doctor --json").await;
    assert!(
        rows.lines()
            .all(|line| serde_json::from_str::<Value>(line).unwrap()["ok"] == true)
    );
    let queued = setting.client.jobs(None, None).await.unwrap();
    assert!(queued.rows.is_empty(), "it changes nothing");
}

#[tokio::test]
async fn doctor_names_the_permission_that_is_missing() {
    let config = "authorization { users: [\
        { user: \"admin\", password: \"pw\" }, \
        { user: \"ci\", password: \"pw\", permissions: { \
            publish: \"backstack.actions.web.*\", subscribe: \"_INBOX_ci.>\" } } ] }";
    let server = Server::start_with(config).await;
    let options = backstack_producer::ConnectOptions::to(server.url_as("admin"));
    let nats = backstack_producer::connect(&options).await.unwrap();
    let client = Client::new(nats, Topology::default());
    let (nats, topology) = (client.rows().client(), client.topology());
    ensure(nats, topology, Choices::default()).await.unwrap();
    let setting = Setting { server, client };

    let line = format!(
        "--nats-url {} --inbox-prefix _INBOX_ci",
        setting.server.url_as("ci")
    );
    let text = setting.expect(3, &format!("doctor {line}")).await;
    assert!(
        text.contains("may not publish on backstack.actions.doctor.sync_repo"),
        "{text}"
    );
    assert!(
        text.contains("ermissions Violation") || text.contains("ermissions violation"),
        "{text}"
    );
    let text = setting.expect(3, &format!("doctor web {line}")).await;
    assert!(text.contains("ok       may publish actions"), "{text}");
    assert!(text.contains("problem  may not read rows"), "{text}");
    let text = setting.expect(0, &format!("restack web {line}")).await;
    assert!(
        text.starts_with("queued web restack_repo as job "),
        "{text}"
    );
}
