//! What the server said that a user may not do, for those who wait for an answer that never comes.
//!
//! A NATS server does not answer a request that it does not permit: it says so on the connection,
//! beside everything else. So each connection made by [`connect`](crate::connect()) keeps what it was
//! told, and a request fails at once when its subject is named there, or when replies cannot come.
//! A connection that was made elsewhere is never told; requests on it end with their deadline.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use async_nats::{Client, Event, Statistics};
use tokio::sync::watch;

/// How many denials are kept: as many as there may be requests in flight, and more.
const KEPT: usize = 1_024;

/// What the server does not permit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Denial {
    /// To publish on the subject that was asked about.
    Publish,
    /// To subscribe to this subject, on which replies would come.
    Inbox(String),
}

/// What one connection was told. Clones are the same list.
#[derive(Clone, Debug, Default)]
pub(crate) struct Denials(Arc<watch::Sender<Told>>);

#[derive(Debug, Default)]
struct Told {
    /// The subjects that it may not publish on, newest last.
    publish: VecDeque<String>,
    /// How many there were before those.
    forgotten: u64,
    /// What it may not subscribe to, said once in each connection.
    inbox: Option<String>,
}

/// By connection. The library keeps one set of counters for all clones of a client, which so is the
/// one thing that tells connections apart.
static CONNECTIONS: Mutex<Vec<(Weak<Statistics>, Denials)>> = Mutex::new(Vec::new());

impl Denials {
    /// Takes in what happened to the connection.
    pub(crate) fn note(&self, event: &Event) {
        match event {
            // It asks for its subscriptions anew, and is told again.
            Event::Connected => self.0.send_modify(|told| told.inbox = None),
            Event::ServerError(error) => {
                let text = error.to_string();
                match denied(&text) {
                    Some((Kind::Publish, subject)) => self.0.send_modify(|told| {
                        told.publish.push_back(subject.to_owned());
                        if told.publish.len() > KEPT {
                            told.publish.pop_front();
                            told.forgotten += 1;
                        }
                    }),
                    Some((Kind::Subscription, subject)) => {
                        self.0
                            .send_modify(|told| told.inbox = Some(subject.to_owned()));
                    }
                    None => {}
                }
            }
            _ => {}
        }
    }

    /// Makes these the denials of the client's connection.
    pub(crate) fn belong_to(&self, client: &Client) {
        let mut connections = CONNECTIONS.lock().unwrap_or_else(PoisonError::into_inner);
        connections.retain(|(statistics, _)| statistics.strong_count() > 0);
        let statistics = Arc::downgrade(&client.statistics());
        connections.push((statistics, self.clone()));
    }

    /// What the client's connection was told; nothing, ever, where it was not made here.
    pub(crate) fn of(client: &Client) -> Self {
        let connections = CONNECTIONS.lock().unwrap_or_else(PoisonError::into_inner);
        let statistics = Arc::downgrade(&client.statistics());
        let known = connections
            .iter()
            .find(|(known, _)| known.ptr_eq(&statistics));
        known
            .map(|(_, denials)| denials.clone())
            .unwrap_or_default()
    }

    /// How many denials there were, for [`of_request`](Self::of_request).
    pub(crate) fn count(&self) -> u64 {
        let told = self.0.borrow();
        told.forgotten + told.publish.len() as u64
    }

    /// Returns when a request on `subject` will not be answered, since the server denied it after there
    /// were `before` denials, or does not let replies come.
    pub(crate) async fn of_request(&self, subject: &str, before: u64) -> Denial {
        let mut denial = None;
        let mut told = self.0.subscribe();
        let heard = told.wait_for(|told| {
            denial = told.about(subject, before);
            denial.is_some()
        });
        // This holds the sender, so waiting ends with an answer only.
        let heard = heard.await.is_ok();
        match denial.filter(|_| heard) {
            Some(denial) => denial,
            None => std::future::pending().await,
        }
    }
}

impl Told {
    fn about(&self, subject: &str, before: u64) -> Option<Denial> {
        if let Some(inbox) = &self.inbox {
            return Some(Denial::Inbox(inbox.clone()));
        }
        let old = usize::try_from(before.saturating_sub(self.forgotten)).unwrap_or(usize::MAX);
        let mut new = self.publish.iter().skip(old);
        new.any(|denied| denied == subject)
            .then_some(Denial::Publish)
    }
}

enum Kind {
    Publish,
    Subscription,
}

/// The subject in `Permissions Violation for Publish to "<subject>"`, or in `… for Subscription to …`.
fn denied(text: &str) -> Option<(Kind, &str)> {
    let lower = text.to_ascii_lowercase();
    let kind = if lower.contains("permissions violation for publish to") {
        Kind::Publish
    } else if lower.contains("permissions violation for subscription to") {
        Kind::Subscription
    } else {
        return None;
    };
    Some((kind, text.split('"').nth(1)?))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use async_nats::ServerError;

    use super::*;

    fn says(denials: &Denials, text: &str) {
        denials.note(&Event::ServerError(ServerError::Other(text.to_owned())));
    }

    async fn heard(denials: &Denials, subject: &str, before: u64) -> Option<Denial> {
        let asked = denials.of_request(subject, before);
        tokio::time::timeout(Duration::from_millis(20), asked)
            .await
            .ok()
    }

    #[tokio::test]
    async fn a_request_hears_of_its_own_subject_and_only_of_what_came_after_it() {
        let denials = Denials::default();
        says(&denials, r#"Permissions Violation for Publish to "a.b""#);
        says(&denials, "Stale Connection");
        assert_eq!(heard(&denials, "a.b", 0).await, Some(Denial::Publish));
        assert_eq!(heard(&denials, "a.c", 0).await, None);
        assert_eq!(heard(&denials, "a.b", denials.count()).await, None);
        let before = denials.count();
        for _ in 0..KEPT * 2 {
            says(&denials, r#"Permissions Violation for Publish to "x""#);
        }
        assert_eq!(heard(&denials, "x", before).await, Some(Denial::Publish));
        assert_eq!(heard(&denials, "x", denials.count()).await, None);
    }

    #[tokio::test]
    async fn without_an_inbox_no_request_is_answered_until_the_next_connection() {
        let denials = Denials::default();
        says(
            &denials,
            r#"Permissions Violation for Subscription to "_INBOX.x.*" using queue "q""#,
        );
        let denial = Denial::Inbox("_INBOX.x.*".to_owned());
        assert_eq!(heard(&denials, "a", 0).await, Some(denial));
        denials.note(&Event::Connected);
        assert_eq!(heard(&denials, "a", 0).await, None);
    }
}
