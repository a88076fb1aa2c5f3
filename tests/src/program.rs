//! The real programs, `backstackd` and `backstack`, as processes of their own.
//!
//! They get a cleared environment, write what they say to files in the world's directory, and end
//! with the value that stands for them. Where a test fails, what they said on standard error is
//! printed.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use backstack_consumer::dev::nats_server;
use backstack_consumer::dev::process::Process;

use crate::rows::DEADLINE;
use crate::world::{self, World};

/// The directory with the programs, where they were built elsewhere.
const BIN_DIR: &str = "BACKSTACK_TEST_BIN_DIR";

/// How long a worker may take to end that was asked to; longer than its own drain.
const STOP_WITHIN: Duration = Duration::from_secs(60);

/// How long between two questions whether something has come about.
const ASK_AGAIN: Duration = Duration::from_millis(10);

/// A program with its output in files.
#[derive(Debug)]
pub struct Program {
    name: String,
    process: Arc<Process>,
    stdout: PathBuf,
    stderr: PathBuf,
}

/// What a program left behind.
#[derive(Clone, Debug)]
pub struct Output {
    /// Its exit code; minus the signal that ended it.
    pub code: i32,
    /// All of its standard output.
    pub stdout: String,
    /// All of its standard error.
    pub stderr: String,
}

impl Program {
    /// Starts `backstackd` or `backstack` in a world.
    pub fn start<S: AsRef<OsStr>>(world: &World, binary: &str, arguments: &[S]) -> Self {
        Self::start_with(world, binary, arguments, &[])
    }

    /// The same with more variables than a program of ours gets.
    pub fn start_with<S: AsRef<OsStr>>(
        world: &World,
        binary: &str,
        arguments: &[S],
        variables: &[(&str, &OsStr)],
    ) -> Self {
        Self::start_through(world, &[], binary, arguments, variables)
    }

    /// The same by way of `starter`, another program and its arguments, which becomes the program.
    pub fn start_through<S: AsRef<OsStr>>(
        world: &World,
        starter: &[OsString],
        binary: &str,
        arguments: &[S],
        variables: &[(&str, &OsStr)],
    ) -> Self {
        let name = format!("{binary}-{}", world.next_number());
        let program = binaries().join(binary);
        let mut command = match starter.split_first() {
            None => Command::new(program),
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
        };
        command.args(arguments);
        Self::run_with(world, name, command, variables)
    }

    /// Starts a script that calls the programs by their names, with more variables than a program
    /// of ours gets.
    pub fn script(world: &World, path: &Path, variables: &[(&str, &OsStr)]) -> Self {
        let name = format!("script-{}", world.next_number());
        let mut command = Command::new("bash");
        command.arg(path);
        Self::run_with(world, name, command, variables)
    }

    fn run_with(
        world: &World,
        name: String,
        mut command: Command,
        variables: &[(&str, &OsStr)],
    ) -> Self {
        let stdout = world.dir().join(format!("{name}.out"));
        let stderr = world.dir().join(format!("{name}.err"));
        let file = |path: &Path| File::create(path).expect("a file for output");
        set_environment(&mut command, world);
        command
            .envs(variables.iter().copied())
            .current_dir(world.dir())
            .stdin(Stdio::null())
            .stdout(file(&stdout))
            .stderr(file(&stderr));
        let process = Process::spawn(command).unwrap_or_else(|error| panic!("{name}: {error}"));
        let process = Arc::new(process);
        Self {
            name,
            process,
            stdout,
            stderr,
        }
    }

    /// The process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// What it has written to standard output so far.
    pub fn stdout(&self) -> String {
        read(&self.stdout)
    }

    /// Waits until it has written `count` whole lines to standard output; the last of them.
    pub async fn line(&self, count: usize) -> String {
        let until = Instant::now() + DEADLINE;
        loop {
            // Asked first: what ends writes its last lines before.
            let has_ended = self.process.ended().is_some();
            let written = self.stdout();
            let mut whole = written
                .split_inclusive('\n')
                .filter(|line| line.ends_with('\n'));
            if let Some(line) = count.checked_sub(1).and_then(|before| whole.nth(before)) {
                return line.trim_end().to_owned();
            }
            assert!(
                Instant::now() < until && !has_ended,
                "{} has not written {count} lines but {written:?}",
                self.name
            );
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> String {
        read(&self.stderr)
    }

    /// Waits until it ends by itself.
    pub async fn output(&self) -> Output {
        let Ok(status) = tokio::time::timeout(DEADLINE, self.process.wait()).await else {
            panic!(
                "{} still runs after {DEADLINE:?}; it said {:?}",
                self.name,
                self.stdout()
            );
        };
        Output {
            code: code(status),
            stdout: self.stdout(),
            stderr: self.stderr(),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "---- {} said on standard error:\n{}----",
                self.name,
                self.stderr()
            );
        }
    }
}

/// A running `backstackd run`.
#[derive(Debug)]
pub struct Worker {
    program: Program,
    state: PathBuf,
}

impl Worker {
    /// Starts a worker with a state directory of its own and waits until it pulls at every
    /// consumer. `arguments` go after the harness's own; the ack wait and the replicas are the
    /// world's.
    pub async fn start(world: &World, arguments: &[&str]) -> Self {
        let worker = Self::launch(world, arguments);
        worker.ready(world).await;
        worker
    }

