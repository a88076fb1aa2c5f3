//! Three nats-servers of our own that form one cluster, for streams with three replicas.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;

use super::{ClusterMember, Error, NatsServer, Port, PrivateServer, ServerOptions, ready};

/// How long three servers may take to find one another, elect a leader and catch up.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Three members: the fewest that go on when one is lost.
const MEMBERS: usize = 3;

/// Three servers on loopback, each with its own store. Each may be killed, paused and restarted.
#[derive(Debug)]
pub struct PrivateCluster {
    servers: Vec<PrivateServer>,
    // Held so that a member that is down finds its cluster port free when it comes back.
    _routes: Vec<Port>,
}

impl PrivateCluster {
    /// Starts three servers with their stores under `dir` and waits until they are one cluster:
    /// JetStream has a leader, and both others follow it. `config` is every server's, as in
    /// [`ServerOptions::config`].
    ///
    /// # Errors
    /// As for [`PrivateServer::start`].
    pub async fn start(server: &NatsServer, dir: &Path, config: &str) -> Result<Self, Error> {
        let routes: io::Result<Vec<_>> = (0..MEMBERS).map(|_| Port::reserve(0)).collect();
        let routes = routes.map_err(|source| Error::Start {
            name: "cluster".to_owned(),
            source,
        })?;
        let ports: Vec<_> = routes.iter().map(Port::number).collect();
        let launch = |(index, port): (usize, &u16)| {
            let name = format!("n{}", index + 1);
            let options = ServerOptions {
                dir: dir.join(&name),
                name,
                port: None,
                config: config.to_owned(),
                cluster: Some(ClusterMember {
                    cluster: "backstack".to_owned(),
                    port: *port,
                    routes: ports.clone(),
                }),
                core_only: false,
            };
            PrivateServer::launch(server, options)
        };
        let servers: Result<Vec<_>, _> = ports.iter().enumerate().map(launch).collect();
        let cluster = Self {
            servers: servers?,
            _routes: routes,
        };
        cluster.ready().await?;
        Ok(cluster)
    }

    /// The addresses of all members, separated by commas.
    pub fn url(&self) -> String {
        let urls: Vec<_> = self.servers.iter().map(PrivateServer::url).collect();
        urls.join(",")
    }

    /// The addresses of all members, parsed for a client.
    pub fn addresses(&self) -> Vec<async_nats::ServerAddr> {
        let urls = self.servers.iter().map(PrivateServer::url);
        urls.filter_map(|url| url.parse().ok()).collect()
    }

    /// The members, named `n1`, `n2` and `n3`.
    pub fn servers(&self) -> &[PrivateServer] {
        &self.servers
    }

    /// The index of the member that leads JetStream's meta group, if a running member knows one
    /// that runs.
    pub async fn leader(&self) -> Option<usize> {
        for server in self.servers.iter().filter(|server| server.is_running()) {
            if let Some(leader) = ready::meta_leader(server.monitor_port()).await {
                let is_leader =
                    |server: &PrivateServer| server.name() == leader && server.is_running();
                return self.servers.iter().position(is_leader);
            }
        }
        None
    }

    /// Waits until every running member is ready and follows one leader. With one member down that
    /// is what is left of the cluster.
    ///
    /// # Errors
    /// [`Error::Ended`] or [`Error::NotReady`].
    pub async fn ready(&self) -> Result<(), Error> {
        let running: Vec<_> = self
            .servers
            .iter()
            .filter(|server| server.is_running())
            .collect();
        try_join_all(running.iter().map(|server| server.ready())).await?;
        let followers = running.len().saturating_sub(1);
        let until = Instant::now() + READY_WITHIN;
        loop {
            let current = match self.leader().await {
                Some(leader) => ready::current_followers(self.servers[leader].monitor_port()).await,
                None => 0,
            };
            if current >= followers && followers > 0 {
                return Ok(());
            }
            if Instant::now() > until {
                let problem = format!("{current} of {followers} others follow a leader");
                return Err(self.servers[0].not_ready(problem));
            }
            tokio::time::sleep(ready::ASK_AGAIN).await;
        }
    }

    /// Starts every member again at the same time and waits until they are one cluster.
    ///
    /// # Errors
    /// As for [`PrivateServer::start`].
    pub async fn restart_all(&self) -> Result<(), Error> {
        for server in &self.servers {
            server.stop().await;
        }
        for server in &self.servers {
            server.relaunch().await?;
        }
        self.ready().await
    }
}
