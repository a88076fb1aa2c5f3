//! `backstackd demo`: everything Backstack does, on a sample remote, as it happens.
//!
//! ```text
//!  this process: story ─► client ─► nats-server (child) ◄─ worker (child, killed once)
//!                  └── plays the people ──► bare remote ◄──────┘ fetch, push
//! ```
//!
//! Guarantees: it succeeds only if everything it showed was so, asked of git and of the rows; and it
//! leaves nothing behind, no process and no directory, however it ends. It uses nothing of the
//! machine but git, a nats-server and a temporary directory.

mod checks;
mod crash;
mod remote;
mod sample;
mod scratch;
mod show;
mod stage;
mod story;

use std::time::Instant;

use anyhow::{Context as _, Result};
use backstack_engine::git::Git;

use super::nats_server::{NatsServer, ServerChoice};
use checks::Expected;
use show::Show;
use stage::Stage;
use story::Story;

/// Plays the demo to its end. Dropped before that, it removes everything too.
///
/// # Errors
/// What is missing on this machine, or what the demo showed and was not so.
pub async fn run(choice: ServerChoice) -> Result<()> {
    let began = Instant::now();
    let mut show = Show::new();
    show.title("Backstack, a demonstration", INTRODUCTION)?;
    let git = Git::discover(None)?;
    let server = choice.find().await?;
    let mut stage = Stage::build(&server, git).await?;
    push_sample(&stage)?;
    let pid = stage.start_worker()?;
    introduce(&show, &stage, &server, pid)?;
    let mut story = Story {
        stage: &mut stage,
        show: &mut show,
        expected: Expected::sample(),
    };
    story.tell().await?;
    stage.close().await?;
    let seconds = began.elapsed().as_secs_f64();
    show.say("")?;
    show.say(&format!(
        "All of this took {seconds:.1} s, and nothing of it is left. {NEXT}"
    ))?;
    Ok(())
}

const INTRODUCTION: &str = "Stacked branches have to be rebased and pushed whenever something under \
    them moves. Backstack takes that out of the way: an action is a message in a queue, a worker does \
    the git work in the background, and everyone can watch the job's row. This plays it through on a \
    sample repository.";

const NEXT: &str = "To try it on a repository of \
    your own: backstackd dev";

/// The people's work so far.
fn push_sample(stage: &Stage) -> Result<()> {
    let remote = &stage.remote;
    for (i, work) in sample::HISTORY.iter().enumerate() {
        let onto = (i > 0).then_some(sample::TRUNK);
        remote.commit(sample::TRUNK, onto, work)?;
    }
    for line in sample::BRANCHES {
        for (i, work) in line.commits.iter().enumerate() {
            let onto = if i == 0 { line.parent } else { line.branch };
            remote.commit(line.branch, Some(onto), work)?;
        }
    }
    Ok(())
}

fn introduce(show: &Show, stage: &Stage, server: &NatsServer, worker: u32) -> Result<()> {
    let commits = stage.remote.count(sample::TRUNK).context("the sample")?;
    let branches = sample::BRANCHES.len();
    show.outside(&format!(
        "nats-server {} at {}",
        server.version,
        stage.url()
    ))?;
    show.outside(&format!("one worker, process {worker}"))?;
    show.outside(&format!(
        "a bare remote with {commits} commits on {} and {branches} branches, at {}",
        sample::TRUNK,
        stage.remote.path().display()
    ))?;
    Ok(())
}
