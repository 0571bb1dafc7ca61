//! The text files of the working tree.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::rust;

/// Folders that hold no source.
const NOT_SOURCE: [&str; 7] =
    ["target", "dist", ".git", "node_modules", "courant-data", ".cache", "__pycache__"];
/// Files that hold text and are written by a machine.
const GENERATED: [&str; 1] = ["Cargo.lock"];

/// One text file.
#[derive(Clone, Debug)]
pub(super) struct SourceFile {
    /// Relative to the root, with `/`.
    pub(super) path: String,
    pub(super) text: String,
    /// For Rust: `text` without comments, without what strings contain and without test modules;
    /// the lines stay where they are. Else empty.
    pub(super) code: String,
}

impl SourceFile {
    /// True for Rust.
    pub(super) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// True for Markdown.
    pub(super) fn is_page(&self) -> bool {
        self.path.ends_with(".md")
    }
}

/// All text files, by path.
#[derive(Debug)]
pub(super) struct Tree {
    files: Vec<SourceFile>,
    paths: BTreeSet<String>,
    test_modules: BTreeSet<String>,
}

impl Tree {
    /// Reads the tree at `root`.
    pub(super) fn load(root: &Path) -> Result<Tree> {
        let mut files = Vec::new();
        let mut paths = BTreeSet::new();
        walk(root, "", &mut files, &mut paths)?;
        Ok(Tree::new(files, paths))
    }

    /// A tree from text, for tests of the checks.
    #[cfg(test)]
    pub(super) fn of(files: &[(&str, &str)]) -> Tree {
        let files: Vec<_> =
            files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        let mut paths = BTreeSet::new();
        for (path, _) in &files {
            let parents = path.match_indices('/').map(|(at, _)| path[..at].to_owned());
            paths.extend(parents.chain([path.clone()]));
        }
        Tree::new(files, paths)
    }

    fn new(files: Vec<(String, String)>, paths: BTreeSet<String>) -> Tree {
        let mut files: Vec<_> = files
            .into_iter()
            .map(|(path, text)| {
                let code = if path.ends_with(".rs") {
                    rust::without_tests(&rust::without_text(&text))
                } else {
                    String::new()
                };
                SourceFile { path, text, code }
            })
            .collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let test_modules = files
            .iter()
            .filter(|file| file.is_rust())
            .flat_map(|file| {
                let folder = module_folder(&file.path);
                rust::test_modules(&file.text).into_iter().map(move |name| format!("{folder}{name}"))
            })
            .collect();
        Tree { files, paths, test_modules }
    }

    /// Every file, by path.
    pub(super) fn files(&self) -> impl Iterator<Item = &SourceFile> {
        self.files.iter()
    }

    /// The Rust files that are part of the product or its tasks, not tests.
    pub(super) fn product_code(&self) -> impl Iterator<Item = &SourceFile> {
        self.files.iter().filter(|file| file.is_rust() && !self.is_test(&file.path))
    }

    /// The file at `path`.
    pub(super) fn file(&self, path: &str) -> Option<&SourceFile> {
        self.files.iter().find(|file| file.path == path)
    }

    /// True for a file or folder that is there, text or not.
    pub(super) fn exists(&self, path: &str) -> bool {
        path.is_empty() || self.paths.contains(path)
    }

    /// True for a file that only tests and benchmarks compile, the clients that drive a server included.
    fn is_test(&self, path: &str) -> bool {
        path.starts_with("clients/")
            || path.split('/').any(|part| matches!(part, "tests" | "tests.rs" | "benches"))
            || self.test_modules.iter().any(|module| {
                path.strip_prefix(module.as_str()).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
            })
    }
}

/// Where the modules that a file declares are looked for, with a `/` at the end.
fn module_folder(path: &str) -> String {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    match name {
        "mod.rs" | "lib.rs" | "main.rs" => format!("{folder}/"),
        _ => format!("{folder}/{}/", name.trim_end_matches(".rs")),
    }
}

fn walk(
    root: &Path,
    folder: &str,
    files: &mut Vec<(String, String)>,
    paths: &mut BTreeSet<String>,
) -> Result<()> {
    let entries = fs::read_dir(root.join(folder)).with_context(|| format!("{folder}/"))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("{folder}/"))?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        let kind = entry.file_type().with_context(|| path.clone())?;
        if kind.is_dir() {
            if !NOT_SOURCE.contains(&name.as_str()) {
                paths.insert(path.clone());
                walk(root, &path, files, paths)?;
            }
        } else if kind.is_file() {
            paths.insert(path.clone());
            // What is not UTF-8 is not text.
            if !GENERATED.contains(&name.as_str())
                && let Ok(text) = fs::read_to_string(entry.path())
            {
                files.push((path, text));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_files_are_no_product_code() {
        let tree = Tree::of(&[
            ("crates/a/src/lib.rs", "//! A.\n#[cfg(test)]\nmod properties;\nmod plain;\n"),
            ("crates/a/src/properties.rs", ""),
            ("crates/a/src/plain.rs", ""),
            ("crates/a/src/plain/tests.rs", ""),
            ("crates/a/tests/it/main.rs", ""),
        ]);
        let product: Vec<_> = tree.product_code().map(|file| file.path.as_str()).collect();
        assert_eq!(product, ["crates/a/src/lib.rs", "crates/a/src/plain.rs"]);
        assert!(tree.exists("crates/a/tests"));
    }
}
