//! The demo's bare remote, and what its people do to it.
//!
//! Everything here is git's own doing: people's commits come in as a push would bring them, and what
//! the demo claims of branches is asked of git. A push by the service can be held, as a slow check on
//! a real remote holds it.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use backstack_engine::Control;
use backstack_engine::git::{Git, GitCommand};

use super::sample::{Edit, Person, Work};

/// The first commit's date; each further one is a while later. All are in the past, so that rebased
/// commits, which have today's committer date, come after them.
const FIRST_COMMIT: i64 = 1_714_986_000;
const BETWEEN_COMMITS: i64 = 5 * 3_600 + 40 * 60;

/// No git command here takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs before the remote takes a push: takes a long look at it while there is a file `hold`, and
/// then takes it, unless there is a file `refuse`.
const PRE_RECEIVE: &str = "#!/bin/sh
[ -e hold ] || exit 0
: >held
while [ -e hold ]; do sleep 0.02; done
[ ! -e refuse ]; taken=$?
rm -f held
exit $taken
";

/// Branches and the commits they are at.
pub(super) type Heads = BTreeMap<String, String>;

/// A bare repository.
#[derive(Debug)]
pub(super) struct Remote {
    git: Git,
    path: PathBuf,
    next_date: Cell<i64>,
}

impl Remote {
    /// An empty one at `path`.
    pub(super) fn create(git: Git, path: PathBuf, trunk: &str) -> Result<Self> {
        let remote = Self {
            git,
            path,
            next_date: Cell::new(FIRST_COMMIT),
        };
        let head = format!("--initial-branch={trunk}");
        remote.run(&["init", "--quiet", "--bare", "--template=", &head])?;
        // So that it can be told how often each branch was moved.
        remote.run(&["config", "core.logAllRefUpdates", "always"])?;
        // What is pushed is checked as strictly as a hosting service would.
        remote.run(&["config", "receive.fsckObjects", "true"])?;
        remote.run(&["config", "gc.auto", "0"])?;
        remote.install_hook()?;
        Ok(remote)
    }

