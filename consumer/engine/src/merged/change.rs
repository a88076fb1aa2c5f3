//! What a commit, or a run of commits, changes: compared in three steps, each dearer than the one
//! before, so that nearly all of a long trunk is ruled out by the first.
//!
//! 1. **Paths**: which files it adds, removes and modifies, as a sum of hashes.
//! 2. **Print**: for each of those files, every line of the new version less every line of the old,
//!    as a sum of hashes. Unlike `git patch-id` it knows neither context nor the way a diff lines
//!    up two versions, so that the print of the inverse is the negated print. It is a nomination,
//!    never a proof: moving lines about leaves it zero.
//! 3. **Merge**: done onto the tree before, it gives exactly the tree after.
//!
//! Equal changes always have equal paths and prints; the hashes can only let too much through.

use std::cell::OnceCell;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::ControlFlow;
use std::rc::Rc;

use git2::{Odb, Oid, Repository};

use super::TreeMerger;
use crate::error::EngineError;
use crate::tree_diff::{Changed, Entry, GITLINK, Visitor, object_id, walk};

/// Files above this many bytes are not read to compare changes; see [`Print::Unread`].
const MAX_FILE: usize = 64 << 20;

/// Which files a change adds, removes and modifies; and the same of its inverse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Paths {
    pub count: usize,
    pub forward: u64,
    pub inverse: u64,
}

/// What the changed files' lines sum up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Print {
    /// The sum.
    Lines(u64),
    /// A file is too large to be read for this: nothing is known.
    Unread,
}

/// Whether one change undoes another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Undone {
    /// It gives the tree that undoing gives.
    Exactly,
    /// Undoing conflicts there, so nobody can say.
    Unclear,
    /// It gives another tree.
    No,
}

/// A change from one tree to another.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub from: Oid,
    pub to: Oid,
    pub paths: Paths,
    /// Hashes of the changed files' paths, sorted.
    files: Rc<[u64]>,
    print: OnceCell<Print>,
}

impl Change {
    /// The change between two trees; `None` where they are the same.
    pub fn between(repo: &Repository, from: Oid, to: Oid) -> Result<Option<Self>, EngineError> {
        let mut reader = PathReader::default();
        let _ended = walk(repo, Some(from), Some(to), &mut reader)?;
        Ok((from != to).then(|| Self::known(from, to, reader)))
    }

    /// The change between two trees, unless it touches more than `wanted` does.
    pub fn within(
        repo: &Repository,
        from: Oid,
        to: Oid,
        wanted: &Wanted,
    ) -> Result<Option<Self>, EngineError> {
        let mut reader = PathReader {
            wanted: Some(wanted),
            ..PathReader::default()
        };
        let whole = walk(repo, Some(from), Some(to), &mut reader)?.is_continue();
        Ok((whole && from != to).then(|| Self::known(from, to, reader)))
    }

    fn known(from: Oid, to: Oid, mut reader: PathReader<'_>) -> Self {
        reader.files.sort_unstable();
        Self {
            from,
            to,
            paths: reader.paths,
            files: reader.files.into(),
            print: OnceCell::new(),
        }
    }

    /// Whether this changes no file that `other` does not change as well.
    pub fn touches_within(&self, other: &Self) -> bool {
        self.files.len() <= other.files.len()
            && self
                .files
                .iter()
                .all(|file| other.files.binary_search(file).is_ok())
    }

    /// Whether `other` may be the same change made elsewhere.
    pub fn resembles(&self, other: &Self, repo: &Repository) -> Result<bool, EngineError> {
        if self.paths != other.paths {
            return Ok(false);
        }
        Ok(match (self.print(repo)?, other.print(repo)?) {
            (Print::Lines(mine), Print::Lines(others)) => mine == others,
            _ => false,
        })
    }

    /// Whether `other` may be what undoes this change. What could not be read may.
    pub fn may_be_undone_by(&self, other: &Self, repo: &Repository) -> Result<bool, EngineError> {
        if self.paths.inverse != other.paths.forward {
            return Ok(false);
        }
        Ok(match (self.print(repo)?, other.print(repo)?) {
            (Print::Lines(mine), Print::Lines(others)) => mine.wrapping_neg() == others,
            _ => true,
        })
    }

