//! `backstackd dev`: a private nats-server and a worker, to try Backstack out on one machine.
//!
//! Guarantees: everything listens on loopback only; what was queued, and all rows, are there again at
//! the next start on the same state directory; only one process has such a directory; and the server
//! outlives the worker's drain, but not this process.

use std::fs::{DirBuilder, File, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use backstack_engine::EngineError;
use backstack_engine::git::Git;
use backstack_producer::ConnectOptions;
use backstack_producer::connect::Version;
use backstack_schemas::remote::Protocol;
use clap::Args;
use tokio_util::sync::CancellationToken;

use super::nats_server::{self, PrivateServer, ServerChoice, ServerOptions};
use crate::config::{Config, Identity, listen_address};
use crate::service::ServiceError;

/// What may be chosen for `backstackd dev`.
#[derive(Args, Clone, Debug)]
pub struct LocalOptions {
    /// Where everything is kept; the next start on it goes on where this one ends
    #[arg(
        long,
        env = "BACKSTACK_STATE_DIR",
        value_name = "DIR",
        default_value = "backstack-state"
    )]
    pub state_dir: PathBuf,

    /// Where NATS listens, on loopback; 0 for any free port
    #[arg(long, env = "BACKSTACK_PORT", default_value_t = 4222)]
    pub port: u16,

    /// The nats-server.
    #[command(flatten)]
    pub server: ServerChoice,

    /// Who commits what is replayed; Backstack, unless given
    #[arg(long, env = "BACKSTACK_COMMITTER", value_name = "NAME <EMAIL>")]
    pub committer: Option<Identity>,

    /// The git command; the one on PATH, unless given
    #[arg(long, env = "BACKSTACK_GIT", value_name = "FILE")]
    pub git: Option<PathBuf>,

    /// A git configuration for what talks to remotes: credential helpers, proxies
    #[arg(long, env = "BACKSTACK_GIT_CONFIG", value_name = "FILE")]
    pub git_config: Option<PathBuf>,

    /// Where to answer /healthz, /readyz and /metrics, as 127.0.0.1:8790; nowhere, unless given
    #[arg(long, env = "BACKSTACK_LISTEN", value_name = "ADDRESS", value_parser = listen_address)]
    pub listen: Option<SocketAddr>,

    /// User and password for each HTTP host: lines like https://user:password@host, as
    /// git-credential-store has them; nobody else may read the file
    #[arg(long, env = "BACKSTACK_CREDENTIALS", value_name = "FILE")]
    pub credentials: Option<PathBuf>,
}

/// Why it could not start, or not go on. Each says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// Another process has the state directory.
    #[error(
        "another `backstackd dev` (process {pid}) is using {}; stop it, or choose another directory \
         with --state-dir", path.display()
    )]
    StateDirInUse {
        /// The directory.
        path: PathBuf,
        /// The process that has it.
        pid: String,
    },
    /// The state directory cannot be made or locked.
    #[error("the state directory {}: {source}; choose another with --state-dir", path.display())]
    StateDir {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something listens on the port.
    #[error(
        "port {0} on 127.0.0.1 is in use, perhaps by a nats-server; stop what listens there, choose \
         another with --port, or run a worker on that server: `backstackd run`"
    )]
    PortInUse(u16),
    /// There is no nats-server, or it does not run.
    #[error(transparent)]
    Server(nats_server::Error),
    /// There is no usable git.
    #[error(transparent)]
    Git(EngineError),
    /// The worker could not start.
    #[error(transparent)]
    Worker(#[from] ServiceError),
    /// Standard output is closed.
    #[error("standard output: {0}")]
    Output(#[from] io::Error),
}

/// Runs a nats-server and a worker until `shutdown` is cancelled.
///
/// # Errors
/// [`LocalError`]
pub async fn run(options: LocalOptions, shutdown: CancellationToken) -> Result<(), LocalError> {
    // Before the server starts: two of them on one store would ruin it.
    let _lock = lock(&options.state_dir)?;
    // Before anything is installed or started: without git nothing would work.
    let git = Git::discover(options.git.clone()).map_err(LocalError::Git)?;
    let server = options.server.clone().find().await;
    let server = server.map_err(LocalError::Server)?;
    let server_options = ServerOptions {
        dir: options.state_dir.join("nats"),
        name: "dev".to_owned(),
        port: Some(options.port),
        ..ServerOptions::default()
    };
    let started = PrivateServer::start(&server, server_options).await;
    let nats = started.map_err(|error| explain(error, options.port))?;
    let welcome = welcome(&nats.url(), &server.version, &options.state_dir);
    writeln!(io::stdout(), "{welcome}")?;
    let config = options.config(&nats.url(), &git);
    tokio::select! {
        worked = crate::run(config, shutdown) => worked?,
        ended = nats.ended() => return Err(LocalError::Server(ended)),
    }
    nats.stop().await;
    Ok(())
}

impl LocalOptions {
    /// How the worker runs.
    fn config(self, url: &str, git: &Git) -> Config {
        let mut config = Config::new(ConnectOptions::to(url), self.state_dir);
        config.allow_protocol.push(Protocol::File);
        config.git = Some(git.program().to_owned());
        config.git_config = self.git_config;
        config.listen = self.listen;
        config.credentials = self.credentials;
        if let Some(committer) = self.committer {
            config.committer = committer;
        }
        config
    }
}

fn explain(error: nats_server::Error, port: u16) -> LocalError {
    match error {
        nats_server::Error::Start { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
            LocalError::PortInUse(port)
        }
        error => LocalError::Server(error),
    }
}

/// What runs, and what to type next.
fn welcome(url: &str, version: &Version, state_dir: &Path) -> String {
    let dir = state_dir.display();
    format!(
        "NATS is at {url} (nats-server {version}), a worker runs beside it, and everything is kept in \
         {dir}.\n\
         In another terminal:\n\n    \
         export NATS_URL={url}\n    \
         backstack repo add web /path/to/repo.git\n    \
         backstack sync web --wait\n    \
         backstack register web <branch> --wait\n    \
         backstack stack web\n\n\
         Ctrl-C stops it; the next start goes on where this one ends.\n"
    )
}

/// The directory for this process alone, made where it is not there. Given back when the file is
/// closed, be it by a crash.
fn lock(state_dir: &Path) -> Result<File, LocalError> {
    let broken = |source| LocalError::StateDir {
        path: state_dir.to_owned(),
        source,
    };
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(state_dir).map_err(broken)?;
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    let mut file = options.open(state_dir.join("dev.lock")).map_err(broken)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(in_use(file, state_dir)),
        Err(TryLockError::Error(source)) => return Err(broken(source)),
    }
    write_pid(&mut file).map_err(broken)?;
    Ok(file)
}

fn in_use(mut file: File, state_dir: &Path) -> LocalError {
    let mut pid = String::new();
    // Whoever has it may not have written its id yet.
    let known = file.read_to_string(&mut pid).is_ok() && !pid.trim().is_empty();
    LocalError::StateDirInUse {
        path: state_dir.to_owned(),
        pid: if known { pid.trim() } else { "unknown" }.to_owned(),
    }
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}
