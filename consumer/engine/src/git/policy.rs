//! Which remotes may be talked to, and what git is given to do so.
//!
//! A [`RemotePolicy`] is the operator's: protocols, hosts, credentials. A URL from a row is judged
//! by [`RemotePolicy::check`] before git sees it, and git itself is told the protocols once more,
//! so that nothing it is led to (a redirect, a rewritten URL) gets past.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::PathBuf;

use backstack_schemas::RemoteUrl;
use backstack_schemas::remote::Protocol;

use super::command::GitCommand;
use super::credentials::CredentialFile;
use super::secrets::Secrets;
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
#[derive(Clone)]
pub struct RemotePolicy {
    /// Protocols that may be used.
    pub allow_protocols: Vec<Protocol>,
    /// Hosts that may be talked to, in any case; `None` allows all. With a list, HTTP redirects
    /// are not followed, since git cannot be told where they may lead; nor are they where `git_config`
    /// has a header to be sent, `http.extraHeader`.
    pub allow_hosts: Option<Vec<String>>,
    /// A git configuration file of the operator's, read in place of the user's by commands that
    /// talk to remotes: `credential.helper`, `http.*`, `core.sshCommand`, `safe.directory`. The
    /// engine's own settings stand above it. A credential helper there should only answer `get`:
    /// git tells one that stores to forget what a remote refused, if only for a moment.
    pub git_config: Option<PathBuf>,
    /// User and password for each HTTP host.
    pub credentials: Option<CredentialFile>,
    /// Variables for commands that talk to remotes; see [`INHERITED`].
    pub environment: Vec<(OsString, OsString)>,
    /// Tokens that must never be shown, wherever git might print them, besides those that are in
    /// `credentials`.
    pub secrets: Secrets,
}

impl Default for RemotePolicy {
    /// `https` and `ssh` to any host, with no credentials.
    fn default() -> Self {
        Self {
            allow_protocols: vec![Protocol::Https, Protocol::Ssh],
            allow_hosts: None,
            git_config: None,
            credentials: None,
            environment: Vec::new(),
            secrets: Secrets::default(),
        }
    }
}

impl RemotePolicy {
    /// Takes over those of [`INHERITED`] that this process has. What a proxy's address has for a
    /// password is a secret from then on.
    pub fn inherit_environment(mut self) -> Self {
        for name in INHERITED.iter().filter(|name| is_proxy(name)) {
            if let Ok(value) = env::var(name)
                && let Some((user, password)) = login(&value)
            {
                self.secrets.add_password(user, password);
            }
        }
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

    /// Whether the operator's configuration may hold a header, which git sends along with its second
    /// request wherever a server has redirected the first to.
    fn adds_headers(&self) -> bool {
        let Some(file) = &self.git_config else {
            return false;
        };
        // What it includes, or what cannot be read here, might as well.
        let Ok(text) = fs::read(file) else {
            return true;
        };
        let text = String::from_utf8_lossy(&text).to_ascii_lowercase();
        text.contains("extraheader") || text.contains("[include")
    }

    /// Gives the command what it may use for that remote.
    pub(super) fn apply(
        &self,
        mut command: GitCommand,
        url: &RemoteUrl,
    ) -> Result<GitCommand, EngineError> {
        for (name, value) in &self.environment {
            command = command.env(name, value);
        }
        if let Some(file) = &self.git_config {
            command = command.env("GIT_CONFIG_GLOBAL", file);
        }
        if let Some(file) = &self.credentials
            && let Some((key, helper)) = file.helper(url)
        {
            command = command.secrets(&file.secrets()?).config(&key, &helper);
        }
        if self.allow_hosts.is_some() || self.adds_headers() {
            command = command.config("http.followRedirects", "false");
        }
        Ok(command
            .env("GIT_ALLOW_PROTOCOL", self.protocol_names(&[], ":"))
            .secrets(&self.secrets))
    }
}

/// Without the values of variables, which may hold what nobody is to see.
impl fmt::Debug for RemotePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.environment.iter().map(|(name, _)| name).collect();
        f.debug_struct("RemotePolicy")
            .field("allow_protocols", &self.allow_protocols)
            .field("allow_hosts", &self.allow_hosts)
            .field("git_config", &self.git_config)
            .field("credentials", &self.credentials)
            .field("environment", &names)
            .field("secrets", &self.secrets)
            .finish()
    }
}

fn is_proxy(variable: &str) -> bool {
    variable.to_ascii_lowercase().ends_with("_proxy") && !variable.eq_ignore_ascii_case("no_proxy")
}

/// User and password in `http://user:password@host:port`, the scheme being optional.
fn login(address: &str) -> Option<(&str, &str)> {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    rest.rsplit_once('@')?.0.split_once(':')
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
    fn no_secret_is_shown_and_a_proxys_password_is_one() {
        let mut policy = RemotePolicy::default();
        assert_eq!(
            login("http://me:s3cret@proxy.example:3128"),
            Some(("me", "s3cret"))
        );
        assert_eq!(login("me:s3@cret@proxy.example"), Some(("me", "s3@cret")));
        assert_eq!(login("http://proxy.example:3128"), None);
        policy.secrets.add_password("me", "s3cret");
        policy.environment = vec![(
            "https_proxy".into(),
            "http://me:s3cret@proxy.example".into(),
        )];
        let shown = format!("{policy:?}");
        assert!(
            shown.contains("https_proxy") && !shown.contains("s3cret"),
            "{shown}"
        );
        assert_eq!(INHERITED.iter().filter(|name| is_proxy(name)).count(), 5);
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
