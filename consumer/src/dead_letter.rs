//! Messages that no job can be made of are kept, whole, where a person can look at them.

use async_nats::{Client, HeaderMap};
use backstack_producer::api::{self, ApiError, codes};
use backstack_schemas::Topology;
use backstack_schemas::topology::DeadReason;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::message::StoredMessage;

/// Headers that would change what publishing means, or that this copy sets itself.
const NOT_COPIED: [&str; 7] = [
    "Nats-Msg-Id",
    "Nats-Expected-Stream",
    "Nats-Expected-Last-Sequence",
    "Nats-Expected-Last-Subject-Sequence",
    "Nats-Expected-Last-Msg-Id",
    "Nats-Rollup",
    "Nats-TTL",
];

/// Writes dead letters.
#[derive(Clone, Debug)]
pub struct DeadLetters {
    client: Client,
    topology: Topology,
}

impl DeadLetters {
    /// Dead letters of this installation.
    pub fn new(client: Client, topology: Topology) -> Self {
        Self { client, topology }
    }

    /// Copies the message to `<ns>.dead.<reason>`, with its payload, its headers, and `Nats-Msg-Id`
    /// `<stream>:<sequence>`, so that burying it again after a crash adds nothing. Where a message of a
    /// former queue, deleted and made anew since, was just buried under that id, the store time is added.
    ///
    /// `Backstack-Subject` is the subject that the message was published on, not the one it is stored
    /// on: the publisher knows only the former, and whoever repairs a letter publishes it there again.
    ///
    /// # Errors
    /// The stream did not confirm it; the message must not be given up yet.
    pub async fn bury(&self, reason: DeadReason, message: &StoredMessage) -> Result<(), ApiError> {
        let subject = self.topology.dead_subject(reason);
        let mut headers = self.headers(message);
        let payload = message.payload.clone();
        let letter = Some(headers.clone());
        let ack = api::publish(
            &self.client,
            &subject,
            letter,
            payload.clone(),
            api::DEADLINE,
        );
        let ack = ack.await?;
        if ack.duplicate && self.is_of_another(ack.sequence, message).await? {
            let id = format!("{}:{}", self.message_id(message), message.stored_nanos);
            headers.insert("Nats-Msg-Id", id.as_str());
            api::publish(
                &self.client,
                &subject,
                Some(headers),
                payload,
                api::DEADLINE,
            )
            .await?;
        }
        tracing::warn!(sequence = message.sequence, subject, "dead letter");
        Ok(())
    }

    fn message_id(&self, message: &StoredMessage) -> String {
        format!("{}:{}", self.topology.actions_stream(), message.sequence)
    }

    /// Whether the letter that is stored there is of a message with another payload.
    async fn is_of_another(&self, letter: u64, message: &StoredMessage) -> Result<bool, ApiError> {
        let subject = format!("STREAM.MSG.GET.{}", self.topology.dead_stream());
        match api::ask(&self.client, &subject, &json!({ "seq": letter })).await {
            Ok(found) => {
                let payload = found["message"]["data"].as_str().unwrap_or_default();
                Ok(payload != STANDARD.encode(&message.payload))
            }
            // Somebody deleted it, and does not want it back.
            Err(error) if error.err_code() == Some(codes::NO_MESSAGE) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn headers(&self, message: &StoredMessage) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, values) in message.headers.iter() {
            let text: &str = name.as_ref();
            if !NOT_COPIED.iter().any(|not| not.eq_ignore_ascii_case(text)) {
                values
                    .iter()
                    .for_each(|value| headers.append(name.clone(), value.clone()));
            }
        }
        headers.insert("Nats-Msg-Id", self.message_id(message).as_str());
        let subject = self.topology.published_subject(&message.subject);
        headers.insert("Backstack-Subject", subject.as_str());
        headers
    }
}
