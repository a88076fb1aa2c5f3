//! What the remote has: one `git fetch` makes `refs/heads/*` of the mirror the remote's own.
//!
//! Git brings the objects, checks that they are complete, and says which refs would change; writing
//! the refs is left to this module, which does so in one file and one step. (That is what `--dry-run` does, for
//! as long as git has had it: all but the refs.) Tags are not fetched; heads whose names no row
//! could hold are left out of what is returned.

use std::collections::BTreeMap;
use std::ffi::OsStr;

use backstack_schemas::{BranchName, ObjectId, RemoteUrl};

use super::refs::{HEADS, Refs};
use super::store::io_error;
use super::{Mirror, heal};
use crate::control::Control;
use crate::error::EngineError;
use crate::git::{Failure, FailureKind, GitCommand, GitProcess};

/// Where commits that were asked for by id hang until they are pinned.
pub(super) const WANTED: &str = "refs/backstack/wanted/";

/// How many ids that the remote does not have may be found out one by one.
const MOST_REFUSALS: usize = 16;

/// Most branches that a remote may have: each is a row, and all are in memory for a moment.
const MOST_BRANCHES: usize = 100_000;

/// What a fetch saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Every branch of the remote, as it was when the fetch read it.
    pub heads: BTreeMap<BranchName, ObjectId>,
    /// Heads that are left out, since their names are not UTF-8, too long, or otherwise not such
    /// as a row may hold; for the log.
    pub ignored: Vec<String>,
}

