//! The demo's one directory.
//!
//! Guarantees that it goes when its owner does, even if a process that was just killed still has
//! children writing in it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// How long removing it is tried.
const REMOVED_WITHIN: Duration = Duration::from_secs(5);

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(20);

/// A directory of our own under the system's temporary one.
#[derive(Debug)]
pub(super) struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes it, for this user alone.
    pub(super) fn new() -> io::Result<Self> {
        let made = tempfile::Builder::new()
            .prefix("backstack-demo-")
            .tempdir()?;
        Ok(Self { path: made.keep() })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it and everything in it. Whoever still makes files in a directory that is being
    /// removed makes that fail, and is gone the next time.
    pub(super) fn remove(&self) -> io::Result<()> {
        let until = Instant::now() + REMOVED_WITHIN;
        loop {
            match fs::remove_dir_all(&self.path) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) if Instant::now() > until => return Err(error),
                Err(_) => thread::sleep(PAUSE),
            }
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            let path = self.path.display();
            eprintln!("the demo's directory could not be removed: {path}: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn it_goes_even_while_somebody_still_writes_in_it() {
        let scratch = Scratch::new().unwrap();
        let path = scratch.path().to_owned();
        let (busy, stop) = (path.join("busy"), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                // Ends when the directory above is gone, which `create_dir` never makes again.
                while !stop.load(Ordering::Relaxed) && fs::create_dir(&busy).is_ok() {
                    let _ = fs::write(busy.join("file"), "text");
                    while busy.exists() {
                        thread::yield_now();
                    }
                }
            });
            while !busy.exists() {
                thread::yield_now();
            }
            drop(scratch);
            stop.store(true, Ordering::Relaxed);
        });
        assert!(!path.exists());
    }
}
