//! What only one place may touch: files, the environment, the clock, randomness, wire, HTTP.

use super::finding::Finding;
use super::metadata::Workspace;
use super::rust;
use super::tree::{SourceFile, Tree};

/// Something that is used in few places.
struct Seam {
    /// Paths below this are looked at.
    scope: &'static str,
    uses: Uses,
    /// Paths that begin so may use it.
    owners: &'static [&'static str],
    instead: &'static str,
}

/// How a use is recognised.
enum Uses {
    /// `std::NAME`, by path or in a group.
    Std(&'static str),
    /// A path, as written.
    Path(&'static str),
}

const CORE: &str = "crates/courant-core/";
const PURE: &str =
    "courant-core does no I/O, spawns nothing and reads clock and randomness only through its arguments";
const STORAGE: &str =
    "only courant-log::storage touches files: go through the Storage trait, and see bytes and positions";
const ENVIRONMENT: &str =
    "only courant-cli reads the command line and the environment: take the value as an argument";
const WIRE: &str =
    "only courant-kafka knows Kafka requests and answers: call the client or the broker it offers";
const HTTP: &str = "only courant-server knows HTTP: offer a function that it can call";

/// Tools that stand beside the product; they own their files and their arguments.
const XTASK: &str = "xtask/";
const BENCH: &str = "bench/";
const SIM: &str = "sim/src/main.rs";
/// Reads settings files, and what the system says of itself; the data directory is none of its business.
const SETTINGS_FILE: &str = "crates/courant-cli/src/files.rs";
/// Puts the built console into a table, when it is compiled; nothing of it is in the product.
const CONSOLE_BUILD: &str = "crates/courant-console/build.rs";
/// Looks whether the file of a database still is the one that SQLite has opened; SQLite reads and writes it.
const DATABASE_FILE: &str = "crates/courant-sql/src/sqlite/home.rs";
/// Reads the variable that an engine's URL names for its password, so that the URL has none in it.
const PASSWORD: &str = "crates/courant-engine-kafka/src/password.rs";
/// Programs that show how services are written.
const EXAMPLES: &str = "crates/courant/examples/";
/// Reads the name of the planted defect, in builds for tests only.
const PLANTED_DEFECT: &str = "crates/courant-log/src/storage/disk";

const SEAMS: [Seam; 16] = [
    Seam {
        scope: "",
        uses: Uses::Std("fs"),
        owners: &[
            "crates/courant-log/src/storage/",
            SETTINGS_FILE,
            DATABASE_FILE,
            CONSOLE_BUILD,
            XTASK,
            BENCH,
            SIM,
        ],
        instead: STORAGE,
    },
    Seam { scope: "", uses: Uses::Path("tokio::fs"), owners: &[], instead: STORAGE },
    Seam {
        scope: "crates/courant-log/",
        uses: Uses::Path("rustix::fs"),
        owners: &["crates/courant-log/src/storage/"],
        instead: STORAGE,
    },
    Seam {
        scope: "",
        uses: Uses::Std("env"),
        owners: &[
            "crates/courant-cli/",
            PASSWORD,
            CONSOLE_BUILD,
            EXAMPLES,
            PLANTED_DEFECT,
            XTASK,
            BENCH,
            SIM,
        ],
        instead: ENVIRONMENT,
    },
    Seam {
        scope: "",
        uses: Uses::Path("courant_kafka::wire"),
        owners: &["crates/courant-kafka/"],
        instead: WIRE,
    },
    Seam {
        scope: "",
        uses: Uses::Path("courant_kafka::api"),
        owners: &["crates/courant-kafka/"],
        instead: WIRE,
    },
    Seam { scope: "", uses: Uses::Path("axum"), owners: &["crates/courant-server/"], instead: HTTP },
    Seam { scope: "crates/courant-log/", uses: Uses::Std("net"), owners: &[], instead: STORAGE },
    Seam {
        scope: "crates/courant-log/",
        uses: Uses::Path("tokio"),
        owners: &[],
        instead: "courant-log is synchronous, with completion callbacks and no async runtime",
    },
    Seam { scope: CORE, uses: Uses::Std("net"), owners: &[], instead: PURE },
    Seam { scope: CORE, uses: Uses::Std("thread"), owners: &[], instead: PURE },
    Seam { scope: CORE, uses: Uses::Std("process"), owners: &[], instead: PURE },
    Seam { scope: CORE, uses: Uses::Path("SystemTime::now"), owners: &[], instead: PURE },
    Seam { scope: CORE, uses: Uses::Path("Instant::now"), owners: &[], instead: PURE },
    Seam { scope: CORE, uses: Uses::Path("Uuid::new_v4"), owners: &[], instead: PURE },
    Seam { scope: CORE, uses: Uses::Path("Uuid::now_v7"), owners: &[], instead: PURE },
];

/// Every use of a seam outside its owners.
pub(super) fn check(tree: &Tree, _: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.product_code() {
        for seam in SEAMS.iter().filter(|seam| seam.is_foreign_to(file)) {
            let lines = seam.lines(&file.code);
            findings.extend(
                lines
                    .into_iter()
                    .map(|line| Finding::at(&file.path, line, format!("uses {}", seam.name()), seam.instead)),
            );
        }
    }
    findings
}

impl Seam {
    fn is_foreign_to(&self, file: &SourceFile) -> bool {
        file.path.starts_with(self.scope) && !self.owners.iter().any(|owner| file.path.starts_with(owner))
    }

    fn lines(&self, code: &str) -> Vec<usize> {
        match self.uses {
            Uses::Std(module) => rust::uses_of_std(code, module),
            Uses::Path(path) => rust::words(code, path).map(|at| rust::line_of(code, at)).collect(),
        }
    }

    fn name(&self) -> String {
        match self.uses {
            Uses::Std(module) => format!("std::{module}"),
            Uses::Path(path) => path.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(files: &[(&str, &str)]) -> Vec<String> {
        let found = check(&Tree::of(files), &Workspace::default());
        found.into_iter().map(|finding| finding.place).collect()
    }

    #[test]
    fn a_file_read_above_the_storage_is_found() {
        let body = "use std::{\n    fs,\n    io,\n};\n";
        assert_eq!(
            places(&[
                ("crates/courant-log/src/journal/mod.rs", body),
                ("crates/courant-log/src/storage/disk.rs", body),
                ("crates/courant-log/tests/it/main.rs", body),
            ]),
            ["crates/courant-log/src/journal/mod.rs:2"]
        );
    }

    #[test]
    fn the_environment_belongs_to_the_command_line() {
        let body = "let x = std::env::var(\"X\");\n";
        assert_eq!(
            places(&[
                ("crates/courant-cli/src/main.rs", body),
                ("crates/courant-log/src/storage/disk.rs", body),
                ("crates/courant-server/src/lib.rs", body),
            ]),
            ["crates/courant-server/src/lib.rs:1"]
        );
    }

    #[test]
    fn wire_types_http_and_the_clock_stay_where_they_are() {
        assert_eq!(
            places(&[
                ("crates/courant-cli/src/pub.rs", "use courant_kafka::wire::Reader;\n"),
                ("crates/courant-core/src/clock.rs", "SystemTime::now()\n// SystemTime::now()\n"),
                ("crates/courant-kafka/src/lib.rs", "use axum::Router;\n"),
                ("crates/courant-log/src/lib.rs", "tokio::spawn(x);\n"),
            ]),
            [
                "crates/courant-cli/src/pub.rs:1",
                "crates/courant-core/src/clock.rs:1",
                "crates/courant-kafka/src/lib.rs:1",
                "crates/courant-log/src/lib.rs:1",
            ]
        );
    }

    #[test]
    fn tests_inside_a_file_may_do_what_they_need() {
        let body = "fn a() {}\n#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n";
        assert!(places(&[("crates/courant-log/src/lib.rs", body)]).is_empty());
    }
}
