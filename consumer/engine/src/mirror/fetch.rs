//! What the remote has: one `git fetch` makes `refs/heads/*` of the mirror the remote's own.
//!
//! The fetch is not atomic on purpose: git 2.47 aborts on an atomic one that deletes `a` and makes
//! `a/b`, and a mix of old and new heads, left by a kill, is healed by the next fetch. Tags are not
//! fetched; heads whose names no row could hold are left out of what is returned.

use std::collections::BTreeMap;
use std::ffi::OsStr;

use backstack_schemas::{BranchName, ObjectId};

use super::{Mirror, from_oid, heal};
use crate::control::Control;
use crate::error::EngineError;
use crate::git::{Failure, FailureKind, GitCommand};

/// Where commits that were asked for by id hang until they are pinned.
pub(super) const WANTED: &str = "refs/backstack/wanted/";

/// How many ids that the remote does not have may be found out one by one.
const MOST_REFUSALS: usize = 16;

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
        match self.fetch_once(control, progress)? {
            Ok(()) => {}
            Err(failure) if failure.kind == FailureKind::MirrorBroken => {
                tracing::warn!(url = %self.url, said = %failure.said, "healing the mirror");
                self.heal(control)?;
                self.fetch_once(control, progress)?
                    .map_err(EngineError::from)?;
            }
            Err(failure) => return Err(failure.into()),
        }
        self.heads()
    }

    /// The branches as the last fetch, and the pushes since, left them. Runs no process.
    ///
    /// # Errors
    ///
    /// [`EngineError::Internal`] where the mirror cannot be read.
    pub fn heads(&self) -> Result<Fetched, EngineError> {
        let mut fetched = Fetched::default();
        for reference in self.repo().references_glob("refs/heads/*")? {
            let reference = reference?;
            let name = reference.name_bytes();
            let short = name.strip_prefix(b"refs/heads/").unwrap_or(name);
            let branch = std::str::from_utf8(short).ok().and_then(|n| n.parse().ok());
            match (branch, reference.target().and_then(from_oid)) {
                (Some(branch), Some(head)) => {
                    fetched.heads.insert(branch, head);
                }
                _ => fetched
                    .ignored
                    .push(String::from_utf8_lossy(short).into_owned()),
            }
        }
        Ok(fetched)
    }

    /// The branch that the remote's `HEAD` names; `None` where it names none, or one that is not
    /// there yet.
    ///
    /// # Errors
    ///
    /// As [`fetch`](Self::fetch).
    pub fn default_branch(&self, control: &Control) -> Result<Option<BranchName>, EngineError> {
        let output = self
            .wire()
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
            let command = wanting(self.wire(), wanted.iter().copied(), url);
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

    /// One fetch; its failure is for [`fetch`](Self::fetch) to judge.
    fn fetch_once(
        &self,
        control: &Control,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Result<(), Failure>, EngineError> {
        let command = quietly_fetching(self.wire())
            .args(["--prune", "--progress", "--end-of-options"])
            .arg(self.url.as_str())
            .arg("+refs/heads/*:refs/heads/*");
        let output = self.noting_interruption(command.run_watching(control, &mut |line| {
            if let Some((done, total)) = received(line) {
                progress(done, total);
            }
        }))?;
        Ok(if output.success() {
            Ok(())
        } else {
            Err(output.failure())
        })
    }

    /// Puts the mirror right while it is in hand.
    fn heal(&mut self, control: &Control) -> Result<(), EngineError> {
        self.mark_damaged();
        let store = self.in_use.store().clone();
        heal::tidy(&self.path);
        if !heal::is_whole(&store, &self.path, control)? {
            heal::make_afresh(&store, &self.path, &self.url, control)?;
        }
        self.repository = heal::enter(&self.path, &self.url)?;
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

    proptest! {
        #[test]
        fn parsing_never_panics(line in ".*", bytes in any::<Vec<u8>>()) {
            received(&line);
            received(&format!("Receiving objects:{line}"));
            head_branch(&bytes);
            named_id(&line, &[]);
        }
    }
}
