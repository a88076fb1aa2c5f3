//! Git's own merges, many of one process: what stands for the merge button, for cherry-pick and for
//! revert, which all merge like this.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use backstack_schemas::ObjectId;

use crate::builder::git_in;

/// The tree of nothing. Git before 2.49 holds back the end of what it prints for one merge until
/// the next; so each question is followed by the merge of nothing into nothing.
const NOTHING: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";

/// A running `git merge-tree`.
pub struct MergeTree {
    git: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl MergeTree {
    /// One that merges in the repository `dir`.
    pub fn start(dir: &Path) -> Self {
        let mut git = git_in(dir)
            .args(["merge-tree", "--write-tree", "--stdin", "-z", "--messages"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            questions: git.stdin.take().unwrap(),
            answers: BufReader::new(git.stdout.take().unwrap()),
            git,
        }
    }

    /// The tree of the change from `base` to `theirs` made on `ours`, all of them trees; `None` on
    /// a conflict.
    pub fn change(&mut self, base: ObjectId, ours: ObjectId, theirs: ObjectId) -> Option<ObjectId> {
        self.ask(&format!("{base} -- {ours} {theirs}"))
    }

    /// The tree of two commits merged; `None` on a conflict.
    pub fn commits(&mut self, ours: ObjectId, theirs: ObjectId) -> Option<ObjectId> {
        self.ask(&format!("{ours} {theirs}"))
    }

    fn ask(&mut self, question: &str) -> Option<ObjectId> {
        let nothing = format!("{NOTHING} -- {NOTHING} {NOTHING}");
        let questions = format!("{question}\n{nothing}\n");
        self.questions.write_all(questions.as_bytes()).unwrap();
        // The last NUL of the record before comes with this one.
        let status = match self.field() {
            field if field.is_empty() => self.field(),
            field => field,
        };
        let tree = self.field();
        while self.field() != NOTHING {}
        // Nothing conflicts with nothing and there is nothing to say about it.
        assert_eq!(self.field(), "");
        (status == "1").then(|| tree.parse().unwrap())
    }

    fn field(&mut self) -> String {
        let mut field = Vec::new();
        self.answers.read_until(0, &mut field).unwrap();
        assert_eq!(field.pop(), Some(0), "git ended in the middle of an answer");
        String::from_utf8(field).unwrap()
    }
}

impl Drop for MergeTree {
    fn drop(&mut self) {
        // What it could still say does not matter.
        let _ = self.git.kill();
        let _ = self.git.wait();
    }
}
