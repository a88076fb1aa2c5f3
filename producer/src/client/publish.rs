//! Publishing an action: one acknowledged message, then a row.
//!
//! Local checks first, then two round trips and no more. While no acknowledgement comes the same
//! message goes out again under the same id, so that it is stored once at most.

use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::{HeaderMap, header};
use backstack_schemas::topology::{Bucket, MAX_ACTION_BYTES, job_key, message_id};
use backstack_schemas::trace::TRACEPARENT;
use backstack_schemas::{ActionMessage, Job, JobId, JobSpec, RepoId, TraceParent};
use bytes::Bytes;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use super::{Client, ClientError};
use crate::api::{self, ApiError, PubAck, codes};
use crate::rows::{Created, Row, RowError};

/// How long an acknowledgement is waited for in all. An election takes several seconds.
const TRIED_FOR: Duration = Duration::from_secs(12);

/// How long one try waits.
const ONE_TRY: Duration = Duration::from_secs(3);

/// The shortest and the longest pause between two tries.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// How long the row may take. The worker writes it where this client cannot, for one that may only
/// publish, say.
const ROW_DEADLINE: Duration = Duration::from_secs(1);

/// An accepted action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The job's id.
    pub job_id: JobId,
    /// What it was asked to do.
    pub spec: JobSpec,
    /// Its message's sequence in the queue.
    pub sequence: u64,
    /// Whether the queue already had it under this id.
    pub duplicate: bool,
    /// Its row as it was then; `None` where this client cannot read or write rows, or the row of a
    /// duplicate is not there yet: the worker writes it.
    pub row: Option<Row<Job>>,
}

impl Client {
    /// Publishes the action and returns when it is stored: from then on it ends exactly once. Makes an
    /// id where the message has none.
    ///
    /// # Errors
    /// [`ClientError`]; after [`ClientError::Unacknowledged`] it may be stored all the same.
    pub async fn publish(
        &self,
        repo: &RepoId,
        message: ActionMessage,
    ) -> Result<Published, ClientError> {
        match message.job_id {
            Some(job_id) => self.publish_as(repo, job_id, false, message).await,
            None => {
                let job_id = JobId::generate();
                self.publish_as(repo, job_id, true, message).await
            }
        }
    }

    /// Publishes under an id. It is ours where it was made here, so that nobody else has it.
    pub(super) async fn publish_as(
        &self,
        repo: &RepoId,
        job_id: JobId,
        is_ours: bool,
        message: ActionMessage,
    ) -> Result<Published, ClientError> {
        let message = ActionMessage {
            job_id: Some(job_id),
            ..message
        };
        let headers = headers(repo, job_id, self.trace.as_ref());
        let payload = checked(&headers, &message)?;
        let ack = self
            .publish_message(repo, job_id, &message, headers, payload)
            .await?;
        let spec = JobSpec::new(repo.clone(), job_id, &message);
        // The stored message of somebody else's id may ask for something else: its row is not ours to
        // make.
        let row = if ack.duplicate && !is_ours {
            self.known_row(&spec).await?
        } else {
            self.make_row(spec.clone(), ack.sequence).await?
        };
        Ok(Published {
            job_id,
            spec,
            sequence: ack.sequence,
            duplicate: ack.duplicate,
            row,
        })
    }

