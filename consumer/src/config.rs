//! What the operator may choose for `backstackd run`. Every flag is an environment variable too.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use backstack_producer::connect::ConnectOptions;
use backstack_schemas::RemoteUrl;
use backstack_schemas::job::DEFAULT_MAX_ATTEMPTS;
use backstack_schemas::remote::Protocol;
use backstack_schemas::topology::DEFAULT_ACK_WAIT;
use clap::Args;

/// How the service runs.
#[derive(Args, Clone, Debug)]
pub struct Config {
    /// Where NATS is.
    #[command(flatten)]
    pub connect: ConnectOptions,

    /// Copies of each stream and bucket, 1 or 3; counts when they are made, never after
    #[arg(long, env = "BACKSTACK_REPLICAS", default_value_t = 1, value_parser = replicas)]
    pub replicas: u8,

    /// Where the mirrors are; this process has it alone
    #[arg(
        long,
        env = "BACKSTACK_STATE_DIR",
        value_name = "DIR",
        default_value = "backstack-state"
    )]
    pub state_dir: PathBuf,

    /// Jobs that run at once
    #[arg(long, env = "BACKSTACK_CONCURRENCY", default_value_t = default_concurrency(), value_parser = at_least_one)]
    pub concurrency: u32,

    /// Attempts that a job has
    #[arg(long, env = "BACKSTACK_MAX_ATTEMPTS", default_value_t = 5, value_parser = at_least_one)]
    pub max_attempts: u32,

    /// How long a worker may be silent before its messages are delivered again
    #[arg(long, env = "BACKSTACK_ACK_WAIT", default_value = "30s", value_parser = duration)]
    pub ack_wait: Duration,

    /// How long one attempt may take
    #[arg(long, env = "BACKSTACK_ACTION_TIMEOUT", default_value = "15m", value_parser = duration)]
    pub action_timeout: Duration,

    /// How long running jobs may go on after the first SIGTERM or SIGINT
    #[arg(long, env = "BACKSTACK_DRAIN_TIMEOUT", default_value = "30s", value_parser = duration)]
    pub drain_timeout: Duration,

    /// Who commits what is replayed
    #[arg(
        long,
        env = "BACKSTACK_COMMITTER",
        value_name = "NAME <EMAIL>",
        default_value = "Backstack <backstack@localhost>"
    )]
    pub committer: Identity,

    /// Protocols that remotes may use
    #[arg(
        long,
        env = "BACKSTACK_ALLOW_PROTOCOL",
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "https,ssh"
    )]
    pub allow_protocol: Vec<Protocol>,

    /// Hosts that remotes may be on; all, unless given
    #[arg(
        long,
        env = "BACKSTACK_ALLOW_HOST",
        value_name = "LIST",
        value_delimiter = ',',
        value_parser = host
    )]
    pub allow_host: Option<Vec<String>>,

    /// The git command; the one on PATH, unless given
    #[arg(long, env = "BACKSTACK_GIT", value_name = "FILE")]
    pub git: Option<PathBuf>,

    /// A git configuration for what talks to remotes: credential helpers, proxies
    #[arg(long, env = "BACKSTACK_GIT_CONFIG", value_name = "FILE")]
    pub git_config: Option<PathBuf>,

    /// User and password for each HTTP host: lines like https://user:password@host, as
    /// git-credential-store has them; nobody else may read the file
    #[arg(long, env = "BACKSTACK_CREDENTIALS", value_name = "FILE")]
    pub credentials: Option<PathBuf>,

    /// Bytes that mirrors may take in all (as 500M, 20G); the least recently used go first
    #[arg(long, env = "BACKSTACK_MIRROR_BUDGET", value_name = "SIZE", value_parser = size)]
    pub mirror_budget: Option<u64>,

    /// Where to answer /healthz, /readyz and /metrics, as 127.0.0.1:8790; nowhere, unless given
    #[arg(long, env = "BACKSTACK_LISTEN", value_name = "ADDRESS", value_parser = listen_address)]
    pub listen: Option<SocketAddr>,
}

impl Config {
    /// The settings that `backstackd run` has when nothing else is said, in the environment neither.
    pub fn new(connect: ConnectOptions, state_dir: PathBuf) -> Self {
        Self {
            connect,
            replicas: 1,
            state_dir,
            concurrency: default_concurrency(),
            max_attempts: DEFAULT_MAX_ATTEMPTS,
            ack_wait: DEFAULT_ACK_WAIT,
            action_timeout: Duration::from_secs(15 * 60),
            drain_timeout: Duration::from_secs(30),
            committer: Identity {
                name: "Backstack".to_owned(),
                email: "backstack@localhost".to_owned(),
            },
            allow_protocol: vec![Protocol::Https, Protocol::Ssh],
            allow_host: None,
            git: None,
            git_config: None,
            credentials: None,
            mirror_budget: None,
            listen: None,
        }
    }
}

/// A name and an address, as git writes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The name.
    pub name: String,
    /// The address.
    pub email: String,
}

