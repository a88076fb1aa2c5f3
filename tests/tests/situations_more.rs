//! Situations in which two things come together.

use backstack_tests::Scene;

/// A branch gives way to branches below its name, which no ref store on disk could hold beside it.
#[tokio::test]
async fn a_branch_that_becomes_a_directory_of_branches() {
    let scene = Scene::start("main <- a: a1").await;
    let head = scene.remote.head("a").to_string();
    scene.remote.delete("a");
    scene.remote.force("a/b", &head);
    scene.act("register_existing_branch branch=a/b").await;
    scene.remote.stack("main: m1");
    assert_eq!(
        scene.act("restack_repo").await,
        "trunk m0..m1; moved a/b; skipped a(missing_on_remote)"
    );
    scene.remote.delete("a/b");
    scene.remote.force("a", &head);
    assert_eq!(
        scene.act("restack_repo").await,
        "moved a; skipped a/b(missing_on_remote)"
    );
    assert_eq!(scene.draw(), "main  m0 m1\na     main: a1\n");
}

/// Its parent has it all, so there is nothing left to stack on it.
#[tokio::test]
async fn a_branch_squashed_into_its_parent_counts_as_merged_into_that() {
    let scene = Scene::start("main <- a: a1 <- b: b1 <- c: c1").await;
    scene.remote.stack("a: squashed{b1=b1}");
    assert_eq!(
        scene.act("restack_repo").await,
        "merged b(a became_empty); reparented c(b to a); moved c; up_to_date a; \
         dropped b(b1 became_empty)"
    );
    assert_eq!(
        scene.draw(),
        "main  m0\na     main: a1 squashed\nb     main: a1 b1\nc     a: c1\n"
    );
}

#[tokio::test]
async fn a_parent_squash_merged_after_its_child_was_added_to_it() {
    let scene = Scene::start("main <- a: a1 <- b: b1").await;
    scene.remote.force("a", "b");
    scene.remote.squash_merge("a");
    assert_eq!(
        scene.act("sync_repo restack").await,
        "trunk m0..squash a; merged a(main squash); reparented b(a to main); moved b"
    );
    assert_eq!(
        scene.draw(),
        "main  m0 squash a\na     main~1: a1 b1\nb     = main\n"
    );
}

/// The merged parent's old version is not carried along, though the child stands on that.
#[tokio::test]
async fn a_parent_amended_and_then_squash_merged() {
    let scene = Scene::start("main <- a: a1 a2 <- b: b1").await;
    scene.remote.amend("a", &[("a2", "amended\n")]);
    scene.remote.squash_merge("a");
    assert_eq!(
        scene.act("sync_repo restack").await,
        "trunk m0..squash a; merged a(main squash); reparented b(a to main); moved b"
    );
    assert_eq!(
        scene.draw(),
        "main  m0 squash a\na     main~1: a1 a2\nb     main: b1\n"
    );
    assert_eq!(scene.remote.show("b:a2"), "amended\n");
}

#[tokio::test]
async fn a_parent_amended_and_trunk_advanced_at_once() {
    let scene = Scene::start("main <- a: a1 <- b: b1 <- c: c1").await;
    scene.remote.stack("main: m1");
    scene.remote.amend("a", &[("a1", "amended\n")]);
    scene.remote.amend("b", &[("b1", "amended\n")]);
    assert_eq!(scene.act("restack_repo").await, "trunk m0..m1; moved a b c");
    assert_eq!(
        scene.draw(),
        "main  m0 m1\na     main: a1\nb     a: b1\nc     b: c1\n"
    );
    assert_eq!(scene.remote.show("c:a1"), "amended\n");
    assert_eq!(scene.remote.show("c:b1"), "amended\n");
}

/// The child goes where it is told to, without the version of its parent that it stood on.
#[tokio::test]
async fn reparenting_a_child_of_an_amended_parent() {
    let scene = Scene::start("main <- a: a1 <- b: b1; main <- d: d1").await;
    scene.remote.amend("a", &[("a1", "amended\n")]);
    assert_eq!(
        scene.act("reparent_branch branch=b parent=d").await,
        "reparented b(a to d); moved b"
    );
    assert_eq!(
        scene.draw(),
        "main  m0\na     main: a1\nb     d: b1\nd     main: d1\n"
    );
}

