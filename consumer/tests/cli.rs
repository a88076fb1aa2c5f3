//! The command `backstackd` as people meet it: real processes, real exit codes, real output.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use backstack_consumer::dev::nats_server::{self, NatsServer, PrivateServer, ServerOptions};
use backstack_producer::{Client, ConnectOptions, connect};
use backstack_schemas::Action;
use rustix::process::{Pid, Signal};
use tempfile::TempDir;

/// Nothing here takes longer, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// `backstackd` in a directory that is no repository, with hardly any environment.
fn backstackd(dir: &TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_backstackd"));
    command
        .args(arguments)
        .current_dir(dir.path())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("TMPDIR", dir.path())
        .env("BACKSTACK_NATS_SERVER", &server().path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(File::create(dir.path().join("stderr")).unwrap());
    command
}

fn server() -> NatsServer {
    nats_server::find(None, &mut |line| eprintln!("{line}")).unwrap()
}

/// How a command ended and what it said.
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn run(dir: &TempDir, arguments: &[&str]) -> Ended {
    let mut running = Running::start(backstackd(dir, arguments));
    let mut stdout = String::new();
    running.stdout.read_to_string(&mut stdout).unwrap();
    let code = running.wait().code();
    let stderr = stderr(dir);
    Ended {
        code,
        stdout,
        stderr,
    }
}

fn stderr(dir: &TempDir) -> String {
    std::fs::read_to_string(dir.path().join("stderr")).unwrap()
}

/// A process that ends with the test.
struct Running {
    child: Child,
    stdout: BufReader<std::process::ChildStdout>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdout }
    }

    /// Reads what it prints up to the line that has `text`; that line.
    fn read_to(&mut self, text: &str) -> String {
        loop {
            let mut line = String::new();
            let length = self.stdout.read_line(&mut line).unwrap();
            assert_ne!(length, 0, "it ended without saying {text:?}");
            if line.contains(text) {
                return line;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        until("the process to end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until `is_so`, which another process brings about.
#[track_caller]
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The command lines of processes that name `dir`. Known on Linux only; elsewhere none.
fn processes_naming(dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let dir = dir.to_string_lossy();
    let lines = entries
        .flatten()
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(&*dir))
        .collect()
}

/// Whatever the demo made in its temporary directory is gone, and so are its processes.
fn assert_nothing_left(dir: &TempDir) {
    let left: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["stderr"]);
    // The remote's side of a push that was broken off ends by itself, a moment later.
    until("the demo's processes to be gone", || {
        processes_naming(dir.path()).is_empty()
    });
}

#[test]
fn help_names_every_command_and_flag_and_no_value_of_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    let help = run(&dir, &["--help"]);
    assert_eq!(help.code, Some(0));
    for command in ["run", "dev", "demo"] {
        assert!(help.stdout.contains(command), "{}", help.stdout);
        assert_eq!(run(&dir, &[command, "--help"]).code, Some(0));
    }
    let help = run(&dir, &["run", "--help"]);
    for flag in ["--nats-url", "--state-dir", "--ack-wait", "NATS_URL"] {
        assert!(help.stdout.contains(flag), "{}", help.stdout);
    }
}

#[test]
fn wrong_flags_are_named_and_exit_2() {
    let dir = tempfile::tempdir().unwrap();
    for arguments in [
        &["run", "--nosuch"][..],
        &["run", "--ack-wait", "5"],
        &["run", "--concurrency", "0"],
        &["run", "--nats-url", "ftp://nowhere"],
        &["dev", "--port", "70000"],
        &["nosuch"],
        &[],
    ] {
        let ended = run(&dir, arguments);
        assert_eq!(ended.code, Some(2), "{arguments:?}: {}", ended.stderr);
        assert!(!ended.stderr.is_empty(), "{arguments:?}");
        assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    }
}

#[test]
fn without_a_server_it_soon_exits_3_and_says_what_to_start() {
    let dir = tempfile::tempdir().unwrap();
    // Bound and never listening: connections to it are refused.
    let port = nats_server::Port::reserve(0).unwrap();
    let url = format!("nats://127.0.0.1:{}", port.number());
    let began = Instant::now();
    let ended = run(&dir, &["run", "--nats-url", &url]);
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    let address = url.trim_start_matches("nats://");
    assert!(ended.stderr.contains(address), "{}", ended.stderr);
    assert!(ended.stderr.contains("nats-server"), "{}", ended.stderr);
}

#[tokio::test]
async fn a_state_directory_has_one_worker() {
    let (dir, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let options = ServerOptions {
        dir: dir.path().join("nats"),
        name: "alone".to_owned(),
        ..ServerOptions::default()
    };
    let nats = PrivateServer::start(&server(), options).await.unwrap();
    let state = dir.path().join("state");
    let (url, state) = (nats.url(), state.to_str().unwrap());
    let arguments = ["run", "--nats-url", &url, "--state-dir", state];
    let mut first = Running::start(backstackd(&dir, &arguments));
    until("the first worker", || {
        stderr(&dir).contains("ready for work")
    });

    let ended = run(&second, &arguments);
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains(state), "{}", ended.stderr);
    let pid = first.child.id().to_string();
    assert!(ended.stderr.contains(&pid), "{}", ended.stderr);

    first.signal(Signal::TERM);
    assert_eq!(first.wait().code(), Some(0), "{}", stderr(&dir));
}

#[tokio::test]
async fn dev_says_where_nats_is_stops_when_told_and_keeps_what_there_was() {
    let (dir, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let state = dir.path().join("state");
    let arguments = ["dev", "--port", "0", "--state-dir", state.to_str().unwrap()];
    let repo = "web".parse().unwrap();

    let mut dev = Running::start(backstackd(&dir, &arguments));
    let url = dev.read_to("export NATS_URL=");
    until("the worker", || stderr(&dir).contains("ready for work"));
    let client = client_of(&url).await;
    let remote = "file:///nowhere/web.git".parse().unwrap();
    client.add_repo(&repo, remote, None).await.unwrap();

    let other = run(&second, &arguments);
    assert_eq!(other.code, Some(2), "{}", other.stderr);
    let pid = dev.child.id().to_string();
    assert!(other.stderr.contains(&pid), "{}", other.stderr);

    dev.signal(Signal::INT);
    assert_eq!(dev.wait().code(), Some(0), "{}", stderr(&dir));
    assert_eq!(processes_naming(dir.path()), Vec::<String>::new());

    let mut dev = Running::start(backstackd(&dir, &arguments));
    let url = dev.read_to("export NATS_URL=");
    let client = client_of(&url).await;
    assert!(client.repo(&repo).await.unwrap().is_some());
    dev.signal(Signal::TERM);
    assert_eq!(dev.wait().code(), Some(0), "{}", stderr(&dir));
}

#[tokio::test]
async fn a_second_signal_ends_dev_at_once_whatever_it_is_doing() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let arguments = ["dev", "--port", "0", "--state-dir", state.to_str().unwrap()];
    let mut dev = Running::start(backstackd(&dir, &arguments));
    let client = client_of(&dev.read_to("export NATS_URL=")).await;
    until("the worker", || stderr(&dir).contains("ready for work"));

    // A remote that takes connections and never says a word.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/web.git", silent.local_addr().unwrap());
    let repo = "web".parse().unwrap();
    let remote = url.parse().unwrap();
    client.add_repo(&repo, remote, None).await.unwrap();
    let sync = Action::SyncRepo { restack: false };
    client.publish(&repo, sync.into()).await.unwrap();
    let _connection = silent.accept().await.unwrap();

    dev.signal(Signal::INT);
    until("the first signal", || stderr(&dir).contains("told to stop"));
    dev.signal(Signal::INT);
    assert_eq!(dev.wait().code(), Some(130), "{}", stderr(&dir));
    until("everything it started to end", || {
        processes_naming(dir.path()).is_empty()
    });
}

/// A client of the server that `dev` names in this line.
async fn client_of(line: &str) -> Client {
    let (_, url) = line.trim().split_once('=').unwrap();
    let options = ConnectOptions::to(url);
    Client::new(connect(&options).await.unwrap(), options.topology())
}

#[test]
fn dev_names_the_port_that_is_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let ended = run(&dir, &["dev", "--port", &port]);
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains(&port), "{}", ended.stderr);
    assert!(ended.stderr.contains("--port"), "{}", ended.stderr);
}

