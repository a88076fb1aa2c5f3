//! One branch's commits replayed, and what that means for the branches above it.

use std::collections::HashMap;

use backstack_schemas::outcome::{Conflict, ConflictPath};
use backstack_schemas::{BranchName, ObjectId};
use git2::ObjectType;

use super::objects::EMPTY_TREE;
use super::read_ahead::Pace;
use super::{Committer, Merge, Merger};
use crate::error::EngineError;
use crate::plan::{BranchReplay, Onto};

/// What became of a branch.
#[derive(Debug)]
pub(super) enum Fate {
    /// Its commits stand on `base`.
    Stands {
        head: ObjectId,
        base: ObjectId,
        dropped: Vec<ObjectId>,
    },
    /// It had commits and none is left.
    Empty {
        into: BranchName,
        onto: ObjectId,
        dropped: Vec<ObjectId>,
    },
    /// One of its commits clashes.
    Conflict(Conflict),
    /// A branch below it clashes.
    ParentConflict,
}

/// Where the branches above one go.
#[derive(Clone, Debug)]
struct Ground {
    head: ObjectId,
    /// The branch whose head that is.
    owner: BranchName,
}

/// Branches that hang together, as far as they have been replayed.
#[derive(Debug, Default)]
pub(super) struct Grove {
    /// `None` for a branch that has no new head since it, or one below it, clashes.
    grounds: HashMap<BranchName, Option<Ground>>,
}

impl Grove {
    /// Replays a branch whose parent, where planned, has been replayed before.
    pub fn replay(
        &mut self,
        merger: &mut Merger,
        replay: &BranchReplay,
        committer: &Committer,
        pace: &Pace,
    ) -> Result<Fate, EngineError> {
        let ground = match &replay.onto {
            Onto::Commit(head) => Some(Ground {
                head: *head,
                owner: replay.parent.clone(),
            }),
            Onto::Planned(parent) => self.grounds.get(parent).cloned().ok_or_else(|| {
                EngineError::Internal(format!("{parent} was not replayed before its children"))
            })?,
        };
        let fate = match &ground {
            Some(ground) => replay_onto(merger, replay, ground, committer, pace)?,
            None => Fate::ParentConflict,
        };
        let above = match &fate {
            Fate::Stands { head, .. } => Some(Ground {
                head: *head,
                owner: replay.branch.clone(),
            }),
            Fate::Empty { .. } => ground,
            Fate::Conflict(_) | Fate::ParentConflict => None,
        };
        self.grounds.insert(replay.branch.clone(), above);
        Ok(fate)
    }
}

/// What became of one commit.
enum Step {
    /// It stands, replayed or as it is.
    Stands(ObjectId),
    /// Its change is there already.
    Dropped,
    /// It clashes.
    Clash(Vec<ConflictPath>),
}

fn replay_onto(
    merger: &mut Merger,
    replay: &BranchReplay,
    ground: &Ground,
    committer: &Committer,
    pace: &Pace,
) -> Result<Fate, EngineError> {
    let onto = ground.head;
    let mark = merger.objects().mark();
    let mut head = onto;
    let mut dropped = Vec::new();
    for commit in &replay.commits {
        pace.next();
        match replay_commit(merger, *commit, head, committer)? {
            Step::Stands(new) => head = new,
            Step::Dropped => dropped.push(*commit),
            Step::Clash(paths) => {
                let ground = merger.objects().commit_facts(onto)?.tree;
                merger.forget_since(mark, ground)?;
                return Ok(Fate::Conflict(Conflict {
                    branch: replay.branch.clone(),
                    commit: *commit,
                    onto,
                    paths,
                }));
            }
        }
    }
    if !replay.commits.is_empty() && dropped.len() == replay.commits.len() {
        let into = ground.owner.clone();
        return Ok(Fate::Empty {
            into,
            onto,
            dropped,
        });
    }
    Ok(Fate::Stands {
        head,
        base: onto,
        dropped,
    })
}

fn replay_commit(
    merger: &mut Merger,
    id: ObjectId,
    head: ObjectId,
    committer: &Committer,
) -> Result<Step, EngineError> {
    merger.control().check()?;
    let commit = merger.objects().commit(id)?;
    let parent = match commit.parents.as_slice() {
        [parent] if *parent == head => return Ok(Step::Stands(id)),
        [parent] => merger.objects().commit_facts(*parent)?.tree,
        [] => EMPTY_TREE,
        _ => {
            let problem = format!("{id} is a merge, which a plan flattens");
            return Err(EngineError::Internal(problem));
        }
    };
    let ground = merger.objects().commit_facts(head)?;
    let tree = match merger.merge_trees(parent, ground.tree, commit.tree)? {
        Merge::Clean(tree) => tree,
        Merge::Conflict(paths) => return Ok(Step::Clash(paths)),
    };
    // A commit that was empty from the start stays, as in a rebase.
    if tree == ground.tree && commit.tree != parent {
        return Ok(Step::Dropped);
    }
    let date = ground.committed_at.unwrap_or(0).max(committer.at_least);
    let new = commit.replayed(tree, head, committer, date);
    Ok(Step::Stands(merger.objects().add(ObjectType::Commit, new)?))
}
