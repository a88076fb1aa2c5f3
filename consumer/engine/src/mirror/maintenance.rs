//! Keeping a mirror small and quick: packing and collecting, when it is worth it.

use std::fs;
use std::path::Path;

use super::Mirror;
use crate::control::Control;
use crate::error::EngineError;

/// Loose objects at which packing is worth a process, estimated as git does it: one of the 256
/// directories is counted.
const MANY_LOOSE: usize = 4_096;

/// Packs at which looking an object up takes noticeably longer.
const MANY_PACKS: usize = 24;

/// How old an object that nothing leads to must be to go. Longer than any action may take, so that
/// what a retry of an action would write again is mostly still there.
const PRUNE_EXPIRE: &str = "1.day.ago";

impl Mirror {
    /// Packs, and drops what neither a head nor a pin leads to, if enough has gathered; whether it
    /// did. Cheap where there is nothing to do.
    ///
    /// It does nothing before this job has said what to keep ([`set_pins`](Self::set_pins)), since
    /// rows may name what is not pinned yet.
    ///
    /// # Errors
    ///
    /// What the control says, and [`EngineError::Internal`]; the mirror stays as it was.
    pub fn maintain(&mut self, control: &Control) -> Result<bool, EngineError> {
        if !self.pinned.get() || !is_worth_it(&self.path) {
            return Ok(false);
        }
        self.collect(PRUNE_EXPIRE, control)?;
        Ok(true)
    }

    /// Packs all and drops what nothing leads to and is older than `expire`.
    fn collect(&mut self, expire: &str, control: &Control) -> Result<(), EngineError> {
        let command = self
            .local()
            .args(["gc", "--quiet"])
            .arg(format!("--prune={expire}"));
        self.noting_interruption(command.run(control))?.checked()?;
        // The packs that libgit2 has open are gone.
        self.repository = git2::Repository::open_bare(&self.path)?;
        Ok(())
    }
}

/// Whether enough has gathered.
pub(super) fn is_worth_it(path: &Path) -> bool {
    let loose = count(&path.join("objects/17"), |_| true) * 256;
    let packs = count(&path.join("objects/pack"), |name| name.ends_with(".pack"));
    loose >= MANY_LOOSE || packs >= MANY_PACKS
}

fn count(dir: &Path, matches: impl Fn(&str) -> bool) -> usize {
    fs::read_dir(dir).map_or(0, |entries| {
        entries
            .filter_map(Result::ok)
            .filter(|entry| matches(&entry.file_name().to_string_lossy()))
            .count()
    })
}
