//! One round: many jobs of one worker, each at a place of its own, and what happens to the worker.

use std::time::{Duration, Instant};

use backstack_schemas::{Job, JobStatus};
use futures_util::future::join_all;

use super::lost_report::LostReport;
use super::{ACK_WAIT, Lane, Place, Replica, expected_runs};
use crate::Worker;
use crate::gate::{Arrived, Gate};
use crate::git_stops::{GitStop, GitStops, Halted};
use crate::wire::{Armed, Fault, NAMELESS_STEP, Wire};

/// How long a worker waits for an answer.
const GIVEN_UP_AFTER: Duration = backstack_producer::api::DEADLINE;

/// How long it may take until what was lost is made up for: an unanswered request is given up, and what
/// comes next is another attempt, 2 s later at most, or a redelivery.
const MADE_UP_WITHIN: Duration = GIVEN_UP_AFTER.saturating_add(ACK_WAIT);

/// Who does the jobs of a worker that was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Successor {
    /// Another worker, which ran all the time.
    Survivor,
    /// The same one, started again on its mirrors.
    Restarted,
}

/// A job that is to be stopped at a place, or stands there.
struct Stand {
    place: Place,
    replica: Replica,
    stop: Stop,
    /// What keeps it there, once it has come.
    stood: Option<Stood>,
}

/// All jobs of a round at their places.
struct Standing {
    stands: Vec<Stand>,
    /// Whether it went so fast that no request can have been given up; it can, where the machine is
    /// busy with something else.
    nothing_given_up: bool,
}

impl Standing {
    /// Lets all go. What was on the wire of a connection that is gone goes nowhere.
    fn release(&mut self, wire: &Wire) {
        self.stands.iter_mut().for_each(Stand::release);
        wire.release();
    }
}

impl Stand {
    async fn reach(&mut self) {
        self.stood = Some(self.stop.reached().await);
    }

    fn release(&mut self) {
        self.stop.release();
        self.stood = None;
    }
}

/// What stops it.
enum Stop {
    Wire(Armed),
    Git(GitStop),
    Remote(Gate),
    Report(LostReport),
}

/// What keeps it standing.
enum Stood {
    Nothing,
    Git { _halted: Halted },
    Remote { _arrived: Arrived },
}

impl Stop {
    async fn reached(&self) -> Stood {
        match self {
            Self::Wire(armed) => {
                armed.reached().await;
                Stood::Nothing
            }
            Self::Git(stop) => Stood::Git {
                _halted: stop.reached().await,
            },
            Self::Remote(gate) => Stood::Remote {
                _arrived: gate.arrived().await,
            },
            Self::Report(report) => {
                report.reached().await;
                Stood::Nothing
            }
        }
    }

    fn release(&self) {
        match self {
            Self::Wire(_) | Self::Report(_) => {}
            Self::Git(stop) => stop.release(),
            Self::Remote(gate) => gate.release(),
        }
    }
}

impl Lane {
    /// Kills a worker with kill -9 that has a job at each of the places, and sees that its successor
    /// does them all. `name` is of this round alone.
    pub async fn kill(&self, name: &str, places: &[Place], successor: Successor) {
        let wire = Wire::start(&self.world).await;
        let stops = GitStops::new(self.world.dir().join(name));
        let victim = self.worker(&wire, &stops).await;
        let mut round = self.bring_to(name, places, &wire, &stops).await;
        let survivor = match successor {
            Successor::Survivor => Some(Worker::start(&self.world, &[]).await),
            Successor::Restarted => None,
        };
        let since = Instant::now();
        victim.kill9().await;
        // What it had not sent yet is gone with it.
        wire.cut().await;
        let successor =
            survivor.unwrap_or_else(|| Worker::launch_on(&self.world, victim.state(), &[]));
        round.release(&wire);
        self.assert_done_by_another(name, &round, since).await;
        self.assert_one_effect(&round.stands).await;
        // Not drained: the next round must not wait for it.
        successor.kill9().await;
    }

