//! Reading a log through: whether every stored byte is the one that was stored.
//!
//! A start does not do this: it reads checkpoints and journal, and takes the segments on trust, so
//! that it is quick however much there is. Nothing is changed here.

mod served;

use std::ops::Range;
use std::sync::Arc;

use uuid::Uuid;

use self::served::Served;
use crate::checkpoint::{self, Checkpoint, CheckpointError, PartitionState};
use crate::error::OpenError;
use crate::journal::{self, ScanError};
use crate::layout;
use crate::partition::Quarantined;
use crate::segment::{FileKind, Flaw, Recorded, verify_segment};
use crate::storage::{Storage, StorageError};

/// What was read, and what is wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Topics with everything that belongs to them.
    pub topics: u64,
    /// Their partitions.
    pub partitions: u64,
    /// Their segments that have events.
    pub segments: u64,
    /// Bytes of the segments.
    pub bytes: u64,
    /// Groups that stand in the journal behind the checkpoint. The events in them are not counted above: the
    /// next start takes them into the segments.
    pub journal_groups: u64,
    /// In order of topic, partition and place, without what is in `given_up`.
    pub damage: Vec<Damage>,
    /// Damage of events that somebody has given up ([`crate::Log::accept_gap`]) or deleted, all of them, in the same
    /// order, and of the index of a segment of which all were. Readers pass them, so that nothing is left to do.
    pub given_up: Vec<Damage>,
}

/// Something that is not as it was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file, relative to the data directory.
    pub path: String,
    /// Which bytes of it; none where it is the file as a whole.
    pub bytes: Option<Range<u64>>,
    /// The events that cannot be relied on; none when all events are as they were.
    pub events: Option<DamagedEvents>,
    /// What is wrong.
    pub what: String,
}

/// Events in damaged bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedEvents {
    /// Name of the topic.
    pub topic: String,
    /// Number of the partition in the topic.
    pub partition: u32,
    /// Offsets, the last one excluded.
    pub offsets: Range<u64>,
}

impl Damage {
    pub(crate) fn of(topic: &str, partition: u32, found: Quarantined) -> Self {
        let Quarantined { path, bytes, offsets, what } = found;
        let events = Some(DamagedEvents { topic: topic.to_owned(), partition, offsets });
        Self { path, bytes, events, what }
    }
}

/// Reads everything in a data directory that no process uses, as far as a start would serve it: what the newest
/// checkpoint names, and what the journal behind it makes of that. In a storage that cannot be written, and of which
/// [`Storage::lock_to_read`] has no lock, it is up to the caller that none uses it.
///
/// # Errors
/// [`OpenError::Locked`] while a server uses it, [`OpenError::NotALog`] and [`OpenError::Newer`] where
/// there is nothing to read, [`OpenError::Storage`] when the storage fails. Damage is no error.
pub fn verify(storage: &Arc<dyn Storage>) -> Result<Verified, OpenError> {
    let _guard = layout::take_to_read(&**storage)?;
    let id = layout::identity(&**storage)?;
    let mut verified = Verified::default();
    for path in checkpoint::damaged(&**storage)? {
        verified.damage.push(whole(path, "it is damaged; a start uses the one before it".to_owned()));
    }
    match checkpoint::load(&**storage, id) {
        Ok((checkpoint, _)) => {
            let mut served = Served::of(&**storage, id, &checkpoint);
            journal(storage, id, &checkpoint, &mut served, &mut verified)?;
            segments(&**storage, &served, &mut verified)?;
        }
        Err(CheckpointError::Storage(error)) => return Err(error.into()),
        Err(error) => verified.damage.push(whole(checkpoint::DIR.to_owned(), error.to_string())),
    }
    Ok(verified)
}

fn whole(path: String, what: String) -> Damage {
    Damage { path, bytes: None, events: None, what }
}

/// Every group from the checkpoint on, as a start reads and follows them, and whether they are behind that one.
fn journal(
    storage: &Arc<dyn Storage>,
    id: Uuid,
    checkpoint: &Checkpoint,
    served: &mut Served<'_>,
    verified: &mut Verified,
) -> Result<(), OpenError> {
    let from = (checkpoint.generation, checkpoint.position);
    match journal::scan(storage, id, from, |_, position, entry| served.learn(position, entry)) {
        Ok(scanned) => {
            verified.journal_groups = scanned.groups;
            let older = scanned.older_copy(checkpoint.sequence);
            verified.damage.extend(older.map(|what| whole(checkpoint::DIR.to_owned(), what)));
        }
        Err(ScanError::Storage(error)) => return Err(error.into()),
        Err(error) => verified.damage.push(whole(journal::DIR.to_owned(), error.to_string())),
    }
    let what = "it is damaged; a start uses the segments that it was made of";
    verified.damage.extend(served.unusable.drain(..).map(|(.., path)| whole(path, what.to_owned())));
    Ok(())
}

fn segments(storage: &dyn Storage, served: &Served<'_>, verified: &mut Verified) -> Result<(), StorageError> {
    for topic in served.topics() {
        verified.topics += 1;
        for (number, partition) in (0..).zip(&topic.partitions) {
            verified.partitions += 1;
            let Some(segments) = served.segments(*partition) else {
                let what = format!("it names partition {number} of {} but not its segments", topic.name);
                verified.damage.push(whole(checkpoint::DIR.to_owned(), what));
                continue;
            };
            for recorded in segments {
                verified.segments += 1;
                verified.bytes += recorded.bytes;
                let path = |kind| recorded.header.key().path(kind);
                for flaw in verify_segment(storage, recorded)? {
                    let is_given_up = served.is_given_up(*partition, flaw.events.as_ref(), recorded);
                    let found = if is_given_up { &mut verified.given_up } else { &mut verified.damage };
                    found.push(damage(&topic.name, number, &path, flaw));
                }
            }
        }
    }
    Ok(())
}

/// What the segments of a partition must be.
pub(crate) fn recorded(log_id: Uuid, state: &PartitionState) -> impl Iterator<Item = Recorded> {
    let ends = state.segments.iter().skip(1).map(|next| next.base_offset).chain([state.next_offset]);
    let partition = state.id;
    state.segments.iter().zip(ends).map(move |(segment, end)| segment.recorded(log_id, partition, end))
}

fn damage(topic: &str, partition: u32, path: &impl Fn(FileKind) -> String, flaw: Flaw) -> Damage {
    let events = flaw.events.map(|offsets| DamagedEvents { topic: topic.to_owned(), partition, offsets });
    Damage { path: path(flaw.file), bytes: flaw.bytes, events, what: flaw.what }
}
