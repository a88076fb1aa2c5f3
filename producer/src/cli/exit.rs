//! How a command ends: the exit codes of the contract, section 9, and the last line on standard error.

use std::io;
use std::process::ExitCode;

use backstack_schemas::{InvalidId, JobId, RepoId};

use super::render::clean_lines;
use crate::ClientError;
use crate::connect::ConnectError;
use crate::topology::TopologyError;

/// The exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// Done.
    Done = 0,
    /// The job ended in `error` or `cancelled`.
    JobFailed = 1,
    /// What was given is wrong.
    BadInput = 2,
    /// NATS, or the service's streams, are not there.
    Unavailable = 3,
    /// Interrupted while waiting.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not end well.
#[derive(Debug)]
pub(super) enum Failure {
    /// What was given is wrong; the sentence says what to give instead.
    Input(String),
    /// Something has to be started, or permitted; the sentence says what.
    Unavailable(String),
    /// The job ended in `error` or `cancelled`; its report is on standard output already.
    JobFailed,
    /// Somebody pressed Ctrl-C while a job was followed.
    Interrupted {
        /// The job, which goes on.
        job: Option<(RepoId, JobId)>,
    },
    /// Standard output cannot be written to.
    Output(io::Error),
}

impl Failure {
    /// Says it on standard error, and how the process has to end.
    pub(super) fn report(self) -> Exit {
        match self {
            Self::Input(problem) => {
                eprintln!("error: {}", clean_lines(&problem));
                Exit::BadInput
            }
            Self::Unavailable(problem) => {
                eprintln!("error: {}", clean_lines(&problem));
                Exit::Unavailable
            }
            Self::JobFailed => Exit::JobFailed,
            Self::Interrupted { job } => {
                if let Some((repo, id)) = job {
                    eprintln!("the job goes on; look at it with: backstack job show {repo} {id}");
                }
                Exit::Interrupted
            }
            // Whoever reads our output has heard enough.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Done,
            Self::Output(error) => {
                eprintln!("error: standard output cannot be written to: {error}");
                Exit::Unavailable
            }
        }
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        if error.is_input() {
            Self::Input(error.to_string())
        } else {
            Self::Unavailable(error.to_string())
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match &error {
            // The bucket's own words say nothing about what to start.
            ClientError::Rows(rows) if rows.is_missing_bucket() => Self::Unavailable(format!(
                "the service's buckets are not on this NATS server; start the service, which makes \
                 them: `backstackd run`, or `backstackd dev` to try it out; or check --namespace \
                 ({rows})"
            )),
            _ if error.is_unavailable() => Self::Unavailable(error.to_string()),
            ClientError::Rows(_) => Self::Unavailable(error.to_string()),
            _ => Self::Input(error.to_string()),
        }
    }
}

impl From<TopologyError> for Failure {
    fn from(error: TopologyError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<InvalidId> for Failure {
    fn from(error: InvalidId) -> Self {
        Self::Input(error.to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}
