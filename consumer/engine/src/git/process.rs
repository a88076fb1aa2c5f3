//! A running git process: its pipes, its end, and everything it started.
//!
//! One thread drives it: whoever calls [`GitProcess::send`], [`receive`](GitProcess::receive) or
//! [`finish`](GitProcess::finish) moves bytes in all directions meanwhile, so that neither side
//! ever waits on a full pipe, and looks at the [`Control`] at least every 50 ms.
//!
//! - The process leads a process group. When the control says so, that gets `SIGTERM`, upon which
//!   each git in it removes its lock and temporary files, and `SIGKILL` as soon as all are gone or
//!   [`GRACE`] is over.
//! - Dropped unfinished, the group is killed at once.
//! - On Linux the process gets `SIGTERM` when this process dies, however that happens: an orphaned
//!   push must not go on. It is not `SIGKILL`, since git then could not end its own helpers, and
//!   the one that speaks https would finish the push by itself.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions};

use super::command::Output;
use super::complaints::Complaints;
use super::groups;
use super::launch::Launch;
use super::secrets::Secrets;
use crate::control::Control;
use crate::error::EngineError;

/// How long git, and what it started, may take to tidy up after `SIGTERM`; a busy machine needs a while.
pub const GRACE: Duration = Duration::from_secs(1);

/// How often the control is looked at.
const TICK: Duration = Duration::from_millis(50);

/// How often where the kernel cannot tell of the process's end.
const TICK_WITHOUT_PIDFD: Duration = Duration::from_millis(5);

/// Most that is read at a time before the control is looked at again.
const READ_BURST: usize = 4 * 1024 * 1024;

/// Most that a command may print; the refs of a remote with half a million branches are less.
const MOST_PRINTED: usize = 64 * 1024 * 1024;

/// A git process with its pipes; see the module for how it is bounded.
#[derive(Debug)]
pub struct GitProcess {
    pid: Pid,
    /// Becomes readable when the process ends; `None` where the kernel has no such thing.
    exit: Option<OwnedFd>,
    stdin: Option<File>,
    stdout: Option<File>,
    stderr: Option<File>,
    /// What is still to be written.
    pending: Vec<u8>,
    /// What has been read and not been taken yet.
    received: Vec<u8>,
    complaints: Complaints,
    reaped: bool,
}

impl GitProcess {
    pub(super) fn start(launch: Launch, secrets: Secrets) -> io::Result<Self> {
        let launched = launch.start()?;
        groups::began(launched.pid);
        Ok(Self {
            pid: launched.pid,
            exit: exit_descriptor(launched.pid),
            stdin: launched.stdin,
            stdout: Some(launched.stdout),
            stderr: Some(launched.stderr),
            pending: Vec::new(),
            received: Vec::new(),
            complaints: Complaints::new(secrets),
            reaped: false,
        })
    }

