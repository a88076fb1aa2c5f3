//! `backstack repo add|list|remove`

use std::path::Path;

use backstack_schemas::remote::Protocol;
use backstack_schemas::{BranchName, RemoteUrl, RepoId};
use clap::Subcommand;

use super::Session;
use super::exit::Failure;
use super::render::{self, clean, count};
use crate::client::Added;

#[derive(Debug, Subcommand)]
pub(super) enum RepoCommand {
    /// Add a repository, so that actions may name it
    Add {
        /// The short name it gets
        repo: RepoId,

        /// Where git finds it: a URL, user@host:path, or a path on the worker's machine
        url: String,

        /// The branch that stacks stand on; the remote's HEAD where not given
        #[arg(long, env = "BACKSTACK_TRUNK", value_name = "BRANCH")]
        trunk: Option<BranchName>,
    },
    /// List the repositories
    List,
    /// Remove a repository: jobs that have not ended stop, its branches and tasks are forgotten, nothing
    /// on the remote changes
    Remove {
        /// The repository's short name
        repo: RepoId,
    },
}

impl RepoCommand {
    /// Whether the URL is one.
    pub(super) fn check(&self) -> Result<(), Failure> {
        match self {
            Self::Add { url, .. } => whole(url).map(drop),
            Self::List | Self::Remove { .. } => Ok(()),
        }
    }

    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            // Not parsed with the other arguments: their errors repeat what was given, a password too.
            Self::Add { repo, url, trunk } => add(session, &repo, whole(&url)?, trunk).await,
            Self::List => list(session).await,
            Self::Remove { repo } => remove(session, &repo).await,
        }
    }
}

/// The URL, with a path made whole: to the worker, a relative one would mean something else.
fn whole(given: &str) -> Result<RemoteUrl, Failure> {
    let url: RemoteUrl = given.parse()?;
    let is_relative = url.protocol() == Protocol::File
        && !given.starts_with("file://")
        && Path::new(given).is_relative();
    if !is_relative {
        return Ok(url);
    }
    let path = std::fs::canonicalize(given).map_err(|error| {
        Failure::Input(format!(
            "the path {given:?} cannot be found from here ({error}); give a URL, or the whole path as \
             the worker's machine has it"
        ))
    })?;
    let text = path
        .to_str()
        .ok_or_else(|| Failure::Input(format!("the path {} is not UTF-8", path.display())))?;
    Ok(text.parse()?)
}

async fn add(
    session: &Session,
    repo: &RepoId,
    url: RemoteUrl,
    trunk: Option<BranchName>,
) -> Result<(), Failure> {
    let added = session.client.add_repo(repo, url, trunk).await?;
    if session.out.json {
        session.out.row(added.repository())?;
        return Ok(());
    }
    let url = clean(added.repository().remote_url.as_str());
    let text = match &added {
        Added::New(_) => format!("added {repo} at {url}\nnext: backstack sync {repo} --wait"),
        Added::Already(_) => format!("{repo} is there already, at {url}"),
    };
    session.out.text(&text)?;
    Ok(())
}

async fn list(session: &Session) -> Result<(), Failure> {
    let found = session.client.repos().await?;
    let out = &session.out;
    for row in &found.unreadable {
        out.note(&format!(
            "{} cannot be read: {}",
            clean(&row.key),
            clean(&row.problem)
        ));
    }
    if out.json {
        out.rows(&found.rows)?;
    } else if found.rows.is_empty() {
        out.note("no repositories; add one: backstack repo add <repo> <url>");
    } else {
        let now = session.client.rows().clock().now();
        out.text(&render::repo_table(&found.rows, out.screen, now))?;
    }
    Ok(())
}

async fn remove(session: &Session, repo: &RepoId) -> Result<(), Failure> {
    let removed = session.client.remove_repo(repo).await?;
    if !session.out.json {
        session.out.text(&format!(
            "removed {repo}: {} stopped, {} and {} forgotten",
            count(removed.jobs, "job", "jobs"),
            count(removed.branches, "branch", "branches"),
            count(removed.tasks, "task", "tasks"),
        ))?;
    }
    Ok(())
}
