//! The rows of the four buckets, typed: read, written, listed and watched.
//!
//! - A read through [`Rows::get`] may be answered by a replica that lags; [`Rows::get_leader`] and
//!   [`Rows::list_leader`] hold every write that was acknowledged before they were called.
//! - Every write with an expected revision says whether it was made or lost. A write whose answer got
//!   lost is an error, and the same write tried again then counts as lost or as already there: compare
//!   the row found with the one meant.
//! - A row that does not parse is reported as such, with its key. Nothing here panics on one.
//!
//! Nothing here retries, but for [watches](Rows::watch), which go on for as long as they are wanted.

mod feed;
mod list;
mod watch;
mod write;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_nats::{Client, HeaderMap, StatusCode};
use backstack_schemas::topology::Bucket;
use backstack_schemas::{RepoId, Timestamp, Topology};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

pub use list::Listed;
pub use watch::{RowEvent, Watch};
pub use write::{Change, Created, Updated, Write};

use crate::api::{self, ApiError, codes};
use crate::clock::Clock;

/// A row as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row<T> {
    /// What it says.
    pub value: T,
    /// Its revision: the bucket's sequence, which the next write to it may expect.
    pub revision: u64,
    /// When the server stored it.
    pub at: Timestamp,
}

/// Why a row could not be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// The server did not do it.
    #[error("{bucket}: {error}")]
    Api {
        /// The bucket.
        bucket: String,
        /// What it said.
        error: ApiError,
    },
    /// The row is there and cannot be read.
    #[error("the row {key:?} in {bucket} cannot be read: {problem}")]
    Unreadable {
        /// The bucket.
        bucket: String,
        /// The row's key.
        key: String,
        /// The row's revision.
        revision: u64,
        /// What is wrong with it.
        problem: String,
    },
}

impl RowError {
    /// Whether asking again later may go otherwise.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Api { error, .. } if error.is_transient())
    }

    /// Whether the server does not permit it.
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Api { error, .. } if error.is_denied())
    }

    /// Whether the bucket's stream does not exist, as far as one can tell.
    pub fn is_missing_bucket(&self) -> bool {
        matches!(
            self,
            Self::Api { error, .. } if error.err_code() == Some(codes::STREAM_NOT_FOUND)
                || matches!(error, ApiError::NoResponders { .. })
        )
    }
}

/// Which rows of a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Keys {
    /// Every row.
    All,
    /// Every row of one repository; not for the bucket of repositories, whose keys are these.
    Of(RepoId),
    /// One row.
    One(String),
    /// Every row that matches, with NATS wildcards, `web.branch.>` for example.
    Matching(String),
}

impl Keys {
    fn filter(&self) -> String {
        match self {
            Self::All => ">".to_owned(),
            Self::Of(repo) => format!("{repo}.>"),
            Self::One(key) => key.clone(),
            Self::Matching(filter) => filter.clone(),
        }
    }
}

/// The four buckets over one connection. Cloning is cheap; all clones share one [`Clock`].
#[derive(Clone, Debug)]
pub struct Rows {
    client: Client,
    topology: Topology,
    buckets: Arc<[BucketNames; 4]>,
    conflicts: Arc<[AtomicU64; 4]>,
    clock: Arc<Clock>,
}

/// The names of a bucket, made once.
#[derive(Clone, Debug)]
struct BucketNames {
    stream: String,
    /// What stands before a key in its subject: `$KV.<bucket>.`.
    prefix: String,
}

impl Rows {
    /// The buckets of the installation. Asks nothing.
    pub fn new(client: Client, topology: Topology) -> Self {
        let names = |bucket| BucketNames {
            stream: topology.bucket_stream(bucket),
            prefix: topology.key_subject(bucket, ""),
        };
        Self {
            buckets: Arc::new(Bucket::ALL.map(names)),
            conflicts: Arc::default(),
            client,
            topology,
            clock: Arc::new(Clock::default()),
        }
    }

    /// The connection.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The names of the installation.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The time for rows, fed by everything that is read here.
    pub fn clock(&self) -> &Arc<Clock> {
        &self.clock
    }

