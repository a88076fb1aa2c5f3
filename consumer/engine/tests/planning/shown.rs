//! Stacks from text and plans to text, so that a test reads as what it says.

use std::collections::BTreeMap;

use backstack_engine::graph::{Stack, StackBranch, Tracked};
use backstack_engine::heal::Healed;
use backstack_engine::plan::{Onto, Plan};
use backstack_schemas::{BranchName, ObjectId};

pub fn name(text: &str) -> BranchName {
    text.parse().unwrap()
}

/// A stack from one line a branch, `branch[<parent] [head] [base=commit] [former=commit,…]`, newest
/// former head first; no head is gone from the remote. Trunk is `main`; `id` looks a commit up.
pub fn stack(text: &str, id: impl Fn(&str) -> ObjectId) -> Stack {
    let mut branches = BTreeMap::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut words = line.split_whitespace();
        let names = words.next().unwrap();
        let (branch, parent) = match names.split_once('<') {
            Some((branch, parent)) => (branch, Some(parent)),
            None => (names, None),
        };
        let mut row = StackBranch::default();
        let mut base = None;
        for word in words {
            if let Some(commit) = word.strip_prefix("base=") {
                base = Some(id(commit));
            } else if let Some(commits) = word.strip_prefix("former=") {
                row.former_heads = commits.split(',').map(&id).collect();
            } else {
                row.head = Some(id(word));
            }
        }
        row.tracked = parent.map(|parent| Tracked {
            parent: name(parent),
            base,
        });
        branches.insert(name(branch), row);
    }
    Stack {
        trunk: name("main"),
        branches,
    }
}

/// A plan, one line a branch: `a: a1 a2 onto T2` or `onto <b>`, `a: (m) a1 onto T2` with what is
/// flattened in brackets, `a stays, base T2`, `a skipped: parent_missing`.
pub fn plan(plan: &Plan, text: impl Fn(ObjectId) -> String) -> String {
    let mut lines = Vec::new();
    for replay in &plan.replays {
        let mut words = vec![format!("{}:", replay.branch)];
        words.extend(replay.flattened.iter().map(|id| format!("({})", text(*id))));
        words.extend(replay.commits.iter().map(|id| text(*id)));
        words.push(match &replay.onto {
            Onto::Commit(id) => format!("onto {}", text(*id)),
            Onto::Planned(branch) => format!("onto <{branch}>"),
        });
        lines.push(words.join(" "));
    }
    for kept in &plan.up_to_date {
        lines.push(format!("{} stays, base {}", kept.branch, text(kept.base)));
    }
    for skipped in &plan.skipped {
        let reason = serde_json::to_value(skipped.reason).unwrap();
        lines.push(format!(
            "{} skipped: {}",
            skipped.branch,
            reason.as_str().unwrap()
        ));
    }
    lines.join("\n")
}

/// Healed children, one line each: `c: b to a, base b1`.
pub fn healed(healed: &[Healed], text: impl Fn(ObjectId) -> String) -> String {
    let base = |h: &Healed| h.base.map_or("none".to_owned(), &text);
    let line = |h: &Healed| format!("{}: {} to {}, base {}", h.branch, h.from, h.to, base(h));
    healed.iter().map(line).collect::<Vec<_>>().join("\n")
}
