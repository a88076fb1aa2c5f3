//! A history drawn in text, for rules about commits without a repository.
//!
//! One line is a chain, oldest first: `T0 T1 a1` makes `a1` stand on `T1` and `T1` on `T0`; a commit
//! that was drawn before is only pointed at. `m(a1+T1)` is a merge. A quote marks another version: `a1'` is `a1`
//! rewritten, with its author and date; so is `a1~` with whatever follows. A merge whose name ends in `!` has changes made by hand.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use backstack_engine::EngineError;
use backstack_engine::graph::Stack;
use backstack_engine::heal::{self, Healed};
use backstack_engine::history::{CommitFacts, History};
use backstack_engine::plan::{self, Goal, PlanError};
use backstack_engine::register::{self, Registration};
use backstack_schemas::ObjectId;

use crate::shown;

/// The id of a drawn commit: its name.
pub fn id(name: &str) -> ObjectId {
    let mut bytes = [0; 20];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    ObjectId::from_bytes(bytes)
}

/// The name that a drawn commit's id is.
pub fn text(id: ObjectId) -> String {
    String::from_utf8(id.as_bytes().to_vec())
        .unwrap()
        .trim_end_matches('\0')
        .to_owned()
}

/// Commits by id.
#[derive(Default)]
pub struct Drawn {
    commits: HashMap<ObjectId, Rc<CommitFacts>>,
}

impl Drawn {
    pub fn new(drawing: &str) -> Self {
        let mut drawn = Self::default();
        for line in drawing.lines() {
            let mut below = Vec::new();
            for word in line.split_whitespace() {
                let (name, parents) = match word.split_once('(') {
                    Some((name, merged)) => {
                        let merged = merged.trim_end_matches(')').split('+');
                        (name, merged.map(id).collect())
                    }
                    None => (word, below),
                };
                drawn.add(name, parents);
                below = vec![id(name)];
            }
        }
        drawn
    }

    /// Adds a commit, unless it is there.
    pub fn add(&mut self, name: &str, parents: Vec<ObjectId>) {
        self.add_with_tree(name, parents, id(name));
    }

    pub fn add_with_tree(&mut self, name: &str, parents: Vec<ObjectId>, tree: ObjectId) {
        let author = name.split(['\'', '~', '!']).next().unwrap_or(name);
        let facts = CommitFacts {
            parents,
            tree,
            author: format!("{author} <{author}@example.com> 1700000000 +0000").into_bytes(),
            subject: author.as_bytes().to_vec(),
        };
        self.commits.entry(id(name)).or_insert(Rc::new(facts));
    }

    fn history_of(&self, head: ObjectId) -> HashSet<ObjectId> {
        let mut seen = HashSet::new();
        let mut waiting = vec![head];
        while let Some(id) = waiting.pop() {
            if let Some(commit) = self.commits.get(&id)
                && seen.insert(id)
            {
                waiting.extend(&commit.parents);
            }
        }
        seen
    }

    /// Parents before children, first parents first.
    fn visit(&self, at: ObjectId, within: &mut HashSet<ObjectId>, found: &mut Vec<ObjectId>) {
        if within.remove(&at) {
            for parent in &self.commits[&at].parents {
                self.visit(*parent, within, found);
            }
            found.push(at);
        }
    }

    /// Plans over this history, shown as text; a refusal as its code.
    pub fn plan(&self, stack: &str, goal: &Goal) -> String {
        match plan::plan(&shown::stack(stack, id), goal, self) {
            Ok(plan) => shown::plan(&plan, text),
            Err(error) => code(error),
        }
    }

    pub fn register(&self, stack: &str, branch: &str, parent: &str, base: &str) -> String {
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let parent = given(parent).map(|parent| shown::name(&parent));
        let base = given(base).map(|base| id(&base));
        let stack = shown::stack(stack, id);
        let branch = shown::name(branch);
        match register::register(&stack, &branch, parent.as_ref(), base, self) {
            Ok(Registration { head, parent, base }) => {
                format!("{} on {parent}, base {}", text(head), text(base))
            }
            Err(error) => code(error),
        }
    }

    pub fn untrack(&self, stack: &mut Stack, branch: &str) -> Vec<Healed> {
        heal::untrack(stack, &shown::name(branch), self).unwrap()
    }
}

fn code(error: PlanError) -> String {
    match error {
        PlanError::Refused(refusal) => refusal.code().to_string(),
        PlanError::Engine(error) => panic!("{error}"),
    }
}

impl History for Drawn {
    fn is_ancestor(&self, ancestor: ObjectId, descendant: ObjectId) -> Result<bool, EngineError> {
        Ok(self.history_of(descendant).contains(&ancestor))
    }

    fn merge_bases(&self, one: ObjectId, two: ObjectId) -> Result<Vec<ObjectId>, EngineError> {
        let other = self.history_of(two);
        let common = self
            .history_of(one)
            .into_iter()
            .filter(|id| other.contains(id));
        let common: Vec<_> = common.collect();
        let best = |id: &ObjectId| {
            let above = |other: &ObjectId| other != id && self.history_of(*other).contains(id);
            !common.iter().any(above)
        };
        Ok(common.iter().copied().filter(best).collect())
    }

    fn above(
        &self,
        heads: &[ObjectId],
        hidden: &[ObjectId],
    ) -> Result<HashSet<ObjectId>, EngineError> {
        let all_of = |ids: &[ObjectId]| ids.iter().flat_map(|id| self.history_of(*id)).collect();
        let hidden: HashSet<ObjectId> = all_of(hidden);
        let mut within: HashSet<ObjectId> = all_of(heads);
        within.retain(|id| !hidden.contains(id));
        Ok(within)
    }

    fn reachable(&self, head: ObjectId, hidden: &[ObjectId]) -> Result<Vec<ObjectId>, EngineError> {
        let mut within = self.above(&[head], hidden)?;
        let mut found = Vec::new();
        self.visit(head, &mut within, &mut found);
        Ok(found)
    }

    fn commit(&self, id: ObjectId) -> Result<Option<Rc<CommitFacts>>, EngineError> {
        Ok(self.commits.get(&id).cloned())
    }

    fn merge_is_automatic(&self, merge: ObjectId) -> Result<bool, EngineError> {
        Ok(!text(merge).ends_with('!'))
    }
}
