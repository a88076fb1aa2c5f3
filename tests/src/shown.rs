//! Jobs and rows as short text, so that a test compares all of what they say at once.
//!
//! Commits are named by their subjects; `?` stands for one that the remote has not got.

use std::fmt::{Display, Write};

use backstack_schemas::outcome::{Conflict, JobResult};
use backstack_schemas::{Branch, Job, JobStatus, ObjectId};
use serde::Serialize;
use serde_json::Value;

use crate::remote::Remote;

/// What came of a job: its error's code in front where it has one, then every field of the result
/// that is not empty.
///
/// ```text
/// nothing                                        all fields are empty
/// trunk m0..m1; moved a b; up_to_date c          trunk's two commits
/// conflict! moved a; conflicts b(b1 onto a1: f content, g add_add); skipped c(parent_conflict)
/// merged a(main squash); reparented b(a to main)
/// dropped a(a1 became_empty); registered b(a from a2); truncated
/// ```
///
/// # Panics
/// Where the job has not ended, or was cancelled.
pub fn job(remote: &Remote, job: &Job) -> String {
    let result = job.result.clone().unwrap_or_default();
    let fields = result_fields(remote, &result).join("; ");
    match (job.status, &job.error) {
        (JobStatus::Completed, None) if fields.is_empty() => "nothing".to_owned(),
        (JobStatus::Completed, None) => fields,
        (JobStatus::Error, Some(error)) => {
            format!("{}! {fields}", error.code).trim_end().to_owned()
        }
        _ => panic!("neither done nor failed: {job:#?}"),
    }
}

fn result_fields(remote: &Remote, result: &JobResult) -> Vec<String> {
    let name = |commit| commit_name(remote, commit);
    let trunk = result.trunk.iter().map(|trunk| {
        let from = trunk.from.map_or("none".to_owned(), name);
        format!("{from}..{}", name(trunk.to))
    });
    let merged = result.merged.iter();
    let merged = merged.map(|one| format!("{}({} {})", one.branch, one.into, word(one.how)));
    let reparented = result.reparented.iter();
    let reparented = reparented.map(|one| format!("{}({} to {})", one.branch, one.from, one.to));
    let conflicts = result.conflicts.iter();
    let conflicts = conflicts.map(|one| conflict(remote, one));
    let skipped = result.skipped.iter();
    let skipped = skipped.map(|one| format!("{}({})", one.branch, word(one.reason)));
    let dropped = result.dropped_commits.iter();
    let dropped =
        dropped.map(|one| format!("{}({} {})", one.branch, name(one.commit), word(one.reason)));
    let registered = result.registered.iter();
    let registered =
        registered.map(|one| format!("{}({} from {})", one.branch, one.parent, name(one.base)));
    let fields = [
        field("trunk", trunk),
        field("merged", merged),
        field("reparented", reparented),
        field("moved", result.moved.iter().map(|moved| &moved.branch)),
        field("up_to_date", &result.up_to_date),
        field("conflicts", conflicts),
        field("skipped", skipped),
        field("dropped", dropped),
        field("registered", registered),
        result.truncated.then(|| "truncated".to_owned()),
    ];
    fields.into_iter().flatten().collect()
}

fn field<T: Display>(name: &str, items: impl IntoIterator<Item = T>) -> Option<String> {
    let mut text = name.to_owned();
    for item in items {
        write!(text, " {item}").expect("a string takes everything");
    }
    (text != name).then_some(text)
}

fn conflict(remote: &Remote, conflict: &Conflict) -> String {
    let path = |path: &backstack_schemas::outcome::ConflictPath| {
        format!("{} {}", path.path, word(path.kind))
    };
    let paths: Vec<_> = conflict.paths.iter().map(path).collect();
    format!(
        "{}({} onto {}: {})",
        conflict.branch,
        commit_name(remote, conflict.commit),
        commit_name(remote, conflict.onto),
        paths.join(", ")
    )
}

/// What the rows say of each branch but trunk, one line each: its parent and base, and where the row's
/// head is not the remote's, that.
///
/// ```text
/// a  main from m0
/// b  a from a2, task
/// x  untracked
/// y  main from m0, gone           no head
/// z  main from m0, head z1        not what the remote has
/// ```
pub fn stack(remote: &Remote, rows: &[Branch]) -> String {
    lines(rows, |row| {
        let mut line = match (&row.parent, row.base) {
            (Some(parent), Some(base)) => format!("{parent} from {}", commit_name(remote, base)),
            (Some(parent), None) => format!("{parent}, no base"),
            (None, _) => "untracked".to_owned(),
        };
        assert_eq!(row.tracked, row.parent.is_some(), "{row:#?}");
        let there = remote.has(row.branch.as_str());
        let now = there.then(|| remote.head(row.branch.as_str()));
        match row.head {
            None => line.push_str(", gone"),
            head if head == now => {}
            Some(head) => line.push_str(&format!(", head {}", commit_name(remote, head))),
        }
        if row.task_id.is_some() {
            line.push_str(", task");
        }
        line
    })
}

/// What the rows say of each branch's commits, trunk left out, one line each.
///
/// ```text
/// a  +2 -1 restack conflicts, 2 files +3 -1     against its parent, and what it changes
/// b  +1 -0, 1 files +1 -0
/// x  unknown
/// ```
pub fn facts(rows: &[Branch]) -> String {
    lines(rows, |row| {
        let facts = (
            row.ahead,
            row.behind,
            row.needs_restack,
            row.conflicts_with_trunk,
            row.diff,
        );
        match facts {
            (Some(ahead), Some(behind), Some(restack), Some(conflicts), Some(diff)) => format!(
                "+{ahead} -{behind}{}{}, {} files +{} -{}",
                if restack { " restack" } else { "" },
                if conflicts { " conflicts" } else { "" },
                diff.files,
                diff.insertions,
                diff.deletions
            ),
            (None, None, None, None, None) => "unknown".to_owned(),
            _ => panic!("all or none is known: {row:#?}"),
        }
    })
}

fn lines(rows: &[Branch], line: impl Fn(&Branch) -> String) -> String {
    let rows: Vec<_> = rows.iter().filter(|row| !row.is_trunk).collect();
    let length = |row: &&Branch| row.branch.as_str().chars().count();
    let width = rows.iter().map(length).max().unwrap_or(0);
    rows.iter()
        .map(|row| format!("{:width$}  {}\n", row.branch.as_str(), line(row)))
        .collect()
}

fn commit_name(remote: &Remote, commit: ObjectId) -> String {
    remote.subject(commit).unwrap_or_else(|| "?".to_owned())
}

/// A word of the contract, as it goes over the wire.
fn word<T: Serialize>(value: T) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => word,
        other => panic!("no word: {other:?}"),
    }
}
