//! One test's world: a directory, a nats-server of its own with Backstack's streams and buckets, and
//! a connection to it.
//!
//! All of it is gone when the [`World`] is dropped. With `BACKSTACK_TEST_KEEP` set, the directory of a
//! test that failed stays and is named.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use async_nats::jetstream;
use backstack_consumer::dev::nats_server::{
    self, NatsServer, PrivateCluster, PrivateServer, ServerOptions,
};
use backstack_consumer::dev::process::Process;
use backstack_producer::topology::ensure;
use backstack_schemas::Topology;
use backstack_schemas::topology::Choices;
use serde_json::Value;
use tempfile::TempDir;

use crate::remote::Remote;
use crate::small_disk::SmallDisk;

/// What a world is to be like; the default is one server and the contract's settings.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Replicas and ack wait, for the streams made here and for the workers. Three replicas mean
    /// three servers.
    pub choices: Choices,
    /// More configuration for the nats-servers, in their own language.
    pub nats_config: String,
    /// Whether to leave making the streams and buckets to the workers.
    pub blank: bool,
    /// What goes before the host in the addresses that the harness connects to, `user:password@`;
    /// for servers whose configuration asks for it.
    pub login: String,
    /// The certificate authorities that the harness trusts, as a file in PEM; for servers whose
    /// configuration asks for TLS.
    pub tls_ca: Option<PathBuf>,
    /// Bytes of a disk of its own for the server's JetStream, with one server; else it is where all the
    /// rest is.
    pub nats_disk: Option<u64>,
    /// Whether the server is to have no JetStream. Such a world is blank, and stays so.
    pub core_only: bool,
}

/// The nats-servers of a world.
#[derive(Debug)]
pub enum Nats {
    /// One server.
    Alone(Box<PrivateServer>),
    /// Three servers that form a cluster.
    Cluster(PrivateCluster),
}

/// Everything that a test has for itself.
pub struct World {
    client: async_nats::Client,
    jetstream: jetstream::Context,
    nats: Nats,
    options: Options,
    topology: Topology,
    started: AtomicUsize,
    workers: Mutex<Vec<Weak<Process>>>,
    nats_disk: Option<SmallDisk>,
    // Last, so that nothing runs any more when it goes.
    dir: Option<TempDir>,
}

impl World {
    /// A world with one server and all streams and buckets.
    pub async fn start() -> Self {
        Self::with(Options::default()).await
    }

    /// A world whose messages are delivered again when nobody has touched them for so long.
    pub async fn with_ack_wait(ack_wait: Duration) -> Self {
        let choices = Choices {
            ack_wait,
            ..Choices::default()
        };
        Self::with(Options {
            choices,
            ..Options::default()
        })
        .await
    }

    /// A world with three servers and three replicas of everything.
    pub async fn cluster() -> Self {
        let choices = Choices {
            replicas: 3,
            ..Choices::default()
        };
        Self::with(Options {
            choices,
            ..Options::default()
        })
        .await
    }

    /// A world without streams and buckets: making them is the workers' business.
    pub async fn blank() -> Self {
        Self::with(Options {
            blank: true,
            ..Options::default()
        })
        .await
    }

    /// A world as asked for.
    pub async fn with(options: Options) -> Self {
        let dir = tempfile::Builder::new().prefix("backstack-test-").tempdir();
        let dir = dir.expect("a directory for the test");
        let mut server = nats_server().clone();
        let mut nats_disk = None;
        if let Some(bytes) = options.nats_disk {
            let disk = SmallDisk::mount(&dir.path().join("nats/jetstream"), bytes).await;
            let script = dir.path().join("nats-server");
            disk.script(&server.path, &script);
            server.path = script;
            nats_disk = Some(disk);
        }
        let nats = start_nats(&server, dir.path(), &options).await;
        let client = connect(&nats, &options).await;
        let world = Self {
            jetstream: jetstream::new(client.clone()),
            client,
            nats,
            options,
            topology: Topology::default(),
            started: AtomicUsize::new(0),
            workers: Mutex::default(),
            nats_disk,
            dir: Some(dir),
        };
        if !world.options.blank && !world.options.core_only {
            let made = ensure(&world.client, &world.topology, world.choices()).await;
            made.unwrap_or_else(|error| panic!("{error}"));
        }
        world
    }

