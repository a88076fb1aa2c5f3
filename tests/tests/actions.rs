//! Each action in its plain form, from publishing to the commit graph on the remote and the rows.

use backstack_tests::Scene;

#[tokio::test]
async fn sync_repo_records_what_people_did_and_pushes_nothing() {
    let scene = Scene::start("main <- a: a1 <- b: b1").await;
    scene.remote.stack("main: m1");
    scene.remote.stack("a: a2");
    scene.remote.stack("main <- new: n1");
    let before = scene.draw();
    assert_eq!(scene.act("sync_repo").await, "trunk m0..m1");
    assert_eq!(scene.draw(), before);
    assert_eq!(
        scene.rows().await,
        "a    main from m0\nb    a from a1\nnew  untracked\n"
    );
}

#[tokio::test]
async fn sync_repo_with_restack_also_restacks() {
    let scene = Scene::start("main <- a: a1 <- b: b1; main <- c: c1 c2").await;
    scene.remote.stack("main: m1");
    scene.remote.squash_merge("c");
    let said = scene.act("sync_repo restack").await;
    assert_eq!(said, "trunk m0..squash c; merged c(main squash); moved a b");
    assert_eq!(
        scene.draw(),
        "main  m0 m1 squash c\na     main: a1\nb     a: b1\nc     main~2: c1 c2\n"
    );
    assert_eq!(
        scene.rows().await,
        "a  main from squash c\nb  a from a1\nc  untracked\n"
    );
}

#[tokio::test]
async fn restack_repo_replays_every_stack_onto_its_parents_new_heads() {
    let scene = Scene::start("main <- a: a1 a2 <- b: b1; a <- c: c1; main <- d: d1").await;
    assert_eq!(
        scene.draw(),
        "main  m0\na     main: a1 a2\nb     a: b1\nc     a: c1\nd     main: d1\n"
    );
    scene.remote.stack("main: m1");
    let said = scene.act("restack_repo").await;
    assert_eq!(said, "trunk m0..m1; moved a b c d");
    assert_eq!(
        scene.draw(),
        "main  m0 m1\na     main: a1 a2\nb     a: b1\nc     a: c1\nd     main: d1\n"
    );
    assert_eq!(
        scene.rows().await,
        "a  main from m1\nb  a from a2\nc  a from a2\nd  main from m1\n"
    );
}

#[tokio::test]
async fn restack_subtree_leaves_everything_outside_it_alone() {
    let scene = Scene::start("main <- a: a1 <- b: b1 <- c: c1; main <- d: d1").await;
    scene.remote.stack("main: m1");
    scene.remote.stack("a: a2");
    assert_eq!(
        scene.act("restack_subtree branch=b").await,
        "trunk m0..m1; moved b c"
    );
    assert_eq!(
        scene.draw(),
        "main  m0 m1\na     main~1: a1 a2\nb     a: b1\nc     b: c1\nd     main~1: d1\n"
    );
    assert_eq!(
        scene.rows().await,
        "a  main from m0\nb  a from a2\nc  b from b1\nd  main from m0\n"
    );
}

/// Its children stay where they were and can be restacked later.
#[tokio::test]
async fn rebase_branch_moves_that_branch_alone() {
    let scene = Scene::start("main <- a: a1 <- b: b1").await;
    scene.remote.stack("main: m1");
    assert_eq!(
        scene.act("rebase_branch branch=a").await,
        "trunk m0..m1; moved a"
    );
    assert_eq!(
        scene.draw(),
        "main  m0 m1\na     main: a1'\nb     main~1: a1 b1\n"
    );
    assert_eq!(scene.rows().await, "a  main from m1\nb  a from a1\n");
    assert_eq!(scene.act("restack_repo").await, "moved b; up_to_date a");
    assert_eq!(scene.draw(), "main  m0 m1\na     main: a1\nb     a: b1\n");
}

#[tokio::test]
async fn reparent_branch_takes_its_descendants_along() {
    let scene = Scene::start("main <- a: a1 <- b: b1 <- c: c1; main <- d: d1").await;
    assert_eq!(
        scene.act("reparent_branch branch=b parent=d").await,
        "reparented b(a to d); moved b c"
    );
    assert_eq!(
        scene.draw(),
        "main  m0\na     main: a1\nb     d: b1\nc     b: c1\nd     main: d1\n"
    );
    assert_eq!(
        scene.rows().await,
        "a  main from m0\nb  d from d1\nc  b from b1\nd  main from m0\n"
    );
}

