//! Reads what a stack's replay is going to need, on a core that has nothing else to do.
//!
//! The commits of a stack go one onto the other, so one thread replays them. But what they read is
//! known before: the trees and files that both a commit and the target changed. Reading is about
//! half of the work, and most of it in a large repository.
//!
//! Guarantees: it only puts into the shared caches what the replay would read itself, some commits
//! before it gets there; no result depends on it. Never makes an object, never asks git. What it
//! cannot read, it leaves to the replay to complain about.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use backstack_schemas::ObjectId;

use super::objects::Objects;
use super::tree::{Item, Tree};
use crate::plan::{BranchReplay, Onto};

/// Stacks of fewer commits are replayed before a thread has begun.
pub(super) const WORTHWHILE: usize = 8;
/// How many commits it is ahead at most: the caches are bounded.
const LEAD: usize = 32;
/// How deep directories are followed.
const DEPTH: usize = 64;

/// How far a stack's replay has come.
#[derive(Default)]
pub(super) struct Pace {
    progress: Mutex<Progress>,
    moved: Condvar,
}

#[derive(Default)]
struct Progress {
    /// Commits begun.
    begun: usize,
    /// Whether somebody waits for more: waking nobody is a system call, too.
    awaited: bool,
}

impl Pace {
    /// The replay begins the next commit.
    pub fn next(&self) {
        self.move_to(|begun| begun.saturating_add(1));
    }

    /// There is nothing left to read for.
    pub fn end(&self) {
        self.move_to(|_| usize::MAX);
    }

    /// Whether the replay has begun the commit of that number, counted from 1.
    fn has_begun(&self, commit: usize) -> bool {
        self.progress().begun >= commit
    }

    /// Waits until the commit of that number is near.
    fn wait_for(&self, commit: usize) {
        let far = |progress: &mut Progress| {
            progress.awaited = progress.begun.saturating_add(LEAD) < commit;
            progress.awaited
        };
        drop(self.moved.wait_while(self.progress(), far));
    }

    fn move_to(&self, to: impl Fn(usize) -> usize) {
        let mut progress = self.progress();
        progress.begun = to(progress.begun);
        if progress.awaited {
            self.moved.notify_all();
        }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        // Whoever panicked, these are whole.
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends all when the replay is through, in whatever way, so that nobody waits for it.
pub(super) struct EndOnDrop<'a>(pub &'a [Pace]);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.iter().for_each(Pace::end);
    }
}

/// Reads for a stack, its branches in the order of their replay, until all is read or the replay is
/// through; `None` where something could not be read.
pub(super) fn read_ahead<'a>(
    objects: &mut Objects,
    stack: impl Iterator<Item = &'a BranchReplay>,
    pace: &Pace,
) -> Option<()> {
    let mut grounds: Option<[ObjectId; 2]> = None;
    let mut number = 0;
    for replay in stack {
        for commit in &replay.commits {
            number += 1;
            pace.wait_for(number);
            if grounds.is_some() && pace.has_begun(number) {
                continue;
            }
            let (parent, commit) = trees(objects, *commit)?;
            // What the whole stack stands on, and what it goes onto.
            let grounds = match (&grounds, &replay.onto) {
                (Some(grounds), _) => *grounds,
                (None, Onto::Commit(onto)) => {
                    let target = objects.commit_facts(*onto).ok()?.tree;
                    *grounds.insert([parent?, target])
                }
                (None, Onto::Planned(_)) => return None,
            };
            let mut reading = Reading {
                objects,
                pace,
                number,
            };
            let [base, target] = grounds.map(Some);
            reading.directory([parent, Some(commit)], [base, target], DEPTH)?;
        }
    }
    Some(())
}

/// The trees of a commit's only parent and its own.
fn trees(objects: &mut Objects, commit: ObjectId) -> Option<(Option<ObjectId>, ObjectId)> {
    let commit = objects.commit(commit).ok()?;
    let parent = match commit.parents.as_slice() {
        [parent] => Some(objects.commit_facts(*parent).ok()?.tree),
        _ => None,
    };
    Some((parent, commit.tree))
}

/// Reading for one commit.
struct Reading<'a> {
    objects: &'a mut Objects,
    pace: &'a Pace,
    number: usize,
}

impl Reading<'_> {
    /// Reads a directory where the commit changed it from x to y and the target from `base` to
    /// `target`. Where the target changed nothing, the replay takes y unread.
    fn directory(
        &mut self,
        [x, y]: [Option<ObjectId>; 2],
        [base, target]: [Option<ObjectId>; 2],
        depth: usize,
    ) -> Option<()> {
        if x == y || base == target || depth == 0 || self.pace.has_begun(self.number) {
            return Some(());
        }
        let (x, y) = (self.tree(x)?, self.tree(y)?);
        let (base, target) = (self.tree(base)?, self.tree(target)?);
        for change in x.changes(&y) {
            let base = base.get(change.name).ok()?;
            let target = target.get(change.name).ok()?;
            let sides = [change.old, change.new, target];
            if base == target {
                continue;
            }
            if sides.iter().flatten().all(|item| item.is_tree()) {
                let ids = |items: [Option<Item>; 2]| items.map(|item| item.map(|item| item.id));
                let changed = ids([change.old, change.new]);
                let below = ids([base.filter(|item| item.is_tree()), target]);
                self.directory(changed, below, depth - 1)?;
            } else if sides.iter().all(|item| item.is_some_and(Item::is_file)) {
                for item in sides.iter().flatten() {
                    self.objects.blob(item.id).ok()?;
                }
            }
        }
        Some(())
    }

    fn tree(&mut self, id: Option<ObjectId>) -> Option<Arc<Tree>> {
        match id {
            Some(id) => self.objects.tree(id).ok()?.ok(),
            None => Some(Arc::default()),
        }
    }
}
