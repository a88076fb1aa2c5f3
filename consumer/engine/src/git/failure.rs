//! What a failed git command means, by what it said. Pure.
//!
//! The words are git's, ssh's and curl's own in the C locale; they are compared with a table, and
//! what the table does not know is [`FailureKind::Unknown`], which is retried. Lines that begin
//! with `remote:` are the remote's and decide nothing here.

use std::process::ExitStatus;

use crate::error::{EngineError, FULL};

/// What kind of failure it is; each is one decision of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The remote did not take the credentials, or there were none.
    Auth,
    /// The network failed, or there is no repository.
    Unreachable,
    /// The remote cannot take the push at all.
    Rejected,
    /// The remote may not or cannot be used.
    NotAllowed,
    /// Objects or refs of the mirror are damaged.
    MirrorBroken,
    /// The disk of the state directory is full.
    DiskFull,
    /// The remote does not have an object that was asked for by id.
    NoSuchObject,
    /// None of the above.
    Unknown,
}

/// Why a git command failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What to do about it.
    pub kind: FailureKind,
    /// What git said, scrubbed and cut to what a sentence can hold.
    pub said: String,
}

impl Failure {
    /// The failure of a command that ended with `status` and said `stderr`.
    pub fn of(stderr: &str, status: ExitStatus) -> Self {
        let said = last_words(stderr);
        Self {
            kind: kind_of(stderr),
            said: if said.is_empty() {
                format!("git said nothing and ended with {status}")
            } else {
                said
            },
        }
    }
}

impl From<Failure> for EngineError {
    fn from(Failure { kind, said }: Failure) -> Self {
        match kind {
            FailureKind::Auth => Self::RemoteAuthFailed(with_advice(said)),
            FailureKind::Unreachable => Self::RemoteUnreachable(said),
            FailureKind::Rejected => Self::RemoteRejected(said),
            FailureKind::NotAllowed => Self::RemoteNotAllowed(with_advice(said)),
            FailureKind::DiskFull => Self::disk_full(&said),
            FailureKind::MirrorBroken => Self::Internal(format!("the mirror is damaged: {said}")),
            FailureKind::NoSuchObject | FailureKind::Unknown => {
                Self::Internal(format!("git failed: {said}"))
            }
        }
    }
}

/// Words and what they mean; the first row that matches decides. Auth comes before Unreachable,
/// since ssh's own complaint is followed by git's general one.
const TABLE: &[(FailureKind, &[&str])] = &[
    (FailureKind::DiskFull, FULL),
    (
        FailureKind::NotAllowed,
        &[
            "' not allowed",
            // A host or path that begins with '-'.
            "fatal: strange ",
            "detected dubious ownership",
            "mismatched algorithms",
            // A redirect, which is not followed where hosts are restricted.
            "The requested URL returned error: 30",
        ],
    ),
    (
        FailureKind::Auth,
        &[
            "Authentication failed",
            "could not read Username",
            "could not read Password",
            "terminal prompts disabled",
            "Permission denied (",
            "Permission to ",
            "Host key verification failed",
            "Too many authentication failures",
            "The requested URL returned error: 401",
            "The requested URL returned error: 403",
            "Invalid username or password",
            "Access denied",
        ],
    ),
    (
        FailureKind::Rejected,
        &[
            "does not support --atomic",
            "dumb http transport does not support",
            // A reference-transaction hook; receive-pack ends without an answer.
            "ref updates aborted by hook",
        ],
    ),
    (
        FailureKind::NoSuchObject,
        &["not our ref", "request for unadvertised object"],
    ),
    (
        FailureKind::Unreachable,
        &[
            "Could not resolve host",
            "Could not resolve hostname",
            "unable to look up",
            "Connection refused",
            "Connection timed out",
            "Connection reset",
            "Connection closed",
            "Network is unreachable",
            "No route to host",
            "Operation timed out",
            "Failed to connect",
            "unable to connect",
            "unable to access",
            "does not appear to be a git repository",
            "Could not read from remote repository",
            "repository not exported",
            "The remote end hung up",
            "the remote end hung up",
            "early EOF",
            "RPC failed",
            "Empty reply from server",
            "unexpected disconnect",
            "bad line length",
            "protocol error",
            "expected flush after",
            "SSL certificate problem",
            "server certificate verification failed",
        ],
    ),
    (
        FailureKind::MirrorBroken,
        &[
            "bad object",
            "bad tree object",
            "is corrupt",
            "is empty",
            "object corrupt or missing",
            "did not send all necessary objects",
            "missing blob",
            "missing tree",
            "missing commit",
            "unable to read tree",
            "unable to read sha1 file",
            "unable to read ",
            "unable to parse object",
            "unable to parse commit",
            "unable to unpack",
            "not a valid object",
            "unable to resolve reference",
            "unexpected line in",
            "unterminated line in",
            "not a git repository",
            "broken packed",
            "packfile",
            "cannot lock ref",
            ".lock': File exists",
        ],
    ),
    // Only where nothing above applied: `repository '<url>' not found`.
    (
        FailureKind::Unreachable,
        &["not found", "does not exist", "No such file or directory"],
    ),
];

