//! A server that means harm: whatever it names, sends or points at, nothing is run or written outside the
//! state directory, memory stays bounded, and the next job of an honest remote completes.
//!
//! The server is git's own behind HTTP, whose answers are changed on their way.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use backstack_schemas::{ErrorCode, JobStatus};
use backstack_tests::http::{Request, Response, git_backend, packet};
use backstack_tests::{HttpServer, Remote, Worker, World};

/// What a client wants in protocol 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asks {
    Capabilities,
    Refs,
    Objects,
    Other,
}

fn asks(request: &Request) -> Asks {
    let has = |text: &str| {
        request
            .body
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    };
    if request.method == "GET" {
        Asks::Capabilities
    } else if has("command=ls-refs") {
        Asks::Refs
    } else if has("command=fetch") {
        Asks::Objects
    } else {
        Asks::Other
    }
}

/// Everything that is named, and nothing below the state directory, the remote and the server's own.
fn names(dir: &Path, except: &[PathBuf], found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if except.contains(&path) {
            continue;
        }
        if path.is_dir() && !path.is_symlink() {
            names(&path, except, found);
        }
        found.push(path);
    }
    found.sort();
}

/// A remote behind a server that answers as `answer` says while it is told to.
struct Scene {
    worker: Worker,
    server: HttpServer,
    hostile: Arc<AtomicBool>,
    before: Vec<PathBuf>,
    remote: Remote,
    // Last, since the others write into its directory.
    world: World,
}

impl Scene {
    async fn start(
        answer: impl Fn(&Request, Asks, Response) -> Response + Send + Sync + 'static,
    ) -> Self {
        let world = World::start().await;
        let remote = world.remote("web");
        remote.stack("main <- a: a1");
        let hostile = Arc::new(AtomicBool::new(true));
        let server = HttpServer::start({
            let (root, hostile) = (world.dir().to_owned(), Arc::clone(&hostile));
            move |request| {
                let honest = git_backend(&root, request);
                if hostile.load(Ordering::Acquire) {
                    answer(request, asks(request), honest)
                } else {
                    honest
                }
            }
        });
        let worker = Worker::start(&world, &["--allow-protocol=http", "--max-attempts=1"]).await;
        world.add_repo("web", &server.url("web.git")).await;
        let mut scene = Self {
            world,
            remote,
            server,
            hostile,
            worker,
            before: Vec::new(),
        };
        scene.before = scene.around();
        scene
    }

    fn around(&self) -> Vec<PathBuf> {
        let dir = self.world.dir();
        let except = [
            self.worker.state().to_owned(),
            self.remote.path().to_owned(),
            dir.join("nats"),
        ];
        let mut found = Vec::new();
        names(dir, &except, &mut found);
        found
    }

    /// The most memory that the worker has had, in bytes.
    fn peak(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.worker.pid())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .unwrap();
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
        kib * 1024
    }

    /// The harm is over, and nothing has come of it.
    async fn assert_unharmed(&self) {
        assert_eq!(self.around(), self.before);
        assert!(self.worker.program().process().ended().is_none());
        self.hostile.store(false, Ordering::Release);
        let job = self.world.run("web", "sync_repo", "").await;
        assert_eq!(job.status, JobStatus::Completed, "{job:#?}");
        let names: Vec<_> = self.world.branches("web").await;
        let names: Vec<_> = names.iter().map(|row| row.branch.as_str()).collect();
        assert_eq!(names, ["a", "main"]);
    }
}

#[tokio::test]
async fn refs_that_no_repository_could_have() {
    let scene = Scene::start(|_, asks, mut honest| {
        if asks != Asks::Refs {
            return honest;
        }
        // Before the flush at the end, the same commit under names of the server's choice.
        let id: Vec<u8> = honest.body[4..44].to_vec();
        honest.body.truncate(honest.body.len() - 4);
        for name in [
            "refs/heads/../../../escaped",
            "refs/heads/a/../../../../escaped",
            "refs/../escaped",
            "../escaped",
            "/escaped",
            "refs/heads/",
            "refs/heads/.lock",
            "refs/heads/x.lock",
            "refs/heads/a\u{1b}[31m",
            "refs/heads/a\rb",
            "refs/heads/a\nb",
            "refs/heads/a\u{0}b",
            "refs/heads/a:b",
            "refs/heads/a^b",
            "refs/heads/@{-1}",
            "refs/heads/a/b",
            "refs/backstack/pins",
            "refs/replace/x",
            "HEAD",
        ] {
            honest
                .body
                .extend(packet([&id[..], b" ", name.as_bytes(), b"\n"].concat()));
        }
        for (name, target) in [
            ("HEAD", "../../escaped"),
            ("refs/heads/sym", "refs/heads/../../x"),
        ] {
            let line = format!(" {name} symref-target:{target}\n");
            honest
                .body
                .extend(packet([&id[..], line.as_bytes()].concat()));
        }
        honest.body.extend(b"0000");
        honest
    })
    .await;
    let job = scene.world.run("web", "sync_repo", "").await;
    assert!(job.status.is_terminal());
    assert!(!job.message.contains('\u{1b}'), "{job:#?}");
    for row in scene.world.branches("web").await {
        let name = row.branch.as_str();
        assert!(["a", "a/b", "main", "sym"].contains(&name), "{row:#?}");
    }
    scene.assert_unharmed().await;
}

