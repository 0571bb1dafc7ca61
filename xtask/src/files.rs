//! Trees of files: what is in them, and copies of them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// Folders that package managers and compilers make inside a source tree.
const MADE_BY_MACHINES: [&str; 3] = ["node_modules", "target", "__pycache__"];

/// Every file below `folder`, relative to it, sorted.
pub(crate) fn below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(inner) = waiting.pop() {
        let path = folder.join(&inner);
        for entry in fs::read_dir(&path).with_context(|| path.display().to_string())? {
            let entry = entry.with_context(|| path.display().to_string())?;
            let kind = entry.file_type().with_context(|| entry.path().display().to_string())?;
            let name = entry.file_name();
            if kind.is_file() {
                files.push(inner.join(&name));
            } else if kind.is_dir() && !MADE_BY_MACHINES.iter().any(|machine| name == *machine) {
                waiting.push(inner.join(&name));
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Copies these files, relative to `from`, to the same places below `to`; with their permissions.
pub(crate) fn copy<'a>(from: &Path, to: &Path, files: impl IntoIterator<Item = &'a PathBuf>) -> Result<()> {
    for file in files {
        let target = to.join(file);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
        }
        fs::copy(from.join(file), &target).with_context(|| target.display().to_string())?;
    }
    Ok(())
}

/// What these files say, one after the other with their names.
pub(crate) fn text<'a>(folder: &Path, files: impl IntoIterator<Item = &'a PathBuf>) -> Result<String> {
    let mut all = String::new();
    for file in files {
        let text = fs::read_to_string(folder.join(file)).with_context(|| file.display().to_string())?;
        all.push_str(&format!("{}\n{text}\n", file.display()));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use std::{env, process};

    use super::*;

    #[test]
    fn a_copy_has_the_sources_and_not_what_was_made_from_them() {
        let folder = env::temp_dir().join(format!("xtask-files-{}", process::id()));
        let (from, to) = (folder.join("from"), folder.join("to"));
        fs::create_dir_all(from.join("guide")).unwrap();
        fs::create_dir_all(from.join("node_modules/a")).unwrap();
        for file in ["b.mjs", "guide/a.mjs", "node_modules/a/index.js"] {
            fs::write(from.join(file), file).unwrap();
        }
        let files = below(&from).unwrap();
        assert_eq!(files, [PathBuf::from("b.mjs"), PathBuf::from("guide/a.mjs")]);
        copy(&from, &to, &files).unwrap();
        assert_eq!(text(&to, &files).unwrap(), "b.mjs\nb.mjs\nguide/a.mjs\nguide/a.mjs\n");
        fs::remove_dir_all(&folder).unwrap();
    }
}
