//! A running git process: its pipes, its end, and everything it started.
//!
//! One thread drives it: whoever calls [`GitProcess::send`], [`receive`](GitProcess::receive) or
//! [`finish`](GitProcess::finish) moves bytes in all directions meanwhile, so that neither side
//! ever waits on a full pipe, and looks at the [`Control`] at least every 50 ms.
//!
//! - The process leads a session (so it has no terminal to prompt on) and with it a process group.
//! - When the control says so, the group gets `SIGTERM`, upon which git removes its lock and
//!   temporary files, and `SIGKILL` as soon as git is gone or [`GRACE`] is over.
//! - Dropped unfinished, the group is killed at once.
//! - On Linux the process gets `SIGTERM` when this process dies, however that happens: an orphaned
//!   push must not go on. It is not `SIGKILL`, since git then could not end its own helpers, and
//!   the one that speaks https would finish the push by itself.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus};
use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

use super::command::Output;
use super::scrub::scrub;
use crate::control::Control;
use crate::error::EngineError;

/// How long git may take to tidy up after `SIGTERM`.
pub const GRACE: Duration = Duration::from_millis(250);

/// How much of the end of standard error is kept.
pub const STDERR_KEPT: usize = 64 * 1024;

/// How often the control is looked at.
const TICK: Duration = Duration::from_millis(50);

/// How often where the kernel cannot tell of the process's end.
const TICK_WITHOUT_PIDFD: Duration = Duration::from_millis(5);

/// Most that is read at a time before the control is looked at again.
const READ_BURST: usize = 4 * 1024 * 1024;

/// A git process with its pipes; see the module for how it is bounded.
#[derive(Debug)]
pub struct GitProcess {
    child: Child,
    pid: Pid,
    /// Becomes readable when the process ends; `None` where the kernel has no such thing.
    exit: Option<OwnedFd>,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    /// What is still to be written.
    pending: Vec<u8>,
    /// What has been read and not been taken yet.
    received: Vec<u8>,
    complaints: Complaints,
    reaped: bool,
}

impl GitProcess {
    /// Starts the command; all three streams are piped where `with_input`, else standard input is
    /// empty.
    pub(super) fn start(command: Command, secrets: Vec<String>) -> io::Result<Self> {
        let mut child = fork_in_lasting_thread(command)?;
        let pid = Pid::from_child(&child);
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        // From here on the value's own drop ends the process, whatever fails.
        let process = Self {
            child,
            pid,
            exit: exit_descriptor(pid),
            stdin,
            stdout,
            stderr,
            pending: Vec::new(),
            received: Vec::new(),
            complaints: Complaints::new(secrets),
            reaped: false,
        };
        if let Some(pipe) = &process.stdin {
            rustix::io::ioctl_fionbio(pipe, true)?;
        }
        if let Some(pipe) = &process.stdout {
            rustix::io::ioctl_fionbio(pipe, true)?;
        }
        if let Some(pipe) = &process.stderr {
            rustix::io::ioctl_fionbio(pipe, true)?;
        }
        Ok(process)
    }

