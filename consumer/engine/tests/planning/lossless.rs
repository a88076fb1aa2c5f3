//! Work is never lost: random people do random things to a stack, between which it is fetched, healed
//! and restacked, and what a branch had before a restack it has after.
//!
//! Work is counted by name, whatever version of a commit carries it. People here rewrite and give up
//! commits but do not drop one in the middle of rewriting others.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use backstack_engine::graph::{Stack, StackBranch, Tracked};
use backstack_engine::heal;
use backstack_engine::history::History;
use backstack_engine::own::Standing;
use backstack_engine::plan::{self, BranchReplay, Goal, Onto, Plan};
use backstack_schemas::{BranchName, ObjectId};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::drawn::{Drawn, id, text};
use crate::shown::name;

const BRANCHES: usize = 5;

/// Something that happens, to the branch with this number where it is one's.
#[derive(Clone, Debug)]
enum Event {
    TrunkCommit,
    TrunkRewritten,
    Commit(usize),
    Rewritten(usize),
    Reset(usize),
    MergedTrunk(usize),
    RebasedByHand(usize),
    SquashMerged(usize),
    Unregistered(usize),
    Restack,
    RestackOne(usize),
}

fn event() -> impl Strategy<Value = Event> {
    let branch = 0..BRANCHES;
    prop_oneof![
        2 => Just(Event::TrunkCommit),
        1 => Just(Event::TrunkRewritten),
        4 => branch.clone().prop_map(Event::Commit),
        3 => branch.clone().prop_map(Event::Rewritten),
        2 => branch.clone().prop_map(Event::Reset),
        1 => branch.clone().prop_map(Event::MergedTrunk),
        1 => branch.clone().prop_map(Event::RebasedByHand),
        1 => branch.clone().prop_map(Event::SquashMerged),
        1 => branch.clone().prop_map(Event::Unregistered),
        3 => Just(Event::Restack),
        2 => branch.prop_map(Event::RestackOne),
    ]
}

/// A remote and the rows of the service, which here sees each event or only some.
struct World {
    drawn: Drawn,
    remote: BTreeMap<BranchName, ObjectId>,
    rows: Stack,
    count: usize,
    /// What a commit carries, where that is not just its own name.
    squashed: BTreeMap<ObjectId, BTreeSet<String>>,
    /// What branches had when they were unregistered: nothing stands on them any more, by request.
    let_go: BTreeSet<String>,
}

fn branch(number: usize) -> BranchName {
    name(&format!("b{number}"))
}

impl World {
    /// A stack whose branches stand on trunk or on one of those before.
    fn new(parents: &[usize]) -> Self {
        let mut world = Self {
            drawn: Drawn::new("t0"),
            remote: BTreeMap::from([(name("main"), id("t0"))]),
            rows: Stack {
                trunk: name("main"),
                branches: BTreeMap::from([(name("main"), StackBranch::default())]),
            },
            count: 0,
            squashed: BTreeMap::new(),
            let_go: BTreeSet::new(),
        };
        for (number, below) in parents.iter().enumerate() {
            let parent = match below % (number + 1) {
                0 => name("main"),
                below => branch(below - 1),
            };
            let base = world.remote[&parent];
            world.remote.insert(branch(number), base);
            let tracked = Some(Tracked {
                parent,
                base: Some(base),
            });
            let row = StackBranch {
                tracked,
                ..StackBranch::default()
            };
            world.rows.branches.insert(branch(number), row);
            world.commit(&branch(number), "c");
        }
        world.fetch();
        world
    }

    fn new_commit(&mut self, work: &str, parents: Vec<ObjectId>) -> ObjectId {
        self.count += 1;
        let version = format!("{work}~{}", self.count);
        self.drawn.add(&version, parents);
        id(&version)
    }

    fn commit(&mut self, on: &BranchName, prefix: &str) {
        let work = format!("{prefix}{}", self.count);
        let head = self.new_commit(&work, vec![self.remote[on]]);
        self.remote.insert(on.clone(), head);
    }

    /// New versions of `commits`, each on the one before, the first on `onto`.
    fn replayed(&mut self, commits: &[ObjectId], onto: ObjectId) -> ObjectId {
        commits.iter().fold(onto, |below, commit| {
            let work = work_of(*commit);
            let new = self.new_commit(&work, vec![below]);
            if let Some(works) = self.squashed.get(commit).cloned() {
                self.squashed.insert(new, works);
            }
            new
        })
    }

