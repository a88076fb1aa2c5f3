//! Situations between a branch and what it stands on: what a restack makes of each.

use backstack_tests::Scene;

#[tokio::test]
async fn parent_advanced() {
    let scene = Scene::start("main <- a: a1 <- b: b1").await;
    scene.remote.stack("a: a2");
    assert_eq!(
        scene.draw(),
        "main  m0\na     main: a1 a2\nb     main: a1 b1\n"
    );
    assert_eq!(scene.act("restack_repo").await, "moved b; up_to_date a");
    assert_eq!(scene.draw(), "main  m0\na     main: a1 a2\nb     a: b1\n");
    assert_eq!(scene.rows().await, "a  main from m0\nb  a from a2\n");
}

/// The child lets go of the old version.
#[tokio::test]
async fn parent_amended_and_force_pushed() {
    let scene = Scene::start("main <- a: a1 a2 <- b: b1").await;
    scene.remote.amend("a", &[("a2", "amended\n")]);
    assert_eq!(
        scene.draw(),
        "main  m0\na     main: a1 a2'\nb     main: a1 a2 b1\n"
    );
    assert_eq!(scene.act("restack_repo").await, "moved b; up_to_date a");
    assert_eq!(scene.draw(), "main  m0\na     main: a1 a2\nb     a: b1\n");
    assert_eq!(scene.remote.show("b:a2"), "amended\n");
}

/// A commit that the parent has given up is nobody's but the child's, and stays in it.
#[tokio::test]
async fn parent_reset_backwards() {
    let scene = Scene::start("main <- a: a1 a2 <- b: b1").await;
    scene.remote.force("a", "a~1");
    let graph = "main  m0\na     main: a1\nb     a: a2 b1\n";
    assert_eq!(scene.draw(), graph);
    assert_eq!(scene.act("restack_repo").await, "up_to_date a b");
    scene.remote.stack("main: m1");
    assert_eq!(scene.act("restack_repo").await, "trunk m0..m1; moved a b");
    assert_eq!(
        scene.draw(),
        "main  m0 m1\na     main: a1\nb     a: a2 b1\n"
    );
}

/// The branch stands on a version of its parent that nobody recorded, so it is left alone until somebody
/// says where its own commits start.
#[tokio::test]
async fn parent_rewritten_twice_between_syncs_is_ambiguous_until_a_base_is_given() {
    let scene = Scene::start("main <- a: a1 <- b: b1 <- c: c1").await;
    let first = scene.remote.head("a");
    scene.remote.amend("a", &[("a1", "second\n")]);
    let unseen = scene.remote.rebase("b", &first.to_string(), "a");
    let base = scene.remote.oid(&format!("{unseen}~1"));
    scene.remote.amend("a", &[("a1", "third\n")]);
    let before = scene.draw();
    assert_eq!(
        before,
        "main  m0\na     main: a1''\nb     main: a1' b1'\nc     main: a1 b1 c1\n"
    );

    let left = "up_to_date a; skipped b(ambiguous_base) c(ambiguous_base)";
    assert_eq!(scene.act("restack_repo").await, left);
    assert_eq!(scene.act("rebase_branch branch=b").await, "ambiguous_base!");
    assert_eq!(scene.draw(), before);

    let resolve = format!("register_existing_branch branch=b base={base}");
    assert_eq!(scene.act(&resolve).await, "registered b(a from a1)");
    assert_eq!(scene.act("restack_repo").await, "moved b c; up_to_date a");
    assert_eq!(
        scene.draw(),
        "main  m0\na     main: a1\nb     a: b1\nc     b: c1\n"
    );
    assert_eq!(scene.remote.show("c:a1"), "third\n");
}

/// With the child where it was recorded, nothing is in doubt.
#[tokio::test]
async fn parent_rewritten_twice_while_its_child_stood_still() {
    let scene = Scene::start("main <- a: a1 <- b: b1").await;
    scene.remote.amend("a", &[("a1", "second\n")]);
    scene.remote.amend("a", &[("a1", "third\n")]);
    assert_eq!(scene.act("restack_repo").await, "moved b; up_to_date a");
    assert_eq!(scene.draw(), "main  m0\na     main: a1\nb     a: b1\n");
    assert_eq!(scene.remote.show("b:a1"), "third\n");
}

#[tokio::test]
async fn two_branches_on_the_same_commit_stay_together() {
    let scene = Scene::start("main <- a: a1 <- b").await;
    scene
        .act("register_existing_branch branch=b parent=a")
        .await;
    scene.remote.stack("main: m1");
    assert_eq!(scene.draw(), "main  m0 m1\na     main~1: a1\nb     = a\n");
    assert_eq!(scene.act("restack_repo").await, "trunk m0..m1; moved a b");
    assert_eq!(scene.draw(), "main  m0 m1\na     main: a1\nb     = a\n");
    assert_eq!(scene.rows().await, "a  main from m1\nb  a from a1\n");
}

