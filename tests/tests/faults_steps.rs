//! Faults at every step of every action: a worker that is killed, suspended or cut off from NATS there,
//! and a message that is lost there.
//!
//! Each action is first run undisturbed; the steps that this shows are written down in `snapshots/`,
//! and each of them is hit. A step that is not reached fails the test.
//!
//! What a kill does is tested at every step of every action. The other faults are tested at every step
//! of two actions that have all steps between them, and with `BACKSTACK_FAULTS=all` of every action.

use std::time::Duration;

use backstack_tests::matrix::{ACK_WAIT, Lane, Place, SCRIPTS, Script, Successor};
use futures_util::future::join_all;
use futures_util::{StreamExt, stream};

/// How many jobs stand at their places when a worker is hit; few enough that one successor has them
/// all done in time.
const AT_ONCE: usize = 12;

fn script(action: &str) -> Script {
    let found = SCRIPTS.into_iter().find(|script| script.action == action);
    found.unwrap_or_else(|| panic!("no script for {action}"))
}

/// The places in rounds, each with a name.
fn rounds(places: &[Place]) -> impl Iterator<Item = (String, &[Place])> {
    let rounds = places.chunks(AT_ONCE).enumerate();
    rounds.map(|(number, places)| (format!("round-{number}"), places))
}

/// Does something in a lane for each of the actions that are hit by all faults, two at a time.
async fn in_lanes<F: Future<Output = ()>>(round: impl Fn(Lane) -> F) {
    let all = std::env::var("BACKSTACK_FAULTS").is_ok_and(|wanted| wanted == "all");
    let has_all_steps = ["restack_repo", "register_existing_branch"];
    let hit = SCRIPTS.into_iter();
    let hit = hit.filter(|script| all || has_all_steps.contains(&script.action));
    let round = &round;
    let in_lane = |script| async move { round(Lane::start(script).await).await };
    stream::iter(hit).for_each_concurrent(2, in_lane).await;
}

async fn killed_at_every_step(action: &str) {
    let lanes = [Successor::Survivor, Successor::Restarted].map(|successor| async move {
        let lane = Lane::start(script(action)).await;
        for (name, places) in rounds(lane.places()) {
            lane.kill(&name, places, successor).await;
        }
        let places = lane.places().iter();
        let listed: String = places.map(|place| format!("{place}\n")).collect();
        lane.finish().await;
        listed
    });
    let listed = join_all(lanes).await;
    assert_eq!(listed[0], listed[1], "the steps are the same each time");
    insta::assert_snapshot!(action, listed[0]);
}

#[tokio::test]
async fn a_worker_is_killed_at_every_step_of_sync_repo() {
    killed_at_every_step("sync_repo").await;
}

#[tokio::test]
async fn a_worker_is_killed_at_every_step_of_restack_repo() {
    killed_at_every_step("restack_repo").await;
}

#[tokio::test]
async fn a_worker_is_killed_at_every_step_of_restack_subtree() {
    killed_at_every_step("restack_subtree").await;
}

#[tokio::test]
async fn a_worker_is_killed_at_every_step_of_rebase_branch() {
    killed_at_every_step("rebase_branch").await;
}

#[tokio::test]
async fn a_worker_is_killed_at_every_step_of_reparent_branch() {
    killed_at_every_step("reparent_branch").await;
}

#[tokio::test]
async fn a_worker_is_killed_at_every_step_of_register_existing_branch() {
    killed_at_every_step("register_existing_branch").await;
}

#[tokio::test]
async fn a_worker_is_killed_at_every_step_of_unregister_branch() {
    killed_at_every_step("unregister_branch").await;
}

#[tokio::test]
async fn a_worker_is_suspended_beyond_the_ack_wait_at_every_step() {
    in_lanes(|lane| async move {
        for (name, places) in rounds(lane.places()) {
            lane.suspend(&name, places).await;
        }
        lane.finish().await;
    })
    .await;
}

#[tokio::test]
async fn every_message_and_every_answer_is_lost_once() {
    in_lanes(|lane| async move {
        for (name, places) in rounds(&lane.losses()) {
            lane.lose(&name, places).await;
        }
        lane.finish().await;
    })
    .await;
}

#[tokio::test]
async fn a_worker_is_cut_off_at_every_step_and_back_before_the_ack_wait() {
    cut_off_for(ACK_WAIT / 4).await;
}

#[tokio::test]
async fn a_worker_is_cut_off_at_every_step_and_back_after_the_ack_wait() {
    cut_off_for(ACK_WAIT * 3 / 2).await;
}

async fn cut_off_for(so_long: Duration) {
    in_lanes(|lane| async move {
        for (name, places) in rounds(lane.places()) {
            lane.cut_off(&name, places, so_long).await;
        }
        lane.finish().await;
    })
    .await;
}
