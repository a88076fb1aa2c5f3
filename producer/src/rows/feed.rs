//! One consumer of one bucket, from its making to the first doubt about it.
//!
//! A feed is an ephemeral push consumer without acknowledgements, asked for through the raw API. It
//! hands on every message in the stream's order, or ends: with a gap in the numbering, without a sign
//! of life from the server, and when the connection was made anew. It never repairs itself;
//! whoever reads it makes the next one from the last sequence seen.

use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::{Client, Message, StatusCode, Subscriber};
use backstack_schemas::Timestamp;
use bytes::Bytes;
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::is_marker;
use crate::api::{self, ApiError};

/// How often the server gives a sign of life while there is nothing to send.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// How long silence may last: a replica that dies takes its consumers with it.
const SILENCE: Duration = Duration::from_secs(6);

/// How often a feed looks whether its connection is still the one it began on.
const LOOK: Duration = Duration::from_millis(250);

/// How long the server keeps a consumer that nobody listens to: long enough for a cluster to hear that
/// somebody does, short enough for many lists in a row.
const KEPT: Duration = Duration::from_secs(2);

/// Where a feed begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// The last message of each key, then everything new.
    Current,
    /// Everything from this sequence on.
    Sequence(u64),
}

/// A stored message of the bucket.
#[derive(Debug)]
pub(super) struct Entry {
    /// Its key's subject.
    pub(super) subject: String,
    /// Its sequence, the row's revision.
    pub(super) revision: u64,
    /// When it was stored.
    pub(super) at: Timestamp,
    /// Whether it marks a deletion.
    pub(super) is_marker: bool,
    /// The row.
    pub(super) payload: Bytes,
    /// How many more matched when this one was sent.
    pub(super) pending: u64,
}

/// What a feed has to say.
#[derive(Debug)]
pub(super) enum Heard {
    /// A message.
    Entry(Entry),
    /// The server has nothing more to send at the moment.
    Idle,
    /// The feed is over; go on with another.
    Over,
}

pub(super) struct Feed {
    client: Client,
    subscriber: Subscriber,
    /// The number of the last message that the consumer sent.
    delivered: u64,
    /// Which of the client's connections this feed began on.
    connection: u64,
    /// How many messages matched when the feed began.
    pub(super) pending: u64,
    /// What the server said when it began.
    pub(super) info: Value,
}

impl Feed {
    /// Makes the consumer.
    pub(super) async fn open(
        client: &Client,
        stream: &str,
        filter: &str,
        from: From,
    ) -> Result<Self, ApiError> {
        let connection = connection(client);
        let inbox = client.new_inbox();
        let subscriber = client.subscribe(inbox.clone()).await;
        let subscriber = subscriber.map_err(|error| ApiError::Unsendable {
            subject: inbox.clone(),
            problem: error.to_string(),
        })?;
        let name = inbox.rsplit('.').next().unwrap_or_default();
        let subject = format!("CONSUMER.CREATE.{stream}.{name}.{filter}");
        let body = json!({
            "stream_name": stream,
            "config": config(name, &inbox, filter, from),
            "action": "create",
        });
        let info = api::ask(client, &subject, &body).await?;
        Ok(Self {
            client: client.clone(),
            subscriber,
            delivered: 0,
            connection,
            pending: info["num_pending"].as_u64().unwrap_or(0),
            info,
        })
    }

    /// The next thing heard; safe to drop while it waits.
    pub(super) async fn next(&mut self) -> Heard {
        let silent_at = Instant::now() + SILENCE;
        loop {
            let look_at = Instant::now() + LOOK;
            match timeout_at(look_at.min(silent_at), self.subscriber.next()).await {
                Ok(Some(message)) => {
                    if let Some(heard) = self.take(message).await {
                        return heard;
                    }
                }
                Ok(None) => return Heard::Over,
                Err(_) if Instant::now() >= silent_at => return Heard::Over,
                Err(_) if connection(&self.client) != self.connection => return Heard::Over,
                Err(_) => {}
            }
        }
    }

