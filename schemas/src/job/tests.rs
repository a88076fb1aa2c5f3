//! The state machine.

use proptest::prelude::*;

use super::*;
use crate::action::Action;
use crate::id::JobId;
use crate::outcome::ErrorCode;

fn at(second: i64) -> Timestamp {
    Timestamp::from_unix_millis(second * 1_000).unwrap()
}

fn queued() -> Job {
    let spec = JobSpec::new(
        "web".parse().unwrap(),
        JobId::generate(),
        &Action::RestackRepo.into(),
    );
    Job::queued(spec, Some(7), at(0))
}

fn start(delivery: u64) -> JobEvent {
    let worker = WorkerId::generate("host", 1);
    JobEvent::Start {
        worker,
        sequence: 7,
        delivery,
        max_attempts: 5,
    }
}

fn fail(code: ErrorCode) -> JobEvent {
    JobEvent::Fail {
        error: JobError::new(code, "because"),
        result: None,
    }
}

fn complete() -> JobEvent {
    JobEvent::Complete {
        message: "Done".to_owned(),
        result: JobResult::default(),
    }
}

fn retry() -> JobEvent {
    JobEvent::Retry {
        error: JobError::new(ErrorCode::RemoteUnreachable, "no route"),
        next_attempt_at: at(9),
    }
}

#[test]
fn runs_and_completes() {
    let running = queued().apply(start(1), at(1)).unwrap();
    assert_eq!(
        (running.status, running.attempt, running.run),
        (JobStatus::Running, 1, 1)
    );
    let done = running.apply(complete(), at(2)).unwrap();
    assert_eq!(done.status, JobStatus::Completed);
    assert_eq!(
        (done.started_at, done.finished_at),
        (Some(at(1)), Some(at(2)))
    );
    let statuses: Vec<_> = done.transitions.iter().map(|t| t.status.as_str()).collect();
    assert_eq!(statuses, ["queued", "running", "completed"]);
}

#[test]
fn a_retry_waits_in_the_queue_and_counts() {
    let waiting = queued()
        .apply(start(1), at(1))
        .unwrap()
        .apply(retry(), at(2))
        .unwrap();
    assert_eq!(
        (waiting.status, waiting.next_attempt_at),
        (JobStatus::Queued, Some(at(9)))
    );
    let again = waiting.apply(start(2), at(9)).unwrap();
    assert_eq!(
        (again.attempt, again.run, again.next_attempt_at),
        (2, 2, None)
    );
    assert_eq!(again.started_at, Some(at(1)), "when it first ran");
}

#[test]
fn a_shutdown_gives_the_attempt_back_but_not_the_run() {
    let back = queued()
        .apply(start(1), at(1))
        .unwrap()
        .apply(JobEvent::HandBack, at(2))
        .unwrap();
    assert_eq!(
        (back.status, back.attempt, back.run),
        (JobStatus::Queued, 0, 1)
    );
}

#[test]
fn cancelling_ends_a_queued_job_and_flags_a_running_one() {
    let ended = queued().apply(JobEvent::RequestCancel, at(1)).unwrap();
    assert_eq!(ended.status, JobStatus::Cancelled);
    let running = queued().apply(start(1), at(1)).unwrap();
    let flagged = running.apply(JobEvent::RequestCancel, at(2)).unwrap();
    assert_eq!(
        (flagged.status, flagged.cancel_requested),
        (JobStatus::Running, true)
    );
    assert_eq!(
        flagged.apply(JobEvent::Cancel, at(3)).unwrap().status,
        JobStatus::Cancelled
    );
}

#[test]
fn a_job_that_is_to_be_cancelled_does_not_go_back_to_the_queue() {
    let running = queued().apply(start(1), at(1)).unwrap();
    let flagged = running.apply(JobEvent::RequestCancel, at(2)).unwrap();
    let failed = flagged.apply(retry(), at(3)).unwrap();
    assert_eq!(
        (failed.status, failed.next_attempt_at),
        (JobStatus::Cancelled, None)
    );
    let error = failed.error.expect("what the attempt failed with");
    assert!(failed.message.contains(&error.detail), "{}", failed.message);
    let back = flagged.apply(JobEvent::HandBack, at(3)).unwrap();
    assert_eq!(back.status, JobStatus::Cancelled);
}

