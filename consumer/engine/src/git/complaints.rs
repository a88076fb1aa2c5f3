//! Standard error as it comes: bounded, in lines for progress, scrubbed of secrets.

use super::scrub::scrub;
use super::secrets::Secrets;

/// How much of the end of standard error is kept.
pub const STDERR_KEPT: usize = 64 * 1024;

/// The tail of standard error for errors, its lines for progress.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    kept: Vec<u8>,
    /// What has come since the last [`report`](Self::report), up to [`STDERR_KEPT`].
    fresh: Vec<u8>,
    secrets: Secrets,
}

impl Complaints {
    pub(super) fn new(secrets: Secrets) -> Self {
        Self {
            kept: Vec::new(),
            fresh: Vec::new(),
            secrets,
        }
    }

    pub(super) fn take(&mut self, bytes: &[u8]) {
        keep_tail(&mut self.kept, bytes);
        keep_tail(&mut self.fresh, bytes);
    }

    /// Hands on the lines that are complete.
    pub(super) fn report(&mut self, watch: &mut dyn FnMut(&str)) {
        let is_end = |b: &u8| matches!(b, b'\n' | b'\r');
        let Some(last) = self.fresh.iter().rposition(is_end) else {
            return;
        };
        let rest = self.fresh.split_off(last + 1);
        for line in self.fresh.split(is_end).filter(|line| !line.is_empty()) {
            watch(&scrub(&String::from_utf8_lossy(line), &self.secrets));
        }
        self.fresh = rest;
    }

    pub(super) fn tail(&self) -> String {
        scrub(&String::from_utf8_lossy(&self.kept), &self.secrets)
    }

    /// Its secrets, for what the process says elsewhere.
    pub(super) fn into_secrets(self) -> Secrets {
        self.secrets
    }
}

/// Appends, dropping from the front what exceeds [`STDERR_KEPT`].
fn keep_tail(kept: &mut Vec<u8>, bytes: &[u8]) {
    kept.extend_from_slice(bytes);
    let excess = kept.len().saturating_sub(STDERR_KEPT);
    if excess > 0 {
        kept.drain(..excess);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(complaints: &mut Complaints) -> Vec<String> {
        let mut lines = Vec::new();
        complaints.report(&mut |line| lines.push(line.to_owned()));
        lines
    }

    #[test]
    fn lines_come_when_they_are_whole() {
        let mut complaints = Complaints::new(Secrets::default());
        complaints.take(b"Receiving: 1%\rReceiv");
        assert_eq!(lines(&mut complaints), ["Receiving: 1%"]);
        complaints.take(b"ing: 2%\r\nerror: x");
        assert_eq!(lines(&mut complaints), ["Receiving: 2%"]);
        assert!(lines(&mut complaints).is_empty());
        assert!(complaints.tail().ends_with("error: x"));
    }

    #[test]
    fn only_the_end_is_kept_and_no_secret_in_it() {
        let mut complaints = Complaints::new(["hush"].into_iter().collect());
        for _ in 0..3 {
            complaints.take(&[b'x'; STDERR_KEPT]);
        }
        complaints.take(b" hush https://a:b@host/\n");
        assert!(complaints.tail().ends_with("x *** https://***@host/\n"));
        assert!(complaints.tail().len() <= STDERR_KEPT);
        assert!(lines(&mut complaints)[0].ends_with("x *** https://***@host/"));
    }
}
