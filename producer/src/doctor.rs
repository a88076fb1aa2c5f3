//! Whether this machine, as this user, can use Backstack: each question with its answer and, where it
//! is no, what to do.
//!
//! Nothing is changed: permissions to write are tried with messages that name another stream than the
//! one they would go to, which a server that permits them refuses.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::{Client as Nats, Event, HeaderMap, header};
use backstack_schemas::topology::Bucket;
use backstack_schemas::{ActionKind, RepoId, Topology};
use bytes::Bytes;
use futures_util::future::join_all;
use serde::de::IgnoredAny;

use crate::api::{self, ApiError};
use crate::connect::{ConnectOptions, connect_with};
use crate::rows::{Keys, RowError, Rows};
use crate::topology::{Report, TopologyError, check};

/// An answer to one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was found, in one sentence.
    pub what: String,
    /// What to do about it; `None` where all is well.
    pub remedy: Option<String>,
}

impl Finding {
    /// Whether all is well.
    pub fn is_ok(&self) -> bool {
        self.remedy.is_none()
    }

    fn ok(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            remedy: None,
        }
    }

    fn problem(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            remedy: Some(remedy.into()),
        }
    }
}

/// How long a try may take. A server does not answer what it does not permit.
const TRY: Duration = Duration::from_secs(2);

/// The expected stream of messages that are to be refused.
const NO_STREAM: &str = "BACKSTACK_DOCTOR_NO_SUCH_STREAM";

/// JetStream's code for a message that expected another stream.
const OTHER_STREAM: u64 = 10060;

/// Asks every question that the answers before it leave open. `repo` is the one to try publishing for.
pub async fn examine(options: &ConnectOptions, repo: Option<&RepoId>) -> Vec<Finding> {
    let violations = Violations::default();
    let heard = violations.clone();
    let nats = match connect_with(options, move |event| heard.note(event)).await {
        Ok(nats) => nats,
        Err(error) => {
            let text = error.to_string();
            let (what, remedy) = text
                .split_once("; ")
                .unwrap_or((&text, "see the server's log"));
            return vec![Finding::problem(what, remedy)];
        }
    };
    let mut findings = vec![Finding::ok(format!(
        "NATS answers at {}, version {}",
        options.shown_addresses().unwrap_or_default(),
        nats.server_info().version
    ))];
    let topology = options.topology();
    // At the same time, since each may have to wait for an answer that does not come.
    let (report, permissions) = tokio::join!(
        check(&nats, &topology),
        of_permissions(&nats, &topology, repo, &violations),
    );
    findings.extend(of_topology(&report));
    // Whoever may not look at the streams may still be permitted to use them.
    let is_there = match &report {
        Ok(report) => report.missing_streams.is_empty(),
        Err(error) => !matches!(error, TopologyError::NoJetStream(_)),
    };
    if is_there {
        findings.extend(permissions);
        findings.extend(report.iter().map(of_workers));
    }
    findings
}

/// What the server said it does not permit.
#[derive(Clone, Debug, Default)]
struct Violations(Arc<Mutex<Vec<String>>>);

impl Violations {
    fn note(&self, event: &Event) {
        if let (Event::ServerError(error), Ok(mut list)) = (event, self.0.lock()) {
            list.push(error.to_string());
        }
    }

    /// What it said about the subject.
    fn about(&self, subject: &str) -> Option<String> {
        let list = self.0.lock().ok()?;
        let said = list.iter().find(|text| text.contains(subject));
        said.cloned()
    }
}

fn of_topology(report: &Result<Report, TopologyError>) -> Vec<Finding> {
    let report = match report {
        Ok(report) => report,
        Err(error @ TopologyError::NoJetStream(_)) => {
            return vec![Finding::problem(
                error.to_string(),
                "start the server with `nats-server -js`, or use `backstackd dev`",
            )];
        }
        Err(error) => {
            return vec![Finding::problem(
                format!("the streams cannot be examined: {error}"),
                "give this user permission to publish on $JS.API.STREAM.INFO.> and \
                 $JS.API.CONSUMER.LIST.> if it is to examine them",
            )];
        }
    };
    let mut findings = vec![Finding::ok("JetStream is enabled")];
    if !report.missing_streams.is_empty() {
        let names = report.missing_streams.join(", ");
        findings.push(Finding::problem(
            format!("streams are missing: {names}"),
            "start the service, which makes them: `backstackd run`; or check --namespace",
        ));
    } else if !report.missing_consumers.is_empty() {
        let names = report.missing_consumers.join(", ");
        findings.push(Finding::problem(
            format!("consumers of the work queue are missing: {names}"),
            "start the service again, which makes them: `backstackd run`",
        ));
    }
    findings.extend(report.mismatches.iter().map(|mismatch| {
        Finding::problem(
            mismatch.to_string(),
            "change it with `nats stream edit` or `nats consumer edit`, or delete what is not needed",
        )
    }));
    if report.is_right() {
        findings.push(Finding::ok(
            "streams, buckets and consumers are there and right",
        ));
    }
    findings
}

