//! A repository's branches as text: see [`Remote::draw`](super::Remote::draw) for the notation.
//!
//! The same graph always gives the same text: object ids and dates are not part of it, but for the
//! order of commits that share a subject.

use std::collections::{HashMap, HashSet};

use git2::{BranchType, Oid, Repository};

use super::subject_of;

pub(super) fn draw(git: &Repository, trunk: &str) -> String {
    let graph = Graph::read(git, trunk);
    let lines: Vec<_> = graph
        .branches
        .iter()
        .map(|(name, head)| graph.line(name, *head))
        .collect();
    let labels = graph.labels(&lines);
    let width = lines
        .iter()
        .map(|line| line.branch.chars().count())
        .max()
        .unwrap_or(0);
    lines.iter().map(|line| line.text(width, &labels)).collect()
}

/// What the branches of a repository are, trunk first.
struct Graph<'git> {
    git: &'git Repository,
    branches: Vec<(String, Oid)>,
    /// The first branch in the drawing that has the commit as its head.
    heads: HashMap<Oid, String>,
    trunk: String,
    /// How many first parents a commit of trunk is behind trunk's head.
    behind: HashMap<Oid, usize>,
    /// All that trunk's head reaches.
    in_trunk: HashSet<Oid>,
}

/// One branch: what it stands on, and its own commits, oldest first.
struct Line {
    branch: String,
    base: Base,
    own: Vec<Shown>,
}

/// Where a branch's own commits start.
enum Base {
    /// At a root commit.
    Root,
    /// At a named place: another branch's head, or so far behind trunk's.
    Named(String),
    /// At a commit that trunk got by a merge.
    Merged { trunk: String, commit: Oid },
}

/// A commit, with the other parents of a merge.
struct Shown {
    commit: Oid,
    others: Vec<Oid>,
}

impl<'git> Graph<'git> {
    fn read(git: &'git Repository, trunk: &str) -> Self {
        let branches = branches(git, trunk);
        let mut heads = HashMap::new();
        for (name, head) in &branches {
            heads.entry(*head).or_insert_with(|| name.clone());
        }
        let mut graph = Self {
            git,
            heads,
            trunk: trunk.to_owned(),
            behind: HashMap::new(),
            in_trunk: HashSet::new(),
            branches,
        };
        if let Some((_, head)) = graph.branches.first().filter(|(name, _)| name == trunk) {
            graph.behind = first_parents(git, *head).zip(0..).collect();
            graph.in_trunk = reachable(git, *head);
        }
        graph
    }

    fn line(&self, branch: &str, head: Oid) -> Line {
        let mut own = Vec::new();
        let mut base = Base::Root;
        for commit in first_parents(self.git, head) {
            if let Some(found) = self.base_at(branch, commit) {
                base = found;
                break;
            }
            let found = self.git.find_commit(commit).expect("a commit");
            own.push(Shown {
                commit,
                others: found.parent_ids().skip(1).collect(),
            });
        }
        own.reverse();
        Line {
            branch: branch.to_owned(),
            base,
            own,
        }
    }

    /// What `commit` is to a branch that stands on it; `None` where it is the branch's own.
    fn base_at(&self, branch: &str, commit: Oid) -> Option<Base> {
        if branch == self.trunk {
            return None;
        }
        if let Some(other) = self.heads.get(&commit).filter(|other| *other != branch) {
            return Some(Base::Named(other.clone()));
        }
        if let Some(behind) = self.behind.get(&commit) {
            return Some(Base::Named(format!("{}~{behind}", self.trunk)));
        }
        self.in_trunk.contains(&commit).then(|| Base::Merged {
            trunk: self.trunk.clone(),
            commit,
        })
    }

    /// What each commit is called: its subject, and primes where an older commit has that already.
    fn labels(&self, lines: &[Line]) -> HashMap<Oid, String> {
        let mut same: HashMap<String, Vec<(i64, usize, Oid)>> = HashMap::new();
        let mut seen = HashSet::new();
        let named = lines
            .iter()
            .flat_map(Line::commits)
            .filter(|commit| seen.insert(*commit));
        for (place, oid) in named.enumerate() {
            let commit = self.git.find_commit(oid).expect("a commit");
            let entry = (commit.time().seconds(), place, oid);
            same.entry(subject_of(&commit)).or_default().push(entry);
        }
        let mut labels = HashMap::new();
        for (subject, mut commits) in same {
            commits.sort_unstable();
            for (older, (_, _, oid)) in commits.iter().enumerate() {
                labels.insert(*oid, format!("{subject}{}", "'".repeat(older)));
            }
        }
        labels
    }
}

impl Line {
    /// Every commit that the line names.
    fn commits(&self) -> impl Iterator<Item = Oid> + '_ {
        let base = match &self.base {
            Base::Merged { commit, .. } => Some(*commit),
            Base::Root | Base::Named(_) => None,
        };
        let own = self
            .own
            .iter()
            .flat_map(|shown| std::iter::once(shown.commit).chain(shown.others.iter().copied()));
        base.into_iter().chain(own)
    }

    fn text(&self, width: usize, labels: &HashMap<Oid, String>) -> String {
        let own: Vec<_> = self.own.iter().map(|shown| shown.text(labels)).collect();
        let base = match &self.base {
            Base::Root => String::new(),
            Base::Named(name) => name.clone(),
            Base::Merged { trunk, commit } => format!("{trunk}({})", labels[commit]),
        };
        let what = match (base.as_str(), own.is_empty()) {
            ("", _) => own.join(" "),
            (base, true) => format!("= {base}"),
            (base, false) => format!("{base}: {}", own.join(" ")),
        };
        format!("{:width$}  {what}\n", self.branch)
    }
}

impl Shown {
    fn text(&self, labels: &HashMap<Oid, String>) -> String {
        let mut text = labels[&self.commit].clone();
        if !self.others.is_empty() {
            let others: Vec<_> = self
                .others
                .iter()
                .map(|other| format!("+{}", labels[other]))
                .collect();
            text.push_str(&format!("({})", others.join(" ")));
        }
        text
    }
}

/// Trunk, then the others by name.
fn branches(git: &Repository, trunk: &str) -> Vec<(String, Oid)> {
    let local = git.branches(Some(BranchType::Local)).expect("branches");
    let mut branches: Vec<_> = local
        .map(|branch| {
            let (branch, _) = branch.expect("a branch");
            let name = String::from_utf8_lossy(branch.name_bytes().expect("a name")).into_owned();
            let head = branch.get().peel_to_commit().expect("a commit");
            (name, head.id())
        })
        .collect();
    branches.sort_by_key(|(name, _)| (name != trunk, name.clone()));
    branches
}

/// `from` and its first parents, back to the root.
fn first_parents(git: &Repository, from: Oid) -> impl Iterator<Item = Oid> + '_ {
    std::iter::successors(Some(from), |commit| {
        git.find_commit(*commit)
            .expect("a commit")
            .parent_ids()
            .next()
    })
}

fn reachable(git: &Repository, from: Oid) -> HashSet<Oid> {
    let mut walk = git.revwalk().expect("a walk");
    walk.push(from).expect("a commit");
    walk.map(|commit| commit.expect("an id")).collect()
}
