//! Each action twice in a row: the second time there is nothing to do, and no branch row changes.

use backstack_schemas::topology::Bucket;
use backstack_tests::Scene;

/// Runs the same action twice.
async fn twice(scene: &Scene, action: &str, first: &str, second: &str) {
    assert_eq!(scene.act(action).await, first);
    let (graph, rows) = (
        scene.draw(),
        scene.world.newest_revision(Bucket::Branches).await,
    );
    assert_eq!(scene.act(action).await, second);
    assert_eq!(scene.draw(), graph);
    assert_eq!(
        scene.world.newest_revision(Bucket::Branches).await,
        rows,
        "a row was written"
    );
}

#[tokio::test]
async fn sync_repo() {
    let scene = Scene::start("main <- a: a1 <- b: b1").await;
    scene.remote.squash_merge("a");
    let first = "trunk m0..squash a; merged a(main patch_id); reparented b(a to main)";
    twice(&scene, "sync_repo", first, "nothing").await;
}

/// The row of a branch that was merged and deleted goes at once, not with the next sync.
#[tokio::test]
async fn sync_repo_after_a_merged_branch_was_deleted() {
    let scene = Scene::start("main <- a: a1 <- b: b1").await;
    scene.remote.squash_merge("a");
    scene.remote.delete("a");
    let first = "trunk m0..squash a; merged a(main patch_id); reparented b(a to main)";
    twice(&scene, "sync_repo", first, "nothing").await;
    assert_eq!(scene.rows().await, "b  main from a1\n");
}

#[tokio::test]
async fn sync_repo_with_restack() {
    let scene = Scene::start("main <- a: a1 <- b: b1").await;
    scene.remote.stack("main: m1");
    let first = "trunk m0..m1; moved a b";
    twice(&scene, "sync_repo restack", first, "up_to_date a b").await;
}

#[tokio::test]
async fn restack_repo() {
    let scene = Scene::start("main <- a: a1 <- b: b1; main <- c: c1").await;
    scene.remote.stack("main: m1");
    let first = "trunk m0..m1; moved a b c";
    twice(&scene, "restack_repo", first, "up_to_date a b c").await;
}

/// The same conflict is found again, and what was clean is not touched again.
#[tokio::test]
async fn restack_repo_with_a_conflict() {
    let scene = Scene::start("main <- a: a1{f=a}; main <- b: b1").await;
    scene.remote.stack("main: m1{f=m}");
    let conflict = "conflicts a(a1 onto m1: f add_add)";
    let first = format!("conflict! trunk m0..m1; moved b; {conflict}");
    let second = format!("conflict! up_to_date b; {conflict}");
    twice(&scene, "restack_repo", &first, &second).await;
}

#[tokio::test]
async fn restack_subtree() {
    let scene = Scene::start("main <- a: a1 <- b: b1").await;
    scene.remote.stack("main: m1");
    let first = "trunk m0..m1; moved a b";
    twice(&scene, "restack_subtree branch=a", first, "up_to_date a b").await;
}

#[tokio::test]
async fn rebase_branch() {
    let scene = Scene::start("main <- a: a1 <- b: b1").await;
    scene.remote.stack("main: m1");
    let first = "trunk m0..m1; moved a";
    twice(&scene, "rebase_branch branch=a", first, "up_to_date a").await;
}

#[tokio::test]
async fn reparent_branch() {
    let scene = Scene::start("main <- a: a1 <- b: b1 <- c: c1; main <- d: d1").await;
    let first = "reparented b(a to d); moved b c";
    let action = "reparent_branch branch=b parent=d";
    twice(&scene, action, first, "up_to_date b c").await;
}

#[tokio::test]
async fn register_existing_branch() {
    let scene = Scene::untracked("main <- a: a1").await;
    let action = "register_existing_branch branch=a";
    let first = "trunk none..m0; registered a(main from m0)";
    twice(&scene, action, first, "registered a(main from m0)").await;
}

#[tokio::test]
async fn unregister_branch() {
    let scene = Scene::start("main <- a: a1 <- b: b1").await;
    let first = "reparented b(a to main)";
    let action = "unregister_branch branch=a";
    twice(&scene, action, first, "branch_not_tracked!").await;
}
