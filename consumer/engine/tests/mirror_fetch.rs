//! What a fetch sees: names, deletions, empty remotes, progress, failures.

mod remote;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use backstack_engine::git::RemotePolicy;
use backstack_engine::{Control, EngineError};
use backstack_schemas::remote::Protocol;
use backstack_schemas::{BranchName, RemoteUrl};

use remote::{Remote, branch, fetch, file_policy, git_in, install_hook, patient, run, web};

fn names(remote: &Remote) -> BTreeSet<String> {
    let printed = remote.git(&["for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads"]);
    printed.lines().map(str::to_owned).collect()
}

#[test]
fn heads_are_what_the_remote_has() {
    let odd = [
        "dots.and-dashes",
        "deep/er/still",
        "größe/日本",
        "@at",
        "a=b",
        "v1.0",
    ];
    let remote = Remote::with_branches(&odd);
    let mut mirror = remote.mirror(&remote.store());
    let fetched = fetch(&mut mirror);
    let seen: BTreeSet<String> = fetched.heads.keys().map(ToString::to_string).collect();
    assert_eq!(seen, names(&remote));
    assert!(fetched.ignored.is_empty());
    let first = remote.head("main").unwrap();
    assert!(fetched.heads.values().all(|head| *head == first));
    assert!(mirror.has(first));
}

#[test]
fn moved_deleted_and_added_branches_are_followed() {
    let remote = Remote::with_branches(&["goes", "moves"]);
    let mut mirror = remote.fetched();
    let first = remote.head("main").unwrap();
    let other = remote.commit(&[], "rewritten");
    remote.set("moves", other);
    remote.delete("goes");
    remote.set("comes", first);
    let heads = fetch(&mut mirror).heads;
    assert_eq!(heads[&branch("moves")], other);
    assert_eq!(heads[&branch("comes")], first);
    assert!(!heads.contains_key(&branch("goes")));
}

#[test]
fn a_branch_may_take_the_place_of_a_directory_and_back() {
    let remote = Remote::with_branches(&["a"]);
    let mut mirror = remote.fetched();
    let first = remote.head("main").unwrap();
    remote.delete("a");
    remote.set("a/b", first);
    assert!(fetch(&mut mirror).heads.contains_key(&branch("a/b")));
    // Packed, the refs meet the same swap from the other side.
    run(git_in(mirror.path()).args(["pack-refs", "--all"]));
    remote.delete("a/b");
    remote.set("a", first);
    let heads = fetch(&mut mirror).heads;
    assert!(heads.contains_key(&branch("a")) && !heads.contains_key(&branch("a/b")));
}

#[test]
fn names_that_no_row_can_hold_are_left_out() {
    let remote = Remote::with_branches(&["fine"]);
    let first = remote.head("main").unwrap();
    let latin1 = std::ffi::OsStr::from_bytes(b"refs/heads/latin1-\xe9");
    let mut command = git_in(&remote.path());
    run(command.arg("update-ref").arg(latin1).arg(first.to_string()));
    let long = format!("{0}/{0}/{0}/{0}/{0}", "x".repeat(220));
    remote.set(&long, first);
    let fetched = fetch(&mut remote.mirror(&remote.store()));
    let seen: Vec<&str> = fetched.heads.keys().map(BranchName::as_str).collect();
    assert_eq!(seen, ["fine", "main"]);
    assert_eq!(fetched.ignored.len(), 2);
}

#[test]
fn an_empty_remote_has_no_heads_and_no_default_branch() {
    let remote = Remote::empty();
    let mut mirror = remote.mirror(&remote.store());
    assert!(fetch(&mut mirror).heads.is_empty());
    assert_eq!(mirror.default_branch(&patient()).unwrap(), None);
    let first = remote.commit(&[], "first");
    remote.set("main", first);
    assert_eq!(fetch(&mut mirror).heads.len(), 1);
    assert_eq!(
        mirror.default_branch(&patient()).unwrap(),
        Some(branch("main"))
    );
    // And one that has been emptied.
    remote.delete("main");
    assert!(fetch(&mut mirror).heads.is_empty());
}

#[test]
fn a_detached_head_is_no_default_branch() {
    let remote = Remote::with_branches(&["a"]);
    let first = remote.head("main").unwrap();
    remote.git(&["update-ref", "--no-deref", "HEAD", &first.to_string()]);
    let mut mirror = remote.mirror(&remote.store());
    assert_eq!(fetch(&mut mirror).heads.len(), 2);
    assert_eq!(mirror.default_branch(&patient()).unwrap(), None);
}

#[test]
fn progress_is_told_in_objects() {
    let remote = Remote::with_branches(&[]);
    let mut head = remote.head("main").unwrap();
    for n in 0..60 {
        head = remote.commit(&[head], &format!("commit {n}"));
    }
    remote.set("main", head);
    let mut mirror = remote.mirror(&remote.store());
    let mut seen = Vec::new();
    mirror
        .fetch(&patient(), &mut |done, total| seen.push((done, total)))
        .unwrap();
    let (done, total) = *seen.last().unwrap();
    assert!(done == total && total >= 180, "{seen:?}");
    assert!(seen.is_sorted());
}

