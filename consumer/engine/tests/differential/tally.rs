//! Histories replayed by the engine, rebased by git, compared, and counted.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};

use backstack_engine::git::Git;
use backstack_engine::plan::{BranchReplay, Onto, Plan};
use backstack_engine::replay::{Committer, Replayed, replay};
use backstack_engine::{Control, EngineError};
use backstack_schemas::BranchName;
use git2::Repository;

use crate::compare::{Sides, compare};
use crate::history::{self, History, NEWEST};
use crate::reference::{EMAIL, NAME, Rebased, WorkTree};
use crate::rng::Rng;
use crate::shrink::shrink;
use crate::{object_id, story};

/// Of so many seeds that fail the plainest failing history is looked for.
const SHRUNK: usize = 3;

/// What has been compared.
#[derive(Debug, Default)]
pub struct Tally {
    pub clean: usize,
    pub conflicts: usize,
    pub above_conflicts: usize,
    pub commits: usize,
    pub dropped: usize,
    /// Branches that git itself did not rebase, by the reason; see [`refusal`].
    pub refused: BTreeMap<&'static str, usize>,
    /// Branches into which git rebased conflict markers.
    pub markers: usize,
    /// Seeds, and what differs.
    pub differences: Vec<(u64, String)>,
}

impl Tally {
    /// Compares the histories of these seeds, all in one repository.
    pub fn batch(&mut self, seeds: Range<u64>) {
        let temporary = tempfile::tempdir().unwrap();
        let kept = std::env::var_os("BACKSTACK_KEEP").map(PathBuf::from);
        let dir = kept.as_deref().unwrap_or(temporary.path());
        std::fs::create_dir_all(dir).unwrap();
        let work_tree = WorkTree::init(dir);
        let before = self.differences.len();
        let mut histories = Vec::new();
        let (packed, loose): (Vec<u64>, Vec<u64>) = seeds.partition(|s| History::is_packed(*s));
        for seed in packed {
            histories.push(history::write(work_tree.repo(), seed));
        }
        work_tree.pack();
        for seed in loose {
            histories.push(history::write(work_tree.repo(), seed));
        }
        histories.sort_by_key(|history| history.seed);
        self.all(&work_tree, &histories.iter().collect::<Vec<_>>());
        let mut shrunk: Vec<u64> = Vec::new();
        for at in before..self.differences.len() {
            let seed = self.differences[at].0;
            if before + shrunk.len() >= SHRUNK || shrunk.contains(&seed) {
                continue;
            }
            shrunk.push(seed);
            let failing = histories.iter().find(|h| h.seed == seed).unwrap();
            if let Some(plainest) = plainest(failing, &differs) {
                self.differences[at].1.push_str(&plainest);
            }
        }
    }

    /// Compares these histories, together or, where git aborts at one, each by itself.
    pub fn all(&mut self, work_tree: &WorkTree, histories: &[&History]) {
        if self.compare(work_tree, histories).is_ok() {
            return;
        }
        // Git itself aborts at some merges (assertions in merge-ort); find out whose they are.
        for history in histories {
            if let Err(error) = self.compare(work_tree, &[history]) {
                self.aborted(work_tree, history, &error);
            }
        }
    }

    /// Fails the test where anything differs, or where too little was compared.
    pub fn judge(&self, cases: u64) {
        let enough = |count: usize| cases < 60 || count > 0;
        assert!(
            enough(self.clean) && enough(self.conflicts) && enough(self.dropped),
            "the generator makes branches of every kind"
        );
        let few = |count: usize| count < 5 || count * 50 <= self.clean;
        assert!(
            few(self.refused.values().sum()),
            "git refused to rebase too many"
        );
        assert!(few(self.markers), "git left conflict markers in too many");
        let differences: Vec<String> = self
            .differences
            .iter()
            .map(|(seed, what)| format!("seed {seed}: {what}"))
            .collect();
        assert!(
            differences.is_empty(),
            "{} differences:\n{}",
            differences.len(),
            differences.join("\n")
        );
    }

