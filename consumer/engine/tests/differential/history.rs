//! Histories: a base, a trunk that moved on, and a stack of branches to be replayed onto it.

use std::collections::BTreeMap;

use git2::{ObjectType, Oid, Repository};

use crate::files::{self, Files};
use crate::rng::Rng;

/// One history, as refs and commits of a repository.
pub struct History {
    pub seed: u64,
    /// The trunk commit the stack is to go onto.
    pub onto: Oid,
    /// The branches, lowest first.
    pub branches: Vec<Branch>,
}

/// A branch of the stack.
pub struct Branch {
    pub name: String,
    pub head: Oid,
    /// Where its own commits start; `None` where they have a root of their own.
    pub base: Option<Oid>,
}

/// Newest date in a history; committers come after it.
pub const NEWEST: i64 = 1_700_000_000;

/// Writes the history that a seed stands for.
pub fn write(repo: &Repository, seed: u64) -> History {
    let mut writer = Writer {
        repo,
        rng: Rng::new(seed),
        clock: NEWEST - 100_000,
    };
    let history = writer.history(seed);
    for branch in &history.branches {
        let name = format!("refs/heads/{}", branch.name);
        repo.reference(&name, branch.head, true, "").unwrap();
    }
    history
}

struct Writer<'a> {
    repo: &'a Repository,
    rng: Rng,
    clock: i64,
}

impl Writer<'_> {
    fn history(&mut self, seed: u64) -> History {
        let start = files::initial(&mut self.rng);
        let base = self.commit(&start, &[]);
        let (branches, steps) = self.stack(seed, base, &start);
        let onto = self.trunk(base, start, &steps);
        History {
            seed,
            onto,
            branches,
        }
    }

    /// The stack, and the files before and after each of its commits.
    fn stack(&mut self, seed: u64, base: Oid, start: &Files) -> (Vec<Branch>, Vec<(Files, Files)>) {
        let mut branches = Vec::new();
        let mut steps = Vec::new();
        let (mut head, mut now) = (base, start.clone());
        for n in 0..self.rng.between(1, 3) {
            let mut branch_base = Some(head);
            let own_root = n == 0 && self.rng.chance(4);
            if own_root {
                branch_base = None;
                self.step(&mut now);
                head = self.commit(&now, &[]);
            }
            for _ in 0..self.rng.between(1, 4) {
                let before = now.clone();
                head = if self.rng.chance(6) {
                    self.side_and_merge(head, &mut now)
                } else {
                    self.step(&mut now);
                    self.commit(&now, &[head])
                };
                steps.push((before, now.clone()));
            }
            branches.push(Branch {
                name: format!("c{seed}/s{n}"),
                head,
                base: branch_base,
            });
        }
        (branches, steps)
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

    /// Trunk's commits, some of which the stack has, too.
    fn trunk(&mut self, base: Oid, mut now: Files, steps: &[(Files, Files)]) -> Oid {
        let mut head = base;
        for _ in 0..self.rng.between(0, 4) {
            if self.rng.chance(22) {
                if let Some((old, new)) = self.rng.pick(steps) {
                    files::pick_up(&mut now, old, new);
                }
            } else {
                self.step(&mut now);
            }
            head = self.commit(&now, &[head]);
        }
        head
    }

    fn step(&mut self, files: &mut Files) {
        if self.rng.chance(5) {
            return;
        }
        for _ in 0..self.rng.between(1, 3) {
            files::change(files, &mut self.rng);
        }
    }

    fn commit(&mut self, files: &Files, parents: &[Oid]) -> Oid {
        let tree = write_tree(self.repo, files);
        let mut raw = format!("tree {tree}\n").into_bytes();
        for parent in parents {
            raw.extend(format!("parent {parent}\n").bytes());
        }
        self.clock += 1;
        raw.extend(self.author());
        raw.extend(format!("committer C <c@example.com> {} +0100\n", self.clock).bytes());
        let message = self.headers_and_message();
        raw.extend(message);
        let odb = self.repo.odb().unwrap();
        odb.write(ObjectType::Commit, &raw).unwrap()
    }

    fn author(&mut self) -> Vec<u8> {
        const NAMES: [&[u8]; 5] = [
            b"A U Thor",
            b"\xc3\x84 \xc3\x96",
            b"J\xf6rg",
            b"O'Neil \"x\", Jr.",
            b"a",
        ];
        const ZONES: [&str; 4] = ["+0000", "-0730", "+1400", "+0200"];
        let name = self.rng.pick(&NAMES).copied().unwrap_or_default();
        let zone = ZONES[self.rng.below(ZONES.len())];
        let date = self.clock - 5_000;
        [
            b"author ",
            name,
            format!(" <a@example.com> {date} {zone}\n").as_bytes(),
        ]
        .concat()
    }

    fn headers_and_message(&mut self) -> Vec<u8> {
        let n = self.clock;
        let mut raw = Vec::new();
        if self.rng.chance(8) {
            raw.extend(
                b"gpgsig -----BEGIN PGP SIGNATURE-----\n \n x\n -----END PGP SIGNATURE-----\n",
            );
        }
        let latin1 = self.rng.chance(8);
        if latin1 {
            raw.extend(b"encoding ISO-8859-1\n");
        }
        if self.rng.chance(8) {
            raw.extend(format!("change-id zyxw{n}\n").bytes());
        }
        raw.push(b'\n');
        let message: Vec<u8> = match self.rng.below(14) {
            0 => format!("\n \t\n\nblank lines first {n}\n").into(),
            1 => format!("no newline {n}").into(),
            2 => format!("trailing {n}\n\nbody\n\n\n").into(),
            3 => Vec::new(),
            4 if !latin1 => format!("not utf-8 {n}: ")
                .bytes()
                .chain(*b"\xfc\xdf\n")
                .collect(),
            5 => format!("# comment {n}\n\n#x\n").into(),
            6 => format!("crlf {n}\r\n\r\nbody\r\n").into(),
            _ if latin1 => format!("latin1 {n}: ")
                .bytes()
                .chain(*b"\xfc\xdf\n")
                .collect(),
            _ => format!("commit {n}\n\nbody\n").into(),
        };
        raw.extend(message);
        raw
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