#[test]
fn the_demo_tells_its_story_to_the_end_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let ended = run(&dir, &["demo"]);
    assert_eq!(ended.code, Some(0), "{}\n{}", ended.stdout, ended.stderr);
    assert_eq!(ended.stderr, "");
    for action in [
        "$ backstack sync web",
        "$ backstack register web",
        "$ backstack restack web --wait",
        "$ backstack restack web cart-discounts",
        "$ backstack rebase web",
        "$ backstack reparent web",
        "$ backstack unregister web",
        "$ kill -9",
        "both changed         src/price.js",
        "Attempt 2 of 5",
        "every branch was moved exactly once",
    ] {
        assert!(ended.stdout.contains(action), "{action}: {}", ended.stdout);
    }
    assert!(
        !ended.stdout.contains('\u{1b}'),
        "colours without a terminal"
    );
    assert_nothing_left(&dir);
}

#[test]
fn an_interrupted_demo_leaves_nothing() {
    for moment in [
        "1. A repository",
        "completed  login-form is tracked",
        "$ kill -9",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut demo = Running::start(backstackd(&dir, &["demo"]));
        demo.read_to(moment);
        demo.signal(Signal::INT);
        assert_eq!(demo.wait().code(), Some(130), "{}", stderr(&dir));
        assert_nothing_left(&dir);
    }
}

