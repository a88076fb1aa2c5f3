//! Publishers that send anything: two thousand seeded messages, and an account of each one.
//!
//! `BACKSTACK_TEST_SEED` chooses others, `BACKSTACK_TEST_LONG` so many times as many.

use std::collections::BTreeMap;
use std::time::Duration;

use backstack_producer::rows::Keys;
use backstack_schemas::topology::{Bucket, MAX_ACTION_BYTES};
use backstack_schemas::{ErrorCode, Job, JobStatus};
use backstack_tests::raw_nats::{Answer, RawNats};
use backstack_tests::{Worker, World, long_form};
use serde_json::{Value, json};

const MESSAGES: usize = 2_000;

const SEED: u64 = 20_261_122;

/// A generator of one's own: the same bytes on every machine and for ever.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("a small number")
    }

    fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most)).map(|_| self.byte()).collect()
    }

    fn uuid(&mut self) -> String {
        let (a, b) = (self.next(), self.next());
        let hex = format!("{a:016x}{b:016x}");
        format!(
            "{}-{}-7{}-8{}-{}",
            &hex[..8],
            &hex[8..12],
            &hex[13..16],
            &hex[17..20],
            &hex[20..]
        )
    }

    /// Bytes that can stand in a subject: no space, no line's end, no dot.
    fn token(&mut self) -> Vec<u8> {
        let length = 1 + self.below(80);
        let allowed = |byte: &u8| !byte.is_ascii_whitespace() && !b".*>\0\x0b".contains(byte);
        let mut token: Vec<u8> = (0..length).map(|_| self.byte()).filter(allowed).collect();
        if token.is_empty() {
            token.push(b'x');
        }
        token
    }

    fn subject(&mut self) -> Vec<u8> {
        const REPOS: [&str; 9] = ["web", "api", "*", "Web", "x_y-z", "-", "0", "wéb", "web-2"];
        const ACTIONS: [&str; 10] = [
            "sync_repo",
            "restack_repo",
            "restack_subtree",
            "rebase_branch",
            "unregister_branch",
            "register_existing_branch",
            "nonsense",
            "*",
            "-",
            "SYNC_REPO",
        ];
        let mut subject = b"backstack.actions.".to_vec();
        if self.one_in(12) {
            subject.extend(self.token());
        } else {
            subject.extend_from_slice(self.pick(&REPOS).as_bytes());
        }
        subject.push(b'.');
        if self.one_in(12) {
            subject.extend(self.token());
        } else {
            subject.extend_from_slice(self.pick(&ACTIONS).as_bytes());
        }
        // Nobody's subject.
        if self.one_in(50) {
            subject.extend_from_slice(b".more");
        }
        subject
    }

    fn value(&mut self) -> Value {
        match self.below(9) {
            0 => Value::Null,
            1 => json!(self.one_in(2)),
            2 => json!(self.next()),
            3 => json!(-1.5e300),
            4 => json!([self.next(), {"a": []}]),
            5 => json!({}),
            6 => json!(self.uuid()),
            7 => json!("a/b c\u{0}\u{202e}\n".repeat(self.below(40))),
            _ => json!(String::from_utf8_lossy(&self.bytes(60))),
        }
    }

    /// An action's JSON with fields that are not its own, or of another type.
    fn object(&mut self) -> Vec<u8> {
        const FIELDS: [&str; 11] = [
            "branch",
            "parent",
            "base",
            "restack",
            "dry_run",
            "task_id",
            "retry_of",
            "requested_by",
            "job_id",
            "message",
            "__proto__",
        ];
        let mut object = json!({"dry_run": true});
        for _ in 0..self.below(5) {
            let field = *self.pick(&FIELDS);
            object[field] = if self.one_in(3) {
                json!("a")
            } else {
                self.value()
            };
        }
        object.to_string().into_bytes()
    }

    fn payload(&mut self) -> Vec<u8> {
        match self.below(12) {
            0 => Vec::new(),
            1 | 2 => self.bytes(300),
            3 => {
                let depth = 1 + self.below(15_000);
                let (open, close) = *self.pick(&[("[", "]"), ("{\"a\":", "}")]);
                format!("{}{}", open.repeat(depth), close.repeat(depth)).into_bytes()
            }
            4 => {
                let depth = 1 + self.below(2_000);
                let nested = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
                format!(r#"{{"branch": {nested}}}"#).into_bytes()
            }
            5 => {
                let length = MAX_ACTION_BYTES - 200 + self.below(400);
                let mut long = br#"{"requested_by": ""#.to_vec();
                long.resize(length, b'x');
                long
            }
            6 => br#"{"branch": "\ud800", "branch": "b", "dry_run": 1e999}"#.to_vec(),
            7 => b"\xef\xbb\xbf{}".to_vec(),
            8 => format!(r#"{{"job_id": "{}", "dry_run": true}}"#, self.uuid()).into_bytes(),
            _ => {
                let mut object = self.object();
                for _ in 0..self.below(4) {
                    let at = self.below(object.len());
                    object[at] = self.byte();
                }
                object
            }
        }
    }

    /// An action that there is, for a repository that there is, or may be.
    fn action(&mut self) -> (Vec<u8>, Vec<u8>) {
        let repo = *self.pick(&["web", "api", "0", "x_y-z"]);
        let action = *self.pick(&["sync_repo", "restack_repo"]);
        let payload = *self.pick(&["", "{}", r#"{"dry_run": true}"#, "null", " {}\n"]);
        let subject = format!("backstack.actions.{repo}.{action}");
        (subject.into_bytes(), payload.as_bytes().to_vec())
    }

    /// A header block, or none; some are none that a library reads.
    fn header(&mut self) -> Vec<u8> {
        const NAMES: [&str; 16] = [
            "Nats-Expected-Stream",
            "Nats-Expected-Last-Sequence",
            "Nats-Expected-Last-Msg-Id",
            "Nats-Rollup",
            "Nats-TTL",
            "Nats-Schedule",
            "Nats-Scheduler",
            "Nats-Subject",
            "Nats-Sequence",
            "Nats-Time-Stamp",
            "Nats-Incr",
            "Nats-Batch-Id",
            "Backstack-Subject",
            "traceparent",
            "X",
            "KV-Operation",
        ];
        match self.below(20) {
            0..=7 => Vec::new(),
            8 => b"NATS/1.0\r\n\r\n".to_vec(),
            9 => format!("NATS/1.0 {}\r\n\r\n", 100 + self.below(900)).into_bytes(),
            10 => {
                let mut block = b"NATS/1.0\r\nX: ".to_vec();
                block.extend(self.bytes(40));
                block.extend_from_slice(b"\r\n\r\n");
                block
            }
            11 if self.one_in(8) => b"NATS/1.0\r\nX: a\rb\r\n\r\n".to_vec(),
            11 => b"NATS/1.0\r\nnonsense\r\n\r\n".to_vec(),
            12 => self.bytes(60),
            13..=15 => format!("NATS/1.0\r\nNats-Msg-Id: {}\r\n\r\n", self.uuid()).into_bytes(),
            _ => {
                let mut block = "NATS/1.0\r\n".to_owned();
                for _ in 0..=self.below(3) {
                    let value = match self.below(4) {
                        0 => self.below(100).to_string(),
                        1 => "backstack.queue.0.api.sync_repo".to_owned(),
                        2 => self.uuid(),
                        _ => String::new(),
                    };
                    block.push_str(&format!("{}: {value}\r\n", self.pick(&NAMES)));
                }
                block.push_str("\r\n");
                block.into_bytes()
            }
        }
    }
}

/// What a stored message was.
struct Sent {
    subject: Vec<u8>,
    payload: Vec<u8>,
}

impl Sent {
    fn shown(&self) -> String {
        let payload = String::from_utf8_lossy(&self.payload);
        let start: String = payload.chars().take(120).collect();
        format!("{:?} {start:?}", String::from_utf8_lossy(&self.subject))
    }

    /// Whether its subject names a repository, which then has a row for it.
    fn has_repo(&self) -> bool {
        let token = self.subject.split(|byte| *byte == b'.').nth(2);
        let token = token.and_then(|token| std::str::from_utf8(token).ok());
        token.is_some_and(|token| token.parse::<backstack_schemas::RepoId>().is_ok())
    }
}

#[tokio::test]
async fn every_stored_message_ends_in_a_row_or_the_dead_letters_and_none_does_harm() {
    let seed =
        std::env::var("BACKSTACK_TEST_SEED").map_or(SEED, |seed| seed.parse().expect("a number"));
    let count = MESSAGES * long_form();
    eprintln!("BACKSTACK_TEST_SEED={seed}");
    let world = World::with_ack_wait(Duration::from_secs(2)).await;
    let web = world.repo("web").await;
    web.stack("main <- a: a1");
    let refs = web.refs();
    let _neighbour = world.repo("neighbour").await;
    let mut random = Random(seed);
    let mut raw = RawNats::connect(&world).await;
    let mut sent: BTreeMap<u64, Sent> = BTreeMap::new();
    let (mut refused, mut neighbours, mut worker) = (BTreeMap::new(), Vec::new(), None);
    for number in 0..count {
        let header = random.header();
        let (subject, payload) = if random.one_in(8) {
            random.action()
        } else {
            (random.subject(), random.payload())
        };
        match raw.publish(&subject, &header, &payload).await {
            Answer::Stored {
                sequence,
                duplicate,
            } => {
                let message = Sent { subject, payload };
                let before = sent.insert(sequence, message);
                assert_eq!(before.is_some(), duplicate, "seed {seed}: {number}");
            }
            Answer::Refused(why) | Answer::Error(why) => *refused.entry(why).or_insert(0) += 1,
            Answer::Nobody => *refused.entry("nobody".to_owned()).or_insert(0) += 1,
            Answer::Silence => panic!(
                "seed {seed}: {number} on {:?} was not answered",
                String::from_utf8_lossy(&subject)
            ),
        }
        // Half of it is there when the worker comes, the rest comes while it works.
        if number == count / 2 {
            worker = Some(Worker::start(&world, &[]).await);
        }
        if number % 100 == 0 {
            let job = world.publish("neighbour", "restack_repo", "").await;
            neighbours.push(job);
        }
    }
    let worker = worker.expect("a worker");
    world.queue_empty().await;
    for job in &neighbours {
        // What closes the client for good may catch one in the middle.
        let ended = world.ended("neighbour", *job).await;
        assert_eq!(
            ended.status,
            JobStatus::Completed,
            "seed {seed}: {ended:#?}"
        );
    }

    let letters = letters(&world).await;
    let rows = rows(&world).await;
    let stored = sent.len() + neighbours.len();
    let info = world
        .ask("STREAM.INFO.BACKSTACK_ACTIONS", &Value::Null)
        .await
        .expect("the queue");
    assert_eq!(
        info["state"]["last_seq"], stored,
        "seed {seed}: unacknowledged, and stored; {refused:#?}"
    );
    let (mut buried, mut ran) = (0, 0);
    for (sequence, message) in &sent {
        let what = || format!("seed {seed}: {sequence}: {}", message.shown());
        let (row, letter) = (rows.get(sequence), letters.get(sequence));
        assert!(
            row.is_some() || letter.is_some(),
            "{} left no trace",
            what()
        );
        assert!(
            letter.is_none_or(|times| *times == 1),
            "{} was buried twice",
            what()
        );
        let Some(row) = row else {
            assert!(!message.has_repo(), "{} has no row", what());
            buried += 1;
            continue;
        };
        assert!(row.status.is_terminal(), "{}: {row:#?}", what());
        let invalid = row
            .error
            .as_ref()
            .is_some_and(|error| error.code == ErrorCode::InvalidAction);
        // What is told to be no action is kept whole, and nothing else is.
        assert_eq!(letter.is_some(), invalid, "{}: {row:#?}", what());
        if invalid {
            buried += 1;
        } else {
            ran += 1;
        }
    }
    let expected: usize = letters.values().sum();
    assert_eq!(expected, buried, "seed {seed}: letters of what nobody sent");
    assert_eq!(
        rows.len(),
        ran + neighbours.len() + buried - nameless(&sent),
        "seed {seed}"
    );
    eprintln!(
        "{} stored: {buried} buried, {ran} ran; refused: {refused:#?}",
        sent.len()
    );
    assert!(
        buried > count / 3 && ran > count / 20 && refused.values().sum::<usize>() > count / 50,
        "seed {seed}"
    );
    assert_eq!(web.refs(), refs, "seed {seed}");
    assert_eq!(worker.program().process().ended(), None, "seed {seed}");
    let job = world.run("web", "sync_repo", "").await;
    assert_eq!(job.status, JobStatus::Completed, "seed {seed}: {job:#?}");
}

/// How many of them have no repository, and so no row.
fn nameless(sent: &BTreeMap<u64, Sent>) -> usize {
    sent.values().filter(|message| !message.has_repo()).count()
}

/// How many dead letters each message has, by its sequence.
async fn letters(world: &World) -> BTreeMap<u64, usize> {
    let mut letters = BTreeMap::new();
    for letter in world.dead_letters().await {
        let id = letter.headers.get("Nats-Msg-Id").expect("an id").as_str();
        let sequence = id
            .strip_prefix("BACKSTACK_ACTIONS:")
            .expect("the stream's name");
        *letters
            .entry(sequence.parse().expect("a sequence"))
            .or_default() += 1;
    }
    letters
}

/// Every job's row, by its message's sequence.
async fn rows(world: &World) -> BTreeMap<u64, Job> {
    let producer = world.producer().await;
    let listed = producer
        .rows()
        .list_leader::<Job>(Bucket::Jobs, &Keys::All)
        .await;
    let listed = listed.expect("the rows");
    assert_eq!(listed.unreadable, BTreeMap::new());
    let mut rows = BTreeMap::new();
    for row in listed.into_values() {
        let sequence = row.sequence.expect("a sequence");
        let twice = rows.insert(sequence, row);
        assert!(twice.is_none(), "two rows for message {sequence}");
    }
    rows
}
