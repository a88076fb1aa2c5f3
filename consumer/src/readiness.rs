//! Whether this worker can work, check by check: what `/readyz` and `/healthz` say.
//!
//! Ready means that a job that were published now could be run here. Each check that fails says what is
//! wrong and what to do. Nothing here waits for longer than about a second, and what costs something is
//! asked at most once a second, by however many at a time.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_nats::connection::State;
use backstack_engine::git::Git;
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::guard::Problem;
use crate::runner::Runner;

/// How long a check may take, where a disk or a server hangs.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long an answer counts.
const FRESH: Duration = Duration::from_secs(1);

/// What is written to try the state directory: more than a file system keeps beside the file's name.
const PROBE: [u8; 4_096] = [0; 4_096];

/// The answer to one question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub check: &'static str,
    /// Whether all is well.
    pub ok: bool,
    /// What is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// All answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether all is well.
    pub ready: bool,
    /// Each answer.
    pub checks: Vec<Check>,
}

impl Report {
    fn of(checks: Vec<Check>) -> Self {
        Self {
            ready: checks.iter().all(|check| check.ok),
            checks,
        }
    }

    /// What a worker says that has not connected yet.
    pub fn starting() -> Self {
        let problem = Problem {
            what: "the worker is starting".to_owned(),
            remedy: "wait; if it does not end, its log says what it waits for".to_owned(),
        };
        Self::of(vec![Check::of("started", vec![problem])])
    }
}

impl Check {
    fn of(check: &'static str, problems: Vec<Problem>) -> Self {
        let join = |part: fn(&Problem) -> &String| {
            let mut parts: Vec<_> = problems.iter().map(|p| part(p).as_str()).collect();
            parts.dedup();
            (!parts.is_empty()).then(|| parts.join("; "))
        };
        Self {
            check,
            ok: problems.is_empty(),
            problem: join(|problem| &problem.what),
            remedy: join(|problem| &problem.remedy),
        }
    }
}

/// Asks the questions.
#[derive(Debug)]
pub struct Readiness {
    runner: Arc<Runner>,
    state_dir: PathBuf,
    last: Mutex<Last>,
}

#[derive(Debug, Default)]
struct Last {
    report: Option<(Instant, Report)>,
    /// The git program as it was when it was last run, and found usable.
    usable_git: Option<Fingerprint>,
}

/// What changes when a program is replaced.
type Fingerprint = (u64, u64, i64, u64);

impl Readiness {
    /// Of the worker that `runner` is of, with its mirrors in `state_dir`.
    pub fn new(runner: Arc<Runner>, state_dir: PathBuf) -> Self {
        Self {
            runner,
            state_dir,
            last: Mutex::default(),
        }
    }

    /// Whether the process has to be started anew, and why.
    pub fn ended_tasks(&self) -> Vec<String> {
        self.runner.vitals.ended()
    }

    /// Every answer, none older than a second.
    pub async fn report(&self) -> Report {
        let mut last = self.last.lock().await;
        // A drain is told at once.
        let draining = self.runner.is_draining();
        if let Some((at, report)) = &last.report
            && at.elapsed() < FRESH
            && !draining
        {
            return report.clone();
        }
        let (topology, disk, git) = tokio::join!(
            self.topology(),
            self.state_dir(),
            self.git(last.usable_git.take()),
        );
        let (git, usable) = git;
        last.usable_git = usable;
        let report = Report::of(vec![
            Check::of("nats", self.connection()),
            Check::of("topology", topology),
            Check::of("pulls", self.pulls()),
            Check::of("state_dir", disk),
            Check::of("git", git),
            Check::of("drain", self.drain()),
        ]);
        last.report = Some((Instant::now(), report.clone()));
        report
    }

    fn connection(&self) -> Vec<Problem> {
        if self.runner.client.connection_state() == State::Connected {
            return Vec::new();
        }
        problem(
            "there is no connection to NATS; the worker keeps trying to get it back",
            "start the nats-server, or look at the network between",
        )
    }

