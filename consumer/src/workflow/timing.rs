//! How long each step of an action takes, said in the log for operators.
//!
//! A step that ends says so once, at level `debug`, within its job's span: `step`, one of the names
//! below, and `took_us`, microseconds. (`BACKSTACK_LOG=info,backstack_consumer::workflow=debug` shows them.)
//! Nothing is measured to decide by it.
//!
//! | step | what |
//! |---|---|
//! | `ask` | the repository's row, the work queue's last sequence, whether the branch rows are known |
//! | `fetch` | the mirror made ready, git's fetch, and meanwhile what `outlook` works out |
//! | `obtain` | whether the mirror has every commit that rows name |
//! | `plan`, `replay`, `write` | what goes onto what, the new commits in memory, the pack on disk |
//! | `fence`, `push` | the row's write right before the push, and the push |
//! | `facts` | what branch rows say of commits, and the pins |
//! | `rows` | the branch rows' writes, then the repository's |

use std::time::Instant;

/// Awaits `work` and says how long that took, whatever it came to.
pub async fn timed<T>(step: &'static str, work: impl Future<Output = T>) -> T {
    let began = Instant::now();
    let done = work.await;
    tell(step, began);
    done
}

/// The same for engine code on a thread that may block.
pub fn timed_here<T>(step: &'static str, work: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let done = work();
    tell(step, began);
    done
}

fn tell(step: &'static str, began: Instant) {
    let took_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    tracing::debug!(step, took_us, "step ended");
}
