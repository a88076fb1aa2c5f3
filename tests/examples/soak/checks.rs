//! What must hold in the end, when all is quiet: nothing that people did is lost, every stack stands,
//! and one more restack gives what `git rebase` gives.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};

use backstack_schemas::outcome::SkipReason;
use backstack_schemas::{Branch, Job, JobStatus};
use backstack_tests::World;
use git2::Oid;

use crate::people::Place;

/// Everything that is wrong with a repository; nothing is the aim.
pub async fn check(world: &World, place: &mut Place) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut refused = BTreeSet::new();
    for (action, body) in [("sync_repo", r#"{"restack": true}"#), ("restack_repo", "")] {
        let job = world.run(&place.name, action, body).await;
        if job.status != JobStatus::Completed {
            wrong.push(format!(
                "{action} in the end: {}: {:?}",
                job.message, job.error
            ));
        }
        refused = refused_branches(&job, &mut wrong);
    }
    for branch in &refused {
        println!(
            "{} {branch}: refused, since where its commits begin cannot be told",
            place.name
        );
    }
    let rows = world.branches(&place.name).await;
    check_branches(place, &rows, &refused, &mut wrong);
    check_against_git(world, place, &rows, &mut wrong).await;
    wrong
}

/// The branches that a restack did not touch, since where a rule could drop work it refuses instead, and
/// those on them.
fn refused_branches(job: &Job, wrong: &mut Vec<String>) -> BTreeSet<String> {
    let skipped = job.result.iter().flat_map(|result| &result.skipped);
    let mut refused = BTreeSet::new();
    for one in skipped {
        match one.reason {
            SkipReason::AmbiguousBase | SkipReason::ParentConflict => {
                refused.insert(one.branch.as_str().to_owned());
            }
            other => wrong.push(format!("{} is skipped: {other:?}", one.branch)),
        }
    }
    refused
}

/// Every branch has what people put on it, and what its parent has where it was not refused.
fn check_branches(
    place: &Place,
    rows: &[Branch],
    refused: &BTreeSet<String>,
    wrong: &mut Vec<String>,
) {
    for (branch, own) in &place.own {
        let there = place.files(branch);
        let missing: Vec<_> = own.difference(&there).collect();
        if !missing.is_empty() {
            wrong.push(format!("{branch} has lost {missing:?}"));
        }
        if place.merged.contains(branch) {
            let main = place.files("main");
            let missing: Vec<_> = own.difference(&main).collect();
            if !missing.is_empty() {
                wrong.push(format!(
                    "{branch} was merged, but main has not got {missing:?}"
                ));
            }
        }
        let row = rows.iter().find(|row| row.branch.as_str() == branch);
        let Some(row) = row else {
            wrong.push(format!("{branch} has no row"));
            continue;
        };
        if row.head.map(|head| head.to_string()) != Some(place.head(branch).to_string()) {
            wrong.push(format!("the row of {branch} has another head"));
        }
        let stands = row.tracked && !refused.contains(branch);
        let Some(parent) = row.parent.as_ref().filter(|_| stands) else {
            continue;
        };
        let missing: Vec<_> = place
            .files(parent.as_str())
            .into_iter()
            .filter(|file| !there.contains(file))
            .collect();
        if !missing.is_empty() {
            wrong.push(format!(
                "{branch} has not got {missing:?} of its parent {parent}"
            ));
        }
        if !place.stands_on(place.head(branch), place.head(parent.as_str())) {
            wrong.push(format!("{branch} does not stand on {parent}"));
        }
    }
}

/// No job may say of a branch that it is merged whose files trunk has not got.
pub fn check_merged(place: &Place, jobs: &[&Job], wrong: &mut Vec<String>) {
    let main = place.files("main");
    for job in jobs {
        for merged in job.result.iter().flat_map(|result| &result.merged) {
            let own = place.own.get(merged.branch.as_str());
            if !place.merged.contains(merged.branch.as_str())
                && own.is_some_and(|own| !own.is_subset(&main))
            {
                let id = job.spec.job_id;
                wrong.push(format!(
                    "{id} says that {} is merged, and it is not",
                    merged.branch
                ));
            }
        }
    }
}

/// Moves trunk on, restacks, and has git rebase the same branches in a clone.
async fn check_against_git(
    world: &World,
    place: &mut Place,
    rows: &[Branch],
    wrong: &mut Vec<String>,
) {
    let before: BTreeMap<String, Oid> = rows
        .iter()
        .map(|row| {
            (
                row.branch.as_str().to_owned(),
                place.head(row.branch.as_str()),
            )
        })
        .collect();
    place.remote.commit("main", &[("last", "last\n")], "last");
    let clone = world.dir().join(format!("{}-rebased", place.name));
    let remote = place.remote.path().display().to_string();
    git(
        world.dir(),
        &["clone", "--quiet", &remote, &clone.display().to_string()],
    );
    let job = world.run(&place.name, "restack_repo", "").await;
    if job.status != JobStatus::Completed {
        wrong.push(format!(
            "the last restack: {}: {:?}",
            job.message, job.error
        ));
        return;
    }
    let refused = refused_branches(&job, wrong);
    let mut rebased = BTreeMap::from([("main".to_owned(), place.head("main").to_string())]);
    let stands = |row: &&Branch| row.tracked && !refused.contains(row.branch.as_str());
    let mut left: Vec<_> = rows.iter().filter(stands).collect();
    while let Some(next) = left.iter().position(|row| {
        let parent = row.parent.as_ref();
        parent.is_some_and(|parent| rebased.contains_key(parent.as_str()))
    }) {
        let row = left.remove(next);
        let (branch, parent) = (row.branch.as_str(), row.parent.as_ref());
        let parent = parent.map_or("", |parent| parent.as_str());
        // Where its own commits begin is what its row says: a branch whose former parent left the
        // stack may stand on the new one with that parent's commits still below its own.
        let base = row.base.map_or_else(String::new, |base| base.to_string());
        let onto = &rebased[parent];
        let head = before[branch].to_string();
        git(&clone, &["rebase", "--quiet", "--onto", onto, &base, &head]);
        let by_git = git(&clone, &["rev-parse", "HEAD"]);
        let by_us = place.head(branch).to_string();
        let tree = |commit: &str| git(&clone, &["rev-parse", &format!("{commit}^{{tree}}")]);
        git(&clone, &["fetch", "--quiet", "origin"]);
        if tree(&by_git) != tree(&by_us) {
            let differ = git(&clone, &["diff", "--name-status", &by_git, &by_us]);
            let own = git(
                &clone,
                &["log", "--format=%h %s", &format!("{base}..{head}")],
            );
            wrong.push(format!(
                "{branch} on {parent} is {by_us}, but git rebase makes {by_git}: {differ:?}; its own \
                 commits were {own:?}"
            ));
        }
        rebased.insert(branch.to_owned(), by_git);
    }
    if !left.is_empty() {
        wrong.push(format!("{} tracked branches stand on none", left.len()));
    }
}

fn git(dir: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .arg("-C")
        .arg(dir)
        .args(arguments)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_COMMITTER_NAME", "Git")
        .env("GIT_COMMITTER_EMAIL", "git@example.com")
        .stdin(Stdio::null())
        .output()
        .expect("git");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {arguments:?}: {said}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
