//! A remote that does what a push asks for and is gone before it says so.

use std::path::PathBuf;
use std::time::Instant;

use crate::gate::quoted;
use crate::named_pipe::LOOK_AGAIN;
use crate::remote::Remote;
use crate::rows::DEADLINE;

/// The report of the next push is lost.
pub(super) struct LostReport {
    done: PathBuf,
}

impl LostReport {
    pub(super) fn arm(remote: &Remote) -> Self {
        let done = remote.path().join("report-lost");
        // The hook's parent is the process that would report.
        remote.hook(
            "post-receive",
            &format!(
                "#!/bin/sh\ncat >/dev/null\n[ -e {0} ] && exit 0\n: >{0}\nkill -9 $PPID\n",
                quoted(&done)
            ),
        );
        Self { done }
    }

    /// Waits until it has happened.
    pub(super) async fn reached(&self) {
        let until = Instant::now() + DEADLINE;
        while !self.done.exists() {
            assert!(
                Instant::now() < until,
                "no push came to {}",
                self.done.display()
            );
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}
