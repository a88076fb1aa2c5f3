//! Situations that people bring about with git, in repositories that the git command built.

use std::cell::Cell;
use std::path::Path;
use std::process::Command;

use backstack_engine::graph::{Stack, StackBranch, Tracked};
use backstack_engine::heal;
use backstack_engine::history::GitHistory;
use backstack_engine::plan::{self, Goal, PlanError};
use backstack_engine::register::register;
use backstack_engine::{Control, EngineError};
use backstack_schemas::ObjectId;
use git2::Repository;
use tempfile::TempDir;

use crate::shown::{self, name};

/// A repository that stands for remote and mirror at once, and the rows about it. `main` has `T1`.
pub struct World {
    dir: TempDir,
    pub repository: Repository,
    pub rows: Stack,
    seconds: Cell<u64>,
}

impl World {
    pub fn new() -> Self {
        let dir = TempDir::new().unwrap();
        git_in(dir.path(), 0, &["init", "-q", "-b", "main"]);
        let world = Self {
            repository: Repository::open(dir.path()).unwrap(),
            dir,
            rows: Stack {
                trunk: name("main"),
                branches: Default::default(),
            },
            seconds: Cell::new(1_700_000_000),
        };
        world.write_commit("T1");
        let mut world = world;
        world.fetch();
        world
    }

    /// Runs git, a minute after the last time.
    pub fn git(&self, args: &[&str]) -> String {
        self.seconds.set(self.seconds.get() + 60);
        git_in(self.dir.path(), self.seconds.get(), args)
    }

    fn write_commit(&self, subject: &str) {
        std::fs::write(self.dir.path().join(subject), subject).unwrap();
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", subject]);
    }

    /// Commits one file each to a branch, the subjects their names.
    pub fn commit(&self, branch: &str, subjects: &[&str]) {
        self.git(&["checkout", "-q", branch]);
        for subject in subjects {
            self.write_commit(subject);
        }
    }

    /// A branch from another, with commits, tracked on it.
    pub fn stacked(&mut self, branch: &str, parent: &str, subjects: &[&str]) {
        self.git(&["branch", "-q", branch, parent]);
        self.commit(branch, subjects);
        self.register(branch, parent);
    }

    pub fn register(&mut self, branch: &str, parent: &str) {
        self.register_above(branch, parent, None);
    }

    fn register_above(&mut self, branch: &str, parent: &str, base: Option<ObjectId>) {
        self.fetch();
        let found = self.asking(|history, rows| {
            register(rows, &name(branch), Some(&name(parent)), base, history).unwrap()
        });
        self.track(branch, found.parent.as_str(), found.base);
    }

    fn track(&mut self, branch: &str, parent: &str, base: ObjectId) {
        let row = self.rows.branches.get_mut(&name(branch)).unwrap();
        row.tracked = Some(Tracked {
            parent: name(parent),
            base: Some(base),
        });
    }

    /// Amends the newest commit with another file, and forces it on the branch.
    fn amend(&self, branch: &str, with: &str) {
        self.git(&["checkout", "-q", branch]);
        std::fs::write(self.dir.path().join(with), with).unwrap();
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--amend", "--no-edit"]);
    }

    /// Takes the heads as a fetch would, former heads kept.
    pub fn fetch(&mut self) {
        let refs = self.git(&[
            "for-each-ref",
            "--format=%(refname:short) %(objectname)",
            "refs/heads",
        ]);
        let mut heads: std::collections::BTreeMap<_, _> = refs
            .lines()
            .map(|line| line.split_once(' ').unwrap())
            .map(|(branch, head)| (name(branch), head.parse::<ObjectId>().unwrap()))
            .collect();
        for (branch, row) in &mut self.rows.branches {
            move_head(row, heads.remove(branch));
        }
        for (branch, head) in heads {
            move_head(self.rows.branches.entry(branch).or_default(), Some(head));
        }
    }

    fn id(&self, revision: &str) -> ObjectId {
        self.git(&["rev-parse", revision]).trim().parse().unwrap()
    }

