//! What the machine allows: open files, memory, and a clock that can be believed.

use super::Finding;
use super::data::mib;
use crate::files;
use crate::time::{now_ms, rfc3339};
use courant_log::storage::probe;
use courant_server::{FILES_MIN, MEMORY_MIN, MemoryBound, files_wanted};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// Bytes of a file of the system that are read.
const SYSTEM_FILE_BYTES_MAX: u64 = 64 * 1024;

/// 2026-01-01, in milliseconds since 1970. This program is younger.
const EARLIEST_MS: i64 = 1_767_225_600_000;

/// How far the data may be ahead of the clock: two machines may share a disk, one after the other.
const AHEAD_MS_MAX: i64 = 60_000;

/// What version 1 of the kernel's memory groups says when there is no limit begins here.
const UNLIMITED_BYTES: u64 = 1 << 60;

/// Looks at the limits of a running server, or at those of this process, for one that may take `most`.
pub(super) fn checks(data: &Path, holder: Option<u32>, most: MemoryBound) -> Vec<Finding> {
    let modified = probe::modified(data).and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let modified_ms = modified.and_then(|since| i64::try_from(since.as_millis()).ok());
    [open_files(holder), memory(holder, most), Some(clock(now_ms(), modified_ms))]
        .into_iter()
        .flatten()
        .collect()
}

/// A file about a process under `/proc`, if the system shows it.
fn about(process: &str, name: &str) -> Option<String> {
    files::read_text(Path::new(&format!("/proc/{process}/{name}")), SYSTEM_FILE_BYTES_MAX).ok()
}

/// `None` where the system does not say.
fn open_files(server: Option<u32>) -> Option<Finding> {
    let limit = match server.and_then(|server| about(&server.to_string(), "limits")) {
        Some(limits) => open_files_limits(&limits)?.0,
        // A server raises its own limit to the hard one when it starts.
        None => open_files_limits(&about("self", "limits")?)?.1,
    };
    Some(open_files_finding(limit))
}

fn open_files_finding(limit: u64) -> Finding {
    const CHECK: &str = "open files";
    let wanted = files_wanted();
    let shown = if limit == u64::MAX { "any number".to_owned() } else { limit.to_string() };
    let change =
        format!("allow more: `ulimit -Hn {wanted}`, LimitNOFILE={wanted} in systemd, --ulimit in Docker");
    if limit < FILES_MIN as u64 {
        let found = format!("{shown} are allowed, and a server needs {FILES_MIN} at the least");
        return Finding::failure(CHECK, found, change);
    }
    if limit < wanted as u64 {
        let found = format!(
            "{shown} are allowed; with less than {wanted}, connections are fewer than 10,000, and appends to \
             many partitions may wait"
        );
        return Finding::warning(CHECK, found, change);
    }
    Finding::ok(CHECK, format!("{shown} are allowed"))
}

/// The soft and the hard limit, from the line
/// `Max open files            1024                 1048576              files`.
fn open_files_limits(limits: &str) -> Option<(u64, u64)> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let mut words = line.split_whitespace().map(|word| match word {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    });
    Some((words.next()??, words.next()??))
}

/// `None` where the system does not say.
fn memory(server: Option<u32>, most: MemoryBound) -> Option<Finding> {
    let groups = server.and_then(|server| about(&server.to_string(), "cgroup"));
    let groups = groups.or_else(|| about("self", "cgroup"))?;
    let limits = memory_files(&groups);
    let limits = limits.iter().filter_map(|path| files::read_text(path, SYSTEM_FILE_BYTES_MAX).ok());
    let limit = limits.filter_map(|text| text.trim().parse::<u64>().ok()).min();
    Some(memory_finding(limit.filter(|bytes| *bytes < UNLIMITED_BYTES), most))
}

fn memory_finding(limit: Option<u64>, most: MemoryBound) -> Finding {
    const CHECK: &str = "memory limit";
    let full_load = most.total() as u64;
    let sum = most.budget.map(|budget| {
        let (budget, program) = (mib(budget as u64), mib(most.program as u64));
        format!("a server may take {budget} by --memory, {program} for the program, and what is stored")
    });
    match (limit, sum) {
        (None, None) => Finding::ok(CHECK, "none"),
        (None, Some(sum)) => Finding::ok(CHECK, format!("none; {sum}")),
        (Some(bytes), Some(sum)) if bytes < full_load => {
            Finding::warning(CHECK, format!("{}; {sum}, and be killed", mib(bytes)), less_memory(bytes, most))
        }
        (Some(bytes), Some(sum)) => Finding::ok(CHECK, format!("{}; {sum}", mib(bytes))),
        (Some(bytes), None) if bytes < full_load => Finding::warning(
            CHECK,
            format!(
                "{}; under full load of all its parts a server may take {} and be killed, {} of them for clients \
                 of the Kafka protocol and {} for the HTTP API",
                mib(bytes),
                mib(full_load),
                mib(most.kafka as u64),
                mib(most.http as u64)
            ),
            less_memory(bytes, most),
        ),
        (Some(bytes), None) => Finding::ok(CHECK, mib(bytes)),
    }
}

/// What to do where a server may take more than a limit of so many bytes. A budget of its own does not help with
/// the program, which comes on top of that.
fn less_memory(limit: u64, most: MemoryBound) -> String {
    const ALLOW: &str =
        "allow more: MemoryMax= in systemd, --memory in Docker, resources.limits.memory in Kubernetes";
    let (least, program) = (MEMORY_MIN as u64, most.program as u64);
    let budget = limit.saturating_sub(program);
    if budget >= least {
        return format!("{ALLOW}; or have the server keep to less: `--memory {}MiB`", budget >> 20);
    }
    let least = mib(least.saturating_add(program));
    format!("{ALLOW}; with the smallest --memory of its own a server may still take {least}")
}

