//! Values of a row, in the types of the crate. What cannot be read is an error that names the column.

/// Defines `Columns` for one database's rows. Beside it stand that database's `failed`, and `read_text`,
/// which undoes what it does to texts.
macro_rules! columns {
    ($row:ty) => {
        /// A row, and what it is read for.
        #[derive(Clone, Copy)]
        pub(super) struct Columns<'a> {
            row: &'a $row,
            doing: &'static str,
        }

        impl<'a> Columns<'a> {
            pub(super) fn new(row: &'a $row, doing: &'static str) -> Self {
                Self { row, doing }
            }

            pub(super) fn unreadable(&self, what: impl std::fmt::Display) -> StoreError {
                StoreError::unreadable(self.doing, what)
            }

            pub(super) fn text(&self, at: usize) -> Result<String, StoreError> {
                self.row.try_get::<String, usize>(at).map(read_text).map_err(failed(self.doing))
            }

            pub(super) fn text_or_null(&self, at: usize) -> Result<Option<String>, StoreError> {
                let text = self.row.try_get::<Option<String>, usize>(at).map_err(failed(self.doing))?;
                Ok(text.map(read_text))
            }

            pub(super) fn bytes_or_null(&self, at: usize) -> Result<Option<Bytes>, StoreError> {
                let bytes = self.row.try_get::<Option<Vec<u8>>, usize>(at).map_err(failed(self.doing))?;
                Ok(bytes.map(Bytes::from))
            }

            pub(super) fn int(&self, at: usize) -> Result<i64, StoreError> {
                self.row.try_get::<i64, usize>(at).map_err(failed(self.doing))
            }

            pub(super) fn int_or_null(&self, at: usize) -> Result<Option<i64>, StoreError> {
                self.row.try_get::<Option<i64>, usize>(at).map_err(failed(self.doing))
            }

            /// A number that is never negative and fits its type.
            pub(super) fn number<T: TryFrom<i64>>(&self, at: usize) -> Result<T, StoreError> {
                let number = self.int(at)?;
                T::try_from(number).map_err(|_| self.unreadable(format_args!("column {at} says {number}")))
            }

            /// A text that one of the crate's enums knows.
            pub(super) fn known<T>(&self, at: usize, parse: fn(&str) -> Option<T>) -> Result<T, StoreError> {
                let text = self.text(at)?;
                parse(&text).ok_or_else(|| self.unreadable(format_args!("column {at} says {text:?}")))
            }

            pub(super) fn topic(&self, at: usize) -> Result<TopicName, StoreError> {
                TopicName::new(&self.text(at)?).map_err(|error| self.unreadable(error))
            }

            pub(super) fn consumer_name(&self, at: usize) -> Result<ConsumerName, StoreError> {
                ConsumerName::new(&self.text(at)?).map_err(|error| self.unreadable(error))
            }

            pub(super) fn event_id(&self, at: usize) -> Result<EventId, StoreError> {
                EventId::new(&self.text(at)?).map_err(|error| self.unreadable(error))
            }

            pub(super) fn headers(&self, at: usize) -> Result<Vec<(String, Bytes)>, StoreError> {
                let text = self.row.try_get::<String, usize>(at).map_err(failed(self.doing))?;
                headers::decode(&text).map_err(|error| self.unreadable(error))
            }

            /// Name and generation.
            pub(super) fn consumer(&self, at: usize) -> Result<Consumer, StoreError> {
                Ok(Consumer { name: self.consumer_name(at)?, generation: self.number(at + 1)? })
            }

            /// Consumer, generation, topic and partition.
            pub(super) fn assignment(&self, at: usize) -> Result<Assignment, StoreError> {
                let partition =
                    TopicPartition { topic: self.topic(at + 2)?, partition: self.number(at + 3)? };
                Ok(Assignment { consumer: self.consumer(at)?, partition })
            }

            /// Topic, partition and offset.
            pub(super) fn position(&self, at: usize) -> Result<Position, StoreError> {
                Ok(Position {
                    topic: self.topic(at)?,
                    partition: self.number(at + 1)?,
                    offset: self.number(at + 2)?,
                })
            }

            /// Offset, id, key, value, headers and timestamp.
            pub(super) fn event(&self, at: usize) -> Result<Event, StoreError> {
                Ok(Event {
                    offset: self.number(at)?,
                    id: self.event_id(at + 1)?,
                    key: self.bytes_or_null(at + 2)?,
                    value: self.bytes_or_null(at + 3)?,
                    headers: self.headers(at + 4)?,
                    timestamp_ms: self.int(at + 5)?,
                })
            }

            /// What `dead_columns` reads first.
            pub(super) fn dead_summary(&self) -> Result<$crate::dead::DeadSummary, StoreError> {
                Ok($crate::dead::DeadSummary {
                    id: self.int(0)?,
                    consumer: self.consumer(1)?,
                    position: self.position(3)?,
                    event_id: self.event_id(6)?,
                    key: self.bytes_or_null(7)?,
                    state: self.known(8, $crate::dead::DeadState::parse)?,
                    reason: self.known(9, $crate::dead::DeadReason::parse)?,
                    blocks_key: self.int(10)? != 0,
                    attempts: self.number(11)?,
                    first_failed_ms: self.int(12)?,
                    last_failed_ms: self.int(13)?,
                    failure: $crate::event::Failure {
                        kind: self.text(14)?,
                        place: self.text(15)?,
                        message: self.text(16)?,
                    },
                    code_version: self.text(17)?,
                })
            }

            /// What `note_columns` reads.
            pub(super) fn dead_note(&self) -> Result<$crate::note::DeadNote, StoreError> {
                let original = match self.text_or_null(4)? {
                    None => None,
                    Some(_) => Some($crate::note::Original {
                        event_id: self.event_id(4)?,
                        value: self.bytes_or_null(5)?,
                        headers: self.headers(6)?,
                    }),
                };
                Ok($crate::note::DeadNote {
                    action: self.known(0, $crate::note::DeadAction::parse)?,
                    by: self.text(1)?,
                    reason: self.text(2)?,
                    at_ms: self.int(3)?,
                    original,
                })
            }

            /// What `parked_columns` reads.
            pub(super) fn parked_event(&self) -> Result<$crate::parked::ParkedEvent, StoreError> {
                let failure = match self.text_or_null(9)? {
                    Some(kind) => {
                        let (place, message) = (self.text(10)?, self.text(11)?);
                        Some($crate::event::Failure { kind, place, message })
                    }
                    None => None,
                };
                Ok($crate::parked::ParkedEvent {
                    event: self.event(0)?,
                    attempts: self.number(6)?,
                    first_failed_ms: self.int_or_null(7)?,
                    due_ms: self.int_or_null(8)?,
                    failure,
                    redrive: self.text_or_null(12)?,
                })
            }
        }
    };
}

