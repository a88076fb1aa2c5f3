//! A nats-server of one's own for a test: a free loopback port, a store that outlives restarts.

// Each test binary uses what it needs of this.
#![allow(dead_code)]

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use async_nats::Client;
use backstack_producer::{ConnectOptions, connect};
use tempfile::TempDir;

/// The nats-server to run: `BACKSTACK_NATS_SERVER`, else the one on `PATH`.
pub fn binary() -> PathBuf {
    std::env::var_os("BACKSTACK_NATS_SERVER").map_or_else(|| "nats-server".into(), PathBuf::from)
}

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    dir: TempDir,
    port: u16,
    config: String,
}

impl Server {
    /// A server with JetStream and no users.
    pub async fn start() -> Self {
        Self::start_with("").await
    }

    /// The same with more lines in its configuration.
    pub async fn start_with(config: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory for the server");
        let store = format!("jetstream {{ store_dir: {:?} }}\n", dir.path().join("js"));
        Self::launch(dir, format!("{store}{config}")).await
    }

    /// A server without JetStream.
    pub async fn start_without_jetstream() -> Self {
        let dir = tempfile::tempdir().expect("a directory for the server");
        Self::launch(dir, String::new()).await
    }

    async fn launch(dir: TempDir, config: String) -> Self {
        let port = free_port();
        let child = spawn(&dir, port, &config);
        let server = Self {
            child,
            dir,
            port,
            config,
        };
        server.answers().await;
        server
    }

    /// Where it listens, for the default user.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Where it listens, as `user` with the password `pw`.
    pub fn url_as(&self, user: &str) -> String {
        format!("nats://{user}:pw@127.0.0.1:{}", self.port)
    }

    /// A connection for the default user.
    pub async fn client(&self) -> Client {
        connect(&ConnectOptions::to(self.url()))
            .await
            .expect("a connection")
    }

    /// Kills it like a crash would.
    pub fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
    }

    /// Starts it again on the same port and store.
    pub async fn start_again(&mut self) {
        self.child = spawn(&self.dir, self.port, &self.config);
        self.answers().await;
    }

    /// Waits until it takes connections.
    async fn answers(&self) {
        for _ in 0..500 {
            if tokio::net::TcpStream::connect(("127.0.0.1", self.port))
                .await
                .is_ok()
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the nats-server does not answer on port {}", self.port);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A loopback port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}

fn spawn(dir: &TempDir, port: u16, config: &str) -> Child {
    let path = dir.path().join("server.conf");
    let config = format!("listen: \"127.0.0.1:{port}\"\n{config}");
    std::fs::write(&path, config).expect("the configuration is written");
    Command::new(binary())
        .arg("-c")
        .arg(&path)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("nats-server on PATH or in BACKSTACK_NATS_SERVER")
}
