//! The operator's file of credentials, and how git gets the one for a remote's host.
//!
//! The file is git's own format (`git help credential-store`): a line `https://user:password@host` for
//! each host, `%XX` for what a URL cannot hold. It is read again for each command, so that whoever changes
//! a token only writes the file.
//!
//! - A credential is for its protocol, host and port: git is told of the file for the remote's own host
//!   alone, so what a server redirects to gets none.
//! - It goes from the file to git's helper, and by a pipe to the one git that speaks HTTP: neither
//!   arguments nor environments nor other files ever hold it.
//! - The file is only read. Git tells a helper to forget what a remote refused, and this one does not listen.
//! - Whoever else may read or change the file makes it unusable.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use backstack_schemas::RemoteUrl;
use backstack_schemas::remote::Protocol;
use percent_encoding::percent_decode_str;

use super::secrets::Secrets;
use crate::error::EngineError;

/// More than any list of hosts takes; what is longer is another file.
const LONGEST: u64 = 1024 * 1024;

/// Who may read it but its owner: the group, as secrets mounted into a container have it.
const FORBIDDEN: u32 = 0o027;

/// A file of credentials that could be read when it was opened.
#[derive(Clone, Debug)]
pub struct CredentialFile {
    path: PathBuf,
}

impl CredentialFile {
    /// Checks that the file can be used.
    ///
    /// # Errors
    ///
    /// [`EngineError::Internal`], naming the file, the line and what to do; never what the line holds.
    pub fn open(path: &Path) -> Result<Self, EngineError> {
        let path = std::path::absolute(path)
            .map_err(|error| unusable(path, &format!("cannot be found: {error}")))?;
        // It will stand in a line of shell.
        if path
            .to_str()
            .is_none_or(|text| text.chars().any(char::is_control))
        {
            return Err(unusable(
                &path,
                "has a path with control characters, or one that is not UTF-8; rename it",
            ));
        }
        let file = Self { path };
        file.secrets()?;
        Ok(file)
    }

    /// Every password in it, as it is now.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn secrets(&self) -> Result<Secrets, EngineError> {
        let text = self
            .read()
            .map_err(|problem| unusable(&self.path, &problem))?;
        let mut secrets = Secrets::default();
        // Git, too, ends lines at nothing else.
        for (number, line) in text.split('\n').enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (user, password, written) = parse(line).map_err(|problem| {
                unusable(&self.path, &format!("line {}: {problem}", number + 1))
            })?;
            secrets.add_password(&user, &password);
            secrets.add(written);
        }
        Ok(secrets)
    }

    fn read(&self) -> Result<String, String> {
        let cannot = |error: std::io::Error| format!("cannot be read: {error}");
        let file = File::open(&self.path).map_err(cannot)?;
        let metadata = file.metadata().map_err(cannot)?;
        if !metadata.is_file() {
            return Err("is no file".to_owned());
        }
        let mode = metadata.permissions().mode();
        if mode & FORBIDDEN != 0 {
            return Err(format!(
                "has mode {:04o}, so that others than its owner may read or change it; take that away: \
                 chmod 600 {}",
                mode & 0o7777,
                self.path.display()
            ));
        }
        let mut text = String::new();
        let read = file.take(LONGEST + 1).read_to_string(&mut text);
        match read {
            Ok(bytes) if bytes as u64 > LONGEST => Err("is longer than 1 MiB".to_owned()),
            Ok(_) => Ok(text),
            Err(error) => Err(cannot(error)),
        }
    }

    /// The setting that gives git the credential for the URL's host, and none for another; `None` where
    /// the URL's protocol knows no passwords.
    pub(super) fn helper(&self, url: &RemoteUrl) -> Option<(String, String)> {
        if !matches!(url.protocol(), Protocol::Https | Protocol::Http) {
            return None;
        }
        let shown = url.without_user();
        let (scheme, rest) = shown.split_once("://")?;
        let authority = rest.split('/').next()?;
        let path = self.path.to_str()?.replace('\'', r"'\''");
        // Git's shell runs it with what is to be done as an argument: get, store or erase.
        let helper = format!(
            "!f() {{ test \"$1\" = get && exec git credential-store --file='{path}' get; }}; f"
        );
        Some((format!("credential.{scheme}://{authority}.helper"), helper))
    }
}

fn unusable(path: &Path, problem: &str) -> EngineError {
    EngineError::Internal(format!("the credentials {} {problem}", path.display()))
}

