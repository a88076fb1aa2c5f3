//! One nats-server of our own, on loopback.
//!
//! Guarantees: its ports are reserved before it starts and stay so until the [`PrivateServer`] is
//! dropped, so that a restart gets the same ones; it counts as started when it says itself that
//! clients can connect and JetStream, if it has any, is up; and it ends with its owner. Its store is the caller's
//! directory and is never deleted here.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::TcpSocket;

use super::{Error, NatsServer, ready};
use crate::dev::process::Process;

/// How long a server may take to get ready. Alone it takes some 10 ms.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// How long a server may take to end by itself.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// What a private server is to be like.
#[derive(Clone, Debug, Default)]
pub struct ServerOptions {
    /// Where its store, configuration and log go; made if it is not there, and never removed.
    pub dir: PathBuf,
    /// Its name, unique in a cluster.
    pub name: String,
    /// Its port for clients; a free one unless given.
    pub port: Option<u16>,
    /// More configuration, in the server's own language: limits, users, accounts. What the server
    /// is started with on its command line (address, ports, name, store) goes before it.
    pub config: String,
    /// The cluster it is a member of.
    pub cluster: Option<ClusterMember>,
    /// Whether it is to be Core NATS only: without JetStream, and so without a store.
    pub core_only: bool,
}

/// A server's place in a cluster.
#[derive(Clone, Debug)]
pub struct ClusterMember {
    /// The cluster's name.
    pub cluster: String,
    /// The port that the other members reach this one at.
    pub port: u16,
    /// The cluster ports of all members.
    pub routes: Vec<u16>,
}

/// A loopback port that nobody else gets while this is held.
///
/// A bound socket that does not listen keeps the port from being handed out, as a listening port or
/// as the local end of a connection, while a server that names it may listen there. Elsewhere than
/// on Linux it would keep the server out too, and the port is only known to have been free.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _socket: Option<TcpSocket>,
}

impl Port {
    /// Reserves `number`, or any free port if that is 0.
    ///
    /// # Errors
    /// What the system says, for example that the port is in use.
    pub fn reserve(number: u16) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        let loopback = SocketAddrV4::new(Ipv4Addr::LOCALHOST, number);
        socket.bind(SocketAddr::V4(loopback))?;
        Ok(Self {
            number: socket.local_addr()?.port(),
            _socket: cfg!(target_os = "linux").then_some(socket),
        })
    }

    /// The port's number.
    pub fn number(&self) -> u16 {
        self.number
    }
}

/// A running nats-server, its store and its ports.
#[derive(Debug)]
pub struct PrivateServer {
    program: PathBuf,
    options: ServerOptions,
    client: Port,
    monitor: Port,
    process: Mutex<Arc<Process>>,
}

impl PrivateServer {
    /// Starts a server and waits until it is ready.
    ///
    /// # Errors
    /// [`Error::Start`], [`Error::Ended`] or [`Error::NotReady`]; the last two with the end of the
    /// server's log.
    pub async fn start(server: &NatsServer, options: ServerOptions) -> Result<Self, Error> {
        let started = Self::launch(server, options)?;
        started.ready().await?;
        Ok(started)
    }

    /// Starts a server without waiting. For the members of a cluster, of which none gets ready
    /// alone.
    ///
    /// # Errors
    /// [`Error::Start`].
    pub fn launch(server: &NatsServer, options: ServerOptions) -> Result<Self, Error> {
        let name = options.name.clone();
        let launch = || {
            let client = Port::reserve(options.port.unwrap_or(0))?;
            let monitor = Port::reserve(0)?;
            fs::create_dir_all(&options.dir)?;
            fs::write(options.dir.join("nats.conf"), &options.config)?;
            let process = spawn(&server.path, &options, &client, &monitor)?;
            let process = Mutex::new(Arc::new(process));
            Ok(Self {
                program: server.path.clone(),
                options,
                client,
                monitor,
                process,
            })
        };
        launch().map_err(|source| Error::Start { name, source })
    }

