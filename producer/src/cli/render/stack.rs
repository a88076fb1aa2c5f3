//! The branches of a repository as a tree, trunk at the top, each with its state.

use std::collections::{BTreeMap, BTreeSet};

use backstack_schemas::{Branch, BranchName, Repository, Timestamp};
use console::measure_text_width;

use super::repo::sync_words;
use super::{Screen, clean, count};

/// A branch of the tree, with what is drawn before its name.
struct Line<'a> {
    lead: String,
    name: String,
    row: Option<&'a Branch>,
}

/// The tree of the tracked branches, under the repository's name, above a summary.
pub fn stack_tree(
    repo: &Repository,
    branches: &[Branch],
    screen: Screen,
    now: Timestamp,
) -> String {
    let tree = Tree::new(branches);
    let mut lines = vec![heading(repo, &tree, screen, now), String::new()];
    lines.extend(draw(&tree.lines(repo.trunk.as_ref(), screen), screen));
    lines.push(String::new());
    lines.extend(summary(repo, &tree, screen));
    lines.join("\n")
}

fn heading(repo: &Repository, tree: &Tree<'_>, screen: Screen, now: Timestamp) -> String {
    let tracked = count(tree.tracked.len(), "tracked branch", "tracked branches");
    format!(
        "{}  {}",
        screen.bold(repo.repo.as_str()),
        screen.dim(&format!(
            "{tracked}, {}",
            sync_words(repo, Screen::plain(), now)
        ))
    )
}

/// The rows by what is drawn with them.
struct Tree<'a> {
    tracked: BTreeMap<&'a BranchName, &'a Branch>,
    children: BTreeMap<&'a BranchName, Vec<&'a Branch>>,
    trunk: Option<&'a Branch>,
    others: usize,
}

impl<'a> Tree<'a> {
    fn new(branches: &'a [Branch]) -> Self {
        let mut tree = Self {
            tracked: BTreeMap::new(),
            children: BTreeMap::new(),
            trunk: branches.iter().find(|row| row.is_trunk),
            others: 0,
        };
        for row in branches {
            if row.tracked {
                tree.tracked.insert(&row.branch, row);
            } else if !row.is_trunk {
                tree.others += 1;
            }
        }
        for row in tree.tracked.values() {
            if let Some(parent) = &row.parent {
                tree.children.entry(parent).or_default().push(row);
            }
        }
        tree
    }

