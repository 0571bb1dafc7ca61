//! How often a handler's transaction waits for the server: each question is a way there and back.
//!
//! Counted on the wire, between the store and the server: the packet of a question has the number 0, and those
//! that answer it go on from there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use courant_sql::{Admission, Mariadb, Progress, Source, Store as _, Transaction as _};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::steps::{Fixture, NOW, assignment, effect, event, new_event, of};

/// BEGIN with everything that holds the partition, and the inbox; then the inbox, the outbox and COMMIT.
const OF_AN_EVENT: u64 = 2;
/// An event behind another one begins with the commit before it.
const BEHIND_ANOTHER: u64 = 1;

/// The beginning, which holds all partitions, what is saved, and COMMIT.
const OF_PROGRESS: u64 = 3;

/// The command that closes a statement has no answer.
const CLOSE: u8 = 0x19;

/// A packet: its number, the first byte of what is in it, and all of it.
pub(super) struct Packet {
    pub(super) number: u8,
    kind: u8,
    pub(super) bytes: Vec<u8>,
}

impl Packet {
    /// Whether it is the answer to a statement that gives no rows, and another one stands behind that in the text. After
    /// its kind come two numbers, of one byte each unless they are large, and what state the server is in.
    pub(super) fn has_more(&self) -> bool {
        matches!(self.bytes[4..], [0, rows, id, state, ..] if rows < 0xfb && id < 0xfb && state & 8 != 0)
    }
}

/// The packet in which a server, or who stands before it, says that it refuses.
pub(super) fn refusal(number: u8, code: u16, state: &str) -> Vec<u8> {
    let text = format!("#{state}in the middle of it");
    let length = u8::try_from(3 + text.len()).expect("short");
    let [low, high] = code.to_le_bytes();
    [&[length, 0, 0, number, 0xff, low, high][..], text.as_bytes()].concat()
}

/// A server between the store and the one that the environment names. It hears each packet that comes from there, or
/// goes there, and says whether it is passed on; otherwise the connection ends.
pub(super) async fn between(
    url: &str,
    asks: impl Fn(u8, u8) -> bool + Clone + Send + 'static,
    answers: impl Fn(u8, u8) -> bool + Clone + Send + 'static,
) -> String {
    rewriting(url, asks, move |packet| answers(packet.number, packet.kind).then_some(packet.bytes)).await
}

/// [`between`], where it says what is passed on instead of a packet that comes from the server.
pub(super) async fn rewriting(
    url: &str,
    asks: impl Fn(u8, u8) -> bool + Clone + Send + 'static,
    answers: impl Fn(Packet) -> Option<Vec<u8>> + Clone + Send + 'static,
) -> String {
    let (credentials, place) = url.rsplit_once('@').expect("an address with a user");
    let (server, database) = place.split_once('/').expect("an address with a database");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let own = listener.local_addr().expect("an address");
    let through = format!("{credentials}@{own}/{database}");
    let server = server.to_owned();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(&server).await.expect("the server");
            client.set_nodelay(true).expect("an option");
            server.set_nodelay(true).expect("an option");
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            let asks = asks.clone();
            let asks = move |packet: Packet| asks(packet.number, packet.kind).then_some(packet.bytes);
            tokio::spawn(pass(from_client, to_server, asks));
            tokio::spawn(pass(from_server, to_client, answers.clone()));
        }
    });
    through
}

/// Passes everything on that is to be, until one of the two ends.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    passes: impl Fn(Packet) -> Option<Vec<u8>>,
) {
    while let Some(packet) = packet(&mut from).await {
        let Some(bytes) = passes(packet) else { break };
        if to.write_all(&bytes).await.is_err() {
            break;
        }
    }
    // Who waits for the rest hears that there is none.
    let _ = to.shutdown().await;
}

/// One packet: three bytes of length, its number, and what is in it.
async fn packet(from: &mut (impl AsyncRead + Unpin)) -> Option<Packet> {
    let mut bytes = vec![0; 4];
    from.read_exact(&mut bytes).await.ok()?;
    let [a, b, c, number] = bytes[..] else { return None };
    let length = usize::try_from(u32::from_le_bytes([a, b, c, 0])).ok()?;
    bytes.resize(4 + length, 0);
    from.read_exact(&mut bytes[4..]).await.ok()?;
    let kind = bytes.get(4).copied().unwrap_or_default();
    Some(Packet { number, kind, bytes })
}

