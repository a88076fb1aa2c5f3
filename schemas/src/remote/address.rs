//! Where a URL leads: protocol and host, found as git, curl and ssh find them. Pure.
//!
//! Whoever checks a host must read it as those do that connect to it. They decode, they look for `@[`
//! anywhere, and they end a host at different characters; each of that has led a URL past a list of
//! allowed hosts. So nothing is taken here that any two of them could read differently: names hold
//! letters, digits, `.`, `-` and `_`, ports are numbers, and what is encoded stays out of the part before
//! the path.

use super::Protocol;

/// What is wrong with a URL, to follow its name in a sentence.
type Problem = &'static str;

const HOLDS_A_PASSWORD: Problem =
    "holds a password; give it to the service by file or environment instead";
const ODD_HOST: Problem = "has a host that is not plain letters, digits, '.', '-' and '_' (write an \
    international name in its xn-- form) nor an IPv6 address in brackets";
const ODD_USER: Problem =
    "has a user with characters that git, curl and ssh could read differently";
const DASHED_HOST: Problem = "has a host that starts with '-'; ssh could take it for an option";
const DASHED_USER: Problem = "has a user that starts with '-'";

/// The protocol of the URL and the host, in lower case and without user or port; no host for a path.
pub(super) fn read(text: &str) -> Result<(Protocol, Option<String>), Problem> {
    if let Some((scheme, rest)) = text.split_once("://") {
        let protocol = scheme
            .parse()
            .map_err(|_| "has a scheme that is not one of https, ssh, http, git and file")?;
        let host = match protocol {
            Protocol::File => no_host(rest)?,
            _ => Some(host_of_url(rest, protocol)?),
        };
        Ok((protocol, host))
    } else if is_helper(text) {
        Err("names a remote helper ('name::address'), which could run a program")
    } else if let Some(host) = host_of_scp(text)? {
        Ok((Protocol::Ssh, Some(host)))
    } else {
        Ok((Protocol::File, None))
    }
}

/// Whether git would look for a program `git-remote-<name>`.
fn is_helper(text: &str) -> bool {
    text.split_once("::").is_some_and(|(name, _)| {
        name.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"+-._".contains(&b))
    })
}

/// A file URL leads to this machine.
fn no_host(rest: &str) -> Result<Option<String>, Problem> {
    if rest.starts_with('/') {
        Ok(None)
    } else {
        Err("is a file URL with a host; write file:///path")
    }
}

/// The host in what follows `scheme://`.
fn host_of_url(rest: &str, protocol: Protocol) -> Result<String, Problem> {
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (user, host_port) = match authority.rsplit_once('@') {
        Some((user, host_port)) => (Some(user), host_port),
        None => (None, authority),
    };
    if let Some(user) = user {
        check_user(user, protocol)?;
    }
    let path = decoded(path).ok_or("contains an encoded control character")?;
    // Git looks for this first, wherever it is, and takes what follows for the host.
    if path.contains("@[") {
        return Err("contains '@[' in its path; git would take what follows for the host");
    }
    let (host, port) = host_and_port(host_port)?;
    if let Some(port) = port {
        check_port(port)?;
    }
    Ok(host)
}

/// The host in `user@host:path`; `None` where that is a path.
fn host_of_scp(text: &str) -> Result<Option<String>, Problem> {
    let (user, rest) = match text.split_once('@') {
        // Not the user's where it comes after the host or in a path.
        Some((user, rest)) if !user.contains([':', '/']) => (Some(user), rest),
        _ => (None, text),
    };
    let end = match rest.strip_prefix('[') {
        Some(bracketed) => bracketed.find(']').map(|end| end + 2),
        None => rest.find(':'),
    };
    let split = end.and_then(|end| rest.split_at_checked(end));
    let Some((host, path)) = split.and_then(|(host, rest)| Some((host, rest.strip_prefix(':')?)))
    else {
        return if is_ssh(text) {
            Err(ODD_HOST)
        } else {
            Ok(None)
        };
    };
    if !is_ssh(text) {
        return Ok(None);
    }
    if let Some(user) = user {
        check_user(user, Protocol::Ssh)?;
    }
    if host.parse::<Protocol>().is_ok() && path.starts_with('/') {
        return Err("has one slash after its scheme where two belong");
    }
    if user.is_none()
        && path
            .split('/')
            .next()
            .is_some_and(|first| first.contains('@'))
    {
        // `user:password@host:path`, which would be a path on the host `user`.
        return Err(HOLDS_A_PASSWORD);
    }
    if path.contains("@[") {
        return Err("contains '@[' in its path; git would take what follows for the host");
    }
    if path.starts_with('-') {
        return Err("has a path that starts with '-'; git could take it for an option");
    }
    // In brackets, with or without a port, or an IPv6 address.
    let host = match host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        Some(inner) if is_v6(inner) => inner.to_ascii_lowercase(),
        Some(inner) => {
            let (host, port) = host_and_port(inner)?;
            port.map_or(Ok(()), check_port)?;
            host
        }
        None => host_and_port(host)?.0,
    };
    Ok(Some(host))
}