/// User and password of a line, decoded, and the password as it is written there.
fn parse(line: &str) -> Result<(String, String, String), &'static str> {
    let shape = "is not like https://user:password@host";
    if line.contains(char::is_control) {
        return Err("holds a carriage return or another control character");
    }
    let (scheme, rest) = line.split_once("://").ok_or(shape)?;
    if !matches!(scheme, "https" | "http") {
        return Err("is for another protocol than https and http");
    }
    let (userinfo, host) = rest.split_once('@').ok_or(shape)?;
    let (user, password) = userinfo.split_once(':').ok_or(shape)?;
    // Git would take the rest of the line for the host, or the start of it for one.
    if userinfo.contains(['/', '?', '#']) {
        return Err("has one of / ? # in its user or password; write %2F, %3F or %23");
    }
    let host = host.strip_suffix('/').unwrap_or(host);
    if host.contains('/') {
        return Err("names a path; a credential is for a whole host");
    }
    // Read as a remote of that host would be.
    match format!("{scheme}://{host}/").parse::<RemoteUrl>() {
        Ok(_) if !host.contains('@') => {}
        _ => return Err("has a host that no remote could have; in a password, write @ as %40"),
    }
    let decoded = |text: &str| {
        let text = percent_decode_str(text).decode_utf8().ok()?;
        (!text.is_empty() && !text.contains(char::is_control)).then(|| text.into_owned())
    };
    match (decoded(user), decoded(password)) {
        (Some(user), Some(plain)) => Ok((user, plain, password.to_owned())),
        _ => Err("has a user or password that is empty, not UTF-8, or holds control characters"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn written(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("credentials");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    fn problem(text: &str, mode: u32) -> String {
        let (_dir, path) = written(text, mode);
        CredentialFile::open(&path).unwrap_err().to_string()
    }

    #[test]
    fn a_line_for_each_host_is_read() {
        let (_dir, path) = written(
            "# bots\n\nhttps://bot:s3%2Fcret@git.example\nhttp://a%40b:pw2@[::1]:8080/\n",
            0o640,
        );
        let secrets = CredentialFile::open(&path).unwrap().secrets().unwrap();
        for secret in ["s3/cret", "s3%2Fcret", "pw2"] {
            assert!(secrets.longest_first().contains(&secret), "{secret}");
        }
    }

    #[test]
    fn what_others_may_read_or_change_is_refused() {
        for mode in [0o604, 0o620, 0o602, 0o666, 0o777] {
            let said = problem("https://bot:s3cret@git.example\n", mode);
            let told = format!("mode {mode:04o}");
            assert!(
                said.contains(&told) && said.contains("chmod 600 "),
                "{said}"
            );
        }
    }

    #[test]
    fn a_line_that_git_would_pass_over_is_named_and_not_shown() {
        for (line, says) in [
            ("git.example bot s3cret", "https://user:password@host"),
            ("https://s3cret@git.example", "https://user:password@host"),
            ("ssh://bot:s3cret@git.example", "another protocol"),
            ("https://bot:s3cret@git.example/team", "whole host"),
            ("https://bot:s3/cret@git.example", "%2F"),
            ("https://bot:s3@cret@git.example", "%40"),
            ("https://bot:s3cret@git_example:x", "host"),
            ("https://bot:s3cret@", "host"),
            ("https://:s3cret@git.example", "empty"),
            ("https://bot:s3cret%0A@git.example", "control"),
            ("https://bot:s3cret@git.example\r", "carriage return"),
            ("https://bot:s3cret%FF@git.example", "UTF-8"),
        ] {
            let said = problem(&format!("https://a:b@h.example\n{line}\n"), 0o600);
            assert!(said.contains("line 2: ") && said.contains(says), "{said}");
            assert!(!said.contains("cret"), "{said}");
        }
    }

    #[test]
    fn what_is_no_file_or_too_long_is_refused() {
        let (dir, path) = written("", 0o600);
        CredentialFile::open(&path).unwrap();
        for (path, says) in [
            (dir.path(), "no file"),
            (&dir.path().join("none"), "cannot be read"),
        ] {
            let said = CredentialFile::open(path).unwrap_err().to_string();
            assert!(said.contains(says), "{said}");
        }
        assert!(problem(&"# \n".repeat(400_000), 0o600).contains("1 MiB"));
    }

    #[test]
    fn a_helper_is_for_one_host_and_quotes_its_path() {
        let file = CredentialFile {
            path: "/a b/it's".into(),
        };
        let helper = |url: &str| file.helper(&url.parse().unwrap());
        let (key, value) = helper("https://bot@Git.Example:8443/a.git").unwrap();
        assert_eq!(key, "credential.https://Git.Example:8443.helper");
        assert!(value.contains(r"--file='/a b/it'\''s' get"), "{value}");
        assert_eq!(helper("git@git.example:a"), None);
        assert_eq!(helper("/srv/a"), None);
    }
}
