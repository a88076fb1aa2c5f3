//! Hostile URLs, names and trees start no program and write nothing outside the state directory.
//!
//! Each test has a program at hand that leaves a mark when it is run, under every name and in every place
//! from which git or a shell could be led to it, and compares what is around the state directory before and
//! after. What is merely wrong is in `bad_input.rs`; how hosts are found in URLs in `backstack-schemas`.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use backstack_schemas::topology::Bucket;
use backstack_schemas::{ErrorCode, Job, JobStatus};
use backstack_tests::program::write_script;
use backstack_tests::{Remote, Worker, World};
use serde_json::json;

/// A program that marks that it ran.
struct Canary {
    program: PathBuf,
    mark: PathBuf,
}

impl Canary {
    fn new(world: &World) -> Self {
        let dir = world.dir().join("canary");
        fs::create_dir(&dir).unwrap();
        let (program, mark) = (dir.join("program"), world.dir().join("ran"));
        let script = format!("#!/bin/sh\necho \"$0 $*\" >>'{}'\nexit 1\n", mark.display());
        // Also found by name, should anything look for a helper.
        for name in [
            "program",
            "git-remote-canary",
            "git-remote-ext",
            "git-upload-pack",
        ] {
            write_script(&dir.join(name), &script);
        }
        Self { program, mark }
    }

    fn path(&self) -> &str {
        self.program.to_str().unwrap()
    }

    #[track_caller]
    fn assert_silent(&self, after: &str) {
        let ran = fs::read_to_string(&self.mark).unwrap_or_default();
        assert!(ran.is_empty(), "after {after}, a program ran: {ran}");
    }
}

/// Every file below `dir` with its content, but for those in `except`.
fn files(dir: &Path, except: &[&Path]) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if except.iter().any(|skipped| path.starts_with(skipped)) {
            continue;
        }
        if path.is_dir() && !path.is_symlink() {
            found.insert(path.clone(), Vec::new());
            found.extend(files(&path, except));
        } else {
            let content = fs::read(&path).unwrap_or_default();
            found.insert(path, content);
        }
    }
    found
}

/// A repository's row as somebody who may write the bucket could forge it.
async fn forge(world: &World, url: &str) {
    let row = json!({
        "repo": "web", "remote_url": url, "trunk": "main",
        "created_at": "2026-11-22T10:00:00.000Z", "sync": {"status": "pending"},
    });
    world.put_row(Bucket::Repos, "web", &row).await;
}

#[track_caller]
fn code_of(job: &Job) -> ErrorCode {
    match &job.error {
        Some(error) => error.code,
        None => panic!("it ended well: {job:#?}"),
    }
}

