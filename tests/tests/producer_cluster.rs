//! Three servers: elections while the topology is made, and while actions are published.

use std::time::Duration;

use backstack_producer::rows::{Created, Keys, RowEvent, Updated, Write};
use backstack_producer::topology::{check, ensure};
use backstack_producer::{Client, api};
use backstack_schemas::Action;
use backstack_schemas::topology::{Bucket, Choices};
use backstack_tests::{Options, World};
use serde_json::{Value, json};

const THREE: Choices = Choices {
    replicas: 3,
    ack_wait: Duration::from_secs(30),
};

/// Kills the server that leads the stream.
async fn kill_leader(world: &World, client: &Client, stream: &str) {
    let asked = format!("STREAM.INFO.{stream}");
    let info = api::ask(client.rows().client(), &asked, &Value::Null)
        .await
        .unwrap();
    let leader = info["cluster"]["leader"].as_str().unwrap();
    let mut servers = world.servers().servers().iter();
    let leads = servers.find(|server| server.name() == leader);
    leads.expect("one of ours").kill9().await;
}

#[tokio::test]
async fn a_cluster_is_set_up_by_two_workers_at_once_and_outlives_its_leader() {
    let world = World::with(Options {
        choices: THREE,
        blank: true,
        ..Options::default()
    })
    .await;
    let (client, other) = (world.producer().await, world.producer().await);
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
    kill_leader(&world, &client, "BACKSTACK_ACTIONS").await;
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
