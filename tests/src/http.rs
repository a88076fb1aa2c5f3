//! A server that speaks HTTP on loopback: the real `git http-backend` behind as little of a web server
//! as that needs, or whatever else a test wants to answer.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What a client asked.
#[derive(Clone, Debug)]
pub struct Request {
    /// `GET` or `POST`.
    pub method: String,
    /// The path, as it came.
    pub path: String,
    /// What follows its `?`, without that.
    pub query: String,
    /// The headers, their names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body, put together where it came in chunks.
    pub body: Vec<u8>,
}

impl Request {
    /// Whether it carries this user and password.
    pub fn is_from(&self, user: &str, password: &str) -> bool {
        let wanted = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        self.headers.get("authorization") == Some(&wanted)
    }
}

/// What it is answered.
#[derive(Clone, Debug, Default)]
pub struct Response {
    /// Such as `200 OK`.
    pub status: String,
    /// Headers but for the length.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// An answer of one type.
    pub fn new(status: &str, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status: status.to_owned(),
            headers: vec![("Content-Type".to_owned(), content_type.to_owned())],
            body: body.into(),
        }
    }

    /// Asks for a password, with words that git shows.
    pub fn unauthorized(words: &str) -> Self {
        Self::new("401 Unauthorized", "text/plain", words)
            .header("WWW-Authenticate", "Basic realm=\"git\"")
    }

    /// Sends the client elsewhere.
    pub fn redirect(location: &str) -> Self {
        Self::new("302 Found", "text/plain", "").header("Location", location)
    }

    /// One more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

type Handler = dyn Fn(&Request) -> Response + Send + Sync;

/// A server on a port of its own, until it is dropped.
pub struct HttpServer {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Request>>>,
    over: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl HttpServer {
    /// Answers every request as `handler` says.
    pub fn start(handler: impl Fn(&Request) -> Response + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let over = Arc::new(AtomicBool::new(false));
        let handler: Arc<Handler> = Arc::new(handler);
        let accepting = thread::spawn({
            let (asked, over) = (Arc::clone(&asked), Arc::clone(&over));
            move || {
                for stream in listener.incoming().flatten() {
                    if over.load(Ordering::Acquire) {
                        break;
                    }
                    let (asked, handler) = (Arc::clone(&asked), Arc::clone(&handler));
                    // A client that goes away in the middle is no failure of the test.
                    thread::spawn(move || drop(serve(&stream, &asked, &*handler)));
                }
            }
        });
        Self {
            address,
            asked,
            over,
            accepting: Some(accepting),
        }
    }

    /// Serves the repositories below `root` to whoever has this user and password.
    pub fn git(root: &Path, user: &str, password: &str) -> Self {
        let (root, user, password) = (root.to_owned(), user.to_owned(), password.to_owned());
        Self::start(move |request| {
            if request.is_from(&user, &password) {
                git_backend(&root, request)
            } else {
                Response::unauthorized("no such user or password")
            }
        })
    }

    /// `host:port`.
    pub fn authority(&self) -> String {
        self.address.to_string()
    }

    /// The URL of a path on it.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// All it was asked so far.
    pub fn asked(&self) -> Vec<Request> {
        self.asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl fmt::Debug for HttpServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpServer({})", self.address)
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        // The listener waits for somebody; this wakes it.
        drop(TcpStream::connect(self.address));
        if let Some(accepting) = self.accepting.take() {
            drop(accepting.join());
        }
    }
}

fn serve(stream: &TcpStream, asked: &Mutex<Vec<Request>>, handler: &Handler) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let Some(request) = read_request(&mut reader, stream)? else {
        return Ok(());
    };
    asked
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(request.clone());
    let response = handler(&request);
    let mut head = format!("HTTP/1.1 {}\r\n", response.status);
    for (name, value) in &response.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let length = response.body.len();
    head.push_str(&format!(
        "Content-Length: {length}\r\nConnection: close\r\n\r\n"
    ));
    let mut out = stream;
    out.write_all(head.as_bytes())?;
    out.write_all(&response.body)
}

