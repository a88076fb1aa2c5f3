//! A git for one worker that can be stopped: each command is noted, and those that a test has chosen
//! stand still before they begin or after they have ended.
//!
//! The real git does the work. What stands in front of it is a script that the worker is given as
//! `--git`.

use std::fs::File;
use std::path::PathBuf;

use crate::named_pipe;
use crate::program::write_script;

/// The script. `$stops` is its directory.
const SCRIPT: &str = r#"#!/bin/sh
repo= command= value=
for argument do
    if [ -n "$value" ]; then value=; continue; fi
    case $argument in
        --git-dir=*) repo=${argument##*/} repo=${repo%%.*} ;;
        -c) value=next ;;
        -*) ;;
        *) command=$argument; break ;;
    esac
done
printf '%s %s\n' "$repo" "$command" >>"$stops/log"
if [ -p "$stops/$repo-$command-before" ]; then cat "$stops/$repo-$command-before"; fi
if [ -p "$stops/$repo-$command-after" ]; then
    git "$@"
    status=$?
    cat "$stops/$repo-$command-after"
    exit $status
fi
exec git "$@"
"#;

/// When a command stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum When {
    /// Before it has done anything.
    Before,
    /// When all is done, before its worker is told.
    After,
}

/// Where one worker's git commands are stopped.
#[derive(Debug)]
pub struct GitStops {
    dir: PathBuf,
}

/// A command that is to stand still.
#[derive(Clone, Debug)]
pub struct GitStop {
    pipe: PathBuf,
}

/// A command that stands still; it goes on when this is dropped.
#[derive(Debug)]
pub struct Halted {
    _writer: File,
}

impl GitStops {
    /// Stops nothing yet. `dir` is made.
    pub fn new(dir: PathBuf) -> Self {
        std::fs::create_dir_all(&dir).expect("a directory");
        let stops = Self { dir };
        let script = SCRIPT.replace("$stops", &stops.dir.display().to_string());
        write_script(&stops.script(), &script);
        stops
    }

    /// What to give the worker as `--git`.
    pub fn script(&self) -> PathBuf {
        self.dir.join("git")
    }

    /// Makes a command of a repository's mirror stand still.
    pub fn arm(&self, repo: &str, command: &str, when: When) -> GitStop {
        let when = match when {
            When::Before => "before",
            When::After => "after",
        };
        let pipe = self.dir.join(format!("{repo}-{command}-{when}"));
        named_pipe::make(&pipe);
        GitStop { pipe }
    }

    /// The commands that were run in a repository's mirror, in order.
    pub fn commands(&self, repo: &str) -> Vec<String> {
        let log = std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        let lines = log.lines().filter_map(|line| line.split_once(' '));
        lines
            .filter(|(of, _)| *of == repo)
            .map(|(_, command)| command.to_owned())
            .collect()
    }
}

impl GitStop {
    /// Waits until the command stands still.
    pub async fn reached(&self) -> Halted {
        Halted {
            _writer: named_pipe::reader_of(&self.pipe).await,
        }
    }

    /// Lets the command, and all later ones, go on.
    pub fn release(&self) {
        named_pipe::remove(&self.pipe);
    }
}
