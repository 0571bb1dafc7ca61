//! A real ext4 of its own, on a loop device, that can lose its power, fill up or become read-only.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::{TempDir, tempdir};

use crate::{PATIENCE, any_python, eventually, is_root, python_script, skip};

/// The image is sparse: what is not written takes no room.
const IMAGE_BYTES: u64 = 1 << 30;

/// A mounted file system. It is unmounted when dropped, so a server on it must be dropped before.
pub(crate) struct Disk {
    /// Holds the image and the mount point.
    files: TempDir,
    python: PathBuf,
}

impl Disk {
    /// Makes and mounts one, or says why `test` cannot run here.
    pub(crate) fn for_test(test: &str) -> Option<Disk> {
        match Disk::new() {
            Ok(disk) => Some(disk),
            Err(reason) => {
                skip(test, &reason);
                None
            }
        }
    }

    fn new() -> Result<Disk, String> {
        if !is_root() {
            return Err("mounting a disk takes root".to_owned());
        }
        let python = interpreter(&any_python().ok_or("no Python")?)?;
        let files = tempdir().map_err(|error| error.to_string())?;
        let disk = Disk { files, python };
        let image = File::create(disk.image()).map_err(|error| error.to_string())?;
        image.set_len(IMAGE_BYTES).map_err(|error| error.to_string())?;
        fs::create_dir(disk.mount_point()).map_err(|error| error.to_string())?;
        run("mkfs.ext4", &[OsStr::new("-q"), disk.image().as_os_str()])?;
        disk.mount()?;
        Ok(disk)
    }

    /// Where a server keeps its data: a directory of its own, beside ext4's `lost+found`.
    pub(crate) fn data(&self) -> PathBuf {
        self.mount_point().join("data")
    }

    /// Cuts the power: from now on no write reaches the disk, and what only memory held is gone.
    /// Before that, ranges that `seed` chooses are written, so that what survives is not always a
    /// whole prefix.
    pub(crate) fn cut(&self, seed: u64) {
        let script = python_script("power_cut.py");
        let seed = seed.to_string();
        run(
            &self.python.to_string_lossy(),
            &[script.as_os_str(), self.mount_point().as_os_str(), OsStr::new(&seed)],
        )
        .expect("the power can be cut");
    }

    /// Power is back: the file system recovers its own journal.
    pub(crate) fn remount(&self) {
        eventually("the disk can be unmounted", PATIENCE, || {
            run("umount", &[self.mount_point().as_os_str()]).ok()
        });
        self.mount().expect("the disk can be mounted again");
    }

    /// From now on nothing can be written, until [`Disk::remount`].
    pub(crate) fn make_read_only(&self) {
        let point = self.mount_point();
        let arguments = [OsStr::new("-o"), OsStr::new("remount,ro"), point.as_os_str()];
        eventually("the disk can be made read-only", PATIENCE, || run("mount", &arguments).ok());
    }

    /// Takes all that is free, down to the last block. Returns the files that hold it.
    ///
    /// A server that is making a journal file finds no room for the rest of it, and gives its part back, up to 64 MB,
    /// when all else was taken. So it is waited for, and what is free is taken again until there is nothing.
    pub(crate) fn fill(&self) -> Vec<PathBuf> {
        let mut ballast = Vec::new();
        loop {
            eventually("no journal file is under way", PATIENCE, || {
                (!self.has_unfinished_journal_file()).then_some(())
            });
            let before = ballast.len();
            self.take_all(&mut ballast);
            if ballast.len() == before {
                return ballast;
            }
        }
    }

    /// Whether a server on this disk is making a journal file.
    fn has_unfinished_journal_file(&self) -> bool {
        let files = fs::read_dir(self.data().join("journal"));
        files.is_ok_and(|mut files| {
            files.any(|file| file.is_ok_and(|file| file.path().extension() == Some(OsStr::new("new"))))
        })
    }

    fn take_all(&self, ballast: &mut Vec<PathBuf>) {
        let mut bytes: u64 = 256 << 20;
        while bytes >= 4 << 10 {
            let file = self.mount_point().join(format!("ballast-{}", ballast.len()));
            let size = bytes.to_string();
            let arguments = [OsStr::new("-l"), OsStr::new(&size), file.as_os_str()];
            if run("fallocate", &arguments).is_err() {
                let _ = fs::remove_file(&file);
                bytes /= 2;
            } else {
                ballast.push(file);
            }
        }
    }

    fn mount(&self) -> Result<(), String> {
        let (image, point) = (self.image(), self.mount_point());
        run(
            "mount",
            &[
                OsStr::new("-t"),
                OsStr::new("ext4"),
                OsStr::new("-o"),
                OsStr::new("loop"),
                image.as_os_str(),
                point.as_os_str(),
            ],
        )
    }

    fn image(&self) -> PathBuf {
        self.files.path().join("image")
    }

    fn mount_point(&self) -> PathBuf {
        self.files.path().join("mount")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let point = self.mount_point();
        if is_mounted(&point) && run("umount", &[point.as_os_str()]).is_err() {
            // A failed test may leave a process behind; detach, so that the image can go.
            let _ = run("umount", &[OsStr::new("-l"), point.as_os_str()]);
        }
    }
}

fn is_mounted(point: &Path) -> bool {
    let point = point.to_string_lossy();
    fs::read_to_string("/proc/mounts")
        .is_ok_and(|mounts| mounts.lines().any(|line| line.split(' ').nth(1) == Some(&*point)))
}

/// The interpreter behind a name, which may be a script that first looks for one: every cut would wait
/// for that.
fn interpreter(python: &Path) -> Result<PathBuf, String> {
    let asked = Command::new(python)
        .args(["-c", "import sys; print(sys.executable)"])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{}: {error}", python.display()))?;
    match String::from_utf8_lossy(&asked.stdout).trim() {
        "" => Err(format!("{} does not say where it is", python.display())),
        path => Ok(PathBuf::from(path)),
    }
}

/// Runs a program of the system; its error output is the error.
fn run(program: &str, arguments: &[&OsStr]) -> Result<(), String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program}: {}", said.trim()))
}
