//! `courant log inspect`: what stands in a data directory, by file, by batch, or by group of the journal.
//! Keys and values of events are not shown.

use super::log::{counted, refused, storage_to_read};
use super::or_dash;
use crate::cli::{Global, LogInspect};
use crate::exit::{Exit, Failure, note};
use crate::output::{Format, Row, list};
use crate::settings::Settings;
use crate::time::rfc3339;
use courant_log::inspect::{
    AppendedBatch, CheckpointContent, Content, InspectError, InspectedBatch, InspectedChange, InspectedGroup,
    JournalContent, JournalRow, JournalUse, SegmentContent, StoredFile, inspect, inspect_journal,
    inspect_segment,
};
use courant_log::{BatchHeader, Codec};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::io;
use std::path::Path;

pub(super) fn run(global: &Global, args: LogInspect) -> Result<Exit, Failure> {
    let settings = Settings::read(global, &args.data.into())?;
    let data = settings.server_config().data;
    let limit = args.limit as usize;
    match (args.segment, args.journal) {
        (Some(path), _) => segment(global, &data, &inside(&data, &path)?, limit)?,
        (None, Some(path)) => journal(global, &data, &inside(&data, &path)?, limit)?,
        (None, None) => files(global, &data, limit)?,
    }
    Ok(Exit::Ok)
}

/// A path in the data directory. It may be given with the directory in front of it.
fn inside(data: &Path, path: &Path) -> Result<String, Failure> {
    let inside = path.strip_prefix(data).unwrap_or(path).to_str();
    let sentence = || format!("{}: no file of a data directory has such a name", path.display());
    inside.map(str::to_owned).ok_or_else(|| Failure::new(Exit::Usage, sentence()))
}

fn files(global: &Global, data: &Path, limit: usize) -> Result<(), Failure> {
    let found = inspect(&storage_to_read(global, data)?).map_err(|error| refused(data, &error))?;
    let more = found.files.len() > limit;
    let rows: Vec<FileRow> = found.files.into_iter().take(limit).map(FileRow::from).collect();
    show(global, &rows, more)?;
    if let Some(problem) = found.problem {
        say(global, format_args!("Not every record of what belongs here can be read: {problem}."));
    }
    Ok(())
}

fn segment(global: &Global, data: &Path, path: &str, limit: usize) -> Result<(), Failure> {
    let found = inspect_segment(&storage_to_read(global, data)?, path, limit)
        .map_err(|error| failed(data, &error))?;
    let rows: Vec<BatchRow> = found.batches.iter().map(BatchRow::from).collect();
    show(global, &rows, found.more)?;
    if !found.is_header_intact {
        say(global, format_args!("The header of the file is damaged, or another segment's."));
    }
    if let Some(byte) = found.stopped_at {
        say(global, format_args!("Stopped at byte {byte}: damaged, and nothing says where batches go on."));
    }
    match found.covered {
        None => say(global, format_args!("No checkpoint that can be read names this segment.")),
        Some(covered) if covered < found.bytes => say(
            global,
            format_args!("The checkpoint covers the first {covered} bytes; the rest is the journal's."),
        ),
        Some(_) => {}
    }
    Ok(())
}

fn journal(global: &Global, data: &Path, path: &str, limit: usize) -> Result<(), Failure> {
    let found = inspect_journal(&storage_to_read(global, data)?, path, limit)
        .map_err(|error| failed(data, &error))?;
    let rows: Vec<Line> = found.rows.iter().map(Line::from).collect();
    show(global, &rows, found.more)?;
    match found.used {
        None => say(global, format_args!("The file was never used, or its header is damaged.")),
        Some(used) => say(global, format_args!("{}", use_text(&used))),
    }
    Ok(())
}

fn failed(data: &Path, error: &InspectError) -> Failure {
    let exit = match error {
        InspectError::Open(error) => return refused(data, error),
        InspectError::NotASegment { .. } | InspectError::NotAJournalFile { .. } => Exit::Usage,
        InspectError::Missing { .. } => Exit::NotFound,
        _ => Exit::Failed,
    };
    Failure::new(exit, format!("{}: {error}", data.display()))
}

