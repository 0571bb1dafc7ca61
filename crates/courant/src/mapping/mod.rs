//! Events of others: where the parts of an event are in JSON that is no CloudEvent.

mod document;
mod reading;
mod structured;

use std::collections::BTreeMap;

use self::document::Pointer;
pub(crate) use self::reading::Mappings;

/// Where the parts of an event are in the JSON of its record, for a topic whose events are not CloudEvents.
///
/// Places are JSON Pointers (RFC 6901): `/eventId`, `/meta/id`, and the empty text for the whole. Nothing
/// but the type and the payload has to be there. At first they are those of
///
/// ```json
/// {
///   "eventType": "OrderPlaced",
///   "eventId": "6f1c",
///   "timestamp": "2026-03-01T12:00:00Z",
///   "correlationId": "c-1",
///   "payload": { "orderId": "o-1", "cents": 1200 }
/// }
/// ```
///
/// and [`App::map_envelope`](crate::App::map_envelope) says for which topic:
///
/// ```
/// use courant::prelude::*;
/// use courant::Mapping;
///
/// let mapping = Mapping::new().key("/payload/orderId").rename("OrderPlaced", "shop.order-placed");
/// let app = App::new("billing").map_envelope("shop.orders", mapping);
/// ```
///
/// A record of the topic that says its type in the header `ce_type` is a CloudEvent, and read as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    event_type: Pointer,
    type_otherwise: Option<String>,
    renamed: BTreeMap<String, String>,
    id: Option<Pointer>,
    time: Option<Pointer>,
    source: Option<Pointer>,
    correlation_id: Option<Pointer>,
    causation_id: Option<Pointer>,
    key: Option<Pointer>,
    payload: Pointer,
}

impl Mapping {
    /// `/eventType`, `/eventId`, `/timestamp`, `/correlationId` and `/payload`; the key is the record's.
    pub fn new() -> Self {
        Self {
            event_type: Pointer::new("/eventType"),
            type_otherwise: None,
            renamed: BTreeMap::new(),
            id: Some(Pointer::new("/eventId")),
            time: Some(Pointer::new("/timestamp")),
            source: None,
            correlation_id: Some(Pointer::new("/correlationId")),
            causation_id: None,
            key: None,
            payload: Pointer::new("/payload"),
        }
    }

    /// Where the type is, a text.
    #[must_use]
    pub fn event_type(self, place: &str) -> Self {
        Self { event_type: Pointer::new(place), ..self }
    }

    /// The type of events that do not say theirs, such as those of a topic that has only one.
    #[must_use]
    pub fn type_otherwise(self, event_type: impl Into<String>) -> Self {
        Self { type_otherwise: Some(event_type.into()), ..self }
    }

    /// What a type is called here. Types that are not renamed are called as they are.
    #[must_use]
    pub fn rename(mut self, there: impl Into<String>, here: impl Into<String>) -> Self {
        self.renamed.insert(there.into(), here.into());
        self
    }

    /// Where the id is, a text or a number: the same for every copy of an event. Events without one have an
    /// id that is made of their place in the log, so a copy at another place is another event.
    #[must_use]
    pub fn id(self, place: &str) -> Self {
        Self { id: Some(Pointer::new(place)), ..self }
    }

    /// Where the time is: RFC 3339 with its offset, or whole milliseconds since 1970. Without one it is the
    /// record's timestamp.
    #[must_use]
    pub fn time(self, place: &str) -> Self {
        Self { time: Some(Pointer::new(place)), ..self }
    }

    /// The time is the record's timestamp, whatever else is there.
    #[must_use]
    pub fn time_of_record(self) -> Self {
        Self { time: None, ..self }
    }

    /// Where it says who has sent it.
    #[must_use]
    pub fn source(self, place: &str) -> Self {
        Self { source: Some(Pointer::new(place)), ..self }
    }

    /// Where the id is that it shares with everything that one request set off. Without one it is the
    /// event's own.
    #[must_use]
    pub fn correlation_id(self, place: &str) -> Self {
        Self { correlation_id: Some(Pointer::new(place)), ..self }
    }

    /// Where the id of the event is that caused it.
    #[must_use]
    pub fn causation_id(self, place: &str) -> Self {
        Self { causation_id: Some(Pointer::new(place)), ..self }
    }

    /// Where the key is, a text or a number; without one it is the record's. Events of one key are handled
    /// in the order of their partition: order between partitions comes from the record's key alone.
    #[must_use]
    pub fn key(self, place: &str) -> Self {
        Self { key: Some(Pointer::new(place)), ..self }
    }

    /// Where the data is that the handler gets. The empty text is the whole.
    #[must_use]
    pub fn payload(self, place: &str) -> Self {
        Self { payload: Pointer::new(place), ..self }
    }

    /// Places that are no JSON Pointers.
    pub(crate) fn illegal_places(&self) -> Vec<&str> {
        let optional =
            [&self.id, &self.time, &self.source, &self.correlation_id, &self.causation_id, &self.key];
        let places = [&self.event_type, &self.payload].into_iter().chain(optional.into_iter().flatten());
        places.filter(|place| !place.is_legal()).map(Pointer::text).collect()
    }
}

impl Default for Mapping {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_that_cannot_be_are_named() {
        assert_eq!(Mapping::new().illegal_places(), [""; 0]);
        let wrong = Mapping::new().event_type("eventType").key("/a~2").payload("");
        assert_eq!(wrong.illegal_places(), ["eventType", "/a~2"]);
    }
}
