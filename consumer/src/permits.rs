//! How many jobs may run at once, and who is told when a place is free.

use std::sync::Arc;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// The places for running jobs.
#[derive(Clone, Debug)]
pub struct Permits {
    places: Arc<Semaphore>,
    total: u32,
    freed: Arc<Notify>,
}

/// A place that is taken, or all of them; dropping it frees it.
#[derive(Debug)]
pub struct Permit {
    place: Option<OwnedSemaphorePermit>,
    freed: Arc<Notify>,
}

impl Permits {
    /// Places for `concurrency` jobs.
    pub fn new(concurrency: u32) -> Self {
        let places = usize::try_from(concurrency).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            places: Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))),
            total: concurrency,
            freed: Arc::default(),
        }
    }

    /// How many places there are, and how many of them are taken.
    pub fn in_use(&self) -> (usize, usize) {
        let total = self.total as usize;
        let free = self.places.available_permits();
        (total, total.saturating_sub(free))
    }

    /// A place, in the order in which they were asked for.
    pub async fn take(&self) -> Permit {
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        Permit {
            place,
            freed: Arc::clone(&self.freed),
        }
    }

    /// All places, once whoever has one has given it back. Who asks later waits, so that this does
    /// not wait for ever.
    pub async fn take_all(&self) -> Permit {
        let places = Arc::clone(&self.places)
            .acquire_many_owned(self.total)
            .await;
        Permit {
            place: places.ok(),
            freed: Arc::clone(&self.freed),
        }
    }

    /// Returns when some place is free. It may be gone by the time it is asked for.
    pub async fn until_one_is_free(&self) {
        loop {
            let freed = self.freed.notified();
            if self.places.available_permits() > 0 {
                return;
            }
            freed.await;
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        drop(self.place.take());
        self.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn who_takes_all_places_is_alone() {
        let permits = Permits::new(2);
        let running = permits.take().await;
        let alone = tokio::spawn({
            let permits = permits.clone();
            async move { permits.take_all().await }
        });
        tokio::task::yield_now().await;
        let patience = Duration::from_millis(20);
        let later = tokio::time::timeout(patience, permits.take()).await;
        assert!(later.is_err(), "it went first");
        assert!(!alone.is_finished(), "it is not alone");
        drop(running);
        let alone = alone.await.unwrap();
        assert!(
            tokio::time::timeout(patience, permits.take())
                .await
                .is_err()
        );
        drop(alone);
        permits.until_one_is_free().await;
        permits.take().await;
    }
}
