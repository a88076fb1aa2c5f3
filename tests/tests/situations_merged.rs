//! Branches that were merged, in every way that hosting services offer, and some that only look so.

use backstack_tests::Scene;

/// A stack of three of which `a` is about to be merged.
async fn stack() -> Scene {
    Scene::start("main <- a: a1 a2 <- b: b1 <- c: c1").await
}

#[tokio::test]
async fn parent_squash_merged() {
    let scene = stack().await;
    scene.remote.stack("main: m1");
    scene.remote.squash_merge("a");
    assert_eq!(
        scene.draw(),
        "main  m0 m1 squash a\na     main~2: a1 a2\nb     a: b1\nc     b: c1\n"
    );
    let said = scene.act("sync_repo restack").await;
    assert_eq!(
        said,
        "trunk m0..squash a; merged a(main squash); reparented b(a to main); moved b c"
    );
    assert_eq!(
        scene.draw(),
        "main  m0 m1 squash a\na     main~2: a1 a2\nb     main: b1\nc     b: c1\n"
    );
    assert_eq!(
        scene.rows().await,
        "a  untracked\nb  main from squash a\nc  b from b1\n"
    );
}

#[tokio::test]
async fn parent_merged_by_fast_forward() {
    let scene = stack().await;
    scene.remote.ff_merge("a");
    let said = scene.act("sync_repo restack").await;
    assert_eq!(
        said,
        "trunk m0..a2; merged a(main ancestor); reparented b(a to main); up_to_date b c"
    );
    assert_eq!(
        scene.draw(),
        "main  m0 a1 a2\na     = main\nb     main: b1\nc     b: c1\n"
    );
}

#[tokio::test]
async fn parent_merged_by_rebase() {
    let scene = stack().await;
    scene.remote.stack("main: m1");
    scene.remote.rebase_merge("a");
    let said = scene.act("sync_repo restack").await;
    assert_eq!(
        said,
        "trunk m0..a2; merged a(main patch_id); reparented b(a to main); moved b c"
    );
    assert_eq!(
        scene.draw(),
        "main  m0 m1 a1' a2'\na     main~3: a1 a2\nb     main: b1\nc     b: c1\n"
    );
}

#[tokio::test]
async fn parent_merged_with_a_merge_commit() {
    let scene = stack().await;
    scene.remote.stack("main: m1");
    scene.remote.merge_commit("a");
    let said = scene.act("sync_repo restack").await;
    assert_eq!(
        said,
        "trunk m0..merge a; merged a(main ancestor); reparented b(a to main); moved b c"
    );
    assert_eq!(
        scene.draw(),
        "main  m0 m1 merge a(+a2)\na     = main(a2)\nb     main: b1\nc     b: c1\n"
    );
}

/// It has work that is not on trunk, and that is what is left of it.
#[tokio::test]
async fn parent_merged_and_then_amended_is_not_merged() {
    let scene = stack().await;
    scene.remote.squash_merge("a");
    scene.remote.amend("a", &[("late", "late\n")]);
    assert_eq!(scene.act("sync_repo").await, "trunk m0..squash a");
    assert_eq!(
        scene.act("restack_repo").await,
        "moved a b c; dropped a(a1 became_empty)"
    );
    assert_eq!(
        scene.draw(),
        "main  m0 squash a\na     main: a2\nb     a: b1\nc     b: c1\n"
    );
    assert_eq!(scene.remote.files("a"), ["a1", "a2", "late", "m0"]);
}

#[tokio::test]
async fn parent_merged_and_then_continued_is_not_merged() {
    let scene = stack().await;
    scene.remote.squash_merge("a");
    scene.remote.stack("a: a3");
    assert_eq!(scene.act("sync_repo").await, "trunk m0..squash a");
    assert_eq!(
        scene.act("restack_repo").await,
        "moved a b c; dropped a(a1 became_empty) a(a2 became_empty)"
    );
    assert_eq!(
        scene.draw(),
        "main  m0 squash a\na     main: a3\nb     a: b1\nc     b: c1\n"
    );
}

