//! The Java programs of the test clients: compiled once per version of Kafka's own client library,
//! beside its jars; and one with Spring Kafka.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Error, Result, ensure};

use crate::files;
use crate::process;
use crate::stage::Tally;
use crate::tidy;

use super::made::{self, empty, once};
use super::retry::retry;

const JARS: &str = "java-jars";
const CLASSES: &str = "java-classes";
/// The plugin that lays a dependency tree out as files, with the version it is known to work in.
const COPY_DEPENDENCIES: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies";

/// One version of a library.
#[derive(Debug)]
pub(super) struct Library {
    /// The folder's name under `target/tools`.
    name: &'static str,
    /// Names the library.
    pom: &'static str,
    /// The programs with it.
    source: &'static str,
}

pub(super) const KAFKA_3_9: Library =
    Library { name: "java-39", pom: "clients/java/pom-39.xml", source: "clients/java" };
pub(super) const KAFKA_4: Library =
    Library { name: "java-4", pom: "clients/java/pom-4.xml", source: "clients/java" };
pub(super) const SPRING_KAFKA: Library =
    Library { name: "java-spring", pom: "clients/spring/pom.xml", source: "clients/spring" };

/// Fetches the jars and compiles the programs, for each version.
pub(super) fn make(root: &Path, deadline: Instant) -> Tally {
    let mut tally = Tally::default();
    for library in [&KAFKA_3_9, &KAFKA_4, &SPRING_KAFKA] {
        tally.merge(made::tally(&format!("prepare::{}", library.name), compiled(root, library, deadline)));
    }
    tally
}

/// The folder with the jars and classes, when both have been made.
pub(super) fn clients(root: &Path, library: &Library) -> Option<PathBuf> {
    let folder = super::folder(root, library.name);
    (made::is_made(&folder, JARS) && made::is_made(&folder, CLASSES)).then_some(folder)
}

fn compiled(root: &Path, library: &Library, deadline: Instant) -> Result<()> {
    let folder = super::folder(root, library.name);
    copy_jars(&root.join(library.pom), &folder, deadline)?;
    let javac = process::answer("javac", &["-version"]).context("no javac here")?;
    let source = root.join(library.source);
    let mut sources = files::below(&source)?;
    sources.retain(|file| file.extension().is_some_and(|extension| extension == "java"));
    ensure!(!sources.is_empty(), "{} holds no Java", library.source);
    let text = files::text(&source, &sources)?;
    once(&folder, CLASSES, &format!("{javac} {:016x}", tidy::hash(&text)), || {
        let mut command = Command::new("javac");
        command.arg("-d").arg(&folder).arg("-cp").arg(folder.join("*"));
        command.args(sources.iter().map(|file| source.join(file)));
        let ended = process::stream(&mut command, deadline, &mut |_| true).context("javac does not start")?;
        ensure!(ended.is_success(), "javac: {}", ended.describe());
        Ok(())
    })
}

/// Lays the jars that a pom asks for out in a folder of their own. They are kept until the pom
/// changes.
pub(crate) fn copy_jars(pom: &Path, folder: &Path, deadline: Instant) -> Result<()> {
    let text = fs::read_to_string(pom).with_context(|| pom.display().to_string())?;
    once(folder, JARS, &format!("{:016x}", tidy::hash(&text)), || {
        ensure!(process::find_program("mvn").is_some(), "no mvn here");
        empty(folder)?;
        // Maven writes beside the pom, so it is given a copy.
        fs::write(folder.join("pom.xml"), &text).context("the copy of the pom")?;
        retry("mvn dependency:copy-dependencies", deadline, || {
            let mut command = Command::new("mvn");
            command.args(["-q", "-B", COPY_DEPENDENCIES, "-DincludeScope=runtime"]);
            command.arg("-DoutputDirectory=.").current_dir(folder);
            command
        })
        .map_err(Error::msg)
    })
}
