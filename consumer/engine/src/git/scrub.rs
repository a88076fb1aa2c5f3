//! Takes credentials, and what a terminal would obey, out of what git, ssh and remotes print. Pure.

use super::secrets::Secrets;

/// What stands where a credential was.
const HIDDEN: &str = "***";

/// Text with no user part in any URL, no authorization header, none of `secrets`, and no control
/// characters but those that end lines.
///
/// The whole user part goes, not only a password: a token is often given as the user.
pub fn scrub(text: &str, secrets: &Secrets) -> String {
    // What a control character splits must not pass for two halves that are no secret; what remains
    // in its place is no part of any.
    let mut clean = without_headers(&without_user_parts(&without_controls(text)));
    for secret in secrets.longest_first() {
        clean = clean.replace(secret, HIDDEN);
    }
    clean
}

/// The text with a mark in place of each character that a terminal would obey: control characters,
/// and those that turn the direction of writing.
fn without_controls(text: &str) -> String {
    let acts = |c: char| {
        (c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.replace(acts, "\u{fffd}")
}

/// `scheme://user:password@host` as `scheme://***@host`.
fn without_user_parts(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        clean.push_str(before);
        let end = after
            .find(|c: char| c.is_whitespace() || "/?#'\"<>".contains(c))
            .unwrap_or(after.len());
        let (authority, tail) = after.split_at(end);
        match authority.rfind('@') {
            Some(at) => {
                clean.push_str(HIDDEN);
                clean.push_str(&authority[at..]);
            }
            None => clean.push_str(authority),
        }
        rest = tail;
    }
    clean.push_str(rest);
    clean
}

/// Lines without what follows `authorization:`.
fn without_headers(text: &str) -> String {
    const HEADER: &str = "authorization:";
    if !contains_ignoring_case(text, HEADER) {
        return text.to_owned();
    }
    text.split_inclusive('\n')
        .map(|line| match find_ignoring_case(line, HEADER) {
            Some(at) => {
                let end = if line.ends_with('\n') { "\n" } else { "" };
                format!("{} {HIDDEN}{end}", &line[..at + HEADER.len()])
            }
            None => line.to_owned(),
        })
        .collect()
}

fn contains_ignoring_case(text: &str, ascii: &str) -> bool {
    find_ignoring_case(text, ascii).is_some()
}

/// Where `ascii` starts in `text`, in any case.
fn find_ignoring_case(text: &str, ascii: &str) -> Option<usize> {
    text.as_bytes()
        .windows(ascii.len())
        .position(|window| window.eq_ignore_ascii_case(ascii.as_bytes()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hides_what_could_be_a_credential() {
        for (printed, clean) in [
            (
                "fatal: unable to access 'https://bot:s3cret@git.example/a.git/': x",
                "fatal: unable to access 'https://***@git.example/a.git/': x",
            ),
            (
                "To https://ghp_token@git.example/a",
                "To https://***@git.example/a",
            ),
            (
                "see https://git.example/a@b and ssh://git@h/x",
                "see https://git.example/a@b and ssh://***@h/x",
            ),
            ("https://a:b@c@host/x", "https://***@host/x"),
            (
                "> Authorization: Basic abc\nnext",
                "> Authorization: ***\nnext",
            ),
            ("nothing here", "nothing here"),
            ("://", "://"),
        ] {
            assert_eq!(scrub(printed, &Secrets::default()), clean);
        }
    }

    #[test]
    fn hides_the_operators_tokens_wherever_they_are() {
        let secrets: Secrets = ["tok", "token-1", ""].into_iter().collect();
        assert_eq!(scrub("got token-1 and tok", &secrets), "got *** and ***");
    }

    #[test]
    fn hides_what_a_terminal_would_obey() {
        assert_eq!(
            scrub(
                "a\u{1b}[2Jb\u{9b}31m\r\n\tc\u{202e}d\0",
                &Secrets::default()
            ),
            "a\u{fffd}[2Jb\u{fffd}31m\r\n\tc\u{fffd}d\u{fffd}"
        );
    }

    proptest! {
        #[test]
        fn no_password_survives(
            before in "[^@:/]{0,8}", user in "[a-z]{0,4}", password in "[A-Z0-9:@]{6,9}", after in "[^@]{0,9}",
        ) {
            let text = format!("{before} https://{user}:{password}@host/{after}");
            let clean = scrub(&text, &Secrets::default());
            let password_shown = format!("{password}@");
            prop_assert!(!clean.contains(&password_shown), "{}", clean);
        }

        #[test]
        fn no_token_or_header_survives(
            before in "[a-z:/@ \n]{0,12}", token in "[A-Z0-9]{6,12}", after in "[a-z:/@ \n]{0,12}",
            header in "[aA]uthorization: ?",
        ) {
            let clean = scrub(&format!("{before}{token}{after}{token}"), &[token.clone()].into_iter().collect());
            prop_assert!(!clean.contains(&token), "{}", clean);
            let clean = scrub(&format!("{before}{header}Basic {token}\n{after}"), &Secrets::default());
            prop_assert!(!clean.contains(&token), "{}", clean);
        }

        #[test]
        fn what_is_clean_stays_as_it_is(text in "(?s).{0,80}") {
            let clean = scrub(&text, &Secrets::default());
            prop_assert_eq!(scrub(&clean, &Secrets::default()), clean);
        }

        #[test]
        fn never_panics(text in ".*", secret in ".*") {
            scrub(&text, &[secret].into_iter().collect());
        }
    }
}
