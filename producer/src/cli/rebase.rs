//! `backstack rebase`

use backstack_schemas::{Action, BranchName, RepoId};
use clap::Args;

use super::Session;
use super::act::{ActOptions, act};
use super::exit::Failure;

#[derive(Args, Debug)]
pub(super) struct Rebase {
    /// The repository's short name
    repo: RepoId,

    /// The branch to replay; its children stay where they are
    branch: BranchName,

    #[command(flatten)]
    options: ActOptions,
}

impl Rebase {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let action = Action::RebaseBranch {
            branch: self.branch,
        };
        act(session, &self.repo, action, &self.options).await
    }
}
