//! Committing: whatever arrived during the last sync becomes durable together. Who does it and when is in
//! `committer`.
//!
//! Order: journal write, segment write, journal sync, make readable, advance the watermark,
//! acknowledge, wake; `docs/formats/journal.md` says why. An error of the storage ends the writer for
//! good: nothing that the group queued was ever visible, and a restart finds out what the disk holds.

mod answers;
mod files;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use self::answers::Answers;
use self::files::GroupFiles;
use crate::durability::Durability;
use crate::error::WriterError;
use crate::inner::Inner;
use crate::limits::{CONFIG_BYTES_MAX, CONFIGS_PER_TOPIC_MAX};
use crate::lock;
use crate::metrics::add;
use crate::partition::{Hint, Partition, Wakes};
use crate::planted::{Defect, is_planted};
use crate::queue::Command;
use crate::storage::StorageError;
use crate::writer::{AppendEffect, Effect, Writer};
use crate::{Appended, PartitionId};

/// A batch that readers are about to see.
struct Fresh {
    partition: Arc<Partition>,
    end_offset: u64,
    events: u64,
    bytes: u64,
    hint: Hint,
}

impl Inner {
    /// Commits one group of what waits. False when nothing did.
    pub(crate) fn commit(&self) -> bool {
        let bytes_max = lock(&self.writer).group_bytes_max();
        let commands = self.queue.take(bytes_max);
        if commands.is_empty() {
            return false;
        }
        let (commands, mut answers) = split_oversized(commands, bytes_max);
        let mut commands = VecDeque::from(self.split_by_space(commands, &mut answers));
        // One group, unless there are not enough files for all of it.
        loop {
            let mut wakes = Wakes::new();
            self.commit_some(&mut commands, &mut answers, &mut wakes);
            self.queue.answering();
            for answer in answers.drain() {
                call(|| answer.give());
            }
            if is_planted(Defect::AnswerBeforeSync) {
                let _ = lock(&self.writer).sync_journal(&*self.config.clock);
            }
            self.wake(wakes);
            if !self.config.background {
                self.write_back();
            }
            if commands.is_empty() {
                if self.turn.counts_as_idle() {
                    self.seal();
                }
                return true;
            }
            if self.is_closed() {
                // One of those who were answered has stopped the log: the directory may be another process's by now.
                commands.into_iter().for_each(|command| call(|| command.refuse(WriterError::Stopped)));
                return true;
            }
        }
    }

    /// Commits some of the commands, or all, or refuses those that nothing can be done for.
    fn commit_some(&self, commands: &mut VecDeque<Command>, answers: &mut Answers, wakes: &mut Wakes) {
        let bytes: usize = commands.iter().map(Command::group_bytes).sum();
        if let Err(error) = self.make_room(bytes) {
            answers.extend(commands.drain(..).map(|command| refuse_command(command, &error)));
            return;
        }
        if let Err(error) = self.commit_within_files(commands, answers, wakes) {
            // Only batches go to segments.
            let (appends, rest): (VecDeque<_>, VecDeque<_>) =
                commands.drain(..).partition(|command| matches!(command, Command::Append { .. }));
            *commands = rest;
            answers.extend(appends.into_iter().map(|command| refuse_command(command, &error)));
        }
    }

    /// Commits as many of the commands as there are files for; false when those are none.
    fn commit_group(
        &self,
        commands: &mut VecDeque<Command>,
        answers: &mut Answers,
        wakes: &mut Wakes,
    ) -> bool {
        let mut writer = lock(&self.writer);
        writer.group.clear();
        writer.needs = Durability::Os;
        let mut files = GroupFiles::default();
        let mut effects = Vec::with_capacity(commands.len());
        while let Some(command) = commands.pop_front() {
            if !self.has_file_for(&writer, &command, &mut files) {
                commands.push_front(command);
                break;
            }
            effects.push(writer.prepare(command, &*self.config.entropy));
        }
        if effects.is_empty() && !commands.is_empty() {
            return false;
        }
        let effects = answer_early(effects);
        match self.write_group(&mut writer, &effects, &mut files) {
            Ok(()) => self.publish(&mut writer, effects, answers, wakes),
            Err(error) => {
                // Before the lock is given back: no checkpoint may take what was queued for committed.
                let ended = self.end(&error);
                answers.extend(effects.into_iter().map(|effect| refuse(effect, ended.clone())));
            }
        }
        writer.group.end();
        self.ask_for_maintenance(&mut writer);
        true
    }

