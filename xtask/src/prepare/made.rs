//! What is made once, and kept until what it is made from changes.
//!
//! A step that has been done leaves a stamp in its folder: a line that names everything it was done
//! from. Another line, or none, and the step is done again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::stage::Tally;

/// Does a step, unless its folder says that it was done from the same things before.
pub(crate) fn once(folder: &Path, step: &str, from: &str, make: impl FnOnce() -> Result<()>) -> Result<()> {
    let stamp = stamp(folder, step);
    let line = format!("{from}\n");
    if fs::read_to_string(&stamp).is_ok_and(|made| made == line) {
        println!("{step}: as it was ({from})");
        return Ok(());
    }
    // The stamp goes first: half of a step must never look like all of it.
    match fs::remove_file(&stamp) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("the stamp of {step} does not go"));
        }
        _ => {}
    }
    make()?;
    fs::write(&stamp, line).with_context(|| format!("the stamp of {step}"))
}

/// True when the step has been done in this folder.
pub(super) fn is_made(folder: &Path, step: &str) -> bool {
    stamp(folder, step).is_file()
}

/// An empty folder in the place of whatever is there.
pub(crate) fn empty(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("{} does not go", folder.display()));
        }
        _ => {}
    }
    fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))
}

/// What making something comes to in a report.
pub(super) fn tally(name: &str, made: Result<()>) -> Tally {
    match made {
        Ok(()) => Tally::pass(),
        Err(error) => Tally::skip(name, format!("{error:#}")),
    }
}

fn stamp(folder: &Path, step: &str) -> PathBuf {
    folder.join(format!(".made-{step}"))
}

#[cfg(test)]
mod tests {
    use std::{env, process};

    use anyhow::bail;

    use super::*;

    #[test]
    fn a_step_is_done_again_when_it_failed_or_its_inputs_changed() {
        let folder = env::temp_dir().join(format!("xtask-made-{}", process::id()));
        empty(&folder).unwrap();
        let mut done = 0;
        let mut step = |from: &str, works: bool| {
            let before = done;
            let made = once(&folder, "jars", from, || {
                done += 1;
                if works { Ok(()) } else { bail!("no network") }
            });
            (made.is_ok(), done > before)
        };
        assert_eq!(step("a", false), (false, true));
        assert_eq!(step("a", true), (true, true));
        assert_eq!(step("a", true), (true, false));
        assert_eq!(step("b", false), (false, true));
        assert_eq!(step("a", true), (true, true));
        assert!(is_made(&folder, "jars") && !is_made(&folder, "classes"));
        fs::remove_dir_all(&folder).unwrap();
    }
}
