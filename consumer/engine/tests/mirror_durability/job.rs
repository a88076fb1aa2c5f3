//! A whole job on a mirror, the remote it is about, and what must be true of it afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use backstack_engine::EngineError;
use backstack_engine::git::Git;
use backstack_engine::mirror::{Mirror, MirrorStore};
use backstack_engine::plan::{BranchReplay, Onto, Plan};
use backstack_engine::replay::{Committer, Replayed, replay};
use backstack_schemas::{ObjectId, RemoteUrl};
use git2::{ObjectType, Oid, Repository};
use tracing::field::{Field, Visit};
use tracing::span;

use crate::remote::{self, Remote, branch, file_policy, git_in, patient, run, web};

/// Bytes of the largest file, which do not compress.
pub const LARGE: usize = 40_000;

const TEMPLATE: &str = "BACKSTACK_TEST_TEMPLATE";
const URL: &str = "BACKSTACK_TEST_URL";
const COMMITS: &str = "BACKSTACK_TEST_COMMITS";

/// A remote whose trunk and branch have moved since a mirror was fetched, and that mirror, in which
/// a commit is pinned that the remote does not have.
pub struct Stage {
    remote: Remote,
    only_here: ObjectId,
    /// Trunk's head, and the branch's own commits.
    onto: ObjectId,
    own: Vec<ObjectId>,
}

impl Stage {
    pub fn new() -> Self {
        let remote = Remote::empty();
        let there = Repository::open_bare(remote.path()).unwrap();
        let first = commit(&there, 1, &[], &[("f", b"one"), ("g", b"one")]);
        remote.set("main", first);
        remote.set("a", first);
        let only_here = {
            let mut mirror = remote.mirror(&remote.store());
            remote::fetch(&mut mirror);
            let only_here = commit(mirror.repo(), 2, &[], &[("h", b"only here")]);
            let pins = BTreeSet::from([only_here]);
            assert_eq!(mirror.set_pins(&pins).unwrap(), []);
            only_here
        };
        fs::rename(remote.state_dir(), template(&remote)).unwrap();
        let onto = commit(&there, 3, &[first], &[("f", b"one"), ("g", b"two")]);
        let large = noise();
        let second = commit(&there, 4, &[first], &[("f", b"two"), ("g", b"one")]);
        let third = [("f", b"two".as_slice()), ("g", b"one"), ("large", &large)];
        let third = commit(&there, 5, &[second], &third);
        remote.set("main", onto);
        remote.set("a", third);
        Self {
            remote,
            only_here,
            onto,
            own: vec![second, third],
        }
    }

    pub fn state_dir(&self) -> PathBuf {
        self.remote.state_dir()
    }

    /// What a job pins at its end, but for what it makes itself.
    pub fn pins(&self) -> BTreeSet<ObjectId> {
        self.own
            .iter()
            .chain([&self.only_here, &self.onto])
            .copied()
            .collect()
    }

    /// The state directory as it was before the job.
    pub fn reset(&self, state_dir: &Path) {
        let _ = fs::remove_dir_all(state_dir);
        copy(&template(&self.remote), state_dir);
    }

