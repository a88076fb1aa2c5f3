//! Reading the work queue's stream: the next message of a repository, and what the leader has.
//!
//! Direct gets are cheap and answered by any replica, also by one that lags; the leader's answer
//! costs more and is believed.

use std::time::Duration;

use async_nats::{Client, HeaderMap, HeaderName, HeaderValue, StatusCode};
use backstack_producer::api::{self, ApiError, codes};
use backstack_schemas::{Timestamp, Topology};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::message::StoredMessage;

/// How long one question to the stream may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// The work queue's stream.
#[derive(Clone, Debug)]
pub struct ActionsStream {
    client: Client,
    name: String,
}

/// What the stream says of itself.
#[derive(Clone, Copy, Debug)]
pub struct StreamState {
    /// The newest message's sequence.
    pub last_sequence: u64,
    /// The server's time.
    pub server_time: Option<Timestamp>,
}

impl ActionsStream {
    /// The work queue of `topology`.
    pub fn new(client: Client, topology: &Topology) -> Self {
        Self {
            client,
            name: topology.actions_stream(),
        }
    }

    /// The oldest message on `filter` at or after `floor`, as any replica has it.
    ///
    /// # Errors
    /// The stream did not answer within a second, or not so that it could be read.
    pub async fn next(&self, filter: &str, floor: u64) -> Result<Option<StoredMessage>, ApiError> {
        let subject = format!("$JS.API.DIRECT.GET.{}", self.name);
        let query = json!({"seq": floor, "next_by_subj": filter}).to_string();
        let answer = api::request(&self.client, &subject, None, query.into(), PATIENCE).await?;
        let status = answer.status;
        // A message may have a status line that its publisher wrote, so it is looked for first.
        match (read_direct(answer), status) {
            (Some(message), _) => Ok(Some(message)),
            (None, Some(StatusCode::NOT_FOUND)) => Ok(None),
            (None, Some(status)) => Err(api::garbled(&subject, format!("status {status}"))),
            (None, None) => Err(api::garbled(
                &subject,
                "a message without subject, sequence or time",
            )),
        }
    }

