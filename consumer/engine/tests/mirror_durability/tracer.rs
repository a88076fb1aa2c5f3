//! Kills a process at one of its system calls, and limits how long its files may get.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Tells the tracer that what is to be killed starts here. Only for a process that is traced.
pub fn mark_start() {
    // SAFETY: a signal to this thread, which the tracer takes away.
    unsafe { libc::raise(libc::SIGUSR1) };
}

/// Tells the tracer that it is done.
pub fn mark_end() {
    // SAFETY: as above.
    unsafe { libc::raise(libc::SIGUSR2) };
}

/// From now on no file of this process, or of those it starts, may get longer than this: this
/// process gets an error, and a git, to which signals do what they do to any program, is killed.
pub fn limit_files(bytes: libc::rlim_t) {
    let limit = libc::rlimit {
        rlim_cur: bytes,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: plain calls on a value that is whole.
    let done = unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit)
    };
    assert_eq!(done, 0, "{}", io::Error::last_os_error());
}

/// Runs the command, whose threads stop before and after each system call between its two marks:
/// how often, or until it was killed at the given one.
pub fn run(mut command: Command, kill_at: Option<usize>) -> usize {
    let no = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: the call changes the new process alone and allocates nothing.
    unsafe {
        command.pre_exec(
            || match libc::ptrace(libc::PTRACE_TRACEME, 0, 0usize, 0usize) {
                -1 => Err(io::Error::last_os_error()),
                _ => Ok(()),
            },
        );
    }
    let child = command.spawn().unwrap().id() as libc::pid_t;
    let mut stops = 0;
    let (mut started, mut counting) = (false, false);
    loop {
        let mut status = 0;
        // Children of this thread alone: other tests run in other threads.
        let flags = libc::__WALL | libc::__WNOTHREAD;
        // SAFETY: waits for what this thread started, and writes the status.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, flags) };
        assert!(pid > 0, "{}", io::Error::last_os_error());
        if !libc::WIFSTOPPED(status) {
            if pid != child {
                continue;
            }
            let killed = libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGKILL;
            let ended = libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0;
            assert!(ended || killed && kill_at.is_some(), "{status:#x}");
            return stops;
        }
        if !started {
            started = true;
            let options =
                libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_TRACECLONE | libc::PTRACE_O_EXITKILL;
            // SAFETY: the process is stopped and traced by this thread.
            unsafe { libc::ptrace(libc::PTRACE_SETOPTIONS, pid, no, options as usize) };
        }
        let signal = libc::WSTOPSIG(status);
        let deliver = match signal {
            libc::SIGUSR1 => {
                counting = true;
                0
            }
            libc::SIGUSR2 => {
                counting = false;
                0
            }
            // A new program or a new thread.
            libc::SIGTRAP | libc::SIGSTOP => 0,
            _ if signal == libc::SIGTRAP | 0x80 => {
                stops += usize::from(counting);
                if counting && Some(stops) == kill_at {
                    counting = false;
                    // SAFETY: a signal to the child of this process.
                    unsafe { libc::kill(child, libc::SIGKILL) };
                    continue;
                }
                0
            }
            other => other,
        };
        // SAFETY: as above; a thread that has been killed meanwhile cannot be told to go on.
        unsafe { libc::ptrace(libc::PTRACE_SYSCALL, pid, no, deliver as usize) };
    }
}
