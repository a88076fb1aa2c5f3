//! Each rule of planning, healing and registering, over drawn histories.

use backstack_engine::plan::Goal;

use crate::drawn::{Drawn, id, text};
use crate::shown::{self, name};

#[track_caller]
fn assert_plan(drawing: &str, stack: &str, goal: &Goal, expected: &str) {
    let lines = expected
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty());
    let expected = lines.collect::<Vec<_>>().join("\n");
    assert_eq!(Drawn::new(drawing).plan(stack, goal), expected);
}

#[track_caller]
fn assert_all(drawing: &str, stack: &str, expected: &str) {
    assert_plan(drawing, stack, &Goal::All, expected);
}

fn reparent(branch: &str, parent: &str, base: Option<&str>) -> Goal {
    Goal::Reparent {
        branch: name(branch),
        parent: name(parent),
        base: base.map(id),
    }
}

const STACK: &str = "
    T1 T2
    T1 a1 a2
    a2 b1 c1";
const ROWS: &str = "
    main T2
    a<main a2 base=T1
    b<a b1 base=a2
    c<b c1 base=b1";

#[test]
fn a_stack_goes_up_after_trunk() {
    assert_all(
        STACK,
        ROWS,
        "a: a1 a2 onto T2
         b: b1 onto <a>
         c: c1 onto <b>",
    );
}

#[test]
fn a_subtree_leaves_what_is_below_and_beside() {
    let rows = "
        main T2
        a<main a2 base=T1
        b<a b1 base=a1
        c<b c1 base=b1
        d<main d1 base=T1";
    let drawing = "
        T1 T2
        T1 a1 a2
        a1 b1 c1
        T1 d1";
    assert_plan(
        drawing,
        rows,
        &Goal::Subtree(name("b")),
        "b: b1 onto a2
         c: c1 onto <b>",
    );
    assert_plan(drawing, rows, &Goal::Only(name("b")), "b: b1 onto a2");
}

#[test]
fn a_branch_alone_goes_onto_its_parent_as_it_is() {
    assert_plan(STACK, ROWS, &Goal::Only(name("b")), "b stays, base a2");
    assert_plan(STACK, ROWS, &Goal::Only(name("a")), "a: a1 a2 onto T2");
}

#[test]
fn nothing_to_do_is_nothing_done() {
    assert_all(
        "T1 a1 b1",
        "main T1
         a<main a1 base=T1
         b<a b1 base=a1",
        "a stays, base T1
         b stays, base a1",
    );
}

#[test]
fn of_an_amended_parent_only_the_new_version_stays() {
    assert_all(
        "T1 a1 b1
         T1 a1'",
        "main T1
         a<main a1' base=T1 former=a1
         b<a b1 base=a1",
        "b: b1 onto a1'
         a stays, base T1",
    );
}

#[test]
fn a_squash_of_the_parent_is_known_by_its_tree() {
    let mut drawn = Drawn::new("T1 a1 a2 b1");
    drawn.add("squash", vec![id("T1")]);
    let rows = "
        main T1
        a<main squash base=T1 former=a2
        b<a b1 base=a2";
    // Nothing of what the parent had is in what it has: given up, so it stays in the child.
    assert_eq!(
        drawn.plan(rows, &Goal::All),
        "b: a1 a2 b1 onto squash\na stays, base T1"
    );
    let mut drawn = Drawn::new("T1 a1 a2 b1");
    drawn.add_with_tree("squash", vec![id("T1")], id("a2"));
    assert_eq!(
        drawn.plan(rows, &Goal::All),
        "b: b1 onto squash\na stays, base T1"
    );
}

