//! The last acts: a worker dies while it pushes, and what is left at the end.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use backstack_schemas::{Action, Job, JobStatus, Step};

use super::checks::{completed, only_moved};
use super::sample::{self, TRUNK};
use super::stage::ACK_WAIT;
use super::story::Story;

impl Story<'_> {
    pub(super) async fn a_killed_worker(&mut self) -> Result<()> {
        self.show.act(
            "The worker is killed while it pushes",
            "main moves on once more, so every branch has to follow. This time the remote takes a long look \
             at the push, and in the middle of that the worker is killed, as a power cut would do it. The \
             message is still in the queue: after a short silence the server delivers it again, to \
             whichever worker is there.",
        )?;
        let branches = self.expected.branches();
        self.stage
            .remote
            .commit(TRUNK, Some(TRUNK), &sample::HOTFIX)?;
        self.show.outside(&format!(
            "Bob Brandt pushes to main: {}",
            sample::HOTFIX.subject
        ))?;
        let before = self.stage.remote.heads()?;
        let times = self.times_moved(&branches)?;
        self.stage.remote.hold_pushes()?;
        let running = self.until_it_pushes().await?;
        self.kill(&running).await?;
        self.check_row_still_runs(&running).await?;
        only_moved(&before, &self.stage.remote.heads()?, &[])?;
        self.show.proved(
            "on the remote no branch has moved, and the job's row still says that it is running",
        )?;
        let job = self.second_worker(&running).await?;
        completed(&job, &branches)?;
        self.check_second_run(&running, &job)?;
        let after = self.stage.remote.heads()?;
        only_moved(&before, &after, &branches)?;
        self.check_moved_once(&times)?;
        self.expected.check_remote(&self.stage.remote, &branches)?;
        self.check_rows().await?;
        self.show
            .proved("one job, two workers, one effect: every branch was moved exactly once")?;
        Ok(())
    }

    /// Publishes, and follows the job to where its push waits at the remote.
    async fn until_it_pushes(&self) -> Result<Job> {
        self.show.command("backstack restack web --wait")?;
        let (job, after) = self.stage.publish(Action::RestackRepo).await?;
        self.show.accepted(&job, after)?;
        let pushes = |job: &Job| job.progress.is_some_and(|at| at.step == Step::Push);
        let job = self.stage.follow(self.show, &job, None, pushes).await?;
        let held = || self.stage.remote.holds_a_push();
        self.stage
            .until("the push to reach the remote", held)
            .await?;
        Ok(job)
    }

    async fn kill(&mut self, running: &Job) -> Result<()> {
        let worker = running
            .worker
            .as_ref()
            .context("a running job without a worker")?;
        let pid = self.stage.worker_pid().context("there is no worker")?;
        ensure!(
            worker.as_str().split('/').nth(1) == Some(&pid.to_string()),
            "{worker} is not process {pid}"
        );
        self.show.command(&format!("kill -9 {pid}"))?;
        let status = self.stage.kill_worker().await?;
        self.show
            .outside(&format!("the worker {worker} is gone ({status})"))?;
        self.show
            .outside("the remote gives up the push, since nobody is there to hear of it")?;
        self.stage.remote.give_up_the_push()?;
        let ended = || !self.stage.remote.holds_a_push();
        self.stage
            .until("the killed worker's push to end", ended)
            .await?;
        self.stage.remote.take_pushes_again()
    }

    /// Nothing tells of the worker's end but its silence.
    async fn check_row_still_runs(&self, running: &Job) -> Result<()> {
        let id = running.spec.job_id;
        let row = self.stage.client.job(&self.stage.repo, id).await?;
        let status = row.map(|row| row.value.status);
        ensure!(
            status == Some(JobStatus::Running),
            "the row of the killed worker's job says {status:?}"
        );
        Ok(())
    }

    async fn second_worker(&mut self, running: &Job) -> Result<Job> {
        self.show.command("backstackd run …")?;
        let pid = self.stage.start_worker()?;
        let wait = ACK_WAIT.as_secs();
        self.show.outside(&format!(
            "a second worker starts as process {pid}; the message comes after {wait} s of silence"
        ))?;
        let ended = |job: &Job| job.status.is_terminal();
        let job = self
            .stage
            .follow(self.show, running, Some(running), ended)
            .await?;
        self.report(&job)?;
        Ok(job)
    }

    fn check_second_run(&self, first: &Job, second: &Job) -> Result<()> {
        let (killed, ended) = (first.attempt, second.attempt);
        ensure!(
            ended > killed,
            "attempt {killed} was killed, and {ended} ended the job"
        );
        ensure!(
            first.worker != second.worker,
            "the killed worker ended the job"
        );
        ensure!(
            first.sequence == second.sequence,
            "the job had two messages"
        );
        Ok(())
    }

    fn times_moved(&self, branches: &[&'static str]) -> Result<BTreeMap<&'static str, usize>> {
        let times = branches
            .iter()
            .map(|branch| Ok((*branch, self.stage.remote.times_moved(branch)?)));
        times.collect()
    }

    fn check_moved_once(&self, before: &BTreeMap<&str, usize>) -> Result<()> {
        for (branch, times) in before {
            let now = self.stage.remote.times_moved(branch)?;
            ensure!(now == times + 1, "{branch} was moved {} times", now - times);
        }
        Ok(())
    }

    pub(super) async fn the_end(&mut self) -> Result<()> {
        self.show.act(
            "What is left",
            "Rows and refs say the same, the queue is empty, and every job that was accepted has ended.",
        )?;
        self.show.command("backstack stack web")?;
        self.stack().await?;
        self.show.say("")?;
        self.check_rows().await?;
        let branches = self.expected.branches();
        self.expected.check_remote(&self.stage.remote, &branches)?;
        let waiting = self.needs_restack().await?;
        ensure!(waiting.is_empty(), "a restack is needed by {waiting:?}");
        ensure!(
            self.stage.remote.heads()?.contains_key("search-index"),
            "search-index is gone"
        );
        let count = branches.len();
        self.show.proved(&format!(
            "the remote has all {count} branches of the stack on their parents' heads, with just their own commits"
        ))?;
        self.tally().await
    }

    async fn tally(&self) -> Result<()> {
        let jobs = self
            .stage
            .client
            .jobs(Some(&self.stage.repo), None)
            .await?
            .rows;
        let count = |status| jobs.iter().filter(|job| job.status == status).count();
        let (completed, failed) = (count(JobStatus::Completed), count(JobStatus::Error));
        ensure!(completed + failed == jobs.len(), "jobs that have not ended");
        ensure!(failed == 1, "{failed} jobs failed");
        let names = self.stage.client.topology();
        self.stage.until_empty(&names.actions_stream()).await?;
        let dead = self.stage.stored(&names.dead_stream()).await?;
        ensure!(dead == 0, "{dead} dead letters");
        self.show.proved(&format!(
            "{} jobs: {completed} completed, {failed} ended in the conflict; none queued, no dead letters",
            jobs.len()
        ))?;
        Ok(())
    }
}
