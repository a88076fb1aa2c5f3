//! Signs of life for every message that is held, spread over the ack wait.
//!
//! One task serves all of them: a third of the ack wait after its last sign of life a message gets
//! the next. For a message that only waits it is a plain publish while the connection stands. For
//! one whose job runs the server has to confirm it, since a run goes on only while the message is
//! known to be ours.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_nats::Client;
use async_nats::connection::State;
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::boot_time::BootTime;
use crate::delivery::{Hold, IN_PROGRESS};

/// Keeps held messages ours.
#[derive(Clone, Debug)]
pub struct Keeper {
    holds: mpsc::UnboundedSender<Weak<Hold>>,
}

impl Keeper {
    /// Starts the task; it ends when the last `Keeper` is gone.
    pub fn start(client: Client, ack_wait: Duration) -> Self {
        let (holds, incoming) = mpsc::unbounded_channel();
        tokio::spawn(
            Rounds {
                client,
                interval: ack_wait / 3,
                due: BinaryHeap::new(),
            }
            .run(incoming),
        );
        Self { holds }
    }

    /// Keeps `hold` until it is settled or gone.
    pub fn keep(&self, hold: &Arc<Hold>) {
        // The task outlives every sender, so this arrives.
        let _ = self.holds.send(Arc::downgrade(hold));
    }
}

/// A hold and when its next sign of life is due.
struct Due {
    at: BootTime,
    hold: Weak<Hold>,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

struct Rounds {
    client: Client,
    interval: Duration,
    due: BinaryHeap<Reverse<Due>>,
}

impl Rounds {
    async fn run(mut self, mut incoming: mpsc::UnboundedReceiver<Weak<Hold>>) {
        loop {
            let now = BootTime::now();
            let next = self
                .due
                .peek()
                .map_or(self.interval, |Reverse(due)| due.at.since(now));
            tokio::select! {
                hold = incoming.recv() => match hold {
                    Some(hold) => self.push(hold, now),
                    None => return,
                },
                () = tokio::time::sleep(next) => self.sign_all_due().await,
            }
        }
    }

    fn push(&mut self, hold: Weak<Hold>, now: BootTime) {
        self.due.push(Reverse(Due {
            at: now + self.interval,
            hold,
        }));
    }

    async fn sign_all_due(&mut self) {
        let now = BootTime::now();
        while self.due.peek().is_some_and(|Reverse(due)| due.at <= now) {
            let Some(Reverse(due)) = self.due.pop() else {
                return;
            };
            let Some(hold) = due.hold.upgrade().filter(|hold| !hold.is_settled()) else {
                continue;
            };
            // A lapsed hold stays silent, so that its successor is not disturbed, unless the message
            // comes in here again.
            if hold.is_held() {
                self.sign(hold).await;
            }
            self.push(due.hold, now);
        }
    }

    async fn sign(&self, hold: Arc<Hold>) {
        // What is sent now would go out when the connection is back, perhaps to a successor's harm.
        if self.client.connection_state() != State::Connected {
            return;
        }
        if hold.is_running() {
            tokio::spawn(sign_confirmed(self.client.clone(), hold, self.interval));
            return;
        }
        let sent = BootTime::now();
        if self
            .client
            .publish(hold.reply(), Bytes::from_static(IN_PROGRESS))
            .await
            .is_ok()
        {
            hold.signed(sent);
        }
    }
}

/// A sign of life counts from when it was sent, and only once the server has confirmed it.
async fn sign_confirmed(client: Client, hold: Arc<Hold>, patience: Duration) {
    let sent = BootTime::now();
    let confirmed = client.request(hold.reply(), Bytes::from_static(IN_PROGRESS));
    match tokio::time::timeout(patience, confirmed).await {
        Ok(Ok(_)) => hold.signed(sent),
        Ok(Err(error)) => tracing::debug!(%error, "a sign of life was not confirmed"),
        Err(_) => tracing::debug!("a sign of life was not confirmed in time"),
    }
}
