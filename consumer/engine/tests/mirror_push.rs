//! Every way a push can end, against real remotes and their hooks.

mod remote;

use std::fs;

use backstack_engine::EngineError;
use backstack_engine::mirror::{Mirror, Pushed, RefUpdate};
use backstack_schemas::{BranchName, ObjectId};

use remote::{Remote, branch, commit_in, fetch, install_hook, patient, update};

/// A remote with `main`, `a` and `b` at one commit, its mirror, and what `a` and `b` shall become.
struct Scene {
    remote: Remote,
    mirror: Mirror,
    first: ObjectId,
    second: ObjectId,
}

impl Scene {
    fn new() -> Self {
        let remote = Remote::with_branches(&["a", "b"]);
        let mirror = remote.fetched();
        let first = remote.head("main").unwrap();
        let second = commit_in(mirror.path(), &[first], "second");
        Self {
            remote,
            mirror,
            first,
            second,
        }
    }

    fn both(&self) -> [RefUpdate; 2] {
        [
            update("a", self.first, self.second),
            update("b", self.first, self.second),
        ]
    }

    fn push(&self, updates: &[RefUpdate]) -> Result<Pushed, EngineError> {
        self.mirror.push(&branch("main"), updates, &patient())
    }

    fn heads(&self) -> [Option<ObjectId>; 2] {
        [self.remote.head("a"), self.remote.head("b")]
    }

    fn assert_nothing_moved(&self) {
        assert_eq!(self.heads(), [Some(self.first); 2]);
    }
}

fn moved(result: Result<Pushed, EngineError>) -> Vec<BranchName> {
    match result {
        Err(EngineError::BranchMoved(branches)) => branches,
        other => panic!("{other:?}"),
    }
}

fn rejected(result: Result<Pushed, EngineError>) -> String {
    match result {
        Err(EngineError::RemoteRejected(words)) => words,
        other => panic!("{other:?}"),
    }
}

#[test]
fn all_or_none_are_pushed_and_the_mirror_follows() {
    let scene = Scene::new();
    assert_eq!(scene.push(&scene.both()).unwrap(), Pushed::All);
    assert_eq!(scene.heads(), [Some(scene.second); 2]);
    let heads = scene.mirror.heads().unwrap().heads;
    assert_eq!(heads[&branch("a")], scene.second);
    assert_eq!(heads[&branch("main")], scene.first);
}

#[test]
fn a_branch_is_forced_where_its_lease_holds() {
    let scene = Scene::new();
    let other = commit_in(scene.mirror.path(), &[], "unrelated");
    let pushed = scene.push(&[update("a", scene.first, other)]).unwrap();
    assert_eq!(pushed, Pushed::All);
    assert_eq!(scene.heads(), [Some(other), Some(scene.first)]);
}

#[test]
fn a_second_push_after_a_lost_answer_has_nothing_to_do() {
    let scene = Scene::new();
    scene.remote.git(&[
        "fetch",
        "-q",
        scene.mirror.path().to_str().unwrap(),
        &scene.second.to_string(),
    ]);
    scene.remote.set("a", scene.second);
    assert_eq!(scene.push(&scene.both()).unwrap(), Pushed::All);
    assert_eq!(scene.push(&scene.both()).unwrap(), Pushed::All);
    assert_eq!(scene.heads(), [Some(scene.second); 2]);
}

#[test]
fn a_branch_that_moved_or_went_loses_the_lease_and_nothing_is_pushed() {
    let scene = Scene::new();
    let theirs = scene.remote.commit(&[scene.first], "theirs");
    scene.remote.set("b", theirs);
    assert_eq!(moved(scene.push(&scene.both())), [branch("b")]);
    assert_eq!(scene.heads(), [Some(scene.first), Some(theirs)]);
    scene.remote.delete("b");
    assert_eq!(moved(scene.push(&scene.both())), [branch("b")]);
    assert_eq!(scene.heads(), [Some(scene.first), None]);
}

