//! The groups of a journal file, and the entries in them.

use std::io;
use std::sync::Arc;

use uuid::Uuid;

use super::named::Named;
use super::{Input, InspectError, InspectedChange, InspectedEntry};
use crate::bytes_io::Fields;
use crate::journal::{
    self, ENTRY_HEADER_BYTES, FileHeader, GROUP_HEADER_BYTES, GroupHeader, NotAHeader, decode_all,
    decode_successor,
};
use crate::layout;
use crate::limits::BLOCK_BYTES;
use crate::segment::is_of_the_bytes;
use crate::storage::Storage;

/// A journal file, group by group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InspectedJournal {
    /// Its present use, or its last one. None for a file that was never used, or that has lost its header.
    pub used: Option<JournalUse>,
    /// Groups of that use and their entries, in the order of the file.
    pub rows: Vec<JournalRow>,
    /// There are more rows than were asked for.
    pub more: bool,
}

/// One use of a journal file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalUse {
    /// Its number.
    pub generation: u64,
    /// Position of its first byte.
    pub start: u64,
    /// Bytes that groups may fill.
    pub capacity: u64,
    /// A checkpoint covers all of it: the file will be used again, and nothing in it counts.
    pub is_free: bool,
    /// The generation of the file in which the journal goes on; none where it has not left this one, or
    /// an older release has written it.
    pub next_generation: Option<u64>,
}

/// A row of a journal file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JournalRow {
    /// A group; its entries follow, if they verify.
    Group(InspectedGroup),
    /// An entry of the group before it.
    Entry(InspectedEntry),
    /// Bytes that are no group of this use of the file, although one stands behind them: damaged, or never
    /// on disk.
    Unverified {
        /// Position of the first of them.
        position: u64,
        /// How many they are.
        bytes: u64,
    },
}

/// What the header of a group says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InspectedGroup {
    /// Its position in the journal.
    pub position: u64,
    /// The durable mark: everything before that position was on disk when this was written.
    pub synced: u64,
    /// Bytes up to the next group.
    pub bytes: u64,
    /// Number of its entries.
    pub entries: u32,
    /// It has no entries, and was written to vouch for everything before it.
    pub is_seal: bool,
    /// Sequence of the newest durable checkpoint when it was written.
    pub checkpoint: u64,
    /// When it was written, in milliseconds since 1970.
    pub written_ms: i64,
    /// Its entries verify.
    pub is_intact: bool,
}

/// Reads one journal file of a data directory that no process uses, at most `limit` rows. `path` is
/// relative to the data directory.
///
/// # Errors
/// [`InspectError::NotAJournalFile`] for any other path, [`InspectError::Missing`] when there is no such
/// file, [`InspectError::Unreadable`] when another log or a newer release has written it,
/// [`InspectError::Open`] as [`super::inspect`], [`InspectError::Storage`] when the storage fails. Damage is
/// no error.
pub fn inspect_journal(
    storage: &Arc<dyn Storage>,
    path: &str,
    limit: usize,
) -> Result<InspectedJournal, InspectError> {
    if !is_path(path) {
        return Err(InspectError::NotAJournalFile { path: path.to_owned() });
    }
    let _guard = layout::take_to_read(&**storage)?;
    let log_id = layout::identity(&**storage)?;
    let input = Input::open_named(&**storage, path)?;
    let header = match header(&input, log_id) {
        Ok(Some(header)) => header,
        Ok(None) => return Ok(InspectedJournal { used: None, rows: Vec::new(), more: false }),
        Err(why) => return Err(InspectError::Unreadable { path: path.to_owned(), why }),
    };
    let mut named = Named::load(storage, log_id)?;
    let generation = header.seed.generation;
    let used = JournalUse {
        generation,
        start: header.start,
        capacity: header.capacity,
        is_free: named.newest.is_some_and(|newest| generation < newest.generation),
        next_generation: successor(&input, header).map_err(|source| input.failed(source))?,
    };
    let mut rows = Rows { rows: Vec::new(), limit, more: false };
    let read = rows.read(&mut Walk::new(&input, header, header.start), &mut named);
    read.map_err(|source| input.failed(source))?;
    Ok(InspectedJournal { used: Some(used), rows: rows.rows, more: rows.more })
}

/// Whether a journal file can have that path.
pub(super) fn is_path(path: &str) -> bool {
    let name = path.strip_prefix(journal::DIR).and_then(|name| name.strip_prefix('/'));
    let digits = name.and_then(|name| name.strip_suffix(".journal"));
    digits.and_then(|digits| digits.parse().ok()).is_some_and(|number| journal::path_of(number) == path)
}

/// What the file says of its use; none when it was never used, or else the reason why it cannot be read.
pub(super) fn header(input: &Input, log_id: Uuid) -> Result<Option<FileHeader>, String> {
    let block = input.read(0, BLOCK_BYTES as u64).map_err(|error| format!("it cannot be read: {error}"))?;
    match FileHeader::decode(&block) {
        Ok(header) if header.log_id == log_id => Ok(Some(header)),
        Ok(header) => Err(format!("it belongs to another log ({})", header.log_id)),
        Err(NotAHeader::Newer(version)) => {
            Err(format!("a newer release has written it (journal format {version})"))
        }
        Err(NotAHeader::Invalid) => Ok(None),
    }
}

