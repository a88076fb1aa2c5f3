//! Elsewhere: std's own way, with nothing that ties the child to this process.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::process::Pid;

use super::Prepared;

/// Elsewhere nothing ties a process to its parent; the deadline of the next job, and the
/// leases of a push, have to do.
pub(super) fn start(prepared: &Prepared) -> io::Result<Pid> {
    let [stdin, stdout, stderr] = &prepared.stdio;
    let mut command = Command::new(OsStr::from_bytes(prepared.program.as_bytes()));
    command
        .args(
            prepared
                .arguments
                .iter()
                .skip(1)
                .map(|a| OsStr::from_bytes(a.as_bytes())),
        )
        .env_clear()
        .process_group(0)
        .stdin(Stdio::from(stdin.try_clone()?))
        .stdout(Stdio::from(stdout.try_clone()?))
        .stderr(Stdio::from(stderr.try_clone()?));
    for entry in &prepared.environment {
        let entry = entry.as_bytes();
        let equals = entry.iter().position(|b| *b == b'=').unwrap_or(entry.len());
        let (name, value) = entry.split_at(equals);
        let value = value.strip_prefix(b"=").unwrap_or_default();
        command.env(OsStr::from_bytes(name), OsStr::from_bytes(value));
    }
    // Waiting for it is the caller's, by its id.
    Ok(Pid::from_child(&command.spawn()?))
}
