//! What to do next, in words: after an error, a conflict, a branch that was skipped.

use backstack_schemas::outcome::{ConflictKind, DropReason, MergedHow, SkipReason};
use backstack_schemas::{ErrorCode, Job};

use super::shell_word;

/// What a person can do about a job that ended in this error; `None` where nothing can be said.
pub fn after_error(job: &Job) -> Option<String> {
    let repo = &job.spec.repo;
    let id = job.spec.job_id;
    let branch = job.spec.branch.as_ref();
    // Somebody may copy the command, and a branch may be named by anybody.
    let named = branch.and_then(|branch| shell_word(branch.as_str()));
    let named = named.as_deref().unwrap_or("<branch>");
    let code = job.error.as_ref()?.code;
    Some(match code {
        ErrorCode::UnknownRepo => format!("add it first: backstack repo add {repo} <url>"),
        ErrorCode::BranchNotFound | ErrorCode::ParentNotFound => {
            "push the branch, or check its spelling, then retry".to_owned()
        }
        ErrorCode::TrunkNotFound => format!(
            "name the right trunk: backstack repo remove {repo}, then backstack repo add {repo} <url> \
             --trunk <branch>"
        ),
        ErrorCode::BranchNotTracked => {
            format!("track it first: backstack register {repo} {named}")
        }
        ErrorCode::AmbiguousBase => format!(
            "say where its own commits start: backstack register {repo} {named} --base <commit>"
        ),
        ErrorCode::MergeHasChanges => {
            "rebase the branch by hand so that the merge's changes are in commits of their own, and push \
             it"
            .to_owned()
        }
        ErrorCode::Conflict => {
            "rebase the branches that conflict by hand and push them; the others are done".to_owned()
        }
        ErrorCode::Cycle => "choose a parent that does not stand on the branch itself".to_owned(),
        ErrorCode::RemoteNotAllowed => {
            "start the service with --allow-protocol or --allow-host for it, or add the repository with \
             another URL"
                .to_owned()
        }
        ErrorCode::RemoteAuthFailed => {
            "give the service credentials for the remote (backstackd run --credentials FILE), then retry".to_owned()
        }
        ErrorCode::RemoteRejected => {
            "see what the remote's hooks or branch protection want, then retry".to_owned()
        }
        ErrorCode::RemoteUnreachable
        | ErrorCode::Timeout
        | ErrorCode::BranchMoved
        | ErrorCode::Internal
        | ErrorCode::AttemptsExhausted
        | ErrorCode::Expired
        | ErrorCode::Lost => format!("try it again: backstack job retry {repo} {id}"),
        ErrorCode::InvalidAction
        | ErrorCode::BranchHasTask
        | ErrorCode::TrunkIsImmutable
        | ErrorCode::UnrelatedHistory => return None,
    })
}

/// Why a branch was left as it is, and what to do about it.
pub(super) fn skipped(reason: SkipReason) -> (&'static str, &'static str) {
    match reason {
        SkipReason::ParentConflict => ("its parent conflicts", "resolve that first"),
        SkipReason::ParentMissing => (
            "its parent is gone from the remote",
            "reparent it, or push the parent again",
        ),
        SkipReason::MissingOnRemote => (
            "it is gone from the remote",
            "push it again, or unregister it",
        ),
        SkipReason::Rejected => (
            "the remote refused it, or a branch below it",
            "see its hooks and branch protection",
        ),
        SkipReason::AmbiguousBase => (
            "where its own commits start cannot be told",
            "register it again with --base <commit>",
        ),
        SkipReason::MergeHasChanges => (
            "a merge commit of its own holds changes",
            "rebase it by hand and push it",
        ),
    }
}

/// How two sides clash, in words of one width.
pub(super) const fn clash(kind: ConflictKind) -> &'static str {
    match kind {
        ConflictKind::Content => "both changed",
        ConflictKind::ModifyDelete => "changed and deleted",
        ConflictKind::AddAdd => "both added",
        ConflictKind::Rename => "renamed",
        ConflictKind::Directory => "file and directory",
        ConflictKind::Submodule => "submodule",
        ConflictKind::Binary => "binary, both changed",
    }
}

pub(super) const fn merged(how: MergedHow) -> &'static str {
    match how {
        MergedHow::Ancestor => "its head is in trunk",
        MergedHow::PatchId => "each of its commits is in trunk",
        MergedHow::Squash => "squashed",
        MergedHow::BecameEmpty => "nothing of it was left to replay",
    }
}

pub(super) const fn dropped(reason: DropReason) -> &'static str {
    match reason {
        DropReason::BecameEmpty => "its change is there already",
        DropReason::MergeFlattened => "a plain merge, flattened",
    }
}
