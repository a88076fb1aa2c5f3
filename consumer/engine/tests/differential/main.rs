//! The engine's replay against real `git rebase --onto`, on generated histories.
//!
//! Promise under test: for each branch the engine and git agree on clean or conflict, on the
//! conflicted paths and their kinds, on each new commit's tree, author and message, and on what
//! was dropped. The differences on purpose are listed in the replay module.
//!
//! `BACKSTACK_CASES` says how many histories, `BACKSTACK_SEED` the first one's seed. A failure
//! prints the seed; `BACKSTACK_CASES=1 BACKSTACK_SEED=<seed>` is that history alone, and
//! `BACKSTACK_KEEP=<dir>` keeps its repository there.

mod compare;
mod files;
mod history;
mod reference;
mod rng;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use backstack_engine::git::Git;
use backstack_engine::plan::{BranchReplay, Onto, Plan};
use backstack_engine::replay::{Committer, Replayed, replay};
use backstack_engine::{Control, EngineError};
use backstack_schemas::{BranchName, ObjectId};
use git2::{Oid, Repository};

use compare::{Sides, compare};
use history::{History, NEWEST};
use reference::{EMAIL, NAME, Rebased, WorkTree};

/// Histories in one repository.
const BATCH: u64 = 50;

#[test]
fn replay_equals_git_rebase() {
    let cases = number("BACKSTACK_CASES").unwrap_or(60);
    let first = number("BACKSTACK_SEED").unwrap_or(1);
    let mut tally = Tally::default();
    let mut seed = first;
    while seed < first + cases {
        let end = (seed + BATCH).min(first + cases);
        tally.batch(seed..end);
        seed = end;
    }
    eprintln!("{cases} histories from seed {first}: {tally:?}");
    let enough = |count: usize| cases < 60 || count > 0;
    assert!(
        enough(tally.clean) && enough(tally.conflicts) && enough(tally.dropped),
        "the generator makes branches of every kind"
    );
    assert!(
        tally.refused * 50 <= tally.clean,
        "git refused to rebase too many"
    );
    assert!(
        tally.differences.is_empty(),
        "{} differences:\n{}",
        tally.differences.len(),
        tally.differences.join("\n")
    );
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable)
        .ok()
        .map(|text| text.parse().expect("a number"))
}

/// What has been compared.
#[derive(Debug, Default)]
struct Tally {
    clean: usize,
    conflicts: usize,
    above_conflicts: usize,
    commits: usize,
    dropped: usize,
    /// Branches that git's work tree could not take at all.
    refused: usize,
    /// Branches into which git rebased conflict markers.
    markers: usize,
    differences: Vec<String>,
}

impl Tally {
    fn batch(&mut self, seeds: std::ops::Range<u64>) {
        let temporary = tempfile::tempdir().unwrap();
        let kept = std::env::var_os("BACKSTACK_KEEP").map(PathBuf::from);
        let dir = kept.as_deref().unwrap_or(temporary.path());
        std::fs::create_dir_all(dir).unwrap();
        let work_tree = WorkTree::init(dir);
        let repo = Repository::open(dir).unwrap();
        let histories: Vec<History> = seeds.map(|seed| history::write(&repo, seed)).collect();
        let all: Vec<&History> = histories.iter().collect();
        if self.compare(&work_tree, &all).is_ok() {
            return;
        }
        // Git itself aborts at some merges (assertions in merge-ort); find out whose they are.
        for history in all {
            if let Err(error) = self.compare(&work_tree, &[history]) {
                self.aborted(&work_tree, history, &error);
            }
        }
    }

    /// Replays histories and compares them; `Err` where the engine could not replay them.
    fn compare(&mut self, work_tree: &WorkTree, histories: &[&History]) -> Result<(), EngineError> {
        let plan = plan(work_tree, histories);
        let replayed = run(&work_tree.git_dir(), &plan)?;
        self.check_objects(work_tree, &replayed);
        let repo = Repository::open(work_tree.git_dir()).unwrap();
        let sides = Sides::new(&repo, &plan, &replayed);
        for history in histories {
            self.history(work_tree, history, &sides);
        }
        Ok(())
    }

