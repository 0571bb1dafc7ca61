//! The committer: one loop that makes whatever arrived during the last sync durable together.
//!
//! Order (LOG.md 9): journal write, segment write, journal sync, make readable, advance the
//! watermark, acknowledge, wake. An error of the storage ends the writer for good: nothing that the
//! group queued was ever visible, and a restart finds out what the disk holds.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::error::WriterError;
use crate::inner::Inner;
use crate::limits::SEAL_AFTER_IDLE_MS;
use crate::lock;
use crate::metrics::add;
use crate::partition::{Hint, Partition, Published, Wakes};
use crate::queue::{Command, Woken};
use crate::segment::WrittenBatch;
use crate::storage::StorageError;
use crate::writer::{AppendEffect, Effect, Writer};
use crate::{Appended, PartitionId};

type Answers = Vec<Box<dyn FnOnce() + Send>>;

impl Inner {
    /// The committer's thread.
    pub(crate) fn run_committer(&self) {
        loop {
            let sealed = lock(&self.writer).journal.sealed();
            let idle_after = (!sealed).then(|| Duration::from_millis(SEAL_AFTER_IDLE_MS));
            match self.queue.wait(idle_after) {
                Woken::Work => {
                    self.commit();
                }
                Woken::Idle => self.seal(),
                Woken::Stop => return,
            }
        }
    }

    /// Commits one group of what waits. False when nothing did.
    pub(crate) fn commit(&self) -> bool {
        let bytes_max = lock(&self.writer).group_bytes_max();
        let (mut commands, bytes) = self.queue.take(bytes_max);
        if commands.is_empty() {
            return false;
        }
        if let Err(error) = self.check_space(bytes) {
            commands = refuse_growth(commands, &error);
        }
        if let Err(error) = self.make_room(bytes) {
            for command in commands {
                command.refuse(error.clone());
            }
            return true;
        }
        let mut answers = Answers::new();
        let mut wakes = Wakes::new();
        {
            let mut writer = lock(&self.writer);
            let (commands, oversized) = split_oversized(commands, bytes_max);
            answers.extend(oversized);
            let effects: Vec<_> = commands
                .into_iter()
                .map(|command| writer.prepare(command, &*self.config.entropy))
                .collect();
            match self.write_group(&mut writer, &effects) {
                Ok(()) => self.publish(&mut writer, effects, &mut answers, &mut wakes),
                Err(error) => {
                    let ended = self.end(&error);
                    answers.extend(
                        effects
                            .into_iter()
                            .map(|effect| refuse(effect, ended.clone())),
                    );
                }
            }
            writer.group.clear();
            self.ask_for_maintenance(&writer);
        }
        for answer in answers {
            answer();
        }
        self.wake(wakes);
        true
    }

    /// Says whether the segments can take `bytes` and leave the reserve free. Journal files were
    /// filled at their creation and need no space.
    fn check_space(&self, bytes: usize) -> Result<(), WriterError> {
        let needed_bytes = self.config.reserve_bytes + bytes as u64;
        match self.storage.free_bytes() {
            Ok(free_bytes) if free_bytes < needed_bytes => Err(WriterError::DiskFull {
                free_bytes,
                needed_bytes,
            }),
            // What cannot be measured is not held against anyone: the write itself will tell.
            _ => Ok(()),
        }
    }

    /// Sees to it that the current journal file can take a group of `bytes`.
    fn make_room(&self, bytes: usize) -> Result<(), WriterError> {
        self.check_ended()?;
        let group_bytes = crate::journal::group_bytes(bytes);
        let mut waited: Option<Instant> = None;
        loop {
            {
                let mut writer = lock(&self.writer);
                if writer.journal.room() >= group_bytes {
                    break;
                }
                let salt = self.config.entropy.uuid().as_u128() as u64;
                match writer.journal.switch(salt) {
                    Ok(true) => break,
                    Ok(false) => {}
                    Err(error) => return Err(self.end(&error)),
                }
            }
            waited.get_or_insert_with(|| {
                add(&self.counters.journal_waits, 1);
                Instant::now()
            });
            self.wait_for_journal_file()?;
        }
        if let Some(since) = waited {
            let micros = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.counters
                .journal_wait_longest_us
                .fetch_max(micros, std::sync::atomic::Ordering::Relaxed);
        }
        Ok(())
    }

