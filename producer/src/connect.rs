//! Getting onto NATS: within five seconds, or a sentence that says what is wrong and what to start.
//!
//! A connection that was made once comes back by itself, for as long as the program runs. No
//! password, token or key is ever part of an error.

mod flags;
mod version;

use std::error::Error as _;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use async_nats::{Client, ConnectErrorKind, Event, ServerAddr};
use percent_encoding::percent_decode_str;

use crate::denials::Denials;

pub use flags::ConnectOptions;
pub use version::{OLDEST_SERVER, Version};

/// How long connecting may take in all, whatever the number of addresses.
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(4);

/// How often a server that says nothing is asked whether it is still there. One that was suspended keeps
/// its connections; a program that is on one of three must not wait for it longer than an election takes.
const PING_INTERVAL: Duration = Duration::from_secs(4);

/// Why there is no connection. Each says which addresses were tried and what to do next.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// An address that is none.
    #[error(
        "the NATS address {given:?} cannot be read: {problem}; write it like nats://127.0.0.1:4222"
    )]
    BadAddress {
        /// The address, without what may be a password.
        given: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A file that was named cannot be used.
    #[error("{what} {path} cannot be used: {problem}", path = .path.display())]
    File {
        /// What the file is for.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// An inbox prefix that is no subject.
    #[error("the inbox prefix {given:?} is no subject: no spaces, no wildcards, no empty parts")]
    BadInboxPrefix {
        /// The prefix.
        given: String,
    },
    /// Nothing answered.
    #[error(
        "no NATS server answers at {tried} ({problem}); start one with `backstackd dev` or \
         `nats-server -js`, or name another with --nats-url or NATS_URL"
    )]
    Unanswered {
        /// The addresses, without passwords.
        tried: String,
        /// What went wrong last.
        problem: String,
    },
    /// The server does not let this user in.
    #[error(
        "the NATS server at {tried} refused the credentials; give it a user it knows, with \
         --nats-creds FILE or as nats://user:password@host:port in NATS_URL"
    )]
    Refused {
        /// The addresses, without passwords.
        tried: String,
    },
    /// The server is there and takes no connection from us.
    #[error(
        "the NATS server at {tried} does not take the connection: {problem}; its log says more"
    )]
    Rejected {
        /// The addresses, without passwords.
        tried: String,
        /// What the server says.
        problem: String,
    },
    /// There is a server, but no common TLS.
    #[error(
        "no TLS connection to the NATS server at {tried} ({problem}); check --nats-tls-ca, \
         --nats-tls-cert and --nats-tls-key, and that the certificate names the host"
    )]
    Tls {
        /// The addresses, without passwords.
        tried: String,
        /// What went wrong.
        problem: String,
    },
    /// The server lacks what the topology needs.
    #[error(
        "the NATS server at {tried} is version {is}, but {OLDEST_SERVER} or newer is needed; \
         upgrade it"
    )]
    TooOld {
        /// The addresses, without passwords.
        tried: String,
        /// The server's version.
        is: String,
    },
}

impl ConnectError {
    /// Whether what was given is wrong, rather than the server not there.
    pub fn is_input(&self) -> bool {
        matches!(
            self,
            Self::BadAddress { .. } | Self::File { .. } | Self::BadInboxPrefix { .. }
        )
    }
}

/// Connects, within [`CONNECT_DEADLINE`]. The connection comes back by itself for ever after.
///
/// # Errors
/// [`ConnectError`]; a server older than [`OLDEST_SERVER`] is refused too.
pub async fn connect(options: &ConnectOptions) -> Result<Client, ConnectError> {
    connect_with(options, |_| {}).await
}

