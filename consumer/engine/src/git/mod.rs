//! The hardened git command: how it is found, what it is given, how it is bounded and understood.
//!
//! Every git process of the engine starts here. Guaranteed for each:
//!
//! - **It reads nothing it was not given.** The environment is cleared but for what is needed; no
//!   system or user configuration, no system attributes, no replacement refs, no hooks, no prompts.
//! - **It talks to nobody who is not allowed.** [`Git::command`] may use no transport at all;
//!   [`Git::wire_command`] may use those of its [`RemotePolicy`], never `ext`.
//! - **It ends.** It leads a process group of its own and cannot ask on a terminal; the
//!   [`Control`]'s deadline or stop kills it and what it started, and on Linux it dies with this
//!   process.
//! - **It tells no secrets.** What it prints is scrubbed before anyone sees it.
//!
//! | question | module |
//! |---|---|
//! | which git, and with what settings? | this one |
//! | which remotes, with which credentials? | [`policy`] |
//! | one command: arguments, input, result | [`command`] |
//! | the running process: pipes, deadline, kill | [`process`] |
//! | how is it started, and ended with this one? | `launch` |
//! | what does this failure mean? | [`failure`] |
//! | which of its own programs may it not start? | `exec_path` |
//! | how does git get a host's credential? | [`credentials`] |
//! | where could a credential hide? | [`scrub`], [`secrets`] |
//!
//! [`Control`]: crate::Control

pub mod command;
mod complaints;
pub mod credentials;
mod exec_path;
pub mod failure;
mod groups;
mod launch;
pub mod policy;
pub mod process;
pub mod scrub;
pub mod secrets;

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

pub use command::{GitCommand, Output};
pub use complaints::STDERR_KEPT;
pub use credentials::CredentialFile;
pub use failure::{Failure, FailureKind};
pub use groups::terminate_all;
pub use policy::RemotePolicy;
pub use process::GitProcess;
pub use secrets::Secrets;

use backstack_schemas::RemoteUrl;

use crate::error::EngineError;

/// The oldest git that is used: the first whose fetch, push and merge-tree all do what the engine
/// asks of them.
pub const OLDEST_GIT: GitVersion = GitVersion {
    major: 2,
    minor: 45,
    patch: 0,
};

/// A usable git program; cheap to clone.
#[derive(Clone, Debug)]
pub struct Git {
    program: PathBuf,
    version: GitVersion,
    /// `PATH`, as git needs it to find ssh and its own helpers.
    path: Option<OsString>,
    /// Where its own programs are, if not where it thinks.
    exec_path: Option<PathBuf>,
}

impl Git {
    /// The given program, or the first `git` on `PATH`.
    ///
    /// # Errors
    ///
    /// [`EngineError::GitUnusable`] where there is none, it cannot be run, or it is older than
    /// [`OLDEST_GIT`].
    pub fn discover(program: Option<PathBuf>) -> Result<Self, EngineError> {
        let path = env::var_os("PATH");
        let program = match program {
            Some(program) if program.components().count() > 1 => program,
            name => {
                let name = name.unwrap_or_else(|| PathBuf::from("git"));
                on_path(&name, path.as_deref()).ok_or_else(|| {
                    EngineError::GitUnusable(format!(
                        "there is no {} on PATH; install git {OLDEST_GIT} or newer",
                        name.display()
                    ))
                })?
            }
        };
        let version = version_of(&program, path.as_deref())?;
        if version < OLDEST_GIT {
            return Err(EngineError::GitUnusable(format!(
                "{} is git {version}; Backstack needs {OLDEST_GIT} or newer: install one and put \
                 it first on PATH",
                program.display()
            )));
        }
        Ok(Self {
            program,
            version,
            path,
            exec_path: None,
        })
    }

    /// The program's version.
    pub fn version(&self) -> GitVersion {
        self.version
    }

