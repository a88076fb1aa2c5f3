//! A world with one remote, `web`, and one worker, and what an action did there as text.
//!
//! Most stories are told with this: a stack that is tracked, something that people do, an action, and
//! then three texts to compare: what the job says, what the remote looks like ([`Remote::draw`]), and
//! what the branch rows say.
//!
//! Each action is checked on the way: of all the remote's refs just those that `moved` names have
//! changed, from and to what it says, and in a dry run none; and a dry run changes no row.

use std::collections::BTreeMap;

use backstack_schemas::topology::Bucket;
use backstack_schemas::{Job, ObjectId};
use serde_json::{Map, Value};

use crate::remote::Remote;
use crate::shown;
use crate::{Worker, World};

/// The repository of every scene.
const REPO: &str = "web";

/// One remote and one worker in a world of their own.
pub struct Scene {
    /// What people push to.
    pub remote: Remote,
    /// The process that runs the actions.
    pub worker: Worker,
    /// All of it.
    pub world: World,
}

impl Scene {
    /// Builds stacks, separated by `;`, each as [`Remote::stack`] takes it, and tracks every branch in
    /// them, parents as they are found.
    pub async fn start(stacks: &str) -> Self {
        let scene = Self::untracked(stacks).await;
        scene.track(&branches(stacks)).await;
        scene
    }

    /// The same without tracking anything.
    pub async fn untracked(stacks: &str) -> Self {
        Self::with_worker(stacks, &[]).await
    }

    /// The same without tracking anything, the worker started with more arguments.
    pub async fn with_worker(stacks: &str, arguments: &[&str]) -> Self {
        let world = World::start().await;
        let remote = world.repo(REPO).await;
        for stack in stacks.split(';') {
            remote.stack(stack.trim());
        }
        let worker = Worker::start(&world, arguments).await;
        Self {
            remote,
            worker,
            world,
        }
    }

    /// Tracks branches that are on the remote, in this order.
    pub async fn track(&self, branches: &[&str]) {
        let mut jobs = Vec::new();
        for branch in branches {
            let body = serde_json::json!({ "branch": branch }).to_string();
            let action = "register_existing_branch";
            jobs.push(self.world.publish(REPO, action, &body).await);
        }
        for (branch, job) in branches.iter().zip(jobs) {
            let job = self.world.ended(REPO, job).await;
            assert_eq!(job.error, None, "{branch}: {}", job.message);
        }
    }

    /// Runs an action, written as `restack_subtree branch=a dry_run`: what has no value is `true`. Checks
    /// the refs and rows as this module says, and returns what came of it, see [`shown::job`].
    pub async fn act(&self, action: &str) -> String {
        let before = self.heads();
        let rows_before = self.newest_row().await;
        let job = self.run(action).await;
        let mut expected = before.clone();
        for moved in job.result.iter().flat_map(|result| &result.moved) {
            let from = before.get(moved.branch.as_str());
            assert_eq!(from, Some(&moved.from), "{} moved from", moved.branch);
            if !job.spec.dry_run {
                expected.insert(moved.branch.as_str().to_owned(), moved.to);
            }
        }
        assert_eq!(self.heads(), expected, "just what {job:#?} says has moved");
        if job.spec.dry_run {
            assert_eq!(self.newest_row().await, rows_before, "{action} wrote rows");
        }
        shown::job(&self.remote, &job)
    }

    /// Runs an action without checking anything, for stories in which others push meanwhile.
    pub async fn run(&self, action: &str) -> Job {
        let (name, body) = parse(action);
        self.world.run(REPO, &name, &body).await
    }

    /// What a job did, see [`shown::job`].
    pub fn shown(&self, job: &Job) -> String {
        shown::job(&self.remote, job)
    }

    /// The remote's branches, see [`Remote::draw`].
    pub fn draw(&self) -> String {
        self.remote.draw()
    }

    /// What the rows say of the stack, see [`shown::stack`].
    pub async fn rows(&self) -> String {
        shown::stack(&self.remote, &self.world.branches(REPO).await)
    }

    /// What the rows say of the branches' commits, see [`shown::facts`].
    pub async fn facts(&self) -> String {
        shown::facts(&self.world.branches(REPO).await)
    }

    /// The branches' heads by name.
    fn heads(&self) -> BTreeMap<String, ObjectId> {
        let refs = self.remote.refs().into_iter();
        refs.filter_map(|(name, id)| Some((name.strip_prefix("refs/heads/")?.to_owned(), id)))
            .collect()
    }

    /// The newest revisions of all rows but the jobs'.
    async fn newest_row(&self) -> Vec<u64> {
        let buckets = [Bucket::Repos, Bucket::Branches, Bucket::Tasks];
        let newest = buckets.map(|bucket| self.world.newest_revision(bucket));
        futures_util::future::join_all(newest).await
    }
}

/// The branches that stacks add, in their order.
fn branches(stacks: &str) -> Vec<&str> {
    let added = stacks
        .split(';')
        .flat_map(|stack| stack.split("<-").skip(1));
    added
        .map(|segment| segment.split(':').next().unwrap_or_default().trim())
        .collect()
}

/// The action's name, and the body of its message.
fn parse(action: &str) -> (String, String) {
    let mut words = action.split_whitespace();
    let name = words.next().expect("an action").to_owned();
    let fields: Map<_, _> = words
        .map(|word| match word.split_once('=') {
            Some((field, value)) => (field.to_owned(), Value::from(value)),
            None => (word.to_owned(), Value::Bool(true)),
        })
        .collect();
    (name, Value::Object(fields).to_string())
}
