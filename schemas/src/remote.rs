//! A remote's URL, as rows hold it and as git may be given it.
//!
//! What is refused here can never be handed to git: options (`-u…`), transports that run programs
//! (`ext::…`), and passwords. Which protocols and hosts are allowed is the operator's to say; the
//! parts to judge by are here.

mod address;

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
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

    /// Where a file URL or a path leads, as git reads it; `None` for the others.
    pub fn path_on_this_machine(&self) -> Option<PathBuf> {
        if self.protocol != Protocol::File {
            return None;
        }
        Some(match self.text.strip_prefix("file://") {
            Some(path) => PathBuf::from(OsString::from_vec(address::decoded_bytes(path))),
            None => PathBuf::from(&self.text),
        })
    }

    /// The URL without its user, for logs: an access token is often given as the user.
    pub fn without_user(&self) -> String {
        match self.protocol {
            Protocol::File => self.text.clone(),
            _ => match self.text.split_once("://") {
                Some((scheme, rest)) => {
                    let path = rest.find('/').unwrap_or(rest.len());
                    let user = rest[..path].find('@').map_or(0, |at| at + 1);
                    format!("{scheme}://{}", &rest[user..])
                }
                None => {
                    let host = self.text.split(':').next().unwrap_or_default();
                    let user = host.find('@').map_or(0, |at| at + 1);
                    self.text[user..].to_owned()
                }
            },
        }
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
        let (protocol, host) = address::read(text).map_err(bad)?;
        Ok(Self {
            text: text.to_owned(),
            protocol,
            host,
        })
    }
}

/// The text without anything that stands before an `@`, wherever that could be a password.
fn without_userinfo(text: &str) -> String {
    match text.split_once("://") {
        Some((scheme, rest)) => {
            // A password may hold any of these; what is cut too early would show the rest of it.
            let end = rest.rfind('@').map_or(0, |at| at + 1);
            format!("{scheme}://{}", &rest[end..])
        }
        None => text.rsplit('@').next().unwrap_or_default().to_owned(),
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
        for bad in [
            "https://user:secret@git.example/a",
            "https://user:secret/part@git.example/a",
            "https://user:secret#part@git.example/a",
            "https://user:other@secret@git.example/a",
            "https:/user:secret@git.example/a",
            "user:secret@git.example:a",
            "ftp://user:secret@git.example/a",
            "ext::https://user:secret@git.example/a",
        ] {
            let error = bad.parse::<RemoteUrl>().unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_path_is_decoded_where_git_decodes_it() {
        let path = |text: &str| text.parse::<RemoteUrl>().unwrap().path_on_this_machine();
        assert_eq!(path("file:///srv/a%20b.git"), Some("/srv/a b.git".into()));
        assert_eq!(path("/srv/a%20b.git"), Some("/srv/a%20b.git".into()));
        assert_eq!(path("git@git.example:a"), None);
    }

    #[test]
    fn a_log_shows_no_user() {
        for (text, shown) in [
            (
                "https://token@git.example:8443/a@b",
                "https://git.example:8443/a@b",
            ),
            ("https://git.example/a@b", "https://git.example/a@b"),
            ("git@git.example:a@b/c", "git.example:a@b/c"),
            ("git@[::1]:a", "[::1]:a"),
            ("/srv/a@b", "/srv/a@b"),
        ] {
            let url: RemoteUrl = text.parse().unwrap();
            assert_eq!(url.without_user(), shown);
        }
    }
}
