//! Jobs: one in a line, many in a table, one in full.

use backstack_schemas::{Job, JobStatus, Timestamp};

use super::result::result_lines;
use super::{Screen, Table, after_error, ago, clean, span};

/// What a job is about: `restack_subtree feature-a`, `reparent_branch a onto b`.
fn subject(job: &Job) -> String {
    let spec = &job.spec;
    let mut text = clean(&spec.action).into_owned();
    if let Some(branch) = &spec.branch {
        text.push_str(&format!(" {}", clean(branch.as_str())));
    }
    if let Some(parent) = &spec.parent {
        text.push_str(&format!(" onto {}", clean(parent.as_str())));
    }
    if spec.restack {
        text.push_str(" with restack");
    }
    if spec.dry_run {
        text.push_str(" (dry run)");
    }
    text
}

/// What is said of an action that was just accepted.
pub fn accepted(job: &Job, screen: Screen) -> String {
    let (repo, id) = (&job.spec.repo, job.spec.job_id);
    format!(
        "{} {} {} as job {id}\n{} backstack job show {repo} {id} --wait",
        screen.status(job.status),
        screen.bold(repo.as_str()),
        subject(job),
        screen.dim("follow it:"),
    )
}

/// How far a running job is: `restack 3/9`; empty where that is not known.
pub fn progress_words(job: &Job) -> String {
    match job.progress {
        Some(at) if at.total > 0 => format!("{} {}/{}", at.step, at.done, at.total),
        Some(at) if at.done > 0 => format!("{} {}", at.step, at.done),
        Some(at) => at.step.to_string(),
        None => String::new(),
    }
}

/// One change of any job, in one line.
pub fn job_line(job: &Job, screen: Screen) -> String {
    let line = format!(
        "{}  {}  {}  {}",
        moment(job, screen),
        screen.dim(&job.spec.job_id.to_string()),
        screen.bold(job.spec.repo.as_str()),
        subject(job),
    );
    screen.fit(&with_news(line, job, screen))
}

/// One change of the job that is being followed, in one line.
pub fn step_line(job: &Job, screen: Screen) -> String {
    screen.fit(&with_news(moment(job, screen), job, screen))
}

/// When, and where the job stands.
fn moment(job: &Job, screen: Screen) -> String {
    let time = job.updated_at.to_utc().format("%H:%M:%S").to_string();
    let status = format!("{:9}", job.status.as_str());
    format!(
        "{}  {}",
        screen.dim(&time),
        screen.in_colour_of(job.status, &status)
    )
}

/// The line with how far the job is, and what it says of itself.
fn with_news(mut line: String, job: &Job, screen: Screen) -> String {
    let progress = progress_words(job);
    if !progress.is_empty() {
        line.push_str(&format!("  {}", screen.busy(&progress)));
    }
    line.push_str(&format!("  {}", clean(&job.message)));
    line
}

/// Jobs as a table.
pub fn job_table(jobs: &[Job], screen: Screen, now: Timestamp) -> String {
    let mut table = Table::new(
        screen,
        &["STATUS", "JOB", "REPO", "ACTION", "AGE", "MESSAGE"],
    );
    for job in jobs {
        let sign = screen.status_sign(job.status);
        table.row([
            screen.in_colour_of(job.status, &format!("{sign} {}", job.status.as_str())),
            job.spec.job_id.to_string(),
            screen.bold(job.spec.repo.as_str()),
            subject(job),
            ago(job.created_at, now),
            clean(&job.message).into_owned(),
        ]);
    }
    table.lines(screen)
}

/// Everything a person wants to know of a job, folded to the screen's columns.
pub fn job_report(job: &Job, screen: Screen, now: Timestamp) -> String {
    // What failed before somebody cancelled it is not why it ended.
    let error = job
        .error
        .as_ref()
        .filter(|_| job.status != JobStatus::Cancelled);
    let code = error.map(|error| format!("{}: ", screen.bad(error.code.as_str())));
    let message = format!("  {}{}", code.unwrap_or_default(), clean(&job.message));
    let circumstances = format!("  {}", circumstances(job, now));
    let mut lines = screen.fold(&headline(job, screen), 2);
    lines.extend(screen.fold(&message, 2));
    let dim = |line: String| screen.dim(&line);
    lines.extend(screen.fold(&circumstances, 2).into_iter().map(dim));
    if let Some(result) = &job.result {
        lines.extend(result_lines(result, job.spec.dry_run, screen));
    }
    if job.status == JobStatus::Error
        && let Some(hint) = after_error(job)
    {
        let arrow = screen.arrow();
        lines.push(String::new());
        lines.extend(screen.fold(&format!("  {arrow} {hint}"), 3 + arrow.chars().count()));
    }
    lines.join("\n")
}

fn headline(job: &Job, screen: Screen) -> String {
    let sign = screen.status_sign(job.status);
    format!(
        "{}  {} {}  {}",
        screen.in_colour_of(job.status, &format!("{sign} {}", job.status)),
        screen.bold(job.spec.repo.as_str()),
        subject(job),
        screen.dim(&job.spec.job_id.to_string()),
    )
}