#[test]
fn what_a_parent_gave_up_stays_in_the_child() {
    let drawing = "T1 a1 a2 b1
                   a1 a3";
    // Reset alone: the child stands on it as before.
    assert_all(
        drawing,
        "main T1
         a<main a1 base=T1 former=a2
         b<a b1 base=a2",
        "a stays, base T1
         b stays, base a1",
    );
    // Reset, seen, and then on to something else.
    assert_all(
        drawing,
        "main T1
         a<main a3 base=T1 former=a1,a2
         b<a b1 base=a1",
        "b: a2 b1 onto a3
         a stays, base T1",
    );
    // The same between two fetches.
    assert_all(
        drawing,
        "main T1
         a<main a3 base=T1 former=a2
         b<a b1 base=a2",
        "b: a2 b1 onto a3
         a stays, base T1",
    );
}

#[test]
fn what_a_parent_gave_up_stays_in_the_child_while_the_parent_moves() {
    assert_all(
        "T1 T2
         T1 a1 a2 b1",
        "main T2
         a<main a1 base=T1 former=a2
         b<a b1 base=a2",
        "a: a1 onto T2
         b: a2 b1 onto <a>",
    );
}

#[test]
fn what_a_parent_gave_up_and_took_back_is_the_parents() {
    assert_all(
        "T1 a1 a2 a3 b1
         T1 a1' a2' a3'",
        "main T1
         a<main a3' base=T1 former=a3,a1,a2
         b<a b1 base=a3",
        "b: b1 onto a3'
         a stays, base T1",
    );
}

#[test]
fn what_a_parent_gave_up_in_another_version_stays_in_the_child() {
    // Rewritten, which the child has not followed yet, and then reset.
    assert_all(
        "T1 a1 a2 b1
         T1 a1' a2'",
        "main T1
         a<main a1' base=T1 former=a2',a2
         b<a b1 base=a2",
        "b: a2 b1 onto a1'
         a stays, base T1",
    );
    // Replaced by something else, which was given up in turn, and what was left rewritten.
    assert_all(
        "T1 a1 a2 b1
         a1 a3
         T1 a1'",
        "main T1
         a<main a1' base=T1 former=a1,a3,a2
         b<a b1 base=a2",
        "b: a2 b1 onto a1'
         a stays, base T1",
    );
    // Reset, and taken up again in another version.
    assert_all(
        "T1 a1 a2 b1
         a1 a2'",
        "main T1
         a<main a2' base=T1 former=a1,a2
         b<a b1 base=a2",
        "b: b1 onto a2'
         a stays, base T1",
    );
}

#[test]
fn what_a_branch_merged_from_trunk_is_not_its_own() {
    let drawing = "
        T1 T2
        T1 a1 a2
        a1 b1
        m(b1+T2) b2";
    let rows = "
        main T2
        a<main a2 base=T1
        b<a b2 base=a1";
    assert_all(
        drawing,
        rows,
        "a: a1 a2 onto T2
         b: (m) b1 b2 onto <a>",
    );
    assert_plan(
        drawing,
        rows,
        &Goal::Only(name("b")),
        "b: (m) b1 b2 onto a2",
    );
}

#[test]
fn a_version_nobody_recorded_makes_the_base_ambiguous() {
    let drawing = "
        T1 a1
        T1 a1' b1 c1
        T1 a1''";
    let rows = |base: &str| {
        format!(
            "main T1
             a<main a1'' base=T1 former=a1
             b<a b1 base={base}
             c<b c1 base=b1"
        )
    };
    assert_all(
        drawing,
        &rows("a1"),
        "a stays, base T1
         b skipped: ambiguous_base
         c skipped: ambiguous_base",
    );
    assert_plan(
        drawing,
        &rows("a1"),
        &Goal::Only(name("b")),
        "ambiguous_base",
    );
    assert_all(
        drawing,
        &rows("a1'"),
        "b: b1 onto a1''
         c: c1 onto <b>
         a stays, base T1",
    );
    assert_plan(
        drawing,
        &rows("a1"),
        &reparent("b", "main", Some("a1'")),
        "b: b1 onto T1
         c: c1 onto <b>",
    );
}

