//! The stack: who stands on whom. Pure; it knows heads and parents, not commits.
//!
//! Rows are written by several programs over time, so a stack is taken as it comes: a parent may be
//! unknown or gone from the remote, and parents may even form a ring. Every walk here ends all the
//! same and visits a branch at most once. Trunk is never taken for tracked, whatever its row says.

use std::collections::{BTreeMap, BTreeSet};

use backstack_schemas::{BranchName, ObjectId};

/// A repository's branches as the rows and the newest fetch together tell them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stack {
    /// The branch that stacks stand on; always among `branches`, never tracked.
    pub trunk: BranchName,
    /// Every branch that is on the remote, is tracked, or has a task.
    pub branches: BTreeMap<BranchName, StackBranch>,
}

/// One branch of a [`Stack`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StackBranch {
    /// Its head after the fetch; `None` where it is gone from the remote.
    pub head: Option<ObjectId>,
    /// Heads it had before, newest first, including the recorded one where the fetch moved it.
    pub former_heads: Vec<ObjectId>,
    /// What it stands on, where it is tracked.
    pub tracked: Option<Tracked>,
}

/// What a tracked branch stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracked {
    /// The branch below it: trunk or a tracked branch.
    pub parent: BranchName,
    /// The recorded commit at which its own commits start.
    pub base: Option<ObjectId>,
}

/// Tracked branches by what they stand on, each list in order of name.
type Children<'a> = BTreeMap<&'a BranchName, Vec<&'a BranchName>>;

impl Stack {
    /// The branch's head after the fetch; `None` where it is unknown or gone from the remote.
    pub fn head(&self, branch: &BranchName) -> Option<ObjectId> {
        self.branches.get(branch)?.head
    }

    /// What the branch stands on; `None` where it is not tracked.
    pub fn tracked(&self, branch: &BranchName) -> Option<&Tracked> {
        if *branch == self.trunk {
            return None;
        }
        self.branches.get(branch)?.tracked.as_ref()
    }

    /// The branch below; `None` where it is not tracked.
    pub fn parent(&self, branch: &BranchName) -> Option<&BranchName> {
        self.tracked(branch).map(|tracked| &tracked.parent)
    }

    /// All tracked branches, in order of name.
    pub fn all_tracked(&self) -> impl Iterator<Item = (&BranchName, &Tracked)> {
        self.branches
            .keys()
            .filter_map(|branch| Some((branch, self.tracked(branch)?)))
    }

    /// Whether others may stand on it: it is trunk or tracked.
    pub fn may_be_parent(&self, branch: &BranchName) -> bool {
        *branch == self.trunk || self.tracked(branch).is_some()
    }

    /// The tracked branches that stand on `branch` itself, in order of name.
    pub fn children(&self, branch: &BranchName) -> Vec<&BranchName> {
        self.all_tracked()
            .filter(|(_, tracked)| tracked.parent == *branch)
            .map(|(child, _)| child)
            .collect()
    }

    /// All that stands on `branch`, at any height; parents first, `branch` itself left out.
    pub fn descendants(&self, branch: &BranchName) -> Vec<&BranchName> {
        let mut found = Vec::new();
        climb(&self.by_parent(), branch, &mut BTreeSet::new(), &mut found);
        found.retain(|above| *above != branch);
        found
    }

    /// What `branch` stands on, nearest first, down to trunk or to the first branch that is not
    /// tracked; on a ring it ends before it would repeat itself.
    pub fn ancestors(&self, branch: &BranchName) -> Vec<&BranchName> {
        let mut found: Vec<&BranchName> = Vec::new();
        let mut at = branch;
        while let Some(parent) = self.parent(at) {
            if parent == branch || found.contains(&parent) {
                break;
            }
            found.push(parent);
            at = parent;
        }
        found
    }

    /// All tracked branches, parents first, leaving out [`on_a_ring`](Self::on_a_ring).
    pub fn parents_first(&self) -> Vec<&BranchName> {
        let children = self.by_parent();
        let mut seen = BTreeSet::new();
        let mut found = Vec::new();
        for bottom in children.keys().copied() {
            if self.tracked(bottom).is_none() {
                climb(&children, bottom, &mut seen, &mut found);
            }
        }
        found
    }

    /// Tracked branches that never get down to trunk or to any untracked branch: those whose parents
    /// form a ring, and all that stands on them. In order of name; empty for rows in good order.
    pub fn on_a_ring(&self) -> Vec<&BranchName> {
        let grounded: BTreeSet<_> = self.parents_first().into_iter().collect();
        self.all_tracked()
            .map(|(branch, _)| branch)
            .filter(|branch| !grounded.contains(branch))
            .collect()
    }