    /// Its process id, which is also that of its group.
    pub fn id(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Writes all of `bytes` to the process.
    ///
    /// # Errors
    ///
    /// What the control says; [`EngineError::Internal`] where the process reads no more.
    pub fn send(&mut self, bytes: &[u8], control: &Control) -> Result<(), EngineError> {
        self.pending.extend_from_slice(bytes);
        while !self.pending.is_empty() && self.stdin.is_some() && !self.has_ended()? {
            self.step(control)?;
        }
        if self.pending.is_empty() && self.stdin.is_some() {
            Ok(())
        } else {
            Err(self.gone())
        }
    }

    /// Appends what the process printed to `into`, waiting for at least one byte; the number of
    /// bytes, 0 where it will print no more.
    ///
    /// # Errors
    ///
    /// What the control says; [`EngineError::Internal`] where reading fails.
    pub fn receive(&mut self, into: &mut Vec<u8>, control: &Control) -> Result<usize, EngineError> {
        while self.received.is_empty() && self.stdout.is_some() {
            if self.has_ended()? {
                self.drain()?;
                self.stdout = None;
                break;
            }
            self.step(control)?;
        }
        let count = self.received.len();
        into.append(&mut self.received);
        Ok(count)
    }

    /// The end of what it wrote to standard error, scrubbed.
    pub fn stderr_tail(&self) -> String {
        self.complaints.tail()
    }

    /// Closes its input and waits for its end.
    ///
    /// # Errors
    ///
    /// What the control says, after the process has been killed; [`EngineError::Internal`] where
    /// reading or waiting fails, or where it prints more than 64 MiB, upon which it is killed. An exit
    /// status other than 0 is no error here.
    pub fn finish(self, control: &Control) -> Result<Output, EngineError> {
        self.finish_watching(control, &mut |_| {})
    }

    /// As [`finish`](Self::finish); each line of standard error, scrubbed, goes to `watch` as it
    /// comes, those that end in a carriage return included.
    pub fn finish_watching(
        mut self,
        control: &Control,
        watch: &mut dyn FnMut(&str),
    ) -> Result<Output, EngineError> {
        if self.pending.is_empty() {
            self.stdin = None;
        }
        while !self.has_ended()? {
            self.step(control)?;
            if self.pending.is_empty() {
                self.stdin = None;
            }
            self.complaints.report(watch);
            if self.received.len() > MOST_PRINTED {
                self.end_group();
                return Err(EngineError::Internal(
                    "git printed more than 64 MiB and was stopped; has the remote that many branches?"
                        .to_owned(),
                ));
            }
        }
        self.drain()?;
        self.complaints.report(watch);
        let status = self.reap()?;
        Ok(Output::new(
            status,
            std::mem::take(&mut self.received),
            self.complaints.tail(),
            std::mem::take(&mut self.complaints).into_secrets(),
        ))
    }

    /// Queues input that [`finish`](Self::finish) will write before it closes.
    pub(super) fn queue(&mut self, bytes: Vec<u8>) {
        self.pending.extend(bytes);
    }

    /// Looks at the control, then moves what can be moved.
    fn step(&mut self, control: &Control) -> Result<(), EngineError> {
        if let Err(why) = control.check() {
            self.end_group();
            return Err(why);
        }
        let tick = if self.exit.is_some() {
            TICK
        } else {
            TICK_WITHOUT_PIDFD
        };
        let wait = control.remaining().map_or(tick, |left| left.min(tick));
        self.pump(wait).map_err(lost_pipe)
    }

    /// Waits for a pipe to be ready or the process to end, and moves bytes.
    fn pump(&mut self, wait: Duration) -> io::Result<()> {
        let ready = self.ready(wait)?;
        if ready.stdin {
            self.write_pending()?;
        }
        if ready.stdout {
            read_available(&mut self.stdout, &mut |bytes| {
                self.received.extend_from_slice(bytes);
            })?;
        }
        if ready.stderr {
            read_available(&mut self.stderr, &mut |bytes| self.complaints.take(bytes))?;
        }
        Ok(())
    }

    fn ready(&self, wait: Duration) -> io::Result<Ready> {
        let mut fds = Vec::with_capacity(4);
        let writes = self.stdin.as_ref().filter(|_| !self.pending.is_empty());
        let mut watch = |fd: Option<_>, flags| {
            fd.map(|fd| {
                fds.push(PollFd::from_borrowed_fd(fd, flags));
                fds.len() - 1
            })
        };
        let stdin = watch(writes.map(AsFd::as_fd), PollFlags::OUT);
        let stdout = watch(self.stdout.as_ref().map(AsFd::as_fd), PollFlags::IN);
        let stderr = watch(self.stderr.as_ref().map(AsFd::as_fd), PollFlags::IN);
        watch(self.exit.as_ref().map(AsFd::as_fd), PollFlags::IN);
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: wait.min(TICK).subsec_nanos().into(),
        };
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let happened = |index: Option<usize>| index.is_some_and(|i| !fds[i].revents().is_empty());
        Ok(Ready {
            stdin: happened(stdin),
            stdout: happened(stdout),
            stderr: happened(stderr),
        })
    }