#[test]
fn a_rebase_by_hand_is_followed() {
    assert_all(
        "T1 T2 b1'
         T1 a1
         a1 c1",
        "main T2
         a<main a1 base=T1
         b<main b1' base=T1
         c<b c1 base=b1",
        "a: a1 onto T2
         c: a1 c1 onto b1'
         b stays, base T2",
    );
}

#[test]
fn a_fresh_branch_follows_and_has_nothing_of_its_own() {
    assert_all(
        "T1 T2",
        "main T2
         a<main T1 base=T1
         b<a T1 base=T1",
        "a: onto T2
         b: onto <a>",
    );
}

#[test]
fn a_branch_that_trunk_has_taken_in_is_left_for_sync_to_find() {
    assert_all(
        "T1 a1 T2
         a1 b1",
        "main T2
         a<main a1 base=T1
         b<a b1 base=a1",
        "a stays, base T1
         b stays, base a1",
    );
}

#[test]
fn merges_of_trunk_are_flattened_unless_made_by_hand() {
    let rows = |merge: &str| {
        format!(
            "main T3
             a<main a2 base=T1
             b<a b1 base=a2
             merge {merge}"
        )
    };
    let drawing = |merge: &str| {
        format!(
            "T1 T2 T3
             T1 a1
             {merge}(a1+T2) a2 b1"
        )
    };
    assert_all(
        &drawing("m"),
        &rows("m"),
        "a: (m) a1 a2 onto T3
         b: b1 onto <a>",
    );
    assert_all(
        &drawing("m!"),
        &rows("m!"),
        "a skipped: merge_has_changes
         b skipped: merge_has_changes",
    );
    assert_plan(
        &drawing("m!"),
        &rows("m!"),
        &Goal::Only(name("a")),
        "merge_has_changes",
    );
}

#[test]
fn a_stopped_branch_stops_what_stands_on_it_and_no_other() {
    assert_all(
        "T1 T2
         T1 a1 b1 c1
         T1 d1
         lone",
        "main T2
         a<main base=T1
         b<a b1 base=a1
         c<b c1 base=b1
         d<main d1 base=T1
         e<nowhere d1
         f<main lone
         r<s d1
         s<r d1",
        "d: d1 onto T2
         a skipped: missing_on_remote
         b skipped: parent_missing
         c skipped: parent_missing
         f skipped: ambiguous_base
         e skipped: parent_missing
         r skipped: parent_missing
         s skipped: parent_missing",
    );
}

#[test]
fn what_cannot_be_done_for_one_branch_is_refused() {
    let drawing = "
        T1 T2
        T1 a1 b1
        lone";
    let rows = "
        main T2
        gone<main
        a<main a1 base=T1
        b<a b1 base=a1
        onto-gone<gone b1
        free a1
        lone<main lone
        r<s a1
        s<r a1";
    let refused = |goal: Goal, code: &str| assert_plan(drawing, rows, &goal, code);
    for goal in [Goal::Only, Goal::Subtree] {
        refused(goal(name("main")), "trunk_is_immutable");
        refused(goal(name("nowhere")), "branch_not_found");
        refused(goal(name("gone")), "branch_not_found");
        refused(goal(name("free")), "branch_not_tracked");
        refused(goal(name("r")), "cycle");
    }
    refused(Goal::Only(name("onto-gone")), "parent_not_found");
    refused(Goal::Only(name("lone")), "unrelated_history");
    refused(reparent("main", "a", None), "trunk_is_immutable");
    refused(reparent("free", "a", None), "branch_not_tracked");
    refused(reparent("b", "gone", None), "parent_not_found");
    refused(reparent("b", "nowhere", None), "parent_not_found");
    refused(reparent("b", "free", None), "branch_not_tracked");
    refused(reparent("b", "lone", None), "unrelated_history");
    refused(reparent("b", "main", Some("T2")), "ambiguous_base");
    refused(reparent("a", "a", None), "cycle");
    refused(reparent("a", "b", None), "cycle");
    assert_plan(drawing, "a<main a1", &Goal::All, "trunk_not_found");
}