#[test]
fn a_demo_whose_reader_goes_away_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut demo = Running::start(backstackd(&dir, &["demo"]));
    demo.read_to("1. A repository");
    let nobody = Command::new("true").stdout(Stdio::piped()).spawn();
    let nobody = nobody.unwrap().stdout.take().unwrap();
    demo.stdout = BufReader::new(nobody);
    assert_eq!(demo.wait().code(), Some(1), "{}", stderr(&dir));
    assert_nothing_left(&dir);
}

/// As compose files leave it: the variable is there and says nothing, so the search goes on along PATH.
#[test]
fn an_empty_variable_names_no_nats_server() {
    let dir = tempfile::tempdir().unwrap();
    let bin = tempfile::tempdir().unwrap();
    let on_path = bin.path().join("nats-server");
    std::os::unix::fs::symlink("/bin/sh", &on_path).unwrap();
    let path = std::env::var_os("PATH").unwrap();
    let path = std::iter::once(bin.path().to_owned()).chain(std::env::split_paths(&path));
    let path = std::env::join_paths(path).unwrap();
    let state = dir.path().join("state");
    let dev = ["dev", "--port", "0", "--state-dir", state.to_str().unwrap()];
    for arguments in [&["demo"][..], &dev] {
        let mut command = backstackd(&dir, arguments);
        command.env("BACKSTACK_NATS_SERVER", "").env("PATH", &path);
        let mut running = Running::start(command);
        assert_eq!(running.wait().code(), Some(3), "{}", stderr(&dir));
        let found = format!("{} is no nats-server", on_path.display());
        assert!(stderr(&dir).contains(&found), "{}", stderr(&dir));
    }
}

#[test]
fn the_demo_says_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let ended = run(&dir, &["demo", "--nats-server", "/nowhere/nats-server"]);
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("/nowhere/nats-server"),
        "{}",
        ended.stderr
    );
    let mut without_git = backstackd(&dir, &["demo"]);
    without_git.env("PATH", dir.path());
    let mut running = Running::start(without_git);
    assert_eq!(running.wait().code(), Some(2), "{}", stderr(&dir));
    assert!(stderr(&dir).contains("git"), "{}", stderr(&dir));
    assert_nothing_left(&dir);
}
