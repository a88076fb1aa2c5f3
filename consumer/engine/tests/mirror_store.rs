//! The state directory: one process, turns, budget, pins, and what a kill or a bad disk leave.

mod remote;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use backstack_engine::git::Git;
use backstack_engine::mirror::{Mirror, MirrorStore, Stats};
use backstack_engine::{Control, EngineError};
use backstack_schemas::ObjectId;

use remote::{Remote, branch, fetch, file_policy, git_in, patient, run, wait_for, web};

#[test]
fn the_directories_are_private_and_hold_one_mirror_for_each_url() {
    use std::os::unix::fs::PermissionsExt;
    let remote = Remote::with_branches(&["a"]);
    let store = remote.store();
    let mode = fs::metadata(remote.state_dir())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o700);
    let first = remote.mirror(&store).path().to_owned();
    assert_eq!(remote.mirror(&store).path(), first);
    let other = format!("file://{}", remote.path().display())
        .parse()
        .unwrap();
    let mut mirror = store.mirror(&web(), &other, &patient()).unwrap();
    assert_ne!(mirror.path(), first);
    assert!(mirror.heads().unwrap().heads.is_empty());
    assert_eq!(fetch(&mut mirror).heads.len(), 2);
    assert_eq!(store.stats().unwrap().mirrors, 2);
}

