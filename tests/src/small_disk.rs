//! A file system of a few megabytes that can be filled to the last byte, for programs that run out of
//! room: a real one, in a mount namespace of its own.
//!
//! Making one takes a user namespace, which any user may have where the system allows it, or root. Where
//! neither is to be had there is no such disk, and the test fails and says so.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use backstack_consumer::dev::process::Process;

use crate::rows::DEADLINE;

/// The namespaces that hold the mount, and how they are entered: with one of the user's own, or as root.
const WAYS: [(&[&str], &[&str]); 2] = [
    (
        &["--user", "--map-root-user", "--mount"],
        &["--user", "--preserve-credentials", "--mount"],
    ),
    (&["--mount"], &["--mount"]),
];

/// A mounted file system; gone, with all that is on it, when this is dropped.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
    holder: Process,
    enter: &'static [&'static str],
}

impl SmallDisk {
    /// Mounts an empty file system of `bytes` on `path`, which is made, for programs started
    /// [inside](Self::starter) alone.
    pub async fn mount(path: &Path, bytes: u64) -> Self {
        std::fs::create_dir_all(path).expect("a directory to mount on");
        let mut said = String::new();
        for (namespaces, enter) in WAYS {
            match hold(path, bytes, namespaces).await {
                Ok(holder) => {
                    return Self {
                        path: path.to_owned(),
                        holder,
                        enter,
                    };
                }
                Err(problem) => said.push_str(&problem),
            }
        }
        panic!(
            "no small file system can be mounted here: {said}; this test needs Linux with user \
             namespaces for unprivileged users (sysctl user.max_user_namespaces, and \
             kernel.apparmor_restrict_unprivileged_userns=0), or root with CAP_SYS_ADMIN"
        );
    }

    /// The mount's path, as programs inside see it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The same from outside.
    pub fn seen(&self) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.pid()));
        root.join(self.path.strip_prefix("/").expect("an absolute path"))
    }

    /// What goes before a program and its arguments to start it inside; the process is the program.
    pub fn starter(&self) -> Vec<OsString> {
        let target = format!("--target={}", self.holder.pid());
        let words = ["nsenter", &target];
        let words = words.iter().chain(self.enter.iter()).chain(&["--"]);
        words.map(OsString::from).collect()
    }

    /// Writes a script that starts `program` inside.
    pub fn script(&self, program: &Path, script: &Path) {
        let words: Vec<_> = self
            .starter()
            .iter()
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        let text = format!(
            "#!/bin/sh\nexec {} '{}' \"$@\"\n",
            words.join(" "),
            program.display()
        );
        std::fs::write(script, text).expect("a script");
        std::fs::set_permissions(script, std::fs::Permissions::from_mode(0o755))
            .expect("a script that runs");
    }

    /// Bytes that are free.
    pub fn free(&self) -> u64 {
        // Not df, which would look where the path leads outside.
        let listed = Command::new("stat")
            .args(["--file-system", "--format=%a %S"])
            .arg(self.seen())
            .output()
            .expect("stat");
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let numbers = listed.split_whitespace().map(str::parse::<u64>);
        match numbers.collect::<Result<Vec<_>, _>>().as_deref() {
            Ok([blocks, size]) => blocks * size,
            _ => panic!("stat said {listed:?}"),
        }
    }

    /// Fills the disk until `bytes` are left, to the page.
    pub fn leave(&self, bytes: u64) {
        self.make_room();
        let fill = usize::try_from(self.free().saturating_sub(bytes)).expect("a small disk");
        let mut ballast = File::create(self.ballast()).expect("a file on the disk");
        // The last page may not fit.
        let _ = ballast.write_all(&vec![0; fill]);
        if bytes == 0 {
            while ballast.write_all(&[0; 512]).is_ok() {}
        }
    }

    /// Removes what [`leave`](Self::leave) filled it with.
    pub fn make_room(&self) {
        let _ = std::fs::remove_file(self.ballast());
    }

    fn ballast(&self) -> PathBuf {
        self.seen().join("ballast")
    }
}

/// A process that keeps the mount for as long as it lives.
async fn hold(path: &Path, bytes: u64, namespaces: &[&str]) -> Result<Process, String> {
    let said = path.with_extension("mount");
    let out = File::create(&said).expect("a file for output");
    let script =
        "mount -t tmpfs -o \"size=$2,mode=0700\" tmpfs \"$1\" && echo mounted && exec sleep 86400";
    let mut command = Command::new("unshare");
    command
        .args(namespaces)
        .args(["sh", "-c", script, "sh"])
        .arg(path)
        .arg(bytes.to_string())
        .stdin(Stdio::null())
        .stdout(out.try_clone().expect("a file"))
        .stderr(out);
    let holder = Process::spawn(command).map_err(|error| format!("unshare: {error}"))?;
    let until = Instant::now() + DEADLINE;
    loop {
        let ended = holder.ended();
        let text = std::fs::read_to_string(&said).unwrap_or_default();
        if text.contains("mounted") {
            return Ok(holder);
        }
        if ended.is_some() || Instant::now() > until {
            return Err(text);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_disk_takes_nothing_and_an_emptied_one_does() {
        let dir = tempfile::tempdir().unwrap();
        let disk = SmallDisk::mount(&dir.path().join("disk"), 1 << 20).await;
        let write = || {
            let starter = disk.starter();
            let script = format!("head -c 100000 /dev/zero > {}/file", disk.path().display());
            let mut command = Command::new(&starter[0]);
            command.args(&starter[1..]).args(["sh", "-c", &script]);
            command.stderr(Stdio::null()).status().unwrap().success()
        };
        disk.leave(50_000);
        assert!(disk.free() <= 50_000 && !write());
        disk.leave(0);
        assert_eq!(disk.free(), 0);
        disk.make_room();
        assert!(write());
        assert!(disk.seen().join("file").exists());
        assert!(
            !disk.path().join("file").exists(),
            "it is mounted outside too"
        );
    }
}
