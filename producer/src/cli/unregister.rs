//! `backstack unregister`

use backstack_schemas::{Action, BranchName, RepoId};
use clap::Args;

use super::Session;
use super::act::{ActOptions, act};
use super::exit::Failure;

#[derive(Args, Debug)]
pub(super) struct Unregister {
    /// The repository's short name
    repo: RepoId,

    /// The branch to stop tracking; its children get its parent
    branch: BranchName,

    #[command(flatten)]
    options: ActOptions,
}

impl Unregister {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let action = Action::UnregisterBranch {
            branch: self.branch,
        };
        act(session, &self.repo, action, &self.options).await
    }
}