    /// Whether `other` is exactly this change, made onto the tree that `other` starts from.
    pub fn is_exactly(
        &self,
        other: &Self,
        merge: &mut dyn TreeMerger,
    ) -> Result<bool, EngineError> {
        let merged = apply(merge, self.from, other.from, self.to)?;
        Ok(merged == Some(other.to))
    }

    /// Whether the tree `in_tree` holds this change already, so that making it there changes nothing.
    pub fn is_held_by(
        &self,
        in_tree: Oid,
        merge: &mut dyn TreeMerger,
    ) -> Result<bool, EngineError> {
        Ok(apply(merge, self.from, in_tree, self.to)? == Some(in_tree))
    }

    /// Whether `other` undoes this change.
    pub fn undone_by(
        &self,
        other: &Self,
        merge: &mut dyn TreeMerger,
    ) -> Result<Undone, EngineError> {
        Ok(match apply(merge, self.to, other.from, self.from)? {
            Some(tree) if tree == other.to => Undone::Exactly,
            Some(_) => Undone::No,
            None => Undone::Unclear,
        })
    }

    fn print(&self, repo: &Repository) -> Result<Print, EngineError> {
        if let Some(known) = self.print.get() {
            return Ok(*known);
        }
        let mut reader = PrintReader {
            odb: repo.odb()?,
            sum: 0,
        };
        let print = match walk(repo, Some(self.from), Some(self.to), &mut reader)? {
            ControlFlow::Continue(()) => Print::Lines(reader.sum),
            ControlFlow::Break(()) => Print::Unread,
        };
        Ok(*self.print.get_or_init(|| print))
    }
}

/// The clean tree that the change from `base` to `theirs` gives on `ours`.
fn apply(
    merge: &mut dyn TreeMerger,
    base: Oid,
    ours: Oid,
    theirs: Oid,
) -> Result<Option<Oid>, EngineError> {
    let merged = merge.clean_merge(object_id(base)?, object_id(ours)?, object_id(theirs)?)?;
    merged.map(crate::tree_diff::oid).transpose()
}

/// Paths that some change of interest touches, and how many at most.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    paths: HashSet<u64>,
    most: usize,
}

impl Wanted {
    /// Takes in the paths that `change` touches, and the directories above them.
    pub fn add(&mut self, repo: &Repository, change: &Change) -> Result<(), EngineError> {
        self.most = self.most.max(change.paths.count);
        walk(repo, Some(change.from), Some(change.to), self).map(drop)
    }
}

impl Visitor for Wanted {
    fn directory(&mut self, path: &[u8]) -> ControlFlow<()> {
        self.paths.insert(hash(path));
        ControlFlow::Continue(())
    }

    fn file(&mut self, changed: &Changed<'_>) -> Result<ControlFlow<()>, EngineError> {
        self.paths.insert(hash(changed.path));
        Ok(ControlFlow::Continue(()))
    }
}

/// Sums up paths; ends where one is not wanted.
#[derive(Default)]
struct PathReader<'w> {
    wanted: Option<&'w Wanted>,
    paths: Paths,
    files: Vec<u64>,
}