impl std::str::FromStr for Identity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad =
            || format!("{text:?} is no committer; write it like 'Jane Doe <jane@example.com>'");
        let (name, email) = text
            .strip_suffix('>')
            .and_then(|t| t.split_once('<'))
            .ok_or_else(bad)?;
        let (name, email) = (name.trim(), email.trim());
        let unsafe_text = |part: &str| {
            part.is_empty() || part.contains(|c: char| c.is_control() || c == '<' || c == '>')
        };
        if unsafe_text(name) || unsafe_text(email) {
            return Err(bad());
        }
        Ok(Self {
            name: name.to_owned(),
            email: email.to_owned(),
        })
    }
}

/// A host as remotes have it: a name or an address, without port.
fn host(text: &str) -> Result<String, String> {
    // Read as a remote's would be, so that what passes here can be met by one.
    let bracketed = text.parse::<std::net::Ipv6Addr>().is_ok();
    let url = if bracketed {
        format!("https://[{text}]/")
    } else {
        format!("https://{text}/")
    };
    let host = url.parse::<RemoteUrl>().ok();
    let host = host.and_then(|url| Some(url.host()?.to_owned()));
    host.filter(|host| text.eq_ignore_ascii_case(host))
        .ok_or_else(|| {
            format!("{text:?} is no host; write its name or address alone, as in git.example")
        })
}

fn default_concurrency() -> u32 {
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    u32::try_from(cores * 2).unwrap_or(u32::MAX)
}

fn replicas(text: &str) -> Result<u8, String> {
    match text {
        "1" => Ok(1),
        "3" => Ok(3),
        _ => Err("must be 1 or 3".to_owned()),
    }
}

fn at_least_one(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("must be a whole number, at least 1".to_owned()),
        Ok(number) => Ok(number),
    }
}

/// A span of time: a number with `ms`, `s`, `m` or `h`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("{text:?} is no span of time; write it like 500ms, 30s, 15m or 1h");
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| bad())?;
    let millis = match unit {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let millis = millis
        .and_then(|unit: u64| unit.checked_mul(number))
        .ok_or_else(bad)?;
    if millis == 0 {
        Err(bad())
    } else {
        Ok(Duration::from_millis(millis))
    }
}

/// An address of this machine and a port. Names are not looked up: what they mean may change.
pub fn listen_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!("{text:?} is no address to listen on; write it like 127.0.0.1:8790 or [::1]:8790")
    })
}

/// A number of bytes, with `K`, `M`, `G` or `T` for powers of 1,024.
fn size(text: &str) -> Result<u64, String> {
    let bad = || format!("{text:?} is no size; write it like 500M or 20G");
    let (number, unit) = match text.char_indices().last() {
        Some((end, last)) if last.is_ascii_alphabetic() => (&text[..end], Some(last)),
        _ => (text, None),
    };
    let power = match unit.map(|unit| unit.to_ascii_uppercase()) {
        None => 0,
        Some('K') => 1,
        Some('M') => 2,
        Some('G') => 3,
        Some('T') => 4,
        Some(_) => return Err(bad()),
    };
    let number: u64 = number.parse().map_err(|_| bad())?;
    number.checked_mul(1_024_u64.pow(power)).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_spans_and_sizes_and_refuses_what_is_none() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("15m"), Ok(Duration::from_secs(900)));
        for bad in ["", "5", "s", "0s", "-1s", "1d", "99999999999999999999h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert_eq!(size("20G"), Ok(20 << 30));
        assert_eq!(size("7"), Ok(7));
        for bad in ["", "G", "1X", "é", "99999999T"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_allowed_host_is_one_that_a_remote_can_have() {
        for good in [
            "git.example",
            "Git.Example",
            "127.0.0.1",
            "::1",
            "2001:db8::1",
        ] {
            assert_eq!(host(good), Ok(good.to_ascii_lowercase()));
        }
        for bad in [
            "",
            "git.example:8443",
            "https://git.example",
            "git.example/team",
            "git@git.example",
            "*.git.example",
            "[::1]",
            "gіt.example",
        ] {
            assert!(host(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn settings_made_by_hand_are_those_of_the_command_line() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            config: Config,
        }
        let read = <Line as clap::Parser>::parse_from(["backstackd"]).config;
        let made = Config::new(read.connect.clone(), read.state_dir.clone());
        assert_eq!(format!("{made:?}"), format!("{read:?}"));
    }

    #[test]
    fn a_committer_has_a_name_and_an_address() {
        let read: Identity = "Jane Doe <jane@example.com>".parse().unwrap();
        assert_eq!(
            (read.name.as_str(), read.email.as_str()),
            ("Jane Doe", "jane@example.com")
        );
        for bad in ["", "Jane", "<a@b>", "Jane <>", "Ja\nne <a@b>", "a <b> <c>"] {
            assert!(bad.parse::<Identity>().is_err(), "{bad}");
        }
    }
}
