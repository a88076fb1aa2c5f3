//! What a kill at any moment, a write that is cut off at any byte, and a full disk leave of a mirror:
//! something that the next job repairs, says so, and that has lost nothing.
//!
//! Each test plays both parts: as a child of itself it does a whole job (fetch, replay, write the
//! pack, move the pins) and is stopped in it. `BACKSTACK_CASES` says at how many moments, or after
//! how many bytes.
#![cfg(target_os = "linux")]

mod job;
#[path = "../remote/mod.rs"]
mod remote;
mod tracer;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use job::{Job, Stage, State};
use remote::{git_in, run};

/// Says to a child where its state directory is.
const STATE_DIR: &str = "BACKSTACK_TEST_STATE_DIR";

/// At how many moments of a job, or after how many bytes.
fn cases(default: usize) -> usize {
    std::env::var("BACKSTACK_CASES").map_or(default, |text| text.parse().unwrap())
}

/// This test again, as a child that works in `state_dir`.
fn child(test: &str, stage: &Stage, state_dir: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(STATE_DIR, state_dir)
        .envs(stage.to_environment())
        .stdout(Stdio::null());
    command
}

/// The state directory, where this process is a child.
fn own_state_dir() -> Option<PathBuf> {
    std::env::var_os(STATE_DIR).map(PathBuf::from)
}

#[test]
fn killed_at_any_system_call_a_job_loses_nothing_and_the_next_one_repairs_and_says_so() {
    const NAME: &str =
        "killed_at_any_system_call_a_job_loses_nothing_and_the_next_one_repairs_and_says_so";
    if let Some(dir) = own_state_dir() {
        let job = Job::from_environment(&dir);
        tracer::mark_start();
        job.run().unwrap();
        tracer::mark_end();
        return;
    }
    let stage = Stage::new();
    let dir = stage.state_dir();
    stage.reset(&dir);
    let moments = tracer::run(child(NAME, &stage, &dir), None);
    let expected = State::of(&stage, &dir);
    let cases = cases(40).min(moments);
    let (mut cut_short, mut told) = (0, 0);
    for case in 0..cases {
        stage.reset(&dir);
        let at = 1 + case * moments / cases;
        tracer::run(child(NAME, &stage, &dir), Some(at));
        let in_use = stage.noted(&dir) == "in use";
        let said = stage.inspect(&dir, &format!("killed at {at} of {moments}"));
        cut_short += usize::from(in_use);
        told += usize::from(said.iter().any(|line| line.contains("cut short")));
        assert_eq!(
            in_use,
            said.iter().any(|l| l.contains("cut short")),
            "{at}: {said:?}"
        );
        Job::of(&stage, &dir).run().unwrap();
        assert_eq!(
            State::of(&stage, &dir),
            expected,
            "killed at {at} of {moments}"
        );
    }
    eprintln!("{cases} of {moments} moments, {cut_short} while the mirror was in use, {told} told");
    assert!(
        cut_short * 2 > cases,
        "most moments are in the midst of a job"
    );
}

#[test]
fn a_write_cut_off_at_any_byte_leaves_a_mirror_that_works_once_there_is_room() {
    const NAME: &str = "a_write_cut_off_at_any_byte_leaves_a_mirror_that_works_once_there_is_room";
    const LIMIT: &str = "BACKSTACK_TEST_LIMIT";
    if let Some(dir) = own_state_dir() {
        let limit = std::env::var(LIMIT).unwrap().parse().unwrap();
        tracer::limit_files(limit);
        let stopped = Job::from_environment(&dir).run();
        tracer::limit_files(libc::RLIM_INFINITY);
        if let Err(error) = &stopped {
            eprintln!("after {limit} bytes: {error}");
        }
        Job::from_environment(&dir).run().unwrap();
        return;
    }
    let stage = Stage::new();
    let dir = stage.state_dir();
    stage.reset(&dir);
    Job::of(&stage, &dir).run().unwrap();
    let expected = State::of(&stage, &dir);
    let cases = cases(24);
    let mut stopped = 0;
    for case in 0..cases {
        stage.reset(&dir);
        // Close together where files are small, up to beyond the largest.
        let limit = case * case * 2 * job::LARGE / (cases * cases) + case % 3;
        let output = child(NAME, &stage, &dir)
            .env(LIMIT, limit.to_string())
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{limit} bytes: {said}");
        stopped += usize::from(said.contains("after "));
        stage.inspect(&dir, &format!("{limit} bytes"));
        assert_eq!(State::of(&stage, &dir), expected, "{limit} bytes");
    }
    eprintln!("{stopped} of {cases} jobs were stopped");
    assert!(
        stopped > 0 && stopped < cases,
        "limits lie on both sides of what a job needs"
    );
}

