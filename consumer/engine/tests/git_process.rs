//! The git command against real processes: conversations, deadlines, kills, and what it may read.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use backstack_engine::git::{FailureKind, Git, RemotePolicy};
use backstack_engine::{Control, EngineError};
use backstack_schemas::RemoteUrl;
use backstack_schemas::remote::Protocol;
use tempfile::TempDir;

/// Longest that anything here is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn converses_with_a_long_lived_git() {
    let (_dir, repo, git) = bare();
    let control = Control::within(PATIENCE);
    let mut process = git
        .command(&repo)
        .args(["cat-file", "--batch-check"])
        .spawn()
        .unwrap();
    for _ in 0..3 {
        process.send(b"nothing\n", &control).unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\n") {
            assert_ne!(process.receive(&mut answer, &control).unwrap(), 0);
        }
        assert_eq!(answer, b"nothing missing\n");
    }
    let output = process.finish(&control).unwrap();
    assert!(output.success() && output.stdout.is_empty());
}

#[test]
fn more_than_a_pipe_holds_goes_both_ways() {
    let (_dir, repo, git) = bare();
    let input = "nothing\n".repeat(20_000);
    let output = git
        .command(&repo)
        .args(["cat-file", "--batch-check"])
        .input(input)
        .run(&Control::within(PATIENCE))
        .unwrap();
    assert!(output.success());
    assert_eq!(output.stdout.len(), "nothing missing\n".len() * 20_000);
}

#[test]
fn the_end_of_the_other_side_is_an_error_that_says_why() {
    let (_dir, repo, git) = bare();
    let control = Control::within(PATIENCE);
    let mut process = git
        .command(&repo)
        .args(["cat-file", "--no-such-option"])
        .spawn()
        .unwrap();
    let mut output = Vec::new();
    assert_eq!(process.receive(&mut output, &control).unwrap(), 0);
    // What is sent before the kernel knows of the end may still be taken.
    let error = wait_for(|| process.send(b"nothing\n", &control).err());
    assert!(error.to_string().contains("no-such-option"), "{error}");
    assert_eq!(process.finish(&control).unwrap().code(), Some(129));
}

#[test]
fn a_hanging_server_ends_at_the_deadline() {
    let (_dir, repo, git) = bare();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("git://{}/a", server.local_addr().unwrap());
    let begun = Instant::now();
    let error = git
        .wire_command(&repo, &allowing(Protocol::Git), &somewhere())
        .unwrap()
        .args(["ls-remote", "--end-of-options", &url])
        .run(&Control::within(Duration::from_millis(300)))
        .unwrap_err();
    assert!(matches!(error, EngineError::Timeout), "{error}");
    assert!(begun.elapsed() < PATIENCE);
}

#[test]
fn stopping_kills_what_git_started_even_where_it_ignores_signals() {
    let (dir, repo, git) = bare();
    let policy = hanging_ssh(dir.path());
    let control = Control::unbounded();
    let stopper = control.clone();
    let pid_file = dir.path().join("ssh.pid");
    let ssh = thread::scope(|scope| {
        let pid_file = &pid_file;
        let ssh = scope.spawn(move || {
            let pid = wait_for(|| {
                fs::read_to_string(pid_file)
                    .ok()?
                    .trim()
                    .parse::<u32>()
                    .ok()
            });
            stopper.stop();
            pid
        });
        let error = git
            .wire_command(&repo, &policy, &somewhere())
            .unwrap()
            .args(["ls-remote", "--end-of-options", "git.example:a"])
            .run(&control)
            .unwrap_err();
        assert!(matches!(error, EngineError::Stopped), "{error}");
        ssh.join().unwrap()
    });
    wait_for(|| (!is_alive(ssh)).then_some(()));
}