    fn write_pending(&mut self) -> io::Result<()> {
        let Some(pipe) = &mut self.stdin else {
            return Ok(());
        };
        match pipe.write(&self.pending) {
            Ok(count) => {
                self.pending.drain(..count);
            }
            // It reads no more; why, its exit status and standard error will tell.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.stdin = None;
                self.pending.clear();
            }
            Err(error) if is_passing(&error) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Reads what is in the pipes. A stray child may hold them open for ever, so their end is not
    /// waited for once git itself has ended.
    fn drain(&mut self) -> Result<(), EngineError> {
        read_available(&mut self.stdout, &mut |bytes| {
            self.received.extend_from_slice(bytes);
        })
        .map_err(lost_pipe)?;
        read_available(&mut self.stderr, &mut |bytes| self.complaints.take(bytes))
            .map_err(lost_pipe)
    }

    /// Whether the process has ended; it is not reaped by asking, so its group's id stays its own.
    fn has_ended(&self) -> Result<bool, EngineError> {
        if self.reaped {
            return Ok(true);
        }
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        match rustix::process::waitid(WaitId::Pid(self.pid), options) {
            Ok(status) => Ok(status.is_some()),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(EngineError::Internal(format!(
                "waiting for git failed: {error}"
            ))),
        }
    }

    fn reap(&mut self) -> Result<ExitStatus, EngineError> {
        groups::ends(self.pid);
        let wait = || rustix::process::waitpid(Some(self.pid), WaitOptions::empty());
        let status = rustix::io::retry_on_intr(wait)
            .map_err(|error| EngineError::Internal(format!("waiting for git failed: {error}")))?;
        self.reaped = true;
        Ok(ExitStatus::from_raw(
            status.map_or(0, |(_, status)| status.as_raw()),
        ))
    }

    /// Ends the whole group: politely, then surely. What git started may outlive it for a moment, and a
    /// remote on this machine is among that: killed while it tidies up, it leaves its refs locked.
    fn end_group(&mut self) {
        self.signal_group(Signal::TERM);
        // Readable once git has ended, it would end every wait for the others.
        self.exit = None;
        let until = Instant::now() + GRACE;
        while self.somebody_is_left() && Instant::now() < until {
            let left = until.saturating_duration_since(Instant::now());
            if self.pump(left.min(TICK_WITHOUT_PIDFD)).is_err() {
                break;
            }
        }
        self.kill_group();
    }

    /// Whether git runs, or somebody who shares its pipes.
    fn somebody_is_left(&self) -> bool {
        let shared = self.stdout.is_some() || self.stderr.is_some();
        shared || matches!(self.has_ended(), Ok(false))
    }

    fn kill_group(&mut self) {
        self.signal_group(Signal::KILL);
        if let Err(error) = self.reap() {
            tracing::warn!(pid = self.id(), %error, "a killed git could not be reaped");
        }
    }

    /// Only ever called before the process is reaped, while the id cannot be anyone else's.
    fn signal_group(&self, signal: Signal) {
        if self.reaped {
            return;
        }
        if let Err(error) = rustix::process::kill_process_group(self.pid, signal) {
            tracing::debug!(pid = self.id(), %error, "no process group to signal");
        }
    }

    /// The error for input that nobody reads.
    fn gone(&mut self) -> EngineError {
        // What it said last is why; a failing read here adds nothing.
        let _ = self.drain();
        EngineError::Internal(format!(
            "git ended before it was done: {}",
            self.stderr_tail().trim()
        ))
    }
}

impl Drop for GitProcess {
    fn drop(&mut self) {
        if !self.reaped {
            self.kill_group();
        }
    }
}

/// Which pipes can be used without waiting.
struct Ready {
    stdin: bool,
    stdout: bool,
    stderr: bool,
}

/// Reads until nothing is there; at the end of the stream the pipe becomes `None`.
fn read_available<R: Read>(pipe: &mut Option<R>, take: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = [0; 64 * 1024];
    let mut total = 0;
    while let Some(reader) = pipe {
        match reader.read(&mut buffer) {
            Ok(0) => *pipe = None,
            Ok(count) => {
                take(&buffer[..count]);
                total += count;
                if total >= READ_BURST {
                    break;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if is_passing(&error) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

fn lost_pipe(error: io::Error) -> EngineError {
    EngineError::Internal(format!("talking to git failed: {error}"))
}

#[cfg(target_os = "linux")]
fn exit_descriptor(pid: Pid) -> Option<OwnedFd> {
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()
}

#[cfg(not(target_os = "linux"))]
fn exit_descriptor(_: Pid) -> Option<OwnedFd> {
    None
}
