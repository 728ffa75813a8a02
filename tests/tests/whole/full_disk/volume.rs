//! A disk of one process that can be full: a small file system in memory in a mount namespace of its own. The system takes it away when
//! this process ends.
//!
//! A limit on the size of files stands in where mount namespaces cannot be had: no file grows, which the process is told by another
//! error than a full disk gives.

use std::cell::Cell;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Leaves no room for anything but what is written over in small files.
const LIMIT: &str = "--fsize=64:";

/// A disk that can be full.
#[derive(Debug)]
pub(super) struct Volume {
    /// Keeps the namespace: it ends with the pipe from this process. `None` for a limit.
    holder: Option<Child>,
    /// Leads into the namespace.
    entrance: Vec<String>,
    folder: PathBuf,
    full: Cell<bool>,
}

impl Volume {
    /// A disk of so many bytes at `folder`, or what stands in for it.
    pub(super) fn mount(folder: &Path, bytes: u64) -> Self {
        // Root needs no user namespace; others may have one, where the system lets them.
        let volume = Self::mount_as(folder, bytes, &[])
            .or_else(|| Self::mount_as(folder, bytes, &["--user", "--map-root-user"]));
        volume.unwrap_or_else(|| {
            eprintln!("NO MOUNT NAMESPACES HERE: instead of a full disk there is a limit on the size of files");
            Self::limit(folder)
        })
    }

    /// What stands in for a disk.
    pub(super) fn limit(folder: &Path) -> Self {
        fs::create_dir_all(folder).expect("created");
        Self { holder: None, entrance: Vec::new(), folder: folder.to_owned(), full: Cell::new(false) }
    }

    fn mount_as(folder: &Path, bytes: u64, user: &[&str]) -> Option<Self> {
        fs::create_dir_all(folder).expect("created");
        let script = "mount -t tmpfs -o size=$1,mode=0700 tmpfs \"$2\" && echo there && exec cat";
        let mut holder = Command::new("unshare")
            .arg("--mount")
            .args(user)
            .args(["sh", "-c", script, "sh", &bytes.to_string()])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut answer = [0; 5];
        let answered = holder.stdout.take().is_some_and(|mut out| out.read_exact(&mut answer).is_ok());
        let namespaces = format!("/proc/{}/ns", holder.id());
        let mut entrance = vec!["nsenter".to_owned(), format!("--mount={namespaces}/mnt")];
        if !user.is_empty() {
            entrance.extend([format!("--user={namespaces}/user"), "--preserve-credentials".to_owned()]);
        }
        entrance.push("--".to_owned());
        let volume = Self { holder: Some(holder), entrance, folder: folder.to_owned(), full: Cell::new(false) };
        answered.then_some(volume)
    }

    /// The command that leads to where the disk is, to be asked for anew before every start of a process.
    pub(super) fn within(&self) -> Vec<String> {
        if self.holder.is_some() {
            return self.entrance.clone();
        }
        let limit = if self.full.get() { LIMIT } else { "--fsize=unlimited:" };
        // The signal would end the process before it sees the error.
        ["prlimit", limit, "sh", "-c", "trap '' XFSZ; exec \"$@\"", "sh"].map(str::to_owned).into()
    }

    /// The folder of the disk, as this process sees it.
    pub(super) fn folder(&self) -> PathBuf {
        match &self.holder {
            Some(holder) => {
                let below = self.folder.strip_prefix("/").expect("an absolute path");
                Path::new(&format!("/proc/{}/root", holder.id())).join(below)
            }
            None => self.folder.clone(),
        }
    }

    /// Leaves no room to anybody; `process` is the one that works there.
    pub(super) fn fill(&self, process: u32) {
        self.full.set(true);
        if self.holder.is_none() {
            return set_limit(process, LIMIT);
        }
        let mut file = OpenOptions::new().create(true).append(true).open(self.ballast()).expect("opened");
        // A page at a time, so that none is left.
        let error = loop {
            if let Err(error) = file.write_all(&[0x5a; 4096]) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
    }

    /// Whether it is a file system, and no limit in place of one.
    pub(super) const fn is_real(&self) -> bool {
        self.holder.is_some()
    }

    /// Leaves no room to processes that are started from now on; only for a limit.
    pub(super) fn narrow(&self) {
        assert!(!self.is_real());
        self.full.set(true);
    }

    /// Gives the room back.
    pub(super) fn free(&self, process: u32) {
        self.full.set(false);
        match self.holder {
            Some(_) => fs::remove_file(self.ballast()).expect("removed"),
            None => set_limit(process, "--fsize=unlimited:"),
        }
    }

    fn ballast(&self) -> PathBuf {
        self.folder().join("ballast")
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if let Some(holder) = &mut self.holder {
            holder.kill().ok();
            holder.wait().ok();
        }
    }
}

/// Sets the size that files of a process may grow to.
fn set_limit(process: u32, limit: &str) {
    let output =
        Command::new("prlimit").args(["--pid", &process.to_string(), limit]).output().expect("prlimit of util-linux");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
