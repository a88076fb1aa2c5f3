//! A gate in a remote: pushes stop at it until the test has seen one arrive and opens it.
//!
//! So a test can do something in the middle of a job and knows that it is the middle. The gate is a
//! hook that reads from a named pipe; opening that for writing succeeds only once a reader is there.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::remote::Remote;
use crate::rows::DEADLINE;

/// `O_NONBLOCK`: opening a pipe for writing fails while nobody reads it.
pub(crate) const NONBLOCK: i32 = if cfg!(target_os = "linux") {
    0o4000
} else {
    0x0004
};

/// How long between two looks for somebody at the gate.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Stops pushes to a remote in their `pre-receive` hook, and tells those that came through.
#[derive(Debug)]
pub struct Gate {
    pipe: PathBuf,
    pushed: PathBuf,
}

/// A push that stands at the gate; it goes on when this is dropped, though the gate stay closed.
#[derive(Debug)]
pub struct Arrived {
    _writer: File,
}

impl Gate {
    /// A closed gate.
    pub fn close(remote: &Remote) -> Self {
        let gate = Self::open(remote);
        let made = Command::new("mkfifo").arg(&gate.pipe).status();
        assert!(made.expect("mkfifo").success(), "no named pipe");
        gate
    }

    /// An open gate: nothing stops at it, and what is pushed is counted.
    pub fn open(remote: &Remote) -> Self {
        let gate = Self {
            pipe: remote.path().join("gate"),
            pushed: remote.path().join("pushed"),
        };
        remote.hook(
            "pre-receive",
            &format!(
                "#!/bin/sh\ncat >/dev/null\n[ ! -p {0} ] || cat {0}\nexit 0\n",
                quoted(&gate.pipe)
            ),
        );
        remote.hook(
            "post-receive",
            &format!("#!/bin/sh\ncat >>{}\n", quoted(&gate.pushed)),
        );
        gate
    }

    /// Waits until a push stands at the gate.
    pub async fn arrived(&self) -> Arrived {
        let until = Instant::now() + DEADLINE;
        loop {
            let opened = OpenOptions::new()
                .write(true)
                .custom_flags(NONBLOCK)
                .open(&self.pipe);
            match opened {
                Ok(writer) => return Arrived { _writer: writer },
                Err(error) => assert!(
                    Instant::now() < until,
                    "no push has come to {}: {error}",
                    self.pipe.display()
                ),
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Opens the gate for good; who stands at it goes on.
    pub fn release(&self) {
        // A reader that has not been let in yet finds a writer that is gone at once.
        let passer = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(NONBLOCK)
            .open(&self.pipe);
        let _ = std::fs::remove_file(&self.pipe);
        drop(passer);
    }

    /// What real pushes have changed so far: a line `<from> <to> <ref>` for each ref.
    pub fn pushed(&self) -> Vec<String> {
        let lines = std::fs::read_to_string(&self.pushed).unwrap_or_default();
        lines.lines().map(str::to_owned).collect()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.release();
    }
}

/// A path for a shell.
pub(crate) fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}
