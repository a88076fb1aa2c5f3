//! What planning asks of commits, and how a repository answers.
//!
//! [`History`] is all that the planner, registering and healing know of git; [`GitHistory`] answers
//! from a bare repository. It reads only. An object that is not in the repository is in nobody's
//! history: rows name heads that a mirror made elsewhere has never had, and all that a branch on the
//! remote stands on comes with its fetch.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use backstack_schemas::ObjectId;
use git2::{ErrorCode, ObjectType, Odb, Oid, Repository};

use crate::control::Control;
use crate::error::EngineError;

/// How many commits are looked at one by one before an ancestor is searched for in libgit2's way.
/// A branch rarely stands higher above its parent, and a walk this short costs no allocation there.
const NEAR: usize = 64;

/// Questions about commits. All answers are for commits as they are, grafts and replacements aside.
pub trait History {
    /// Whether `descendant` has `ancestor` in its history or is it.
    /// A commit that is not there is in no history and has none.
    fn is_ancestor(&self, ancestor: ObjectId, descendant: ObjectId) -> Result<bool, EngineError>;

    /// The best common ancestors of two commits, best first; none where they are unrelated.
    fn merge_bases(&self, one: ObjectId, two: ObjectId) -> Result<Vec<ObjectId>, EngineError>;

    /// What is reachable from any of `heads` and from none of `hidden`. Of both, those that are not
    /// there count for nothing.
    fn above(
        &self,
        heads: &[ObjectId],
        hidden: &[ObjectId],
    ) -> Result<HashSet<ObjectId>, EngineError>;

    /// What is reachable from `head` and from none of `hidden`, parents before children, in the
    /// order of `git rev-list --topo-order --reverse`. Those of `hidden` that are not there hide
    /// nothing.
    fn reachable(&self, head: ObjectId, hidden: &[ObjectId]) -> Result<Vec<ObjectId>, EngineError>;

    /// The commit with this id; `None` where it is not there.
    fn commit(&self, id: ObjectId) -> Result<Option<Rc<CommitFacts>>, EngineError>;

    /// Whether a merge commit's tree is the one that git's own merge of its parents gives, without
    /// a conflict and without anything that a person did in it. Not asked of other commits.
    fn merge_is_automatic(&self, merge: ObjectId) -> Result<bool, EngineError>;
}

/// What planning knows of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitFacts {
    /// Its parents, in order.
    pub parents: Vec<ObjectId>,
    /// Its tree.
    pub tree: ObjectId,
    /// Who wrote it and when: the bytes of the `author` header. Rewriting keeps them.
    pub author: Vec<u8>,
    /// The first line of its message.
    pub subject: Vec<u8>,
}

impl CommitFacts {
    /// From a commit object's bytes: `tree`, each `parent`, `author`, further headers, an empty line,
    /// the message.
    fn parse(object: &[u8]) -> Option<Self> {
        let mut lines = object.split(|byte| *byte == b'\n');
        let mut line = lines.next()?;
        let tree = hex(line.strip_prefix(b"tree ")?)?;
        let mut parents = Vec::new();
        let author = loop {
            line = lines.next()?;
            match line.strip_prefix(b"parent ") {
                Some(parent) => parents.push(hex(parent)?),
                None => break line.strip_prefix(b"author ")?,
            }
        };
        let mut message = lines.skip_while(|line| !line.is_empty());
        Some(Self {
            parents,
            tree,
            author: author.to_vec(),
            subject: message
                .find(|line| !line.is_empty())
                .unwrap_or_default()
                .to_vec(),
        })
    }

    /// The author without the date.
    pub fn author_name(&self) -> &[u8] {
        let end = self.author.iter().rposition(|byte| *byte == b'>');
        &self.author[..end.map_or(self.author.len(), |at| at + 1)]
    }
}

/// The tree of git's own merge of two commits; `None` where it conflicts.
pub type AutomaticMerge<'a> =
    dyn Fn(ObjectId, ObjectId) -> Result<Option<ObjectId>, EngineError> + 'a;

/// The history in a repository on disk, for as long as one plan is made: what it has read it keeps.
pub struct GitHistory<'a> {
    repository: &'a Repository,
    objects: Odb<'a>,
    control: &'a Control,
    merge: &'a AutomaticMerge<'a>,
    commits: RefCell<HashMap<ObjectId, Option<Rc<CommitFacts>>>>,
}

impl<'a> GitHistory<'a> {
    /// The history in `repository`, asking `merge` for what git makes of two commits. Each walk first
    /// checks `control`.
    ///
    /// # Errors
    ///
    /// The repository's objects cannot be opened.
    pub fn new(
        repository: &'a Repository,
        control: &'a Control,
        merge: &'a AutomaticMerge<'a>,
    ) -> Result<Self, EngineError> {
        Ok(Self {
            repository,
            objects: repository.odb()?,
            control,
            merge,
            commits: RefCell::default(),
        })
    }