    /// The program's path.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// A command in the bare repository `git_dir` that may talk to no remote.
    pub fn command(&self, git_dir: &Path) -> GitCommand {
        self.hardened(git_dir).env("GIT_ALLOW_PROTOCOL", "")
    }

    /// A command in the bare repository `git_dir` that may talk to remotes that `policy` allows, and
    /// has the operator's credential for the host of `url`, if there is one, and for no other host.
    ///
    /// # Errors
    ///
    /// [`EngineError::Internal`] where the credentials cannot be used.
    pub fn wire_command(
        &self,
        git_dir: &Path,
        policy: &RemotePolicy,
        url: &RemoteUrl,
    ) -> Result<GitCommand, EngineError> {
        policy.apply(self.hardened(git_dir), url)
    }

    /// What every command is given.
    fn hardened(&self, git_dir: &Path) -> GitCommand {
        let mut command = GitCommand::new(self.program.clone());
        for (name, value) in FIXED_ENVIRONMENT {
            command = command.env(name, value);
        }
        if let Some(path) = &self.path {
            command = command.env("PATH", path);
        }
        if let Some(path) = &self.exec_path {
            command = command.env("GIT_EXEC_PATH", path);
        }
        // Naming the directory also spares the search for it and its check of the owner: the state
        // directory is the operator's, whoever owns the volume it is on.
        let mut dir = OsString::from("--git-dir=");
        dir.push(git_dir);
        command = command.global(dir);
        for (key, value) in FIXED_CONFIGURATION {
            command = command.config(key, value);
        }
        command
    }
}

/// The environment of every command, on top of `PATH`.
const FIXED_ENVIRONMENT: &[(&str, &str)] = &[
    // Messages are parsed, so they must not be translated.
    ("LC_ALL", "C"),
    ("GIT_CONFIG_NOSYSTEM", "1"),
    ("GIT_CONFIG_GLOBAL", "/dev/null"),
    ("GIT_ATTR_NOSYSTEM", "1"),
    ("GIT_NO_REPLACE_OBJECTS", "1"),
    // A remote on this machine that lacks objects could name a program to bring them.
    ("GIT_NO_LAZY_FETCH", "1"),
    // What a pack claims of an object's size is believed before any of it has come.
    ("GIT_ALLOC_LIMIT", "2g"),
    // An empty program is one that is never run.
    ("GIT_TERMINAL_PROMPT", "0"),
    ("GIT_ASKPASS", ""),
    ("SSH_ASKPASS_REQUIRE", "never"),
];

/// The configuration of every command. It is passed in the environment variable that git clears
/// for a remote on this machine, whose hooks are that remote's own business and do run.
const FIXED_CONFIGURATION: &[(&str, &str)] = &[
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.attributesFile", "/dev/null"),
    // Mirrors can be fetched again; only a pack that a ref may name must be on disk first.
    ("core.fsync", "pack,pack-metadata"),
    ("gc.auto", "0"),
    ("gc.autoDetach", "false"),
    ("maintenance.auto", "false"),
    ("protocol.version", "2"),
    // A server may name other places to get objects from; none of them was allowed.
    ("fetch.uriProtocols", ""),
    ("transfer.bundleURI", "false"),
    // The style changes what git calls a clean merge.
    ("merge.conflictStyle", "merge"),
    ("merge.directoryRenames", "conflict"),
    ("merge.renormalize", "false"),
];

/// The first executable of that name in the directories of `path`.
fn on_path(name: &Path, path: Option<&OsStr>) -> Option<PathBuf> {
    env::split_paths(path?)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(name))
        .find(|file| {
            fs::metadata(file).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
        })
}

/// What the program says of its version.
fn version_of(program: &Path, path: Option<&OsStr>) -> Result<GitVersion, EngineError> {
    let unusable = |problem: String| {
        EngineError::GitUnusable(format!(
            "{} {problem}; Backstack needs git {OLDEST_GIT} or newer",
            program.display()
        ))
    };
    let mut command = Command::new(program);
    command.arg("version").env_clear().env("LC_ALL", "C");
    if let Some(path) = path {
        command.env("PATH", path);
    }
    let output = command
        .output()
        .map_err(|error| unusable(format!("cannot be run ({error})")))?;
    let text = String::from_utf8_lossy(&output.stdout);
    GitVersion::parse(&text).ok_or_else(|| {
        let said: String = text.trim().chars().take(60).collect();
        unusable(format!("does not say a git version, but {said:?}"))
    })
}

