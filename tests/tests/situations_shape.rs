//! Stacks and histories of unusual shape.

use backstack_tests::Scene;

#[tokio::test]
async fn trunk_merged_into_a_branch_is_flattened_away() {
    let scene = Scene::start("main <- a: a1").await;
    scene.remote.stack("main: m1");
    scene.remote.merge("a", "main");
    scene.remote.stack("a: a2");
    assert_eq!(
        scene.act("restack_repo").await,
        "trunk m0..m1; up_to_date a"
    );
    scene.remote.stack("main: m2");
    assert_eq!(
        scene.draw(),
        "main  m0 m1 m2\na     main~2: a1 merge main(+m1) a2\n"
    );
    assert_eq!(
        scene.act("restack_repo").await,
        "trunk m1..m2; moved a; dropped a(merge main merge_flattened)"
    );
    assert_eq!(scene.draw(), "main  m0 m1 m2\na     main: a1 a2\n");
}

/// Flattening would lose what somebody did in the merge, so it is left to people.
#[tokio::test]
async fn trunk_merged_into_a_branch_with_hand_made_changes_stops_it() {
    let scene = Scene::start("main <- a: a1 <- b: b1; main <- c: c1").await;
    scene.remote.stack("main: m1");
    scene.remote.merge("a", "main");
    scene.remote.amend("a", &[("by-hand", "by hand\n")]);
    scene.remote.stack("main: m2");
    assert_eq!(
        scene.act("restack_repo").await,
        "trunk m0..m2; moved c; skipped a(merge_has_changes) b(merge_has_changes)"
    );
    assert_eq!(
        scene.draw(),
        "main  m0 m1 m2\na     main~2: a1 merge main(+m1)\nb     main~2: a1 b1\nc     main: c1\n"
    );
    assert_eq!(
        scene.act("rebase_branch branch=a").await,
        "merge_has_changes!"
    );
}

/// What the side branch brought is replayed, the merge is not.
#[tokio::test]
async fn a_merge_commit_in_a_branch_is_flattened() {
    let scene = Scene::start("main <- a: a1").await;
    scene.remote.stack("main <- side: s1 s2");
    scene.remote.merge("a", "side");
    scene.remote.delete("side");
    scene.remote.stack("main: m1");
    assert_eq!(
        scene.draw(),
        "main  m0 m1\na     main~1: a1 merge side(+s2)\n"
    );
    assert_eq!(
        scene.act("restack_repo").await,
        "trunk m0..m1; moved a; dropped a(merge side merge_flattened)"
    );
    assert_eq!(scene.draw(), "main  m0 m1\na     main: a1 s1 s2\n");
    assert_eq!(scene.remote.files("a"), ["a1", "m0", "m1", "s1", "s2"]);
}

#[tokio::test]
async fn commits_that_were_empty_from_the_start_are_kept() {
    let scene = Scene::start("main <- a: a1").await;
    scene.remote.commit("a", &[], "empty");
    scene.remote.stack("a <- b: b1");
    scene.track(&["b"]).await;
    scene.remote.stack("main: m1");
    assert_eq!(scene.act("restack_repo").await, "trunk m0..m1; moved a b");
    assert_eq!(
        scene.draw(),
        "main  m0 m1\na     main: a1 empty\nb     a: b1\n"
    );
}

/// With nothing else on it there is nothing that could be merged.
#[tokio::test]
async fn a_branch_of_empty_commits_alone_is_kept() {
    let scene = Scene::start("main <- a").await;
    scene.remote.commit("a", &[], "empty");
    scene.remote.stack("main: m1");
    assert_eq!(
        scene.act("sync_repo restack").await,
        "trunk m0..m1; moved a"
    );
    assert_eq!(scene.draw(), "main  m0 m1\na     main: empty\n");
}

#[tokio::test]
async fn branch_names_with_dots_slashes_and_other_scripts() {
    let stack = "main <- release-1.0: r1 <- fix/a.b_c=d: f1 <- größe/日本: g1 <- user@host/+x: u1";
    let scene = Scene::start(stack).await;
    scene.remote.stack("main: m1");
    assert_eq!(
        scene.act("restack_repo").await,
        "trunk m0..m1; moved release-1.0 fix/a.b_c=d größe/日本 user@host/+x"
    );
    assert_eq!(
        scene.draw(),
        "main          m0 m1\n\
         fix/a.b_c=d   release-1.0: f1\n\
         größe/日本      fix/a.b_c=d: g1\n\
         release-1.0   main: r1\n\
         user@host/+x  größe/日本: u1\n"
    );
    assert_eq!(
        scene.act("unregister_branch branch=größe/日本").await,
        "reparented user@host/+x(größe/日本 to fix/a.b_c=d)"
    );
}

#[tokio::test]
async fn a_deep_stack_of_twenty() {
    let names: Vec<_> = (1..=20).map(|n| format!("b{n:02}")).collect();
    let stack: Vec<_> = names
        .iter()
        .map(|name| format!("{name}: {name}x"))
        .collect();
    let scene = Scene::start(&format!("main <- {}", stack.join(" <- "))).await;
    scene.remote.stack("main: m1");
    let before = scene.draw();
    assert_eq!(
        scene.act("restack_repo").await,
        format!("trunk m0..m1; moved {}", names.join(" "))
    );
    assert_eq!(scene.draw(), before.replace("main~1: ", "main: "));
}

#[tokio::test]
async fn a_wide_tree_of_twenty() {
    let names: Vec<_> = (1..=20).map(|n| format!("b{n:02}")).collect();
    let stacks: Vec<_> = names
        .iter()
        .map(|name| format!("a <- {name}: {name}x"))
        .collect();
    let scene = Scene::start(&format!("main <- a: a1; {}", stacks.join("; "))).await;
    scene.remote.stack("a: a2");
    let before = scene.draw();
    assert_eq!(
        scene.act("restack_repo").await,
        format!("moved {}; up_to_date a", names.join(" "))
    );
    assert_eq!(scene.draw(), before.replace("main: a1 b", "a: b"));
}

/// Each of its stacks for itself.
#[tokio::test]
async fn a_repository_of_many_stacks() {
    let scene = Scene::start("main <- a: a1 <- b: b1; main <- c: c1 <- d: d1; main <- e: e1").await;
    scene.remote.stack("main: m1");
    assert_eq!(
        scene.act("restack_subtree branch=c").await,
        "trunk m0..m1; moved c d"
    );
    assert_eq!(
        scene.act("restack_repo").await,
        "moved a b e; up_to_date c d"
    );
}

/// What the sibling brought is the branch's own from then on.
#[tokio::test]
async fn a_branch_that_merged_its_sibling() {
    let scene = Scene::start("main <- a: a1; main <- b: b1").await;
    scene.remote.merge("b", "a");
    scene.remote.stack("main: m1");
    assert_eq!(
        scene.act("restack_repo").await,
        "trunk m0..m1; moved a b; dropped b(merge a merge_flattened)"
    );
    assert_eq!(
        scene.draw(),
        "main  m0 m1\na     main: a1\nb     main: b1 a1'\n"
    );
}
