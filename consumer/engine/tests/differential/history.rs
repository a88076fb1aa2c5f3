//! Histories: a base, a trunk that moved on, and a stack of branches to be replayed onto it.

use std::collections::BTreeMap;
use std::ops::Range;

use git2::{ObjectType, Oid, Repository};

use crate::files::{self, Files};
use crate::rng::Rng;
use crate::texts;

/// One history, as refs and commits of a repository.
pub struct History {
    pub seed: u64,
    /// The choices it was made by, and which of them belong together.
    pub choices: Vec<usize>,
    pub spans: Vec<Range<usize>>,
    /// The trunk commit the stack is to go onto.
    pub onto: Oid,
    /// The branches, lowest first.
    pub branches: Vec<Branch>,
    /// All commits, in the order in which they were made; the first is the base.
    pub commits: Vec<Made>,
}

impl History {
    /// Whether its objects are read out of a pack, with deltas, or each out of a file of its own.
    pub fn is_packed(seed: u64) -> bool {
        seed % 2 == 1
    }
}

/// A branch of the stack.
pub struct Branch {
    pub name: String,
    pub head: Oid,
    /// Where its own commits start; `None` where they have a root of their own.
    pub base: Option<Oid>,
}

/// A commit as it was made.
pub struct Made {
    pub id: Oid,
    pub line: Line,
    pub parents: Vec<Oid>,
    pub raw: Vec<u8>,
    pub files: Files,
}

/// Where a commit was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    Base,
    Trunk,
    Stack,
    /// The stack, when what was there had been pushed already.
    Rewritten(Rewrite),
}

/// How a branch was changed after another was put on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rewrite {
    /// Its newest commit has another message.
    Reworded,
    /// Its newest commit has another tree.
    Amended,
    /// All its commits were made anew.
    Redone,
    /// Its newest commit was given up.
    Reset,
}

/// Newest date in a history; committers come after it.
pub const NEWEST: i64 = 1_700_000_000;

/// Writes the history that a seed stands for.
pub fn write(repo: &Repository, seed: u64) -> History {
    write_chosen(repo, seed, Rng::new(seed))
}

/// Writes the history that these choices make; `seed` is only its name.
pub fn write_chosen(repo: &Repository, seed: u64, rng: Rng) -> History {
    let mut writer = Writer {
        repo,
        rng,
        clock: NEWEST - 100_000,
        line: Line::Base,
        commits: Vec::new(),
    };
    let (onto, branches) = writer.history(seed);
    let history = History {
        seed,
        choices: writer.rng.taken().to_vec(),
        spans: writer.rng.spans().to_vec(),
        onto,
        branches,
        commits: writer.commits,
    };
    for branch in &history.branches {
        let name = format!("refs/heads/{}", branch.name);
        repo.reference(&name, branch.head, true, "").unwrap();
    }
    let trunk = format!("refs/onto/c{seed}");
    repo.reference(&trunk, history.onto, true, "").unwrap();
    history
}

struct Writer<'a> {
    repo: &'a Repository,
    rng: Rng,
    clock: i64,
    line: Line,
    commits: Vec<Made>,
}