#[test]
fn reparenting_takes_the_own_commits_along_and_nothing_else() {
    let drawing = "
        T1 T2
        T1 a1 a2 b1 c1
        T2 d1";
    let rows = "
        main T2
        a<main a2 base=T1
        b<a b1 base=a2
        c<b c1 base=b1
        d<main d1 base=T2";
    for (parent, head) in [("main", "T2"), ("d", "d1")] {
        assert_plan(
            drawing,
            rows,
            &reparent("b", parent, None),
            &format!("b: b1 onto {head}\nc: c1 onto <b>"),
        );
    }
    assert_plan(
        drawing,
        rows,
        &reparent("b", "main", Some("a1")),
        "b: a2 b1 onto T2
         c: c1 onto <b>",
    );
}

#[test]
fn reparenting_away_from_a_parent_that_is_gone_works() {
    assert_plan(
        "T1 a1 b1",
        "main T1
         a<main former=a1
         b<a b1 base=a1",
        &reparent("b", "main", None),
        "b: b1 onto T1",
    );
}

#[test]
fn a_branch_put_in_between_by_hand_needs_no_replay() {
    assert_plan(
        "T1 a1 m1 b1",
        "main T1
         a<main a1 base=T1
         m<a m1 base=a1
         b<a b1 base=a1",
        &reparent("b", "m", None),
        "b stays, base m1",
    );
}

#[test]
fn reparenting_off_a_branch_leaves_its_commits_behind() {
    assert_plan(
        "T1 a1 b1",
        "main T1
         a<main a1 base=T1
         b<a b1 base=a1",
        &reparent("b", "main", None),
        "b: b1 onto T1",
    );
}

#[test]
fn children_of_merged_branches_keep_only_their_own() {
    // a stays; b and c are squashed into trunk as S and R, and d is left.
    let drawn = Drawn::new(
        "T1 S R
         T1 a1 b1 c1 d1",
    );
    let rows = "
        main R
        a<main a1 base=T1
        b<a b1 base=a1
        c<b former=c1
        d<c d1 base=c1";
    for order in [["b", "c"], ["c", "b"]] {
        let mut stack = shown::stack(rows, id);
        for branch in order {
            drawn.untrack(&mut stack, branch);
        }
        let d = stack.tracked(&name("d")).unwrap();
        assert_eq!((d.parent.as_str(), d.base), ("a", Some(id("c1"))));
        let plan = backstack_engine::plan::plan(&stack, &Goal::All, &drawn).unwrap();
        assert_eq!(
            shown::plan(&plan, text),
            "a: a1 onto R\nd: d1 onto <a>",
            "{order:?}"
        );
        let goal = Goal::Only(name("d"));
        let plan = backstack_engine::plan::plan(&stack, &goal, &drawn).unwrap();
        assert_eq!(shown::plan(&plan, text), "d stays, base c1");
    }
}

