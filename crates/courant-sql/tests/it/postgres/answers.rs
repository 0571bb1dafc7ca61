//! How often a handler's transaction waits for the server: each answer is a way there and back.
//!
//! Counted on the wire, between the store and the server: the server says after each piece of work that it
//! is ready for the next one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use courant_sql::{Admission, Postgres, Source, Store as _, Transaction as _};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::steps::{Fixture, NOW, assignment, event, new_event, of};

/// The server's message that it is ready.
pub(super) const READY: u8 = b'Z';

/// BEGIN with everything that holds the partition, and the inbox; COMMIT with the savepoint's release.
const OF_AN_EVENT: u64 = 2;
/// What an event behind another one saves: its transaction begins with the commit before it.
const BEHIND_ANOTHER: u64 = 1;
/// The outbox is one more, however much is published; but one event stands in the text of the commit.
const OF_AN_EVENT_THAT_PUBLISHES_SEVERAL: u64 = OF_AN_EVENT + 1;
/// A batch looks into the inbox by itself, and has one more for each of its events: the proof behind its handler.
const OF_A_BATCH: u64 = OF_AN_EVENT_THAT_PUBLISHES_SEVERAL + 1;

/// A server between the store and the one that the environment names, which counts answers.
async fn counting(url: &str) -> (String, Arc<AtomicU64>) {
    let answers = Arc::new(AtomicU64::new(0));
    let counted = answers.clone();
    let through = between(url, move |kind| {
        if kind == READY {
            counted.fetch_add(1, Ordering::SeqCst);
        }
        true
    });
    (through.await, answers)
}

/// A server between the store and the one that the environment names. It hears the kind of each message that
/// comes from there, and says whether it is passed on; otherwise the connection ends.
pub(super) async fn between(url: &str, passes: impl Fn(u8) -> bool + Clone + Send + 'static) -> String {
    rewriting(url, move |kind, message| passes(kind).then_some(message)).await
}

/// [`between`], where it says what is passed on instead.
pub(super) async fn rewriting(
    url: &str,
    passes: impl Fn(u8, Vec<u8>) -> Option<Vec<u8>> + Clone + Send + 'static,
) -> String {
    let (_, place) = url.rsplit_once('@').expect("an address with a user");
    let (server, database) = place.split_once('/').expect("an address with a database");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let own = listener.local_addr().expect("an address");
    // Encrypted, nothing could be told apart.
    let through = url.replace(place, &format!("{own}/{database}?sslmode=disable"));
    let server = server.to_owned();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(&server).await.expect("the server");
            tokio::spawn(pass(client, server, passes.clone()));
        }
    });
    through
}

/// Passes everything on that is to be, until one of the two ends.
async fn pass(client: TcpStream, server: TcpStream, passes: impl Fn(u8, Vec<u8>) -> Option<Vec<u8>>) {
    client.set_nodelay(true).expect("an option");
    server.set_nodelay(true).expect("an option");
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
    while let Some((kind, message)) = message(&mut from_server).await {
        let Some(message) = passes(kind, message) else { return };
        if to_client.write_all(&message).await.is_err() {
            return;
        }
    }
}

/// One message: its kind, four bytes of length that count themselves, and the rest.
async fn message(from: &mut (impl AsyncRead + Unpin)) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 5];
    from.read_exact(&mut head).await.ok()?;
    let [kind, a, b, c, d] = head;
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()?;
    let mut message = head.to_vec();
    message.resize(1 + length, 0);
    from.read_exact(&mut message[5..]).await.ok()?;
    Some((kind, message))
}

/// What a server, or who stands before it, says of an error.
pub(super) fn complaint(severity: &str, code: &str) -> Vec<u8> {
    let fields = format!("S{severity}\0V{severity}\0C{code}\0Min the middle of it\0\0");
    let length = u32::try_from(4 + fields.len()).expect("small").to_be_bytes();
    [&b"E"[..], &length, fields.as_bytes()].concat()
}

