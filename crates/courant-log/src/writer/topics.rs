//! Topics in the queued state: created, altered, deleted. Recovery applies the same changes from the
//! entries that it reads.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use uuid::Uuid;

use super::{Effect, Writer};
use crate::PartitionId;
use crate::catalog::{NewTopic, Topic};
use crate::durability::PartitionRules;
use crate::error::{AddPartitionsError, AlterTopicError, CreateTopicError, DeleteTopicError};
use crate::journal::EntryWriter;
use crate::limits::{
    CONFIG_BYTES_MAX, CONFIGS_PER_TOPIC_MAX, PARTITIONS_MAX, PARTITIONS_PER_TOPIC_MAX,
    TOPIC_CONFIGS_BYTES_MAX,
};
use crate::partition::{Offsets, Partition, Producers, Tail};
use crate::queue::Done;
use crate::segment::{Segment, SegmentHeader};

impl Writer {
    pub(super) fn create_topic(
        &mut self,
        new: NewTopic,
        id: Uuid,
        done: Done<Arc<Topic>, CreateTopicError>,
    ) -> Effect {
        if let Err(error) = self.check_new(&new) {
            return Effect::answer(done, Err(error));
        }
        let first = PartitionId(self.next_partition);
        let name = new.name.as_str();
        EntryWriter(&mut self.group).topic_created(id, name, &new.configs, first, new.partitions);
        let generation = self.journal.generation();
        let (topic, partitions) =
            self.apply_topic_created(id, name, new.configs, first, new.partitions, generation);
        Effect::Created { topic, partitions, done }
    }

    fn check_new(&self, new: &NewTopic) -> Result<(), CreateTopicError> {
        if self.catalog.by_name(new.name.as_str()).is_some() {
            return Err(CreateTopicError::Exists);
        }
        let max = self.partitions_max(0);
        if new.partitions == 0 || new.partitions > max {
            return Err(CreateTopicError::Partitions { got: new.partitions, max });
        }
        if !are_bounded(&new.configs) {
            return Err(CreateTopicError::Configs {
                max_count: CONFIGS_PER_TOPIC_MAX,
                max_bytes: CONFIG_BYTES_MAX,
            });
        }
        Ok(())
    }

    /// How many partitions a topic that has `have` can have.
    fn partitions_max(&self, have: u32) -> u32 {
        let all = u32::try_from(self.tails.len()).unwrap_or(u32::MAX);
        PARTITIONS_PER_TOPIC_MAX.min(PARTITIONS_MAX.saturating_sub(all).saturating_add(have))
    }

    /// Adds a topic to the queued state; recovery does the same with the entry that it reads.
    pub(crate) fn apply_topic_created(
        &mut self,
        id: Uuid,
        name: &str,
        configs: BTreeMap<String, String>,
        first: PartitionId,
        count: u32,
        generation: u64,
    ) -> (Arc<Topic>, Vec<Arc<Partition>>) {
        let ids = first.0..first.0 + u64::from(count);
        let partitions = self.begin_partitions(ids.clone(), PartitionRules::of(&configs), generation);
        let partition_ids = ids.map(PartitionId).collect();
        let topic = Arc::new(Topic { id, name: name.to_owned(), partitions: partition_ids, configs });
        self.catalog.insert(topic.clone());
        (topic, partitions)
    }

    /// Partitions with one empty segment each.
    fn begin_partitions(
        &mut self,
        ids: Range<u64>,
        rules: PartitionRules,
        generation: u64,
    ) -> Vec<Arc<Partition>> {
        self.next_partition = ids.end;
        let begin = |id: u64| {
            let partition = PartitionId(id);
            let header =
                SegmentHeader { log_id: self.log_id, partition, base_offset: 0, generation, number: 0 };
            let segment = Arc::new(Segment::new(header));
            let offsets = Offsets { start: 0, high_watermark: 0 };
            let shared = Arc::new(Partition::new(partition, offsets, vec![segment.clone()]));
            let tail = Tail::new(shared.clone(), 0, segment, Producers::default(), rules);
            self.tails.insert(partition, tail);
            shared
        };
        ids.map(begin).collect()
    }

    pub(super) fn alter_topic(
        &mut self,
        id: Uuid,
        seen: Option<&Topic>,
        changes: Vec<(String, Option<String>)>,
        done: Done<Arc<Topic>, AlterTopicError>,
    ) -> Effect {
        let Some(topic) = self.catalog.by_id(&id) else {
            return Effect::answer(done, Err(AlterTopicError::Unknown));
        };
        // As queued, not as readers see them: what stands before this in the group counts.
        if seen.is_some_and(|seen| seen.configs != topic.configs) {
            let now = topic.clone();
            return Effect::answer(done, Err(AlterTopicError::Changed { now }));
        }
        let mut configs = topic.configs.clone();
        for (name, value) in changes {
            match value {
                Some(value) => configs.insert(name, value),
                None => configs.remove(&name),
            };
        }
        if !are_bounded(&configs) {
            let (max_count, max_bytes) = (CONFIGS_PER_TOPIC_MAX, CONFIG_BYTES_MAX);
            let error = AlterTopicError::Configs { max_count, max_bytes };
            return Effect::answer(done, Err(error));
        }
        EntryWriter(&mut self.group).topic_configured(id, &configs);
        match self.apply_topic_configured(&id, configs) {
            Some(topic) => Effect::Changed {
                topic,
                partitions: Vec::new(),
                done: Box::new(move |changed| done(changed.map_err(AlterTopicError::from))),
            },
            None => Effect::answer(done, Err(AlterTopicError::Unknown)),
        }
    }