fn show<R: Row>(global: &Global, rows: &[R], more: bool) -> Result<(), Failure> {
    let format = Format::or_default(global.output);
    list(&mut io::stdout().lock(), format, rows).map_err(|error| Failure::output(&error))?;
    if more {
        let count = rows.len();
        say(global, format_args!("More follow than the first {count}; a greater --limit shows them."));
    }
    Ok(())
}

fn say(global: &Global, line: fmt::Arguments<'_>) {
    if !global.quiet {
        note(line);
    }
}

/// A file of the data directory.
#[derive(Debug, Serialize)]
struct FileRow {
    kind: &'static str,
    path: String,
    bytes: u64,
    what: String,
}

impl From<StoredFile> for FileRow {
    fn from(file: StoredFile) -> Self {
        Self { kind: file.kind.name(), path: file.path, bytes: file.bytes, what: content_text(file.content) }
    }
}

impl Row for FileRow {
    const TITLES: &'static [&'static str] = &["kind", "path", "bytes", "what"];

    fn cells(&self) -> Vec<String> {
        vec![self.kind.to_owned(), self.path.clone(), self.bytes.to_string(), self.what.clone()]
    }
}

fn content_text(content: Content) -> String {
    match content {
        Content::Format { log_id } => format!("log {log_id}"),
        Content::Doubt => "the storage has failed; the next start settles what it has lost".to_owned(),
        Content::Journal(journal) => journal_text(&journal),
        Content::FreeJournal => "free".to_owned(),
        Content::Checkpoint(checkpoint) => checkpoint_text(&checkpoint),
        Content::Producers { sequence, partitions, producers } => format!(
            "sequence {sequence}, {} in {}",
            counted(producers, "producer"),
            counted(partitions, "partition")
        ),
        Content::Segment(segment) => segment_text(&segment),
        Content::Blocks { partition, entries, damaged: 0 } => {
            format!("{partition}, {}", counted(entries, "block"))
        }
        Content::Blocks { partition, entries, damaged } => {
            format!("{partition}, {}, {damaged} of them damaged", counted(entries, "block"))
        }
        Content::Deleted => "deleted; it goes with the next checkpoint".to_owned(),
        Content::LostAndFound => "set aside by a start, because no durable record named it".to_owned(),
        Content::Reserve => "room for a checkpoint on a full disk".to_owned(),
        Content::Unfinished => "never finished; nothing reads it".to_owned(),
        Content::Unnamed => "no durable record names it".to_owned(),
        Content::Unreadable { why } => why,
    }
}

fn journal_text(journal: &JournalContent) -> String {
    let JournalContent { generation, start, capacity, groups, unverified } = journal;
    let groups = counted(*groups, "group");
    let mut text = format!(
        "generation {generation}, start {start}, capacity {capacity}, {groups} from the checkpoint on"
    );
    if let Some(position) = unverified {
        text.push_str(&format!(", position {position} does not verify"));
    }
    text
}

fn checkpoint_text(checkpoint: &CheckpointContent) -> String {
    let CheckpointContent { sequence, generation, position, .. } = checkpoint;
    let counts = [
        counted(checkpoint.topics, "topic"),
        counted(checkpoint.partitions, "partition"),
        counted(checkpoint.groups, "group"),
    ];
    let used = if checkpoint.is_used { "; a start uses it" } else { "" };
    format!("sequence {sequence}, generation {generation}, position {position}, {}{used}", counts.join(", "))
}

fn segment_text(segment: &SegmentContent) -> String {
    let partition = &segment.partition;
    let offsets = match &segment.offsets {
        Some(offsets) => format!("offsets {} to {}", offsets.start(), offsets.end()),
        None => "no offsets".to_owned(),
    };
    let batches = match segment.batches {
        1 => "1 batch".to_owned(),
        count => format!("{count} batches"),
    };
    let covered = match segment.covered {
        Some(bytes) => format!("{bytes} bytes covered by the checkpoint"),
        None => "no checkpoint".to_owned(),
    };
    let mut text = format!("{partition}, {offsets}, {batches}, {covered}");
    if segment.rest > 0 {
        text.push_str(&format!(", the last {} begin no batch", counted(segment.rest, "byte")));
    }
    text
}

