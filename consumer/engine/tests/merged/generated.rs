//! Seeded random histories of a stack of two branches, merged in all the ways that are in use, or
//! nearly; taken back, amended, and buried under later commits. What is true is known from how the
//! history was made, never from looking at it.
//!
//! `BACKSTACK_CASES` histories from `BACKSTACK_SEED` on; a failure names its seed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use git2::Oid;

use crate::builder::Tracked;
use crate::world::{Place, World, oid};

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

impl How {
    /// As the tally calls it.
    fn name(self) -> &'static str {
        match self {
            Self::Not | Self::Partly => "nothing",
            Self::Squash => "squash",
            Self::Rebase => "rebase",
            Self::FastForward => "fast-forward",
            Self::MergeCommit => "merge commit",
            Self::Respaced => "white space changed",
            Self::Enriched => "something added",
        }
    }
}

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

/// What came about, by what was seen of it: for the tally.
type Events = BTreeMap<&'static str, usize>;

struct Teller<'a> {
    world: World<'a>,
    random: Random,
    /// Lines written so far, so that no two are the same.
    written: usize,
    /// Those that a branch wrote.
    of_branches: BTreeSet<String>,
    story: String,
    events: Events,
}

/// What a merge put on trunk, so that it can be taken back.
#[derive(Clone, Debug)]
struct Landed {
    /// Oldest first.
    commits: Vec<Oid>,
    is_merge: bool,
}

impl<'a> Teller<'a> {
    fn new(place: &'a mut Place, seed: u64) -> Self {
        Self {
            world: World::start(place),
            random: Random(seed),
            written: 0,
            of_branches: BTreeSet::new(),
            story: String::new(),
            events: Events::new(),
        }
    }

    fn tell(&mut self, event: &str) {
        writeln!(self.story, "  {event}").unwrap();
    }

    fn happened(&mut self, event: &'static str) {
        *self.events.entry(event).or_default() += 1;
    }

