//! A few of the tests call the scripts of a Kafka distribution. Kafka's own tools, from its jars,
//! stand in for it: they are one more client.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::prepare;

/// Names the tools and their version.
const POM: &str = "xtask/suites/kafka-tools.xml";
const SCRIPTS: [(&str, &str); 2] = [
    ("kafka-topics.sh", "org.apache.kafka.tools.TopicCommand"),
    ("kafka-acls.sh", "org.apache.kafka.tools.AclCommand"),
];

/// The folder that the tests are told is a Kafka distribution.
pub(super) fn make(root: &Path, deadline: Instant) -> Result<PathBuf> {
    let folder = prepare::folder(root, "kafka");
    let (jars, scripts) = (folder.join("libs"), folder.join("bin"));
    prepare::copy_jars(&root.join(POM), &jars, deadline)?;
    fs::create_dir_all(&scripts).context("the folder of Kafka's scripts")?;
    for (name, class) in SCRIPTS {
        let script = scripts.join(name);
        let text = format!("#!/bin/sh\nexec java -cp '{}/*' {class} \"$@\"\n", jars.display());
        fs::write(&script, text).context(name)?;
        fs::set_permissions(&script, Permissions::from_mode(0o755)).context(name)?;
    }
    Ok(folder)
}
