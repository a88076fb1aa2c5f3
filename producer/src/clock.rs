//! The time that rows carry: the server's, as estimated from what it stamps (contract, section 8).
//!
//! Never below the newest store time seen. Until the server has told its own time, the local clock
//! serves. For people only: nothing is ordered or decided by it.

use std::sync::atomic::{AtomicI64, Ordering};

use backstack_schemas::Timestamp;
use chrono::Utc;

/// An estimate of the server's clock, shared by everything that writes rows over one connection.
#[derive(Debug, Default)]
pub struct Clock {
    /// The newest store time seen, in milliseconds since the Unix epoch.
    newest: AtomicI64,
    /// How far the server's clock is ahead of the local one, in milliseconds.
    ahead: AtomicI64,
}

impl Clock {
    /// The time for a row written now.
    pub fn now(&self) -> Timestamp {
        let local = Utc::now().timestamp_millis();
        let server = local.saturating_add(self.ahead.load(Ordering::Relaxed));
        let now = server.max(self.newest.load(Ordering::Relaxed));
        Timestamp::from_unix_millis(now).unwrap_or_else(|| Timestamp::new(Utc::now()))
    }

    /// A message or row was stored at `at`: the server's clock is at least there.
    pub fn saw_stored(&self, at: Timestamp) {
        let at = at.unix_millis();
        self.newest.fetch_max(at, Ordering::Relaxed);
        let local = Utc::now().timestamp_millis();
        if local.saturating_add(self.ahead.load(Ordering::Relaxed)) < at {
            self.ahead
                .store(at.saturating_sub(local), Ordering::Relaxed);
        }
    }

    /// The server said just now that its clock is at `at`.
    pub fn saw_server_clock(&self, at: Timestamp) {
        let local = Utc::now().timestamp_millis();
        self.ahead
            .store(at.unix_millis().saturating_sub(local), Ordering::Relaxed);
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
        clock.saw_stored(ahead);
        assert!(clock.now() >= ahead);
        clock.saw_stored(Timestamp::from_unix_millis(0).unwrap());
        assert!(clock.now() >= ahead, "an older one changes nothing");
    }

    #[test]
    fn a_local_clock_that_is_ahead_is_corrected_by_the_servers_own() {
        let clock = Clock::default();
        let behind = Timestamp::from_unix_millis(1_000_000_000_000).unwrap();
        clock.saw_server_clock(behind);
        assert!(clock.now().since(behind) < Duration::from_secs(60));
    }
}
