//! Writes: all of them one publish to the key's subject, with or without an expected revision.
//!
//! No message id is ever set: a row written twice with the same content is two writes.

use std::sync::atomic::Ordering;

use async_nats::{HeaderMap, header};
use backstack_schemas::topology::{Bucket, MARKER_LIFETIME};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{OPERATION, Row, RowError, Rows, index};
use crate::api::{self, ApiError, codes};

/// How many writes [`Rows::write_all`] keeps unacknowledged at a time.
const PIPELINED: usize = 256;

/// What became of [`Rows::create`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Created<T> {
    /// The row is new, at this revision.
    Made(u64),
    /// There was one. It may be one's own, where an earlier answer got lost.
    Exists(Row<T>),
}

/// What became of a write that expected a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Updated {
    /// The row was written and has this revision now.
    Done(u64),
    /// The row was not at the expected revision; nothing was written.
    Lost {
        /// Where it is instead, 0 for no row, where the server said so.
        revision: Option<u64>,
    },
}

/// One write of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The row's key.
    pub key: String,
    /// What to write.
    pub change: Change,
    /// The revision that the row must be at, 0 for no row; `None` where any will do.
    pub expected: Option<u64>,
}

/// What a write does to its row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The row becomes this JSON.
    Put(Bytes),
    /// The row goes.
    Delete,
}

impl Write {
    /// Makes the row be `value`, whatever it was.
    pub fn put<T: Serialize>(key: impl Into<String>, value: &T) -> Self {
        Self {
            key: key.into(),
            change: Change::Put(encode(value)),
            expected: None,
        }
    }

    /// Removes the row, whatever it was.
    pub fn delete(key: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            change: Change::Delete,
            expected: None,
        }
    }

    /// The same, if the row is at `revision`; 0 is no row.
    #[must_use]
    pub fn expecting(self, revision: u64) -> Self {
        Self {
            expected: Some(revision),
            ..self
        }
    }
}

impl Rows {
    /// Writes the row if there is none. A deleted one counts as none.
    ///
    /// # Errors
    /// [`RowError`]; after one that [is transient](RowError::is_transient) the row may have been
    /// written.
    pub async fn create<T>(
        &self,
        bucket: Bucket,
        key: &str,
        value: &T,
    ) -> Result<Created<T>, RowError>
    where
        T: Serialize + DeserializeOwned,
    {
        let write = Write::put(key, value);
        let mut expected = 0;
        loop {
            let attempt = write.clone().expecting(expected);
            if let Updated::Done(revision) = self.write(bucket, attempt).await? {
                return Ok(Created::Made(revision));
            }
            match self.last_stored(bucket, key).await? {
                Some(last) if last.is_marker => expected = last.sequence,
                Some(last) => {
                    let stored = (last.sequence, last.at);
                    if let Some(row) = self.read(bucket, key, stored, false, &last.payload)? {
                        return Ok(Created::Exists(row));
                    }
                }
                // It expired between the two requests.
                None => expected = 0,
            }
        }
    }

