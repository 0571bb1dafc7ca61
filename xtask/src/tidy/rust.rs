//! As much of Rust's grammar as the checks need: where comments, strings, tests and functions are.

use std::ops::Range;

/// The source without comments and without what string and character literals contain. Every
/// removed character is a space, so that lines and columns stay where they are.
pub(super) fn without_text(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes.get(at + 1) == Some(&b'/') => end_of_line(bytes, at),
            b'/' if bytes.get(at + 1) == Some(&b'*') => end_of_block_comment(bytes, at),
            b'"' => end_of_string(bytes, at),
            b'r' if starts_raw_string(bytes, at) => end_of_raw_string(bytes, at),
            b'\'' => end_of_character(source, at),
            _ => at,
        };
        if end == at {
            at += 1;
        } else {
            blank(&mut code, at..end);
            at = end;
        }
    }
    // Whole literals and comments were replaced by ASCII, so what is left is still UTF-8.
    String::from_utf8_lossy(&code).into_owned()
}

fn blank(code: &mut [u8], range: Range<usize>) {
    for byte in &mut code[range] {
        if *byte != b'\n' {
            *byte = b' ';
        }
    }
}

fn end_of_line(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |length| at + length)
}

fn end_of_block_comment(bytes: &[u8], start: usize) -> usize {
    let mut depth = 0;
    let mut at = start;
    while at < bytes.len() {
        match (bytes[at], bytes.get(at + 1)) {
            (b'/', Some(b'*')) => {
                depth += 1;
                at += 2;
            }
            (b'*', Some(b'/')) => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    bytes.len()
}

fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// `r"`, `r#"`, also after `b` or `c`; not the end of a name and not `r#name`.
fn starts_raw_string(bytes: &[u8], at: usize) -> bool {
    let before = at.checked_sub(1).map(|at| bytes[at]);
    let before_prefix = at.checked_sub(2).map(|at| bytes[at]);
    let starts_word = match before {
        Some(b'b' | b'c') => !before_prefix.is_some_and(is_word),
        Some(byte) => !is_word(byte),
        None => true,
    };
    let hashes = bytes[at + 1..].iter().take_while(|&&byte| byte == b'#').count();
    starts_word && bytes.get(at + 1 + hashes) == Some(&b'"')
}

fn end_of_raw_string(bytes: &[u8], start: usize) -> usize {
    let hashes = bytes[start + 1..].iter().take_while(|&&byte| byte == b'#').count();
    let closing = [b"\"".as_slice(), &vec![b'#'; hashes]].concat();
    let body = start + hashes + 2;
    bytes[body..]
        .windows(closing.len())
        .position(|window| window == closing)
        .map_or(bytes.len(), |length| body + length + closing.len())
}

/// The end of a character literal, or `at` itself for a lifetime.
fn end_of_character(source: &str, at: usize) -> usize {
    let rest = &source[at + 1..];
    if rest.starts_with('\\') {
        let escaped = rest.get(2..).and_then(|rest| rest.find('\''));
        return escaped.map_or(at, |length| at + 1 + 2 + length + 1);
    }
    let mut characters = rest.char_indices();
    characters.next();
    match characters.next() {
        Some((length, '\'')) => at + 1 + length + 1,
        _ => at,
    }
}

/// `code`, as [`without_text`] gives it, without the items under `#[cfg(test)]`.
pub(super) fn without_tests(code: &str) -> String {
    let mut bytes = code.as_bytes().to_vec();
    for item in test_items(code) {
        blank(&mut bytes, item);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// How many lines of `source` are under `#[cfg(test)]`.
pub(super) fn test_lines(source: &str) -> usize {
    let code = without_text(source);
    let lines = |item: Range<usize>| 1 + code[item].matches('\n').count();
    test_items(&code).into_iter().map(lines).sum()
}

fn test_items(code: &str) -> Vec<Range<usize>> {
    let mut items: Vec<Range<usize>> = Vec::new();
    if code.contains("#![cfg(test)]") {
        items.push(0..code.len());
    }
    for (start, attribute) in code.match_indices("#[cfg(test)]") {
        if items.last().is_none_or(|last| start >= last.end) {
            items.push(start..end_of_item(code.as_bytes(), start + attribute.len()));
        }
    }
    items
}

/// The end of the item that begins at `at`: its `;`, or the brace that closes its body.
fn end_of_item(code: &[u8], at: usize) -> usize {
    match body_start(code, at) {
        Some(open) => closing_brace(code, open) + 1,
        None => code[at..].iter().position(|&b| b == b';').map_or(code.len(), |n| at + n + 1),
    }
}

/// Where the body of the item at `at` opens; `None` for an item without a body.
fn body_start(code: &[u8], at: usize) -> Option<usize> {
    let mut depth = 0;
    for (offset, byte) in code[at..].iter().enumerate() {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            b'{' if depth == 0 => return Some(at + offset),
            b';' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

fn closing_brace(code: &[u8], open: usize) -> usize {
    let mut depth = 0;
    for (offset, byte) in code[open..].iter().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return open + offset;
        }
    }
    code.len() - 1
}

/// The names of modules that only tests compile: `#[cfg(test)] mod NAME;`
pub(super) fn test_modules(source: &str) -> Vec<String> {
    let code = without_text(source);
    code.match_indices("#[cfg(test)]")
        .filter_map(|(at, attribute)| {
            let item = code[at + attribute.len()..].split_once(';')?.0.trim();
            let name = item.rsplit_once("mod ")?.1.trim();
            name.bytes().all(is_word).then(|| name.to_owned())
        })
        .collect()
}

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Function {
    pub(super) name: String,
    /// From 1.
    pub(super) line: usize,
    /// From the line of `fn` to the line of the closing brace.
    pub(super) lines: usize,
}

/// Every function in `code`, as [`without_text`] gives it.
pub(super) fn functions(code: &str) -> Vec<Function> {
    let bytes = code.as_bytes();
    words(code, "fn")
        .filter_map(|at| {
            let rest = code[at + 2..].trim_start();
            let name: String = rest.chars().take_while(|&c| c == '_' || c.is_alphanumeric()).collect();
            if name.is_empty() {
                return None;
            }
            let end = closing_brace(bytes, body_start(bytes, at)?);
            let lines = 1 + code[at..end].matches('\n').count();
            Some(Function { name, line: line_of(code, at), lines })
        })
        .collect()
}

/// Where `word` stands as a word of its own; `word` may contain `::`.
pub(super) fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let bytes = code.as_bytes();
    code.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let before = at.checked_sub(1).map(|at| bytes[at]);
        let after = bytes.get(at + word.len()).copied();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

/// The lines that use the module `std::NAME`, by path or from a group.
pub(super) fn uses_of_std(code: &str, module: &str) -> Vec<usize> {
    let path = format!("std::{module}");
    let mut lines: Vec<_> = words(code, &path).map(|at| line_of(code, at)).collect();
    for (start, group) in code.match_indices("std::{") {
        let open = start + group.len() - 1;
        let body = &code[open..closing_brace(code.as_bytes(), open)];
        // A name after `::` belongs to another module of the group: `io::{fs}` is none of ours.
        let used = words(body, module).find(|&at| !body[..at].trim_end().ends_with("::"));
        lines.extend(used.map(|at| line_of(code, open + at)));
    }
    lines.sort_unstable();
    lines
}

/// The line, from 1, of a byte position.
pub(super) fn line_of(text: &str, at: usize) -> usize {
    1 + text[..at].matches('\n').count()
}

fn is_word(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphanumeric()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_go_and_lines_stay() {
        let source = "let a = \"std::fs \\\" {\"; // std::fs\nlet b = r#\"{\"#; let c = '{';\n\
                      fn f<'a>(x: &'a str) {} /* { /* } */ */ let d = '\\'';\nlet r = b\"{\";";
        let code = without_text(source);
        assert!(!code.contains("std::fs"));
        assert_eq!(code.matches('\n').count(), 3);
        assert_eq!((code.matches('{').count(), code.matches('}').count()), (1, 1));
        assert!(code.contains("fn f<'a>(x: &'a str) {}"));
    }

    #[test]
    fn tests_are_taken_out() {
        let code = without_tests(
            "use a;\n#[cfg(test)]\nmod tests {\n    fn t() { std::fs::read(x); }\n}\nfn kept() {}\n\
             #[cfg(test)]\nuse b;\nfn too() {}\n",
        );
        assert!(!code.contains("std::fs") && !code.contains("use b"));
        assert!(code.contains("fn kept") && code.contains("fn too"));
        assert_eq!(test_modules("#[cfg(test)]\nmod props;\n#[cfg(test)]\nmod tests {\n}\n"), ["props"]);
    }

    #[test]
    fn functions_have_names_and_lengths() {
        let code = "trait T {\n    fn none(&self);\n}\nimpl X {\n    fn long(\n        a: [u8; 4],\n    ) \
                    {\n        b();\n    }\n}\nlet f: fn(u8) = g;\n";
        assert_eq!(functions(code), [Function { name: "long".to_owned(), line: 5, lines: 5 }]);
    }

    #[test]
    fn a_std_module_is_seen_in_a_group_too() {
        assert_eq!(uses_of_std("use std::fs;\nlet x = std::fs::read(p);\n", "fs"), [1, 2]);
        assert_eq!(uses_of_std("use std::{\n    env,\n    fs::File,\n};\n", "fs"), [3]);
        assert!(uses_of_std("use std::{io, net};\nlet fs = 1; mystd::fsx();\n", "fs").is_empty());
    }
}
