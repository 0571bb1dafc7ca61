//! A type that reaches the disk stands in a file that says so, and has a page in `docs/formats/`.
//!
//! The first comment of such a file says "On disk:" and what must not change. A page ends with
//! `<!-- checked: PATH HASH -->` for each of its files. Whoever changes the file reads the page
//! again, and then runs `cargo xtask tidy --bless`.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::finding::Finding;
use super::metadata::Workspace;
use super::tree::{SourceFile, Tree};

const PAGES: &str = "docs/formats/";
const MARK: &str = "On disk:";
const CHECKED: &str = "<!-- checked: ";
const END: &str = " -->";
/// Stands in a page until the first `--bless`.
const UNKNOWN: &str = "0000000000000000";
/// A file of this name is a format, whatever it says.
const FORMAT_FILE: &str = "/format.rs";
const BLESS: &str =
    "read the page again, make it say what the file does, then run `cargo xtask tidy --bless`";

/// A line of a page that names one of its files.
#[derive(Debug, PartialEq, Eq)]
struct Checked<'a> {
    line: usize,
    path: &'a str,
    hash: &'a str,
}

/// FNV-1a, 64 bit, over the lines without indentation and without blank ones: formatting alone
/// changes no format.
pub(crate) fn hash(text: &str) -> u64 {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let bytes = lines.flat_map(|line| line.bytes().chain([b'\n']));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Pages and files agree, both ways.
pub(super) fn check(tree: &Tree, _: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    for page in tree.files().filter(|file| is_format_page(&file.path)) {
        let checked = checked(&page.text);
        if checked.is_empty() {
            findings.push(Finding::new(
                &page.path,
                "names no file",
                format!("end it with `{CHECKED}crates/…/format.rs {UNKNOWN}{END}` and bless"),
            ));
        }
        findings.extend(checked.iter().filter_map(|checked| agrees(tree, &page.path, checked)));
    }
    findings.extend(tree.product_code().filter_map(|file| has_its_page(tree, file)));
    findings
}

fn is_format_page(path: &str) -> bool {
    path.starts_with(PAGES) && path.ends_with(".md")
}

fn agrees(tree: &Tree, page: &str, checked: &Checked<'_>) -> Option<Finding> {
    let Some(file) = tree.file(checked.path) else {
        return Some(Finding::at(
            page,
            checked.line,
            format!("names {}, which is not there", checked.path),
            "name the file that holds the format now",
        ));
    };
    if format!("{:016x}", hash(&file.text)) == checked.hash {
        return None;
    }
    Some(Finding::at(page, checked.line, format!("{} has changed since", checked.path), BLESS))
}

fn is_format(file: &SourceFile) -> bool {
    let mut first_comment = file.text.lines().take_while(|line| line.starts_with("//!"));
    file.path.starts_with("crates/")
        && (file.path.ends_with(FORMAT_FILE) || first_comment.any(|line| line.contains(MARK)))
}

fn has_its_page(tree: &Tree, file: &SourceFile) -> Option<Finding> {
    let mut pages = tree.files().filter(|page| is_format_page(&page.path));
    if !is_format(file) || pages.any(|page| checked(&page.text).iter().any(|c| c.path == file.path)) {
        return None;
    }
    Some(Finding::new(
        &file.path,
        format!("is a format on disk, and no page in {PAGES} names it"),
        format!("describe it, end the page with `{CHECKED}{} {UNKNOWN}{END}`, and bless", file.path),
    ))
}

fn checked(page: &str) -> Vec<Checked<'_>> {
    let lines = page.lines().enumerate();
    lines
        .filter_map(|(at, line)| {
            let (path, hash) =
                line.trim().strip_prefix(CHECKED)?.strip_suffix(END)?.trim().split_once(' ')?;
            Some(Checked { line: at + 1, path, hash: hash.trim() })
        })
        .collect()
}

/// Writes the present hashes into the pages; hands back the pages that changed.
pub(super) fn bless(root: &Path) -> Result<Vec<String>> {
    let tree = Tree::load(root)?;
    let mut changed = Vec::new();
    for page in tree.files().filter(|file| is_format_page(&file.path)) {
        let mut text = page.text.clone();
        for checked in checked(&page.text) {
            if let Some(file) = tree.file(checked.path) {
                let line = |hash: &str| format!("{CHECKED}{} {hash}{END}", checked.path);
                text = text.replace(&line(checked.hash), &line(&format!("{:016x}", hash(&file.text))));
            }
        }
        if text != page.text {
            fs::write(root.join(&page.path), text).with_context(|| page.path.clone())?;
            changed.push(page.path.clone());
        }
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "//! Entries. On disk: the numbers are fixed.\npub struct A;\n";

    fn findings(hash: &str, file: &str) -> Vec<Finding> {
        let page = format!("# Journal\n\n<!-- checked: crates/l/src/format.rs {hash} -->\n");
        let tree = Tree::of(&[("docs/formats/journal.md", &page), ("crates/l/src/format.rs", file)]);
        check(&tree, &Workspace::default())
    }

    #[test]
    fn a_change_without_its_page_is_found() {
        let now = format!("{:016x}", hash(FILE));
        assert_eq!(findings(&now, FILE), []);
        assert_eq!(findings(&now, &FILE.replace("pub struct", "\n    pub struct")), []);
        let found = findings(&now, &FILE.replace("struct A", "struct B"));
        assert_eq!(found.len(), 1);
        assert!(found[0].instead.contains("--bless"));
    }

    #[test]
    fn a_format_without_a_page_is_found() {
        let tree = Tree::of(&[
            ("crates/l/src/format.rs", "//! No mark.\n"),
            ("crates/l/src/other.rs", FILE),
            ("crates/l/src/plain.rs", "//! Plain.\n// On disk: not here.\n"),
            ("docs/formats/empty.md", "# Nothing\n"),
            ("docs/formats/gone.md", "<!-- checked: crates/l/src/gone.rs 0 -->\n"),
        ]);
        let found = check(&tree, &Workspace::default());
        let places: Vec<_> = found.iter().map(|finding| finding.place.as_str()).collect();
        assert_eq!(
            places,
            [
                "docs/formats/empty.md",
                "docs/formats/gone.md:1",
                "crates/l/src/format.rs",
                "crates/l/src/other.rs",
            ]
        );
    }

    #[test]
    fn the_hash_is_fnv_1a() {
        assert_eq!(hash(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(hash("a\n\n  b"), hash("  a\nb\n"));
        assert_ne!(hash("a\nb"), hash("ab"));
    }
}
