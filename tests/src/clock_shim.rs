//! A wall clock that is wrong: for one program and all that it starts, by a library that is loaded before
//! all others and answers for the system's clock.
//!
//! Clocks that do not tell the time of day, such as those that waits and deadlines use, stay as they are.
//! Linux only.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::world::World;

/// Reads the clock past any other library, so that it does not meet itself.
const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static time_t offset(void) {
    const char *text = getenv("WRONG_CLOCK_SECONDS");
    return text ? (time_t)atoll(text) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *at) {
    int failed = (int)syscall(SYS_clock_gettime, clock, at);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        at->tv_sec += offset();
    return failed;
}

int gettimeofday(struct timeval *at, void *zone) {
    struct timespec now;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &now)) return -1;
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at) {
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now)) return (time_t)-1;
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}
"#;

/// The library, built.
#[derive(Debug)]
pub struct ClockShim {
    library: PathBuf,
    dir: PathBuf,
}

impl ClockShim {
    /// Builds it in the world's directory, with the C compiler that building Backstack takes too.
    pub fn build(world: &World) -> Self {
        let dir = world.dir().to_owned();
        let (source, library) = (dir.join("wrong_clock.c"), dir.join("wrong_clock.so"));
        std::fs::write(&source, SOURCE).expect("a source file");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .args([&library, &source])
            .output()
            .expect("cc");
        let said = String::from_utf8_lossy(&built.stderr).into_owned();
        assert!(built.status.success(), "cc: {said}");
        Self { library, dir }
    }

    /// The variables for a program whose clock is to be off by `seconds`.
    pub fn variables(&self, seconds: i64) -> [(&'static str, OsString); 2] {
        [
            ("LD_PRELOAD", self.library.clone().into_os_string()),
            ("WRONG_CLOCK_SECONDS", seconds.to_string().into()),
        ]
    }

    /// A git with that clock, for `--git`: Backstack starts it with an environment of its own.
    pub fn git(&self, seconds: i64) -> PathBuf {
        let path = self.dir.join(format!("git-{seconds}"));
        let text = format!(
            "#!/bin/sh\nexec env LD_PRELOAD='{}' WRONG_CLOCK_SECONDS={seconds} git \"$@\"\n",
            self.library.display()
        );
        std::fs::write(&path, text).expect("a script");
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&path, executable).expect("a script that runs");
        path
    }

    /// What such a git takes for the time, in seconds since 1970.
    pub fn gits_time(git: &Path) -> i64 {
        let told = Command::new(git)
            .args(["var", "GIT_COMMITTER_IDENT"])
            .env("GIT_COMMITTER_NAME", "x")
            .env("GIT_COMMITTER_EMAIL", "x@example.com")
            .env_remove("GIT_COMMITTER_DATE")
            .output()
            .expect("git");
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        let seconds = told.split_whitespace().rev().nth(1);
        let seconds = seconds.and_then(|seconds| seconds.parse().ok());
        seconds.unwrap_or_else(|| panic!("git var said {told:?}"))
    }
}
