//! A wire between one worker and its nats-server that a test has its hands on.
//!
//! It passes on what both say, byte by byte, knows each message of the worker's as a step of a job
//! ([`Operation`]), and can keep or lose the request or the reply of a chosen step, and cut the
//! connection. So a test can stop a worker *at* a step, before or after it took effect, and know that
//! it is there.
//!
//! Keeping a message lets the others pass: many jobs of one worker can each stand at a step of their
//! own. What is kept is kept for all further tries of the same step too, until it is released.

mod frame;
mod operation;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use crate::rows::DEADLINE;
use crate::world::World;
use frame::Frame;
use operation::Names;
pub use operation::Operation;

/// What happens to a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// Its request is kept: it has no effect yet.
    KeepRequest,
    /// Its reply is kept: it has taken effect, and the worker does not know. A refusal is passed on.
    KeepReply,
    /// Its request is lost, once.
    LoseRequest,
    /// Its reply is lost, once.
    LoseReply,
}

/// The wire; all of it is gone when this is dropped.
#[derive(Debug)]
pub struct Wire {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

/// A fault that was asked for.
#[derive(Clone, Debug)]
pub struct Armed {
    number: usize,
    what: String,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    state: Mutex<State>,
    changed: Notify,
    /// Whether connections are cut.
    cut: watch::Sender<bool>,
}

#[derive(Debug)]
struct State {
    names: Names,
    trace: Vec<Operation>,
    rules: Vec<Rule>,
    /// Whose reply is to be kept or lost, by reply subject: the rule's number.
    replies: HashMap<String, usize>,
    connections: usize,
}

#[derive(Debug)]
struct Rule {
    operation: Operation,
    fault: Fault,
    reached: bool,
    released: bool,
    /// What is kept, with the connection it is to go to.
    kept: Vec<(mpsc::UnboundedSender<Bytes>, Bytes)>,
}

impl Wire {
    /// A wire to the world's one server.
    pub async fn start(world: &World) -> Self {
        let url = world.nats_url();
        let server = url
            .strip_prefix("nats://")
            .and_then(|address| address.parse().ok());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let shared = Arc::new(Shared {
            server: server.expect("an address"),
            state: Mutex::new(State {
                names: Names::new(world.topology().clone()),
                trace: Vec::new(),
                rules: Vec::new(),
                replies: HashMap::new(),
                connections: 0,
            }),
            changed: Notify::new(),
            cut: watch::channel(false).0,
        });
        let address = listener.local_addr().expect("an address");
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared))).abort_handle();
        Self {
            address,
            shared,
            accepting,
        }
    }

    /// Where the worker is to connect.
    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Every step so far, in the order in which the worker asked for it.
    pub fn trace(&self) -> Vec<Operation> {
        self.shared.lock().trace.clone()
    }

    /// Does something to a step of a repository's job; a step that does not tell its repository is
    /// hit whosever it is, and then only once.
    pub fn arm(&self, repo: &str, step: &str, fault: Fault) -> Armed {
        let tells_no_repo = step == NAMELESS_STEP;
        let operation = Operation {
            repo: (!tells_no_repo).then(|| repo.to_owned()),
            step: step.to_owned(),
        };
        let what = format!("{repo}: {step}, {fault:?}");
        let mut state = self.shared.lock();
        state.rules.push(Rule {
            operation,
            fault,
            reached: false,
            released: false,
            kept: Vec::new(),
        });
        Armed {
            number: state.rules.len() - 1,
            what,
            shared: Arc::clone(&self.shared),
        }
    }

    /// Lets everything go that is kept, in the order in which it came, and keeps nothing any more.
    pub fn release(&self) {
        let mut state = self.shared.lock();
        state.replies.clear();
        for rule in &mut state.rules {
            rule.released = true;
            for (to, bytes) in rule.kept.drain(..) {
                // A connection that is gone takes along what was kept on it.
                let _ = to.send(bytes);
            }
        }
    }

    /// Cuts every connection and lets none come about, until [`mend`](Self::mend). What was on its
    /// way is lost.
    pub async fn cut(&self) {
        self.shared.cut.send_replace(true);
        let until = tokio::time::Instant::now() + DEADLINE;
        while self.shared.lock().connections > 0 {
            assert!(tokio::time::Instant::now() < until, "a connection stays");
            self.shared.changed.notified().await;
        }
    }

    /// Lets connections come about again.
    pub fn mend(&self) {
        self.shared.cut.send_replace(false);
    }
}

/// The step that does not tell its repository.
pub const NAMELESS_STEP: &str = "read newest sequence";

