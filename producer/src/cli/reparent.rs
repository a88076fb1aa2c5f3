//! `backstack reparent`

use backstack_schemas::{Action, BranchName, ObjectId, RepoId};
use clap::Args;

use super::Session;
use super::act::{ActOptions, act};
use super::exit::Failure;

#[derive(Args, Debug)]
pub(super) struct Reparent {
    /// The repository's short name
    repo: RepoId,

    /// The branch that moves
    branch: BranchName,

    /// What it moves onto: trunk or a tracked branch
    parent: BranchName,

    /// The full id of the commit after which its own commits start, where that cannot be found
    #[arg(long, env = "BACKSTACK_BASE", value_name = "ID")]
    base: Option<ObjectId>,

    #[command(flatten)]
    options: ActOptions,
}

impl Reparent {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let action = Action::ReparentBranch {
            branch: self.branch,
            parent: self.parent,
            base: self.base,
        };
        act(session, &self.repo, action, &self.options).await
    }
}