/// As [`connect`], and tells `heard` what happens to the connection: losses, returns, and what the
/// server says it does not permit.
///
/// # Errors
/// As [`connect`].
pub async fn connect_with(
    options: &ConnectOptions,
    heard: impl Fn(&Event) + Send + Sync + 'static,
) -> Result<Client, ConnectError> {
    let addresses = addresses(&options.url)?;
    let tried = shown(&addresses);
    let each = CONNECT_DEADLINE / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
    let denials = Denials::default();
    let told = denials.clone();
    let heard = move |event: &Event| {
        told.note(event);
        heard(event);
    };
    let configured = configure(options, each, heard).await?;
    let configured = identify(configured, &addresses);
    // The library would log the addresses as they are, so it gets them without passwords.
    let attempt = configured.connect(self::addresses(&tried)?);
    let client = match tokio::time::timeout(CONNECT_DEADLINE, attempt).await {
        Ok(Ok(client)) => client,
        Ok(Err(error)) => return Err(classify(&error, tried)),
        Err(_) => {
            return Err(ConnectError::Unanswered {
                tried,
                problem: "timed out".to_owned(),
            });
        }
    };
    check_version(&client.server_info().version, tried)?;
    denials.belong_to(&client);
    Ok(client)
}

/// The comma-separated addresses.
fn addresses(urls: &str) -> Result<Vec<ServerAddr>, ConnectError> {
    let parts: Vec<_> = urls
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .collect();
    if parts.is_empty() {
        return Err(ConnectError::BadAddress {
            given: String::new(),
            problem: "it is empty".to_owned(),
        });
    }
    parts.into_iter().map(address).collect()
}

fn address(text: &str) -> Result<ServerAddr, ConnectError> {
    let bad = |problem: String| ConnectError::BadAddress {
        // What stands before an `@` may be a password.
        given: text.rsplit('@').next().unwrap_or_default().to_owned(),
        problem,
    };
    let address: ServerAddr = text
        .parse()
        .map_err(|error: io::Error| bad(error.to_string()))?;
    match address.scheme() {
        "nats" | "tls" => Ok(address),
        other => Err(bad(format!("{other:?} is neither nats nor tls"))),
    }
}

/// The addresses as a person may read them: without user, password and token.
fn shown(addresses: &[ServerAddr]) -> String {
    let plain = |address: &ServerAddr| {
        let (scheme, host, port) = (address.scheme(), address.host(), address.port());
        if host.contains(':') {
            format!("{scheme}://[{host}]:{port}")
        } else {
            format!("{scheme}://{host}:{port}")
        }
    };
    let plain: Vec<_> = addresses.iter().map(plain).collect();
    plain.join(",")
}

/// The user and password, or the token, of the first address that has any: the library itself reads
/// none from an address.
fn identify(
    configured: async_nats::ConnectOptions,
    addresses: &[ServerAddr],
) -> async_nats::ConnectOptions {
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let found = addresses
        .iter()
        .find_map(|address| Some((address.username()?, address.password())));
    match found {
        Some((user, Some(password))) => {
            configured.user_and_password(decode(user), decode(password))
        }
        Some((token, None)) => configured.token(decode(token)),
        None => configured,
    }
}

async fn configure(
    options: &ConnectOptions,
    each: Duration,
    heard: impl Fn(&Event) + Send + Sync + 'static,
) -> Result<async_nats::ConnectOptions, ConnectError> {
    let mut configured = async_nats::ConnectOptions::new()
        .name(&options.name)
        .connection_timeout(each)
        .max_reconnects(None)
        // After two that are not answered the connection counts as lost.
        .ping_interval(PING_INTERVAL)
        .require_tls(options.tls_required)
        .event_callback(move |event| {
            heard(&event);
            tell(&event);
            std::future::ready(())
        });
    if let Some(prefix) = &options.inbox_prefix {
        configured = configured.custom_inbox_prefix(inbox_prefix(prefix)?);
    }
    if let Some(path) = &options.tls_ca {
        readable("the certificate authority file", path).await?;
        configured = configured.add_root_certificates(path.clone());
    }
    if let (Some(cert), Some(key)) = (&options.tls_cert, &options.tls_key) {
        readable("the certificate file", cert).await?;
        readable("the key file", key).await?;
        configured = configured.add_client_certificate(cert.clone(), key.clone());
    }
    if let Some(path) = &options.creds {
        configured =
            configured
                .credentials_file(path)
                .await
                .map_err(|error| ConnectError::File {
                    what: "the credentials file",
                    path: path.clone(),
                    problem: error.to_string(),
                })?;
    }
    Ok(configured)
}

