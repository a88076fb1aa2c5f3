//! Texts that must never be shown, which show themselves to nobody.

use std::collections::BTreeSet;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// Passwords and tokens, in each form in which they could be printed; for [`scrub`](super::scrub).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secrets(BTreeSet<String>);

impl Secrets {
    /// Adds a text as it is. Blank ones hide nothing and are left out.
    pub fn add(&mut self, secret: impl Into<String>) {
        let secret = secret.into();
        if !secret.trim().is_empty() {
            self.0.insert(secret);
        }
    }

    /// Adds a password, as it is, encoded for a URL, and as HTTP sends it.
    pub fn add_password(&mut self, user: &str, password: &str) {
        if password.trim().is_empty() {
            return;
        }
        self.add(password);
        self.add(utf8_percent_encode(password, NON_ALPHANUMERIC).to_string());
        self.add(STANDARD.encode(password));
        self.add(STANDARD.encode(format!("{user}:{password}")));
    }

    /// Adds those of the other.
    pub fn add_all(&mut self, other: &Self) {
        self.0.extend(other.0.iter().cloned());
    }

    /// The longest first, so that hiding one that is part of another leaves no rest of it.
    pub(super) fn longest_first(&self) -> Vec<&str> {
        let mut secrets: Vec<&str> = self.0.iter().map(String::as_str).collect();
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets
    }
}

impl<S: Into<String>> FromIterator<S> for Secrets {
    fn from_iter<I: IntoIterator<Item = S>>(texts: I) -> Self {
        let mut secrets = Self::default();
        texts.into_iter().for_each(|text| secrets.add(text));
        secrets
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({} hidden)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_known_in_each_form_and_shown_in_none() {
        let mut secrets = Secrets::default();
        secrets.add_password("bot", "s3/cret");
        for form in ["s3/cret", "s3%2Fcret", "czMvY3JldA==", "Ym90OnMzL2NyZXQ="] {
            assert!(secrets.longest_first().contains(&form), "{form}");
        }
        assert_eq!(format!("{secrets:?}"), "Secrets(4 hidden)");
    }

    #[test]
    fn nothing_is_no_secret() {
        let mut secrets: Secrets = ["", " "].into_iter().collect();
        secrets.add_password("bot", "");
        assert_eq!(secrets, Secrets::default());
    }
}
