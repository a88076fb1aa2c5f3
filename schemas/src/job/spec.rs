//! What a job was asked to do.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::action::{Action, ActionKind, ActionMessage};
use crate::id::{BranchName, JobId, ObjectId, RepoId, TaskId};

/// What a job was asked to do; never changes after the row was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JobSpec {
    /// The job's id.
    pub job_id: JobId,
    /// Its repository.
    pub repo: RepoId,
    /// The action's name as in the subject; in the row of a refused message possibly no action.
    pub action: String,
    /// The branch it is about.
    pub branch: Option<BranchName>,
    /// The parent it names.
    pub parent: Option<BranchName>,
    /// The base it names.
    pub base: Option<ObjectId>,
    /// Whether a sync restacks afterwards.
    #[serde(default)]
    pub restack: bool,
    /// Whether nothing is pushed and no row but this one changes.
    #[serde(default)]
    pub dry_run: bool,
    /// The task it attaches.
    pub task_id: Option<TaskId>,
    /// The ended job that it repeats.
    pub retry_of: Option<JobId>,
    /// Who asked, in the publisher's words.
    pub requested_by: Option<String>,
}

impl JobSpec {
    /// What `message` asks of `repo`, under the id that was settled for it.
    pub fn new(repo: RepoId, job_id: JobId, message: &ActionMessage) -> Self {
        let action = &message.action;
        let mut spec = Self::nameless(repo, job_id, action.kind().as_str());
        spec.branch = action.branch().cloned();
        spec.dry_run = message.dry_run;
        spec.retry_of = message.retry_of;
        spec.requested_by = message.requested_by.clone();
        match action {
            Action::SyncRepo { restack } => spec.restack = *restack,
            Action::ReparentBranch { parent, base, .. } => {
                spec.parent = Some(parent.clone());
                spec.base = *base;
            }
            Action::RegisterExistingBranch {
                parent,
                base,
                task_id,
                ..
            } => {
                spec.parent = parent.clone();
                spec.base = *base;
                spec.task_id = *task_id;
            }
            Action::RestackRepo
            | Action::RestackSubtree { .. }
            | Action::RebaseBranch { .. }
            | Action::UnregisterBranch { .. } => {}
        }
        spec
    }

    /// The spec of a message that could not be decoded: its action's name and no fields.
    pub fn nameless(repo: RepoId, job_id: JobId, action: &str) -> Self {
        Self {
            job_id,
            repo,
            action: action.to_owned(),
            branch: None,
            parent: None,
            base: None,
            restack: false,
            dry_run: false,
            task_id: None,
            retry_of: None,
            requested_by: None,
        }
    }

    /// The action's kind, where it is one.
    pub fn kind(&self) -> Option<ActionKind> {
        self.action.parse().ok()
    }

    /// The message that asks for the same again; `None` where the row is of a refused message.
    pub fn to_message(&self) -> Option<ActionMessage> {
        let branch = || self.branch.clone();
        let action = match self.kind()? {
            ActionKind::SyncRepo => Action::SyncRepo {
                restack: self.restack,
            },
            ActionKind::RestackRepo => Action::RestackRepo,
            ActionKind::RestackSubtree => Action::RestackSubtree { branch: branch()? },
            ActionKind::RebaseBranch => Action::RebaseBranch { branch: branch()? },
            ActionKind::ReparentBranch => Action::ReparentBranch {
                branch: branch()?,
                parent: self.parent.clone()?,
                base: self.base,
            },
            ActionKind::RegisterExistingBranch => Action::RegisterExistingBranch {
                branch: branch()?,
                parent: self.parent.clone(),
                base: self.base,
                task_id: self.task_id,
            },
            ActionKind::UnregisterBranch => Action::UnregisterBranch { branch: branch()? },
        };
        Some(ActionMessage {
            job_id: Some(self.job_id),
            action,
            dry_run: self.dry_run,
            retry_of: self.retry_of,
            requested_by: self.requested_by.clone(),
        })
    }
}