#[tokio::test]
async fn urls_that_lead_elsewhere_than_the_allowed_host_reach_no_ssh() {
    let world = World::start().await;
    let _remote = world.remote("web");
    let canary = Canary::new(&world);
    let arguments = [
        "--allow-protocol=ssh,git,http,https,file",
        "--allow-host=allowed.example",
        "--max-attempts=1",
    ];
    let ssh = [("GIT_SSH_COMMAND", OsStr::new(canary.path()))];
    let _worker = Worker::start_with(&world, &arguments, &ssh).await;
    let program = canary.path();
    for url in [
        // Git would take each of these to evil.example.
        "ssh://evil.example%2F@allowed.example/x",
        "ssh://allowed.example?@evil.example/x",
        "ssh://allowed.example#@evil.example/x",
        "git@allowed.example:x@[evil.example]:z",
        "ssh://allowed.example/x@[evil.example]/y",
        "ssh://allowed.example/x%40%5Bevil.example]/y",
        "git@[evil.example:22]:x",
        "ssh://allowed.example@evil.example/x",
        "ssh://allowed.example.evil.example/x",
        "ssh://allowed.example./x",
        "ssh://аllowed.example/x",
        "ssh://[::1]/x",
        "git://evil.example:9418/x",
        "https://allowed.example\\@evil.example/x",
        // And each of these would run something, or be an option.
        "ssh://-oProxyCommand=true/x",
        "ssh://%2DoProxyCommand=true/x",
        "ssh://-oProxyCommand=true@allowed.example/x",
        "git@[-oProxyCommand=true]:x",
        "allowed.example:-x",
        "canary::x",
        "canary::https://allowed.example/x",
        "file:::x",
        "::x",
        "git+ssh://allowed.example/x",
        "rsync://allowed.example/x",
        &format!("--upload-pack={program}"),
        &format!("ext::{program}"),
        &format!("ext::{program}://allowed.example/x"),
        "file://evil.example/share/x",
        "git://allowed.example/x%0Ahost=evil.example",
        "allowed.example:x\u{0}y",
        "https://allowed.example/x\r\nHost: evil.example",
    ] {
        forge(&world, url).await;
        let job = world.run("web", "sync_repo", "").await;
        assert_eq!(
            code_of(&job),
            ErrorCode::RemoteNotAllowed,
            "{url}: {}",
            job.message
        );
        canary.assert_silent(url);
    }
    // What looks like another machine's share is a path on this one, where it is not.
    for url in ["\\\\evil.example\\share\\x", "//evil.example/share/x"] {
        forge(&world, url).await;
        let job = world.run("web", "sync_repo", "").await;
        assert_eq!(
            code_of(&job),
            ErrorCode::AttemptsExhausted,
            "{url}: {}",
            job.message
        );
        canary.assert_silent(url);
    }
    // The canary is what ssh would have been.
    forge(&world, "git@allowed.example:x").await;
    world.publish("web", "sync_repo", "").await;
    let until = std::time::Instant::now() + backstack_tests::rows::DEADLINE;
    while !canary.mark.exists() {
        assert!(std::time::Instant::now() < until, "no ssh ran");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn branch_names_are_names_and_nothing_else() {
    let world = World::start().await;
    let remote = world.repo("web").await;
    let canary = Canary::new(&world);
    let _worker = Worker::start(&world, &[]).await;
    let program = canary.path();
    let mut good = [
        format!("x$({program})y"),
        format!("x`{program}`y"),
        format!("x;{program};y"),
        format!("x|{program}&y"),
        format!("x'\"{program}"),
    ]
    .to_vec();
    good.extend(
        [
            "case",
            "Case",
            "CASE",
            "a.b",
            "a=2Eb",
            "a=b",
            "a>b",
            "a<b",
            "$KV",
            "%41",
            "größe/日本",
            "main.",
            "origin/main",
            "heads/main",
            "remotes/x",
            "tags/v1",
            "@at",
            "a@",
            "!x",
            "#x",
            "a,b",
            "backstack/pins",
            "con",
            "x/HEAD",
        ]
        .map(str::to_owned),
    );
    good.retain(|name| name != "main.");
    // As long as a name may be, each byte of it two more in its key.
    good.push(format!(
        "{0}/{0}/{0}/{0}/{1}",
        "~".replace('~', "é").repeat(100),
        "é".repeat(98)
    ));
    // Git has these, and no row may: each could be taken for something else.
    let bad = ["-x", "--upload-pack=x", "HEAD", "refs/heads/main", "-d"];
    let main = remote.head("main").to_string();
    for name in good.iter().map(String::as_str).chain(bad) {
        remote.git(&["update-ref", &format!("refs/heads/{name}"), &main]);
    }
    for name in &good {
        remote.commit(name, &[(&format!("{:?}", name.len()), name)], "one");
    }
    let names: Vec<&str> = good.iter().map(String::as_str).collect();
    world.register("web", &names).await;
    remote.commit("main", &[("m1", "m1\n")], "m1");
    let before: Vec<_> = bad.map(|name| remote.head(name)).into();
    let job = world.run("web", "restack_repo", "").await;
    assert_eq!(job.status, JobStatus::Completed, "{job:#?}");
    let moved = job.result.as_ref().map_or(0, |result| result.moved.len());
    assert_eq!(moved, good.len(), "{job:#?}");
    let main = remote.head("main");
    for name in &good {
        assert_eq!(remote.oid(&format!("refs/heads/{name}~1")), main, "{name}");
    }
    let after: Vec<_> = bad.map(|name| remote.head(name)).into();
    assert_eq!(before, after);
    let rows = world.branches("web").await;
    assert_eq!(
        rows.len(),
        good.len() + 1,
        "a row for each good name, and trunk's"
    );
    let shown = world.backstack(["stack", "web"]).await;
    assert_eq!(shown.code, 0, "{shown:?}");
    canary.assert_silent("all these names");
}

/// Objects written as they are, which no porcelain of git would.
struct Raw<'r> {
    remote: &'r Remote,
}

impl Raw<'_> {
    fn object(&self, kind: &str, content: &[u8]) -> String {
        let mut child = Command::new("git")
            .arg("--git-dir")
            .arg(self.remote.path())
            .args(["hash-object", "-w", "--literally", "--stdin", "-t", kind])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(content).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn blob(&self, text: &str) -> String {
        self.object("blob", text.as_bytes())
    }

    /// Entries in the given order, whatever their names.
    fn tree(&self, entries: &[(&str, &str, &str)]) -> String {
        let mut content = Vec::new();
        for (mode, name, id) in entries {
            content.extend_from_slice(format!("{mode} {name}\0").as_bytes());
            let bytes = (0..20).map(|i| u8::from_str_radix(&id[2 * i..2 * i + 2], 16).unwrap());
            content.extend(bytes);
        }
        self.object("tree", &content)
    }

    fn commit(&self, branch: &str, tree: &str, parent: &str) -> String {
        let who = "Eve <eve@example.com> 1700000000 +0000";
        let text =
            format!("tree {tree}\nparent {parent}\nauthor {who}\ncommitter {who}\n\n{branch}\n");
        let id = self.object("commit", text.as_bytes());
        self.remote
            .git(&["update-ref", &format!("refs/heads/{branch}"), &id]);
        id
    }
}

/// What git obeys where it finds it in a work tree or a repository.
fn hostile_tree(raw: &Raw, canary: &str, link: (&str, &str), version: &str) -> String {
    let config = format!(
        "[core]\n\tfsmonitor = {canary}\n\tsshCommand = {canary}\n\thooksPath = hooks\n\teditor = {canary}\n\
         [filter \"evil\"]\n\tclean = {canary}\n\tsmudge = {canary}\n\tprocess = {canary}\n\trequired = true\n\
         [merge \"evil\"]\n\tdriver = {canary}\n[diff \"evil\"]\n\tcommand = {canary}\n\ttextconv = {canary}\n"
    );
    let (config, program) = (
        raw.blob(&config),
        raw.blob(&format!("#!/bin/sh\nexec {canary}\n")),
    );
    let version = raw.blob(version);
    let hooks = raw.tree(&[
        ("100755", "post-checkout", &program),
        ("100755", "pre-push", &program),
        ("100755", "reference-transaction", &program),
    ]);
    let git = raw.tree(&[("100644", "config", &config), ("40000", "hooks", &hooks)]);
    let attributes = raw.blob("* filter=evil merge=evil diff=evil\n*.c merge=evil\n");
    let modules = raw.blob(&format!(
        "[submodule \"x\"]\n\tpath = x\n\turl = ext::{canary}\n\tupdate = !{canary}\n\
         [submodule \"../../y\"]\n\tpath = ../y\n\turl = -u{canary}\n"
    ));
    let lfs = raw.blob(&format!("[lfs]\n\turl = ext::{canary}\n"));
    let gitlink = "1".repeat(40);
    raw.tree(&[
        ("40000", ".GIT", &git),
        ("40000", ".git", &git),
        ("100644", ".gitattributes", &attributes),
        ("100644", ".gitconfig", &config),
        ("100644", ".gitmodules", &modules),
        ("100644", ".lfsconfig", &lfs),
        ("100644", "f.c", &version),
        ("40000", "git~1", &git),
        (link.0, "link", link.1),
        ("100644", "m0", &raw.blob("m0\n")),
        ("160000", "x", &gitlink),
    ])
}

#[tokio::test]
async fn trees_that_git_would_obey_in_a_work_tree_start_nothing() {
    let world = World::start().await;
    let remote = world.repo("web").await;
    remote.config("receive.fsckObjects", "false");
    let canary = Canary::new(&world);
    let outside = world.dir().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("kept"), "kept").unwrap();
    // Even an operator's configuration gives trees no program to run.
    let program = canary.path();
    let operators = world.dir().join("operator.gitconfig");
    let drivers = format!(
        "[filter \"evil\"]\n\tclean = {program}\n\tsmudge = {program}\n\
         [merge \"evil\"]\n\tdriver = {program}\n[diff \"evil\"]\n\tcommand = {program}\n\ttextconv = {program}\n"
    );
    fs::write(&operators, drivers).unwrap();
    let flag = format!("--git-config={}", operators.display());
    let worker = Worker::start(&world, &[&flag]).await;
    let raw = Raw { remote: &remote };
    let link = raw.blob(outside.to_str().unwrap());
    let link = ("120000", link.as_str());
    let first = remote.head("main").to_string();
    let lines = |middle: &str, last: &str| format!("1\n2\n{middle}\n4\n5\n6\n7\n{last}\n");
    let old = raw.commit(
        "main",
        &hostile_tree(&raw, program, link, &lines("3", "8")),
        &first,
    );
    let mine = raw.commit(
        "a",
        &hostile_tree(&raw, program, link, &lines("three", "8")),
        &old,
    );
    // Above it, the link becomes a directory with a file of the name that is outside.
    let kept = raw.tree(&[("100644", "kept", &raw.blob("overwritten\n"))]);
    let directory = hostile_tree(&raw, program, ("40000", &kept), &lines("three", "8"));
    raw.commit("b", &directory, &mine);
    world.register("web", &["a", "b"]).await;
    raw.commit(
        "main",
        &hostile_tree(&raw, program, link, &lines("3", "eight")),
        &old,
    );
    let (around, state) = (world.dir().to_owned(), worker.state().to_owned());
    let before = files(&outside, &[]);
    let job = world.run("web", "restack_repo", "").await;
    assert_eq!(job.status, JobStatus::Completed, "{job:#?}");
    assert_eq!(remote.show("a:f.c"), lines("three", "eight"));
    assert_eq!(remote.show("b:link/kept"), "overwritten\n");
    assert_eq!(files(&outside, &[]), before);
    canary.assert_silent("these trees");
    // Nothing new lies about but in the state directory, the remote, and the server's own.
    let new = files(
        &around,
        &[
            &state,
            remote.path(),
            &around.join("nats"),
            &around.join("canary"),
        ],
    );
    let new: Vec<_> = new
        .keys()
        .filter(|path| !is_the_tests_own(path, &around))
        .collect();
    assert!(new.is_empty(), "{new:?}");
}

