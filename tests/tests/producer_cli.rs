//! The command against a real server, with the worker's part played by writes to the row.

use std::ffi::OsStr;
use std::time::{Duration, Instant};

use backstack_producer::Client;
use backstack_schemas::topology::{Bucket, PRIORITY_GROUP, branch_key, job_key};
use backstack_schemas::{
    Branch, ErrorCode, Job, JobError, JobEvent, JobId, JobResult, JobStatus, Progress, RepoId,
    Step, WorkerId,
};
use backstack_tests::{Options, Output, Program, World, program};
use serde_json::{Value, json};

/// An installation and the command on it.
struct Setting {
    world: World,
    client: Client,
}

impl Setting {
    async fn new() -> Self {
        Self::of(World::start().await).await
    }

    async fn of(world: World) -> Self {
        let client = world.producer().await;
        Self { world, client }
    }

    /// Starts the command as Alice.
    fn spawn(&self, line: &str) -> Program {
        let arguments: Vec<_> = line.split_whitespace().collect();
        let alice = [("USER", OsStr::new("alice"))];
        Program::start_with(&self.world, "backstack", &arguments, &alice)
    }

    async fn run(&self, line: &str) -> Output {
        end(&self.spawn(line)).await
    }

    /// Runs it, and expects it to end with `code`.
    async fn expect(&self, code: i32, line: &str) -> String {
        let output = self.run(line).await;
        assert_eq!(output.code, code, "{line}: {output:?}");
        output.stdout
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

/// What the command left behind when it ended; all of it UTF-8, which the harness would mend.
async fn end(program: &Program) -> Output {
    let output = program.output().await;
    let said = [&output.stdout, &output.stderr];
    assert!(
        said.iter().all(|text| !text.contains('\u{fffd}')),
        "{output:?}"
    );
    output
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
    let output = end(&waiting).await;
    assert_eq!(output.code, 0, "{output:?}");
    let text = output.stdout;
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
    let output = end(&waiting).await;
    assert_eq!(output.code, 0);
    let rows = jobs(&output.stdout);
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
    let output = end(&waiting).await;
    assert_eq!(output.code, 1);
    let text = output.stdout;
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
    let output = end(&waiting).await;
    assert_eq!(output.code, 1, "{output:?}");
    setting.expect(2, &format!("job cancel web {again}")).await;
}

#[tokio::test]
async fn interrupted_it_exits_130_and_says_where_the_job_is() {
    let setting = Setting::new().await;
    let waiting = setting.spawn("restack web --wait");
    let job = setting.only_job().await;
    // Its first line means that it waits.
    waiting.line(1).await;
    assert!(waiting.process().interrupt());
    let output = end(&waiting).await;
    assert_eq!(output.code, 130, "{output:?}");
    let text = output.stderr;
    let last = text.lines().last().unwrap();
    assert!(
        last.ends_with(&format!("backstack job show web {job}")),
        "{text}"
    );
    let row = setting.client.job(&web(), job).await.unwrap().unwrap();
    assert_eq!(row.value.status, JobStatus::Queued, "the job goes on");
}

#[tokio::test]
async fn waiting_outlives_a_server_that_is_killed() {
    let setting = Setting::new().await;
    let waiting = setting.spawn("restack web --wait");
    let job = setting.only_job().await;
    setting.happens(job, start()).await;
    setting.world.server().kill9().await;
    setting.world.server().restart().await.unwrap();
    setting.happens(job, complete()).await;
    let ended = tokio::time::timeout(Duration::from_secs(20), end(&waiting)).await;
    let output = ended.unwrap();
    assert_eq!(output.code, 0, "{output:?}");
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
    let watch = setting.spawn("watch web --json");
    for (n, status) in (1..).zip([JobStatus::Queued, JobStatus::Running, JobStatus::Completed]) {
        let line = tokio::time::timeout(Duration::from_secs(20), watch.line(n)).await;
        let row = jobs(&line.unwrap()).remove(0);
        assert_eq!((row.spec.job_id, row.status), (open, status));
        match status {
            JobStatus::Queued => setting.happens(open, start()).await,
            JobStatus::Running => setting.happens(open, complete()).await,
            _ => {}
        }
    }
    assert!(watch.process().interrupt());
    assert_eq!(end(&watch).await.code, 130);
}

#[tokio::test]
async fn without_the_service_it_exits_3_in_time_and_says_what_to_start() {
    let setting = Setting::of(World::blank().await).await;
    // Building them is not counted.
    program::binaries();
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
        assert_eq!(output.code, 3, "{line}: {output:?}");
        let text = output.stderr;
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
    let world = World::with(Options {
        nats_config: config.to_owned(),
        login: "admin:pw@".to_owned(),
        ..Options::default()
    })
    .await;
    let setting = Setting::of(world).await;

    let line = format!(
        "--nats-url {} --inbox-prefix _INBOX_ci",
        setting.world.nats_url_as("ci:pw@")
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
