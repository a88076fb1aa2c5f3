//! Tasks without which a worker is none: that they still run, and which does not.
//!
//! A task that ends though the worker goes on, by a bug that made it panic, would leave a partition
//! unserved without a word. So each is watched: its end is an error in the log, and `/healthz` says that
//! the process must be started anew.

use std::future::Future;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// The tasks that have ended though they must not.
#[derive(Clone, Debug)]
pub struct Vitals {
    ended: Arc<Mutex<Vec<String>>>,
    drain: CancellationToken,
}

/// Lives as long as a task.
struct Pulse {
    vitals: Vitals,
    name: String,
}

impl Vitals {
    /// Nothing has ended yet. From `drain` on, everything may.
    pub fn new(drain: CancellationToken) -> Self {
        Self {
            ended: Arc::default(),
            drain,
        }
    }

    /// `task`, watched for its end.
    pub fn watched<T: Future>(
        &self,
        name: &str,
        task: T,
    ) -> impl Future<Output = T::Output> + use<T> {
        let pulse = Pulse {
            vitals: self.clone(),
            name: name.to_owned(),
        };
        async move {
            let _pulse = pulse;
            task.await
        }
    }

    /// The tasks that have ended.
    pub fn ended(&self) -> Vec<String> {
        self.ended.lock().clone()
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        if !self.vitals.drain.is_cancelled() {
            tracing::error!(
                task = self.name,
                "a task ended that must not; start the worker anew"
            );
            self.vitals
                .ended
                .lock()
                .push(std::mem::take(&mut self.name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_is_told_and_one_that_drains_is_not() {
        let drain = CancellationToken::new();
        let vitals = Vitals::new(drain.clone());
        let broken = tokio::spawn(vitals.watched("broken", async { panic!("as a bug does") }));
        let drained = drain.clone();
        let sound = vitals.watched("sound", async move { drained.cancelled().await });
        let sound = tokio::spawn(sound);
        assert!(broken.await.is_err());
        assert_eq!(vitals.ended(), ["broken"]);
        drain.cancel();
        sound.await.unwrap();
        assert_eq!(vitals.ended(), ["broken"]);
    }
}