impl Writer<'_> {
    /// Trunk's head and the stack.
    fn history(&mut self, seed: u64) -> (Oid, Vec<Branch>) {
        let start = files::initial(&mut self.rng);
        let base = self.commit(&start, &[]);
        self.line = Line::Stack;
        let mut branches = self.stack(seed, base, &start);
        let steps = self.steps();
        for below in 1..branches.len() {
            if self.rng.chance(12) {
                self.rewrite(&mut branches[below - 1]);
            }
        }
        self.line = Line::Trunk;
        (self.trunk(base, start, &steps), branches)
    }

    fn stack(&mut self, seed: u64, base: Oid, files: &Files) -> Vec<Branch> {
        let mut branches = Vec::new();
        let (mut head, mut now) = (base, files.clone());
        let mut start = self.rng.taken().len();
        while self.rng.again(branches.len(), 1, 3) {
            let n = branches.len();
            let mut branch_base = Some(head);
            let own_root = n == 0 && self.rng.chance(4);
            if own_root {
                branch_base = None;
                self.step(&mut now);
                head = self.commit(&now, &[]);
            }
            let mut commits = 0;
            let mut commit_start = self.rng.taken().len();
            while self.rng.again(commits, 1, 4) {
                commits += 1;
                head = if self.rng.chance(6) {
                    self.side_and_merge(head, &mut now)
                } else {
                    self.step(&mut now);
                    self.commit(&now, &[head])
                };
                self.rng.span(commit_start);
                commit_start = self.rng.taken().len();
            }
            branches.push(Branch {
                name: format!("c{seed}/s{n}"),
                head,
                base: branch_base,
            });
            self.rng.span(start);
            start = self.rng.taken().len();
        }
        branches
    }

    /// The files before and after each commit of the stack.
    fn steps(&self) -> Vec<(Files, Files)> {
        let before = |made: &Made| Some(self.made(*made.parents.first()?).files.clone());
        self.commits
            .iter()
            .filter(|made| made.line == Line::Stack)
            .filter_map(|made| Some((before(made)?, made.files.clone())))
            .collect()
    }

    fn made(&self, id: Oid) -> &Made {
        self.commits.iter().find(|made| made.id == id).unwrap()
    }

    /// Two lines of work from `head`, merged.
    fn side_and_merge(&mut self, head: Oid, now: &mut Files) -> Oid {
        let mut side = now.clone();
        let old = now.clone();
        self.step(now);
        self.step(&mut side);
        let left = self.commit(now, &[head]);
        let right = self.commit(&side, &[head]);
        files::pick_up(now, &old, &side);
        self.commit(now, &[left, right])
    }

    /// Changes a branch under the feet of the one above, as a forced push does.
    fn rewrite(&mut self, branch: &mut Branch) {
        const WAYS: [Rewrite; 4] = [
            Rewrite::Reworded,
            Rewrite::Amended,
            Rewrite::Redone,
            Rewrite::Reset,
        ];
        let way = WAYS[self.rng.below(WAYS.len())];
        self.line = Line::Rewritten(way);
        let newest = self.made(branch.head);
        let (mut files, parents) = (newest.files.clone(), newest.parents.clone());
        match (way, branch.base, &parents[..]) {
            // Here nothing would be left of the branch.
            (Rewrite::Reset, _, []) => {}
            (Rewrite::Reset, _, [first, ..]) => branch.head = *first,
            (Rewrite::Redone, Some(base), _) => {
                let mut head = base;
                let mut files = self.made(base).files.clone();
                let mut commits = 0;
                while self.rng.again(commits, 1, 3) {
                    commits += 1;
                    self.step(&mut files);
                    head = self.commit(&files, &[head]);
                }
                branch.head = head;
            }
            (Rewrite::Reworded, ..) => branch.head = self.commit(&files, &parents),
            _ => {
                self.step(&mut files);
                branch.head = self.commit(&files, &parents);
            }
        }
    }

    /// Trunk's commits, some of which the stack has, too. Rarely, trunk was made anew from the start.
    fn trunk(&mut self, base: Oid, mut now: Files, steps: &[(Files, Files)]) -> Oid {
        let mut head = base;
        if self.rng.chance(4) {
            self.step(&mut now);
            head = self.commit(&now, &[]);
        }
        let mut commits = 0;
        let mut start = self.rng.taken().len();
        while self.rng.again(commits, 0, 4) {
            commits += 1;
            if self.rng.chance(22) {
                if let Some((old, new)) = self.rng.pick(steps) {
                    files::pick_up(&mut now, old, new);
                }
            } else {
                self.step(&mut now);
            }
            head = self.commit(&now, &[head]);
            self.rng.span(start);
            start = self.rng.taken().len();
        }
        head
    }

    fn step(&mut self, files: &mut Files) {
        if self.rng.chance(5) {
            return;
        }
        let mut changes = 0;
        let mut start = self.rng.taken().len();
        while self.rng.again(changes, 1, 3) {
            changes += 1;
            files::change(files, &mut self.rng);
            self.rng.span(start);
            start = self.rng.taken().len();
        }
    }

    fn commit(&mut self, files: &Files, parents: &[Oid]) -> Oid {
        let tree = write_tree(self.repo, files);
        let mut raw = format!("tree {tree}\n").into_bytes();
        for parent in parents {
            raw.extend(format!("parent {parent}\n").bytes());
        }
        self.clock += 1;
        raw.extend(texts::author(&mut self.rng, self.clock - 5_000));
        raw.extend(format!("committer C <c@example.com> {} +0100\n", self.clock).bytes());
        raw.extend(texts::headers_and_message(&mut self.rng, self.clock));
        let odb = self.repo.odb().unwrap();
        let id = odb.write(ObjectType::Commit, &raw).unwrap();
        self.commits.push(Made {
            id,
            line: self.line,
            parents: parents.to_vec(),
            raw,
            files: files.clone(),
        });
        id
    }
}

/// Writes the files as trees; the root's id.
pub fn write_tree(repo: &Repository, files: &Files) -> Oid {
    let odb = repo.odb().unwrap();
    let mut dirs: BTreeMap<&[u8], Files> = BTreeMap::new();
    let mut entries: Vec<(Vec<u8>, u32, Vec<u8>)> = Vec::new();
    for (path, (mode, content)) in files {
        match path.iter().position(|b| *b == b'/') {
            Some(slash) => {
                let inside = dirs.entry(&path[..slash]).or_default();
                inside.insert(path[slash + 1..].to_vec(), (*mode, content.clone()));
            }
            None if *mode == 0o160_000 => entries.push((path.clone(), *mode, content.clone())),
            None => {
                let id = odb.write(ObjectType::Blob, content).unwrap();
                entries.push((path.clone(), *mode, id.as_bytes().to_vec()));
            }
        }
    }
    for (name, inside) in dirs {
        let id = write_tree(repo, &inside);
        entries.push((name.to_vec(), 0o040_000, id.as_bytes().to_vec()));
    }
    let key = |(name, mode, _): &(Vec<u8>, u32, Vec<u8>)| {
        let slash: &[u8] = if *mode == 0o040_000 { b"/" } else { b"" };
        [name, slash].concat()
    };
    entries.sort_by_key(key);
    let mut raw = Vec::new();
    for (name, mode, id) in entries {
        raw.extend(format!("{mode:o} ").bytes());
        raw.extend(name);
        raw.push(0);
        raw.extend(id);
    }
    odb.write(ObjectType::Tree, &raw).unwrap()
}