    async fn topology(&self) -> Vec<Problem> {
        if self.runner.client.connection_state() != State::Connected {
            return problem("unknown without a connection", "see nats");
        }
        match tokio::time::timeout(PATIENCE * 2, self.runner.guard.problems()).await {
            Ok(problems) => problems,
            Err(_) => problem(
                "JetStream does not answer",
                "look at the nats-server and its log",
            ),
        }
    }

    fn pulls(&self) -> Vec<Problem> {
        let ended = self.runner.vitals.ended();
        if !ended.is_empty() {
            let what = format!("no longer running: {}", ended.join(", "));
            return problem(what, "start the worker anew; its log says what happened");
        }
        if self.runner.pulls.known() == 0 {
            return problem("no work has been asked for yet", "wait");
        }
        let refused = self.runner.pulls.refused();
        let Some((_, why)) = refused.first() else {
            return Vec::new();
        };
        let names: Vec<_> = refused.iter().map(|(name, _)| name.as_str()).collect();
        problem(
            format!("no work is given at {}: {why}", names.join(", ")),
            "it is asked for again and again; if it stays so, see topology, and this user's permissions",
        )
    }

    async fn state_dir(&self) -> Vec<Problem> {
        let dir = self.state_dir.clone();
        let what = match on_a_thread(move || probe(&dir)).await {
            Some(Ok(())) => return Vec::new(),
            Some(Err(error)) => error.to_string(),
            None => format!("the disk did not answer within {PATIENCE:?}"),
        };
        problem(
            format!(
                "the state directory {} cannot be written: {what}",
                self.state_dir.display()
            ),
            "free disk space, or give the worker's user the directory",
        )
    }

    /// The program is run only when it is another file than the one that was found usable.
    async fn git(&self, usable: Option<Fingerprint>) -> (Vec<Problem>, Option<Fingerprint>) {
        let program = self.runner.context.store().git_program().to_owned();
        let shown = program.display().to_string();
        let asked = on_a_thread(move || {
            let is = fingerprint(&program).map_err(|error| error.to_string())?;
            if Some(is) != usable {
                Git::discover(Some(program)).map_err(|error| error.to_string())?;
            }
            Ok::<_, String>(is)
        });
        let what = match asked.await {
            Some(Ok(is)) => return (Vec::new(), Some(is)),
            Some(Err(error)) => error,
            None => format!("{shown} did not answer within {PATIENCE:?}"),
        };
        let what = format!("git cannot be used: {shown}: {what}");
        (
            problem(what, "install git 2.45 or newer, or name it with --git"),
            None,
        )
    }

    fn drain(&self) -> Vec<Problem> {
        if self.runner.is_draining() {
            problem(
                "the worker is shutting down",
                "nothing; another one does the work",
            )
        } else {
            Vec::new()
        }
    }
}

fn problem(what: impl Into<String>, remedy: &str) -> Vec<Problem> {
    vec![Problem {
        what: what.into(),
        remedy: remedy.to_owned(),
    }]
}

/// `None` where it takes too long, or breaks. A thread that hangs is left behind.
async fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let done = tokio::time::timeout(PATIENCE, tokio::task::spawn_blocking(work)).await;
    done.ok()?.ok()
}

/// Writes a file and removes it.
fn probe(state_dir: &Path) -> io::Result<()> {
    let file = state_dir.join("mirrors").join(".probe");
    let written = fs::write(&file, PROBE);
    let removed = fs::remove_file(&file);
    written.and(removed)
}

fn fingerprint(program: &Path) -> io::Result<Fingerprint> {
    let metadata: Metadata = fs::metadata(program)?;
    if metadata.permissions().mode() & 0o111 == 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "not executable",
        ));
    }
    Ok((
        metadata.dev(),
        metadata.ino(),
        metadata.mtime(),
        metadata.len(),
    ))
}