/// Plays both parts: as a child of itself it tries to take the directory its parent holds.
#[test]
fn a_second_process_is_refused_and_told_whose_the_directory_is() {
    const DIR: &str = "BACKSTACK_TEST_STATE_DIR";
    let open =
        |dir: &Path| MirrorStore::open(dir, Git::discover(None).unwrap(), file_policy(), None);
    if let Some(dir) = std::env::var_os(DIR) {
        let error = open(Path::new(&dir)).unwrap_err();
        eprintln!("refused: {error}");
        return;
    }
    let remote = Remote::empty();
    let store = remote.store();
    let child = || {
        let output = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "a_second_process_is_refused_and_told_whose_the_directory_is",
            ])
            .arg("--nocapture")
            .env(DIR, remote.state_dir())
            .output()
            .unwrap();
        (
            output.status.success(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (refused, said) = child();
    assert!(refused, "{said}");
    assert!(
        said.contains(&format!("(pid {})", std::process::id())),
        "{said}"
    );
    assert!(said.contains("--state-dir"), "{said}");
    // Even the same process is another holder; and a mirror in hand keeps the directory.
    assert!(matches!(
        open(&remote.state_dir()),
        Err(EngineError::StateDirInUse { .. })
    ));
    let mirror = remote.mirror(&store);
    drop(store);
    assert!(open(&remote.state_dir()).is_err());
    drop(mirror);
    remote.store();
}

#[test]
fn a_mirror_may_move_between_threads_and_the_store_be_shared() {
    fn moves<T: Send>() {}
    fn is_shared<T: Send + Sync>() {}
    moves::<Mirror>();
    is_shared::<MirrorStore>();
}

#[test]
fn jobs_of_one_repository_take_turns() {
    let remote = Remote::with_branches(&[]);
    let store = remote.store();
    let held = remote.mirror(&store);
    let soon = Control::within(Duration::from_millis(100));
    let error = store.mirror(&web(), &remote.url(), &soon).unwrap_err();
    assert!(matches!(error, EngineError::Timeout), "{error:?}");
    let other = "other".parse().unwrap();
    drop(store.mirror(&other, &remote.url(), &patient()).unwrap());
    thread::scope(|scope| {
        let waiter = scope.spawn(|| remote.mirror(&store).path().to_owned());
        assert!(!waiter.is_finished());
        let path = held.path().to_owned();
        drop(held);
        assert_eq!(waiter.join().unwrap(), path);
    });
}

#[test]
fn what_was_not_used_for_longest_goes_first_and_what_is_in_hand_never() {
    let remote = Remote::with_branches(&["a"]);
    let names = ["first", "second", "third"];
    let store = remote.store_with(file_policy(), Some(1));
    let open = |name: &str| -> Mirror {
        store
            .mirror(&name.parse().unwrap(), &remote.url(), &patient())
            .unwrap()
    };
    let paths: Vec<PathBuf> = names
        .iter()
        .map(|name| {
            let mut mirror = open(name);
            fetch(&mut mirror);
            mirror.path().to_owned()
        })
        .collect();
    let held = open("first");
    assert!(store.enforce_budget().unwrap() > 0);
    let left: Vec<bool> = paths.iter().map(|path| path.exists()).collect();
    assert_eq!(left, [true, false, false]);
    assert!(held.heads().unwrap().heads.contains_key(&branch("a")));
    drop(held);
    assert!(store.enforce_budget().unwrap() > 0);
    assert_eq!(store.stats().unwrap(), Stats::default());
}

#[test]
fn only_as_much_goes_as_the_budget_asks() {
    let remote = Remote::with_branches(&["a"]);
    let size = {
        let store = remote.store();
        drop(fetch(&mut remote.mirror(&store)));
        store.stats().unwrap().bytes
    };
    let store = remote.store_with(file_policy(), Some(size * 5 / 2));
    let paths = ["first", "second", "third"].map(|name| {
        let mut mirror = store
            .mirror(&name.parse().unwrap(), &remote.url(), &patient())
            .unwrap();
        fetch(&mut mirror);
        mirror.path().to_owned()
    });
    store.remove(&web()).unwrap();
    store.enforce_budget().unwrap();
    assert_eq!(paths.map(|path| path.exists()), [false, true, true]);
}

#[test]
fn a_repositorys_mirrors_are_removed_unless_in_hand() {
    let remote = Remote::with_branches(&["a"]);
    let store = remote.store();
    let mut mirror = remote.mirror(&store);
    fetch(&mut mirror);
    assert_eq!(store.remove(&web()).unwrap(), 0);
    drop(mirror);
    assert!(store.remove(&web()).unwrap() > 0);
    assert_eq!(store.stats().unwrap().mirrors, 0);
    assert_eq!(fetch(&mut remote.mirror(&store)).heads.len(), 2);
}

#[test]
fn pins_survive_every_collection_and_the_rest_goes() {
    let remote = Remote::with_branches(&["a"]);
    let mut mirror = remote.fetched();
    let first = remote.head("main").unwrap();
    let commits: Vec<ObjectId> = (0..300)
        .map(|n| remote::commit_in(mirror.path(), &[first], &format!("former {n}")))
        .collect();
    let (kept, dropped) = commits.split_at(200);
    assert_eq!(
        mirror.set_pins(&kept.iter().copied().collect()).unwrap(),
        []
    );
    let collect = || run(git_in(mirror.path()).args(["gc", "-q", "--prune=now"]));
    collect();
    let exists = |id: &ObjectId| {
        let mut command = git_in(mirror.path());
        command.args(["cat-file", "-e", &id.to_string()]);
        command.stderr(Stdio::null()).status().unwrap().success()
    };
    assert!(kept.iter().all(exists));
    assert!(!dropped.iter().any(exists));
    mirror.set_pins(&BTreeSet::from([kept[0]])).unwrap();
    collect();
    assert!(exists(&kept[0]) && !exists(&kept[1]));
    mirror.set_pins(&BTreeSet::new()).unwrap();
    assert!(mirror.pins().unwrap().is_empty());
    assert_eq!(fetch(&mut mirror).heads.len(), 2);
}

#[test]
fn the_same_pins_write_nothing() {
    let remote = Remote::with_branches(&["a"]);
    let mirror = remote.fetched();
    let pins = BTreeSet::from([remote.head("main").unwrap()]);
    mirror.set_pins(&pins).unwrap();
    let file = mirror.path().join("packed-refs");
    let written = fs::metadata(&file).unwrap().modified().unwrap();
    mirror.set_pins(&pins).unwrap();
    assert_eq!(fs::metadata(&file).unwrap().modified().unwrap(), written);
}

#[test]
fn only_commits_are_pinned() {
    let remote = Remote::with_branches(&[]);
    let mirror = remote.fetched();
    let tree: ObjectId = remote.git(&["rev-parse", "main^{tree}"]).parse().unwrap();
    assert_eq!(mirror.set_pins(&BTreeSet::from([tree])).unwrap(), [tree]);
    assert!(mirror.pins().unwrap().is_empty());
}

#[test]
fn maintenance_packs_when_it_is_worth_it_and_not_before_pins_are_set() {
    let remote = Remote::with_branches(&["a"]);
    let mut mirror = remote.fetched();
    let first = remote.head("main").unwrap();
    let former = remote::commit_in(mirror.path(), &[first], "former");
    let pins = BTreeSet::from([former]);
    mirror.set_pins(&pins).unwrap();
    assert!(!mirror.maintain(&patient()).unwrap());
    // Each of these fetches brings a pack, as one of a hundred objects or more does.
    for n in 0..24 {
        let head = remote.commit(&[first], &format!("round {n}"));
        remote.set("a", head);
        fetch(&mut mirror);
        run(git_in(mirror.path()).args(["repack", "-q", "-d"]));
    }
    assert!(mirror.maintain(&patient()).unwrap());
    assert!(!mirror.maintain(&patient()).unwrap());
    assert!(
        mirror.has(former)
            && mirror
                .repo()
                .find_commit(git2::Oid::from_bytes(former.as_bytes()).unwrap())
                .is_ok()
    );
    assert_eq!(fetch(&mut mirror).heads.len(), 2);
}

/// Plays both parts: as a child of itself it fetches from a remote that hangs, and is killed.
#[test]
fn a_fetch_that_was_killed_leaves_a_mirror_that_the_next_one_repairs() {
    const DIR: &str = "BACKSTACK_TEST_KILLED_DIR";
    const URL: &str = "BACKSTACK_TEST_KILLED_URL";
    if let (Some(dir), Ok(url)) = (std::env::var_os(DIR), std::env::var(URL)) {
        let git = Git::discover(None).unwrap();
        let store = MirrorStore::open(Path::new(&dir), git, file_policy(), None).unwrap();
        let mut mirror = store
            .mirror(&web(), &url.parse().unwrap(), &Control::unbounded())
            .unwrap();
        // The parent kills this process before it is done.
        mirror.fetch(&Control::unbounded(), &mut |_, _| {}).unwrap();
        return;
    }
    let remote = Remote::with_branches(&["a", "b"]);
    let path = remote.fetched().path().to_owned();
    // With a pipe in place of a commit the remote's git waits for what will never be written.
    let unreadable = remote.commit(&[], "c");
    remote.set("c", unreadable);
    let pipe = loose(&remote.path(), unreadable);
    fs::remove_file(&pipe).unwrap();
    run(Command::new("mkfifo").arg(&pipe));
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "a_fetch_that_was_killed_leaves_a_mirror_that_the_next_one_repairs",
        ])
        .env(DIR, remote.state_dir())
        .env(URL, remote.url().as_str())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // The pipe can be opened so only once there is a reader.
    let open = || {
        fs::OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&pipe)
            .ok()
    };
    let writer = wait_for(open);
    let state = || fs::read_to_string(path.join("backstack-state")).unwrap();
    assert_eq!(state().trim(), "in use");
    child.kill().unwrap();
    child.wait().unwrap();
    drop(writer);
    fs::remove_file(&pipe).unwrap();
    fs::remove_file(remote.path().join("refs/heads/c")).unwrap();
    // What a git that was killed at other moments would have left besides.
    for leftover in [
        "packed-refs.lock",
        "HEAD.lock",
        "config.lock",
        "refs/heads/a.lock",
        "refs/heads/deep/er.lock",
        "objects/pack/tmp_pack_Abc123",
        "objects/info/commit-graph.lock",
        "gc.pid",
    ] {
        let file = path.join(leftover);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "half").unwrap();
    }
    fs::write(path.join("refs/heads/b"), "").unwrap();
    let moved = remote.commit(&[], "moved");
    remote.set("a", moved);
    let store = remote.store();
    let mut mirror = remote.mirror(&store);
    let heads = fetch(&mut mirror).heads;
    assert_eq!(heads[&branch("a")], moved);
    assert_eq!(heads.len(), 3);
    assert!(!path.join("objects/pack/tmp_pack_Abc123").exists());
    drop(mirror);
    assert_eq!(state().trim(), "clean");
}

