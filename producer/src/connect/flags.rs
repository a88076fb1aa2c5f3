//! The flags that say where NATS is, shared by every Backstack program.

use std::path::PathBuf;

use backstack_schemas::{Namespace, Topology};
use clap::Args;

use super::{ConnectError, addresses, shown};

/// Where NATS is and who we are there, the same flags for every Backstack program.
///
/// The arguments' ids are their long names: they are global, and must not meet a command's own `url`.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Connection")]
pub struct ConnectOptions {
    /// The servers' addresses, separated by commas
    #[arg(
        id = "nats-url",
        long = "nats-url",
        env = "NATS_URL",
        default_value = "nats://127.0.0.1:4222",
        hide_env_values = true,
        global = true,
        value_name = "URL"
    )]
    pub url: String,

    /// A credentials file (JWT and seed)
    #[arg(
        id = "nats-creds",
        long = "nats-creds",
        env = "BACKSTACK_NATS_CREDS",
        global = true,
        value_name = "FILE"
    )]
    pub creds: Option<PathBuf>,

    /// Certificate authorities to trust instead of the system's, as PEM
    #[arg(
        id = "nats-tls-ca",
        long = "nats-tls-ca",
        env = "BACKSTACK_NATS_TLS_CA",
        global = true,
        value_name = "FILE"
    )]
    pub tls_ca: Option<PathBuf>,

    /// Certificate to present to the server, as PEM
    #[arg(
        id = "nats-tls-cert",
        long = "nats-tls-cert",
        env = "BACKSTACK_NATS_TLS_CERT",
        global = true,
        requires = "nats-tls-key",
        value_name = "FILE"
    )]
    pub tls_cert: Option<PathBuf>,

    /// Key of that certificate, as PEM
    #[arg(
        id = "nats-tls-key",
        long = "nats-tls-key",
        env = "BACKSTACK_NATS_TLS_KEY",
        global = true,
        requires = "nats-tls-cert",
        value_name = "FILE"
    )]
    pub tls_key: Option<PathBuf>,

    /// Refuse a server without TLS
    #[arg(
        id = "nats-tls-required",
        long = "nats-tls-required",
        env = "BACKSTACK_NATS_TLS_REQUIRED",
        global = true
    )]
    pub tls_required: bool,

    /// Prefix of the subjects that replies come to, where the user may not read `_INBOX.>`
    #[arg(
        id = "inbox-prefix",
        long = "inbox-prefix",
        env = "BACKSTACK_INBOX_PREFIX",
        global = true,
        value_name = "PREFIX"
    )]
    pub inbox_prefix: Option<String>,

    /// Prefix of every subject, stream and bucket of the installation
    #[arg(
        id = "namespace",
        long = "namespace",
        env = "BACKSTACK_NAMESPACE",
        default_value = "backstack",
        global = true,
        value_name = "NAME"
    )]
    pub namespace: Namespace,

    /// The connection's name, as the server lists it; no flag.
    #[arg(skip = "backstack".to_owned())]
    pub name: String,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            url: "nats://127.0.0.1:4222".to_owned(),
            creds: None,
            tls_ca: None,
            tls_cert: None,
            tls_key: None,
            tls_required: false,
            inbox_prefix: None,
            namespace: Namespace::default(),
            name: "backstack".to_owned(),
        }
    }
}

impl ConnectOptions {
    /// The same with the address of a server that is known to be there.
    pub fn to(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            ..Self::default()
        }
    }

    /// The addresses, as a person may read them: without users, passwords and tokens.
    ///
    /// # Errors
    /// [`ConnectError::BadAddress`]
    pub fn shown_addresses(&self) -> Result<String, ConnectError> {
        Ok(shown(&addresses(&self.url)?))
    }

    /// The names of the installation.
    pub fn topology(&self) -> Topology {
        Topology::new(self.namespace.clone())
    }
}