    /// Answers what makes the log grow when the segments could not take it and leave the reserve
    /// free; deletions and ids go on. Journal files were filled at their creation and need no space.
    fn split_by_space(&self, commands: Vec<Command>, answers: &mut Answers) -> Vec<Command> {
        let bytes: usize = commands.iter().filter(|command| command.grows()).map(Command::group_bytes).sum();
        if bytes == 0 || self.room.covers(bytes as u64, || self.config.clock.elapsed_ms()) {
            return commands;
        }
        let needed_bytes = self.config.reserve_bytes + bytes as u64;
        let free = self.storage.free_bytes();
        let spare_bytes = free.as_ref().map_or(0, |free_bytes| free_bytes.saturating_sub(needed_bytes));
        self.room.looked(spare_bytes, || self.config.clock.elapsed_ms());
        let error = match free {
            Ok(free_bytes) if free_bytes < needed_bytes => WriterError::DiskFull { free_bytes, needed_bytes },
            // What cannot be measured is not held against anyone: the write itself will tell.
            _ => {
                self.set_full(None);
                return commands;
            }
        };
        self.set_full(Some(&error));
        let (growing, rest): (Vec<_>, Vec<_>) = commands.into_iter().partition(Command::grows);
        answers.extend(growing.into_iter().map(|command| refuse_command(command, &error)));
        rest
    }

