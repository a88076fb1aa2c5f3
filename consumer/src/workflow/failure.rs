//! The code and the sentence that whatever went wrong gets in the job's row.

use backstack_engine::EngineError;
use backstack_engine::plan::PlanError;
use backstack_producer::rows::RowError;
use backstack_schemas::{ErrorCode, JobError};

use crate::run::Halt;

/// The code and the sentence that an engine's error gets in the row.
pub fn job_error(error: EngineError) -> Halt {
    let code = match &error {
        EngineError::Stopped => return Halt::Stopped,
        EngineError::RemoteNotAllowed(_) => ErrorCode::RemoteNotAllowed,
        EngineError::RemoteUnreachable(_) => ErrorCode::RemoteUnreachable,
        EngineError::RemoteAuthFailed(_) => ErrorCode::RemoteAuthFailed,
        EngineError::RemoteRejected(_) => ErrorCode::RemoteRejected,
        EngineError::BranchMoved(_) | EngineError::BranchLocked { .. } => ErrorCode::BranchMoved,
        EngineError::UnrelatedHistory { .. } => ErrorCode::UnrelatedHistory,
        EngineError::Timeout => ErrorCode::Timeout,
        EngineError::StateDirInUse { .. }
        | EngineError::GitUnusable(_)
        | EngineError::Internal(_) => ErrorCode::Internal,
    };
    JobError::new(code, error.to_string()).into()
}

/// The same for what planning refused.
pub fn plan_error(error: PlanError) -> Halt {
    match error {
        PlanError::Engine(error) => job_error(error),
        PlanError::Refused(refusal) => JobError::new(refusal.code(), refusal.to_string()).into(),
    }
}

/// The error of a bucket that did not answer, or not so that it could be read.
pub fn unreadable(error: RowError) -> Halt {
    internal(error.to_string()).into()
}

pub fn internal(detail: impl Into<String>) -> JobError {
    JobError::new(ErrorCode::Internal, detail)
}