    /// The same as the stream's leader has it.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub async fn next_from_leader(
        &self,
        filter: &str,
        floor: u64,
    ) -> Result<Option<StoredMessage>, ApiError> {
        self.ask_leader(json!({"seq": floor, "next_by_subj": filter}))
            .await
    }

    /// The message with this sequence, as the stream's leader has it.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub async fn get(&self, sequence: u64) -> Result<Option<StoredMessage>, ApiError> {
        self.ask_leader(json!({"seq": sequence})).await
    }

    /// The newest sequence, and the server's time.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub async fn state(&self) -> Result<StreamState, ApiError> {
        let subject = format!("STREAM.INFO.{}", self.name);
        let info = api::ask(&self.client, &subject, &Value::Null).await?;
        let last_sequence = info["state"]["last_seq"].as_u64();
        Ok(StreamState {
            last_sequence: last_sequence
                .ok_or_else(|| api::garbled(&subject, "no state.last_seq"))?,
            server_time: serde_json::from_value(info["ts"].clone()).ok(),
        })
    }

    /// How many messages no consumer has, delivered or about to be; more than there are where some come or go
    /// meanwhile.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub async fn stranded(&self) -> Result<u64, ApiError> {
        let subject = format!("CONSUMER.LIST.{}", self.name);
        let list = api::ask(&self.client, &subject, &Value::Null).await?;
        let consumers = list["consumers"].as_array().into_iter().flatten();
        let counts = consumers.flat_map(|consumer| {
            ["num_pending", "num_ack_pending"].map(|count| consumer[count].as_u64().unwrap_or(0))
        });
        let had: u64 = counts.sum();
        let subject = format!("STREAM.INFO.{}", self.name);
        // With a body, as no job asks it.
        let body = json!({"deleted_details": false});
        let info = api::ask(&self.client, &subject, &body).await?;
        let stored = info["state"]["messages"].as_u64().unwrap_or(0);
        Ok(stored.saturating_sub(had))
    }

    /// The oldest message at or after `floor`, as the leader has it, with its headers as the bytes that
    /// they were sent as; readable whatever its publisher sent.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub async fn next_with_raw_headers(
        &self,
        floor: u64,
    ) -> Result<Option<(StoredMessage, Vec<u8>)>, ApiError> {
        self.ask_leader_raw(json!({"seq": floor, "next_by_subj": ">"}))
            .await
    }

    /// Deletes a message; one that is gone already counts.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub async fn delete(&self, sequence: u64) -> Result<(), ApiError> {
        let subject = format!("STREAM.MSG.DELETE.{}", self.name);
        let query = json!({"seq": sequence, "no_erase": true});
        match api::ask(&self.client, &subject, &query).await {
            Err(error) if error.err_code() != Some(codes::NO_MESSAGE) => Err(error),
            _ => Ok(()),
        }
    }

    async fn ask_leader(&self, query: Value) -> Result<Option<StoredMessage>, ApiError> {
        let found = self.ask_leader_raw(query).await?;
        Ok(found.map(|(message, _)| message))
    }

    async fn ask_leader_raw(
        &self,
        query: Value,
    ) -> Result<Option<(StoredMessage, Vec<u8>)>, ApiError> {
        let subject = format!("STREAM.MSG.GET.{}", self.name);
        let asked = tokio::time::timeout(PATIENCE, api::ask(&self.client, &subject, &query)).await;
        match asked.map_err(|_| ApiError::TimedOut {
            subject: subject.clone(),
            within: PATIENCE,
        })? {
            Ok(answer) => serde_json::from_value::<Raw>(answer["message"].clone())
                .ok()
                .and_then(Raw::into_message)
                .map(Some)
                .ok_or_else(|| api::garbled(&subject, "a message it cannot have stored")),
            Err(error) if error.err_code() == Some(codes::NO_MESSAGE) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A message as a direct get gives it: the server adds its headers after those of the publisher, who
/// may have written ones of the same names.
fn read_direct(answer: async_nats::Message) -> Option<StoredMessage> {
    let headers = answer.headers?;
    let text = |name: &str| Some(headers.get_all(name).last()?.as_str());
    Some(StoredMessage {
        sequence: text("Nats-Sequence")?.parse().ok()?,
        stored_nanos: nanos(text("Nats-Time-Stamp")?)?,
        subject: text("Nats-Subject")?.to_owned(),
        headers: without_server_headers(&headers),
        payload: answer.payload,
    })
}

/// A message as `$JS.API.STREAM.MSG.GET` gives it.
#[derive(Deserialize)]
struct Raw {
    subject: String,
    seq: u64,
    #[serde(default)]
    hdrs: String,
    #[serde(default)]
    data: String,
    time: String,
}

impl Raw {
    /// The message, and its headers as they were sent.
    fn into_message(self) -> Option<(StoredMessage, Vec<u8>)> {
        let headers = STANDARD.decode(self.hdrs).ok()?;
        let message = StoredMessage {
            sequence: self.seq,
            stored_nanos: nanos(&self.time)?,
            headers: parse_headers(&headers),
            payload: Bytes::from(STANDARD.decode(self.data).ok()?),
            subject: self.subject,
        };
        Some((message, headers))
    }
}

/// The headers that a direct get adds to those of the stored message.
fn without_server_headers(headers: &HeaderMap) -> HeaderMap {
    const ADDED: [&str; 6] = [
        "Nats-Stream",
        "Nats-Subject",
        "Nats-Sequence",
        "Nats-Time-Stamp",
        "Nats-Num-Pending",
        "Nats-Last-Sequence",
    ];
    let mut kept = HeaderMap::new();
    for (name, values) in headers.iter() {
        if !ADDED.contains(&name.to_string().as_str()) {
            values
                .iter()
                .for_each(|value| kept.append(name.clone(), value.clone()));
        }
    }
    kept
}

/// Stored headers, `NATS/1.0\r\nName: value\r\n…`; lines that are none are passed over.
fn parse_headers(bytes: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let text = String::from_utf8_lossy(bytes);
    for line in text.split("\r\n").skip(1) {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        if let (Ok(name), Ok(value)) = (
            name.trim().parse::<HeaderName>(),
            value.trim().parse::<HeaderValue>(),
        ) {
            headers.append(name, value);
        }
    }
    headers
}

/// An RFC 3339 time in nanoseconds since the Unix epoch.
fn nanos(text: &str) -> Option<i128> {
    let time = chrono::DateTime::parse_from_rfc3339(text).ok()?;
    Some(i128::from(time.timestamp()) * 1_000_000_000 + i128::from(time.timestamp_subsec_nanos()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_headers_are_read_and_nonsense_is_passed_over() {
        let headers =
            parse_headers(b"NATS/1.0\r\nNats-Msg-Id: a\r\nnonsense\r\n: x\r\nX: y:z\r\n\r\n");
        assert_eq!(headers.get("Nats-Msg-Id").unwrap().as_str(), "a");
        assert_eq!(headers.get("X").unwrap().as_str(), "y:z");
    }

    #[test]
    fn store_times_keep_their_nanoseconds() {
        assert_eq!(nanos("1970-01-01T00:00:01.000000001Z"), Some(1_000_000_001));
        assert_eq!(nanos("soon"), None);
    }
}
