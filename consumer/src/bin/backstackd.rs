//! The service. This file parses, sets up the log, and calls; everything else is in the library.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use backstack_consumer::config::Config;
use backstack_consumer::{ServiceError, run};
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Runs repository actions from a NATS JetStream work queue in the background.
#[derive(Parser)]
#[command(name = "backstackd", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Work until SIGTERM or SIGINT; a second one ends at once
    Run(Box<Config>),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    start_log();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: no threads to work with: {error}");
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(async {
        match cli.command {
            Command::Run(config) => work(*config).await,
        }
    })
}

/// The log goes to standard error; `BACKSTACK_LOG` says how much of it (`debug`, or as the tracing
/// crate's filters have it).
fn start_log() {
    let filter = EnvFilter::try_from_env("BACKSTACK_LOG")
        .unwrap_or_else(|_| EnvFilter::new("info,async_nats=warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
}

async fn work(config: Config) -> ExitCode {
    let shutdown = CancellationToken::new();
    tokio::spawn(listen_for_signals(shutdown.clone()));
    match run(config, shutdown).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            exit_code(&error)
        }
    }
}

/// 2 where the input is wrong, 3 where NATS or the streams are not there or not right.
fn exit_code(error: &ServiceError) -> ExitCode {
    match error {
        ServiceError::Connect(error) if error.is_input() => ExitCode::from(2),
        ServiceError::Connect(_) | ServiceError::Topology(_) | ServiceError::Stream(_) => {
            ExitCode::from(3)
        }
        ServiceError::Engine(_) => ExitCode::from(2),
    }
}

/// The first SIGTERM or SIGINT drains, the second ends at once.
async fn listen_for_signals(shutdown: CancellationToken) {
    let (Ok(mut terminate), Ok(mut interrupt)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        tracing::error!("no signals can be caught; end the process to stop it");
        return;
    };
    let mut first = true;
    loop {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        if !first {
            tracing::warn!("ending at once; what was being run is delivered again");
            std::process::exit(130);
        }
        first = false;
        tracing::info!("told to stop; once more ends at once");
        shutdown.cancel();
    }
}
