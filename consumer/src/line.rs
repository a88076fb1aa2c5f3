//! The lines: one for each repository of which this process holds messages.
//!
//! A line is a task. It asks for the turn of its oldest message only, runs it when the turn has come
//! and a permit is free, and ends when it holds nothing. Messages that wait hold no permit, and of a
//! waiting message only the ticket and the ack subject are kept.
//!
//! ```text
//! pull ──► arrive ──► line of the repository ──► ticket: ours? ──► permit ──► Runner::run
//!                        │ waits for older ones        │ none within 100 ms
//!                        ▼                             ▼
//!                  kept by signs of life       back with a negative ack
//! ```

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use backstack_schemas::RepoId;
use backstack_schemas::topology::QueueSubject;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use crate::delivery::{Delivered, Delivery, Hold, Verdict};
use crate::message::{StoredMessage, Ticket};
use crate::permits::Permit;
use crate::runner::{Ended, Runner};
use crate::ticket::Turn;

/// How long a message whose turn has come waits for a permit before it goes back, so that no worker
/// hoards what another could run.
const PERMIT_PATIENCE: Duration = Duration::from_millis(100);

/// After how many attempts a job whose worker died runs alone. One death is most often the machine's
/// or an operator's, and running the jobs of that worker one by one would only cost time. But a job
/// that kills its worker must not take the others' attempts along until none are left.
const ALONE_AFTER: u32 = 2;

/// How long to wait before asking for a turn again: from the first to the last, doubling.
const ASK_AGAIN: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(1_000));

/// Every line of this process.
#[derive(Debug)]
pub struct Lines {
    runner: Arc<Runner>,
    lines: Mutex<HashMap<RepoId, Arc<Line>>>,
    tasks: TaskTracker,
}

/// The messages of one repository that this process holds, of whatever actions.
#[derive(Debug)]
struct Line {
    repo: RepoId,
    /// Every stored subject of the repository.
    filter: String,
    held: Mutex<Held>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Held {
    waiting: BTreeMap<u64, Delivery>,
    running: Option<(Ticket, Arc<Hold>)>,
}

impl Lines {
    /// No lines yet.
    pub fn new(runner: Arc<Runner>) -> Arc<Self> {
        Arc::new(Self {
            runner,
            lines: Mutex::default(),
            tasks: TaskTracker::new(),
        })
    }

    /// Takes in a message that was just delivered.
    pub fn arrive(self: &Arc<Self>, subject: &QueueSubject, message: Delivered) {
        let mut lines = self.lines.lock();
        if let Some(line) = lines.get(&subject.repo) {
            line.admit(&self.runner, message);
            return;
        }
        let topology = &self.runner.topology;
        let line = Arc::new(Line {
            repo: subject.repo.clone(),
            filter: topology.queue_filter(subject.partition, &subject.repo),
            held: Mutex::default(),
            arrived: Notify::new(),
        });
        line.admit(&self.runner, message);
        lines.insert(line.repo.clone(), Arc::clone(&line));
        self.tasks.spawn(Arc::clone(self).serve(line));
    }

    /// Messages held: those that wait, and those that are being run.
    pub fn held(&self) -> (usize, usize) {
        let lines = self.lines.lock();
        let count = |(waiting, running), line: &Arc<Line>| {
            let held = line.held.lock();
            let runs = usize::from(held.running.is_some());
            (waiting + held.waiting.len(), running + runs)
        };
        lines.values().fold((0, 0), count)
    }

    /// Gives back every message that waits, line by line, oldest first.
    pub async fn hand_back_waiting(&self) {
        let lines: Vec<_> = self.lines.lock().values().map(Arc::clone).collect();
        for line in lines {
            line.hand_back_all().await;
        }
    }

    /// Returns when every line has ended; to be called once no more messages arrive.
    pub async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    async fn serve(self: Arc<Self>, line: Arc<Line>) {
        let generation = self.runner.guard.generation();
        let (mut floor, mut of) = (1, generation.now());
        let mut pause = ASK_AGAIN.0;
        loop {
            // What was finished in one stream says nothing of another.
            if of != generation.now() {
                (floor, of) = (1, generation.now());
            }
            if self.runner.is_draining() {
                line.hand_back_all().await;
            }
            let Some(oldest) = line.oldest() else {
                if self.close_if_empty(&line) {
                    return;
                }
                continue;
            };
            // Without a stream or a bucket a job could only fail.
            if !self.runner.guard.is_complete() {
                self.wait(&line, ASK_AGAIN.1).await;
                continue;
            }
            let turn = self
                .runner
                .tickets
                .ask(&line.filter, oldest, &mut floor)
                .await;
            match turn {
                Ok(Turn::Ours(message)) => {
                    pause = ASK_AGAIN.0;
                    if self.serve_one(&line, oldest, *message).await == Some(Ended::Finished) {
                        floor = floor.max(oldest.sequence + 1);
                    }
                    continue;
                }
                Ok(Turn::Finished) => {
                    line.settle(oldest, Verdict::Ack).await;
                    continue;
                }
                Ok(Turn::Gone) => {
                    line.let_go(oldest);
                    continue;
                }
                Ok(Turn::After(first)) => {
                    let oldest = oldest.sequence;
                    tracing::trace!(repo = %line.repo, oldest, first, "waits for its turn");
                }
                Err(error) => tracing::warn!(repo = %line.repo, %error, "no ticket"),
            }
            self.wait(&line, pause).await;
            pause = (pause * 2).min(ASK_AGAIN.1);
        }
    }

