//! The service. This file parses, sets up the log, and calls; everything else is in the library.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use backstack_consumer::config::Config;
use backstack_consumer::dev::demo;
use backstack_consumer::dev::local::{self, LocalError, LocalOptions};
use backstack_consumer::dev::nats_server::{self, ServerChoice};
use backstack_consumer::{ServiceError, run};
use backstack_engine::EngineError;
use clap::{Parser, Subcommand, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Runs repository actions from a NATS JetStream work queue in the background.
#[derive(Parser)]
#[command(name = "backstackd", version, propagate_version = true)]
struct Cli {
    /// How log lines are written to standard error
    #[arg(
        long,
        global = true,
        env = "BACKSTACK_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "text"
    )]
    log_format: LogFormat,

    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line, for machines
    Json,
}

#[derive(Subcommand)]
enum Command {
    /// Work until SIGTERM or SIGINT; a second one ends at once
    Run(Box<Config>),
    /// Run everything on this machine: a nats-server of its own, on loopback, and a worker
    Dev(LocalOptions),
    /// Show everything Backstack does, on a sample repository; leaves nothing behind
    Demo(ServerChoice),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    start_log(&cli.command, cli.log_format);
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: no threads to work with: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(async {
        match cli.command {
            Command::Run(config) => work(*config).await,
            Command::Dev(options) => work_alone(options).await,
            Command::Demo(server) => play(server).await,
        }
    });
    // A thread that did not stop within the drain must not hold the process.
    runtime.shutdown_background();
    code
}

/// The log goes to standard error; `BACKSTACK_LOG` says how much of it (`debug`, or as the tracing
/// crate's filters have it). The demo shows what matters itself.
fn start_log(command: &Command, format: LogFormat) {
    let unless_told = match command {
        Command::Run(_) | Command::Dev(_) => "info,async_nats=warn",
        Command::Demo(_) => "error",
    };
    let filter =
        EnvFilter::try_from_env("BACKSTACK_LOG").unwrap_or_else(|_| EnvFilter::new(unless_told));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false);
    match format {
        LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => log.json().flatten_event(true).with_span_list(false).init(),
    }
}

async fn work(config: Config) -> ExitCode {
    let shutdown = CancellationToken::new();
    tokio::select! {
        worked = run(config, shutdown.child_token()) => match worked {
            Ok(()) => ExitCode::SUCCESS,
            Err(ServiceError::Closed) if !shutdown.is_cancelled() => start_again(),
            Err(error) => {
                eprintln!("error: {error}");
                exit_code(&error)
            }
        },
        () = told_twice(shutdown.clone()) => end_at_once(),
    }
}

async fn work_alone(options: LocalOptions) -> ExitCode {
    let shutdown = CancellationToken::new();
    let worked = tokio::select! {
        worked = local::run(options, shutdown.clone()) => Some(worked),
        () = told_twice(shutdown) => None,
    };
    // Only now, when what was run is dropped, and with it the server.
    let Some(worked) = worked else { end_at_once() };
    let Err(error) = worked else {
        return ExitCode::SUCCESS;
    };
    eprintln!("error: {error}");
    match error {
        LocalError::Worker(error) => exit_code(&error),
        LocalError::Server(_) => ExitCode::from(3),
        LocalError::StateDirInUse { .. }
        | LocalError::StateDir { .. }
        | LocalError::PortInUse(_)
        | LocalError::Git(_) => ExitCode::from(2),
        LocalError::Output(_) => ExitCode::FAILURE,
    }
}

/// Plays the demo; a signal ends it at once, and what it made is removed all the same.
async fn play(server: ServerChoice) -> ExitCode {
    tokio::select! {
        played = demo::run(server) => match played {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error:#}");
                demo_exit_code(&error)
            }
        },
        code = signalled() => ExitCode::from(code),
    }
}

/// As for the others; 1 where the demo showed something that was not so.
fn demo_exit_code(error: &anyhow::Error) -> ExitCode {
    if error.is::<nats_server::Error>() {
        ExitCode::from(3)
    } else if let Some(EngineError::GitUnusable(_)) = error.downcast_ref() {
        ExitCode::from(2)
    } else {
        ExitCode::FAILURE
    }
}

/// Returns when the process is told to end, with the exit code that says so.
async fn signalled() -> u8 {
    let kinds = [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
    ];
    let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)) =
        (signal(kinds[0]), signal(kinds[1]), signal(kinds[2]))
    else {
        return std::future::pending().await;
    };
    let kind = tokio::select! {
        _ = interrupt.recv() => kinds[0],
        _ = terminate.recv() => kinds[1],
        _ = hangup.recv() => kinds[2],
    };
    u8::try_from(128 + kind.as_raw_value()).unwrap_or(130)
}

/// 2 where the input is wrong, 3 where NATS or the streams are not there or not right.
fn exit_code(error: &ServiceError) -> ExitCode {
    match error {
        ServiceError::Connect(error) if error.is_input() => ExitCode::from(2),
        ServiceError::Connect(_)
        | ServiceError::Topology(_)
        | ServiceError::Stream(_)
        | ServiceError::Closed => ExitCode::from(3),
        ServiceError::Engine(_) | ServiceError::Listen(_) => ExitCode::from(2),
    }
}

/// Becomes a new process of the same program, with the same arguments and id.
fn start_again() -> ExitCode {
    use std::os::unix::process::CommandExt as _;
    tracing::warn!("starting again");
    let failed = match std::env::current_exe() {
        Ok(program) => std::process::Command::new(program)
            .args(std::env::args_os().skip(1))
            .exec(),
        Err(error) => error,
    };
    eprintln!("error: {}, and that failed: {failed}", ServiceError::Closed);
    ExitCode::from(3)
}

/// The first SIGTERM or SIGINT drains; returns at the second.
async fn told_twice(shutdown: CancellationToken) {
    let (Ok(mut terminate), Ok(mut interrupt)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        tracing::error!("no signals can be caught; end the process to stop it");
        return std::future::pending().await;
    };
    for _ in 0..2 {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        if !shutdown.is_cancelled() {
            tracing::info!("told to stop; once more ends at once");
            shutdown.cancel();
        }
    }
}

/// Without waiting for anything that still runs.
fn end_at_once() -> ! {
    tracing::warn!("ending at once; what was being run is delivered again");
    backstack_engine::git::terminate_all();
    std::process::exit(130)
}