    pub fn text(&self, id: ObjectId) -> String {
        let oid = git2::Oid::from_bytes(id.as_bytes()).unwrap();
        let commit = self.repository.find_commit(oid).unwrap();
        commit.summary().unwrap().unwrap().to_owned()
    }

    pub fn asking<T>(&self, ask: impl FnOnce(&GitHistory<'_>, &Stack) -> T) -> T {
        let merge = |ours: ObjectId, theirs: ObjectId| -> Result<Option<ObjectId>, EngineError> {
            let out = Command::new("git")
                .current_dir(self.dir.path())
                .args(["merge-tree", "--write-tree"])
                .args([ours.to_string(), theirs.to_string()])
                .output()
                .unwrap();
            let text = String::from_utf8(out.stdout).unwrap();
            let tree = text.lines().next().unwrap().parse().unwrap();
            Ok(out.status.success().then_some(tree))
        };
        let control = Control::unbounded();
        let history = GitHistory::new(&self.repository, &control, &merge).unwrap();
        ask(&history, &self.rows)
    }

    pub fn plan(&mut self, goal: &Goal) -> String {
        self.fetch();
        let plan = self.asking(|history, rows| plan::plan(rows, goal, history));
        match plan {
            Ok(plan) => {
                for kept in &plan.up_to_date {
                    let parent = self.rows.parent(&kept.branch).unwrap().to_string();
                    self.track(kept.branch.as_str(), &parent, kept.base);
                }
                shown::plan(&plan, |id| self.text(id))
            }
            Err(PlanError::Refused(refusal)) => refusal.code().to_string(),
            Err(PlanError::Engine(error)) => panic!("{error}"),
        }
    }

    #[track_caller]
    fn assert_all(&mut self, expected: &[&str]) {
        assert_eq!(self.plan(&Goal::All), expected.join("\n"));
    }

    fn untrack(&mut self, branch: &str) {
        self.fetch();
        let mut rows = self.rows.clone();
        self.asking(|history, _| heal::untrack(&mut rows, &name(branch), history).unwrap());
        self.rows = rows;
    }
}

fn move_head(row: &mut StackBranch, to: Option<ObjectId>) {
    if row.head != to {
        let old = row.head;
        row.former_heads.retain(|former| Some(*former) != old);
        row.former_heads.splice(0..0, old);
        row.head = to;
    }
}

fn git_in(dir: &Path, seconds: u64, args: &[&str]) -> String {
    let date = format!("{seconds} +0000");
    let out = Command::new("git")
        .current_dir(dir)
        .args(["-c", "user.name=A", "-c", "user.email=a@example.com"])
        .args([
            "-c",
            "commit.gpgsign=false",
            "-c",
            "core.hooksPath=/dev/null",
        ])
        .args(args)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_EDITOR", "true")
        .env("GIT_AUTHOR_DATE", &date)
        .env("GIT_COMMITTER_DATE", &date)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "git {args:?}: {errors}");
    String::from_utf8(out.stdout).unwrap()
}

/// `a` on `main`, `b` on `a`.
fn two() -> World {
    let mut world = World::new();
    world.stacked("a", "main", &["a1", "a2"]);
    world.stacked("b", "a", &["b1"]);
    world
}

#[test]
fn nothing_to_do() {
    two().assert_all(&["a stays, base T1", "b stays, base a2"]);
}

#[test]
fn parent_advanced() {
    let mut world = two();
    world.commit("a", &["a3"]);
    world.assert_all(&["b: b1 onto a3", "a stays, base T1"]);
    world.commit("main", &["T2"]);
    world.assert_all(&["a: a1 a2 a3 onto T2", "b: b1 onto <a>"]);
}

#[test]
fn parent_amended_and_force_pushed() {
    let mut world = two();
    world.amend("a", "more");
    world.assert_all(&["b: b1 onto a2", "a stays, base T1"]);
}

#[test]
fn parent_amended_by_someone_else() {
    let mut world = two();
    world.amend("a", "more");
    world.git(&["commit", "-q", "--amend", "--no-edit", "--reset-author"]);
    world.assert_all(&["b: b1 onto a2", "a stays, base T1"]);
}

