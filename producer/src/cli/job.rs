//! `backstack job show|cancel|retry`

use backstack_schemas::{Job, JobId, JobStatus, RepoId};
use clap::{Args, Subcommand};

use super::act::{Asker, conclude};
use super::exit::Failure;
use super::follow::follow;
use super::{Session, render};
use crate::ClientError;

#[derive(Debug, Subcommand)]
pub(super) enum JobCommand {
    /// Print everything about a job
    Show {
        #[command(flatten)]
        job: Which,

        /// Follow it to its end; exit 1 where it fails or is cancelled
        #[arg(long, env = "BACKSTACK_WAIT")]
        wait: bool,
    },
    /// End a job that is queued; tell one that is running to stop before it pushes
    Cancel {
        #[command(flatten)]
        job: Which,
    },
    /// Ask for the same again, as a new job
    Retry {
        #[command(flatten)]
        job: Which,

        /// Follow the new job to its end; exit 1 where it fails or is cancelled
        #[arg(long, env = "BACKSTACK_WAIT")]
        wait: bool,

        #[command(flatten)]
        asker: Asker,
    },
}

#[derive(Args, Debug)]
pub(super) struct Which {
    /// The repository's short name
    repo: RepoId,

    /// The job's id
    job_id: JobId,
}

impl JobCommand {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::Show { job, wait: true } => follow(session, &job.repo, job.job_id).await,
            Self::Show { job, wait: false } => show(session, job).await,
            Self::Cancel { job } => cancel(session, job).await,
            Self::Retry { job, wait, asker } => {
                let retried = session.client.retry(&job.repo, job.job_id, asker.name());
                conclude(session, retried.await?, wait).await
            }
        }
    }
}

async fn show(session: &Session, Which { repo, job_id }: Which) -> Result<(), Failure> {
    let row = session.client.job(&repo, job_id).await?;
    let job = row.ok_or(ClientError::NoSuchJob { repo, job_id })?.value;
    if session.out.json {
        session.out.row(&job)?;
    } else {
        let now = session.client.rows().server_now().await;
        session
            .out
            .text(&render::job_report(&job, session.out.screen, now))?;
    }
    Ok(())
}

async fn cancel(session: &Session, Which { repo, job_id }: Which) -> Result<(), Failure> {
    let job = session.client.cancel(&repo, job_id).await?.job;
    if session.out.json {
        session.out.row(&job)?;
    } else {
        session.out.text(&cancelled(&job))?;
    }
    Ok(())
}

fn cancelled(job: &Job) -> String {
    let (repo, id) = (&job.spec.repo, job.spec.job_id);
    match job.status {
        JobStatus::Cancelled => format!("job {id} is cancelled; it had not begun"),
        _ => format!(
            "job {id} is running and stops at its next step, unless it has pushed already\nfollow it: \
             backstack job show {repo} {id} --wait"
        ),
    }
}
