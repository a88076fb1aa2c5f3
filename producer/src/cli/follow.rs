//! Following a job to its end: a moving bar on a terminal, lines elsewhere, rows with `--json`.
//!
//! The watch begins with the row as it is, or with its absence, and outlives lost connections; so it
//! makes no difference when it begins. What was pressed or lost here changes nothing for the job.

use std::io;
use std::time::{Duration, Instant};

use async_nats::connection::State;
use backstack_schemas::{Job, JobId, JobStatus, RepoId, job::Step};
use indicatif::{ProgressBar, ProgressStyle};

use super::Session;
use super::exit::Failure;
use super::output::Output;
use super::render::{self, clean, clean_lines};
use crate::client::JobUpdate;

/// How often it is looked whether there is anything to say about the waiting itself.
const LOOK: Duration = Duration::from_millis(500);

/// After how long in the queue a person is told where to look.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often a line is printed for progress alone.
const LINES_EVERY: Duration = Duration::from_secs(5);

/// Follows the job and prints its report when it has ended.
pub(super) async fn follow(session: &Session, repo: &RepoId, id: JobId) -> Result<(), Failure> {
    let mut watch = session.client.watch_job(repo, id).await.map_err(|error| {
        Failure::Unavailable(format!(
            "job {id} is accepted, but its row cannot be watched: {error}"
        ))
    })?;
    let mut show = Show::new(session.out);
    let mut waiting = Waiting::new();
    let mut look = tokio::time::interval(LOOK);
    let interrupted = interrupted();
    tokio::pin!(interrupted);
    let mut last = None;
    loop {
        tokio::select! {
            update = watch.next() => match update {
                Some(JobUpdate::Row(job)) => {
                    waiting.saw(&job);
                    show.row(&job)?;
                    last = Some(job);
                }
                Some(JobUpdate::Unreadable(error)) => {
                    show.remark(&format!("the job's row cannot be read: {error}"));
                }
                Some(JobUpdate::Absent | JobUpdate::Deleted) => {}
                None => break,
            },
            () = &mut interrupted => {
                show.clear();
                return Err(Failure::Interrupted { job: Some((repo.clone(), id)) });
            }
            _ = look.tick() => {
                let state = session.client.rows().client().connection_state();
                if let Some(remark) = waiting.remark(state) {
                    show.remark(remark);
                }
            }
        }
    }
    show.clear();
    end(session, last.map(|job| *job))
}

/// Prints the report of a job that has ended.
fn end(session: &Session, job: Option<Job>) -> Result<(), Failure> {
    let Some(job) = job else {
        return Err(Failure::Unavailable(
            "the watch ended without the job's row".to_owned(),
        ));
    };
    if !session.out.json {
        let now = session.client.rows().clock().now();
        let report = render::job_report(&job, session.out.screen, now);
        session.out.text(&report)?;
    }
    match job.status {
        JobStatus::Completed => Ok(()),
        _ => Err(Failure::JobFailed),
    }
}

/// Resolves when somebody presses Ctrl-C; never where that cannot be heard.
pub(super) async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// What there is to say about the waiting itself, each once.
struct Waiting {
    since: Instant,
    is_queued: bool,
    has_hinted: bool,
    is_connected: bool,
}

impl Waiting {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            is_queued: true,
            has_hinted: false,
            is_connected: true,
        }
    }

    fn saw(&mut self, job: &Job) {
        // One that waits for its next attempt has a worker.
        self.is_queued = job.status == JobStatus::Queued && job.run == 0;
    }

    fn remark(&mut self, state: State) -> Option<&'static str> {
        let is_connected = state != State::Disconnected;
        if is_connected != self.is_connected {
            self.is_connected = is_connected;
            return Some(if is_connected {
                "the connection to NATS is back"
            } else {
                "the connection to NATS is lost; waiting for it to come back (the job goes on)"
            });
        }
        if self.is_queued && !self.has_hinted && self.since.elapsed() > PATIENCE {
            self.has_hinted = true;
            return Some(
                "still queued: others may be first, or no worker is running (see: backstack doctor)",
            );
        }
        None
    }
}

