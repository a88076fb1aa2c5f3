//! Child processes that never outlive their owner.
//!
//! Guarantees: a child is in a process group of its own, so that an interrupt at the terminal reaches
//! only us; it is signalled by its own id and only while that id is still its own; dropping a
//! [`Process`] ends the child and its group, waits for that, and leaves no zombie; and where the
//! system can (Linux), the child also dies with us, however we die.
//!
//! Never signals by name, and never a process that it did not start.

use std::io;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use tokio::sync::Notify;

/// How long a dropped child may take to end on its own.
const DROP_GRACE: Duration = Duration::from_secs(2);

/// A running child, or what is known of one that has ended.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    life: Arc<Life>,
}

/// What the child's thread and its owner share.
#[derive(Debug, Default)]
struct Life {
    state: Mutex<State>,
    changed: Condvar,
    ended: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Set at the moment the child is reaped: from then on its id may be another's.
    status: Option<ExitStatus>,
    /// Whether what is left of the child's group goes with it.
    sweep: bool,
}

impl Process {
    /// Starts `command` in a process group of its own.
    ///
    /// # Errors
    /// What the system says when the program cannot be started.
    pub fn spawn(mut command: Command) -> io::Result<Self> {
        isolate(&mut command);
        let life = Arc::new(Life::default());
        let (started, when_started) = mpsc::channel();
        let theirs = Arc::clone(&life);
        // Linux ties "die with the parent" to the thread that forked. So the thread that starts the
        // child is the one that waits for it, and lives just as long.
        thread::Builder::new()
            .name("child".to_owned())
            .spawn(move || {
                let child = command.spawn();
                let pid = child.as_ref().map(Child::id).map_err(clone_error);
                // The receiver is gone only when its thread was killed, and then so are we.
                let _ = started.send(pid);
                if let Ok(child) = child {
                    theirs.reap(child);
                }
            })?;
        let id = when_started.recv().map_err(io::Error::other)??;
        let pid = i32::try_from(id).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other(format!("{id} is no process id")))?;
        Ok(Self { pid, life })
    }

    /// The child's process id.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// How the child ended; `None` while it runs.
    pub fn ended(&self) -> Option<ExitStatus> {
        self.life.lock().status
    }

    /// Waits until the child has ended.
    pub async fn wait(&self) -> ExitStatus {
        loop {
            // Asked for before looking, so that an end between the two is not missed.
            let ended = self.life.ended.notified();
            if let Some(status) = self.ended() {
                return status;
            }
            ended.await;
        }
    }

    /// Asks the child to end (SIGTERM); `false` if it already has.
    pub fn terminate(&self) -> bool {
        self.signal(Signal::TERM)
    }

    /// Interrupts the child as a terminal would (SIGINT); `false` if it has already ended.
    pub fn interrupt(&self) -> bool {
        self.signal(Signal::INT)
    }

    /// Stops the child from running, until [`resume`](Self::resume); `false` if it has ended.
    pub fn pause(&self) -> bool {
        self.signal(Signal::STOP)
    }

    /// Lets a paused child run on; `false` if it has ended.
    pub fn resume(&self) -> bool {
        self.signal(Signal::CONT)
    }

    /// Asks the child to end and waits; past `grace` it is killed. A paused child is resumed first.
    pub async fn stop(&self, grace: Duration) -> ExitStatus {
        self.terminate();
        self.resume();
        match tokio::time::timeout(grace, self.wait()).await {
            Ok(status) => status,
            Err(_) => self.kill9().await,
        }
    }

    /// Kills the child without waiting until it is gone; `false` if it has already ended.
    pub fn kill(&self) -> bool {
        self.signal(Signal::KILL)
    }

    /// Kills the child, gives it no chance to clean up, and waits until it is gone.
    pub async fn kill9(&self) -> ExitStatus {
        self.kill();
        self.wait().await
    }

    fn signal(&self, signal: Signal) -> bool {
        let state = self.life.lock();
        // Until it is reaped under this very lock, the id is the child's.
        state.status.is_none() && rustix::process::kill_process(self.pid, signal).is_ok()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.life.lock().sweep = true;
        self.terminate();
        self.resume();
        if !self.life.wait_for_end(DROP_GRACE) {
            self.kill();
            // Killed is dead, unless the kernel itself hangs; then waiting on is of no use.
            self.life.wait_for_end(DROP_GRACE);
        }
    }
}