/// Git's own rule for text without a scheme: a colon, and no slash before it.
fn is_ssh(text: &str) -> bool {
    text.split_once(':')
        .is_some_and(|(before, _)| !before.contains('/'))
}

fn check_user(user: &str, protocol: Protocol) -> Result<(), Problem> {
    let encoded = matches!(protocol, Protocol::Https | Protocol::Http);
    let plain = decoded(user).filter(|_| encoded || !user.contains('%'));
    let plain = plain.ok_or(ODD_USER)?;
    if plain.contains(':') {
        return Err(HOLDS_A_PASSWORD);
    }
    if plain.starts_with('-') {
        return Err(DASHED_USER);
    }
    let harmless = |c: char| c.is_ascii_alphanumeric() || "-._~+=".contains(c);
    // A mail address, or a user of a Windows domain; both must be encoded.
    let is_ok = |c: char| harmless(c) || "@\\".contains(c);
    let as_written = |c: char| harmless(c) || c == '%';
    if plain.is_empty() || !plain.chars().all(is_ok) || !user.chars().all(as_written) {
        return Err(ODD_USER);
    }
    Ok(())
}

/// The two parts of `host` or `host:port`, the first in lower case; the port may still be anything.
fn host_and_port(text: &str) -> Result<(String, Option<&str>), Problem> {
    let (host, port) = if let Some(bracketed) = text.strip_prefix('[') {
        let (host, rest) = bracketed.split_once(']').ok_or(ODD_HOST)?;
        let port = match rest {
            "" => None,
            rest => Some(rest.strip_prefix(':').ok_or(ODD_HOST)?),
        };
        if !is_v6(host) {
            return Err(ODD_HOST);
        }
        (host, port)
    } else {
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        };
        if host.is_empty() {
            return Err("has no host");
        }
        if host.starts_with('-') {
            return Err(DASHED_HOST);
        }
        let is_ok = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        if !host.chars().all(is_ok) {
            return Err(ODD_HOST);
        }
        (host, port)
    };
    Ok((host.to_ascii_lowercase(), port))
}

fn is_v6(text: &str) -> bool {
    text.parse::<std::net::Ipv6Addr>().is_ok()
}

fn check_port(port: &str) -> Result<(), Problem> {
    let is_number = port.bytes().all(|b| b.is_ascii_digit());
    match port.parse::<u16>() {
        Ok(1..) if is_number => Ok(()),
        _ => Err("has a port that is no number from 1 to 65535"),
    }
}

/// The text with its `%XX` decoded, as git does before it looks for a host; `None` where a control
/// character comes out. A name in another encoding than UTF-8 is no danger and not refused for that.
fn decoded(text: &str) -> Option<String> {
    let bytes = decoded_bytes(text);
    let text = String::from_utf8_lossy(&bytes);
    (!text.chars().any(char::is_control)).then(|| text.into_owned())
}