    /// Writes the row if it is at the revision `expected`.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub async fn update<T: Serialize>(
        &self,
        bucket: Bucket,
        key: &str,
        value: &T,
        expected: u64,
    ) -> Result<Updated, RowError> {
        let write = Write::put(key, value).expecting(expected);
        self.write(bucket, write).await
    }

    /// Writes the row, whatever it was, and returns its revision.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub async fn put<T: Serialize>(
        &self,
        bucket: Bucket,
        key: &str,
        value: &T,
    ) -> Result<u64, RowError> {
        self.write_anyway(bucket, Write::put(key, value)).await
    }

    /// Removes the row, whatever it was, and its history: a marker takes their place for
    /// [`MARKER_LIFETIME`], so that watches hear of it.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub async fn delete(&self, bucket: Bucket, key: &str) -> Result<u64, RowError> {
        self.write_anyway(bucket, Write::delete(key)).await
    }

    /// Removes the row if it is at the revision `expected`.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub async fn delete_expecting(
        &self,
        bucket: Bucket,
        key: &str,
        expected: u64,
    ) -> Result<Updated, RowError> {
        let write = Write::delete(key).expecting(expected);
        self.write(bucket, write).await
    }

    /// Does all of the writes, many in flight at a time, and says what became of each, in their order.
    /// They are no transaction: each stands for itself. Two writes to the same key may change places.
    pub async fn write_all(
        &self,
        bucket: Bucket,
        writes: impl IntoIterator<Item = Write>,
    ) -> Vec<Result<Updated, RowError>> {
        stream::iter(writes)
            .map(|write| self.write(bucket, write))
            .buffered(PIPELINED)
            .collect()
            .await
    }

    /// Does one write.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub async fn write(&self, bucket: Bucket, write: Write) -> Result<Updated, RowError> {
        let subject = format!("{}{}", self.names(bucket).prefix, write.key);
        let headers = headers(&write);
        let payload = match write.change {
            Change::Put(json) => json,
            Change::Delete => Bytes::new(),
        };
        let sent = api::publish(self.client(), &subject, headers, payload, api::DEADLINE);
        match sent.await {
            Ok(ack) => Ok(Updated::Done(ack.sequence)),
            Err(error) if is_wrong_sequence(&error) => {
                self.conflicts[index(bucket)].fetch_add(1, Ordering::Relaxed);
                Ok(Updated::Lost {
                    revision: told_sequence(&error),
                })
            }
            Err(error) => Err(self.failed(bucket, error)),
        }
    }

    async fn write_anyway(&self, bucket: Bucket, write: Write) -> Result<u64, RowError> {
        let key = write.key.clone();
        match self.write(bucket, write).await? {
            Updated::Done(revision) => Ok(revision),
            Updated::Lost { .. } => {
                let problem = "the server expected a revision that nobody asked for";
                Err(self.failed(bucket, api::garbled(&key, problem)))
            }
        }
    }
}

/// Rows are maps with string keys, which JSON always has room for.
fn encode<T: Serialize>(value: &T) -> Bytes {
    serde_json::to_vec(value).unwrap_or_default().into()
}

fn headers(write: &Write) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    if let Some(expected) = write.expected {
        let name = header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE;
        headers.insert(name, expected.to_string());
    }
    if write.change == Change::Delete {
        // Without the roll-up, older revisions would come back when the marker goes.
        headers.insert(OPERATION, "PURGE");
        headers.insert(header::NATS_ROLLUP, "sub");
        headers.insert(
            header::NATS_MESSAGE_TTL,
            MARKER_LIFETIME.as_secs().to_string(),
        );
    }
    (!headers.is_empty()).then_some(headers)
}

fn is_wrong_sequence(error: &ApiError) -> bool {
    matches!(
        error.err_code(),
        Some(codes::WRONG_LAST_SEQUENCE | codes::WRONG_LAST_SEQUENCE_UNTOLD)
    )
}

/// The sequence at the end of "wrong last sequence: 42".
fn told_sequence(error: &ApiError) -> Option<u64> {
    match error {
        ApiError::Refused { description, .. } => {
            description.rsplit_once(": ")?.1.trim().parse().ok()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(err_code: u64, description: &str) -> ApiError {
        ApiError::Refused {
            code: 400,
            err_code,
            description: description.to_owned(),
        }
    }

    #[test]
    fn the_server_tells_where_a_row_is_instead_or_does_not() {
        let told = refusal(codes::WRONG_LAST_SEQUENCE, "wrong last sequence: 42");
        assert!(is_wrong_sequence(&told));
        assert_eq!(told_sequence(&told), Some(42));
        let untold = refusal(codes::WRONG_LAST_SEQUENCE_UNTOLD, "wrong last sequence");
        assert!(is_wrong_sequence(&untold));
        assert_eq!(told_sequence(&untold), None);
    }

    #[test]
    fn a_plain_put_carries_no_headers() {
        assert_eq!(headers(&Write::put("a", &1)), None);
        let guarded = headers(&Write::delete("a").expecting(7)).unwrap();
        assert_eq!(guarded.len(), 4);
    }
}