#[tokio::test]
async fn reparenting_where_the_old_parent_is_gone() {
    let scene = Scene::start("main <- a: a1 <- b: b1; main <- d: d1").await;
    scene.remote.delete("a");
    assert_eq!(
        scene.act("reparent_branch branch=b parent=d").await,
        "reparented b(a to d); moved b"
    );
    assert_eq!(scene.draw(), "main  m0\nb     d: b1\nd     main: d1\n");
}

/// What is between the two stays behind, and what stood in between stays where it is.
#[tokio::test]
async fn a_stack_middle_taken_out_by_reparenting_what_is_above_it() {
    let scene = Scene::start("main <- a: a1 <- b: b1 <- c: c1 <- d: d1").await;
    assert_eq!(
        scene.act("reparent_branch branch=c parent=a").await,
        "reparented c(b to a); moved c d"
    );
    assert_eq!(
        scene.draw(),
        "main  m0\na     main: a1\nb     a: b1\nc     a: c1\nd     c: d1\n"
    );
}

/// Each commit ends up in exactly one of the two.
#[tokio::test]
async fn two_branches_of_a_stack_swapped() {
    let scene = Scene::start("main <- a: a1 <- b: b1").await;
    scene.act("reparent_branch branch=b parent=main").await;
    assert_eq!(
        scene.act("reparent_branch branch=a parent=b").await,
        "reparented a(main to b); moved a"
    );
    assert_eq!(scene.draw(), "main  m0\na     b: a1\nb     main: b1\n");
    assert_eq!(scene.rows().await, "a  b from b1\nb  main from m0\n");
}

/// Trunk took the parent and then went on in the same place.
#[tokio::test]
async fn a_child_that_conflicts_with_what_its_merged_parent_became() {
    let scene = Scene::start("main <- a: a1{f=a} <- b: b1{f=b} <- c: c1; main <- d: d1").await;
    scene.remote.squash_merge("a");
    scene.remote.stack("main: m1{f=m}");
    assert_eq!(
        scene.act("sync_repo restack").await,
        "conflict! trunk m0..m1; merged a(main patch_id); reparented b(a to main); moved d; \
         conflicts b(b1 onto m1: f content); skipped c(parent_conflict)"
    );
    assert_eq!(
        scene.rows().await,
        "a  untracked\nb  main from a1\nc  b from b1\nd  main from m1\n"
    );
    assert_eq!(
        scene.act("rebase_branch branch=b").await,
        "conflict! conflicts b(b1 onto m1: f content)"
    );
}

/// A branch that is pushed again under its old name after it was merged begins anew, untracked.
#[tokio::test]
async fn a_merged_branchs_name_used_again() {
    let scene = Scene::start("main <- a: a1").await;
    scene.remote.squash_merge("a");
    scene.remote.delete("a");
    scene.act("sync_repo").await;
    scene.remote.stack("main <- a: new1");
    assert_eq!(scene.act("sync_repo restack").await, "nothing");
    assert_eq!(scene.rows().await, "a  untracked\n");
    scene.track(&["a"]).await;
    scene.remote.stack("main: m1");
    assert_eq!(
        scene.act("restack_repo").await,
        "trunk squash a..m1; moved a"
    );
    assert_eq!(scene.draw(), "main  m0 squash a m1\na     main: new1\n");
}

#[tokio::test]
async fn files_renamed_on_trunk_and_changed_in_a_stack() {
    let scene = Scene::start(
        "main: m1{old=1|2|3|4|5|6|7|8} <- a: a1{old=1|2|3|4|5|6|7|a} <- b: b1{old=b|2|3|4|5|6|7|a}",
    )
    .await;
    scene.remote.stack("main: m2{-old,new=1|2|3|4|5|6|7|8}");
    assert_eq!(scene.act("restack_repo").await, "trunk m1..m2; moved a b");
    assert_eq!(scene.remote.show("b:new"), "b\n2\n3\n4\n5\n6\n7\na\n");
    assert_eq!(scene.remote.files("b"), ["m0", "new"]);
}
