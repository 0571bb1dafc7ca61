//! Programs in Go: those of the test clients, and servers of others.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Error, Result, ensure};

use crate::files;
use crate::process;
use crate::stage::Tally;
use crate::tidy;

use super::made::{self, empty, once};
use super::retry::retry;

const SOURCE: &str = "clients/go";
const STEP: &str = "go-programs";

/// Builds the programs of the test clients.
pub(super) fn make(root: &Path, deadline: Instant) -> Tally {
    made::tally("prepare::go-clients", build(root, SOURCE, "./...", &folder(root), deadline))
}

/// The folder with the programs, when they have been built.
pub(super) fn clients(root: &Path) -> Option<PathBuf> {
    let folder = folder(root);
    made::is_made(&folder, STEP).then_some(folder)
}

/// Builds programs of the module that stands at `source` into a folder of their own. They are kept until Go
/// or anything of the sources changes.
pub(crate) fn build(
    root: &Path,
    source: &str,
    packages: &str,
    folder: &Path,
    deadline: Instant,
) -> Result<()> {
    let go = process::find_program("go").context("no go here")?;
    let module = root.join(source);
    let text = files::text(&module, &files::below(&module)?).with_context(|| source.to_owned())?;
    let version = process::answer(&go.to_string_lossy(), &["env", "GOVERSION"]).context("go does not run")?;
    let settings = fs::read_to_string(module.join("go.mod")).context("go.mod")?;
    let wanted = settings.lines().find_map(|line| line.strip_prefix("go ")).unwrap_or_default();
    ensure!(is_new_enough(&version, wanted), "{version} here, {source} wants go {wanted}");
    once(folder, STEP, &format!("{version} {:016x}", tidy::hash(&text)), || {
        empty(folder)?;
        retry("go build", deadline, || {
            let mut command = Command::new(&go);
            command.arg("build").arg("-o").arg(folder).arg(packages).current_dir(&module);
            // What is committed is built, by the Go that is here; neither is changed on the way.
            command.env("GOFLAGS", "-mod=readonly").env("GOTOOLCHAIN", "local");
            command
        })
        .map_err(Error::msg)
    })
}

/// True when Go's `version`, such as `go1.22.3`, is at least `wanted`, such as `1.21` or `1.22.0`.
fn is_new_enough(version: &str, wanted: &str) -> bool {
    numbers(version.trim_start_matches("go")) >= numbers(wanted)
}

fn numbers(version: &str) -> [u32; 3] {
    let mut parts = version.trim().split(['.', ' ']).map(|part| part.parse().unwrap_or(0));
    std::array::from_fn(|_| parts.next().unwrap_or(0))
}

fn folder(root: &Path) -> PathBuf {
    super::folder(root, "go")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_go_is_told_from_a_new_one() {
        assert!(is_new_enough("go1.26.8", "1.24.0"));
        assert!(is_new_enough("go1.24", "1.24.0"));
        assert!(!is_new_enough("go1.19.8", "1.22"));
        assert!(is_new_enough("go1.9", ""));
    }
}
