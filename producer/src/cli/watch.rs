//! `backstack watch`

use backstack_schemas::{Job, RepoId};
use clap::Args;

use super::Session;
use super::exit::Failure;
use super::follow::interrupted;
use super::render::{self, clean};
use crate::rows::RowEvent;

#[derive(Args, Debug)]
pub(super) struct Watch {
    /// The repository's short name; every repository where none is given
    repo: Option<RepoId>,
}

impl Watch {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let mut watch = session.client.watch_jobs(self.repo.as_ref()).await?;
        let interrupted = interrupted();
        tokio::pin!(interrupted);
        let mut is_history = true;
        loop {
            let event = tokio::select! {
                event = watch.next_event() => event,
                () = &mut interrupted => return Err(Failure::Interrupted { job: None }),
            };
            match event {
                Some(RowEvent::Row { row, .. }) => {
                    // Of what was before, only what is still going on.
                    if !is_history || !row.value.status.is_terminal() {
                        print(session, &row.value)?;
                    }
                }
                Some(RowEvent::Unreadable { key, error, .. }) if !is_history => {
                    let text = format!("{} cannot be read: {}", clean(&key), clean(&error));
                    session.out.note(&text);
                }
                Some(RowEvent::Initialised) => is_history = false,
                Some(RowEvent::Reset) => is_history = true,
                Some(RowEvent::Deleted { .. } | RowEvent::Unreadable { .. }) => {}
                None => return Ok(()),
            }
        }
    }
}

fn print(session: &Session, job: &Job) -> Result<(), Failure> {
    let out = &session.out;
    if out.json {
        out.row(job)?;
    } else {
        out.text(&render::job_line(job, out.screen))?;
    }
    Ok(())
}
