//! Seeded random histories of a stack of two branches, merged in all the ways that are in use, or
//! nearly; taken back, amended, and buried under later commits. What is true is known from how the
//! history was made, never from looking at it.
//!
//! `BACKSTACK_CASES` histories from `BACKSTACK_SEED` on; a failure names its seed.

use std::fmt::Write;

use backstack_schemas::ObjectId;

use crate::builder::{Repo, Tracked};

/// How a branch comes to trunk, or nearly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Not,
    Squash,
    Rebase,
    FastForward,
    MergeCommit,
    /// A squash with some white space changed.
    Respaced,
    /// A squash with something added.
    Enriched,
    /// All commits but the last.
    Partly,
}

const HOWS: [How; 11] = [
    How::Not,
    How::Squash,
    How::Squash,
    How::Rebase,
    How::Rebase,
    How::FastForward,
    How::MergeCommit,
    How::MergeCommit,
    How::Respaced,
    How::Enriched,
    How::Partly,
];

/// What is known of a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Truth {
    /// All its work is on trunk, plainly: it must be found.
    Merged,
    /// Its work came along with that of the branch above; it may be found.
    Along,
    /// Some of its work is not on trunk.
    Open,
}

/// Numbers that follow from a seed (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

struct World {
    repo: Repo,
    random: Random,
    /// Lines written so far, so that no two are the same.
    written: usize,
    story: String,
}

