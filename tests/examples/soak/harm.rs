//! What goes wrong meanwhile: one fault after another, to workers, their wires and the server.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use backstack_tests::wire::{Fault, NAMELESS_STEP};
use backstack_tests::{Wire, Worker, World};

use crate::random::Random;

/// What workers are started with, beside where NATS is.
const ARGUMENTS: [&str; 2] = ["--drain-timeout=3s", "--max-attempts=100"];

/// The steps of which a message may be lost or kept.
const STEPS: [&str; 12] = [
    "ask for turn",
    "read job row",
    "take job row",
    "read repository row",
    NAMELESS_STEP,
    "read newest branch row",
    "list branch rows",
    "fence",
    "write repository row",
    "end job row",
    "acknowledge",
    "give back",
];

/// A worker with its wire; where it dies, another takes its place.
pub struct Slot {
    wire: Wire,
    state: PathBuf,
    worker: Worker,
}

impl Slot {
    pub async fn new(world: &World) -> Self {
        let wire = Wire::start(world).await;
        let worker = Worker::start(world, &arguments(&wire)).await;
        Self {
            state: worker.state().to_owned(),
            wire,
            worker,
        }
    }

    fn start_again(&mut self, world: &World) {
        self.worker = Worker::launch_on(world, &self.state, &arguments(&self.wire));
    }

    /// The memory that it has taken at most, in KiB, as far as the system tells.
    pub fn peak_memory(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.worker.pid()));
        let line = status.ok()?;
        let line = line.lines().find(|line| line.starts_with("VmHWM:"))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }
}

fn arguments(wire: &Wire) -> Vec<&'static str> {
    // Arguments live as long as the program: there are few workers.
    let url: &'static str = format!("--nats-url={}", wire.url()).leak();
    let mut arguments = vec![url];
    arguments.extend(ARGUMENTS);
    arguments
}

/// Does harm until the time is up; how often each kind was done. In the end all is well again.
pub async fn harm(
    world: &World,
    slots: &mut [Slot],
    repos: &[String],
    random: &mut Random,
    until: Instant,
) -> BTreeMap<&'static str, usize> {
    let mut done = BTreeMap::new();
    while Instant::now() < until {
        tokio::time::sleep(random.millis(200, 1_500)).await;
        let number = random.below(slots.len());
        let kind = one(world, &mut slots[number], repos, random).await;
        println!("{kind} (worker {number})");
        *done.entry(kind).or_default() += 1;
    }
    for slot in slots {
        slot.wire.release();
        slot.wire.mend();
        slot.worker.resume();
        if slot.worker.program().process().ended().is_some() {
            slot.start_again(world);
        }
    }
    done
}

async fn one(
    world: &World,
    slot: &mut Slot,
    repos: &[String],
    random: &mut Random,
) -> &'static str {
    match random.below(12) {
        0..=2 => {
            slot.worker.kill9().await;
            tokio::time::sleep(random.millis(0, 2_500)).await;
            slot.start_again(world);
            "a worker was killed"
        }
        3 => {
            slot.worker.pause();
            tokio::time::sleep(random.millis(300, 4_000)).await;
            slot.worker.resume();
            "a worker was suspended"
        }
        4 => {
            slot.wire.cut().await;
            tokio::time::sleep(random.millis(100, 4_000)).await;
            slot.wire.mend();
            "a worker was cut off"
        }
        5..=7 => {
            let faults = [Fault::LoseRequest, Fault::LoseReply];
            let kept = [Fault::KeepRequest, Fault::KeepReply];
            let keep = random.one_in(4);
            let fault = random.pick(if keep { &kept } else { &faults });
            let (repo, step) = (random.pick(repos), random.pick(&STEPS));
            if let (Some(fault), Some(repo), Some(step)) = (fault, repo, step) {
                slot.wire.arm(repo, step, *fault);
            }
            if !keep {
                return "a message was to be lost";
            }
            tokio::time::sleep(random.millis(500, 4_000)).await;
            slot.wire.release();
            "a message was to be late"
        }
        8 => {
            let output = slot.worker.stop().await;
            assert_eq!(output.code, 0, "{}", output.stderr);
            slot.start_again(world);
            "a worker was drained"
        }
        9 | 10 => {
            world.server().kill9().await;
            tokio::time::sleep(random.millis(0, 1_000)).await;
            world.server().restart().await.expect("a server");
            "the server was killed"
        }
        _ => {
            world.server().pause();
            tokio::time::sleep(random.millis(200, 3_000)).await;
            world.server().resume();
            "the server was suspended"
        }
    }
}