#[test]
fn a_branch_that_moves_while_the_push_is_under_way_loses_the_lease() {
    let scene = Scene::new();
    let theirs = scene.remote.commit(&[scene.first], "theirs");
    // By the time this hook runs, git has read the remote's refs and found the leases good.
    scene.remote.hook(
        "pre-receive",
        &format!("unset GIT_QUARANTINE_PATH; git update-ref refs/heads/b {theirs}"),
    );
    assert_eq!(moved(scene.push(&scene.both())), [branch("b")]);
    assert_eq!(scene.heads(), [Some(scene.first), Some(theirs)]);
}

#[test]
fn a_ref_that_someone_has_locked_is_named_in_the_remotes_words() {
    let scene = Scene::new();
    let lock = scene.remote.path().join("refs/heads/b.lock");
    fs::write(&lock, "").unwrap();
    match scene.push(&scene.both()) {
        Err(EngineError::BranchLocked { branches, said }) => {
            assert_eq!(branches, [branch("b")]);
            assert!(said.contains("b.lock': File exists"), "{said}");
        }
        other => panic!("{other:?}"),
    }
    scene.assert_nothing_moved();
    fs::remove_file(&lock).unwrap();
    assert_eq!(scene.push(&scene.both()).unwrap(), Pushed::All);
}

#[test]
fn an_update_hook_refuses_its_branch_and_the_rest_can_be_pushed() {
    let scene = Scene::new();
    scene.remote.hook(
        "update",
        "if test \"$1\" = refs/heads/a; then echo 'a is frozen'; exit 1; fi",
    );
    let Pushed::Refused(refusals) = scene.push(&scene.both()).unwrap() else {
        panic!("the hook was not asked");
    };
    assert_eq!(refusals.len(), 1);
    assert_eq!(refusals[0].branch, branch("a"));
    assert_eq!(refusals[0].reason, "hook declined: a is frozen");
    scene.assert_nothing_moved();
    assert_eq!(scene.push(&scene.both()[1..]).unwrap(), Pushed::All);
    assert_eq!(scene.heads(), [Some(scene.first), Some(scene.second)]);
}

#[test]
fn a_remote_that_denies_rewriting_refuses_that_branch() {
    let scene = Scene::new();
    scene
        .remote
        .git(&["config", "receive.denyNonFastForwards", "true"]);
    let other = commit_in(scene.mirror.path(), &[], "unrelated");
    let updates = [
        update("a", scene.first, scene.second),
        update("b", scene.first, other),
    ];
    let Pushed::Refused(refusals) = scene.push(&updates).unwrap() else {
        panic!("it was taken");
    };
    assert_eq!(refusals.len(), 1);
    assert_eq!(refusals[0].branch, branch("b"));
    assert!(
        refusals[0].reason.starts_with("non-fast-forward"),
        "{refusals:?}"
    );
    scene.assert_nothing_moved();
}

#[test]
fn a_pre_receive_hook_refuses_everything_in_its_own_words() {
    let scene = Scene::new();
    scene
        .remote
        .hook("pre-receive", "echo 'no pushes on Fridays' >&2; exit 1");
    let words = rejected(scene.push(&scene.both()));
    assert!(words.contains("no pushes on Fridays"), "{words}");
    scene.assert_nothing_moved();
}

#[test]
fn a_reference_transaction_hook_refuses_everything() {
    let scene = Scene::new();
    scene
        .remote
        .hook("reference-transaction", "test \"$1\" != prepared");
    let words = rejected(scene.push(&scene.both()));
    assert!(words.contains("aborted by hook"), "{words}");
    scene.assert_nothing_moved();
}

#[test]
fn a_push_whose_answer_is_lost_is_found_to_have_gone_through() {
    let scene = Scene::new();
    // By now the refs are moved; receive-pack dies before it can say so.
    scene.remote.hook(
        "reference-transaction",
        "cat >/dev/null; if test \"$1\" = committed; then kill -9 $PPID; fi",
    );
    assert_eq!(scene.push(&scene.both()).unwrap(), Pushed::All);
    assert_eq!(scene.heads(), [Some(scene.second); 2]);
}