/// What a merge put on trunk, so that it can be taken back.
#[derive(Clone, Debug)]
struct Landed {
    /// Oldest first.
    commits: Vec<ObjectId>,
    is_merge: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            repo: Repo::start(),
            random: Random(seed),
            written: 0,
            story: String::new(),
        }
    }

    fn tell(&mut self, event: &str) {
        writeln!(self.story, "  {event}").unwrap();
    }

    fn file(&mut self) -> &'static str {
        ["app.txt", "lib.txt"][self.random.below(2)]
    }

    fn new_line(&mut self) -> String {
        self.written += 1;
        format!("written {}", self.written)
    }

    /// Changes one place; a branch also removes lines and adds ones that are there already.
    fn change(&mut self, by_branch: bool) {
        let file = self.file();
        let mut lines: Vec<String> = self.repo.read(file).lines().map(str::to_owned).collect();
        let at = self.random.below(lines.len());
        let line = self.new_line();
        match self.random.below(if by_branch { 6 } else { 3 }) {
            0 => lines.insert(at, line),
            3 => drop(lines.remove(at)),
            4 => lines.insert(at, "}".to_owned()),
            5 => {
                lines.clear();
                self.repo.write(&format!("new-{}.txt", self.written), line);
            }
            _ => lines[at] = line,
        }
        if !lines.is_empty() {
            self.repo.write(file, lines.join("\n") + "\n");
        }
    }

    fn commits(&mut self, most: usize, by_branch: bool) {
        for _ in 0..=self.random.below(most) {
            for _ in 0..=self.random.below(2) {
                self.change(by_branch);
            }
            if self.repo.git(&["status", "--porcelain"]).is_empty() {
                self.change(false);
            }
            self.repo.commit("change");
        }
    }

    fn trunk_goes_on(&mut self) {
        self.repo.checkout("main");
        if !self.random.one_in(3) {
            self.commits(2, false);
            self.tell("trunk goes on");
        }
    }

    /// Runs git; where it stops at a conflict, everything is as before.
    fn attempt(&mut self, args: &[&str]) -> bool {
        let before = self.repo.id("HEAD").to_string();
        let clean = self.repo.try_git(args).status.success();
        if !clean {
            for sequence in ["rebase", "revert", "cherry-pick"] {
                self.repo.try_git(&[sequence, "--abort"]);
            }
            self.repo.git(&["reset", "-q", "--hard", &before]);
        }
        clean
    }

    /// Brings `branch`, whose own commits start at `base`, to trunk; what landed, if it all did.
    fn merge(&mut self, branch: &str, base: &str, how: How) -> Option<Landed> {
        self.repo.checkout("main");
        let before = self.repo.id("main");
        let clean = match how {
            How::Not => false,
            How::FastForward => self.attempt(&["merge", "-q", "--ff-only", branch]),
            How::MergeCommit => self.attempt(&["merge", "-q", "--no-ff", "--no-edit", branch]),
            How::Rebase => self.pick(base, branch),
            How::Partly => {
                self.pick(base, &format!("{branch}~1"));
                false
            }
            How::Squash => self.squash(branch),
            How::Respaced | How::Enriched => {
                if self.squash(branch) {
                    self.spoil(before, how);
                }
                false
            }
        };
        let landed = clean.then(|| Landed {
            commits: self.since(before),
            is_merge: how == How::MergeCommit,
        });
        let outcome = if clean { "whole" } else { "not whole" };
        self.tell(&format!("{branch} by {how:?}: {outcome}"));
        landed.filter(|landed| !landed.commits.is_empty())
    }

    fn pick(&mut self, base: &str, tip: &str) -> bool {
        base != tip
            && self.repo.id(base) != self.repo.id(tip)
            && self.attempt(&["cherry-pick", &format!("{base}..{tip}")])
    }

    fn squash(&mut self, branch: &str) -> bool {
        let clean = self.attempt(&["merge", "-q", "--squash", branch]);
        if clean {
            self.repo.commit("squash");
        }
        clean
    }

    /// Makes the squash on top of `before` something else.
    fn spoil(&mut self, before: ObjectId, how: How) {
        if how == How::Enriched {
            self.change(false);
        } else {
            self.respace(before);
        }
        self.repo.git(&["add", "-A"]);
        self.repo.git(&["commit", "-q", "--amend", "--no-edit"]);
    }

    /// Adds a space to a line that the squash added, or to one that it left alone.
    fn respace(&mut self, before: ObjectId) {
        let added = self.repo.git(&["diff", "-U0", &before.to_string(), "HEAD"]);
        let added = added.lines().find_map(|line| {
            let line = line.strip_prefix('+')?;
            (!line.starts_with("++")).then(|| line.to_owned())
        });
        for file in self.repo.git(&["ls-files"]).lines() {
            let content = self.repo.read(file);
            let at = match &added {
                Some(added) => content.lines().position(|line| line == added),
                None => Some(0),
            };
            if let Some(at) = at {
                let line = content.lines().nth(at).unwrap();
                self.repo.edit(file, at, &format!("{line} "));
                return;
            }
        }
    }

    fn since(&self, before: ObjectId) -> Vec<ObjectId> {
        let range = format!("{before}..main");
        let printed = self
            .repo
            .git(&["rev-list", "--first-parent", "--reverse", &range]);
        printed.lines().map(|id| id.parse().unwrap()).collect()
    }

    /// Takes back what landed, all or one commit of it, as one commit or several; maybe puts it back
    /// again. Whether it is gone in the end.
    fn take_back(&mut self, landed: &Landed) -> bool {
        self.repo.checkout("main");
        let before = self.repo.id("main");
        if !self.undo(landed) {
            self.tell("taking back conflicts");
            return false;
        }
        self.tell("taken back");
        let undone = Landed {
            commits: self.since(before),
            is_merge: false,
        };
        self.trunk_goes_on();
        if self.random.one_in(2) && self.revert_each(&undone.commits) {
            self.tell("and put back");
            return false;
        }
        true
    }

    fn undo(&mut self, landed: &Landed) -> bool {
        if landed.is_merge {
            let merge = landed.commits[0].to_string();
            return self.attempt(&["revert", "--no-edit", "-m", "1", &merge]);
        }
        let all = landed.commits.clone();
        match self.random.below(3) {
            0 => {
                let one = self.random.below(all.len());
                self.revert_each(&all[one..=one])
            }
            1 => self.revert_each(&all),
            _ => self.revert_as_one(&all),
        }
    }

    /// Newest first; all of them or none.
    fn revert_each(&mut self, commits: &[ObjectId]) -> bool {
        let newest_first: Vec<_> = commits.iter().rev().map(ToString::to_string).collect();
        let mut args = vec!["revert", "--no-edit"];
        args.extend(newest_first.iter().map(String::as_str));
        self.attempt(&args)
    }

    fn revert_as_one(&mut self, commits: &[ObjectId]) -> bool {
        let newest_first: Vec<_> = commits.iter().rev().map(ToString::to_string).collect();
        let mut args = vec!["revert", "--no-commit"];
        args.extend(newest_first.iter().map(String::as_str));
        let clean = self.attempt(&args);
        if clean {
            self.repo.commit("revert");
        }
        clean
    }

    /// Lets the branch go on after it was looked at; whether it did.
    fn branch_goes_on(&mut self, branch: &str) -> bool {
        if !self.random.one_in(6) {
            return false;
        }
        self.repo.checkout(branch);
        self.change(false);
        if self.random.one_in(2) {
            self.repo.git(&["add", "-A"]);
            self.repo.git(&["commit", "-q", "--amend", "--no-edit"]);
            self.tell(&format!("{branch} is amended"));
        } else {
            self.repo.commit("one more");
            self.tell(&format!("{branch} goes on"));
        }
        self.repo.checkout("main");
        true
    }

    fn new_branch(&mut self, name: &str, parent: &str) -> Tracked {
        self.repo.branch(name, parent);
        self.commits(3, true);
        if self.repo.id(&format!("{name}^{{tree}}")) == self.repo.id(&format!("{parent}^{{tree}}"))
        {
            self.change(false);
            self.repo.commit("not in vain");
        }
        self.repo.track(name, parent)
    }

    fn pick_how(&mut self) -> How {
        HOWS[self.random.below(HOWS.len())]
    }
}

/// A stack of `a` and `b` on it, and what becomes of them.
struct Play {
    a: Tracked,
    b: Tracked,
    how_a: How,
    /// Whether `a` alone came to trunk.
    landed_a: bool,
    /// Whether what it put there is still there.
    a_stands: bool,
    truth_a: Truth,
    truth_b: Truth,
}