impl Mirror {
    /// Fetches and prunes all branches. `progress` is told of objects received and their number.
    ///
    /// A mirror that turns out to be damaged is healed or made afresh, and fetched once more.
    /// Killed at any moment, it leaves either all of the former heads or all of the new ones.
    /// Heads that this replaces stay only if they are pinned; see [`set_pins`](Self::set_pins).
    ///
    /// # Errors
    ///
    /// What the control says; [`EngineError::RemoteUnreachable`], [`RemoteAuthFailed`] or
    /// [`RemoteNotAllowed`]; [`EngineError::Internal`] for the rest.
    ///
    /// [`RemoteAuthFailed`]: EngineError::RemoteAuthFailed
    /// [`RemoteNotAllowed`]: EngineError::RemoteNotAllowed
    pub fn fetch(
        &mut self,
        control: &Control,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Fetched, EngineError> {
        control.check()?;
        let process = fetching(self.wire()?, &self.url).begin()?;
        let (fetched, _) = self.finish_fetch(process, control, progress, |_| ())?;
        Ok(fetched)
    }

    /// Waits for a fetch that was begun and takes in what it brought. Git needs a while, so all that
    /// can be done without knowing what it brings is done first: the refs are read, and `meanwhile` is
    /// called. What that returned is of a mirror that is no more where the fetch had to heal it; then it
    /// is `None`.
    pub(super) fn finish_fetch<T>(
        &mut self,
        process: GitProcess,
        control: &Control,
        progress: &mut dyn FnMut(u64, u64),
        meanwhile: impl FnOnce(&Self) -> T,
    ) -> Result<(Fetched, Option<T>), EngineError> {
        let found = Some(meanwhile(self));
        // Git itself does not write them. Torn ones are for git to complain about.
        let read = self.refs().ok().map(|refs| (named(&refs), refs));
        let changes = match self.changes(process, control, progress)? {
            Ok(changes) => changes,
            Err(failure) if failure.kind == FailureKind::MirrorBroken => {
                tracing::warn!(url = self.url.without_user(), said = %failure.said, "healing the mirror");
                self.heal(control)?;
                let again = fetching(self.wire()?, &self.url).begin()?;
                let changes = self.changes(again, control, progress)?;
                let fetched = self.take_in(self.refs()?, changes.map_err(EngineError::from)?);
                return Ok((fetched?, None));
            }
            Err(failure) => {
                if matches!(failure.kind, FailureKind::DiskFull | FailureKind::Unknown) {
                    // What git could not finish would keep the disk full; where a process that it
                    // had started was killed, it did not get to remove that itself.
                    heal::tidy(&self.path);
                }
                return Err(failure.into());
            }
        };
        let fetched = match read {
            Some((fetched, _)) if changes.is_empty() => fetched,
            Some((_, refs)) => self.take_in(refs, changes)?,
            None => self.take_in(self.refs()?, changes)?,
        };
        Ok((fetched, found))
    }

    /// The branches as the last fetch, and the pushes since, left them. Runs no process.
    ///
    /// # Errors
    ///
    /// [`EngineError::Internal`] where the mirror cannot be read.
    pub fn heads(&self) -> Result<Fetched, EngineError> {
        Ok(named(&self.refs()?))
    }

    /// The branch that the remote's `HEAD` names; `None` where it names none, or one that is not
    /// there yet.
    ///
    /// # Errors
    ///
    /// As [`fetch`](Self::fetch).
    pub fn default_branch(&self, control: &Control) -> Result<Option<BranchName>, EngineError> {
        let output = self
            .wire()?
            .args(["ls-remote", "--symref", "--end-of-options"])
            .arg(self.url.as_str())
            .arg("HEAD")
            .run(control)?
            .checked()?;
        Ok(head_branch(&output.stdout))
    }

    /// Fetches commits by id that the mirror does not have, such as former heads that another
    /// worker's mirror recorded; those that the remote does not give are returned. They stay until
    /// [`set_pins`](Self::set_pins), which keeps those it names.
    ///
    /// # Errors
    ///
    /// As [`fetch`](Self::fetch).
    pub fn obtain(
        &self,
        ids: &[ObjectId],
        control: &Control,
    ) -> Result<Vec<ObjectId>, EngineError> {
        let mut missing: Vec<ObjectId> = Vec::new();
        let mut wanted: Vec<ObjectId> = ids.iter().copied().filter(|id| !self.has(*id)).collect();
        wanted.sort_unstable();
        wanted.dedup();
        for _ in 0..MOST_REFUSALS {
            if wanted.is_empty() {
                return Ok(missing);
            }
            let url = OsStr::new(self.url.as_str());
            let command = wanting(self.wire()?, wanted.iter().copied(), url);
            let output = self.noting_interruption(command.run(control))?;
            if output.success() {
                return Ok(missing);
            }
            let failure = output.failure();
            if failure.kind != FailureKind::NoSuchObject {
                return Err(failure.into());
            }
            let Some(refused) = named_id(&output.stderr, &wanted) else {
                break;
            };
            wanted.retain(|id| *id != refused);
            missing.push(refused);
        }
        missing.extend(wanted);
        Ok(missing)
    }

    /// What the refs are to be changed to, of one fetch. Its failure is for the caller to judge.
    fn changes(
        &self,
        process: GitProcess,
        control: &Control,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Result<Vec<Change>, Failure>, EngineError> {
        let finished = process.finish_watching(control, &mut |line| {
            if let Some((done, total)) = received(line) {
                progress(done, total);
            }
        });
        let output = self.noting_interruption(finished)?;
        if !output.success() {
            return Ok(Err(output.failure()));
        }
        parse_changes(&output.stdout).map(Ok).ok_or_else(|| {
            EngineError::Internal(format!(
                "git {} says in no known way what it fetched",
                self.git().version()
            ))
        })
    }

    /// Writes what the fetch changed.
    fn take_in(&self, mut refs: Refs, changes: Vec<Change>) -> Result<Fetched, EngineError> {
        if changes.is_empty() {
            return Ok(named(&refs));
        }
        for Change { name, to } in changes {
            match to {
                Some(id) if self.has(id) => refs.set(name, id),
                Some(id) => {
                    return Err(EngineError::Internal(format!(
                        "git {} said that it fetched {id} and did not bring it",
                        self.git().version()
                    )));
                }
                None => refs.remove(&name),
            }
        }
        let branches = refs.heads().count();
        if branches > MOST_BRANCHES {
            return Err(EngineError::RemoteNotAllowed(format!(
                "the remote has {branches} branches; no more than {MOST_BRANCHES} are fetched"
            )));
        }
        self.write_refs(&refs)?;
        Ok(named(&refs))
    }

    /// The mirror's refs.
    pub(super) fn refs(&self) -> Result<Refs, EngineError> {
        Refs::read(&self.path).map_err(|error| io_error("reading the refs of", &self.path, &error))
    }

    /// Replaces the mirror's refs.
    pub(super) fn write_refs(&self, refs: &Refs) -> Result<(), EngineError> {
        refs.write(&self.path)
            .map_err(|error| io_error("writing the refs of", &self.path, &error))
    }

    /// Puts the mirror right while it is in hand.
    fn heal(&mut self, control: &Control) -> Result<(), EngineError> {
        self.mark_damaged();
        let store = self.in_use.store().clone();
        heal::tidy(&self.path);
        if !heal::is_whole(&store, &self.path, control)? {
            heal::set_aside(&store, &self.path)?;
            heal::save_pins(&store, &self.path, &self.url, control)?;
        }
        heal::enter(&self.path, &self.url)?;
        self.repository = git2::Repository::open_bare(&self.path)?;
        self.suspicion.set(heal::Suspicion::None);
        Ok(())
    }
}

/// Fetches the commits by id, each under a ref of its own.
pub(super) fn wanting(
    command: GitCommand,
    ids: impl Iterator<Item = ObjectId>,
    url: &OsStr,
) -> GitCommand {
    quietly_fetching(command)
        .args(["--quiet", "--end-of-options"])
        .arg(url)
        .args(ids.map(|id| format!("{id}:{WANTED}{id}")))
}

/// The fetch of all branches, of objects alone: it prints what the refs are to be changed to.
pub(super) fn fetching(command: GitCommand, url: &RemoteUrl) -> GitCommand {
    quietly_fetching(command)
        .args(["--dry-run", "--porcelain", "--prune", "--progress"])
        .arg("--end-of-options")
        .arg(url.as_str())
        .arg("+refs/heads/*:refs/heads/*")
}

/// A fetch that does nothing on the side.
fn quietly_fetching(command: GitCommand) -> GitCommand {
    command.args([
        "fetch",
        "--no-tags",
        "--no-write-fetch-head",
        "--no-auto-maintenance",
        "--no-write-commit-graph",
        "--no-recurse-submodules",
        "--no-show-forced-updates",
    ])
}

/// A ref that a fetch found to be elsewhere, or gone.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Change {
    name: Vec<u8>,
    to: Option<ObjectId>,
}

/// The lines of `git fetch --porcelain`: `<flag> <old> <new> <ref>`; `None` where one is not such,
/// or is no branch's.
fn parse_changes(printed: &[u8]) -> Option<Vec<Change>> {
    printed
        .split(|b| *b == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| {
            let (flag, rest) = line.split_at_checked(2)?;
            let mut fields = rest.splitn(3, |b| *b == b' ');
            let (_, new, name) = (fields.next()?, fields.next()?, fields.next()?);
            let to = match flag {
                b"- " => None,
                b"* " | b"+ " | b"  " => Some(std::str::from_utf8(new).ok()?.parse().ok()?),
                _ => return None,
            };
            name.starts_with(HEADS).then(|| Change {
                name: name.to_vec(),
                to,
            })
        })
        .collect()
}

/// The heads that rows can hold, and the names of the others.
fn named(refs: &Refs) -> Fetched {
    let mut fetched = Fetched::default();
    for (name, id) in refs.heads() {
        match std::str::from_utf8(name).ok().and_then(|n| n.parse().ok()) {
            Some(branch) => {
                fetched.heads.insert(branch, id);
            }
            None => fetched
                .ignored
                .push(String::from_utf8_lossy(name).into_owned()),
        }
    }
    fetched
}

/// The counts in `Receiving objects:  45% (9/20), …`.
fn received(line: &str) -> Option<(u64, u64)> {
    let (_, counts) = line.strip_prefix("Receiving objects:")?.split_once('(')?;
    let (done, total) = counts.split_once(')')?.0.split_once('/')?;
    Some((done.parse().ok()?, total.parse().ok()?))
}

/// The branch in `ref: refs/heads/<branch>\tHEAD`.
fn head_branch(printed: &[u8]) -> Option<BranchName> {
    std::str::from_utf8(printed)
        .ok()?
        .lines()
        .find_map(|line| {
            line.strip_prefix("ref: refs/heads/")?
                .strip_suffix("\tHEAD")
        })?
        .parse()
        .ok()
}

/// The id that git names as the one it cannot have.
fn named_id(stderr: &str, wanted: &[ObjectId]) -> Option<ObjectId> {
    stderr
        .split(|c: char| !c.is_ascii_hexdigit())
        .filter_map(|word| word.parse().ok())
        .find(|id| wanted.contains(id))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_progress() {
        for (line, counts) in [
            (
                "Receiving objects:  45% (9/20), 1.2 MiB | 3 MiB/s",
                Some((9, 20)),
            ),
            (
                "Receiving objects: 100% (20/20), 4 KiB, done.",
                Some((20, 20)),
            ),
            ("remote: Counting objects: 45% (9/20)", None),
            ("Receiving objects: ", None),
        ] {
            assert_eq!(received(line), counts, "{line}");
        }
    }

    #[test]
    fn reads_where_head_points() {
        let printed = b"ref: refs/heads/feature/a\tHEAD\n0123\tHEAD\n";
        assert_eq!(head_branch(printed).unwrap().as_str(), "feature/a");
        assert_eq!(head_branch(b"0123\tHEAD\n"), None);
        assert_eq!(
            head_branch(b"ref: refs/heads/a\trefs/remotes/x/HEAD\n"),
            None
        );
    }

    #[test]
    fn reads_what_changed() {
        let (old, new, none) = ("1".repeat(40), "2".repeat(40), "0".repeat(40));
        let printed = format!(
            "- {old} {none} refs/heads/gone\n* {none} {new} refs/heads/a/b\n\
             + {old} {new} refs/heads/forced\n  {old} {new} refs/heads/forward\n"
        );
        let change = |name: &str, to: Option<&String>| Change {
            name: format!("refs/heads/{name}").into_bytes(),
            to: to.map(|id| id.parse().unwrap()),
        };
        assert_eq!(
            parse_changes(printed.as_bytes()).unwrap(),
            [
                change("gone", None),
                change("a/b", Some(&new)),
                change("forced", Some(&new)),
                change("forward", Some(&new)),
            ]
        );
        assert_eq!(parse_changes(b""), Some(Vec::new()));
        for odd in [
            format!("! {old} {new} refs/heads/a\n"),
            format!("* {old} {new} refs/tags/a\n"),
            "* x y refs/heads/a\n".to_owned(),
            "From /srv/a\n".to_owned(),
        ] {
            assert_eq!(parse_changes(odd.as_bytes()), None, "{odd}");
        }
    }

    proptest! {
        #[test]
        fn every_change_is_read_as_git_prints_it(
            changes in proptest::collection::vec(
                ("[-*+ ]", any::<[u8; 20]>(), any::<[u8; 20]>(), proptest::collection::vec(b'!'.., 1..9)),
                0..6,
            ),
        ) {
            let mut printed = Vec::new();
            let mut want = Vec::new();
            for (flag, old, new, name) in changes {
                let (old, new) = (ObjectId::from_bytes(old), ObjectId::from_bytes(new));
                let name = [HEADS, &name].concat();
                let gone = flag == "-";
                let shown = if gone { ObjectId::from_bytes([0; 20]) } else { new };
                printed.extend_from_slice(format!("{flag} {old} {shown} ").as_bytes());
                printed.extend_from_slice(&name);
                printed.push(b'\n');
                want.push(Change { name, to: (!gone).then_some(new) });
            }
            prop_assert_eq!(parse_changes(&printed), Some(want));
        }

        #[test]
        fn counts_and_the_default_branch_are_read_back(done: u64, total: u64, name in "[a-z]{1,6}(/[a-z]{1,6})?") {
            let line = format!("Receiving objects:  45% ({done}/{total}), 1 KiB");
            prop_assert_eq!(received(&line), Some((done, total)));
            let printed = format!("ref: refs/heads/{name}\tHEAD\n{}\tHEAD\n", "0".repeat(40));
            let branch = head_branch(printed.as_bytes()).unwrap();
            prop_assert_eq!(branch.as_str(), &name);
        }

        #[test]
        fn parsing_never_panics(line in ".*", bytes in any::<Vec<u8>>()) {
            received(&line);
            received(&format!("Receiving objects:{line}"));
            head_branch(&bytes);
            parse_changes(&bytes);
            parse_changes(line.as_bytes());
            named_id(&line, &[]);
        }
    }
}
