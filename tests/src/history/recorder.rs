//! Every write of every job's row, as the bucket took it.
//!
//! The bucket keeps four writes of a row, so they are read as they come, from a revision that is
//! known, one after another: whatever happens to the server in between, the next read goes on there.

use std::time::{Duration, Instant};

use async_nats::{Client, StatusCode, Subscriber};
use backstack_schemas::Job;
use backstack_schemas::topology::Bucket;
use futures_util::StreamExt as _;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::RowWrite;
use crate::rows::DEADLINE;
use crate::world::World;

/// How many writes are asked for at a time.
const BATCH: usize = 256;

/// How long to wait for more where there was nothing new. No job writes its row more than four times
/// in so short a while.
const PAUSE: Duration = Duration::from_millis(20);

/// How long one answer may take; a server that was killed gives none.
const ANSWERED_WITHIN: Duration = Duration::from_millis(500);

/// A recording that goes on.
#[derive(Debug)]
pub struct Recorder {
    task: JoinHandle<()>,
    seen: watch::Receiver<Seen>,
}

/// What was recorded.
#[derive(Clone, Debug, Default)]
struct Seen {
    through: u64,
    writes: Vec<RowWrite>,
}

impl Recorder {
    /// Records from the first write on.
    pub async fn start(world: &World) -> Self {
        let client = world.connection().await;
        let stream = world.topology().bucket_stream(Bucket::Jobs);
        let (tell, seen) = watch::channel(Seen::default());
        let task = tokio::spawn(record(client, stream, tell));
        Self { task, seen }
    }

    /// Every write up to now, in the order of revisions.
    pub async fn writes(&self, world: &World) -> Vec<RowWrite> {
        let newest = world.newest_revision(Bucket::Jobs).await;
        let mut seen = self.seen.clone();
        let through = seen.wait_for(|seen| seen.through >= newest);
        let seen = tokio::time::timeout(DEADLINE, through).await;
        let seen = seen.expect("the recorder keeps up").expect("it goes on");
        seen.writes.clone()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn record(client: Client, stream: String, tell: watch::Sender<Seen>) {
    let subject = format!("$JS.API.DIRECT.GET.{stream}");
    let mut next = 1;
    loop {
        let inbox = client.new_inbox();
        let Ok(mut answers) = client.subscribe(inbox.clone()).await else {
            return;
        };
        let query = json!({"seq": next, "batch": BATCH, "next_by_subj": ">"}).to_string();
        let asked = client.publish_with_reply(subject.clone(), inbox, query.into());
        let writes = match asked.await {
            Ok(()) => batch(&mut answers).await,
            Err(_) => Vec::new(),
        };
        if writes.is_empty() {
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        tell.send_modify(|seen| {
            for (revision, job) in writes {
                seen.through = revision;
                seen.writes
                    .extend(job.map(|job| RowWrite { revision, job }));
            }
            next = seen.through + 1;
        });
    }
}

/// One answer: writes with their revisions, `None` for the marker of a row that is gone.
async fn batch(answers: &mut Subscriber) -> Vec<(u64, Option<Job>)> {
    let until = Instant::now() + ANSWERED_WITHIN;
    let mut writes = Vec::new();
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let Ok(Some(message)) = tokio::time::timeout(left, answers.next()).await else {
            return writes;
        };
        // The end of the batch, or nothing there.
        if matches!(message.status, Some(status) if status != StatusCode::OK) {
            return writes;
        }
        let headers = message.headers.unwrap_or_default();
        let sequence = headers.get("Nats-Sequence");
        let Some(revision) = sequence.and_then(|text| text.as_str().parse().ok()) else {
            return writes;
        };
        writes.push((revision, serde_json::from_slice(&message.payload).ok()));
    }
}