/// Who, when, how long, where.
fn circumstances(job: &Job, now: Timestamp) -> String {
    let mut parts = Vec::new();
    if let Some(who) = &job.spec.requested_by {
        parts.push(format!("asked by {}", clean(who)));
    }
    parts.push(format!(
        "{}",
        job.created_at.to_utc().format("%Y-%m-%d %H:%M:%S UTC")
    ));
    if let Some(started) = job.started_at {
        parts.push(format!("waited {}", span(started.since(job.created_at))));
        match job.finished_at {
            Some(ended) => parts.push(format!("ran {}", span(ended.since(started)))),
            None if job.status == JobStatus::Running => {
                parts.push(format!("running for {}", span(now.since(started))));
            }
            None => {}
        }
    } else if let Some(ended) = job.finished_at {
        parts.push(format!("ended after {}", span(ended.since(job.created_at))));
    } else {
        parts.push(format!("waiting for {}", span(now.since(job.created_at))));
    }
    if job.attempt > 1 {
        parts.push(format!("attempt {} of {}", job.attempt, job.max_attempts));
    }
    if let Some(at) = job.next_attempt_at {
        parts.push(format!("next attempt in {}", span(at.since(now))));
    }
    if job.cancel_requested && !job.status.is_terminal() {
        parts.push("told to stop".to_owned());
    }
    if let Some(worker) = &job.worker {
        parts.push(clean(worker.as_str()).into_owned());
    }
    if let Some(first) = job.spec.retry_of {
        parts.push(format!("retries {first}"));
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use backstack_schemas::outcome::{
        Conflict, ConflictKind, ConflictPath, DropReason, DroppedCommit, Merged, MergedHow, Moved,
        SkipReason, Skipped, TrunkMoved,
    };
    use backstack_schemas::{Action, ErrorCode, JobError, JobEvent, JobResult, Progress, Step};

    use super::super::fixtures::{at, id, queued, running};
    use super::*;

    fn conflicted() -> Job {
        let result = JobResult {
            trunk: Some(TrunkMoved {
                branch: "main".parse().unwrap(),
                from: Some(id(1)),
                to: id(2),
            }),
            moved: vec![Moved {
                branch: "feature-a".parse().unwrap(),
                from: id(3),
                to: id(4),
            }],
            up_to_date: vec!["docs".parse().unwrap()],
            merged: vec![Merged {
                branch: "old".parse().unwrap(),
                into: "main".parse().unwrap(),
                how: MergedHow::Squash,
            }],
            conflicts: vec![Conflict {
                branch: "feature-b".parse().unwrap(),
                commit: id(5),
                onto: id(4),
                paths: vec![
                    ConflictPath {
                        path: "src/a.rs".to_owned(),
                        kind: ConflictKind::Content,
                    },
                    ConflictPath {
                        path: "src/\u{1b}[31mb.rs".to_owned(),
                        kind: ConflictKind::ModifyDelete,
                    },
                ],
            }],
            skipped: vec![Skipped {
                branch: "feature-c".parse().unwrap(),
                reason: SkipReason::ParentConflict,
            }],
            dropped_commits: vec![DroppedCommit {
                branch: "feature-a".parse().unwrap(),
                commit: id(6),
                reason: DropReason::BecameEmpty,
            }],
            ..JobResult::default()
        };
        let error = JobError::new(
            ErrorCode::Conflict,
            "1 branch could not be replayed; 1 was pushed",
        );
        let event = JobEvent::Fail {
            error,
            result: Some(result),
        };
        running(Action::RestackRepo).apply(event, at(3)).unwrap()
    }

    #[test]
    fn an_accepted_action_says_how_to_follow_it() {
        let job = queued(Action::RestackRepo);
        insta::assert_snapshot!(accepted(&job, Screen::plain()), @r"
        queued web restack_repo as job 0199aaaa-0000-7000-8000-000000000001
        follow it: backstack job show web 0199aaaa-0000-7000-8000-000000000001 --wait
        ");
    }

    #[test]
    fn a_report_says_what_was_done_what_was_not_and_what_to_do() {
        insta::assert_snapshot!(job_report(&conflicted(), Screen::plain(), at(60)), @r"
        ✗ error  web restack_repo  0199aaaa-0000-7000-8000-000000000001
          conflict: 1 branch could not be replayed; 1 was pushed
          asked by alice, 2026-11-22 10:00:00 UTC, waited 1.0s, ran 2.0s, host-1/4242/k3x9

          trunk moved
            main 01010101 → 02020202

          moved
            feature-a 03030303 → 04040404

          up to date
            docs

          merged
            old into main: squashed; no longer tracked

          conflicts
            feature-b: commit 05050505 does not go onto 04040404
              both changed         src/a.rs
              changed and deleted  src/�[31mb.rs

          skipped
            feature-c: its parent conflicts → resolve that first

          commits left out
            06060606 of feature-a: its change is there already

          → rebase the branches that conflict by hand and push them; the others are done
        ");
    }

    #[test]
    fn a_report_is_folded_to_the_screen() {
        let narrow = Screen {
            width: Some(60),
            ..Screen::plain()
        };
        let mut job = conflicted();
        let result = job.result.as_mut().unwrap();
        result.conflicts[0].paths[0].path = "src/a/directory/that/goes/on/and/on/a.rs".to_owned();
        result.truncated = true;
        job.message =
            "1 branch could not be replayed onto its parent, 1 waits for it, 1 was pushed"
                .to_owned();
        let report = job_report(&job, narrow, at(60));
        insta::assert_snapshot!(report, @r"
        ✗ error  web restack_repo
          0199aaaa-0000-7000-8000-000000000001
          conflict: 1 branch could not be replayed onto its parent,
          1 waits for it, 1 was pushed
          asked by alice, 2026-11-22 10:00:00 UTC, waited 1.0s, ran
          2.0s, host-1/4242/k3x9

          trunk moved
            main 01010101 → 02020202

          moved
            feature-a 03030303 → 04040404

          up to date
            docs

          merged
            old into main: squashed; no longer tracked

          conflicts
            feature-b: commit 05050505 does not go onto 04040404
              both changed
                src/a/directory/that/goes/on/and/on/a.rs
              changed and deleted  src/�[31mb.rs

          skipped
            feature-c: its parent conflicts → resolve that first

          commits left out
            06060606 of feature-a: its change is there already

          the lists were too long for the row and are cut

          → rebase the branches that conflict by hand and push them;
            the others are done
        ");
        assert!(report.lines().all(|line| line.chars().count() <= 60));
    }

    #[test]
    fn a_report_of_a_job_that_waits_says_for_how_long() {
        let job = queued(Action::RebaseBranch {
            branch: "fix/a.b".parse().unwrap(),
        });
        insta::assert_snapshot!(job_report(&job, Screen::plain(), at(125)), @r"
        ○ queued  web rebase_branch fix/a.b  0199aaaa-0000-7000-8000-000000000001
          Waiting for its turn
          asked by alice, 2026-11-22 10:00:00 UTC, waiting for 2m 5s
        ");
    }

    #[test]
    fn a_report_of_a_failed_attempt_says_when_the_next_is_due() {
        let retry = JobEvent::Retry {
            error: JobError::new(ErrorCode::RemoteUnreachable, "no route to git.example"),
            next_attempt_at: at(30),
        };
        let job = running(Action::SyncRepo { restack: true })
            .apply(retry, at(2))
            .unwrap();
        insta::assert_snapshot!(job_report(&job, Screen::plain(), at(10)), @r"
        ○ queued  web sync_repo with restack  0199aaaa-0000-7000-8000-000000000001
          remote_unreachable: Attempt 1 of 5 failed, the next is due at 2026-11-22T10:00:30.000Z: no route to git.example
          asked by alice, 2026-11-22 10:00:00 UTC, waited 1.0s, next attempt in 20s, host-1/4242/k3x9
        ");
    }

    #[test]
    fn a_change_is_one_line() {
        let report = JobEvent::Report {
            message: "Restacking 3 of 9 branches".to_owned(),
            progress: Progress {
                step: Step::Restack,
                done: 3,
                total: 9,
            },
        };
        let job = running(Action::RestackRepo).apply(report, at(2)).unwrap();
        insta::assert_snapshot!(step_line(&job, Screen::plain()), @"10:00:02  running    restack 3/9  Restacking 3 of 9 branches");
        insta::assert_snapshot!(job_line(&job, Screen::plain()), @"10:00:02  running    0199aaaa-0000-7000-8000-000000000001  web  restack_repo  restack 3/9  Restacking 3 of 9 branches");
    }

    #[test]
    fn jobs_as_a_table_fit_the_screen() {
        let screen = Screen {
            width: Some(100),
            ..Screen::plain()
        };
        let jobs = [conflicted(), queued(Action::SyncRepo { restack: true })];
        insta::assert_snapshot!(job_table(&jobs, screen, at(7_300)), @r"
        STATUS    JOB                                   REPO  ACTION                  AGE     MESSAGE
        ✗ error   0199aaaa-0000-7000-8000-000000000001  web   restack_repo            2h ago  1 branch coul…
        ○ queued  0199aaaa-0000-7000-8000-000000000001  web   sync_repo with restack  2h ago  Waiting for i…
        ");
    }

    #[test]
    fn colours_and_signs_are_left_out_where_the_screen_has_none() {
        let colourful = Screen {
            colour: true,
            ..Screen::plain()
        };
        assert!(job_report(&conflicted(), colourful, at(60)).contains("\u{1b}[31m"));
        let ascii = Screen {
            unicode: false,
            ..Screen::plain()
        };
        let job = queued(Action::RestackRepo);
        assert!(job_report(&job, ascii, at(60)).is_ascii());
        assert!(!job_report(&conflicted(), Screen::plain(), at(60)).contains('\u{1b}'));
    }
}
