//! How long planning takes: 300 branches in stacks of ten, three commits each, on a packed repository.

use std::collections::BTreeMap;
use std::process::Command;

use backstack_engine::Control;
use backstack_engine::graph::{Stack, StackBranch, Tracked};
use backstack_engine::history::GitHistory;
use backstack_engine::plan::{Goal, plan};
use backstack_schemas::{BranchName, ObjectId};
use criterion::{Criterion, criterion_group, criterion_main};
use git2::{Oid, Repository, Signature, Time};

const STACKS: usize = 30;
const HEIGHT: usize = 10;
const COMMITS: usize = 3;
/// As many as a row keeps.
const FORMER_HEADS: usize = 16;

struct Builder<'a> {
    repository: &'a Repository,
    seconds: i64,
}

impl Builder<'_> {
    /// `count` commits on `below`; their trees do not matter to planning.
    fn commits(&mut self, mut below: Option<Oid>, count: usize) -> Oid {
        let mut made = below.unwrap_or(Oid::ZERO_SHA1);
        for _ in 0..count {
            self.seconds += 60;
            let time = Time::new(self.seconds, 0);
            let who = Signature::new("A", "a@example.com", &time).unwrap();
            let tree = self.repository.treebuilder(None).unwrap().write().unwrap();
            let tree = self.repository.find_tree(tree).unwrap();
            let parent = below.map(|id| self.repository.find_commit(id).unwrap());
            let message = format!(
                "Change number {}\n\nWith a few words on it.\n",
                self.seconds
            );
            let parents: Vec<_> = parent.iter().collect();
            made = self
                .repository
                .commit(None, &who, &who, &message, &tree, &parents)
                .unwrap();
            below = Some(made);
        }
        made
    }
}

fn object_id(oid: Oid) -> ObjectId {
    ObjectId::from_bytes(oid.as_bytes().try_into().unwrap())
}

fn row(head: Oid, below: Option<(&BranchName, Oid)>) -> StackBranch {
    StackBranch {
        head: Some(object_id(head)),
        former_heads: Vec::new(),
        tracked: below.map(|(parent, base)| Tracked {
            parent: parent.clone(),
            base: Some(object_id(base)),
        }),
    }
}

/// The stacks on trunk, and trunk's head after 50 more commits. They were restacked `restacks` times
/// before, each time onto another commit of trunk.
fn build(repository: &Repository, restacks: usize) -> (Stack, ObjectId) {
    let mut builder = Builder {
        repository,
        seconds: 1_700_000_000,
    };
    let name: BranchName = "main".parse().unwrap();
    let mut trunk = builder.commits(None, 1_000);
    let mut branches: BTreeMap<BranchName, StackBranch> = BTreeMap::new();
    for restack in 0..=restacks {
        if restack > 0 {
            trunk = builder.commits(Some(trunk), 1);
        }
        branches.insert(name.clone(), row(trunk, None));
        for stack in 0..STACKS {
            let (mut parent, mut base) = (name.clone(), trunk);
            for height in 0..HEIGHT {
                let branch: BranchName = format!("stack-{stack}/{height}").parse().unwrap();
                let head = builder.commits(Some(base), COMMITS);
                repository
                    .reference(&branch.full_ref(), head, true, "")
                    .unwrap();
                let mut made = row(head, Some((&parent, base)));
                if let Some(former) = branches.remove(&branch) {
                    made.former_heads =
                        former.head.into_iter().chain(former.former_heads).collect();
                }
                branches.insert(branch.clone(), made);
                (parent, base) = (branch, head);
            }
        }
    }
    let ahead = builder.commits(Some(trunk), 50);
    repository
        .reference(&name.full_ref(), ahead, true, "")
        .unwrap();
    let trunk = name;
    (Stack { trunk, branches }, object_id(ahead))
}

/// A repository with these stacks, packed: as they are, and with trunk 50 commits ahead. The pack
/// keeps what only rows name, as a mirror does.
fn packed(restacks: usize) -> (tempfile::TempDir, Stack, Stack) {
    let dir = tempfile::TempDir::new().unwrap();
    let (still, ahead) = build(&Repository::init_bare(dir.path()).unwrap(), restacks);
    let mut git = Command::new("git");
    git.arg("-C").arg(dir.path());
    git.args(["repack", "-adkq", "--keep-unreachable"]);
    assert!(git.status().unwrap().success());
    let mut moved = still.clone();
    moved.branches.get_mut(&moved.trunk).unwrap().head = Some(ahead);
    (dir, still, moved)
}

fn bench(criterion: &mut Criterion) {
    let (dir, still, moved) = packed(0);
    let (restacked_dir, _, restacked) = packed(FORMER_HEADS);
    let control = Control::unbounded();
    criterion.bench_function("opening the repository", |bencher| {
        bencher.iter(|| Repository::open_bare(dir.path()).unwrap());
    });
    for (what, dir, stack, replays) in [
        ("300 branches, nothing to do", &dir, &still, 0),
        (
            "300 branches, trunk 50 commits ahead",
            &dir,
            &moved,
            STACKS * HEIGHT,
        ),
        (
            "300 branches, each with sixteen former heads, trunk 50 commits ahead",
            &restacked_dir,
            &restacked,
            STACKS * HEIGHT,
        ),
    ] {
        criterion.bench_function(what, |bencher| {
            bencher.iter(|| {
                let repository = Repository::open_bare(dir.path()).unwrap();
                let history = GitHistory::new(&repository, &control, &|_, _| Ok(None)).unwrap();
                let plan = plan(stack, &Goal::All, &history).unwrap();
                assert_eq!(plan.replays.len(), replays);
            });
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = bench
}
criterion_main!(benches);
