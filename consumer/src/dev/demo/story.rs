//! The story: one act for each thing that Backstack does, in the order in which people come to need
//! it. Every act says what it is about, does it, shows it, and checks what it showed.

use anyhow::{Context as _, Result, ensure};
use backstack_schemas::outcome::{MergedHow, SkipReason};
use backstack_schemas::{Action, ErrorCode, Job, JobStatus, RemoteUrl, Repository};

use super::checks::{Expected, check_moved, completed, only_moved};
use super::sample::{self, TRUNK};
use super::show::Show;
use super::stage::{Stage, branch};

/// What the acts work with.
pub(super) struct Story<'a> {
    pub(super) stage: &'a mut Stage,
    pub(super) show: &'a mut Show,
    pub(super) expected: Expected,
}

impl Story<'_> {
    /// Tells it.
    pub(super) async fn tell(&mut self) -> Result<()> {
        self.a_repository().await?;
        self.a_stack().await?;
        self.a_merge().await?;
        self.a_restack_with_a_conflict().await?;
        self.a_subtree().await?;
        self.one_branch().await?;
        self.another_parent().await?;
        self.out_of_the_stack().await?;
        self.a_killed_worker().await?;
        self.the_end().await
    }

    async fn a_repository(&mut self) -> Result<()> {
        self.show.act(
            "A repository is one row",
            "Adding it writes a row and fetches nothing. The first sync does that, in the background: the \
             command only publishes a message, and follows the job because of --wait.",
        )?;
        let path = self.stage.remote.path().display().to_string();
        let url: RemoteUrl = path.parse()?;
        self.show
            .command(&format!("backstack repo add web {path}"))?;
        self.stage
            .client
            .add_repo(&self.stage.repo, url, None)
            .await?;
        let job = self.run("backstack sync web --wait", sync()).await?;
        completed(&job, &[])?;
        self.show.end(&job)?;
        let rows = self.stage.client.branches(&self.stage.repo).await?.rows;
        let heads = self.stage.remote.heads()?;
        ensure!(
            rows.len() == heads.len(),
            "{} rows for {} branches",
            rows.len(),
            heads.len()
        );
        let trunk = self.repository().await?.trunk;
        ensure!(
            trunk == Some(branch(TRUNK)?),
            "the trunk was taken to be {trunk:?}"
        );
        Ok(())
    }

    async fn a_stack(&mut self) -> Result<()> {
        self.show.act(
            "Which branch stands on which",
            "Registering a branch makes it part of a stack. What it stands on is read from the history, so \
             nobody has to say it. Actions of one repository run one at a time, in the order in which they \
             were accepted.",
        )?;
        self.show.command("backstack register web session-store")?;
        self.show
            .say("and the others likewise, without waiting for one another:")?;
        let mut jobs = Vec::new();
        for line in sample::BRANCHES {
            let action = Action::RegisterExistingBranch {
                branch: branch(line.branch)?,
                parent: None,
                base: None,
                task_id: None,
            };
            jobs.push(self.stage.publish(action).await?.0.spec.job_id);
        }
        for (id, line) in jobs.into_iter().zip(sample::BRANCHES) {
            let job = self.stage.end_of(id).await?;
            completed(&job, &[])?;
            let parent = job
                .result
                .as_ref()
                .and_then(|result| result.registered.as_ref());
            let parent = parent.map(|registered| registered.parent.as_str());
            ensure!(
                parent == Some(line.parent),
                "{} was found to stand on {parent:?}",
                line.branch
            );
            self.show.end(&job)?;
        }
        self.check_rows().await?;
        self.show.command("backstack stack web")?;
        self.stack().await
    }

    async fn a_merge(&mut self) -> Result<()> {
        self.show.act(
            "The trunk moves on, and the lowest branch is merged",
            "Meanwhile two commits land on main, and somebody presses \"squash and merge\" for \
             session-store. A sync finds out: the squashed commit changes just what the branch changed, so \
             the branch counts as merged and what stood on it now stands on main.",
        )?;
        let remote = &self.stage.remote;
        for work in sample::MEANWHILE {
            remote.commit(TRUNK, Some(TRUNK), work)?;
            self.show.outside(&format!(
                "{} pushes to main: {}",
                work.author.name, work.subject
            ))?;
        }
        let who = sample::BOB;
        remote.squash_merge("session-store", TRUNK, who, "Sessions (#41)")?;
        self.show.outside(&format!(
            "{} squashes session-store into main: Sessions (#41)",
            who.name
        ))?;
        let before = remote.heads()?;
        let job = self.run("backstack sync web --wait", sync()).await?;
        completed(&job, &[])?;
        let merged = job.result.as_ref().map_or(&[][..], |result| &result.merged);
        let found: Vec<_> = merged
            .iter()
            .map(|merged| (merged.branch.as_str(), merged.how))
            .collect();
        ensure!(
            found == [("session-store", MergedHow::Squash)],
            "found merged: {found:?}"
        );
        self.expected.leaves("session-store");
        self.expected.moves_onto("login-form", TRUNK);
        self.report(&job)?;
        self.show.command("backstack stack web")?;
        self.stack().await?;
        self.check_rows().await?;
        only_moved(&before, &self.stage.remote.heads()?, &[])?;
        ensure!(
            self.conflicts_with_trunk("login-form").await?,
            "login-form would merge"
        );
        self.show.say("")?;
        self.show.say(
            "login-form still has the commits that were squashed, and its next one changes the same file: \
             merged or rebased as it is, it would conflict. A restack replays just its own commits.",
        )?;
        Ok(())
    }

    async fn a_restack_with_a_conflict(&mut self) -> Result<()> {
        self.show.act(
            "Restacking everything, with a conflict in one branch",
            "Every branch's own commits are replayed onto its parent's new head, parents first, and all of \
             it is pushed at once. cart-discounts changes a line that main changed too, and a file that main \
             removed. That stops it and what stands on it; the others do not suffer.",
        )?;
        let clean = [
            "login-form",
            "password-reset",
            "two-factor",
            "search-index",
            "search-page",
            "search-filters",
        ];
        let before = self.stage.remote.heads()?;
        let job = self
            .run("backstack restack web --wait", Action::RestackRepo)
            .await?;
        self.report(&job)?;
        check_moved(&job, &clean)?;
        check_conflict(&job)?;
        only_moved(&before, &self.stage.remote.heads()?, &clean)?;
        self.expected.check_remote(&self.stage.remote, &clean)?;
        self.check_rows().await?;
        ensure!(
            !self.conflicts_with_trunk("login-form").await?,
            "login-form conflicts"
        );
        self.show.proved(
            "on the remote: 6 branches moved, each with just its own commits on its parent's new head",
        )?;
        self.show
            .proved("on the remote: cart-discounts and gift-cards are where they were")?;
        Ok(())
    }

    async fn a_subtree(&mut self) -> Result<()> {
        self.show.act(
            "A person resolves it, the rest follows",
            "A conflict is for a person to decide, so Bob does it by hand, as always, and pushes. Then only \
             that part of the stack has to follow.",
        )?;
        let work = &sample::DISCOUNTS_BY_HAND;
        self.stage
            .remote
            .commit("cart-discounts", Some(TRUNK), work)?;
        self.show
            .outside("Bob Brandt rebases cart-discounts onto main by hand and pushes it")?;
        let action = Action::RestackSubtree {
            branch: branch("cart-discounts")?,
        };
        let before = self.stage.remote.heads()?;
        let job = self
            .run("backstack restack web cart-discounts --wait", action)
            .await?;
        self.report(&job)?;
        completed(&job, &["gift-cards"])?;
        only_moved(&before, &self.stage.remote.heads()?, &["gift-cards"])?;
        self.expected
            .check_remote(&self.stage.remote, &self.expected.branches())?;
        self.check_rows().await
    }

    async fn one_branch(&mut self) -> Result<()> {
        self.show.act(
            "One branch alone",
            "A review adds a commit to login-form. Carol wants it under password-reset now, and two-factor, \
             which is being tested, to stay as it is.",
        )?;
        let work = &sample::REVIEW;
        self.stage
            .remote
            .commit("login-form", Some("login-form"), work)?;
        self.expected.grows("login-form", work.subject);
        self.show.outside(&format!(
            "{} pushes to login-form: {}",
            work.author.name, work.subject
        ))?;
        let action = Action::RebaseBranch {
            branch: branch("password-reset")?,
        };
        let before = self.stage.remote.heads()?;
        let job = self
            .run("backstack rebase web password-reset --wait", action)
            .await?;
        self.report(&job)?;
        completed(&job, &["password-reset"])?;
        only_moved(&before, &self.stage.remote.heads()?, &["password-reset"])?;
        self.expected
            .check_remote(&self.stage.remote, &["login-form", "password-reset"])?;
        self.check_rows().await?;
        let waiting = self.needs_restack().await?;
        ensure!(
            waiting == ["two-factor"],
            "a restack is needed by {waiting:?}"
        );
        self.show
            .proved("two-factor did not move, and its row says that it needs a restack")?;
        Ok(())
    }

    async fn another_parent(&mut self) -> Result<()> {
        self.show.act(
            "Another parent",
            "search-page turns out not to need search-index. It gets main as its parent: its own commits are \
             replayed there, without those of search-index, and search-filters follows.",
        )?;
        let action = Action::ReparentBranch {
            branch: branch("search-page")?,
            parent: branch(TRUNK)?,
            base: None,
        };
        let before = self.stage.remote.heads()?;
        let job = self
            .run("backstack reparent web search-page main --wait", action)
            .await?;
        self.expected.moves_onto("search-page", TRUNK);
        self.report(&job)?;
        completed(&job, &["search-page", "search-filters"])?;
        only_moved(
            &before,
            &self.stage.remote.heads()?,
            &["search-page", "search-filters"],
        )?;
        self.expected
            .check_remote(&self.stage.remote, &["search-page", "search-filters"])?;
        self.check_rows().await
    }

    async fn out_of_the_stack(&mut self) -> Result<()> {
        self.show.act(
            "Out of the stack",
            "search-index is given up for now. It is tracked no longer; the branch itself stays.",
        )?;
        let action = Action::UnregisterBranch {
            branch: branch("search-index")?,
        };
        let before = self.stage.remote.heads()?;
        let job = self
            .run("backstack unregister web search-index --wait", action)
            .await?;
        self.expected.leaves("search-index");
        self.show.end(&job)?;
        completed(&job, &[])?;
        only_moved(&before, &self.stage.remote.heads()?, &[])?;
        self.check_rows().await?;
        self.show.command("backstack stack web")?;
        self.stack().await
    }

    /// Shows the command, does what it does, and follows the job to its end.
    async fn run(&self, command: &str, action: Action) -> Result<Job> {
        self.show.command(command)?;
        self.stage.run(self.show, action).await
    }

    pub(super) fn report(&self, job: &Job) -> Result<()> {
        let now = self.stage.client.rows().clock().now();
        Ok(self.show.report(job, now)?)
    }

    async fn repository(&self) -> Result<Repository> {
        let row = self.stage.client.repo(&self.stage.repo).await?;
        Ok(row.context("the repository's row is gone")?.value)
    }

    pub(super) async fn stack(&self) -> Result<()> {
        let rows = self.stage.client.branches(&self.stage.repo).await?.rows;
        let now = self.stage.client.rows().clock().now();
        Ok(self.show.stack(&self.repository().await?, &rows, now)?)
    }

    pub(super) async fn check_rows(&self) -> Result<()> {
        let rows = self.stage.client.branches(&self.stage.repo).await?.rows;
        self.expected.check_rows(&self.stage.remote, &rows)
    }

    async fn conflicts_with_trunk(&self, name: &str) -> Result<bool> {
        let rows = self.stage.client.branches(&self.stage.repo).await?.rows;
        let row = rows.into_iter().find(|row| row.branch.as_str() == name);
        let known = row.and_then(|row| row.conflicts_with_trunk);
        known.with_context(|| format!("the row of {name} does not tell"))
    }

    pub(super) async fn needs_restack(&self) -> Result<Vec<String>> {
        let rows = self.stage.client.branches(&self.stage.repo).await?.rows;
        let waiting = rows
            .into_iter()
            .filter(|row| row.needs_restack == Some(true));
        Ok(waiting.map(|row| row.branch.to_string()).collect())
    }
}

