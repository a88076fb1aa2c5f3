//! Names and settings.

use serde_json::{Value, json};

use super::*;
use crate::id::BranchName;

fn topology() -> Topology {
    Topology::default()
}

#[test]
fn names_are_those_of_the_contract() {
    let t = Topology::new("acme-1".parse().unwrap());
    let repo: RepoId = "web".parse().unwrap();
    assert_eq!(t.actions_stream(), "ACME-1_ACTIONS");
    assert_eq!(
        t.action_subject(&repo, ActionKind::SyncRepo),
        "acme-1.actions.web.sync_repo"
    );
    assert_eq!(t.bucket_stream(Bucket::Jobs), "KV_acme-1_jobs");
    assert_eq!(
        t.dead_subject(DeadReason::BadPayload),
        "acme-1.dead.bad_payload"
    );
    assert_eq!(Topology::worker_name(7), "worker-07");
    let branch: BranchName = "fix/a.b".parse().unwrap();
    assert_eq!(branch_key(&repo, &branch), "web.fix/a=2Eb");
    assert_eq!(task_branch_key(&repo, &branch), "web.branch.fix/a=2Eb");
}

#[test]
fn published_subjects_are_read_from_stored_ones() {
    let t = topology();
    let published = t.published_subject("backstack.queue.7.Web.x");
    assert_eq!(published, "backstack.actions.Web.x");
    assert_eq!(t.parse_action_subject(&published), None);
    let untaken = "backstack.actions.web.*";
    assert_eq!(t.published_subject(untaken), untaken);
    let (repo, action) = t.parse_action_subject(untaken).unwrap();
    assert_eq!((repo.as_str(), action.as_str()), ("web", "*"));
    assert_eq!(
        t.parse_action_subject("backstack.actions.*.sync_repo"),
        None
    );
}

#[test]
fn stored_subjects_are_taken_apart_and_nothing_else_is() {
    let t = topology();
    let subject = t
        .parse_queue_subject("backstack.queue.7.web.restack_repo")
        .unwrap();
    assert_eq!((subject.partition, subject.repo.as_str()), (7, "web"));
    assert_eq!(subject.action, "restack_repo");
    for other in [
        "backstack.queue.7.WEB.restack_repo",
        "backstack.queue.x.web.restack_repo",
        "backstack.queue.7.web",
        "backstack.queue.7.web.restack_repo.more",
        "backstack.actions.*.restack_repo",
        "other.queue.7.web.restack_repo",
    ] {
        assert_eq!(t.parse_queue_subject(other), None, "{other}");
    }
}

#[test]
fn there_are_three_streams_four_buckets_and_a_consumer_for_each_partition() {
    let streams = topology().streams(Choices::default());
    let names: Vec<_> = streams.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "BACKSTACK_SCHEDULES",
            "BACKSTACK_ACTIONS",
            "BACKSTACK_DEAD",
            "KV_backstack_repos",
            "KV_backstack_jobs",
            "KV_backstack_branches",
            "KV_backstack_tasks",
        ]
    );
    let consumers = topology().consumers(Choices::default());
    assert_eq!(consumers.len(), 33);
    assert_eq!(
        consumers[31].config["filter_subject"],
        "backstack.queue.31.>"
    );
    assert_eq!(
        consumers[32].config["filter_subject"],
        "backstack.actions.>"
    );
}

#[test]
fn a_wrong_setting_is_named_with_what_it_is_and_must_be() {
    let spec = topology().actions(Choices::default());
    let mut actual = spec.config.clone();
    actual["max_msgs"] = json!(100);
    actual["deny_purge"] = Value::Null;
    let found: Vec<_> = spec
        .mismatches(&actual)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        found,
        [
            "BACKSTACK_ACTIONS: deny_purge is null, but must be true",
            "BACKSTACK_ACTIONS: max_msgs is 100, but must be -1",
        ]
    );
}

#[test]
fn what_the_server_leaves_out_or_adds_is_no_difference() {
    let spec = topology().actions(Choices::default());
    let mut actual = spec.config.clone();
    let members = actual.as_object_mut().unwrap();
    members.remove("max_age");
    members.remove("allow_rollup_hdrs");
    members.insert("metadata".to_owned(), json!({"_nats.ver": "2.15.1"}));
    actual["sources"][0]["added"] = json!(1);
    assert_eq!(spec.mismatches(&actual), []);
}
