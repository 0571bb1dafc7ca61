//! docs/reliability.md: what the long runs have come to, and what was done to see that they see.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::runs::{self, Run};

const PAGE: &str = "docs/reliability.md";

const HEAD: &str = "\
# Reliability, in figures

*Written by `cargo xtask torture page` from the runs that it names. What is promised, and to whom, is in [the guide](guide/durability.md); every byte and every rule is in [formats/](formats/journal.md).*

The promise that is tested: **no acknowledged event is lost, reordered, torn, or there twice; nothing that was never sent appears; what one reader has seen another sees.** For topics of a relaxed durability it holds for a crash of the process, and a power cut takes the newest events only, whose offsets are not given out again.

## Long runs

| what | how many | of which | seeds | broken promises | took | commit | kernel | file system |
|---|--:|---|---|--:|--:|---|---|---|
";

const FOOT: &str = "
**sim**: the real log on a storage in memory that knows what was synced, bytes and names apart, per 512-byte sector. The power is cut in every storage call of a script, in seven ways (everything unsynced lost, kept, a prefix, a random subset, the last write torn, zeros, stale bytes), and after a kill whose cache survives, which may take nothing of any topic; and again in a storage call of the recovery, drawn from all that it makes, to depth three. Each crash point is one start and one look at everything. A seed gives the same calls and bytes again: `cargo xtask torture sim --seed N`.

**damage**: a small data directory in memory, filled by a script. Every byte of every file in it goes bad, one after the other, by one bit; some bytes also become ones, and every sector zeros, each in a copy of its own. The start on it is refused and changes nothing, or serves everything, or serves everything but the events that the damage took: then it names the file, and so does `courant log verify`, and what is damaged stays as it is.

**kills**: SIGKILL of a real server under the load of three idempotent librdkafka producers, a third of them a second time during the start, at a moment drawn from the time that one takes.

**power-cuts**: the same load on an ext4 of its own, which is shut down without writing its journal, after a random part of the cache was written back. Several disks and servers at the same time.

## What every run of CI does as well

- At least 15,000 crash points in nine scripts, and every storage call of a start on what a script leaves, 100 power cuts, 30 kills.
- Every storage call of a script, and of the start that follows it, fails once: EIO, ENOSPC, a short write, EINTR where the storage does not repeat the call by itself, and a sync that fails as on ext4, where what it should have written is gone and the next sync says yes. The promise holds then as well, of relaxed topics as in a power cut, and no offset that was seen is given to another event. And the storage is full from some byte on, whichever: then what was refused loses nothing, and with room the log goes on.
- Every read of a start, of a reader and of a compaction goes wrong once: EIO, too short, a flipped bit, a sector of zeros, bytes from another place. The answer is an error or what was stored, and compaction replaces nothing by what it has read wrong.
- Bits flipped all over journal, checkpoints, segments and sidecars; every file halved, zeroed, removed, replaced by an older copy, doubled, those of a compacted log as well. A start refuses, or serves all but what is damaged, and names it; a segment that it names is still there.
- A server whose sync fails refuses events with the error that clients repeat, and serves what it has acknowledged.
- **The tests are tested.** Each of these defects, planted in the log or under it, is seen within 50,000 crash points: data not synced, names not synced, checksums not compared, an answer before the sync (by the committer, by whoever commits alone, and below the log), a watermark before the sync, checksums without a seed, a trusted segment tail, a duplicate acknowledged before its original, a compacted segment that is not on disk, the end of a segment that a checkpoint leaves unsynced. A lone append that overtakes others, and a file that is taken to end where something is not in memory, are seen by the script itself; what is read from memory and not compared where each read goes wrong once; a failed sync that is tried again, and one ahead of a checkpoint that is passed over, where each sync of a script fails once; a missing durable mark where bits of the journal are flipped. The power cuts find a server that does not sync.

## What is not tested

A disk that lies about having flushed, and a machine whose memory flips bits, are outside of what a program can promise. One machine has one disk: keep a copy of what must survive it.
";

/// Writes the page.
pub(super) fn write(root: &Path) -> Result<()> {
    let mut page = HEAD.to_owned();
    for run in runs::recorded(root)? {
        page += &row(&run);
    }
    page += FOOT;
    fs::write(root.join(PAGE), page).context(PAGE)?;
    println!("torture: wrote {PAGE}");
    Ok(())
}

fn row(run: &Run) -> String {
    let Run { kind, rounds, detail, seeds, failures, seconds, commit, kernel, filesystem } = run;
    let mut row = String::new();
    let (rounds, took) = (grouped(*rounds), took(*seconds));
    // Writing into a String does not fail.
    let _ = writeln!(
        row,
        "| {kind} | {rounds} | {detail} | {seeds} | **{failures}** | {took} | {commit} | {kernel} | {filesystem} |"
    );
    row
}

/// A number with commas between its thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn took(seconds: u64) -> String {
    if seconds < 120 { format!("{seconds} s") } else { format!("{} min", seconds / 60) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_readable() {
        assert_eq!([grouped(7), grouped(1_000), grouped(10_150_803)], ["7", "1,000", "10,150,803"]);
        assert_eq!([took(119), took(5_400)], ["119 s", "90 min"]);
    }
}
