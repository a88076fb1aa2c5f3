//! Each promise, broken by hand, is found; what is allowed is not.

use backstack_schemas::outcome::Moved;
use backstack_schemas::{
    Action, ActionMessage, ErrorCode, JobError, JobEvent, JobResult, JobSpec, ObjectId, Progress,
    Step, Timestamp, WorkerId,
};

use super::*;

/// A history that is being made up.
#[derive(Default)]
struct Story {
    history: History,
    revision: u64,
}

fn at() -> Timestamp {
    Timestamp::from_unix_millis(1_000).unwrap()
}

fn id(digit: char) -> ObjectId {
    digit.to_string().repeat(40).parse().unwrap()
}

fn worker_id(pid: u32) -> WorkerId {
    WorkerId::generate("host", pid)
}

fn start(worker: &WorkerId) -> JobEvent {
    JobEvent::Start {
        worker: worker.clone(),
        sequence: 1,
        delivery: 1,
        max_attempts: 5,
    }
}

fn complete(moved: &[(char, char)]) -> JobEvent {
    let moved = moved.iter().map(|(from, to)| Moved {
        branch: "a".parse().unwrap(),
        from: id(*from),
        to: id(*to),
    });
    JobEvent::Complete {
        message: "Done".to_owned(),
        result: JobResult {
            moved: moved.collect(),
            ..JobResult::default()
        },
    }
}

impl Story {
    fn accept(&mut self, sequence: u64) -> Job {
        let message = ActionMessage::from(Action::RestackRepo);
        let spec = JobSpec::new("web".parse().unwrap(), JobId::generate(), &message);
        self.history.accept("web", spec.job_id, sequence);
        Job::queued(spec, Some(sequence), at())
    }

    fn write(&mut self, job: &Job) {
        self.revision += 1;
        self.history.writes.push(RowWrite {
            revision: self.revision,
            job: job.clone(),
        });
    }

    fn apply(&mut self, job: &Job, event: JobEvent) -> Job {
        let next = job.apply(event, at()).unwrap();
        self.write(&next);
        next
    }

    fn run_whole(&mut self, job: &Job, moved: &[(char, char)]) -> Job {
        let running = self.apply(job, start(&worker_id(1)));
        self.apply(&running, complete(moved))
    }

    fn moved(&mut self, by: Option<&str>, from: char, to: char) {
        let moves = self.history.moves.entry("web".to_owned()).or_default();
        moves.push(RefMove {
            by: by.map(str::to_owned),
            branch: "a".to_owned(),
            from: Some(id(from)),
            to: Some(id(to)),
        });
    }

    fn broken(&self) -> Vec<Promise> {
        let mut broken: Vec<_> = self
            .history
            .violations()
            .into_iter()
            .map(|violation| violation.promise)
            .collect();
        broken.dedup();
        broken
    }
}

#[test]
fn a_good_history_breaks_nothing() {
    let mut story = Story::default();
    let (one, two, three) = (story.accept(1), story.accept(2), story.accept(3));
    // A crash, a take-over, a retry and a row that is written before its turn.
    story.write(&two);
    let running = story.apply(&one, start(&worker_id(1)));
    story.moved(None, '1', '2');
    let running = story.apply(&running, start(&worker_id(2)));
    let report = JobEvent::Report {
        message: "Pushing".to_owned(),
        progress: Progress {
            step: Step::Push,
            done: 0,
            total: 1,
        },
    };
    let running = story.apply(&running, report);
    let retry = JobEvent::Retry {
        error: JobError::new(ErrorCode::Timeout, "slow"),
        next_attempt_at: at(),
    };
    let waiting = story.apply(&running, retry);
    story.run_whole(&waiting, &[]);
    // Cancelled while it waits, ahead of the one before it.
    story.apply(&three, JobEvent::RequestCancel);
    story.moved(Some("ann"), '2', '3');
    story.moved(None, '3', '4');
    story.run_whole(&two, &[('3', '4')]);
    assert_eq!(story.history.violations(), []);
}

