//! Starting a process: in a group of its own, ended with this one, and without copying it.
//!
//! What std offers is one or the other: a plain spawn is cheap but cannot tie the child to its
//! parent, and one with a hook between fork and exec copies the page tables of this process, which
//! took 3 ms at 20 MB and 40 ms at 1 GB where git itself takes 1 ms. So on Linux this module does
//! what the C library's own spawn does, and the hook's work within it: the child borrows this
//! process's memory until it becomes git, while the thread that started it waits.
//!
//! The group stays in this process's session: a session of its own would also keep it from the
//! terminal, but where the kernel groups sessions for scheduling (`sched_autogroup`), each new one
//! starts at the end of the queue, and a fetch took 22 ms in place of 6 on a busy machine.
//!
//! Linux ties the death signal to the *thread* that started the child, not to its process, and a
//! thread of a pool may end while the git it started for a job still runs. Hence what outlives a call
//! is started by one thread that never ends; for the rest the calling thread, which waits for it,
//! will do.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod other;

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::{OnceLock, mpsc};
use std::thread;

use rustix::process::Pid;

#[cfg(target_os = "linux")]
use linux as platform;
#[cfg(not(target_os = "linux"))]
use other as platform;

/// What to start.
#[derive(Debug)]
pub(super) struct Launch {
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<OsString>,
    pub(super) environment: Vec<(OsString, OsString)>,
    /// Whether its standard input is a pipe; else it is empty.
    pub(super) with_input: bool,
    /// Whether the calling thread may end before the process does.
    pub(super) may_outlive_thread: bool,
}

/// A process that was started, and this end of its pipes, which do not block.
#[derive(Debug)]
pub(super) struct Launched {
    pub(super) pid: Pid,
    pub(super) stdin: Option<File>,
    pub(super) stdout: File,
    pub(super) stderr: File,
}

impl Launch {
    /// Starts it. A program that cannot be run is an error here, not an exit status.
    pub(super) fn start(self) -> io::Result<Launched> {
        let (theirs_in, stdin) = if self.with_input {
            let (read, write) = pipe()?;
            (read, Some(ours(write)?))
        } else {
            (above_standard(File::open("/dev/null")?.into())?, None)
        };
        let (stdout, theirs_out) = pipe()?;
        let (stderr, theirs_err) = pipe()?;
        let may_outlive_thread = self.may_outlive_thread;
        let prepared = Prepared::new(self, [theirs_in, theirs_out, theirs_err])?;
        let pid = if may_outlive_thread {
            start_in_lasting_thread(prepared)?
        } else {
            platform::start(&prepared)?
        };
        Ok(Launched {
            pid,
            stdin,
            stdout: ours(stdout)?,
            stderr: ours(stderr)?,
        })
    }
}

/// Everything the child needs, made beforehand: in between it may allocate nothing.
struct Prepared {
    program: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    /// To become its standard input, output and error; none of them is one of those here.
    stdio: [OwnedFd; 3],
}

impl Prepared {
    fn new(launch: Launch, stdio: [OwnedFd; 3]) -> io::Result<Self> {
        let program = c_string(launch.program.into_os_string())?;
        let arguments = std::iter::once(Ok(program.clone()))
            .chain(launch.arguments.into_iter().map(c_string))
            .collect::<io::Result<_>>()?;
        let environment = launch
            .environment
            .into_iter()
            .map(|(mut entry, value)| {
                entry.push("=");
                entry.push(value);
                c_string(entry)
            })
            .collect::<io::Result<_>>()?;
        Ok(Self {
            program,
            arguments,
            environment,
            stdio,
        })
    }
}

fn c_string(text: OsString) -> io::Result<CString> {
    CString::new(text.into_vec()).map_err(io::Error::from)
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    Ok((above_standard(read)?, above_standard(write)?))
}

/// The same descriptor with a number above 2, so that the child's own three can be put into place
/// in any order, even where this process has closed one of its own.
fn above_standard(fd: OwnedFd) -> io::Result<OwnedFd> {
    use std::os::fd::AsRawFd;
    if fd.as_raw_fd() > 2 {
        Ok(fd)
    } else {
        Ok(rustix::io::fcntl_dupfd_cloexec(&fd, 3)?)
    }
}