#[test]
fn hooks_planted_in_the_mirror_do_not_run() {
    let remote = Remote::with_branches(&["a"]);
    let mut mirror = remote.mirror(&remote.store());
    for hook in ["reference-transaction", "post-checkout", "pre-auto-gc"] {
        install_hook(mirror.path(), hook, "touch \"$0.ran\"; exit 1");
    }
    assert_eq!(fetch(&mut mirror).heads.len(), 2);
    let hooks = fs::read_dir(mirror.path().join("hooks")).unwrap();
    assert_eq!(hooks.count(), 3);
}

#[test]
fn where_there_is_no_repository_it_is_unreachable() {
    let remote = Remote::empty();
    let url: RemoteUrl = "/nowhere/at/all.git".parse().unwrap();
    let mut mirror = remote.store().mirror(&web(), &url, &patient()).unwrap();
    let error = mirror.fetch(&patient(), &mut |_, _| {}).unwrap_err();
    let EngineError::RemoteUnreachable(said) = error else {
        panic!("{error:?}");
    };
    assert!(said.contains("/nowhere/at/all.git"), "{said}");
}

#[test]
fn where_nobody_listens_it_is_unreachable() {
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let remote = Remote::empty();
    let policy = RemotePolicy {
        allow_protocols: vec![Protocol::Git, Protocol::Http],
        ..RemotePolicy::default()
    };
    let store = remote.store_with(policy, None);
    for scheme in ["git", "http"] {
        let url = format!("{scheme}://127.0.0.1:{port}/a.git")
            .parse()
            .unwrap();
        let mut mirror = store.mirror(&web(), &url, &patient()).unwrap();
        let error = mirror.fetch(&patient(), &mut |_, _| {}).unwrap_err();
        assert!(
            matches!(error, EngineError::RemoteUnreachable(_)),
            "{error:?}"
        );
    }
}

#[test]
fn a_remote_that_hangs_ends_at_the_deadline() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let remote = Remote::empty();
    let policy = RemotePolicy {
        allow_protocols: vec![Protocol::Git],
        ..RemotePolicy::default()
    };
    let url = format!("git://{}/a.git", server.local_addr().unwrap());
    let store = remote.store_with(policy, None);
    let mut mirror = store
        .mirror(&web(), &url.parse().unwrap(), &patient())
        .unwrap();
    let soon = Control::within(Duration::from_millis(200));
    let error = mirror.fetch(&soon, &mut |_, _| {}).unwrap_err();
    assert!(matches!(error, EngineError::Timeout), "{error:?}");
}

#[test]
fn a_remote_that_is_not_allowed_is_never_asked() {
    let remote = Remote::empty();
    let store = remote.store_with(RemotePolicy::default(), None);
    let error = store.mirror(&web(), &remote.url(), &patient()).unwrap_err();
    assert!(
        matches!(error, EngineError::RemoteNotAllowed(_)),
        "{error:?}"
    );
    assert_eq!(store.stats().unwrap().mirrors, 0);
}

#[test]
fn a_sha256_remote_is_refused_for_good() {
    let remote = Remote::empty();
    let other = remote.path().with_file_name("sha256.git");
    run(git_in(&remote.path())
        .args(["init", "-q", "--bare", "--object-format=sha256"])
        .arg(&other));
    let tree = run(git_in(&other).args(["hash-object", "-w", "-t", "tree", "/dev/null"]));
    let commit = run(git_in(&other).args(["commit-tree", "-m", "first", &tree]));
    run(git_in(&other).args(["update-ref", "refs/heads/main", &commit]));
    let url = other.to_str().unwrap().parse().unwrap();
    let mut mirror = remote.store().mirror(&web(), &url, &patient()).unwrap();
    let error = mirror.fetch(&patient(), &mut |_, _| {}).unwrap_err();
    assert!(
        matches!(error, EngineError::RemoteNotAllowed(_)),
        "{error:?}"
    );
}

#[test]
fn commits_that_no_branch_has_are_obtained_by_id_and_stay_when_pinned() {
    let remote = Remote::with_branches(&["a"]);
    let mut mirror = remote.fetched();
    let first = remote.head("main").unwrap();
    let former = remote.commit(&[first], "given up");
    let absent = "00000000000000000000000000000000000000ff".parse().unwrap();
    assert_eq!(
        mirror.obtain(&[former, absent, first], &patient()).unwrap(),
        [absent]
    );
    assert!(mirror.has(former));
    let wanted: BTreeSet<_> = [former, absent].into();
    assert_eq!(mirror.set_pins(&wanted).unwrap(), [absent]);
    assert_eq!(mirror.pins().unwrap(), [former].into());
    let refs =
        run(git_in(mirror.path()).args(["for-each-ref", "--format=%(refname)", "refs/backstack"]));
    assert_eq!(refs, "refs/backstack/pins");
    fetch(&mut mirror);
    run(git_in(mirror.path()).args(["gc", "-q", "--prune=now"]));
    assert!(run(git_in(mirror.path()).args(["cat-file", "-t", &former.to_string()])) == "commit");
}

