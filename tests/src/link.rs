//! A TCP connection that can be bad: between a program and its server, on loopback.
//!
//! What a network does to a remote is done here to its bytes: nobody listens, nobody answers, the
//! connection breaks or goes silent after so many bytes, or is slow. The bytes that do arrive are
//! the server's own.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use backstack_consumer::dev::nats_server::Port;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How often in a second a slow link lets bytes through.
const SLICES: u64 = 20;

/// What is wrong with a link. Counts are of bytes from the server, for each connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Nobody listens: connections are refused.
    Refuse,
    /// Connections are taken, and that is all.
    Silent,
    /// The connection is closed, both ways, after so many bytes.
    CutAfter(u64),
    /// Nothing more arrives after so many bytes; the connection stays.
    HangAfter(u64),
    /// So many bytes a second.
    Slow(u64),
}

/// A way to a server, with an address of its own.
#[derive(Debug)]
pub struct Link {
    port: Port,
    fault: watch::Sender<Fault>,
    in_force: watch::Receiver<Fault>,
    muted: watch::Sender<u64>,
    connections: Arc<AtomicU64>,
    hung: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

/// What each connection needs to know.
#[derive(Clone)]
struct Line {
    server: SocketAddr,
    muted: watch::Receiver<u64>,
    connections: Arc<AtomicU64>,
    hung: Arc<AtomicU64>,
}

impl Link {
    /// A way to `server` with nothing wrong.
    pub async fn to(server: SocketAddr) -> Self {
        let port = Port::reserve(0).expect("a free port");
        let (fault, faults) = watch::channel(Fault::None);
        let (tell, in_force) = watch::channel(Fault::Refuse);
        let (muted, hear) = watch::channel(0);
        let (connections, hung) = (Arc::default(), Arc::default());
        let line = Line {
            server,
            muted: hear,
            connections: Arc::clone(&connections),
            hung: Arc::clone(&hung),
        };
        let task = tokio::spawn(accept(port.number(), faults, tell, line));
        let link = Self {
            port,
            fault,
            in_force,
            muted,
            connections,
            hung,
            task,
        };
        link.set(Fault::None).await;
        link
    }

    /// Its address.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port.number())
    }

    /// Makes this the fault of every connection that is made from now on.
    pub async fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
        let mut in_force = self.in_force.clone();
        let applied = in_force.wait_for(|applied| *applied == fault).await;
        applied.expect("the link's task");
    }

    /// From now on nothing that the server says on a connection that is open arrives; when the
    /// server closes it, it is closed.
    pub fn mute_open(&self) {
        self.muted.send_modify(|times| *times += 1);
    }

    /// How many connections have gone silent in their middle.
    pub fn hung(&self) -> u64 {
        self.hung.load(Ordering::Relaxed)
    }

    /// How many connections were made.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(
    port: u16,
    mut faults: watch::Receiver<Fault>,
    tell: watch::Sender<Fault>,
    line: Line,
) {
    let mut listener = None;
    loop {
        let fault = *faults.borrow_and_update();
        if fault == Fault::Refuse {
            listener = None;
        } else if listener.is_none() {
            listener = Some(listen(port));
        }
        tell.send_replace(fault);
        let Some(open) = &listener else {
            if faults.changed().await.is_err() {
                return;
            }
            continue;
        };
        tokio::select! {
            accepted = open.accept() => if let Ok((client, _)) = accepted {
                line.connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(carry(client, fault, line.clone()));
            },
            changed = faults.changed() => if changed.is_err() { return },
        }
    }
}

/// Beside the reserved socket, which does not listen.
fn listen(port: u16) -> TcpListener {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("a socket's option");
    let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
    socket
        .bind(address.into())
        .and_then(|()| socket.listen(64))
        .unwrap_or_else(|error| panic!("the reserved port {port}: {error}"))
}

