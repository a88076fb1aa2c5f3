//! A host for remotes: the real git, served over `git://` or smart HTTP, behind a [`Link`].
//!
//! What a remote says goes over a socket here, as it does in life, and from processes that no
//! worker started: a worker that is killed takes nothing of the remote with it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Instant;

use backstack_consumer::dev::nats_server::Port;
use backstack_consumer::dev::process::Process;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::link::Link;
use crate::rows::DEADLINE;
use crate::world::World;

/// How a host is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `git daemon`.
    Git,
    /// `git http-backend`.
    Http,
}

impl Protocol {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Git, Self::Http];

    /// As URLs and `--allow-protocol` have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Git => "git",
            Self::Http => "http",
        }
    }
}

/// A host that serves every remote of a world.
#[derive(Debug)]
pub struct GitHost {
    protocol: Protocol,
    link: Link,
    answer: Arc<AtomicU16>,
    server: Server,
}

#[derive(Debug)]
enum Server {
    Git { _daemon: Process, _port: Port },
    Http(JoinHandle<()>),
}

impl GitHost {
    /// Serves the remotes of the world.
    pub async fn start(world: &World, protocol: Protocol) -> Self {
        let answer = Arc::new(AtomicU16::new(0));
        let (server, address) = match protocol {
            Protocol::Git => git_daemon(world.dir()).await,
            Protocol::Http => http_server(world.dir(), Arc::clone(&answer)).await,
        };
        Self {
            protocol,
            link: Link::to(address).await,
            answer,
            server,
        }
    }

    /// The URL of a remote of the world, by the name it was made with.
    pub fn url(&self, name: &str) -> String {
        let (scheme, address) = (self.protocol.as_str(), self.link.address());
        format!("{scheme}://{address}/{name}.git")
    }

    /// The way there.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// Answers every request with this status and nothing else; 0 serves again.
    ///
    /// # Panics
    /// Over anything but HTTP.
    pub fn answer_with(&self, status: u16) {
        assert_eq!(self.protocol, Protocol::Http);
        self.answer.store(status, Ordering::Relaxed);
    }
}

impl Drop for GitHost {
    fn drop(&mut self) {
        if let Server::Http(task) = &self.server {
            task.abort();
        }
    }
}

/// Git as a server runs it: with nothing of this machine's configuration.
fn git(dir: &Path) -> Command {
    let mut command = Command::new("git");
    command
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .env("HOME", dir)
        .env("LC_ALL", "C.UTF-8")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null");
    command
}

async fn git_daemon(dir: &Path) -> (Server, SocketAddr) {
    let port = Port::reserve(0).expect("a free port");
    let number = port.number();
    let mut command = git(dir);
    command
        .args([
            "daemon",
            "--reuseaddr",
            "--export-all",
            "--enable=receive-pack",
        ])
        .args(["--listen=127.0.0.1", &format!("--port={number}")])
        .arg(format!("--base-path={}", dir.display()))
        .arg(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let daemon = Process::spawn(command).expect("git daemon");
    let address = SocketAddr::from(([127, 0, 0, 1], number));
    let until = Instant::now() + DEADLINE;
    while let Err(error) = TcpStream::connect(address).await {
        assert!(
            Instant::now() < until && daemon.ended().is_none(),
            "git daemon does not listen: {error}"
        );
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let server = Server::Git {
        _daemon: daemon,
        _port: port,
    };
    (server, address)
}

async fn http_server(dir: &Path, answer: Arc<AtomicU16>) -> (Server, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let dir = dir.to_owned();
    let task = tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (dir, status) = (dir.clone(), answer.load(Ordering::Relaxed));
            tokio::spawn(async move {
                let mut client = BufReader::new(client);
                if let Some(request) = HttpRequest::read(&mut client).await {
                    let _ = match status {
                        0 => request.serve(client, dir).await,
                        status => refuse(client, status).await,
                    };
                }
            });
        }
    });
    (Server::Http(task), address)
}

async fn refuse(mut client: BufReader<TcpStream>, status: u16) -> std::io::Result<()> {
    // Without this a client would not know how to give credentials.
    let challenge = match status {
        401 => "WWW-Authenticate: Basic realm=\"git\"\r\n",
        _ => "",
    };
    let head = format!(
        "HTTP/1.1 {status} Refused\r\n{challenge}Content-Length: 0\r\nConnection: close\r\n\r\n"
    );
    client.write_all(head.as_bytes()).await?;
    client.shutdown().await
}

