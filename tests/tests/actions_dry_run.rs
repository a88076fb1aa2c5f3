//! A dry run of each action: nothing is pushed, no row changes ([`Scene::act`] checks both), and the
//! result says what the action then really does.

use backstack_tests::Scene;

/// Runs an action dry and then really; both say `expected`.
async fn dry_then_real(scene: &Scene, action: &str, expected: &str) {
    assert_eq!(scene.act(&format!("{action} dry_run")).await, expected);
    assert_eq!(scene.act(action).await, expected);
}

#[tokio::test]
async fn a_dry_sync_finds_merged_branches() {
    let scene = Scene::start("main <- a: a1 <- b: b1").await;
    scene.remote.squash_merge("a");
    let expected = "trunk m0..squash a; merged a(main patch_id); reparented b(a to main)";
    dry_then_real(&scene, "sync_repo", expected).await;
}

#[tokio::test]
async fn a_dry_sync_with_restack_plans_on_what_it_would_have_healed() {
    let scene = Scene::start("main <- a: a1 <- b: b1").await;
    scene.remote.squash_merge("a");
    let expected = "trunk m0..squash a; merged a(main patch_id); reparented b(a to main); moved b";
    dry_then_real(&scene, "sync_repo restack", expected).await;
}

#[tokio::test]
async fn a_dry_restack_names_what_would_move_conflict_and_be_skipped() {
    let scene = Scene::start("main <- a: a1 <- b: b1{f=b} <- c: c1; a <- d: d1").await;
    scene.remote.stack("a: a2{f=a}");
    let expected = "conflict! moved d; up_to_date a; conflicts b(b1 onto a2: f add_add); \
                    skipped c(parent_conflict)";
    dry_then_real(&scene, "restack_repo", expected).await;
}

/// Whose children would get what it stands on.
#[tokio::test]
async fn a_dry_restack_names_branches_that_would_become_empty() {
    let scene = Scene::start("main <- a: a1 <- b: b1").await;
    let files = [("a1", "a1\n"), ("more", "more\n")];
    scene.remote.commit("main", &files, "both");
    let expected = "trunk m0..both; merged a(main became_empty); reparented b(a to main); moved b; \
                    dropped a(a1 became_empty)";
    dry_then_real(&scene, "restack_repo", expected).await;
}

#[tokio::test]
async fn a_dry_subtree_restack() {
    let scene = Scene::start("main <- a: a1 <- b: b1; main <- c: c1").await;
    scene.remote.stack("main: m1");
    dry_then_real(
        &scene,
        "restack_subtree branch=a",
        "trunk m0..m1; moved a b",
    )
    .await;
}

#[tokio::test]
async fn a_dry_rebase() {
    let scene = Scene::start("main <- a: a1 <- b: b1").await;
    scene.remote.stack("main: m1");
    dry_then_real(&scene, "rebase_branch branch=a", "trunk m0..m1; moved a").await;
}

#[tokio::test]
async fn a_dry_reparenting() {
    let scene = Scene::start("main <- a: a1 <- b: b1 <- c: c1; main <- d: d1").await;
    let expected = "reparented b(a to d); moved b c";
    dry_then_real(&scene, "reparent_branch branch=b parent=d", expected).await;
}

#[tokio::test]
async fn a_dry_registering() {
    let scene = Scene::start("main <- a: a1").await;
    scene.remote.stack("a <- b: b1");
    let expected = "registered b(a from a1)";
    dry_then_real(&scene, "register_existing_branch branch=b", expected).await;
}

#[tokio::test]
async fn a_dry_unregistering() {
    let scene = Scene::start("main <- a: a1 <- b: b1").await;
    let expected = "reparented b(a to main)";
    dry_then_real(&scene, "unregister_branch branch=a", expected).await;
}

#[tokio::test]
async fn a_dry_run_of_what_is_refused_is_refused_alike() {
    let scene = Scene::start("main <- a: a1 <- b: b1").await;
    dry_then_real(&scene, "reparent_branch branch=a parent=b", "cycle!").await;
}
