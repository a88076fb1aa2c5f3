//! Which commits of a head that it once had has a branch given up?
//!
//! A branch leaves a head behind in one of two ways, and they are to be told apart:
//!
//! - **Rewritten**: amended, squashed, reordered or rebased. Something of what it had is found again
//!   in what it has. Those on top let go of the old version. This is the usual case.
//! - **Given up**: it went back to an earlier commit, or went back and on to something that has
//!   nothing of what it left. Those on top are the only ones to have those commits now.
//!
//! Taking rewritten commits for given-up ones costs a conflict, which a person resolves by registering
//! with `base`; the other mistake would drop work. So whatever shows no trace counts as given up.
//! What was both reset and rewritten between two fetches looks like a squash and counts as rewritten.

use std::collections::HashSet;

use backstack_schemas::ObjectId;

use super::authors;
use crate::error::EngineError;
use crate::history::History;

/// The commits of `old`, oldest first, that a branch has given up which was at `old`, then at each of
/// `since` (newest first), and is at `now`; with the first such commit, all that follow in `old`.
pub(super) fn of(
    history: &dyn History,
    old: ObjectId,
    since: &[ObjectId],
    now: ObjectId,
) -> Result<Vec<ObjectId>, EngineError> {
    if history.is_ancestor(old, now)? {
        return Ok(Vec::new());
    }
    let given_up = given_up_since(history, old, since, now)?;
    let left = history.reachable(old, &[now])?;
    for (at, id) in left.iter().enumerate() {
        if history
            .commit(*id)?
            .is_some_and(|commit| given_up.contains(&commit.author))
        {
            return Ok(left[at..].to_vec());
        }
    }
    Ok(match is_rewritten(history, old, now)? {
        true => Vec::new(),
        false => left,
    })
}

/// Who wrote, and when, what the branch has given up on its way and not taken back, in whatever
/// version. Heads that are not there are passed over.
fn given_up_since(
    history: &dyn History,
    old: ObjectId,
    since: &[ObjectId],
    now: ObjectId,
) -> Result<HashSet<Vec<u8>>, EngineError> {
    let mut given_up = HashSet::new();
    let mut at = old;
    for next in since.iter().rev().copied().chain([now]) {
        if history.commit(next)?.is_none() {
            continue;
        }
        if !is_rewritten(history, at, next)? {
            given_up.extend(authors(history, &history.reachable(at, &[next])?)?);
        }
        for author in authors(history, &history.reachable(next, &[at])?)? {
            given_up.remove(&author);
        }
        at = next;
    }
    Ok(given_up)
}

/// Whether something of what `old` has and `new` has not is found again in what `new` has and `old`
/// has not: a commit with the same author and date, or the same author and subject, or, where all was
/// squashed, the whole tree.
fn is_rewritten(history: &dyn History, old: ObjectId, new: ObjectId) -> Result<bool, EngineError> {
    let mut authors = HashSet::new();
    let mut subjects = HashSet::new();
    for id in history.reachable(old, &[new])? {
        if let Some(commit) = history.commit(id)? {
            subjects.insert((commit.author_name().to_vec(), commit.subject.clone()));
            authors.insert(commit.author.clone());
        }
    }
    let tree = history.commit(old)?.map(|commit| commit.tree);
    for id in history.reachable(new, &[old])? {
        if let Some(commit) = history.commit(id)?
            && (Some(commit.tree) == tree
                || authors.contains(&commit.author)
                || subjects.contains(&(commit.author_name().to_vec(), commit.subject.clone())))
        {
            return Ok(true);
        }
    }
    Ok(false)
}
