//! What the story plays on: a nats-server, a remote, a client, and a worker that is a process of its
//! own and can be killed.
//!
//! Guarantees that nothing is waited for longer than a while, and that a worker which ends by itself
//! is noticed and its log told.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use backstack_engine::git::Git;
use backstack_producer::client::{JobUpdate, JobWatch};
use backstack_producer::{Client, ConnectOptions, api, connect, topology};
use backstack_schemas::topology::Choices;
use backstack_schemas::{Action, ActionMessage, BranchName, Job, JobId, RepoId};
use serde_json::Value;

use super::remote::Remote;
use super::sample;
use super::scratch::Scratch;
use super::show::Show;
use crate::dev::nats_server::{NatsServer, PrivateServer, ServerOptions};
use crate::dev::process::Process;

/// How long a worker of the demo may be silent before its messages are delivered again. Short, so
/// that nobody has to wait long for the second worker to take over; longer than a busy machine makes
/// a worker that is alive wait.
pub(super) const ACK_WAIT: Duration = Duration::from_secs(3);

/// No job of the demo takes longer, killed or not.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a worker may take to finish when it is told to stop.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Between two looks at a file that another process makes or removes.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// How many lines of a log are told when something went wrong.
const LOG_LINES: usize = 15;

/// A worker process.
#[derive(Debug)]
pub(super) struct Worker {
    process: Process,
    log: PathBuf,
}

/// Everything there is. Fields go in this order: nobody outlives what it works with.
#[derive(Debug)]
pub(super) struct Stage {
    worker: Option<Worker>,
    workers_started: u32,
    nats: PrivateServer,
    pub(super) client: Client,
    pub(super) repo: RepoId,
    pub(super) remote: Remote,
    scratch: Scratch,
}

impl Stage {
    /// Sets it up; the worker comes later.
    pub(super) async fn build(server: &NatsServer, git: Git) -> Result<Self> {
        let scratch = Scratch::new().context("no temporary directory")?;
        let remote = Remote::create(git, scratch.path().join("web.git"), sample::TRUNK)?;
        let options = ServerOptions {
            dir: scratch.path().join("nats"),
            name: "demo".to_owned(),
            ..ServerOptions::default()
        };
        let nats = PrivateServer::start(server, options).await?;
        let names = ConnectOptions::default().topology();
        let connection = connect(&ConnectOptions::to(nats.url())).await?;
        let choices = Choices {
            replicas: 1,
            ack_wait: ACK_WAIT,
        };
        // The worker makes all this as well; here it lets the story begin without waiting for it.
        topology::ensure(&connection, &names, choices).await?;
        Ok(Self {
            worker: None,
            workers_started: 0,
            nats,
            client: Client::new(connection, names),
            repo: "web".parse()?,
            remote,
            scratch,
        })
    }

    /// Starts a worker process and returns its id.
    pub(super) fn start_worker(&mut self) -> Result<u32> {
        self.workers_started += 1;
        let name = format!("worker-{}.log", self.workers_started);
        let log = self.scratch.path().join(name);
        let process = Process::spawn(self.worker_command(&log)?).context("the worker")?;
        let pid = process.pid();
        self.worker = Some(Worker { process, log });
        Ok(pid)
    }

    /// This same program, told to work; nothing of how it is set up here comes from outside.
    fn worker_command(&self, log: &PathBuf) -> Result<Command> {
        let program = std::env::current_exe().context("this program's own file")?;
        let log = File::create(log)?;
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("BACKSTACK_") || text.starts_with("NATS_") {
                command.env_remove(name);
            }
        }
        command
            .args(["run", "--nats-url", &self.nats.url()])
            .arg("--state-dir")
            .arg(self.scratch.path().join("state"))
            .arg("--git")
            .arg(self.remote.git_program())
            .args(["--ack-wait", &format!("{}ms", ACK_WAIT.as_millis())])
            .args(["--allow-protocol", "file", "--concurrency", "2"])
            .stdin(std::process::Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        Ok(command)
    }

    /// Kills the worker as a power cut would.
    pub(super) async fn kill_worker(&mut self) -> Result<ExitStatus> {
        let worker = self.worker.take().context("there is no worker to kill")?;
        Ok(worker.process.kill9().await)
    }

    /// The worker's process id.
    pub(super) fn worker_pid(&self) -> Option<u32> {
        self.worker.as_ref().map(|worker| worker.process.pid())
    }

    /// The nats-server's address.
    pub(super) fn url(&self) -> String {
        self.nats.url()
    }

