//! What a job did, list by list; an empty list is not mentioned.

use std::borrow::Cow;

use backstack_schemas::BranchName;
use backstack_schemas::outcome::{Conflict, JobResult, Registered, TrunkMoved};

use super::{Screen, clean, count, hint};

/// How many paths of one conflict are shown.
const PATHS_SHOWN: usize = 20;

/// The lines of a report that say what came of the job.
pub(super) fn result_lines(result: &JobResult, dry_run: bool, screen: Screen) -> Vec<String> {
    let moved_title = if dry_run { "would move" } else { "moved" };
    let sections = [
        (screen.bold("trunk moved"), trunk(result, screen)),
        (screen.good(moved_title), moved(result, screen)),
        (screen.good("up to date"), up_to_date(result)),
        (screen.good("registered"), registered(result)),
        (screen.good("merged"), merged(result)),
        (screen.good("new parents"), reparented(result, screen)),
        (screen.bad("conflicts"), conflicts(result, screen)),
        (screen.warn("skipped"), skipped(result, screen)),
        (screen.dim("commits left out"), dropped(result)),
    ];
    let mut lines = Vec::new();
    for (title, items) in sections.into_iter().filter(|(_, items)| !items.is_empty()) {
        lines.push(String::new());
        lines.push(format!("  {title}"));
        lines.extend(items.iter().flat_map(|item| folded(item, screen)));
    }
    if result.truncated {
        lines.push(String::new());
        let cut = screen.fold("  the lists were too long for the row and are cut", 2);
        lines.extend(cut.iter().map(|line| screen.warn(line)));
    }
    lines
}

/// An item in its place; where it is folded, it goes on two columns further in than it begins.
fn folded(item: &str, screen: Screen) -> Vec<String> {
    let own = item.len() - item.trim_start_matches(' ').len();
    screen.fold(&format!("    {item}"), own + 6)
}

fn name(branch: &BranchName) -> Cow<'_, str> {
    clean(branch.as_str())
}

fn trunk(result: &JobResult, screen: Screen) -> Vec<String> {
    let line = |trunk: &TrunkMoved| {
        let from = trunk.from.map_or_else(|| "new".to_owned(), |id| id.short());
        let (branch, arrow) = (name(&trunk.branch), screen.arrow());
        format!("{branch} {from} {arrow} {}", trunk.to.short())
    };
    result.trunk.iter().map(line).collect()
}

fn moved(result: &JobResult, screen: Screen) -> Vec<String> {
    let arrow = screen.arrow();
    let lines = result.moved.iter().map(|moved| {
        let (from, to) = (moved.from.short(), moved.to.short());
        format!("{} {from} {arrow} {to}", name(&moved.branch))
    });
    lines.collect()
}

fn up_to_date(result: &JobResult) -> Vec<String> {
    let names = result.up_to_date.iter().map(name);
    names.map(Cow::into_owned).collect()
}

fn registered(result: &JobResult) -> Vec<String> {
    let line = |new: &Registered| {
        let (branch, parent) = (name(&new.branch), name(&new.parent));
        let (base, head) = (new.base.short(), new.head.short());
        format!("{branch} on {parent}, own commits {base}..{head}")
    };
    result.registered.iter().map(line).collect()
}

fn merged(result: &JobResult) -> Vec<String> {
    let lines = result.merged.iter().map(|merged| {
        let (branch, into) = (name(&merged.branch), name(&merged.into));
        let how = hint::merged(merged.how);
        format!("{branch} into {into}: {how}; no longer tracked")
    });
    lines.collect()
}

fn reparented(result: &JobResult, screen: Screen) -> Vec<String> {
    let arrow = screen.arrow();
    let lines = result.reparented.iter().map(|branch| {
        let (from, to) = (name(&branch.from), name(&branch.to));
        format!("{} {from} {arrow} {to}", name(&branch.branch))
    });
    lines.collect()
}

fn conflicts(result: &JobResult, screen: Screen) -> Vec<String> {
    let lines = result.conflicts.iter();
    lines
        .flat_map(|conflict| conflict_lines(conflict, screen))
        .collect()
}

fn conflict_lines(conflict: &Conflict, screen: Screen) -> Vec<String> {
    let branch = screen.bold(&name(&conflict.branch));
    let (commit, onto) = (conflict.commit.short(), conflict.onto.short());
    let mut lines = vec![format!("{branch}: commit {commit} does not go onto {onto}")];
    let shown = conflict.paths.iter().take(PATHS_SHOWN).map(|path| {
        let how = format!("{:20}", hint::clash(path.kind));
        format!("  {} {}", screen.dim(&how), clean(&path.path))
    });
    lines.extend(shown);
    let hidden = conflict.paths.len().saturating_sub(PATHS_SHOWN);
    if hidden > 0 {
        lines.push(format!(
            "  and {}",
            count(hidden, "more path", "more paths")
        ));
    }
    lines
}

fn skipped(result: &JobResult, screen: Screen) -> Vec<String> {
    let arrow = screen.arrow();
    let lines = result.skipped.iter().map(|skipped| {
        let (why, what_to_do) = hint::skipped(skipped.reason);
        format!("{}: {why} {arrow} {what_to_do}", name(&skipped.branch))
    });
    lines.collect()
}

fn dropped(result: &JobResult) -> Vec<String> {
    let lines = result.dropped_commits.iter().map(|dropped| {
        let (commit, branch) = (dropped.commit.short(), name(&dropped.branch));
        format!("{commit} of {branch}: {}", hint::dropped(dropped.reason))
    });
    lines.collect()
}