    /// Suspends a worker for longer than the ack wait that has a job at each of the places: another
    /// does them all, and is not disturbed when the first goes on where it stood.
    pub async fn suspend(&self, name: &str, places: &[Place]) {
        let wire = Wire::start(&self.world).await;
        let stops = GitStops::new(self.world.dir().join(name));
        let suspended = self.worker(&wire, &stops).await;
        let mut round = self.bring_to(name, places, &wire, &stops).await;
        let successor = Worker::start(&self.world, &[]).await;
        let since = Instant::now();
        suspended.pause();
        // A push that had left for the remote arrives, though its worker stands still.
        let pushes = round.stands.iter_mut();
        let pushes = pushes.filter(|stand| stand.place == Place::AtRemote);
        pushes.for_each(Stand::release);
        self.assert_done_by_another(name, &round, since).await;
        let before = self.newest_rows(&round.stands).await;
        suspended.resume();
        round.release(&wire);
        // It drains, so all that it still had to say has been said.
        let output = suspended.stop().await;
        assert_eq!(output.code, 0, "{}", output.stderr);
        let after = self.newest_rows(&round.stands).await;
        for (stand, (before, after)) in round.stands.iter().zip(before.into_iter().zip(after)) {
            assert_eq!(after, before, "{}: a stale write was taken", stand.place);
        }
        self.world.queue_empty().await;
        self.assert_one_effect(&round.stands).await;
        successor.kill9().await;
    }

    /// Loses one message each at the places: all jobs come to their end all the same.
    pub async fn lose(&self, name: &str, places: &[Place]) {
        let wire = Wire::start(&self.world).await;
        let stops = GitStops::new(self.world.dir().join(name));
        let worker = self.worker(&wire, &stops).await;
        let since = Instant::now();
        let round = self.bring_to(name, places, &wire, &stops).await;
        self.all_complete(name, &round.stands, since, MADE_UP_WITHIN)
            .await;
        self.world.queue_empty().await;
        self.assert_one_effect(&round.stands).await;
        worker.kill9().await;
    }

    /// Cuts a worker off that has a job at each of the places, for so long: each job goes on there or
    /// is done by another worker, and never both.
    pub async fn cut_off(&self, name: &str, places: &[Place], for_so_long: Duration) {
        let wire = Wire::start(&self.world).await;
        let stops = GitStops::new(self.world.dir().join(name));
        let lonely = self.worker(&wire, &stops).await;
        let mut round = self.bring_to(name, places, &wire, &stops).await;
        let other = Worker::start(&self.world, &[]).await;
        let since = Instant::now();
        wire.cut().await;
        round.release(&wire);
        tokio::time::sleep(for_so_long).await;
        wire.mend();
        self.all_complete(name, &round.stands, since, MADE_UP_WITHIN + for_so_long)
            .await;
        self.world.queue_empty().await;
        let output = lonely.stop().await;
        assert_eq!(output.code, 0, "{}", output.stderr);
        self.assert_one_effect(&round.stands).await;
        other.kill9().await;
    }

    /// Kills the server with kill -9 and starts it again while a worker has a job at each of the places:
    /// the worker comes back to it by itself and does them all.
    pub async fn kill_server(&self, name: &str, places: &[Place]) {
        let wire = Wire::start(&self.world).await;
        let stops = GitStops::new(self.world.dir().join(name));
        let worker = self.worker(&wire, &stops).await;
        let mut round = self.bring_to(name, places, &wire, &stops).await;
        let since = Instant::now();
        self.world.server().kill9().await;
        // What was on its way is lost.
        wire.cut().await;
        round.release(&wire);
        self.world.server().restart().await.expect("a server");
        wire.mend();
        self.all_complete(name, &round.stands, since, MADE_UP_WITHIN)
            .await;
        let output = worker.stop().await;
        assert_eq!(output.code, 0, "{}", output.stderr);
        self.assert_one_effect(&round.stands).await;
    }

