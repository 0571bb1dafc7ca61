//! What of a running service does not go on.

use std::fmt;

/// Something of a running service that does not go on at the moment, and is tried again. It ends by itself, when it
/// goes on: where it waits for somebody's help, [`Stall::said`] tells for which.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stall {
    /// The consumer that waits; `None`: the outbox does, or what is scheduled.
    pub consumer: Option<String>,
    /// Why.
    pub reason: StallReason,
    /// The topic that it is about, if it is about one: that is read, or published into.
    pub topic: Option<String>,
    /// Its partition, if it is about one.
    pub partition: Option<u32>,
    /// Since when, in milliseconds since 1970, by the clock of the service.
    pub since_ms: i64,
    /// How often it was tried since then.
    pub times: u64,
    /// What the engine, the store or the handler has said the last time, the first 1,024 bytes. It may be somebody's
    /// data, and so it is told to nobody else.
    pub said: String,
}

/// Why something does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum StallReason {
    /// The engine does not take an event as it is, or as its topic is.
    Refused,
    /// There is no such topic, or no such partition.
    NoTopic,
    /// The engine does not answer, or not in time.
    EngineAway,
    /// The engine has no room.
    EngineFull,
    /// The engine writes nothing more before it is opened again.
    EngineFailed,
    /// The engine cannot read a partition.
    Unreadable,
    /// A partition cannot be taken over.
    NotTakenOver,
    /// Another instance has taken a partition over that the group gives to this one.
    TakenElsewhere,
    /// The engine does not keep how far the consumer is: with a store only a copy of that, for tools that show lag.
    ProgressUnkept,
    /// An event fails, and is tried again where it is: without a store its partition's progress waits for it.
    EventFails,
    /// The store does not answer, or somebody holds what is needed.
    StoreAway,
    /// The store has no room.
    StoreFull,
    /// The store cannot read or write its files.
    StoreFiles,
    /// The store only reads.
    StoreReadsOnly,
    /// It is not known whether something was committed.
    InDoubt,
}

impl StallReason {
    /// The word for it, in what the service says of itself and in metrics. It stays.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::NoTopic => "no_topic",
            Self::EngineAway => "engine_away",
            Self::EngineFull => "engine_full",
            Self::EngineFailed => "engine_failed",
            Self::Unreadable => "unreadable",
            Self::NotTakenOver => "not_taken_over",
            Self::TakenElsewhere => "taken_elsewhere",
            Self::ProgressUnkept => "progress_unkept",
            Self::EventFails => "event_fails",
            Self::StoreAway => "store_away",
            Self::StoreFull => "store_full",
            Self::StoreFiles => "store_files",
            Self::StoreReadsOnly => "store_reads_only",
            Self::InDoubt => "in_doubt",
        }
    }
}

impl fmt::Display for StallReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use courant_core::operations::STALL_REASONS;

    use super::StallReason::*;

    /// What is read elsewhere is what is written here.
    #[test]
    fn the_words_are_those_of_the_format() {
        let all = [
            Refused,
            NoTopic,
            EngineAway,
            EngineFull,
            EngineFailed,
            Unreadable,
            NotTakenOver,
            TakenElsewhere,
            ProgressUnkept,
            EventFails,
            StoreAway,
            StoreFull,
            StoreFiles,
            StoreReadsOnly,
            InDoubt,
        ];
        assert_eq!(all.map(super::StallReason::as_str), STALL_REASONS);
    }
}
