//! Passwords stay where they were put: whatever goes well or wrong, none is in a row, a message, a log, a
//! list of processes, an answer of the command or the state directory, and none goes to another host.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use backstack_schemas::topology::Bucket;
use backstack_schemas::{ErrorCode, Job, JobStatus};
use backstack_tests::http::{Request, Response, git_backend, packet};
use backstack_tests::program::write_script;
use backstack_tests::world::Options;
use backstack_tests::{HttpServer, Program, Remote, Worker, World};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt;
use serde_json::{Value, json};

/// The user of the remotes.
const USER: &str = "bot";

/// Every planted password: as it is, and as a URL holds it.
const GIT: (&str, &str) = ("gIt/pl4nted+s3cret", "gIt%2Fpl4nted%2Bs3cret");
const WRONG: (&str, &str) = ("wr0ng/pl4nted+s3cret", "wr0ng%2Fpl4nted%2Bs3cret");
const OTHER: (&str, &str) = ("0ther/pl4nted+s3cret", "0ther%2Fpl4nted%2Bs3cret");
const PROXY: (&str, &str) = ("pr0xy/pl4nted+s3cret", "pr0xy%2Fpl4nted%2Bs3cret");
const TYPED: (&str, &str) = ("typ3d-pl4nted-s3cret", "typ3d-pl4nted-s3cret");
const NATS: (&str, &str) = ("n4ts-pl4nted-s3cret", "n4ts-pl4nted-s3cret");

/// What must be found nowhere.
fn planted() -> Vec<String> {
    let each = [GIT, WRONG, OTHER, PROXY, TYPED, NATS].map(|(plain, encoded)| {
        [
            plain.to_owned(),
            encoded.to_owned(),
            STANDARD.encode(plain),
            STANDARD.encode(format!("{USER}:{plain}")),
        ]
    });
    each.into_iter().flatten().collect()
}

/// What was seen, and where.
#[derive(Clone, Default)]
struct Evidence {
    seen: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    /// Rows in which the test itself wrote a password; they are on the wire because of that.
    own: Arc<Mutex<Vec<Vec<u8>>>>,
    /// Command lines that were seen before.
    lines: Arc<Mutex<BTreeSet<Vec<u8>>>>,
}

impl Evidence {
    fn add_message(&self, place: &str, message: &async_nats::Message) {
        // As it is, or as the server encodes what it is asked for.
        let payload = String::from_utf8_lossy(&message.payload);
        let is_own =
            |row: &Vec<u8>| payload.as_bytes() == row || payload.contains(&STANDARD.encode(row));
        if self.own.lock().unwrap().iter().any(is_own) {
            return;
        }
        self.add(place, message.subject.as_bytes());
        self.add(place, format!("{:?}", message.headers));
        self.add(place, &message.payload);
    }

    fn add(&self, place: impl Into<String>, seen: impl AsRef<[u8]>) {
        let mut all = self.seen.lock().unwrap();
        let place = all.entry(place.into()).or_default();
        place.extend_from_slice(seen.as_ref());
        place.push(b'\n');
    }

    /// The command lines of all processes of this machine, as they are now.
    fn add_processes(&self) {
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            if let Ok(line) = fs::read(entry.path().join("cmdline"))
                && !line.is_empty()
                && self.lines.lock().unwrap().insert(line.clone())
            {
                self.add("the list of processes", line);
            }
        }
    }

    fn add_directory(&self, dir: &Path) {
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            let path = entry.path();
            self.add("the names of files", path.as_os_str().as_encoded_bytes());
            if path.is_symlink() {
                // Git's own programs.
                let target = fs::read_link(&path).unwrap();
                self.add("the names of files", target.as_os_str().as_encoded_bytes());
            } else if path.is_dir() {
                self.add_directory(&path);
            } else {
                self.add(path.display().to_string(), fs::read(&path).unwrap());
            }
        }
    }

    fn has(&self, place: &str, text: &str) -> bool {
        let all = self.seen.lock().unwrap();
        all.get(place).is_some_and(|seen| contains(seen, text))
    }

    /// Fails naming every place that tells a planted password.
    fn assert_silent(&self) {
        let planted = planted();
        let mut told = Vec::new();
        for (place, seen) in &*self.seen.lock().unwrap() {
            for secret in planted.iter().filter(|secret| contains(seen, secret)) {
                let text = String::from_utf8_lossy(seen).into_owned();
                let line = text.lines().find(|line| line.contains(secret.as_str()));
                told.push(format!("{place} tells {secret}: {}", line.unwrap_or("")));
            }
        }
        assert!(told.is_empty(), "{}", told.join("\n"));
    }
}

