//! A real bare repository, and what people do to it, in one word each.
//!
//! Commits have fixed people and dates, a minute apart, so the same story makes the same object ids.
//! What is done here is done to the repository itself, as if a push had already come through: hooks
//! run only for real pushes. Anything that cannot be done panics.

mod drawing;
mod merging;
mod story;
mod writing;

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use backstack_schemas::ObjectId;
use git2::{Commit, Oid, Repository, RepositoryInitOptions, Tree};

use crate::program::write_script;
use story::{Change, Segment};

/// A bare repository that workers fetch from and push to.
pub struct Remote {
    path: PathBuf,
    git: Repository,
    trunk: String,
    next_date: Cell<i64>,
}

impl Remote {
    /// A new remote at `path` with one commit, `m0`, on its trunk `main`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let mut options = RepositoryInitOptions::new();
        options
            .bare(true)
            .initial_head("main")
            .external_template(false);
        let git = Repository::init_opts(&path, &options).expect("a bare repository");
        let remote = Self {
            path,
            git,
            trunk: "main".to_owned(),
            next_date: Cell::new(writing::FIRST_COMMIT_AT),
        };
        // Whatever is pushed here is checked as strictly as a hosting service would.
        remote.config("receive.fsckObjects", "true");
        remote.config("gc.auto", "0");
        remote.plant();
        remote
    }

    /// Where the repository is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The URL to register it under.
    pub fn url(&self) -> String {
        format!("file://{}", self.path.display())
    }

    /// Builds stacks from a story: branches joined by `<-`, each standing on the one before it, each
    /// with the subjects of its commits.
    ///
    /// ```text
    /// main: m1 <- a: a1 a2 <- b: b1        the first branch exists, the others are made
    /// a <- d: d1{file=ours} d2{-file}      a second stack on a; commits that touch a named file
    /// ```
    ///
    /// A commit without braces adds a file that has its subject as name and content, so that
    /// commits never conflict unless they are told to. In braces, `path=text` writes a file, with
    /// `|` for a new line, and `-path` removes it; commas separate them.
    #[track_caller]
    pub fn stack(&self, story: &str) {
        let segments = story::parse(story).unwrap_or_else(|problem| panic!("{story:?}: {problem}"));
        let mut below: Option<&Segment> = None;
        for segment in &segments {
            let exists = self.find(&segment.branch).is_some();
            match below {
                None => assert!(
                    exists,
                    "{story:?} starts on {:?}, which is not there",
                    segment.branch
                ),
                Some(below) => {
                    assert!(!exists, "{story:?}: {:?} is already there", segment.branch);
                    self.set(&segment.branch, self.tip(&below.branch).id(), "branch");
                }
            }
            for commit in &segment.commits {
                self.add(&segment.branch, &commit.changes, &commit.subject);
            }
            below = Some(segment);
        }
    }

    /// Adds a commit to a branch: `files` by path and content, the others as they are.
    #[track_caller]
    pub fn commit(&self, branch: &str, files: &[(&str, &str)], message: &str) -> ObjectId {
        id(self.add(branch, &writes(files), message))
    }

    /// Replaces a branch's newest commit by one with the same message and author that also has
    /// `files`.
    #[track_caller]
    pub fn amend(&self, branch: &str, files: &[(&str, &str)]) -> ObjectId {
        let old = self.tip(branch);
        let tree = self.changed(&tree_of(&old), &writes(files));
        self.replace(branch, &old, &tree, message_of(&old))
    }

    /// Replaces the message of a branch's newest commit.
    #[track_caller]
    pub fn reword(&self, branch: &str, message: &str) -> ObjectId {
        let old = self.tip(branch);
        self.replace(branch, &old, &tree_of(&old), message)
    }

    /// Sets a branch, made if need be, to any revision, as a forced push would.
    #[track_caller]
    pub fn force(&self, branch: &str, revision: &str) -> ObjectId {
        let target = self.revision(revision).id();
        self.set(branch, target, "force");
        id(target)
    }

    /// Deletes a branch.
    #[track_caller]
    pub fn delete(&self, branch: &str) {
        let found = self.find(branch);
        let mut found = found.unwrap_or_else(|| panic!("there is no branch {branch:?} to delete"));
        found.delete().expect("a deleted reference");
    }

    /// Adds the exact inverse of a commit to a branch, `revert <subject>`.
    #[track_caller]
    pub fn revert(&self, branch: &str, revision: &str) -> ObjectId {
        let (undone, tip) = (self.revision(revision), self.tip(branch));
        let index = self
            .git
            .revert_commit(&undone, &tip, 0, None)
            .expect("a merge");
        let tree = self.written(index, &format!("revert {revision}"));
        let commit = self.write(&[&tip], &tree, &format!("revert {}", subject_of(&undone)));
        self.set(branch, commit, "revert");
        id(commit)
    }

    /// A branch's head.
    #[track_caller]
    pub fn head(&self, branch: &str) -> ObjectId {
        id(self.tip(branch).id())
    }

    /// Any revision's commit, in git's notation: `a~1`, `main^2`.
    #[track_caller]
    pub fn oid(&self, revision: &str) -> ObjectId {
        id(self.revision(revision).id())
    }

    /// The first line of a commit's message; `None` where the repository does not have it.
    pub fn subject(&self, commit: ObjectId) -> Option<String> {
        let found = self.git.find_commit_by_prefix(&commit.to_string());
        found.ok().map(|commit| subject_of(&commit))
    }

    /// Whether there is such a branch.
    pub fn has(&self, branch: &str) -> bool {
        self.find(branch).is_some()
    }

    /// The content of a file, `branch:path`.
    #[track_caller]
    pub fn show(&self, what: &str) -> String {
        let object = self.git.revparse_single(what);
        let object = object.unwrap_or_else(|error| panic!("{what:?}: {error}"));
        let blob = object
            .as_blob()
            .unwrap_or_else(|| panic!("{what:?} is no file"));
        String::from_utf8_lossy(blob.content()).into_owned()
    }

    /// The paths in a revision, sorted.
    #[track_caller]
    pub fn files(&self, revision: &str) -> Vec<String> {
        let mut files = Vec::new();
        let tree = tree_of(&self.revision(revision));
        let walked = tree.walk(git2::TreeWalkMode::PreOrder, |directory, entry| {
            if entry.kind() != Some(git2::ObjectType::Tree) {
                files.push(format!(
                    "{directory}{}",
                    String::from_utf8_lossy(entry.name_bytes())
                ));
            }
            git2::TreeWalkResult::Ok
        });
        walked.expect("a tree that can be read");
        files.sort();
        files
    }

    /// Every branch as one line: what it stands on and its own commits, by their subjects, oldest
    /// first. Trunk comes first, with its whole first-parent history; the others by name.
    ///
    /// ```text
    /// main  m0 m1 merge x(+x1)    a merge names what it brought in
    /// a     main~1: a1 a2         stands on trunk, one commit behind its head
    /// b     a: b1                 stands on a's head
    /// c     main~1: a1' a2 c1     stands on no head but trunk: has copies, or a's former commits
    /// d     = a                   the same commit
    /// ```
    ///
    /// A chain goes back along first parents to the first commit that is another branch's head or in
    /// trunk. Different commits with the same subject are told apart by primes, the oldest has none.
    pub fn draw(&self) -> String {
        drawing::draw(&self.git, &self.trunk)
    }

    /// Every reference with its target, sorted; for what must not be there.
    pub fn refs(&self) -> Vec<(String, ObjectId)> {
        let references = self.git.references().expect("references");
        let mut refs: Vec<_> = references
            .filter_map(|reference| {
                let reference = reference.expect("a reference");
                let name = String::from_utf8_lossy(reference.name_bytes()).into_owned();
                reference.target().map(|target| (name, id(target)))
            })
            .collect();
        refs.sort();
        refs
    }

    /// Installs a hook that real pushes run.
    pub fn hook(&self, name: &str, script: &str) {
        let directory = self.path.join("hooks");
        std::fs::create_dir_all(&directory).expect("the hooks' directory");
        write_script(&directory.join(name), script);
    }

    /// Removes a hook.
    pub fn remove_hook(&self, name: &str) {
        std::fs::remove_file(self.path.join("hooks").join(name)).expect("a hook to remove");
    }

    /// Sets one of the repository's settings.
    pub fn config(&self, name: &str, value: &str) {
        let mut config = self.git.config().expect("the configuration");
        config
            .set_str(name, value)
            .unwrap_or_else(|error| panic!("{name}={value}: {error}"));
    }

    /// Runs the real git on the repository, for what has no word of its own here, and returns its
    /// output without the last line's end.
    #[track_caller]
    pub fn git(&self, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .arg("-C")
            .arg(&self.path)
            .args(arguments)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .stdin(Stdio::null())
            .output()
            .expect("git");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "git {arguments:?}: {said}");
        String::from_utf8_lossy(&output.stdout)
            .trim_end_matches('\n')
            .to_owned()
    }

    fn find(&self, branch: &str) -> Option<git2::Reference<'_>> {
        self.git
            .find_reference(&format!("refs/heads/{branch}"))
            .ok()
    }

    #[track_caller]
    fn tip(&self, branch: &str) -> Commit<'_> {
        let found = self
            .find(branch)
            .unwrap_or_else(|| panic!("there is no branch {branch:?}"));
        found.peel_to_commit().expect("a commit")
    }

    #[track_caller]
    fn revision(&self, revision: &str) -> Commit<'_> {
        let found = self
            .git
            .revparse_single(revision)
            .and_then(|object| object.peel_to_commit());
        found.unwrap_or_else(|error| panic!("{revision:?}: {error}"))
    }
}

fn writes(files: &[(&str, &str)]) -> Vec<Change> {
    let write = |(path, content): &(&str, &str)| Change::Write {
        path: (*path).to_owned(),
        content: (*content).to_owned(),
    };
    files.iter().map(write).collect()
}

fn id(oid: Oid) -> ObjectId {
    oid.to_string().parse().expect("git's object ids are ours")
}

fn tree_of<'repo>(commit: &Commit<'repo>) -> Tree<'repo> {
    commit.tree().expect("a tree")
}

fn message_of<'commit>(commit: &'commit Commit<'_>) -> &'commit str {
    commit.message().expect("a message in UTF-8")
}

fn subject_of(commit: &Commit<'_>) -> String {
    String::from_utf8_lossy(commit.summary_bytes().unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests;
