//! A repository with a work tree, driven by the git command; and tracked branches in it.

use std::cell::Cell;
use std::path::PathBuf;
use std::process::{Command, Output};

use backstack_engine::merged::{self, Candidate, TreeMerger};
use backstack_engine::{Control, EngineError};
use backstack_schemas::ObjectId;
use backstack_schemas::outcome::MergedHow;
use tempfile::TempDir;

/// A repository whose trunk is `main`, with one commit.
pub struct Repo {
    dir: TempDir,
    /// Commit times, one second apart.
    clock: Cell<u64>,
}

/// A branch as its row has it.
pub struct Tracked {
    pub name: String,
    pub parent: String,
    pub base: Option<ObjectId>,
    pub recorded_head: Option<ObjectId>,
}

impl Repo {
    /// `main` with `app.txt` and `lib.txt`, thirty different lines each.
    pub fn start() -> Self {
        let repo = Self {
            dir: tempfile::tempdir().unwrap(),
            clock: Cell::new(1_700_000_000),
        };
        repo.git(&["init", "-q", "-b", "main"]);
        for file in ["app.txt", "lib.txt"] {
            repo.write(file, lines(file));
        }
        repo.commit("start");
        repo
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    pub fn open(&self) -> git2::Repository {
        git2::Repository::open(self.dir.path()).unwrap()
    }

    /// Runs git, which must succeed; its output without the final newline.
    pub fn git(&self, args: &[&str]) -> String {
        let output = self.try_git(args);
        assert!(
            output.status.success(),
            "git {args:?}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout)
            .unwrap()
            .trim_end()
            .to_owned()
    }

    /// Runs git, whatever comes of it.
    pub fn try_git(&self, args: &[&str]) -> Output {
        self.clock.set(self.clock.get() + 1);
        let date = format!("{} +0000", self.clock.get());
        git_in(&self.path())
            .env("GIT_AUTHOR_DATE", &date)
            .env("GIT_COMMITTER_DATE", &date)
            .args(args)
            .output()
            .unwrap()
    }

    pub fn write(&self, file: &str, content: impl AsRef<[u8]>) {
        let path = self.dir.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    pub fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(file)).unwrap()
    }

    /// Replaces line `number`, counted from 0.
    pub fn edit(&self, file: &str, number: usize, line: &str) {
        let content = self.read(file);
        let edited = content
            .lines()
            .enumerate()
            .map(|(at, old)| if at == number { line } else { old })
            .fold(String::new(), |all, line| all + line + "\n");
        self.write(file, edited);
    }

    /// Commits everything as it is, even nothing.
    pub fn commit(&self, message: &str) -> ObjectId {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
        self.id("HEAD")
    }

    /// Edits one line and commits that.
    pub fn edit_commit(&self, file: &str, number: usize, line: &str) -> ObjectId {
        self.edit(file, number, line);
        self.commit(&format!("{file}:{number} {line}"))
    }

    pub fn checkout(&self, branch: &str) {
        self.git(&["checkout", "-q", branch]);
    }

    /// A new branch at `at`, checked out.
    pub fn branch(&self, name: &str, at: &str) {
        self.git(&["checkout", "-q", "-b", name, at]);
    }

    /// Squash-merges `branch` into what is checked out.
    pub fn squash(&self, branch: &str) -> ObjectId {
        self.git(&["merge", "-q", "--squash", branch]);
        self.commit(&format!("squash {branch}"))
    }

    /// Rebases a copy of `branch` onto `main` and moves `main` there.
    pub fn rebase_merge(&self, branch: &str, upstream: &str) {
        self.git(&["checkout", "-q", "--detach", branch]);
        self.git(&["rebase", "-q", "--force-rebase", "--onto", "main", upstream]);
        self.git(&["branch", "-qf", "main", "HEAD"]);
        self.checkout("main");
    }

    pub fn revert(&self, commit: &str) -> ObjectId {
        self.git(&["revert", "--no-edit", commit]);
        self.id("HEAD")
    }

    pub fn id(&self, revision: &str) -> ObjectId {
        let repo = self.open();
        let object = repo.revparse_single(revision).unwrap();
        object.id().to_string().parse().unwrap()
    }

    /// The row of `name` at this moment, standing on `parent`.
    pub fn track(&self, name: &str, parent: &str) -> Tracked {
        let base = self.git(&["merge-base", name, parent]);
        Tracked {
            name: name.to_owned(),
            parent: parent.to_owned(),
            base: Some(base.parse().unwrap()),
            recorded_head: Some(self.id(name)),
        }
    }

    /// The candidate of a row after a fetch of the branches as they are now; a branch that is gone
    /// keeps its recorded head.
    pub fn candidate(&self, row: &Tracked) -> Candidate {
        let head = |name: &str| {
            let output =
                self.try_git(&["rev-parse", "-q", "--verify", &format!("refs/heads/{name}")]);
            let printed = String::from_utf8(output.stdout).unwrap();
            output
                .status
                .success()
                .then(|| printed.trim().parse().unwrap())
        };
        Candidate {
            branch: row.name.parse().unwrap(),
            parent: row.parent.parse().unwrap(),
            base: row.base,
            head: head(&row.name).or(row.recorded_head).unwrap(),
            recorded_head: row.recorded_head,
            parent_head: head(&row.parent),
        }
    }

    /// Which of `rows` are merged into `main` as it is now.
    pub fn merged(&self, rows: &[&Tracked]) -> Vec<(String, MergedHow)> {
        let candidates: Vec<_> = rows.iter().map(|row| self.candidate(row)).collect();
        let mut merge = GitMerger::new(self);
        merged::find(
            &self.open(),
            self.id("main"),
            &candidates,
            &mut merge,
            &Control::unbounded(),
        )
        .unwrap()
        .into_iter()
        .map(|(branch, how)| (branch.to_string(), how))
        .collect()
    }

    /// How the only row's branch is merged.
    pub fn how(&self, row: &Tracked) -> Option<MergedHow> {
        self.merged(&[row]).pop().map(|(_, how)| how)
    }
}

/// Thirty lines that name their file.
pub fn lines(file: &str) -> String {
    (0..30).fold(String::new(), |all, n| all + &format!("{file} line {n}\n"))
}

/// Git with an environment of its own.
pub fn git_in(dir: &std::path::Path) -> Command {
    let mut command = Command::new("git");
    command
        .current_dir(dir)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", dir)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_AUTHOR_NAME", "Ada")
        .env("GIT_AUTHOR_EMAIL", "ada@example.com")
        .env("GIT_COMMITTER_NAME", "Ada")
        .env("GIT_COMMITTER_EMAIL", "ada@example.com")
        .args([
            "-c",
            "advice.detachedHead=false",
            "-c",
            "gc.auto=0",
            "-c",
            "core.fsync=none",
        ]);
    command
}

