//! One branch as the engine and as git left it.

use std::collections::{BTreeMap, HashMap};

use backstack_engine::plan::Plan;
use backstack_engine::replay::Replayed;
use backstack_schemas::BranchName;
use backstack_schemas::outcome::{Conflict, DropReason};
use git2::{ObjectType, Oid, Repository};

use crate::oid;
use crate::reference::Rebased;
use crate::texts::is_latin1;

/// What the engine did, by branch.
pub struct Sides<'a> {
    repo: &'a Repository,
    plan: &'a Plan,
    replayed: &'a Replayed,
    /// New heads, and what they stand on.
    heads: HashMap<&'a BranchName, (Oid, Oid)>,
    conflicts: HashMap<&'a BranchName, &'a Conflict>,
}

impl<'a> Sides<'a> {
    pub fn new(repo: &'a Repository, plan: &'a Plan, replayed: &'a Replayed) -> Self {
        let moved = replayed
            .moved
            .iter()
            .map(|m| (&m.branch, (oid(m.to), oid(m.base))));
        let empty = replayed
            .became_empty
            .iter()
            .map(|e| (&e.branch, (oid(e.onto), oid(e.onto))));
        let unchanged = replayed.unchanged.iter().map(|u| {
            let replay = plan.replays.iter().find(|r| r.branch == u.branch).unwrap();
            (&u.branch, (oid(replay.head), oid(u.base)))
        });
        Self {
            repo,
            plan,
            replayed,
            heads: moved.chain(empty).chain(unchanged).collect(),
            conflicts: replayed.conflicts.iter().map(|c| (&c.branch, c)).collect(),
        }
    }

    pub fn is_conflict(&self, branch: &BranchName) -> bool {
        self.conflicts.contains_key(branch)
    }

    pub fn is_skipped(&self, branch: &BranchName) -> bool {
        self.replayed
            .skipped
            .iter()
            .any(|skipped| skipped.branch == *branch)
    }

    /// Whether the engine refuses a commit of the branch in which git, calling its merge clean,
    /// left conflict markers: a difference on purpose.
    pub fn refuses_markers(&self, branch: &BranchName, rebased: &[Oid]) -> bool {
        let Some(conflict) = self.conflicts.get(branch) else {
            return false;
        };
        let marked = |commit: &Oid| {
            let tree = self.repo.find_commit(*commit).unwrap().tree().unwrap();
            conflict.paths.iter().all(|path| {
                let entry = tree.get_path(path.path.as_ref());
                let blob = entry
                    .ok()
                    .and_then(|entry| self.repo.find_blob(entry.id()).ok());
                blob.is_some_and(|b| b.content().windows(12).any(|w| w == b"<<<<<<< HEAD"))
            })
        };
        rebased.iter().any(marked)
    }

    /// New commits of a branch, oldest first.
    fn commits(&self, head: Oid, base: Oid) -> Vec<Oid> {
        let mut commits = Vec::new();
        let mut at = head;
        while at != base {
            commits.push(at);
            at = self.repo.find_commit(at).unwrap().parent_id(0).unwrap();
        }
        commits.reverse();
        commits
    }

    fn dropped(&self, branch: &BranchName, reason: DropReason) -> Vec<Oid> {
        let dropped = self.replayed.dropped.iter();
        dropped
            .filter(|dropped| dropped.branch == *branch && dropped.reason == reason)
            .map(|dropped| oid(dropped.commit))
            .collect()
    }
}

/// What differs, in sentences.
pub fn compare(sides: &Sides, branch: &BranchName, onto: Oid, rebased: &Rebased) -> Vec<String> {
    match rebased {
        Rebased::Clean {
            head,
            commits,
            dropped,
        } => clean(sides, branch, (onto, *head), commits, dropped),
        Rebased::Conflict { commit, paths } => {
            let Some(ours) = sides.conflicts.get(branch) else {
                return vec![format!(
                    "git conflicts at {commit} in {paths:?}, the engine does not"
                )];
            };
            let kinds: BTreeMap<_, _> = ours
                .paths
                .iter()
                .map(|p| (p.path.clone(), p.kind))
                .collect();
            let mut differences = Vec::new();
            if oid(ours.commit) != *commit {
                differences.push(format!("conflict at {} instead of {commit}", ours.commit));
            } else if paths.is_empty() && !kinds.is_empty() {
                // About directories alone: git leaves no path unmerged, only its messages tell.
            } else if kinds != *paths {
                differences.push(format!("conflict in {kinds:?} instead of {paths:?}"));
            }
            differences
        }
    }
}