    /// What a child must know.
    pub fn to_environment(&self) -> [(&'static str, String); 3] {
        let ids = [&[self.only_here, self.onto], self.own.as_slice()].concat();
        let mut commits = String::new();
        for id in ids {
            write!(commits, "{id} ").unwrap();
        }
        let template = template(&self.remote).to_str().unwrap().to_owned();
        let url = self.remote.url().as_str().to_owned();
        [(TEMPLATE, template), (URL, url), (COMMITS, commits)]
    }

    /// What the mirror's file says of its state.
    pub fn noted(&self, state_dir: &Path) -> String {
        let path = mirror_path(state_dir);
        let text = fs::read_to_string(path.join("backstack-state")).unwrap();
        text.trim().to_owned()
    }

    /// Opens the mirror as the next job does and looks for anything that is lost, torn or left
    /// over; what was said while it was opened.
    pub fn inspect(&self, state_dir: &Path, when: &str) -> Vec<String> {
        let heard = Heard::default();
        let store = remote::open_store(state_dir, file_policy(), None);
        let opened = tracing::subscriber::with_default(heard.clone(), || {
            store.mirror(&web(), &self.remote.url(), &patient())
        });
        let mirror = opened.unwrap();
        let pins = mirror.pins().unwrap();
        assert!(pins.contains(&self.only_here), "{when}: {pins:?}");
        assert!(pins.iter().all(|id| mirror.has(*id)), "{when}: {pins:?}");
        let path = mirror.path();
        let mut fsck = git_in(path);
        let fsck = fsck.args(["fsck", "--full", "--no-dangling", "--no-progress"]);
        assert_eq!(run(fsck), "", "{when}");
        let left: Vec<_> = files(path)
            .into_iter()
            .filter(|path| {
                let name = path.file_name().unwrap().to_string_lossy();
                name.starts_with("tmp_") || name.ends_with(".lock")
            })
            .collect();
        assert!(left.is_empty(), "{when}: {left:?}");
        heard.0.lock().unwrap().clone()
    }
}

/// What a job leaves when it has been done: pins and heads, which name everything else.
#[derive(Debug, PartialEq, Eq)]
pub struct State {
    pins: BTreeSet<ObjectId>,
    heads: BTreeMap<String, ObjectId>,
    noted: String,
}

impl State {
    pub fn of(stage: &Stage, state_dir: &Path) -> Self {
        let noted = stage.noted(state_dir);
        let mirror = Job::of(stage, state_dir).open().unwrap();
        let heads = mirror.heads().unwrap().heads;
        Self {
            pins: mirror.pins().unwrap(),
            heads: heads
                .into_iter()
                .map(|(name, id)| (name.to_string(), id))
                .collect(),
            noted,
        }
    }
}

/// What a restack does to a mirror, up to the push.
pub struct Job {
    state_dir: PathBuf,
    template: PathBuf,
    url: RemoteUrl,
    only_here: ObjectId,
    onto: ObjectId,
    own: Vec<ObjectId>,
}

impl Job {
    pub fn of(stage: &Stage, state_dir: &Path) -> Self {
        Self {
            state_dir: state_dir.to_owned(),
            template: template(&stage.remote),
            url: stage.remote.url(),
            only_here: stage.only_here,
            onto: stage.onto,
            own: stage.own.clone(),
        }
    }

    pub fn from_environment(state_dir: &Path) -> Self {
        let variable = |name| std::env::var(name).unwrap();
        let commits = variable(COMMITS);
        let ids = commits.split_whitespace().map(|id| id.parse().unwrap());
        let ids: Vec<ObjectId> = ids.collect();
        Self {
            state_dir: state_dir.to_owned(),
            template: variable(TEMPLATE).into(),
            url: variable(URL).parse().unwrap(),
            only_here: ids[0],
            onto: ids[1],
            own: ids[2..].to_vec(),
        }
    }

    /// Puts the mirror as it was before into a state directory that is empty.
    pub fn copy_template(&self) {
        copy(&self.template, &self.state_dir);
    }

    pub fn mirror_path(&self) -> PathBuf {
        mirror_path(&self.state_dir)
    }

    pub fn open(&self) -> Result<Mirror, EngineError> {
        let git = Git::discover(None)?;
        // See `remote::open_store` for who may have the directory for a moment.
        let store = remote::wait_for(|| {
            let opened = MirrorStore::open(&self.state_dir, git.clone(), file_policy(), None);
            match opened {
                Err(EngineError::StateDirInUse { .. }) => None,
                other => Some(other),
            }
        })?;
        store.mirror(&web(), &self.url, &patient())
    }

    pub fn fetch(&self, mirror: &mut Mirror) -> Result<(), EngineError> {
        mirror.fetch(&patient(), &mut |_, _| {}).map(|_| ())
    }

