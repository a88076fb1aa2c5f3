//! Keeping the mirrors within their budget, and knowing what they take up, beside the work and never in
//! its way.

use std::sync::Arc;
use std::time::Duration;

use backstack_engine::EngineError;
use backstack_engine::mirror::{MirrorStore, Stats};

use crate::runner::Runner;

/// How often the state directory is looked through.
const INTERVAL: Duration = Duration::from_secs(60);

/// Keeps the mirrors within `--mirror-budget` until the worker drains; the least recently used go
/// first, one that a job works on never. Tells the metrics what they take up.
pub async fn keep_house(runner: Arc<Runner>) {
    loop {
        let store = runner.context.store().clone();
        match tokio::task::spawn_blocking(move || look_through(&store)).await {
            Ok(Ok((freed, stats))) => {
                runner.metrics.set_mirrors(stats);
                if freed > 0 {
                    tracing::info!(freed, "mirrors were removed to keep the budget");
                }
            }
            Ok(Err(error)) => tracing::warn!(%error, "the budget of mirrors could not be kept"),
            Err(error) => tracing::warn!(%error, "keeping the budget of mirrors broke"),
        }
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = runner.drain.cancelled() => return,
        }
    }
}

/// The bytes freed, and what is left.
fn look_through(store: &MirrorStore) -> Result<(u64, Stats), EngineError> {
    Ok((store.enforce_budget()?, store.stats()?))
}