    /// The test's directory.
    pub fn dir(&self) -> &Path {
        self.dir.as_ref().map_or(Path::new(""), TempDir::path)
    }

    /// The address of the nats-servers, as `NATS_URL` takes it.
    pub fn nats_url(&self) -> String {
        self.nats_url_as(&self.options.login)
    }

    /// The same for somebody else: `user:password@`, or nothing.
    pub fn nats_url_as(&self, login: &str) -> String {
        let url = match &self.nats {
            Nats::Alone(server) => server.url(),
            Nats::Cluster(cluster) => cluster.url(),
        };
        url.replace("nats://", &format!("nats://{login}"))
    }

    /// A connection of its own, made as Backstack's programs make theirs.
    pub async fn connection(&self) -> async_nats::Client {
        let options = backstack_producer::ConnectOptions {
            tls_ca: self.options.tls_ca.clone(),
            ..backstack_producer::ConnectOptions::to(self.nats_url())
        };
        let connected = backstack_producer::connect(&options).await;
        connected.unwrap_or_else(|error| panic!("{error}"))
    }

    /// The producer library, over a connection of its own.
    pub async fn producer(&self) -> backstack_producer::Client {
        backstack_producer::Client::new(self.connection().await, self.topology.clone())
    }

    /// The harness's own connection. It comes back by itself when a server does.
    pub fn client(&self) -> &async_nats::Client {
        &self.client
    }

    /// JetStream over that connection.
    pub fn jetstream(&self) -> &jetstream::Context {
        &self.jetstream
    }

    /// The nats-servers.
    pub fn nats(&self) -> &Nats {
        &self.nats
    }

    /// The one server, to stop, kill, pause and restart it.
    pub fn server(&self) -> &PrivateServer {
        match &self.nats {
            Nats::Alone(server) => server,
            Nats::Cluster(_) => panic!("this world has three servers"),
        }
    }

    /// The three servers, to stop, kill, pause and restart them.
    pub fn servers(&self) -> &PrivateCluster {
        match &self.nats {
            Nats::Alone(_) => panic!("this world has one server"),
            Nats::Cluster(cluster) => cluster,
        }
    }

    /// The disk that [`Options::nats_disk`] asked for.
    pub fn nats_disk(&self) -> &SmallDisk {
        let disk = self.nats_disk.as_ref();
        disk.expect("a world whose server has a disk of its own")
    }

    /// The names of everything on NATS.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Replicas and ack wait.
    pub fn choices(&self) -> Choices {
        self.options.choices
    }

    /// A new bare remote that no row names; see [`repo`](Self::repo).
    pub fn remote(&self, name: &str) -> Remote {
        Remote::new(self.dir().join(format!("{name}.git")))
    }

    /// One request to the JetStream API, on `$JS.API.<what>`.
    ///
    /// # Errors
    /// The `error` member of the answer, or a sentence where there was none.
    pub async fn ask(&self, what: &str, body: &Value) -> Result<Value, Value> {
        let payload = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let subject = format!("$JS.API.{what}");
        let reply = self.client.request(subject, payload.into()).await;
        let reply = reply.map_err(|error| Value::String(format!("{what}: {error}")))?;
        let answer: Value = serde_json::from_slice(&reply.payload).expect("JSON");
        match answer.get("error") {
            Some(error) => Err(error.clone()),
            None => Ok(answer),
        }
    }

    /// How many messages a stream holds.
    pub async fn stored(&self, stream: &str) -> u64 {
        let info = self
            .ask(&format!("STREAM.INFO.{stream}"), &Value::Null)
            .await;
        let info = info.unwrap_or_else(|error| panic!("{stream}: {error}"));
        info["state"]["messages"].as_u64().expect("a count")
    }