    fn file(&mut self) -> &'static str {
        ["app.txt", "lib.txt"][self.random.below(2)]
    }

    fn new_line(&mut self, by_branch: bool) -> String {
        self.written += 1;
        let line = format!("written {}", self.written);
        if by_branch {
            self.of_branches.insert(line.clone());
        }
        line
    }

    /// Changes one place; a branch also removes lines and adds ones that are there already.
    fn change(&mut self, by_branch: bool) {
        let file = self.file();
        let mut lines: Vec<String> = self.world.read(file).lines().map(str::to_owned).collect();
        let at = self.random.below(lines.len());
        let line = self.new_line(by_branch);
        match self.random.below(if by_branch { 6 } else { 3 }) {
            0 => lines.insert(at, line),
            3 => drop(lines.remove(at)),
            4 => lines.insert(at, "}".to_owned()),
            5 => {
                lines.clear();
                let file = format!("new-{}.txt", self.written);
                self.world.write(&file, line);
            }
            _ => {
                if !by_branch && self.of_branches.contains(&lines[at]) {
                    self.happened("trunk went on on a branch's lines");
                }
                lines[at] = line;
            }
        }
        if !lines.is_empty() {
            self.world.write(file, lines.join("\n") + "\n");
        }
    }

    fn commits(&mut self, most: usize, by_branch: bool) {
        for _ in 0..=self.random.below(most) {
            for _ in 0..=self.random.below(2) {
                self.change(by_branch);
            }
            if !self.world.is_changed() {
                self.change(false);
            }
            self.world.commit("change");
        }
    }

    fn trunk_goes_on(&mut self) {
        self.world.checkout("main");
        if !self.random.one_in(3) {
            self.commits(2, false);
            self.tell("trunk goes on");
        }
    }

    /// Brings `branch`, whose own commits start at `base`, to trunk; what landed, if it all did.
    fn merge(&mut self, branch: &str, base: Oid, how: How) -> Option<Landed> {
        let world = &mut self.world;
        world.checkout("main");
        let (before, tip) = (world.head("main"), world.head(branch));
        let clean = match how {
            How::Not => false,
            How::FastForward => world.fast_forward(branch),
            How::MergeCommit => world.merge_commit(branch),
            How::Rebase => world.pick(base, tip),
            How::Partly => {
                let last = world.parent(tip);
                world.pick(base, last);
                false
            }
            How::Squash => world.squash(branch),
            How::Respaced | How::Enriched => {
                if world.squash(branch) {
                    self.spoil(before, how);
                }
                false
            }
        };
        let landed = clean.then(|| Landed {
            commits: self.world.since(before),
            is_merge: how == How::MergeCommit,
        });
        let outcome = if clean { "whole" } else { "not whole" };
        self.tell(&format!("{branch} by {how:?}: {outcome}"));
        let landed = landed.filter(|landed| !landed.commits.is_empty());
        if landed.is_some() {
            self.happened(how.name());
        }
        landed
    }

    /// Makes the squash on top of `before` something else.
    fn spoil(&mut self, before: Oid, how: How) {
        if how == How::Enriched {
            self.change(false);
        } else {
            self.respace(before);
        }
        self.world.amend();
        self.happened(how.name());
    }

    /// Changes white space, and nothing else, in a line that the squash added, or in one that it left
    /// alone.
    fn respace(&mut self, before: Oid) {
        let added = self.world.added_since(before);
        for file in self.world.file_names() {
            let content = self.world.read(&file);
            let at = match &added {
                Some(added) => content.lines().position(|line| line == added),
                None => Some(0),
            };
            if let Some(at) = at {
                let mut lines: Vec<String> = content.lines().map(str::to_owned).collect();
                let line = &lines[at];
                lines[at] = match self.random.below(5) {
                    0 => format!("{line} "),
                    1 => format!("  {line}"),
                    2 => format!("{line}\r"),
                    3 => format!("{line}\n"),
                    _ => format!("\t{line}\t"),
                };
                let end = if content.ends_with('\n') { "\n" } else { "" };
                self.world.write(&file, lines.join("\n") + end);
                return;
            }
        }
    }

    /// Takes back what landed, all or one commit of it, as one commit or several; maybe puts it back
    /// again. Whether it is gone in the end.
    fn take_back(&mut self, landed: &Landed) -> bool {
        self.world.checkout("main");
        let before = self.world.head("main");
        if !self.undo(landed) {
            self.tell("taking back conflicts");
            return false;
        }
        self.tell("taken back");
        self.happened(if landed.is_merge {
            "a merge commit taken back"
        } else {
            "squashed, rebased or fast-forwarded commits taken back"
        });
        let undone = self.world.since(before);
        self.trunk_goes_on();
        if self.random.one_in(2) && self.world.revert_each(&undone) {
            self.tell("and put back");
            self.happened("put back again");
            return false;
        }
        true
    }

    fn undo(&mut self, landed: &Landed) -> bool {
        let all = &landed.commits;
        if landed.is_merge {
            return self.world.revert_each(&all[..1]);
        }
        match self.random.below(3) {
            0 => {
                let one = self.random.below(all.len());
                self.world.revert_each(&all[one..=one])
            }
            1 => self.world.revert_each(all),
            _ => self.world.revert_as_one(all),
        }
    }

    /// Lets the branch go on after it was looked at; whether it did.
    fn branch_goes_on(&mut self, branch: &str) -> bool {
        if !self.random.one_in(6) {
            return false;
        }
        self.world.checkout(branch);
        self.change(false);
        if self.random.one_in(2) {
            self.world.amend();
            self.tell(&format!("{branch} is amended"));
            self.happened("amended after it was looked at");
        } else {
            self.world.commit("one more");
            self.tell(&format!("{branch} goes on"));
            self.happened("went on after it was looked at");
        }
        self.world.checkout("main");
        true
    }

    fn new_branch(&mut self, name: &str, parent: &str) -> Tracked {
        self.world.branch(name, parent);
        self.commits(3, true);
        if self.world.tree_of(name) == self.world.tree_of(parent) {
            self.change(false);
            self.world.commit("not in vain");
        }
        self.world.track(name, parent)
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
    fn of(teller: &mut Teller) -> Self {
        let a = teller.new_branch("a", "main");
        let b = teller.new_branch("b", "a");
        teller.world.checkout("main");
        if teller.random.one_in(2) {
            teller.trunk_goes_on();
        }
        let mut play = Self {
            a,
            b,
            how_a: teller.pick_how(),
            landed_a: false,
            a_stands: false,
            truth_a: Truth::Open,
            truth_b: Truth::Open,
        };
        play.run(teller);
        play
    }

    fn run(&mut self, teller: &mut Teller) {
        let landed_a = self.merge_a(teller);
        if teller.random.one_in(4) {
            self.take_back_a(teller, landed_a.as_ref());
        }
        teller.trunk_goes_on();
        let how_b = teller.pick_how();
        let landed_b = self.merge_b(teller, how_b);
        teller.trunk_goes_on();
        if teller.random.one_in(4) {
            self.take_back_a(teller, landed_a.as_ref());
        }
        if let Some(landed) = landed_b.filter(|_| teller.random.one_in(3)) {
            self.take_back_b(teller, how_b, &landed);
        }
        teller.trunk_goes_on();
        if teller.branch_goes_on("a") {
            self.truth_a = Truth::Open;
        }
        if teller.branch_goes_on("b") {
            self.truth_b = Truth::Open;
        }
    }

    fn merge_a(&mut self, teller: &mut Teller) -> Option<Landed> {
        let base = oid(self.a.base.unwrap());
        let landed = teller.merge("a", base, self.how_a);
        if landed.is_some() {
            self.landed_a = true;
            self.a_stands = true;
            self.truth_a = Truth::Merged;
        }
        landed
    }

    fn take_back_a(&mut self, teller: &mut Teller, landed: Option<&Landed>) {
        if let Some(landed) = landed.filter(|_| self.a_stands)
            && teller.take_back(landed)
        {
            self.a_stands = false;
            self.truth_a = Truth::Open;
        }
    }

    fn merge_b(&mut self, teller: &mut Teller, how: How) -> Option<Landed> {
        let base = oid(self.b.base.unwrap());
        let mut landed = teller.merge("b", base, how)?;
        self.truth_b = Truth::Merged;
        match how {
            // Git does not bring back what was merged and taken back before.
            How::MergeCommit if self.truth_a == Truth::Open && self.a_is_ancestor() => {}
            How::MergeCommit => self.truth_a = Truth::Merged,
            How::FastForward => {
                self.truth_a = Truth::Merged;
                let (world, tip) = (&teller.world, teller.world.head("b"));
                landed.commits.retain(|id| world.is_in(*id, base, tip));
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

    fn take_back_b(&mut self, teller: &mut Teller, how: How, landed: &Landed) {
        if !teller.take_back(landed) {
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
    /// Merged, and not found, since some commit happens to be the exact inverse of another.
    undone_by_chance: usize,
}

impl Tally {
    /// Whether the answer is allowed.
    fn add(&mut self, truth: Truth, found: bool, is_undone: impl FnOnce() -> bool) -> bool {
        match truth {
            Truth::Merged if !found && is_undone() => {
                self.undone_by_chance += 1;
                true
            }
            Truth::Merged => {
                self.must += 1;
                found
            }
            Truth::Open => {
                self.must_not += 1;
                !found
            }
            Truth::Along => {
                self.may += 1;
                self.may_found += usize::from(found);
                true
            }
        }
    }
}

/// Everything that has to come about, and in how many of 1,000 histories at least.
const WANTED: [(&str, usize); 12] = [
    ("squash", 100),
    ("rebase", 100),
    ("fast-forward", 40),
    ("merge commit", 100),
    ("white space changed", 60),
    ("something added", 60),
    ("a merge commit taken back", 30),
    ("squashed, rebased or fast-forwarded commits taken back", 60),
    ("put back again", 40),
    ("amended after it was looked at", 60),
    ("went on after it was looked at", 60),
    ("trunk went on on a branch's lines", 40),
];

/// Histories in one repository.
const BATCH: u64 = 100;

fn number(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap(),
        Err(_) => default,
    }
}

#[test]
fn generated_histories() {
    let (first, cases) = (number("BACKSTACK_SEED", 1), number("BACKSTACK_CASES", 300));
    let mut tally = Tally::default();
    let mut events = Events::new();
    let mut place = Place::new();
    for seed in first..first + cases {
        if (seed - first) % BATCH == 0 {
            place = Place::new();
        }
        let mut teller = Teller::new(&mut place, seed);
        let play = Play::of(&mut teller);
        let merged = teller.world.merged(&[&play.a, &play.b]);
        for (row, truth) in [(&play.a, play.truth_a), (&play.b, play.truth_b)] {
            let name = &row.name;
            let found = merged.iter().any(|(branch, _)| branch == name);
            let undone = || teller.world.has_an_inverse_on_trunk(row);
            assert!(
                tally.add(truth, found, undone),
                "BACKSTACK_SEED={seed} BACKSTACK_CASES=1: {name} is {truth:?}, found {merged:?}\n{}{}",
                teller.story,
                teller.world.log(),
            );
        }
        for event in teller.events.keys() {
            *events.entry(event).or_default() += 1;
        }
    }
    println!("{cases} histories from seed {first}: {tally:?}, {events:?}");
    assert!(tally.must > 0 && tally.must_not > 0, "{tally:?}");
    assert!(tally.undone_by_chance * 50 <= tally.must, "{tally:?}");
    for (event, least) in WANTED {
        let count = events.get(event).copied().unwrap_or(0) as u64;
        let least = least as u64 * cases / 1_000;
        assert!(cases < 100 || count >= least, "{event}: {count} of {cases}");
    }
}