/// Merges with a `git merge-tree` for each question, and counts them.
pub struct GitMerger {
    dir: PathBuf,
    pub asked: usize,
}

impl GitMerger {
    pub fn new(repo: &Repo) -> Self {
        Self {
            dir: repo.path(),
            asked: 0,
        }
    }

    fn ask(&mut self, args: &[String]) -> Result<Option<ObjectId>, EngineError> {
        self.asked += 1;
        let output = git_in(&self.dir)
            .args(["merge-tree", "--write-tree", "--no-messages"])
            .args(args)
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        match output.status.code() {
            Some(0) => Ok(Some(printed.trim().parse().unwrap())),
            Some(1) => Ok(None),
            _ => Err(EngineError::Internal(
                String::from_utf8_lossy(&output.stderr).into_owned(),
            )),
        }
    }
}

impl TreeMerger for GitMerger {
    fn clean_merge(
        &mut self,
        base: ObjectId,
        ours: ObjectId,
        theirs: ObjectId,
    ) -> Result<Option<ObjectId>, EngineError> {
        self.ask(&[
            format!("--merge-base={base}"),
            ours.to_string(),
            theirs.to_string(),
        ])
    }

    fn clean_merge_of_commits(
        &mut self,
        ours: ObjectId,
        theirs: ObjectId,
    ) -> Result<Option<ObjectId>, EngineError> {
        self.ask(&[ours.to_string(), theirs.to_string()])
    }
}
