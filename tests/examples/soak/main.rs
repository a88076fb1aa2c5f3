//! The fault suite's long form: as long as is wanted, people push, clients publish, and things go wrong;
//! then all that happened is held against what is promised.
//!
//! ```sh
//! cargo run --release -p backstack-tests --example soak -- --seconds 600 --seed 7
//! ```
//!
//! The seed decides what people, clients and faults choose, each in an order of its own; how they fall
//! together is the machine's. Prints what was done, and exits with 1 and the whole history where a
//! promise is broken.

mod checks;
mod harm;
mod people;
mod random;
mod work;

use std::collections::HashSet;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use backstack_schemas::JobStatus;
use backstack_tests::{History, Recorder, World};
use clap::Parser;
use futures_util::future::join_all;

use harm::Slot;
use people::Place;
use random::Random;

/// How long after the last end of a job the others count as stuck.
const STUCK_AFTER: Duration = Duration::from_secs(120);

#[derive(Parser)]
struct Arguments {
    /// How long things go wrong
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// What decides everything that is chosen; made up unless given
    #[arg(long)]
    seed: Option<u64>,
    /// Repositories
    #[arg(long, default_value_t = 6)]
    repos: usize,
    /// Workers
    #[arg(long, default_value_t = 3)]
    workers: usize,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(|| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        u64::from(since.unwrap_or_default().subsec_nanos())
    });
    println!("seed {seed}, {} s", arguments.seconds);
    let wrong = soak(&arguments, &mut Random::new(seed)).await;
    if wrong.is_empty() {
        println!("every promise was kept; seed {seed}");
        return ExitCode::SUCCESS;
    }
    for one in &wrong {
        println!("WRONG: {one}");
    }
    println!("{} promises were broken; seed {seed}", wrong.len());
    ExitCode::FAILURE
}

/// Waits until every accepted action has ended; says which have not, where nothing ends any more.
async fn until_all_have_ended(
    world: &World,
    recorder: &Recorder,
    asked: &[work::Asked],
) -> Option<String> {
    let (mut left, mut since) = (usize::MAX, Instant::now());
    loop {
        let writes = recorder.writes(world).await;
        let ended = writes
            .iter()
            .filter(|write| write.job.status.is_terminal())
            .map(|write| write.job.spec.job_id);
        let ended: HashSet<_> = ended.collect();
        let waits: Vec<_> = asked
            .iter()
            .filter(|one| !ended.contains(&one.job))
            .collect();
        if waits.is_empty() {
            return None;
        }
        if waits.len() < left {
            (left, since) = (waits.len(), Instant::now());
        }
        if since.elapsed() > STUCK_AFTER {
            let names = waits.iter().map(|one| format!("{} {}", one.repo, one.job));
            return Some(format!("never ended: {:?}", names.collect::<Vec<_>>()));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn soak(arguments: &Arguments, random: &mut Random) -> Vec<String> {
    let world = World::with_ack_wait(Duration::from_secs(2)).await;
    let recorder = Recorder::start(&world).await;
    let producer = world.producer().await;
    let mut slots = Vec::new();
    for _ in 0..arguments.workers {
        slots.push(Slot::new(&world).await);
    }
    let mut places = Vec::new();
    for number in 0..arguments.repos {
        let name = format!("repo-{number}");
        let remote = world.repo(&name).await;
        places.push(Place::new(name, remote));
    }
    let repos: Vec<_> = places.iter().map(|place| place.name.clone()).collect();

    let until = Instant::now() + Duration::from_secs(arguments.seconds);
    let mut choosers: Vec<_> = places.iter().map(|_| random.fork()).collect();
    let work = places.iter_mut().zip(&mut choosers);
    let work = work.map(|(place, random)| work::work(&world, &producer, place, random, until));
    let (asked, harmed) = tokio::join!(
        join_all(work),
        harm::harm(&world, &mut slots, &repos, random, until)
    );
    let asked: Vec<_> = asked.into_iter().flatten().collect();

    let mut history = History::default();
    for one in &asked {
        history.accept(&one.repo, one.job, one.sequence);
    }
    let mut wrong = Vec::new();
    if let Some(stuck) = until_all_have_ended(&world, &recorder, &asked).await {
        wrong.push(stuck);
    }
    for place in &mut places {
        let found = checks::check(&world, place).await;
        wrong.extend(
            found
                .into_iter()
                .map(|what| format!("{}: {what}", place.name)),
        );
        history.moves.insert(place.name.clone(), place.log.moves());
    }
    history.writes = recorder.writes(&world).await;
    wrong.extend(history.violations().iter().map(ToString::to_string));
    let ended: Vec<_> = history
        .writes
        .iter()
        .map(|write| &write.job)
        .filter(|job| job.status.is_terminal())
        .collect();
    for place in &places {
        let of_place = ended
            .iter()
            .filter(|job| job.spec.repo.as_str() == place.name);
        let jobs: Vec<_> = of_place.copied().collect();
        checks::check_merged(place, &jobs, &mut wrong);
    }

    let count = |status| ended.iter().filter(|job| job.status == status).count();
    println!(
        "{} jobs: {} completed, {} in error, {} cancelled; {} ran more than once",
        ended.len(),
        count(JobStatus::Completed),
        count(JobStatus::Error),
        count(JobStatus::Cancelled),
        ended.iter().filter(|job| job.run > 1).count()
    );
    let moves: usize = history.moves.values().map(Vec::len).sum();
    println!(
        "{} row writes seen, {moves} moves of branches",
        history.writes.len()
    );
    for (kind, times) in harmed {
        println!("{times:5} times {kind}");
    }
    let peak = slots.iter().filter_map(Slot::peak_memory).max();
    println!("peak memory of a worker: {:?} KiB", peak);
    if !wrong.is_empty() {
        println!("{history}");
    }
    wrong
}
