//! How many jobs may run at once, and who is told when a place is free.

use std::sync::Arc;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// The places for running jobs.
#[derive(Clone, Debug)]
pub struct Permits {
    concurrency: usize,
    places: Arc<Semaphore>,
    freed: Arc<Notify>,
}

/// A place that is taken; dropping it frees it.
#[derive(Debug)]
pub struct Permit {
    place: Option<OwnedSemaphorePermit>,
    freed: Arc<Notify>,
}

impl Permits {
    /// Places for `concurrency` jobs.
    pub fn new(concurrency: usize) -> Self {
        Self {
            concurrency,
            places: Arc::new(Semaphore::new(concurrency)),
            freed: Arc::default(),
        }
    }

    /// How many places there are, and how many of them are taken.
    pub fn in_use(&self) -> (usize, usize) {
        let free = self.places.available_permits();
        (self.concurrency, self.concurrency.saturating_sub(free))
    }

    /// A place, in the order in which they were asked for.
    pub async fn take(&self) -> Permit {
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        Permit {
            place,
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
