//! What a store leaves in the log of its service: nothing of an event.

use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use courant_sql::{Admission, NewEvent, Source, Transaction as _};
use tracing::field::{Field, Visit};
use tracing::span;

use super::steps::{Fixture, NOW, admit, effect, event, new_event};

/// Whatever is logged, however little it matters.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<String>>);

impl Visit for Lines {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let mut lines = self.0.lock().expect("nobody panics with it");
        writeln!(lines, "{}: {value:?}", field.name()).expect("room");
    }
}

impl tracing::Subscriber for Lines {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut self.clone());
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// The event that a handler publishes stands in the text of its commit. The driver would log that text, and of one
/// that takes a second it would do so as a warning.
#[tokio::test]
async fn no_line_has_anything_of_an_event() {
    let Some(fixture) = Fixture::new().await else { return };
    let lease = fixture.lease().await;
    let lines = Lines::default();
    let listening = tracing::subscriber::set_default(lines.clone());
    let store = fixture.narrow().await;
    for offset in 0..2 {
        let event = event(offset, Some("secret-key"));
        let (mut tx, admission) = admit(&store, &lease, &event, Source::Log).await;
        assert_eq!(admission, Admission::New);
        effect(&mut tx, event.id.as_str()).await;
        let published = NewEvent {
            value: Some(Bytes::from_static(b"secret-value")),
            headers: vec![("note".to_owned(), Bytes::from_static(b"secret-header"))],
            ..new_event(&format!("p-{offset}"), "secret-key")
        };
        tx.publish(published).expect("room for one");
        tx.commit(NOW).await.expect("a commit");
    }
    tracing::debug!("the last line");
    drop(listening);
    let lines = lines.0.lock().expect("nobody panics with it").clone();
    assert!(lines.contains("the last line"), "nobody has listened");
    // As it is, and in hexadecimal digits.
    for part in ["secret", "736563726574"] {
        assert!(!lines.contains(part), "{lines}");
    }
    assert_eq!(fixture.number("SELECT COUNT(*) FROM courant_outbox").await, 2);
}
