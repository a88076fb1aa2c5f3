//! Moves a stack of branches onto trunk in a repository on this machine.
//!
//! `restack REPO TRUNK BRANCH...`: the branches lowest first, as one stack. A branch that does not
//! stand on the one before it starts another stack on trunk. Refs are updated where all went well;
//! branches in conflict, and those above them, stay as they are. Prints one line of JSON: the
//! moves, what was not moved, and the milliseconds of each step.

use std::collections::HashSet;
use std::time::Instant;

use backstack_engine::Control;
use backstack_engine::git::Git;
use backstack_engine::plan::{BranchReplay, Onto, Plan};
use backstack_engine::replay::{Committer, Replayed, replay};
use backstack_schemas::{BranchName, ObjectId};
use git2::{Oid, Repository, Sort};
use serde_json::{Value, json};

type Error = Box<dyn std::error::Error>;

fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [repo, trunk, branches @ ..] = arguments.as_slice() else {
        return Err("usage: restack REPO TRUNK BRANCH...".into());
    };
    let mut clock = Clock::new();
    let git = Git::discover(None)?;
    clock.lap("git");
    let repo = Repository::open(repo)?;
    let plan = plan(&repo, &trunk.parse()?, branches)?;
    clock.lap("plan");
    let committer = committer(&repo)?;
    let control = Control::unbounded();
    let replayed = replay(repo.path(), &git, &plan, &committer, &control, &|_, _| {})?;
    clock.lap("replay");
    replayed.objects.write(repo.path())?;
    clock.lap("write");
    update_refs(&git, &repo, &replayed)?;
    clock.lap("refs");
    println!("{}", report(&replayed, clock.laps));
    Ok(())
}

/// All or none, each only where it still is what it was.
fn update_refs(git: &Git, repo: &Repository, replayed: &Replayed) -> Result<(), Error> {
    let lines: String = replayed
        .moved
        .iter()
        .map(|moved| {
            format!(
                "update {} {} {}\n",
                moved.branch.full_ref(),
                moved.to,
                moved.from
            )
        })
        .collect();
    let command = git.command(repo.path()).args(["update-ref", "--stdin"]);
    command.input(lines).run(&Control::unbounded())?.checked()?;
    Ok(())
}

/// What each branch goes onto, and which commits are its own.
fn plan(repo: &Repository, trunk: &BranchName, branches: &[String]) -> Result<Plan, Error> {
    let trunk_head = head(repo, trunk)?;
    let mut plan = Plan::default();
    let mut below: Option<(BranchName, Oid)> = None;
    for branch in branches {
        let branch: BranchName = branch.parse()?;
        let tip = head(repo, &branch)?;
        let parent =
            below.filter(|(_, head)| repo.graph_descendant_of(tip, *head).unwrap_or(false));
        let base = match &parent {
            Some((_, head)) => *head,
            None => repo.merge_base(trunk_head, tip)?,
        };
        let (flattened, commits) = own_commits(repo, base, tip)?;
        plan.replays.push(BranchReplay {
            branch: branch.clone(),
            parent: parent.as_ref().map_or(trunk, |(name, _)| name).clone(),
            head: object_id(tip)?,
            onto: match parent {
                Some((name, _)) => Onto::Planned(name),
                None => Onto::Commit(object_id(trunk_head)?),
            },
            commits,
            flattened,
        });
        below = Some((branch, tip));
    }
    Ok(plan)
}

/// Merges and other commits of a range, each oldest first.
fn own_commits(
    repo: &Repository,
    base: Oid,
    tip: Oid,
) -> Result<(Vec<ObjectId>, Vec<ObjectId>), Error> {
    let mut walk = repo.revwalk()?;
    walk.set_sorting(Sort::TOPOLOGICAL | Sort::REVERSE)?;
    walk.push(tip)?;
    walk.hide(base)?;
    let (mut merges, mut others) = (Vec::new(), Vec::new());
    for id in walk {
        let id = id?;
        let merge = repo.find_commit(id)?.parent_count() > 1;
        let list = if merge { &mut merges } else { &mut others };
        list.push(object_id(id)?);
    }
    Ok((merges, others))
}

/// The repository's own user, committing now.
fn committer(repo: &Repository) -> Result<Committer, Error> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let config = repo.config()?;
    let setting = |key, other: &str| config.get_string(key).unwrap_or_else(|_| other.to_owned());
    Ok(Committer {
        name: setting("user.name", "Backstack"),
        email: setting("user.email", "backstack@localhost"),
        at_least: i64::try_from(now.as_secs())?,
    })
}

fn head(repo: &Repository, branch: &BranchName) -> Result<Oid, git2::Error> {
    repo.refname_to_id(&branch.full_ref())
}

fn object_id(id: Oid) -> Result<ObjectId, Error> {
    Ok(ObjectId::from_bytes(id.as_bytes().try_into()?))
}

fn report(replayed: &Replayed, milliseconds: serde_json::Map<String, Value>) -> Value {
    let unmoved: HashSet<&BranchName> = replayed
        .unchanged
        .iter()
        .map(|unchanged| &unchanged.branch)
        .chain(replayed.became_empty.iter().map(|empty| &empty.branch))
        .collect();
    let moved = replayed.moved.iter();
    json!({
        "moved": moved.map(|m| json!({"branch": m.branch, "from": m.from, "to": m.to})).collect::<Vec<_>>(),
        "unmoved": unmoved,
        "conflicts": replayed.conflicts,
        "skipped": replayed.skipped,
        "dropped": replayed.dropped,
        "milliseconds": milliseconds,
    })
}

/// What each step took.
struct Clock {
    last: Instant,
    laps: serde_json::Map<String, Value>,
}

impl Clock {
    fn new() -> Self {
        Self {
            last: Instant::now(),
            laps: serde_json::Map::new(),
        }
    }

    fn lap(&mut self, step: &str) {
        let took = self.last.elapsed().as_secs_f64() * 1_000.0;
        self.laps
            .insert(step.to_owned(), json!((took * 1_000.0).round() / 1_000.0));
        self.last = Instant::now();
    }
}
