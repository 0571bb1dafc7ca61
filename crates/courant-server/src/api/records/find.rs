//! A record by its event's id, where that is cheap.
//!
//! There is no index of ids. One that says when it was made (a UUID of version 7) leads to where its
//! event must be; any other is looked for among the newest records.

use courant_log::{Log, Topic};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::begin::Begin;
use super::read::{Taken, read};
use super::shown::{Room, shown};
use super::{RECORD_NOT_FOUND, cloudevent};
use crate::api::limits::{ID_CLOCKS_DIFFER_MS, ID_LOOK_BYTES_MAX, ID_NEWEST_RECORDS, RECORD_PARTITIONS_MAX};
use crate::api::problem::{INVALID, Problem};

/// The record whose event has that id.
pub(super) fn by_id(log: &Log, topic: &Topic, id: &str) -> Result<Box<RawValue>, Problem> {
    let partitions = topic.partitions.len();
    if partitions > RECORD_PARTITIONS_MAX {
        let sentence = format!(
            "{} has {partitions} partitions, too many to look through while you wait; POST /api/v1/searches \
             looks for an event in all of them",
            topic.name
        );
        return Err(Problem::new(&INVALID, sentence));
    }
    let begin = match made_ms(id) {
        Some(made_ms) => Begin::Time(made_ms.saturating_sub(ID_CLOCKS_DIFFER_MS).max(0)),
        None => Begin::Last(ID_NEWEST_RECORDS),
    };
    let mut looked = 0_u64;
    for (number, partition) in (0..).zip(&topic.partitions) {
        let Some(ends) = log.offsets(*partition) else { continue };
        let mut next = begin.resolve(log, *partition, ends, 0)?;
        let mut bytes_left = ID_LOOK_BYTES_MAX / partitions.max(1);
        let mut found = None;
        while next < ends.high_watermark && bytes_left > 0 && found.is_none() {
            let passed = read(log, *partition, next..ends.high_watermark, |record| {
                looked += 1;
                if !cloudevent::is(record, "id", id) {
                    return Taken::Yes;
                }
                found = Some(shown(&topic.name, number, record, Room::ALONE));
                Taken::No
            })?;
            next = passed.next;
            bytes_left = bytes_left.saturating_sub(passed.bytes.max(1));
        }
        if let Some(found) = found {
            return found.map_err(|error| Problem::defect(&error.to_string()));
        }
    }
    let sentence = format!(
        "none of the {looked} records of {} that may be it has the id {id:?}; POST /api/v1/searches looks \
         through all of them",
        topic.name
    );
    Err(Problem::new(&RECORD_NOT_FOUND, sentence))
}

/// When an id was made, in milliseconds since 1970, if it says so (RFC 9562, section 5.7).
fn made_ms(id: &str) -> Option<i64> {
    let id = Uuid::parse_str(id).ok().filter(|id| id.get_version_num() == 7)?;
    i64::try_from(id.as_u128() >> 80).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ids_of_version_7_say_when_they_were_made() {
        // The example of RFC 9562, A.6: 2022-02-22T19:22:22Z.
        assert_eq!(made_ms("017F22E2-79B0-7CC3-98C4-DC0C0C07398F"), Some(1_645_557_742_000));
        assert_eq!(made_ms("919108f7-52d1-4320-9bac-f847db4148a8"), None);
        assert_eq!(made_ms("order-7"), None);
    }
}