/// A batch of a segment.
#[derive(Debug, Serialize)]
struct BatchRow {
    position: u64,
    base_offset: Option<i64>,
    last_offset: Option<i64>,
    events: Option<i32>,
    codec: Option<&'static str>,
    producer: Option<Producer>,
    newest: Option<String>,
    bytes: u64,
    checksum: &'static str,
}

/// Who has sent a batch.
#[derive(Debug, Serialize)]
struct Producer {
    id: i64,
    epoch: i16,
    sequence: i32,
}

impl Producer {
    fn of(header: &BatchHeader) -> Option<Self> {
        let BatchHeader { producer_id: id, producer_epoch: epoch, base_sequence: sequence, .. } = *header;
        header.has_producer().then_some(Self { id, epoch, sequence })
    }
}

impl From<&InspectedBatch> for BatchRow {
    fn from(batch: &InspectedBatch) -> Self {
        let header = batch.header.as_ref();
        Self {
            position: batch.position,
            base_offset: header.map(|header| header.base_offset),
            last_offset: header.map(BatchHeader::last_offset),
            events: header.map(|header| header.record_count),
            codec: header.and_then(|header| header.codec().ok()).map(Codec::name),
            producer: header.and_then(Producer::of),
            newest: header.and_then(|header| rfc3339(header.newest_timestamp())),
            bytes: batch.bytes,
            checksum: if batch.is_intact { "ok" } else { "damaged" },
        }
    }
}

impl Row for BatchRow {
    const TITLES: &'static [&'static str] = &[
        "position",
        "base offset",
        "last offset",
        "events",
        "codec",
        "producer/epoch/sequence",
        "newest",
        "bytes",
        "checksum",
    ];

    fn cells(&self) -> Vec<String> {
        let producer = self.producer.as_ref();
        let producer = producer.map(|from| format!("{}/{}/{}", from.id, from.epoch, from.sequence));
        vec![
            self.position.to_string(),
            or_dash(self.base_offset),
            or_dash(self.last_offset),
            or_dash(self.events),
            or_dash(self.codec),
            producer.unwrap_or_else(|| "none".to_owned()),
            or_dash(self.newest.clone()),
            self.bytes.to_string(),
            self.checksum.to_owned(),
        ]
    }
}

/// A group of the journal, or an entry of the group above it.
#[derive(Debug, Serialize)]
struct Line {
    position: u64,
    kind: &'static str,
    /// The durable mark; of groups only.
    synced: Option<u64>,
    /// How many follow; of groups only.
    entries: Option<u32>,
    bytes: u64,
    what: String,
}

impl From<&JournalRow> for Line {
    fn from(row: &JournalRow) -> Self {
        let (position, bytes, kind, what) = match row {
            JournalRow::Group(group) => return Self::of_group(group),
            JournalRow::Entry(entry) => {
                let (kind, what) = change_text(&entry.change);
                (entry.position, entry.bytes, kind, what)
            }
            JournalRow::Unverified { position, bytes } => {
                let what = "no group verifies here although one behind it does".to_owned();
                (*position, *bytes, "unverified", what)
            }
        };
        Self { position, kind, synced: None, entries: None, bytes, what }
    }
}

impl Line {
    fn of_group(group: &InspectedGroup) -> Self {
        let InspectedGroup { position, synced, bytes, entries, checkpoint, .. } = *group;
        let mut what = format!("written {}, checkpoint {checkpoint}", or_dash(rfc3339(group.written_ms)));
        if !group.is_intact {
            what.push_str("; its entries do not verify");
        }
        let kind = if group.is_seal { "seal" } else { "group" };
        Self { position, kind, synced: Some(synced), entries: Some(entries), bytes, what }
    }
}

impl Row for Line {
    const TITLES: &'static [&'static str] = &["position", "kind", "durable mark", "entries", "bytes", "what"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.position.to_string(),
            self.kind.to_owned(),
            or_dash(self.synced),
            or_dash(self.entries),
            self.bytes.to_string(),
            self.what.clone(),
        ]
    }
}