/// Plays both parts: as a child of itself it fetches, and is killed sooner or later.
#[test]
fn whenever_a_fetch_is_killed_the_next_one_succeeds() {
    const DIR: &str = "BACKSTACK_TEST_KILLED_ANYTIME_DIR";
    const URL: &str = "BACKSTACK_TEST_KILLED_ANYTIME_URL";
    if let (Some(dir), Ok(url)) = (std::env::var_os(DIR), std::env::var(URL)) {
        let git = Git::discover(None).unwrap();
        let store = MirrorStore::open(Path::new(&dir), git, file_policy(), None).unwrap();
        let mut mirror = store
            .mirror(&web(), &url.parse().unwrap(), &patient())
            .unwrap();
        fetch(&mut mirror);
        return;
    }
    let remote = Remote::empty();
    // Enough branches for the refs to take as long as the objects.
    let mut head = remote.commit(&[], "first");
    let mut orders = String::new();
    for n in 0..150 {
        head = remote.commit(&[head], &format!("commit {n}"));
        orders.push_str(&format!("create refs/heads/branch-{n} {head}\n"));
    }
    remote.update_refs(&orders);
    for round in 0..8 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "whenever_a_fetch_is_killed_the_next_one_succeeds",
            ])
            .env(DIR, remote.state_dir())
            .env(URL, remote.url().as_str())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_for(|| remote.state_dir().join("mirrors").exists().then_some(()));
        // Not to wait for anything: each round is killed at another moment.
        thread::sleep(Duration::from_millis(6 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        let store = remote.store();
        let mut mirror = remote.mirror(&store);
        assert_eq!(fetch(&mut mirror).heads.len(), 150);
        let path = mirror.path().to_owned();
        let fsck = run(git_in(&path).args(["fsck", "--full", "--no-dangling"]));
        assert!(
            !fsck.contains("missing") && !fsck.contains("error"),
            "{fsck}"
        );
        drop(mirror);
        drop(store);
        fs::remove_dir_all(remote.state_dir()).unwrap();
    }
}