#[test]
fn parent_squashed() {
    let mut world = two();
    world.git(&["checkout", "-q", "a"]);
    world.git(&["reset", "-q", "--soft", "main"]);
    world.git(&["commit", "-q", "-m", "all of a"]);
    world.assert_all(&["b: b1 onto all of a", "a stays, base T1"]);
}

#[test]
fn parent_reset_backwards() {
    let mut world = two();
    world.git(&["branch", "-q", "-f", "a", "a~1"]);
    world.assert_all(&["a stays, base T1", "b stays, base a1"]);
    world.commit("a", &["a3"]);
    world.assert_all(&["b: a2 b1 onto a3", "a stays, base T1"]);
}

#[test]
fn parent_reset_backwards_and_taken_elsewhere_between_two_syncs() {
    let mut world = two();
    world.git(&["branch", "-q", "-f", "a", "a~1"]);
    world.commit("a", &["a3"]);
    world.assert_all(&["b: a2 b1 onto a3", "a stays, base T1"]);
}

#[test]
fn parent_rewritten_twice_between_syncs() {
    let mut world = two();
    world.amend("a", "more");
    let seen_by_nobody = world.id("a");
    world.git(&["checkout", "-q", "b"]);
    world.git(&["rebase", "-q", "--onto", "a", "b~1", "b"]);
    world.amend("a", "still more");
    world.assert_all(&["a stays, base T1", "b skipped: ambiguous_base"]);
    assert_eq!(world.plan(&Goal::Only(name("b"))), "ambiguous_base");
    world.register_above("b", "a", Some(seen_by_nobody));
    world.assert_all(&["b: b1 onto a2", "a stays, base T1"]);
}

#[test]
fn fresh_branch_at_trunks_head() {
    let mut world = World::new();
    world.stacked("fresh", "main", &[]);
    world.assert_all(&["fresh stays, base T1"]);
    world.commit("main", &["T2"]);
    world.assert_all(&["fresh: onto T2"]);
}

#[test]
fn two_branches_on_the_same_commit() {
    let mut world = World::new();
    world.stacked("a", "main", &["a1"]);
    world.stacked("twin", "a", &[]);
    world.git(&["branch", "-q", "sibling", "a"]);
    world.register("sibling", "main");
    world.assert_all(&[
        "a stays, base T1",
        "twin stays, base a1",
        "sibling stays, base T1",
    ]);
    world.commit("main", &["T2"]);
    world.assert_all(&["a: a1 onto T2", "twin: onto <a>", "sibling: a1 onto T2"]);
}

#[test]
fn middle_inserted_by_hand() {
    let mut world = two();
    world.git(&["branch", "-q", "middle", "a"]);
    world.commit("middle", &["m1"]);
    world.git(&["rebase", "-q", "--onto", "middle", "a", "b"]);
    world.register("middle", "a");
    let onto_middle = Goal::Reparent {
        branch: name("b"),
        parent: name("middle"),
        base: None,
    };
    assert_eq!(world.plan(&onto_middle), "b stays, base m1");
}

#[test]
fn middle_inserted_and_reparented() {
    let mut world = two();
    world.stacked("middle", "a", &["m1"]);
    world.stacked("c", "b", &["c1"]);
    let onto_middle = Goal::Reparent {
        branch: name("b"),
        parent: name("middle"),
        base: None,
    };
    assert_eq!(world.plan(&onto_middle), "b: b1 onto m1\nc: c1 onto <b>");
}

#[test]
fn trunk_merged_into_a_branch_cleanly() {
    let mut world = two();
    world.commit("main", &["T2"]);
    world.git(&["checkout", "-q", "a"]);
    world.git(&["merge", "-q", "--no-ff", "-m", "merge", "main"]);
    world.commit("a", &["a3"]);
    world.assert_all(&["b: b1 onto a3", "a stays, base T2"]);
    world.commit("main", &["T3"]);
    world.assert_all(&["a: (merge) a1 a2 a3 onto T3", "b: b1 onto <a>"]);
}