#[test]
fn an_accepted_action_without_a_row_is_found() {
    let mut story = Story::default();
    story.accept(1);
    assert_eq!(story.broken(), [Promise::EndsOnce]);
}

#[test]
fn a_job_that_never_ends_is_found() {
    let mut story = Story::default();
    let job = story.accept(1);
    story.apply(&job, start(&worker_id(1)));
    assert_eq!(story.broken(), [Promise::EndsOnce]);
}

#[test]
fn a_terminal_row_that_is_written_again_is_found() {
    let mut story = Story::default();
    let job = story.accept(1);
    let ended = story.run_whole(&job, &[]);
    story.write(&ended);
    assert_eq!(story.broken(), [Promise::EndStays]);
}

#[test]
fn a_row_that_ended_twice_is_found_though_the_first_end_was_not_seen() {
    let mut story = Story::default();
    let job = story.accept(1);
    let mut ended = story.run_whole(&job, &[]);
    ended
        .transitions
        .push(ended.transitions.last().unwrap().clone());
    story.history.writes.last_mut().unwrap().job = ended;
    assert_eq!(story.broken(), [Promise::EndsOnce]);
}

#[test]
fn a_write_of_a_replaced_run_is_found() {
    let mut story = Story::default();
    let job = story.accept(1);
    let first = story.apply(&job, start(&worker_id(1)));
    let second = story.apply(&first, start(&worker_id(2)));
    story.write(&first);
    story.apply(&second, complete(&[]));
    assert_eq!(story.broken(), [Promise::NewestRunWrites]);
}

#[test]
fn two_workers_in_one_run_are_found() {
    let mut story = Story::default();
    let job = story.accept(1);
    let running = story.apply(&job, start(&worker_id(1)));
    let mut other = running.clone();
    other.worker = Some(worker_id(2));
    story.write(&other);
    story.apply(&other, complete(&[]));
    assert_eq!(story.broken(), [Promise::NewestRunWrites]);
}

#[test]
fn runs_out_of_order_are_found() {
    let mut story = Story::default();
    let (one, two) = (story.accept(1), story.accept(2));
    story.run_whole(&two, &[]);
    story.run_whole(&one, &[]);
    assert_eq!(story.broken(), [Promise::InOrder]);
}

#[test]
fn runs_that_overlap_are_found() {
    let mut story = Story::default();
    let (one, two) = (story.accept(1), story.accept(2));
    let first = story.apply(&one, start(&worker_id(1)));
    let second = story.apply(&two, start(&worker_id(2)));
    story.apply(&first, complete(&[]));
    story.apply(&second, complete(&[]));
    assert_eq!(story.broken(), [Promise::InOrder]);
}

#[test]
fn an_effect_that_is_there_twice_is_found() {
    let mut story = Story::default();
    let job = story.accept(1);
    story.run_whole(&job, &[('1', '2')]);
    story.moved(None, '1', '2');
    story.moved(Some("ann"), '2', '1');
    story.moved(None, '1', '2');
    assert_eq!(story.broken(), [Promise::OneEffect]);
}

#[test]
fn an_effect_that_is_told_and_not_there_is_found() {
    let mut story = Story::default();
    let job = story.accept(1);
    story.run_whole(&job, &[('1', '2')]);
    story.moved(Some("ann"), '1', '2');
    assert_eq!(story.broken(), [Promise::OneEffect]);
}

#[test]
fn an_effect_that_two_jobs_claim_is_found() {
    let mut story = Story::default();
    let (one, two) = (story.accept(1), story.accept(2));
    story.run_whole(&one, &[('1', '2')]);
    story.run_whole(&two, &[('1', '2')]);
    story.moved(None, '1', '2');
    assert_eq!(story.broken(), [Promise::OneEffect]);
}

#[test]
fn a_move_that_no_job_stands_for_is_found() {
    let mut story = Story::default();
    let job = story.accept(1);
    story.run_whole(&job, &[]);
    story.moved(None, '1', '2');
    assert_eq!(story.broken(), [Promise::OneEffect]);
}
