//! One request to the JetStream API, and what may come back.
//!
//! Requests are raw JSON on `$JS.API.…`, so that what is sent is exactly what
//! [`backstack_schemas::topology`] says. Every request has a deadline that covers a connection that is
//! down too. Nothing here retries.

use std::time::Duration;

use async_nats::client::RequestErrorKind;
use async_nats::{Client, HeaderMap, Message, Request};
use bytes::Bytes;
use serde_json::Value;

use crate::denials::{Denial, Denials};

/// How long one request may take before it counts as unanswered.
pub const DEADLINE: Duration = Duration::from_secs(5);

/// Why a request to JetStream gave no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// Nobody listens on the subject: no JetStream, no such stream, or no leader yet.
    #[error("nothing listens on {subject}")]
    NoResponders {
        /// The subject asked.
        subject: String,
    },
    /// The server does not permit it, and so will not answer.
    #[error("the NATS server does not permit this user to publish on {subject}")]
    Denied {
        /// The subject asked.
        subject: String,
    },
    /// The server does not permit this user to hear answers.
    #[error(
        "the NATS server does not permit this user to subscribe to {inbox}, where the answer on \
         {subject} would come; name the prefix that it permits with --inbox-prefix"
    )]
    NoInbox {
        /// The subject asked.
        subject: String,
        /// What this user may not subscribe to.
        inbox: String,
    },
    /// No answer came. A server that forbids the subject does not answer either; a connection made by
    /// [`connect`](crate::connect()) hears of it, see [`Denied`](Self::Denied).
    #[error(
        "no answer on {subject} within {within:?}; the server is not reachable, is electing a \
         leader, or does not permit this user to publish there"
    )]
    TimedOut {
        /// The subject asked.
        subject: String,
        /// How long an answer was waited for.
        within: Duration,
    },
    /// The server answered that it will not.
    #[error("{description} (JetStream error {err_code})")]
    Refused {
        /// The class, like an HTTP status.
        code: u16,
        /// JetStream's own code; see [`codes`].
        err_code: u64,
        /// What the server says about it.
        description: String,
    },
    /// The connection was closed for good, or the request could not be sent.
    #[error("the request on {subject} could not be sent: {problem}")]
    Unsendable {
        /// The subject asked.
        subject: String,
        /// What the client library says.
        problem: String,
    },
    /// The answer is not what the API says it is.
    #[error("the answer on {subject} cannot be read: {problem}")]
    Garbled {
        /// The subject asked.
        subject: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// JetStream's error codes that mean something to Backstack.
pub mod codes {
    /// The server has too little memory or storage for what is asked.
    pub const INSUFFICIENT_RESOURCES: u64 = 10023;
    /// The consumer's name is taken.
    pub const CONSUMER_NAME_EXISTS: u64 = 10013;
    /// The consumer does not exist.
    pub const CONSUMER_NOT_FOUND: u64 = 10014;
    /// The stream takes no more: a limit or the disk.
    pub const STORAGE_EXCEEDED: u64 = 10047;
    /// No message matches.
    pub const NO_MESSAGE: u64 = 10037;
    /// JetStream is off for this account.
    pub const NOT_ENABLED_FOR_ACCOUNT: u64 = 10039;
    /// The stream exists with another configuration.
    pub const STREAM_NAME_EXISTS: u64 = 10058;
    /// The stream does not exist.
    pub const STREAM_NOT_FOUND: u64 = 10059;
    /// Another stream already has one of the subjects.
    pub const SUBJECTS_OVERLAP: u64 = 10065;
    /// The last message of the subject is not the expected one.
    pub const WRONG_LAST_SEQUENCE: u64 = 10071;
    /// More than one replica asked of a server that is not in a cluster.
    pub const REPLICAS_NOT_SUPPORTED: u64 = 10074;
    /// JetStream is off on this server.
    pub const NOT_ENABLED: u64 = 10076;
    /// A consumer of that name exists with another configuration.
    pub const CONSUMER_EXISTS: u64 = 10148;
    /// As [`WRONG_LAST_SEQUENCE`], without saying which is the last.
    pub const WRONG_LAST_SEQUENCE_UNTOLD: u64 = 10164;
}

impl ApiError {
    /// JetStream's code, where the server refused.
    pub fn err_code(&self) -> Option<u64> {
        match self {
            Self::Refused { err_code, .. } => Some(*err_code),
            _ => None,
        }
    }

    /// Whether the server does not permit this user to ask, or to hear the answer.
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Denied { .. } | Self::NoInbox { .. })
    }

    /// Whether JetStream has no room for what was to be stored.
    pub fn is_full(&self) -> bool {
        let full = [codes::INSUFFICIENT_RESOURCES, codes::STORAGE_EXCEEDED];
        self.err_code().is_some_and(|code| full.contains(&code))
    }

    /// Whether asking again later may go otherwise: elections, restarts, lost connections.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::NoResponders { .. } | Self::TimedOut { .. } => true,
            // 503 is the server's word for "not now", but for what only a person can change.
            Self::Refused { code, err_code, .. } => {
                *code == 503
                    && !matches!(
                        *err_code,
                        codes::NOT_ENABLED
                            | codes::NOT_ENABLED_FOR_ACCOUNT
                            | codes::INSUFFICIENT_RESOURCES
                    )
            }
            Self::Denied { .. }
            | Self::NoInbox { .. }
            | Self::Unsendable { .. }
            | Self::Garbled { .. } => false,
        }
    }
}

