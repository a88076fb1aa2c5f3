//! The documents say what the types say: every word of the wire, and examples that parse.

use std::path::Path;

use backstack_schemas::outcome::{ConflictKind, DropReason, MergedHow, SkipReason};
use backstack_schemas::topology::{Choices, DeadReason, User};
use backstack_schemas::{
    ActionKind, ActionMessage, Branch, ErrorCode, Job, JobStatus, Repository, Task, Topology,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

fn document(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    std::fs::read_to_string(root.join(path)).unwrap()
}

/// A word as it stands in a table: in backquotes.
fn has(document: &str, word: &str) -> bool {
    document.contains(&format!("`{word}`"))
}

#[test]
fn both_documents_name_every_action_status_and_error_code() {
    let actions = ActionKind::ALL.map(ActionKind::as_str);
    let statuses = JobStatus::ALL.map(JobStatus::as_str);
    let codes = ErrorCode::ALL.iter().map(|code| code.as_str());
    let words: Vec<_> = actions.into_iter().chain(statuses).chain(codes).collect();
    for path in ["README.md", "schemas/README.md"] {
        let document = document(path);
        for word in &words {
            assert!(has(&document, word), "{path} does not name `{word}`");
        }
    }
}

#[test]
fn whether_a_code_is_retried_stands_in_its_row() {
    for path in ["README.md", "schemas/README.md"] {
        let document = document(path);
        for code in ErrorCode::ALL {
            let row = document
                .lines()
                .find(|line| {
                    line.starts_with('|') && has(line.split('|').nth(1).unwrap(), code.as_str())
                })
                .unwrap_or_else(|| panic!("{path} has no row for {code}"));
            let said = row.split('|').nth(2).unwrap().trim();
            let retried = if code.is_retryable() { "yes" } else { "no" };
            assert_eq!(said, retried, "{path}: {code}");
        }
    }
}

#[test]
fn every_reason_and_kind_is_named() {
    fn wire(value: impl Serialize) -> String {
        serde_json::to_value(value)
            .unwrap()
            .as_str()
            .unwrap()
            .to_owned()
    }
    use ConflictKind::*;
    let kinds = [
        Content,
        ModifyDelete,
        AddAdd,
        Rename,
        Directory,
        Submodule,
        Binary,
    ]
    .map(wire);
    let skips = [
        SkipReason::ParentConflict,
        SkipReason::ParentMissing,
        SkipReason::MissingOnRemote,
        SkipReason::Rejected,
        SkipReason::AmbiguousBase,
        SkipReason::MergeHasChanges,
    ]
    .map(wire);
    let merges = [
        MergedHow::Ancestor,
        MergedHow::PatchId,
        MergedHow::Squash,
        MergedHow::BecameEmpty,
    ];
    let drops = [DropReason::BecameEmpty, DropReason::MergeFlattened].map(wire);
    let document = document("schemas/README.md");
    for word in kinds
        .iter()
        .chain(&skips)
        .chain(&merges.map(wire))
        .chain(&drops)
    {
        assert!(
            has(&document, word),
            "schemas/README.md does not name `{word}`"
        );
    }
}

#[test]
fn streams_buckets_and_dead_letters_are_named() {
    let document = document("schemas/README.md");
    for stream in Topology::default().streams(Choices::default()) {
        let name = stream
            .name
            .replace("BACKSTACK", "<NS>")
            .replace("KV_backstack", "<ns>");
        assert!(has(&document, &name), "{name}");
    }
    for reason in [
        DeadReason::BadSubject,
        DeadReason::BadPayload,
        DeadReason::DuplicateJob,
    ] {
        assert!(
            has(&document, &format!("<ns>.dead.{}", reason.as_str())),
            "{reason:?}"
        );
    }
}

/// The block of each user lists just what `Topology::permissions` says.
#[test]
fn what_each_user_needs_is_listed_to_the_subject() {
    let document = document("schemas/README.md");
    for user in User::ALL {
        let start = format!("\n```permissions {}\n", user.as_str());
        let (_, rest) = document
            .split_once(&start)
            .unwrap_or_else(|| panic!("no list for the {}", user.as_str()));
        let listed: Vec<_> = rest.split("\n```").next().unwrap().lines().collect();
        let permissions = Topology::default().permissions(user, None, "_INBOX");
        let spelt = |subject: &String| {
            subject
                .replace("BACKSTACK", "<NS>")
                .replace("backstack", "<ns>")
        };
        let needed: Vec<_> = permissions.publish.iter().map(spelt).collect();
        assert_eq!(listed, needed, "{}", user.as_str());
        assert_eq!(permissions.subscribe, ["_INBOX.>"]);
    }
}

/// The example for a server has the same users with the same permissions.
#[test]
fn the_example_of_users_permits_just_that() {
    let example = document("docker/nats-users.conf");
    for user in User::ALL {
        let name = user.as_str();
        let prefix = format!("_INBOX_{name}");
        let (_, rest) = example
            .split_once(&format!("user: {name}\n"))
            .unwrap_or_else(|| panic!("no user {name}"));
        let entry = rest.split("user: ").next().unwrap();
        let quoted: Vec<_> = entry.split('"').skip(1).step_by(2).collect();
        let permissions = Topology::default().permissions(user, None, &prefix);
        let needed: Vec<_> = permissions
            .publish
            .iter()
            .chain(&permissions.subscribe)
            .collect();
        assert_eq!(quoted, needed, "{name}");
    }
}

#[test]
fn the_examples_are_rows_and_messages() {
    let document = document("schemas/README.md");
    let mut seen = Vec::new();
    for block in document.split("\n```json ").skip(1) {
        let (label, rest) = block.split_once('\n').unwrap();
        let json = rest.split("\n```").next().unwrap();
        match label.split_once(' ') {
            Some(("action", kind)) => {
                let kind: ActionKind = kind.parse().unwrap();
                ActionMessage::decode(kind, json.as_bytes()).unwrap();
            }
            _ => match label {
                "job" => whole::<Job>(json),
                "repository" => whole::<Repository>(json),
                "branch" => whole::<Branch>(json),
                "task" => whole::<Task>(json),
                other => panic!("an example of {other:?}"),
            },
        }
        seen.push(label.split(' ').next().unwrap().to_owned());
    }
    assert_eq!(seen, ["action", "job", "repository", "branch", "task"]);
}

/// The example has every field of the row, and none that it has not.
fn whole<T: DeserializeOwned + Serialize>(json: &str) {
    let example: serde_json::Value = serde_json::from_str(json).unwrap();
    let row: T = serde_json::from_str(json).unwrap();
    assert_eq!(serde_json::to_value(row).unwrap(), example);
}
