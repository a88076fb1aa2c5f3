//! One delivered message: held under a deadline, settled exactly once.
//!
//! JetStream fences nothing: a late acknowledgement, negative acknowledgement or sign of life by a
//! worker that was paused is accepted and hits its successor. So a [`Delivery`] knows until when it
//! is ours: its last sign of life plus 0.95 of the ack wait, on a clock that counts suspension.
//! Past that it sends nothing at all; the server delivers the message again.
//!
//! Nor does it send anything once the work queue is another stream than the one that delivered it: an
//! acknowledgement names a stream and a sequence, and would hit whatever message has that sequence now.
//!
//! A delivery that is dropped without having been settled says so in the log: it costs the message
//! an ack wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, Subject};
use bytes::Bytes;
use parking_lot::Mutex;

use crate::boot_time::BootTime;
use crate::message::Ticket;

/// A message as delivered, taken apart.
#[derive(Debug)]
pub struct Delivered {
    /// The stream's sequence: the message's ticket.
    pub sequence: u64,
    /// How often it has been delivered, this time included.
    pub count: u64,
    /// When the stream stored it, in nanoseconds since the Unix epoch.
    pub stored_nanos: i128,
    /// Where acknowledgements go.
    pub reply: Subject,
    /// For a message that comes in again: what its job's row said, where it was `running`.
    pub found_running: Option<FoundRunning>,
}

/// A row that was `running` when its message came in again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundRunning {
    /// The run that it was in.
    pub run: u64,
    /// The attempt that it was at.
    pub attempt: u32,
}

impl Delivered {
    /// Which message it is.
    pub fn ticket(&self) -> Ticket {
        Ticket {
            sequence: self.sequence,
            stored_nanos: self.stored_nanos,
        }
    }

    /// Reads the ack subject of a delivered message:
    /// `$JS.ACK.<stream>.<consumer>.<count>.<sequence>.<consumer sequence>.<nanoseconds>.<pending>`,
    /// in the longer form with two more tokens, domain and account, before the stream.
    pub fn parse(reply: &Subject) -> Option<Self> {
        let tokens: Vec<_> = reply.as_str().split('.').collect();
        let own = match tokens.len() {
            9 => &tokens[2..],
            11.. => &tokens[4..],
            _ => return None,
        };
        if tokens[..2] != ["$JS", "ACK"] {
            return None;
        }
        Some(Self {
            count: own[2].parse().ok()?,
            sequence: own[3].parse().ok()?,
            stored_nanos: own[5].parse().ok()?,
            reply: reply.clone(),
            found_running: None,
        })
    }
}

/// The part of a delivery that others need too: the [`Keeper`](crate::keeper::Keeper) for its signs of
/// life, and the repository's line when the same message comes in again.
#[derive(Debug)]
pub struct Hold {
    /// Which of the work queue's streams delivered it; see [`Generation`].
    generation: AtomicU64,
    now: Generation,
    latest: Mutex<Latest>,
    ack_wait: Duration,
    /// Milliseconds on the boot clock.
    last_sign: AtomicI64,
    settled: AtomicBool,
    running: AtomicBool,
}

/// Counts the streams that have been the work queue under its one name since this process started.
#[derive(Clone, Debug, Default)]
pub struct Generation(Arc<AtomicU64>);

impl Generation {
    /// The stream that is the work queue now.
    pub fn now(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// The work queue has become another stream.
    pub fn pass(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

/// The newest delivery of a held message.
#[derive(Clone, Debug)]
struct Latest {
    reply: Subject,
    count: u64,
    found_running: Option<FoundRunning>,
}

impl Hold {
    /// Whether the message is still ours.
    pub fn is_held(&self) -> bool {
        !self.is_settled() && self.is_of_this_stream() && self.remaining() > Duration::ZERO
    }

    /// Whether the stream that delivered it is still the work queue.
    fn is_of_this_stream(&self) -> bool {
        self.generation.load(Ordering::Acquire) == self.now.now()
    }

    /// Whether the message was settled or given up, so that it is never ours again.
    pub fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Acquire)
    }

    /// How long it stays ours without another sign of life: 0.95 of the ack wait since the last.
    pub fn remaining(&self) -> Duration {
        let last = BootTime::from_millis(self.last_sign.load(Ordering::Acquire));
        self.ack_wait.mul_f64(0.95).saturating_sub(last.elapsed())
    }

    /// Whether its job is being run, so that signs of life must be known to have arrived.
    pub fn is_running(&self) -> bool {
        self.running.load(Ordering::Acquire)
    }

    /// Counts a sign of life that was sent at `sent`.
    pub fn signed(&self, sent: BootTime) {
        self.last_sign.fetch_max(sent.millis(), Ordering::AcqRel);
    }

    /// Where signs of life go.
    pub fn reply(&self) -> Subject {
        self.latest.lock().reply.clone()
    }

    /// How often the message had been delivered when it last came here.
    pub fn count(&self) -> u64 {
        self.latest.lock().count
    }

    /// What the job's row said when the message last came here, where it was `running`.
    pub fn found_running(&self) -> Option<FoundRunning> {
        self.latest.lock().found_running
    }

    /// The same message came in again, so the server counts from that delivery on: it is ours, but
    /// under its new ack subject.
    pub fn renew(&self, again: Delivered) {
        let mut latest = self.latest.lock();
        if again.count >= latest.count || !self.is_of_this_stream() {
            self.generation.store(self.now.now(), Ordering::Release);
            *latest = Latest::of(again);
            self.signed(BootTime::now());
        }
    }
}

impl Latest {
    fn of(message: Delivered) -> Self {
        Self {
            reply: message.reply,
            count: message.count,
            found_running: message.found_running,
        }
    }
}

/// A delivered message that this process holds.
#[derive(Debug)]
pub struct Delivery {
    client: Client,
    ticket: Ticket,
    hold: Arc<Hold>,
}

/// What the server is told about a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is done; the stream removes it.
    Ack,
    /// Deliver it again, after this long.
    Nak(Duration),
    /// No job can be made of it; never deliver it again.
    Term,
}

