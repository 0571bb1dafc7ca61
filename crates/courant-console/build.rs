//! Puts the built console into a table of files. Runs no other program and needs no network: making the
//! console is the business of `cargo xtask build`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// What the console must have to be one.
const PAGE: &str = "index.html";

/// Files that are more than a console.
const FILES_MAX: usize = 1000;

const MISSING: &str = "the console is not built: run `cargo xtask build --release`, which needs Node.js \
                       20.19 or newer, or set COURANT_CONSOLE=none for a server without a console";

fn main() {
    let folder = PathBuf::from(variable("CARGO_MANIFEST_DIR")).join("assets");
    // The folder is always there, so that nothing is built again because a file is missing.
    println!("cargo:rerun-if-changed={}", folder.display());
    println!("cargo:rerun-if-env-changed=COURANT_CONSOLE");
    let dist = folder.join("dist");
    let is_left_out = env::var("COURANT_CONSOLE").is_ok_and(|wanted| wanted == "none");
    let table = if is_left_out {
        empty("LeftOut")
    } else if dist.join(PAGE).is_file() {
        match files(&dist).and_then(|files| table(&files)) {
            Ok(table) => table,
            Err(error) => failed(&format!("{} cannot be read: {error}", dist.display())),
        }
    } else if variable("PROFILE") == "release" && env::var_os("DOCS_RS").is_none() {
        failed(MISSING)
    } else {
        println!("cargo:warning={MISSING}");
        empty("Missing")
    };
    let target = PathBuf::from(variable("OUT_DIR")).join("assets.rs");
    if let Err(error) = fs::write(&target, table) {
        panic!("{} cannot be written: {error}", target.display());
    }
}

/// A variable that cargo sets for every build script.
fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}

/// A console without files.
fn empty(built: &str) -> String {
    format!("const BUILT: Built = Built::{built};\nstatic ASSETS: &[Asset] = &[];\n")
}

/// A build that ends with this sentence, and with nothing else that would hide it.
fn failed(sentence: &str) -> String {
    format!("compile_error!({sentence:?});\n{}", empty("Missing"))
}

/// Every file below `dist`: its path in an address, and where it is.
fn files(dist: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut files = Vec::new();
    let mut waiting = vec![String::new()];
    while let Some(inner) = waiting.pop() {
        for entry in fs::read_dir(dist.join(inner.trim_start_matches('/')))? {
            let entry = entry?;
            let name = entry.file_name().into_string();
            let name =
                name.map_err(|name| io::Error::other(format!("a strange name: {}", name.display())))?;
            let path = format!("{inner}/{name}");
            if entry.file_type()?.is_dir() {
                waiting.push(path);
            } else {
                files.push((path, entry.path()));
            }
            if files.len() > FILES_MAX {
                return Err(io::Error::other(format!("there are more than {FILES_MAX} files in it")));
            }
        }
    }
    files.sort();
    Ok(files)
}

fn table(files: &[(String, PathBuf)]) -> io::Result<String> {
    let mut table = "const BUILT: Built = Built::Whole;\nstatic ASSETS: &[Asset] = &[\n".to_owned();
    for (path, file) in files {
        let place = file.to_str().ok_or_else(|| io::Error::other("its path is no text"))?;
        let (content_type, etag) = (content_type(path), format!("\"{:016x}\"", hash(&fs::read(file)?)));
        // Vite puts a hash of what is in a file into the name of everything below this folder.
        let is_immutable = path.starts_with("/assets/");
        // Writing into a text cannot fail.
        let _ = writeln!(
            table,
            "    Asset {{ path: {path:?}, content_type: {content_type:?}, bytes: include_bytes!({place:?}), \
             etag: {etag:?}, is_immutable: {is_immutable} }},"
        );
    }
    table.push_str("];\n");
    Ok(table)
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("json") => "application/json",
        Some("woff2") => "font/woff2",
        _ => "application/octet-stream",
    }
}

/// FNV-1a, 64 bits: for telling versions of a file apart, and for nothing that an attacker gains by.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
