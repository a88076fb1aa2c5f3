//! What is asked for meanwhile: every action, at random, some twice, some cancelled, some again.

use std::time::{Duration, Instant};

use backstack_producer::Client;
use backstack_schemas::JobId;
use backstack_tests::World;
use serde_json::{Value, json};

use crate::people::{Deed, Place};
use crate::random::Random;

/// How many actions of a repository may wait.
const BACKLOG: usize = 20;

/// An accepted action.
pub struct Asked {
    pub repo: String,
    pub job: JobId,
    pub sequence: u64,
}

/// Lets people and publishers work on one repository until the time is up.
pub async fn work(
    world: &World,
    producer: &Client,
    place: &mut Place,
    random: &mut Random,
    until: Instant,
) -> Vec<Asked> {
    let mut asked = Vec::new();
    while Instant::now() < until {
        if let Deed::Branched { branch, parent } = place.act(random) {
            let body = json!({"branch": branch, "parent": parent});
            publish(world, place, "register_existing_branch", body, &mut asked).await;
        }
        if random.one_in(2) {
            let (action, body) = action(place, random);
            publish(world, place, action, body, &mut asked).await;
        }
        if random.one_in(12) {
            again(world, producer, place, random, &mut asked).await;
        }
        // A queue that only grows would say nothing of what goes on now.
        if let Some(earlier) = asked.len().checked_sub(BACKLOG) {
            world.ended(&place.name, asked[earlier].job).await;
        }
        tokio::time::sleep(random.millis(20, 250)).await;
    }
    asked
}

async fn publish(
    world: &World,
    place: &Place,
    action: &str,
    body: Value,
    asked: &mut Vec<Asked>,
) -> JobId {
    let job = JobId::generate();
    publish_as(world, place, job, action, &body, asked).await;
    job
}

async fn publish_as(
    world: &World,
    place: &Place,
    job: JobId,
    action: &str,
    body: &Value,
    asked: &mut Vec<Asked>,
) {
    let body = body.to_string();
    let ack = world.publish_as(job, &place.name, action, &body).await;
    let sequence = ack.sequence;
    asked.push(Asked {
        repo: place.name.clone(),
        job,
        sequence,
    });
}

/// Any action on any branch.
fn action(place: &Place, random: &mut Random) -> (&'static str, Value) {
    let open = place.open();
    let branch = random.pick(&open).cloned();
    let dry_run = random.one_in(12);
    let Some(branch) = branch else {
        return ("sync_repo", json!({}));
    };
    let mut parents = open;
    parents.push("main".to_owned());
    let parent = random.pick(&parents).cloned();
    match random.below(12) {
        0..=2 => ("sync_repo", json!({"dry_run": dry_run})),
        3 | 4 => ("sync_repo", json!({"restack": true, "dry_run": dry_run})),
        5..=7 => ("restack_repo", json!({"dry_run": dry_run})),
        8 => (
            "restack_subtree",
            json!({"branch": branch, "dry_run": dry_run}),
        ),
        9 => (
            "rebase_branch",
            json!({"branch": branch, "dry_run": dry_run}),
        ),
        10 => (
            "reparent_branch",
            json!({"branch": branch, "parent": parent, "dry_run": dry_run}),
        ),
        _ if random.one_in(4) => ("unregister_branch", json!({"branch": branch})),
        _ => ("register_existing_branch", json!({"branch": branch})),
    }
}

/// Publishes a job again, cancels one, or tries an ended one anew.
async fn again(
    world: &World,
    producer: &Client,
    place: &Place,
    random: &mut Random,
    asked: &mut Vec<Asked>,
) {
    let Some(one) = random.pick(asked) else {
        return;
    };
    let job = one.job;
    let repo = place.name.parse().expect("a repository");
    let patience = Duration::from_secs(10);
    match random.below(3) {
        0 => {
            let row = tokio::time::timeout(patience, producer.job(&repo, job)).await;
            let Ok(Ok(Some(row))) = row else { return };
            let row = row.value;
            let body = json!({
                "branch": row.spec.branch, "parent": row.spec.parent, "base": row.spec.base,
                "restack": row.spec.restack.then_some(true),
                "dry_run": row.spec.dry_run.then_some(true), "retry_of": row.spec.retry_of,
                "requested_by": row.spec.requested_by,
            });
            let action = row.spec.action.clone();
            publish_as(world, place, job, &action, &body, asked).await;
        }
        1 => {
            // A server that is away is no fault of the client's.
            let _ = tokio::time::timeout(patience, producer.cancel(&repo, job)).await;
        }
        _ => {
            let retried = tokio::time::timeout(patience, producer.retry(&repo, job, None)).await;
            if let Ok(Ok(published)) = retried {
                asked.push(Asked {
                    repo: place.name.clone(),
                    job: published.job_id,
                    sequence: published.sequence,
                });
            }
        }
    }
}