impl Verdict {
    /// The payload of the acknowledgement.
    fn payload(self) -> Bytes {
        match self {
            Self::Ack => Bytes::from_static(b"+ACK"),
            Self::Nak(Duration::ZERO) => Bytes::from_static(b"-NAK"),
            Self::Nak(delay) => format!(r#"-NAK {{"delay": {}}}"#, delay.as_nanos()).into(),
            Self::Term => Bytes::from_static(b"+TERM"),
        }
    }
}

/// The payload of a sign of life.
pub const IN_PROGRESS: &[u8] = b"+WPI";

impl Delivery {
    /// A message that has just come in.
    pub fn new(
        client: Client,
        message: Delivered,
        ack_wait: Duration,
        generation: &Generation,
    ) -> Self {
        Self {
            client,
            ticket: message.ticket(),
            hold: Arc::new(Hold {
                generation: AtomicU64::new(generation.now()),
                now: generation.clone(),
                latest: Mutex::new(Latest::of(message)),
                ack_wait,
                last_sign: AtomicI64::new(BootTime::now().millis()),
                settled: AtomicBool::new(false),
                running: AtomicBool::new(false),
            }),
        }
    }

    /// Which message it is.
    pub fn ticket(&self) -> Ticket {
        self.ticket
    }

    /// What signs of life need.
    pub fn hold(&self) -> &Arc<Hold> {
        &self.hold
    }

    /// Marks its job as being run.
    pub fn set_running(&self) {
        self.hold.running.store(true, Ordering::Release);
    }

    /// Tells the server what to do with the message and waits, up to a second, until it has heard.
    /// A message that is no longer ours is left alone.
    pub async fn settle(self, verdict: Verdict) {
        let held = self.hold.is_held();
        self.hold.settled.store(true, Ordering::Release);
        if !held {
            tracing::debug!(
                sequence = self.ticket.sequence,
                "no longer ours: not settled"
            );
            return;
        }
        // What is sent now would go out when the connection is back, when it may no longer be ours.
        if self.client.connection_state() != State::Connected {
            tracing::warn!(
                sequence = self.ticket.sequence,
                "not settled: there is no connection"
            );
            return;
        }
        let heard = self.client.request(self.hold.reply(), verdict.payload());
        match tokio::time::timeout(Duration::from_secs(1), heard).await {
            Ok(Ok(_)) => {}
            // The server will deliver it again, and its row says what is to be done then.
            Ok(Err(error)) => {
                tracing::warn!(sequence = self.ticket.sequence, %error, "not settled")
            }
            Err(_) => tracing::warn!(
                sequence = self.ticket.sequence,
                "the server did not confirm"
            ),
        }
    }

    /// Gives the message up without a word: somebody else has it.
    pub fn let_go(self) {
        self.hold.settled.store(true, Ordering::Release);
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if !self.hold.settled.swap(true, Ordering::AcqRel) {
            tracing::warn!(
                sequence = self.ticket.sequence,
                "dropped unsettled; it waits for redelivery"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_forms_of_the_ack_subject() {
        let short =
            Subject::from("$JS.ACK.BACKSTACK_ACTIONS.worker-07.3.1042.9.1700000000000000001.4");
        let long = Subject::from(
            "$JS.ACK._.hash.BACKSTACK_ACTIONS.worker-07.3.1042.9.1700000000000000001.4.tail",
        );
        for subject in [short, long] {
            let read = Delivered::parse(&subject).unwrap();
            assert_eq!((read.count, read.sequence), (3, 1042));
            assert_eq!(read.stored_nanos, 1_700_000_000_000_000_001);
        }
        for other in ["_INBOX.x", "$JS.ACK.a.b.c.d.e.f.g", "a.b.s.c.1.2.3.4.5"] {
            assert!(Delivered::parse(&Subject::from(other)).is_none(), "{other}");
        }
    }

    #[test]
    fn a_delay_is_written_in_nanoseconds() {
        assert_eq!(Verdict::Nak(Duration::ZERO).payload(), "-NAK");
        assert_eq!(
            Verdict::Nak(Duration::from_millis(1)).payload(),
            r#"-NAK {"delay": 1000000}"#
        );
    }
}