    /// Waits until the server is ready: clients can connect, JetStream has recovered its store, and
    /// in a cluster has a leader.
    ///
    /// # Errors
    /// [`Error::Ended`] or [`Error::NotReady`].
    pub async fn ready(&self) -> Result<(), Error> {
        let until = Instant::now() + READY_WITHIN;
        loop {
            let problem = match ready::healthy(self.monitor.number()).await {
                Ok(()) => return Ok(()),
                Err(problem) => problem,
            };
            if let Some(status) = self.process().ended() {
                return Err(Error::Ended {
                    name: self.name().to_owned(),
                    status,
                    log: self.log_end(),
                });
            }
            if Instant::now() > until {
                return Err(self.not_ready(problem));
            }
            tokio::time::sleep(ready::ASK_AGAIN).await;
        }
    }

    /// The server's address for clients.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.client.number())
    }

    /// The server's process id; another one after each restart.
    pub fn pid(&self) -> u32 {
        self.process().pid()
    }

    /// The server's name.
    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// The file that the server's log goes to; restarts append.
    pub fn log_file(&self) -> PathBuf {
        log_file(&self.options.dir)
    }

    /// Whether the server's process runs, paused or not.
    pub fn is_running(&self) -> bool {
        self.process().ended().is_none()
    }

    /// Waits until the server has ended, which it does not by itself.
    pub async fn ended(&self) -> Error {
        Error::Ended {
            status: self.process().wait().await,
            name: self.name().to_owned(),
            log: self.log_end(),
        }
    }

    /// Lets the server end in good order, or kills it if that takes it too long.
    pub async fn stop(&self) {
        self.process().stop(STOP_GRACE).await;
    }

    /// Kills the server without warning.
    pub async fn kill9(&self) {
        self.process().kill9().await;
    }

    /// Kills the server without waiting, where its store does not matter any more: ending in good
    /// order takes some 10 ms for each consumer.
    pub fn abandon(&self) {
        self.process().kill();
    }

    /// Stops the server from running: connections stay, nothing is answered.
    pub fn pause(&self) {
        self.process().pause();
    }

    /// Lets a paused server run on.
    pub fn resume(&self) {
        self.process().resume();
    }

    /// Starts the server again on its ports and store and waits until it is ready; stops it first if
    /// it runs.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub async fn restart(&self) -> Result<(), Error> {
        self.relaunch().await?;
        self.ready().await
    }

    /// Like [`restart`](Self::restart), without waiting until the server is ready.
    ///
    /// # Errors
    /// [`Error::Start`].
    pub async fn relaunch(&self) -> Result<(), Error> {
        self.stop().await;
        let process = spawn(&self.program, &self.options, &self.client, &self.monitor);
        let process = process.map_err(|source| Error::Start {
            name: self.name().to_owned(),
            source,
        })?;
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(process);
        Ok(())
    }

    /// The process as it is now; a restart puts another in its place.
    fn process(&self) -> Arc<Process> {
        let process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&process)
    }

    pub(super) fn monitor_port(&self) -> u16 {
        self.monitor.number()
    }

    pub(super) fn not_ready(&self, problem: String) -> Error {
        Error::NotReady {
            name: self.name().to_owned(),
            seconds: READY_WITHIN.as_secs(),
            problem,
            log: self.log_end(),
        }
    }

    fn log_end(&self) -> String {
        let log = fs::read(self.log_file()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }
}

fn spawn(
    program: &Path,
    options: &ServerOptions,
    client: &Port,
    monitor: &Port,
) -> io::Result<Process> {
    let log = File::options()
        .create(true)
        .append(true)
        .open(log_file(&options.dir))?;
    let mut command = Command::new(program);
    command
        .arg("--config")
        .arg(options.dir.join("nats.conf"))
        .args(["--addr", "127.0.0.1", "--name", &options.name])
        .args(["--port", &client.number().to_string()])
        .args(["--http_port", &monitor.number().to_string()])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    if !options.core_only {
        command
            .arg("--jetstream")
            .arg("--store_dir")
            .arg(&options.dir);
    }
    if let Some(member) = &options.cluster {
        let route = |port: &u16| format!("nats://127.0.0.1:{port}");
        let routes: Vec<_> = member.routes.iter().map(route).collect();
        command
            .args([
                "--cluster_name",
                &member.cluster,
                "--cluster",
                &route(&member.port),
            ])
            .args(["--routes", &routes.join(",")]);
    }
    Process::spawn(command)
}

fn log_file(dir: &Path) -> PathBuf {
    dir.join("nats-server.log")
}