#[test]
fn a_sound_mirror_that_was_suspected_stays_as_it_is() {
    let remote = Remote::with_branches(&["a"]);
    let store = remote.store();
    let mut mirror = remote.mirror(&store);
    fetch(&mut mirror);
    let unpinned = remote::commit_in(mirror.path(), &[], "in no other mirror");
    mirror.mark_damaged();
    drop(mirror);
    assert!(remote.mirror(&store).has(unpinned));
}

/// Damages a loose object.
fn corrupt(mirror: &Path, id: ObjectId) {
    let file = loose(mirror, id);
    fs::remove_file(&file).unwrap();
    fs::write(&file, "").unwrap();
}

/// The file of a loose object.
fn loose(repo: &Path, id: ObjectId) -> PathBuf {
    let hex = id.to_string();
    repo.join("objects").join(&hex[..2]).join(&hex[2..])
}

#[test]
fn a_damaged_mirror_is_made_afresh_and_what_was_pinned_is_saved() {
    let remote = Remote::with_branches(&["a"]);
    let store = remote.store();
    let mut mirror = remote.mirror(&store);
    fetch(&mut mirror);
    let first = remote.head("main").unwrap();
    let only_here = remote::commit_in(mirror.path(), &[], "the remote never had this");
    mirror
        .set_pins(&BTreeSet::from([only_here, first]))
        .unwrap();
    corrupt(mirror.path(), first);
    mirror.mark_damaged();
    drop(mirror);
    let mut mirror = remote.mirror(&store);
    assert!(mirror.has(only_here), "what was whole is saved");
    assert_eq!(fetch(&mut mirror).heads[&branch("a")], first);
    assert!(
        mirror
            .repo()
            .find_commit(git2::Oid::from_bytes(first.as_bytes()).unwrap())
            .is_ok()
    );
    assert_eq!(
        mirror
            .set_pins(&BTreeSet::from([only_here, first]))
            .unwrap(),
        []
    );
}

#[test]
fn what_is_found_out_while_git_fetches_counts_unless_the_mirror_had_to_be_healed() {
    let remote = Remote::with_branches(&["a"]);
    let store = remote.store();
    let fetched = |found: &dyn Fn(&Mirror) -> usize| {
        let (id, url, mut progress) = (web(), remote.url(), |_, _| {});
        store
            .fetched(&id, &url, &patient(), &mut progress, found)
            .unwrap()
    };
    let heads = |mirror: &Mirror| mirror.heads().unwrap().heads.len();
    let (mirror, now, before) = fetched(&heads);
    assert_eq!((now.heads.len(), before), (2, Some(0)));
    drop(mirror);
    let (mirror, now, before) = fetched(&heads);
    assert_eq!((now.heads.len(), before), (2, Some(2)));
    let first = remote.head("main").unwrap();
    corrupt(mirror.path(), first);
    drop(mirror);
    let (mirror, now, before) = fetched(&heads);
    assert_eq!((now.heads.len(), before), (2, None));
    assert_eq!(now, mirror.heads().unwrap());
}