/// What `%XX` stands for in the text; a `%` before anything else stands for itself.
pub(super) fn decoded_bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let byte = match after {
            [high, low, ..] if first == b'%' => hex(*high).zip(hex(*low)),
            _ => None,
        };
        match byte {
            Some((high, low)) => {
                bytes.push(high << 4 | low);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    bytes
}

fn hex(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_found_where_git_and_ssh_find_it() {
        for (text, host) in [
            ("https://bot@Git.Example:8443/a.git", "git.example"),
            ("https://me%40corp.example@git.example/a", "git.example"),
            ("https://CORP%5Cbot@git.example/a", "git.example"),
            ("http://[::1]:80/a", "::1"),
            ("ssh://git@[2001:DB8::1]/a", "2001:db8::1"),
            ("git@git.example:a/b@c.git", "git.example"),
            ("git@git.example:a@b/c.git", "git.example"),
            ("git@[git.example:2222]:a", "git.example"),
            ("git@[::1]:a", "::1"),
            ("[::1]:a", "::1"),
            ("git.example:a", "git.example"),
            ("https://git.example./a", "git.example."),
            ("https://git.example/a%20b/gr%C3%B6%C3%9Fe", "git.example"),
        ] {
            assert_eq!(read(text).unwrap().1.as_deref(), Some(host), "{text}");
        }
    }

    #[test]
    fn what_leads_elsewhere_than_it_seems_is_refused() {
        for (text, says) in [
            // Each of these, git takes to evil.example.
            ("ssh://evil.example%2F@allowed.example/x", "user"),
            ("ssh://allowed.example?@evil.example/x", "user"),
            ("ssh://allowed.example#@evil.example/x", "user"),
            ("allowed.example:x@[evil.example]:z", "password"),
            ("allowed.example:d/x@[evil.example]:z", "'@['"),
            ("git@allowed.example:x@[evil.example]:z", "'@['"),
            ("ssh://allowed.example/x@[evil.example]/y", "'@['"),
            ("ssh://allowed.example/x%40%5Bevil.example]/y", "'@['"),
            // And these one program or another.
            ("https://evil.example\\@allowed.example/x", "user"),
            ("https://allowed.example\\.evil.example/x", "host"),
            ("https://evil.example#@allowed.example/x", "user"),
            ("https://a@evil.example@allowed.example/x", "user"),
            ("https://evil%2eexample/x", "host"),
            ("https://evil.example%00.allowed.example/x", "host"),
            ("https://gіt.example/x", "xn--"),
            ("https://ａllowed.example/x", "xn--"),
            ("https://[::1/x", "host"),
            ("https://[::1]evil.example/x", "host"),
            ("https://[fe80::1%25eth0]/x", "host"),
            ("https://allowed.example:80@evil.example/x", "password"),
            ("https://allowed.example:/x", "port"),
            ("https://allowed.example:0/x", "port"),
            ("https://allowed.example:+80/x", "port"),
            ("https://allowed.example:99999/x", "port"),
            ("git://allowed.example:80:80/x", "port"),
            ("git://allowed.example/a%0Ahost=evil.example", "control"),
            ("ssh://allowed.example/a%00b", "control"),
            ("git@[git.example:x]:a", "port"),
            ("git@[git.example:a", "host"),
            ("[git@evil.example:22]:a", "user"),
            ("git@:a", "no host"),
            (":a", "no host"),
            ("::a", "remote helper"),
        ] {
            let problem = read(text).unwrap_err();
            assert!(problem.contains(says), "{text}: {problem}");
        }
    }

    #[test]
    fn nothing_that_could_be_an_option_passes() {
        for text in [
            "ssh://-oProxyCommand=x/a",
            "ssh://%2doProxyCommand=x/a",
            "ssh://-oProxyCommand=x@git.example/a",
            "https://%2dx@git.example/a",
            "-oProxyCommand=x:a",
            "git@-oProxyCommand=x:a",
            "git@[-oProxyCommand=x]:a",
            "-x@git.example:a",
            "git.example:-x",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_password_is_found_however_it_is_written() {
        for text in [
            "https://user:secret@git.example/a",
            "https://user%3Asecret@git.example/a",
            "ssh://user:secret@git.example/a",
            "user:secret@git.example:a",
        ] {
            assert_eq!(read(text), Err(HOLDS_A_PASSWORD), "{text}");
        }
        assert!(read("https:/user:secret@git.example/a").is_err());
    }

    #[test]
    fn what_is_no_address_is_a_path() {
        for text in [
            "/srv/a.git",
            "./a:b",
            "/srv/a@[b]:c",
            "a@b/c:d",
            "C",
            "a@[b]",
        ] {
            assert_eq!(read(text), Ok((Protocol::File, None)), "{text}");
        }
    }
}
