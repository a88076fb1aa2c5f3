//! `backstack register`

use backstack_schemas::{Action, BranchName, ObjectId, RepoId};
use clap::Args;

use super::Session;
use super::act::{ActOptions, act};
use super::exit::Failure;

#[derive(Args, Debug)]
pub(super) struct Register {
    /// The repository's short name
    repo: RepoId,

    /// The branch to track
    branch: BranchName,

    /// What it stands on; found from the history where not given
    #[arg(long, env = "BACKSTACK_PARENT", value_name = "BRANCH")]
    parent: Option<BranchName>,

    /// The full id of the commit after which its own commits start, where that cannot be found
    #[arg(long, env = "BACKSTACK_BASE", value_name = "ID")]
    base: Option<ObjectId>,

    #[command(flatten)]
    options: ActOptions,
}

impl Register {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let action = Action::RegisterExistingBranch {
            branch: self.branch,
            parent: self.parent,
            base: self.base,
            task_id: None,
        };
        act(session, &self.repo, action, &self.options).await
    }
}
