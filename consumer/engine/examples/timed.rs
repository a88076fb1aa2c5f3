//! Runs a command and tells what it took.
//!
//! `timed FILE COMMAND [ARGUMENT...]`: the command's output passes through; FILE gets one line, the
//! milliseconds from start to end and the peak of memory in MiB, the largest of the command and what
//! it started and waited for. Ends as the command did.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, exit};
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [file, program, arguments @ ..] = arguments.as_slice() else {
        return Err("usage: timed FILE COMMAND [ARGUMENT...]".into());
    };
    let start = Instant::now();
    let status = Command::new(program).args(arguments).status()?;
    let milliseconds = start.elapsed().as_secs_f64() * 1_000.0;
    let mebibytes = peak_of_children()? / 1_024.0;
    fs::write(file, format!("{milliseconds:.3} {mebibytes:.2}\n"))?;
    // As a shell tells that a signal ended a command.
    let signal = || status.signal().map_or(1, |signal| 128 + signal);
    exit(status.code().unwrap_or_else(signal))
}

/// The largest resident set of any process that was waited for, in KiB.
fn peak_of_children() -> std::io::Result<f64> {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is to a whole rusage, and all zeroes are one.
    let usage = unsafe {
        if libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr()) != 0 {
            return Err(std::io::Error::last_os_error());
        }
        usage.assume_init()
    };
    Ok(usage.ru_maxrss as f64)
}
