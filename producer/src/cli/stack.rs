//! `backstack stack`

use backstack_schemas::RepoId;
use clap::Args;

use super::Session;
use super::exit::Failure;
use super::render::{self, clean};
use crate::ClientError;

#[derive(Args, Debug)]
pub(super) struct Stack {
    /// The repository's short name
    repo: RepoId,
}

impl Stack {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let (client, out) = (&session.client, &session.out);
        let repo = client.repo(&self.repo).await?;
        let repo = repo.ok_or(ClientError::NoSuchRepo {
            repo: self.repo.clone(),
        })?;
        let branches = client.branches(&self.repo).await?;
        for row in &branches.unreadable {
            out.note(&format!(
                "{} cannot be read: {}",
                clean(&row.key),
                clean(&row.problem)
            ));
        }
        if out.json {
            out.rows(&branches.rows)?;
        } else {
            let now = client.rows().clock().now();
            let tree = render::stack_tree(&repo.value, &branches.rows, out.screen, now);
            out.text(&tree)?;
        }
        Ok(())
    }
}
