//! A server that was started anew, or that has taken another one's place, gives its connections numbers that others
//! had before.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use courant_sql::{Mariadb, Store as _, Transaction as _, sqlx};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::steps::{Fixture, NOW, effect};

/// What a connection asks for its number by.
const ASKS: &[u8] = b"CONNECTION_ID()";

/// Stands between a store and its server, and tells each connection the same number.
struct Renumbering {
    url: String,
    number: Arc<AtomicI64>,
    has_told: Arc<AtomicBool>,
}

impl Renumbering {
    /// In front of the database at `url`.
    async fn before(url: &str) -> Self {
        let (credentials, place) = url.rsplit_once('@').expect("an address names a user");
        let (server, database) = place.split_once('/').expect("an address ends with a database");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let own = listener.local_addr().expect("a port");
        let (number, has_told) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicBool::new(false)));
        let (server, told, has) = (server.to_owned(), number.clone(), has_told.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, server.clone(), told.clone(), has.clone()));
            }
        });
        Self { url: format!("{credentials}@{own}/{database}"), number, has_told }
    }
}

/// One connection, until one side ends it.
async fn pass(mut client: TcpStream, server: String, number: Arc<AtomicI64>, has_told: Arc<AtomicBool>) {
    let mut server = TcpStream::connect(server).await.expect("the server");
    let (mut asked, mut answered) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    let mut own = None;
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let Ok(read @ 1..) = read else { return };
                if server.write_all(&asked[..read]).await.is_err() {
                    return;
                }
            }
            read = server.read(&mut answered) => {
                let Ok(read @ 1..) = read else { return };
                let answer = &mut answered[..read];
                let own = *own.get_or_insert_with(|| greeted(answer));
                if answer.windows(ASKS.len()).any(|word| word == ASKS)
                    && replace(answer, own, number.load(Ordering::SeqCst))
                {
                    has_told.store(true, Ordering::SeqCst);
                }
                if client.write_all(answer).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// The number in a server's greeting: behind four bytes of the packet, the protocol and the version, which ends with
/// a zero.
fn greeted(greeting: &[u8]) -> i64 {
    let version = greeting[5..].iter().position(|byte| *byte == 0).expect("a version");
    let number = &greeting[6 + version..][..4];
    i64::from(u32::from_le_bytes(number.try_into().expect("four bytes")))
}

/// Puts another number in the place of one. Both stand there as texts behind their lengths, so it has to have as many
/// digits.
fn replace(answer: &mut [u8], from: i64, to: i64) -> bool {
    let text = |number: i64| {
        let digits = number.to_string();
        let mut text = vec![u8::try_from(digits.len()).expect("few digits")];
        text.extend_from_slice(digits.as_bytes());
        text
    };
    let (from, to) = (text(from), text(to));
    let at = answer.windows(from.len()).position(|word| word == from);
    let Some(at) = at.filter(|_| from.len() == to.len()) else { return false };
    answer[at..][..to.len()].copy_from_slice(&to);
    true
}

/// Symptom: when the server had been started anew, or another one had taken its place, transactions of others lost
/// their connections. Cause: connections that the first one had ended were ended there once more, by their numbers,
/// which others had by then. Fix: it is looked at where the one of the number comes from.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_ended_by_the_number_of_another_one() {
    let Some(fixture) = Fixture::new().await else { return };
    let (other, server) = (fixture.another().await, Renumbering::before(&fixture.url()).await);
    let (mut innocent, store) = loop {
        let mut innocent = other.begin(None).await.expect("a transaction");
        let number: i64 = sqlx::query_scalar("SELECT CAST(CONNECTION_ID() AS SIGNED)")
            .fetch_one(&mut *innocent)
            .await
            .expect("a number");
        server.number.store(number, Ordering::SeqCst);
        let store = Mariadb::connect_with(&server.url, 1).await.expect("a database");
        if server.has_told.load(Ordering::SeqCst) {
            break (innocent, store);
        }
        innocent.rollback().await.expect("a rollback");
    };
    effect(&mut innocent, "e-1").await;
    drop(store.begin(None).await.expect("a transaction"));
    // It has the one place, so it begins when what is to be done about the one before it is done.
    let next = store.begin(None).await.expect("a transaction");
    next.rollback().await.expect("a rollback");
    innocent.commit(NOW).await.expect("a commit");
    assert_eq!(fixture.effects("e-1").await, 1);
}
