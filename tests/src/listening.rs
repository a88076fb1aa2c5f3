//! What a worker that was started with `--listen=127.0.0.1:0` says over HTTP.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::program::Worker;
use crate::rows::DEADLINE;

/// How long between two questions.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// An answer over HTTP.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The status line and the headers.
    pub head: String,
    /// The body.
    pub body: String,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// What `/readyz` says of one check: its problem, where it has one.
    pub fn problem(&self, check: &str) -> Option<String> {
        let report = self.json();
        let checks = report["checks"].as_array().expect("checks");
        let found = checks.iter().find(|found| found["check"] == check);
        let found = found.unwrap_or_else(|| panic!("no check {check} in {report:#}"));
        assert_eq!(found["ok"].as_bool(), Some(found["problem"].is_null()));
        assert_eq!(
            found["problem"].is_null(),
            found["remedy"].is_null(),
            "{found}"
        );
        found["problem"].as_str().map(str::to_owned)
    }
}

impl Worker {
    /// Where it listens, as its log says.
    pub async fn address(&self) -> SocketAddr {
        let until = Instant::now() + DEADLINE;
        loop {
            let said = self.program().stderr();
            let line = said
                .lines()
                .find(|line| line.contains("listening for /healthz"));
            let address = line.and_then(|line| line.split("address=").nth(1));
            if let Some(address) = address.and_then(|text| text.split_whitespace().next()) {
                return address
                    .parse()
                    .unwrap_or_else(|error| panic!("{address}: {error}"));
            }
            assert!(Instant::now() < until, "it does not listen: {said}");
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    /// Asks for a path.
    pub async fn get(&self, path: &str) -> Answer {
        get(self.address().await, path).await
    }

    /// Asks for `/readyz` until the answer is as `is` wants it; `what` names that for the panic.
    pub async fn readyz_when(&self, what: &str, is: impl Fn(&Answer) -> bool) -> Answer {
        let address = self.address().await;
        let until = Instant::now() + DEADLINE;
        loop {
            let answer = get(address, "/readyz").await;
            if is(&answer) {
                return answer;
            }
            assert!(Instant::now() < until, "not {what}: {answer:?}");
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    /// The value of a sample in `/metrics`, written as it stands there: name and labels.
    pub async fn metric(&self, sample: &str) -> Option<f64> {
        let answer = self.get("/metrics").await;
        let mut lines = answer.body.lines();
        let line = lines.find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '))?;
        Some(
            line.parse()
                .unwrap_or_else(|error| panic!("{sample}: {line}: {error}")),
        )
    }
}

/// Asks for a path at an address.
pub async fn get(address: SocketAddr, path: &str) -> Answer {
    let asked = tokio::time::timeout(DEADLINE, ask(address, path)).await;
    let text = match asked {
        Ok(Ok(text)) => text,
        Ok(Err(error)) => panic!("{address}{path}: {error}"),
        Err(_) => panic!("{address}{path}: no answer"),
    };
    let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Answer {
        status: status.expect("a status"),
        head: head.to_owned(),
        body: body.to_owned(),
    }
}

async fn ask(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
