//! Git's own programs, but for those that no command here may start.
//!
//! Git finds them in one directory, which an environment variable can name. This module makes one with links
//! to all but a few, so that what git itself offers no setting against cannot happen.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Git;
use crate::error::EngineError;

/// `git http-fetch` gets packs from any URL that a server's answer to a fetch names, whether or not the
/// client has said that it takes such (`packfile-uris`); no list of hosts and no redirect setting holds it.
/// Nothing else starts it.
const LEFT_OUT: &[&str] = &["git-http-fetch"];

impl Git {
    /// The same git with its programs in `dir`, which is made or put right, but for those left out.
    ///
    /// # Errors
    ///
    /// [`EngineError::GitUnusable`] where git does not say where its programs are;
    /// [`EngineError::Internal`] where `dir` cannot be made.
    pub fn fenced(mut self, dir: &Path) -> Result<Self, EngineError> {
        let from = self.own_exec_path()?;
        let cannot = |error: io::Error| {
            EngineError::Internal(format!(
                "linking git's programs from {} into {} failed: {error}",
                from.display(),
                dir.display()
            ))
        };
        let dir = std::path::absolute(dir).map_err(cannot)?;
        link_all(&from, &dir).map_err(cannot)?;
        self.exec_path = Some(dir);
        Ok(self)
    }

    fn own_exec_path(&self) -> Result<PathBuf, EngineError> {
        let mut command = Command::new(&self.program);
        command.arg("--exec-path").env_clear();
        command.envs(self.path.as_ref().map(|path| ("PATH", path)));
        let output = command
            .output()
            .ok()
            .filter(|output| output.status.success());
        let mut printed = output.map(|output| output.stdout).unwrap_or_default();
        while printed.last().is_some_and(u8::is_ascii_whitespace) {
            printed.pop();
        }
        let path = PathBuf::from(OsString::from_vec(printed));
        if path.is_absolute() {
            Ok(path)
        } else {
            Err(EngineError::GitUnusable(format!(
                "{} does not say where its own programs are (git --exec-path)",
                self.program.display()
            )))
        }
    }
}

/// Leaves a directory alone that is as it has to be: at most starts it is.
fn link_all(from: &Path, dir: &Path) -> io::Result<()> {
    let mut programs = Vec::new();
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if !LEFT_OUT
            .iter()
            .any(|left_out| entry.file_name() == *left_out)
        {
            programs.push((entry.file_name(), entry.path()));
        }
    }
    programs.sort();
    if is_linked(&programs, dir) {
        return Ok(());
    }
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => fs::create_dir_all(dir)?,
    }
    for (name, program) in programs {
        symlink(program, dir.join(name))?;
    }
    Ok(())
}

/// Whether the directory holds links to these programs and nothing else. They are all made at once, so one
/// tells of all where they lead.
fn is_linked(programs: &[(OsString, PathBuf)], dir: &Path) -> bool {
    let Ok(entries) = fs::read_dir(dir) else {
        return false;
    };
    let there: BTreeSet<_> = entries.flatten().map(|entry| entry.file_name()).collect();
    let wanted = programs.iter().map(|(name, _)| name);
    let leads_there = |(name, program): &(OsString, PathBuf)| {
        fs::read_link(dir.join(name)).is_ok_and(|to| to == *program)
    };
    there.iter().eq(wanted) && programs.first().is_some_and(leads_there)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Control;

    #[test]
    fn everything_is_found_but_what_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let git = Git::discover(None).unwrap();
        let fenced = dir.path().join("git-core");
        // Twice, as at the next start.
        let git = git.fenced(&fenced).unwrap().fenced(&fenced).unwrap();
        let run = |program: &str| {
            let command = git.command(dir.path()).args([program, "-h"]);
            command.run(&Control::unbounded()).unwrap().stderr
        };
        assert!(fenced.join("git-remote-https").exists());
        assert!(run("http-fetch").contains("not a git command"));
        assert!(!run("http-backend").contains("not a git command"));
        // Put back by somebody, it is removed at the next start.
        let left_out = fenced.join("git-http-fetch");
        symlink("/nowhere", &left_out).unwrap();
        fs::remove_file(fenced.join("git-http-backend")).unwrap();
        git.clone().fenced(&fenced).unwrap();
        assert!(left_out.symlink_metadata().is_err());
        assert!(fenced.join("git-http-backend").exists());
    }
}
