//! Paths inside a data directory.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::sync::Arc;

/// Refuses a path that could leave the data directory. `""` is the data directory itself.
pub(super) fn check(path: &str) -> io::Result<()> {
    let legal = path.is_empty()
        || path.split('/').all(|part| !matches!(part, "" | "." | "..") && !part.contains('\0'));
    if legal {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("{path:?} is not a path inside the data directory"),
    ))
}

/// The directory that holds the entry; `""` for an entry of the data directory.
pub(super) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// Names of the direct entries of `dir` in a table of whole paths.
pub(super) fn children<V>(entries: &BTreeMap<Arc<str>, V>, dir: &str) -> Vec<String> {
    let prefix = if dir.is_empty() { String::new() } else { format!("{dir}/") };
    entries
        .range::<str, _>((Bound::Included(prefix.as_str()), Bound::Unbounded))
        .map_while(|(path, _)| path.strip_prefix(prefix.as_str()))
        .filter(|name| !name.contains('/'))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_cannot_leave_the_data_directory() {
        for path in ["/etc", "..", "a/../b", "a//b", "a/", ".", "a\0b"] {
            let error = check(path).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{path:?}");
        }
        for path in ["", "a", "a/b", "a..b", ".a"] {
            check(path).unwrap();
        }
    }

    #[test]
    fn children_are_direct_and_of_that_directory_only() {
        let entries: BTreeMap<Arc<str>, ()> =
            ["a", "a/x", "a/x/y", "a-b", "ab/z"].into_iter().map(|path| (Arc::from(path), ())).collect();
        assert_eq!(children(&entries, "a"), ["x"]);
        assert_eq!(children(&entries, ""), ["a", "a-b"]);
        assert_eq!(parent("a/x/y"), "a/x");
    }
}