    /// All jobs are done in time, each with as many runs as it takes, and the queue is empty.
    async fn assert_done_by_another(&self, name: &str, round: &Standing, since: Instant) {
        let stands = &round.stands;
        for (stand, job) in stands.iter().zip(self.ended(stands).await) {
            let place = &stand.place;
            assert_eq!(job.status, JobStatus::Completed, "{place}: {job:#?}");
            if round.nothing_given_up {
                let runs = expected_runs(&self.places, place);
                let counted = (u64::from(job.attempt), job.run);
                assert_eq!(counted, (runs, runs), "{place}: {job:#?}");
            }
        }
        self.world.queue_empty().await;
        let took = since.elapsed();
        self.assert_in_time(name, took, ACK_WAIT, stands.len())
            .await;
    }

    /// The jobs' rows as they are, with their revisions.
    async fn newest_rows(&self, stands: &[Stand]) -> Vec<Option<(u64, Job)>> {
        join_all(stands.iter().map(|stand| async {
            let replica = &stand.replica;
            let mut history = self.world.job_history(&replica.repo, replica.job).await;
            history.pop()
        }))
        .await
    }

    /// Publishes a job for each place and waits until all stand there.
    async fn bring_to(
        &self,
        name: &str,
        places: &[Place],
        wire: &Wire,
        stops: &GitStops,
    ) -> Standing {
        let mut stands = Vec::new();
        // The later a place, the longer its way: the last first. But a step that does not tell its
        // repository must be that of the only job there is.
        for (number, place) in places.iter().enumerate().rev() {
            let replica = self.replica(&format!("{name}-{number}")).await;
            let stop = self.arm(place, &replica, wire, stops);
            stands.push(Stand {
                place: place.clone(),
                replica,
                stop,
                stood: None,
            });
        }
        stands.sort_by_key(|stand| !is_nameless(&stand.place));
        let since = Instant::now();
        for stand in &mut stands {
            self.publish(&stand.replica).await;
            if is_nameless(&stand.place) {
                stand.reach().await;
            }
        }
        let rest = stands.iter_mut().filter(|stand| stand.stood.is_none());
        join_all(rest.map(Stand::reach)).await;
        Standing {
            stands,
            nothing_given_up: since.elapsed() < GIVEN_UP_AFTER,
        }
    }

    fn arm(&self, place: &Place, replica: &Replica, wire: &Wire, stops: &GitStops) -> Stop {
        let repo = &replica.repo;
        match place {
            Place::Asking(step) => Stop::Wire(wire.arm(repo, step, Fault::KeepRequest)),
            Place::Lost(step, fault) => Stop::Wire(wire.arm(repo, step, *fault)),
            Place::Answered(step) => Stop::Wire(wire.arm(repo, step, Fault::KeepReply)),
            Place::Git(command, when) => Stop::Git(stops.arm(repo, command, *when)),
            Place::AtRemote => Stop::Remote(Gate::close(&replica.remote)),
            Place::ReportOfPush => Stop::Report(LostReport::arm(&replica.remote)),
        }
    }

    /// Waits until all jobs have ended.
    async fn ended(&self, stands: &[Stand]) -> Vec<Job> {
        let ended = stands.iter().map(|stand| {
            let replica = &stand.replica;
            self.world.ended(&replica.repo, replica.job)
        });
        join_all(ended).await
    }

    /// Waits until all jobs have completed, in time.
    async fn all_complete(&self, name: &str, stands: &[Stand], since: Instant, lawful: Duration) {
        for (stand, job) in stands.iter().zip(self.ended(stands).await) {
            assert_eq!(
                job.status,
                JobStatus::Completed,
                "{}: {job:#?}",
                stand.place
            );
        }
        let took = since.elapsed();
        self.assert_in_time(name, took, lawful, stands.len()).await;
    }

    /// Remote, rows and moves are as after the run that nothing disturbed.
    async fn assert_one_effect(&self, stands: &[Stand]) {
        for stand in stands {
            let outcome = self.outcome(&stand.replica).await;
            assert_eq!(outcome, self.expected, "{}", stand.place);
        }
    }
}

fn is_nameless(place: &Place) -> bool {
    match place {
        Place::Asking(step) | Place::Answered(step) | Place::Lost(step, _) => step == NAMELESS_STEP,
        Place::Git(..) | Place::AtRemote | Place::ReportOfPush => false,
    }
}
