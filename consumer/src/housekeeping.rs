//! Keeping the mirrors within their budget, beside the work and never in its way.

use std::sync::Arc;
use std::time::Duration;

use crate::runner::Runner;

/// How often the state directory is looked through.
const INTERVAL: Duration = Duration::from_secs(60);

/// Keeps the mirrors within `--mirror-budget` until the worker drains; the least recently used go
/// first, one that a job works on never.
pub async fn keep_mirrors_within_budget(runner: Arc<Runner>) {
    loop {
        let store = runner.context.store().clone();
        match tokio::task::spawn_blocking(move || store.enforce_budget()).await {
            Ok(Ok(0)) => {}
            Ok(Ok(freed)) => tracing::info!(freed, "mirrors were removed to keep the budget"),
            Ok(Err(error)) => tracing::warn!(%error, "the budget of mirrors could not be kept"),
            Err(error) => tracing::warn!(%error, "keeping the budget of mirrors broke"),
        }
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = runner.drain.cancelled() => return,
        }
    }
}
