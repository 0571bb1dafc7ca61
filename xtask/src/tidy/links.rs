//! Links from page to page, and from comments to pages, lead somewhere, and to every page.

use std::collections::BTreeSet;

use super::finding::Finding;
use super::metadata::Workspace;
use super::tree::Tree;

/// Relative links of Markdown pages resolve to a file or a folder of the tree, and a page that a
/// comment names is there.
pub(super) fn check(tree: &Tree, _: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    for page in tree.files().filter(|file| file.is_page()) {
        for (line, target) in links(&page.text) {
            let path = target.split(['#', '?']).next().unwrap_or_default();
            let is_elsewhere = path.is_empty() || path.contains("://") || path.starts_with("mailto:");
            if is_elsewhere || resolve(&page.path, path).is_some_and(|path| tree.exists(&path)) {
                continue;
            }
            findings.push(Finding::at(
                &page.path,
                line,
                format!("links to {target}, which is not there"),
                "link to what took its place; links are relative to the page",
            ));
        }
    }
    findings.extend(named_in_comments(tree));
    findings
}

/// Where everybody begins.
const FIRST: &str = "README.md";

/// Links lead from the first page to every page of `docs/`; one to a folder leads to all pages in it.
pub(super) fn reached(tree: &Tree, _: &Workspace) -> Vec<Finding> {
    let pages: Vec<_> = tree.files().filter(|file| file.is_page()).collect();
    let mut seen = BTreeSet::from([FIRST]);
    let mut next: Vec<_> = tree.file(FIRST).into_iter().collect();
    while let Some(page) = next.pop() {
        let targets = links(&page.text).into_iter().filter_map(|(_, target)| {
            let path = target.split(['#', '?']).next().filter(|path| !path.is_empty())?;
            resolve(&page.path, path)
        });
        for target in targets {
            let is_meant = |path: &str| {
                path == target || path.rsplit_once('/').is_some_and(|(folder, _)| folder == target)
            };
            let found = pages.iter().copied().filter(|page| is_meant(&page.path));
            next.extend(found.filter(|page| seen.insert(page.path.as_str())));
        }
    }
    let is_lost = |path: &str| path.starts_with("docs/") && !seen.contains(path);
    let lost = pages.iter().filter(|page| is_lost(&page.path));
    lost.map(|page| {
        Finding::new(
            &page.path,
            format!("is reached from {FIRST} by no link"),
            "link to it, or to its folder, from a page that is",
        )
    })
    .collect()
}

/// Pages that comments name, by their path from the root or from the file.
fn named_in_comments(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.files().filter(|file| file.is_rust()) {
        let lines = file.text.lines().enumerate();
        for (at, line) in lines.filter(|(_, line)| line.trim_start().starts_with("//")) {
            let is_part = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
            let pages = line.split(|c| !is_part(c)).filter(|word| word.ends_with(".md"));
            for page in pages.filter(|page| page.len() > ".md".len()) {
                let beside = resolve(&file.path, page).is_some_and(|path| tree.exists(&path));
                if !beside && !tree.exists(page) {
                    findings.push(Finding::at(
                        &file.path,
                        at + 1,
                        format!("names {page}, which is not there"),
                        "name a page of this repository, by its path from the root, or say it here",
                    ));
                }
            }
        }
    }
    findings
}

/// Where a page in HTML's words names a picture.
const PICTURES: [&str; 2] = [" src=\"", " srcset=\""];

/// The targets of `[text](target)` and of pictures, outside code blocks, with their lines.
fn links(page: &str) -> Vec<(usize, &str)> {
    let mut links = Vec::new();
    let mut in_code = false;
    for (at, line) in page.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        } else if !in_code {
            let targets = line.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
            links.extend(targets.map(|(target, _)| (at + 1, target.trim())));
            for attribute in PICTURES {
                let targets = line.split(attribute).skip(1).filter_map(|rest| rest.split_once('"'));
                links.extend(targets.map(|(target, _)| (at + 1, target)));
            }
        }
    }
    links
}

/// The path that `target` means in the page at `from`; `None` above the root.
fn resolve(from: &str, target: &str) -> Option<String> {
    let folder = from.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_that_names_no_page_is_found() {
        let code = "//! See docs/formats/a.md.\n// GONE.md 4 says so.\nlet x = \"other.md\";\n";
        let tree = Tree::of(&[("crates/a/src/lib.rs", code), ("docs/formats/a.md", "")]);
        let found = check(&tree, &Workspace::default());
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].place, "crates/a/src/lib.rs:2");
    }

    #[test]
    fn a_picture_that_is_not_there_is_found() {
        let page =
            "<picture><source srcset=\"pictures/dark.png\"><img src=\"pictures/gone.png\"></picture>\n";
        let tree = Tree::of(&[("docs/a.md", page), ("docs/pictures/dark.png", "")]);
        let found = check(&tree, &Workspace::default());
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].problem, "links to pictures/gone.png, which is not there");
    }

    #[test]
    fn a_page_to_which_nothing_leads_is_found() {
        let tree = Tree::of(&[
            ("README.md", "[a](docs/a.md) [all of them](docs/f/)"),
            ("docs/a.md", "[b](g/b.md#part) [here](#there) [a](a.md)"),
            ("docs/f/c.md", ""),
            ("docs/g/b.md", "[up](../a.md)"),
            ("docs/g/lost.md", "[a](../a.md)"),
            ("docs/lost.md", ""),
            ("notes.md", ""),
        ]);
        let found: Vec<_> = reached(&tree, &Workspace::default()).into_iter().map(|f| f.place).collect();
        assert_eq!(found, ["docs/g/lost.md", "docs/lost.md"]);
    }

    #[test]
    fn a_dead_link_is_found() {
        let page = "[a](../README.md#run) [b](gone.md) [c](https://example.org/x) [d](#here)\n\
                    ```\n[e](in-code.md)\n```\n[f](../../above.md) [g](formats/)\n";
        let tree = Tree::of(&[("README.md", ""), ("docs/a.md", page), ("docs/formats/b.md", "")]);
        let found = check(&tree, &Workspace::default());
        let problems: Vec<_> = found.iter().map(|finding| finding.problem.as_str()).collect();
        assert_eq!(
            problems,
            ["links to gone.md, which is not there", "links to ../../above.md, which is not there",]
        );
    }
}