/// What a dead letter consists of in a list.
macro_rules! dead_columns {
    () => {
        "id, consumer, generation, topic, partition_id, event_offset, event_id, event_key, state, reason, \
         blocks_key, attempts, first_failed_ms, last_failed_ms, error_kind, error_place, error_message, \
         code_version"
    };
}

/// What a note about a dead letter consists of.
macro_rules! note_columns {
    () => {
        "action, done_by, reason, at_ms, event_id, event_value, headers"
    };
}

/// What a parked event consists of.
macro_rules! parked_columns {
    () => {
        "event_offset, event_id, event_key, event_value, headers, timestamp_ms, attempts, \
         first_failed_ms, due_ms, error_kind, error_place, error_message, redrive_id"
    };
}

/// A query whose first four parameters are consumer, generation, topic and partition.
macro_rules! on_partition {
    ($sql:expr, $assignment:expr) => {{
        let assignment: &crate::consumer::Assignment = $assignment;
        sqlx::query($sql)
            .bind(assignment.consumer.name.as_str())
            .bind(i64::from(assignment.consumer.generation))
            .bind(assignment.partition.topic.as_str())
            .bind(i64::from(assignment.partition.partition))
    }};
}

pub(crate) use columns;
pub(crate) use dead_columns;
pub(crate) use note_columns;
pub(crate) use on_partition;
pub(crate) use parked_columns;

/// A number as databases keep it: no engine gives offsets above this.
pub(crate) fn signed(number: u64, doing: &'static str) -> Result<i64, crate::error::StoreError> {
    i64::try_from(number).map_err(|_| {
        crate::error::StoreError::unreadable(doing, format_args!("{number} is too large for the database"))
    })
}
