//! What a branch's row says of it, read from the repository.
//!
//! Guarantees: [`head_facts`] reads one commit, so that ten thousand branches cost a listing;
//! [`stack_facts`] reads commits, the directories that differ and the files that differ, never the
//! rest of the repository. Nothing is written.

use std::ops::ControlFlow;

use backstack_schemas::branch::DiffStat;
use backstack_schemas::{ObjectId, Timestamp};
use git2::{ErrorCode, Odb, Oid, Patch, Repository};

use crate::error::EngineError;
use crate::merged::TreeMerger;
use crate::tree_diff::{Changed, Entry, GITLINK, Visitor, oid, walk};

/// Longest subject or author that is kept, in characters.
const MAX_TEXT: usize = 500;
/// Lines of larger files are not counted, as git does not count those of binary files. In bytes.
const MAX_FILE: usize = 8 << 20;
/// Once so many bytes of changed files have been read for one branch, no more lines are counted.
const MAX_READ: usize = 128 << 20;

/// What is shown of a branch's newest commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadFacts {
    /// First line of its message, at most 500 characters; not empty lines. Bytes that are not
    /// UTF-8 are replaced, control characters too.
    pub subject: String,
    /// Its author's name, as `subject`.
    pub author: String,
    /// Its committer time; `None` where the calendar does not reach.
    pub committed_at: Option<Timestamp>,
}

/// How a branch stands to its parent and to trunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackFacts {
    /// Commits that it has and its parent has not.
    pub ahead: u32,
    /// Commits that its parent has and it has not.
    pub behind: u32,
    /// Whether its parent's head is not in it.
    pub needs_restack: bool,
    /// Whether merging it with trunk would conflict; so it is where they have no commit in common.
    pub conflicts_with_trunk: bool,
    /// What it changes against where it left its parent. A renamed file is one gone and one added;
    /// lines of binary files, of files above 8 MiB and beyond the first 128 MiB are not counted.
    pub diff: DiffStat,
}

/// The facts of the commit `head`.
///
/// # Errors
///
/// [`EngineError::Internal`] where there is no such commit.
pub fn head_facts(repo: &Repository, head: ObjectId) -> Result<HeadFacts, EngineError> {
    let commit = repo.find_commit(oid(head)?)?;
    let millis = commit.committer().when().seconds().checked_mul(1_000);
    Ok(HeadFacts {
        subject: first_line(commit.message_bytes()),
        author: first_line(commit.author().name_bytes()),
        committed_at: millis.and_then(Timestamp::from_unix_millis),
    })
}

/// The facts of the branch at `head`, whose parent is at `parent_head` and whose own commits start
/// at `base` as far as is known; trunk is at `trunk_head`.
///
/// # Errors
///
/// `merge`'s; [`EngineError::Internal`] where an object is missing, but for `base`.
pub fn stack_facts(
    repo: &Repository,
    head: ObjectId,
    parent_head: ObjectId,
    base: Option<ObjectId>,
    trunk_head: ObjectId,
    merge: &mut dyn TreeMerger,
) -> Result<StackFacts, EngineError> {
    let (at, parent) = (oid(head)?, oid(parent_head)?);
    let (ahead, behind) = repo.graph_ahead_behind(at, parent)?;
    let start = start(repo, at, parent, base)?;
    Ok(StackFacts {
        ahead: small(ahead),
        behind: small(behind),
        // Were the parent's head in the branch, so would all its history be.
        needs_restack: behind > 0,
        conflicts_with_trunk: conflicts(repo, head, trunk_head, merge)?,
        diff: diff_stat(repo, start, at)?,
    })
}

/// Where the branch left its parent: their merge base, or the recorded base where that is nearer.
fn start(
    repo: &Repository,
    head: Oid,
    parent: Oid,
    base: Option<ObjectId>,
) -> Result<Option<Oid>, EngineError> {
    let fork = merge_base(repo, head, parent)?;
    let Some(base) = base.map(oid).transpose()? else {
        return Ok(fork);
    };
    let within = match repo.find_commit(base) {
        Ok(_) => base == head || repo.graph_descendant_of(head, base)?,
        Err(error) if error.code() == ErrorCode::NotFound => false,
        Err(error) => return Err(error.into()),
    };
    let nearer = match fork {
        Some(fork) => within && fork != base && repo.graph_descendant_of(base, fork)?,
        None => within,
    };
    Ok(if nearer { Some(base) } else { fork })
}

