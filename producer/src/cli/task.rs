//! `backstack task create|list`

use backstack_schemas::{BranchName, RepoId};
use clap::Subcommand;

use super::Session;
use super::act::Asker;
use super::exit::Failure;
use super::render::{self, clean};

#[derive(Debug, Subcommand)]
pub(super) enum TaskCommand {
    /// Create a task on a branch, at once, whether or not the branch is known yet
    Create {
        /// The repository's short name
        repo: RepoId,

        /// The branch it works on; one task a branch
        branch: BranchName,

        /// What it is about
        #[arg(long, env = "BACKSTACK_TITLE", value_name = "TEXT")]
        title: String,

        #[command(flatten)]
        asker: Asker,
    },
    /// List the tasks of a repository
    List {
        /// The repository's short name
        repo: RepoId,
    },
}

impl TaskCommand {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let (client, out) = (&session.client, &session.out);
        match self {
            Self::Create {
                repo,
                branch,
                title,
                asker,
            } => {
                let task = client.create_task(&repo, &branch, &title, asker.name());
                let task = task.await?;
                if out.json {
                    out.row(&task)?;
                } else {
                    out.text(&render::created_task(&task, out.screen))?;
                }
            }
            Self::List { repo } => {
                let found = client.tasks(&repo).await?;
                for row in &found.unreadable {
                    let (key, problem) = (clean(&row.key), clean(&row.problem));
                    out.note(&format!("{key} cannot be read: {problem}"));
                }
                if out.json {
                    out.rows(&found.rows)?;
                } else if found.rows.is_empty() {
                    out.note(&format!(
                        "no tasks; create one: backstack task create {repo} <branch> --title <text>"
                    ));
                } else {
                    let now = client.rows().clock().now();
                    out.text(&render::task_table(&found.rows, out.screen, now))?;
                }
            }
        }
        Ok(())
    }
}
