//! Versions of nats-server, and the oldest that will do.

use std::fmt;
use std::str::FromStr;

/// The oldest nats-server that has everything the topology needs. Its own pre-releases are older, and
/// so will not do.
pub const OLDEST_SERVER: Version = Version::new(2, 14, 1);

/// A nats-server's version. A pre-release comes before its release; pre-releases of one release are in
/// the order of their names as text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    number: [u32; 3],
    // `false` sorts first, so a pre-release is older.
    released: bool,
    pre_release: String,
}

impl Version {
    /// The release `major.minor.patch`.
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self {
            number: [major, minor, patch],
            released: true,
            pre_release: String::new(),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.number;
        write!(f, "{major}.{minor}.{patch}")?;
        if self.released {
            return Ok(());
        }
        write!(f, "-{}", self.pre_release)
    }
}

impl FromStr for Version {
    type Err = String;

    /// Reads `2.15.1` or `2.15.1-beta.2`; what follows a `+` names a build and does not count.
    fn from_str(text: &str) -> Result<Self, String> {
        let problem = || format!("{text:?} is no version such as {OLDEST_SERVER}");
        let (version, _build) = text.split_once('+').unwrap_or((text, ""));
        let (number, pre_release) = version.split_once('-').unwrap_or((version, ""));
        let parts: Result<Vec<u32>, _> = number.split('.').map(str::parse).collect();
        let number = parts
            .ok()
            .and_then(|parts| <[u32; 3]>::try_from(parts).ok());
        Ok(Self {
            number: number.ok_or_else(problem)?,
            released: pre_release.is_empty(),
            pre_release: pre_release.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_and_a_pre_release_comes_before_its_release() {
        let version = |text: &str| text.parse::<Version>().unwrap();
        assert!(version("2.14.0") < OLDEST_SERVER);
        assert!(version("2.14.1-RC.1") < OLDEST_SERVER);
        assert!(version("2.9.30") < version("2.14.1"));
        assert!(version("2.15.0-dev") > OLDEST_SERVER);
        assert_eq!(version("2.15.1+vendor.3"), version("2.15.1"));
        assert_eq!(version("2.15.0-RC.1").to_string(), "2.15.0-RC.1");
        for wrong in ["", "2.15", "2.15.1.0", "v2.15.1", "2.x.1"] {
            assert!(wrong.parse::<Version>().is_err(), "{wrong:?}");
        }
    }
}
