//! What branch rows say of commits after each action: against the parent, against trunk, and of size.

use backstack_tests::Scene;

#[tokio::test]
async fn a_branch_is_counted_against_its_parent() {
    let scene = Scene::start("main <- a: a1 a2 <- b: b1").await;
    assert_eq!(
        scene.facts().await,
        "a  +2 -0, 2 files +2 -0\nb  +1 -0, 1 files +1 -0\n"
    );
}

#[tokio::test]
async fn a_sync_tells_which_branches_need_a_restack() {
    let scene = Scene::start("main <- a: a1 <- b: b1").await;
    scene.remote.stack("main: m1 m2");
    scene.act("sync_repo").await;
    assert_eq!(
        scene.facts().await,
        "a  +1 -2 restack, 1 files +1 -0\nb  +1 -0, 1 files +1 -0\n"
    );
    scene.act("restack_repo").await;
    assert_eq!(
        scene.facts().await,
        "a  +1 -0, 1 files +1 -0\nb  +1 -0, 1 files +1 -0\n"
    );
}

#[tokio::test]
async fn the_children_of_a_rebased_branch_need_a_restack() {
    let scene = Scene::start("main <- a: a1 <- b: b1").await;
    scene.remote.stack("main: m1");
    scene.act("rebase_branch branch=a").await;
    assert_eq!(
        scene.facts().await,
        "a  +1 -0, 1 files +1 -0\nb  +2 -2 restack, 1 files +1 -0\n"
    );
}

#[tokio::test]
async fn a_branch_that_trunk_clashes_with_conflicts_and_so_does_what_stands_on_it() {
    let scene = Scene::start("main <- a: a1{f=a} <- b: b1; main <- c: c1").await;
    scene.remote.stack("main: m1{f=m}");
    scene.act("sync_repo").await;
    assert_eq!(
        scene.facts().await,
        "a  +1 -1 restack conflicts, 1 files +1 -0\n\
         b  +1 -0 conflicts, 1 files +1 -0\n\
         c  +1 -1 restack, 1 files +1 -0\n"
    );
}

#[tokio::test]
async fn a_diff_counts_files_and_lines_of_the_own_commits_alone() {
    let scene = Scene::start("main <- a: a1 a2{f=1|2|3} <- b: b1{f=1|3|4|5,g=x} b2{-a1}").await;
    assert_eq!(
        scene.facts().await,
        "a  +2 -0, 2 files +4 -0\nb  +2 -0, 3 files +3 -2\n"
    );
}

#[tokio::test]
async fn of_branches_in_no_stack_only_the_head_is_known() {
    let scene = Scene::start("main <- a: a1").await;
    scene.remote.stack("main <- x: x1");
    scene.act("sync_repo").await;
    assert_eq!(scene.facts().await, "a  +1 -0, 1 files +1 -0\nx  unknown\n");
    scene.act("unregister_branch branch=a").await;
    assert_eq!(scene.facts().await, "a  unknown\nx  unknown\n");
    let row = scene.world.branch("web", "x").await.unwrap();
    assert_eq!(row.subject.as_deref(), Some("x1"));
    assert_eq!(row.author.as_deref(), Some("Ann Author"));
}

#[tokio::test]
async fn a_branch_that_left_the_remote_has_no_facts() {
    let scene = Scene::start("main <- a: a1 <- b: b1").await;
    scene.remote.delete("a");
    scene.act("sync_repo").await;
    assert_eq!(scene.facts().await, "a  unknown\nb  unknown\n");
}

#[tokio::test]
async fn a_reparented_branch_is_counted_against_its_new_parent() {
    let scene = Scene::start("main <- a: a1 <- b: b1; main <- c: c1 c2").await;
    scene.act("reparent_branch branch=b parent=c").await;
    assert_eq!(
        scene.facts().await,
        "a  +1 -0, 1 files +1 -0\nb  +1 -0, 1 files +1 -0\nc  +2 -0, 2 files +2 -0\n"
    );
}

/// Registering writes rows, moving writes rows, and each former head is remembered.
#[tokio::test]
async fn a_row_remembers_the_heads_that_its_branch_had() {
    let scene = Scene::start("main <- a: a1").await;
    let first = scene.remote.head("a");
    let second = scene.remote.amend("a", &[("a1", "amended\n")]);
    scene.remote.stack("main: m1");
    scene.act("restack_repo").await;
    let row = scene.world.branch("web", "a").await.unwrap();
    assert_eq!(row.former_heads, [second, first]);
    assert_eq!(row.head, Some(scene.remote.head("a")));
}
