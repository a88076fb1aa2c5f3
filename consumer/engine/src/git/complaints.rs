//! Standard error as it comes: bounded, in lines for progress, scrubbed of secrets.

use super::scrub::scrub;
use super::secrets::Secrets;

/// How much of the end of standard error is kept.
pub const STDERR_KEPT: usize = 64 * 1024;

/// The tail of standard error for errors, its lines for progress.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    kept: Tail,
    /// What has come since the last [`report`](Self::report).
    fresh: Tail,
    secrets: Secrets,
}

/// The last [`STDERR_KEPT`] bytes.
#[derive(Debug, Default)]
struct Tail {
    bytes: Vec<u8>,
    /// Whether there was something before, so that it may start in the middle of a word.
    cut: bool,
}

impl Complaints {
    pub(super) fn new(secrets: Secrets) -> Self {
        Self {
            kept: Tail::default(),
            fresh: Tail::default(),
            secrets,
        }
    }

    pub(super) fn take(&mut self, bytes: &[u8]) {
        self.kept.take(bytes);
        self.fresh.take(bytes);
    }

    /// Hands on the lines that are complete.
    pub(super) fn report(&mut self, watch: &mut dyn FnMut(&str)) {
        let is_end = |b: &u8| matches!(b, b'\n' | b'\r');
        let Some(last) = self.fresh.bytes.iter().rposition(is_end) else {
            return;
        };
        let rest = self.fresh.bytes.split_off(last + 1);
        let lines = self.fresh.whole_words().split(is_end);
        for line in lines.filter(|line| !line.is_empty()) {
            watch(&scrub(&String::from_utf8_lossy(line), &self.secrets));
        }
        self.fresh = Tail {
            bytes: rest,
            cut: false,
        };
    }

    pub(super) fn tail(&self) -> String {
        let kept = String::from_utf8_lossy(self.kept.whole_words());
        scrub(&kept, &self.secrets)
    }

    /// Its secrets, for what the process says elsewhere.
    pub(super) fn into_secrets(self) -> Secrets {
        self.secrets
    }
}

impl Tail {
    /// Appends, dropping from the front what exceeds [`STDERR_KEPT`].
    fn take(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        let excess = self.bytes.len().saturating_sub(STDERR_KEPT);
        if excess > 0 {
            self.bytes.drain(..excess);
            self.cut = true;
        }
    }

    /// Without the word that was cut: the rest of a URL would no longer be known for one, and its
    /// password not be scrubbed.
    fn whole_words(&self) -> &[u8] {
        if !self.cut {
            return &self.bytes;
        }
        let space = self.bytes.iter().position(u8::is_ascii_whitespace);
        &self.bytes[space.unwrap_or(self.bytes.len())..]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
        assert_eq!(complaints.tail(), " *** https://***@host/\n");
        assert_eq!(lines(&mut complaints), [" *** https://***@host/"]);
    }

    #[test]
    fn a_url_whose_start_was_dropped_shows_no_password() {
        let mut complaints = Complaints::new(Secrets::default());
        let rest = STDERR_KEPT - "user:hush@host/ and so on\n".len();
        complaints.take(b"https://user:hush@host/ and so on\n");
        complaints.take(&vec![b'y'; rest]);
        assert!(complaints.kept.bytes.starts_with(b"user:hush@host/"));
        assert!(!complaints.tail().contains("hush"));
        assert!(!lines(&mut complaints).concat().contains("hush"));
    }

    proptest! {
        #[test]
        fn however_it_comes_the_lines_are_the_same(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>()], 0..200),
            cuts in proptest::collection::vec(0usize..200, 0..8),
        ) {
            let mut whole = Complaints::new(Secrets::default());
            whole.take(&bytes);
            let mut parts = Complaints::new(Secrets::default());
            let mut told = Vec::new();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            for cut in cuts.windows(2) {
                parts.take(&bytes[cut[0]..cut[1]]);
                told.extend(lines(&mut parts));
            }
            prop_assert_eq!(told, lines(&mut whole));
            prop_assert_eq!(parts.tail(), whole.tail());
        }
    }
}