    /// Sees to it that the current journal file can take a group of `bytes`.
    fn make_room(&self, bytes: usize) -> Result<(), WriterError> {
        self.check_whole()?;
        let group_bytes = crate::journal::group_bytes(bytes);
        let mut waited: Option<Instant> = None;
        loop {
            {
                let mut writer = lock(&self.writer);
                if writer.journal.room() >= group_bytes {
                    break;
                }
                if writer.journal.is_behind() {
                    // A file's header vouches for everything before it.
                    writer.sync_journal(&*self.config.clock).map_err(|error| self.end(&error))?;
                    add(&self.counters.syncs, 1);
                }
                let salt = self.config.entropy.uuid().as_u128() as u64;
                match writer.journal.switch(salt) {
                    Ok(true) => continue,
                    Ok(false) => {
                        // As long as it lacks files it is these that are waited for.
                        let is_whole = writer.journal.files() >= self.config.journal_files;
                        writer.ran_dry |= is_whole;
                    }
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
            self.counters.journal_wait_longest_us.fetch_max(micros, std::sync::atomic::Ordering::Relaxed);
        }
        Ok(())
    }

    fn write_group(
        &self,
        writer: &mut Writer,
        effects: &[Effect],
        files: &mut GroupFiles,
    ) -> Result<(), StorageError> {
        self.turn.wrote_group(writer.group.is_empty());
        if writer.group.is_empty() {
            // All of it is refused, or was there before. The log is not idle for that, and seals it only behind some
            // such groups: events of the class `interval` wait for the disk no longer than behind others.
            if writer.is_interval_over(&*self.config.clock) {
                writer.sync_journal(&*self.config.clock)?;
                add(&self.counters.syncs, 1);
            }
            return Ok(());
        }
        let now_ms = self.config.clock.now_ms();
        writer.journal.write(&mut writer.group, writer.needs, now_ms)?;
        self.write_segments(writer, effects, files)?;
        add(&self.counters.groups, 1);
        let is_due = writer.is_sync_due(&*self.config.clock);
        publish_early(effects);
        if is_due && !is_planted(Defect::AnswerBeforeSync) {
            writer.sync_journal(&*self.config.clock)?;
            add(&self.counters.syncs, 1);
        }
        Ok(())
    }

    fn write_segments(
        &self,
        writer: &mut Writer,
        effects: &[Effect],
        files: &mut GroupFiles,
    ) -> Result<(), StorageError> {
        let mut appends: Vec<&AppendEffect> = Vec::with_capacity(effects.len());
        appends.extend(effects.iter().filter_map(|effect| match effect {
            Effect::Appended(append) => Some(append),
            _ => None,
        }));
        // A partition's batches of one group stand one behind the other in at most a few segments.
        // In order, so that the same appends make the same calls; a segment's stay as they came.
        appends.sort_by_key(|append| append.segment.key());
        for appends in appends.chunk_by(|one, next| one.segment.key() == next.segment.key()) {
            writer.write_appends(&*self.storage, &self.handles, appends, |key| files.take(key))?;
        }
        Ok(())
    }

    fn publish(&self, writer: &mut Writer, effects: Vec<Effect>, answers: &mut Answers, wakes: &mut Wakes) {
        let mut fresh = Vec::with_capacity(effects.len());
        let mut catalog_changed = false;
        let mut requests_checkpoint = false;
        answers.reserve(effects.len());
        for effect in effects {
            match effect {
                Effect::Appended(append) => fresh.push(publish_append(append, answers)),
                Effect::Duplicate { base_offset, partition, done } => {
                    add(&self.counters.duplicates, 1);
                    answers.appended(partition, base_offset, done);
                }
                Effect::Created { topic, partitions, done } => {
                    catalog_changed = true;
                    self.publish_partitions(partitions);
                    answers.push(Box::new(move || done(Ok(topic))));
                }
                Effect::Changed { topic, partitions, done } => {
                    catalog_changed = true;
                    self.publish_partitions(partitions);
                    answers.push(Box::new(move || done(Ok(topic))));
                }
                Effect::Deleted { topic, done } => {
                    catalog_changed = true;
                    requests_checkpoint = true;
                    self.unpublish(&topic.partitions, wakes);
                    self.groups.write().unwrap_or_else(PoisonError::into_inner).forget(&topic.partitions);
                    answers.push(Box::new(move || done(Ok(()))));
                }
                Effect::RecordsDeleted { partition, start, done } => {
                    let dropped = writer.drop_segments(&partition, start);
                    requests_checkpoint |= !dropped.is_empty();
                    self.handles.forget_segments(&dropped);
                    answers.push(Box::new(move || done(Ok(start))));
                }
                Effect::SegmentsReplaced { partition, end_offset, product, done } => {
                    let replaced = writer.apply_replaced(&partition, end_offset, product);
                    requests_checkpoint = true;
                    self.handles.forget_segments(&replaced.unwrap_or_default());
                    answers.push(Box::new(move || done(Ok(()))));
                }
                Effect::GroupChanged { name, change, done } => {
                    self.groups.write().unwrap_or_else(PoisonError::into_inner).apply(&name, change);
                    answers.push(Box::new(move || done(Ok(()))));
                }
                Effect::GapAccepted { partition, offsets, done } => {
                    partition.accept_gap(offsets);
                    answers.push(Box::new(move || done(Ok(()))));
                }
                Effect::ProducerId { id, done } => answers.push(Box::new(move || done(Ok(id)))),
                Effect::Answer(answer) => answers.push(Box::new(move || answer(Ok(())))),
            }
        }
        self.count_appended(&fresh);
        make_visible(fresh, wakes);
        if catalog_changed {
            self.set_catalog(writer.catalog.clone());
            // A topic may keep its events for a shorter time than any other.
            self.maintenance.notify();
        }
        if requests_checkpoint {
            self.request_checkpoint();
        }
    }

    /// Counts the batches of a group, once for all of them.
    fn count_appended(&self, fresh: &[Fresh]) {
        add(&self.counters.appends, fresh.len() as u64);
        add(&self.counters.appended_events, fresh.iter().map(|batch| batch.events).sum());
        add(&self.counters.appended_bytes, fresh.iter().map(|batch| batch.bytes).sum());
    }

    fn publish_partitions(&self, partitions: Vec<Arc<Partition>>) {
        let mut shared = self.partitions.write().unwrap_or_else(PoisonError::into_inner);
        shared.extend(partitions.into_iter().map(|partition| (partition.id, partition)));
    }

    fn unpublish(&self, partitions: &[PartitionId], wakes: &mut Wakes) {
        let mut shared = self.partitions.write().unwrap_or_else(PoisonError::into_inner);
        for id in partitions {
            if let Some(partition) = shared.remove(id) {
                partition.take_waiters(true, wakes);
            }
            self.handles.forget(*id);
        }
    }

    /// Writes and syncs an empty group that vouches for everything before it, so that damage to the
    /// last acknowledged group cannot pass for a torn tail. False when there was no room for it.
    pub(crate) fn seal(&self) -> bool {
        if self.check_whole().is_err() || lock(&self.writer).journal.sealed() {
            return true;
        }
        if self.make_room(0).is_err() {
            return false;
        }
        let mut writer = lock(&self.writer);
        if self.is_closed() {
            return true;
        }
        writer.group.clear();
        let now_ms = self.config.clock.now_ms();
        // A seal vouches for what was synced before it is written.
        let behind = writer.journal.is_behind();
        let synced = if behind { writer.sync_journal(&*self.config.clock) } else { Ok(()) };
        let Writer { journal, group, .. } = &mut *writer;
        let sealed = synced
            .and_then(|()| journal.write(group, Durability::Sync, now_ms))
            .and_then(|()| journal.sync());
        add(&self.counters.syncs, 1 + u64::from(behind));
        writer.group.give_back();
        self.buffers.give_back();
        if let Err(error) = sealed {
            self.end(&error);
        }
        true
    }

    pub(crate) fn wake(&self, wakes: Wakes) {
        for waiter in wakes {
            // Counted first: who is woken may look.
            call(|| waiter.fire(|| add(&self.counters.wakes, 1)));
        }
    }
}

/// Lets readers see what a batch adds to its segment, and prepares its answer.
fn publish_append(append: AppendEffect, answers: &mut Answers) -> Fresh {
    let bytes = append.stored.len() as u64;
    append.segment.publish(append.position + bytes, append.max_timestamp);
    let hint = Hint { offset: append.base_offset, segment: append.segment.key(), position: append.position };
    let AppendEffect { partition, base_offset, end_offset, events, done, .. } = append;
    answers.appended(partition.clone(), base_offset, done);
    Fresh { partition, end_offset, events, bytes, hint }
}

/// Lets readers see the batches of a group, each partition's together.
fn make_visible(mut fresh: Vec<Fresh>, wakes: &mut Wakes) {
    // In order, so that the same appends wake in the same order; a partition's batches stay as they came.
    fresh.sort_by_key(|batch| batch.partition.id);
    for batches in fresh.chunk_by(|one, next| one.partition.id == next.partition.id) {
        let Some(Fresh { partition, end_offset, .. }) = batches.last() else { continue };
        let bytes = batches.iter().map(|batch| batch.bytes).sum();
        partition.publish(*end_offset, bytes, batches.iter().map(|batch| batch.hint), wakes);
    }
}

/// Nothing, but for a planted defect: answers repetitions before their originals are on disk.
fn answer_early(mut effects: Vec<Effect>) -> Vec<Effect> {
    if is_planted(Defect::DuplicateBeforeOriginal) {
        let repeats = effects.extract_if(.., |effect| matches!(effect, Effect::Duplicate { .. }));
        for effect in repeats.collect::<Vec<_>>() {
            if let Effect::Duplicate { base_offset, done, .. } = effect {
                done(Ok(Appended { base_offset, log_start: 0 }));
            }
        }
    }
    effects
}

/// Nothing, but for a planted defect: shows readers what is not on disk yet.
fn publish_early(effects: &[Effect]) {
    if !is_planted(Defect::PublishBeforeSync) {
        return;
    }
    for effect in effects {
        if let Effect::Appended(append) = effect {
            append.segment.publish(append.position + append.stored.len() as u64, append.max_timestamp);
            append.partition.publish(append.end_offset, 0, [], &mut Wakes::new());
        }
    }
}

/// Calls back. Whoever panics there hurts only itself: the others are still answered.
fn call(callback: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(callback)).is_err() {
        tracing::error!("a callback of the log panicked, which is a defect of its owner");
    }
}

/// What no journal file can take is refused here, before it touches any state.
fn split_oversized(commands: Vec<Command>, bytes_max: usize) -> (Vec<Command>, Answers) {
    // Nearly always: then nothing is moved.
    if commands.iter().all(|command| command.group_bytes() <= bytes_max) {
        return (commands, Answers::default());
    }
    let max = bytes_max.saturating_sub(crate::journal::GROUP_OVERHEAD_BYTES);
    let mut answers = Answers::default();
    let mut fitting = Vec::with_capacity(commands.len());
    for command in commands {
        if command.group_bytes() <= bytes_max {
            fitting.push(command);
            continue;
        }
        match command {
            Command::Append { batch, done, .. } => {
                let bytes = batch.bytes().len();
                answers.push(Box::new(move || done(Err(crate::AppendError::TooLarge { bytes, max }))));
            }
            Command::ChangeGroup { change, done, .. } => {
                let bytes = change.bytes();
                answers.push(Box::new(move || done(Err(crate::GroupError::TooLarge { bytes, max }))));
            }
            Command::CreateTopic { done, .. } => {
                let (max_count, max_bytes) = (CONFIGS_PER_TOPIC_MAX, CONFIG_BYTES_MAX);
                let error = crate::CreateTopicError::Configs { max_count, max_bytes };
                answers.push(Box::new(move || done(Err(error))));
            }
            small => fitting.push(small),
        }
    }
    (fitting, answers)
}

fn refuse_command(command: Command, error: &WriterError) -> Box<dyn FnOnce() + Send> {
    let error = error.clone();
    Box::new(move || command.refuse(error))
}

fn refuse(effect: Effect, error: WriterError) -> Box<dyn FnOnce() + Send> {
    match effect {
        Effect::Appended(AppendEffect { done, .. }) | Effect::Duplicate { done, .. } => {
            Box::new(move || done(Err(error.into())))
        }
        Effect::Created { done, .. } => Box::new(move || done(Err(error.into()))),
        Effect::Changed { done, .. } => Box::new(move || done(Err(error))),
        Effect::Deleted { done, .. } => Box::new(move || done(Err(error.into()))),
        Effect::RecordsDeleted { done, .. } => Box::new(move || done(Err(error.into()))),
        Effect::GroupChanged { done, .. } => Box::new(move || done(Err(error.into()))),
        Effect::SegmentsReplaced { done, .. } => Box::new(move || done(Err(error.into()))),
        Effect::GapAccepted { done, .. } => Box::new(move || done(Err(error.into()))),
        Effect::ProducerId { done, .. } => Box::new(move || done(Err(error))),
        Effect::Answer(answer) => Box::new(move || answer(Err(error))),
    }
}
