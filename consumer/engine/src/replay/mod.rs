//! A plan's commits made anew: [`Plan`] in, new commits out, without a work tree.
//!
//! Guarantees:
//!
//! - Each new commit's tree is the one that `git rebase --onto` (merge backend, git's default
//!   configuration) gives, and a conflict is one that git itself has confirmed.
//! - A commit that already stands where it is to go keeps its id, and the same plan with the same
//!   [`Committer`] gives the same ids again.
//! - A conflict costs its own branch and the branches above it, and no other.
//! - Nothing reaches the repository before [`NewObjects::write`]; refs are never touched.
//!
//! ```text
//!            ┌────────┐ certain ┌─────────┐
//!  commit ──►│ splice ├────────►│ objects ├──► one pack
//!            │ + xdiff│         └────▲────┘
//!            └───┬────┘ not certain  │ adopt
//!                ▼                   │
//!            merge_tree ─────────────┘ or a conflict
//! ```
//!
//! | question | module |
//! |---|---|
//! | which of the three ways of merging? | [`Merger`] |
//! | when may a change be spliced in? | `splice`, on `tree`, `tree_changes` |
//! | how is one file merged, and when? | `xdiff`, `attributes` |
//! | how is git asked, what does it answer? | `merge_tree`, `record` |
//! | what does a commit keep? | `commit` |
//! | where do objects come from? | `objects`, `stored`, `read_ahead`, `cache` |
//! | where do new ones go? | `objects`, `quarantine`, `pack`, `zlib` |
//!
//! # Where this differs from a rebase, on purpose
//!
//! - Author and message keep their bytes and the `encoding` header; a rebase recodes them to UTF-8,
//!   takes bytes that are not for Latin-1, and cuts a message at a NUL.
//! - The `change-id` header stays; a rebase drops it with all others.
//! - There is no work tree, so nothing about one can fail: paths a file system refuses, files in
//!   the way, `.gitattributes` that is a link.
//! - Where a rebase aborts on an assertion while it writes its work tree, there is a plain conflict
//!   here. Where git aborts in the merge itself, the replay is an error.
//! - Where git calls a merge clean and leaves conflict markers in a file all the same, as 2.47 does
//!   after some renames, a rebase commits the markers; here it is a conflict.
//! - File modes that git has not written since 2005 (`100664`) stay in directories that only one
//!   side changed.
//! - A path that git moves aside in a conflict (`file~HEAD`) is reported as it is called.

mod attributes;
mod branch;
mod cache;
mod commit;
mod merge_tree;
mod merger;
mod merges;
mod objects;
mod pack;
mod quarantine;
mod read_ahead;
mod record;
mod splice;
mod stored;
mod tree;
mod tree_changes;
mod xdiff;
mod zlib;

use std::convert::Infallible;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::thread;

use backstack_schemas::outcome::{Conflict, DropReason, DroppedCommit, SkipReason, Skipped};
use backstack_schemas::{BranchName, ObjectId};

pub use merger::{Merge, Merger};
pub use objects::NewObjects;

use crate::control::Control;
use crate::error::EngineError;
use crate::git::Git;
use crate::plan::{BranchReplay, Onto, Plan};
use branch::{Fate, Grove};
use objects::{Objects, Shared};
use read_ahead::{EndOnDrop, Pace, read_ahead};

/// Who commits, and not before when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committer {
    /// Name; characters a commit cannot hold are left out.
    pub name: String,
    /// Address, likewise.
    pub email: String,
    /// The action's store time, seconds since the Unix epoch. A commit's date is the later of this
    /// and its new parent's, in UTC.
    pub at_least: i64,
}

/// What came of a plan; the lists are in the plan's order.
#[derive(Debug, Default)]
pub struct Replayed {
    /// Branches that got another head.
    pub moved: Vec<MovedBranch>,
    /// Branches that stand where they should already.
    pub unchanged: Vec<UnchangedBranch>,
    /// Branches none of whose commits changes anything where they were to go; their refs stay.
    pub became_empty: Vec<EmptyBranch>,
    /// Branches that cannot be replayed, each with the first commit that failed.
    pub conflicts: Vec<Conflict>,
    /// Branches above one that conflicts.
    pub skipped: Vec<Skipped>,
    /// Commits that were not carried over, of branches that moved or became empty.
    pub dropped: Vec<DroppedCommit>,
    /// The new commits with their trees and files, in memory.
    pub objects: NewObjects,
}

