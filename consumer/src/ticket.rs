//! Whose turn it is: order without locks.
//!
//! A message's stream sequence is its ticket. Its turn has come when no older message of its
//! repository is unfinished. The stream itself says which is the oldest one it still stores:
//!
//! ```text
//! oldest stored >= floor     meaning
//! ----------------------     ---------------------------------------------------------------
//! our own                    our turn
//! older, row terminal        finished, its removal is on its way: raise the floor and ask again
//! older, row not terminal    somebody's turn before ours: wait
//! newer, or none             perhaps a lagging replica: the leader decides; if it agrees, our
//!                            message is gone: finished by whomever, or deleted
//! ```
//!
//! A message is known by its sequence and its store time: where the stream was deleted and made anew,
//! another one has our sequence, and a floor of the old stream says nothing. So nothing is called finished
//! without its row, and nothing gone is acknowledged.
//!
//! That is first in, first out and mutual exclusion for each repository over all workers. It relies
//! on terminal rows never changing, and on a message leaving the stream only after its row became
//! terminal.

use backstack_producer::api::ApiError;
use backstack_producer::rows::{RowError, Rows};
use backstack_schemas::topology::{Bucket, job_key};
use backstack_schemas::{JobStatus, Topology};
use serde::Deserialize;

use crate::message::{StoredMessage, Ticket};
use crate::stream::ActionsStream;

/// The answer to "is it this message's turn?".
#[derive(Debug)]
pub enum Turn {
    /// Yes; here it is in full.
    Ours(Box<StoredMessage>),
    /// It is done already, by whomever, and its removal is on its way.
    Finished,
    /// The stream no longer has it: there is nothing left to acknowledge.
    Gone,
    /// The message with this sequence comes first.
    After(u64),
}

/// The stream or the bucket did not answer: nothing is known.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// The work queue.
    #[error("the work queue: {0}")]
    Stream(#[from] ApiError),
    /// The job bucket.
    #[error("the job rows: {0}")]
    Rows(#[from] RowError),
}

/// Asks for turns.
#[derive(Clone, Debug)]
pub struct Tickets {
    stream: ActionsStream,
    rows: Rows,
    topology: Topology,
}

/// The part of a job's row that tells whether its message is finished.
#[derive(Deserialize)]
struct StatusOnly {
    status: JobStatus,
}

/// Where a message stands relative to ours.
enum Seen {
    Ours(Box<StoredMessage>),
    FinishedBefore(u64),
    UnfinishedBefore(u64),
    NotBefore,
}

impl Tickets {
    /// Asks `stream` for messages and `rows` for what became of them.
    pub fn new(stream: ActionsStream, rows: Rows, topology: Topology) -> Self {
        Self {
            stream,
            rows,
            topology,
        }
    }

    /// Whether the turn of the message `own` has come, among those on `filter`: every stored subject of
    /// its repository. `floor` is the sequence below which all of the repository's messages are known to
    /// be finished. It only ever rises, but for a message below it that turns out to be another stream's.
    ///
    /// # Errors
    /// The stream or the bucket did not answer: nothing is known, ask again later.
    pub async fn ask(&self, filter: &str, own: Ticket, floor: &mut u64) -> Result<Turn, NoAnswer> {
        if *floor > own.sequence {
            match self
                .stream
                .get(own.sequence)
                .await?
                .filter(|m| m.ticket() == own)
            {
                None => return Ok(Turn::Gone),
                Some(message) if self.is_finished(&message).await? => return Ok(Turn::Finished),
                Some(_) => *floor = 1,
            }
        }
        loop {
            let next = self.stream.next(filter, *floor).await?;
            let seen = match self.look_at(next, own).await? {
                Seen::NotBefore => {
                    let next = self.stream.next_from_leader(filter, *floor).await?;
                    self.look_at(next, own).await?
                }
                seen => seen,
            };
            match seen {
                Seen::Ours(message) => return Ok(Turn::Ours(message)),
                Seen::FinishedBefore(sequence) => *floor = sequence + 1,
                Seen::UnfinishedBefore(sequence) => return Ok(Turn::After(sequence)),
                Seen::NotBefore => return Ok(Turn::Gone),
            }
        }
    }

    async fn look_at(&self, next: Option<StoredMessage>, own: Ticket) -> Result<Seen, NoAnswer> {
        match next {
            Some(message) if message.ticket() == own => Ok(Seen::Ours(Box::new(message))),
            Some(message) if message.sequence < own.sequence => {
                let sequence = message.sequence;
                let finished = self.is_finished(&message).await?;
                Ok(if finished {
                    Seen::FinishedBefore(sequence)
                } else {
                    Seen::UnfinishedBefore(sequence)
                })
            }
            _ => Ok(Seen::NotBefore),
        }
    }

    /// Whether the message's job has ended. A row read from a lagging replica may be too old, never
    /// too new, so a terminal status can be believed.
    async fn is_finished(&self, message: &StoredMessage) -> Result<bool, NoAnswer> {
        let Some(subject) = self.topology.parse_queue_subject(&message.subject) else {
            return Ok(false);
        };
        let job = message.job_id(&self.topology, &subject.repo, &subject.action);
        let key = job_key(&subject.repo, job);
        let row = self.rows.get::<StatusOnly>(Bucket::Jobs, &key).await?;
        Ok(row.is_some_and(|row| row.value.status.is_terminal()))
    }
}
