//! Reading back what progress was made in.

use courant_engine::{Ends, Engine, Partition, Position, ReadBack, Record};
use uuid::Uuid;

use super::begin::{Difference, There};
use super::incoming;
use super::ledger::{Kept, Trouble};

/// What tells an event from another one at the same offset.
pub(crate) fn mark(log: &Uuid, record: &Record) -> String {
    incoming::id(log, record).to_string()
}

/// The ends of a partition.
pub(crate) async fn ends(engine: &dyn Engine, partition: &Partition) -> Result<Ends, Trouble> {
    match engine.ends(vec![partition.clone()]).await.into_iter().next() {
        Some(Ok(ends)) => Ok(ends),
        Some(Err(error)) => Err(Trouble::Broken(error.to_string())),
        None => Err(no_answer(partition)),
    }
}

/// What is at a position.
pub(crate) async fn read(engine: &dyn Engine, position: Position) -> Result<Option<ReadBack>, Trouble> {
    let found = engine.read(vec![position]).await.into_iter().next();
    found.transpose().map_err(|error| Trouble::Broken(error.to_string()))
}

/// What is where progress stopped, and where the partition ends.
pub(crate) async fn look(
    engine: &dyn Engine,
    partition: &Partition,
    kept: &Kept,
) -> Result<(Option<There>, Ends), Trouble> {
    let ends = ends(engine, partition).await?;
    let Kept::Event(progress) = kept else { return Ok((None, ends)) };
    let log = engine.log_id();
    let found = read(engine, partition.at(progress.offset)).await?;
    let there = found.map(|found| There::of(&found, |record| mark(&log, record)));
    Ok((there, ends))
}

/// The sentence for a service that does not start because its log is another one.
pub(crate) fn refused(consumer: &str, partition: &Partition, difference: &Difference) -> Trouble {
    Trouble::Broken(format!(
        "{consumer} was not at work in this log: {difference}, in {partition}; if the log was replaced on \
         purpose, say `.when_log_differs(…)` with OtherLog::Adopt, FromStart or FromTime"
    ))
}

fn no_answer(partition: &Partition) -> Trouble {
    Trouble::Broken(format!("the engine says nothing of {partition}"))
}