const fn sync() -> Action {
    Action::SyncRepo { restack: false }
}

/// Whether the job says of the conflict what is the case.
fn check_conflict(job: &Job) -> Result<()> {
    let code = job.error.as_ref().map(|error| error.code);
    ensure!(
        job.status == JobStatus::Error && code == Some(ErrorCode::Conflict),
        "the restack ended as {} ({code:?}), not in a conflict",
        job.status
    );
    let result = job.result.as_ref().context("a conflict without a result")?;
    let conflicts: Vec<_> = result
        .conflicts
        .iter()
        .map(|conflict| conflict.branch.as_str())
        .collect();
    ensure!(
        conflicts == ["cart-discounts"],
        "conflicts in {conflicts:?}"
    );
    let paths: Vec<_> = result.conflicts[0]
        .paths
        .iter()
        .map(|path| path.path.as_str())
        .collect();
    ensure!(
        paths == ["src/coupons.js", "src/price.js"],
        "conflicts at {paths:?}"
    );
    let skipped: Vec<_> = result
        .skipped
        .iter()
        .map(|s| (s.branch.as_str(), s.reason))
        .collect();
    ensure!(
        skipped == [("gift-cards", SkipReason::ParentConflict)],
        "skipped: {skipped:?}"
    );
    Ok(())
}
