//! From how an attempt ended to what becomes of its job and message. Pure.
//!
//! The delays between attempts come from the `backoff` crate. It is unmaintained (RUSTSEC-2025-0012)
//! and was asked for; it is used here and nowhere else, so that replacing it is one file.

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff;
use backstack_schemas::{ErrorCode, JobError, JobEvent, JobResult, Timestamp};

use crate::delivery::Verdict;

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// What was asked is done.
    Done {
        /// What was done, in a sentence.
        message: String,
        /// What was done.
        result: JobResult,
    },
    /// It was not, or not all of it.
    Failed {
        /// Why.
        error: JobError,
        /// What was done all the same.
        result: Option<JobResult>,
    },
    /// It stopped because somebody asked for that, before the push.
    Cancelled,
    /// It stopped because this worker shuts down.
    HandedBack,
}

/// What becomes of the job's row and of its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// What happens to the row.
    pub event: JobEvent,
    /// What the server is told.
    pub verdict: Verdict,
}

/// The settlement of attempt number `attempt` of `max_attempts`, at `now`; `jitter`, from 0 to 1,
/// says where in its range a delay falls.
pub fn settle(
    outcome: Outcome,
    attempt: u32,
    max_attempts: u32,
    now: Timestamp,
    jitter: f64,
) -> Settlement {
    let (event, verdict) = match outcome {
        Outcome::Done { message, result } => (JobEvent::Complete { message, result }, Verdict::Ack),
        Outcome::Cancelled => (JobEvent::Cancel, Verdict::Ack),
        Outcome::HandedBack => (JobEvent::HandBack, Verdict::Nak(Duration::ZERO)),
        Outcome::Failed { error, .. } if error.retryable && attempt < max_attempts => {
            let delay = retry_delay(attempt, jitter);
            (
                JobEvent::Retry {
                    error,
                    next_attempt_at: now + delay,
                },
                Verdict::Nak(delay),
            )
        }
        Outcome::Failed { error, result } if error.retryable => {
            let error = exhausted(max_attempts, &error);
            (JobEvent::Fail { error, result }, Verdict::Ack)
        }
        Outcome::Failed { error, result } => (JobEvent::Fail { error, result }, Verdict::Ack),
    };
    Settlement { event, verdict }
}

/// The error of a job whose last attempt ended in `last`.
pub fn exhausted(max_attempts: u32, last: &JobError) -> JobError {
    let detail = format!("All {max_attempts} attempts failed, the last one with {last}");
    JobError::new(ErrorCode::AttemptsExhausted, detail)
}

/// The error of a job whose last attempt's worker never came back.
pub fn exhausted_without_a_word(max_attempts: u32) -> JobError {
    let last = JobError::new(
        ErrorCode::Internal,
        "the worker stopped without a word, as a crash or a kill makes it",
    );
    exhausted(max_attempts, &last)
}

/// How long to wait after attempt number `attempt`: about 1 s, 2 s, 4 s … 60 s, each between half
/// of that and all of it, so that jobs that failed together do not come back together.
fn retry_delay(attempt: u32, jitter: f64) -> Duration {
    let mut delays = ExponentialBackoff {
        initial_interval: Duration::from_secs(2),
        current_interval: Duration::from_secs(2),
        multiplier: 2.0,
        randomization_factor: 0.0,
        max_interval: Duration::from_secs(60),
        max_elapsed_time: None,
        ..ExponentialBackoff::default()
    };
    let mut longest = Duration::ZERO;
    for _ in 0..attempt.clamp(1, 10) {
        longest = delays.next_backoff().unwrap_or(longest);
    }
    let delay = longest.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0));
    delay.clamp(Duration::from_secs(1), Duration::from_secs(60))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at() -> Timestamp {
        Timestamp::from_unix_millis(1_000).unwrap()
    }

    fn failed(code: ErrorCode) -> Outcome {
        Outcome::Failed {
            error: JobError::new(code, "because"),
            result: None,
        }
    }

    #[test]
    fn what_may_pass_is_tried_again_later() {
        let settlement = settle(failed(ErrorCode::RemoteUnreachable), 1, 5, at(), 1.0);
        assert_eq!(settlement.verdict, Verdict::Nak(Duration::from_secs(2)));
        let JobEvent::Retry {
            next_attempt_at, ..
        } = settlement.event
        else {
            panic!("{settlement:?}")
        };
        assert_eq!(next_attempt_at, at() + Duration::from_secs(2));
    }

    #[test]
    fn the_last_attempt_ends_the_job_with_its_error_in_the_detail() {
        let settlement = settle(failed(ErrorCode::RemoteUnreachable), 5, 5, at(), 0.5);
        assert_eq!(settlement.verdict, Verdict::Ack);
        let JobEvent::Fail { error, .. } = settlement.event else {
            panic!("{settlement:?}")
        };
        assert_eq!(error.code, ErrorCode::AttemptsExhausted);
        assert!(
            error.detail.contains("remote_unreachable: because"),
            "{}",
            error.detail
        );
    }

    #[test]
    fn what_will_not_pass_ends_at_once() {
        for code in ErrorCode::ALL.iter().filter(|code| !code.is_retryable()) {
            let settlement = settle(failed(*code), 1, 5, at(), 0.5);
            assert_eq!(settlement.verdict, Verdict::Ack);
            assert!(matches!(settlement.event, JobEvent::Fail { .. }), "{code}");
        }
    }

    #[test]
    fn delays_grow_from_one_second_to_sixty_and_differ() {
        for attempt in 1..40 {
            let (least, most) = (retry_delay(attempt, 0.0), retry_delay(attempt, 1.0));
            assert!(least >= Duration::from_secs(1) && most <= Duration::from_secs(60));
            assert!(least < most);
        }
        assert!(retry_delay(3, 0.5) > retry_delay(2, 0.5));
    }
}
