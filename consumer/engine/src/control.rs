//! What bounds a piece of engine work: a deadline, and a flag that says stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::error::EngineError;

/// Deadline and stop flag of one action; clones share the flag.
///
/// Engine code asks [`check`](Self::check) between commits and between processes; a running git
/// command is killed, with its whole process group, when either says so.
#[derive(Clone, Debug)]
pub struct Control {
    deadline: Option<Instant>,
    stopped: Arc<AtomicBool>,
}

impl Control {
    /// Work that may take as long as it likes, until stopped.
    pub fn unbounded() -> Self {
        Self {
            deadline: None,
            stopped: Arc::default(),
        }
    }

    /// Work that must be done within `span` from now.
    pub fn within(span: Duration) -> Self {
        Self {
            deadline: Instant::now().checked_add(span),
            stopped: Arc::default(),
        }
    }

    /// Makes every [`check`](Self::check) from now on fail.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    /// Time left; `None` where there is no deadline.
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline
            .map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Fails with [`EngineError::Stopped`] or [`EngineError::Timeout`] where the work must end.
    pub fn check(&self) -> Result<(), EngineError> {
        if self.stopped.load(Ordering::Acquire) {
            return Err(EngineError::Stopped);
        }
        match self.remaining() {
            Some(Duration::ZERO) => Err(EngineError::Timeout),
            _ => Ok(()),
        }
    }
}
