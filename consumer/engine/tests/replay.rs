//! What a replay does with a plan: what moves, what stays, what is dropped, and what a conflict
//! costs. That its trees are git's own is the differential test's matter.

mod support;

use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use backstack_engine::git::Git;
use backstack_engine::plan::{BranchReplay, Plan};
use backstack_engine::replay::{Committer, Merge, Merger, Replayed, replay};
use backstack_engine::{Control, EngineError};
use backstack_schemas::ObjectId;
use backstack_schemas::outcome::{ConflictKind, DropReason, SkipReason};
use support::{Setup, listed, name, on_branch, on_commit, real_git};

const NOW: i64 = 5_000;

fn plan(replays: Vec<BranchReplay>) -> Plan {
    Plan {
        replays,
        ..Plan::default()
    }
}

fn run(setup: &Setup, git: &Git, plan: &Plan) -> Result<Replayed, EngineError> {
    run_within(setup, git, plan, &Control::unbounded())
}

fn run_within(
    setup: &Setup,
    git: &Git,
    plan: &Plan,
    control: &Control,
) -> Result<Replayed, EngineError> {
    let committer = Committer {
        name: "Backstack".to_owned(),
        email: "b@example.com".to_owned(),
        at_least: NOW,
    };
    replay(setup.git_dir(), git, plan, &committer, control, &|_, _| {})
}

/// A trunk of two commits, the second of which the stack does not know.
fn trunk(setup: &Setup) -> (ObjectId, ObjectId) {
    let root = setup.commit(100, &[], &[("f", "1\n2\n3\n"), ("t", "old")]);
    let onto = setup.commit(200, &[root], &[("f", "1\n2\n3\n"), ("t", "new")]);
    (root, onto)
}

fn heads(replayed: &Replayed) -> Vec<(String, ObjectId)> {
    let moved = replayed.moved.iter();
    moved
        .map(|moved| (moved.branch.to_string(), moved.to))
        .collect()
}

#[test]
fn a_stack_moves_onto_the_new_trunk_and_then_stays() {
    let setup = Setup::new();
    let (root, onto) = trunk(&setup);
    let a = setup.commit(110, &[root], &[("f", "1\n2\n3\na\n"), ("t", "old")]);
    let b = setup.commit(120, &[a], &[("f", "1\n2\n3\na\nb\n"), ("t", "old")]);
    let stack = plan(vec![on_commit("a", onto, &[a]), on_branch("b", "a", &[b])]);
    let first = run(&setup, &real_git(), &stack).unwrap();
    first.objects.write(setup.git_dir()).unwrap();
    let (new_a, new_b) = (first.moved[0].to, first.moved[1].to);
    assert_eq!((first.moved[0].from, first.moved[0].base), (a, onto));
    assert_eq!((first.moved[1].from, first.moved[1].base), (b, new_a));
    assert_eq!(
        setup.files(new_b),
        listed(&[("f", "1\n2\n3\na\nb\n"), ("t", "new")])
    );
    assert_eq!(
        setup.raw_commit(new_a).split_once("parent ").unwrap().1,
        format!(
            "{onto}\nauthor A <a@example.com> 110 +0100\n\
             committer Backstack <b@example.com> {NOW} +0000\n\nat 110\n"
        )
    );
    // The same job again makes the same commits; a later one has nothing to do.
    let again = run(&setup, &real_git(), &stack).unwrap();
    assert_eq!(heads(&again), heads(&first));
    let later = plan(vec![
        on_commit("a", onto, &[new_a]),
        on_branch("b", "a", &[new_b]),
    ]);
    let nothing = run(&setup, &real_git(), &later).unwrap();
    assert!(nothing.moved.is_empty() && nothing.objects.is_empty());
    let stay: Vec<_> = nothing
        .unchanged
        .iter()
        .map(|u| (u.branch.as_str(), u.base))
        .collect();
    assert_eq!(stay, [("a", onto), ("b", new_a)]);
}