/// A git version; ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GitVersion {
    /// `2` in 2.47.3.
    pub major: u32,
    /// `47` in 2.47.3.
    pub minor: u32,
    /// `3` in 2.47.3; 0 where absent.
    pub patch: u32,
}

impl GitVersion {
    /// A version without a patch level, to compare with.
    pub const fn new(major: u32, minor: u32) -> Self {
        Self {
            major,
            minor,
            patch: 0,
        }
    }

    /// The version in what `git version` prints; vendors' and release candidates' additions are
    /// left out.
    pub fn parse(printed: &str) -> Option<Self> {
        let number = printed.trim().strip_prefix("git version ")?;
        let mut parts = number.split(|c: char| !c.is_ascii_digit());
        Some(Self {
            major: parts.next()?.parse().ok()?,
            minor: parts.next()?.parse().ok()?,
            patch: parts.next().and_then(|p| p.parse().ok()).unwrap_or(0),
        })
    }
}

impl fmt::Display for GitVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_version_is_read_with_whatever_a_vendor_adds(
            major in any::<u32>(), minor in any::<u32>(), patch in any::<u32>(), vendor in "([ .a-z(-][ -~]{0,20})?",
        ) {
            let version = GitVersion { major, minor, patch };
            let printed = format!("git version {version}{vendor}\n");
            prop_assert_eq!(GitVersion::parse(&printed), Some(version));
        }

        #[test]
        fn parsing_a_version_never_panics(text in "(?s).{0,40}") {
            GitVersion::parse(&text);
            GitVersion::parse(&format!("git version {text}"));
        }
    }

    #[test]
    fn reads_versions_as_vendors_write_them() {
        for (printed, version) in [
            ("git version 2.47.3\n", "2.47.3"),
            ("git version 2.39.5 (Apple Git-154)\n", "2.39.5"),
            ("git version 2.45.0-rc1", "2.45.0"),
            ("git version 2.50.windows.1", "2.50.0"),
            ("git version 2.48.1.429.gabcdef", "2.48.1"),
        ] {
            assert_eq!(GitVersion::parse(printed).unwrap().to_string(), version);
        }
        for printed in ["", "git version", "git version x.y", "hub version 2.4"] {
            assert_eq!(GitVersion::parse(printed), None, "{printed}");
        }
        assert!(GitVersion::new(2, 53) < GitVersion::new(2, 54));
    }

    #[test]
    fn an_old_git_is_refused_with_both_versions_named() {
        let dir = tempfile::tempdir().unwrap();
        let old = script(dir.path(), "old", "echo git version 2.44.9");
        let error = Git::discover(Some(old)).unwrap_err().to_string();
        assert!(
            error.contains("2.44.9") && error.contains("2.45.0"),
            "{error}"
        );
    }

    #[test]
    fn what_is_no_git_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let other = script(dir.path(), "other", "echo hello");
        for program in [other, dir.path().join("absent")] {
            let error = Git::discover(Some(program)).unwrap_err();
            assert!(matches!(error, EngineError::GitUnusable(_)), "{error}");
        }
        assert_eq!(
            on_path(Path::new("git"), Some(dir.path().as_os_str())),
            None
        );
    }

    #[test]
    fn finds_the_git_on_path() {
        let git = Git::discover(None).unwrap();
        assert!(git.program().is_absolute());
        assert!(git.version() >= OLDEST_GIT);
    }

    fn script(dir: &Path, name: &str, body: &str) -> PathBuf {
        let file = dir.join(name);
        fs::write(&file, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        file
    }
}
