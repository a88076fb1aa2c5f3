//! What is asked for wrongly ends with the right code and a sentence that a person can act on, and
//! does no harm: no row and no ref changes, and the repository's next action runs.

use backstack_schemas::topology::{Bucket, branch_key};
use backstack_schemas::{BranchName, ErrorCode, Job, JobStatus};
use backstack_tests::{Remote, Worker, World};
use serde_json::{Value, json};

/// A published action and what must come of it.
struct Case {
    /// What is wrong with it.
    name: &'static str,
    action: &'static str,
    body: String,
    code: ErrorCode,
    /// What the sentence must say: the thing that is wrong, and what to do.
    says: &'static [&'static str],
}

fn invalid(
    name: &'static str,
    action: &'static str,
    body: impl Into<String>,
    says: &'static [&'static str],
) -> Case {
    Case {
        name,
        action,
        body: body.into(),
        code: ErrorCode::InvalidAction,
        says,
    }
}

fn refused(
    name: &'static str,
    action: &'static str,
    body: &Value,
    code: ErrorCode,
    says: &'static [&'static str],
) -> Case {
    Case {
        name,
        action,
        body: body.to_string(),
        code,
        says,
    }
}

/// Publishes each case and checks its end, and that a sync after it completes.
async fn check(world: &World, repo: &str, cases: &[Case]) {
    for case in cases {
        let job = world.run(repo, case.action, &case.body).await;
        assert_refused(&job, case.name, case.code, case.says);
        assert_goes_on(world, repo, case.name).await;
    }
    world.queue_empty().await;
}

fn assert_refused(job: &Job, name: &str, code: ErrorCode, says: &[&str]) {
    assert_eq!(job.status, JobStatus::Error, "{name}: {job:#?}");
    let error = job.error.as_ref().expect("an error says why");
    assert_eq!(error.code, code, "{name}: {}", error.detail);
    assert!(!error.retryable, "{name}");
    assert_eq!(
        job.message, error.detail,
        "{name}: the row's sentence is the error's"
    );
    for word in says {
        assert!(
            error.detail.contains(word),
            "{name}: {:?} does not say {word:?}",
            error.detail
        );
    }
}

async fn assert_goes_on(world: &World, repo: &str, name: &str) {
    let next = world.run(repo, "sync_repo", "").await;
    assert_eq!(
        next.status,
        JobStatus::Completed,
        "after {name:?} the next action does not run: {next:#?}"
    );
}

/// A payload that is whole but for one field.
fn with(mut body: Value, field: &str, value: Value) -> String {
    body[field] = value;
    body.to_string()
}

