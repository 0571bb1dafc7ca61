//! Publishing one record, as a task does that awaits each of its events.
//!
//! It comes to the same as a call with many of which there is one. But lanes, runs and rounds are lists of one then,
//! and to make and drop them takes longer than all that is done with the record. So it is placed, encoded and handed
//! over in one go, and what is kept until the answer is small.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use courant_log::{Codec, PartitionId, Topic};

use super::{
    Answered, Encoded, Outcome, Place, Rules, Shared, append, encode, landed, new_record, publish_many,
};
use crate::{NewRecord, Partition, Position, PublishError};

/// What has become of a record before anything was awaited.
enum Begun {
    /// It is refused.
    Refused(PublishError),
    /// The log has it.
    Sent { partition: Partition, bytes: usize, answered: Answered },
    /// It is compressed on another thread, as many are.
    AsMany(Vec<NewRecord>),
}

/// Where the record goes.
struct Target {
    rules: Rules,
    number: u32,
    id: PartitionId,
}

/// As [`super::publish`], best for one record.
pub(super) async fn publish(shared: &Shared, records: Vec<NewRecord>) -> Vec<Outcome> {
    match begin(shared, records) {
        Begun::Refused(error) => vec![Err(error)],
        Begun::Sent { partition, bytes, answered } => {
            let appended = landed(shared, &partition.topic, bytes, answered).await;
            vec![appended.map(|appended| Position { partition, offset: appended.base_offset })]
        }
        // In a box of its own, which the others need not have room for.
        Begun::AsMany(records) => Box::pin(publish_many(shared, records)).await,
    }
}

fn begin(shared: &Shared, records: Vec<NewRecord>) -> Begun {
    let [record] = match <[NewRecord; 1]>::try_from(records) {
        Ok(one) => one,
        Err(others) => return Begun::AsMany(others),
    };
    if shared.is_closed() {
        return Begun::Refused(PublishError::Closed);
    }
    let Target { rules, number, id } = match target(shared, &record) {
        Ok(Some(target)) => target,
        Ok(None) => return Begun::AsMany(vec![record]),
        Err(error) => return Begun::Refused(error),
    };
    // Nobody asks the clock for what is known.
    let has_time = record.timestamp_ms.is_some() && !rules.has_append_time;
    let now_ms = if has_time { 0 } else { shared.config.clock.now_ms() };
    // The name is the one that the record has come with: it is not counted up for it.
    let (topic, record) = new_record(record, now_ms);
    match encode(&topic, rules, &[record], rules.has_append_time.then_some(now_ms)) {
        Encoded::Batch(batch) => {
            let (bytes, answered) = append(shared, id, batch);
            Begun::Sent { partition: Partition { topic, number }, bytes, answered }
        }
        Encoded::Refused(error) => Begun::Refused(error),
        Encoded::Interrupted => Begun::Refused(PublishError::Closed),
    }
}

/// A topic as it was found.
struct Known {
    /// Whose topic it is.
    engine: u64,
    /// After how many changes of topics.
    changes: u64,
    topic: Arc<Topic>,
    rules: Rules,
}

thread_local! {
    /// Where the record before went that this thread has published: most go there too. Each thread has its own,
    /// because looking into the catalog changes what all of them share, if only by a lock.
    static NEWEST: RefCell<Option<Known>> = const { RefCell::new(None) };
}

/// `None`: the topic wants the record compressed. Then no partition is chosen here, because it is chosen where many
/// are published: a record without a key would be counted twice, and every other partition would get none.
fn target(shared: &Shared, record: &NewRecord) -> Result<Option<Target>, PublishError> {
    // First: what changes behind this is found to have changed.
    let (engine, changes) = (shared.number, shared.log.catalog_changes());
    NEWEST.with_borrow_mut(|newest| {
        let is_other = |known: &Known| {
            known.engine != engine || known.changes != changes || known.topic.name != *record.topic
        };
        if newest.as_ref().is_none_or(is_other) {
            let found = shared.log.with_catalog(|catalog| catalog.by_name(&record.topic).cloned());
            *newest = found.map(|topic| Known { engine, changes, rules: Rules::of(&topic), topic });
        }
        let Some(Known { topic, rules, .. }) = newest else {
            return Err(PublishError::UnknownTopic { topic: record.topic.to_string() });
        };
        if rules.codec != Codec::None {
            return Ok(None);
        }
        let any = || shared.keyless.fetch_add(1, Ordering::Relaxed);
        let place = Place::of(topic, *rules, record, any, || shared.config.clock.now_ms())?;
        Ok(Some(Target { rules: place.rules, number: place.number, id: place.id }))
    })
}