#[test]
fn trunk_merged_into_a_branch_with_changes_by_hand() {
    let mut world = two();
    world.commit("main", &["T2"]);
    world.git(&["checkout", "-q", "a"]);
    world.git(&["merge", "-q", "--no-ff", "-m", "merge", "main"]);
    world.amend("a", "by-hand");
    world.commit("main", &["T3"]);
    world.assert_all(&[
        "a skipped: merge_has_changes",
        "b skipped: merge_has_changes",
    ]);
    assert_eq!(world.plan(&Goal::Only(name("a"))), "merge_has_changes");
}

#[test]
fn trunk_merged_into_a_branch_with_a_conflict_resolved() {
    let mut world = World::new();
    world.stacked("a", "main", &["a1"]);
    for branch in ["a", "main"] {
        world.git(&["checkout", "-q", branch]);
        std::fs::write(world.dir.path().join("T1"), branch).unwrap();
        world.git(&["commit", "-q", "-a", "-m", branch]);
    }
    world.git(&["checkout", "-q", "a"]);
    world.git(&["merge", "-q", "-X", "ours", "-m", "merge", "main"]);
    world.commit("main", &["T3"]);
    world.assert_all(&["a skipped: merge_has_changes"]);
}

#[test]
fn two_merged_branches_in_the_middle_of_a_stack() {
    let mut world = two();
    world.stacked("c", "b", &["c1"]);
    world.stacked("d", "c", &["d1"]);
    world.git(&["checkout", "-q", "main"]);
    world.git(&["cherry-pick", "-n", "b"]);
    world.git(&["commit", "-q", "-m", "B squashed"]);
    world.git(&["cherry-pick", "-n", "c"]);
    world.git(&["commit", "-q", "-m", "C squashed"]);
    world.git(&["branch", "-q", "-D", "b", "c"]);
    world.untrack("b");
    world.untrack("c");
    world.assert_all(&["a: a1 a2 onto C squashed", "d: d1 onto <a>"]);
    assert_eq!(world.plan(&Goal::Only(name("d"))), "d stays, base c1");
    world.assert_all(&["a: a1 a2 onto C squashed", "d: d1 onto <a>"]);
}

#[test]
fn deep_stack_of_twenty() {
    let mut world = World::new();
    let mut parent = "main".to_owned();
    let mut expected = Vec::new();
    for at in 0..20 {
        let branch = format!("b{at}");
        let subject = format!("c{at}");
        world.stacked(&branch, &parent, &[&subject]);
        expected.push(match at {
            0 => format!("{branch}: {subject} onto T2"),
            _ => format!("{branch}: {subject} onto <{parent}>"),
        });
        parent = branch;
    }
    world.commit("main", &["T2"]);
    assert_eq!(world.plan(&Goal::All), expected.join("\n"));
}

#[test]
fn wide_tree() {
    let mut world = World::new();
    let mut expected = Vec::new();
    for at in 0..10 {
        let (branch, subject) = (format!("b{at}"), format!("c{at}"));
        world.stacked(&branch, "main", &[&subject]);
        expected.push(format!("{branch}: {subject} onto T2"));
        for above in ["x", "y"] {
            let (child, own) = (format!("b{at}{above}"), format!("c{at}{above}"));
            world.stacked(&child, &branch, &[&own]);
            expected.push(format!("{child}: {own} onto <{branch}>"));
        }
    }
    world.commit("main", &["T2"]);
    assert_eq!(world.plan(&Goal::All), expected.join("\n"));
}

#[test]
fn branch_rebased_by_hand() {
    let mut world = two();
    world.commit("main", &["T2"]);
    world.git(&["rebase", "-q", "main", "a"]);
    world.assert_all(&["b: b1 onto a2", "a stays, base T2"]);
    world.git(&["rebase", "-q", "--onto", "a", "b~1", "b"]);
    world.assert_all(&["a stays, base T2", "b stays, base a2"]);
}