    /// Publishes until an acknowledgement comes, or it is clear that none will.
    async fn publish_message(
        &self,
        repo: &RepoId,
        job_id: JobId,
        message: &ActionMessage,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<PubAck, ClientError> {
        let subject = self.topology().action_subject(repo, message.action.kind());
        let began = Instant::now();
        let mut pause = PAUSES.0;
        loop {
            let (headers, payload) = (Some(headers.clone()), payload.clone());
            let sent = api::publish(self.nats(), &subject, headers, payload, ONE_TRY);
            let error = match sent.await {
                Ok(ack) => return Ok(ack),
                Err(error) if error.is_transient() => error,
                Err(error) => return Err(ClientError::Refused(error)),
            };
            // Nobody listens during an election too; the API knows the difference.
            if matches!(error, ApiError::NoResponders { .. }) {
                self.require_queue().await?;
            }
            if began.elapsed() + pause > TRIED_FOR {
                return Err(ClientError::Unacknowledged {
                    job_id,
                    within: began.elapsed(),
                    error,
                });
            }
            tracing::debug!(%job_id, %error, ?pause, "no acknowledgement; publishing again");
            sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// Fails where it is certain that there is no queue. Whoever may only publish cannot know.
    async fn require_queue(&self) -> Result<(), ClientError> {
        let stream = self.topology().actions_stream();
        let subject = format!("STREAM.INFO.{stream}");
        let asked = api::ask(self.nats(), &subject, &Value::Null);
        match timeout(Duration::from_secs(1), asked).await {
            Ok(Err(error)) => match error.err_code() {
                Some(codes::STREAM_NOT_FOUND) => Err(ClientError::NoQueue { stream }),
                Some(codes::NOT_ENABLED | codes::NOT_ENABLED_FOR_ACCOUNT) => {
                    Err(ClientError::NoJetStream)
                }
                _ if matches!(error, ApiError::NoResponders { .. }) => {
                    Err(ClientError::NoJetStream)
                }
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Makes the row of a job whose message is stored and ours.
    async fn make_row(
        &self,
        spec: JobSpec,
        sequence: u64,
    ) -> Result<Option<Row<Job>>, ClientError> {
        if self.may_not_write_jobs.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let key = job_key(&spec.repo, spec.job_id);
        let create = async {
            let now = self.rows.server_now().await;
            let job = Job::queued(spec.clone(), Some(sequence), now);
            let created = self.rows.create(Bucket::Jobs, &key, &job).await?;
            Ok::<_, RowError>(match created {
                Created::Made(revision) => Row {
                    value: job,
                    revision,
                    at: now,
                },
                Created::Exists(row) => row,
            })
        };
        match timeout(ROW_DEADLINE, create).await {
            Ok(Ok(row)) => same_job(&spec, row).map(Some),
            Ok(Err(error)) => {
                tracing::debug!(%error, "the worker will write the row");
                let denied = error.is_denied();
                self.may_not_write_jobs.fetch_or(denied, Ordering::Relaxed);
                Ok(None)
            }
            Err(_) => {
                tracing::debug!("no answer from the job bucket; the worker will write the row");
                Ok(None)
            }
        }
    }

    /// The row of a job that somebody published before under this id.
    async fn known_row(&self, spec: &JobSpec) -> Result<Option<Row<Job>>, ClientError> {
        let key = job_key(&spec.repo, spec.job_id);
        let read = self.rows.get::<Job>(Bucket::Jobs, &key);
        match timeout(ROW_DEADLINE, read).await {
            Ok(Ok(Some(row))) => same_job(spec, row).map(Some),
            _ => Ok(None),
        }
    }
}

/// The payload, after every check that needs nobody else.
fn checked(headers: &HeaderMap, message: &ActionMessage) -> Result<Bytes, ClientError> {
    let payload = message.encode();
    // What the worker would refuse is refused here, in the same words.
    ActionMessage::decode(message.action.kind(), &payload)?;
    // The limit counts headers too.
    let bytes = payload.len() + headers.iter().fold(12, wire_bytes);
    if bytes > MAX_ACTION_BYTES {
        return Err(ClientError::TooLarge {
            bytes,
            limit: MAX_ACTION_BYTES,
        });
    }
    Ok(payload.into())
}

fn wire_bytes(
    sum: usize,
    (name, values): (&async_nats::HeaderName, &Vec<async_nats::HeaderValue>),
) -> usize {
    let line = |value: &async_nats::HeaderValue| {
        AsRef::<[u8]>::as_ref(name).len() + value.as_str().len() + 4
    };
    sum + values.iter().map(line).sum::<usize>()
}

fn headers(repo: &RepoId, job_id: JobId, trace: Option<&TraceParent>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::NATS_MESSAGE_ID, message_id(repo, job_id));
    if let Some(trace) = trace {
        headers.insert(TRACEPARENT, trace.to_string());
    }
    headers
}

/// The row found under a job's key, if it is of the same job.
fn same_job(spec: &JobSpec, row: Row<Job>) -> Result<Row<Job>, ClientError> {
    if row.value.spec == *spec {
        Ok(row)
    } else {
        Err(ClientError::JobIdTaken {
            repo: spec.repo.clone(),
            job_id: spec.job_id,
        })
    }
}
