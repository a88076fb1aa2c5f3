//! Repositories to measure replays on: a trunk that moved on, and stacks that stand on its root.
//!
//! Stacks edit lines 5 to 24 of files and trunk lines 40 to 54, a third of the edits in 200 hot
//! files: every replay is clean, and some need a content merge. Files lie two directories deep.
//! The same shape gives the same object ids, whatever the machine.

use std::collections::HashMap;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// What the repository looks like.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Files at the root commit, 60 lines each.
    pub files: usize,
    /// Stacks that have nothing to do with one another.
    pub stacks: usize,
    /// Branches of each stack.
    pub branches: usize,
    /// Commits of each branch.
    pub commits: usize,
    /// Trunk's commits since the root.
    pub trunk: usize,
    /// Whether each commit of a stack renames a file, which no replay can splice in where trunk
    /// touched it.
    pub renames: bool,
}

/// Name of a branch; `stack` and `branch` count from 0.
pub fn branch_name(stack: usize, branch: usize) -> String {
    format!("t{stack:02}/s{branch:03}")
}

/// Makes the repository in a directory that does not exist; trunk is `main`.
///
/// # Errors
///
/// Where git cannot be run or fails.
pub fn make(directory: &Path, shape: Shape) -> io::Result<()> {
    run(Command::new("git")
        .args(["init", "-q", "-b", "main"])
        .arg(directory))?;
    let mut importer = Command::new("git")
        .arg("-C")
        .arg(directory)
        .args(["fast-import", "--quiet"])
        .stdin(Stdio::piped())
        .spawn()?;
    if let Some(pipe) = importer.stdin.take() {
        let mut history = History::new(BufWriter::with_capacity(1 << 20, pipe), shape);
        history.write()?;
        history.out.flush()?;
    }
    let status = importer.wait()?;
    if !status.success() {
        return Err(io::Error::other(format!("git fast-import: {status}")));
    }
    Ok(())
}

fn run(command: &mut Command) -> io::Result<()> {
    match command.status()? {
        status if status.success() => Ok(()),
        status => Err(io::Error::other(format!("{command:?}: {status}"))),
    }
}

/// Lines that differ from a file's first content, by file.
type Edits = HashMap<usize, HashMap<usize, String>>;

/// One line of development as it is written.
#[derive(Clone, Default)]
struct Line {
    tip: usize,
    edits: Edits,
    /// Files that were renamed, how often.
    renamed: HashMap<usize, usize>,
}

struct History<W> {
    out: W,
    shape: Shape,
    random: u64,
    mark: usize,
    hot: Vec<usize>,
}

impl<W: Write> History<W> {
    fn new(out: W, shape: Shape) -> Self {
        let mut history = Self {
            out,
            shape,
            random: 0x2545_f491_4f6c_dd1d,
            mark: 0,
            hot: Vec::new(),
        };
        history.hot = (0..200).map(|_| history.below(shape.files)).collect();
        history
    }

    fn write(&mut self) -> io::Result<()> {
        let none = Line::default();
        self.commit("main", "root", 0)?;
        for file in 0..self.shape.files {
            self.file(&none, file)?;
        }
        let root = Line {
            tip: self.mark,
            ..Line::default()
        };
        for stack in 0..self.shape.stacks {
            let mut line = root.clone();
            for branch in 0..self.shape.branches {
                let name = branch_name(stack, branch);
                for commit in 0..self.shape.commits {
                    let message = format!("{name}, {commit}");
                    self.step(&mut line, &name, &message, 4, (5, 25), self.shape.renames)?;
                }
            }
        }
        let mut line = root;
        for commit in 0..self.shape.trunk {
            self.step(
                &mut line,
                "main",
                &format!("trunk {commit}"),
                15,
                (40, 55),
                false,
            )?;
        }
        writeln!(self.out, "done")
    }

    /// One commit with a number of edits.
    fn step(
        &mut self,
        line: &mut Line,
        branch: &str,
        message: &str,
        edits: usize,
        (low, high): (usize, usize),
        rename: bool,
    ) -> io::Result<()> {
        self.commit(branch, message, line.tip)?;
        line.tip = self.mark;
        if rename {
            let file = self.any_file();
            writeln!(self.out, "D {}", path(line, file))?;
            *line.renamed.entry(file).or_default() += 1;
            self.file(line, file)?;
        }
        for _ in 0..edits {
            let file = self.any_file();
            let at = low + self.below(high - low);
            let text = format!("{message}: {}", self.below(1_000_000));
            line.edits.entry(file).or_default().insert(at, text);
            self.file(line, file)?;
        }
        Ok(())
    }

    fn commit(&mut self, branch: &str, message: &str, parent: usize) -> io::Result<()> {
        self.mark += 1;
        let date = 1_600_000_000 + 60 * self.mark;
        let who = format!("Bench <bench@example.com> {date} +0200");
        writeln!(self.out, "commit refs/heads/{branch}\nmark :{}", self.mark)?;
        writeln!(self.out, "author {who}\ncommitter {who}")?;
        writeln!(self.out, "data {}\n{message}\n", message.len() + 1)?;
        if parent > 0 {
            writeln!(self.out, "from :{parent}")?;
        }
        Ok(())
    }

    fn file(&mut self, line: &Line, file: usize) -> io::Result<()> {
        let mut content = String::with_capacity(1_400);
        let edits = line.edits.get(&file);
        for at in 0..60 {
            match edits.and_then(|edits| edits.get(&at)) {
                Some(text) => content.push_str(text),
                None => content.push_str(&format!("file {file}, line {at}")),
            }
            content.push('\n');
        }
        writeln!(self.out, "M 100644 inline {}", path(line, file))?;
        writeln!(self.out, "data {}\n{content}", content.len())
    }

    fn any_file(&mut self) -> usize {
        if self.below(10) < 3 {
            let at = self.below(self.hot.len());
            self.hot[at]
        } else {
            self.below(self.shape.files)
        }
    }

    /// The next random number below `bound` (xorshift).
    fn below(&mut self, bound: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random % bound as u64) as usize
    }
}

fn path(line: &Line, file: usize) -> String {
    let (dir, inner) = (file % 97, file / 97 % 53);
    let times = line.renamed.get(&file).copied().unwrap_or(0);
    let again = if times > 0 {
        format!("-{times}")
    } else {
        String::new()
    };
    format!("dir{dir:02}/in{inner:02}/file{file:06}{again}.txt")
}