    fn install_hook(&self) -> Result<()> {
        let hooks = self.path.join("hooks");
        fs::create_dir_all(&hooks)?;
        let hook = hooks.join("pre-receive");
        fs::write(&hook, PRE_RECEIVE)?;
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o755))?;
        Ok(())
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The git that everything here is done with.
    pub(super) fn git_program(&self) -> &Path {
        self.git.program()
    }

    /// Puts a commit on the head of `onto` and makes `branch` that commit, from wherever it was.
    pub(super) fn commit(&self, branch: &str, onto: Option<&str>, work: &Work) -> Result<()> {
        let Person { name, email } = work.author;
        let date = self.next_date.get();
        self.next_date.set(date + BETWEEN_COMMITS);
        let who = format!("{name} <{email}> {date} +0200");
        let mut stream = Vec::new();
        if let Some(onto) = onto {
            let onto = self.run(&["rev-parse", "--verify", &head_of(onto)])?;
            stream.extend(format!("reset refs/heads/{branch}\nfrom {onto}\n\n").bytes());
        }
        stream
            .extend(format!("commit refs/heads/{branch}\nauthor {who}\ncommitter {who}\n").bytes());
        stream.extend(data(work.subject));
        for edit in work.edits {
            stream.extend(self.change(onto, edit)?);
        }
        let import = self.command(&["fast-import", "--quiet", "--force", "--done"]);
        stream.extend(b"done\n");
        finish(import.input(stream))?;
        Ok(())
    }

    /// The edit as git's import language has it.
    fn change(&self, onto: Option<&str>, edit: &Edit) -> Result<Vec<u8>> {
        let (path, content) = match *edit {
            Edit::Remove(path) => return Ok(format!("D {path}\n").into_bytes()),
            Edit::Append(path, text) => {
                (path, self.content(onto, path)?.unwrap_or_default() + text)
            }
            Edit::Replace(path, from, to) => {
                let content = self.content(onto, path)?.unwrap_or_default();
                if !content.contains(from) {
                    bail!("{path} does not say {from:?}");
                }
                (path, content.replacen(from, to, 1))
            }
        };
        let mut change = format!("M 100644 inline {path}\n").into_bytes();
        change.extend(data(&content));
        Ok(change)
    }

    /// A file's content at a branch's head; `None` where there is none.
    fn content(&self, branch: Option<&str>, path: &str) -> Result<Option<String>> {
        let Some(branch) = branch else {
            return Ok(None);
        };
        let blob = format!("{}:{path}", head_of(branch));
        let output = self.command(&["cat-file", "blob", &blob]).run(&control())?;
        Ok(output
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).into_owned()))
    }

    /// Merges `branch` into `into` as one new commit, the way a hosting service squashes.
    pub(super) fn squash_merge(
        &self,
        branch: &str,
        into: &str,
        who: Person,
        subject: &str,
    ) -> Result<()> {
        let (ours, theirs) = (head_of(into), head_of(branch));
        let tree = self.run(&["merge-tree", "--write-tree", &ours, &theirs])?;
        let date = format!("{} +0200", self.next_date.get());
        self.next_date.set(self.next_date.get() + BETWEEN_COMMITS);
        let commit = self
            .command(&["commit-tree", &tree, "-p", &ours, "-m", subject])
            .env("GIT_AUTHOR_NAME", who.name)
            .env("GIT_AUTHOR_EMAIL", who.email)
            .env("GIT_AUTHOR_DATE", &date)
            .env("GIT_COMMITTER_NAME", who.name)
            .env("GIT_COMMITTER_EMAIL", who.email)
            .env("GIT_COMMITTER_DATE", &date);
        let commit = finish(commit)?;
        self.run(&["update-ref", &ours, &commit])?;
        Ok(())
    }

    /// All branches.
    pub(super) fn heads(&self) -> Result<Heads> {
        let format = "--format=%(refname:lstrip=2) %(objectname)";
        let listed = self.run(&["for-each-ref", format, "refs/heads"])?;
        let heads = listed.lines().filter_map(|line| line.split_once(' '));
        Ok(heads
            .map(|(branch, id)| (branch.to_owned(), id.to_owned()))
            .collect())
    }

    /// The subjects of the commits that `branch` has and `parent` has not, oldest first.
    pub(super) fn own_subjects(&self, parent: &str, branch: &str) -> Result<Vec<String>> {
        let range = format!("{}..{}", head_of(parent), head_of(branch));
        let log = self.run(&["log", "--reverse", "--topo-order", "--format=%s", &range])?;
        Ok(log.lines().map(str::to_owned).collect())
    }

    /// Whether the head of `parent` is in `branch`.
    pub(super) fn stands_on(&self, branch: &str, parent: &str) -> Result<bool> {
        let arguments = [
            "merge-base",
            "--is-ancestor",
            &head_of(parent),
            &head_of(branch),
        ];
        let output = self.command(&arguments).run(&control())?;
        match output.code() {
            Some(0) => Ok(true),
            Some(1) => Ok(false),
            _ => bail!("git merge-base: {}", output.stderr.trim()),
        }
    }

    /// How many commits a branch has in all.
    pub(super) fn count(&self, branch: &str) -> Result<u64> {
        Ok(self
            .run(&["rev-list", "--count", &head_of(branch)])?
            .parse()?)
    }

    /// How often a branch was moved, ever.
    pub(super) fn times_moved(&self, branch: &str) -> Result<usize> {
        let log = self.run(&["log", "--walk-reflogs", "--format=%H", &head_of(branch)])?;
        Ok(log.lines().count())
    }

    /// From now on a push has to wait.
    pub(super) fn hold_pushes(&self) -> Result<()> {
        Ok(fs::write(self.path.join("hold"), "")?)
    }

    /// Whether a push is waiting.
    pub(super) fn holds_a_push(&self) -> bool {
        self.path.join("held").exists()
    }

    /// The push that waits will not be taken; later ones will, and at once.
    pub(super) fn give_up_the_push(&self) -> Result<()> {
        fs::write(self.path.join("refuse"), "")?;
        Ok(fs::remove_file(self.path.join("hold"))?)
    }

    /// Forgets that a push was given up.
    pub(super) fn take_pushes_again(&self) -> Result<()> {
        Ok(fs::remove_file(self.path.join("refuse"))?)
    }

    fn run(&self, arguments: &[&str]) -> Result<String> {
        finish(self.command(arguments))
    }

    fn command(&self, arguments: &[&str]) -> GitCommand {
        self.git.command(&self.path).args(arguments)
    }
}

fn finish(command: GitCommand) -> Result<String> {
    let output = command.run(&control())?;
    let output = output.checked().context("the demo's remote")?;
    Ok(String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned())
}

fn control() -> Control {
    Control::within(PATIENCE)
}

fn head_of(branch: &str) -> String {
    format!("refs/heads/{branch}")
}

/// Bytes as git's import language has them, by their number.
fn data(text: &str) -> Vec<u8> {
    format!("data {}\n{text}\n", text.len()).into_bytes()
}