/// Plays both parts: as a child of itself it starts a git that hangs, and is then killed.
#[test]
fn git_dies_with_a_process_that_is_killed() {
    const DIR: &str = "BACKSTACK_TEST_DIR";
    if let Some(dir) = std::env::var_os(DIR) {
        let dir = PathBuf::from(dir);
        let git = Git::discover(None).unwrap();
        let process = git
            .wire_command(&dir.join("a.git"), &hanging_ssh(&dir), &somewhere())
            .unwrap()
            .args(["ls-remote", "--end-of-options", "git.example:a"])
            .spawn()
            .unwrap();
        fs::write(dir.join("git.pid"), process.id().to_string()).unwrap();
        process.finish(&Control::unbounded()).unwrap();
        return;
    }
    let (dir, _, _) = bare();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "git_dies_with_a_process_that_is_killed"])
        .env(DIR, dir.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let read = |name: &str| {
        let file = dir.path().join(name);
        wait_for(|| fs::read_to_string(&file).ok()?.trim().parse::<u32>().ok())
    };
    let git = read("git.pid");
    let ssh = read("ssh.pid");
    assert!(is_alive(git));
    child.kill().unwrap();
    child.wait().unwrap();
    wait_for(|| (!is_alive(git)).then_some(()));
    // The fake ssh ignores every polite signal; nobody else is left to end it.
    let ssh = rustix::process::Pid::from_raw(ssh.try_into().unwrap()).unwrap();
    rustix::process::kill_process(ssh, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn a_command_without_a_policy_may_talk_to_nobody() {
    let (dir, repo, git) = bare();
    for url in [dir.path().to_str().unwrap(), "https://git.example/a"] {
        let output = git
            .command(&repo)
            .args(["ls-remote", "--end-of-options", url])
            .run(&Control::within(PATIENCE))
            .unwrap();
        assert_eq!(output.failure().kind, FailureKind::NotAllowed, "{url}");
    }
}

#[test]
fn a_helper_or_a_protocol_that_is_not_allowed_is_never_run() {
    let (dir, repo, git) = bare();
    let trace = dir.path().join("ran");
    let ext = format!("ext::touch {}", trace.display());
    for url in [ext.as_str(), "file:///srv/a", "-u"] {
        let output = git
            .wire_command(&repo, &allowing(Protocol::Https), &somewhere())
            .unwrap()
            .args(["ls-remote", "--end-of-options", url])
            .run(&Control::within(PATIENCE))
            .unwrap();
        assert_eq!(output.failure().kind, FailureKind::NotAllowed, "{url}");
    }
    assert!(!trace.exists());
}

#[test]
fn the_operators_file_is_read_and_the_engines_settings_stand_above_it() {
    let (dir, repo, git) = bare();
    let file = dir.path().join("operator.gitconfig");
    fs::write(
        &file,
        "[http]\n\tproxy = http://proxy.example\n[core]\n\thooksPath = /evil\n",
    )
    .unwrap();
    let policy = RemotePolicy {
        git_config: Some(file),
        ..RemotePolicy::default()
    };
    let read = |command: backstack_engine::git::GitCommand, key: &str| {
        let output = command
            .args(["config", "--get", key])
            .run(&Control::within(PATIENCE))
            .unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let wire = || git.wire_command(&repo, &policy, &somewhere()).unwrap();
    assert_eq!(read(wire(), "http.proxy"), "http://proxy.example");
    assert_eq!(read(wire(), "core.hooksPath"), "/dev/null");
    assert_eq!(read(git.command(&repo), "http.proxy"), "");
}

#[test]
fn what_git_says_is_scrubbed_and_bounded() {
    let (_dir, repo, git) = bare();
    let mut policy = allowing(Protocol::Https);
    policy.secrets.add("hush-hush");
    let mut lines = Vec::new();
    let output = git
        .wire_command(&repo, &policy, &somewhere())
        .unwrap()
        .arg(format!("no-such-command-hush-hush{}", "x".repeat(100_000)))
        .run_watching(&Control::within(PATIENCE), &mut |line| {
            lines.push(line.to_owned());
        })
        .unwrap();
    assert!(!output.success());
    assert!(output.stderr.len() <= 64 * 1024 && !output.stderr.is_empty());
    assert!(lines.iter().all(|line| !line.contains("hush-hush")));
    assert!(!output.stderr.contains("hush-hush"));
}

fn bare() -> (TempDir, PathBuf, Git) {
    let dir = tempfile::tempdir().unwrap();
    let repo = dir.path().join("a.git");
    git2::Repository::init_bare(&repo).unwrap();
    (dir, repo, Git::discover(None).unwrap())
}

/// A remote that has no credentials.
fn somewhere() -> RemoteUrl {
    "https://git.example/a.git".parse().unwrap()
}

fn allowing(protocol: Protocol) -> RemotePolicy {
    RemotePolicy {
        allow_protocols: vec![protocol],
        ..RemotePolicy::default()
    }
}

/// A policy whose ssh writes its process id to `ssh.pid` and then hangs, whatever it is sent.
fn hanging_ssh(dir: &Path) -> RemotePolicy {
    let script = dir.join("ssh");
    let pid_file = dir.join("ssh.pid");
    let body = format!(
        "#!/bin/sh\ntrap '' TERM HUP INT PIPE\necho $$ >'{0}.new' && mv '{0}.new' '{0}'\n\
         while :; do sleep 1; done\n",
        pid_file.display()
    );
    fs::write(&script, body).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let mut policy = allowing(Protocol::Ssh);
    policy.environment = vec![("GIT_SSH_COMMAND".into(), script.into())];
    policy
}

/// Whether the process exists and is not merely waiting to be reaped.
fn is_alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        let state = stat.rsplit(") ").next().unwrap_or_default();
        !state.starts_with('Z')
    })
}

fn wait_for<T>(mut ready: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(Instant::now() < until, "waited in vain");
        thread::sleep(Duration::from_millis(5));
    }
}