async fn of_permissions(
    nats: &Nats,
    topology: &Topology,
    repo: Option<&RepoId>,
    violations: &Violations,
) -> Vec<Finding> {
    let action = publish_subject(topology, repo);
    let row = topology.key_subject(Bucket::Jobs, "doctor.check");
    let rows = Rows::new(nats.clone(), topology.clone());
    let (publishing, writing, reading, watching) = tokio::join!(
        try_publishing(nats, &action),
        try_publishing(nats, &row),
        join_all(Bucket::ALL.map(|bucket| try_reading(&rows, bucket))),
        try_watching(&rows),
    );
    let explained = |problem: String, subject: &str| match violations.about(subject) {
        Some(said) => format!("{problem}: {said}"),
        None => problem,
    };
    vec![
        finding(
            publishing,
            "may publish actions",
            |problem| explained(format!("may not publish on {action}: {problem}"), &action),
            format!("permit this user to publish on {}.actions.*.*", topology.namespace()),
        ),
        finding(
            reading.into_iter().collect::<Result<Vec<_>, _>>().map(drop),
            "may read rows",
            |problem| explained(format!("may not read rows: {problem}"), "DIRECT.GET"),
            "permit this user to publish on $JS.API.DIRECT.GET.> for the four buckets".to_owned(),
        ),
        finding(
            watching,
            "may list and watch rows",
            |problem| explained(format!("may not watch rows: {problem}"), "CONSUMER.CREATE"),
            "permit this user to publish on $JS.API.STREAM.INFO, $JS.API.CONSUMER.CREATE and $JS.FC for \
             the four buckets; without, it can publish, but not wait or list"
                .to_owned(),
        ),
        finding(
            writing,
            "may write rows",
            |problem| explained(format!("may not write rows: {problem}"), &row),
            format!(
                "permit this user to publish on $KV.{}_jobs.> and the other buckets if it is trusted to; \
                 without, it can publish, but not cancel or add repositories",
                topology.namespace()
            ),
        ),
    ]
}

/// Where an action for the repository would go, or for one that there need not be.
fn publish_subject(topology: &Topology, repo: Option<&RepoId>) -> String {
    match repo {
        Some(repo) => topology.action_subject(repo, ActionKind::SyncRepo),
        None => format!(
            "{}.actions.doctor.{}",
            topology.namespace(),
            ActionKind::SyncRepo
        ),
    }
}

fn finding(
    result: Result<(), String>,
    ok: &str,
    problem: impl FnOnce(String) -> String,
    remedy: String,
) -> Finding {
    match result {
        Ok(()) => Finding::ok(ok),
        Err(error) => Finding::problem(problem(error), remedy),
    }
}

/// Publishes what the stream behind the subject refuses to store.
async fn try_publishing(nats: &Nats, subject: &str) -> Result<(), String> {
    let mut headers = HeaderMap::new();
    headers.insert(header::NATS_EXPECTED_STREAM, NO_STREAM);
    match api::publish(nats, subject, Some(headers), Bytes::new(), TRY).await {
        Err(error) if error.err_code() == Some(OTHER_STREAM) => Ok(()),
        Err(ApiError::TimedOut { .. }) => Err("no answer".to_owned()),
        Err(error) => Err(error.to_string()),
        Ok(ack) => Err(format!(
            "the stream {} takes what it should refuse",
            ack.stream
        )),
    }
}

async fn try_reading(rows: &Rows, bucket: Bucket) -> Result<(), String> {
    let read = rows.get::<IgnoredAny>(bucket, "doctor.check");
    match tokio::time::timeout(TRY, read).await {
        Ok(Ok(_) | Err(RowError::Unreadable { .. })) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer".to_owned()),
    }
}

async fn try_watching(rows: &Rows) -> Result<(), String> {
    let watch = rows.watch::<IgnoredAny>(Bucket::Jobs, Keys::One("doctor.check".to_owned()));
    match tokio::time::timeout(TRY, watch).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer".to_owned()),
    }
}

fn of_workers(report: &Report) -> Finding {
    let queued = match report.queued {
        0 => "nothing is queued".to_owned(),
        1 => "1 action is queued or running".to_owned(),
        n => format!("{n} actions are queued or running"),
    };
    if report.waiting_pulls > 0 {
        Finding::ok(format!("a worker is waiting for work; {queued}"))
    } else if report.queued > 0 {
        Finding::problem(
            format!("no worker is waiting for work; {queued}"),
            "if that stays so, start one more: `backstackd run`",
        )
    } else {
        Finding::problem(
            format!("no worker is waiting for work; {queued}"),
            "start one: `backstackd run`, or `backstackd dev` to try it out",
        )
    }
}