fn read_request(
    reader: &mut BufReader<TcpStream>,
    mut stream: &TcpStream,
) -> io::Result<Option<Request>> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_ascii_whitespace();
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Ok(None);
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut request = Request {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        headers: BTreeMap::new(),
        body: Vec::new(),
    };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        let name = name.to_ascii_lowercase();
        request.headers.insert(name, value.trim().to_owned());
    }
    if request.headers.contains_key("expect") {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let header = |name: &str| request.headers.get(name);
    if header("transfer-encoding").is_some_and(|how| how == "chunked") {
        request.body = read_chunks(reader)?;
    } else if let Some(length) = header("content-length").and_then(|length| length.parse().ok()) {
        reader.take(length).read_to_end(&mut request.body)?;
    }
    Ok(Some(request))
}

fn read_chunks(reader: &mut BufReader<TcpStream>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let length = u64::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
        reader.take(length).read_to_end(&mut body)?;
        // The line's end after each chunk, and the empty line after the last.
        reader.read_line(&mut String::new())?;
        if length == 0 {
            return Ok(body);
        }
    }
}

/// What git's own server, run as a web server would, answers for the repositories below `root`.
pub fn git_backend(root: &Path, request: &Request) -> Response {
    let mut command = Command::new("git");
    command
        .arg("http-backend")
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REMOTE_USER", "somebody")
        .env("REMOTE_ADDR", "127.0.0.1")
        .env("REQUEST_METHOD", &request.method)
        .env("PATH_INFO", &request.path)
        .env("QUERY_STRING", &request.query)
        .env("CONTENT_LENGTH", request.body.len().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    for (header, variable) in [
        ("content-type", "CONTENT_TYPE"),
        ("content-encoding", "HTTP_CONTENT_ENCODING"),
        ("git-protocol", "GIT_PROTOCOL"),
    ] {
        command.envs(request.headers.get(header).map(|value| (variable, value)));
    }
    let mut child = command.spawn().expect("git http-backend");
    let mut input = child.stdin.take().expect("a pipe");
    let output = thread::scope(|scope| {
        // It may end without reading all.
        scope.spawn(move || drop(input.write_all(&request.body)));
        child.wait_with_output().expect("what it answers")
    });
    let end = output
        .stdout
        .windows(4)
        .position(|four| four == b"\r\n\r\n");
    let Some(end) = end else {
        return Response::new("500 Internal Server Error", "text/plain", "no answer");
    };
    let head = String::from_utf8_lossy(&output.stdout[..end]).into_owned();
    let mut response = Response {
        status: "200 OK".to_owned(),
        headers: Vec::new(),
        body: output.stdout[end + 4..].to_vec(),
    };
    for (name, value) in head.lines().filter_map(|line| line.split_once(": ")) {
        if name == "Status" {
            response.status = value.to_owned();
        } else {
            response = response.header(name, value);
        }
    }
    response
}

/// Git's packet line: its length in four hex digits, then the text.
pub fn packet(text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    let mut packet = format!("{:04x}", text.len() + 4).into_bytes();
    packet.extend_from_slice(text);
    packet
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Remote;

    #[test]
    fn git_clones_with_the_password_and_not_without() {
        let dir = tempfile::tempdir().expect("a directory");
        let remote = Remote::new(dir.path().join("web.git"));
        let server = HttpServer::git(dir.path(), "bot", "pw");
        let list = |login: &str| {
            let url = server.url("web.git").replace("//", &format!("//{login}"));
            let output = Command::new("git")
                .args(["ls-remote", &url])
                .env("GIT_TERMINAL_PROMPT", "0")
                .env("GIT_CONFIG_NOSYSTEM", "1")
                .env("GIT_CONFIG_GLOBAL", "/dev/null")
                .output();
            let output = output.expect("git");
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let head = remote.head("main").to_string();
        assert!(list("bot:pw@").contains(&head));
        assert_eq!(list("bot:wrong@"), "");
        assert!(server.asked().len() >= 4);
    }
}
