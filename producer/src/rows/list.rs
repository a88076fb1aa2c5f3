//! All rows that match, at once.

use std::collections::BTreeMap;

use backstack_schemas::topology::Bucket;
use serde::de::DeserializeOwned;

use super::feed::{Entry, Feed, From, Heard};
use super::{Keys, Row, RowError, Rows};
use crate::api;

/// Rows by their keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed<T> {
    /// The rows, by key.
    pub rows: BTreeMap<String, Row<T>>,
    /// Rows that are there and do not parse, with what is wrong, by key.
    pub unreadable: BTreeMap<String, String>,
}

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Self {
            rows: BTreeMap::new(),
            unreadable: BTreeMap::new(),
        }
    }
}

impl<T> Listed<T> {
    /// The rows alone, in the order of their keys.
    pub fn into_values(self) -> impl Iterator<Item = T> {
        self.rows.into_values().map(|row| row.value)
    }
}

/// When a list is complete.
#[derive(Clone, Copy)]
enum Until {
    /// When what matched at the beginning has come.
    Drained,
    /// When this sequence has come, or a later one.
    Sequence(u64),
}

/// How often a list that is broken off is begun again.
const ATTEMPTS: usize = 4;

impl Rows {
    /// The rows as whichever replica serves them has them; it may lag behind the newest writes.
    ///
    /// # Errors
    /// [`RowError::Api`]; a row that does not parse is no error.
    pub async fn list<T: DeserializeOwned>(
        &self,
        bucket: Bucket,
        keys: &Keys,
    ) -> Result<Listed<T>, RowError> {
        for _ in 0..ATTEMPTS {
            if let Some(listed) = self.collect(bucket, keys, Until::Drained).await? {
                return Ok(listed);
            }
        }
        Err(self.broken_off(bucket, keys))
    }

    /// The rows with every write in it that was acknowledged before this was called.
    ///
    /// # Errors
    /// [`RowError::Api`]; a row that does not parse is no error.
    pub async fn list_leader<T: DeserializeOwned>(
        &self,
        bucket: Bucket,
        keys: &Keys,
    ) -> Result<Listed<T>, RowError> {
        for _ in 0..ATTEMPTS {
            let Some(last) = self.last_stored(bucket, &keys.filter()).await? else {
                return Ok(Listed::default());
            };
            let until = Until::Sequence(last.sequence);
            if let Some(listed) = self.collect(bucket, keys, until).await? {
                return Ok(listed);
            }
        }
        Err(self.broken_off(bucket, keys))
    }

    fn broken_off(&self, bucket: Bucket, keys: &Keys) -> RowError {
        let subject = format!("{}{}", self.names(bucket).prefix, keys.filter());
        let problem = "the list was broken off again and again";
        self.failed(bucket, api::garbled(&subject, problem))
    }

    /// One attempt; `None` where it was broken off.
    async fn collect<T: DeserializeOwned>(
        &self,
        bucket: Bucket,
        keys: &Keys,
        until: Until,
    ) -> Result<Option<Listed<T>>, RowError> {
        let mut feed = self.feed(bucket, keys, From::Current).await?;
        let mut listed = Listed::default();
        let mut count = 0;
        if matches!(until, Until::Drained) && feed.pending == 0 {
            return Ok(Some(listed));
        }
        loop {
            let entry = match (feed.next().await, until) {
                (Heard::Entry(entry), _) => entry,
                // What was to come is gone from the stream: all there is has come.
                (Heard::Idle, Until::Drained) => return Ok(Some(listed)),
                // It is gone, or this replica has not got it yet: the leader knows.
                (Heard::Idle, Until::Sequence(_)) | (Heard::Over, _) => return Ok(None),
            };
            count += 1;
            let complete = match until {
                Until::Drained => entry.pending == 0 || count >= feed.pending,
                Until::Sequence(last) => entry.revision >= last,
            };
            self.take(bucket, &mut listed, &entry);
            if complete {
                return Ok(Some(listed));
            }
        }
    }

    fn take<T: DeserializeOwned>(&self, bucket: Bucket, listed: &mut Listed<T>, entry: &Entry) {
        let key = self.key_of(bucket, &entry.subject).to_owned();
        listed.rows.remove(&key);
        listed.unreadable.remove(&key);
        let stored = (entry.revision, entry.at);
        match self.read(bucket, &key, stored, entry.is_marker, &entry.payload) {
            Ok(Some(row)) => {
                listed.rows.insert(key, row);
            }
            Ok(None) => {}
            Err(error) => {
                listed.unreadable.insert(key, error.to_string());
            }
        }
    }

    pub(super) async fn feed(
        &self,
        bucket: Bucket,
        keys: &Keys,
        from: From,
    ) -> Result<Feed, RowError> {
        let names = self.names(bucket);
        let filter = format!("{}{}", names.prefix, keys.filter());
        let feed = Feed::open(self.client(), &names.stream, &filter, from).await;
        let feed = feed.map_err(|error| self.failed(bucket, error))?;
        self.heard_time(&feed.info);
        Ok(feed)
    }

    /// The key that a subject of the bucket is of.
    pub(super) fn key_of<'a>(&self, bucket: Bucket, subject: &'a str) -> &'a str {
        let prefix = &self.names(bucket).prefix;
        subject.strip_prefix(prefix.as_str()).unwrap_or(subject)
    }
}
