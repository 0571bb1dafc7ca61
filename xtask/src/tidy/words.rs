//! What may not stand in the tree's text.

use super::finding::Finding;
use super::metadata::Workspace;
use super::rust;
use super::tree::Tree;

/// Marks of unfinished work. They are welcome while working.
const UNFINISHED: [&str; 2] = [concat!("FIX", "ME"), concat!("XX", "X")];

/// Hosts of package registries: package managers are told names, never addresses.
const REGISTRY_HOSTS: [&str; 9] = [
    concat!("crates", ".io"),
    concat!("pypi", ".org"),
    concat!("pythonhosted", ".org"),
    concat!("npmjs", ".org"),
    concat!("npmjs", ".com"),
    concat!("proxy.golang", ".org"),
    concat!("repo1.maven", ".org"),
    concat!("repo.maven", ".apache.org"),
    concat!("deb.debian", ".org"),
];

/// How paths of somebody's machine begin.
const WORKPLACE: [&str; 5] = [
    concat!("/wo", "rk/"),
    concat!("/tm", "p/"),
    concat!("/ho", "me/"),
    concat!("/ro", "ot/"),
    concat!("/Us", "ers/"),
];

/// Every module opens with `//!`.
pub(super) fn module_docs(tree: &Tree, _: &Workspace) -> Vec<Finding> {
    let bare = tree.files().filter(|file| {
        let first = file.text.lines().find(|line| !line.trim().is_empty());
        file.is_rust() && !first.is_some_and(|line| line.starts_with("//!"))
    });
    bare.map(|file| {
        Finding::at(
            &file.path,
            1,
            "does not say what it is for",
            "open it with `//!` and one sentence: what this file decides, or what must always hold",
        )
    })
    .collect()
}

/// Nothing is left to do.
pub(super) fn unfinished(tree: &Tree, _: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.files() {
        for word in UNFINISHED {
            findings.extend(rust::words(&file.text, word).map(|at| {
                Finding::at(
                    &file.path,
                    rust::line_of(&file.text, at),
                    format!("says {word}"),
                    "do it now, or say as a plain sentence what does not work and what the user sees",
                )
            }));
        }
        let holes = ["todo!", "unimplemented!"]
            .into_iter()
            .flat_map(|hole| file.code.match_indices(hole).map(move |(at, _)| (at, hole)));
        findings.extend(holes.map(|(at, hole)| {
            Finding::at(
                &file.path,
                rust::line_of(&file.code, at),
                format!("panics with {hole}"),
                "return an error that says what is not supported",
            )
        }));
    }
    findings
}

/// No registry is named by its host.
pub(super) fn registry_hosts(tree: &Tree, _: &Workspace) -> Vec<Finding> {
    containing(
        tree,
        |_| true,
        &REGISTRY_HOSTS,
        |host| {
            (
                format!("names {host}"),
                "name the package and leave the registry to the package manager".to_owned(),
            )
        },
    )
}

/// No page, comment or manifest shows where somebody works.
pub(super) fn workplace_paths(tree: &Tree, _: &Workspace) -> Vec<Finding> {
    let is_document = |path: &str| {
        [".md", ".toml", ".txt"].iter().any(|end| path.ends_with(end)) || path.starts_with(".ci/")
    };
    containing(tree, is_document, &WORKPLACE, |prefix| {
        (
            format!("shows a path under {prefix}"),
            "write a path relative to the repository, or to the data directory".to_owned(),
        )
    })
}

fn containing(
    tree: &Tree,
    looked_at: impl Fn(&str) -> bool,
    needles: &[&str],
    tell: impl Fn(&str) -> (String, String),
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.files().filter(|file| looked_at(&file.path)) {
        for (at, line) in file.text.lines().enumerate() {
            for needle in needles.iter().filter(|needle| starts_a_path(line, needle)) {
                let (problem, instead) = tell(needle);
                findings.push(Finding::at(&file.path, at + 1, problem, instead));
            }
        }
    }
    findings
}

/// True where `needle` stands in `line` and, if it is an absolute path, is not the middle of one.
fn starts_a_path(line: &str, needle: &str) -> bool {
    line.match_indices(needle).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !needle.starts_with('/') || !before.is_some_and(|c| c.is_alphanumeric() || "._-".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    type Check = fn(&Tree, &Workspace) -> Vec<Finding>;

    fn places(check: Check, files: &[(&str, &str)]) -> Vec<String> {
        let found = check(&Tree::of(files), &Workspace::default());
        found.into_iter().map(|finding| finding.place).collect()
    }

    #[test]
    fn a_module_without_a_word_is_found() {
        let files = [("a/src/a.rs", "//! Yes.\n"), ("a/src/b.rs", "\nuse x;\n"), ("a/src/c.rs", "")];
        assert_eq!(places(module_docs, &files), ["a/src/b.rs:1", "a/src/c.rs:1"]);
    }

    #[test]
    fn unfinished_work_is_found() {
        let marked = format!("//! A.\n// {}: later\nfn a() {{ todo!() }}\n", UNFINISHED[0]);
        let files = [("a/src/a.rs", marked.as_str()), ("a/src/b.rs", "let s = \"todo!\";\n")];
        assert_eq!(places(unfinished, &files), ["a/src/a.rs:2", "a/src/a.rs:3"]);
    }

    #[test]
    fn a_registry_by_host_is_found() {
        let page = format!("see https://{}/x\n", REGISTRY_HOSTS[0]);
        assert_eq!(places(registry_hosts, &[("a.md", &page)]), ["a.md:1"]);
    }

    #[test]
    fn a_path_of_a_machine_is_found() {
        let page = format!("run in {}courant\nand in docs{}x\n", WORKPLACE[0], WORKPLACE[0]);
        assert_eq!(places(workplace_paths, &[("a.md", &page)]), ["a.md:1"]);
    }
}