    /// Runs the message whose turn has come, if it is still held and a permit is to be had.
    async fn serve_one(&self, line: &Line, own: Ticket, message: StoredMessage) -> Option<Ended> {
        let Some(permit) = self.permit(line, own).await else {
            line.settle(own, Verdict::Nak(Duration::ZERO)).await;
            return None;
        };
        let delivery = line.start(own)?;
        let ended = self.runner.run(delivery, message).await;
        line.held.lock().running = None;
        drop(permit);
        Some(ended)
    }

    /// A permit, where one is to be had. What may kill this process waits until nothing else runs in
    /// it, however long: given back, it would only meet others elsewhere.
    async fn permit(&self, line: &Line, own: Ticket) -> Option<Permit> {
        let permits = &self.runner.permits;
        if !line.may_kill(own) {
            let permit = tokio::time::timeout(PERMIT_PATIENCE, permits.take()).await;
            return permit.ok();
        }
        tracing::warn!(repo = %line.repo, sequence = own.sequence, "the job's last workers died; it runs alone");
        tokio::select! {
            permit = permits.take_all() => Some(permit),
            () = self.runner.drain_begins() => None,
        }
    }

    /// Waits for another message, for something to happen to an older one's row, or for `pause`.
    async fn wait(&self, line: &Line, pause: Duration) {
        tokio::select! {
            () = line.arrived.notified() => {}
            () = self.runner.row_changed(&line.repo) => {}
            () = self.runner.drain_begins() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }

    /// Takes an empty line off the list; `false` where a message has come in meanwhile.
    fn close_if_empty(&self, line: &Line) -> bool {
        let mut lines = self.lines.lock();
        let empty = line.held.lock().len() == 0;
        if empty {
            lines.remove(&line.repo);
        }
        empty
    }
}

impl Line {
    fn admit(&self, runner: &Runner, message: Delivered) {
        let mut held = self.held.lock();
        let ticket = message.ticket();
        if let Some((_, hold)) = held.running.as_ref().filter(|(t, _)| *t == ticket) {
            hold.renew(message);
            return;
        }
        // A message that comes in again while it waits is held under its new delivery. Another one with
        // its sequence is of a stream that took the place of the one before.
        let sequence = ticket.sequence;
        let known = held
            .waiting
            .get(&sequence)
            .filter(|delivery| delivery.ticket() == ticket && delivery.hold().is_held());
        if let Some(delivery) = known {
            delivery.hold().renew(message);
        } else {
            let lapsed = held.waiting.insert(sequence, runner.hold(message));
            lapsed.into_iter().for_each(Delivery::let_go);
        }
        self.arrived.notify_one();
    }

    /// The lowest ticket that waits and is still ours; those that are no longer are let go.
    fn oldest(&self) -> Option<Ticket> {
        let mut held = self.held.lock();
        while let Some(first) = held.waiting.first_entry() {
            if first.get().hold().is_held() {
                return Some(first.get().ticket());
            }
            first.remove().let_go();
        }
        None
    }

    /// Whether the message's job was being run when its worker died, and not for the first time: it
    /// may be what killed them.
    fn may_kill(&self, own: Ticket) -> bool {
        let held = self.held.lock();
        let found = held
            .waiting
            .get(&own.sequence)
            .filter(|delivery| delivery.ticket() == own)
            .and_then(|delivery| delivery.hold().found_running());
        found.is_some_and(|found| found.attempt >= ALONE_AFTER)
    }

    /// Takes the message out to be run; `None` where it is no longer ours.
    fn start(&self, own: Ticket) -> Option<Delivery> {
        let mut held = self.held.lock();
        let delivery = held.take(own)?;
        if !delivery.hold().is_held() {
            delivery.let_go();
            return None;
        }
        delivery.set_running();
        held.running = Some((own, Arc::clone(delivery.hold())));
        Some(delivery)
    }

    async fn settle(&self, own: Ticket, verdict: Verdict) {
        let delivery = self.held.lock().take(own);
        if let Some(delivery) = delivery {
            delivery.settle(verdict).await;
        }
    }

    /// Gives up a message that the stream no longer has.
    fn let_go(&self, own: Ticket) {
        let delivery = self.held.lock().take(own);
        delivery.into_iter().for_each(Delivery::let_go);
    }

    /// Gives every waiting message back, oldest first.
    async fn hand_back_all(&self) {
        while let Some(oldest) = self.oldest() {
            self.settle(oldest, Verdict::Nak(Duration::ZERO)).await;
        }
    }
}

impl Held {
    /// Takes a message out that waits.
    fn take(&mut self, own: Ticket) -> Option<Delivery> {
        let waiting = self.waiting.get(&own.sequence);
        waiting.filter(|delivery| delivery.ticket() == own)?;
        self.waiting.remove(&own.sequence)
    }

    fn len(&self) -> usize {
        self.waiting.len() + usize::from(self.running.is_some())
    }
}