    /// Its process id, which is also that of its group and session.
    pub fn id(&self) -> u32 {
        self.child.id()
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
    /// reading or waiting fails. An exit status other than 0 is no error here.
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
        }
        self.drain()?;
        self.complaints.report(watch);
        let status = self.reap()?;
        Ok(Output::new(
            status,
            std::mem::take(&mut self.received),
            self.complaints.tail(),
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
        let status = self
            .child
            .wait()
            .map_err(|error| EngineError::Internal(format!("waiting for git failed: {error}")))?;
        self.reaped = true;
        Ok(status)
    }

    /// Ends the whole group: politely, then surely.
    fn end_group(&mut self) {
        self.signal_group(Signal::TERM);
        let until = Instant::now() + GRACE;
        while matches!(self.has_ended(), Ok(false)) && Instant::now() < until {
            let left = until.saturating_duration_since(Instant::now());
            if self.pump(left.min(TICK_WITHOUT_PIDFD)).is_err() {
                break;
            }
        }
        self.kill_group();
    }

    fn kill_group(&mut self) {
        self.signal_group(Signal::KILL);
        if let Err(error) = self.reap() {
            tracing::warn!(pid = self.child.id(), %error, "a killed git could not be reaped");
        }
    }

    /// Only ever called before the process is reaped, while the id cannot be anyone else's.
    fn signal_group(&self, signal: Signal) {
        if self.reaped {
            return;
        }
        if let Err(error) = rustix::process::kill_process_group(self.pid, signal) {
            tracing::debug!(pid = self.child.id(), %error, "no process group to signal");
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

/// Standard error as it comes: its tail for errors, its lines for progress.
#[derive(Debug)]
struct Complaints {
    kept: Vec<u8>,
    /// What has come since the last [`report`](Self::report), up to [`STDERR_KEPT`].
    fresh: Vec<u8>,
    secrets: Vec<String>,
}

impl Complaints {
    fn new(secrets: Vec<String>) -> Self {
        Self {
            kept: Vec::new(),
            fresh: Vec::new(),
            secrets,
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        keep_tail(&mut self.kept, bytes);
        keep_tail(&mut self.fresh, bytes);
    }

    /// Hands on the lines that are complete.
    fn report(&mut self, watch: &mut dyn FnMut(&str)) {
        let is_end = |b: &u8| matches!(b, b'\n' | b'\r');
        let Some(last) = self.fresh.iter().rposition(is_end) else {
            return;
        };
        let rest = self.fresh.split_off(last + 1);
        for line in self.fresh.split(is_end).filter(|line| !line.is_empty()) {
            watch(&scrub(&String::from_utf8_lossy(line), &self.secrets));
        }
        self.fresh = rest;
    }

    fn tail(&self) -> String {
        scrub(&String::from_utf8_lossy(&self.kept), &self.secrets)
    }
}

/// Appends, dropping from the front what exceeds [`STDERR_KEPT`].
fn keep_tail(kept: &mut Vec<u8>, bytes: &[u8]) {
    kept.extend_from_slice(bytes);
    let excess = kept.len().saturating_sub(STDERR_KEPT);
    if excess > 0 {
        kept.drain(..excess);
    }
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

type Forked = io::Result<Child>;

/// Starts the command from a thread that never ends.
///
/// Linux ties the death signal to the *thread* that forked, not to its process; a thread of a pool
/// may end while the git it started for a job still runs.
fn fork_in_lasting_thread(mut command: Command) -> Forked {
    static FORKER: OnceLock<mpsc::Sender<(Command, mpsc::SyncSender<Forked>)>> = OnceLock::new();
    lead_a_session(&mut command);
    let forker = FORKER.get_or_init(|| {
        let (sender, orders) = mpsc::channel::<(Command, mpsc::SyncSender<Forked>)>();
        let serve = move || {
            for (mut command, reply) in orders {
                // Nobody waits any more: the child is dropped, and ends as its pipes close.
                let _ = reply.send(command.spawn());
            }
        };
        if let Err(error) = thread::Builder::new()
            .name("git-forker".into())
            .spawn(serve)
        {
            tracing::error!(%error, "the thread that starts git could not be started");
        }
        sender
    });
    let (reply, child) = mpsc::sync_channel(1);
    let no_forker = || io::Error::other("the thread that starts git is gone");
    forker.send((command, reply)).map_err(|_| no_forker())?;
    child.recv().map_err(|_| no_forker())?
}

/// Makes the process the leader of a new session that ends with this process.
fn lead_a_session(command: &mut Command) {
    let parent = rustix::process::getpid();
    // SAFETY: between fork and exec only async-signal-safe calls may be made. These are plain
    // system calls on values copied before the fork; they allocate nothing and take no lock, and
    // the error is a bare number.
    unsafe {
        command.pre_exec(move || {
            rustix::process::setsid()?;
            end_with(parent)
        });
    }
}

#[cfg(target_os = "linux")]
fn end_with(parent: Pid) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
    // The parent may have died before that call; then no signal will come.
    if rustix::process::getppid() == Some(parent) {
        Ok(())
    } else {
        Err(rustix::io::Errno::SRCH.into())
    }
}

#[cfg(not(target_os = "linux"))]
fn end_with(_: Pid) -> io::Result<()> {
    Ok(())
}
