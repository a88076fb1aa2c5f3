//! `backstack jobs`

use backstack_schemas::{JobStatus, RepoId};
use clap::Args;

use super::Session;
use super::exit::Failure;
use super::render::{self, clean, count};

#[derive(Args, Debug)]
pub(super) struct Jobs {
    /// The repository's short name; every repository where none is given
    repo: Option<RepoId>,

    /// Only jobs of this status: queued, running, completed, error or cancelled
    #[arg(long, env = "BACKSTACK_STATUS", value_parser = status)]
    status: Option<JobStatus>,

    /// How many at most; 0 for all
    #[arg(long, env = "BACKSTACK_LIMIT", default_value_t = 50, value_name = "N")]
    limit: usize,
}

fn status(text: &str) -> Result<JobStatus, String> {
    let found = JobStatus::ALL
        .into_iter()
        .find(|status| status.as_str() == text);
    found.ok_or_else(|| {
        let all = JobStatus::ALL.map(JobStatus::as_str).join(", ");
        format!("it is one of {all}")
    })
}

impl Jobs {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let mut found = session.client.jobs(self.repo.as_ref(), self.status).await?;
        let out = &session.out;
        for row in &found.unreadable {
            out.note(&format!(
                "{} cannot be read: {}",
                clean(&row.key),
                clean(&row.problem)
            ));
        }
        let all = found.rows.len();
        if self.limit > 0 {
            found.rows.truncate(self.limit);
        }
        if out.json {
            out.rows(&found.rows)?;
        } else if all == 0 {
            out.note("no jobs");
        } else {
            let now = session.client.rows().clock().now();
            out.text(&render::job_table(&found.rows, out.screen, now))?;
        }
        let hidden = all - found.rows.len();
        if hidden > 0 {
            let older = count(hidden, "older job", "older jobs");
            out.note(&format!("{older} left out; --limit 0 shows all"));
        }
        Ok(())
    }
}