#[tokio::test]
async fn one_name_twice_with_two_commits() {
    let scene = Scene::start(|_, asks, mut honest| {
        if asks == Asks::Refs {
            let end = honest.body.len() - 4;
            let id = honest.body[4..44].to_vec();
            honest.body.truncate(end);
            for name in ["refs/heads/a", "refs/heads/main"] {
                honest
                    .body
                    .extend(packet([&id[..], b" ", name.as_bytes(), b"\n"].concat()));
            }
            honest.body.extend(b"0000");
        }
        honest
    })
    .await;
    let job = scene.world.run("web", "sync_repo", "").await;
    assert!(job.status.is_terminal());
    scene.assert_unharmed().await;
}

/// A pack with one object's header and whatever follows it.
fn pack(kind: u8, claims: u64, then: &[u8]) -> Vec<u8> {
    let mut pack = b"PACK\0\0\0\x02\0\0\0\x01".to_vec();
    let mut rest = claims >> 4;
    let mut byte = (kind << 4) | u8::try_from(claims & 15).unwrap();
    while rest > 0 {
        pack.push(byte | 0x80);
        byte = u8::try_from(rest & 0x7f).unwrap();
        rest >>= 7;
    }
    pack.push(byte);
    pack.extend_from_slice(then);
    pack.extend_from_slice(&[0; 20]);
    pack
}

fn sends(pack: &[u8]) -> Response {
    let mut body = packet("packfile\n");
    for part in pack.chunks(60_000) {
        body.extend(packet([&[1], part].concat()));
    }
    body.extend(b"0000");
    Response::new("200 OK", "application/x-git-upload-pack-result", body)
}

#[tokio::test]
async fn packs_that_are_broken_or_claim_to_be_enormous() {
    let packs: Arc<Mutex<Vec<u8>>> = Arc::default();
    let scene = Scene::start({
        let packs = Arc::clone(&packs);
        move |_, asks, honest| match asks {
            Asks::Objects => sends(&packs.lock().unwrap()),
            _ => honest,
        }
    })
    .await;
    let zlib = [0x78, 0x9c, 0x03, 0x00, 0x00, 0x00, 0x00, 0x01];
    for (name, sent, says) in [
        ("nothing", Vec::new(), ""),
        (
            "no pack",
            b"not a pack at all, and long enough".to_vec(),
            "",
        ),
        ("a tree that is not there", pack(2, 100, &zlib), ""),
        ("a tree of 3 GiB", pack(2, 3 << 30, &zlib), "over limit"),
        ("a blob of 1 TiB", pack(3, 1 << 40, &zlib), ""),
        ("a kind that is none", pack(5, 1, &zlib), ""),
        (
            "a delta onto what is not there",
            pack(7, 10, &[0x11; 40]),
            "",
        ),
    ] {
        *packs.lock().unwrap() = sent;
        let job = scene.world.run("web", "sync_repo", "").await;
        let error = job.error.unwrap_or_else(|| panic!("{name} was taken"));
        assert_eq!(
            error.code,
            ErrorCode::AttemptsExhausted,
            "{name}: {}",
            error.detail
        );
        assert!(error.detail.contains(says), "{name}: {}", error.detail);
    }
    assert!(scene.peak() < 150 << 20, "{} bytes", scene.peak());
    scene.assert_unharmed().await;
}

#[tokio::test]
async fn more_refs_than_anybody_has() {
    let scene = Scene::start(|_, asks, mut honest| {
        if asks == Asks::Refs {
            let id = honest.body[4..44].to_vec();
            honest.body.truncate(honest.body.len() - 4);
            for number in 0..100_100 {
                let line = format!(" refs/heads/flood/{number}\n");
                honest
                    .body
                    .extend(packet([&id[..], line.as_bytes()].concat()));
            }
            honest.body.extend(b"0000");
        }
        honest
    })
    .await;
    let job = scene.world.run("web", "sync_repo", "").await;
    let error = job.error.expect("an error");
    assert_eq!(error.code, ErrorCode::RemoteNotAllowed, "{}", error.detail);
    assert!(error.detail.contains("branches"), "{}", error.detail);
    assert!(scene.peak() < 150 << 20, "{} bytes", scene.peak());
    scene.assert_unharmed().await;
}

#[tokio::test]
async fn other_places_to_get_objects_from_are_not_visited() {
    let elsewhere = Arc::new(HttpServer::start(|_| {
        Response::new("404 Not Found", "text/plain", "")
    }));
    let scene = Scene::start({
        let elsewhere = Arc::clone(&elsewhere);
        move |request, asks, mut honest| match asks {
            Asks::Capabilities if request.query.ends_with("upload-pack") => {
                // One more capability, and one more feature of `fetch`.
                let end = honest.body.len() - 4;
                honest.body.truncate(end);
                honest.body.extend(packet("bundle-uri\n"));
                honest.body.extend(b"0000");
                honest
            }
            Asks::Other => {
                let list = [
                    packet("bundle.version=1\n"),
                    packet("bundle.mode=all\n"),
                    packet(format!("bundle.x.uri={}\n", elsewhere.url("x.bundle"))),
                    b"0000".to_vec(),
                ];
                Response::new(
                    "200 OK",
                    "application/x-git-upload-pack-result",
                    list.concat(),
                )
            }
            Asks::Objects => {
                // What was not asked for is sent all the same.
                let uris = [
                    packet("packfile-uris\n"),
                    packet(format!("{} {}\n", "3".repeat(40), elsewhere.url("x.pack"))),
                    b"0001".to_vec(),
                ];
                let mut body = uris.concat();
                body.extend(&honest.body);
                honest.body = body;
                honest
            }
            _ => honest,
        }
    })
    .await;
    let job = scene.world.run("web", "sync_repo", "").await;
    assert!(job.status.is_terminal());
    assert!(elsewhere.asked().is_empty(), "{:?}", elsewhere.asked());
    assert!(!scene.server.asked().is_empty());
    scene.assert_unharmed().await;
}