/// One event, or a batch of several, of which each publishes `published` events; what their handlers do in
/// the database would come on top of that.
async fn handle(store: &Postgres, offsets: std::ops::Range<u64>, published: usize) {
    let lease = store.take_over(&assignment("billing"), "test", NOW).await.expect("a lease");
    let events: Vec<_> = offsets.map(|offset| event(offset, Some("k"))).collect();
    let deliveries: Vec<_> = events.iter().map(|event| of(event, Source::Log)).collect();
    let begun = store.begin_admitted(&lease, &deliveries, NOW).await;
    let (mut tx, admissions) = begun.expect("a transaction and an answer");
    assert!(admissions.iter().all(|admission| *admission == Admission::New), "{admissions:?}");
    for event in &events {
        for number in 0..published {
            tx.publish(new_event(&format!("{}-{number}", event.id), "k")).expect("has room");
        }
        if events.len() > 1 {
            tx.prove().await.expect("is whole");
        }
    }
    tx.commit(NOW).await.expect("a commit");
}

/// The number of answers of a transaction is written down here: it does not grow by accident.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_costs_a_fixed_number_of_answers() {
    let Some(fixture) = Fixture::new().await else { return };
    let (through, answers) = counting(&fixture.url()).await;
    // One connection, which knows every statement after the first time.
    let store = Postgres::connect_with(&through, 1).await.expect("a database");
    let mut next = 0;
    for (published, count, expected) in [
        (0, 1, OF_AN_EVENT),
        (1, 1, OF_AN_EVENT),
        (5, 1, OF_AN_EVENT_THAT_PUBLISHES_SEVERAL),
        (1, 20, OF_A_BATCH + 20),
    ] {
        let mut took = 0;
        for _ in 0..2 {
            // The takeover is counted by itself: it is no part of an event.
            let before = answers.load(Ordering::SeqCst);
            store.take_over(&assignment("billing"), "test", NOW).await.expect("a lease");
            let takeover = answers.load(Ordering::SeqCst) - before;
            handle(&store, next..next + count, published).await;
            next += count;
            // The first takeover also prepares its statements, and the second does not.
            took = (answers.load(Ordering::SeqCst) - before).saturating_sub(2 * takeover);
        }
        assert_eq!(took, expected, "{count} events that publish {published} each");
    }
}

/// The transaction of the next event begins with the commit: one way less, and the same rows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_behind_another_one_costs_one_answer_less() {
    let Some(fixture) = Fixture::new().await else { return };
    let (through, answers) = counting(&fixture.url()).await;
    let store = Postgres::connect_with(&through, 1).await.expect("a database");
    let lease = store.take_over(&assignment("billing"), "test", NOW).await.expect("a lease");
    let events: Vec<_> = (0..4).map(|offset| event(offset, Some("k"))).collect();
    let begun = store.begin_admitted(&lease, &[of(&events[0], Source::Log)], NOW).await;
    let (mut tx, _) = begun.expect("a transaction and an answer");
    let mut took = 0;
    for next in &events[1..] {
        tx.publish(new_event(&format!("before-{}", next.id), "k")).expect("has room");
        let before = answers.load(Ordering::SeqCst);
        let committed = tx.commit_and_begin(&lease, &[of(next, Source::Log)], NOW).await;
        let (committed, begun) = committed.expect("a commit");
        assert_eq!(committed.lanes.len(), 1);
        let (begun, admissions) = begun.expect("a transaction");
        assert_eq!(admissions, [Admission::New]);
        took = answers.load(Ordering::SeqCst) - before;
        tx = begun;
    }
    assert_eq!(took, OF_AN_EVENT - BEHIND_ANOTHER);
    tx.commit(NOW).await.expect("a commit");
    assert_eq!(fixture.number("SELECT COUNT(*) FROM courant_inbox").await, 4);
    assert_eq!(fixture.number("SELECT COUNT(*) FROM courant_outbox").await, 3);
}
