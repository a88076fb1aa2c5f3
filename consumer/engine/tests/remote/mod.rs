//! Real bare remotes for tests, made and changed with the git command alone.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use backstack_engine::git::{Git, RemotePolicy};
use backstack_engine::mirror::{Mirror, MirrorStore, RefUpdate};
use backstack_engine::{Control, EngineError};
use backstack_schemas::remote::Protocol;
use backstack_schemas::{BranchName, ObjectId, RemoteUrl, RepoId};
use tempfile::TempDir;

/// Longest that anything is waited for.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A bare remote in a directory of its own, with room for a state directory beside it.
pub struct Remote {
    dir: TempDir,
}

impl Remote {
    /// An empty one; its `HEAD` names `main`.
    pub fn empty() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let remote = Self { dir };
        let path = remote.path();
        run(git_in(remote.dir.path())
            .args(["init", "-q", "--bare", "-b", "main"])
            .arg(path));
        remote
    }

    /// One with a first commit on `main` and on each of the branches.
    pub fn with_branches(branches: &[&str]) -> Self {
        let remote = Self::empty();
        let first = remote.commit(&[], "first");
        remote.set("main", first);
        for branch in branches {
            remote.set(branch, first);
        }
        remote
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("remote.git")
    }

    pub fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub fn url(&self) -> RemoteUrl {
        self.path().to_str().unwrap().parse().unwrap()
    }

    /// A commit in the remote, with a file that holds the message; no ref names it yet.
    pub fn commit(&self, parents: &[ObjectId], message: &str) -> ObjectId {
        commit_in(&self.path(), parents, message)
    }

    pub fn set(&self, branch: &str, id: ObjectId) {
        self.git(&[
            "update-ref",
            &format!("refs/heads/{branch}"),
            &id.to_string(),
        ]);
    }

    pub fn delete(&self, branch: &str) {
        self.git(&["update-ref", "-d", &format!("refs/heads/{branch}")]);
    }

    /// Where the branch is now.
    pub fn head(&self, branch: &str) -> Option<ObjectId> {
        let name = format!("refs/heads/{branch}");
        let output = self.try_git(&["rev-parse", "--verify", "-q", &name]);
        String::from_utf8(output.stdout)
            .unwrap()
            .trim()
            .parse()
            .ok()
    }

    /// Runs git in the remote; what it printed.
    pub fn git(&self, arguments: &[&str]) -> String {
        run(git_in(&self.path()).args(arguments))
    }

    pub fn try_git(&self, arguments: &[&str]) -> Output {
        git_in(&self.path()).args(arguments).output().unwrap()
    }

    /// Runs `git update-ref --stdin` in the remote.
    pub fn update_refs(&self, orders: &str) {
        feed(git_in(&self.path()).args(["update-ref", "--stdin"]), orders);
    }

    /// Installs a hook of the remote's.
    pub fn hook(&self, name: &str, body: &str) {
        install_hook(&self.path(), name, body);
    }

    pub fn unhook(&self, name: &str) {
        fs::remove_file(self.path().join("hooks").join(name)).unwrap();
    }

    pub fn store(&self) -> MirrorStore {
        self.store_with(file_policy(), None)
    }

    pub fn store_with(&self, policy: RemotePolicy, budget: Option<u64>) -> MirrorStore {
        open_store(&self.state_dir(), policy, budget)
    }

    /// The mirror of this remote as repository `web`.
    pub fn mirror(&self, store: &MirrorStore) -> Mirror {
        store.mirror(&web(), &self.url(), &patient()).unwrap()
    }

    /// A mirror that has fetched, in a store of its own.
    pub fn fetched(&self) -> Mirror {
        let mut mirror = self.mirror(&self.store());
        fetch(&mut mirror);
        mirror
    }
}

/// Takes the state directory as soon as it is free. A process that another test is just starting
/// has a copy of every open file, a lock that was let go among them, until it becomes another one.
pub fn open_store(dir: &Path, policy: RemotePolicy, budget: Option<u64>) -> MirrorStore {
    wait_for(|| {
        let git = Git::discover(None).unwrap();
        match MirrorStore::open(dir, git, policy.clone(), budget) {
            Ok(store) => Some(store),
            Err(EngineError::StateDirInUse { .. }) => None,
            Err(error) => panic!("{error}"),
        }
    })
}

/// Makes an executable hook in a bare repository.
pub fn install_hook(repo: &Path, name: &str, body: &str) {
    let hooks = repo.join("hooks");
    fs::create_dir_all(&hooks).unwrap();
    let file = hooks.join(name);
    fs::write(&file, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A commit in any bare repository.
pub fn commit_in(repo: &Path, parents: &[ObjectId], message: &str) -> ObjectId {
    let blob = feed(git_in(repo).args(["hash-object", "-w", "--stdin"]), message);
    let tree = feed(
        git_in(repo).arg("mktree"),
        &format!("100644 blob {blob}\tfile\n"),
    );
    let mut command = git_in(repo);
    command.args(["commit-tree", "-m", message, &tree]);
    for parent in parents {
        command.args(["-p", &parent.to_string()]);
    }
    run(&mut command).parse().unwrap()
}

/// Fetches without interest in progress.
pub fn fetch(mirror: &mut Mirror) -> backstack_engine::mirror::Fetched {
    mirror.fetch(&patient(), &mut |_, _| {}).unwrap()
}

pub fn web() -> RepoId {
    "web".parse().unwrap()
}

pub fn branch(name: &str) -> BranchName {
    name.parse().unwrap()
}

pub fn update(name: &str, from: ObjectId, to: ObjectId) -> RefUpdate {
    RefUpdate {
        branch: branch(name),
        from,
        to,
    }
}

pub fn patient() -> Control {
    Control::within(PATIENCE)
}

pub fn file_policy() -> RemotePolicy {
    RemotePolicy {
        allow_protocols: vec![Protocol::File],
        ..RemotePolicy::default()
    }
}

/// Git with nothing of this machine's user in it.
pub fn git_in(dir: &Path) -> Command {
    let mut command = Command::new("git");
    command
        .current_dir(dir)
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null");
    for who in ["AUTHOR", "COMMITTER"] {
        command
            .env(format!("GIT_{who}_NAME"), "Ann")
            .env(format!("GIT_{who}_EMAIL"), "ann@example.com")
            .env(format!("GIT_{who}_DATE"), "1700000000 +0000");
    }
    command
}

/// Runs it; what it printed, trimmed.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn feed(command: &mut Command, input: &str) -> String {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{command:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Waits until there is something.
pub fn wait_for<T>(mut ready: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(Instant::now() < until, "waited in vain");
        std::thread::sleep(Duration::from_millis(5));
    }
}