/// The library panics on a prefix that is empty, holds a wildcard or ends with a dot.
fn inbox_prefix(given: &str) -> Result<&str, ConnectError> {
    let prefix = given.strip_suffix(".>").unwrap_or(given);
    let token = |part: &str| {
        !part.is_empty() && !part.contains(|c: char| c.is_whitespace() || c == '*' || c == '>')
    };
    if prefix.split('.').all(token) {
        Ok(prefix)
    } else {
        Err(ConnectError::BadInboxPrefix {
            given: given.to_owned(),
        })
    }
}

async fn readable(what: &'static str, path: &PathBuf) -> Result<(), ConnectError> {
    match tokio::fs::File::open(path).await {
        Ok(_) => Ok(()),
        Err(error) => Err(ConnectError::File {
            what,
            path: path.clone(),
            problem: error.to_string(),
        }),
    }
}

fn tell(event: &Event) {
    match event {
        Event::Connected => tracing::debug!("connected to NATS"),
        Event::Disconnected => {
            tracing::warn!("the connection to NATS is lost; trying to get it back")
        }
        Event::ServerError(error) => tracing::warn!(%error, "the NATS server objects"),
        other => tracing::debug!(event = %other, "NATS connection"),
    }
}

fn classify(error: &async_nats::ConnectError, tried: String) -> ConnectError {
    match error.kind() {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
            ConnectError::Refused { tried }
        }
        ConnectErrorKind::Tls => ConnectError::Tls {
            tried,
            problem: cause(error),
        },
        // A failed handshake comes as an IO error whose kind says that the data was bad.
        ConnectErrorKind::Io if is_handshake(error) => ConnectError::Tls {
            tried,
            problem: cause(error),
        },
        _ if is_server_error(error) => ConnectError::Rejected {
            tried,
            problem: cause(error),
        },
        _ => ConnectError::Unanswered {
            tried,
            problem: cause(error),
        },
    }
}

fn is_server_error(error: &async_nats::ConnectError) -> bool {
    error
        .source()
        .is_some_and(|source| source.is::<async_nats::ServerError>())
}

fn is_handshake(error: &async_nats::ConnectError) -> bool {
    let io = error
        .source()
        .and_then(|source| source.downcast_ref::<io::Error>());
    io.is_some_and(|io| io.kind() == io::ErrorKind::InvalidData)
}

/// The innermost cause, which is the one that says something.
fn cause(error: &async_nats::ConnectError) -> String {
    let mut text = error.kind().to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = source.to_string();
        next = source.source();
    }
    text
}

fn check_version(is: &str, tried: String) -> Result<(), ConnectError> {
    match is.trim().trim_start_matches('v').parse::<Version>() {
        Ok(version) if version >= OLDEST_SERVER => Ok(()),
        _ => Err(ConnectError::TooOld {
            tried,
            is: is.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_ever_shown() {
        let many = addresses("nats://alice:s3cret@a.example:4222, tls://t0ken@b.example").unwrap();
        assert_eq!(shown(&many), "nats://a.example:4222,tls://b.example:4222");
        for bad in ["nats://alice:s3cret@[", "ftp://alice:s3cret@a.example"] {
            let error = addresses(bad).unwrap_err().to_string();
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn an_empty_address_is_refused() {
        assert!(addresses(" , ").unwrap_err().is_input());
    }

    #[test]
    fn an_older_server_is_refused_with_both_versions_named() {
        for good in ["2.14.1", "2.15.1", "v3.0.0", "2.15.0-RC.1"] {
            assert!(check_version(good, String::new()).is_ok(), "{good}");
        }
        for old in ["2.14.0", "2.14.1-RC.1", "2.9.99", "1.99.0", "", "new"] {
            let error = check_version(old, "nats://a:1".to_owned()).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!(
                    "the NATS server at nats://a:1 is version {old}, but 2.14.1 or newer is needed; \
                     upgrade it"
                )
            );
        }
    }

    #[test]
    fn an_inbox_prefix_is_a_plain_subject() {
        assert_eq!(inbox_prefix("_INBOX_alice").unwrap(), "_INBOX_alice");
        assert_eq!(inbox_prefix("_INBOX_alice.>").unwrap(), "_INBOX_alice");
        for bad in ["", "a..b", "a.*", ">", "a b", "a."] {
            assert!(inbox_prefix(bad).is_err(), "{bad}");
        }
    }
}
