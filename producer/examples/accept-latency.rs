//! Measures how long accepting an action takes, against the least it could take: one raw publish to the
//! queue and one raw put of a row, on the same connection to the same server.
//!
//! ```sh
//! nats-server -js -sd /tmp/accept-latency &
//! cargo run --release -p backstack-producer --example accept-latency -- 5000
//! ```

use std::time::{Duration, Instant};

use backstack_producer::topology::ensure;
use backstack_producer::{Client, ConnectOptions, api, connect};
use backstack_schemas::topology::{Bucket, Choices};
use backstack_schemas::{Action, ActionKind, JobId, RepoId};
use bytes::Bytes;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let rounds = std::env::args()
        .nth(1)
        .map_or(Ok(2_000), |text| text.parse())?;
    let mut options = ConnectOptions::default();
    if let Ok(url) = std::env::var("NATS_URL") {
        options.url = url;
    }
    let nats = connect(&options).await?;
    let client = Client::new(nats, options.topology());
    ensure(
        client.rows().client(),
        client.topology(),
        Choices::default(),
    )
    .await?;

    let repo: RepoId = "latency".parse()?;
    let row = Bytes::from(vec![b'x'; 600]);
    // Alternating, so that whatever else the machine does hits both alike.
    let (mut floor, mut accept) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let began = Instant::now();
        raw(&client, &repo, row.clone()).await?;
        let raw_took = began.elapsed();
        let began = Instant::now();
        client.publish(&repo, Action::RestackRepo.into()).await?;
        // The first tenth warms up.
        if round >= rounds / 10 {
            floor.push(raw_took);
            accept.push(began.elapsed());
        }
    }
    let (floor, accept) = (quantiles(floor), quantiles(accept));
    println!("floor   median {:?}, 99% {:?}", floor.0, floor.1);
    println!("accept  median {:?}, 99% {:?}", accept.0, accept.1);
    println!(
        "ratio   median {:.2}",
        accept.0.as_secs_f64() / floor.0.as_secs_f64()
    );
    Ok(())
}

/// The least that accepting could be.
async fn raw(client: &Client, repo: &RepoId, row: Bytes) -> anyhow::Result<()> {
    let nats = client.rows().client();
    let topology = client.topology();
    let id = JobId::generate().to_string();
    let subject = topology.action_subject(repo, ActionKind::RestackRepo);
    let payload = Bytes::from(format!("{{\"job_id\":\"{id}\"}}"));
    api::publish(nats, &subject, None, payload, api::DEADLINE).await?;
    let key = topology.key_subject(Bucket::Jobs, &format!("{repo}.{id}"));
    api::publish(nats, &key, None, row, api::DEADLINE).await?;
    Ok(())
}

/// Median and 99th percentile.
fn quantiles(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort_unstable();
    let at = |share: f64| {
        let index = (times.len() as f64 * share) as usize;
        times.get(index).copied().unwrap_or_default()
    };
    (at(0.5), at(0.99))
}
