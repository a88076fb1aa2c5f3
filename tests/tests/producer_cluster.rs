//! Three servers: elections while the topology is made, and while actions are published.

mod common;

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use backstack_producer::rows::{Created, Keys, RowEvent, Updated, Write};
use backstack_producer::topology::{check, ensure};
use backstack_producer::{Client, ConnectOptions, api, connect};
use backstack_schemas::topology::{Bucket, Choices};
use backstack_schemas::{Action, Topology};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Three servers that form a cluster; killed when dropped.
struct Cluster {
    nodes: Vec<Option<Child>>,
    ports: Vec<u16>,
    _dir: TempDir,
}

impl Cluster {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ports: Vec<_> = (0..3).map(|_| common::free_port()).collect();
        let routes: Vec<_> = (0..3).map(|_| common::free_port()).collect();
        let all: Vec<_> = routes
            .iter()
            .map(|port| format!("nats://127.0.0.1:{port}"))
            .collect();
        let node = |n: usize| {
            let path = dir.path().join(format!("{n}.conf"));
            let config = format!(
                "server_name: n{n}\nlisten: \"127.0.0.1:{}\"\njetstream {{ store_dir: {:?} }}\n\
                 cluster {{ name: c, listen: \"127.0.0.1:{}\", routes: [ {} ] }}\n",
                ports[n],
                dir.path().join(format!("js{n}")),
                routes[n],
                all.join(", "),
            );
            std::fs::write(&path, config).unwrap();
            let mut command = Command::new(common::binary());
            command
                .arg("-c")
                .arg(&path)
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            Some(command.spawn().unwrap())
        };
        Self {
            nodes: (0..3).map(node).collect(),
            ports,
            _dir: dir,
        }
    }

    fn url(&self) -> String {
        let all = self
            .ports
            .iter()
            .map(|port| format!("nats://127.0.0.1:{port}"));
        all.collect::<Vec<_>>().join(",")
    }

    async fn client(&self) -> Client {
        for _ in 0..300 {
            if let Ok(nats) = connect(&ConnectOptions::to(self.url())).await {
                return Client::new(nats, Topology::default());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the cluster does not answer");
    }

    /// Kills the server that leads the stream.
    async fn kill_leader(&mut self, client: &Client, stream: &str) {
        let asked = format!("STREAM.INFO.{stream}");
        let info = api::ask(client.rows().client(), &asked, &Value::Null)
            .await
            .unwrap();
        let leader = info["cluster"]["leader"].as_str().unwrap().to_owned();
        let n: usize = leader.trim_start_matches('n').parse().unwrap();
        let mut node = self.nodes[n].take().expect("it runs");
        node.kill().unwrap();
        node.wait().unwrap();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in self.nodes.iter_mut().flatten() {
            let _ = node.kill();
            let _ = node.wait();
        }
    }
}

const THREE: Choices = Choices {
    replicas: 3,
    ack_wait: Duration::from_secs(30),
};

/// JetStream answers only when the cluster has elected its leader.
async fn jetstream_is_up(client: &Client) {
    for _ in 0..300 {
        if api::ask(client.rows().client(), "INFO", &Value::Null)
            .await
            .is_ok()
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the cluster elects no leader");
}

#[tokio::test]
async fn a_cluster_is_set_up_by_two_workers_at_once_and_outlives_its_leader() {
    let mut cluster = Cluster::start();
    let client = cluster.client().await;
    jetstream_is_up(&client).await;
    let other = cluster.client().await;
    let (nats, topology) = (client.rows().client(), client.topology());
    let (one, two) = tokio::join!(
        ensure(nats, topology, THREE),
        ensure(other.rows().client(), topology, THREE),
    );
    one.unwrap();
    two.unwrap();
    let report = check(nats, topology).await.unwrap();
    assert!(report.is_right(), "{report:?}");

    let rows = client.rows();
    let mut watch = rows
        .watch::<Value>(Bucket::Branches, Keys::All)
        .await
        .unwrap();
    for round in 0..3 {
        let writes = (0..500).map(|i| Write::put(format!("web.{i}"), &json!([round, i])));
        let results = rows.write_all(Bucket::Branches, writes).await;
        assert!(results.iter().all(|r| matches!(r, Ok(Updated::Done(_)))));
        let listed = rows
            .list_leader::<Value>(Bucket::Branches, &Keys::All)
            .await
            .unwrap();
        assert_eq!(listed.rows.len(), 500);
        assert!(
            listed.into_values().all(|value| value[0] == round),
            "nothing older"
        );
    }
    let stale = rows
        .create(Bucket::Branches, "web.0", &json!("late"))
        .await
        .unwrap();
    assert!(matches!(stale, Created::Exists(row) if row.value == json!([2, 0])));

    let repo = "web".parse().unwrap();
    client
        .publish(&repo, Action::RestackRepo.into())
        .await
        .unwrap();
    cluster.kill_leader(&client, "BACKSTACK_ACTIONS").await;
    let published = client
        .publish(&repo, Action::RestackRepo.into())
        .await
        .unwrap();
    let stored = api::ask(nats, "STREAM.INFO.BACKSTACK_ACTIONS", &Value::Null)
        .await
        .unwrap();
    assert_eq!(stored["state"]["messages"], 2, "{published:?}");

    put_until_acknowledged(&client, "web.last").await;
    let seen = async {
        loop {
            if let Some(RowEvent::Row { key, .. }) = watch.next_event().await
                && key == "web.last"
            {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), seen)
        .await
        .unwrap();
}

async fn put_until_acknowledged(client: &Client, key: &str) {
    while let Err(error) = client.rows().put(Bucket::Branches, key, &json!(1)).await {
        assert!(error.is_transient(), "{error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
