//! The command without a server: what it refuses, and how it says that nobody answers.

use std::net::TcpListener;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// The command in an environment of its own.
fn backstack(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_backstack"));
    command.args(args).env_clear().env("LC_ALL", "C.UTF-8");
    command
}

fn run(args: &[&str]) -> Output {
    backstack(args).output().expect("the command runs")
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

/// An address where nothing listens: it was free a moment ago.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    format!(
        "127.0.0.1:{}",
        listener.local_addr().expect("its address").port()
    )
}

#[test]
fn wrong_input_exits_2_and_says_what_is_wrong() {
    for (args, part) in [
        (&["restack"][..], "<REPO>"),
        (&["restack", "WEB"], "must be 1 to 63 of a-z"),
        (&["restack", "web", "a..b"], "which git refuses"),
        (&["reparent", "web", "a"], "<PARENT>"),
        (&["register", "web", "a", "--base", "abc"], "full object id"),
        (&["job", "show", "web", "7"], "canonical form"),
        (
            &["jobs", "--status", "done"],
            "queued, running, completed, error, cancelled",
        ),
        (&["frobnicate"], "unrecognized subcommand"),
        (
            &["repo", "add", "web", "ext::sh -c true"],
            "could run a program",
        ),
        (
            &["repo", "add", "web", "no/such/path"],
            "cannot be found from here",
        ),
        (
            &["jobs", "--nats-url", "http://127.0.0.1"],
            "nats://127.0.0.1:4222",
        ),
        (
            &["jobs", "--nats-creds", "no/such/file"],
            "no/such/file cannot be used",
        ),
        (&["jobs", "--inbox-prefix", "a.>.b"], "no wildcards"),
        (&["jobs", "--nats-tls-cert", "cert.pem"], "--nats-tls-key"),
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", said(&output));
        assert!(said(&output).contains(part), "{args:?}: {}", said(&output));
        assert!(output.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn a_password_is_never_repeated() {
    let url = "https://user:s3cret@git.example/web.git";
    let refused = run(&["repo", "add", "web", url]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        said(&refused).contains("holds a password"),
        "{}",
        said(&refused)
    );
    assert!(!said(&refused).contains("s3cret"), "{}", said(&refused));

    let nats = format!("nats://user:s3cret@{}", nobody());
    for args in [&["jobs"][..], &["doctor"], &["--help"]] {
        let output = backstack(args).env("NATS_URL", &nats).output().unwrap();
        let all = format!(
            "{}{}",
            said(&output),
            String::from_utf8_lossy(&output.stdout)
        );
        assert!(!all.contains("s3cret"), "{args:?}: {all}");
    }
}

#[test]
fn without_a_server_it_exits_3_and_names_the_address_and_what_to_start() {
    let (first, second) = (nobody(), nobody());
    let url = format!("nats://{first},nats://{second}");
    let began = Instant::now();
    for args in [
        &["restack", "web"][..],
        &["jobs", "--json"],
        &["watch"],
        &["stack", "web"],
    ] {
        let output = backstack(args).env("NATS_URL", &url).output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{args:?}: {}", said(&output));
        let text = said(&output);
        for part in [
            first.as_str(),
            second.as_str(),
            "backstackd dev",
            "nats-server -js",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert!(output.stdout.is_empty());
    }
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_server_that_never_answers_is_given_up_within_5_seconds() {
    // The system takes the connection; nobody ever says anything on it.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let began = Instant::now();
    let output = run(&["jobs", "--nats-url", &address]);
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(said(&output).contains(&address), "{}", said(&output));
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn doctor_says_that_nobody_answers_and_what_to_do() {
    let output = run(&["doctor", "--nats-url", &nobody()]);
    assert_eq!(output.status.code(), Some(3));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.starts_with("problem  no NATS server answers at nats://127.0.0.1:"),
        "{text}"
    );
    assert!(text.contains("→ start one with `backstackd dev`"), "{text}");
}