#[test]
fn child_behind_its_parent() {
    let mut world = World::new();
    world.stacked("a", "main", &["a1", "a2"]);
    world.git(&["branch", "-q", "b", "a~1"]);
    world.commit("b", &["b1"]);
    world.register("b", "a");
    world.git(&["branch", "-q", "empty", "a~1"]);
    world.register("empty", "a");
    world.assert_all(&["b: b1 onto a2", "empty: onto a2", "a stays, base T1"]);
}

#[test]
fn branch_deleted_on_the_remote() {
    let mut world = two();
    world.stacked("c", "b", &["c1"]);
    world.git(&["checkout", "-q", "main"]);
    world.git(&["branch", "-q", "-D", "a"]);
    world.assert_all(&[
        "a skipped: missing_on_remote",
        "b skipped: parent_missing",
        "c skipped: parent_missing",
    ]);
    let onto_trunk = Goal::Reparent {
        branch: name("b"),
        parent: name("main"),
        base: None,
    };
    assert_eq!(world.plan(&onto_trunk), "b: b1 onto T1\nc: c1 onto <b>");
}

#[test]
fn trunk_force_pushed() {
    let mut world = World::new();
    world.commit("main", &["T2"]);
    world.stacked("a", "main", &["a1"]);
    world.amend("main", "fixed");
    world.commit("main", &["T3"]);
    world.assert_all(&["a: a1 onto T3"]);
}

#[test]
fn empty_commits_are_a_branchs_own() {
    let mut world = two();
    world.git(&["checkout", "-q", "b"]);
    world.git(&["commit", "-q", "--allow-empty", "-m", "nothing"]);
    world.commit("a", &["a3"]);
    world.assert_all(&["b: b1 nothing onto a3", "a stays, base T1"]);
}

#[test]
fn merge_commits_in_a_branch_come_in_the_order_of_git() {
    let mut world = two();
    world.git(&["branch", "-q", "side", "b"]);
    world.commit("side", &["s1", "s2"]);
    world.commit("b", &["b2"]);
    world.git(&["merge", "-q", "--no-ff", "-m", "merge", "side"]);
    world.commit("side", &["s3"]);
    world.commit("b", &["b3"]);
    world.git(&["merge", "-q", "--no-ff", "-m", "again", "side"]);
    let order = world.git(&[
        "log",
        "--format=%s",
        "--topo-order",
        "--reverse",
        "--no-merges",
        "a..b",
    ]);
    world.commit("a", &["a3"]);
    let own = order.split_whitespace().collect::<Vec<_>>().join(" ");
    let expected = format!("b: (merge) (again) {own} onto a3");
    world.assert_all(&[&expected, "a stays, base T1"]);
}

#[test]
fn unrelated_history() {
    let mut world = two();
    world.git(&["checkout", "-q", "--orphan", "lone"]);
    world.write_commit("lone1");
    world.fetch();
    let base = world.id("lone");
    world.track("lone", "main", base);
    world.assert_all(&[
        "a stays, base T1",
        "b stays, base a2",
        "lone skipped: ambiguous_base",
    ]);
    assert_eq!(world.plan(&Goal::Only(name("lone"))), "unrelated_history");
}

#[test]
fn heads_of_another_mirror_are_in_nobodys_history() {
    let mut world = two();
    let elsewhere = ObjectId::from_bytes([7; 20]);
    let row = world.rows.branches.get_mut(&name("a")).unwrap();
    row.former_heads = vec![elsewhere];
    world.track("b", "a", elsewhere);
    world.commit("a", &["a3"]);
    world.assert_all(&["b: b1 onto a3", "a stays, base T1"]);
    let row = world.rows.branches.get_mut(&name("a")).unwrap();
    row.head = Some(elsewhere);
    let mut rows = world.rows.clone();
    let healed = world.asking(|history, _| heal::untrack(&mut rows, &name("a"), history).unwrap());
    let base = world.id("b~1");
    assert_eq!(healed[0].base, Some(base), "the newest head that is there");
}