#[test]
fn a_mirror_is_settled_once_exactly_what_is_asked_for_is_pinned() {
    let remote = Remote::with_branches(&["a"]);
    let mut mirror = remote.fetched();
    let first = remote.head("main").unwrap();
    let pins = BTreeSet::from([first]);
    assert!(!mirror.is_settled(&pins).unwrap());
    mirror.set_pins(&pins).unwrap();
    assert!(mirror.is_settled(&pins).unwrap());
    assert!(!mirror.is_settled(&BTreeSet::new()).unwrap());
    // A commit that was obtained hangs on a ref of its own until the pins are set again.
    let gone = remote.commit(&[], "on no branch");
    remote.git(&["config", "uploadpack.allowAnySHA1InWant", "true"]);
    assert_eq!(mirror.obtain(&[gone], &patient()).unwrap(), []);
    assert!(!mirror.is_settled(&pins).unwrap());
    mirror.set_pins(&pins).unwrap();
    assert!(mirror.is_settled(&pins).unwrap());
    // Enough packs to be worth packing.
    for n in 0..30 {
        remote.set("a", remote.commit(&[first], &format!("{n}")));
        fetch(&mut mirror);
        run(git_in(mirror.path()).args(["repack", "-q"]));
    }
    assert!(!mirror.is_settled(&pins).unwrap());
    mirror.set_pins(&pins).unwrap();
    assert!(mirror.maintain(&patient()).unwrap());
    assert!(mirror.is_settled(&pins).unwrap());
}

#[test]
fn saving_what_was_pinned_is_taken_up_again() {
    let remote = Remote::with_branches(&["a"]);
    let store = remote.store();
    let mut mirror = remote.mirror(&store);
    fetch(&mut mirror);
    let only_here = remote::commit_in(mirror.path(), &[], "the remote never had this");
    mirror.set_pins(&BTreeSet::from([only_here])).unwrap();
    let path = mirror.path().to_owned();
    drop(mirror);
    // As a kill leaves it that comes after the damaged mirror was set aside.
    let aside = path.with_extension("git-damaged");
    fs::rename(&path, &aside).unwrap();
    let mirror = remote.mirror(&store);
    assert!(mirror.has(only_here));
    assert!(!aside.exists());
    assert_eq!(mirror.set_pins(&BTreeSet::from([only_here])).unwrap(), []);
}

#[test]
fn damage_that_a_fetch_meets_is_put_right_at_once() {
    let remote = Remote::with_branches(&["a"]);
    let mut mirror = remote.fetched();
    let first = remote.head("main").unwrap();
    corrupt(mirror.path(), first);
    let second = remote.commit(&[first], "second");
    remote.set("a", second);
    let heads = fetch(&mut mirror).heads;
    assert_eq!(
        (heads[&branch("a")], heads[&branch("main")]),
        (second, first)
    );
    let path = mirror.path().to_owned();
    drop(mirror);
    assert_eq!(
        run(git_in(&path).args(["fsck", "--full", "--no-dangling"])),
        ""
    );
}

#[test]
fn torn_files_are_written_again() {
    let remote = Remote::with_branches(&["a"]);
    let path = remote.fetched().path().to_owned();
    run(git_in(&path).args(["pack-refs", "--all"]));
    for (file, content) in [
        ("HEAD", ""),
        ("config", "[co"),
        ("packed-refs", "# pack-refs\nabc"),
    ] {
        fs::write(path.join(file), content).unwrap();
    }
    fs::write(path.join("backstack-state"), "").unwrap();
    let mut mirror = remote.mirror(&remote.store());
    assert_eq!(fetch(&mut mirror).heads.len(), 2);
}

#[test]
fn a_half_deleted_mirror_is_gone_at_the_next_start() {
    let remote = Remote::with_branches(&["a"]);
    let path = remote.fetched().path().to_owned();
    let trash = path.parent().unwrap().join(".trash");
    fs::create_dir(&trash).unwrap();
    fs::rename(&path, trash.join("web.0")).unwrap();
    let store = remote.store();
    assert!(!trash.exists());
    assert_eq!(store.stats().unwrap().mirrors, 0);
}
