//! Which remotes may be talked to, and what git is given to do so.
//!
//! A [`RemotePolicy`] is the operator's: protocols, hosts, credentials. A URL from a row is judged
//! by [`RemotePolicy::check`] before git sees it, and git itself is told the protocols once more,
//! so that nothing it is led to (a redirect, a rewritten URL) gets past.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

use backstack_schemas::RemoteUrl;
use backstack_schemas::remote::Protocol;

use super::command::GitCommand;
use crate::error::EngineError;

/// The variables that a remote may need, as [`RemotePolicy::inherit_environment`] takes them over:
/// ssh, proxies, certificates, and where a helper finds its own files. None of them can make git
/// prompt, or lets it use another transport.
pub const INHERITED: &[&str] = &[
    "HOME",
    "USER",
    "LOGNAME",
    "TMPDIR",
    "SSH_AUTH_SOCK",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_SSH_VARIANT",
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
    "GIT_SSL_CERT",
    "GIT_SSL_KEY",
    "KRB5CCNAME",
    "KRB5_CONFIG",
];

/// What the operator allows git to talk to, and gives it for that.
#[derive(Clone, Debug)]
pub struct RemotePolicy {
    /// Protocols that may be used.
    pub allow_protocols: Vec<Protocol>,
    /// Hosts that may be talked to, in any case; `None` allows all. With a list, HTTP redirects
    /// are not followed, since git cannot be told where they may lead.
    pub allow_hosts: Option<Vec<String>>,
    /// A git configuration file of the operator's, read in place of the user's by commands that
    /// talk to remotes: `credential.helper`, `http.*`, `core.sshCommand`, `safe.directory`. The
    /// engine's own settings stand above it. A credential helper there should only answer `get`:
    /// git tells one that stores to forget what a remote refused, if only for a moment.
    pub git_config: Option<PathBuf>,
    /// Variables for commands that talk to remotes; see [`INHERITED`].
    pub environment: Vec<(OsString, OsString)>,
    /// Tokens that must never be shown, wherever git might print them.
    pub secrets: Vec<String>,
}

impl Default for RemotePolicy {
    /// `https` and `ssh` to any host, with no credentials.
    fn default() -> Self {
        Self {
            allow_protocols: vec![Protocol::Https, Protocol::Ssh],
            allow_hosts: None,
            git_config: None,
            environment: Vec::new(),
            secrets: Vec::new(),
        }
    }
}

impl RemotePolicy {
    /// Takes over those of [`INHERITED`] that this process has.
    pub fn inherit_environment(mut self) -> Self {
        self.environment.extend(
            INHERITED
                .iter()
                .filter_map(|name| Some((OsString::from(name), env::var_os(name)?))),
        );
        self
    }

    /// Whether git may be given the URL.
    ///
    /// # Errors
    ///
    /// [`EngineError::RemoteNotAllowed`], naming what is not allowed and the flag that allows it.
    pub fn check(&self, url: &RemoteUrl) -> Result<(), EngineError> {
        let protocol = url.protocol();
        if !self.allow_protocols.contains(&protocol) {
            return Err(EngineError::RemoteNotAllowed(format!(
                "the remote uses the protocol {protocol}, which is not allowed here; the operator \
                 can allow it by starting backstackd with --allow-protocol {}",
                self.protocols_with(protocol)
            )));
        }
        match (&self.allow_hosts, url.host()) {
            (Some(hosts), Some(host)) if !hosts.iter().any(|h| h.eq_ignore_ascii_case(host)) => {
                Err(EngineError::RemoteNotAllowed(format!(
                    "the remote's host {host} is not one of those allowed here; the operator can \
                     allow it by starting backstackd with --allow-host {host} as well"
                )))
            }
            _ => Ok(()),
        }
    }

    /// The list for `--allow-protocol` that has `wanted` too.
    fn protocols_with(&self, wanted: Protocol) -> String {
        self.protocol_names(&[wanted], ",")
    }

    fn protocol_names(&self, more: &[Protocol], separator: &str) -> String {
        self.allow_protocols
            .iter()
            .chain(more)
            .map(|protocol| protocol.as_str())
            .collect::<Vec<_>>()
            .join(separator)
    }

    /// Gives the command what it may use.
    pub(super) fn apply(&self, mut command: GitCommand) -> GitCommand {
        for (name, value) in &self.environment {
            command = command.env(name, value);
        }
        if let Some(file) = &self.git_config {
            command = command.env("GIT_CONFIG_GLOBAL", file);
        }
        if self.allow_hosts.is_some() {
            command = command.config("http.followRedirects", "false");
        }
        command
            .env("GIT_ALLOW_PROTOCOL", self.protocol_names(&[], ":"))
            .secrets(&self.secrets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(protocols: &[Protocol], hosts: Option<&[&str]>) -> RemotePolicy {
        RemotePolicy {
            allow_protocols: protocols.to_vec(),
            allow_hosts: hosts.map(|hosts| hosts.iter().map(ToString::to_string).collect()),
            ..RemotePolicy::default()
        }
    }

    fn refusal(policy: &RemotePolicy, url: &str) -> Option<String> {
        match policy.check(&url.parse().unwrap()) {
            Ok(()) => None,
            Err(EngineError::RemoteNotAllowed(sentence)) => Some(sentence),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn only_https_and_ssh_unless_more_is_allowed() {
        let policy = RemotePolicy::default();
        for allowed in ["https://git.example/a", "git@git.example:a"] {
            assert_eq!(refusal(&policy, allowed), None);
        }
        for refused in [
            "http://git.example/a",
            "git://git.example/a",
            "/srv/a",
            "file:///srv/a",
        ] {
            assert!(refusal(&policy, refused).is_some(), "{refused}");
        }
        let sentence = refusal(&policy, "/srv/a").unwrap();
        assert!(
            sentence.contains("--allow-protocol https,ssh,file"),
            "{sentence}"
        );
    }

    #[test]
    fn hosts_are_compared_without_case_user_or_port() {
        let policy = policy(&[Protocol::Https, Protocol::Ssh], Some(&["Git.Example"]));
        for allowed in ["https://bot@git.EXAMPLE:8443/a", "git@git.example:a"] {
            assert_eq!(refusal(&policy, allowed), None);
        }
        for refused in ["https://git.example.evil.example/a", "evil.example:a"] {
            let sentence = refusal(&policy, refused).unwrap();
            assert!(
                sentence.contains("--allow-host") && sentence.contains("evil.example"),
                "{sentence}"
            );
        }
    }
}