fn contains(seen: &[u8], text: &str) -> bool {
    String::from_utf8_lossy(seen).contains(text)
}

/// All that anybody with the right to read could have read on NATS: what went over the wire, and what is
/// stored.
async fn add_nats(world: &World, evidence: &Evidence) {
    let names = world.ask("STREAM.NAMES", &Value::Null).await.unwrap();
    let names = names["streams"].as_array().unwrap();
    assert_eq!(names.len(), 7, "three streams and four buckets: {names:?}");
    for name in names {
        let name = name.as_str().unwrap();
        let stream = world.jetstream().get_stream(name).await.unwrap();
        let state = stream.get_info().await.unwrap().state;
        for sequence in state.first_sequence..=state.last_sequence {
            let Ok(message) = stream.get_raw_message(sequence).await else {
                continue;
            };
            evidence.add(format!("stream {name}"), message.subject.as_bytes());
            evidence.add(format!("stream {name}"), format!("{:?}", message.headers));
            evidence.add(format!("stream {name}"), &message.payload);
        }
    }
}

/// A file of credentials that only its owner may read.
fn credentials(world: &World, lines: &[(&HttpServer, &str)]) -> PathBuf {
    let path = world.dir().join("credentials");
    let line = |(server, password): &(&HttpServer, &str)| {
        format!("http://{USER}:{password}@{}\n", server.authority())
    };
    fs::write(&path, lines.iter().map(line).collect::<String>()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// What a server that wishes no good says of what it was sent.
fn echo(request: &Request) -> String {
    let sent = request.headers.get("authorization").cloned();
    let sent = sent.unwrap_or_default();
    format!(
        "You sent {sent}\nAuthorization: {sent}\n{} {} {}\nhttp://{USER}:{}@evil.example/\n",
        WRONG.0, GIT.0, GIT.1, GIT.1
    )
}

async fn ended(world: &World, repo: &str, url: &str, action: &str, code: ErrorCode) -> Job {
    let row = json!({
        "repo": repo, "remote_url": url, "trunk": "main",
        "created_at": "2026-11-22T10:00:00.000Z", "sync": {"status": "pending"},
    });
    world.put_row(Bucket::Repos, repo, &row).await;
    let job = world.run(repo, action, "{}").await;
    let error = job.error.as_ref();
    let error = error.unwrap_or_else(|| panic!("{repo}: {job:#?}"));
    assert_eq!(error.code, code, "{repo}: {}", error.detail);
    job
}

/// Pushes reach this server, which refuses each ref with the password for a reason.
fn tells_in_its_report(root: &Path, request: &Request) -> Response {
    if !request.is_from(USER, GIT.0) {
        return Response::unauthorized("who are you?");
    }
    if request.method == "GET" || !request.path.ends_with("/git-receive-pack") {
        return git_backend(root, request);
    }
    let report = [
        packet("unpack ok\n"),
        packet(format!("ng refs/heads/a {} \u{1b}[31m\n", GIT.0)),
        b"0000".to_vec(),
    ];
    let mut banded = vec![1];
    banded.extend(report.concat());
    let words = format!(
        "\u{2}Authorization: Basic {}\n",
        STANDARD.encode(format!("{USER}:{}", GIT.0))
    );
    let body = [packet(words), packet(banded), b"0000".to_vec()].concat();
    Response::new("200 OK", "application/x-git-receive-pack-result", body)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planted_password_is_found_nowhere() {
    let world = World::with(Options {
        nats_config: format!(
            "authorization {{ users = [{{user: svc, password: \"{}\"}}] }}\n",
            NATS.0
        ),
        login: format!("svc:{}@", NATS.0),
        ..Options::default()
    })
    .await;
    let evidence = Evidence::default();
    let mut wire = world.client().subscribe(">").await.unwrap();
    world.client().flush().await.unwrap();
    let heard = tokio::spawn({
        let evidence = evidence.clone();
        async move {
            while let Some(message) = wire.next().await {
                evidence.add_message("the wire", &message);
            }
        }
    });

    let root = world.dir().join("served");
    fs::create_dir(&root).unwrap();
    let remotes: Vec<Remote> = ["web", "hooked", "refused", "tells"]
        .map(|name| Remote::new(root.join(format!("{name}.git"))))
        .into();
    for remote in &remotes {
        remote.config("http.receivepack", "true");
        remote.stack("main <- a: a1");
    }
    let says = format!("#!/bin/sh\necho '{} {}' >&2\nexit 1\n", GIT.0, GIT.1);
    remotes[1].hook("pre-receive", &says);
    remotes[2].hook("update", &says);

    // While it answers, the git that knows the password is there to be seen.
    let good = HttpServer::start({
        let (root, evidence) = (root.clone(), evidence.clone());
        move |request| {
            evidence.add_processes();
            if request.is_from(USER, GIT.0) {
                git_backend(&root, request)
            } else {
                Response::unauthorized("who are you?")
            }
        }
    });
    let tells = HttpServer::start({
        let root = root.clone();
        move |request| tells_in_its_report(&root, request)
    });
    let wrong = HttpServer::start(|request| Response::unauthorized(&echo(request)));
    let broken = HttpServer::start(|request| {
        if request.is_from(USER, GIT.0) {
            Response::new("500 Internal Server Error", "text/plain", echo(request))
        } else {
            Response::unauthorized("who are you?")
        }
    });
    // Knows the other password, and is where the next two send their clients.
    let other = HttpServer::git(&root, USER, OTHER.0);
    let to = other.url("web.git/info/refs?service=git-upload-pack");
    let redirects = HttpServer::start({
        let to = to.clone();
        move |request| {
            if request.is_from(USER, GIT.0) {
                Response::redirect(&to)
            } else {
                Response::unauthorized("who are you?")
            }
        }
    });
    let redirects_with_a_password = HttpServer::start(move |_| {
        Response::redirect(&to.replace("//", &format!("//{USER}:{}@", WRONG.1)))
    });

    let file = credentials(
        &world,
        &[
            (&good, GIT.1),
            (&tells, GIT.1),
            (&wrong, WRONG.1),
            (&broken, GIT.1),
            (&other, OTHER.1),
            (&redirects, GIT.1),
        ],
    );
    let before = fs::read(&file).unwrap();
    let proxy = format!("http://{USER}:{}@127.0.0.1:1", PROXY.1);
    // Shows what git is started with, and is git.
    let shown = world.dir().join("shown");
    let git = world.dir().join("shown-git");
    let script = format!(
        "#!/bin/sh\n{{ printf '%s\\n' \"$@\"; env; }} | grep -v '^https_proxy=' >>'{}'\nexec git \"$@\"\n",
        shown.display()
    );
    write_script(&git, &script);
    let worker = Worker::start_with(
        &world,
        &[
            "--allow-protocol=http",
            "--max-attempts=1",
            &format!("--git={}", git.display()),
        ],
        &[
            ("BACKSTACK_CREDENTIALS", file.as_os_str()),
            ("https_proxy", OsStr::new(&proxy)),
            (
                "BACKSTACK_LOG",
                OsStr::new(
                    "info,backstack_consumer=trace,backstack_engine=trace,backstack_producer=trace",
                ),
            ),
        ],
    )
    .await;

    // What works.
    world.add_repo("web", &good.url("web.git")).await;
    world.register("web", &["a"]).await;
    remotes[0].commit("main", &[("m1", "m1\n")], "m1");
    let job = world.run("web", "restack_repo", "{}").await;
    assert_eq!(job.status, JobStatus::Completed, "{job:#?}");
    assert_eq!(remotes[0].draw(), "main  m0 m1\na     main: a1\n");

    // What does not.
    for (repo, server, code) in [
        ("hooked", &good, ErrorCode::RemoteRejected),
        ("refused", &good, ErrorCode::RemoteRejected),
        ("tells", &tells, ErrorCode::RemoteRejected),
    ] {
        let url = server.url(&format!("{repo}.git"));
        world.add_repo(repo, &url).await;
        world.register(repo, &["a"]).await;
        let remote = remotes
            .iter()
            .find(|remote| remote.path().ends_with(format!("{repo}.git")));
        remote.unwrap().commit("main", &[("m1", "m1\n")], "m1");
        let job = ended(&world, repo, &url, "restack_repo", code).await;
        assert!(job.message.contains("***"), "{repo}: {}", job.message);
        assert!(!job.message.contains('\u{1b}'), "{repo}: {}", job.message);
    }
    use ErrorCode::{AttemptsExhausted, RemoteAuthFailed, RemoteNotAllowed};
    let sync = |repo: &'static str, url: String, code| {
        let world = &world;
        async move { ended(world, repo, &url, "sync_repo", code).await }
    };
    let job = sync("wrong", wrong.url("web.git"), RemoteAuthFailed).await;
    assert_eq!(
        job.attempt, 1,
        "a refused password is not tried again: {job:#?}"
    );
    sync("broken", broken.url("web.git"), AttemptsExhausted).await;
    sync("redirects", redirects.url("web.git"), RemoteAuthFailed).await;
    sync(
        "redirects-2",
        redirects_with_a_password.url("web.git"),
        RemoteAuthFailed,
    )
    .await;
    let unknown = other.url("web.git").replace("127.0.0.1", "localhost");
    let job = sync("none", unknown, RemoteAuthFailed).await;
    assert!(job.message.contains("--credentials"), "{}", job.message);
    let sent: Vec<_> = other
        .asked()
        .iter()
        .filter_map(|r| r.headers.get("authorization").cloned())
        .collect();
    let theirs = format!("Basic {}", STANDARD.encode(format!("{USER}:{}", WRONG.0)));
    assert!(
        sent.iter().all(|sent| *sent == theirs),
        "a redirect brought a password of ours to another host, or back: {sent:?}"
    );
    assert!(!other.asked().is_empty(), "nobody was redirected");

    // What was put into a URL. The row with it is the test's own.
    for url in [
        format!("https://{USER}:{}@git.example/web.git", TYPED.0),
        format!("https://{USER}%3A{}@git.example/web.git", TYPED.0),
        format!("{USER}:{}@git.example:web.git", TYPED.0),
    ] {
        let added = world.backstack(["repo", "add", "typed", &url]).await;
        assert_eq!(added.code, 2, "{added:?}");
        evidence.add("backstack repo add", added.stdout + &added.stderr);
        let job = forged_in_secret(&world, &evidence, &url).await;
        assert_eq!(job.error.expect("an error").code, RemoteNotAllowed);
    }
    // And no job at all.
    let letter = world
        .publish_raw("backstack.actions.web.sync_repo", Default::default(), b"{")
        .await;
    letter.unwrap();
    world.queue_empty().await;

    add_commands(&world, &evidence).await;
    world.client().flush().await.unwrap();
    add_nats(&world, &evidence).await;
    heard.abort();
    let output = worker.stop().await;
    assert!(
        output.stderr.contains("ls-remote") || output.stderr.contains("fetch"),
        "no trace of git in the log"
    );
    evidence.add("the log", output.stderr);
    evidence.add("standard output", output.stdout);
    evidence.add("what git is started with", fs::read(&shown).unwrap());
    evidence.add_directory(worker.state());
    assert_eq!(
        fs::read(&file).unwrap(),
        before,
        "the file of credentials was changed"
    );

    // What is to be silent was listened to.
    let helper = format!("--file='{}'", file.display());
    assert!(evidence.has("what git is started with", &helper));
    assert!(evidence.has("the list of processes", "remote-http"));
    assert!(evidence.has("the wire", "backstack_jobs"));
    evidence.assert_silent();
}

/// A job for a row that holds a password, which the test wrote and takes away again.
async fn forged_in_secret(world: &World, evidence: &Evidence, url: &str) -> Job {
    let row = json!({
        "repo": "typed", "remote_url": url, "trunk": "main",
        "created_at": "2026-11-22T10:00:00.000Z", "sync": {"status": "pending"},
    });
    let written = serde_json::to_vec(&row).unwrap();
    evidence.own.lock().unwrap().push(written);
    world.put_row(Bucket::Repos, "typed", &row).await;
    let job = world.run("typed", "sync_repo", "").await;
    let bucket = world.bucket(Bucket::Repos).await;
    bucket.purge("typed").await.unwrap();
    job
}

/// All that the command shows.
async fn add_commands(world: &World, evidence: &Evidence) {
    let mut commands: Vec<Vec<String>> = [
        "jobs --limit 0",
        "repo list",
        "stack web",
        "stack tells",
        "doctor",
    ]
    .iter()
    .map(|line| line.split(' ').map(str::to_owned).collect())
    .collect();
    let keys = world.bucket(Bucket::Jobs).await.keys().await.unwrap();
    let keys: Vec<_> = keys.collect().await;
    for key in keys {
        let key = key.unwrap();
        let (repo, id) = key.split_once('.').unwrap();
        commands.push(["job", "show", repo, id].map(str::to_owned).to_vec());
    }
    for command in commands {
        for more in [None, Some("--json".to_owned())] {
            let line: Vec<_> = command.iter().cloned().chain(more).collect();
            let shown = Program::start(world, "backstack", &line).output().await;
            evidence.add(format!("backstack {line:?}"), shown.stdout + &shown.stderr);
        }
    }
}

#[tokio::test]
async fn a_file_of_credentials_that_others_may_read_is_refused_at_the_start() {
    let world = World::start().await;
    let server = HttpServer::git(world.dir(), USER, GIT.0);
    let file = credentials(&world, &[(&server, GIT.1)]);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let flag = format!("--credentials={}", file.display());
    let worker = Worker::launch(&world, &[&flag]);
    let output = worker.program().output().await;
    assert_eq!(output.code, 2, "{output:?}");
    let told = format!(
        "mode 0644, so that others than its owner may read or change it; take that away: chmod 600 {}",
        file.display()
    );
    assert!(output.stderr.contains(&told), "{}", output.stderr);
    assert!(!output.stderr.contains(GIT.1), "{}", output.stderr);
}

/// A token that is changed takes effect with the next job, and a file that breaks is told of.
#[tokio::test]
async fn a_changed_password_is_used_without_a_restart() {
    let world = World::start().await;
    let remote = world.remote("web");
    remote.config("http.receivepack", "true");
    let server = HttpServer::git(world.dir(), USER, GIT.0);
    let file = credentials(&world, &[(&server, WRONG.1)]);
    let flag = format!("--credentials={}", file.display());
    let _worker = Worker::start(
        &world,
        &["--allow-protocol=http", "--max-attempts=1", &flag],
    )
    .await;
    world.add_repo("web", &server.url("web.git")).await;
    let job = world.run("web", "sync_repo", "").await;
    assert_eq!(
        job.error.expect("an error").code,
        ErrorCode::RemoteAuthFailed
    );
    credentials(&world, &[(&server, GIT.1)]);
    let job = world.run("web", "sync_repo", "").await;
    assert_eq!(job.status, JobStatus::Completed, "{job:#?}");
    fs::write(&file, format!("http://{USER}:{}@\n", GIT.1)).unwrap();
    let job = world.run("web", "sync_repo", "").await;
    assert_eq!(job.status, JobStatus::Error);
    assert!(
        job.message.contains("line 1") && !job.message.contains(GIT.1),
        "{}",
        job.message
    );
}

/// Git itself sends such a header to whatever host it was redirected to.
#[tokio::test]
async fn a_header_of_the_operators_goes_to_no_other_host() {
    let world = World::start().await;
    let _remote = world.remote("web");
    let root = world.dir().to_owned();
    let other = HttpServer::start(move |request| git_backend(&root, request));
    let to = other.url("web.git/info/refs?service=git-upload-pack");
    let redirects = HttpServer::start(move |_| Response::redirect(&to));
    let config = world.dir().join("operator.gitconfig");
    let header = STANDARD.encode(format!("{USER}:{}", GIT.0));
    let text = format!(
        "[http \"http://{}/\"]\n\textraHeader = Authorization: Basic {header}\n",
        redirects.authority()
    );
    fs::write(&config, text).unwrap();
    let flag = format!("--git-config={}", config.display());
    let _worker = Worker::start(&world, &["--allow-protocol=http", &flag]).await;
    let url = redirects.url("web.git");
    let job = ended(
        &world,
        "web",
        &url,
        "sync_repo",
        ErrorCode::RemoteNotAllowed,
    )
    .await;
    assert!(
        job.message.contains("the URL it redirects to"),
        "{}",
        job.message
    );
    assert!(!redirects.asked().is_empty());
    assert!(other.asked().is_empty(), "{:?}", other.asked());
}