/// The files that may hold a limit: of the process's group and of every group above it. From lines
/// such as `0::/system.slice/courant.service`, or `5:memory:/docker/3f…` in version 1.
fn memory_files(groups: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else {
            continue;
        };
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        // A group outside of what a container sees is written with dots.
        let group = if group.contains("..") { "/" } else { group };
        found.extend(
            Path::new(group)
                .ancestors()
                .map(|group| Path::new(root).join(group.strip_prefix("/").unwrap_or(group)).join(file)),
        );
    }
    found
}

fn clock(now_ms: i64, modified_ms: Option<i64>) -> Finding {
    const CHECK: &str = "clock";
    let shown = |at_ms: i64| rfc3339(at_ms).unwrap_or_else(|| "a time before 1970".to_owned());
    let change = "set the clock and keep it right: `timedatectl set-ntp true`, or chrony";
    if now_ms < EARLIEST_MS {
        let found = format!("it says {}, which is past; events get this time", shown(now_ms));
        return Finding::failure(CHECK, found, change);
    }
    match modified_ms {
        Some(modified_ms) if modified_ms > now_ms.saturating_add(AHEAD_MS_MAX) => Finding::warning(
            CHECK,
            format!("it says {}, and the data directory is from {}", shown(now_ms), shown(modified_ms)),
            change,
        ),
        _ => Finding::ok(CHECK, shown(now_ms)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;
    use courant_server::ServerConfig;

    #[test]
    fn limits_of_open_files_are_read_and_judged() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max open files            1024                 unlimited            files     \n";
        assert_eq!(open_files_limits(limits), Some((1024, u64::MAX)));
        assert_eq!(open_files_limits("Max processes 1 2 processes\n"), None);
        assert_eq!(open_files_finding(50).verdict, Verdict::Failure);
        assert_eq!(open_files_finding(1024).verdict, Verdict::Warning);
        assert_eq!(open_files_finding(1_048_576).verdict, Verdict::Ok);
        assert_eq!(open_files_finding(u64::MAX).found, "any number are allowed");
    }

    #[test]
    fn limits_of_memory_stand_at_every_level() {
        let names = |groups: &str| -> Vec<String> {
            memory_files(groups).iter().map(|path| path.display().to_string()).collect()
        };
        assert_eq!(
            names("0::/a/b\n"),
            ["/sys/fs/cgroup/a/b/memory.max", "/sys/fs/cgroup/a/memory.max", "/sys/fs/cgroup/memory.max"]
        );
        assert_eq!(names("6:cpu:/x\n5:memory:/\n"), ["/sys/fs/cgroup/memory/memory.limit_in_bytes"]);
        assert_eq!(names("0::/../..\n"), ["/sys/fs/cgroup/memory.max"]);
    }

    #[test]
    fn little_memory_is_warned_of() {
        let most = MemoryBound::of(&ServerConfig::local("data")).expect("it starts");
        assert_eq!(memory_finding(None, most).verdict, Verdict::Ok);
        let total = most.total() as u64;
        assert_eq!(memory_finding(Some(total), most).verdict, Verdict::Ok);
        let warning = memory_finding(Some(total - 1), most);
        assert_eq!(warning.verdict, Verdict::Warning);
        assert!(warning.found.contains(&format!("may take {}", mib(total))), "{}", warning.found);
    }

    /// Who does what is advised is not warned again.
    #[test]
    fn a_budget_is_advised_where_there_is_one_that_is_small_enough() {
        let config = |memory| ServerConfig { memory, ..ServerConfig::local("data") };
        let most = MemoryBound::of(&config(None)).expect("it starts");
        let limit = (most.program + MEMORY_MIN) as u64;
        let advice = memory_finding(Some(limit), most).change.expect("a change");
        assert!(advice.ends_with("`--memory 576MiB`"), "{advice}");
        let kept = MemoryBound::of(&config(Some(576 << 20))).expect("it starts");
        assert_eq!(memory_finding(Some(limit), kept).verdict, Verdict::Ok);
        let said = memory_finding(Some(limit), kept).found;
        assert!(
            said.ends_with("may take 576 MiB by --memory, 32 MiB for the program, and what is stored"),
            "{said}"
        );
        assert!(memory_finding(None, kept).found.starts_with("none; a server may take 576 MiB by"));
        assert_eq!(memory_finding(None, most).found, "none");
        for bound in [most, kept] {
            let advice = memory_finding(Some(kept.total() as u64 - 1), bound).change.expect("a change");
            assert!(!advice.contains("`--memory") && advice.ends_with(&mib(limit)), "{advice}");
        }
    }

    #[test]
    fn a_clock_before_this_program_or_before_the_data_is_not_believed() {
        let now_ms = EARLIEST_MS + 1;
        assert_eq!(clock(0, None).verdict, Verdict::Failure);
        assert_eq!(clock(now_ms, None).verdict, Verdict::Ok);
        assert_eq!(clock(now_ms, Some(now_ms + AHEAD_MS_MAX)).verdict, Verdict::Ok);
        assert_eq!(clock(now_ms, Some(now_ms + AHEAD_MS_MAX + 1)).verdict, Verdict::Warning);
    }
}