impl Drop for Wire {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Armed {
    /// Waits until it has happened.
    pub async fn reached(&self) {
        let reached = async {
            loop {
                let changed = self.shared.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if self.shared.lock().rules[self.number].reached {
                    return;
                }
                changed.await;
            }
        };
        if tokio::time::timeout(REACHED_WITHIN, reached).await.is_err() {
            panic!("never reached: {}", self.what);
        }
    }
}

/// How long a step may take to be reached.
const REACHED_WITHIN: Duration = Duration::from_secs(30);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the worker says: passed on, kept or lost.
    fn pass_up(
        &self,
        frame: Frame,
        up: &mpsc::UnboundedSender<Bytes>,
    ) -> Result<(), mpsc::error::SendError<Bytes>> {
        let Some(message) = &frame.message else {
            return up.send(frame.bytes);
        };
        let mut state = self.lock();
        let Some(operation) = state.names.operation(message) else {
            return up.send(frame.bytes);
        };
        state.trace.push(operation.clone());
        let hit = state
            .rules
            .iter()
            .position(|rule| rule.operation == operation && rule.is_open());
        let Some(number) = hit else {
            return up.send(frame.bytes);
        };
        let rule = &mut state.rules[number];
        match rule.fault {
            Fault::KeepRequest => {
                rule.reached = true;
                rule.kept.push((up.clone(), frame.bytes));
                self.changed.notify_waiters();
                Ok(())
            }
            Fault::LoseRequest => {
                rule.reached = true;
                rule.released = true;
                self.changed.notify_waiters();
                Ok(())
            }
            Fault::KeepReply | Fault::LoseReply => {
                if let Some(reply) = &message.reply {
                    state.replies.insert(reply.clone(), number);
                }
                up.send(frame.bytes)
            }
        }
    }

    /// What the server says: passed on, kept or lost.
    fn pass_down(
        &self,
        frame: Frame,
        down: &mpsc::UnboundedSender<Bytes>,
    ) -> Result<(), mpsc::error::SendError<Bytes>> {
        let Some(message) = &frame.message else {
            return down.send(frame.bytes);
        };
        let mut state = self.lock();
        state.names.saw_delivery(message);
        let Some(number) = state.replies.remove(&message.subject) else {
            return down.send(frame.bytes);
        };
        // What the server refused has had no effect; the worker tries again.
        if message.payload.starts_with(br#"{"error":"#) {
            return down.send(frame.bytes);
        }
        let rule = &mut state.rules[number];
        rule.reached = true;
        if rule.fault == Fault::KeepReply {
            rule.kept.push((down.clone(), frame.bytes));
        } else {
            rule.released = true;
        }
        self.changed.notify_waiters();
        Ok(())
    }

    fn count_connection(&self, by: isize) {
        let mut state = self.lock();
        state.connections = state.connections.saturating_add_signed(by);
        drop(state);
        self.changed.notify_waiters();
        self.changed.notify_one();
    }
}

impl Rule {
    /// Whether it still does something.
    fn is_open(&self) -> bool {
        let is_done = self.reached && self.operation.repo.is_none();
        !self.released && !is_done
    }
}

/// Takes connections for as long as the wire is there; they end with it.
async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((worker, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        if *shared.cut.borrow() {
            continue;
        }
        connections.spawn(connect(worker, Arc::clone(&shared)));
    }
}

/// Passes on what both sides say until one of them is gone, or the wire is cut.
async fn connect(worker: TcpStream, shared: Arc<Shared>) {
    let Ok(server) = TcpStream::connect(shared.server).await else {
        return;
    };
    let _ = (worker.set_nodelay(true), server.set_nodelay(true));
    shared.count_connection(1);
    let ((from_worker, to_worker), (from_server, to_server)) =
        (worker.into_split(), server.into_split());
    let (up, upwards) = mpsc::unbounded_channel();
    let (down, downwards) = mpsc::unbounded_channel();
    let mut cut = shared.cut.subscribe();
    tokio::select! {
        () = read(from_worker, |frame| shared.pass_up(frame, &up).is_ok()) => {}
        () = read(from_server, |frame| shared.pass_down(frame, &down).is_ok()) => {}
        () = write(to_server, upwards) => {}
        () = write(to_worker, downwards) => {}
        _ = cut.wait_for(|cut| *cut) => {}
    }
    shared.count_connection(-1);
}

/// Reads frames until the connection, or `pass_on`, has had enough.
async fn read(mut from: OwnedReadHalf, mut pass_on: impl FnMut(Frame) -> bool) {
    let mut buffer = BytesMut::with_capacity(64 * 1024);
    while let Ok(1..) = from.read_buf(&mut buffer).await {
        while let Some(frame) = frame::take(&mut buffer) {
            if !pass_on(frame) {
                return;
            }
        }
    }
}

async fn write(mut to: OwnedWriteHalf, mut what: mpsc::UnboundedReceiver<Bytes>) {
    while let Some(bytes) = what.recv().await {
        if to.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// The distinct steps of a repository's job in a trace, in the order of their first occurrence, the
/// step that tells no repository included.
pub fn steps(trace: &[Operation], repo: &str) -> Vec<String> {
    let mut seen = HashSet::new();
    let mine = |operation: &&Operation| operation.repo.as_deref().is_none_or(|it| it == repo);
    let steps = trace.iter().filter(mine).map(|operation| &operation.step);
    steps
        .filter(|step| seen.insert((*step).clone()))
        .cloned()
        .collect()
}