/// What can be done about a remote that is not allowed or wants credentials, where git does not say
/// so itself.
fn with_advice(said: String) -> String {
    let advice = if said.contains("dubious ownership") {
        "it belongs to another user of this machine; the operator can trust it with \
         safe.directory in the git configuration that backstackd is given"
    } else if said.contains("mismatched algorithms") {
        "repositories with SHA-256 ids are not supported"
    } else if said.contains("returned error: 30") {
        "the server redirects, which is not followed where --allow-host restricts hosts, or where \
         --git-config has an http.extraHeader; use the URL it redirects to"
    } else if said.contains("could not read Username") || said.contains("could not read Password") {
        "the service has no password for this host; the operator can give it one with --credentials"
    } else {
        return said;
    };
    format!("{said} ({advice})")
}

/// The kind of the failure in what git said.
fn kind_of(stderr: &str) -> FailureKind {
    let own: Vec<&str> = stderr
        .split(['\n', '\r'])
        .filter(|line| !line.starts_with("remote:"))
        .collect();
    TABLE
        .iter()
        .find(|(_, words)| {
            own.iter()
                .any(|line| words.iter().any(|word| line.contains(word)))
        })
        .map_or(FailureKind::Unknown, |(kind, _)| *kind)
}

/// The lines that say why, without progress and advice, at most 500 characters of them.
pub(crate) fn last_words(stderr: &str) -> String {
    let mut lines: Vec<&str> = stderr
        .split(['\n', '\r'])
        .map(str::trim)
        .filter(|line| !line.is_empty() && !is_noise(line))
        .collect();
    let telling = |line: &&str| {
        ["fatal: ", "error: ", "remote: ", "ssh: "]
            .iter()
            .any(|start| line.starts_with(start))
            || line.contains("ermission denied")
            || line.contains("verification failed")
            // Git says after the line that says it cannot connect why it could not.
            || line.contains(": errno=")
    };
    if lines.iter().any(telling) {
        lines.retain(|line| telling(line));
    }
    let kept = lines.len().saturating_sub(6);
    let text = lines[kept..].join("; ");
    match text.char_indices().nth(500) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Progress and advice, which explain nothing.
fn is_noise(line: &str) -> bool {
    let line = line.strip_prefix("remote: ").unwrap_or(line);
    line == "remote:"
        || line.starts_with("hint:")
        || line.starts_with("warning: ")
        || line.starts_with("Please make sure you have the correct access rights")
        || line.starts_with("and the repository exists.")
        || line.contains("% (")
        || ["Enumerating ", "Counting ", "Compressing ", "Total "]
            .iter()
            .any(|start| line.starts_with(start))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn understands_what_git_ssh_and_curl_say() {
        use FailureKind::{
            Auth, DiskFull, MirrorBroken, NoSuchObject, NotAllowed, Rejected, Unknown, Unreachable,
        };
        for (kind, said) in [
            (
                Unreachable,
                "fatal: '/x' does not appear to be a git repository\nfatal: Could not read from remote repository.\n\nPlease make sure you have the correct access rights\nand the repository exists.\n",
            ),
            (
                Unreachable,
                "fatal: unable to access 'https://h/a/': Could not resolve host: h",
            ),
            (
                Unreachable,
                "fatal: unable to access 'http://127.0.0.1:1/a/': Failed to connect to 127.0.0.1 port 1 after 0 ms: Couldn't connect to server",
            ),
            (
                Unreachable,
                "ssh: connect to host h port 22: Connection refused\nfatal: Could not read from remote repository.",
            ),
            (
                Unreachable,
                "fatal: unable to connect to 127.0.0.1:\n127.0.0.1[0: 127.0.0.1]: errno=Connection refused\n",
            ),
            (
                Unreachable,
                "remote: Repository not found.\nfatal: repository 'https://h/a/' not found",
            ),
            (
                Unreachable,
                "fatal: the remote end hung up unexpectedly\nfatal: early EOF\nfatal: fetch-pack: invalid index-pack output",
            ),
            (
                Auth,
                "git@h: Permission denied (publickey).\nfatal: Could not read from remote repository.",
            ),
            (
                Auth,
                "Host key verification failed.\nfatal: Could not read from remote repository.",
            ),
            (
                Auth,
                "fatal: could not read Username for 'https://h': terminal prompts disabled",
            ),
            (
                Auth,
                "remote: Invalid username or password.\nfatal: Authentication failed for 'https://h/a/'",
            ),
            (
                Auth,
                "fatal: unable to access 'https://h/a/': The requested URL returned error: 403",
            ),
            (
                Auth,
                "ERROR: Permission to a/b denied to c.\nfatal: Could not read from remote repository.",
            ),
            (NotAllowed, "fatal: transport 'ext' not allowed"),
            (NotAllowed, "fatal: strange pathname '-u' blocked"),
            (
                NotAllowed,
                "fatal: detected dubious ownership in repository at '/srv/a.git'\nfatal: Could not read from remote repository.",
            ),
            (
                NotAllowed,
                "fatal: unable to access 'http://h/a/': The requested URL returned error: 302",
            ),
            (
                Unreachable,
                "fatal: remote error: access denied or repository not exported: /a",
            ),
            (
                Unreachable,
                "fatal: unable to access 'http://h/a/': The requested URL returned error: 503",
            ),
            (
                NotAllowed,
                "fatal: mismatched algorithms: client sha1; server sha256",
            ),
            (
                Rejected,
                "fatal: the receiving end does not support --atomic push",
            ),
            (
                NoSuchObject,
                "fatal: remote error: upload-pack: not our ref 1234",
            ),
            (
                MirrorBroken,
                "error: object file ./objects/ab/cd is empty\nfatal: bad object refs/heads/x",
            ),
            (
                MirrorBroken,
                "fatal: bad object HEAD\nerror: /srv/a.git did not send all necessary objects",
            ),
            (
                MirrorBroken,
                "error: cannot lock ref 'refs/heads/x': Unable to create 'x.lock': File exists.",
            ),
            (
                DiskFull,
                "error: unable to write file objects/ab/cd: No space left on device",
            ),
            (
                Unknown,
                "remote: fatal: No space left on device\nfatal: something else",
            ),
            (Unknown, ""),
        ] {
            assert_eq!(kind_of(said), kind, "{said}");
        }
    }

    #[test]
    fn keeps_what_explains_and_drops_progress_and_advice() {
        let said = "remote: Counting objects: 100% (3/3)        \rremote: no pushes on Fridays        \n\
                    To /srv/a.git\nerror: failed to push some refs to '/srv/a.git'\nhint: see git push --help\n";
        assert_eq!(
            last_words(said),
            "remote: no pushes on Fridays; error: failed to push some refs to '/srv/a.git'"
        );
        assert_eq!(last_words("odd\nwords"), "odd; words");
        let refused = "fatal: unable to connect to h:\nh[0: 10.0.0.1]: errno=Connection refused\n";
        assert_eq!(
            last_words(refused),
            "fatal: unable to connect to h:; h[0: 10.0.0.1]: errno=Connection refused"
        );
    }

    #[test]
    fn silence_is_reported_with_the_exit_status() {
        let failure = Failure::of(" \n", ExitStatus::from_raw(9));
        assert_eq!(failure.kind, FailureKind::Unknown);
        assert!(failure.said.contains("signal"), "{}", failure.said);
    }

    proptest! {
        #[test]
        fn what_the_remote_says_decides_nothing(
            own in "[a-z :]{0,40}", said in proptest::collection::vec("[^\n\r]{0,60}", 0..4), at in 0usize..200,
        ) {
            let (_, words) = TABLE[at % TABLE.len()];
            let own = format!("fatal: {own}\n");
            let mut stderr = own.clone();
            for line in said.iter().map(String::as_str).chain(words.iter().copied()) {
                stderr.push_str(&format!("remote: {line}\n"));
            }
            prop_assert_eq!(kind_of(&stderr), kind_of(&own));
        }

        #[test]
        fn never_panics_and_stays_short(stderr in "(?s).{0,2000}", code in any::<i32>()) {
            let failure = Failure::of(&stderr, ExitStatus::from_raw(code));
            prop_assert!(failure.said.chars().count() <= 560);
            let _ = EngineError::from(failure).to_string();
        }
    }
}
