//! A gate in a remote: pushes stop at it until the test has seen one arrive and opens it.
//!
//! So a test can do something in the middle of a job and knows that it is the middle. The gate is a
//! hook that reads from a named pipe.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::named_pipe;
use crate::remote::Remote;

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
        named_pipe::make(&gate.pipe);
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
        Arrived {
            _writer: named_pipe::reader_of(&self.pipe).await,
        }
    }

    /// Opens the gate for good; who stands at it goes on.
    pub fn release(&self) {
        named_pipe::remove(&self.pipe);
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