    pub fn replay(&self, mirror: &Mirror) -> Result<Replayed, EngineError> {
        let plan = Plan {
            replays: vec![BranchReplay {
                branch: branch("a"),
                parent: branch("main"),
                head: self.own[self.own.len() - 1],
                onto: Onto::Commit(self.onto),
                commits: self.own.clone(),
                flattened: Vec::new(),
            }],
            ..Plan::default()
        };
        let committer = Committer {
            name: "B".to_owned(),
            email: "b@example.com".to_owned(),
            at_least: 9,
        };
        let git = Git::discover(None)?;
        replay(
            mirror.path(),
            &git,
            &plan,
            &committer,
            &patient(),
            &|_, _| {},
        )
    }

    /// All of it. What is made is pinned beside what was.
    pub fn run(&self) -> Result<(), EngineError> {
        let mut mirror = self.open()?;
        self.fetch(&mut mirror)?;
        let replayed = self.replay(&mirror)?;
        replayed.objects.write(mirror.path())?;
        let mut pins: BTreeSet<ObjectId> = self.own.iter().copied().collect();
        pins.extend([self.only_here, self.onto]);
        pins.extend(replayed.moved.iter().map(|moved| moved.to));
        assert_eq!(mirror.set_pins(&pins)?, []);
        Ok(())
    }
}

/// Fills the file system of a directory, but for so many bytes; the file to be removed for room.
pub fn fill(dir: &Path, but: usize) -> PathBuf {
    let path = dir.join("ballast");
    let mut file = fs::File::create(&path).unwrap();
    let block = [1; 4_096];
    while file.write_all(&block).is_ok() {}
    let length = file.metadata().unwrap().len();
    file.set_len(length.saturating_sub(but as u64)).unwrap();
    path
}

/// Packs of one object each.
pub fn many_packs(mirror: &Path, count: usize) {
    let repo = Repository::open_bare(mirror).unwrap();
    for n in 0..count {
        let mut builder = repo.packbuilder().unwrap();
        let blob = repo.blob(format!("blob {n}").as_bytes()).unwrap();
        builder.insert_object(blob, None).unwrap();
        builder.write(&mirror.join("objects/pack"), 0o444).unwrap();
    }
}

fn template(remote: &Remote) -> PathBuf {
    remote.state_dir().with_extension("template")
}

fn mirror_path(state_dir: &Path) -> PathBuf {
    let mirrors = fs::read_dir(state_dir.join("mirrors")).unwrap();
    let mut paths = mirrors.map(|entry| entry.unwrap().path());
    paths
        .find(|path| path.extension().is_some_and(|end| end == "git"))
        .unwrap()
}

fn commit(repo: &Repository, date: u32, parents: &[ObjectId], files: &[(&str, &[u8])]) -> ObjectId {
    let mut tree = repo.treebuilder(None).unwrap();
    for (name, content) in files {
        tree.insert(name, repo.blob(content).unwrap(), 0o100_644)
            .unwrap();
    }
    let mut raw = format!("tree {}\n", tree.write().unwrap());
    for parent in parents {
        writeln!(raw, "parent {parent}").unwrap();
    }
    let who = format!("A <a@example.com> {date} +0000");
    write!(raw, "author {who}\ncommitter {who}\n\nat {date}\n").unwrap();
    let id: Oid = repo
        .odb()
        .unwrap()
        .write(ObjectType::Commit, raw.as_bytes())
        .unwrap();
    id.to_string().parse().unwrap()
}

/// Bytes that do not compress.
fn noise() -> Vec<u8> {
    let mut state = 1_u64;
    let mut byte = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    (0..LARGE).map(|_| byte()).collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            copy(&entry.path(), &target);
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path()).unwrap(), target).unwrap();
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
    let below = entries.flat_map(|entry| match entry.file_type().unwrap().is_dir() {
        true => files(&entry.path()),
        false => vec![entry.path()],
    });
    below.collect()
}

/// What is logged in this thread.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Heard {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// An event's fields.
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        write!(self.0, "{}={value:?} ", field.name()).unwrap();
    }
}