/// It has no commits that could be merged, however far trunk goes.
#[tokio::test]
async fn a_fresh_branch_at_trunks_head_is_not_merged() {
    let scene = Scene::start("main <- a").await;
    assert_eq!(scene.act("sync_repo").await, "nothing");
    scene.remote.stack("main: m1");
    assert_eq!(
        scene.act("sync_repo restack").await,
        "trunk m0..m1; moved a"
    );
    assert_eq!(scene.act("sync_repo restack").await, "up_to_date a");
    assert_eq!(scene.draw(), "main  m0 m1\na     = main\n");
    assert_eq!(scene.rows().await, "a  main from m1\n");
}

#[tokio::test]
async fn two_merged_branches_in_the_middle_of_a_stack() {
    let scene = Scene::start("main <- a: a1 <- b: b1 <- c: c1 <- d: d1").await;
    scene.remote.stack("main: b1 c1");
    assert_eq!(
        scene.act("sync_repo").await,
        "trunk m0..c1; merged b(main patch_id) c(main patch_id); reparented d(c to a)"
    );
    assert_eq!(
        scene.rows().await,
        "a  main from m0\nb  untracked\nc  untracked\nd  a from c1\n"
    );
    assert_eq!(scene.act("restack_repo").await, "moved a d");
    assert_eq!(
        scene.draw(),
        "main  m0 b1' c1'\na     main: a1'\nb     main~2: a1 b1\nc     b: c1\nd     a: d1\n"
    );
}

#[tokio::test]
async fn a_whole_stack_merged_at_once() {
    let scene = stack().await;
    scene.remote.squash_merge("a");
    scene.remote.squash_merge("b");
    scene.remote.squash_merge("c");
    assert_eq!(
        scene.act("sync_repo restack").await,
        "trunk m0..squash c; merged a(main squash) b(main patch_id) c(main patch_id)"
    );
    assert_eq!(
        scene.rows().await,
        "a  untracked\nb  untracked\nc  untracked\n"
    );
}

/// As hosting services do on their own after merging.
#[tokio::test]
async fn parent_merged_and_deleted() {
    let scene = stack().await;
    scene.remote.squash_merge("a");
    scene.remote.delete("a");
    assert_eq!(
        scene.act("sync_repo restack").await,
        "trunk m0..squash a; merged a(main squash); reparented b(a to main); moved b c"
    );
    assert_eq!(
        scene.draw(),
        "main  m0 squash a\nb     main: b1\nc     b: c1\n"
    );
    assert_eq!(scene.rows().await, "b  main from squash a\nc  b from b1\n");
}

#[tokio::test]
async fn a_merge_that_was_reverted_is_no_merge() {
    let scene = stack().await;
    scene.remote.squash_merge("a");
    scene.remote.revert("main", "main");
    assert_eq!(scene.act("sync_repo").await, "trunk m0..revert squash a");
    assert_eq!(scene.act("restack_repo").await, "moved a b c");
    assert_eq!(
        scene.draw(),
        "main  m0 squash a revert squash a\na     main: a1 a2\nb     a: b1\nc     b: c1\n"
    );
}

/// Its work came to trunk as part of something larger, which only the replay finds out. Its ref stays.
#[tokio::test]
async fn a_branch_that_becomes_empty_counts_as_merged() {
    let scene = Scene::start("main <- a: a1 <- b: b1").await;
    let files = [("a1", "a1\n"), ("more", "more\n")];
    scene.remote.commit("main", &files, "all of it");
    assert_eq!(
        scene.act("restack_repo").await,
        "trunk m0..all of it; merged a(main became_empty); reparented b(a to main); moved b; \
         dropped a(a1 became_empty)"
    );
    assert_eq!(
        scene.draw(),
        "main  m0 all of it\na     main~1: a1\nb     main: b1\n"
    );
    assert_eq!(scene.rows().await, "a  untracked\nb  main from all of it\n");
}
