//! What the demo claims, asked of git and of the rows. A claim that does not hold ends the demo.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use backstack_schemas::{Branch, Job, JobStatus};

use super::remote::{Heads, Remote};
use super::sample;

/// The stack as it has to be: what every tracked branch stands on, and its own commits.
#[derive(Debug)]
pub(super) struct Expected(BTreeMap<&'static str, Stands>);

#[derive(Debug)]
struct Stands {
    parent: &'static str,
    subjects: Vec<&'static str>,
}

impl Expected {
    /// The sample as it is pushed.
    pub(super) fn sample() -> Self {
        let stands = |line: &sample::Line| Stands {
            parent: line.parent,
            subjects: line.commits.iter().map(|work| work.subject).collect(),
        };
        let branches = sample::BRANCHES.iter();
        Self(branches.map(|line| (line.branch, stands(line))).collect())
    }

    /// From now on `branch` stands on another.
    pub(super) fn moves_onto(&mut self, branch: &str, parent: &'static str) {
        if let Some(stands) = self.0.get_mut(branch) {
            stands.parent = parent;
        }
    }

    /// From now on `branch` has one commit more.
    pub(super) fn grows(&mut self, branch: &str, subject: &'static str) {
        if let Some(stands) = self.0.get_mut(branch) {
            stands.subjects.push(subject);
        }
    }

    /// From now on `branch` is in no stack.
    pub(super) fn leaves(&mut self, branch: &str) {
        self.0.remove(branch);
    }

    /// The tracked branches.
    pub(super) fn branches(&self) -> Vec<&'static str> {
        self.0.keys().copied().collect()
    }

    /// Whether the rows tell just these branches, on these parents, at the heads that the remote has.
    pub(super) fn check_rows(&self, remote: &Remote, rows: &[Branch]) -> Result<()> {
        let heads = remote.heads()?;
        for row in rows {
            let name = row.branch.as_str();
            let head = row.head.map(|head| head.to_string());
            ensure!(
                head.as_ref() == heads.get(name),
                "the row of {name} has another head than the remote"
            );
            let parent = row.parent.as_ref().map(|parent| parent.as_str());
            let expected = self.0.get(name).map(|stands| stands.parent);
            ensure!(
                parent == expected,
                "{name} stands on {parent:?} in its row, not on {expected:?}"
            );
        }
        ensure!(
            rows.len() == heads.len(),
            "{} rows for {} branches",
            rows.len(),
            heads.len()
        );
        Ok(())
    }

    /// Whether every one of `branches` stands on its parent's head on the remote, with just its own
    /// commits.
    pub(super) fn check_remote(&self, remote: &Remote, branches: &[&str]) -> Result<()> {
        for branch in branches {
            let stands = self
                .0
                .get(branch)
                .with_context(|| format!("{branch} is in no stack"))?;
            let parent = stands.parent;
            ensure!(
                remote.stands_on(branch, parent)?,
                "{branch} does not stand on {parent}"
            );
            let own = remote.own_subjects(parent, branch)?;
            ensure!(
                own == stands.subjects,
                "{branch} has the commits {own:?} on {parent}"
            );
        }
        Ok(())
    }
}

/// Whether the job is done, and pushed just these branches.
pub(super) fn completed(job: &Job, moved: &[&str]) -> Result<()> {
    ensure!(
        job.status == JobStatus::Completed,
        "{} ended as {}: {}",
        job.spec.action,
        job.status,
        job.message
    );
    check_moved(job, moved)
}

/// Whether the job pushed just these branches.
pub(super) fn check_moved(job: &Job, expected: &[&str]) -> Result<()> {
    let result = job.result.as_ref();
    let moved = result.map_or(&[][..], |result| &result.moved);
    let moved: BTreeSet<_> = moved.iter().map(|moved| moved.branch.as_str()).collect();
    let expected: BTreeSet<_> = expected.iter().copied().collect();
    ensure!(
        moved == expected,
        "{} moved {moved:?}, not {expected:?}",
        job.spec.action
    );
    Ok(())
}

/// Whether between the two all branches but `moved` stayed where they were, and those did not.
pub(super) fn only_moved(before: &Heads, after: &Heads, moved: &[&str]) -> Result<()> {
    for (branch, head) in before {
        let stayed = after.get(branch) == Some(head);
        let expected = !moved.contains(&branch.as_str());
        let what = if expected {
            "was moved"
        } else {
            "was not moved"
        };
        ensure!(stayed == expected, "{branch} {what} on the remote");
    }
    ensure!(
        before.len() == after.len(),
        "branches came or went on the remote"
    );
    Ok(())
}