    /// Publishes an action; returns its job as accepted, and how long that took.
    pub(super) async fn publish(&self, action: Action) -> Result<(Job, Duration)> {
        let began = Instant::now();
        let message = ActionMessage {
            requested_by: Some("the demo".to_owned()),
            ..action.into()
        };
        let published = self.client.publish(&self.repo, message).await?;
        let row = published.row.context("the job's row was not written")?;
        Ok((row.value, began.elapsed()))
    }

    /// Publishes an action and shows its job until it has ended.
    pub(super) async fn run(&self, show: &Show, action: Action) -> Result<Job> {
        let (job, after) = self.publish(action).await?;
        show.accepted(&job, after)?;
        self.follow(show, &job, None, |job| job.status.is_terminal())
            .await
    }

    /// Shows a job, from where it was `last` shown, until its row is as `enough` says.
    pub(super) async fn follow(
        &self,
        show: &Show,
        job: &Job,
        last: Option<&Job>,
        enough: impl Fn(&Job) -> bool,
    ) -> Result<Job> {
        let id = job.spec.job_id;
        let mut watch = self.client.watch_job(&self.repo, id).await?;
        let mut live = show.live(last);
        loop {
            let job = self.next_row(&mut watch, id).await?;
            live.row(&job)?;
            if enough(&job) {
                return Ok(job);
            }
            if job.status.is_terminal() {
                bail!("job {id} ended as {}: {}", job.status, job.message);
            }
        }
    }

    /// The job's row once it has ended.
    pub(super) async fn end_of(&self, id: JobId) -> Result<Job> {
        let mut watch = self.client.watch_job(&self.repo, id).await?;
        let end = async {
            watch
                .ended()
                .await
                .context("the watch ended before the job")
        };
        self.within_patience(&format!("job {id} to end"), end).await
    }

    async fn next_row(&self, watch: &mut JobWatch, id: JobId) -> Result<Job> {
        let row = async {
            while let Some(update) = watch.next().await {
                if let JobUpdate::Row(job) = update {
                    return Ok(*job);
                }
            }
            bail!("the watch of job {id} ended before the job");
        };
        self.within_patience(&format!("job {id} to go on"), row)
            .await
    }

    /// Waits until `is_so`, which another process brings about.
    pub(super) async fn until(&self, what: &str, is_so: impl Fn() -> bool) -> Result<()> {
        let so = async {
            while !is_so() {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            Ok(())
        };
        self.within_patience(what, so).await
    }

    /// Does `work`, unless it takes too long or the worker ends meanwhile.
    async fn within_patience<T>(
        &self,
        what: &str,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        tokio::select! {
            done = work => done,
            status = self.worker_ended() => Err(anyhow!("the worker ended ({status}){}", self.worker_log())),
            () = tokio::time::sleep(PATIENCE) => {
                let seconds = PATIENCE.as_secs();
                Err(anyhow!("waited {seconds} s for {what}{}", self.worker_log()))
            }
        }
    }

    async fn worker_ended(&self) -> ExitStatus {
        match &self.worker {
            Some(worker) => worker.process.wait().await,
            None => std::future::pending().await,
        }
    }

    /// The end of the worker's log, for an error.
    fn worker_log(&self) -> String {
        let Some(worker) = &self.worker else {
            return String::new();
        };
        let log = fs::read_to_string(&worker.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let end = &lines[lines.len().saturating_sub(LOG_LINES)..];
        format!("; its log ends with:\n{}", end.join("\n"))
    }

    /// Waits until a stream holds no message: that of a job goes just after the row says that it ended.
    pub(super) async fn until_empty(&self, stream: &str) -> Result<()> {
        let empty = async {
            while self.stored(stream).await? > 0 {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            Ok(())
        };
        self.within_patience(&format!("{stream} to be empty"), empty)
            .await
    }

    /// How many messages a stream holds.
    pub(super) async fn stored(&self, stream: &str) -> Result<u64> {
        let subject = format!("STREAM.INFO.{stream}");
        let info = api::ask(self.client.rows().client(), &subject, &Value::Null).await?;
        info["state"]["messages"]
            .as_u64()
            .context("a stream without a count")
    }

    /// Ends everything in good order and removes it.
    pub(super) async fn close(self) -> Result<()> {
        if let Some(worker) = &self.worker {
            let status = worker.process.stop(STOP_GRACE).await;
            if !status.success() {
                bail!(
                    "the worker did not drain but ended with {status}{}",
                    self.worker_log()
                );
            }
        }
        self.nats.stop().await;
        self.scratch
            .remove()
            .context("the demo's directory could not be removed")
    }
}

/// A branch's name; those of the sample are right.
pub(super) fn branch(name: &str) -> Result<BranchName> {
    Ok(name.parse()?)
}