/// A branch that got another head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MovedBranch {
    /// The branch.
    pub branch: BranchName,
    /// Its head before.
    pub from: ObjectId,
    /// Its new head.
    pub to: ObjectId,
    /// What its commits stand on now.
    pub base: ObjectId,
}

/// A branch whose replay gave the head it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnchangedBranch {
    /// The branch.
    pub branch: BranchName,
    /// What its commits stand on.
    pub base: ObjectId,
}

/// A branch whose work is all in what it was to go onto.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmptyBranch {
    /// The branch.
    pub branch: BranchName,
    /// The branch that has its work: its parent, or where that became empty, too, the one below.
    pub into: BranchName,
    /// The commit it was to go onto, onto which the branches above it went.
    pub onto: ObjectId,
}

/// Replays a plan in memory. `progress` is called from several threads, with the number of
/// branches that are done and of all.
///
/// Branches above one another are replayed in the plan's order; stacks that have nothing in
/// common run side by side, one on each core.
///
/// # Errors
///
/// What the control says; [`EngineError::Internal`] where an object is missing, git fails twice at
/// one merge, or the plan names a branch before its parent.
pub fn replay(
    git_dir: &Path,
    git: &Git,
    plan: &Plan,
    committer: &Committer,
    control: &Control,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Replayed, EngineError> {
    let stacks = stacks(&plan.replays)?;
    let done = AtomicUsize::new(0);
    let work = Work {
        stacks: &stacks,
        next: AtomicUsize::new(0),
        paces: stacks.iter().map(|_| Pace::default()).collect(),
        failed: AtomicBool::new(false),
        fates: Mutex::new(Vec::with_capacity(plan.replays.len())),
        objects: Mutex::default(),
    };
    let shared = Shared::default();
    let run = || {
        let mut merger = Merger::sharing(git_dir, git, control, shared.clone())?;
        work.run(&mut merger, &plan.replays, committer, &|| {
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, plan.replays.len());
        })?;
        work.hand_over(merger.into_new_objects())
    };
    let ahead = |stack: usize| {
        let mut objects = Objects::open(git_dir, shared.clone()).ok()?;
        let replays = stacks[stack].iter().map(|at| &plan.replays[*at]);
        read_ahead(&mut objects, replays, &work.paces[stack])
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    // What the other threads log belongs to the same job.
    let span = tracing::Span::current();
    let run_in_span = || span.in_scope(run);
    let threads = cores.min(stacks.len());
    let long = stacks
        .iter()
        .take_while(|stack| commits(&plan.replays, stack) >= read_ahead::WORTHWHILE)
        .count();
    if threads > 0 {
        thread::scope(|scope| {
            let end = EndOnDrop(&work.paces);
            let (starting, started) = mpsc::channel::<Infallible>();
            // Where a core is left, there is a thread for each stack.
            let ahead: Vec<_> = (0..long.min(cores - threads))
                .map(|stack| (stack, starting.clone()))
                .map(|(stack, starting)| {
                    scope.spawn(move || {
                        drop(starting);
                        ahead(stack)
                    })
                })
                .collect();
            let others: Vec<_> = (1..threads)
                .map(|_| starting.clone())
                .map(|starting| {
                    scope.spawn(move || {
                        drop(starting);
                        run_in_span()
                    })
                })
                .collect();
            // Linux may leave a new thread behind the one that made it, on its core, for milliseconds,
            // though another core is idle. It looks for one for a thread that wakes up: so this one sleeps
            // until the others run.
            drop(starting);
            let _ = started.recv();
            // All are waited for; the first error in order is told.
            let result = others
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|_| Err(panicked())))
                .fold(run(), Result::and);
            drop(end);
            // Nothing depends on what these could not read.
            ahead.into_iter().for_each(|thread| drop(thread.join()));
            result
        })?;
    }
    work.result(&plan.replays)
}

fn panicked() -> EngineError {
    EngineError::Internal("a replay thread ended unexpectedly".to_owned())
}