    fn write_group(&self, writer: &mut Writer, effects: &[Effect]) -> Result<(), StorageError> {
        if writer.group.is_empty() {
            return Ok(());
        }
        let now_ms = self.config.clock.now_ms();
        writer.journal.write(&mut writer.group, now_ms)?;
        self.write_segments(writer, effects)?;
        writer.journal.sync()?;
        add(&self.counters.groups, 1);
        add(&self.counters.syncs, 1);
        Ok(())
    }

    fn write_segments(&self, writer: &mut Writer, effects: &[Effect]) -> Result<(), StorageError> {
        // A partition's batches of one group stand one behind the other in at most a few segments.
        let mut by_segment: HashMap<(PartitionId, u64), Vec<&AppendEffect>> = HashMap::new();
        for effect in effects {
            if let Effect::Appended(append) = effect {
                let key = (append.partition.id, append.segment.header.base_offset);
                by_segment.entry(key).or_default().push(append);
            }
        }
        for (key, appends) in by_segment {
            let segment = &appends[0].segment;
            let batches: Vec<_> = appends
                .iter()
                .map(|append| WrittenBatch {
                    offset: append.base_offset,
                    max_timestamp: append.max_timestamp,
                    bytes: &writer.group.bytes()[append.stored.clone()],
                })
                .collect();
            if segment.write(&*self.storage, &self.handles, &batches)? {
                writer.new_names.insert(key.0);
            }
            writer.dirty.insert(key, segment.clone());
        }
        Ok(())
    }

    fn publish(
        &self,
        writer: &mut Writer,
        effects: Vec<Effect>,
        answers: &mut Answers,
        wakes: &mut Wakes,
    ) {
        let mut published: HashMap<PartitionId, (std::sync::Arc<Partition>, Published)> =
            HashMap::new();
        let mut catalog_changed = false;
        let mut requests_checkpoint = false;
        for effect in effects {
            match effect {
                Effect::Appended(append) => {
                    self.publish_append(append, &mut published, answers);
                }
                Effect::Duplicate {
                    base_offset,
                    partition,
                    done,
                } => {
                    add(&self.counters.duplicates, 1);
                    let log_start = partition.offsets().start;
                    answers.push(Box::new(move || {
                        done(Ok(Appended {
                            base_offset,
                            log_start,
                        }))
                    }));
                }
                Effect::Created {
                    topic,
                    partitions,
                    done,
                } => {
                    catalog_changed = true;
                    let mut shared = self
                        .partitions
                        .write()
                        .unwrap_or_else(std::sync::PoisonError::into_inner);
                    shared.extend(
                        partitions
                            .into_iter()
                            .map(|partition| (partition.id, partition)),
                    );
                    answers.push(Box::new(move || done(Ok(topic))));
                }
                Effect::Deleted { topic, done } => {
                    catalog_changed = true;
                    requests_checkpoint = true;
                    self.unpublish(&topic.partitions, wakes);
                    answers.push(Box::new(move || done(Ok(()))));
                }
                Effect::ProducerId { id, done } => answers.push(Box::new(move || done(Ok(id)))),
                Effect::Answer(answer) => answers.push(answer),
            }
        }
        for (partition, published) in published.into_values() {
            partition.publish(published, wakes);
        }
        if catalog_changed {
            self.set_catalog(writer.catalog.clone());
        }
        if requests_checkpoint {
            self.request_checkpoint();
        }
    }

