//! How each stream, bucket and consumer is set up.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    Bucket, Choices, ConsumerSpec, DUPLICATE_WINDOW, MAX_ACK_PENDING, MAX_ACTION_BYTES, PARTITIONS,
    PRIORITY_GROUP, ROW_LIFETIME, StreamSpec, Topology,
};

impl Topology {
    /// Every stream, the four buckets' included, as this installation needs them.
    pub fn streams(&self, choices: Choices) -> Vec<StreamSpec> {
        // The schedules first: the work queue sources from them.
        let mut streams = vec![
            self.schedules(choices),
            self.actions(choices),
            self.dead(choices),
        ];
        streams.extend(Bucket::ALL.map(|bucket| self.bucket_spec(bucket, choices)));
        streams
    }

    /// Every consumer of the work queue.
    pub fn consumers(&self, choices: Choices) -> Vec<ConsumerSpec> {
        let partitions = (0..PARTITIONS).map(|partition| self.worker(partition, choices));
        partitions.chain([self.rest(choices)]).collect()
    }

    /// The durable name of a partition's consumer.
    pub fn worker_name(partition: u32) -> String {
        format!("worker-{partition:02}")
    }

    /// The durable name of the consumer of what the transform did not take.
    pub const REST_NAME: &'static str = "worker-rest";

    pub(super) fn actions(&self, choices: Choices) -> StreamSpec {
        let ns = &self.namespace;
        let transform = |from: &str| {
            json!({
                "src": format!("{ns}.{from}.*.*"),
                "dest": format!(
                    "{ns}.queue.{{{{partition({PARTITIONS},1)}}}}.{{{{wildcard(1)}}}}.{{{{wildcard(2)}}}}"
                ),
            })
        };
        let own = json!({
            "subjects": [format!("{ns}.actions.*.*")],
            "subject_transform": transform("actions"),
            "sources": [{
                "name": self.schedules_stream(),
                "subject_transforms": [transform("scheduled")],
            }],
            "retention": "workqueue",
            "discard": "new",
            "allow_direct": true,
            "deny_purge": true,
            "allow_rollup_hdrs": false,
            "allow_msg_schedules": false,
            "max_msg_size": MAX_ACTION_BYTES,
            "duplicate_window": nanos(DUPLICATE_WINDOW),
        });
        stream(self.actions_stream(), own, choices)
    }

    fn schedules(&self, choices: Choices) -> StreamSpec {
        let ns = &self.namespace;
        let own = json!({
            "subjects": [format!("{ns}.schedules.*.*"), format!("{ns}.scheduled.*.*")],
            "retention": "limits",
            "allow_direct": true,
            "allow_msg_schedules": true,
            "allow_msg_ttl": true,
            // The server forces the next two on wherever schedules are allowed.
            "allow_rollup_hdrs": true,
            "deny_purge": false,
            "max_msg_size": MAX_ACTION_BYTES,
        });
        stream(self.schedules_stream(), own, choices)
    }

    fn dead(&self, choices: Choices) -> StreamSpec {
        let own = json!({
            "subjects": [format!("{}.dead.>", self.namespace)],
            "retention": "limits",
            "allow_direct": true,
            "max_age": nanos(ROW_LIFETIME),
            "duplicate_window": nanos(DUPLICATE_WINDOW),
        });
        stream(self.dead_stream(), own, choices)
    }

    fn bucket_spec(&self, bucket: Bucket, choices: Choices) -> StreamSpec {
        let name = self.bucket(bucket);
        let own = json!({
            "subjects": [format!("$KV.{name}.>")],
            "retention": "limits",
            "discard": "new",
            "max_msgs_per_subject": bucket.history(),
            "max_age": nanos(bucket.lifetime()),
            "allow_direct": true,
            // A deletion replaces what the row was by a marker that goes after a while.
            "allow_rollup_hdrs": true,
            "allow_msg_ttl": true,
            "deny_delete": true,
        });
        stream(self.bucket_stream(bucket), own, choices)
    }

    fn worker(&self, partition: u32, choices: Choices) -> ConsumerSpec {
        let own = json!({
            "filter_subject": format!("{}.queue.{partition}.>", self.namespace),
            "priority_groups": [PRIORITY_GROUP],
            "priority_policy": "prioritized",
        });
        consumer(
            self.actions_stream(),
            Self::worker_name(partition),
            own,
            choices,
        )
    }

    fn rest(&self, choices: Choices) -> ConsumerSpec {
        let own = json!({ "filter_subject": format!("{}.actions.>", self.namespace) });
        consumer(
            self.actions_stream(),
            Self::REST_NAME.to_owned(),
            own,
            choices,
        )
    }
}

/// A stream's own settings over those that all of them share.
fn stream(name: String, own: Value, choices: Choices) -> StreamSpec {
    let mut config = json!({
        "name": name,
        "storage": "file",
        "num_replicas": choices.replicas,
        "discard": "old",
        "max_msgs": -1,
        "max_bytes": -1,
        "max_age": 0,
        "max_msgs_per_subject": -1,
        "max_msg_size": -1,
        "max_consumers": -1,
        // With any of these, messages and rows would be refused or would vanish.
        "sealed": false,
        "discard_new_per_subject": false,
        "allow_msg_ttl": false,
    });
    merge(&mut config, own);
    StreamSpec { name, config }
}

/// A consumer's own settings over those that all of them share.
fn consumer(stream: String, name: String, own: Value, choices: Choices) -> ConsumerSpec {
    let mut config = json!({
        "name": name,
        "durable_name": name,
        "deliver_policy": "all",
        "ack_policy": "explicit",
        "ack_wait": nanos(choices.ack_wait),
        "max_ack_pending": MAX_ACK_PENDING,
        "max_deliver": -1,
        // A consumer that forgets payloads, itself or how to wait is none of ours.
        "headers_only": false,
        "inactive_threshold": 0,
        "backoff": [],
        "max_batch": 0,
        "max_bytes": 0,
        "max_expires": 0,
    });
    merge(&mut config, own);
    ConsumerSpec {
        stream,
        name,
        config,
    }
}

fn merge(config: &mut Value, own: Value) {
    if let (Value::Object(config), Value::Object(own)) = (config, own) {
        config.extend(own);
    }
}

/// A duration as JetStream writes it. Ours are all far below what an `i64` of nanoseconds holds.
fn nanos(span: Duration) -> i64 {
    i64::try_from(span.as_nanos()).unwrap_or(i64::MAX)
}