/// One request as `git http-backend` wants it. Each connection has one.
struct HttpRequest {
    method: String,
    path: String,
    query: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl HttpRequest {
    async fn read(client: &mut BufReader<TcpStream>) -> Option<Self> {
        let start = line(client).await?;
        let mut words = start.split(' ');
        let (method, target) = (words.next()?.to_owned(), words.next()?);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let (path, query) = (path.to_owned(), query.to_owned());
        let mut headers = Vec::new();
        loop {
            let header = line(client).await?;
            let Some((name, value)) = header.split_once(':') else {
                break;
            };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut request = Self {
            method,
            path,
            query,
            headers,
            body: Vec::new(),
        };
        if request.header("expect").is_some() {
            client
                .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")
                .await
                .ok()?;
        }
        request.body = request.read_body(client).await?;
        Some(request)
    }

    async fn read_body(&self, client: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        if self.header("transfer-encoding") == Some("chunked") {
            loop {
                let size = usize::from_str_radix(&line(client).await?, 16).ok()?;
                let at = body.len();
                body.resize(at + size, 0);
                client.read_exact(&mut body[at..]).await.ok()?;
                line(client).await?;
                if size == 0 {
                    return Some(body);
                }
            }
        }
        let length = self.header("content-length").unwrap_or("0").parse().ok()?;
        body.resize(length, 0);
        client.read_exact(&mut body).await.ok()?;
        Some(body)
    }

    fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Hands the request to git and its answer, as it comes, to the client.
    async fn serve(self, mut client: BufReader<TcpStream>, dir: PathBuf) -> std::io::Result<()> {
        let mut command = git(&dir);
        command
            .arg("http-backend")
            .env("GIT_PROJECT_ROOT", &dir)
            .env("GIT_HTTP_EXPORT_ALL", "1")
            // Who is named may push.
            .env("REMOTE_USER", "tester")
            .env("REQUEST_METHOD", &self.method)
            .env("PATH_INFO", &self.path)
            .env("QUERY_STRING", &self.query)
            .env(
                "CONTENT_TYPE",
                self.header("content-type").unwrap_or_default(),
            )
            .env("CONTENT_LENGTH", self.body.len().to_string());
        for (header, variable) in [
            ("git-protocol", "GIT_PROTOCOL"),
            ("content-encoding", "HTTP_CONTENT_ENCODING"),
        ] {
            command.envs(self.header(header).map(|value| (variable, value)));
        }
        let mut child = tokio::process::Command::from(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let (Some(mut stdin), Some(stdout)) = (stdin, stdout) else {
            return Ok(());
        };
        let body = self.body;
        // At the same time, since git answers before it has read all.
        let asked = tokio::spawn(async move {
            let _ = stdin.write_all(&body).await;
        });
        let mut answer = BufReader::new(stdout);
        let head = cgi_head(&mut answer).await?;
        client.write_all(head.as_bytes()).await?;
        tokio::io::copy(&mut answer, &mut client).await?;
        client.shutdown().await?;
        let _ = asked.await;
        child.wait().await?;
        Ok(())
    }
}

/// The head of HTTP's answer for the one of CGI's.
async fn cgi_head(answer: &mut (impl AsyncBufReadExt + Unpin)) -> std::io::Result<String> {
    let mut status = "200 OK".to_owned();
    let mut headers = String::new();
    loop {
        let mut header = String::new();
        answer.read_line(&mut header).await?;
        match header.trim_end().split_once(": ") {
            Some(("Status", told)) => told.clone_into(&mut status),
            Some((name, value)) => headers.push_str(&format!("{name}: {value}\r\n")),
            None => break,
        }
    }
    Ok(format!(
        "HTTP/1.1 {status}\r\n{headers}Connection: close\r\n\r\n"
    ))
}

/// The next line without its end.
async fn line(client: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = String::new();
    let read = client.read_line(&mut line).await.ok()?;
    (read > 0).then(|| line.trim_end().to_owned())
}