    /// Whether putting `branch` onto `parent` would make it stand on itself.
    pub fn would_cycle(&self, branch: &BranchName, parent: &BranchName) -> bool {
        branch == parent || self.ancestors(parent).contains(&branch)
    }

    fn by_parent(&self) -> Children<'_> {
        let mut children = Children::new();
        for (branch, tracked) in self.all_tracked() {
            children.entry(&tracked.parent).or_default().push(branch);
        }
        children
    }
}

/// Collects what stands on `bottom`, parents first. A stack of its own rather than recursion: rows
/// can make a stack as deep as they like.
fn climb<'a>(
    children: &Children<'a>,
    bottom: &BranchName,
    seen: &mut BTreeSet<&'a BranchName>,
    found: &mut Vec<&'a BranchName>,
) {
    let above = |branch| children.get(branch).into_iter().flatten().rev().copied();
    let mut waiting: Vec<&'a BranchName> = above(bottom).collect();
    while let Some(branch) = waiting.pop() {
        if seen.insert(branch) {
            found.push(branch);
            waiting.extend(above(branch));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> BranchName {
        text.parse().unwrap()
    }

    /// A stack from `child<parent` pairs; trunk is `main`.
    fn stack(pairs: &str) -> Stack {
        let mut branches = BTreeMap::from([(name("main"), StackBranch::default())]);
        for pair in pairs.split_whitespace() {
            let (child, parent) = pair.split_once('<').unwrap();
            let tracked = Some(Tracked {
                parent: name(parent),
                base: None,
            });
            branches.entry(name(child)).or_default().tracked = tracked;
        }
        Stack {
            trunk: name("main"),
            branches,
        }
    }

    fn shown(branches: &[&BranchName]) -> String {
        branches
            .iter()
            .map(|b| b.as_str())
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn parents_come_before_children_whatever_their_names() {
        let stack = stack("a<b b<z z<main c<main");
        assert_eq!(shown(&stack.parents_first()), "c z b a");
        assert_eq!(shown(&stack.descendants(&name("z"))), "b a");
        assert_eq!(shown(&stack.ancestors(&name("a"))), "b z main");
        assert_eq!(shown(&stack.children(&name("main"))), "c z");
    }

    #[test]
    fn a_parent_without_a_row_is_a_bottom_like_any_other() {
        let stack = stack("a<lost b<a");
        assert_eq!(shown(&stack.parents_first()), "a b");
        assert_eq!(shown(&stack.ancestors(&name("b"))), "a lost");
        assert!(!stack.may_be_parent(&name("lost")));
    }

    #[test]
    fn a_ring_of_parents_ends_every_walk() {
        let stack = stack("a<b b<c c<a d<a e<main self<self");
        assert_eq!(shown(&stack.parents_first()), "e");
        assert_eq!(shown(&stack.on_a_ring()), "a b c d self");
        assert_eq!(shown(&stack.ancestors(&name("a"))), "b c");
        assert_eq!(shown(&stack.ancestors(&name("d"))), "a b c");
        assert_eq!(shown(&stack.descendants(&name("a"))), "c b d");
        assert_eq!(shown(&stack.descendants(&name("self"))), "");
    }

    #[test]
    fn a_branch_cannot_stand_on_itself_or_its_descendants() {
        let stack = stack("a<main b<a c<b d<main");
        assert!(stack.would_cycle(&name("a"), &name("a")));
        assert!(stack.would_cycle(&name("a"), &name("c")));
        assert!(!stack.would_cycle(&name("c"), &name("a")));
        assert!(!stack.would_cycle(&name("a"), &name("d")));
        assert!(!stack.would_cycle(&name("a"), &name("main")));
    }

    #[test]
    fn trunk_is_not_tracked_even_where_its_row_says_so() {
        let stack = stack("main<a a<main");
        assert_eq!(shown(&stack.parents_first()), "a");
        assert!(stack.on_a_ring().is_empty());
        assert!(stack.tracked(&name("main")).is_none());
    }

    #[test]
    fn a_stack_of_fifty_thousand_is_walked_without_recursion() {
        let mut tall = stack("");
        let at = |i: usize| name(&format!("b{i}"));
        for i in 0..50_000 {
            let parent = if i == 0 { name("main") } else { at(i - 1) };
            let tracked = Some(Tracked { parent, base: None });
            tall.branches.entry(at(i)).or_default().tracked = tracked;
        }
        assert_eq!(tall.parents_first().len(), 50_000);
        assert_eq!(*tall.parents_first()[49_999], at(49_999));
    }
}
