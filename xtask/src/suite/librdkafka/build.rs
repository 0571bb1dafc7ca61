//! librdkafka and its test runner, built from the sources that the crate `rdkafka-sys` carries.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Error, Result, ensure};

use crate::prepare::{self, Tool};
use crate::suite::registry;
use crate::{files, process};

use super::kafka_tools;

/// How long everything may take together: minutes on a small machine.
const PATIENCE: Duration = Duration::from_secs(30 * 60);
/// What the build needs, and what the tests of compression, statistics and keys need of it.
const TOOLS: [Tool; 9] = [
    Tool { needs: "make", package: "make" },
    Tool { needs: "g++", package: "g++" },
    Tool { needs: "python3", package: "python3" },
    Tool { needs: "/usr/include/zlib.h", package: "zlib1g-dev" },
    Tool { needs: "/usr/include/zstd.h", package: "libzstd-dev" },
    Tool { needs: "/usr/include/openssl/ssl.h", package: "libssl-dev" },
    Tool { needs: "/usr/include/rapidjson/schema.h", package: "rapidjson-dev" },
    Tool { needs: "javac", package: "openjdk-17-jdk-headless" },
    Tool { needs: "mvn", package: "maven" },
];

/// The built suite.
#[derive(Debug)]
pub(super) struct Built {
    /// librdkafka's version.
    pub(super) version: String,
    /// Its root, with `src`, `src-cpp` and `tests`.
    pub(super) folder: PathBuf,
    /// What stands for a Kafka distribution.
    pub(super) kafka: PathBuf,
}

/// Builds it, unless this version has been built.
pub(super) fn build(root: &Path) -> Result<Built> {
    let deadline = Instant::now() + PATIENCE;
    prepare::install_missing(&TOOLS, deadline).map_err(Error::msg)?;
    let source = registry::source(root, "rdkafka-sys")?;
    let (_, version) = source.version.split_once('+').context("rdkafka-sys does not say its librdkafka")?;
    let folder = prepare::folder(root, "librdkafka");
    prepare::once(&folder, "librdkafka", &source.version, || {
        make(&source.folder.join("librdkafka"), &folder, deadline)
    })?;
    let kafka = kafka_tools::make(root, deadline)?;
    Ok(Built { version: version.to_owned(), folder, kafka })
}

fn make(source: &Path, folder: &Path, deadline: Instant) -> Result<()> {
    prepare::empty(folder)?;
    files::copy(source, folder, &files::below(source)?)?;
    let jobs = thread::available_parallelism().map_or(1, usize::from);
    let jobs = format!("-j{jobs}");
    // No Kerberos: its library is on few machines, and nothing here logs in.
    for words in [
        ["bash", "./configure", "--disable-gssapi"].as_slice(),
        &["make", &jobs, "libs"],
        &["make", &jobs, "-C", "tests", "build"],
    ] {
        let (program, arguments) = words.split_first().context("a command has a name")?;
        let mut command = Command::new(program);
        command.args(arguments).current_dir(folder);
        let ended = process::stream(&mut command, deadline, &mut |_| true).context(words.join(" "))?;
        ensure!(ended.is_success(), "{}: {}", words.join(" "), ended.describe());
    }
    Ok(())
}
