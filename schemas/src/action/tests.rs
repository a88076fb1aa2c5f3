//! Payloads.

use proptest::prelude::*;

use super::*;

fn decode(kind: ActionKind, payload: &str) -> Result<ActionMessage, String> {
    ActionMessage::decode(kind, payload.as_bytes()).map_err(|error| error.to_string())
}

#[test]
fn an_empty_payload_is_an_empty_object() {
    let message = decode(ActionKind::RestackRepo, "").unwrap();
    assert_eq!(message, Action::RestackRepo.into());
    assert_eq!(decode(ActionKind::RestackRepo, "{}").unwrap(), message);
}

#[test]
fn null_is_absent() {
    let message = decode(ActionKind::SyncRepo, r#"{"restack": null, "job_id": null}"#).unwrap();
    assert_eq!(message, Action::SyncRepo { restack: false }.into());
}

#[test]
fn what_is_encoded_is_decoded() {
    let branch: BranchName = "fix/a.b".parse().unwrap();
    let base = Some(ObjectId::from_bytes([9; 20]));
    let parent: BranchName = "main".parse().unwrap();
    let task_id = Some(TaskId::generate());
    for action in [
        Action::SyncRepo { restack: true },
        Action::RestackRepo,
        Action::RestackSubtree {
            branch: branch.clone(),
        },
        Action::RebaseBranch {
            branch: branch.clone(),
        },
        Action::ReparentBranch {
            branch: branch.clone(),
            parent: parent.clone(),
            base,
        },
        Action::RegisterExistingBranch {
            branch: branch.clone(),
            parent: Some(parent),
            base,
            task_id,
        },
        Action::UnregisterBranch { branch },
    ] {
        let message = ActionMessage {
            job_id: Some(JobId::generate()),
            dry_run: true,
            retry_of: Some(JobId::generate()),
            requested_by: Some("alice".to_owned()),
            ..action.into()
        };
        let decoded = ActionMessage::decode(message.action.kind(), &message.encode());
        assert_eq!(decoded.unwrap(), message);
    }
}

#[test]
fn a_wrong_payload_is_refused_with_what_is_wrong() {
    use ActionKind::*;
    for (kind, payload, part) in [
        (RestackSubtree, "{", "not JSON"),
        (RestackSubtree, "[]", "must be a JSON object"),
        (RestackSubtree, "{}", "needs the field \"branch\""),
        (RestackSubtree, "", "needs the field \"branch\""),
        (
            RestackSubtree,
            r#"{"branch": null}"#,
            "needs the field \"branch\"",
        ),
        (
            RestackSubtree,
            r#"{"brnach": "a"}"#,
            "has no field \"brnach\"",
        ),
        (RestackRepo, r#"{"branch": "a"}"#, "has no field \"branch\""),
        (
            RestackRepo,
            r#"{"restack": false}"#,
            "has no field \"restack\"",
        ),
        (
            ReparentBranch,
            r#"{"branch": "a"}"#,
            "needs the field \"parent\"",
        ),
        (RebaseBranch, r#"{"branch": "a..b"}"#, "which git refuses"),
        (RebaseBranch, r#"{"branch": 1}"#, "field \"branch\""),
        (SyncRepo, r#"{"dry_run": "yes"}"#, "field \"dry_run\""),
        (SyncRepo, r#"{"job_id": "1"}"#, "canonical form"),
        (
            RegisterExistingBranch,
            r#"{"branch": "a", "base": "abc"}"#,
            "full object id",
        ),
    ] {
        let error = decode(kind, payload).unwrap_err();
        assert!(error.contains(part), "{payload}: {error}");
    }
    let long = format!(r#"{{"requested_by": "{}"}}"#, "x".repeat(201));
    assert!(
        decode(SyncRepo, &long)
            .unwrap_err()
            .contains("201 characters")
    );
}

#[test]
fn an_unknown_action_is_answered_with_those_there_are() {
    let error = "restack".parse::<ActionKind>().unwrap_err().to_string();
    assert!(error.starts_with("there is no action \"restack\"; the actions are sync_repo, "));
}

proptest! {
    #[test]
    fn no_payload_makes_decoding_panic(payload: Vec<u8>) {
        for kind in ActionKind::ALL {
            let _ = ActionMessage::decode(kind, &payload);
        }
    }
}
