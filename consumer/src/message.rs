//! A stored action message: what the publisher sent, and which job it is.

use async_nats::{HeaderMap, HeaderName};
use backstack_schemas::trace::TRACEPARENT;
use backstack_schemas::{
    ActionKind, ActionMessage, InvalidAction, JobId, RepoId, Timestamp, Topology, TraceParent,
};
use bytes::Bytes;

/// Which message it is. The sequence alone gives the order, but not the message: a stream that was
/// deleted and made anew gives the same sequences again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Its sequence in the work queue.
    pub sequence: u64,
    /// When it was stored, in nanoseconds since the Unix epoch.
    pub stored_nanos: i128,
}

/// A message as the work queue stores it.
#[derive(Clone, Debug)]
pub struct StoredMessage {
    /// Its ticket.
    pub sequence: u64,
    /// When it was stored, in nanoseconds since the Unix epoch.
    pub stored_nanos: i128,
    /// Its stored subject, after the stream's transform.
    pub subject: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its payload.
    pub payload: Bytes,
}

impl StoredMessage {
    /// Which message it is.
    pub fn ticket(&self) -> Ticket {
        Ticket {
            sequence: self.sequence,
            stored_nanos: self.stored_nanos,
        }
    }

    /// When it was stored: the job's `created_at`, and the least its commits are dated.
    pub fn stored_at(&self) -> Timestamp {
        let millis = i64::try_from(self.stored_nanos / 1_000_000).ok();
        millis
            .and_then(Timestamp::from_unix_millis)
            .unwrap_or_else(|| Timestamp::new(std::time::SystemTime::UNIX_EPOCH.into()))
    }

    /// The trace it belongs to, where its publisher said so in one well-formed header.
    pub fn trace_parent(&self) -> Option<TraceParent> {
        let of_that_name = |name: &HeaderName| {
            let name: &str = name.as_ref();
            name.eq_ignore_ascii_case(TRACEPARENT)
        };
        let headers = self.headers.iter().filter(|(name, _)| of_that_name(name));
        let mut values = headers.flat_map(|(_, values)| values);
        let only = values.next().filter(|_| values.next().is_none())?;
        only.as_str().parse().ok()
    }

    /// What the payload asks for, on a subject that ends in `action`.
    pub fn decode(&self, action: &str) -> Result<ActionMessage, InvalidAction> {
        let kind: ActionKind = action.parse()?;
        ActionMessage::decode(kind, &self.payload)
    }

    /// The job's id: the payload's, else the message id's, else one derived from where and when the
    /// message was stored. A schedule makes many messages of one payload, so there only the last
    /// counts (contract, section 2).
    pub fn job_id(&self, topology: &Topology, repo: &RepoId, action: &str) -> JobId {
        let chosen = || {
            let in_payload = self.decode(action).ok().and_then(|message| message.job_id);
            in_payload.or_else(|| {
                let header = self.headers.get(async_nats::header::NATS_MESSAGE_ID)?;
                JobId::from_message_id(header.as_str(), repo)
            })
        };
        let scheduled = self.headers.get("Nats-Scheduler").is_some();
        let chosen = if scheduled { None } else { chosen() };
        chosen.unwrap_or_else(|| {
            JobId::derived(&topology.actions_stream(), self.sequence, self.stored_nanos)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(header: Option<&str>, payload: &str) -> StoredMessage {
        let mut headers = HeaderMap::new();
        if let Some(id) = header {
            headers.insert("Nats-Msg-Id", id);
        }
        StoredMessage {
            sequence: 7,
            stored_nanos: 1_700_000_000_123_456_789,
            subject: "backstack.queue.3.web.sync_repo".to_owned(),
            headers,
            payload: payload.to_owned().into(),
        }
    }

    fn id_of(message: &StoredMessage) -> JobId {
        let topology = Topology::default();
        let subject = topology.parse_queue_subject(&message.subject).unwrap();
        message.job_id(&topology, &subject.repo, &subject.action)
    }

    const A: &str = "01999999-9999-7999-8999-99999999aaaa";
    const B: &str = "01999999-9999-7999-8999-99999999bbbb";

    #[test]
    fn the_payloads_id_comes_first_then_the_headers_then_a_derived_one() {
        let payload = format!(r#"{{"job_id": "{A}"}}"#);
        assert_eq!(id_of(&message(Some(B), &payload)).to_string(), A);
        assert_eq!(id_of(&message(Some(B), "")).to_string(), B);
        assert_eq!(
            id_of(&message(Some(&format!("web.{B}")), "")).to_string(),
            B
        );
        let derived = id_of(&message(None, ""));
        assert_eq!(derived, id_of(&message(Some("nightly"), "")));
        assert_eq!(
            derived,
            JobId::derived("BACKSTACK_ACTIONS", 7, 1_700_000_000_123_456_789)
        );
    }

    #[test]
    fn what_a_schedule_produced_gets_an_id_of_its_own() {
        let mut scheduled = message(Some(B), &format!(r#"{{"job_id": "{A}"}}"#));
        scheduled
            .headers
            .insert("Nats-Scheduler", "backstack.schedules.web.nightly");
        assert_eq!(id_of(&scheduled), id_of(&message(None, "")));
    }

    #[test]
    fn a_trace_is_told_by_one_header_in_whatever_case() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let mut traced = message(None, "");
        assert_eq!(traced.trace_parent(), None);
        traced.headers.append("Traceparent", text);
        assert_eq!(traced.trace_parent().unwrap().to_string(), text);
        traced.headers.append("traceparent", text);
        assert_eq!(traced.trace_parent(), None, "two are none");
    }

    #[test]
    fn a_payload_that_is_no_action_still_has_an_id() {
        assert_eq!(id_of(&message(Some(B), "{")).to_string(), B);
    }
}