#[test]
fn commits_are_not_dated_before_their_parents() {
    let setup = Setup::new();
    let root = setup.commit(100, &[], &[("f", "f")]);
    let onto = setup.commit(NOW + 70, &[root], &[("f", "f"), ("t", "t")]);
    let a = setup.commit(110, &[root], &[("f", "f"), ("a", "a")]);
    let moved = run(&setup, &real_git(), &plan(vec![on_commit("a", onto, &[a])])).unwrap();
    moved.objects.write(setup.git_dir()).unwrap();
    let raw = setup.raw_commit(moved.moved[0].to);
    assert!(
        raw.contains(&format!("<b@example.com> {} +0000\n", NOW + 70)),
        "{raw}"
    );
}

#[test]
fn commits_that_stand_already_keep_their_ids() {
    let setup = Setup::new();
    let (_, onto) = trunk(&setup);
    let stands = setup.commit(
        210,
        &[onto],
        &[("f", "1\n2\n3\n"), ("t", "new"), ("a", "a")],
    );
    let loose = setup.commit(
        220,
        &[stands],
        &[("f", "1\n2\n3\n"), ("t", "new"), ("a", "b")],
    );
    let mut longer = on_commit("a", onto, &[stands, loose]);
    longer.head = setup.commit(230, &[loose], &[]);
    let replayed = run(&setup, &real_git(), &plan(vec![longer])).unwrap();
    assert_eq!(heads(&replayed), [("a".to_owned(), loose)]);
}

#[test]
fn what_sits_on_an_emptied_branch_goes_onto_what_that_went_onto() {
    let setup = Setup::new();
    let root = setup.commit(100, &[], &[("f", "f")]);
    let a = setup.commit(110, &[root], &[("f", "f"), ("a", "a")]);
    let b = setup.commit(120, &[a], &[("f", "f"), ("a", "a"), ("b", "b")]);
    let c = setup.commit(130, &[b], &[("f", "f"), ("a", "a"), ("b", "b"), ("c", "c")]);
    let onto = setup.commit(200, &[root], &[("f", "f"), ("a", "a"), ("b", "b")]);
    let stack = plan(vec![
        on_commit("a", onto, &[a]),
        on_branch("b", "a", &[b]),
        on_branch("c", "b", &[c]),
    ]);
    let replayed = run(&setup, &real_git(), &stack).unwrap();
    let empty: Vec<_> = replayed
        .became_empty
        .iter()
        .map(|empty| (empty.branch.as_str(), empty.into.as_str(), empty.onto))
        .collect();
    assert_eq!(empty, [("a", "main", onto), ("b", "main", onto)]);
    assert_eq!(replayed.moved.len(), 1);
    assert_eq!(
        (replayed.moved[0].branch.as_str(), replayed.moved[0].base),
        ("c", onto)
    );
    let dropped: Vec<_> = replayed
        .dropped
        .iter()
        .map(|d| (d.commit, d.reason))
        .collect();
    assert_eq!(
        dropped,
        [(a, DropReason::BecameEmpty), (b, DropReason::BecameEmpty)]
    );
}

#[test]
fn a_commit_empty_from_the_start_stays_and_a_merge_is_flattened() {
    let setup = Setup::new();
    let (root, onto) = trunk(&setup);
    let files = [("f", "1\n2\n3\n"), ("t", "old")];
    let empty = setup.commit(110, &[root], &files);
    let left = setup.commit(120, &[empty], &[files[0], files[1], ("l", "l")]);
    let right = setup.commit(130, &[empty], &[files[0], files[1], ("r", "r")]);
    let merge = setup.commit(
        140,
        &[left, right],
        &[files[0], files[1], ("l", "l"), ("r", "r")],
    );
    let mut branch = on_commit("a", onto, &[empty, left, right]);
    branch.head = merge;
    branch.flattened = vec![merge];
    let replayed = run(&setup, &real_git(), &plan(vec![branch])).unwrap();
    replayed.objects.write(setup.git_dir()).unwrap();
    let head = replayed.moved[0].to;
    assert_eq!(
        setup.files(head),
        listed(&[files[0], ("l", "l"), ("r", "r"), ("t", "new")])
    );
    let subjects = ["at 130", "at 120", "at 110"];
    let mut at = head;
    for subject in subjects {
        let raw = setup.raw_commit(at);
        assert!(raw.ends_with(&format!("\n\n{subject}\n")), "{raw}");
        at = raw
            .lines()
            .nth(1)
            .unwrap()
            .strip_prefix("parent ")
            .unwrap()
            .parse()
            .unwrap();
    }
    assert_eq!(at, onto);
    assert_eq!(replayed.dropped.len(), 1);
    assert_eq!(replayed.dropped[0].reason, DropReason::MergeFlattened);
}

