//! Values of a row, and values for one, as MariaDB keeps them.

use bytes::Bytes;
use courant_core::consumer::ConsumerName;
use courant_core::event_id::EventId;
use courant_core::position::{Position, TopicPartition};
use courant_core::topic::TopicName;
use sqlx::Row as _;
use sqlx::mysql::MySqlRow;

use super::class::failed;
use crate::columns::columns;
use crate::consumer::{Assignment, Consumer, Outcome};
use crate::error::StoreError;
use crate::event::Event;
use crate::headers;

pub(super) use crate::columns::{on_partition, signed};

columns!(MySqlRow);

/// MariaDB keeps texts as they are.
fn read_text(text: String) -> String {
    text
}

/// What an inbox row says while its transaction has not come to its end.
pub(super) const OPEN: &str = "open";

impl Columns<'_> {
    /// How an event was settled; `None` without an inbox row, or with an open one.
    pub(super) fn outcome(&self, at: usize) -> Result<Option<Outcome>, StoreError> {
        match self.text_or_null(at)?.as_deref() {
            None | Some(OPEN) => Ok(None),
            Some(_) => self.known(at, Outcome::parse).map(Some),
        }
    }
}
