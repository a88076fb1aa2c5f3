//! What a worker does on NATS, in the words of its own design: the step that each message is.

use std::collections::HashMap;

use backstack_schemas::Topology;
use backstack_schemas::topology::Bucket;
use serde_json::Value;

use super::frame::Message;

/// A step of a job, as it goes over the wire.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Operation {
    /// The repository, where the message tells it: asking for the newest sequence does not.
    pub repo: Option<String>,
    /// The step's name.
    pub step: String,
}

/// The names of one installation, and what was learned from deliveries.
#[derive(Debug)]
pub(super) struct Names {
    topology: Topology,
    /// The repository of each delivered message, by its sequence: an acknowledgement names only that.
    delivered: HashMap<u64, String>,
}

impl Names {
    pub(super) fn new(topology: Topology) -> Self {
        Self {
            topology,
            delivered: HashMap::new(),
        }
    }

    /// Learns from a message that the server sends.
    pub(super) fn saw_delivery(&mut self, message: &Message) {
        let subject = self.topology.parse_queue_subject(&message.subject);
        let sequence = message.reply.as_deref().and_then(acknowledged_sequence);
        if let (Some(subject), Some(sequence)) = (subject, sequence) {
            self.delivered.insert(sequence, subject.repo.to_string());
        }
    }

    /// The step that a message of the worker's is; `None` for what belongs to no step of a job, or
    /// comes at times of its own: pulls, signs of life, progress, hints.
    pub(super) fn operation(&self, message: &Message) -> Option<Operation> {
        let subject = message.subject.as_str();
        if let Some(sequence) = acknowledged_sequence(subject) {
            let repo = self.delivered.get(&sequence).cloned();
            return Some(Operation {
                repo,
                step: acknowledgement(&message.payload)?.to_owned(),
            });
        }
        if let Some(asked) = subject.strip_prefix("$JS.API.") {
            return self.question(asked, &message.payload);
        }
        Bucket::ALL.into_iter().find_map(|bucket| {
            let key = subject.strip_prefix(&self.topology.key_subject(bucket, ""))?;
            self.write(bucket, key, &message.payload)
        })
    }

    fn question(&self, asked: &str, payload: &[u8]) -> Option<Operation> {
        let actions = self.topology.actions_stream();
        let body: Value = serde_json::from_slice(payload).unwrap_or_default();
        let of_queue = || {
            let filter = body["next_by_subj"].as_str()?;
            Some(filter.split('.').nth(3)?.to_owned())
        };
        // Who looks after the queue itself asks with a body.
        if asked == format!("STREAM.INFO.{actions}") && payload.is_empty() {
            return operation(None, "read newest sequence");
        }
        if asked == format!("DIRECT.GET.{actions}") {
            return operation(Some(of_queue()?), "ask for turn");
        }
        if asked == format!("STREAM.MSG.GET.{actions}") {
            return operation(Some(of_queue()?), "ask leader for turn");
        }
        Bucket::ALL.into_iter().find_map(|bucket| {
            let stream = self.topology.bucket_stream(bucket);
            let what = match bucket {
                Bucket::Repos => "repository row",
                Bucket::Jobs => "job row",
                Bucket::Branches => "newest branch row",
                Bucket::Tasks => "task row",
            };
            if asked == format!("STREAM.MSG.GET.{stream}") {
                let key = self.key(bucket, body["last_by_subj"].as_str()?)?;
                return operation(repo_of(&key), &format!("read {what}"));
            }
            if let Some(rest) = asked.strip_prefix(&format!("CONSUMER.CREATE.{stream}.")) {
                let (_name, filter) = rest.split_once('.')?;
                let key = self.key(bucket, filter)?;
                return operation(repo_of(&key), "list branch rows")
                    .filter(|_| bucket == Bucket::Branches);
            }
            let subject = asked.strip_prefix(&format!("DIRECT.GET.{stream}."))?;
            let key = self.key(bucket, subject)?;
            operation(repo_of(&key), &format!("look at {what}"))
        })
    }

    fn key(&self, bucket: Bucket, subject: &str) -> Option<String> {
        let key = subject.strip_prefix(&self.topology.key_subject(bucket, ""))?;
        Some(key.to_owned())
    }

    fn write(&self, bucket: Bucket, key: &str, payload: &[u8]) -> Option<Operation> {
        let rest = key.split_once('.').map_or("", |(_, rest)| rest);
        let step = match bucket {
            Bucket::Repos => "write repository row".to_owned(),
            Bucket::Branches => format!("write branch row {rest}"),
            Bucket::Tasks if rest.starts_with("branch.") => "claim branch for task".to_owned(),
            Bucket::Tasks => "write task row".to_owned(),
            Bucket::Jobs => job_write(payload)?.to_owned(),
        };
        operation(repo_of(key), &step)
    }
}

fn operation(repo: Option<String>, step: &str) -> Option<Operation> {
    Some(Operation {
        repo,
        step: step.to_owned(),
    })
}

