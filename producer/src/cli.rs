//! The command `backstack`: what it takes, and which file does it.
//!
//! ```text
//!  arguments ─► one file per command ─► library ─► render (pure) ─► output ─► exit code
//! ```
//!
//! Standard output carries results alone; everything said about getting there goes to standard error.

mod act;
mod doctor;
mod exit;
mod follow;
mod job;
mod jobs;
pub mod output;
mod permissions;
mod rebase;
mod register;
pub mod render;
mod reparent;
mod repo;
mod restack;
mod stack;
mod sync;
mod task;
mod unregister;
mod watch;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::Client;
use crate::connect::{ConnectOptions, connect};
use exit::{Exit, Failure};
use output::Output;

/// Restack, rebase and sync stacked branches in the background
///
/// Every action returns as soon as it is accepted; a worker does it, whatever happens to this program.
/// `--wait` follows it to its end.
#[derive(Debug, Parser)]
#[command(
    name = "backstack",
    version,
    propagate_version = true,
    max_term_width = 100
)]
struct Cli {
    #[command(flatten)]
    connection: ConnectOptions,

    /// Print rows as JSON, one a line, and nothing else
    #[arg(long, env = "BACKSTACK_JSON", global = true)]
    json: bool,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Add, list and remove repositories
    #[command(subcommand)]
    Repo(repo::RepoCommand),
    /// Fetch a repository, find merged branches, refresh what is known of the others
    Sync(sync::Sync),
    /// Replay every tracked branch, or one and its descendants, onto its parent
    Restack(restack::Restack),
    /// Replay one branch alone onto its parent
    Rebase(rebase::Rebase),
    /// Give a branch another parent; its descendants follow
    Reparent(reparent::Reparent),
    /// Start tracking a branch that is on the remote
    Register(register::Register),
    /// Stop tracking a branch; nothing is pushed
    Unregister(unregister::Unregister),
    /// Show, cancel and retry one job
    #[command(subcommand)]
    Job(job::JobCommand),
    /// List jobs, the newest first
    Jobs(jobs::Jobs),
    /// Print every change of a job as it happens, until interrupted
    Watch(watch::Watch),
    /// Draw the tracked branches of a repository, each with its state
    Stack(stack::Stack),
    /// Create and list tasks, pieces of work on one branch each
    #[command(subcommand)]
    Task(task::TaskCommand),
    /// Check that NATS is there, set up, permitted, and has a worker
    Doctor(doctor::Doctor),
    /// Print what a NATS user needs to be permitted, for the server's configuration; asks no server
    Permissions(permissions::Show),
}

impl Command {
    /// What can be found wrong without a server.
    fn check(&self) -> Result<(), Failure> {
        match self {
            Self::Repo(command) => command.check(),
            _ => Ok(()),
        }
    }
}

/// A connection and somewhere to write.
struct Session {
    client: Client,
    out: Output,
}

/// Parses the arguments, does what they say, and returns the exit code. Wrong arguments end the process
/// with code 2 at once.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    log_to_stderr();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(run(cli)),
        Err(error) => Err(Failure::Unavailable(error.to_string())),
    };
    match result {
        Ok(()) => Exit::Done.into(),
        Err(failure) => failure.report().into(),
    }
}

async fn run(cli: Cli) -> Result<(), Failure> {
    let out = Output::new(cli.json);
    if let Command::Doctor(doctor) = cli.command {
        return doctor.run(&cli.connection, &out).await;
    }
    if let Command::Permissions(show) = cli.command {
        return show.run(&cli.connection, &out);
    }
    cli.command.check()?;
    let nats = connect(&cli.connection).await?;
    // What called this command may be part of a trace, and says so in the way of OpenTelemetry.
    let trace = std::env::var("TRACEPARENT").ok();
    let trace = trace.and_then(|trace| trace.parse().ok());
    let client = Client::new(nats, cli.connection.topology()).traced(trace);
    let session = Session { client, out };
    match cli.command {
        Command::Repo(command) => command.run(&session).await,
        Command::Sync(command) => command.run(&session).await,
        Command::Restack(command) => command.run(&session).await,
        Command::Rebase(command) => command.run(&session).await,
        Command::Reparent(command) => command.run(&session).await,
        Command::Register(command) => command.run(&session).await,
        Command::Unregister(command) => command.run(&session).await,
        Command::Job(command) => command.run(&session).await,
        Command::Jobs(command) => command.run(&session).await,
        Command::Watch(command) => command.run(&session).await,
        Command::Stack(command) => command.run(&session).await,
        Command::Task(command) => command.run(&session).await,
        Command::Doctor(doctor) => doctor.run(&cli.connection, &session.out).await,
        Command::Permissions(show) => show.run(&cli.connection, &session.out),
    }
}

/// Says what happens inside, where `BACKSTACK_LOG` asks for it (`debug`, `backstack_producer=trace`).
fn log_to_stderr() {
    let Ok(filter) = std::env::var("BACKSTACK_LOG") else {
        return;
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_is_an_environment_variable_too() {
        fn check(command: &clap::Command) {
            for arg in command.get_arguments() {
                let Some(long) = arg.get_long().filter(|l| !["help", "version"].contains(l)) else {
                    continue;
                };
                let expected = match long {
                    "nats-url" => "NATS_URL".to_owned(),
                    _ => format!("BACKSTACK_{}", long.to_uppercase().replace('-', "_")),
                };
                let env = arg.get_env().and_then(|env| env.to_str());
                assert_eq!(
                    env,
                    Some(expected.as_str()),
                    "--{long} of {}",
                    command.get_name()
                );
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}