    /// Where the engine gave up since git aborted, a rebase aborts, too.
    fn aborted(&mut self, work_tree: &WorkTree, history: &History, error: &EngineError) {
        eprintln!("seed {}: {error}", history.seed);
        let mut onto = history.onto;
        for branch in &history.branches {
            match work_tree.rebase(branch, onto) {
                Ok(Rebased::Clean { head, .. }) => onto = head,
                Ok(Rebased::Conflict { .. }) => break,
                Err(_) => {
                    self.refused += 1;
                    return;
                }
            }
        }
        let difference = format!("seed {}: git rebases what gave: {error}", history.seed);
        self.differences.push(difference);
    }

    /// Rebases a history's branches one upon the other and compares each.
    fn history(&mut self, work_tree: &WorkTree, history: &History, sides: &Sides) {
        let mut onto = history.onto;
        for branch in &history.branches {
            let rebased = match work_tree.rebase(branch, onto) {
                Ok(rebased) => rebased,
                Err(said) => {
                    eprintln!(
                        "seed {}: {}: git refused: {said}",
                        history.seed, branch.name
                    );
                    self.refused += 1;
                    return;
                }
            };
            if let Rebased::Clean { commits, .. } = &rebased
                && sides.refuses_markers(&name(&branch.name), commits)
            {
                self.markers += 1;
                return;
            }
            let different = compare(sides, &name(&branch.name), onto, &rebased);
            self.differences.extend(
                different
                    .into_iter()
                    .map(|what| format!("seed {} {}: {what}", history.seed, branch.name)),
            );
            match rebased {
                Rebased::Clean {
                    head,
                    commits,
                    dropped,
                } => {
                    self.clean += 1;
                    self.commits += commits.len();
                    self.dropped += dropped.len();
                    onto = head;
                }
                Rebased::Conflict { .. } => {
                    self.conflicts += 1;
                    let here = history
                        .branches
                        .iter()
                        .position(|other| other.name == branch.name);
                    for above in history.branches.iter().skip(here.unwrap_or(0) + 1) {
                        self.above_conflicts += 1;
                        if !sides.is_skipped(&name(&above.name)) {
                            self.differences
                                .push(format!("seed {} {}: not skipped", history.seed, above.name));
                        }
                    }
                    return;
                }
            }
        }
    }

    /// Everything that the new heads reach is in the repository, and git finds nothing wrong with it.
    fn check_objects(&mut self, work_tree: &WorkTree, replayed: &Replayed) {
        replayed.objects.write(&work_tree.git_dir()).unwrap();
        for moved in &replayed.moved {
            let name = format!("refs/new/{}", moved.branch);
            let repo = Repository::open(work_tree.git_dir()).unwrap();
            repo.reference(&name, oid(moved.to), true, "").unwrap();
        }
        work_tree.git(&["rev-list", "--objects", "--quiet", "--glob=refs/new/*"]);
    }
}

fn run(git_dir: &Path, plan: &Plan) -> Result<Replayed, EngineError> {
    let git = Git::discover(None).unwrap();
    let committer = Committer {
        name: NAME.to_owned(),
        email: EMAIL.to_owned(),
        at_least: NEWEST,
    };
    replay(
        git_dir,
        &git,
        plan,
        &committer,
        &Control::unbounded(),
        &|_, _| {},
    )
}

fn plan(work_tree: &WorkTree, histories: &[&History]) -> Plan {
    let mut plan = Plan::default();
    let mut below: HashMap<u64, BranchName> = HashMap::new();
    for history in histories {
        for branch in &history.branches {
            let (range, upstream) = match branch.base {
                Some(base) => (format!("{base}..{}", branch.head), None),
                None => (branch.head.to_string(), Some(history.onto)),
            };
            let parent = below.insert(history.seed, name(&branch.name));
            plan.replays.push(BranchReplay {
                branch: name(&branch.name),
                parent: parent.clone().unwrap_or_else(|| name("main")),
                head: object_id(branch.head),
                onto: match parent {
                    Some(parent) => Onto::Planned(parent),
                    None => Onto::Commit(object_id(history.onto)),
                },
                commits: work_tree
                    .own_commits(&range, upstream)
                    .into_iter()
                    .map(object_id)
                    .collect(),
                flattened: work_tree
                    .merges(&range)
                    .into_iter()
                    .map(object_id)
                    .collect(),
            });
        }
    }
    plan
}

fn name(branch: &str) -> BranchName {
    branch.parse().unwrap()
}

/// libgit2's id as ours, and the other way round.
pub fn object_id(id: Oid) -> ObjectId {
    id.to_string().parse().unwrap()
}

/// Ours as libgit2's.
pub fn oid(id: ObjectId) -> Oid {
    Oid::from_bytes(id.as_bytes()).unwrap()
}