/// Indices into the plan of the branches that hang together, parents first, longest first.
fn stacks(replays: &[BranchReplay]) -> Result<Vec<Vec<usize>>, EngineError> {
    let mut stack_of = std::collections::HashMap::new();
    let mut stacks: Vec<Vec<usize>> = Vec::new();
    for (at, replay) in replays.iter().enumerate() {
        let stack = match &replay.onto {
            Onto::Commit(_) => {
                stacks.push(Vec::new());
                stacks.len() - 1
            }
            Onto::Planned(parent) => *stack_of.get(parent).ok_or_else(|| {
                let branch = &replay.branch;
                EngineError::Internal(format!("the plan has {branch} before its parent {parent}"))
            })?,
        };
        stacks[stack].push(at);
        stack_of.insert(&replay.branch, stack);
    }
    stacks.sort_by_key(|stack| std::cmp::Reverse(commits(replays, stack)));
    Ok(stacks)
}

/// Number of commits of a stack.
fn commits(replays: &[BranchReplay], stack: &[usize]) -> usize {
    stack.iter().map(|at| replays[*at].commits.len()).sum()
}

/// What the threads share.
struct Work<'a> {
    stacks: &'a [Vec<usize>],
    next: AtomicUsize,
    /// How far each stack is.
    paces: Vec<Pace>,
    failed: AtomicBool,
    fates: Mutex<Vec<(usize, Fate)>>,
    objects: Mutex<NewObjects>,
}

impl Work<'_> {
    /// Replays stacks until none is left or a thread has failed.
    fn run(
        &self,
        merger: &mut Merger,
        replays: &[BranchReplay],
        committer: &Committer,
        done: &dyn Fn(),
    ) -> Result<(), EngineError> {
        loop {
            let next = self.next.fetch_add(1, Ordering::Relaxed);
            let (Some(stack), Some(pace)) = (self.stacks.get(next), self.paces.get(next)) else {
                return Ok(());
            };
            let mut grove = Grove::default();
            for at in stack {
                if self.failed.load(Ordering::Relaxed) {
                    return Ok(());
                }
                let fate = grove
                    .replay(merger, &replays[*at], committer, pace)
                    .inspect_err(|_| self.failed.store(true, Ordering::Relaxed))?;
                self.fates.lock().map_err(|_| panicked())?.push((*at, fate));
                done();
            }
            pace.end();
        }
    }

    fn hand_over(&self, objects: NewObjects) -> Result<(), EngineError> {
        self.objects.lock().map_err(|_| panicked())?.append(objects);
        Ok(())
    }

    fn result(self, replays: &[BranchReplay]) -> Result<Replayed, EngineError> {
        let mut fates = self.fates.into_inner().map_err(|_| panicked())?;
        fates.sort_by_key(|(at, _)| *at);
        let mut result = Replayed {
            objects: self.objects.into_inner().map_err(|_| panicked())?,
            ..Replayed::default()
        };
        for (at, fate) in fates {
            result.add(&replays[at], fate);
        }
        Ok(result)
    }
}

impl Replayed {
    fn add(&mut self, replay: &BranchReplay, fate: Fate) {
        let branch = replay.branch.clone();
        match fate {
            Fate::Stands {
                head,
                base,
                dropped,
            } if head == replay.head => {
                debug_assert!(
                    dropped.is_empty(),
                    "a branch that stays as it is drops nothing"
                );
                self.unchanged.push(UnchangedBranch { branch, base });
            }
            Fate::Stands {
                head,
                base,
                dropped,
            } => {
                self.drop_commits(replay, dropped);
                self.moved.push(MovedBranch {
                    branch,
                    from: replay.head,
                    to: head,
                    base,
                });
            }
            Fate::Empty {
                into,
                onto,
                dropped,
            } => {
                self.drop_commits(replay, dropped);
                self.became_empty.push(EmptyBranch { branch, into, onto });
            }
            Fate::Conflict(conflict) => self.conflicts.push(conflict),
            Fate::ParentConflict => self.skipped.push(Skipped {
                branch,
                reason: SkipReason::ParentConflict,
            }),
        }
    }

    fn drop_commits(&mut self, replay: &BranchReplay, became_empty: Vec<ObjectId>) {
        let dropped = |commit, reason| DroppedCommit {
            branch: replay.branch.clone(),
            commit,
            reason,
        };
        let flattened = replay.flattened.iter();
        self.dropped
            .extend(flattened.map(|commit| dropped(*commit, DropReason::MergeFlattened)));
        self.dropped.extend(
            became_empty
                .into_iter()
                .map(|c| dropped(c, DropReason::BecameEmpty)),
        );
    }
}
