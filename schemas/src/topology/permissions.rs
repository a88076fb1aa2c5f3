//! What each kind of user must be permitted on NATS, and nothing else: the contract's section 11,
//! spelt out to the subject.
//!
//! Whoever may not publish on the subject of a JetStream request may not make it; replies come to the
//! user's own inbox, which is the only thing that anybody subscribes to.

use serde::Serialize;

use super::{Bucket, Topology};
use crate::id::RepoId;

/// A kind of user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum User {
    /// Publishes actions; reads and writes no rows.
    Publisher,
    /// Does all that the client library and the command do. It may write rows, so it is trusted.
    Client,
    /// Reads and watches rows, and changes nothing.
    Watcher,
    /// The service.
    Worker,
}

/// Subjects, as the `permissions` of a NATS user list them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Permissions {
    /// What the user may publish on.
    pub publish: Vec<String>,
    /// What the user may subscribe to.
    pub subscribe: Vec<String>,
}

impl User {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Publisher, Self::Client, Self::Watcher, Self::Worker];

    /// The kind as the contract names it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Publisher => "publisher",
            Self::Client => "client",
            Self::Watcher => "watcher",
            Self::Worker => "worker",
        }
    }
}

impl Topology {
    /// What a user needs whose replies come to `inbox_prefix`. `repo` limits a publisher, or the actions
    /// of a client, to one repository; it limits no rows.
    pub fn permissions(
        &self,
        user: User,
        repo: Option<&RepoId>,
        inbox_prefix: &str,
    ) -> Permissions {
        let publish = match user {
            User::Publisher => vec![self.published(repo)],
            User::Client => self.client(repo),
            User::Watcher => self.watcher(),
            User::Worker => self.worker_user(),
        };
        Permissions {
            publish,
            subscribe: vec![format!("{inbox_prefix}.>")],
        }
    }

    fn published(&self, repo: Option<&RepoId>) -> String {
        let repo = repo.map_or("*", RepoId::as_str);
        format!("{}.actions.{repo}.*", self.namespace)
    }

    fn watcher(&self) -> Vec<String> {
        Bucket::ALL
            .iter()
            .flat_map(|bucket| self.reading(*bucket))
            .collect()
    }

    fn client(&self, repo: Option<&RepoId>) -> Vec<String> {
        let mut subjects = vec![self.published(repo)];
        let written = [Bucket::Repos, Bucket::Jobs, Bucket::Tasks];
        subjects.extend(written.map(|bucket| self.key_subject(bucket, ">")));
        subjects.extend(self.watcher());
        let leader = |bucket: &Bucket| api("STREAM.MSG.GET", &self.bucket_stream(*bucket));
        subjects.extend(Bucket::ALL.iter().map(leader));
        // For `backstack doctor`, and to tell that there is no queue.
        let queue = self.actions_stream();
        let looked_at = [&queue, &self.schedules_stream(), &self.dead_stream()];
        subjects.extend(looked_at.map(|stream| api("STREAM.INFO", stream)));
        subjects.push(api("CONSUMER.LIST", &queue));
        subjects.push("$JS.API.INFO".to_owned());
        subjects
    }

    fn worker_user(&self) -> Vec<String> {
        let (queue, dead) = (self.actions_stream(), self.dead_stream());
        let mut streams = vec![queue.clone(), self.schedules_stream(), dead.clone()];
        streams.extend(Bucket::ALL.map(|bucket| self.bucket_stream(bucket)));
        let mut subjects = vec!["$JS.API.INFO".to_owned()];
        for call in ["STREAM.INFO", "STREAM.CREATE"] {
            subjects.extend(streams.iter().map(|stream| api(call, stream)));
        }
        for call in [
            "CONSUMER.LIST",
            "STREAM.MSG.GET",
            // For a message that no client library can read, which so cannot be acknowledged.
            "STREAM.MSG.DELETE",
            "DIRECT.GET",
        ] {
            subjects.push(api(call, &queue));
        }
        // For a letter that is taken for one of a queue that was there before.
        subjects.push(api("STREAM.MSG.GET", &dead));
        for call in ["CONSUMER.CREATE", "CONSUMER.INFO", "CONSUMER.MSG.NEXT"] {
            subjects.push(api(call, &format!("{queue}.>")));
        }
        // The second is what the server uses where it has a domain.
        subjects.push(format!("$JS.ACK.{queue}.>"));
        subjects.push(format!("$JS.ACK.*.*.{queue}.>"));
        for bucket in Bucket::ALL {
            subjects.push(self.key_subject(bucket, ">"));
            subjects.push(api("STREAM.MSG.GET", &self.bucket_stream(bucket)));
            subjects.extend(self.reading(bucket));
        }
        // The consumer that hears of changed job rows has no name of its own.
        subjects.push(api("CONSUMER.CREATE", &self.bucket_stream(Bucket::Jobs)));
        subjects.push(format!("{}.dead.>", self.namespace));
        let mut seen = std::collections::HashSet::new();
        subjects.retain(|subject| seen.insert(subject.clone()));
        subjects
    }

    /// What reading, listing and watching a bucket takes.
    fn reading(&self, bucket: Bucket) -> [String; 4] {
        let stream = self.bucket_stream(bucket);
        [
            api("STREAM.INFO", &stream),
            api("CONSUMER.CREATE", &format!("{stream}.>")),
            api("DIRECT.GET", &format!("{stream}.>")),
            format!("$JS.FC.{stream}.>"),
        ]
    }
}

fn api(call: &str, of: &str) -> String {
    format!("$JS.API.{call}.{of}")
}
