//! Creates what is missing of the streams, buckets and consumers, and checks what is there.
//!
//! Everything is asked for as [`backstack_schemas::topology`] spells it, through the raw JetStream
//! API. Nothing that exists is ever changed: a setting that is not what it must be is an error which
//! names it. Any number of processes may do this at once.
//!
//! | question | module |
//! |---|---|
//! | what is there, and is it right? | `look` |
//! | how is what is missing made? | `make` |

mod look;
mod make;

use async_nats::Client;
use backstack_schemas::topology::Mismatch;
use serde_json::Value;

pub use look::{
    Acknowledged, FoundStream, Report, StreamIdentity, Survey, acknowledged_through, check, survey,
};
pub use make::{ensure, make_consumers};

use crate::api::{ApiError, ask, codes};

/// Why the topology is not as it must be.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// JetStream is off.
    #[error(
        "JetStream is not enabled on the NATS server, or not for this account; start it with \
         `nats-server -js`, or give the account a `jetstream` section ({0})"
    )]
    NoJetStream(ApiError),
    /// A stream, bucket or consumer cannot be made or asked about.
    #[error("{what} {name} {problem}{hint}", hint = hint(.problem))]
    Refused {
        /// `stream` or `consumer`.
        what: &'static str,
        /// Its name.
        name: String,
        /// What the server says.
        problem: Problem,
    },
    /// Settings that are not what they must be, every one.
    #[error("{}", wrong_settings(.0))]
    Mismatched(Vec<Mismatch>),
}

/// What was tried and how it failed.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// Making it.
    #[error("cannot be created: {0}")]
    Create(ApiError),
    /// Asking about it.
    #[error("cannot be looked up: {0}")]
    Look(ApiError),
}

impl Problem {
    const fn error(&self) -> &ApiError {
        match self {
            Self::Create(error) | Self::Look(error) => error,
        }
    }
}

/// What to do about a refusal.
fn hint(problem: &Problem) -> &'static str {
    match problem.error() {
        ApiError::TimedOut { .. } => {
            "; if the server is up, look for a permission violation in its log: this user must be \
             allowed to publish on $JS.API.> and to read its inbox"
        }
        error if error.is_denied() => {
            "; `backstack permissions worker` prints all that the service needs"
        }
        error => match error.err_code() {
            Some(codes::STORAGE_EXCEEDED | codes::INSUFFICIENT_RESOURCES) => {
                "; free or grant JetStream storage (max_file_store, or the account's limits)"
            }
            Some(codes::SUBJECTS_OVERLAP) => {
                "; another stream has these subjects: remove it, or choose another --namespace"
            }
            Some(codes::REPLICAS_NOT_SUPPORTED) => {
                "; this server is not in a cluster: use --replicas 1"
            }
            _ => "",
        },
    }
}

fn wrong_settings(mismatches: &[Mismatch]) -> String {
    let lines: Vec<_> = mismatches.iter().map(ToString::to_string).collect();
    format!(
        "what exists on NATS has settings that Backstack cannot work with, and it repairs nothing by \
         itself:\n  {}\nchange them (`nats stream edit`), delete what is not needed, or choose \
         another --namespace",
        lines.join("\n  ")
    )
}

fn refused(what: &'static str, name: &str, problem: Problem) -> TopologyError {
    TopologyError::Refused {
        what,
        name: name.to_owned(),
        problem,
    }
}

/// Fails with what to start where JetStream is off.
async fn require_jetstream(client: &Client) -> Result<(), TopologyError> {
    match ask(client, "INFO", &Value::Null).await {
        Err(error @ ApiError::NoResponders { .. }) => Err(TopologyError::NoJetStream(error)),
        Err(error)
            if matches!(
                error.err_code(),
                Some(codes::NOT_ENABLED | codes::NOT_ENABLED_FOR_ACCOUNT)
            ) =>
        {
            Err(TopologyError::NoJetStream(error))
        }
        // Not everyone may ask this; the requests that matter speak for themselves.
        _ => Ok(()),
    }
}