#[test]
fn a_file_remote_of_somebody_else_is_refused_until_the_operator_trusts_it() {
    if !rustix::process::geteuid().is_root() {
        // Only root can give a directory away; the classification itself is tested by its table.
        return;
    }
    let remote = Remote::with_branches(&["a"]);
    std::os::unix::fs::chown(remote.path(), Some(12_345), None).unwrap();
    let mut mirror = remote.mirror(&remote.store());
    let error = mirror.fetch(&patient(), &mut |_, _| {}).unwrap_err();
    let EngineError::RemoteNotAllowed(sentence) = error else {
        panic!("{error:?}");
    };
    assert!(sentence.contains("safe.directory"), "{sentence}");
    drop(mirror);
    let file = remote.path().with_file_name("operator.gitconfig");
    fs::write(
        &file,
        format!("[safe]\n\tdirectory = {}\n", remote.path().display()),
    )
    .unwrap();
    let policy = RemotePolicy {
        git_config: Some(file),
        ..file_policy()
    };
    let mut mirror = remote.mirror(&remote.store_with(policy, None));
    assert_eq!(fetch(&mut mirror).heads.len(), 2);
}

/// A policy whose ssh is this script; `$2` is the command for the other side.
fn ssh(remote: &Remote, body: &str) -> RemotePolicy {
    install_hook(remote.path().parent().unwrap(), "ssh", body);
    let script = remote.path().with_file_name("hooks").join("ssh");
    RemotePolicy {
        environment: vec![
            ("GIT_SSH_COMMAND".into(), script.into()),
            ("GIT_SSH_VARIANT".into(), "simple".into()),
        ],
        ..RemotePolicy::default()
    }
}

#[test]
fn ssh_is_the_operators_own() {
    let remote = Remote::with_branches(&["a"]);
    let store = remote.store_with(ssh(&remote, "exec sh -c \"$2\""), None);
    let url = format!("git@git.example:{}", remote.path().display());
    let url = url.parse().unwrap();
    let mut mirror = store.mirror(&web(), &url, &patient()).unwrap();
    assert_eq!(fetch(&mut mirror).heads.len(), 2);
}

#[test]
fn credentials_that_ssh_does_not_take_are_told_from_a_dead_network() {
    for (said, is_auth) in [
        ("git@git.example: Permission denied (publickey).", true),
        ("Host key verification failed.", true),
        (
            "ssh: connect to host git.example port 22: Connection refused",
            false,
        ),
    ] {
        let remote = Remote::empty();
        let store = remote.store_with(ssh(&remote, &format!("echo '{said}' >&2; exit 255")), None);
        let url = "git@git.example:a.git".parse().unwrap();
        let mut mirror = store.mirror(&web(), &url, &patient()).unwrap();
        match mirror.fetch(&patient(), &mut |_, _| {}).unwrap_err() {
            EngineError::RemoteAuthFailed(words) if is_auth => assert!(words.contains(said)),
            EngineError::RemoteUnreachable(words) if !is_auth => assert!(words.contains(said)),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_operators_credentials_are_sent_and_never_shown() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/a.git", server.local_addr().unwrap());
    let remote = Remote::empty();
    let file = remote.path().with_file_name("operator.gitconfig");
    let helper = "!f() { echo username=bot; echo password=s3cret; }; f";
    fs::write(&file, format!("[credential]\n\thelper = \"{helper}\"\n")).unwrap();
    let policy = RemotePolicy {
        allow_protocols: vec![Protocol::Http],
        git_config: Some(file),
        ..RemotePolicy::default()
    };
    // Whatever it is asked, it wants other credentials; it tells what it was given.
    let (told, asked) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in server.incoming() {
            let mut stream = stream.unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let head: Vec<String> = lines
                .map_while(Result::ok)
                .take_while(|l| !l.is_empty())
                .collect();
            let answer = "HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=\"x\"\r\n\
                          Content-Length: 0\r\nConnection: close\r\n\r\n";
            stream.write_all(answer.as_bytes()).unwrap();
            if told.send(head).is_err() {
                break;
            }
        }
    });
    let store = remote.store_with(policy, None);
    let mut mirror = store
        .mirror(&web(), &url.parse().unwrap(), &patient())
        .unwrap();
    let error = mirror.fetch(&patient(), &mut |_, _| {}).unwrap_err();
    assert!(
        matches!(error, EngineError::RemoteAuthFailed(_)),
        "{error:?}"
    );
    assert!(!error.to_string().contains("s3cret"), "{error}");
    let sent: Vec<String> = asked.try_iter().flatten().collect();
    // "bot:s3cret" in base 64.
    assert!(
        sent.contains(&"Authorization: Basic Ym90OnMzY3JldA==".to_owned()),
        "{sent:?}"
    );
}
