//! What is there of the streams, buckets and consumers. Changes nothing.

use std::collections::HashMap;
use std::time::Duration;

use async_nats::Client;
use backstack_schemas::Topology;
use backstack_schemas::topology::{Choices, Mismatch, StreamSpec};
use futures_util::future::{join, try_join_all};
use serde_json::{Value, json};

use super::{Problem, TopologyError, refused, require_jetstream};
use crate::api::{ApiError, ask, codes};

/// What is not as it must be, for a person to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Streams that do not exist; a bucket is one too.
    pub missing_streams: Vec<String>,
    /// Consumers of the work queue that do not exist.
    pub missing_consumers: Vec<String>,
    /// Settings that are not what they must be.
    pub mismatches: Vec<Mismatch>,
    /// Pulls that wait at the consumers that exist: workers that are alive and ready for work.
    pub waiting_pulls: u64,
    /// Messages stored in the work queue, those held by workers included.
    pub queued: u64,
}

impl Report {
    /// Whether everything is there and right.
    pub fn is_right(&self) -> bool {
        self.missing_streams.is_empty()
            && self.missing_consumers.is_empty()
            && self.mismatches.is_empty()
    }
}

/// Which stream it is: one that was deleted and made anew has the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamIdentity {
    /// When it was made, as the server writes it. A restored backup has the time of the original.
    pub created: String,
    /// The newest sequence it has given.
    pub last_sequence: u64,
}

/// A stream, a bucket's included, as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundStream {
    /// Its name.
    pub name: String,
    /// Which one it is; `None` where there is none.
    pub identity: Option<StreamIdentity>,
    /// Settings that are not what they must be.
    pub mismatches: Vec<Mismatch>,
}

/// What is there of an installation whose choices are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// Every stream that there must be.
    pub streams: Vec<FoundStream>,
    /// Consumers of the work queue that do not exist though the queue does.
    pub missing_consumers: Vec<String>,
    /// Settings of consumers that are not what they must be.
    pub mismatches: Vec<Mismatch>,
}

/// Looks at every stream, bucket and consumer. Changes nothing.
///
/// # Errors
/// [`TopologyError`] where the server cannot be asked; then nothing is known.
pub async fn survey(
    client: &Client,
    topology: &Topology,
    choices: Choices,
) -> Result<Survey, TopologyError> {
    let specs = topology.streams(choices);
    let infos = look_at_streams(client, &specs).await?;
    let streams: Vec<_> = specs.iter().zip(&infos).map(found).collect();
    let mut survey = Survey {
        streams,
        missing_consumers: Vec::new(),
        mismatches: Vec::new(),
    };
    let queue = topology.actions_stream();
    if !survey
        .streams
        .iter()
        .any(|s| s.name == queue && s.identity.is_some())
    {
        return Ok(survey);
    }
    let present = list_consumers(client, &queue).await?;
    for spec in topology.consumers(choices) {
        match present.get(&spec.name) {
            None => survey.missing_consumers.push(spec.name),
            // It exists, but what has it is not there to tell of it.
            Some(Value::Null) => {}
            Some(info) => survey.mismatches.extend(spec.mismatches(&info["config"])),
        }
    }
    Ok(survey)
}

fn found((spec, info): (&StreamSpec, &Option<Value>)) -> FoundStream {
    let identity = info.as_ref().map(|info| StreamIdentity {
        created: info["created"].as_str().unwrap_or_default().to_owned(),
        last_sequence: info["state"]["last_seq"].as_u64().unwrap_or(0),
    });
    let mismatches = info.as_ref().map(|info| spec.mismatches(&info["config"]));
    FoundStream {
        name: spec.name.clone(),
        identity,
        mismatches: mismatches.unwrap_or_default(),
    }
}

/// Up to where everything on a consumer's subjects is acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// The consumer.
    pub name: String,
    /// The subjects that it delivers.
    pub filter: String,
    /// No message at or below this sequence is ever delivered by it again.
    pub sequence: u64,
}

/// For each consumer of the work queue that answers, up to where everything is acknowledged.
///
/// # Errors
/// [`TopologyError`] where the server cannot be asked.
pub async fn acknowledged_through(
    client: &Client,
    topology: &Topology,
) -> Result<Vec<Acknowledged>, TopologyError> {
    let consumers = list_consumers(client, &topology.actions_stream()).await?;
    let acknowledged = consumers.into_iter().filter_map(|(name, info)| {
        Some(Acknowledged {
            name,
            filter: info["config"]["filter_subject"].as_str()?.to_owned(),
            sequence: info["ack_floor"]["stream_seq"].as_u64()?,
        })
    });
    Ok(acknowledged.collect())
}