    /// How many writes found another revision than they expected, in each of [`Bucket::ALL`], over all
    /// clones since the first was made.
    pub fn conflicts(&self) -> [u64; 4] {
        [0, 1, 2, 3].map(|bucket| self.conflicts[bucket].load(Ordering::Relaxed))
    }

    /// The time for a row written now, by the server's clock: the first time, it is asked for that, where it
    /// has not told it yet. Where it does not answer, what [`clock`](Self::clock) says has to do.
    pub async fn server_now(&self) -> Timestamp {
        if !self.clock.is_told() {
            let subject = format!("STREAM.INFO.{}", self.names(Bucket::Jobs).stream);
            match api::ask(&self.client, &subject, &Value::Null).await {
                Ok(info) => self.heard_time(&info),
                Err(error) => tracing::debug!(%error, "the server does not tell its time"),
            }
        }
        self.clock.now()
    }

    /// Takes in the time at which the server gave this answer.
    fn heard_time(&self, answer: &Value) {
        if let Ok(at) = serde_json::from_value::<Timestamp>(answer["ts"].clone()) {
            self.clock.told(at);
        }
    }

    /// Reads a row from whichever replica answers; a lagging one may answer with an older row, or none.
    ///
    /// # Errors
    /// [`RowError`]
    pub async fn get<T: DeserializeOwned>(
        &self,
        bucket: Bucket,
        key: &str,
    ) -> Result<Option<Row<T>>, RowError> {
        let names = self.names(bucket);
        let subject = format!("$JS.API.DIRECT.GET.{}.{}{key}", names.stream, names.prefix);
        let answer = api::request(&self.client, &subject, None, Bytes::new(), api::DEADLINE);
        let answer = answer.await.map_err(|error| self.failed(bucket, error))?;
        if answer.status == Some(StatusCode::NOT_FOUND) {
            return Ok(None);
        }
        let headers = answer.headers.unwrap_or_default();
        if answer.status.is_some_and(|status| !status.is_success()) {
            let problem = answer.description.unwrap_or_default();
            return Err(self.failed(bucket, api::garbled(&subject, problem)));
        }
        let stored = stored_headers(&headers)
            .ok_or_else(|| self.failed(bucket, api::garbled(&subject, "no sequence or time")))?;
        self.clock.saw(stored.1);
        self.read(bucket, key, stored, is_marker(&headers), &answer.payload)
    }

    /// Reads a row from the stream's leader: at least as new as every acknowledged write.
    ///
    /// # Errors
    /// [`RowError`]
    pub async fn get_leader<T: DeserializeOwned>(
        &self,
        bucket: Bucket,
        key: &str,
    ) -> Result<Option<Row<T>>, RowError> {
        match self.last_stored(bucket, key).await? {
            Some(last) => {
                let stored = (last.sequence, last.at);
                self.read(bucket, key, stored, last.is_marker, &last.payload)
            }
            None => Ok(None),
        }
    }

    /// The revision of the newest write under these keys, deletions included, as the leader has it;
    /// `None` where there never was one, or all have expired.
    ///
    /// # Errors
    /// [`RowError::Api`]
    pub async fn newest(&self, bucket: Bucket, keys: &Keys) -> Result<Option<u64>, RowError> {
        let last = self.last_stored(bucket, &keys.filter()).await?;
        Ok(last.map(|stored| stored.sequence))
    }

    /// The last message on the keys that match `filter`, markers of deletion included, from the
    /// leader.
    async fn last_stored(&self, bucket: Bucket, filter: &str) -> Result<Option<Stored>, RowError> {
        let names = self.names(bucket);
        let subject = format!("STREAM.MSG.GET.{}", names.stream);
        let body = json!({ "last_by_subj": format!("{}{filter}", names.prefix) });
        let answer = match api::ask(&self.client, &subject, &body).await {
            Ok(answer) => answer,
            Err(error) if error.err_code() == Some(codes::NO_MESSAGE) => return Ok(None),
            Err(error) => return Err(self.failed(bucket, error)),
        };
        let stored = Stored::parse(&answer["message"])
            .ok_or_else(|| self.failed(bucket, api::garbled(&subject, "no stored message")))?;
        self.clock.saw(stored.at);
        Ok(Some(stored))
    }