    /// `ancestor` looked for in the commits nearest to `head`: found, or not in all there is, or
    /// `None` where there is more to search.
    fn near(&self, ancestor: ObjectId, head: ObjectId) -> Result<Option<bool>, EngineError> {
        let mut seen = HashSet::from([head]);
        let mut level = vec![head];
        while !level.is_empty() {
            let mut below = Vec::new();
            for id in level {
                for parent in &self.there(id)?.parents {
                    if *parent == ancestor {
                        return Ok(Some(true));
                    }
                    if seen.insert(*parent) {
                        below.push(*parent);
                    }
                }
            }
            if seen.len() > NEAR {
                return Ok(None);
            }
            level = below;
        }
        Ok(Some(false))
    }

    /// Reads no more of a commit than is asked for: a whole libgit2 commit costs twice that, and
    /// planning with nothing to do is made of little else.
    fn read(&self, id: ObjectId) -> Result<Option<CommitFacts>, EngineError> {
        let object = match self.objects.read(oid(id)?) {
            Ok(object) => object,
            Err(error) if error.code() == ErrorCode::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let facts = match object.kind() {
            ObjectType::Commit => CommitFacts::parse(object.data()),
            _ => None,
        };
        let damaged = || EngineError::Internal(format!("object {id} is not a sound commit"));
        facts.ok_or_else(damaged).map(Some)
    }

    /// A commit that must be there.
    fn there(&self, id: ObjectId) -> Result<Rc<CommitFacts>, EngineError> {
        self.commit(id)?.ok_or_else(|| missing(id))
    }
}

impl History for GitHistory<'_> {
    fn is_ancestor(&self, ancestor: ObjectId, descendant: ObjectId) -> Result<bool, EngineError> {
        self.control.check()?;
        if ancestor == descendant {
            return Ok(true);
        }
        if self.commit(descendant)?.is_none() {
            return Ok(false);
        }
        if let Some(answer) = self.near(ancestor, descendant)? {
            return Ok(answer);
        }
        if self.commit(ancestor)?.is_none() {
            return Ok(false);
        }
        let (ancestor, descendant) = (oid(ancestor)?, oid(descendant)?);
        Ok(self.repository.graph_descendant_of(descendant, ancestor)?)
    }