/// How many groups with entries there are from a position on, and the first place among them that does
/// not verify.
pub(super) fn count(input: &Input, header: FileHeader, from: u64) -> io::Result<(u64, Option<u64>)> {
    let (mut groups, mut unverified) = (0, None);
    let mut walk = Walk::new(input, header, from.max(header.start));
    while let Some(step) = walk.step()? {
        match step {
            Step::Group(group) => groups += u64::from(!group.seal),
            Step::Unverified { position, .. } => {
                unverified.get_or_insert(position);
            }
        }
    }
    Ok((groups, unverified))
}

/// The generation that is said to follow the file.
fn successor(input: &Input, header: FileHeader) -> io::Result<Option<u64>> {
    let at = (BLOCK_BYTES as u64).saturating_add(header.capacity);
    match input.read(at, BLOCK_BYTES as u64) {
        Ok(block) => Ok(decode_successor(header.seed, &block)),
        Err(error) if is_of_the_bytes(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Rows up to a limit.
struct Rows {
    rows: Vec<JournalRow>,
    limit: usize,
    more: bool,
}

impl Rows {
    fn read(&mut self, walk: &mut Walk<'_>, named: &mut Named) -> io::Result<()> {
        while let Some(step) = walk.step()? {
            match step {
                Step::Group(group) => self.group(walk, &group, named)?,
                Step::Unverified { position, bytes } => {
                    self.push(JournalRow::Unverified { position, bytes });
                }
            }
            if self.more {
                break;
            }
        }
        Ok(())
    }

    fn group(&mut self, walk: &Walk<'_>, group: &GroupHeader, named: &mut Named) -> io::Result<()> {
        let body = walk.body(group)?;
        let entries = decode_all(walk.header.seed, group.position, &body, group.entries);
        self.push(JournalRow::Group(InspectedGroup {
            position: group.position,
            synced: group.synced,
            bytes: group.total_bytes(),
            entries: group.entries,
            is_seal: group.seal,
            checkpoint: group.checkpoint,
            written_ms: group.written_ms,
            is_intact: entries.is_ok(),
        }));
        let mut at = 0;
        for entry in entries.unwrap_or_default() {
            if self.more {
                break;
            }
            let payload = Fields::new(body.get(at..).unwrap_or_default()).u32().unwrap_or(0);
            let bytes = ENTRY_HEADER_BYTES + payload as usize;
            let position = group.position + (GROUP_HEADER_BYTES + at) as u64;
            named.learn_names(&entry);
            let change = InspectedChange::of(entry, named);
            self.push(JournalRow::Entry(InspectedEntry { position, bytes: bytes as u64, change }));
            at += bytes;
        }
        Ok(())
    }

    fn push(&mut self, row: JournalRow) {
        if self.rows.len() < self.limit {
            self.rows.push(row);
        } else {
            self.more = true;
        }
    }
}

/// A group whose header verifies, or what stands in front of the next one.
enum Step {
    Group(GroupHeader),
    Unverified { position: u64, bytes: u64 },
}

/// Goes from group to group of one use of a journal file. What does not verify hides nothing: every
/// boundary behind it is looked at.
struct Walk<'a> {
    input: &'a Input,
    header: FileHeader,
    position: u64,
    /// Behind the last position that the file has.
    end: u64,
}

impl<'a> Walk<'a> {
    /// From a position on that is not before the start of the file.
    fn new(input: &'a Input, header: FileHeader, position: u64) -> Self {
        let there = input.bytes.saturating_sub(BLOCK_BYTES as u64).min(header.capacity);
        Self { input, header, position, end: header.start.saturating_add(there) }
    }

    fn step(&mut self) -> io::Result<Option<Step>> {
        let begin = self.position;
        while self.position < self.end {
            match self.group_at(self.position)? {
                Some(group) if self.position == begin => {
                    self.position = begin.saturating_add(group.total_bytes());
                    return Ok(Some(Step::Group(group)));
                }
                Some(_) => {
                    let bytes = self.position - begin;
                    return Ok(Some(Step::Unverified { position: begin, bytes }));
                }
                None => self.position = self.position.saturating_add(BLOCK_BYTES as u64),
            }
        }
        Ok(None)
    }

    fn group_at(&self, position: u64) -> io::Result<Option<GroupHeader>> {
        let bytes = self.read(position, GROUP_HEADER_BYTES as u64)?;
        Ok(GroupHeader::decode(self.header.seed, position, &bytes))
    }

    /// The entries of a group, as many bytes of them as there are.
    fn body(&self, group: &GroupHeader) -> io::Result<Vec<u8>> {
        let bytes = u64::from(group.body_bytes).min(self.header.capacity);
        self.read(group.position + GROUP_HEADER_BYTES as u64, bytes)
    }

    /// Bytes from a position on; none where the disk has lost them.
    fn read(&self, position: u64, count: u64) -> io::Result<Vec<u8>> {
        let at = (position - self.header.start).saturating_add(BLOCK_BYTES as u64);
        match self.input.read(at, count) {
            Err(error) if is_of_the_bytes(&error) => Ok(Vec::new()),
            read => read,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_that_the_log_gives_are_taken() {
        assert!(is_path("journal/00000001.journal"));
        assert!(is_path("journal/123456789.journal"));
        for strange in [
            "",
            "journal",
            "journal/1.journal",
            "journal/+0000001.journal",
            "journal/00000001.journal.new",
            "journal/../journal/00000001.journal",
            "/journal/00000001.journal",
            "00000001.journal",
        ] {
            assert!(!is_path(strange), "{strange}");
        }
    }
}