/// What the harness and the tests here put beside the state directory.
fn is_the_tests_own(path: &Path, around: &Path) -> bool {
    let name = path
        .strip_prefix(around)
        .unwrap_or(path)
        .to_string_lossy()
        .into_owned();
    name.starts_with("backstack") || name.starts_with("outside") || name == "operator.gitconfig"
}

#[tokio::test]
async fn trees_that_no_file_system_could_hold_stay_trees() {
    let world = World::start().await;
    let remote = world.repo("web").await;
    remote.config("receive.fsckObjects", "false");
    let worker = Worker::start(&world, &["--max-attempts=1"]).await;
    let raw = Raw { remote: &remote };
    let first = remote.head("main").to_string();
    let (one, two) = (raw.blob("one\n"), raw.blob("two\n"));
    let below = raw.tree(&[("100644", "escaped", &one)]);
    let absolute = format!("{}/escaped", world.dir().display());
    let long = "n".repeat(5_000);
    /// Mode, name and id of an entry.
    type Entries<'a> = Vec<(&'a str, &'a str, &'a str)>;
    let cases: Vec<(&str, Entries)> = vec![
        (
            "dots",
            vec![("40000", "..", &below), ("40000", ".", &below)],
        ),
        (
            "slashes",
            vec![("100644", "../escaped", &one), ("100644", &absolute, &one)],
        ),
        (
            "twice",
            vec![
                ("100644", "same", &one),
                ("100644", "same", &two),
                ("40000", "same", &below),
            ],
        ),
        (
            "unsorted",
            vec![("100644", "z", &one), ("100644", "a", &two)],
        ),
        ("nameless", vec![("100644", "", &one)]),
        ("long", vec![("100644", &long, &one)]),
        (
            "modes",
            vec![
                ("777777", "odd", &one),
                ("0", "none", &one),
                ("100664", "old", &one),
            ],
        ),
        (
            "wrong-kind",
            vec![("40000", "blob", &one), ("100644", "tree", &below)],
        ),
        (
            "absent",
            vec![("100644", "gone", "2222222222222222222222222222222222222222")],
        ),
        ("control", vec![("100644", "a\u{1b}[31mb\nc", &one)]),
    ];
    let snapshot = |world: &World| {
        let nats = world.dir().join("nats");
        let mut found = files(world.dir(), &[worker.state(), remote.path(), &nats]);
        found.retain(|path, _| !is_the_tests_own(path, world.dir()));
        found
    };
    let before = snapshot(&world);
    for (name, entries) in &cases {
        raw.commit(name, &raw.tree(entries), &first);
    }
    remote.commit("main", &[("m1", "m1\n")], "m1");
    for (name, _) in &cases {
        // Whatever comes of it, it ends, and harms neither the others nor the worker.
        let body = json!({ "branch": name }).to_string();
        for action in ["register_existing_branch", "rebase_branch"] {
            let job = world.run("web", action, &body).await;
            assert!(job.status.is_terminal(), "{name}: {job:#?}");
            assert!(!job.message.contains('\u{1b}'), "{name}: {job:#?}");
        }
        if ["absent", "nameless", "wrong-kind"].contains(name) {
            remote.delete(name);
        }
    }
    assert_eq!(snapshot(&world), before);
    assert!(worker.program().process().ended().is_none());
    remote.stack("main <- fine: f1");
    world.register("web", &["fine"]).await;
    remote.commit("main", &[("m2", "m2\n")], "m2");
    let job = world
        .run("web", "rebase_branch", r#"{"branch": "fine"}"#)
        .await;
    assert_eq!(job.status, JobStatus::Completed, "{job:#?}");
}

