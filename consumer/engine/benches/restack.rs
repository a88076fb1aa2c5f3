//! What a restack costs, inside one process: planning and git's own start are not in it.
//!
//! `cargo bench -p backstack-engine`; `compare.sh` beside this file measures whole processes
//! against git's.

mod stack_repo;

use std::hint::black_box;
use std::path::Path;

use backstack_engine::Control;
use backstack_engine::git::Git;
use backstack_engine::plan::{BranchReplay, Onto, Plan};
use backstack_engine::replay::{Committer, replay};
use backstack_schemas::{BranchName, ObjectId};
use criterion::{Criterion, criterion_group, criterion_main};
use git2::{Oid, Repository};
use stack_repo::{Shape, branch_name, make};

const SHAPE: Shape = Shape {
    files: 5_000,
    stacks: 1,
    branches: 30,
    commits: 3,
    trunk: 50,
    renames: false,
};

fn restack(criterion: &mut Criterion) {
    let renames = Shape {
        branches: 10,
        renames: true,
        ..SHAPE
    };
    let wide = Shape {
        stacks: 20,
        branches: 10,
        commits: 1,
        ..SHAPE
    };
    for (name, shape) in [
        ("one stack", SHAPE),
        ("renames", renames),
        ("20 stacks", wide),
    ] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("repo");
        make(&path, shape).expect("git makes the repository");
        let plan = plan(&path, shape);
        let git = Git::discover(None).expect("git is installed");
        criterion.bench_function(&format!("replay, {name}"), |bencher| {
            bencher.iter(|| black_box(run(&path, &git, &plan)));
        });
    }
}

/// Replays in memory; the number of branches moved.
fn run(path: &Path, git: &Git, plan: &Plan) -> usize {
    let committer = Committer {
        name: "Bench".to_owned(),
        email: "bench@example.com".to_owned(),
        at_least: 1_700_000_000,
    };
    let control = Control::unbounded();
    let replayed = replay(
        &path.join(".git"),
        git,
        plan,
        &committer,
        &control,
        &|_, _| {},
    )
    .expect("the replay is clean");
    assert_eq!(replayed.moved.len(), plan.replays.len());
    replayed.moved.len()
}

fn plan(path: &Path, shape: Shape) -> Plan {
    let repo = Repository::open(path).expect("a repository");
    let head = |name: &str| {
        repo.refname_to_id(&format!("refs/heads/{name}"))
            .expect("a branch")
    };
    let mut plan = Plan::default();
    for stack in 0..shape.stacks {
        let mut below: Option<BranchName> = None;
        for branch in 0..shape.branches {
            let name = branch_name(stack, branch);
            let tip = head(&name);
            let name: BranchName = name.parse().expect("a branch name");
            plan.replays.push(BranchReplay {
                branch: name.clone(),
                parent: below
                    .clone()
                    .unwrap_or_else(|| "main".parse().expect("a branch name")),
                head: object_id(tip),
                onto: match below.replace(name) {
                    Some(parent) => Onto::Planned(parent),
                    None => Onto::Commit(object_id(head("main"))),
                },
                commits: newest(&repo, tip, shape.commits),
                flattened: Vec::new(),
            });
        }
    }
    plan
}

/// The last `count` commits up to `tip`, oldest first.
fn newest(repo: &Repository, tip: Oid, count: usize) -> Vec<ObjectId> {
    let mut at = tip;
    let mut commits = Vec::new();
    for _ in 0..count {
        commits.push(object_id(at));
        at = repo
            .find_commit(at)
            .and_then(|commit| commit.parent_id(0))
            .expect("a parent");
    }
    commits.reverse();
    commits
}

fn object_id(id: Oid) -> ObjectId {
    id.to_string().parse().expect("an object id")
}

criterion_group!(benches, restack);
criterion_main!(benches);