/// The kind of an entry in words, and what it names.
fn change_text(change: &InspectedChange) -> (&'static str, String) {
    match change {
        InspectedChange::Append(batches) => ("append", joined(batches.iter().map(batch_text), "; ")),
        InspectedChange::TopicCreated { name, partitions, configs, .. } => {
            let partitions = counted(u64::from(*partitions), "partition");
            ("topic created", format!("{name}, {partitions}{}", configs_text(configs)))
        }
        InspectedChange::TopicDeleted { id, name } => ("topic deleted", topic_text(name.as_ref(), id)),
        InspectedChange::TopicConfigured { id, name, configs } => {
            let topic = topic_text(name.as_ref(), id);
            ("topic configured", format!("{topic}{}", configs_text(configs)))
        }
        InspectedChange::PartitionsAdded { id, name, partitions } => {
            let (topic, more) = (topic_text(name.as_ref(), id), counted(u64::from(*partitions), "partition"));
            ("partitions added", format!("{topic}, {more} more"))
        }
        InspectedChange::SegmentCreated { partition, base_offset } => {
            ("segment created", format!("{partition}, base offset {base_offset}"))
        }
        InspectedChange::ProducerIds { next } => ("producer ids", format!("below {next} may be in use")),
        InspectedChange::OffsetsCommitted { group, offsets } => {
            let offsets = offsets.iter().map(|(partition, offset)| format!("{partition} at {offset}"));
            ("offsets committed", format!("{group}: {}", joined(offsets, ", ")))
        }
        InspectedChange::GroupStored { group, bytes } => {
            ("group stored", format!("{group}, {}", counted(*bytes, "byte")))
        }
        InspectedChange::OffsetsDeleted { group, partitions } => {
            ("offsets deleted", format!("{group}: {}", joined(partitions.iter(), ", ")))
        }
        InspectedChange::GroupDeleted { group } => ("group deleted", group.clone()),
        InspectedChange::RecordsDeleted { partition, start } => {
            ("records deleted", format!("{partition}, below offset {start}"))
        }
        InspectedChange::Ceiling { partition, ceiling } => {
            ("ceiling", format!("{partition}, offsets below {ceiling} may be seen"))
        }
        InspectedChange::SegmentsReplaced { partition, offsets, path, bytes } => {
            let last = offsets.end.saturating_sub(1);
            let text = format!("{partition}, offsets {} to {last} in {path}, ", offsets.start);
            ("segments replaced", text + &counted(*bytes, "byte"))
        }
        InspectedChange::GapAccepted { partition, offsets } => {
            let last = offsets.end.saturating_sub(1);
            ("gap accepted", format!("{partition}, offsets {} to {last}", offsets.start))
        }
    }
}

fn batch_text(batch: &AppendedBatch) -> String {
    let AppendedBatch { partition, base_offset, bytes } = batch;
    format!("{partition}, base offset {base_offset}, {}", counted(*bytes, "byte"))
}

fn topic_text(name: Option<&String>, id: &impl Display) -> String {
    name.map_or_else(|| format!("topic id {id}"), String::clone)
}

fn configs_text(configs: &BTreeMap<String, String>) -> String {
    configs.iter().map(|(name, value)| format!(", {name}={value}")).collect()
}

fn joined(parts: impl Iterator<Item = impl Display>, between: &str) -> String {
    parts.map(|part| part.to_string()).collect::<Vec<_>>().join(between)
}

fn use_text(used: &JournalUse) -> String {
    let JournalUse { generation, start, capacity, .. } = used;
    let free = if used.is_free { "; nothing in it is needed any more" } else { "" };
    let next = match used.next_generation {
        Some(next) => format!("; the journal goes on in generation {next}"),
        None => String::new(),
    };
    format!("Generation {generation}, start {start}, capacity {capacity}{next}{free}.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_may_be_given_as_the_shell_completes_it() {
        let data = Path::new("/var/lib/courant");
        for path in ["/var/lib/courant/journal/00000001.journal", "journal/00000001.journal"] {
            assert_eq!(inside(data, Path::new(path)), Ok("journal/00000001.journal".to_owned()));
        }
        assert_eq!(inside(data, Path::new("/etc/passwd")), Ok("/etc/passwd".to_owned()), "refused later");
    }

    #[test]
    fn what_was_sent_without_a_producer_id_has_none() {
        let batch = InspectedBatch { position: 64, bytes: 100, header: None, is_intact: false };
        let row = BatchRow::from(&batch);
        assert_eq!((row.checksum, row.cells()[5].as_str()), ("damaged", "none"));
        assert_eq!(row.cells().len(), BatchRow::TITLES.len());
    }
}