/// Asks the JetStream API on `$JS.API.<subject>` and reads the answer, or the error in it.
///
/// # Errors
/// [`ApiError`]; after [`DEADLINE`] at the latest.
pub async fn ask(client: &Client, subject: &str, body: &Value) -> Result<Value, ApiError> {
    ask_within(client, subject, body, DEADLINE).await
}

/// The same with a deadline of one's own, for what takes a cluster longer.
///
/// # Errors
/// [`ApiError`]; after `deadline` at the latest.
pub async fn ask_within(
    client: &Client,
    subject: &str,
    body: &Value,
    deadline: Duration,
) -> Result<Value, ApiError> {
    let subject = format!("$JS.API.{subject}");
    let payload = if body.is_null() {
        Bytes::new()
    } else {
        Bytes::from(body.to_string())
    };
    let answer = request(client, &subject, None, payload, deadline).await?;
    read_answer(&subject, &answer.payload)
}

/// Publishes to a stream and returns what its acknowledgement says.
///
/// # Errors
/// [`ApiError`]; after `deadline` at the latest. A message that timed out may have been stored all the
/// same.
pub async fn publish(
    client: &Client,
    subject: &str,
    headers: Option<HeaderMap>,
    payload: Bytes,
    deadline: Duration,
) -> Result<PubAck, ApiError> {
    let answer = request(client, subject, headers, payload, deadline).await?;
    read_ack(subject, &answer.payload)
}

fn read_ack(subject: &str, payload: &[u8]) -> Result<PubAck, ApiError> {
    /// A refusal has a stream and a sequence too, so the error has to be looked at first.
    #[derive(serde::Deserialize)]
    struct Answer {
        error: Option<Refusal>,
        #[serde(flatten)]
        ack: Option<PubAck>,
    }
    let answer: Answer =
        serde_json::from_slice(payload).map_err(|problem| garbled(subject, problem.to_string()))?;
    match answer {
        Answer {
            error: Some(refusal),
            ..
        } => Err(refusal.into()),
        Answer { ack: Some(ack), .. } => Ok(ack),
        Answer { .. } => Err(garbled(subject, "it is no acknowledgement")),
    }
}

/// The `error` member of an answer.
#[derive(serde::Deserialize)]
struct Refusal {
    #[serde(default)]
    code: u16,
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused {
            code: refusal.code,
            err_code: refusal.err_code,
            description: refusal.description,
        }
    }
}

