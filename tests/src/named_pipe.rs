//! A named pipe at which a script stands still: it reads from the pipe, which ends once somebody has
//! opened it for writing and closed it again. Opening it so succeeds only once a reader is there.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::rows::DEADLINE;

/// `O_NONBLOCK`: opening a pipe for writing fails while nobody reads it.
const NONBLOCK: i32 = if cfg!(target_os = "linux") {
    0o4000
} else {
    0x0004
};

/// How long between two looks for somebody who waits.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Makes the pipe.
pub(crate) fn make(pipe: &Path) {
    let made = Command::new("mkfifo").arg(pipe).status();
    assert!(made.expect("mkfifo").success(), "no named pipe");
}

/// Waits until somebody reads from the pipe; it goes on when this is dropped.
pub(crate) async fn reader_of(pipe: &Path) -> File {
    let until = Instant::now() + DEADLINE;
    loop {
        let opened = OpenOptions::new()
            .write(true)
            .custom_flags(NONBLOCK)
            .open(pipe);
        match opened {
            Ok(writer) => return writer,
            Err(error) => assert!(
                Instant::now() < until,
                "nobody has come to {}: {error}",
                pipe.display()
            ),
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Removes the pipe for good; who reads from it goes on.
pub(crate) fn remove(pipe: &Path) {
    // A reader that has not been let in yet finds a writer that is gone at once.
    let passer = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(NONBLOCK)
        .open(pipe);
    let _ = std::fs::remove_file(pipe);
    drop(passer);
}
