//! The time that rows carry: the server's, as estimated from what it stamps (contract, section 8).
//!
//! A store time lies in the past when it is seen, so the largest distance seen between a store time
//! and a clock of this process that never jumps is the best estimate; time is never below a store
//! time seen. Old rows say little, so a process that has seen nothing else asks the server for its time
//! before it writes one ([`Rows::server_now`](crate::rows::Rows::server_now)). Until the first one, the local
//! wall clock serves. For people only: nothing is ordered by it.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Instant;

use backstack_schemas::Timestamp;
use chrono::Utc;

/// An estimate of the server's clock, shared by everything that writes rows over one connection.
#[derive(Debug)]
pub struct Clock {
    start: Instant,
    /// The server's time at `start`, in milliseconds since the Unix epoch; [`UNSEEN`] before the
    /// first store time.
    server_at_start: AtomicI64,
    /// Whether the server has told its own time, rather than when it stored something.
    told: AtomicBool,
}

const UNSEEN: i64 = i64::MIN;

impl Default for Clock {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            server_at_start: AtomicI64::new(UNSEEN),
            told: AtomicBool::new(false),
        }
    }
}

impl Clock {
    /// The time for a row written now.
    pub fn now(&self) -> Timestamp {
        let estimate = match self.server_at_start.load(Ordering::Relaxed) {
            UNSEEN => None,
            at_start => Timestamp::from_unix_millis(at_start.saturating_add(self.elapsed())),
        };
        estimate.unwrap_or_else(|| Timestamp::new(Utc::now()))
    }

    /// The server told its own time, just now.
    pub fn told(&self, at: Timestamp) {
        self.saw(at);
        self.told.store(true, Ordering::Relaxed);
    }

    /// Whether the server has told its own time.
    pub fn is_told(&self) -> bool {
        self.told.load(Ordering::Relaxed)
    }

    /// The server gave this time to a message or row that it stored.
    pub fn saw(&self, at: Timestamp) {
        let at_start = at.unix_millis().saturating_sub(self.elapsed());
        self.server_at_start.fetch_max(at_start, Ordering::Relaxed);
    }

    /// Milliseconds since this clock was made.
    fn elapsed(&self) -> i64 {
        i64::try_from(self.start.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn time_is_never_below_the_newest_store_time_seen() {
        let clock = Clock::default();
        let ahead = clock.now() + Duration::from_secs(3_600);
        clock.saw(ahead);
        assert!(clock.now() >= ahead);
        clock.saw(Timestamp::from_unix_millis(0).unwrap());
        assert!(clock.now() >= ahead, "an older one says nothing new");
    }

    #[test]
    fn a_local_clock_that_is_wrong_does_not_show_once_the_server_was_heard() {
        let clock = Clock::default();
        let behind = Timestamp::from_unix_millis(1_000_000_000_000).unwrap();
        clock.saw(behind);
        assert!(clock.now().since(behind) < Duration::from_secs(60));
    }
}
