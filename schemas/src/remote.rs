//! A remote's URL, as rows hold it and as git may be given it.
//!
//! What is refused here can never be handed to git: options (`-u…`), transports that run programs
//! (`ext::…`), and passwords. Which protocols and hosts are allowed is the operator's to say; the
//! parts to judge by are here.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::id::InvalidId;

/// A URL that git can read and no one can misread: a scheme git knows, an scp-like
/// `user@host:path`, or a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RemoteUrl {
    text: String,
    protocol: Protocol,
    host: Option<String>,
}

/// The transports git may be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// `https://`
    Https,
    /// `ssh://` or `user@host:path`
    Ssh,
    /// `http://`
    Http,
    /// `git://`
    Git,
    /// `file://` or a path
    File,
}

impl Protocol {
    /// The name as in `GIT_ALLOW_PROTOCOL` and `--allow-protocol`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Ssh => "ssh",
            Self::Http => "http",
            Self::Git => "git",
            Self::File => "file",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Protocol {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        [Self::Https, Self::Ssh, Self::Http, Self::Git, Self::File]
            .into_iter()
            .find(|protocol| protocol.as_str() == text)
            .ok_or_else(|| {
                InvalidId::new(
                    "protocol",
                    text,
                    "is not one of https, ssh, http, git and file",
                )
            })
    }
}

impl RemoteUrl {
    /// The URL as given.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The transport git would use for it.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The host, in lower case and without user or port; `None` for a path.
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }
}

impl FromStr for RemoteUrl {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        // The URL may hold a password, so errors name only what is wrong with it.
        let bad = |problem: &str| InvalidId::new("remote URL", &without_userinfo(text), problem);
        if text.is_empty() {
            return Err(bad("is empty"));
        }
        if text.len() > 2_048 {
            return Err(bad("is longer than 2,048 bytes"));
        }
        if text.starts_with('-') {
            return Err(bad("starts with '-'; git could take it for an option"));
        }
        if text.chars().any(char::is_control) {
            return Err(bad("contains a control character"));
        }
        let (protocol, host) = if let Some((scheme, rest)) = text.split_once("://") {
            let protocol = scheme.parse::<Protocol>().map_err(|_| {
                bad("has a scheme that is not one of https, ssh, http, git and file")
            })?;
            (protocol, authority_host(rest, protocol).map_err(bad)?)
        } else if is_helper(text) {
            return Err(bad(
                "names a remote helper ('name::address'), which could run a program",
            ));
        } else if let Some((before, _)) = text.split_once(':').filter(|(b, _)| !b.contains('/')) {
            (Protocol::Ssh, Some(scp_host(before).map_err(bad)?))
        } else {
            (Protocol::File, None)
        };
        if protocol == Protocol::Ssh && host.as_deref().is_some_and(|h| h.starts_with('-')) {
            return Err(bad(
                "has a host that starts with '-'; ssh could take it for an option",
            ));
        }
        Ok(Self {
            text: text.to_owned(),
            protocol,
            host,
        })
    }
}

/// Whether git would look for a program `git-remote-<name>`.
fn is_helper(text: &str) -> bool {
    text.split_once("::").is_some_and(|(name, _)| {
        !name.is_empty()
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"+-._".contains(&b))
    })
}

/// The host in what follows `scheme://`.
fn authority_host(rest: &str, protocol: Protocol) -> Result<Option<String>, &'static str> {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (user, host_port) = authority.rsplit_once('@').unwrap_or(("", authority));
    if user.contains(':') {
        return Err("holds a password; give it to the service by file or environment instead");
    }
    if user.starts_with('-') {
        return Err("has a user that starts with '-'");
    }
    let host = match host_port.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host_port.split(':').next().unwrap_or_default(),
    };
    match (host.is_empty(), protocol) {
        (true, Protocol::File) => Ok(None),
        (true, _) => Err("has no host"),
        (false, Protocol::File) => Err("is a file URL with a host; write file:///path"),
        (false, _) => Ok(Some(host.to_ascii_lowercase())),
    }
}

/// The host in what precedes the colon of `user@host:path`.
fn scp_host(before: &str) -> Result<String, &'static str> {
    let (user, host) = before.rsplit_once('@').unwrap_or(("", before));
    if user.starts_with('-') {
        return Err("has a user that starts with '-'");
    }
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() {
        Err("has no host")
    } else {
        Ok(host.to_ascii_lowercase())
    }
}

/// The text with anything before an `@` in its authority taken out.
fn without_userinfo(text: &str) -> String {
    match text.split_once("://") {
        Some((scheme, rest)) => {
            let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            let (authority, path) = rest.split_at(end);
            let host = authority
                .rsplit_once('@')
                .map_or(authority, |(_, host)| host);
            format!("{scheme}://{host}{path}")
        }
        None => text.to_owned(),
    }
}

impl fmt::Display for RemoteUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl Serialize for RemoteUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for RemoteUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for RemoteUrl {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RemoteUrl".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "A URL or path that git can read; no password, no remote helper."
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_protocol_and_host() {
        for (text, protocol, host) in [
            (
                "https://git.example/a.git",
                Protocol::Https,
                Some("git.example"),
            ),
            (
                "https://bot@Git.Example:8443/a.git",
                Protocol::Https,
                Some("git.example"),
            ),
            (
                "ssh://git@git.example/a",
                Protocol::Ssh,
                Some("git.example"),
            ),
            (
                "git@git.example:a/b.git",
                Protocol::Ssh,
                Some("git.example"),
            ),
            ("http://[::1]:80/a", Protocol::Http, Some("::1")),
            ("git://git.example/a", Protocol::Git, Some("git.example")),
            ("file:///srv/a.git", Protocol::File, None),
            ("/srv/a.git", Protocol::File, None),
            ("./a:b", Protocol::File, None),
        ] {
            let url: RemoteUrl = text.parse().unwrap();
            assert_eq!((url.protocol(), url.host()), (protocol, host), "{text}");
        }
    }

    #[test]
    fn refuses_what_git_could_run_or_leak() {
        for bad in [
            "",
            "-u/tmp/x",
            "--upload-pack=touch /tmp/x",
            "ext::sh -c true",
            "fd::17",
            "ftp://git.example/a",
            "https://user:secret@git.example/a",
            "https:///a",
            "ssh://-oProxyCommand=x/a",
            "-oProxyCommand=x:a",
            "git@-oProxyCommand=x:a",
            "file://elsewhere/a",
            "https://git.example/a\nb",
        ] {
            assert!(bad.parse::<RemoteUrl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_error_never_shows_the_password() {
        let error = "https://user:secret@git.example/a"
            .parse::<RemoteUrl>()
            .unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
