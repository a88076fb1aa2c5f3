//! The row of a branch, one for each branch on the remote.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::{BranchName, ObjectId, RepoId, TaskId};
use crate::time::Timestamp;

/// How many former heads a row keeps, newest first.
pub const FORMER_HEADS: usize = 16;

/// A branch as last seen on the remote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Branch {
    /// Its repository.
    pub repo: RepoId,
    /// Its name.
    pub branch: BranchName,
    /// Its head; null while it is gone from the remote.
    pub head: Option<ObjectId>,
    /// Whether it is the repository's trunk.
    pub is_trunk: bool,
    /// Whether it is part of a stack; then it has a parent.
    pub tracked: bool,
    /// The branch it stands on.
    pub parent: Option<BranchName>,
    /// Where its own commits start: the parent's head that it was last known to stand on.
    pub base: Option<ObjectId>,
    /// Commits that it has and its parent has not; null where it is neither tracked nor a task's.
    pub ahead: Option<u32>,
    /// Commits that its parent has and it has not; null as `ahead`.
    pub behind: Option<u32>,
    /// Whether its parent's head is not in it; null as `ahead`.
    pub needs_restack: Option<bool>,
    /// Whether merging it with trunk would conflict; null as `ahead`.
    pub conflicts_with_trunk: Option<bool>,
    /// What it changes against where it left its parent; null as `ahead`.
    pub diff: Option<DiffStat>,
    /// First line of its newest commit's message.
    pub subject: Option<String>,
    /// Name of its newest commit's author.
    pub author: Option<String>,
    /// Committer time of its newest commit.
    pub committed_at: Option<Timestamp>,
    /// The task it belongs to.
    pub task_id: Option<TaskId>,
    /// Heads it had before, newest first, at most [`FORMER_HEADS`].
    #[serde(default)]
    pub former_heads: Vec<ObjectId>,
    /// When it was first seen.
    pub first_seen_at: Timestamp,
    /// When this row last changed.
    pub updated_at: Timestamp,
}

impl Branch {
    /// The row of a branch that is on the remote and of which nothing else is known yet.
    pub fn new(repo: RepoId, branch: BranchName, head: ObjectId, at: Timestamp) -> Self {
        Self {
            repo,
            branch,
            head: Some(head),
            is_trunk: false,
            tracked: false,
            parent: None,
            base: None,
            ahead: None,
            behind: None,
            needs_restack: None,
            conflicts_with_trunk: None,
            diff: None,
            subject: None,
            author: None,
            committed_at: None,
            task_id: None,
            former_heads: Vec::new(),
            first_seen_at: at,
            updated_at: at,
        }
    }

    /// Whether the row is kept when the branch goes from the remote, and costs what a listing does
    /// not show: it is part of a stack or belongs to a task.
    pub fn is_kept(&self) -> bool {
        self.tracked || self.task_id.is_some()
    }

    /// Records a new head and keeps the old one among the former heads.
    pub fn move_head(&mut self, to: Option<ObjectId>) {
        if self.head == to {
            return;
        }
        if let Some(old) = self.head {
            self.former_heads.retain(|head| *head != old);
            self.former_heads.insert(0, old);
            self.former_heads.truncate(FORMER_HEADS);
        }
        self.head = to;
    }
}

/// What a branch changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DiffStat {
    /// Files touched.
    pub files: u32,
    /// Lines added.
    pub insertions: u32,
    /// Lines removed.
    pub deletions: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn former_heads_are_newest_first_without_repeats_and_bounded() {
        let at = Timestamp::from_unix_millis(0).unwrap();
        let id = |n: u8| ObjectId::from_bytes([n; 20]);
        let mut row = Branch::new("web".parse().unwrap(), "a".parse().unwrap(), id(0), at);
        row.move_head(Some(id(0)));
        assert!(row.former_heads.is_empty(), "staying is not moving");
        row.move_head(Some(id(1)));
        row.move_head(Some(id(0)));
        row.move_head(Some(id(1)));
        assert_eq!(row.former_heads, [id(0), id(1)]);
        for n in 2..30 {
            row.move_head(Some(id(n)));
        }
        assert_eq!(row.former_heads.len(), FORMER_HEADS);
        assert_eq!(row.former_heads[0], id(28));
    }
}