impl PathReader<'_> {
    fn wants(&self, path: &[u8]) -> ControlFlow<()> {
        match self.wanted {
            Some(wanted)
                if self.paths.count > wanted.most || !wanted.paths.contains(&hash(path)) =>
            {
                ControlFlow::Break(())
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

impl Visitor for PathReader<'_> {
    fn directory(&mut self, path: &[u8]) -> ControlFlow<()> {
        self.wants(path)
    }

    fn file(&mut self, changed: &Changed<'_>) -> Result<ControlFlow<()>, EngineError> {
        let (old, new) = (changed.old.is_some(), changed.new.is_some());
        let term = |was: bool, is: bool| hash(&(changed.path, was, is));
        self.paths.count += 1;
        self.files.push(hash(changed.path));
        self.paths.forward = self.paths.forward.wrapping_add(term(old, new));
        self.paths.inverse = self.paths.inverse.wrapping_add(term(new, old));
        Ok(self.wants(changed.path))
    }
}

/// Sums up the lines of changed files; ends at one that is too large.
struct PrintReader<'r> {
    odb: Odb<'r>,
    sum: u64,
}

impl Visitor for PrintReader<'_> {
    fn file(&mut self, changed: &Changed<'_>) -> Result<ControlFlow<()>, EngineError> {
        let (Some(old), Some(new)) = (self.read(changed.old)?, self.read(changed.new)?) else {
            return Ok(ControlFlow::Break(()));
        };
        let (old_lines, new_lines) = differing_lines(&old, &new);
        let mode = |entry: Option<Entry>| entry.map_or(0, |e| hash(&e.mode));
        let change = sum(new_lines)
            .wrapping_add(mode(changed.new))
            .wrapping_sub(sum(old_lines))
            .wrapping_sub(mode(changed.old));
        // Not weighed by its path: so a rename adds up to nothing, whatever the file holds by then.
        self.sum = self.sum.wrapping_add(change);
        Ok(ControlFlow::Continue(()))
    }
}

impl PrintReader<'_> {
    /// The content; a submodule's is the commit it names. `None` where it is too large.
    fn read(&self, entry: Option<Entry>) -> Result<Option<Vec<u8>>, EngineError> {
        let Some(entry) = entry else {
            return Ok(Some(Vec::new()));
        };
        if entry.mode == GITLINK {
            return Ok(Some(entry.id.as_bytes().to_vec()));
        }
        let (size, _) = self.odb.read_header(entry.id)?;
        if size > MAX_FILE {
            return Ok(None);
        }
        Ok(Some(self.odb.read(entry.id)?.data().to_vec()))
    }
}

/// Both without the whole lines they start and end with alike, which would cancel out.
fn differing_lines<'a>(old: &'a [u8], new: &'a [u8]) -> (&'a [u8], &'a [u8]) {
    let alike = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let start = old[..alike]
        .iter()
        .rposition(|b| *b == b'\n')
        .map_or(0, |newline| newline + 1);
    let (old, new) = (&old[start..], &new[start..]);
    let alike = old
        .iter()
        .rev()
        .zip(new.iter().rev())
        .take_while(|(a, b)| a == b)
        .count();
    let tail = &old[old.len() - alike..];
    let keep = tail
        .iter()
        .position(|b| *b == b'\n')
        .map_or(alike, |n| n + 1);
    let end = alike - keep;
    (&old[..old.len() - end], &new[..new.len() - end])
}

/// The hashes of all lines, added up.
fn sum(content: &[u8]) -> u64 {
    if content.is_empty() {
        return 0;
    }
    let content = content.strip_suffix(b"\n").unwrap_or(content);
    content
        .split(|b| *b == b'\n')
        .fold(0, |sum, line| sum.wrapping_add(hash(line)))
}

fn hash<T: Hash + ?Sized>(value: &T) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn net(old: &[u8], new: &[u8]) -> u64 {
        sum(new).wrapping_sub(sum(old))
    }

    proptest! {
        #[test]
        fn lines_alike_at_both_ends_cancel_out(old in "[ab\n]{0,12}", new in "[ab\n]{0,12}") {
            let (old, new) = (old.as_bytes(), new.as_bytes());
            let (left, right) = differing_lines(old, new);
            prop_assert_eq!(net(left, right), net(old, new));
        }

        #[test]
        fn what_stands_around_a_change_does_not_matter(
            around in "([ab]{0,2}\n){0,4}",
            old in "([ab]{0,2}\n){0,3}",
            new in "([ab]{0,2}\n){0,3}",
        ) {
            let within = |change: &str| format!("{around}{change}{around}");
            let (before, after) = (within(&old), within(&new));
            let (left, right) = differing_lines(before.as_bytes(), after.as_bytes());
            prop_assert_eq!(net(left, right), net(old.as_bytes(), new.as_bytes()));
        }
    }

    #[test]
    fn an_empty_line_counts() {
        assert_ne!(sum(b"\n"), sum(b""));
        assert_ne!(sum(b"a\n\n"), sum(b"a\n"));
        assert_eq!(sum(b"a"), sum(b"a\n"));
    }
}
