//! Rows as they are and as they change, for as long as anyone wants to know.
//!
//! A task of its own reads the consumer, so that a reader that dawdles never stalls the connection.
//! When the consumer is in doubt (a gap, silence, a new connection, a restarted server) the task
//! makes another from the last revision it handed on: no change is missed and none comes twice,
//! as far as the bucket still holds it.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use backstack_schemas::Timestamp;
use backstack_schemas::topology::Bucket;
use futures_util::Stream;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::feed::{Entry, Feed, From, Heard};
use super::{Keys, Row, RowError, Rows};
use crate::api;

/// How many events may wait for a reader before the server is asked to wait too.
const BUFFERED: usize = 1_024;

/// The shortest and the longest pause between two attempts to go on.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// What a watch sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowEvent<T> {
    /// A row is there, or changed.
    Row {
        /// Its key.
        key: String,
        /// The row.
        row: Row<T>,
    },
    /// A row was deleted.
    Deleted {
        /// Its key.
        key: String,
        /// The revision of the deletion.
        revision: u64,
        /// When.
        at: Timestamp,
    },
    /// A row is there, or changed, and does not parse.
    Unreadable {
        /// Its key.
        key: String,
        /// Its revision.
        revision: u64,
        /// What is wrong with it.
        error: String,
    },
    /// Every row that was there in the beginning, or since [`Reset`](Self::Reset), has come.
    Initialised,
    /// The bucket is another one than before: forget every row; what is there now follows.
    Reset,
}

/// A stream of [`RowEvent`]s that ends only when it is dropped.
#[derive(Debug)]
pub struct Watch<T> {
    events: mpsc::Receiver<RowEvent<T>>,
    task: JoinHandle<()>,
}

impl<T> Watch<T> {
    /// The next event; safe to drop while it waits.
    pub async fn next_event(&mut self) -> Option<RowEvent<T>> {
        self.events.recv().await
    }
}

impl<T> Stream for Watch<T> {
    type Item = RowEvent<T>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.events.poll_recv(cx)
    }
}

impl<T> Drop for Watch<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Rows {
    /// Watches the rows: first those that are there, in the order in which they were written, then
    /// [`RowEvent::Initialised`], then every change.
    ///
    /// # Errors
    /// [`RowError::Api`] where the watch cannot even begin. After that it goes on by itself through
    /// lost connections and restarted servers.
    pub async fn watch<T>(&self, bucket: Bucket, keys: Keys) -> Result<Watch<T>, RowError>
    where
        T: DeserializeOwned + Send + 'static,
    {
        let (events, receiver) = mpsc::channel(BUFFERED);
        let born = self.born(bucket).await?;
        let feed = self.feed(bucket, &keys, From::Current).await?;
        let watcher = Watcher {
            rows: self.clone(),
            bucket,
            keys,
            events,
            last: 0,
            born,
            waiting: true,
        };
        let task = tokio::spawn(watcher.run(feed));
        Ok(Watch {
            events: receiver,
            task,
        })
    }

    /// When the bucket's stream was made, as the server writes it.
    async fn born(&self, bucket: Bucket) -> Result<String, RowError> {
        let subject = format!("STREAM.INFO.{}", self.names(bucket).stream);
        let info = api::ask(self.client(), &subject, &Value::Null).await;
        let info = info.map_err(|error| self.failed(bucket, error))?;
        self.heard_time(&info);
        Ok(info["created"].as_str().unwrap_or_default().to_owned())
    }
}

/// The task behind a watch.
struct Watcher<T> {
    rows: Rows,
    bucket: Bucket,
    keys: Keys,
    events: mpsc::Sender<RowEvent<T>>,
    /// The last revision handed on.
    last: u64,
    /// Which stream this is; one made anew under the same name counts its revisions from one.
    born: String,
    /// Whether [`RowEvent::Initialised`] is still to come.
    waiting: bool,
}

/// Nobody reads the watch any more.
struct Unwanted;

impl<T: DeserializeOwned + Send + 'static> Watcher<T> {
    async fn run(mut self, mut feed: Feed) {
        loop {
            if self.follow(&mut feed).await.is_err() {
                return;
            }
            // The server forgets a consumer that nobody listens to.
            drop(feed);
            feed = match self.reopen().await {
                Ok(feed) => feed,
                Err(Unwanted) => return,
            };
        }
    }

    /// Hands on what the feed has, until it is over.
    async fn follow(&mut self, feed: &mut Feed) -> Result<(), Unwanted> {
        let mut count = 0;
        if self.waiting && feed.pending == 0 {
            self.initialised().await?;
        }
        loop {
            match feed.next().await {
                Heard::Entry(entry) => {
                    count += 1;
                    let complete = entry.pending == 0 || count >= feed.pending;
                    self.hand_on(&entry).await?;
                    if self.waiting && complete {
                        self.initialised().await?;
                    }
                }
                Heard::Idle if self.waiting => self.initialised().await?,
                Heard::Idle => {}
                Heard::Over => return Ok(()),
            }
        }
    }

    async fn initialised(&mut self) -> Result<(), Unwanted> {
        self.waiting = false;
        self.send(RowEvent::Initialised).await
    }

    async fn hand_on(&mut self, entry: &Entry) -> Result<(), Unwanted> {
        self.last = entry.revision;
        self.rows.clock().saw(entry.at);
        let key = self.rows.key_of(self.bucket, &entry.subject).to_owned();
        let stored = (entry.revision, entry.at);
        let read = self
            .rows
            .read(self.bucket, &key, stored, entry.is_marker, &entry.payload);
        let event = match read {
            Ok(Some(row)) => RowEvent::Row { key, row },
            // Of a row that the reader never saw there is nothing to say.
            Ok(None) if self.waiting => return Ok(()),
            Ok(None) => RowEvent::Deleted {
                key,
                revision: entry.revision,
                at: entry.at,
            },
            Err(error) => RowEvent::Unreadable {
                key,
                revision: entry.revision,
                error: error.to_string(),
            },
        };
        self.send(event).await
    }

    async fn send(&self, event: RowEvent<T>) -> Result<(), Unwanted> {
        self.events.send(event).await.map_err(|_| Unwanted)
    }

    /// Makes the next feed, for as long as it takes.
    async fn reopen(&mut self) -> Result<Feed, Unwanted> {
        let mut pause = PAUSES.0;
        loop {
            match self.reopen_once().await? {
                Ok(feed) => return Ok(feed),
                Err(error) => {
                    tracing::debug!(%error, ?pause, "a watch waits for its bucket");
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.events.closed() => return Err(Unwanted),
            }
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    async fn reopen_once(&mut self) -> Result<Result<Feed, RowError>, Unwanted> {
        match self.rows.born(self.bucket).await {
            Ok(born) if born != self.born => {
                self.born = born;
                self.last = 0;
                self.waiting = true;
                self.send(RowEvent::Reset).await?;
            }
            Ok(_) => {}
            Err(error) => return Ok(Err(error)),
        }
        // Before anything came, and before all of it came, the rows as they are now are what is
        // wanted; a row that came already comes once more then, no older than before.
        let from = match self.last {
            _ if self.waiting => From::Current,
            last => From::Sequence(last + 1),
        };
        Ok(self.rows.feed(self.bucket, &self.keys, from).await)
    }
}