/// A server between the store and the one that the environment names, which counts questions.
async fn counting(url: &str) -> (String, Arc<AtomicU64>) {
    let questions = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&questions);
    let asks = move |number: u8, kind: u8| {
        if number == 0 && kind != CLOSE {
            counted.fetch_add(1, Ordering::SeqCst);
        }
        true
    };
    (between(url, asks, |_: u8, _: u8| true).await, questions)
}

/// The number of questions of a transaction is written down here: it does not grow by accident.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_costs_a_fixed_number_of_answers() {
    let Some(fixture) = Fixture::new().await else { return };
    let (through, questions) = counting(&fixture.url()).await;
    let store = Mariadb::connect_with(&through, 1).await.expect("a database");
    let lease = fixture.lease().await;
    for (offset, published) in [(0, false), (1, true)] {
        let event = event(offset, Some("k"));
        let before = questions.load(Ordering::SeqCst);
        let begun = store.begin_admitted(&lease, &[of(&event, Source::Log)], NOW).await;
        let (mut tx, admissions) = begun.expect("a transaction and an answer");
        assert_eq!(admissions, [Admission::New]);
        if published {
            tx.publish(new_event("p-1", "k")).expect("room for one");
        }
        tx.commit(NOW).await.expect("a commit");
        let took = questions.load(Ordering::SeqCst) - before;
        assert_eq!(took, OF_AN_EVENT, "an event that publishes: {published}");
    }
    let events: Vec<_> = (2..5).map(|offset| event(offset, Some("k"))).collect();
    let begun = store.begin_admitted(&lease, &[of(&events[0], Source::Log)], NOW).await;
    let (mut tx, _) = begun.expect("a transaction and an answer");
    for next in &events[1..] {
        tx.publish(new_event(&format!("before-{}", next.id), "k")).expect("room for one");
        let before = questions.load(Ordering::SeqCst);
        let committed = tx.commit_and_begin(&lease, &[of(next, Source::Log)], NOW).await;
        let (committed, begun) = committed.expect("a commit");
        assert_eq!(committed.lanes.len(), 1);
        let (begun, admissions) = begun.expect("a transaction");
        assert_eq!(admissions, [Admission::New]);
        assert_eq!(questions.load(Ordering::SeqCst) - before, OF_AN_EVENT - BEHIND_ANOTHER);
        tx = begun;
    }
    effect(&mut tx, events[2].id.as_str()).await;
    tx.commit(NOW).await.expect("a commit");
    let handled = "SELECT COUNT(*) FROM courant_inbox WHERE outcome = 'handled'";
    assert_eq!(fixture.number(handled).await, 5);
    assert_eq!(fixture.number("SELECT COUNT(*) FROM courant_outbox").await, 3);
}

/// However many partitions there are, and whoever has taken one of them meanwhile: the others are saved.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_of_several_partitions_is_one_transaction() {
    let Some(fixture) = Fixture::new().await else { return };
    let (through, questions) = counting(&fixture.url()).await;
    let store = Mariadb::connect_with(&through, 1).await.expect("a database");
    let mut leases = Vec::new();
    for partition in 0..3 {
        let mut of_it = assignment("billing");
        of_it.partition.partition = partition;
        leases.push(fixture.store.take_over(&of_it, "test", NOW).await.expect("a lease"));
    }
    let mut took = 0;
    for offset in 1..=2 {
        let progress = Progress { offset, mark: format!("e-{offset}"), gap_events: 0 };
        let saves: Vec<_> = leases.iter().map(|lease| (lease, &progress)).collect();
        let before = questions.load(Ordering::SeqCst);
        store.save_progress(&saves, NOW).await.expect("saved");
        // The first time the statement is prepared, too.
        took = questions.load(Ordering::SeqCst) - before;
    }
    assert_eq!(took, OF_PROGRESS);
    fixture.store.take_over(&leases[2].assignment, "other", NOW).await.expect("a lease");
    let further = Progress { offset: 9, mark: "e-9".to_owned(), gap_events: 0 };
    let saves: Vec<_> = leases.iter().map(|lease| (lease, &further)).collect();
    store.save_progress(&saves, NOW).await.expect_err("one of them is over");
    let mut offsets = Vec::new();
    for lease in &leases {
        let progress = store.progress(&lease.assignment).await.expect("an answer");
        offsets.push(progress.expect("saved").offset);
    }
    assert_eq!(offsets, [9, 9, 2]);
}