#[test]
fn a_conflict_costs_its_own_subtree_only() {
    let setup = Setup::new();
    let root = setup.commit(100, &[], &[("f", "f"), ("g", "g")]);
    let onto = setup.commit(200, &[root], &[("f", "trunk"), ("g", "g")]);
    let base = setup.commit(110, &[root], &[("f", "f"), ("g", "g"), ("base", "")]);
    let clash = setup.commit(120, &[base], &[("f", "clash"), ("g", "g"), ("base", "")]);
    let above = setup.commit(
        130,
        &[clash],
        &[("f", "clash"), ("g", "above"), ("base", "")],
    );
    let sibling = setup.commit(140, &[base], &[("f", "f"), ("g", "sibling"), ("base", "")]);
    let stack = plan(vec![
        on_commit("base", onto, &[base]),
        on_branch("clash", "base", &[clash]),
        on_branch("above", "clash", &[above]),
        on_branch("sibling", "base", &[sibling]),
    ]);
    let replayed = run(&setup, &real_git(), &stack).unwrap();
    let moved: Vec<_> = heads(&replayed).into_iter().map(|(name, _)| name).collect();
    assert_eq!(moved, ["base", "sibling"]);
    let conflict = &replayed.conflicts[0];
    assert_eq!(
        (conflict.branch.as_str(), conflict.commit),
        ("clash", clash)
    );
    assert_eq!(conflict.onto, replayed.moved[0].to);
    assert_eq!(conflict.paths.len(), 1);
    assert_eq!(
        (conflict.paths[0].path.as_str(), conflict.paths[0].kind),
        ("f", ConflictKind::Content)
    );
    assert_eq!(replayed.skipped.len(), 1);
    assert_eq!(replayed.skipped[0].branch, name("above"));
    assert_eq!(replayed.skipped[0].reason, SkipReason::ParentConflict);
}

#[test]
fn a_target_without_any_file_is_a_target() {
    let setup = Setup::new();
    let root = setup.commit(100, &[], &[("f", "f")]);
    let onto = setup.commit(200, &[root], &[]);
    let edits = setup.commit(110, &[root], &[("f", "edited")]);
    let adds = setup.commit(120, &[root], &[("f", "f"), ("a", "a")]);
    let stacks = plan(vec![
        on_commit("edits", onto, &[edits]),
        on_commit("adds", onto, &[adds]),
    ]);
    let replayed = run(&setup, &real_git(), &stacks).unwrap();
    assert_eq!(
        replayed.conflicts[0].paths[0].kind,
        ConflictKind::ModifyDelete
    );
    replayed.objects.write(setup.git_dir()).unwrap();
    assert_eq!(setup.files(replayed.moved[0].to), listed(&[("a", "a")]));
}

