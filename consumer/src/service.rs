//! The service as a whole: from a configuration to a drained worker.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, Event};
use backstack_producer::api::ApiError;
use backstack_producer::connect::{ConnectError, ConnectOptions, connect_with};
use backstack_producer::rows::Rows;
use backstack_producer::topology::{TopologyError, ensure};
use backstack_schemas::WorkerId;
use backstack_schemas::topology::Choices;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::dead_letter::DeadLetters;
use crate::guard::Guard;
use crate::housekeeping::keep_house;
use crate::keeper::Keeper;
use crate::leftovers::watch_for_leftovers;
use crate::line::Lines;
use crate::listen::{ListenError, Listener};
use crate::lost::watch_for_lost_jobs;
use crate::metrics::Metrics;
use crate::permits::Permits;
use crate::pull::{PullBoard, Pulls};
use crate::readiness::Readiness;
use crate::removed::watch_for_removed;
use crate::row_hints::RowHints;
use crate::runner::{Limits, Runner};
use crate::stream::ActionsStream;
use crate::ticket::Tickets;
use crate::unreadable::{Screening, closed_for_good, look_through_all, watch_for_unreadable};
use crate::vitals::Vitals;
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
    /// The address for health and metrics cannot be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The work queue did not answer.
    #[error("the work queue: {0}")]
    Stream(#[from] ApiError),
    /// A message that was delivered brought the connection down for good. It has been removed, so the
    /// service only has to be started again.
    #[error(
        "a message that cannot be read closed the connection for good; start the service again"
    )]
    Closed,
}

/// Runs a worker until `shutdown` is cancelled, then drains: what waits is handed back at once, what
/// runs may finish within the drain timeout and is handed back after it.
///
/// # Errors
/// [`ServiceError`] where the worker could not start; nothing after that ends it.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), ServiceError> {
    let metrics = Arc::new(Metrics::new());
    // Before anything else: whoever asks is told that the worker is starting.
    let listener = match config.listen {
        Some(address) => Some(Listener::start(address, Arc::clone(&metrics)).await?),
        None => None,
    };
    let mut connect_options = config.connect.clone();
    connect_options.name = "backstackd".to_owned();
    // Connections are counted for those who must ask for everything anew on each.
    let (connections, seen) = watch::channel(0_u64);
    let counted = Arc::clone(&metrics);
    let screening = Arc::new(Screening::default());
    let told = Arc::clone(&screening);
    let client = connect_with(&connect_options, move |event| {
        if matches!(event, Event::Connected) {
            told.connected();
            connections.send_modify(|made| *made += 1);
            if *connections.borrow() > 1 {
                counted.reconnects.inc();
            }
        }
    })
    .await?;
    let choices = Choices {
        replicas: config.replicas,
        ack_wait: config.ack_wait,
    };
    ensure(&client, &connect_options.topology(), choices).await?;

    let runner = runner(
        &config,
        client.clone(),
        choices,
        metrics,
        screening,
        shutdown,
    )
    .await?;
    let runner = Arc::new(runner);
    let lines = Lines::new(Arc::clone(&runner));
    let screening = look_after(&config, &runner, &connect_options, &seen);
    if let Some(listener) = &listener {
        let readiness = Readiness::new(Arc::clone(&runner), config.state_dir.clone());
        listener.started(&runner, &lines, readiness);
    }
    let pulls = Pulls::new(Arc::clone(&runner), Arc::clone(&lines), seen);
    tracing::info!(
        worker = %runner.worker,
        concurrency = config.concurrency,
        state_dir = %config.state_dir.display(),
        "ready for work"
    );
    tokio::select! {
        // Returns when the drain has begun and nothing more can come in.
        () = pulls.run() => {}
        () = closed_for_good(&client) => {
            give_up(&runner, &lines).await;
            look_through_all(&runner, &connect_options).await;
            return Err(ServiceError::Closed);
        }
    }
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

/// Starts what goes on beside the work; returns the task that does not end with the drain.
fn look_after(
    config: &Config,
    runner: &Arc<Runner>,
    options: &ConnectOptions,
    connections: &watch::Receiver<u64>,
) -> JoinHandle<()> {
    let vitals = &runner.vitals;
    let guard = runner.guard.clone();
    let guarding = guard.watch(runner.drain.clone(), connections.clone());
    tokio::spawn(vitals.watched("the guard of the streams", guarding));
    tokio::spawn(forget_replaced_rows(Arc::clone(runner)));
    let lost = watch_for_lost_jobs(Arc::clone(runner));
    tokio::spawn(vitals.watched("the search for lost jobs", lost));
    let leftovers = watch_for_leftovers(Arc::clone(runner));
    tokio::spawn(vitals.watched("the search for leftovers", leftovers));
    // Nobody else wants to know what the mirrors take up.
    if config.mirror_budget.is_some() || config.listen.is_some() {
        tokio::spawn(vitals.watched("housekeeping", keep_house(Arc::clone(runner))));
    }
    let removed = watch_for_removed(Arc::clone(runner));
    tokio::spawn(vitals.watched("the search for removed repositories", removed));
    let screening = watch_for_unreadable(Arc::clone(runner), options.clone(), connections.clone());
    tokio::spawn(vitals.watched("the search for unreadable messages", screening))
}

/// What is remembered of a bucket's rows is worth nothing once the bucket is another one.
async fn forget_replaced_rows(runner: Arc<Runner>) {
    let mut replaced = runner.guard.buckets_replaced();
    while replaced.changed().await.is_ok() {
        runner.context.branch_rows().forget_all();
    }
}

async fn runner(
    config: &Config,
    client: Client,
    choices: Choices,
    metrics: Arc<Metrics>,
    screening: Arc<Screening>,
    drain: CancellationToken,
) -> Result<Runner, ServiceError> {
    let topology = config.connect.topology();
    let rows = Rows::new(client.clone(), topology.clone());
    let clock = Arc::clone(rows.clock());
    let stream = ActionsStream::new(client.clone(), &topology);
    if let Some(time) = stream.state().await?.server_time {
        clock.told(time);
    }
    let context = Context::open(config, rows.clone(), stream.clone(), Arc::clone(&metrics));
    Ok(Runner {
        tickets: Tickets::new(stream.clone(), rows.clone(), topology.clone()),
        keeper: Keeper::start(client.clone(), config.ack_wait),
        permits: Permits::new(config.concurrency),
        screening,
        dead_letters: DeadLetters::new(client.clone(), topology.clone()),
        hints: RowHints::start(client.clone(), topology.clone()),
        context: context.await?,
        guard: Guard::new(
            client.clone(),
            topology.clone(),
            choices,
            Arc::clone(&metrics),
        ),
        pulls: PullBoard::default(),
        vitals: Vitals::new(drain.clone()),
        metrics,
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
    let (waiting, running) = lines.held();
    tracing::info!(waiting, running, "draining");
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

/// Stops everything without a connection; what was held is delivered again.
async fn give_up(runner: &Runner, lines: &Lines) {
    tracing::error!("the connection is closed for good; giving up what is held");
    runner.drain.cancel();
    runner.abort.cancel();
    if tokio::time::timeout(ABORT_PATIENCE, lines.ended())
        .await
        .is_err()
    {
        tracing::error!("some jobs did not stop");
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