    /// The same with more variables than a program of ours gets.
    pub async fn start_with(
        world: &World,
        arguments: &[&str],
        variables: &[(&str, &OsStr)],
    ) -> Self {
        let state = world.dir().join(format!("state-{}", world.next_number()));
        let worker = Self::launch_with(world, &state, arguments, variables);
        worker.ready(world).await;
        worker
    }

    /// Starts a worker without waiting, for tests in which it cannot get ready.
    pub fn launch(world: &World, arguments: &[&str]) -> Self {
        let state = world.dir().join(format!("state-{}", world.next_number()));
        Self::launch_on(world, &state, arguments)
    }

    /// Starts a worker on the state directory of an earlier one, without waiting.
    pub fn launch_on(world: &World, state: &Path, arguments: &[&str]) -> Self {
        Self::launch_with(world, state, arguments, &[])
    }

    /// The same with more variables than a worker gets.
    pub fn launch_with(
        world: &World,
        state: &Path,
        arguments: &[&str],
        variables: &[(&str, &OsStr)],
    ) -> Self {
        Self::launch_through(world, &[], state, arguments, variables)
    }

    /// The same by way of `starter`, see [`Program::start_through`].
    pub fn launch_through(
        world: &World,
        starter: &[OsString],
        state: &Path,
        arguments: &[&str],
        variables: &[(&str, &OsStr)],
    ) -> Self {
        let choices = world.choices();
        let own = [
            "run".to_owned(),
            format!("--state-dir={}", state.display()),
            format!("--replicas={}", choices.replicas),
            format!("--ack-wait={}", duration(choices.ack_wait)),
            "--committer=Backstack <backstack@example.com>".to_owned(),
            "--allow-protocol=file".to_owned(),
        ];
        let arguments: Vec<_> = own
            .iter()
            .map(String::as_str)
            .chain(arguments.iter().copied())
            .collect();
        let program = Program::start_through(world, starter, "backstackd", &arguments, variables);
        world.count_worker(&program.process);
        Self {
            program,
            state: state.to_owned(),
        }
    }

    /// Waits until this worker and all others of the world pull at every consumer.
    pub async fn ready(&self, world: &World) {
        let until = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.program.process.ended() {
                panic!("the worker ended with {status} instead of getting ready");
            }
            let workers = world.live_workers();
            let waiting = world.fewest_waiting_pulls().await;
            if waiting.is_some_and(|waiting| waiting >= workers) {
                return;
            }
            assert!(
                Instant::now() < until,
                "{workers} workers, but {waiting:?} pulls wait"
            );
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    /// Waits until it has said something on standard error.
    pub async fn said(&self, what: &str) {
        let until = Instant::now() + DEADLINE;
        while !self.program.stderr().contains(what) {
            assert!(Instant::now() < until, "the worker never said {what:?}");
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.program.process.pid()
    }

    /// Its state directory, for [`launch_on`](Self::launch_on).
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Its process and what it says.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Lets it drain (SIGTERM) and waits until it has ended.
    pub async fn stop(&self) -> Output {
        self.program.process.terminate();
        let Ok(output) = tokio::time::timeout(STOP_WITHIN, self.program.output()).await else {
            panic!("the worker still runs {STOP_WITHIN:?} after it was asked to end");
        };
        output
    }

    /// Kills it without warning.
    pub async fn kill9(&self) {
        self.program.process.kill9().await;
    }

    /// Stops it from running, as a suspended machine would.
    pub fn pause(&self) {
        self.program.process.pause();
    }

    /// Lets it run on.
    pub fn resume(&self) {
        self.program.process.resume();
    }
}

impl World {
    /// Runs `backstack` to its end.
    pub async fn backstack<S: AsRef<OsStr>>(&self, arguments: impl AsRef<[S]>) -> Output {
        Program::start(self, "backstack", arguments.as_ref())
            .output()
            .await
    }

    /// Starts `backstack` and leaves it running, to interrupt it.
    pub fn start_backstack<S: AsRef<OsStr>>(&self, arguments: impl AsRef<[S]>) -> Program {
        Program::start(self, "backstack", arguments.as_ref())
    }
}

/// Writes a script that can be run.
///
/// In a process of its own: were the file open for writing here while another test's thread forks, it
/// could not be run.
pub fn write_script(file: &Path, script: &str) {
    let mut sh = Command::new("sh")
        .args(["-c", "cat >\"$1\" && chmod 755 \"$1\"", "sh"])
        .arg(file)
        .stdin(Stdio::piped())
        .spawn()
        .expect("sh");
    let mut input = sh.stdin.take().expect("a pipe");
    input
        .write_all(script.as_bytes())
        .expect("a written script");
    drop(input);
    let written = sh.wait().expect("sh").success();
    assert!(written, "{} was not written", file.display());
}

/// As a flag takes it.
fn duration(span: Duration) -> String {
    if span.subsec_nanos() == 0 {
        format!("{}s", span.as_secs())
    } else {
        format!("{}ms", span.as_millis())
    }
}

/// Nothing of this machine but where its programs are.
fn set_environment(command: &mut Command, world: &World) {
    let passed_on = ["PATH", "RUST_LOG", "LLVM_PROFILE_FILE"];
    command.env_clear();
    for name in passed_on {
        command.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    command
        .env("HOME", world.dir())
        .env("TMPDIR", world.dir())
        .env("LC_ALL", "C.UTF-8")
        .env("TZ", "UTC")
        .env("COLUMNS", "100")
        .env("RUST_BACKTRACE", "1")
        .env("NATS_URL", world.nats_url())
        // The cache is under `HOME`, and empty.
        .env(nats_server::ENV_VAR, &world::nats_server().path);
}

/// Where `backstack` and `backstackd` are, built if they are not there or older than this test.
///
/// Cargo builds a test's own package and the libraries under it, not other packages' programs.
pub fn binaries() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| {
        if let Some(elsewhere) = std::env::var_os(BIN_DIR) {
            return PathBuf::from(elsewhere);
        }
        let test = std::env::current_exe().expect("this test's program");
        let directory = test
            .ancestors()
            .nth(2)
            .expect("the target directory")
            .to_owned();
        let built = |path: &Path| {
            path.metadata()
                .and_then(|metadata| metadata.modified())
                .ok()
        };
        let fresh = |name: &str| built(&directory.join(name)) > built(&test);
        if !["backstack", "backstackd"].into_iter().all(fresh) {
            build(&directory);
        }
        directory
    })
}

fn build(directory: &Path) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // What cargo told this test of its package is not what it tells a build: packages that look at it
    // would be built anew, with all that stands on them, each time.
    let told = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_"];
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if told.iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(&*name);
        }
    }
    command
        .args(["build", "--workspace", "--bins", "--quiet"])
        .arg("--manifest-path")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"));
    command
        .arg("--target-dir")
        .arg(directory.parent().unwrap_or(directory));
    if directory.ends_with("release") {
        command.arg("--release");
    }
    let status = command
        .status()
        .unwrap_or_else(|error| panic!("cargo: {error}"));
    assert!(status.success(), "the programs cannot be built: {status}");
}