/// Someone made `b` between `a` and `c` and moved `c` onto it: it is enough to say so.
#[tokio::test]
async fn a_stack_middle_inserted_by_hand() {
    let scene = Scene::start("main <- a: a1 <- c: c1").await;
    scene.remote.stack("a <- b: b1");
    scene.remote.rebase("c", "a", "b");
    scene.track(&["b"]).await;
    assert_eq!(scene.act("restack_repo").await, "up_to_date a b c");
    assert_eq!(
        scene.act("reparent_branch branch=c parent=b").await,
        "reparented c(a to b); up_to_date c"
    );
    assert_eq!(
        scene.rows().await,
        "a  main from m0\nb  a from a1\nc  b from b1\n"
    );
    scene.remote.stack("b: b2");
    assert_eq!(scene.act("restack_repo").await, "moved c; up_to_date a b");
    assert_eq!(
        scene.draw(),
        "main  m0\na     main: a1\nb     a: b1 b2\nc     b: c1\n"
    );
}

#[tokio::test]
async fn a_stack_middle_inserted_by_hand_below_a_branch_that_was_not_moved() {
    let scene = Scene::start("main <- a: a1 <- c: c1").await;
    scene.remote.stack("a <- b: b1");
    scene.track(&["b"]).await;
    assert_eq!(
        scene.act("reparent_branch branch=c parent=b").await,
        "reparented c(a to b); moved c"
    );
    assert_eq!(
        scene.draw(),
        "main  m0\na     main: a1\nb     a: b1\nc     b: c1\n"
    );
}

/// It may stand anywhere as long as its parent's head is in it.
#[tokio::test]
async fn a_stack_rebased_by_hand_is_up_to_date() {
    let scene = Scene::start("main <- a: a1 <- b: b1").await;
    let old = scene.remote.head("a").to_string();
    scene.remote.stack("main: m1");
    scene.remote.rebase("a", "main~1", "main");
    scene.remote.rebase("b", &old, "a");
    let graph = "main  m0 m1\na     main: a1\nb     a: b1\n";
    assert_eq!(scene.draw(), graph);
    assert_eq!(
        scene.act("restack_repo").await,
        "trunk m0..m1; up_to_date a b"
    );
    assert_eq!(scene.rows().await, "a  main from m1\nb  a from a1\n");
}

/// The copies that the hand-made rebase took along are not added once more.
#[tokio::test]
async fn a_branch_rebased_by_hand_without_its_parent_goes_back_onto_it() {
    let scene = Scene::start("main <- a: a1 <- b: b1").await;
    scene.remote.stack("main: m1");
    scene.remote.rebase("b", "a", "main");
    assert_eq!(
        scene.draw(),
        "main  m0 m1\na     main~1: a1\nb     main: b1\n"
    );
    assert_eq!(scene.act("restack_repo").await, "trunk m0..m1; moved a b");
    assert_eq!(scene.draw(), "main  m0 m1\na     main: a1\nb     a: b1\n");
}

/// It has no commits of its own, so it goes where its parent is.
#[tokio::test]
async fn a_child_behind_its_parent_follows_it() {
    let scene = Scene::start("main <- a: a1 <- b").await;
    scene
        .act("register_existing_branch branch=b parent=a")
        .await;
    scene.remote.stack("a: a2");
    assert_eq!(scene.draw(), "main  m0\na     b: a2\nb     main: a1\n");
    assert_eq!(scene.act("restack_repo").await, "moved b; up_to_date a");
    assert_eq!(scene.draw(), "main  m0\na     main: a1 a2\nb     = a\n");
}

#[tokio::test]
async fn a_conflict_in_the_middle_leaves_clean_siblings_alone() {
    let scene = Scene::start("main <- a: a1 <- b: b1{f=b} <- c: c1; a <- d: d1 <- e: e1").await;
    scene.remote.stack("a: a2{f=a}");
    assert_eq!(
        scene.act("restack_repo").await,
        "conflict! moved d e; up_to_date a; conflicts b(b1 onto a2: f add_add); \
         skipped c(parent_conflict)"
    );
    assert_eq!(
        scene.draw(),
        "main  m0\na     main: a1 a2\nb     main: a1 b1\nc     b: c1\nd     a: d1\ne     d: e1\n"
    );
    assert_eq!(
        scene.rows().await,
        "a  main from m0\nb  a from a1\nc  b from b1\nd  a from a2\ne  d from d1\n"
    );
}

/// As soon as somebody has resolved it and pushed, the rest of the stack follows.
#[tokio::test]
async fn a_conflict_resolved_by_hand_lets_the_stack_go_on() {
    let scene = Scene::start("main <- a: a1{f=a} <- b: b1").await;
    scene.remote.stack("main: m1{f=m}");
    assert_eq!(
        scene.act("restack_repo").await,
        "conflict! trunk m0..m1; conflicts a(a1 onto m1: f add_add); skipped b(parent_conflict)"
    );
    scene.remote.force("a", "main");
    scene.remote.stack("a: a1{f=both}");
    assert_eq!(scene.act("restack_repo").await, "moved b; up_to_date a");
    assert_eq!(scene.draw(), "main  m0 m1\na     main: a1\nb     a: b1\n");
    assert_eq!(scene.remote.show("b:f"), "both\n");
}