    /// Processes that have this world's directory in their command line, its servers left out.
    /// Known on Linux only; elsewhere none.
    pub fn processes(&self) -> Vec<String> {
        let servers: Vec<u32> = match &self.nats {
            Nats::Alone(server) => vec![server.pid()],
            Nats::Cluster(cluster) => cluster.servers().iter().map(PrivateServer::pid).collect(),
        };
        let mut found = processes_naming(self.dir());
        found.retain(|(pid, _)| !servers.contains(pid));
        found
            .into_iter()
            .map(|(pid, command)| format!("{pid} {command}"))
            .collect()
    }

    /// A number that no other call on this world returns.
    pub(crate) fn next_number(&self) -> usize {
        self.started.fetch_add(1, Ordering::Relaxed)
    }

    /// Counts a worker among the world's for as long as it runs.
    pub(crate) fn count_worker(&self, worker: &Arc<Process>) {
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.push(Arc::downgrade(worker));
    }

    /// How many workers run at present.
    pub(crate) fn live_workers(&self) -> u64 {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        let lives = |worker: &&Weak<Process>| {
            worker
                .upgrade()
                .is_some_and(|worker| worker.ended().is_none())
        };
        workers.iter().filter(lives).count() as u64
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Their stores go with the directory.
        match &self.nats {
            Nats::Alone(server) => server.abandon(),
            Nats::Cluster(cluster) => cluster.servers().iter().for_each(PrivateServer::abandon),
        }
        let keep = std::thread::panicking() && std::env::var_os("BACKSTACK_TEST_KEEP").is_some();
        if let Some(dir) = self.dir.take_if(|_| keep) {
            eprintln!("the test's directory stays: {}", dir.keep().display());
        }
    }
}

/// The processes that name `dir` in their command line, by id.
pub fn processes_naming(dir: &Path) -> Vec<(u32, String)> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let dir = dir.to_string_lossy();
    let named = |path: PathBuf| {
        let pid = path.file_name()?.to_str()?.parse().ok()?;
        let command = std::fs::read(path.join("cmdline")).ok()?;
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        command.contains(&*dir).then_some((pid, command))
    };
    entries
        .flatten()
        .filter_map(|entry| named(entry.path()))
        .collect()
}

/// The nats-server that all tests use, found once.
pub fn nats_server() -> &'static NatsServer {
    static FOUND: OnceLock<NatsServer> = OnceLock::new();
    FOUND.get_or_init(|| {
        let found = nats_server::find(None, &mut |line| eprintln!("{line}"));
        found.unwrap_or_else(|error| panic!("{error}"))
    })
}

async fn start_nats(server: &NatsServer, dir: &Path, options: &Options) -> Nats {
    let dir = dir.join("nats");
    let config = &options.nats_config;
    if options.choices.replicas > 1 {
        let cluster = PrivateCluster::start(server, &dir, config).await;
        return Nats::Cluster(cluster.unwrap_or_else(|error| panic!("{error}")));
    }
    let options = ServerOptions {
        dir,
        name: "n1".to_owned(),
        config: config.clone(),
        core_only: options.core_only,
        ..ServerOptions::default()
    };
    let server = PrivateServer::start(server, options).await;
    Nats::Alone(Box::new(server.unwrap_or_else(|error| panic!("{error}"))))
}

async fn connect(nats: &Nats, wanted: &Options) -> async_nats::Client {
    let addresses = match nats {
        Nats::Alone(server) => vec![server.url().parse().expect("an address")],
        Nats::Cluster(cluster) => cluster.addresses(),
    };
    let mut options = async_nats::ConnectOptions::new()
        .name("test")
        .reconnect_delay_callback(|_| Duration::from_millis(20));
    if let Some((user, password)) = wanted.login.trim_end_matches('@').split_once(':') {
        options = options.user_and_password(user.to_owned(), password.to_owned());
    }
    if let Some(authorities) = &wanted.tls_ca {
        options = options.add_root_certificates(authorities.clone());
    }
    let connected = options.connect(addresses).await;
    connected.expect("a connection to a server that is ready")
}