    fn works(&self, commits: &[ObjectId]) -> BTreeSet<String> {
        let own = |commit: &ObjectId| match self.squashed.get(commit) {
            Some(works) => works.clone(),
            None => BTreeSet::from([work_of(*commit)]),
        };
        let works: BTreeSet<_> = commits.iter().flat_map(own).collect();
        works.into_iter().filter(|work| work != "merge").collect()
    }

    fn works_below(&self, head: ObjectId) -> BTreeSet<String> {
        self.works(&self.drawn.reachable(head, &[]).unwrap())
    }

    /// What is on the branch and not on what it stands on, as the person at it sees it.
    fn above_parent(&self, branch: &BranchName) -> Vec<ObjectId> {
        let parent = self.rows.parent(branch).unwrap_or(&self.rows.trunk);
        let hidden = [self.remote[parent], self.remote[&self.rows.trunk]];
        let mut own = self.drawn.reachable(self.remote[branch], &hidden).unwrap();
        own.retain(|commit| self.drawn.commit(*commit).unwrap().unwrap().parents.len() < 2);
        own
    }

    /// The service fetches: rows get the heads, former heads included.
    fn fetch(&mut self) {
        for (branch, head) in &self.remote {
            let row = self.rows.branches.get_mut(branch).unwrap();
            if row.head == Some(*head) {
                continue;
            }
            if let Some(old) = row.head {
                row.former_heads.retain(|former| *former != old);
                row.former_heads.insert(0, old);
                row.former_heads.truncate(16);
            }
            row.head = Some(*head);
        }
    }

    fn happen(&mut self, event: &Event) -> Result<(), TestCaseError> {
        match event {
            Event::TrunkCommit => self.commit(&name("main"), "t"),
            Event::TrunkRewritten => self.rewrite_tip(&name("main")),
            Event::Commit(number) => self.commit(&branch(*number), "c"),
            Event::Rewritten(number) => {
                let branch = branch(*number);
                let own = self.above_parent(&branch);
                let Some(first) = own.first() else {
                    return Ok(());
                };
                let onto = self.drawn.commit(*first).unwrap().unwrap().parents[0];
                let above = self.drawn.reachable(self.remote[&branch], &[onto]);
                if above.unwrap() == own {
                    let head = self.replayed(&own, onto);
                    self.remote.insert(branch, head);
                }
            }
            Event::Reset(number) => self.reset(&branch(*number)),
            Event::MergedTrunk(number) => {
                let branch = branch(*number);
                let trunk = self.remote[&name("main")];
                let head = self.new_commit("merge", vec![self.remote[&branch], trunk]);
                self.remote.insert(branch, head);
            }
            Event::RebasedByHand(number) => {
                let branch = branch(*number);
                let parent = self.rows.parent(&branch).unwrap_or(&self.rows.trunk);
                let onto = self.remote[parent];
                let own = self.above_parent(&branch);
                let head = self.replayed(&own, onto);
                self.remote.insert(branch, head);
            }
            Event::SquashMerged(number) => self.squash_merge(&branch(*number)),
            Event::Unregistered(number) => {
                self.fetch();
                let head = self.remote[&branch(*number)];
                self.let_go.extend(self.works_below(head));
                heal::untrack(&mut self.rows, &branch(*number), &self.drawn).unwrap();
            }
            Event::Restack => return self.restack(&Goal::All),
            Event::RestackOne(number) => {
                if self.rows.tracked(&branch(*number)).is_some() {
                    return self.restack(&Goal::Only(branch(*number)));
                }
            }
        }
        Ok(())
    }

    fn rewrite_tip(&mut self, branch: &BranchName) {
        let head = self.remote[branch];
        let parents = self.drawn.commit(head).unwrap().unwrap().parents.clone();
        if parents.len() == 1 {
            let new = self.replayed(&[head], parents[0]);
            self.remote.insert(branch.clone(), new);
        }
    }

    fn reset(&mut self, branch: &BranchName) {
        let head = self.remote[branch];
        let commit = self.drawn.commit(head).unwrap().unwrap();
        if !self.above_parent(branch).is_empty() {
            self.remote.insert(branch.clone(), commit.parents[0]);
        }
    }

