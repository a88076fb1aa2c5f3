use std::time::{Duration, Instant};

use super::*;

fn remote() -> (tempfile::TempDir, Remote) {
    let dir = tempfile::tempdir().unwrap();
    let remote = Remote::new(dir.path().join("web.git"));
    (dir, remote)
}

#[test]
fn a_story_becomes_a_stack_and_its_drawing() {
    let (_dir, remote) = remote();
    remote.stack("main: m1 <- a: a1 a2 <- b: b1 <- c: c1");
    remote.stack("a <- d: d1");
    assert_eq!(
        remote.draw(),
        "main  m0 m1\n\
         a     main: a1 a2\n\
         b     a: b1\n\
         c     b: c1\n\
         d     a: d1\n"
    );
    assert_eq!(remote.show("b:a2"), "a2\n");
    assert_eq!(remote.files("a"), ["a1", "a2", "m0", "m1"]);
}

#[test]
fn the_same_story_makes_the_same_commits() {
    let heads = || {
        let (_dir, remote) = remote();
        remote.stack("main <- a: a1 <- b: b1");
        remote.amend("a", &[("a1", "new\n")]);
        (remote.head("a"), remote.head("b"))
    };
    assert_eq!(heads(), heads());
}

#[test]
fn a_branch_behind_trunk_shows_how_far() {
    let (_dir, remote) = remote();
    remote.stack("main <- a: a1");
    remote.stack("main: m1 m2");
    assert_eq!(remote.draw(), "main  m0 m1 m2\na     main~2: a1\n");
}

#[test]
fn a_child_of_a_rewritten_branch_shows_the_former_commits() {
    let (_dir, remote) = remote();
    remote.stack("main <- a: a1 a2 <- b: b1");
    remote.amend("a", &[("a2", "better\n")]);
    assert_eq!(
        remote.draw(),
        "main  m0\na     main: a1 a2'\nb     main: a1 a2 b1\n"
    );
    assert_eq!(remote.show("a:a2"), "better\n");
    assert_eq!(remote.show("b:a2"), "a2\n");
    remote.reword("a", "a2 again");
    assert_eq!(
        remote.draw(),
        "main  m0\na     main: a1 a2 again\nb     main: a1 a2 b1\n"
    );
}

#[test]
fn every_way_of_merging_has_its_picture() {
    let story = || {
        let (dir, remote) = remote();
        remote.stack("main <- a: a1 a2");
        (dir, remote)
    };
    let (_dir, remote) = story();
    remote.ff_merge("a");
    assert_eq!(remote.draw(), "main  m0 a1 a2\na     = main\n");

    let (_dir, remote) = story();
    remote.stack("main: m1");
    remote.merge_commit("a");
    assert_eq!(
        remote.draw(),
        "main  m0 m1 merge a(+a2)\na     = main(a2)\n"
    );

    let (_dir, remote) = story();
    remote.stack("main: m1");
    remote.squash_merge("a");
    assert_eq!(remote.draw(), "main  m0 m1 squash a\na     main~2: a1 a2\n");
    assert_eq!(remote.files("main"), ["a1", "a2", "m0", "m1"]);
    remote.revert("main", "main");
    assert_eq!(remote.files("main"), ["m0", "m1"]);

    let (_dir, remote) = story();
    remote.stack("main: m1");
    remote.rebase_merge("a");
    assert_eq!(remote.draw(), "main  m0 m1 a1' a2'\na     main~3: a1 a2\n");
}

#[test]
fn a_merge_within_a_branch_names_what_it_brought_in() {
    let (_dir, remote) = remote();
    remote.stack("main <- a: a1");
    remote.stack("main: m1");
    remote.merge("a", "main");
    remote.stack("a: a2");
    assert_eq!(
        remote.draw(),
        "main  m0 m1\na     main~1: a1 merge main(+m1) a2\n"
    );
}

#[test]
fn a_rebase_takes_what_is_above_its_base_elsewhere() {
    let (_dir, remote) = remote();
    remote.stack("main <- a: a1 <- b: b1 b2");
    remote.stack("main: m1");
    let head = remote.rebase("b", "a", "main");
    assert_eq!(
        remote.draw(),
        "main  m0 m1\na     main~1: a1\nb     main: b1 b2\n"
    );
    assert_eq!(remote.head("b"), head);
    assert_eq!(remote.subject(head).as_deref(), Some("b2"));
}

