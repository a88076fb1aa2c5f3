//! `backstack permissions`

use backstack_schemas::RepoId;
use backstack_schemas::topology::{Permissions, User};
use clap::{Args, ValueEnum};
use serde_json::json;

use super::exit::Failure;
use super::output::Output;
use crate::connect::ConnectOptions;

#[derive(Args, Debug)]
pub(super) struct Show {
    /// Who: publishes alone; does all that this command does; only looks; is the service
    user: Kind,

    /// The one repository that actions may be published for; all, unless given
    #[arg(long, env = "BACKSTACK_REPO", value_name = "REPO")]
    repo: Option<RepoId>,
}

/// As [`User`], for the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    Publisher,
    Client,
    Watcher,
    Worker,
}

impl From<Kind> for User {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Publisher => Self::Publisher,
            Kind::Client => Self::Client,
            Kind::Watcher => Self::Watcher,
            Kind::Worker => Self::Worker,
        }
    }
}

impl Show {
    /// Replies come to the inbox prefix of the connection's flags, else to one named after the user.
    pub(super) fn run(self, options: &ConnectOptions, out: &Output) -> Result<(), Failure> {
        let user = User::from(self.user);
        let named = || format!("_INBOX_{}", user.as_str());
        let prefix = options.inbox_prefix.clone().unwrap_or_else(named);
        let topology = options.topology();
        let permissions = topology.permissions(user, self.repo.as_ref(), &prefix);
        if out.json {
            out.row(&json!({
                "publish": {"allow": permissions.publish},
                "subscribe": {"allow": permissions.subscribe},
            }))?;
        } else {
            out.text(&configuration(user, &prefix, &permissions))?;
        }
        Ok(())
    }
}

/// As it stands in a user's entry in the nats-server's configuration.
fn configuration(user: User, prefix: &str, permissions: &Permissions) -> String {
    let lines = |subjects: &[String]| -> String {
        let line = |subject: &String| format!("    \"{subject}\"\n");
        subjects.iter().map(line).collect()
    };
    format!(
        "# {}: connects with --inbox-prefix {prefix}\npermissions {{\n  publish {{ allow: [\n{}  ] }}\n  \
         subscribe {{ allow: [\n{}  ] }}\n}}",
        user.as_str(),
        lines(&permissions.publish),
        lines(&permissions.subscribe)
    )
}
