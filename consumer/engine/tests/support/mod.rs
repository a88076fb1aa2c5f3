//! A bare repository to replay in, and gits that are not what they should be.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use backstack_engine::git::Git;
use backstack_engine::plan::{BranchReplay, Onto};
use backstack_schemas::{BranchName, ObjectId};
use git2::{ObjectType, Oid, Repository};

/// Paths and contents. `->` is a link, `@` a submodule, `!` an executable file.
pub type Files<'a> = &'a [(&'a str, &'a str)];

/// A repository without a work tree, in a temporary directory.
pub struct Setup {
    dir: tempfile::TempDir,
    pub repo: Repository,
}

impl Setup {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let repo = Repository::init_bare(dir.path().join("repo")).unwrap();
        Self { dir, repo }
    }

    pub fn git_dir(&self) -> &Path {
        self.repo.path()
    }

    /// A file of the temporary directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A git of this version that knows nothing else.
    pub fn powerless_git(&self, version: &str) -> Git {
        self.scripted_git(version, "exit 1")
    }

    /// A git of this version that otherwise does what the shell script says; `$git` is the real one.
    pub fn scripted_git(&self, version: &str, script: &str) -> Git {
        let program = self.path(&format!("git-{version}"));
        let real = Git::discover(None).unwrap();
        let text = format!(
            "#!/bin/sh\n[ \"$1\" = version ] && echo git version {version} && exit\ngit={}\n{script}\n",
            real.program().display()
        );
        // Written by another process: this one's other threads start programs meanwhile, which
        // inherit what is open for writing, and a file open for writing cannot be run.
        let write = "printf %s \"$1\" > \"$0\" && chmod +x \"$0\"";
        let mut shell = Command::new("sh");
        let written = shell.arg("-c").arg(write).arg(&program).arg(text).status();
        assert!(written.unwrap().success());
        Git::discover(Some(program)).unwrap()
    }

    /// A commit with a plain author, at `date`.
    pub fn commit(&self, date: i64, parents: &[ObjectId], files: Files) -> ObjectId {
        let mut raw = format!("tree {}\n", self.tree(files));
        for parent in parents {
            raw += &format!("parent {parent}\n");
        }
        raw += &format!(
            "author A <a@example.com> {date} +0100\ncommitter A <a@example.com> {date} +0100\n\nat {date}\n"
        );
        self.write(ObjectType::Commit, raw.as_bytes())
    }

    pub fn tree(&self, files: Files) -> ObjectId {
        let mut dirs: BTreeMap<&str, Vec<(&str, &str)>> = BTreeMap::new();
        let mut entries: BTreeMap<String, (u32, &str, ObjectId)> = BTreeMap::new();
        for (path, content) in files {
            if let Some((dir, rest)) = path.split_once('/') {
                dirs.entry(dir).or_default().push((rest, content));
                continue;
            }
            let blob = |text: &str| self.write(ObjectType::Blob, text.as_bytes());
            let (mode, id) = match content.split_at_checked(1) {
                Some(("@", digit)) => (0o160_000, digit.repeat(40).parse().unwrap()),
                Some(("!", text)) => (0o100_755, blob(text)),
                Some(("-", link)) if link.starts_with('>') => (0o120_000, blob(&link[1..])),
                _ => (0o100_644, blob(content)),
            };
            entries.insert((*path).to_owned(), (mode, path, id));
        }
        for (dir, inside) in dirs {
            entries.insert(format!("{dir}/"), (0o040_000, dir, self.tree(&inside)));
        }
        let mut raw = Vec::new();
        for (mode, name, id) in entries.values() {
            raw.extend(format!("{mode:o} {name}\0").bytes());
            raw.extend(id.as_bytes());
        }
        self.write(ObjectType::Tree, &raw)
    }

    /// A tree that holds nothing but another, under this name.
    pub fn directory(&self, name: &str, tree: ObjectId) -> ObjectId {
        let entry = [format!("40000 {name}\0").as_bytes(), tree.as_bytes()].concat();
        self.write(ObjectType::Tree, &entry)
    }

    fn write(&self, kind: ObjectType, data: &[u8]) -> ObjectId {
        let id = self.repo.odb().unwrap().write(kind, data).unwrap();
        id.to_string().parse().unwrap()
    }

    /// The files of a commit or tree, as they are in the repository now.
    pub fn files(&self, id: ObjectId) -> BTreeMap<String, String> {
        let repo = Repository::open(self.git_dir()).unwrap();
        let object = repo.find_object(oid(id), None).unwrap();
        let mut paths = BTreeMap::new();
        read(&repo, object.peel_to_tree().unwrap().id(), "", &mut paths);
        paths
    }

    /// A commit's content.
    pub fn raw_commit(&self, id: ObjectId) -> String {
        let repo = Repository::open(self.git_dir()).unwrap();
        let odb = repo.odb().unwrap();
        String::from_utf8(odb.read(oid(id)).unwrap().data().to_vec()).unwrap()
    }
}

pub fn oid(id: ObjectId) -> Oid {
    Oid::from_bytes(id.as_bytes()).unwrap()
}

pub fn real_git() -> Git {
    Git::discover(None).unwrap()
}

/// In the form in which [`Setup::files`] gives them.
pub fn listed(files: Files) -> BTreeMap<String, String> {
    let owned = files
        .iter()
        .map(|(path, content)| ((*path).to_owned(), (*content).to_owned()));
    owned.collect()
}

pub fn name(branch: &str) -> BranchName {
    branch.parse().unwrap()
}

/// A branch on a parent that is not replayed.
pub fn on_commit(branch: &str, onto: ObjectId, commits: &[ObjectId]) -> BranchReplay {
    BranchReplay {
        branch: name(branch),
        parent: name("main"),
        head: *commits.last().unwrap_or(&onto),
        onto: Onto::Commit(onto),
        commits: commits.to_vec(),
        flattened: Vec::new(),
    }
}

/// A branch on one that is replayed before it.
pub fn on_branch(branch: &str, parent: &str, commits: &[ObjectId]) -> BranchReplay {
    BranchReplay {
        parent: name(parent),
        onto: Onto::Planned(name(parent)),
        ..on_commit(branch, ObjectId::from_bytes([0; 20]), commits)
    }
}

fn read(repo: &Repository, tree: Oid, dir: &str, paths: &mut BTreeMap<String, String>) {
    for entry in repo.find_tree(tree).unwrap().iter() {
        let path = format!("{dir}{}", entry.name().unwrap());
        let text =
            || String::from_utf8(repo.find_blob(entry.id()).unwrap().content().to_vec()).unwrap();
        let content = match entry.filemode_raw() {
            0o040_000 => {
                read(repo, entry.id(), &format!("{path}/"), paths);
                continue;
            }
            0o160_000 => format!("@{}", &entry.id().to_string()[..1]),
            0o120_000 => format!("->{}", text()),
            0o100_755 => format!("!{}", text()),
            _ => text(),
        };
        paths.insert(path, content);
    }
}