#[tokio::test]
async fn a_remotes_own_configuration_starts_nothing_in_a_fetch() {
    let world = World::start().await;
    let remote = world.repo("web").await;
    let canary = Canary::new(&world);
    let program = canary.path();
    let _worker = Worker::start(&world, &["--max-attempts=1"]).await;
    remote.stack("main <- a: a1");
    // Objects of another repository, whose refs git would ask a program for.
    let other = world.remote("other");
    other.stack("main <- lent: l1");
    let lent = format!("{}\n", other.path().join("objects").display());
    fs::write(remote.path().join("objects/info/alternates"), lent).unwrap();
    remote.git(&[
        "update-ref",
        "refs/heads/lent",
        &other.head("lent").to_string(),
    ]);
    for (name, value) in [
        ("core.fsmonitor", program),
        ("core.sshCommand", program),
        ("core.gitProxy", program),
        ("core.alternateRefsCommand", program),
        ("core.pager", program),
        ("uploadpack.packObjectsHook", program),
        ("credential.helper", program),
        ("extensions.partialClone", "origin"),
        ("remote.origin.promisor", "true"),
        ("remote.origin.url", "/nowhere"),
        ("remote.origin.uploadpack", program),
        ("core.repositoryFormatVersion", "1"),
    ] {
        remote.config(name, value);
    }
    for hook in [
        "post-checkout",
        "pre-auto-gc",
        "reference-transaction",
        "fsmonitor-watchman",
    ] {
        remote.hook(hook, &format!("#!/bin/sh\nexec {program}\n"));
    }
    let job = world.run("web", "sync_repo", "").await;
    assert_eq!(job.status, JobStatus::Completed, "{job:#?}");
    assert!(world.branch("web", "lent").await.is_some());
    canary.assert_silent("a fetch");
    // An object that is missing, which git could have fetched by that program.
    remote.remove_hook("reference-transaction");
    let raw = Raw { remote: &remote };
    let tree = raw.tree(&[("100644", "gone", "2222222222222222222222222222222222222222")]);
    raw.commit("lazy", &tree, &remote.head("main").to_string());
    let job = world.run("web", "sync_repo", "").await;
    assert_eq!(job.status, JobStatus::Error, "{job:#?}");
    canary.assert_silent("a fetch of what is missing");
}