async fn carry(client: TcpStream, fault: Fault, line: Line) {
    if fault == Fault::Silent {
        let (mut read, _write) = client.into_split();
        let _ = tokio::io::copy(&mut read, &mut tokio::io::sink()).await;
        return;
    }
    let Ok(server) = TcpStream::connect(line.server).await else {
        return;
    };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let up = tokio::spawn(up(from_client, to_server));
    let mut to_client = to_client;
    let has_hung = down(from_server, &mut to_client, fault, line.muted, &line.hung).await;
    if has_hung {
        // The connection stays where it is to hang, whatever the server does.
        let _ = up.await;
    } else if matches!(fault, Fault::CutAfter(_)) {
        up.abort();
    }
}

async fn up(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let _ = tokio::io::copy(&mut from, &mut to).await;
    let _ = to.shutdown().await;
}

/// What the server says, as far as the fault lets it through; whether it went silent in the middle.
async fn down(
    mut from: OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    fault: Fault,
    mut muted: watch::Receiver<u64>,
    hung: &AtomicU64,
) -> bool {
    let mut buffer = vec![0; 64 * 1024];
    let mut passed = 0;
    let (mut silent, mut has_hung) = (false, false);
    muted.mark_unchanged();
    loop {
        let most = match fault {
            Fault::CutAfter(limit) => limit - passed,
            Fault::Slow(rate) => (rate / SLICES).max(1),
            _ => u64::MAX,
        };
        if most == 0 {
            return false;
        }
        let room = usize::try_from(most).map_or(buffer.len(), |most| most.min(buffer.len()));
        let read = tokio::select! {
            read = from.read(&mut buffer[..room]) => read,
            _ = muted.changed(), if !silent => { silent = true; continue }
        };
        let Ok(count @ 1..) = read else {
            return has_hung;
        };
        if silent {
            continue;
        }
        let heard = match fault {
            Fault::HangAfter(limit) => usize::try_from(limit - passed).unwrap_or(count).min(count),
            _ => count,
        };
        if to.write_all(&buffer[..heard]).await.is_err() {
            return has_hung;
        }
        if heard < count {
            hung.fetch_add(u64::from(!has_hung), Ordering::Relaxed);
            has_hung = true;
        }
        passed += heard as u64;
        if let Fault::Slow(_) = fault {
            tokio::time::sleep(Duration::from_millis(1_000 / SLICES)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that says `count` bytes to whoever comes, and closes.
    async fn talker(count: usize) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let _ = client.write_all(&vec![b'x'; count]).await;
            }
        });
        address
    }

    async fn heard(link: &Link) -> std::io::Result<usize> {
        let mut stream = TcpStream::connect(link.address()).await?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await
    }

    #[tokio::test]
    async fn each_fault_does_to_the_bytes_what_it_says() {
        let link = Link::to(talker(1_000).await).await;
        assert_eq!(heard(&link).await.unwrap(), 1_000);
        link.set(Fault::CutAfter(100)).await;
        assert_eq!(heard(&link).await.unwrap(), 100);
        link.set(Fault::Slow(5_000)).await;
        let since = std::time::Instant::now();
        assert_eq!(heard(&link).await.unwrap(), 1_000);
        assert!(since.elapsed() >= Duration::from_millis(150));
        link.set(Fault::Refuse).await;
        let refused = heard(&link).await.unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        link.set(Fault::Silent).await;
        let nothing = tokio::time::timeout(Duration::from_millis(300), heard(&link));
        assert!(nothing.await.is_err());
        link.set(Fault::None).await;
        assert_eq!(heard(&link).await.unwrap(), 1_000);
        assert_eq!(link.connections(), 5);
    }

    #[tokio::test]
    async fn a_connection_that_goes_silent_stays() {
        let link = Link::to(talker(1_000).await).await;
        link.set(Fault::HangAfter(10)).await;
        let mut stream = TcpStream::connect(link.address()).await.unwrap();
        let mut first = [0; 10];
        stream.read_exact(&mut first).await.unwrap();
        let more = stream.read(&mut first);
        let more = tokio::time::timeout(Duration::from_millis(300), more).await;
        assert!(more.is_err(), "{more:?}");
    }
}
