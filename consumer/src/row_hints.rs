//! Hints that a repository's job rows changed, for lines that wait on another worker's job.
//!
//! Only a hint: a line asks for its turn again when it gets one, and asks every second anyway. The
//! stream behind the job bucket is listened to, headers only, while some line waits; a worker alone
//! with its repositories costs nothing here.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use backstack_schemas::topology::Bucket;
use backstack_schemas::{RepoId, Topology};
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::Notify;

/// How long listening goes on after the last line stopped waiting.
const LINGER: Duration = Duration::from_secs(5);

/// How often the server says that it is still there.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Where hints come from.
#[derive(Clone, Debug)]
pub struct RowHints {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    client: Client,
    topology: Topology,
    waiting: Mutex<HashMap<RepoId, Waiting>>,
    somebody_waits: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: usize,
    changed: Arc<Notify>,
}

/// Takes a line off the list of those that wait.
struct Guard<'a> {
    shared: &'a Shared,
    repo: &'a RepoId,
}

impl RowHints {
    /// Starts the task that listens; it ends when the last `RowHints` is gone.
    pub fn start(client: Client, topology: Topology) -> Self {
        let shared = Arc::new(Shared {
            client,
            topology,
            waiting: Mutex::default(),
            somebody_waits: Notify::new(),
        });
        let weak = Arc::downgrade(&shared);
        tokio::spawn(async move {
            loop {
                let Some(shared) = weak.upgrade() else { return };
                let wake = tokio::time::timeout(LINGER, shared.somebody_waits.notified()).await;
                if wake.is_ok() {
                    shared.listen().await;
                }
            }
        });
        Self { shared }
    }

    /// Returns when a job row of the repository may have changed.
    pub async fn changed(&self, repo: &RepoId) {
        let changed = {
            let mut waiting = self.shared.waiting.lock();
            let entry = waiting.entry(repo.clone()).or_default();
            entry.lines += 1;
            Arc::clone(&entry.changed)
        };
        let _guard = Guard {
            shared: &self.shared,
            repo,
        };
        self.shared.somebody_waits.notify_one();
        changed.notified().await;
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let mut waiting = self.shared.waiting.lock();
        if let Some(entry) = waiting.get_mut(self.repo) {
            entry.lines -= 1;
            if entry.lines == 0 {
                waiting.remove(self.repo);
            }
        }
    }
}

impl Shared {
    /// Listens until nobody has waited for a while, or the server went silent.
    async fn listen(&self) {
        let inbox = self.client.new_inbox();
        let Ok(mut changes) = self.client.subscribe(inbox.clone()).await else {
            return;
        };
        if !self.create_consumer(&inbox).await {
            tokio::time::sleep(Duration::from_secs(1)).await;
            return;
        }
        let prefix = self.topology.key_subject(Bucket::Jobs, "");
        let mut idle_since = None;
        while let Ok(Some(message)) = tokio::time::timeout(HEARTBEAT * 2, changes.next()).await {
            if let Some(key) = message.subject.strip_prefix(prefix.as_str()) {
                self.wake(key);
            }
            if !self.waiting.lock().is_empty() {
                idle_since = None;
            } else if idle_since
                .get_or_insert_with(tokio::time::Instant::now)
                .elapsed()
                > LINGER
            {
                return;
            }
        }
    }

    fn wake(&self, key: &str) {
        let Some(repo) = key
            .split('.')
            .next()
            .and_then(|token| token.parse::<RepoId>().ok())
        else {
            return;
        };
        if let Some(entry) = self.waiting.lock().get(&repo) {
            entry.changed.notify_waiters();
        }
    }

    /// Asks for an ephemeral consumer, which goes by itself when its inbox is gone.
    async fn create_consumer(&self, inbox: &str) -> bool {
        let stream = self.topology.bucket_stream(Bucket::Jobs);
        let request = json!({
            "stream_name": stream,
            "config": {
                "deliver_subject": inbox,
                "deliver_policy": "new",
                "ack_policy": "none",
                "headers_only": true,
                "mem_storage": true,
                "num_replicas": 1,
                "inactive_threshold": HEARTBEAT.as_nanos() as u64,
                "idle_heartbeat": HEARTBEAT.as_nanos() as u64,
            },
        });
        let subject = format!("$JS.API.CONSUMER.CREATE.{stream}");
        let answer = self
            .client
            .request(subject, request.to_string().into())
            .await;
        let Ok(answer) = answer else { return false };
        let answer: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap_or_default();
        answer["error"].is_null()
    }
}