#[test]
fn a_job_may_be_refused_before_it_runs_but_not_complete() {
    assert_eq!(
        queued().apply(fail(ErrorCode::Expired), at(1)).unwrap().run,
        0
    );
    let error = queued().apply(complete(), at(1)).unwrap_err();
    assert_eq!(error.to_string(), "a job that is queued cannot complete");
}

#[test]
fn time_never_goes_back_in_a_row() {
    let running = queued().apply(start(1), at(100)).unwrap();
    assert_eq!(
        running.apply(complete(), at(5)).unwrap().finished_at,
        Some(at(100))
    );
}

#[test]
fn the_newest_transitions_are_kept() {
    let mut job = queued();
    for n in 0..20 {
        job = job
            .apply(start(n), at(1))
            .unwrap()
            .apply(retry(), at(2))
            .unwrap();
    }
    assert_eq!(job.transitions.len(), MAX_TRANSITIONS);
    assert_eq!(job.transitions.last().unwrap().status, JobStatus::Queued);
}

#[test]
fn a_row_stays_within_its_size_whatever_a_remote_says() {
    let branch = |i: usize| format!("b/{i}-{}", "x".repeat(900)).parse().unwrap();
    let result = JobResult {
        up_to_date: (0..2_000).map(branch).collect(),
        ..Default::default()
    };
    let error = JobError::new(ErrorCode::Internal, "é".repeat(300_000));
    let running = queued().apply(start(1), at(1)).unwrap();
    let row = running
        .apply(
            JobEvent::Fail {
                error,
                result: Some(result),
            },
            at(2),
        )
        .unwrap();
    assert!(serde_json::to_vec(&row).unwrap().len() <= MAX_ROW_BYTES);
    assert!(row.result.unwrap().truncated);
}

#[test]
fn a_row_reads_back_and_asks_for_the_same_again() {
    let job = queued().apply(start(1), at(1)).unwrap();
    let json = serde_json::to_string(&job).unwrap();
    assert_eq!(serde_json::from_str::<Job>(&json).unwrap(), job);
    assert_eq!(job.spec.to_message().unwrap().action, Action::RestackRepo);
}

proptest! {
    /// Whatever happens to a job, in whatever order, what the contract promises of rows holds.
    #[test]
    fn every_history_keeps_the_promises(picks in proptest::collection::vec(0usize..8, 0..60)) {
        let mut job = queued();
        for (second, pick) in picks.into_iter().enumerate() {
            let event = match pick {
                0 => start(1),
                1 => JobEvent::Report {
                    message: "On it".to_owned(),
                    progress: Progress { step: Step::Push, done: 1, total: 2 },
                },
                2 => retry(),
                3 => JobEvent::HandBack,
                4 => JobEvent::RequestCancel,
                5 => JobEvent::Cancel,
                6 => complete(),
                _ => fail(ErrorCode::Conflict),
            };
            match job.apply(event, at(second as i64)) {
                Ok(next) => {
                    prop_assert!(!job.status.is_terminal(), "terminal rows never change");
                    prop_assert!(next.run >= job.run);
                    prop_assert!(next.updated_at >= job.updated_at);
                    prop_assert_eq!(next.status.is_terminal(), next.finished_at.is_some());
                    prop_assert!(next.attempt as u64 <= next.run);
                    prop_assert!(
                        !(next.cancel_requested && next.status == JobStatus::Queued),
                        "what is to be cancelled waits for nothing"
                    );
                    prop_assert_eq!(&next.spec, &job.spec);
                    job = next;
                }
                Err(error) => prop_assert_eq!(error.status, job.status),
            }
        }
    }
}