    fn merge_bases(&self, one: ObjectId, two: ObjectId) -> Result<Vec<ObjectId>, EngineError> {
        self.control.check()?;
        match self.repository.merge_bases(oid(one)?, oid(two)?) {
            Ok(bases) => bases.iter().copied().map(object_id).collect(),
            Err(error) if error.code() == ErrorCode::NotFound => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }

    fn above(
        &self,
        heads: &[ObjectId],
        hidden: &[ObjectId],
    ) -> Result<HashSet<ObjectId>, EngineError> {
        self.control.check()?;
        let mut walk = self.repository.revwalk()?;
        for id in heads {
            if self.commit(*id)?.is_some() {
                walk.push(oid(*id)?)?;
            }
        }
        for id in hidden {
            if self.commit(*id)?.is_some() {
                walk.hide(oid(*id)?)?;
            }
        }
        walk.map(|id| object_id(id?)).collect()
    }

    fn reachable(&self, head: ObjectId, hidden: &[ObjectId]) -> Result<Vec<ObjectId>, EngineError> {
        self.there(head)?;
        let found = self.above(&[head], hidden)?;
        oldest_first(head, &found, |id| Ok(self.there(id)?.parents.clone()))
    }

    fn commit(&self, id: ObjectId) -> Result<Option<Rc<CommitFacts>>, EngineError> {
        if let Some(known) = self.commits.borrow().get(&id) {
            return Ok(known.clone());
        }
        let read = self.read(id)?.map(Rc::new);
        self.commits.borrow_mut().insert(id, read.clone());
        Ok(read)
    }

    /// A merge of more than two parents is never taken for automatic: git has no one way to make it
    /// again, and refusing loses nothing.
    fn merge_is_automatic(&self, merge: ObjectId) -> Result<bool, EngineError> {
        self.control.check()?;
        let facts = self.there(merge)?;
        let [ours, theirs] = facts.parents[..] else {
            return Ok(false);
        };
        Ok((self.merge)(ours, theirs)? == Some(facts.tree))
    }
}

/// Sorts what is reachable from `head` as `git rev-list --topo-order --reverse` does: no commit
/// before its parents, and the lines of a merge one after the other, its first parent's first.
///
/// Commits of `among` that `head` does not reach within `among` are left out.
pub(crate) fn oldest_first(
    head: ObjectId,
    among: &HashSet<ObjectId>,
    parents: impl Fn(ObjectId) -> Result<Vec<ObjectId>, EngineError>,
) -> Result<Vec<ObjectId>, EngineError> {
    let mut unseen_children: HashMap<ObjectId, usize> = HashMap::new();
    for id in among {
        for parent in parents(*id)? {
            *unseen_children.entry(parent).or_default() += 1;
        }
    }
    let mut waiting = Vec::from_iter(among.contains(&head).then_some(head));
    let mut newest_first = Vec::with_capacity(among.len());
    while let Some(id) = waiting.pop() {
        newest_first.push(id);
        for parent in parents(id)? {
            let left = unseen_children.entry(parent).or_default();
            *left = left.saturating_sub(1);
            if *left == 0 && among.contains(&parent) {
                waiting.push(parent);
            }
        }
    }
    newest_first.reverse();
    Ok(newest_first)
}

fn oid(id: ObjectId) -> Result<Oid, EngineError> {
    Ok(Oid::from_bytes(id.as_bytes())?)
}

fn hex(digits: &[u8]) -> Option<ObjectId> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn object_id(oid: Oid) -> Result<ObjectId, EngineError> {
    <[u8; 20]>::try_from(oid.as_bytes())
        .map(ObjectId::from_bytes)
        .map_err(|_| EngineError::Internal(format!("{oid} is not a SHA-1 object id")))
}

fn missing(id: ObjectId) -> EngineError {
    EngineError::Internal(format!(
        "commit {id} is not in the mirror, though a branch stands on it; fetch again"
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SIGNED: &str = "tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904
parent 1111111111111111111111111111111111111111
parent 2222222222222222222222222222222222222222
author A <B> C <a@example.com> 1700000000 +0100
committer D <d@example.com> 1700000009 +0000
gpgsig -----BEGIN PGP SIGNATURE-----
 
 author in disguise
 -----END PGP SIGNATURE-----
encoding latin-1


Subject
body
";

    #[test]
    fn a_commit_is_read_past_its_signature_and_leading_blank_lines() {
        let facts = CommitFacts::parse(SIGNED.as_bytes()).unwrap();
        assert_eq!(facts.parents.len(), 2);
        assert_eq!(facts.tree.short(), "4b825dc6");
        assert_eq!(facts.author, b"A <B> C <a@example.com> 1700000000 +0100");
        assert_eq!(facts.author_name(), b"A <B> C <a@example.com>");
        assert_eq!(facts.subject, b"Subject");
    }

    #[test]
    fn a_commit_without_a_message_or_an_author_date_is_read_all_the_same() {
        let bare = SIGNED
            .split("\ngpgsig")
            .next()
            .unwrap()
            .replace(" 1700000000 +0100", "");
        let facts = CommitFacts::parse(bare.as_bytes()).unwrap();
        assert_eq!(facts.author, facts.author_name());
        assert!(facts.subject.is_empty());
    }

    #[test]
    fn what_is_not_a_sound_commit_is_not_guessed_at() {
        for damaged in [
            "",
            "tree 4b82\n",
            &SIGNED[..60],
            &SIGNED.replace("author A", "writer A"),
        ] {
            assert_eq!(CommitFacts::parse(damaged.as_bytes()), None, "{damaged}");
        }
    }

    proptest! {
        #[test]
        fn any_commit_is_read_as_libgit2_reads_it(
            parents in proptest::collection::vec(any::<[u8; 20]>(), 0..4),
            name in "[A-Za-zé.]{1,12}", subject in "[!-~é]([ -~é]{0,20}[!-~é])?", body in "[ -~\n]{0,30}",
        ) {
            let mut raw = format!("tree {}\n", "4b825dc642cb6eb9a060e54bf8d69288fbee4904");
            for parent in &parents {
                raw += &format!("parent {}\n", ObjectId::from_bytes(*parent));
            }
            raw += &format!("author {name} <a@x> 5 +0100\ncommitter C <c@x> 6 +0000\n\n{subject}\n\n{body}");
            let facts = CommitFacts::parse(raw.as_bytes()).unwrap();
            let dir = tempfile::tempdir().unwrap();
            let repo = Repository::init_bare(dir.path()).unwrap();
            let written = repo.odb().unwrap().write(git2::ObjectType::Commit, raw.as_bytes()).unwrap();
            let theirs = repo.find_commit(written).unwrap();
            let ids: Vec<String> = theirs.parent_ids().map(|id| id.to_string()).collect();
            prop_assert_eq!(facts.parents.iter().map(ToString::to_string).collect::<Vec<_>>(), ids);
            prop_assert_eq!(facts.tree.to_string(), theirs.tree_id().to_string());
            prop_assert_eq!(facts.author_name().to_vec(), format!("{name} <a@x>").into_bytes());
            prop_assert_eq!(Some(facts.subject.as_slice()), theirs.summary_bytes());
        }

        #[test]
        fn reading_a_commit_never_panics(bytes in any::<Vec<u8>>(), text in "[a-z 0-9<>\n]{0,120}", cut in 0usize..400) {
            let known = &SIGNED.as_bytes()[..cut.min(SIGNED.len())];
            for rest in [bytes.as_slice(), text.as_bytes()] {
                if let Some(facts) = CommitFacts::parse(&[known, rest].concat()) {
                    facts.author_name();
                }
            }
        }
    }
}
