//! Publishing actions, and waiting for what comes of them.
//!
//! Waiting follows the row itself, by a watch that begins with what is there, and has a deadline. When
//! that passes, the panic tells the row as it last was.

use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::context::PublishError;
use async_nats::jetstream::kv::{Operation, Store, Watch};
use async_nats::jetstream::publish::PublishAck;
use backstack_schemas::topology::{self, Bucket};
use backstack_schemas::{
    Branch, BranchName, Job, JobId, RepoId, Repository, Task, TaskId, Timestamp,
};
use futures_util::{StreamExt, TryStreamExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::remote::Remote;
use crate::world::World;

/// How long anything may take that a test waits for.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// How long a watch may be silent before it is opened anew: what was asked of a server that was then
/// killed is never answered, and a watch notices that only after many times this.
const SILENCE: Duration = Duration::from_secs(1);

/// How long one publish may wait for its acceptance before it is sent again.
const ACCEPTED_WITHIN: Duration = Duration::from_secs(2);

/// How long to leave a stream alone that is asked again and again.
const ASK_AGAIN: Duration = Duration::from_millis(10);

/// A message that no job could be made of.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// Where it is stored: its last token is the reason.
    pub subject: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// The payload, as it was published.
    pub payload: Vec<u8>,
}

impl World {
    /// A new bare remote, registered under `name`, with `main` as its trunk.
    pub async fn repo(&self, name: &str) -> Remote {
        let remote = self.remote(name);
        self.add_repo(name, &remote.url()).await;
        remote
    }

    /// Writes the row of a repository.
    pub async fn add_repo(&self, name: &str, url: &str) {
        let row = Repository::new(
            repo_id(name),
            url.parse().unwrap_or_else(|error| panic!("{error}")),
            Some("main".parse().expect("a branch")),
            now(),
        );
        self.put_row(Bucket::Repos, name, &row).await;
    }

    /// Publishes an action under a new job id and waits until it is accepted. `body` is JSON.
    pub async fn publish(&self, repo: &str, action: &str, body: &str) -> JobId {
        let job = JobId::generate();
        self.publish_as(job, repo, action, body).await;
        job
    }

