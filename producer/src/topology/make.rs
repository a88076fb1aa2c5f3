//! Making what is missing of the streams, buckets and consumers. Several may do so at once.

use std::time::Duration;

use async_nats::Client;
use backstack_schemas::Topology;
use backstack_schemas::topology::{Choices, ConsumerSpec, Mismatch, StreamSpec};
use futures_util::future::try_join_all;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::look::{list_consumers, there};
use super::{Problem, TopologyError, refused, require_jetstream};
use crate::api::{ApiError, DEADLINE, ask_within, codes};

/// Makes every stream, bucket and consumer that is missing and checks the others.
///
/// # Errors
/// [`TopologyError`]. What was made before the error stays.
pub async fn ensure(
    client: &Client,
    topology: &Topology,
    choices: Choices,
) -> Result<(), TopologyError> {
    let streams = topology.streams(choices);
    require_jetstream(client).await?;
    let looks = streams
        .iter()
        .map(|spec| settled_stream(client, &spec.name));
    let infos = try_join_all(looks).await?;
    let mut wrong = Vec::new();
    // In order: the work queue sources from the schedules' stream.
    for (spec, info) in streams.iter().zip(infos) {
        let info = match info {
            Some(info) => info,
            None => create_stream(client, spec).await?,
        };
        wrong.extend(spec.mismatches(&info["config"]));
    }
    refuse(wrong)?;
    ensure_consumers(client, topology, choices).await
}

async fn ensure_consumers(
    client: &Client,
    topology: &Topology,
    choices: Choices,
) -> Result<(), TopologyError> {
    let present = list_consumers(client, &topology.actions_stream()).await?;
    let specs = topology.consumers(choices);
    let infos = try_join_all(
        specs
            .iter()
            .map(async |spec| match present.get(&spec.name) {
                Some(info) if !info.is_null() => Ok(info.clone()),
                // Making one that is there tells of it.
                _ => create_consumer(client, spec).await,
            }),
    )
    .await?;
    let wrong = specs
        .iter()
        .zip(&infos)
        .flat_map(|(spec, info)| spec.mismatches(&info["config"]));
    refuse(wrong.collect())
}

/// Makes the consumers with these names, where they are missing, as they must be.
///
/// # Errors
/// [`TopologyError`]. What was made before the error stays.
pub async fn make_consumers(
    client: &Client,
    topology: &Topology,
    choices: Choices,
    names: &[String],
) -> Result<(), TopologyError> {
    let specs = topology.consumers(choices);
    let wanted = specs.iter().filter(|spec| names.contains(&spec.name));
    try_join_all(wanted.map(|spec| create_consumer(client, spec))).await?;
    Ok(())
}

fn refuse(wrong: Vec<Mismatch>) -> Result<(), TopologyError> {
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(TopologyError::Mismatched(wrong))
    }
}

/// Makes the stream; where somebody else was faster, returns theirs.
async fn create_stream(client: &Client, spec: &StreamSpec) -> Result<Value, TopologyError> {
    let subject = format!("STREAM.CREATE.{}", spec.name);
    match make(client, &subject, &spec.config).await {
        Ok(info) => Ok(info),
        Err(error) if error.err_code() == Some(codes::STREAM_NAME_EXISTS) => {
            look(client, &format!("STREAM.INFO.{}", spec.name))
                .await
                .map_err(|error| refused("stream", &spec.name, Problem::Look(error)))
        }
        Err(error) => Err(refused("stream", &spec.name, Problem::Create(error))),
    }
}

async fn create_consumer(client: &Client, spec: &ConsumerSpec) -> Result<Value, TopologyError> {
    let mut subject = format!("CONSUMER.CREATE.{}.{}", spec.stream, spec.name);
    if let Some(filter) = spec.config["filter_subject"].as_str() {
        subject = format!("{subject}.{filter}");
    }
    let body = json!({
        "stream_name": spec.stream,
        "config": spec.config,
        "action": "create",
    });
    let taken = [codes::CONSUMER_EXISTS, codes::CONSUMER_NAME_EXISTS];
    match make(client, &subject, &body).await {
        Ok(info) => Ok(info),
        Err(error) if error.err_code().is_some_and(|code| taken.contains(&code)) => look(
            client,
            &format!("CONSUMER.INFO.{}.{}", spec.stream, spec.name),
        )
        .await
        .map_err(|error| refused("consumer", &spec.name, Problem::Look(error))),
        Err(error) => Err(refused("consumer", &spec.name, Problem::Create(error))),
    }
}

/// The same where somebody else may just be making it.
async fn settled_stream(client: &Client, name: &str) -> Result<Option<Value>, TopologyError> {
    there(name, look(client, &format!("STREAM.INFO.{name}")).await)
}

/// How long making one thing may take: a cluster has to elect a leader for each.
const MAKING: Duration = Duration::from_secs(30);

/// How long to wait for one answer about what somebody else is making. What is asked before it has its
/// first leader is never answered: only the leader tells of it.
const LOOKING: Duration = Duration::from_secs(1);

/// Asks for something to be made.
async fn make(client: &Client, subject: &str, body: &Value) -> Result<Value, ApiError> {
    ask_until_ready(client, subject, body, DEADLINE * 2).await
}

/// Asks for what somebody else may be making.
async fn look(client: &Client, subject: &str) -> Result<Value, ApiError> {
    ask_until_ready(client, subject, &Value::Null, LOOKING).await
}

/// Asks, and again where the cluster is not ready for it yet.
async fn ask_until_ready(
    client: &Client,
    subject: &str,
    body: &Value,
    each: Duration,
) -> Result<Value, ApiError> {
    let until = Instant::now() + MAKING;
    loop {
        match ask_within(client, subject, body, each).await {
            Err(error) if error.is_transient() && Instant::now() < until => {
                tracing::debug!(%subject, %error, "not ready yet; asking again");
                sleep(Duration::from_millis(250)).await;
            }
            result => return result,
        }
    }
}
