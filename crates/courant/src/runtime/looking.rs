//! Reading back what progress was made in.

use courant_engine::{Ends, Engine, Partition, Position, ReadBack, ReadError, Record};
use uuid::Uuid;

use super::begin::{Difference, There};
use super::incoming;
use super::ledger::{Kept, Trouble};
use crate::mapping::Mappings;

/// What tells an event from another one at the same offset.
pub(crate) fn mark(log: &Uuid, record: &Record) -> String {
    incoming::id(log, record).to_string()
}

/// The ends of a partition.
pub(crate) async fn ends(engine: &dyn Engine, partition: &Partition) -> Result<Ends, Trouble> {
    match engine.ends(vec![partition.clone()]).await.into_iter().next() {
        Some(Ok(ends)) => Ok(ends),
        Some(Err(error)) => Err(unread(&error)),
        None => Err(no_answer(partition)),
    }
}

/// What is at a position.
pub(crate) async fn read(engine: &dyn Engine, position: Position) -> Result<Option<ReadBack>, Trouble> {
    let found = engine.read(vec![position]).await.into_iter().next();
    found.transpose().map_err(|error| unread(&error))
}

/// What is where progress stopped, and where the partition ends.
pub(crate) async fn look(
    engine: &dyn Engine,
    mappings: &Mappings,
    partition: &Partition,
    kept: &Kept,
) -> Result<(Option<There>, Ends), Trouble> {
    let ends = ends(engine, partition).await?;
    let Kept::Event(progress) = kept else { return Ok((None, ends)) };
    if progress.beginning().is_some() {
        return Ok((None, ends));
    }
    let log = engine.log_id();
    let found = read(engine, partition.at(progress.offset)).await?;
    let there = found.map(|found| There::of(&found, |record| mark_of(&log, mappings, record, progress)));
    Ok((there, ends))
}

/// The mark of a record: its own, or the one that it has as it is read by a mapping, whichever was kept. So
/// a topic may get a mapping later.
fn mark_of(log: &Uuid, mappings: &Mappings, record: &Record, kept: &courant_sql::Progress) -> String {
    let own = mark(log, record);
    if own == kept.mark || !mappings.is_foreign(record) {
        return own;
    }
    let event = incoming::event(log, record.clone());
    mappings.read(&record.position.partition.topic, event, |_| true).event.id.to_string()
}

/// The sentence for a service that does not start because its log is another one.
pub(crate) fn refused(consumer: &str, partition: &Partition, difference: &Difference) -> Trouble {
    Trouble::Broken(format!(
        "{consumer} was not at work in this log: {difference}, in {partition}; if the log was replaced on \
         purpose, say `.when_log_differs(…)` with OtherLog::Adopt, FromStart or FromTime"
    ))
}

/// An engine that could not read may be able to soon: a server that is away comes back, and a topic that has gone in this
/// moment may be made anew.
pub(crate) fn unread(error: &ReadError) -> Trouble {
    match error {
        ReadError::Failed { .. } | ReadError::UnknownPartition { .. } => Trouble::Away(error.to_string()),
        _ => Trouble::Broken(error.to_string()),
    }
}

fn no_answer(partition: &Partition) -> Trouble {
    Trouble::Broken(format!("the engine says nothing of {partition}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_there_soon_ends_no_service() {
        let partition = Partition::new("orders", 0);
        let gone = ReadError::UnknownPartition { partition: partition.clone() };
        let failed = ReadError::Failed { partition, reason: "no such file".to_owned() };
        assert!(matches!(unread(&gone), Trouble::Away(_)));
        assert!(matches!(unread(&failed), Trouble::Away(_)));
        assert!(matches!(unread(&ReadError::Closed), Trouble::Broken(_)));
    }
}
