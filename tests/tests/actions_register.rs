//! What `register_existing_branch` takes for a branch's parent and base, and what becomes of tasks.

use backstack_schemas::topology::{Bucket, task_key};
use backstack_schemas::{Task, TaskId, TaskStatus, Timestamp};
use backstack_tests::Scene;

async fn registered(scene: &Scene, branch: &str) -> String {
    let action = format!("register_existing_branch branch={branch}");
    scene.act(&action).await
}

#[tokio::test]
async fn the_parent_is_the_nearest_tracked_branch_below() {
    let scene = Scene::start("main <- a: a1 <- b: b1 b2").await;
    scene.remote.stack("b <- c: c1");
    assert_eq!(registered(&scene, "c").await, "registered c(b from b2)");
    assert_eq!(
        scene.rows().await,
        "a  main from m0\nb  a from a1\nc  b from b2\n"
    );
}

#[tokio::test]
async fn a_branch_below_that_is_not_tracked_is_passed_over() {
    let scene = Scene::start("main <- a: a1").await;
    scene.remote.stack("a <- b: b1 <- c: c1");
    assert_eq!(registered(&scene, "c").await, "registered c(a from a1)");
}

#[tokio::test]
async fn with_nothing_tracked_below_the_parent_is_trunk() {
    let scene = Scene::start("main <- a: a1").await;
    scene.remote.stack("main: m1 <- b: b1");
    let said = registered(&scene, "b").await;
    assert_eq!(said, "trunk m0..m1; registered b(main from m1)");
}

/// One behind its parent's head, that is; the base is where it really stands.
#[tokio::test]
async fn the_base_is_where_the_branch_left_its_parent() {
    let scene = Scene::untracked("main <- a: a1").await;
    scene.remote.stack("main: m1");
    let said = registered(&scene, "a").await;
    assert_eq!(said, "trunk none..m1; registered a(main from m0)");
}

#[tokio::test]
async fn a_tracked_branch_whose_head_is_on_trunk_is_no_parent() {
    let scene = Scene::start("main <- a").await;
    scene.remote.stack("main <- b: b1");
    assert_eq!(registered(&scene, "b").await, "registered b(main from m0)");
}

#[tokio::test]
async fn a_tracked_branch_on_the_same_commit_is_no_parent() {
    let scene = Scene::start("main <- a: a1").await;
    scene.remote.stack("a <- b");
    assert_eq!(registered(&scene, "b").await, "registered b(main from m0)");
}

#[tokio::test]
async fn of_two_equally_near_branches_neither_is_the_parent() {
    let scene = Scene::start("main <- a: a1; main <- b: b1").await;
    scene.remote.stack("a <- c");
    scene.remote.merge("c", "b");
    assert_eq!(registered(&scene, "c").await, "registered c(main from m0)");
}

#[tokio::test]
async fn a_given_parent_is_taken_though_another_is_nearer() {
    let scene = Scene::start("main <- a: a1 <- b: b1").await;
    scene.remote.stack("b <- c: c1");
    assert_eq!(
        scene
            .act("register_existing_branch branch=c parent=a")
            .await,
        "registered c(a from a1)"
    );
}

#[tokio::test]
async fn a_given_base_is_taken() {
    let scene = Scene::untracked("main <- a: a1 a2").await;
    let base = scene.remote.oid("a~1");
    let action = format!("register_existing_branch branch=a base={base}");
    assert_eq!(
        scene.act(&action).await,
        "trunk none..m0; registered a(main from a1)"
    );
    scene.remote.stack("main: m1");
    assert_eq!(scene.act("restack_repo").await, "trunk m0..m1; moved a");
    assert_eq!(scene.draw(), "main  m0 m1\na     main: a2\n");
}

/// Though by what is on the remote it would be found on another.
#[tokio::test]
async fn a_tracked_branch_keeps_its_parent_and_base() {
    let scene = Scene::start("main <- a: a1 <- b: b1").await;
    scene.remote.rebase("b", "a", "main");
    assert_eq!(registered(&scene, "b").await, "registered b(a from a1)");
    assert_eq!(scene.rows().await, "a  main from m0\nb  a from a1\n");
}

#[tokio::test]
async fn a_tracked_branch_gets_a_given_parent_and_nothing_is_pushed() {
    let scene = Scene::start("main <- a: a1 <- b: b1; main <- c: c1").await;
    assert_eq!(
        scene
            .act("register_existing_branch branch=b parent=c")
            .await,
        "registered b(c from m0)"
    );
    assert_eq!(
        scene.rows().await,
        "a  main from m0\nb  c from m0\nc  main from m0\n"
    );
}

/// Writes the row of a task that waits for its branch, as a producer does.
async fn waiting_task(scene: &Scene, branch: &str) -> TaskId {
    let (task_id, at) = (TaskId::generate(), Timestamp::from_unix_millis(0).unwrap());
    let task = Task {
        repo: "web".parse().unwrap(),
        task_id,
        title: "a task".to_owned(),
        branch: branch.parse().unwrap(),
        status: TaskStatus::PendingBranchAttach,
        head: None,
        parent: None,
        job_id: None,
        message: None,
        created_at: at,
        updated_at: at,
    };
    let key = task_key(&task.repo, task_id);
    scene.world.put_row(Bucket::Tasks, &key, &task).await;
    task_id
}

async fn attach(scene: &Scene, branch: &str, task: TaskId) -> String {
    let action = format!("register_existing_branch branch={branch} task_id={task}");
    scene.act(&action).await
}

async fn settled(scene: &Scene, task: TaskId) -> Task {
    let settled = |task: &Task| task.status != TaskStatus::PendingBranchAttach;
    scene.world.task_when("web", task, "settled", settled).await
}

#[tokio::test]
async fn a_task_whose_branch_is_there_becomes_ready() {
    let scene = Scene::start("main <- a: a1").await;
    scene.remote.stack("a <- b: b1");
    let task = waiting_task(&scene, "b").await;
    assert_eq!(attach(&scene, "b", task).await, "registered b(a from a1)");
    assert_eq!(scene.rows().await, "a  main from m0\nb  a from a1, task\n");
    let task = settled(&scene, task).await;
    assert_eq!(task.status, TaskStatus::Ready);
    assert_eq!(task.head, Some(scene.remote.head("b")));
    assert_eq!(task.parent, Some("a".parse().unwrap()));
}

#[tokio::test]
async fn a_task_whose_branch_is_not_there_says_so() {
    let scene = Scene::start("main <- a: a1").await;
    let task = waiting_task(&scene, "nowhere").await;
    assert_eq!(attach(&scene, "nowhere", task).await, "branch_not_found!");
    let task = settled(&scene, task).await;
    assert_eq!(task.status, TaskStatus::Error);
    let message = task.message.unwrap();
    assert!(
        message.contains("nowhere is not on the remote"),
        "{message}"
    );
}

#[tokio::test]
async fn a_branch_has_one_task_and_the_second_is_told_which() {
    let scene = Scene::start("main <- a: a1").await;
    let (first, second) = (
        waiting_task(&scene, "a").await,
        waiting_task(&scene, "a").await,
    );
    assert_eq!(
        attach(&scene, "a", first).await,
        "registered a(main from m0)"
    );
    assert_eq!(attach(&scene, "a", second).await, "branch_has_task!");
    let second = settled(&scene, second).await;
    assert_eq!(second.status, TaskStatus::Error);
    let message = second.message.unwrap();
    assert!(message.contains(&first.to_string()), "{message}");
    let row = scene.world.branch("web", "a").await.unwrap();
    assert_eq!(row.task_id, Some(first));
}
