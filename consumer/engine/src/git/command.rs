//! One git command: its arguments, its input, its result.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;
use std::process::ExitStatus;

use super::failure::Failure;
use super::launch::Launch;
use super::process::GitProcess;
use super::scrub::scrub;
use super::secrets::Secrets;
use crate::control::Control;
use crate::error::EngineError;

/// A git command to be run; made by [`Git::command`] and [`Git::wire_command`].
///
/// Arguments are passed as they are, never through a shell. Whoever passes one that comes from
/// elsewhere puts `--end-of-options` or `--` before it.
///
/// [`Git::command`]: super::Git::command
/// [`Git::wire_command`]: super::Git::wire_command
#[derive(Clone)]
#[must_use]
pub struct GitCommand {
    program: PathBuf,
    globals: Vec<OsString>,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    input: Option<Vec<u8>>,
    secrets: Secrets,
}

/// Without the environment, which may hold what nobody is to see.
impl fmt::Debug for GitCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GitCommand")
            .field("program", &self.program)
            .field("arguments", &self.shown_arguments())
            .finish_non_exhaustive()
    }
}

impl GitCommand {
    pub(super) fn new(program: PathBuf) -> Self {
        Self {
            program,
            globals: Vec::new(),
            arguments: Vec::new(),
            environment: Vec::new(),
            input: None,
            secrets: Secrets::default(),
        }
    }

    /// An option of git itself, before the subcommand, such as `--attr-source=<tree>`.
    pub fn global(mut self, option: impl AsRef<OsStr>) -> Self {
        self.globals.push(option.as_ref().to_owned());
        self
    }

    /// A configuration value; it stands above every file, and above an earlier one of that key.
    pub fn config(self, key: &str, value: &str) -> Self {
        self.global("-c").global(format!("{key}={value}"))
    }

    /// The subcommand, or an argument of it.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Several arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments
            .extend(arguments.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    /// A variable of its environment; a later one of that name wins.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment
            .push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// What it reads from standard input, which is empty otherwise.
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = Some(bytes.into());
        self
    }

    /// Texts to be taken out of what it prints to standard error.
    pub fn secrets(mut self, secrets: &Secrets) -> Self {
        self.secrets.add_all(secrets);
        self
    }

    /// Runs it to its end.
    ///
    /// # Errors
    ///
    /// What the control says, after the process and all it started have been killed;
    /// [`EngineError::Internal`] where it cannot be started. An exit status other than 0 is no
    /// error here; see [`Output::failure`].
    pub fn run(self, control: &Control) -> Result<Output, EngineError> {
        self.run_watching(control, &mut |_| {})
    }

    /// As [`run`](Self::run); each line of standard error, scrubbed, goes to `watch` as it comes,
    /// those that end in a carriage return (progress) included.
    pub fn run_watching(
        self,
        control: &Control,
        watch: &mut dyn FnMut(&str),
    ) -> Result<Output, EngineError> {
        control.check()?;
        self.begin()?.finish_watching(control, watch)
    }

    /// Starts it with its input queued, for whoever has something else to do before it
    /// [finishes](GitProcess::finish_watching) it. That must be on the same thread: the process ends
    /// with it.
    ///
    /// # Errors
    ///
    /// [`EngineError::Internal`] where it cannot be started.
    pub fn begin(mut self) -> Result<GitProcess, EngineError> {
        let input = self.input.take();
        let mut process = self.start(input.is_some(), false)?;
        process.queue(input.unwrap_or_default());
        Ok(process)
    }

    /// Starts it with all three streams piped, for a conversation.
    ///
    /// # Errors
    ///
    /// [`EngineError::Internal`] where it cannot be started.
    pub fn spawn(self) -> Result<GitProcess, EngineError> {
        self.start(true, true)
    }

    /// The arguments as a log may have them.
    fn shown_arguments(&self) -> Vec<String> {
        let shown = |argument: &OsString| scrub(&argument.to_string_lossy(), &self.secrets);
        self.arguments.iter().map(shown).collect()
    }

    fn start(self, with_input: bool, may_outlive_thread: bool) -> Result<GitProcess, EngineError> {
        tracing::debug!(arguments = ?self.shown_arguments(), "git");
        let mut arguments = self.globals;
        arguments.extend(self.arguments);
        let environment: BTreeMap<_, _> = self.environment.into_iter().collect();
        let launch = Launch {
            program: self.program.clone(),
            arguments,
            environment: environment.into_iter().collect(),
            with_input,
            may_outlive_thread,
        };
        GitProcess::start(launch, self.secrets).map_err(|error| {
            EngineError::Internal(format!(
                "{} could not be started: {error}",
                self.program.display()
            ))
        })
    }
}

/// How a git command ended and what it printed.
#[derive(Clone, Debug)]
pub struct Output {
    status: ExitStatus,
    /// All it printed.
    pub stdout: Vec<u8>,
    /// The end of what it said to standard error, scrubbed; at most
    /// [`STDERR_KEPT`](super::STDERR_KEPT) before scrubbing.
    pub stderr: String,
    secrets: Secrets,
}

impl Output {
    pub(crate) fn new(
        status: ExitStatus,
        stdout: Vec<u8>,
        stderr: String,
        secrets: Secrets,
    ) -> Self {
        Self {
            status,
            stdout,
            stderr,
            secrets,
        }
    }

    /// A text out of what it printed, scrubbed.
    pub fn scrubbed(&self, text: &str) -> String {
        scrub(text, &self.secrets)
    }

    /// Whether it exited with 0.
    pub fn success(&self) -> bool {
        self.status.success()
    }

    /// Its exit code; `None` where a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Why it did not succeed.
    pub fn failure(&self) -> Failure {
        Failure::of(&self.stderr, self.status)
    }

    /// Itself where it succeeded, else its failure as an error.
    pub fn checked(self) -> Result<Self, EngineError> {
        if self.success() {
            Ok(self)
        } else {
            Err(self.failure().into())
        }
    }
}
