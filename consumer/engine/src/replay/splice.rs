//! Splicing: a commit's change put into the trees of what it goes onto, where that is certain to be
//! what git's merge gives.
//!
//! At each entry there are three things: x in the commit's parent, y in the commit, cur in the
//! target. Only entries with x ≠ y are looked at. The conditions, and what could go wrong without:
//!
//! | | condition | else |
//! |---|---|---|
//! | S1 | cur = x: take y | the target changed nothing there |
//! | S2 | x absent: take y where cur is absent or equal; both directories: go in | add/add, file/directory |
//! | S3 | y and cur both absent: for git | either side may have renamed x |
//! | S4 | cur = y: take it for files; for directories only where x to y holds modifications alone | S3 hides inside |
//! | S5 | x and y directories, cur not: for git | the target may have renamed the directory |
//! | S6 | x a directory, y not, cur ≠ x: for git | the commit may have renamed the directory |
//! | S7 | x changed, cur absent: for git | the target may have renamed the file |
//! | S8 | y absent, cur ≠ x: for git | modify/delete, or a rename that carries the target's edit |
//! | S9 | three regular files: mode and content each by itself | merge drivers, see [`attributes`] |
//! | S10 | links, submodules, differing kinds, with cur ≠ x and cur ≠ y: for git | type conflicts |
//! | S11 | three directories: go in; an empty result goes | |
//!
//! Never gives a conflict: what is not certain is [`Stop::ForGit`], for the whole tree, since a
//! rename may tie any two places together.
//!
//! [`attributes`]: super::attributes

use std::sync::Arc;

use backstack_schemas::ObjectId;
use git2::ObjectType;

use super::attributes::{AttributesFile, ContentRules};
use super::objects::Objects;
use super::tree::{Edit, Item, Tree, Unusual};
use super::tree_changes::Change;
use super::xdiff::{self, Content};
use crate::error::EngineError;

/// How deep directories are followed here; each level takes room on the stack. What lies deeper is
/// left to git, which has a limit of its own (`core.maxTreeDepth`).
const DEPTH: usize = 256;

/// Why there is no spliced tree.
#[derive(Debug)]
pub(super) enum Stop {
    /// Git has to merge these trees.
    ForGit,
    /// Objects could not be read or made.
    Failed(EngineError),
}

impl From<EngineError> for Stop {
    fn from(error: EngineError) -> Self {
        Self::Failed(error)
    }
}

impl From<Unusual> for Stop {
    fn from(_: Unusual) -> Self {
        Self::ForGit
    }
}

/// The three sides of a merge at one place, as trees.
#[derive(Clone, Copy)]
struct Sides {
    x: Option<ObjectId>,
    y: Option<ObjectId>,
    cur: Option<ObjectId>,
}

/// Splices the change from `parent` to `commit` into `target`, all three trees; the new tree.
pub(super) fn splice(
    objects: &mut Objects,
    rules: &mut ContentRules,
    contents: bool,
    [parent, commit, target]: [ObjectId; 3],
) -> Result<ObjectId, Stop> {
    let mark = objects.mark();
    let mut splicer = Splicer {
        objects,
        rules,
        contents,
        attributes: Vec::new(),
    };
    let sides = Sides {
        x: Some(parent),
        y: Some(commit),
        cur: Some(target),
    };
    let spliced = splicer.directory(sides);
    match spliced {
        Ok(Some(tree)) => Ok(tree),
        Ok(None) => Ok(objects.add(ObjectType::Tree, Vec::new())?),
        Err(stop) => {
            objects.forget_since(mark);
            Err(stop)
        }
    }
}

struct Splicer<'a> {
    objects: &'a mut Objects,
    rules: &'a mut ContentRules,
    /// Whether files that both sides changed may be merged here.
    contents: bool,
    /// The target's attributes files from the root to the directory at hand.
    attributes: Vec<Arc<AttributesFile>>,
}