    /// The row in a stored message; `None` where that is the marker of a deletion.
    fn read<T: DeserializeOwned>(
        &self,
        bucket: Bucket,
        key: &str,
        (revision, at): (u64, Timestamp),
        is_marker: bool,
        payload: &[u8],
    ) -> Result<Option<Row<T>>, RowError> {
        if is_marker {
            return Ok(None);
        }
        match serde_json::from_slice(payload) {
            Ok(value) => Ok(Some(Row {
                value,
                revision,
                at,
            })),
            Err(problem) => Err(RowError::Unreadable {
                bucket: self.topology.bucket(bucket),
                key: key.to_owned(),
                revision,
                problem: problem.to_string(),
            }),
        }
    }

    fn names(&self, bucket: Bucket) -> &BucketNames {
        &self.buckets[index(bucket)]
    }

    fn failed(&self, bucket: Bucket, error: ApiError) -> RowError {
        RowError::Api {
            bucket: self.topology.bucket(bucket),
            error,
        }
    }
}

/// A bucket's place in [`Bucket::ALL`].
const fn index(bucket: Bucket) -> usize {
    match bucket {
        Bucket::Repos => 0,
        Bucket::Jobs => 1,
        Bucket::Branches => 2,
        Bucket::Tasks => 3,
    }
}

/// A message as `STREAM.MSG.GET` tells it.
struct Stored {
    sequence: u64,
    at: Timestamp,
    is_marker: bool,
    payload: Vec<u8>,
}

impl Stored {
    fn parse(message: &Value) -> Option<Self> {
        let decode = |field: &str| match message[field].as_str() {
            Some(text) => STANDARD.decode(text).ok(),
            None => Some(Vec::new()),
        };
        let headers = decode("hdrs")?;
        Some(Self {
            sequence: message["seq"].as_u64()?,
            at: serde_json::from_value(message["time"].clone()).ok()?,
            is_marker: marks_deletion(&headers),
            payload: decode("data")?,
        })
    }
}

/// Whether a raw header block says that the row is gone.
fn marks_deletion(headers: &[u8]) -> bool {
    let text = String::from_utf8_lossy(headers);
    let values = text.lines().filter_map(|line| line.split_once(':'));
    values
        .filter(|(name, _)| name.eq_ignore_ascii_case(OPERATION))
        .any(|(_, value)| GONE.contains(&value.trim()))
}

/// The header in which a key-value bucket says what a message is, where it is no value.
const OPERATION: &str = "KV-Operation";

/// Its values that mean that the row is gone.
const GONE: [&str; 2] = ["DEL", "PURGE"];

fn is_marker(headers: &HeaderMap) -> bool {
    headers
        .get(OPERATION)
        .is_some_and(|operation| GONE.contains(&operation.as_str()))
}

/// Sequence and store time of a message that a direct get answered with.
fn stored_headers(headers: &HeaderMap) -> Option<(u64, Timestamp)> {
    let sequence = headers.get("Nats-Sequence")?.as_str().parse().ok()?;
    let at = headers.get("Nats-Time-Stamp")?.as_str();
    let at = chrono::DateTime::parse_from_rfc3339(at).ok()?;
    Some((sequence, Timestamp::new(at.to_utc())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deletion_is_told_by_its_header_alone() {
        assert!(marks_deletion(b"NATS/1.0\r\nKV-Operation: DEL\r\n\r\n"));
        assert!(marks_deletion(b"NATS/1.0\r\nkv-operation:PURGE\r\n\r\n"));
        assert!(!marks_deletion(b"NATS/1.0\r\nOther: DEL\r\n\r\n"));
        assert!(!marks_deletion(b""));
    }

    #[test]
    fn a_stored_message_without_payload_or_headers_is_one() {
        let message = json!({"seq": 7, "time": "2026-11-22T10:00:00.123456789Z"});
        let stored = Stored::parse(&message).unwrap();
        assert_eq!((stored.sequence, stored.payload.len()), (7, 0));
        assert_eq!(stored.at.to_string(), "2026-11-22T10:00:00.123Z");
        assert!(Stored::parse(&json!({"seq": 7})).is_none());
    }
}
