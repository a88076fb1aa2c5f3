//! Whether a private server is ready, by asking it: its monitoring port answers `/healthz` with 200
//! only when clients can connect and JetStream has recovered everything, in a cluster only once the
//! meta leader is known.

use std::io;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Between two questions. A server starts in some 10 ms.
pub(super) const ASK_AGAIN: Duration = Duration::from_millis(3);

/// How long one question may take; a paused server takes the connection and never answers.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// `Ok` when the server is ready, else what is wrong.
pub(super) async fn healthy(monitor: u16) -> Result<(), String> {
    match get(monitor, "/healthz").await {
        Ok((200, _)) => Ok(()),
        Ok((status, body)) => Err(format!("status {status}, {}", body.trim())),
        Err(error) => Err(error.to_string()),
    }
}

/// The name of the meta leader as the server sees it; `None` while there is none.
pub(super) async fn meta_leader(monitor: u16) -> Option<String> {
    let meta = meta_cluster(monitor).await?;
    Some(meta["leader"].as_str()?.to_owned())
}

/// How many followers of the meta leader are there and up to date; asked of the leader.
pub(super) async fn current_followers(monitor: u16) -> usize {
    let Some(meta) = meta_cluster(monitor).await else {
        return 0;
    };
    let replicas = meta["replicas"].as_array().map_or(&[][..], Vec::as_slice);
    let current = |replica: &&Value| replica["current"] == true && replica["offline"] != true;
    replicas.iter().filter(current).count()
}

async fn meta_cluster(monitor: u16) -> Option<Value> {
    let (status, body) = get(monitor, "/jsz").await.ok()?;
    let answer: Value = serde_json::from_str(&body).ok()?;
    (status == 200).then(|| answer["meta_cluster"].clone())
}

/// One HTTP request; the server closes the connection after its answer, as 1.0 asks.
async fn get(port: u16, path: &str) -> io::Result<(u16, String)> {
    let exchange = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        io::Result::Ok(answer)
    };
    let answer = tokio::time::timeout(ANSWER_WITHIN, exchange).await??;
    parse(&answer).ok_or_else(|| io::Error::other(format!("no HTTP answer: {answer:?}")))
}

fn parse(answer: &str) -> Option<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}