fn clean(
    sides: &Sides,
    branch: &BranchName,
    (onto, head): (Oid, Oid),
    commits: &[Oid],
    dropped: &[Oid],
) -> Vec<String> {
    let Some((our_head, our_base)) = sides.heads.get(branch) else {
        return vec![format!(
            "the engine gives {:?}, git is clean",
            sides.conflicts.get(branch)
        )];
    };
    let ours = sides.commits(*our_head, *our_base);
    let mut differences = Vec::new();
    if sides.dropped(branch, DropReason::BecameEmpty) != dropped {
        differences.push(format!("git dropped {dropped:?}"));
    }
    let replay = sides
        .plan
        .replays
        .iter()
        .find(|replay| replay.branch == *branch)
        .unwrap();
    let empty = sides
        .replayed
        .became_empty
        .iter()
        .any(|empty| empty.branch == *branch);
    if empty != (head == onto && !replay.commits.is_empty()) {
        differences.push(format!(
            "became empty: {empty}, but git goes from {onto} to {head}"
        ));
    }
    let flattened: Vec<_> = replay.flattened.iter().map(|id| oid(*id)).collect();
    if sides.dropped(branch, DropReason::MergeFlattened) != flattened
        && oid(replay.head) != *our_head
    {
        differences.push("not all merges are named as flattened".to_owned());
    }
    if ours.len() != commits.len() {
        differences.push(format!(
            "{} commits instead of {}",
            ours.len(),
            commits.len()
        ));
    }
    for (ours, theirs) in ours
        .iter()
        .zip(commits)
        .filter(|(ours, theirs)| ours != theirs)
    {
        let (ours, theirs) = (read(sides.repo, *ours), read(sides.repo, *theirs));
        if ours.tree != theirs.tree {
            differences.push(format!("tree {} instead of {}", ours.tree, theirs.tree));
        }
        if ours.as_rebased() != theirs.text {
            let show = |bytes: &[u8]| bytes.escape_ascii().to_string();
            differences.push(format!(
                "{} instead of {}",
                show(&ours.text),
                show(&theirs.text)
            ));
        }
    }
    differences
}

/// A commit: its tree, and all but tree and parents.
struct Raw {
    tree: String,
    text: Vec<u8>,
}

fn read(repo: &Repository, id: Oid) -> Raw {
    let odb = repo.odb().unwrap();
    let object = odb.read(id).unwrap();
    assert_eq!(object.kind(), ObjectType::Commit);
    let data = object.data();
    let author = data
        .windows(8)
        .position(|window| window == b"\nauthor ")
        .unwrap()
        + 1;
    Raw {
        tree: String::from_utf8_lossy(&data[5..45]).into_owned(),
        text: data[author..].to_vec(),
    }
}

impl Raw {
    /// With the differences on purpose undone: everything in UTF-8, no further headers.
    fn as_rebased(&self) -> Vec<u8> {
        let end = self.text.windows(2).position(|window| window == b"\n\n");
        let (headers, message) = self.text.split_at(end.map_or(self.text.len(), |at| at + 1));
        let lines = headers.split_inclusive(|b| *b == b'\n');
        let kept: Vec<&[u8]> = lines
            .filter(|line| !line.starts_with(b"encoding ") && !line.starts_with(b"change-id "))
            .collect();
        let encoding = headers
            .split(|b| *b == b'\n')
            .find_map(|line| line.strip_prefix(b"encoding "));
        let text = [kept.concat(), message.to_vec()].concat();
        if encoding.is_some_and(is_latin1) {
            return text
                .iter()
                .map(|b| char::from(*b))
                .collect::<String>()
                .into_bytes();
        }
        // What is not UTF-8 is taken for Latin-1, byte by byte.
        let mut fixed = String::new();
        for chunk in text.utf8_chunks() {
            fixed.push_str(chunk.valid());
            fixed.extend(chunk.invalid().iter().map(|b| char::from(*b)));
        }
        fixed.into_bytes()
    }
}
