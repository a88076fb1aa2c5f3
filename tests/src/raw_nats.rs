//! NATS without a client library: bytes as they are, for what no library would send.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::world::World;

/// How long an answer may take.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);

/// What came of a publish.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// JetStream's acknowledgement.
    Stored {
        /// The message's sequence, or its first one's.
        sequence: u64,
        /// Whether it was known.
        duplicate: bool,
    },
    /// JetStream's refusal, in its words.
    Refused(String),
    /// No stream has the subject.
    Nobody,
    /// The server's objection; some end the connection.
    Error(String),
    /// Nothing, in time.
    Silence,
}

/// One connection.
pub struct RawNats {
    address: String,
    stream: BufReader<TcpStream>,
}

impl RawNats {
    /// Connects to the world's one server.
    pub async fn connect(world: &World) -> Self {
        let address = world.nats_url().trim_start_matches("nats://").to_owned();
        Self {
            stream: open(&address).await,
            address,
        }
    }

    /// Publishes `payload` on `subject` with `header`, the whole of its block, where there is one.
    pub async fn publish(&mut self, subject: &[u8], header: &[u8], payload: &[u8]) -> Answer {
        let (head, all) = (header.len(), header.len() + payload.len());
        let mut bytes = if header.is_empty() {
            b"PUB ".to_vec()
        } else {
            b"HPUB ".to_vec()
        };
        bytes.extend_from_slice(subject);
        bytes.extend_from_slice(b" answers");
        if !header.is_empty() {
            bytes.extend_from_slice(format!(" {head}").as_bytes());
        }
        bytes.extend_from_slice(format!(" {all}\r\n").as_bytes());
        bytes.extend_from_slice(header);
        bytes.extend_from_slice(payload);
        bytes.extend_from_slice(b"\r\n");
        let sent = async {
            self.stream.write_all(&bytes).await.ok()?;
            self.answer().await
        };
        let answer = match tokio::time::timeout(ANSWERED_WITHIN, sent).await {
            Ok(Some(answer)) => answer,
            Ok(None) => Answer::Error("the connection was closed".to_owned()),
            Err(_) => Answer::Silence,
        };
        if matches!(answer, Answer::Error(_) | Answer::Silence) {
            self.stream = open(&self.address).await;
        }
        answer
    }

    /// Publishes over a connection of its own; JetStream has to store it.
    pub async fn store(world: &World, subject: &[u8], header: &[u8], payload: &[u8]) {
        let answer = Self::connect(world)
            .await
            .publish(subject, header, payload)
            .await;
        assert!(matches!(answer, Answer::Stored { .. }), "{answer:?}");
    }

    async fn answer(&mut self) -> Option<Answer> {
        loop {
            let mut line = String::new();
            self.stream
                .read_line(&mut line)
                .await
                .ok()
                .filter(|read| *read > 0)?;
            let words: Vec<&str> = line.split_whitespace().collect();
            match *words.first()? {
                "MSG" | "HMSG" => {
                    let length: usize = words.last()?.parse().ok()?;
                    let mut payload = vec![0; length + 2];
                    self.stream.read_exact(&mut payload).await.ok()?;
                    let is_status = words[0] == "HMSG";
                    return Some(if is_status {
                        Answer::Nobody
                    } else {
                        read(&payload)
                    });
                }
                // The server objects to these, and stores them all the same.
                "-ERR" if line.contains("Invalid Publish Subject") => {}
                "-ERR" => return Some(Answer::Error(line.trim().to_owned())),
                "PING" => self.stream.write_all(b"PONG\r\n").await.ok()?,
                _ => {}
            }
        }
    }
}

async fn open(address: &str) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(address).await.expect("a connection");
    let mut stream = BufReader::new(stream);
    let hello =
        b"CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true}\r\nSUB answers 1\r\n";
    stream.write_all(hello).await.expect("a connection");
    stream
}

fn read(payload: &[u8]) -> Answer {
    let answer: Value = serde_json::from_slice(payload.trim_ascii()).expect("JSON");
    match answer["error"]["description"].as_str() {
        Some(problem) => Answer::Refused(problem.to_owned()),
        None => Answer::Stored {
            sequence: answer["seq"].as_u64().expect("a sequence"),
            duplicate: answer["duplicate"] == true,
        },
    }
}
