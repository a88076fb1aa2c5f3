//! What remotes do to a push, and people to a remote meanwhile.

use backstack_schemas::{ErrorCode, ObjectId};
use backstack_tests::Scene;

/// An `update` hook that protects one branch.
fn protect(scene: &Scene, branch: &str) {
    let script = format!(
        "#!/bin/sh\nif [ \"$1\" = refs/heads/{branch} ]; then echo {branch} is protected >&2; exit 1; fi\n"
    );
    scene.remote.hook("update", &script);
}

#[tokio::test]
async fn a_protected_branch_and_what_stands_on_it_are_left_and_the_rest_is_pushed() {
    let scene = Scene::start("main <- a: a1 <- b: b1 <- c: c1; a <- d: d1").await;
    protect(&scene, "b");
    scene.remote.stack("main: m1");
    let job = scene.run("restack_repo").await;
    assert_eq!(
        scene.shown(&job),
        "remote_rejected! trunk m0..m1; moved a d; skipped b(rejected) c(rejected)"
    );
    let detail = job.error.unwrap().detail;
    assert!(detail.contains("b is protected"), "{detail}");
    assert_eq!(
        scene.draw(),
        "main  m0 m1\na     main: a1'\nb     main~1: a1 b1\nc     b: c1\nd     a: d1\n"
    );
    assert_eq!(
        scene.rows().await,
        "a  main from m1\nb  a from a1\nc  b from b1\nd  a from a1\n"
    );
    scene.remote.remove_hook("update");
    assert_eq!(scene.act("restack_repo").await, "moved b c; up_to_date a d");
}

#[tokio::test]
async fn two_protected_branches_among_others() {
    let scene = Scene::start("main <- a: a1; main <- b: b1; main <- c: c1; main <- d: d1").await;
    let script = "#!/bin/sh\ncase $1 in */b|*/d) exit 1;; esac\n";
    scene.remote.hook("update", script);
    scene.remote.stack("main: m1");
    assert_eq!(
        scene.act("restack_repo").await,
        "remote_rejected! trunk m0..m1; moved a c; skipped b(rejected) d(rejected)"
    );
}

/// Such a hook refuses a push as a whole, and does not say which branch it dislikes.
#[tokio::test]
async fn a_pre_receive_hook_that_declines_stops_the_whole_push() {
    let scene = Scene::start("main <- a: a1 <- b: b1; main <- c: c1").await;
    scene.remote.hook("pre-receive", "#!/bin/sh\nexit 1\n");
    scene.remote.stack("main: m1");
    let before = scene.draw();
    assert_eq!(
        scene.act("restack_repo").await,
        "remote_rejected! trunk m0..m1; skipped a(rejected) b(rejected) c(rejected)"
    );
    assert_eq!(scene.draw(), before);
    assert_eq!(
        scene.rows().await,
        "a  main from m0\nb  a from a1\nc  main from m0\n"
    );
}

/// A conflict stays a conflict, and is not told twice.
#[tokio::test]
async fn a_conflict_on_a_protected_branch_is_told_once() {
    let scene = Scene::start("main <- a: a1 <- b: b1{f=b} <- c: c1").await;
    protect(&scene, "a");
    scene.remote.stack("main: m1{f=m}");
    assert_eq!(
        scene.act("restack_repo").await,
        "conflict! trunk m0..m1; conflicts b(b1 onto a1: f add_add); \
         skipped c(parent_conflict) a(rejected)"
    );
}

/// What its parent would have had is not there, so its work is not there either.
#[tokio::test]
async fn a_branch_that_became_empty_on_a_protected_one_is_not_merged() {
    let scene = Scene::start("main <- a: a1 <- b: b1").await;
    scene.remote.stack("a: b1{b1=b1}");
    protect(&scene, "a");
    scene.remote.stack("main: m1");
    let before = scene.draw();
    assert_eq!(
        scene.act("restack_repo").await,
        "remote_rejected! trunk m0..m1; skipped a(rejected) b(rejected)"
    );
    assert_eq!(scene.draw(), before);
    assert_eq!(scene.rows().await, "a  main from m0\nb  a from a1\n");
}

/// If the branch itself is refused, it keeps its parent.
#[tokio::test]
async fn reparenting_a_protected_branch_changes_nothing() {
    let scene = Scene::start("main <- a: a1 <- b: b1 <- c: c1; main <- d: d1").await;
    protect(&scene, "b");
    let (graph, rows) = (scene.draw(), scene.rows().await);
    assert_eq!(
        scene.act("reparent_branch branch=b parent=d").await,
        "remote_rejected! skipped b(rejected) c(rejected)"
    );
    assert_eq!((scene.draw(), scene.rows().await), (graph, rows));
}