#[tokio::test]
async fn the_state_directory_is_no_remote() {
    let world = World::start().await;
    let remote = world.repo("victim").await;
    let worker = Worker::start(&world, &[]).await;
    world.run("victim", "sync_repo", "").await;
    let mirrors = worker.state().join("mirrors");
    let mirror = fs::read_dir(&mirrors)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let link = world.dir().join("link.git");
    std::os::unix::fs::symlink(&mirror, &link).unwrap();
    let state = worker.state().display();
    for url in [
        mirror.display().to_string(),
        format!("file://{}", mirror.display()),
        format!("file://{}", mirror.display()).replace("/mirrors/", "/%6dirrors/"),
        format!(
            "{state}/../{}/mirrors/{}",
            worker.state().file_name().unwrap().display(),
            mirror.file_name().unwrap().display()
        ),
        link.display().to_string(),
    ] {
        forge(&world, &url).await;
        let job = world.run("web", "sync_repo", "").await;
        assert_eq!(
            code_of(&job),
            ErrorCode::RemoteNotAllowed,
            "{url}: {}",
            job.message
        );
        assert!(
            job.message.contains("state directory"),
            "{url}: {}",
            job.message
        );
    }
    drop(remote);
}

#[tokio::test]
async fn rows_that_would_play_with_a_terminal_are_shown_without() {
    let world = World::start().await;
    let _remote = world.repo("web").await;
    let _worker = Worker::start(&world, &[]).await;
    // A title, a colour in each of its two codes, a line that is gone, and letters turned round.
    let trick = "x\u{1b}]0;owned\u{7}\u{1b}[31m\u{9b}31m\r\u{8}\u{7f}\u{202e}y";
    let body = json!({ "requested_by": trick }).to_string();
    let job = world.run("web", "sync_repo", &body).await;
    assert_eq!(job.spec.requested_by.as_deref(), Some(trick));
    let key = format!("web.{}", job.spec.job_id);
    let mut row = serde_json::to_value(&job).unwrap();
    row["message"] = json!(trick);
    row["status"] = json!("error");
    row["result"]["conflicts"] = json!([{
        "branch": "a\u{9b}b", "commit": "1".repeat(40), "onto": "2".repeat(40),
        "paths": [{ "path": trick, "kind": "content" }],
    }]);
    row["error"] = json!({ "code": "branch_not_tracked", "retryable": false, "detail": trick });
    row["branch"] = json!("a;$(reboot)");
    world.put_row(Bucket::Jobs, &key, &row).await;
    // And rows that cannot be read, whose problem is told.
    world
        .put_row(
            Bucket::Repos,
            "bad",
            &json!({ "repo": trick, "remote_url": trick }),
        )
        .await;
    world
        .put_row(Bucket::Jobs, "web.x", &json!({ "status": trick }))
        .await;
    let id = job.spec.job_id.to_string();
    for line in [
        vec!["job", "show", "web", &id],
        vec!["job", "show", "web", &id, "--json"],
        vec!["jobs", "web"],
        vec!["jobs", "web", "--json"],
        vec!["repo", "list"],
        vec!["stack", "web"],
    ] {
        let shown = world.backstack(&line).await;
        let both = format!("{}{}", shown.stdout, shown.stderr);
        let obeyed = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!both.contains(obeyed), "{line:?}: {both:?}");
        assert!(!both.is_empty(), "{line:?} shows nothing");
    }
    let shown = world.backstack(["job", "show", "web", &id]).await.stdout;
    assert!(
        shown.contains("backstack register web 'a;$(reboot)'"),
        "{shown}"
    );
    let shown = world
        .backstack(["job", "show", "web", &id, "--json"])
        .await
        .stdout;
    let same: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(same["message"], trick);
}