    /// Publishes an action under a job id, again and again with the same message id until it is
    /// accepted, as the contract asks of every client.
    pub async fn publish_as(&self, job: JobId, repo: &str, action: &str, body: &str) -> PublishAck {
        let subject = format!("{}.actions.{repo}.{action}", self.topology().namespace());
        let id = topology::message_id(&repo_id(repo), job);
        let until = Instant::now() + DEADLINE;
        loop {
            let mut headers = HeaderMap::new();
            headers.insert(NATS_MESSAGE_ID, id.as_str());
            let sent = self.publish_raw(&subject, headers, body.as_bytes());
            let problem = match tokio::time::timeout(ACCEPTED_WITHIN, sent).await {
                Ok(Ok(accepted)) => return accepted,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer".to_owned(),
            };
            assert!(Instant::now() < until, "{subject}: {problem}");
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    /// Publishes anything anywhere and waits for JetStream's answer.
    ///
    /// # Errors
    /// What JetStream, or its absence, says.
    pub async fn publish_raw(
        &self,
        subject: &str,
        headers: HeaderMap,
        payload: &[u8],
    ) -> Result<PublishAck, PublishError> {
        let payload = payload.to_vec().into();
        let sent = self
            .jetstream()
            .publish_with_headers(subject.to_owned(), headers, payload);
        sent.await?.await
    }

    /// Publishes an action and waits until its job has ended.
    pub async fn run(&self, repo: &str, action: &str, body: &str) -> Job {
        let job = self.publish(repo, action, body).await;
        self.ended(repo, job).await
    }

    /// Tracks branches that are on the remote, one after another; each job must complete.
    pub async fn register(&self, repo: &str, branches: &[&str]) {
        for branch in branches {
            let body = serde_json::json!({ "branch": branch }).to_string();
            let job = self.run(repo, "register_existing_branch", &body).await;
            assert_eq!(job.error, None, "{branch}: {}", job.message);
        }
    }

    /// Waits until a job has ended, in whatever way.
    pub async fn ended(&self, repo: &str, job: JobId) -> Job {
        self.job_when(repo, job, "ended", |job| job.status.is_terminal())
            .await
    }

    /// Waits until a job's row is as `is` wants it; `what` names that for the panic.
    pub async fn job_when(
        &self,
        repo: &str,
        job: JobId,
        what: &str,
        is: impl Fn(&Job) -> bool,
    ) -> Job {
        let key = topology::job_key(&repo_id(repo), job);
        self.row_when(Bucket::Jobs, &key, what, is).await
    }

    /// Waits until a branch's row is as `is` wants it.
    pub async fn branch_when(
        &self,
        repo: &str,
        branch: &str,
        what: &str,
        is: impl Fn(&Branch) -> bool,
    ) -> Branch {
        let key = topology::branch_key(&repo_id(repo), &branch_name(branch));
        self.row_when(Bucket::Branches, &key, what, is).await
    }

    /// Waits until a task's row is as `is` wants it.
    pub async fn task_when(
        &self,
        repo: &str,
        task: TaskId,
        what: &str,
        is: impl Fn(&Task) -> bool,
    ) -> Task {
        let key = topology::task_key(&repo_id(repo), task);
        self.row_when(Bucket::Tasks, &key, what, is).await
    }

    /// A job's row as it is now.
    pub async fn job(&self, repo: &str, job: JobId) -> Option<Job> {
        self.row(Bucket::Jobs, &topology::job_key(&repo_id(repo), job))
            .await
    }

    /// The last rows of a job that its bucket keeps, oldest first, each with its revision.
    pub async fn job_history(&self, repo: &str, job: JobId) -> Vec<(u64, Job)> {
        let key = topology::job_key(&repo_id(repo), job);
        let history = self.bucket(Bucket::Jobs).await.history(&key).await;
        let history = history.unwrap_or_else(|error| panic!("{key}: {error}"));
        let rows = history.map(|entry| {
            let entry = entry.unwrap_or_else(|error| panic!("{key}: {error}"));
            (entry.revision, decode(&key, &entry.value))
        });
        rows.collect().await
    }

    /// A branch's row as it is now.
    pub async fn branch(&self, repo: &str, branch: &str) -> Option<Branch> {
        let key = topology::branch_key(&repo_id(repo), &branch_name(branch));
        self.row(Bucket::Branches, &key).await
    }

    /// All branch rows of a repository, by name.
    pub async fn branches(&self, repo: &str) -> Vec<Branch> {
        let bucket = self.bucket(Bucket::Branches).await;
        let keys: Vec<String> = bucket
            .keys()
            .await
            .expect("keys")
            .try_collect()
            .await
            .expect("keys");
        let mut rows = Vec::new();
        for key in keys {
            rows.extend(self.row::<Branch>(Bucket::Branches, &key).await);
        }
        rows.retain(|row| row.repo.as_str() == repo);
        rows.sort_by(|one, other| one.branch.cmp(&other.branch));
        rows
    }

    /// A task's row as it is now.
    pub async fn task(&self, repo: &str, task: TaskId) -> Option<Task> {
        self.row(Bucket::Tasks, &topology::task_key(&repo_id(repo), task))
            .await
    }

    /// A repository's row as it is now.
    pub async fn repository(&self, repo: &str) -> Option<Repository> {
        self.row(Bucket::Repos, repo).await
    }

    /// A bucket, for what has no word of its own here.
    pub async fn bucket(&self, bucket: Bucket) -> Store {
        let name = self.topology().bucket(bucket);
        let store = self.jetstream().get_key_value(&name).await;
        store.unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// A row as it is now.
    pub async fn row<T: DeserializeOwned>(&self, bucket: Bucket, key: &str) -> Option<T> {
        let row = self.bucket(bucket).await.get(key).await;
        let row = row.unwrap_or_else(|error| panic!("{key}: {error}"))?;
        Some(decode(key, &row))
    }

    /// Writes a row, whatever was there.
    pub async fn put_row<T: Serialize>(&self, bucket: Bucket, key: &str, row: &T) {
        let row = serde_json::to_vec(row).expect("JSON");
        let put = self.bucket(bucket).await.put(key, row.into()).await;
        put.unwrap_or_else(|error| panic!("{key}: {error}"));
    }

    /// The revision of the newest write to a bucket.
    pub async fn newest_revision(&self, bucket: Bucket) -> u64 {
        let stream = self.topology().bucket_stream(bucket);
        let what = format!("STREAM.INFO.{stream}");
        let info = self.ask(&what, &Value::Null).await;
        let info = info.unwrap_or_else(|error| panic!("{stream}: {error}"));
        info["state"]["last_seq"].as_u64().expect("a sequence")
    }

    /// Waits until a row is there and as `is` wants it.
    pub async fn row_when<T: DeserializeOwned>(
        &self,
        bucket: Bucket,
        key: &str,
        what: &str,
        is: impl Fn(&T) -> bool,
    ) -> T {
        let mut last = "no row".to_owned();
        let watched = self.watch_until(bucket, key, &is, &mut last);
        match tokio::time::timeout(DEADLINE, watched).await {
            Ok(row) => row,
            Err(_) => panic!("{key} is not {what} after {DEADLINE:?}: {last}"),
        }
    }

    /// A watch begins with the row as it is, so opening it anew misses nothing.
    async fn watch_until<T: DeserializeOwned>(
        &self,
        bucket: Bucket,
        key: &str,
        is: &impl Fn(&T) -> bool,
        last: &mut String,
    ) -> T {
        loop {
            let opened = tokio::time::timeout(SILENCE, self.watch(bucket, key)).await;
            let Ok(Ok(mut rows)) = opened else {
                tokio::time::sleep(ASK_AGAIN).await;
                continue;
            };
            while let Ok(Some(Ok(entry))) = tokio::time::timeout(SILENCE, rows.next()).await {
                if entry.operation != Operation::Put {
                    continue;
                }
                let row = decode(key, &entry.value);
                if is(&row) {
                    return row;
                }
                *last = String::from_utf8_lossy(&entry.value).into_owned();
            }
        }
    }

    async fn watch(&self, bucket: Bucket, key: &str) -> Result<Watch, async_nats::Error> {
        let name = self.topology().bucket(bucket);
        let store = self.jetstream().get_key_value(&name).await?;
        Ok(store.watch_with_history(key).await?)
    }

    /// Every dead letter, oldest first.
    pub async fn dead_letters(&self) -> Vec<DeadLetter> {
        let stream = self.topology().dead_stream();
        let stream = self
            .jetstream()
            .get_stream(&stream)
            .await
            .expect("the dead letters");
        let state = stream
            .get_info()
            .await
            .expect("what the server says of it")
            .state;
        let mut letters = Vec::new();
        for sequence in state.first_sequence..=state.last_sequence {
            let Ok(message) = stream.get_raw_message(sequence).await else {
                continue;
            };
            letters.push(DeadLetter {
                subject: message.subject.to_string(),
                headers: message.headers,
                payload: message.payload.to_vec(),
            });
        }
        letters
    }

    /// Waits until a stream holds `count` messages.
    pub async fn stored_when(&self, stream: &str, count: u64) {
        let what = format!("STREAM.INFO.{stream}");
        let until = Instant::now() + DEADLINE;
        loop {
            let info = self.ask(&what, &Value::Null).await;
            let info = info.unwrap_or_else(|error| error);
            if info["state"]["messages"] == count {
                return;
            }
            assert!(
                Instant::now() < until,
                "{stream} does not hold {count} messages: {info}"
            );
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    /// Waits until the work queue is empty: every job has ended and every message is acknowledged.
    pub async fn queue_empty(&self) {
        self.stored_when(&self.topology().actions_stream(), 0).await;
    }

    /// How many pulls wait at the consumer of the work queue that has the fewest, asked now.
    pub async fn fewest_waiting_pulls(&self) -> Option<u64> {
        let what = format!("CONSUMER.LIST.{}", self.topology().actions_stream());
        let list = self.ask(&what, &Value::Null).await.ok()?;
        let consumers = list["consumers"].as_array()?;
        let expected = self.topology().consumers(self.choices()).len();
        let waiting = consumers
            .iter()
            .map(|consumer| consumer["num_waiting"].as_u64().unwrap_or(0));
        waiting.min().filter(|_| consumers.len() == expected)
    }
}

fn decode<T: DeserializeOwned>(key: &str, row: &[u8]) -> T {
    let decoded = serde_json::from_slice(row);
    decoded.unwrap_or_else(|error| panic!("{key}: {error} in {}", String::from_utf8_lossy(row)))
}

fn repo_id(repo: &str) -> RepoId {
    repo.parse().unwrap_or_else(|error| panic!("{error}"))
}

fn branch_name(branch: &str) -> BranchName {
    branch.parse().unwrap_or_else(|error| panic!("{error}"))
}

fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let millis = since
        .ok()
        .and_then(|since| i64::try_from(since.as_millis()).ok());
    millis
        .and_then(Timestamp::from_unix_millis)
        .expect("a clock after 1970")
}