#[tokio::test]
async fn a_branch_deleted_on_the_remote_stops_what_stands_on_it_until_it_is_back() {
    let scene = Scene::start("main <- a: a1 <- b: b1 <- c: c1; main <- d: d1").await;
    let a = scene.remote.head("a").to_string();
    scene.remote.delete("a");
    scene.remote.stack("main: m1");
    let stopped = "skipped a(missing_on_remote) b(parent_missing) c(parent_missing)";
    assert_eq!(
        scene.act("restack_repo").await,
        format!("trunk m0..m1; moved d; {stopped}")
    );
    assert_eq!(
        scene.rows().await,
        "a  main from m0, gone\nb  a from a1\nc  b from b1\nd  main from m1\n"
    );
    assert_eq!(
        scene.act("rebase_branch branch=a").await,
        "branch_not_found!"
    );
    assert_eq!(
        scene.act("rebase_branch branch=b").await,
        "parent_not_found!"
    );
    scene.remote.force("a", &a);
    assert_eq!(scene.act("restack_repo").await, "moved a b c; up_to_date d");
    assert_eq!(
        scene.draw(),
        "main  m0 m1\na     main: a1\nb     a: b1\nc     b: c1\nd     main: d1\n"
    );
}

#[tokio::test]
async fn unregistering_a_branch_deleted_on_the_remote_lets_its_children_go_on() {
    let scene = Scene::start("main <- a: a1 <- b: b1").await;
    scene.remote.delete("a");
    assert_eq!(
        scene.act("unregister_branch branch=a").await,
        "reparented b(a to main)"
    );
    assert_eq!(scene.rows().await, "b  main from a1\n");
    scene.remote.stack("main: m1");
    assert_eq!(scene.act("restack_repo").await, "trunk m0..m1; moved b");
    assert_eq!(scene.draw(), "main  m0 m1\nb     main: b1\n");
}

#[tokio::test]
async fn a_branch_without_a_stack_that_is_deleted_loses_its_row() {
    let scene = Scene::start("main <- a: a1").await;
    scene.remote.stack("main <- x: x1");
    scene.act("sync_repo").await;
    assert_eq!(scene.rows().await, "a  main from m0\nx  untracked\n");
    scene.remote.delete("x");
    scene.act("sync_repo").await;
    assert_eq!(scene.rows().await, "a  main from m0\n");
}

/// A hook that runs while a push is on its way, before any of its refs moves: it moves refs as another
/// person's push would that came through at that moment.
fn meanwhile(scene: &Scene, commands: &str) {
    let script = format!(
        "#!/bin/sh\nunset GIT_QUARANTINE_PATH GIT_OBJECT_DIRECTORY GIT_ALTERNATE_OBJECT_DIRECTORIES\n\
         count=$(cat pushes 2>/dev/null || echo 0)\ncount=$((count + 1))\necho $count >pushes\n{commands}\n"
    );
    scene.remote.hook("pre-receive", &script);
}

/// Makes a commit on a branch that nobody sees yet.
fn prepared(scene: &Scene, story: &str) -> ObjectId {
    let branch = story.split(':').next().unwrap();
    let now = scene.remote.head(branch).to_string();
    scene.remote.stack(story);
    let made = scene.remote.head(branch);
    scene.remote.force(branch, &now);
    made
}

#[tokio::test]
async fn someone_pushes_a_branch_between_fetch_and_push() {
    let scene = Scene::start("main <- a: a1 <- b: b1").await;
    scene.remote.stack("main: m1");
    let theirs = prepared(&scene, "a: theirs");
    let push = format!("[ $count != 1 ] || git update-ref refs/heads/a {theirs}");
    meanwhile(&scene, &push);
    let job = scene.run("restack_repo").await;
    assert_eq!(scene.shown(&job), "trunk m0..m1; moved a b");
    assert_eq!(job.attempt, 1, "it is planned again within the attempt");
    assert_eq!(job.result.unwrap().moved[0].from, theirs);
    assert_eq!(
        scene.draw(),
        "main  m0 m1\na     main: a1 theirs\nb     a: b1\n"
    );
    assert_eq!(scene.rows().await, "a  main from m1\nb  a from theirs\n");
}