    /// Squashes a branch on trunk into trunk, as a forge does, and syncs.
    fn squash_merge(&mut self, branch: &BranchName) {
        self.fetch();
        if self.rows.parent(branch) != Some(&self.rows.trunk) {
            return;
        }
        let works = self.works(&self.above_parent(branch));
        let trunk = self.rows.trunk.clone();
        let squash = self.new_commit("squash", vec![self.remote[&trunk]]);
        self.squashed.insert(squash, works);
        self.remote.insert(trunk, squash);
        self.fetch();
        heal::untrack(&mut self.rows, branch, &self.drawn).unwrap();
    }

    /// Fetches, plans, checks that no work goes, and does it.
    fn restack(&mut self, goal: &Goal) -> Result<(), TestCaseError> {
        self.fetch();
        let plan = plan::plan(&self.rows, goal, &self.drawn);
        let Ok(plan) = plan else {
            return Ok(());
        };
        for replay in &plan.replays {
            self.check_lossless(replay)?;
            self.check_bounds(replay)?;
        }
        self.execute(&plan);
        Ok(())
    }

    /// All work of the branch is replayed, or in what it goes onto, before that is itself replayed.
    fn check_lossless(&self, replay: &BranchReplay) -> Result<(), TestCaseError> {
        let mut kept = self.works(&replay.commits);
        kept.extend(self.works_below(match &replay.onto {
            Onto::Commit(onto) => *onto,
            Onto::Planned(below) => self.rows.head(below).unwrap(),
        }));
        kept.extend(self.works_below(self.remote[&self.rows.trunk]));
        kept.extend(self.let_go.iter().cloned());
        let had = self.works_below(replay.head);
        let lost: Vec<_> = had.difference(&kept).collect();
        prop_assert!(lost.is_empty(), "{} loses {lost:?}", replay.branch);
        Ok(())
    }

    /// What is replayed is what the contract's formula says, each boundary looked for in the branch.
    fn check_bounds(&self, replay: &BranchReplay) -> Result<(), TestCaseError> {
        let parent = &self.rows.branches[&replay.parent];
        let trunk = self.remote[&self.rows.trunk];
        let standing = Standing {
            head: replay.head,
            base: self.rows.tracked(&replay.branch).unwrap().base,
            parent: parent.head,
            former: &parent.former_heads,
            trunk,
        };
        let mut hidden = standing.boundaries(&self.drawn).unwrap();
        hidden.extend(parent.head);
        hidden.push(trunk);
        let own = self.drawn.above(&[replay.head], &hidden).unwrap();
        let replayed = replay.commits.iter().chain(&replay.flattened).copied();
        prop_assert_eq!(replayed.collect::<HashSet<_>>(), own);
        Ok(())
    }

    fn execute(&mut self, plan: &Plan) {
        for replay in &plan.replays {
            let onto = match &replay.onto {
                Onto::Commit(onto) => *onto,
                Onto::Planned(below) => self.remote[below],
            };
            let head = self.replayed(&replay.commits, onto);
            self.remote.insert(replay.branch.clone(), head);
            self.set_base(&replay.branch, onto);
        }
        for kept in &plan.up_to_date {
            self.set_base(&kept.branch, kept.base);
        }
        self.fetch();
    }

    fn set_base(&mut self, branch: &BranchName, base: ObjectId) {
        let row = self.rows.branches.get_mut(branch).unwrap();
        row.tracked.as_mut().unwrap().base = Some(base);
    }
}

fn work_of(commit: ObjectId) -> String {
    text(commit).split('~').next().unwrap().to_owned()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_restack_loses_no_work(
        parents in vec(0..BRANCHES, BRANCHES),
        events in vec((event(), any::<bool>()), 1..25),
    ) {
        let mut world = World::new(&parents);
        for (event, seen) in &events {
            // From a branch that was rewritten and reset between two fetches, what was given up
            // cannot be told from what was squashed.
            let is_reset = matches!(event, Event::Reset(_));
            if is_reset {
                world.fetch();
            }
            world.happen(event)?;
            if *seen || is_reset {
                world.fetch();
            }
        }
        world.happen(&Event::Restack)?;
    }
}
