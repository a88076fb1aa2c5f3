//! Asking NATS in the middle of a run, for as long as that goes on: an election, a restart or a lost
//! connection costs the run time, and no attempt.

use std::time::Duration;

use backstack_producer::api::ApiError;
use backstack_producer::rows::RowError;

use crate::run::Run;

/// How long to leave a server alone that did not answer.
const PAUSE: Duration = Duration::from_millis(200);

/// An error that may pass by itself.
pub trait Passing: std::fmt::Display {
    /// Whether asking again later may go otherwise.
    fn may_pass(&self) -> bool;
}

impl Passing for ApiError {
    fn may_pass(&self) -> bool {
        self.is_transient()
    }
}

impl Passing for RowError {
    fn may_pass(&self) -> bool {
        self.is_transient()
    }
}

/// Whether this is the answer: not where asking again may give another, after a pause, for as long as the run
/// goes on.
pub async fn is_answer<T, E: Passing>(run: &Run, answer: &Result<T, E>) -> bool {
    let passing = answer.as_ref().err().filter(|error| error.may_pass());
    let Some(error) = passing.filter(|_| run.control.check().is_ok()) else {
        return true;
    };
    tracing::debug!(%error, "asking again");
    tokio::time::sleep(PAUSE).await;
    false
}
