//! One atomic push: every ref under a lease on the value it was planned from, or none moves.
//!
//! - A ref that is already where it should be counts as pushed, so a push whose answer was lost
//!   can be made again.
//! - Only `refs/heads/<branch>` of the updates is named, with full ids; trunk is refused here once
//!   more, whatever the caller planned.
//! - The mirror's own heads follow what was pushed.

use std::collections::BTreeMap;

use backstack_schemas::{BranchName, ObjectId};

use super::Mirror;
use super::report::{Seen, Verdict, compare, judge, parse};
use crate::control::Control;
use crate::error::EngineError;
use crate::git::failure::last_words;
use crate::git::{FailureKind, GitCommand, Output};

/// A branch to be moved on the remote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefUpdate {
    /// The branch.
    pub branch: BranchName,
    /// Where it must be, or the push fails.
    pub from: ObjectId,
    /// Where it is to be.
    pub to: ObjectId,
}

/// What came of a push.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Pushed {
    /// Every branch is where it should be, by this push or by an earlier one.
    All,
    /// The remote refuses these; since the push was atomic, none was moved. The others may be
    /// pushed without them and their descendants. A remote stops at the first that it refuses, so
    /// that next push may name another.
    Refused(Vec<Refusal>),
}

/// A branch that the remote does not let be pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The branch.
    pub branch: BranchName,
    /// Why, in the remote's words, scrubbed.
    pub reason: String,
}

impl Mirror {
    /// Pushes all the updates, or none.
    ///
    /// # Errors
    ///
    /// - [`EngineError::BranchMoved`] with the branches whose lease is lost, and
    ///   [`EngineError::BranchLocked`] with those that someone else is just updating: fetch and plan
    ///   again.
    /// - [`EngineError::RemoteRejected`] where the remote refuses the push as a whole.
    /// - [`EngineError::Internal`] for an update of `trunk`, and where the remote fails to store.
    /// - What the control says. The push may have gone through then; another one will find out.
    /// - As [`fetch`](Mirror::fetch) for the rest.
    pub fn push(
        &self,
        trunk: &BranchName,
        updates: &[RefUpdate],
        control: &Control,
    ) -> Result<Pushed, EngineError> {
        if updates.iter().any(|update| update.branch == *trunk) {
            return Err(EngineError::Internal(format!(
                "a push of the trunk {trunk} was planned and refused"
            )));
        }
        if updates.is_empty() {
            return Ok(Pushed::All);
        }
        let output = self.noting_interruption(self.push_command(updates)?.run(control))?;
        let pushed = if output.success() {
            Pushed::All
        } else {
            self.explain(updates, &output, control)?
        };
        if pushed == Pushed::All {
            self.follow(updates);
        }
        Ok(pushed)
    }

    fn push_command(&self, updates: &[RefUpdate]) -> Result<GitCommand, EngineError> {
        let lease =
            |u: &RefUpdate| format!("--force-with-lease={}:{}", u.branch.full_ref(), u.from);
        let refspec = |u: &RefUpdate| format!("{}:{}", u.to, u.branch.full_ref());
        Ok(self
            .wire()?
            .args([
                "push",
                "--atomic",
                "--porcelain",
                "--no-verify",
                "--no-signed",
                "--no-follow-tags",
                "--recurse-submodules=no",
            ])
            .args(updates.iter().map(lease))
            .arg("--end-of-options")
            .arg(self.url.as_str())
            .args(updates.iter().map(refspec)))
    }

    /// What a push that failed comes to.
    fn explain(
        &self,
        updates: &[RefUpdate],
        output: &Output,
        control: &Control,
    ) -> Result<Pushed, EngineError> {
        let said = || last_words(&output.stderr);
        match judge(&parse(&output.stdout)) {
            Verdict::Moved(branches) => Err(EngineError::BranchMoved(branches)),
            Verdict::Refused(refusals) => Ok(Pushed::Refused(
                refusals
                    .into_iter()
                    .map(|refusal| with_remote_words(refusal, output))
                    .collect(),
            )),
            Verdict::WholeRefused => Err(EngineError::RemoteRejected(said())),
            Verdict::NotStored(reason) => Err(EngineError::Internal(format!(
                "the remote could not store the push ({}): {}",
                output.scrubbed(&reason),
                said()
            ))),
            Verdict::Silent => match output.failure() {
                failure if failure.kind == FailureKind::Unreachable => {
                    // The connection may have broken after the remote moved the refs.
                    match self.look(updates, control) {
                        Ok(Seen::Done) => Ok(Pushed::All),
                        _ => Err(failure.into()),
                    }
                }
                failure => Err(failure.into()),
            },
            Verdict::Unclear => match self.look(updates, control)? {
                Seen::Done => Ok(Pushed::All),
                Seen::Moved(branches) => Err(EngineError::BranchMoved(branches)),
                Seen::Unchanged => Err(unchanged(updates, output)),
            },
        }
    }