    /// What a message means; `None` where it only needed an answer.
    async fn take(&mut self, message: Message) -> Option<Heard> {
        if message.status == Some(StatusCode::IDLE_HEARTBEAT) {
            return self.control(message).await;
        }
        let Some(place) = message.reply.as_ref().and_then(|reply| Place::parse(reply)) else {
            // Not from our consumer: the server tells that it deleted it, say.
            return Some(Heard::Over);
        };
        if place.delivered != self.delivered + 1 {
            return Some(Heard::Over);
        }
        self.delivered = place.delivered;
        Some(Heard::Entry(Entry {
            subject: message.subject.as_str().to_owned(),
            revision: place.sequence,
            at: place.at,
            is_marker: message.headers.as_ref().is_some_and(is_marker),
            payload: message.payload,
            pending: place.pending,
        }))
    }

    /// A sign of life, or the question whether we keep up.
    async fn control(&mut self, message: Message) -> Option<Heard> {
        if let Some(reply) = message.reply {
            let _ = self.client.publish(reply, Bytes::new()).await;
            return None;
        }
        let headers = message.headers.unwrap_or_default();
        if let Some(stalled) = headers.get("Nats-Consumer-Stalled") {
            let reply = stalled.as_str().to_owned();
            let _ = self.client.publish(reply, Bytes::new()).await;
            return None;
        }
        let last = headers.get("Nats-Last-Consumer");
        match last.and_then(|last| last.as_str().parse::<u64>().ok()) {
            Some(last) if last != self.delivered => Some(Heard::Over),
            _ => Some(Heard::Idle),
        }
    }
}

/// Counts the client's connections, so that a new one is noticed.
fn connection(client: &Client) -> u64 {
    client.statistics().connects.load(Ordering::Relaxed)
}

fn config(name: &str, inbox: &str, filter: &str, from: From) -> Value {
    let nanos = |span: Duration| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
    let mut config = json!({
        "name": name,
        "deliver_subject": inbox,
        "filter_subject": filter,
        "ack_policy": "none",
        "max_deliver": 1,
        "flow_control": true,
        "idle_heartbeat": nanos(HEARTBEAT),
        "inactive_threshold": nanos(KEPT),
        "mem_storage": true,
        "num_replicas": 1,
    });
    match from {
        From::Current => config["deliver_policy"] = json!("last_per_subject"),
        From::Sequence(sequence) => {
            config["deliver_policy"] = json!("by_start_sequence");
            config["opt_start_seq"] = json!(sequence);
        }
    }
    config
}

/// A message's place in the stream and in the consumer, as its reply subject tells:
/// `$JS.ACK[.<domain>.<account>].<stream>.<consumer>.<deliveries>.<sequence>.<delivered>.<time>.<pending>[.…]`.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    sequence: u64,
    delivered: u64,
    at: Timestamp,
    pending: u64,
}

impl Place {
    fn parse(reply: &str) -> Option<Self> {
        let tokens: Vec<_> = reply.strip_prefix("$JS.ACK.")?.split('.').collect();
        // The longer form has the domain and the account in front.
        let numbers = match tokens.len() {
            7 => &tokens[3..],
            n if n >= 9 => &tokens[5..],
            _ => return None,
        };
        let nanos: i64 = numbers[2].parse().ok()?;
        Some(Self {
            sequence: numbers[0].parse().ok()?,
            delivered: numbers[1].parse().ok()?,
            at: Timestamp::from_unix_millis(nanos.div_euclid(1_000_000))?,
            pending: numbers[3].parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_a_reply_subject_are_read() {
        let at = Timestamp::from_unix_millis(1_700_000_000_123).unwrap();
        let place = Place {
            sequence: 42,
            delivered: 7,
            at,
            pending: 3,
        };
        for reply in [
            "$JS.ACK.KV_jobs.abc.1.42.7.1700000000123456789.3",
            "$JS.ACK._.ACC.KV_jobs.abc.1.42.7.1700000000123456789.3.x9",
        ] {
            assert_eq!(Place::parse(reply).as_ref(), Some(&place), "{reply}");
        }
        assert_eq!(Place::parse("_INBOX.abc"), None);
        assert_eq!(Place::parse("$JS.ACK.a.b.1.x.7.1.3"), None);
    }
}
