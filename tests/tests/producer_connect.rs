//! Getting onto a real server: credentials, TLS, reconnecting.

use std::path::Path;
use std::time::{Duration, Instant};

use backstack_producer::{ConnectError, ConnectOptions, connect};
use backstack_tests::{Options, World};

/// A server that knows Alice, and the harness.
async fn with_users() -> World {
    let users = r#"authorization { users: [
        { user: "alice", password: "p w/@" }, { user: "harness", password: "of tests" } ] }"#;
    World::with(Options {
        nats_config: users.to_owned(),
        login: "harness:of tests@".to_owned(),
        blank: true,
        ..Options::default()
    })
    .await
}

#[tokio::test]
async fn credentials_in_the_address_are_used() {
    let world = with_users().await;
    let address = world.nats_url_as("alice:p%20w%2F%40@");
    let client = connect(&ConnectOptions::to(address)).await.unwrap();
    client.flush().await.unwrap();
}

#[tokio::test]
async fn credentials_that_are_refused_are_told_apart_and_never_repeated() {
    let world = with_users().await;
    let nameless = world.nats_url_as("");
    for address in [world.nats_url_as("alice:pw@"), nameless.clone()] {
        let began = Instant::now();
        let error = connect(&ConnectOptions::to(address)).await.unwrap_err();
        assert!(matches!(error, ConnectError::Refused { .. }), "{error}");
        let text = error.to_string();
        assert!(
            text.contains(&nameless) && text.contains("--nats-creds"),
            "{text}"
        );
        assert!(!text.contains("pw"), "{text}");
        assert!(began.elapsed() < Duration::from_secs(5));
    }
}

#[tokio::test]
async fn one_of_several_servers_is_enough() {
    let world = World::blank().await;
    let addresses = format!("nats://127.0.0.1:1,{}", world.nats_url());
    connect(&ConnectOptions::to(addresses)).await.unwrap();
}

#[tokio::test]
async fn a_connection_that_was_made_comes_back() {
    let world = World::blank().await;
    let client = world.connection().await;
    let mut echo = client.subscribe("echo").await.unwrap();
    world.server().kill9().await;
    world.server().restart().await.unwrap();
    let heard = async {
        loop {
            client.publish("echo", "again".into()).await.unwrap();
            let wait = tokio::time::timeout(
                Duration::from_millis(100),
                futures_util::StreamExt::next(&mut echo),
            );
            if let Ok(Some(message)) = wait.await {
                return message.payload;
            }
        }
    };
    let payload = tokio::time::timeout(Duration::from_secs(20), heard)
        .await
        .unwrap();
    assert_eq!(payload, "again");
}

#[tokio::test]
async fn tls_is_used_with_the_authority_named_and_refused_with_another() {
    let dir = tempfile::tempdir().unwrap();
    let (server_files, other_files) = (
        certificate(dir.path(), "server"),
        certificate(dir.path(), "other"),
    );
    let config = format!(
        "tls {{ cert_file: {:?}, key_file: {:?} }}",
        server_files.0, server_files.1
    );
    let world = World::with(Options {
        nats_config: config,
        tls_ca: Some(server_files.0.clone().into()),
        blank: true,
        ..Options::default()
    })
    .await;

    let trusting = ConnectOptions {
        tls_ca: Some(server_files.0.clone().into()),
        tls_required: true,
        ..ConnectOptions::to(world.nats_url())
    };
    connect(&trusting).await.unwrap().flush().await.unwrap();
    for ca in [None, Some(other_files.0.into())] {
        let options = ConnectOptions {
            tls_ca: ca,
            ..ConnectOptions::to(world.nats_url())
        };
        let error = connect(&options).await.unwrap_err();
        assert!(matches!(error, ConnectError::Tls { .. }), "{error:?}");
        assert!(error.to_string().contains("--nats-tls-ca"), "{error}");
    }
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_tls_is_required() {
    let world = World::blank().await;
    let options = ConnectOptions {
        tls_required: true,
        ..ConnectOptions::to(world.nats_url())
    };
    let error = connect(&options).await.unwrap_err();
    assert!(matches!(error, ConnectError::Tls { .. }), "{error:?}");
}

/// A self-signed certificate for the loopback address and its key, as files.
fn certificate(dir: &Path, name: &str) -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let write = |end: &str, text: String| {
        let path = dir.join(format!("{name}.{end}"));
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    (
        write("crt", made.cert.pem()),
        write("key", made.signing_key.serialize_pem()),
    )
}
