//! What it takes to hold an engine or a store against its contract.

/// Lines that are neither empty nor a comment.
fn lines(source: &str) -> usize {
    let lines = source.lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with("//")).count()
}

/// Whoever writes an adapter writes fewer than 40 lines to have it tried, with everything that opens it.
#[test]
fn an_adapter_is_tried_by_fewer_than_40_lines() {
    let adapters = [
        ("memory: and embedded:", include_str!("engines.rs")),
        ("SQLite", include_str!("stores.rs")),
        ("Postgres", include_str!("postgres.rs")),
        ("MariaDB", include_str!("mariadb.rs")),
        ("courant:// and kafka://", include_str!("../../../courant-engine-kafka/tests/it/conformance.rs")),
    ];
    for (adapter, source) in adapters {
        let lines = lines(source);
        assert!((10..40).contains(&lines), "{adapter}: {lines} lines");
    }
}