#[test]
fn branches_on_the_same_commit_are_equal() {
    let (_dir, remote) = remote();
    remote.stack("main <- a: a1 <- b: b1");
    remote.force("c", "a");
    remote.force("d", "main");
    assert_eq!(
        remote.draw(),
        "main  m0\na     main: a1\nb     a: b1\nc     = a\nd     = main\n"
    );
    remote.delete("a");
    assert_eq!(
        remote.draw(),
        "main  m0\nb     c: b1\nc     main: a1\nd     = main\n"
    );
    assert!(!remote.has("a"));
    let refs = remote.refs();
    let names: Vec<_> = refs.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "refs/heads/b",
            "refs/heads/c",
            "refs/heads/d",
            "refs/heads/main"
        ]
    );
}

#[test]
fn changes_are_told_in_braces() {
    let (_dir, remote) = remote();
    remote.stack("main: m1{dir/file=one|two} <- a: a1{dir/file=one|2,-m0}");
    assert_eq!(remote.show("a:dir/file"), "one\n2\n");
    assert_eq!(remote.show("main:dir/file"), "one\ntwo\n");
    assert_eq!(remote.files("a"), ["dir/file"]);
}

#[test]
#[should_panic(expected = "merge a into main: conflict")]
fn a_merge_with_a_conflict_panics() {
    let (_dir, remote) = remote();
    remote.stack("main: m1{f=0} <- a: a1{f=1}");
    remote.stack("main: m2{f=2}");
    remote.merge_commit("a");
}

#[test]
#[should_panic(expected = "\"nowhere\", which is not there")]
fn a_story_starts_on_a_branch_that_is_there() {
    let (_dir, remote) = remote();
    remote.stack("nowhere <- a: a1");
}

#[test]
fn git_itself_finds_nothing_wrong_with_it() {
    let (_dir, remote) = remote();
    remote.stack("main: m1 <- a: a1 <- b: b1");
    remote.merge("b", "main");
    remote.amend("a", &[("a1", "2\n")]);
    remote.git(&["fsck", "--strict", "--no-dangling"]);
    let log = remote.git(&["log", "--format=%s|%an|%cn|%cI", "-1", "a"]);
    assert_eq!(log, "a1|Ann Author|Carl Committer|2024-01-01T00:05:00Z");
}

#[test]
fn hooks_run_for_real_pushes_and_may_refuse_them() {
    let (dir, remote) = remote();
    remote.stack("main <- a: a1");
    remote.hook("update", "#!/bin/sh\necho \"no $1 today\" >&2\nexit 1\n");
    let clone = dir.path().join("clone");
    let git = |directory: &Path, arguments: &[&str]| {
        let output = Command::new("git")
            .arg("-C")
            .arg(directory)
            .args(arguments)
            .output()
            .unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let (cloned, said) = git(dir.path(), &["clone", "-q", &remote.url(), "clone"]);
    assert!(cloned, "{said}");
    let push = ["push", "-q", "origin", "origin/a:refs/heads/b"];
    let (pushed, said) = git(&clone, &push);
    assert!(!pushed && said.contains("no refs/heads/b today"), "{said}");
    remote.remove_hook("update");
    let (pushed, said) = git(&clone, &push);
    assert!(pushed, "{said}");
    assert_eq!(remote.head("b"), remote.head("a"));
}

/// The quickest of a few counts, for other tests share the processors.
#[test]
fn a_remote_with_a_stack_is_made_in_a_moment() {
    let make = || {
        let started = Instant::now();
        let (_dir, remote) = remote();
        remote.stack("main <- a: a1 a2 a3 <- b: b1 b2 b3 <- c: c1 c2 c3");
        assert!(remote.has("c"));
        started.elapsed()
    };
    let took = (0..5).map(|_| make()).min().unwrap();
    assert!(took < Duration::from_millis(500), "{took:?}");
}