impl Splicer<'_> {
    /// The directory with the change made; `None` where nothing is left in it.
    fn directory(&mut self, sides: Sides) -> Result<Option<ObjectId>, Stop> {
        if sides.x == sides.y {
            return Ok(sides.cur);
        }
        if sides.cur == sides.x {
            return Ok(sides.y);
        }
        if self.attributes.len() > DEPTH {
            return Err(Stop::ForGit);
        }
        let (x, y) = (self.tree(sides.x)?, self.tree(sides.y)?);
        let cur = self.tree(sides.cur)?;
        self.rules
            .descend(&mut self.attributes, &cur, self.objects)?;
        let edited = self.edits(&x.changes(&y), &cur);
        self.attributes.pop();
        let edits = edited?;
        if edits.is_empty() {
            return Ok(sides.cur);
        }
        let raw = cur.edited(&edits)?;
        if raw.is_empty() {
            return Ok(None);
        }
        Ok(Some(self.objects.add(ObjectType::Tree, raw)?))
    }

    /// What changes in the target's directory.
    fn edits<'c>(&mut self, changes: &[Change<'c>], cur: &Tree) -> Result<Vec<Edit<'c>>, Stop> {
        let mut edits = Vec::with_capacity(changes.len());
        for change in changes {
            let before = cur.get(change.name)?;
            let after = self.entry(change, before)?;
            if after != before {
                edits.push((change.name, after));
            }
        }
        Ok(edits)
    }

    /// What stands in the target after the change of one entry.
    fn entry(&mut self, change: &Change, cur: Option<Item>) -> Result<Option<Item>, Stop> {
        let (x, y) = (change.old, change.new);
        if cur == x {
            return Ok(y); // S1
        }
        match (x, y, cur) {
            (None, Some(y), Some(cur)) if y == cur => Ok(Some(y)), // S2
            (None, Some(y), Some(cur)) if y.is_tree() && cur.is_tree() => self.inside(None, y, cur),
            (Some(x), Some(y), Some(cur)) if y == cur => self.same_on_both_sides(x, y),
            (Some(x), Some(y), Some(cur)) if x.is_tree() && y.is_tree() && cur.is_tree() => {
                self.inside(Some(x), y, cur) // S11
            }
            (Some(x), Some(y), Some(cur)) if x.is_file() && y.is_file() && cur.is_file() => {
                self.file(change.name, [x, y, cur]).map(Some) // S9
            }
            // S3, S5 to S8, S10, and the clashes of S2.
            _ => Err(Stop::ForGit),
        }
    }

    fn inside(&mut self, x: Option<Item>, y: Item, cur: Item) -> Result<Option<Item>, Stop> {
        let sides = Sides {
            x: x.map(|item| item.id),
            y: Some(y.id),
            cur: Some(cur.id),
        };
        Ok(self.directory(sides)?.map(Item::tree))
    }

    /// S4: the target has made the same change.
    fn same_on_both_sides(&mut self, x: Item, y: Item) -> Result<Option<Item>, Stop> {
        if !x.same_kind(y) || x.is_tree() && !self.only_modified(x.id, y.id, DEPTH)? {
            return Err(Stop::ForGit);
        }
        Ok(Some(y))
    }

    /// Whether between two trees entries changed, but none came, went or became something else,
    /// as far as `depth` levels down.
    fn only_modified(&mut self, x: ObjectId, y: ObjectId, depth: usize) -> Result<bool, Stop> {
        let below = depth.checked_sub(1).ok_or(Stop::ForGit)?;
        let (x, y) = (self.tree(Some(x))?, self.tree(Some(y))?);
        for change in x.changes(&y) {
            let (Some(x), Some(y)) = (change.old, change.new) else {
                return Ok(false);
            };
            if !x.same_kind(y) || x.is_tree() && !self.only_modified(x.id, y.id, below)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// S9: one file that both sides changed, or changed the mode of.
    fn file(&mut self, name: &[u8], [x, y, cur]: [Item; 3]) -> Result<Item, Stop> {
        let mode = if y.mode == x.mode { cur.mode } else { y.mode };
        let id = if y.id == x.id || y.id == cur.id {
            cur.id
        } else if cur.id == x.id {
            y.id
        } else {
            self.content(name, [x.id, cur.id, y.id])?
        };
        Ok(Item { mode, id })
    }

    fn content(&mut self, name: &[u8], [x, cur, y]: [ObjectId; 3]) -> Result<ObjectId, Stop> {
        if !self.contents || !self.rules.is_plain(&self.attributes, name) {
            return Err(Stop::ForGit);
        }
        let (x, cur, y) = (
            self.objects.blob(x)?,
            self.objects.blob(cur)?,
            self.objects.blob(y)?,
        );
        match xdiff::merge(&x, &cur, &y) {
            Content::Clean(merged) => Ok(self.objects.add(ObjectType::Blob, merged)?),
            Content::ForGit => Err(Stop::ForGit),
        }
    }

    fn tree(&mut self, id: Option<ObjectId>) -> Result<Arc<Tree>, Stop> {
        match id {
            Some(id) => Ok(self.objects.tree(id)??),
            None => Ok(Arc::default()),
        }
    }
}