#[test]
fn nothing_is_in_the_repository_before_it_is_written() {
    let setup = Setup::new();
    let renamed = "1\n2\n3\n4\n5\n6\n7\n";
    let root = setup.commit(100, &[], &[("f", renamed)]);
    let onto = setup.commit(200, &[root], &[("g", renamed)]);
    let a = setup.commit(110, &[root], &[("f", "0\n1\n2\n3\n4\n5\n6\n7\n")]);
    let before = objects(&setup);
    let replayed = run(&setup, &real_git(), &plan(vec![on_commit("a", onto, &[a])])).unwrap();
    assert_eq!(replayed.moved.len(), 1, "git followed the rename");
    assert_eq!(objects(&setup), before);
    replayed.objects.write(setup.git_dir()).unwrap();
    assert_eq!(
        setup.files(replayed.moved[0].to),
        listed(&[("g", "0\n1\n2\n3\n4\n5\n6\n7\n")])
    );
    assert_eq!(
        objects(&setup).len(),
        before.len() + 2,
        "a pack and its index"
    );
}

/// All files of the object directory.
fn objects(setup: &Setup) -> Vec<PathBuf> {
    let mut todo = vec![setup.git_dir().join("objects")];
    let mut files = Vec::new();
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// A plan whose one commit only git can replay, since trunk renamed the file.
fn for_git(setup: &Setup) -> Plan {
    let text = "1\n2\n3\n4\n5\n6\n7\n";
    let root = setup.commit(100, &[], &[("f", text)]);
    let onto = setup.commit(200, &[root], &[("g", text)]);
    let a = setup.commit(110, &[root], &[("f", "0\n1\n2\n3\n4\n5\n6\n7\n")]);
    plan(vec![on_commit("a", onto, &[a])])
}

#[test]
fn a_git_that_dies_is_started_again_once() {
    let setup = Setup::new();
    let plan = for_git(&setup);
    let counter = setup.path("starts");
    let script = format!(
        "echo x >> {0}; [ $(wc -l < {0}) = 1 ] && kill -ABRT $$\nexec \"$git\" \"$@\"",
        counter.display()
    );
    let dies_once = setup.scripted_git("2.47.3", &script);
    let replayed = run(&setup, &dies_once, &plan).unwrap();
    assert_eq!(
        heads(&replayed),
        heads(&run(&setup, &real_git(), &plan).unwrap())
    );
    assert_eq!(fs::read_to_string(&counter).unwrap(), "x\nx\n");
}

#[test]
fn a_git_that_keeps_dying_or_talks_nonsense_is_an_error_not_a_guess() {
    let setup = Setup::new();
    let plan = for_git(&setup);
    for script in [
        "echo 'fatal: what broke' >&2; exit 128",
        "echo nonsense; cat",
    ] {
        let git = setup.scripted_git("2.47.3", script);
        let error = run(&setup, &git, &plan).unwrap_err();
        let EngineError::Internal(text) = error else {
            panic!("{error}");
        };
        assert!(text.contains("merge-tree"), "{text}");
        assert!(
            script.contains("nonsense") || text.contains("what broke"),
            "{text}"
        );
    }
}

#[test]
fn a_merge_that_hangs_ends_with_the_deadline() {
    let setup = Setup::new();
    let plan = for_git(&setup);
    let hangs = setup.scripted_git("2.47.3", "exec sleep 600");
    let start = Instant::now();
    let control = Control::within(Duration::from_millis(300));
    let error = run_within(&setup, &hangs, &plan, &control).unwrap_err();
    assert!(matches!(error, EngineError::Timeout), "{error}");
    assert!(start.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_stopped_replay_says_so() {
    let setup = Setup::new();
    let control = Control::unbounded();
    control.stop();
    let error = run_within(&setup, &real_git(), &for_git(&setup), &control).unwrap_err();
    assert!(matches!(error, EngineError::Stopped), "{error}");
}

#[test]
fn independent_stacks_report_in_the_plans_order_and_progress_counts_branches() {
    let setup = Setup::new();
    let (root, onto) = trunk(&setup);
    let files = [("f", "1\n2\n3\n"), ("t", "old")];
    let names: Vec<String> = (0..40).map(|n| format!("b{n:02}")).collect();
    let branch = |(n, name): (usize, &String)| {
        let commit = setup.commit(300, &[root], &[files[0], files[1], (name, "x")]);
        let more = setup.commit(
            301 + n as i64,
            &[commit],
            &[files[0], files[1], (name, "y")],
        );
        let commits = if n % 3 == 0 {
            vec![commit, more]
        } else {
            vec![commit]
        };
        on_commit(name, onto, &commits)
    };
    let replays: Vec<_> = names.iter().enumerate().map(branch).collect();
    let seen = Mutex::new(Vec::new());
    let replayed = replay(
        setup.git_dir(),
        &real_git(),
        &plan(replays),
        &Committer {
            name: "B".to_owned(),
            email: "b".to_owned(),
            at_least: NOW,
        },
        &Control::unbounded(),
        &|done, total| seen.lock().unwrap().push((done, total)),
    )
    .unwrap();
    let moved: Vec<_> = heads(&replayed).into_iter().map(|(name, _)| name).collect();
    assert_eq!(moved, names);
    let mut seen = seen.into_inner().unwrap();
    seen.sort_unstable();
    assert_eq!(seen, (1..=40).map(|done| (done, 40)).collect::<Vec<_>>());
}

#[test]
fn a_plan_that_makes_no_sense_is_an_error() {
    let setup = Setup::new();
    let (root, onto) = trunk(&setup);
    let a = setup.commit(110, &[root], &[("f", "1\n2\n3\na\n"), ("t", "old")]);
    let orphan = plan(vec![on_branch("b", "a", &[a])]);
    let merge = setup.commit(120, &[a, onto], &[]);
    let of_merge = plan(vec![on_commit("a", onto, &[a, merge])]);
    let missing = plan(vec![on_commit("a", onto, &[ObjectId::from_bytes([7; 20])])]);
    for (plan, why) in [
        (orphan, "before its parent"),
        (of_merge, "is a merge"),
        (missing, "0707"),
    ] {
        let error = run(&setup, &real_git(), &plan).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    assert!(
        run(&setup, &real_git(), &Plan::default())
            .unwrap()
            .moved
            .is_empty()
    );
}

#[test]
fn merging_commits_finds_the_base_and_knows_an_automatic_merge() {
    let setup = Setup::new();
    let root = setup.commit(100, &[], &[("f", "1\n2\n3\n4\n5\n"), ("g", "g")]);
    let top = setup.commit(110, &[root], &[("f", "0\n2\n3\n4\n5\n"), ("g", "g")]);
    let end = setup.commit(120, &[root], &[("f", "1\n2\n3\n4\n6\n"), ("g", "g")]);
    let other = setup.commit(130, &[root], &[("f", "1\n2\n3\n4\n5\n"), ("g", "h")]);
    let clash = setup.commit(140, &[root], &[("f", "9\n2\n3\n4\n5\n"), ("g", "g")]);
    let alien = setup.commit(150, &[], &[("alien", "a")]);
    let mut merger = Merger::open(setup.git_dir(), &real_git(), &Control::unbounded()).unwrap();
    let both = setup.tree(&[("f", "0\n2\n3\n4\n6\n"), ("g", "g")]);
    assert_eq!(merger.merge_commits(top, end).unwrap(), Merge::Clean(both));
    assert!(
        matches!(merger.merge_commits(top, clash).unwrap(), Merge::Conflict(paths) if paths.len() == 1)
    );
    assert_eq!(merger.automatic_merge(&[top, end]).unwrap(), Some(both));
    let all = setup.tree(&[("f", "0\n2\n3\n4\n6\n"), ("g", "h")]);
    assert_eq!(
        merger.automatic_merge(&[top, end, other]).unwrap(),
        Some(all)
    );
    assert_eq!(merger.automatic_merge(&[top, end, clash]).unwrap(), None);
    let grafted = setup.tree(&[("alien", "a"), ("f", "0\n2\n3\n4\n5\n"), ("g", "g")]);
    assert_eq!(
        merger.merge_commits(top, alien).unwrap(),
        Merge::Clean(grafted)
    );
}