fn read(path: &Path) -> String {
    let bytes = std::fs::read(path).expect("the output");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// As a shell's `$?`, but minus the signal where one ended it.
fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status
        .code()
        .or_else(|| status.signal().map(|signal| -signal))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{Options, processes_naming};

    async fn blank() -> World {
        World::with(Options {
            blank: true,
            ..Options::default()
        })
        .await
    }

    fn sh(world: &World, script: &str) -> Program {
        let mut command = Command::new("sh");
        // The last argument lets the process be found by the world's directory.
        command.args(["-c", script, "sh"]).arg(world.dir());
        Program::run_with(world, "sh".to_owned(), command, &[])
    }

    #[tokio::test]
    async fn what_a_program_says_and_how_it_ends_is_kept() {
        let world = blank().await;
        let output = sh(&world, "echo out; echo err >&2; exit 3").output().await;
        assert_eq!(
            (output.code, output.stdout.as_str(), output.stderr.as_str()),
            (3, "out\n", "err\n")
        );
        let output = sh(&world, "kill -9 $$").output().await;
        assert_eq!(output.code, -9);
    }

    #[tokio::test]
    async fn a_program_sees_a_cleared_environment() {
        let world = blank().await;
        let output = sh(
            &world,
            "env | cut -d= -f1 | grep -vx 'PWD\\|SHLVL\\|_\\|OLDPWD' | sort",
        )
        .output()
        .await;
        let seen: Vec<_> = output.stdout.lines().collect();
        let mut expected = vec![
            "BACKSTACK_NATS_SERVER",
            "COLUMNS",
            "HOME",
            "LC_ALL",
            "NATS_URL",
            "PATH",
            "RUST_BACKTRACE",
            "TMPDIR",
            "TZ",
        ];
        expected.extend(
            ["LLVM_PROFILE_FILE", "RUST_LOG"]
                .iter()
                .filter(|name| std::env::var_os(name).is_some()),
        );
        expected.sort_unstable();
        assert_eq!(seen, expected);
    }

    #[tokio::test]
    async fn a_panic_leaves_no_process_and_no_directory() {
        let (tell, told) = std::sync::mpsc::channel();
        let failed = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.expect("a runtime").block_on(async {
                let world = blank().await;
                let _program = sh(&world, "sleep 600 & wait");
                let found = world.processes().len();
                tell.send((world.dir().to_owned(), found))
                    .expect("a listener");
                panic!("as a failing test does");
            });
        });
        assert!(failed.join().is_err());
        let (dir, found) = told.recv().expect("a world");
        assert!(found > 0 || !cfg!(target_os = "linux"), "the program ran");
        assert!(!dir.exists());
        assert_eq!(processes_naming(&dir), []);
    }
}
