//! The console's files, in the binary. No I/O, no dependencies: an edit elsewhere does not compile them
//! again.
//!
//! They are made by `cargo xtask build`, which needs Node.js, and put into a table by `build.rs`, which does
//! not. Without them a debug build works and says so on its page; a release build fails, unless
//! `COURANT_CONSOLE=none` says that it shall have no console.

/// What there is of the console in this binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Built {
    /// All of it.
    Whole,
    /// Nothing: it was not built before this binary was.
    Missing,
    /// Nothing, as somebody wanted it.
    LeftOut,
}

/// One file.
#[derive(Debug)]
#[non_exhaustive]
pub struct Asset {
    /// Its path in an address, with a `/` before it.
    pub path: &'static str,
    /// Its content type.
    pub content_type: &'static str,
    /// What is in it.
    pub bytes: &'static [u8],
    /// An entity tag, quoted: other bytes have another one.
    pub etag: &'static str,
    /// Whether other bytes would have another path, too.
    pub is_immutable: bool,
}

include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// The path of the page itself.
pub const PAGE: &str = "/index.html";

/// The command that makes the console.
pub const COMMAND: &str = "cargo xtask build";

/// What there is.
#[must_use]
pub fn built() -> Built {
    BUILT
}

/// Every file, by path.
#[must_use]
pub fn assets() -> &'static [Asset] {
    ASSETS
}

/// The file at a path.
#[must_use]
pub fn asset(path: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.path == path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_whole_console_has_its_page_and_what_that_names() {
        if built() != Built::Whole {
            assert!(assets().is_empty());
            println!("SKIPPED: a_whole_console_has_its_page_and_what_that_names: {COMMAND} was not run");
            return;
        }
        let page = asset(PAGE).expect("the page");
        assert_eq!(page.content_type, "text/html; charset=utf-8");
        assert!(!page.is_immutable);
        let text = std::str::from_utf8(page.bytes).expect("a text");
        let named: Vec<_> = text.split('"').filter(|word| word.starts_with('/')).collect();
        assert!(named.len() >= 3, "{named:?}");
        for path in named {
            assert!(asset(path).is_some(), "the page names {path}, which is not there");
        }
        assert!(!text.contains("<script>"), "no script stands in the page itself");
    }

    #[test]
    fn files_are_known_by_their_paths_and_tags() {
        let paths: HashSet<_> = assets().iter().map(|asset| asset.path).collect();
        assert_eq!(paths.len(), assets().len());
        for asset in assets() {
            assert!(asset.path.starts_with('/') && !asset.path.contains('\\'), "{}", asset.path);
            assert!(asset.etag.starts_with('"') && asset.etag.ends_with('"'), "{}", asset.etag);
            assert_eq!(asset.is_immutable, asset.path.starts_with("/assets/"));
        }
        assert!(asset("/nothing").is_none());
    }
}
