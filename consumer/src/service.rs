//! The service as a whole: from a configuration to a drained worker.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, Event};
use backstack_producer::api::ApiError;
use backstack_producer::connect::{ConnectError, connect_with};
use backstack_producer::rows::Rows;
use backstack_producer::topology::{TopologyError, ensure};
use backstack_schemas::WorkerId;
use backstack_schemas::topology::Choices;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::dead_letter::DeadLetters;
use crate::housekeeping::keep_mirrors_within_budget;
use crate::keeper::Keeper;
use crate::line::Lines;
use crate::lost::watch_for_lost_jobs;
use crate::permits::Permits;
use crate::pull::Pulls;
use crate::row_hints::RowHints;
use crate::runner::{Limits, Runner};
use crate::stream::ActionsStream;
use crate::ticket::Tickets;
use crate::unreadable::watch_for_unreadable;
use crate::workflow::Context;

/// How long handing back may take once running jobs have been told to stop.
const ABORT_PATIENCE: Duration = Duration::from_secs(10);

/// How long the connection may take to send what was written last.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Why the service could not start.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// No connection to NATS.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The streams and buckets are not as they must be.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// The state directory or git cannot be used.
    #[error(transparent)]
    Engine(#[from] backstack_engine::EngineError),
    /// The work queue did not answer.
    #[error("the work queue: {0}")]
    Stream(#[from] ApiError),
}

/// Runs a worker until `shutdown` is cancelled, then drains: what waits is handed back at once, what
/// runs may finish within the drain timeout and is handed back after it.
///
/// # Errors
/// [`ServiceError`] where the worker could not start; nothing after that ends it.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), ServiceError> {
    let mut connect_options = config.connect.clone();
    connect_options.name = "backstackd".to_owned();
    // Connections are counted for those who must ask for everything anew on each.
    let (connections, seen) = watch::channel(0_u64);
    let client = connect_with(&connect_options, move |event| {
        if matches!(event, Event::Connected) {
            connections.send_modify(|made| *made += 1);
        }
    })
    .await?;
    let choices = Choices {
        replicas: config.replicas,
        ack_wait: config.ack_wait,
    };
    ensure(&client, &connect_options.topology(), choices).await?;

    let runner = Arc::new(runner(&config, client.clone(), shutdown).await?);
    let lines = Lines::new(Arc::clone(&runner));
    tokio::spawn(watch_for_lost_jobs(Arc::clone(&runner)));
    if config.mirror_budget.is_some() {
        tokio::spawn(keep_mirrors_within_budget(Arc::clone(&runner)));
    }
    let screening = tokio::spawn(watch_for_unreadable(Arc::clone(&runner), seen.clone()));
    let pulls = Pulls::new(Arc::clone(&runner), Arc::clone(&lines), seen);
    tracing::info!(
        worker = %runner.worker,
        concurrency = config.concurrency,
        state_dir = %config.state_dir.display(),
        "ready for work"
    );
    // Returns when the drain has begun and nothing more can come in.
    pulls.run().await;
    drain(&config, &runner, &lines).await;
    screening.abort();
    // What was settled last must be on the wire before the connection goes.
    if !matches!(
        tokio::time::timeout(LAST_WORDS, client.flush()).await,
        Ok(Ok(()))
    ) {
        tracing::warn!("the connection was gone before the last words were sent");
    }
    Ok(())
}

async fn runner(
    config: &Config,
    client: Client,
    drain: CancellationToken,
) -> Result<Runner, ServiceError> {
    let topology = config.connect.topology();
    let rows = Rows::new(client.clone(), topology.clone());
    let clock = Arc::clone(rows.clock());
    let stream = ActionsStream::new(client.clone(), &topology);
    if let Some(time) = stream.state().await?.server_time {
        clock.saw(time);
    }
    Ok(Runner {
        tickets: Tickets::new(stream.clone(), rows.clone(), topology.clone()),
        keeper: Keeper::start(client.clone(), config.ack_wait),
        permits: Permits::new(config.concurrency),
        dead_letters: DeadLetters::new(client.clone(), topology.clone()),
        hints: RowHints::start(client.clone(), topology.clone()),
        context: Context::open(config, rows.clone(), stream.clone()).await?,
        stream,
        worker: WorkerId::generate(&host_name(), std::process::id()),
        limits: Limits {
            max_attempts: config.max_attempts,
            ack_wait: config.ack_wait,
            action_timeout: config.action_timeout,
        },
        abort: CancellationToken::new(),
        client,
        rows,
        topology,
        clock,
        drain,
    })
}

/// Hands back what waits, lets what runs finish, and hands that back too when the time is up.
async fn drain(config: &Config, runner: &Runner, lines: &Lines) {
    tracing::info!(held = lines.held(), "draining");
    let all = async {
        lines.hand_back_waiting().await;
        lines.ended().await;
    };
    if tokio::time::timeout(config.drain_timeout, all)
        .await
        .is_ok()
    {
        tracing::info!("drained");
        return;
    }
    tracing::warn!("the time to drain is up; running jobs are handed back");
    runner.abort.cancel();
    if tokio::time::timeout(ABORT_PATIENCE, lines.ended())
        .await
        .is_err()
    {
        tracing::error!("some jobs did not stop; the server delivers them again");
    }
}

/// This machine's name, for people who read rows.
fn host_name() -> String {
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    if name.is_empty() {
        "unknown".to_owned()
    } else {
        name
    }
}
