//! Where the figures were taken.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

use anyhow::{Context as _, Result, ensure};

/// Key and value of each thing that the figures depend on.
pub(crate) fn facts(courant: &Path) -> Result<Vec<(&'static str, String)>> {
    let cpus = thread::available_parallelism().context("the CPUs cannot be counted")?;
    let (_, librdkafka) = rdkafka::util::get_rdkafka_version();
    Ok(vec![
        ("server", version(courant)?),
        ("client", format!("librdkafka {librdkafka}")),
        ("processor", processor()?),
        ("cpus", cpus.to_string()),
        ("kernel", line_of("/proc/sys/kernel/osrelease")?),
        ("load before", line_of("/proc/loadavg")?),
    ])
}

/// What the binary calls itself.
fn version(courant: &Path) -> Result<String> {
    let output = Command::new(courant)
        .arg("--version")
        .output()
        .with_context(|| format!("{} does not start", courant.display()))?;
    ensure!(output.status.success(), "{} --version: {}", courant.display(), output.status);
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn processor() -> Result<String> {
    let text = fs::read_to_string("/proc/cpuinfo").context("/proc/cpuinfo cannot be read")?;
    let name = text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == "model name").then(|| value.trim().to_owned())
    });
    // Not every architecture gives its processors names.
    Ok(name.unwrap_or_else(|| std::env::consts::ARCH.to_owned()))
}

fn line_of(path: &str) -> Result<String> {
    let text = fs::read_to_string(path).with_context(|| format!("{path} cannot be read"))?;
    Ok(text.trim().to_owned())
}
