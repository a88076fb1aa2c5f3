//! The clock that says whether a message is still held: one of this machine alone, which goes on
//! while the machine is suspended.
//!
//! No decision compares the wall clocks of two machines (contract, section 8); the times in rows come
//! from [`backstack_producer::clock`] and are for people.

use std::time::Duration;

/// A moment on the clock that counts from boot, suspension included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BootTime(i64);

impl BootTime {
    /// Now.
    pub fn now() -> Self {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let clock = rustix::time::ClockId::Boottime;
        // On macOS the monotonic clock goes on while the machine sleeps.
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        let clock = rustix::time::ClockId::Monotonic;
        let time = rustix::time::clock_gettime(clock);
        Self(time.tv_sec * 1_000 + time.tv_nsec / 1_000_000)
    }

    /// Milliseconds since boot.
    pub fn millis(self) -> i64 {
        self.0
    }

    /// From [`millis`](Self::millis).
    pub fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// How long ago this was; zero for a moment to come.
    pub fn elapsed(self) -> Duration {
        Self::now().since(self)
    }

    /// How long after `earlier` this is; zero where it is not later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0 - earlier.0).unwrap_or(0))
    }
}

impl std::ops::Add<Duration> for BootTime {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_never_negative() {
        let now = BootTime::now();
        let later = now + Duration::from_secs(5);
        assert_eq!(later.since(now), Duration::from_secs(5));
        assert_eq!(now.since(later), Duration::ZERO);
    }
}