fn repo_of(key: &str) -> Option<String> {
    key.split('.').next().map(str::to_owned)
}

/// Which write of a job's row this is.
fn job_write(payload: &[u8]) -> Option<&'static str> {
    let row: Value = serde_json::from_slice(payload).ok()?;
    match (row["status"].as_str()?, row["progress"]["step"].as_str()) {
        ("running", None) => Some("take job row"),
        // The first of them is the fence.
        ("running", Some("push")) => Some("fence"),
        ("running", Some(_)) => None,
        ("queued", _) => Some("queue job again"),
        _ => Some("end job row"),
    }
}

fn acknowledgement(payload: &[u8]) -> Option<&'static str> {
    match payload {
        b"+ACK" => Some("acknowledge"),
        b"+TERM" => Some("terminate"),
        _ if payload.starts_with(b"-NAK") => Some("give back"),
        _ => None,
    }
}

/// The stream sequence in the subject of an acknowledgement.
fn acknowledged_sequence(subject: &str) -> Option<u64> {
    let rest = subject.strip_prefix("$JS.ACK.")?;
    let tokens: Vec<_> = rest.split('.').collect();
    let from_end = match tokens.len() {
        7 => 3,
        9.. => 5,
        _ => return None,
    };
    tokens[from_end].parse().ok()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn named(subject: &str, payload: &str) -> Option<(Option<String>, String)> {
        let mut names = Names::new(Topology::default());
        names.saw_delivery(&Message {
            subject: "backstack.queue.7.web.sync_repo".to_owned(),
            reply: Some("$JS.ACK.BACKSTACK_ACTIONS.worker-07.1.42.9.1700000000000000000.0".into()),
            payload: Bytes::new(),
        });
        let message = Message {
            subject: subject.to_owned(),
            reply: None,
            payload: Bytes::from(payload.to_owned()),
        };
        let operation = names.operation(&message)?;
        Some((operation.repo, operation.step))
    }

    #[test]
    fn every_message_of_a_job_has_a_name() {
        let row = |status: &str| format!("$KV.backstack_{status}");
        for (subject, payload, repo, step) in [
            (
                "$JS.ACK.BACKSTACK_ACTIONS.worker-07.1.42.9.1700000000000000000.0".to_owned(),
                "+ACK",
                Some("web"),
                "acknowledge",
            ),
            (
                "$JS.API.DIRECT.GET.BACKSTACK_ACTIONS".to_owned(),
                r#"{"seq": 1, "next_by_subj": "backstack.queue.7.web.*"}"#,
                Some("web"),
                "ask for turn",
            ),
            (
                "$JS.API.STREAM.INFO.BACKSTACK_ACTIONS".to_owned(),
                "",
                None,
                "read newest sequence",
            ),
            (
                "$JS.API.STREAM.MSG.GET.KV_backstack_branches".to_owned(),
                r#"{"last_by_subj": "$KV.backstack_branches.web.>"}"#,
                Some("web"),
                "read newest branch row",
            ),
            (
                "$JS.API.CONSUMER.CREATE.KV_backstack_branches.x1.$KV.backstack_branches.web.>"
                    .to_owned(),
                "{}",
                Some("web"),
                "list branch rows",
            ),
            (
                row("jobs.web.id"),
                r#"{"status": "running", "progress": null}"#,
                Some("web"),
                "take job row",
            ),
            (
                row("jobs.web.id"),
                r#"{"status": "running", "progress": {"step": "push"}}"#,
                Some("web"),
                "fence",
            ),
            (
                row("jobs.web.id"),
                r#"{"status": "cancelled", "progress": null}"#,
                Some("web"),
                "end job row",
            ),
            (
                row("branches.web.fix/a"),
                "{}",
                Some("web"),
                "write branch row fix/a",
            ),
            (
                row("tasks.web.branch.a"),
                "1",
                Some("web"),
                "claim branch for task",
            ),
        ] {
            let expected = Some((repo.map(str::to_owned), step.to_owned()));
            assert_eq!(named(&subject, payload), expected, "{subject}");
        }
    }

    #[test]
    fn what_comes_at_times_of_its_own_has_none() {
        for (subject, payload) in [
            (
                "$JS.ACK.BACKSTACK_ACTIONS.worker-07.1.42.9.1700000000000000000.0",
                "+WPI",
            ),
            (
                "$JS.API.CONSUMER.MSG.NEXT.BACKSTACK_ACTIONS.worker-07",
                "{}",
            ),
            ("$JS.API.CONSUMER.CREATE.KV_backstack_jobs", "{}"),
            (
                "$JS.API.STREAM.INFO.BACKSTACK_ACTIONS",
                r#"{"deleted_details": false}"#,
            ),
            (
                "$KV.backstack_jobs.web.id",
                r#"{"status": "running", "progress": {"step": "plan"}}"#,
            ),
            ("_INBOX.x", ""),
        ] {
            assert_eq!(named(subject, payload), None, "{subject}");
        }
    }
}