    /// Compares the remote's refs with the updates.
    fn look(&self, updates: &[RefUpdate], control: &Control) -> Result<Seen, EngineError> {
        let output = self
            .wire()?
            .args(["ls-remote", "--end-of-options"])
            .arg(self.url.as_str())
            .arg("refs/heads/*")
            .run(control)?
            .checked()?;
        let now = listed(&output.stdout);
        Ok(compare(updates, |branch| {
            now.get(branch.full_ref().as_str()).copied()
        }))
    }

    /// Moves the mirror's own heads to what the remote has now.
    fn follow(&self, updates: &[RefUpdate]) {
        let followed = self.refs().and_then(|mut refs| {
            for RefUpdate { branch, to, .. } in updates {
                refs.set(branch.full_ref(), *to);
            }
            self.write_refs(&refs)
        });
        if let Err(error) = followed {
            // The next fetch will.
            tracing::warn!(%error, "the mirror's heads could not follow the push");
        }
    }
}

/// The remote took nothing and no ref has moved: a lock that someone holds, a hook that aborted
/// the update, or a connection that broke.
fn unchanged(updates: &[RefUpdate], output: &Output) -> EngineError {
    let stderr = &output.stderr;
    if stderr.contains("cannot lock ref") || stderr.contains(".lock") {
        let named = |u: &&RefUpdate| stderr.contains(&format!("'{}'", u.branch.full_ref()));
        let mut locked: Vec<&RefUpdate> = updates.iter().filter(named).collect();
        if locked.is_empty() {
            locked = updates.iter().collect();
        }
        return EngineError::BranchLocked {
            branches: locked.into_iter().map(|u| u.branch.clone()).collect(),
            said: words_about_locks(stderr),
        };
    }
    match output.failure() {
        failure if failure.kind == FailureKind::Unreachable => failure.into(),
        failure => EngineError::RemoteRejected(failure.said),
    }
}

/// What the remote said about its locks. Git's advice what to do about them is longer, and comes last.
fn words_about_locks(stderr: &str) -> String {
    let lines = stderr.split(['\n', '\r']).map(str::trim);
    let about: Vec<&str> = lines
        .filter(|line| line.contains("cannot lock ref") || line.contains(".lock'"))
        .map(|line| line.strip_prefix("remote: ").unwrap_or(line))
        .map(|line| line.strip_prefix("error: ").unwrap_or(line))
        .take(3)
        .collect();
    let text: String = about.join("; ").chars().take(500).collect();
    if text.is_empty() {
        last_words(stderr)
    } else {
        text
    }
}

/// The refusal with the line of the remote's that names its branch, or the only other one.
fn with_remote_words(refusal: Refusal, output: &Output) -> Refusal {
    // Git prints the reason on standard output, as it came.
    let reason: String = output.scrubbed(&refusal.reason).chars().take(300).collect();
    let words: Vec<&str> = output
        .stderr
        .split(['\n', '\r'])
        .filter_map(|line| line.strip_prefix("remote: "))
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("error: hook declined"))
        .take(5)
        .collect();
    if words.is_empty() {
        return Refusal { reason, ..refusal };
    }
    let text: String = words.join("; ").chars().take(300).collect();
    Refusal {
        reason: format!("{reason}: {text}"),
        ..refusal
    }
}

/// The refs in what `git ls-remote` printed.
fn listed(printed: &[u8]) -> BTreeMap<&str, ObjectId> {
    printed
        .split(|b| *b == b'\n')
        .filter_map(|line| std::str::from_utf8(line).ok()?.split_once('\t'))
        .filter_map(|(id, name)| Some((name, id.parse().ok()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    use proptest::prelude::*;

    use super::*;
    use crate::git::secrets::Secrets;

    proptest! {
        #[test]
        fn the_remotes_refs_are_read_as_git_lists_them(
            refs in proptest::collection::btree_map("refs/heads/[!-~]{1,12}", any::<[u8; 20]>(), 0..8),
        ) {
            let refs: BTreeMap<&str, ObjectId> = refs
                .iter()
                .map(|(name, id)| (name.as_str(), ObjectId::from_bytes(*id)))
                .collect();
            let printed = refs.iter().fold(String::new(), |all, (name, id)| all + &format!("{id}\t{name}\n"));
            prop_assert_eq!(listed(printed.as_bytes()), refs);
        }

        #[test]
        fn reading_never_panics(bytes in any::<Vec<u8>>(), stderr in "(?s).{0,200}", reason in ".{0,20}") {
            listed(&bytes);
            let branch = "a".parse().unwrap();
            let output = Output::new(ExitStatus::from_raw(0), Vec::new(), stderr, Secrets::default());
            let shown = output.scrubbed(&reason);
            let told = with_remote_words(Refusal { branch, reason }, &output);
            prop_assert!(told.reason.starts_with(&shown));
            prop_assert!(told.reason.chars().count() <= shown.chars().count() + 302);
        }
    }
}