    /// Sets all configs of a topic; segments that begin from now on follow them.
    pub(crate) fn apply_topic_configured(
        &mut self,
        id: &Uuid,
        configs: BTreeMap<String, String>,
    ) -> Option<Arc<Topic>> {
        let topic = self.catalog.by_id(id)?;
        let rules = PartitionRules::of(&configs);
        let topic = Arc::new(Topic { configs, ..(**topic).clone() });
        for partition in &topic.partitions {
            if let Some(tail) = self.tails.get_mut(partition) {
                tail.rules = rules;
                if !rules.durability.is_relaxed() {
                    // This entry is synced, and everything before it.
                    tail.ceiling = 0;
                }
            }
        }
        self.catalog.insert(topic.clone());
        Some(topic)
    }

    pub(super) fn add_partitions(
        &mut self,
        id: Uuid,
        total: u32,
        done: Done<Arc<Topic>, AddPartitionsError>,
    ) -> Effect {
        let added = self.check_more(&id, total).and_then(|count| {
            let first = PartitionId(self.next_partition);
            let generation = self.journal.generation();
            EntryWriter(&mut self.group).partitions_added(id, first, count);
            self.apply_partitions_added(&id, first, count, generation).ok_or(AddPartitionsError::Unknown)
        });
        match added {
            Ok((topic, partitions)) => Effect::Changed {
                topic,
                partitions,
                done: Box::new(move |changed| done(changed.map_err(AddPartitionsError::from))),
            },
            Err(error) => Effect::answer(done, Err(error)),
        }
    }

    /// How many partitions a topic lacks to have `total`.
    fn check_more(&self, id: &Uuid, total: u32) -> Result<u32, AddPartitionsError> {
        let topic = self.catalog.by_id(id).ok_or(AddPartitionsError::Unknown)?;
        let have = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
        let max = self.partitions_max(have);
        match total {
            _ if total <= have => Err(AddPartitionsError::NotMore { have }),
            _ if total > max => Err(AddPartitionsError::TooMany { max }),
            _ => Ok(total - have),
        }
    }

    /// Adds partitions to a topic.
    pub(crate) fn apply_partitions_added(
        &mut self,
        id: &Uuid,
        first: PartitionId,
        count: u32,
        generation: u64,
    ) -> Option<(Arc<Topic>, Vec<Arc<Partition>>)> {
        let mut topic = Topic::clone(self.catalog.by_id(id)?);
        let ids = first.0..first.0 + u64::from(count);
        topic.partitions.extend(ids.clone().map(PartitionId));
        let topic = Arc::new(topic);
        let partitions = self.begin_partitions(ids, PartitionRules::of(&topic.configs), generation);
        self.catalog.insert(topic.clone());
        Some((topic, partitions))
    }

    pub(super) fn delete_topic(&mut self, id: Uuid, done: Done<(), DeleteTopicError>) -> Effect {
        let Some(topic) = self.apply_topic_deleted(&id) else {
            return Effect::answer(done, Err(DeleteTopicError::Unknown));
        };
        EntryWriter(&mut self.group).topic_deleted(id);
        Effect::Deleted { topic, done }
    }

    /// Removes a topic from the queued state. Its files go once a checkpoint covers the deletion.
    pub(crate) fn apply_topic_deleted(&mut self, id: &Uuid) -> Option<Arc<Topic>> {
        let topic = self.catalog.remove(id)?;
        let gone: BTreeSet<_> = topic.partitions.iter().copied().collect();
        self.tails.retain(|partition, _| !gone.contains(partition));
        self.dirty.retain(|segment, _| !gone.contains(&segment.partition));
        self.new_names.retain(|partition| !gone.contains(partition));
        self.deleted_segments.retain(|segment| !gone.contains(&segment.partition));
        self.deleted.extend(gone);
        Some(topic)
    }
}

fn are_bounded(configs: &BTreeMap<String, String>) -> bool {
    let texts = || configs.iter().flat_map(|(name, value)| [name.len(), value.len()]);
    configs.len() <= CONFIGS_PER_TOPIC_MAX
        && texts().all(|bytes| bytes <= CONFIG_BYTES_MAX)
        && texts().sum::<usize>() <= TOPIC_CONFIGS_BYTES_MAX
}