    /// Replays histories and compares them; `Err` where the engine could not replay them.
    fn compare(&mut self, work_tree: &WorkTree, histories: &[&History]) -> Result<(), EngineError> {
        let plan = plan(work_tree, histories);
        let replayed = run(&work_tree.git_dir(), &plan)?;
        check_objects(work_tree, &replayed);
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
                Err(said) if refusal(&said) == Some(ASSERTION) => {
                    *self.refused.entry(ASSERTION).or_default() += 1;
                    return;
                }
                Err(_) => break,
            }
        }
        let what = format!("git does not abort at what gave: {error}");
        self.differences.push((history.seed, what));
    }

    /// Counts a branch that git did not rebase, for a reason that is known. Where git aborted on an
    /// assertion while it wrote its work tree, the engine has a conflict.
    fn refuse(&mut self, seed: u64, branch: &str, said: &str, is_conflict: bool) {
        match refusal(said) {
            Some(reason) if reason != ASSERTION || is_conflict => {
                *self.refused.entry(reason).or_default() += 1;
            }
            Some(_) => {
                let what = format!("{branch}: clean, where git aborts: {said}");
                self.differences.push((seed, what));
            }
            None => {
                let what = format!("{branch}: git refused for no known reason: {said}");
                self.differences.push((seed, what));
            }
        }
    }

    /// Rebases a history's branches one upon the other and compares each.
    fn history(&mut self, work_tree: &WorkTree, history: &History, sides: &Sides) {
        let mut onto = history.onto;
        for (at, branch) in history.branches.iter().enumerate() {
            let rebased = match work_tree.rebase(branch, onto) {
                Ok(rebased) => rebased,
                Err(said) => {
                    let is_conflict = sides.is_conflict(&name(&branch.name));
                    return self.refuse(history.seed, &branch.name, &said, is_conflict);
                }
            };
            if let Rebased::Clean { commits, .. } = &rebased
                && sides.refuses_markers(&name(&branch.name), commits)
            {
                self.markers += 1;
                return;
            }
            let different = compare(sides, &name(&branch.name), onto, &rebased);
            let of_branch = |what| (history.seed, format!("{}: {what}", branch.name));
            self.differences
                .extend(different.into_iter().map(of_branch));
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
                    for above in &history.branches[at + 1..] {
                        self.above_conflicts += 1;
                        if !sides.is_skipped(&name(&above.name)) {
                            let what = format!("{}: not skipped", above.name);
                            self.differences.push((history.seed, what));
                        }
                    }
                    return;
                }
            }
        }
    }
}

/// Git's merge has assertions that some merges do not hold to.
const ASSERTION: &str = "git aborted on an assertion";

/// Why git did not rebase a branch, where that says nothing of the engine.
fn refusal(said: &str) -> Option<&'static str> {
    const LOOK_CHANGED: &str = "attributes made files look changed";
    const REASONS: [(&str, &str); 5] = [
        ("Assertion `", ASSERTION),
        ("BUG: ", ASSERTION),
        (
            "Your local changes to the following files would be",
            LOOK_CHANGED,
        ),
        ("You have unstaged changes", LOOK_CHANGED),
        (
            "untracked working tree files would be",
            "files were in the way",
        ),
    ];
    let reason = REASONS.iter().find(|(words, _)| said.contains(words));
    reason.map(|(_, reason)| *reason)
}

/// What differs in a history by itself.
pub fn differs(work_tree: &WorkTree, history: &History) -> Option<String> {
    let mut tally = Tally::default();
    tally.all(work_tree, &[history]);
    let differences: Vec<_> = tally
        .differences
        .into_iter()
        .map(|(_, what)| what)
        .collect();
    (!differences.is_empty()).then(|| differences.join("\n"))
}

/// The plainest history that fails as this one does: what fails in it, and its story.
pub fn plainest(
    failing: &History,
    failure: &dyn Fn(&WorkTree, &History) -> Option<String>,
) -> Option<String> {
    let told = |choices: &[usize]| {
        let dir = tempfile::tempdir().unwrap();
        let work_tree = WorkTree::init(dir.path());
        let rng = Rng::choosing(choices.to_vec());
        let history = history::write_chosen(work_tree.repo(), failing.seed, rng);
        if History::is_packed(failing.seed) {
            work_tree.pack();
        }
        let what = failure(&work_tree, &history)?;
        Some((what, story::of(&history)))
    };
    let scratch = tempfile::tempdir().unwrap();
    let scratch = Repository::init_bare(scratch.path()).unwrap();
    let spans = |choices: &[usize]| {
        let rng = Rng::choosing(choices.to_vec());
        history::write_chosen(&scratch, failing.seed, rng).spans
    };
    let what = |choices: &[usize]| told(choices).map(|(what, _)| what);
    let (choices, _) = shrink(failing.choices.clone(), spans, what)?;
    let (what, story) = told(&choices)?;
    Some(format!("\nthe plainest found: {what}\n{story}"))
}

/// Everything that the new heads reach is in the repository, and git finds nothing wrong with it.
fn check_objects(work_tree: &WorkTree, replayed: &Replayed) {
    replayed.objects.write(&work_tree.git_dir()).unwrap();
    let repo = Repository::open(work_tree.git_dir()).unwrap();
    for moved in &replayed.moved {
        let name = format!("refs/new/{}", moved.branch);
        repo.reference(&name, crate::oid(moved.to), true, "")
            .unwrap();
    }
    work_tree.git(&["rev-list", "--objects", "--quiet", "--glob=refs/new/*"]);
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
            let (commits, flattened) = work_tree.own_commits(&range, upstream);
            let parent = below.insert(history.seed, name(&branch.name));
            plan.replays.push(BranchReplay {
                branch: name(&branch.name),
                parent: parent.clone().unwrap_or_else(|| name("main")),
                head: object_id(branch.head),
                onto: match parent {
                    Some(parent) => Onto::Planned(parent),
                    None => Onto::Commit(object_id(history.onto)),
                },
                commits: commits.into_iter().map(object_id).collect(),
                flattened: flattened.into_iter().map(object_id).collect(),
            });
        }
    }
    plan
}

fn name(branch: &str) -> BranchName {
    branch.parse().unwrap()
}