#[test]
fn healing_finds_the_version_a_child_stands_on() {
    let drawn = Drawn::new(
        "T1 S
         T1 a1 b1
         T1 a1' c1
         T1 a1'' d1
         T1 a1''' a2",
    );
    let mut stack = shown::stack(
        "main S
         a<main a2 base=T1 former=a1',a1
         b<a b1 base=a1
         c<a c1 base=a1
         d<a d1 base=a1
         e<a base=a1",
        id,
    );
    let healed = drawn.untrack(&mut stack, "a");
    assert_eq!(
        shown::healed(&healed, text),
        "b: a to main, base a1
         c: a to main, base a1'
         d: a to main, base a2
         e: a to main, base a1"
            .replace("\n         ", "\n")
    );
    let plan = backstack_engine::plan::plan(&stack, &Goal::All, &drawn).unwrap();
    assert_eq!(
        shown::plan(&plan, text),
        "b: b1 onto S\nc: c1 onto S\nd skipped: ambiguous_base\ne skipped: missing_on_remote"
    );
    assert!(drawn.untrack(&mut stack, "a").is_empty(), "twice is once");
}

#[test]
fn what_a_merged_branch_gave_up_stays_with_its_child() {
    let drawn = Drawn::new(
        "T1 S
         T1 a1 a2 b1",
    );
    let mut stack = shown::stack(
        "main S
         a<main a1 base=T1 former=a2
         b<a b1 base=a2",
        id,
    );
    let healed = drawn.untrack(&mut stack, "a");
    assert_eq!(shown::healed(&healed, text), "b: a to main, base a1");
}

#[test]
fn a_trunk_that_was_force_pushed_bounds_by_what_it_was() {
    assert_all(
        "T1 T2 a1
         T1 T2' T3",
        "main T3 former=T2
         a<main a1 base=T2",
        "a: a1 onto T3",
    );
    assert_all(
        "T1 T2 a1
         T1 T2' T3",
        "main T3 former=T2
         a<main a1",
        "a: a1 onto T3",
    );
}

#[test]
fn heads_that_this_mirror_never_had_bound_nothing() {
    assert_all(
        "T1 T2
         T1 a1",
        "main T2 former=X
         a<main a1 base=Y",
        "a: a1 onto T2",
    );
}

#[test]
fn registering_finds_the_nearest_branch_below() {
    let drawn = Drawn::new(
        "T1 T2
         T1 a1 a2 b1 n1 n2
         n2 up",
    );
    let rows = "
        main T2
        on-trunk<main T1
        a<main a2 base=T1
        b<a b1 base=a2
        same<b n2
        untracked n1
        new n2
        low<new n1
        above<new up";
    assert_eq!(drawn.register(rows, "new", "", ""), "n2 on b, base b1");
    assert_eq!(drawn.register(rows, "new", "a", ""), "n2 on a, base a2");
    assert_eq!(
        drawn.register(rows, "new", "main", ""),
        "n2 on main, base T1"
    );
    assert_eq!(drawn.register(rows, "new", "", "n1"), "n2 on b, base n1");
    assert_eq!(drawn.register(rows, "b", "", ""), "b1 on a, base a2");
    assert_eq!(drawn.register(rows, "b", "", "a1"), "b1 on a, base a1");
    assert_eq!(drawn.register(rows, "b", "main", ""), "b1 on main, base T1");
}

#[test]
fn registering_does_not_guess_between_two() {
    let drawn = Drawn::new(
        "T1 a1
         T1 b1
         m(a1+b1) n1
         a1 x1",
    );
    let rows = "
        main T1
        a<main a1
        b<main b1
        twin<a a1
        new n1
        other x1";
    assert_eq!(drawn.register(rows, "new", "", ""), "n1 on main, base T1");
    assert_eq!(drawn.register(rows, "other", "", ""), "x1 on main, base T1");
}

#[test]
fn registering_on_a_parent_that_went_on_finds_where_the_branch_left_it() {
    let drawn = Drawn::new(
        "T1 a1 n1
         T1 a1' a2",
    );
    let rows = "
        main T1
        a<main a2 base=T1 former=a1',a1
        new n1";
    assert_eq!(drawn.register(rows, "new", "a", ""), "n1 on a, base a1");
}

#[test]
fn registering_what_cannot_stand_there_is_refused() {
    let drawn = Drawn::new("T1 a1 b1\nlone");
    let rows = "
        main T1
        gone<main
        a<main a1
        b<a b1
        free b1
        lone lone";
    let refused = |branch: &str, parent: &str, base: &str, code: &str| {
        assert_eq!(drawn.register(rows, branch, parent, base), code);
    };
    refused("main", "", "", "trunk_is_immutable");
    refused("nowhere", "", "", "branch_not_found");
    refused("gone", "", "", "branch_not_found");
    refused("b", "gone", "", "parent_not_found");
    refused("b", "free", "", "branch_not_tracked");
    refused("a", "b", "", "cycle");
    refused("a", "", "b1", "ambiguous_base");
    refused("lone", "", "", "unrelated_history");
}
