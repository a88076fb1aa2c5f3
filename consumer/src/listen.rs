//! `--listen`: `/healthz`, `/readyz` and `/metrics` over HTTP, for whatever keeps the worker running.
//!
//! | path | answer |
//! |---|---|
//! | `/healthz` | 200 while the process lives and none of its tasks has broken; else 503: start it anew |
//! | `/readyz` | 200 while a job published now could be run here; else 503; as JSON, each check with its problem and remedy |
//! | `/metrics` | everything in [`crate::metrics`], in OpenMetrics' text format |
//!
//! It listens before anything else is done, so that an address that cannot be had is told at once, and a
//! worker that is starting answers that it is not ready. It answers until the process ends, through the
//! drain. Nothing it says holds a secret, and nothing it is asked changes anything.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::line::Lines;
use crate::metrics::{CONTENT_TYPE, Metrics};
use crate::readiness::{Readiness, Report};
use crate::runner::Runner;

/// The address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("--listen {address} cannot be had: {source}; {advice}", advice = advice(.source))]
pub struct ListenError {
    /// The address as it was given.
    address: SocketAddr,
    /// What the system says.
    source: io::Error,
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another process, perhaps another worker, listens there: stop it, or choose another port"
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine does not have that address: use 127.0.0.1, one of its own, or 0.0.0.0"
        }
        io::ErrorKind::PermissionDenied => {
            "this user may not have that port: choose one above 1023"
        }
        _ => "choose another address, as 127.0.0.1:8790",
    }
}

/// Answers on an address until it is dropped.
#[derive(Debug)]
pub struct Listener {
    address: SocketAddr,
    asked: Arc<Asked>,
    task: JoinHandle<()>,
}

/// What the answers are made of.
#[derive(Debug)]
struct Asked {
    metrics: Arc<Metrics>,
    /// There once the worker has started.
    station: OnceLock<Station>,
}

#[derive(Debug)]
struct Station {
    runner: Arc<Runner>,
    lines: Arc<Lines>,
    readiness: Readiness,
}

impl Listener {
    /// Listens and answers.
    ///
    /// # Errors
    /// [`ListenError`] where the address cannot be had.
    pub async fn start(address: SocketAddr, metrics: Arc<Metrics>) -> Result<Self, ListenError> {
        let refused = |source| ListenError { address, source };
        let listener = TcpListener::bind(address).await.map_err(refused)?;
        let bound = listener.local_addr().map_err(refused)?;
        let asked = Arc::new(Asked {
            metrics,
            station: OnceLock::new(),
        });
        let app = Router::new()
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics_text))
            .with_state(Arc::clone(&asked));
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, app).await {
                tracing::error!(%error, "the listener for health and metrics has ended");
            }
        });
        tracing::info!(address = %bound, "listening for /healthz, /readyz and /metrics");
        Ok(Self {
            address: bound,
            asked,
            task,
        })
    }

    /// Where it listens; the port that was got where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The worker has started.
    pub fn started(&self, runner: &Arc<Runner>, lines: &Arc<Lines>, readiness: Readiness) {
        let station = Station {
            runner: Arc::clone(runner),
            lines: Arc::clone(lines),
            readiness,
        };
        // A worker starts once.
        let _ = self.asked.station.set(station);
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn healthz(State(asked): State<Arc<Asked>>) -> Response {
    let ended = asked
        .station
        .get()
        .map(|station| station.readiness.ended_tasks());
    match ended.filter(|ended| !ended.is_empty()) {
        None => "ok\n".into_response(),
        Some(ended) => {
            let said = format!(
                "no longer running: {}; start the worker anew\n",
                ended.join(", ")
            );
            (StatusCode::SERVICE_UNAVAILABLE, said).into_response()
        }
    }
}

async fn readyz(State(asked): State<Arc<Asked>>) -> Response {
    let report = match asked.station.get() {
        Some(station) => station.readiness.report().await,
        None => Report::starting(),
    };
    let status = if report.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(report)).into_response()
}

async fn metrics_text(State(asked): State<Arc<Asked>>) -> Response {
    if let Some(station) = asked.station.get() {
        station.refresh(&asked.metrics).await;
    }
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], asked.metrics.text()).into_response()
}

impl Station {
    /// Brings up to date what is only looked at when it is asked for.
    async fn refresh(&self, metrics: &Metrics) {
        let runner = &self.runner;
        let (waiting, running) = self.lines.held();
        metrics.set_held(waiting, running);
        let (permits, in_use) = runner.permits.in_use();
        metrics.set_permits(permits, in_use);
        metrics.set_row_conflicts(runner.rows.conflicts());
        let state = runner.client.connection_state();
        let connected = state == async_nats::connection::State::Connected;
        let problems = runner.guard.known_problems();
        metrics.set_standing(connected, problems, runner.is_draining());
    }
}
