//! On Linux: the child borrows this process's memory until it becomes git.
//!
//! All of the crate's promises about memory that the compiler cannot check, but for those of
//! libgit2, are made here.

use std::ffi::{CString, c_char, c_int, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::process::Pid;

use super::Prepared;

/// Room for the child's few frames until it becomes git.
const STACK: usize = 128 * 1024;

/// What the child reads, and where it writes why it could not become git.
struct Shared {
    program: *const c_char,
    arguments: *const *const c_char,
    environment: *const *const c_char,
    stdio: [RawFd; 3],
    parent: libc::pid_t,
    error: AtomicI32,
}

/// Every signal blocked in this thread, hence in a child while it shares memory, until dropped.
struct Undisturbed {
    before: libc::sigset_t,
}

impl Undisturbed {
    fn new() -> Self {
        let mut all = MaybeUninit::uninit();
        let mut before = MaybeUninit::uninit();
        // SAFETY: each set is initialised before it is used: the one by filling it, the other by a
        // call that cannot fail with these arguments.
        unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
            Self {
                before: before.assume_init(),
            }
        }
    }
}

impl Drop for Undisturbed {
    fn drop(&mut self) {
        // SAFETY: the set is the one that was found.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, ptr::null_mut());
        }
    }
}

pub(super) fn start(prepared: &Prepared) -> io::Result<Pid> {
    let arguments = pointers(&prepared.arguments);
    let environment = pointers(&prepared.environment);
    let shared = Shared {
        program: prepared.program.as_ptr(),
        arguments: arguments.as_ptr(),
        environment: environment.as_ptr(),
        stdio: [0, 1, 2].map(|n: usize| prepared.stdio[n].as_raw_fd()),
        parent: rustix::process::getpid().as_raw_nonzero().get(),
        error: AtomicI32::new(0),
    };
    // Sixteen bytes is the alignment that the ABI asks of a stack.
    let mut stack = vec![MaybeUninit::<u128>::uninit(); STACK / size_of::<u128>()];
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    let undisturbed = Undisturbed::new();
    // SAFETY: with CLONE_VFORK this call returns only when the child has become git or has
    // ended, so everything `shared` points to, `shared` itself and the stack outlive its use.
    // The stack grows down from the end passed. The child runs `child` alone, which allocates
    // nothing, takes no lock and cannot panic; signals are blocked in this thread and so in
    // the child until no handler is left.
    let pid = unsafe {
        libc::clone(
            child,
            stack.as_mut_ptr_range().end.cast(),
            flags,
            ptr::from_ref(&shared).cast_mut().cast::<c_void>(),
        )
    };
    let pid = if pid > 0 { Pid::from_raw(pid) } else { None };
    let pid = pid.ok_or_else(io::Error::last_os_error)?;
    drop(undisturbed);
    match shared.error.load(Ordering::Acquire) {
        0 => Ok(pid),
        error => {
            let options = rustix::process::WaitOptions::empty();
            rustix::io::retry_on_intr(|| rustix::process::waitpid(Some(pid), options))?;
            Err(io::Error::from_raw_os_error(error))
        }
    }
}

/// A list that ends in null, as exec takes it.
fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings
        .iter()
        .map(|string| string.as_ptr())
        .chain([ptr::null()])
        .collect()
}

/// The child's whole life before it is git.
extern "C" fn child(argument: *mut c_void) -> c_int {
    // SAFETY: the pointer is the `Shared` of the waiting thread.
    let shared = unsafe { &*argument.cast::<Shared>() };
    let error = become_git(shared);
    shared.error.store(error, Ordering::Release);
    127
}

/// Returns only where it fails, with the error's number.
fn become_git(shared: &Shared) -> c_int {
    // A failed call's number; reading it allocates nothing.
    let failed = || {
        io::Error::last_os_error()
            .raw_os_error()
            .unwrap_or(libc::EIO)
    };
    // SAFETY: plain system calls on values that were made before; the lists end in null, the
    // strings in NUL. They change this child alone: neither its descriptors nor its signal
    // handlers are shared.
    unsafe {
        reset_signal_handlers();
        if libc::setpgid(0, 0) < 0 {
            return failed();
        }
        if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM as libc::c_ulong) != 0 {
            return failed();
        }
        // The parent may have died before that call; then no signal will come.
        if libc::getppid() != shared.parent {
            return libc::ESRCH;
        }
        for (fd, number) in shared.stdio.into_iter().zip(0..) {
            if libc::dup2(fd, number) < 0 {
                return failed();
            }
        }
        // What some library here opened without care is none of git's business. Kernels before
        // 5.11 refuse; nothing is lost there but this.
        let to_close = (3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
        libc::syscall(libc::SYS_close_range, to_close.0, to_close.1, to_close.2);
        let mut blocked = MaybeUninit::uninit();
        libc::sigemptyset(blocked.as_mut_ptr());
        // Who blocks these and reads from a terminal in the background gets an error for it; else
        // an ssh that wants to ask something would be stopped until the deadline.
        libc::sigaddset(blocked.as_mut_ptr(), libc::SIGTTIN);
        libc::sigaddset(blocked.as_mut_ptr(), libc::SIGTTOU);
        libc::sigprocmask(libc::SIG_SETMASK, blocked.as_ptr(), ptr::null_mut());
        libc::execve(shared.program, shared.arguments, shared.environment);
    }
    failed()
}

/// Signals do to git what they do to any program, even those that this process ignores.
///
/// # Safety
///
/// Only for a process that is about to become another one.
unsafe fn reset_signal_handlers() {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: all zeros is a valid action: the default one, with an empty mask. Numbers
        // that may not be changed are refused without effect.
        unsafe {
            let default: libc::sigaction = MaybeUninit::zeroed().assume_init();
            libc::sigaction(signal, &raw const default, ptr::null_mut());
        }
    }
}