/// How the job is shown while it goes on.
enum Show {
    Rows(Output),
    Bar(Output, ProgressBar),
    Lines(Output, Lines),
}

impl Show {
    fn new(out: Output) -> Self {
        if out.json {
            Self::Rows(out)
        } else if out.bars {
            Self::Bar(out, bar())
        } else {
            Self::Lines(out, Lines::default())
        }
    }

    fn row(&mut self, job: &Job) -> io::Result<()> {
        match self {
            Self::Rows(out) => out.row(job),
            Self::Bar(out, bar) => {
                move_bar(bar, job, *out);
                Ok(())
            }
            Self::Lines(out, lines) => {
                if lines.wants(job) {
                    out.text(&render::step_line(job, out.screen))?;
                }
                Ok(())
            }
        }
    }

    /// Says something that is no result.
    fn remark(&self, text: &str) {
        match self {
            Self::Bar(_, bar) => bar.println(clean_lines(text)),
            Self::Rows(out) | Self::Lines(out, _) => out.note(text),
        }
    }

    /// Takes the bar away.
    fn clear(&self) {
        if let Self::Bar(_, bar) = self {
            bar.finish_and_clear();
        }
    }
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

fn move_bar(bar: &ProgressBar, job: &Job, out: Output) {
    let known = job.progress.filter(|progress| progress.total > 0);
    // Templates are ours; one that did not parse would leave the plain spinner.
    let template = match known {
        Some(_) => "{spinner} {prefix} {wide_msg} [{bar:24}] {pos}/{len} {elapsed}",
        None => "{spinner} {prefix} {wide_msg} {elapsed}",
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        let (bars, ticks) = if out.screen.unicode {
            ("█▉▊▋▌▍▎▏ ", "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ ")
        } else {
            ("=> ", "-\\|/ ")
        };
        bar.set_style(style.progress_chars(bars).tick_chars(ticks));
    }
    if let Some(progress) = known {
        bar.set_length(progress.total);
        bar.set_position(progress.done);
    }
    bar.set_prefix(out.screen.status(job.status));
    bar.set_message(clean(&job.message).into_owned());
}

/// Which rows are worth a line.
#[derive(Default)]
struct Lines {
    last: Option<(JobStatus, u64, Option<Step>)>,
    at: Option<Instant>,
}

impl Lines {
    /// A change of status or of step is, and progress now and then.
    fn wants(&mut self, job: &Job) -> bool {
        let now = (
            job.status,
            job.run,
            job.progress.map(|progress| progress.step),
        );
        let is_due = self.at.is_none_or(|at| at.elapsed() > LINES_EVERY);
        if self.last == Some(now) && !is_due {
            return false;
        }
        self.last = Some(now);
        self.at = Some(Instant::now());
        true
    }
}

#[cfg(test)]
mod tests {
    use backstack_schemas::{Action, JobEvent, Progress};

    use super::super::render::fixtures::{at, queued, running};
    use super::*;

    fn fetched(job: &Job, done: u64) -> Job {
        let report = JobEvent::Report {
            message: "Fetching".to_owned(),
            progress: Progress {
                step: Step::Fetch,
                done,
                total: 9,
            },
        };
        job.apply(report, at(2)).unwrap()
    }

    #[test]
    fn a_line_is_for_a_change_and_not_for_every_tick() {
        let (mut lines, job) = (Lines::default(), running(Action::RestackRepo));
        assert!(lines.wants(&queued(Action::RestackRepo)));
        assert!(lines.wants(&job));
        assert!(lines.wants(&fetched(&job, 1)));
        assert!(!lines.wants(&fetched(&job, 2)));
    }

    #[test]
    fn a_lost_connection_is_said_once_and_its_return_too() {
        let mut waiting = Waiting::new();
        assert_eq!(waiting.remark(State::Connected), None);
        assert!(
            waiting
                .remark(State::Disconnected)
                .unwrap()
                .contains("lost")
        );
        assert_eq!(waiting.remark(State::Disconnected), None);
        assert!(waiting.remark(State::Connected).unwrap().contains("back"));
    }
}