/// This end of a pipe: reads and writes that would block fail instead.
fn ours(fd: OwnedFd) -> io::Result<File> {
    rustix::io::ioctl_fionbio(&fd, true)?;
    Ok(File::from(fd))
}

type Order = (Prepared, mpsc::SyncSender<io::Result<Pid>>);

fn start_in_lasting_thread(prepared: Prepared) -> io::Result<Pid> {
    static STARTER: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (sender, orders) = mpsc::channel::<Order>();
        let serve = move || {
            for (prepared, reply) in orders {
                let started = platform::start(&prepared);
                // Its ends of the pipes are its own from now on.
                drop(prepared);
                // Whoever ordered it waits for this reply, so it is always taken.
                let _ = reply.send(started);
            }
        };
        if let Err(error) = thread::Builder::new()
            .name("git-starter".into())
            .spawn(serve)
        {
            tracing::error!(%error, "the thread that starts git could not be started");
        }
        sender
    });
    let (reply, started) = mpsc::sync_channel(1);
    let no_starter = || io::Error::other("the thread that starts git is gone");
    starter.send((prepared, reply)).map_err(|_| no_starter())?;
    started.recv().map_err(|_| no_starter())?
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use rustix::process::Signal;

    use super::*;

    fn launch(program: &str, arguments: &[&str]) -> Launch {
        Launch {
            program: program.into(),
            arguments: arguments.iter().map(OsString::from).collect(),
            environment: vec![("NAME".into(), "a=b".into())],
            with_input: false,
            may_outlive_thread: true,
        }
    }

    /// What it prints.
    fn printed(launch: Launch) -> String {
        let mut launched = launch.start().unwrap();
        rustix::io::ioctl_fionbio(&launched.stdout, false).unwrap();
        let mut text = String::new();
        launched.stdout.read_to_string(&mut text).unwrap();
        let options = rustix::process::WaitOptions::empty();
        rustix::process::waitpid(Some(launched.pid), options).unwrap();
        text
    }

    #[test]
    fn it_gets_its_environment_and_nothing_else() {
        assert_eq!(printed(launch("/usr/bin/env", &[])), "NAME=a=b\n");
    }

    #[test]
    fn it_leads_a_group_with_default_signals_and_three_descriptors() {
        let leaked = File::open("/dev/null").unwrap();
        rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
        let text = printed(launch(
            "/bin/cat",
            &["/proc/self/stat", "/proc/self/status"],
        ));
        let id = text.split(' ').next().unwrap();
        let after_name = text.split(") ").nth(1).unwrap();
        assert_eq!(after_name.split(' ').nth(2), Some(id), "process group");
        let ids = |name: &str| {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .unwrap();
            u64::from_str_radix(line.trim(), 16).unwrap()
        };
        // Signals 32 and 33 are the C library's own; it lets nobody change them.
        let ours = !(0b11 << 31);
        let bit = |signal: Signal| 1u64 << (signal.as_raw() - 1);
        assert_eq!(ids("SigBlk:") & ours, bit(Signal::TTIN) | bit(Signal::TTOU));
        assert_eq!(ids("SigIgn:") & ours, 0);
        assert_eq!(ids("SigCgt:") & ours, 0);
        let listed = printed(launch("/bin/ls", &["/proc/self/fd"]));
        // The fourth is the directory that ls reads.
        assert_eq!(listed, "0\n1\n2\n3\n");
    }

    #[test]
    fn what_cannot_be_run_is_an_error_and_leaves_no_child() {
        let error = launch("/nowhere/git", &[]).start().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let error = launch("/bin/sh", &[&"x".repeat(10_000_000)])
            .start()
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ArgumentListTooLong);
        let error = launch("/bin/sh", &["a\0b"]).start().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn many_threads_may_start_at_once() {
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..10 {
                        for may_outlive_thread in [true, false] {
                            let launch = Launch {
                                may_outlive_thread,
                                ..launch("/bin/echo", &["hello"])
                            };
                            assert_eq!(printed(launch), "hello\n");
                        }
                    }
                });
            }
        });
    }
}