impl Play {
    fn of(world: &mut World) -> Self {
        let a = world.new_branch("a", "main");
        let b = world.new_branch("b", "a");
        world.repo.checkout("main");
        if world.random.one_in(2) {
            world.trunk_goes_on();
        }
        let mut play = Self {
            a,
            b,
            how_a: world.pick_how(),
            landed_a: false,
            a_stands: false,
            truth_a: Truth::Open,
            truth_b: Truth::Open,
        };
        play.run(world);
        play
    }

    fn run(&mut self, world: &mut World) {
        let landed_a = self.merge_a(world);
        if world.random.one_in(4) {
            self.take_back_a(world, landed_a.as_ref());
        }
        world.trunk_goes_on();
        let how_b = world.pick_how();
        let landed_b = self.merge_b(world, how_b);
        world.trunk_goes_on();
        if world.random.one_in(4) {
            self.take_back_a(world, landed_a.as_ref());
        }
        if let Some(landed) = landed_b.filter(|_| world.random.one_in(3)) {
            self.take_back_b(world, how_b, &landed);
        }
        world.trunk_goes_on();
        if world.branch_goes_on("a") {
            self.truth_a = Truth::Open;
        }
        if world.branch_goes_on("b") {
            self.truth_b = Truth::Open;
        }
    }

    fn merge_a(&mut self, world: &mut World) -> Option<Landed> {
        let base = self.a.base.unwrap().to_string();
        let landed = world.merge("a", &base, self.how_a);
        if landed.is_some() {
            self.landed_a = true;
            self.a_stands = true;
            self.truth_a = Truth::Merged;
        }
        landed
    }

    fn take_back_a(&mut self, world: &mut World, landed: Option<&Landed>) {
        if let Some(landed) = landed.filter(|_| self.a_stands)
            && world.take_back(landed)
        {
            self.a_stands = false;
            self.truth_a = Truth::Open;
        }
    }

    fn merge_b(&mut self, world: &mut World, how: How) -> Option<Landed> {
        let base = self.b.base.unwrap().to_string();
        let mut landed = world.merge("b", &base, how)?;
        self.truth_b = Truth::Merged;
        match how {
            // Git does not bring back what was merged and taken back before.
            How::MergeCommit if self.truth_a == Truth::Open && self.a_is_ancestor() => {}
            How::MergeCommit => self.truth_a = Truth::Merged,
            How::FastForward => {
                self.truth_a = Truth::Merged;
                let own = world.repo.git(&["rev-list", &format!("{base}..b")]);
                landed.commits.retain(|id| own.contains(&id.to_string()));
            }
            // The squash has as much of `a` as was not there.
            How::Squash if self.how_a != How::Not => {
                self.truth_b = Truth::Along;
                if !self.a_stands {
                    self.truth_a = Truth::Along;
                }
            }
            How::Squash => self.truth_a = Truth::Along,
            _ => {}
        }
        Some(landed)
    }

    /// Whether `a` was merged with its very commits, if it was.
    fn a_is_ancestor(&self) -> bool {
        self.landed_a && matches!(self.how_a, How::MergeCommit | How::FastForward)
    }

    fn take_back_b(&mut self, world: &mut World, how: How, landed: &Landed) {
        if !world.take_back(landed) {
            return;
        }
        self.truth_b = Truth::Open;
        let with_a = matches!(how, How::MergeCommit | How::Squash) && !self.a_stands;
        if with_a {
            // All of it may have been there, with something more.
            let there = matches!(self.how_a, How::Enriched | How::Respaced);
            self.truth_a = if there { Truth::Along } else { Truth::Open };
        }
    }
}

/// How often each truth was met, and how often a branch was found merged.
#[derive(Debug, Default)]
struct Tally {
    must: usize,
    may: usize,
    may_found: usize,
    must_not: usize,
}

impl Tally {
    /// Whether the answer is allowed.
    fn add(&mut self, truth: Truth, found: bool) -> bool {
        match truth {
            Truth::Merged => self.must += 1,
            Truth::Open => self.must_not += 1,
            Truth::Along => {
                self.may += 1;
                self.may_found += usize::from(found);
            }
        }
        match truth {
            Truth::Merged => found,
            Truth::Open => !found,
            Truth::Along => true,
        }
    }
}

fn number(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap(),
        Err(_) => default,
    }
}

#[test]
fn generated_histories() {
    let (first, cases) = (number("BACKSTACK_SEED", 1), number("BACKSTACK_CASES", 60));
    let mut tally = Tally::default();
    for seed in first..first + cases {
        let mut world = World::new(seed);
        let play = Play::of(&mut world);
        let merged = world.repo.merged(&[&play.a, &play.b]);
        for (name, truth) in [("a", play.truth_a), ("b", play.truth_b)] {
            let found = merged.iter().any(|(branch, _)| branch == name);
            assert!(
                tally.add(truth, found),
                "BACKSTACK_SEED={seed} BACKSTACK_CASES=1: {name} is {truth:?}, found {merged:?}\n{}{}",
                world.story,
                world.repo.git(&["log", "--graph", "--oneline", "--all"]),
            );
        }
    }
    println!("{cases} histories from seed {first}: {tally:?}");
    assert!(tally.must > 0 && tally.must_not > 0, "{tally:?}");
}
