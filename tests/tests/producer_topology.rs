//! What the service creates, against a real server.

use std::time::{Duration, Instant};

use backstack_producer::topology::{TopologyError, check, ensure};
use backstack_producer::{ConnectOptions, api, connect};
use backstack_schemas::Topology;
use backstack_schemas::topology::Choices;
use backstack_tests::{Options, World};
use serde_json::{Value, json};

#[tokio::test]
async fn everything_is_made_once_and_found_right_afterwards() {
    let world = World::blank().await;
    let (client, topology) = (world.connection().await, Topology::default());
    let before = check(&client, &topology).await.unwrap();
    assert_eq!(before.missing_streams.len(), 7);
    assert_eq!(before.missing_consumers.len(), 33);

    ensure(&client, &topology, Choices::default())
        .await
        .unwrap();
    let began = Instant::now();
    ensure(&client, &topology, Choices::default())
        .await
        .unwrap();
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "the second run only looks"
    );

    let after = check(&client, &topology).await.unwrap();
    assert!(after.is_right(), "{after:?}");
    assert_eq!((after.waiting_pulls, after.queued), (0, 0));
}

#[tokio::test]
async fn workers_that_start_at_the_same_time_all_succeed() {
    let world = World::blank().await;
    let topology = Topology::default();
    let starts = (0..4).map(async |_| {
        let client = world.connection().await;
        ensure(&client, &topology, Choices::default()).await
    });
    for result in futures_util::future::join_all(starts).await {
        result.unwrap();
    }
    let report = check(&world.connection().await, &topology).await.unwrap();
    assert!(report.is_right(), "{report:?}");
}

#[tokio::test]
async fn what_exists_with_other_settings_is_named_and_left_alone() {
    let world = World::blank().await;
    let (client, topology) = (world.connection().await, Topology::default());
    ensure(&client, &topology, Choices::default())
        .await
        .unwrap();
    let mut config = stream_config(&client, "BACKSTACK_ACTIONS").await;
    config["duplicate_window"] = json!(60_000_000_000_u64);
    api::ask(&client, "STREAM.UPDATE.BACKSTACK_ACTIONS", &config)
        .await
        .unwrap();

    let error = ensure(&client, &topology, Choices::default())
        .await
        .unwrap_err();
    assert!(matches!(&error, TopologyError::Mismatched(wrong) if wrong.len() == 1));
    let text = error.to_string();
    let named = "BACKSTACK_ACTIONS: duplicate_window is 60000000000, but must be 600000000000";
    assert!(text.contains(named), "{text}");
    let after = stream_config(&client, "BACKSTACK_ACTIONS").await;
    assert_eq!(after["duplicate_window"], json!(60_000_000_000_u64));
}

#[tokio::test]
async fn another_ack_wait_than_the_consumers_have_is_refused() {
    let world = World::blank().await;
    let (client, topology) = (world.connection().await, Topology::default());
    ensure(&client, &topology, Choices::default())
        .await
        .unwrap();
    let longer = Choices {
        ack_wait: Duration::from_secs(60),
        ..Choices::default()
    };
    let error = ensure(&client, &topology, longer).await.unwrap_err();
    assert!(
        matches!(&error, TopologyError::Mismatched(wrong) if wrong.len() == 33),
        "{error}"
    );
    let report = check(&client, &topology).await.unwrap();
    assert!(
        report.is_right(),
        "the ack wait is the operator's choice: {report:?}"
    );
}

#[tokio::test]
async fn namespaces_live_side_by_side() {
    let world = World::blank().await;
    let client = world.connection().await;
    for namespace in ["backstack", "acme-1"] {
        let topology = Topology::new(namespace.parse().unwrap());
        ensure(&client, &topology, Choices::default())
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_server_without_jetstream_is_told_apart() {
    let world = World::with(Options {
        core_only: true,
        ..Options::default()
    })
    .await;
    let client = world.connection().await;
    let error = ensure(&client, &Topology::default(), Choices::default())
        .await
        .unwrap_err();
    assert!(matches!(error, TopologyError::NoJetStream(_)), "{error}");
    assert!(error.to_string().contains("nats-server -js"), "{error}");
}

#[tokio::test]
async fn three_replicas_need_a_cluster_and_the_error_says_so() {
    let world = World::blank().await;
    let client = world.connection().await;
    let three = Choices {
        replicas: 3,
        ..Choices::default()
    };
    let error = ensure(&client, &Topology::default(), three)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("--replicas 1"), "{error}");
}

#[tokio::test]
async fn a_user_who_may_not_is_pointed_at_the_permissions() {
    let config = "authorization { users: [\
        { user: \"admin\", password: \"pw\" }, \
        { user: \"guest\", password: \"pw\", permissions: { publish: \"nothing\" } } ] }";
    let world = World::with(Options {
        nats_config: config.to_owned(),
        login: "admin:pw@".to_owned(),
        blank: true,
        ..Options::default()
    })
    .await;
    let client = connect(&ConnectOptions::to(world.nats_url_as("guest:pw@")))
        .await
        .unwrap();
    let error = ensure(&client, &Topology::default(), Choices::default())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("permission"), "{error}");
}

async fn stream_config(client: &async_nats::Client, name: &str) -> Value {
    let info = api::ask(client, &format!("STREAM.INFO.{name}"), &Value::Null)
        .await
        .unwrap();
    info["config"].clone()
}