/// The result tells trunk as it was when the push went through.
#[tokio::test]
async fn someone_pushes_a_branch_and_trunk_between_fetch_and_push() {
    let scene = Scene::start("main <- a: a1").await;
    scene.remote.stack("main: m1");
    let (theirs, trunk) = (prepared(&scene, "a: theirs"), prepared(&scene, "main: m2"));
    meanwhile(
        &scene,
        &format!(
            "[ $count != 1 ] || {{ git update-ref refs/heads/a {theirs}; git update-ref refs/heads/main {trunk}; }}"
        ),
    );
    let job = scene.run("restack_repo").await;
    assert_eq!(scene.shown(&job), "trunk m0..m2; moved a");
    assert_eq!(scene.draw(), "main  m0 m1 m2\na     main: a1 theirs\n");
}

#[tokio::test]
async fn someone_pushes_another_branch_between_fetch_and_push_and_nothing_is_done_twice() {
    let scene = Scene::start("main <- a: a1").await;
    scene.remote.stack("main: m1");
    let other = scene.remote.head("main");
    meanwhile(&scene, &format!("git update-ref refs/heads/x {other}"));
    let job = scene.run("restack_repo").await;
    assert_eq!(scene.shown(&job), "trunk m0..m1; moved a");
    assert_eq!(scene.draw(), "main  m0 m1\na     main: a1\nx     = main\n");
    let pushes = std::fs::read_to_string(scene.remote.path().join("pushes"));
    assert_eq!(pushes.unwrap(), "1\n");
}

#[tokio::test]
async fn someone_deletes_a_branch_between_fetch_and_push() {
    let scene = Scene::start("main <- a: a1 <- b: b1; main <- c: c1").await;
    scene.remote.stack("main: m1");
    meanwhile(&scene, "[ $count != 1 ] || git update-ref -d refs/heads/a");
    let job = scene.run("restack_repo").await;
    assert_eq!(
        scene.shown(&job),
        "trunk m0..m1; moved c; skipped a(missing_on_remote) b(parent_missing)"
    );
    assert_eq!(
        scene.draw(),
        "main  m0 m1\nb     main~1: a1 b1\nc     main: c1\n"
    );
}

/// Three times in one attempt, then the attempt is over: with only one, so is the job. Nothing of it is
/// on the remote.
#[tokio::test]
async fn someone_pushes_again_and_again() {
    let scene = Scene::with_worker("main <- a: a1 <- b: b1", &["--max-attempts=1"]).await;
    scene.track(&["a", "b"]).await;
    scene.remote.stack("main: m1");
    let mine = scene.remote.head("a");
    let theirs = prepared(&scene, "a: theirs");
    meanwhile(
        &scene,
        &format!(
            "if [ $((count % 2)) = 1 ]; then to={theirs}; else to={mine}; fi\n\
             git update-ref refs/heads/a $to"
        ),
    );
    let job = scene.run("restack_repo").await;
    let error = job.error.as_ref().unwrap();
    assert_eq!(error.code, ErrorCode::AttemptsExhausted);
    assert!(error.detail.contains("moved 3 times"), "{}", error.detail);
    assert_eq!(
        scene.draw(),
        "main  m0 m1\na     main~1: a1 theirs\nb     main~1: a1 b1\n"
    );
    let pushes = std::fs::read_to_string(scene.remote.path().join("pushes"));
    assert_eq!(pushes.unwrap(), "3\n");
}

/// A commit that trunk has given up stays in what stands on it.
#[tokio::test]
async fn trunk_reset_and_pushed_anew() {
    let scene = Scene::start("main: m1 <- a: a1").await;
    scene.remote.force("main", "main~1");
    scene.remote.stack("main: n1");
    assert_eq!(scene.draw(), "main  m0 n1\na     main~1: m1 a1\n");
    assert_eq!(scene.act("restack_repo").await, "trunk m1..n1; moved a");
    assert_eq!(scene.draw(), "main  m0 n1\na     main: m1 a1\n");
}

#[tokio::test]
async fn trunk_amended_and_force_pushed() {
    let scene = Scene::start("main: m1 <- a: a1 <- b: b1").await;
    scene.remote.amend("main", &[("m1", "amended\n")]);
    assert_eq!(scene.act("restack_repo").await, "trunk m1..m1; moved a b");
    assert_eq!(scene.draw(), "main  m0 m1\na     main: a1\nb     a: b1\n");
    assert_eq!(scene.remote.show("b:m1"), "amended\n");
}

#[tokio::test]
async fn with_nothing_to_do_nothing_is_pushed() {
    let scene = Scene::start("main <- a: a1 <- b: b1").await;
    meanwhile(&scene, "exit 1");
    assert_eq!(scene.act("restack_repo").await, "up_to_date a b");
    assert_eq!(scene.act("sync_repo restack").await, "up_to_date a b");
    assert!(!scene.remote.path().join("pushes").exists());
}