#[tokio::test]
async fn what_is_no_action() {
    let world = World::start().await;
    let _remote = world.repo("web").await;
    let _worker = Worker::start(&world, &[]).await;
    let object: &[&str] = &["must be a JSON object", r#"{"branch": "feature-a"}"#];
    let actions: &[&str] = &[
        "there is no action",
        "the actions are sync_repo, restack_repo",
    ];
    let cases = [
        invalid("an unknown action", "restack", "", actions),
        invalid("an action in upper case", "Sync_Repo", "{}", actions),
        invalid("an action that is long", LONG_NAME, "{}", actions),
        invalid(
            "half an object",
            "sync_repo",
            "{",
            &["not JSON", "line 1 column 1"],
        ),
        invalid("words", "sync_repo", "restack please", &["not JSON"]),
        invalid("two objects", "sync_repo", "{} {}", &["not JSON"]),
        invalid("a blank", "sync_repo", " ", &["not JSON"]),
        invalid("a list", "sync_repo", "[]", object),
        invalid("a string", "sync_repo", r#""web""#, object),
        invalid("a number", "sync_repo", "1", object),
        invalid("nothing but null", "sync_repo", "null", object),
    ];
    check(&world, "web", &cases).await;
}

const LONG_NAME: &str = "a_name_that_goes_on_and_on_and_on_and_on_and_on_and_on_and_on_and_on_and_on_and_on_and_on_and_on_and_on_and_on";

#[tokio::test]
async fn fields_that_are_missing_unknown_or_not_the_actions() {
    let world = World::start().await;
    let _remote = world.repo("web").await;
    let _worker = Worker::start(&world, &[]).await;
    let branch: &[&str] = &["needs the field \"branch\""];
    let parent: &[&str] = &["needs the field \"parent\""];
    let cases = [
        invalid("restack_subtree of nothing", "restack_subtree", "", branch),
        invalid("rebase_branch of nothing", "rebase_branch", "{}", branch),
        invalid("unregistering nothing", "unregister_branch", "{}", branch),
        invalid(
            "registering nothing",
            "register_existing_branch",
            "{}",
            branch,
        ),
        invalid(
            "a null branch",
            "rebase_branch",
            r#"{"branch": null}"#,
            branch,
        ),
        invalid(
            "reparenting nothing",
            "reparent_branch",
            r#"{"parent": "b"}"#,
            branch,
        ),
        invalid(
            "reparenting onto nothing",
            "reparent_branch",
            r#"{"branch": "a"}"#,
            parent,
        ),
        invalid(
            "a misspelt field",
            "rebase_branch",
            r#"{"brnach": "a"}"#,
            &["no field \"brnach\"", "its fields are branch, job_id"],
        ),
        invalid(
            "a misspelt option",
            "sync_repo",
            r#"{"dryrun": true}"#,
            &[
                "no field \"dryrun\"",
                "restack, job_id, dry_run, retry_of, requested_by",
            ],
        ),
        invalid(
            "a branch for a whole repository",
            "restack_repo",
            r#"{"branch": "a"}"#,
            &["restack_repo has no field \"branch\""],
        ),
        invalid(
            "a restack of a restack",
            "restack_repo",
            r#"{"restack": true}"#,
            &["restack_repo has no field \"restack\""],
        ),
        invalid(
            "a parent for a rebase",
            "rebase_branch",
            r#"{"branch": "a", "parent": "b"}"#,
            &["rebase_branch has no field \"parent\""],
        ),
        invalid(
            "a base for a subtree",
            "restack_subtree",
            json!({"branch": "a", "base": "1".repeat(40)}).to_string(),
            &["restack_subtree has no field \"base\""],
        ),
        invalid(
            "a task for a reparent",
            "reparent_branch",
            json!({"branch": "a", "parent": "b", "task_id": ID}).to_string(),
            &["reparent_branch has no field \"task_id\""],
        ),
    ];
    check(&world, "web", &cases).await;
}

const ID: &str = "01999999-9999-7999-8999-99999999aaaa";

#[tokio::test]
async fn fields_whose_value_will_not_do() {
    let world = World::start().await;
    let _remote = world.repo("web").await;
    let _worker = Worker::start(&world, &[]).await;
    let register = || json!({"branch": "a"});
    let uuid: &[&str] = &["canonical form"];
    let full: &[&str] = &["field \"base\"", "full object id"];
    let mut cases = vec![
        invalid(
            "a job id of another form",
            "sync_repo",
            r#"{"job_id": "7"}"#,
            uuid,
        ),
        invalid(
            "a job id in upper case",
            "sync_repo",
            json!({"job_id": ID.to_uppercase()}).to_string(),
            uuid,
        ),
        invalid(
            "a job id without dashes",
            "sync_repo",
            json!({"job_id": ID.replace('-', "")}).to_string(),
            uuid,
        ),
        invalid(
            "a retry of no job",
            "sync_repo",
            r#"{"retry_of": "yesterday's"}"#,
            uuid,
        ),
        invalid(
            "a task of no id",
            "register_existing_branch",
            with(register(), "task_id", json!("T-17")),
            uuid,
        ),
        invalid(
            "an abbreviated base",
            "register_existing_branch",
            with(register(), "base", json!("abc1234")),
            full,
        ),
        invalid(
            "a base one digit short",
            "register_existing_branch",
            with(register(), "base", json!("a".repeat(39))),
            full,
        ),
        invalid(
            "a base that is a branch",
            "reparent_branch",
            json!({"branch": "a", "parent": "b", "base": "main"}).to_string(),
            full,
        ),
        invalid(
            "a requester of 201 characters",
            "sync_repo",
            json!({"requested_by": "ü".repeat(201)}).to_string(),
            &["requested_by", "201 characters", "at most 200"],
        ),
    ];
    for (field, value) in [
        ("restack", json!("yes")),
        ("dry_run", json!(1)),
        ("requested_by", json!(["alice"])),
        ("job_id", json!(7)),
        ("retry_of", json!({})),
    ] {
        let body = json!({ field: value }).to_string();
        cases.push(invalid(
            "a value of the wrong type",
            "sync_repo",
            body,
            &["field \"", "invalid type"],
        ));
    }
    for (field, value) in [
        ("branch", json!(1)),
        ("parent", json!(["main"])),
        ("base", json!(7)),
        ("task_id", json!(true)),
    ] {
        let body = with(register(), field, value);
        cases.push(invalid(
            "a value of the wrong type",
            "register_existing_branch",
            body,
            &["field \"", "invalid type"],
        ));
    }
    check(&world, "web", &cases).await;
    let longest = json!({"requested_by": "ü".repeat(200)}).to_string();
    let job = world.run("web", "sync_repo", &longest).await;
    assert_eq!(
        job.status,
        JobStatus::Completed,
        "200 characters are allowed: {job:#?}"
    );
}

#[tokio::test]
async fn branch_names_that_git_refuses() {
    let world = World::start().await;
    let _remote = world.repo("web").await;
    let _worker = Worker::start(&world, &[]).await;
    let too_long = "x".repeat(1_001);
    let names = [
        "",
        "-delete",
        "--upload-pack=x",
        "a..b",
        "a b",
        "a~1",
        "a^",
        "a:b",
        "a?",
        "a*",
        "a[b",
        "a\\b",
        "a\nb",
        "@",
        "a@{1}",
        "HEAD",
        "a.",
        ".a",
        "a/.b",
        "a.lock",
        "a.lock/b",
        "/a",
        "a/",
        "a//b",
        "refs/heads/a",
        &too_long,
    ];
    for name in names {
        for (action, body) in [
            ("rebase_branch", json!({"branch": name})),
            ("reparent_branch", json!({"branch": "a", "parent": name})),
        ] {
            let job = world.run("web", action, &body.to_string()).await;
            assert_refused(
                &job,
                &format!("{action} with the name {name:?}"),
                ErrorCode::InvalidAction,
                &["field \"", "branch name"],
            );
        }
    }
    assert_goes_on(&world, "web", "all of these names").await;
    world.queue_empty().await;
}

/// main <- a <- b, and a branch `loose` that nobody tracks.
async fn stacked(world: &World) -> Remote {
    let remote = world.repo("web").await;
    remote.stack("main <- a: a1 <- b: b1");
    remote.stack("main <- loose: l1");
    remote
}

#[tokio::test]
async fn branches_and_parents_that_will_not_do() {
    use ErrorCode::{BranchNotFound, BranchNotTracked, Cycle, ParentNotFound, TrunkIsImmutable};
    let world = World::start().await;
    let remote = stacked(&world).await;
    let _worker = Worker::start(&world, &[]).await;
    world.register("web", &["a", "b"]).await;
    let (refs, rows) = (remote.refs(), branch_rows(&world).await);

    let branch = |branch: &str| json!({ "branch": branch });
    let onto = |branch: &str, parent: &str| json!({"branch": branch, "parent": parent});
    let mut cases = Vec::new();
    for action in [
        "restack_subtree",
        "rebase_branch",
        "unregister_branch",
        "register_existing_branch",
    ] {
        cases.push(refused(
            "a branch that is not there",
            action,
            &branch("ghost"),
            BranchNotFound,
            &["ghost", "on the remote"],
        ));
        cases.push(refused(
            "trunk as the branch",
            action,
            &branch("main"),
            TrunkIsImmutable,
            &["main", "trunk"],
        ));
    }
    for action in ["restack_subtree", "rebase_branch", "unregister_branch"] {
        cases.push(refused(
            "a branch that is not tracked",
            action,
            &branch("loose"),
            BranchNotTracked,
            &["loose"],
        ));
    }
    let reparent = "reparent_branch";
    let register = "register_existing_branch";
    cases.extend([
        refused(
            "moving a branch that is not there",
            reparent,
            &onto("ghost", "a"),
            BranchNotFound,
            &["ghost", "not on the remote", "push it"],
        ),
        refused(
            "moving trunk",
            reparent,
            &onto("main", "a"),
            TrunkIsImmutable,
            &["main", "never moved"],
        ),
        refused(
            "moving a branch that is not tracked",
            reparent,
            &onto("loose", "a"),
            BranchNotTracked,
            &["loose is not tracked", "register it first"],
        ),
        refused(
            "moving onto a parent that is not there",
            reparent,
            &onto("a", "ghost"),
            ParentNotFound,
            &["a cannot be put onto ghost", "ghost is not on the remote"],
        ),
        refused(
            "moving onto a parent that is not tracked",
            reparent,
            &onto("a", "loose"),
            BranchNotTracked,
            &["loose is not tracked", "register it first"],
        ),
        refused(
            "moving onto itself",
            reparent,
            &onto("a", "a"),
            Cycle,
            &["a cannot be put onto a", "the branch itself"],
        ),
        refused(
            "moving onto a child",
            reparent,
            &onto("a", "b"),
            Cycle,
            &["a cannot be put onto b", "stands on it"],
        ),
        refused(
            "registering on a parent that is not there",
            register,
            &onto("loose", "ghost"),
            ParentNotFound,
            &["ghost is not on the remote"],
        ),
        refused(
            "registering on itself",
            register,
            &onto("loose", "loose"),
            Cycle,
            &["loose cannot be put onto loose"],
        ),
        refused(
            "registering on a child",
            register,
            &onto("a", "b"),
            Cycle,
            &["a cannot be put onto b"],
        ),
    ]);
    check(&world, "web", &cases).await;
    assert_eq!(remote.refs(), refs, "a refused action moved a ref");
    assert_eq!(
        branch_rows(&world).await,
        rows,
        "a refused action changed a row"
    );
}

async fn branch_rows(world: &World) -> Vec<Value> {
    let mut rows = Vec::new();
    for branch in ["main", "a", "b", "loose"] {
        let key = branch_key(
            &"web".parse().unwrap(),
            &branch.parse::<BranchName>().unwrap(),
        );
        rows.push(world.row::<Value>(Bucket::Branches, &key).await.unwrap());
    }
    rows
}

#[tokio::test]
async fn a_repository_that_nobody_added() {
    let world = World::start().await;
    let remote = world.remote("web");
    remote.stack("main <- a: a1");
    let _worker = Worker::start(&world, &[]).await;
    for (action, body) in [
        ("sync_repo", "{}"),
        ("restack_repo", ""),
        ("rebase_branch", r#"{"branch": "a"}"#),
    ] {
        let job = world.run("web", action, body).await;
        assert_refused(
            &job,
            action,
            ErrorCode::UnknownRepo,
            &["no repository web", "backstack repo add web <url>"],
        );
    }
    world.add_repo("web", &remote.url()).await;
    assert_goes_on(&world, "web", "the repository was added").await;
}

#[tokio::test]
async fn a_trunk_that_is_not_there() {
    let world = World::start().await;
    let remote = stacked(&world).await;
    let worker = Worker::start(&world, &["--max-attempts=1"]).await;
    world.register("web", &["a"]).await;
    remote.git(&["branch", "-m", "main", "trunk"]);
    for (action, body) in [
        ("sync_repo", "{}"),
        ("restack_repo", ""),
        ("rebase_branch", r#"{"branch": "a"}"#),
    ] {
        let job = world.run("web", action, body).await;
        assert_refused(
            &job,
            action,
            ErrorCode::TrunkNotFound,
            &["main is not on the remote", "push it", "another trunk"],
        );
    }
    let row = world.branch("web", "a").await.expect("a's row");
    assert!(row.tracked, "no row changes: {row:#?}");
    remote.git(&["branch", "-m", "trunk", "main"]);
    assert_goes_on(&world, "web", "trunk came back").await;
    drop(worker);
}

#[tokio::test]
async fn a_remote_without_a_default_branch() {
    let world = World::start().await;
    let remote = world.remote("web");
    remote.git(&["symbolic-ref", "HEAD", "refs/heads/nothing"]);
    let row = json!({
        "repo": "web", "remote_url": remote.url(), "trunk": null,
        "created_at": "2026-11-22T10:00:00.000Z", "sync": {"status": "pending"},
    });
    world.put_row(Bucket::Repos, "web", &row).await;
    let _worker = Worker::start(&world, &[]).await;
    let job = world.run("web", "sync_repo", "").await;
    assert_refused(
        &job,
        "no default branch",
        ErrorCode::TrunkNotFound,
        &["no default branch", "--trunk"],
    );
    remote.git(&["symbolic-ref", "HEAD", "refs/heads/main"]);
    assert_goes_on(&world, "web", "the default branch came back").await;
    let row = world.repository("web").await.expect("the row");
    assert_eq!(row.trunk.expect("a trunk").as_str(), "main");
}

#[tokio::test]
async fn remotes_that_do_not_exist() {
    let world = World::start().await;
    let remote = world.remote("web");
    let empty = world.dir().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let port = free_port();
    let _worker = Worker::start(&world, &["--max-attempts=1", "--allow-protocol=git,http"]).await;
    for (name, url) in [
        (
            "no such directory",
            format!("file://{}/nowhere.git", world.dir().display()),
        ),
        ("a directory without git", empty.display().to_string()),
        (
            "nobody listens, git",
            format!("git://127.0.0.1:{port}/web.git"),
        ),
        (
            "nobody listens, http",
            format!("http://127.0.0.1:{port}/web.git"),
        ),
    ] {
        world.add_repo("web", &url).await;
        let job = world.run("web", "sync_repo", "").await;
        assert_refused(
            &job,
            name,
            ErrorCode::AttemptsExhausted,
            &["remote_unreachable", "could not be reached"],
        );
        let row = world.repository("web").await.expect("the row");
        let told = row.sync.message.expect("the repository's row tells it too");
        assert!(told.contains("could not be reached"), "{name}: {told}");
    }
    world.add_repo("web", &remote.url()).await;
    assert_goes_on(&world, "web", "the URL was corrected").await;
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// A repository's row as somebody who may write the bucket could forge it.
async fn forge(world: &World, url: &str) {
    let row = json!({
        "repo": "web", "remote_url": url, "trunk": "main",
        "created_at": "2026-11-22T10:00:00.000Z", "sync": {"status": "pending"},
    });
    world.put_row(Bucket::Repos, "web", &row).await;
}

#[tokio::test]
async fn forged_urls_never_reach_git() {
    let world = World::start().await;
    let remote = world.remote("web");
    let ran = world.dir().join("ran");
    let touch = format!("touch {}", ran.display());
    let _worker = Worker::start(&world, &[]).await;
    let again: &[&str] = &["add it again"];
    let urls: [(String, &[&str]); 11] = [
        (
            format!("--upload-pack={touch}"),
            &["starts with '-'", "add it again"],
        ),
        ("-u".to_owned(), &["starts with '-'"]),
        (
            format!("ext::sh -c {}", touch.replace(' ', "% ")),
            &["remote helper", "add it again"],
        ),
        ("fd::17".to_owned(), &["remote helper"]),
        ("ftp://git.example/web.git".to_owned(), &["scheme"]),
        (
            format!("ssh://-oProxyCommand={}/web", touch.replace(' ', "${IFS}")),
            again,
        ),
        ("-oProxyCommand=true:web".to_owned(), &["starts with '-'"]),
        ("git@-oProxyCommand=true:web".to_owned(), again),
        (
            "https://bot:hunter2@git.example/web.git".to_owned(),
            &["holds a password", "add it again"],
        ),
        (String::new(), &["is empty"]),
        (format!("{}\nx", remote.url()), &["control character"]),
    ];
    for (url, says) in &urls {
        forge(&world, url).await;
        let job = world.run("web", "sync_repo", "").await;
        assert_refused(
            &job,
            &format!("the URL {url:?}"),
            ErrorCode::RemoteNotAllowed,
            says,
        );
        let row = serde_json::to_string(&job).unwrap();
        assert!(
            !row.contains("hunter2"),
            "the row tells the password: {row}"
        );
    }
    assert!(!ran.exists(), "a URL made git run a program");
    forge(&world, &remote.url()).await;
    assert_goes_on(&world, "web", "the URL was corrected").await;
}

#[tokio::test]
async fn protocols_and_hosts_that_the_operator_has_not_allowed() {
    let world = World::start().await;
    let remote = world.remote("web");
    let _worker = Worker::start(
        &world,
        &["--allow-protocol=https", "--allow-host=git.example"],
    )
    .await;
    let urls: [(&str, &[&str]); 4] = [
        (
            "git://git.example/web.git",
            &["protocol git", "--allow-protocol file,https,git"],
        ),
        (
            "http://git.example/web.git",
            &["protocol http", "--allow-protocol file,https,http"],
        ),
        (
            "git@git.example:web.git",
            &["protocol ssh", "--allow-protocol file,https,ssh"],
        ),
        (
            "https://Elsewhere.example:8443/web.git",
            &["host elsewhere.example", "--allow-host elsewhere.example"],
        ),
    ];
    for (url, says) in urls {
        forge(&world, url).await;
        let job = world.run("web", "sync_repo", "").await;
        assert_refused(&job, url, ErrorCode::RemoteNotAllowed, says);
        let row = world.repository("web").await.expect("the row");
        assert!(row.sync.message.is_some(), "{url}: {row:#?}");
    }
    forge(&world, &remote.url()).await;
    assert_goes_on(&world, "web", "the URL was corrected").await;
}

/// Rows that no `backstack repo add` writes: the job says so and the next one runs.
#[tokio::test]
async fn repository_rows_that_cannot_be_read() {
    let world = World::start().await;
    let remote = world.remote("web");
    let other = world.repo("other").await;
    let _worker = Worker::start(&world, &["--max-attempts=1"]).await;
    let whole = json!({
        "repo": "web", "remote_url": remote.url(), "trunk": "main",
        "created_at": "2026-11-22T10:00:00.000Z", "sync": {"status": "pending"},
    });
    let cases = [
        (
            "a trunk that git refuses",
            with(whole.clone(), "trunk", json!("a..b")),
        ),
        (
            "no time",
            with(whole.clone(), "created_at", json!("yesterday")),
        ),
        (
            "another repository's name",
            with(whole.clone(), "repo", json!("other")),
        ),
    ];
    for (name, row) in cases {
        let row: Value = serde_json::from_str(&row).unwrap();
        world.put_row(Bucket::Repos, "web", &row).await;
        let job = world.run("web", "sync_repo", "").await;
        assert_refused(
            &job,
            name,
            ErrorCode::AttemptsExhausted,
            &["internal", "row of the repository web", "add it again"],
        );
    }
    assert_eq!(
        world.branch("other", "main").await,
        None,
        "a forged row led to the rows of another repository"
    );
    drop(other);
    world.put_row(Bucket::Repos, "web", &whole).await;
    assert_goes_on(&world, "web", "the row was corrected").await;
}