    fn publish_append(
        &self,
        append: AppendEffect,
        published: &mut HashMap<PartitionId, (std::sync::Arc<Partition>, Published)>,
        answers: &mut Answers,
    ) {
        let bytes = append.stored.len() as u64;
        append.segment.publish(append.position + bytes);
        add(&self.counters.appends, 1);
        add(&self.counters.appended_events, append.events);
        add(&self.counters.appended_bytes, bytes);
        let fresh = || {
            let published = Published {
                high_watermark: 0,
                bytes: 0,
                batches: Vec::new(),
            };
            (append.partition.clone(), published)
        };
        let (_, published) = published.entry(append.partition.id).or_insert_with(fresh);
        published.high_watermark = append.end_offset;
        published.bytes += bytes;
        published.batches.push(Hint {
            offset: append.base_offset,
            base_offset: append.segment.header.base_offset,
            position: append.position,
        });
        let AppendEffect {
            partition,
            base_offset,
            done,
            ..
        } = append;
        answers.push(Box::new(move || {
            let log_start = partition.offsets().start;
            done(Ok(Appended {
                base_offset,
                log_start,
            }));
        }));
    }

    fn unpublish(&self, partitions: &[PartitionId], wakes: &mut Wakes) {
        let mut shared = self
            .partitions
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        for id in partitions {
            if let Some(partition) = shared.remove(id) {
                partition.take_waiters(true, wakes);
            }
            self.handles.forget(*id);
        }
    }

    /// Writes and syncs an empty group that vouches for everything before it, so that damage to the
    /// last acknowledged group cannot pass for a torn tail.
    pub(crate) fn seal(&self) {
        if self.check_ended().is_err() || lock(&self.writer).journal.sealed() {
            return;
        }
        if self.make_room(0).is_err() {
            return;
        }
        let mut writer = lock(&self.writer);
        writer.group.clear();
        let now_ms = self.config.clock.now_ms();
        let Writer { journal, group, .. } = &mut *writer;
        let sealed = journal.write(group, now_ms).and_then(|()| journal.sync());
        add(&self.counters.syncs, 1);
        writer.group.clear();
        if let Err(error) = sealed {
            self.end(&error);
        }
    }

    pub(crate) fn wake(&self, wakes: Wakes) {
        for waiter in wakes {
            if waiter.fire() {
                add(&self.counters.wakes, 1);
            }
        }
    }
}

/// Answers everything that makes the log grow with `error`; deletions and ids go on.
fn refuse_growth(commands: Vec<Command>, error: &WriterError) -> Vec<Command> {
    let grows = |command: &Command| {
        matches!(
            command,
            Command::Append { .. } | Command::CreateTopic { .. }
        )
    };
    let (growing, rest): (Vec<_>, Vec<_>) = commands.into_iter().partition(grows);
    for command in growing {
        command.refuse(error.clone());
    }
    rest
}

/// Appends that no journal file can take are refused here, before they touch any state.
fn split_oversized(commands: Vec<Command>, bytes_max: usize) -> (Vec<Command>, Answers) {
    let max = bytes_max.saturating_sub(crate::journal::GROUP_OVERHEAD_BYTES);
    let mut answers = Answers::new();
    let mut fitting = Vec::with_capacity(commands.len());
    for command in commands {
        match command {
            Command::Append { batch, done, .. } if batch.bytes().len() > max => {
                let bytes = batch.bytes().len();
                answers.push(Box::new(move || {
                    done(Err(crate::AppendError::TooLarge { bytes, max }))
                }));
            }
            command => fitting.push(command),
        }
    }
    (fitting, answers)
}

fn refuse(effect: Effect, error: WriterError) -> Box<dyn FnOnce() + Send> {
    match effect {
        Effect::Appended(AppendEffect { done, .. }) | Effect::Duplicate { done, .. } => {
            Box::new(move || done(Err(error.into())))
        }
        Effect::Created { done, .. } => Box::new(move || done(Err(error.into()))),
        Effect::Deleted { done, .. } => Box::new(move || done(Err(error.into()))),
        Effect::ProducerId { done, .. } => Box::new(move || done(Err(error))),
        Effect::Answer(answer) => answer,
    }
}