    /// Every tracked branch exactly once: under trunk, else under a parent that is not tracked.
    fn lines(&self, trunk: Option<&'a BranchName>, screen: Screen) -> Vec<Line<'a>> {
        let mut lines = Vec::new();
        let mut drawn = BTreeSet::new();
        let trunk_name = self.trunk.map(|row| &row.branch).or(trunk);
        if let Some(name) = trunk_name {
            self.root(name, self.trunk, "", screen, &mut lines, &mut drawn);
        }
        let elsewhere: Vec<_> = self.children.keys().copied().collect();
        for parent in elsewhere {
            if Some(parent) != trunk_name && !self.tracked.contains_key(parent) {
                self.root(
                    parent,
                    None,
                    " (not tracked)",
                    screen,
                    &mut lines,
                    &mut drawn,
                );
            }
        }
        // Rows that name each other as parents, or no parent at all: never lost, whatever wrote them.
        for row in self.tracked.values() {
            if !drawn.contains(&row.branch) {
                self.root(&row.branch, Some(row), "", screen, &mut lines, &mut drawn);
            }
        }
        lines
    }

    fn root(
        &self,
        name: &'a BranchName,
        row: Option<&'a Branch>,
        remark: &str,
        screen: Screen,
        lines: &mut Vec<Line<'a>>,
        drawn: &mut BTreeSet<&'a BranchName>,
    ) {
        drawn.insert(name);
        lines.push(Line {
            lead: String::new(),
            name: format!("{}{remark}", clean(name.as_str())),
            row,
        });
        self.under(name, screen, lines, drawn);
    }

    /// The branches above `root`, depth first, without recursion: a stack may be thousands deep.
    fn under(
        &self,
        root: &BranchName,
        screen: Screen,
        lines: &mut Vec<Line<'a>>,
        drawn: &mut BTreeSet<&'a BranchName>,
    ) {
        let (tee, corner, bar) = (
            screen.sign("├── ", "|-- "),
            screen.sign("└── ", "`-- "),
            screen.sign("│   ", "|   "),
        );
        let mut open = Vec::new();
        self.push_children(root, "", &mut open);
        while let Some((row, indent, is_last)) = open.pop() {
            if !drawn.insert(&row.branch) {
                continue;
            }
            lines.push(Line {
                lead: format!("{indent}{}", if is_last { corner } else { tee }),
                name: clean(row.branch.as_str()).into_owned(),
                row: Some(row),
            });
            let deeper = format!("{indent}{}", if is_last { "    " } else { bar });
            self.push_children(&row.branch, &deeper, &mut open);
        }
    }

    fn push_children(
        &self,
        parent: &BranchName,
        indent: &str,
        open: &mut Vec<(&'a Branch, String, bool)>,
    ) {
        let children = self.children.get(parent).map_or(&[][..], Vec::as_slice);
        for (i, row) in children.iter().enumerate().rev() {
            open.push((row, indent.to_owned(), i + 1 == children.len()));
        }
    }
}

/// The lines with their columns lined up: tree, state, distance, head and subject.
fn draw(lines: &[Line<'_>], screen: Screen) -> Vec<String> {
    let cells = lines.iter().map(|line| {
        let tree = format!("{}{}", line.lead, line.name);
        let (state, distance) = line.row.filter(|row| row.tracked).map_or_else(
            || (String::new(), String::new()),
            |row| (state(row, screen), distance(row)),
        );
        (tree, state, distance)
    });
    let cells: Vec<_> = cells.collect();
    let widest = |texts: &mut dyn Iterator<Item = &String>| {
        texts
            .map(|text| measure_text_width(text))
            .max()
            .unwrap_or(0)
    };
    let first = widest(&mut cells.iter().map(|(tree, _, _)| tree));
    let second = widest(&mut cells.iter().map(|(_, state, _)| state));
    let third = widest(&mut cells.iter().map(|(_, _, distance)| distance));
    let line = |(line, (tree, state, distance)): (&Line<'_>, &(String, String, String))| {
        let gap = |text: &str, width: usize| " ".repeat(width - measure_text_width(text) + 2);
        let text = format!(
            "{}{}{}{state}{}{}{}{}",
            screen.dim(&line.lead),
            screen.bold(&line.name),
            gap(tree, first),
            gap(state, second),
            screen.dim(distance),
            gap(distance, third),
            tip(line.row, screen),
        );
        screen.fit(text.trim_end())
    };
    lines.iter().zip(&cells).map(line).collect()
}

/// Where a branch stands, the most pressing first.
fn state(row: &Branch, screen: Screen) -> String {
    if row.head.is_none() {
        let text = format!("{} gone from the remote", screen.sign("○", "o"));
        return screen.warn(&text);
    }
    let mut words = Vec::new();
    if row.needs_restack == Some(true) {
        words.push("needs restack");
    }
    if row.conflicts_with_trunk == Some(true) {
        words.push("conflicts with trunk");
    }
    let conflicts = row.conflicts_with_trunk == Some(true);
    match (words.is_empty(), conflicts) {
        (_, true) => screen.bad(&format!("{} {}", screen.sign("✗", "x"), words.join(", "))),
        (false, false) => screen.warn(&format!("{} {}", screen.sign("▲", "!"), words.join(", "))),
        (true, false) if row.needs_restack.is_none() => {
            screen.dim(&format!("{} not known yet", screen.sign("·", ".")))
        }
        (true, false) => screen.good(&format!("{} up to date", screen.sign("●", "*"))),
    }
}

/// Commits ahead of and behind the parent: `+2 -1`.
fn distance(row: &Branch) -> String {
    let ahead = row.ahead.map(|n| format!("+{n}"));
    let behind = row.behind.filter(|n| *n > 0).map(|n| format!("-{n}"));
    let both: Vec<_> = ahead.into_iter().chain(behind).collect();
    both.join(" ")
}

/// The newest commit: its id and first line.
fn tip(row: Option<&Branch>, screen: Screen) -> String {
    let Some(row) = row else {
        return String::new();
    };
    let id = row.head.map(|head| screen.dim(&head.short()));
    let subject = row.subject.as_deref().map(|text| clean(text).into_owned());
    let both: Vec<_> = id.into_iter().chain(subject).collect();
    both.join(" ")
}

/// What there is to do, and what is not in the picture.
fn summary(repo: &Repository, tree: &Tree<'_>, screen: Screen) -> Vec<String> {
    let name = &repo.repo;
    let mut lines = Vec::new();
    let stale = tree
        .tracked
        .values()
        .filter(|row| row.needs_restack == Some(true))
        .count();
    if stale > 0 {
        let (are, need) = (
            count(stale, "branch", "branches"),
            if stale == 1 { "needs" } else { "need" },
        );
        lines.push(format!(
            "{are} {need} a restack: backstack restack {name} --wait"
        ));
    }
    if tree.others > 0 {
        let others = count(tree.others, "other branch is", "other branches are");
        let text = format!("{others} not tracked: backstack register {name} <branch>");
        lines.push(screen.dim(&text));
    }
    if tree.tracked.is_empty() && tree.others == 0 {
        let text = if repo.sync.synced_at.is_some() {
            format!("no branches but trunk; push one, then: backstack register {name} <branch>")
        } else {
            format!("nothing is known of its branches yet: backstack sync {name} --wait")
        };
        lines.push(text);
    }
    lines
}

#[cfg(test)]
mod tests {
    use backstack_schemas::{Sync, SyncStatus};

    use super::super::fixtures::{at, id};
    use super::*;

    fn row(name: &str, parent: Option<&str>) -> Branch {
        Branch {
            repo: "web".parse().unwrap(),
            branch: name.parse().unwrap(),
            head: Some(id(u8::try_from(name.len()).unwrap())),
            is_trunk: false,
            tracked: parent.is_some(),
            parent: parent.map(|parent| parent.parse().unwrap()),
            base: None,
            ahead: parent.map(|_| 2),
            behind: parent.map(|_| 0),
            needs_restack: parent.map(|_| false),
            conflicts_with_trunk: parent.map(|_| false),
            diff: None,
            subject: Some(format!("Work on {name}")),
            author: None,
            committed_at: None,
            task_id: None,
            former_heads: vec![],
            first_seen_at: at(0),
            updated_at: at(0),
        }
    }

    fn web() -> Repository {
        Repository {
            sync: Sync {
                status: SyncStatus::Synced,
                synced_at: Some(at(0)),
                ..Sync::default()
            },
            ..Repository::new(
                "web".parse().unwrap(),
                "https://git.example/web.git".parse().unwrap(),
                Some("main".parse().unwrap()),
                at(0),
            )
        }
    }

    fn sample() -> Vec<Branch> {
        vec![
            Branch {
                is_trunk: true,
                ..row("main", None)
            },
            row("feature-a", Some("main")),
            Branch {
                needs_restack: Some(true),
                behind: Some(1),
                ..row("feature-b", Some("feature-a"))
            },
            Branch {
                needs_restack: Some(true),
                conflicts_with_trunk: Some(true),
                behind: Some(3),
                subject: Some("Rework \u{1b}[2Jeverything".to_owned()),
                ..row("feature-c", Some("feature-b"))
            },
            row("fix/a.b", Some("feature-a")),
            Branch {
                head: None,
                ..row("docs", Some("main"))
            },
            row("orphan", Some("deleted")),
            row("wip", None),
            row("wip2", None),
        ]
    }

    #[test]
    fn the_stack_as_a_tree() {
        insta::assert_snapshot!(stack_tree(&web(), &sample(), Screen::plain(), at(12)), @r"
        web  6 tracked branches, synced 12s ago

        main                                                                 04040404 Work on main
        ├── docs               ○ gone from the remote                 +2     Work on docs
        └── feature-a          ● up to date                           +2     09090909 Work on feature-a
            ├── feature-b      ▲ needs restack                        +2 -1  09090909 Work on feature-b
            │   └── feature-c  ✗ needs restack, conflicts with trunk  +2 -3  09090909 Rework �[2Jeverything
            └── fix/a.b        ● up to date                           +2     07070707 Work on fix/a.b
        deleted (not tracked)
        └── orphan             ● up to date                           +2     06060606 Work on orphan

        2 branches need a restack: backstack restack web --wait
        2 other branches are not tracked: backstack register web <branch>
        ");
    }

    #[test]
    fn the_same_in_ascii_and_cut_to_the_screen() {
        let screen = Screen {
            colour: false,
            unicode: false,
            width: Some(60),
        };
        insta::assert_snapshot!(stack_tree(&web(), &sample(), screen, at(12)), @r"
        web  6 tracked branches, synced 12s ago

        main                                                       ~
        |-- docs               o gone from the remote              ~
        `-- feature-a          * up to date                        ~
            |-- feature-b      ! needs restack                     ~
            |   `-- feature-c  x needs restack, conflicts with trun~
            `-- fix/a.b        * up to date                        ~
        deleted (not tracked)
        `-- orphan             * up to date                        ~

        2 branches need a restack: backstack restack web --wait
        2 other branches are not tracked: backstack register web <branch>
        ");
    }

    #[test]
    fn a_repository_without_branches_says_what_to_do() {
        let new = Repository {
            sync: Sync::default(),
            ..web()
        };
        insta::assert_snapshot!(stack_tree(&new, &[], Screen::plain(), at(12)), @r"
        web  0 tracked branches, never synced

        main

        nothing is known of its branches yet: backstack sync web --wait
        ");
    }

    #[test]
    fn rows_that_name_each_other_as_parents_are_drawn_once_each() {
        let rows = [row("a", Some("b")), row("b", Some("a"))];
        let text = stack_tree(&web(), &rows, Screen::plain(), at(12));
        assert_eq!(text.matches("Work on a").count(), 1, "{text}");
        assert_eq!(text.matches("Work on b").count(), 1, "{text}");
    }
}
