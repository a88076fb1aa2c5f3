//! The process groups of the gits that run now, for a process that ends without waiting for them.
//!
//! A git ends when the process that started it does. What git has started in turn does not: the helper
//! that talks HTTPS to a remote which hangs would stay until that answers, which may be never. Nothing
//! can be done about it where this process is killed; where it ends by itself, it tells them first.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal};

static RUNNING: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// A git has begun, as the leader of a group.
pub(super) fn began(leader: Pid) {
    running().push(leader);
}

/// A git has ended and is about to be reaped, after which its id may be anybody's.
pub(super) fn ends(leader: Pid) {
    running().retain(|running| *running != leader);
}

/// Asks every git that runs, and all that they started, to end: the last thing to be done before the
/// process exits. They are asked and not killed, so that a remote on this machine is not left locked.
pub fn terminate_all() {
    for leader in running().iter() {
        if let Err(error) = rustix::process::kill_process_group(*leader, Signal::TERM) {
            tracing::debug!(%error, "no process group to signal");
        }
    }
}

fn running() -> MutexGuard<'static, Vec<Pid>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}