fn conflicts(
    repo: &Repository,
    head: ObjectId,
    trunk: ObjectId,
    merge: &mut dyn TreeMerger,
) -> Result<bool, EngineError> {
    let (at, trunk_at) = (oid(head)?, oid(trunk)?);
    match merge_base(repo, at, trunk_at)? {
        None => Ok(true),
        Some(base) if base == at || base == trunk_at => Ok(false),
        Some(_) => Ok(merge.clean_merge_of_commits(trunk, head)?.is_none()),
    }
}

fn merge_base(repo: &Repository, one: Oid, two: Oid) -> Result<Option<Oid>, EngineError> {
    match repo.merge_base(one, two) {
        Ok(base) => Ok(Some(base)),
        Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What the commit `to` changes against `from`, or against nothing.
fn diff_stat(repo: &Repository, from: Option<Oid>, to: Oid) -> Result<DiffStat, EngineError> {
    let tree = |id| repo.find_commit(id).map(|commit| commit.tree_id());
    let mut counter = Counter {
        odb: repo.odb()?,
        read: 0,
        stat: DiffStat::default(),
    };
    let _never_ended = walk(
        repo,
        from.map(tree).transpose()?,
        Some(tree(to)?),
        &mut counter,
    )?;
    Ok(counter.stat)
}

/// Counts changed files and their lines.
struct Counter<'r> {
    odb: Odb<'r>,
    /// Bytes read so far.
    read: usize,
    stat: DiffStat,
}

impl Visitor for Counter<'_> {
    fn file(&mut self, changed: &Changed<'_>) -> Result<ControlFlow<()>, EngineError> {
        self.stat.files = self.stat.files.saturating_add(1);
        let same = changed.old.map(|e| e.id) == changed.new.map(|e| e.id);
        if !same
            && let Some(old) = self.content(changed.old)?
            && let Some(new) = self.content(changed.new)?
        {
            let patch = Patch::from_buffers(&old, None, &new, None, None)?;
            let (_, insertions, deletions) = patch.line_stats()?;
            self.stat.insertions = self.stat.insertions.saturating_add(small(insertions));
            self.stat.deletions = self.stat.deletions.saturating_add(small(deletions));
        }
        Ok(ControlFlow::Continue(()))
    }
}

impl Counter<'_> {
    /// The content, a submodule's as git's diffs show it; `None` where it is too much to read.
    fn content(&mut self, entry: Option<Entry>) -> Result<Option<Vec<u8>>, EngineError> {
        let Some(entry) = entry else {
            return Ok(Some(Vec::new()));
        };
        if entry.mode == GITLINK {
            return Ok(Some(
                format!("Subproject commit {}\n", entry.id).into_bytes(),
            ));
        }
        let (size, _) = self.odb.read_header(entry.id)?;
        if size > MAX_FILE || self.read + size > MAX_READ {
            return Ok(None);
        }
        self.read += size;
        Ok(Some(self.odb.read(entry.id)?.data().to_vec()))
    }
}

/// The first line that is not blank, fit to be shown.
fn first_line(bytes: &[u8]) -> String {
    let text = bytes
        .split(|b| *b == b'\n')
        .map(<[u8]>::trim_ascii)
        .find(|line| !line.is_empty())
        .unwrap_or_default();
    // No character takes more than four bytes.
    let text = &text[..text.len().min(4 * MAX_TEXT)];
    let shown = |c: char| {
        if c.is_control() {
            char::REPLACEMENT_CHARACTER
        } else {
            c
        }
    };
    let text = String::from_utf8_lossy(text);
    text.chars().take(MAX_TEXT).map(shown).collect()
}

fn small(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_shown_as_one_short_line(bytes in any::<Vec<u8>>(), text in "(?s).{0,600}") {
            for bytes in [bytes.as_slice(), text.as_bytes()] {
                let shown = first_line(bytes);
                prop_assert!(shown.chars().count() <= MAX_TEXT);
                prop_assert!(!shown.contains(|c: char| c.is_control()));
            }
        }
    }
}
