//! Whether the handlers of a service can read what a dead letter is edited to. Their types are the schema: nothing
//! else says what an event has to look like.

use std::collections::BTreeMap;
use std::sync::Arc;

use courant_core::headers::TYPE;
use courant_core::topic::TopicName;
use courant_sql::Event;
use serde_json::error::Category;

use crate::envelope::text;
use crate::mapping::Mappings;
use crate::store::Backing;
use crate::subscription::Registered;

/// Reads bytes as the event of a handler.
type Read = Arc<dyn Fn(&[u8]) -> Result<(), serde_json::Error> + Send + Sync>;

/// How the handlers of a service read their events.
pub(crate) struct Readers {
    /// By consumer, then by type.
    by_consumer: BTreeMap<String, BTreeMap<&'static str, Read>>,
    mappings: Mappings,
}

/// Who wants to know why an event cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    /// The one who has written the value.
    Author,
    /// One who is not to hear what it says.
    Stranger,
}

impl Readers {
    /// Those of these subscriptions: their consumers, and the handlers of each.
    pub(crate) fn of<'a, S: Backing, T: Send + Sync + 'static>(
        subscriptions: impl Iterator<Item = (&'a str, &'a [Registered<S, T>])>,
        mappings: Mappings,
    ) -> Self {
        let mut by_consumer = BTreeMap::new();
        for (consumer, handlers) in subscriptions {
            let by_type: BTreeMap<&'static str, Read> = handlers.iter().map(read_by).collect();
            by_consumer.insert(consumer.to_owned(), by_type);
        }
        Self { by_consumer, mappings }
    }

    /// Why an event would be a dead letter again before its handler is called. `None`: it would not, or nobody
    /// here knows, because the consumer is not one of this service any more.
    pub(super) fn unlike(
        &self,
        consumer: &str,
        topic: &TopicName,
        event: Event,
        asker: Asker,
    ) -> Option<String> {
        let by_type = self.by_consumer.get(consumer)?;
        // As it is read when it is delivered.
        let event = self.mappings.read_parked(topic.as_str(), event);
        let Some(read) = text(&event.headers, TYPE).and_then(|event_type| by_type.get(event_type)) else {
            return Some(match (self.mappings.refusal(topic.as_str(), &event), asker) {
                (None, _) => format!("{consumer} has no handler for an event of this type; --force takes it"),
                (Some(why), Asker::Author) => format!("{consumer} cannot read it: {why}; --force takes it"),
                (Some(_), Asker::Stranger) => format!(
                    "{consumer} cannot read it: it is not what its content-type or the envelope mapping of its \
                     topic says; --force takes it"
                ),
            });
        };
        let error = read(event.value.as_deref().unwrap_or_default()).err()?;
        let why = match asker {
            Asker::Author => error.to_string(),
            // A type that panics, or says something of its own, names no place.
            Asker::Stranger if error.line() == 0 => kind(&error).to_owned(),
            Asker::Stranger => format!("{} at line {} column {}", kind(&error), error.line(), error.column()),
        };
        Some(format!("the handler of {consumer} cannot read it: {why}; --force takes it"))
    }
}

fn read_by<S: Backing, T: Send + Sync + 'static>(handler: &Registered<S, T>) -> (&'static str, Read) {
    let invoke = handler.invoke.clone();
    let read: Read = Arc::new(move |value: &[u8]| invoke.read(value));
    (handler.event_type, read)
}

/// What is wrong, without what the value says.
fn kind(error: &serde_json::Error) -> &'static str {
    match error.classify() {
        Category::Data => "it is not what the type says",
        Category::Io | Category::Syntax | Category::Eof => "it is no JSON",
    }
}