impl Life {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the child's end, and takes its status only under the lock.
    fn reap(&self, mut child: Child) {
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let until_ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            // An error would mean that it is no child of ours; `wait` below then says so.
            let ended = || rustix::process::waitid(WaitId::Pid(pid), until_ended);
            let _ = rustix::io::retry_on_intr(ended);
        }
        let mut state = self.lock();
        if let Some(pid) = pid.filter(|_| state.sweep) {
            // Fails where the group is empty, and that is what is wanted.
            let _ = rustix::process::kill_process_group(pid, Signal::KILL);
        }
        // Only a child that was already waited for makes this fail, and nobody else waits.
        state.status = Some(child.wait().unwrap_or_default());
        drop(state);
        self.changed.notify_all();
        self.ended.notify_waiters();
    }

    /// Whether the child ended within `limit`.
    fn wait_for_end(&self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        let mut state = self.lock();
        while state.status.is_none() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

/// A group of its own and, on Linux, a death that follows ours.
fn isolate(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    command.process_group(0);
    #[cfg(target_os = "linux")]
    {
        let parent = rustix::process::getpid();
        let follow = move || {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            // We may have died before the request was made.
            if rustix::process::getppid() == Some(parent) {
                Ok(())
            } else {
                Err(io::Error::from(rustix::io::Errno::SRCH))
            }
        };
        // SAFETY: between fork and exec only two system calls are made and nothing is allocated:
        // both errors are plain numbers.
        unsafe {
            command.pre_exec(follow);
        }
    }
}

/// The same error for the other side of a channel; system errors keep their number.
fn clone_error(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(number) => io::Error::from_raw_os_error(number),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{BufRead, BufReader, Read};
    use std::os::unix::process::ExitStatusExt;
    use std::process::Stdio;

    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdout(Stdio::null());
        command
    }

    /// Runs `script` with its descriptor 3 on a pipe, and waits until it has written a line there.
    /// Reading on from the pipe ends when nobody who inherited it lives.
    fn up(script: &str) -> (Process, BufReader<File>) {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        assert!(
            Command::new("mkfifo")
                .arg(&fifo)
                .status()
                .unwrap()
                .success()
        );
        let script = format!("exec 3>'{}'; {script}", fifo.display());
        let child = Process::spawn(sh(&script)).unwrap();
        let mut pipe = BufReader::new(File::open(&fifo).unwrap());
        assert_eq!(pipe.read_line(&mut String::new()).unwrap(), 3);
        (child, pipe)
    }

    #[tokio::test]
    async fn the_end_of_a_child_is_told_to_all_who_wait() {
        let child = Process::spawn(sh("exit 7")).unwrap();
        let (one, two) = tokio::join!(child.wait(), child.wait());
        assert_eq!((one.code(), two.code()), (Some(7), Some(7)));
        assert_eq!(child.ended().and_then(|s| s.code()), Some(7));
        assert!(!child.terminate(), "an ended child is not signalled");
    }

    #[tokio::test]
    async fn a_child_that_ignores_the_request_is_killed_after_the_grace() {
        let (child, _pipe) = up("trap '' TERM; echo up >&3; while :; do sleep 1; done");
        let status = child.stop(Duration::from_millis(50)).await;
        assert_eq!(status.signal(), Some(9));
    }

    #[tokio::test]
    async fn a_paused_child_can_be_stopped() {
        let (child, _pipe) = up("echo up >&3; while :; do sleep 1; done");
        assert!(child.pause());
        let status = child.stop(Duration::from_secs(5)).await;
        assert_eq!(status.signal(), Some(15));
    }

    #[tokio::test]
    async fn dropping_ends_the_child_and_the_rest_of_its_group() {
        let (child, mut pipe) = up("sleep 60 & echo up >&3; wait");
        let dropped = Instant::now();
        let pid = Pid::from_raw(i32::try_from(child.pid()).unwrap()).unwrap();
        drop(child);
        assert!(
            rustix::process::test_kill_process(pid).is_err(),
            "a zombie is left"
        );
        pipe.read_to_string(&mut String::new()).unwrap();
        assert!(
            dropped.elapsed() < Duration::from_secs(30),
            "the rest ran on"
        );
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error() {
        let error = Process::spawn(Command::new("/nowhere/at/all")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