/// On a file system of its own, which takes the right to mount one.
#[test]
fn a_full_disk_is_told_and_leaves_the_mirror_usable() {
    const NAME: &str = "a_full_disk_is_told_and_leaves_the_mirror_usable";
    if let Some(dir) = own_state_dir() {
        let job = Job::from_environment(&dir);
        job.copy_template();
        let ballast = job::fill(&dir, 4_096);
        let error = job.run().unwrap_err().to_string();
        assert!(
            error.contains("is full") && error.contains("--mirror-budget"),
            "{error}"
        );
        fs::remove_file(&ballast).unwrap();
        // Now the fetch has room, and then what is new has not.
        let mut opened = job.open().unwrap();
        job.fetch(&mut opened).unwrap();
        let replayed = job.replay(&opened).unwrap();
        let ballast = job::fill(&dir, 4_096);
        let error = replayed.objects.write(opened.path()).unwrap_err();
        assert!(error.to_string().contains("No space left"), "{error}");
        drop(opened);
        fs::remove_file(&ballast).unwrap();
        job.run().unwrap();
        let path = job.mirror_path();
        let fsck = git_in(&path)
            .args(["fsck", "--full", "--no-dangling"])
            .output()
            .unwrap();
        assert!(fsck.status.success() && fsck.stdout.is_empty(), "{fsck:?}");
        eprintln!("all is well");
        return;
    }
    let unshare = ["--mount", "--map-root-user"];
    let allowed = Command::new("unshare").args(unshare).arg("true").output();
    if !allowed.is_ok_and(|output| output.status.success()) {
        eprintln!("nothing may be mounted here: a full disk is only played by limits on files");
        return;
    }
    let stage = Stage::new();
    let dir = stage.state_dir();
    fs::create_dir_all(&dir).unwrap();
    let inner = child(NAME, &stage, &dir);
    let mount = "mount -t tmpfs -o size=2m none \"$0\" && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(unshare).args(["sh", "-c", mount]).arg(&dir);
    command.arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        command.env(name, value.unwrap());
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("all is well"),
        "{output:?}"
    );
}

#[test]
fn a_mirror_is_packed_by_gits_own_maintenance() {
    let stage = Stage::new();
    let dir = stage.state_dir();
    stage.reset(&dir);
    let job = Job::of(&stage, &dir);
    let mut mirror = job.open().unwrap();
    job.fetch(&mut mirror).unwrap();
    mirror.set_pins(&stage.pins()).unwrap();
    // Loose objects enough, and packs enough, each for itself.
    let packs = || -> usize {
        let dir = mirror.path().join("objects/pack");
        let names = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name());
        names
            .filter(|name| name.to_string_lossy().ends_with(".pack"))
            .count()
    };
    let before: usize = run(git_in(mirror.path()).args(["count-objects"]))
        .split(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert!(packs() + before > 1, "there is something to pack");
    job::many_packs(mirror.path(), 30);
    assert!(packs() >= 30);
    let path = mirror.path().to_owned();
    assert!(mirror.maintain(&remote::patient()).unwrap());
    let count = run(git_in(&path).args(["count-objects", "-v"]));
    for line in ["count: 0", "garbage: 0"] {
        assert!(count.lines().any(|l| l == line), "{count}");
    }
    // One of what is kept, one of what nothing leads to and is not old enough to go.
    assert!(
        count.contains("packs: 1\n") || count.contains("packs: 2\n"),
        "{count}"
    );
    // Git's own bitmap or commit graph beside the pack is what its gc makes and nothing else here.
    assert!(
        path.join("objects/info/commit-graph").exists() || has_bitmap(&path),
        "{count}"
    );
    assert!(!mirror.maintain(&remote::patient()).unwrap());
    assert_eq!(mirror.pins().unwrap(), stage.pins());
}

fn has_bitmap(mirror: &Path) -> bool {
    let names = fs::read_dir(mirror.join("objects/pack")).unwrap();
    names
        .map(|entry| entry.unwrap().path())
        .any(|path| path.extension().is_some_and(|e| e == "bitmap"))
}
