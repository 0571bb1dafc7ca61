//! How long files and functions may be. Exceptions stand here, each with its reason, and go when
//! they are no longer needed.

use super::finding::Finding;
use super::metadata::Workspace;
use super::rust;
use super::tree::{SourceFile, Tree};

/// Lines of a file, tests not counted.
const FILE_LINES_MAX: usize = 500;
/// Lines of a file that no reason excuses.
const FILE_LINES_HARD_MAX: usize = 800;
/// Lines of a function, signature and braces included.
const FUNCTION_LINES_MAX: usize = 70;

/// Files over [`FILE_LINES_MAX`]: path and reason.
const FILES: [(&str, &str); 0] = [];
/// Functions over [`FUNCTION_LINES_MAX`]: path, name and reason.
const FUNCTIONS: [(&str, &str, &str); 0] = [];

/// Files stay below their limit.
pub(super) fn files(tree: &Tree, _: &Workspace) -> Vec<Finding> {
    over_long_files(tree, &FILES)
}

/// Functions stay below their limit.
pub(super) fn functions(tree: &Tree, _: &Workspace) -> Vec<Finding> {
    over_long_functions(tree, &FUNCTIONS)
}

fn over_long_files(tree: &Tree, excused: &[(&str, &str)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.product_code() {
        let lines = product_lines(file);
        let is_excused = excused.iter().any(|(path, _)| *path == file.path);
        let limit = if is_excused { FILE_LINES_HARD_MAX } else { FILE_LINES_MAX };
        if lines > limit {
            findings.push(Finding::new(
                &file.path,
                format!("has {lines} lines, the limit is {limit}"),
                "make a module of the part that has a name of its own",
            ));
        }
    }
    for (path, _) in excused {
        let lines = tree.file(path).map_or(0, product_lines);
        if lines <= FILE_LINES_MAX {
            findings.push(Finding::new(
                *path,
                "needs no exception any more",
                "take it out of FILES in xtask/src/tidy/size.rs",
            ));
        }
    }
    findings
}

fn over_long_functions(tree: &Tree, excused: &[(&str, &str, &str)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut used = Vec::new();
    for file in tree.product_code() {
        let functions = rust::functions(&file.code).into_iter();
        for function in functions.filter(|function| function.lines > FUNCTION_LINES_MAX) {
            let excuse = (file.path.as_str(), function.name.as_str());
            if let Some(excuse) = excused.iter().find(|(path, name, _)| (*path, *name) == excuse) {
                used.push(excuse);
                continue;
            }
            findings.push(Finding::at(
                &file.path,
                function.line,
                format!("{} has {} lines, the limit is {FUNCTION_LINES_MAX}", function.name, function.lines),
                "name its steps: keep the branching here and move the straight parts into functions",
            ));
        }
    }
    let idle = excused.iter().filter(|excuse| !used.contains(excuse));
    findings.extend(idle.map(|(path, name, _)| {
        Finding::new(
            *path,
            format!("{name} needs no exception any more"),
            "take it out of FUNCTIONS in xtask/src/tidy/size.rs",
        )
    }));
    findings
}

/// Lines with the tests inside the file taken out; comments count.
fn product_lines(file: &SourceFile) -> usize {
    file.text.lines().count().saturating_sub(rust::test_lines(&file.text))
}

/// One line about the sizes as they are.
pub(super) fn summary(tree: &Tree) -> String {
    let mut sizes: Vec<_> =
        tree.product_code().map(|file| (product_lines(file), file.path.as_str())).collect();
    sizes.sort_unstable();
    let longest = tree
        .product_code()
        .flat_map(|file| rust::functions(&file.code))
        .max_by_key(|function| function.lines);
    let median = sizes.get(sizes.len() / 2).map_or(0, |(lines, _)| *lines);
    let (most, path) = sizes.last().copied().unwrap_or_default();
    format!(
        "files: {}, median {median} lines, longest {most} ({path}); longest function: {}",
        sizes.len(),
        longest.map_or_else(|| "none".to_owned(), |f| format!("{} lines ({})", f.lines, f.name)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_file_is_found_and_its_tests_do_not_count() {
        let long = "// line\n".repeat(FILE_LINES_MAX + 1);
        let tests = format!("//! A.\n#[cfg(test)]\nmod tests {{\n{}}}\n", "    f();\n".repeat(900));
        let tree = Tree::of(&[("crates/a/src/long.rs", &long), ("crates/a/src/short.rs", &tests)]);
        let found = over_long_files(&tree, &[]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].place, "crates/a/src/long.rs");
        assert!(over_long_files(&tree, &[("crates/a/src/long.rs", "a table")]).is_empty());
        assert_eq!(over_long_files(&tree, &[("crates/a/src/short.rs", "was long")]).len(), 2);
    }

    #[test]
    fn no_reason_excuses_a_very_long_file() {
        let long = "// line\n".repeat(FILE_LINES_HARD_MAX + 1);
        let tree = Tree::of(&[("crates/a/src/long.rs", &long)]);
        assert_eq!(over_long_files(&tree, &[("crates/a/src/long.rs", "a table")]).len(), 1);
    }

    #[test]
    fn a_long_function_is_found() {
        let body = format!("fn long() {{\n{}}}\nfn short() {{}}\n", "    f();\n".repeat(70));
        let tree = Tree::of(&[("crates/a/src/a.rs", &body)]);
        let found = over_long_functions(&tree, &[]);
        assert_eq!(found.len(), 1);
        assert!(found[0].problem.starts_with("long has 72 lines"));
        assert!(over_long_functions(&tree, &[("crates/a/src/a.rs", "long", "a table")]).is_empty());
        assert_eq!(over_long_functions(&tree, &[("crates/a/src/a.rs", "short", "no")]).len(), 2);
    }
}
