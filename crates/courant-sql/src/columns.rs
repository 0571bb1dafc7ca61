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
        }
    };
}

pub(crate) use columns;

/// A number as databases keep it: no engine gives offsets above this.
pub(crate) fn signed(number: u64, doing: &'static str) -> Result<i64, crate::error::StoreError> {
    i64::try_from(number).map_err(|_| {
        crate::error::StoreError::unreadable(doing, format_args!("{number} is too large for the database"))
    })
}