#[test]
fn a_connection_that_breaks_when_the_remote_has_told_of_every_ref_is_no_refusal() {
    let scene = Scene::new();
    scene.remote.hook("post-receive", "kill -9 $PPID");
    assert_eq!(scene.push(&scene.both()).unwrap(), Pushed::All);
    assert_eq!(scene.heads(), [Some(scene.second); 2]);
}

#[test]
fn a_connection_that_breaks_before_anything_moved_is_tried_again_later() {
    let scene = Scene::new();
    scene.remote.hook("pre-receive", "kill -9 $PPID");
    let error = scene.push(&scene.both()).unwrap_err();
    assert!(
        matches!(error, EngineError::RemoteUnreachable(_)),
        "{error:?}"
    );
    scene.assert_nothing_moved();
}

#[test]
fn a_remote_without_atomic_pushes_is_told_so() {
    let scene = Scene::new();
    scene
        .remote
        .git(&["config", "receive.advertiseAtomic", "false"]);
    let words = rejected(scene.push(&scene.both()));
    assert!(words.contains("atomic"), "{words}");
    scene.assert_nothing_moved();
}

#[test]
fn a_remote_that_cannot_store_is_tried_again_later() {
    let scene = Scene::new();
    // A directory is needed where this file is; unlike permissions, that stops root as well.
    let objects = scene.remote.path().join("objects");
    fs::rename(&objects, objects.with_extension("away")).unwrap();
    fs::create_dir(&objects).unwrap();
    let error = scene.push(&scene.both()).unwrap_err();
    assert!(
        matches!(
            error,
            EngineError::Internal(_) | EngineError::RemoteUnreachable(_)
        ),
        "{error:?}"
    );
}

#[test]
fn the_remotes_hooks_run_and_the_mirrors_do_not() {
    let scene = Scene::new();
    for hook in [
        "pre-push",
        "reference-transaction",
        "post-update",
        "pre-receive",
    ] {
        install_hook(scene.mirror.path(), hook, "touch \"$0.ran\"; exit 1");
    }
    for hook in ["pre-receive", "update", "post-receive", "post-update"] {
        scene.remote.hook(hook, "touch \"$0.ran\"");
    }
    assert_eq!(scene.push(&scene.both()).unwrap(), Pushed::All);
    let ran = |dir: &std::path::Path, hook: &str| dir.join(format!("hooks/{hook}.ran")).exists();
    for hook in ["pre-receive", "update", "post-receive", "post-update"] {
        assert!(ran(&scene.remote.path(), hook), "{hook}");
    }
    for hook in [
        "pre-push",
        "reference-transaction",
        "post-update",
        "pre-receive",
    ] {
        assert!(!ran(scene.mirror.path(), hook), "{hook}");
    }
}

#[test]
fn trunk_is_never_pushed() {
    let scene = Scene::new();
    let updates = [
        update("a", scene.first, scene.second),
        update("main", scene.first, scene.second),
    ];
    let error = scene.push(&updates).unwrap_err();
    assert!(matches!(error, EngineError::Internal(_)), "{error:?}");
    scene.assert_nothing_moved();
}

#[test]
fn a_thousand_branches_go_in_one_push() {
    let mut scene = Scene::new();
    let names: Vec<String> = (0..1_000).map(|n| format!("many/branch-{n:04}")).collect();
    let orders: String = names
        .iter()
        .map(|name| format!("create refs/heads/{name} {}\n", scene.first))
        .collect();
    scene.remote.update_refs(&orders);
    let fetched = fetch(&mut scene.mirror);
    assert_eq!(fetched.heads.len(), 1_003);
    let updates: Vec<RefUpdate> = names
        .iter()
        .map(|name| update(name, scene.first, scene.second))
        .collect();
    assert_eq!(scene.push(&updates).unwrap(), Pushed::All);
    let heads = scene
        .remote
        .git(&["for-each-ref", "--format=%(objectname)", "refs/heads/many/"]);
    assert_eq!(
        heads
            .lines()
            .filter(|id| **id == scene.second.to_string())
            .count(),
        1_000
    );
}