/// A stream's acknowledgement: the message is stored.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
pub struct PubAck {
    /// The stream that stored it.
    pub stream: String,
    /// Its sequence; the first one's where it is a duplicate.
    #[serde(rename = "seq")]
    pub sequence: u64,
    /// Whether the stream already had a message of this id.
    #[serde(default)]
    pub duplicate: bool,
}

/// Sends a request and waits for its answer. The deadline covers handing it to the connection too,
/// which waits while the connection is down and its queue is full.
pub async fn request(
    client: &Client,
    subject: &str,
    headers: Option<HeaderMap>,
    payload: Bytes,
    deadline: Duration,
) -> Result<Message, ApiError> {
    let mut request = Request::new().payload(payload).timeout(None);
    if let Some(headers) = headers {
        request = request.headers(headers);
    }
    let denials = Denials::of(client);
    let denied = denials.of_request(subject, denials.count());
    let sent = client.send_request(subject.to_owned(), request);
    let answered = tokio::select! {
        answered = tokio::time::timeout(deadline, sent) => answered,
        denial = denied => return Err(denial_of(subject, denial)),
    };
    match answered {
        Ok(Ok(message)) => Ok(message),
        Ok(Err(error)) if error.kind() == RequestErrorKind::NoResponders => {
            Err(ApiError::NoResponders {
                subject: subject.to_owned(),
            })
        }
        Ok(Err(error)) => Err(ApiError::Unsendable {
            subject: subject.to_owned(),
            problem: error.to_string(),
        }),
        Err(_) => Err(ApiError::TimedOut {
            subject: subject.to_owned(),
            within: deadline,
        }),
    }
}

fn denial_of(subject: &str, denial: Denial) -> ApiError {
    let subject = subject.to_owned();
    match denial {
        Denial::Publish => ApiError::Denied { subject },
        Denial::Inbox(inbox) => ApiError::NoInbox { subject, inbox },
    }
}

fn read_answer(subject: &str, payload: &[u8]) -> Result<Value, ApiError> {
    let value: Value =
        serde_json::from_slice(payload).map_err(|problem| garbled(subject, problem.to_string()))?;
    let error = &value["error"];
    if error.is_null() {
        return Ok(value);
    }
    Err(ApiError::Refused {
        code: error["code"]
            .as_u64()
            .and_then(|code| u16::try_from(code).ok())
            .unwrap_or_default(),
        err_code: error["err_code"].as_u64().unwrap_or_default(),
        description: error["description"]
            .as_str()
            .unwrap_or("no description")
            .to_owned(),
    })
}

/// The error of an answer that is not what the API says it is.
pub fn garbled(subject: &str, problem: impl Into<String>) -> ApiError {
    ApiError::Garbled {
        subject: subject.to_owned(),
        problem: problem.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_keeps_the_servers_code_and_words() {
        let payload =
            br#"{"error":{"code":503,"err_code":10076,"description":"JetStream not enabled"}}"#;
        let error = read_answer("$JS.API.INFO", payload).unwrap_err();
        assert_eq!(error.err_code(), Some(codes::NOT_ENABLED));
        assert!(
            !error.is_transient(),
            "it stays off until somebody turns it on"
        );
        assert_eq!(
            error.to_string(),
            "JetStream not enabled (JetStream error 10076)"
        );
    }

    #[test]
    fn a_refused_message_is_no_acknowledged_one() {
        let payload = br#"{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 1"},"stream":"KV_a","seq":0}"#;
        let error = read_ack("a", payload).unwrap_err();
        assert_eq!(error.err_code(), Some(codes::WRONG_LAST_SEQUENCE));
        let ack = read_ack("a", br#"{"stream":"KV_a","seq":7,"duplicate":true}"#).unwrap();
        assert_eq!((ack.sequence, ack.duplicate), (7, true));
        assert!(read_ack("a", b"{}").is_err());
    }

    #[test]
    fn an_answer_that_is_not_json_is_an_error_of_its_own() {
        let error = read_answer("$JS.API.INFO", b"+OK").unwrap_err();
        assert!(matches!(error, ApiError::Garbled { .. }), "{error}");
    }
}