/// What is missing or wrong, without changing anything. Replicas and ack wait are the operator's
/// choice: they need only agree with those of the work queue and of its first consumer.
///
/// # Errors
/// [`TopologyError`] where the server cannot be asked.
pub async fn check(client: &Client, topology: &Topology) -> Result<Report, TopologyError> {
    let infos = look_at_streams(client, &topology.streams(Choices::default())).await?;
    let stream = topology.actions_stream();
    let of_queue = infos
        .iter()
        .flatten()
        .find(|info| info["config"]["name"] == stream.as_str());
    let consumers = match of_queue {
        Some(_) => list_consumers(client, &stream).await?,
        None => HashMap::new(),
    };
    let choices = chosen(of_queue, consumers.get(&Topology::worker_name(0)));
    let mut report = Report {
        queued: of_queue.map_or(0, |info| info["state"]["messages"].as_u64().unwrap_or(0)),
        waiting_pulls: consumers
            .values()
            .map(|info| info["num_waiting"].as_u64().unwrap_or(0))
            .sum(),
        ..Report::default()
    };
    for (spec, info) in topology.streams(choices).iter().zip(&infos) {
        match info {
            Some(info) => report.mismatches.extend(spec.mismatches(&info["config"])),
            None => report.missing_streams.push(spec.name.clone()),
        }
    }
    for spec in topology.consumers(choices) {
        match consumers.get(&spec.name).filter(|info| !info.is_null()) {
            Some(info) => report.mismatches.extend(spec.mismatches(&info["config"])),
            None => report.missing_consumers.push(spec.name),
        }
    }
    Ok(report)
}

/// What the operator chose when the queue and its consumers were made.
fn chosen(stream: Option<&Value>, consumer: Option<&Value>) -> Choices {
    let mut choices = Choices::default();
    let replicas = stream.and_then(|info| info["config"]["num_replicas"].as_u64());
    if let Some(replicas) = replicas.and_then(|n| u8::try_from(n).ok()) {
        choices.replicas = replicas;
    }
    if let Some(nanos) = consumer.and_then(|info| info["config"]["ack_wait"].as_u64()) {
        choices.ack_wait = Duration::from_nanos(nanos);
    }
    choices
}

async fn look_at_streams(
    client: &Client,
    specs: &[StreamSpec],
) -> Result<Vec<Option<Value>>, TopologyError> {
    let looks = try_join_all(specs.iter().map(|spec| stream_info(client, &spec.name)));
    let (there, infos) = join(require_jetstream(client), looks).await;
    there.and(infos)
}

/// What the server says of a stream; `None` where there is none. Who watches the wire can tell it from
/// what a job asks of the work queue: that has no body.
async fn stream_info(client: &Client, name: &str) -> Result<Option<Value>, TopologyError> {
    let body = json!({ "deleted_details": false });
    there(
        name,
        ask(client, &format!("STREAM.INFO.{name}"), &body).await,
    )
}

pub(super) fn there(
    name: &str,
    answer: Result<Value, ApiError>,
) -> Result<Option<Value>, TopologyError> {
    match answer {
        Ok(info) => Ok(Some(info)),
        Err(error) if error.err_code() == Some(codes::STREAM_NOT_FOUND) => Ok(None),
        Err(error) => Err(refused("stream", name, Problem::Look(error))),
    }
}

/// Every consumer of the stream by its name, null for one that nothing could be heard of; the server
/// hands them out in pages.
pub(super) async fn list_consumers(
    client: &Client,
    stream: &str,
) -> Result<HashMap<String, Value>, TopologyError> {
    let subject = format!("CONSUMER.LIST.{stream}");
    let mut found = HashMap::new();
    loop {
        let page = ask(client, &subject, &json!({ "offset": found.len() }))
            .await
            .map_err(|error| refused("consumers of stream", stream, Problem::Look(error)))?;
        let consumers = page["consumers"].as_array().cloned().unwrap_or_default();
        let before = found.len();
        for info in consumers {
            let name = info["name"].as_str().unwrap_or_default().to_owned();
            found.insert(name, info);
        }
        // Consumers whose leader did not answer.
        for name in page["missing"].as_array().into_iter().flatten() {
            let name = name.as_str().unwrap_or_default();
            found.entry(name.to_owned()).or_insert(Value::Null);
        }
        let total = page["total"].as_u64().unwrap_or(0);
        if found.len() as u64 >= total || found.len() == before {
            return Ok(found);
        }
    }
}