#[tokio::test]
async fn reparent_branch_onto_trunk_leaves_the_old_parents_commits_behind() {
    let scene = Scene::start("main <- a: a1 <- b: b1").await;
    assert_eq!(
        scene.act("reparent_branch branch=b parent=main").await,
        "reparented b(a to main); moved b"
    );
    assert_eq!(scene.draw(), "main  m0\na     main: a1\nb     main: b1\n");
    assert_eq!(scene.rows().await, "a  main from m0\nb  main from m0\n");
}

/// No ref moves and no row says otherwise than before, of the branch and of what stands on it.
#[tokio::test]
async fn reparent_branch_that_conflicts_changes_nothing() {
    let scene = Scene::start("main <- a: a1 <- b: b1{f=b} <- c: c1; main <- d: d1{f=d}").await;
    let (graph, rows) = (scene.draw(), scene.rows().await);
    assert_eq!(
        scene.act("reparent_branch branch=b parent=d").await,
        "conflict! conflicts b(b1 onto d1: f add_add); skipped c(parent_conflict)"
    );
    assert_eq!(scene.draw(), graph);
    assert_eq!(scene.rows().await, rows);
}

/// A descendant's conflict stays its own: the branch gets its parent.
#[tokio::test]
async fn reparent_branch_goes_through_where_only_a_descendant_conflicts() {
    let scene = Scene::start("main <- a: a1 <- b: b1 <- c: c1{f=c}; main <- d: d1{f=d}").await;
    assert_eq!(
        scene.act("reparent_branch branch=b parent=d").await,
        "conflict! reparented b(a to d); moved b; conflicts c(c1 onto b1: f add_add)"
    );
    assert_eq!(
        scene.draw(),
        "main  m0\na     main: a1\nb     d: b1'\nc     a: b1 c1\nd     main: d1\n"
    );
    assert_eq!(
        scene.rows().await,
        "a  main from m0\nb  d from d1\nc  b from b1\nd  main from m0\n"
    );
}

#[tokio::test]
async fn reparent_branch_replays_what_is_above_a_given_base() {
    let scene = Scene::start("main <- a: a1 a2 a3; main <- b: b1").await;
    let base = scene.remote.oid("a~1");
    let action = format!("reparent_branch branch=a parent=b base={base}");
    assert_eq!(scene.act(&action).await, "reparented a(main to b); moved a");
    assert_eq!(scene.draw(), "main  m0\na     b: a3\nb     main: b1\n");
}

#[tokio::test]
async fn unregister_branch_hands_its_children_to_its_parent() {
    let scene = Scene::start("main <- a: a1 <- b: b1 <- c: c1; b <- d: d1").await;
    let before = scene.draw();
    assert_eq!(
        scene.act("unregister_branch branch=b").await,
        "reparented c(b to a) d(b to a)"
    );
    assert_eq!(scene.draw(), before);
    assert_eq!(
        scene.rows().await,
        "a  main from m0\nb  untracked\nc  a from b1\nd  a from b1\n"
    );
}

/// What was the unregistered branch's does not become its children's.
#[tokio::test]
async fn children_of_an_unregistered_branch_are_restacked_without_its_commits() {
    let scene = Scene::start("main <- a: a1 <- b: b1").await;
    assert_eq!(
        scene.act("unregister_branch branch=a").await,
        "reparented b(a to main)"
    );
    scene.remote.stack("main: m1");
    assert_eq!(scene.act("restack_repo").await, "trunk m0..m1; moved b");
    assert_eq!(
        scene.draw(),
        "main  m0 m1\na     main~1: a1\nb     main: b1\n"
    );
}

#[tokio::test]
async fn register_existing_branch_tracks_what_was_pushed() {
    let scene = Scene::untracked("main <- a: a1").await;
    assert_eq!(
        scene.act("register_existing_branch branch=a").await,
        "trunk none..m0; registered a(main from m0)"
    );
    assert_eq!(scene.draw(), "main  m0\na     main: a1\n");
    assert_eq!(scene.rows().await, "a  main from m0\n");
}

/// It counts as merged, and what stood on it stands on the new parent.
#[tokio::test]
async fn reparent_branch_onto_a_parent_that_has_its_work_already() {
    let scene = Scene::start("main <- a: a1 <- b: b1 <- c: c1; main <- d: b1 d1").await;
    assert_eq!(
        scene.act("reparent_branch branch=b parent=d").await,
        "merged b(d became_empty); reparented c(b to d); moved c; dropped b(b1 became_empty)"
    );
    assert_eq!(
        scene.draw(),
        "main  m0\na     main: a1\nb     a: b1\nc     d: c1\nd     main: b1' d1\n"
    );
    assert_eq!(
        scene.rows().await,
        "a  main from m0\nb  untracked\nc  d from d1\nd  main from m0\n"
    );
}
