//! A server that was started anew, or that has taken another one's place, gives its connections numbers that others
//! had before.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use courant_sql::{Mariadb, Store as _, Transaction as _, sqlx};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::steps::{Db, Fixture, NOW, Tx, effect};

/// What a connection asks for its number by.
const ASKS: &[u8] = b"CONNECTION_ID()";

/// Stands between a store and its server, and tells each connection that it is another one.
struct Renumbering {
    url: String,
    told: Arc<Mutex<Told>>,
    has_told: Arc<AtomicBool>,
}

/// Which one.
#[derive(Clone, Debug, Default)]
struct Told {
    number: i64,
    /// Where it comes from, when that is told as well, and the second in which its server was started: the one before is
    /// told.
    place: Option<(String, i64)>,
}

impl Told {
    /// Puts this in the place of what the server has said of the connection with number `own`. Whether all was found.
    fn replace(&self, answer: &mut [u8], own: i64) -> bool {
        let is_renumbered = replace(answer, own, self.number);
        let Some((host, start)) = &self.place else { return is_renumbered };
        if !is_renumbered || !replace_port(answer, host) {
            return false;
        }
        // Only who asks for it has it in the answer.
        let (start, before) = (start.to_string(), (start - 1).to_string());
        if let Some(at) = position(answer, start.as_bytes()) {
            answer[at..][..before.len()].copy_from_slice(before.as_bytes());
        }
        true
    }
}

fn position(answer: &[u8], text: &[u8]) -> Option<usize> {
    answer.windows(text.len()).position(|word| word == text)
}

/// Puts the port of a host in the place of that of another connection from there. It has to have as many digits.
fn replace_port(answer: &mut [u8], host: &str) -> bool {
    let (name, port) = host.rsplit_once(':').expect("a port");
    let Some(at) = position(answer, format!("{name}:").as_bytes()) else { return false };
    let behind = &mut answer[at + name.len() + 1..];
    let digits = behind.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits != port.len() {
        return false;
    }
    behind[..digits].copy_from_slice(port.as_bytes());
    true
}

impl Renumbering {
    /// In front of the database at `url`.
    async fn before(url: &str) -> Self {
        let (credentials, place) = url.rsplit_once('@').expect("an address names a user");
        let (server, database) = place.split_once('/').expect("an address ends with a database");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let own = listener.local_addr().expect("a port");
        let (told, has_told) = (Arc::new(Mutex::new(Told::default())), Arc::new(AtomicBool::new(false)));
        let (server, shared, has) = (server.to_owned(), told.clone(), has_told.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, server.clone(), shared.clone(), has.clone()));
            }
        });
        Self { url: format!("{credentials}@{own}/{database}"), told, has_told }
    }

    /// From now on this is told.
    fn tell(&self, told: Told) {
        *self.told.lock().expect("no panic") = told;
    }
}

/// One connection, until one side ends it.
async fn pass(mut client: TcpStream, server: String, told: Arc<Mutex<Told>>, has_told: Arc<AtomicBool>) {
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
                let told = told.lock().expect("no panic").clone();
                if position(answer, ASKS).is_some() && told.replace(answer, own) {
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
    let at = position(answer, &from);
    let Some(at) = at.filter(|_| from.len() == to.len()) else { return false };
    answer[at..][..to.len()].copy_from_slice(&to);
    true
}

/// The transaction of somebody else, and a store whose one connection believes that it is the one of that.
async fn confused(fixture: &Fixture, other: &Db, is_from_there: bool) -> (Tx, Db) {
    let server = Renumbering::before(&fixture.url()).await;
    loop {
        let mut innocent = other.begin(None).await.expect("a transaction");
        let number = sqlx::query_scalar::<_, i64>("SELECT CAST(CONNECTION_ID() AS SIGNED)");
        let number = number.fetch_one(&mut *innocent).await.expect("a number");
        let place = if is_from_there { Some(place(&mut innocent).await) } else { None };
        server.tell(Told { number, place });
        let store = Mariadb::connect_with(&server.url, 1).await.expect("a database");
        if server.has_told.load(Ordering::SeqCst) {
            return (innocent, store);
        }
        innocent.rollback().await.expect("a rollback");
    }
}

/// Where a transaction's connection comes from, and when its server was started.
async fn place(tx: &mut Tx) -> (String, i64) {
    let sql = "SELECT p.HOST FROM information_schema.PROCESSLIST p WHERE p.ID = CONNECTION_ID()";
    let host = sqlx::query_scalar::<_, String>(sql).fetch_one(&mut **tx).await.expect("a host");
    let sql = "SELECT CAST(UNIX_TIMESTAMP() - VARIABLE_VALUE AS SIGNED) \
               FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = 'UPTIME'";
    let start = sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut **tx).await.expect("a time");
    (host, start)
}

/// A connection of the store's is dropped with its locks, and somebody else's transaction goes on.
async fn drops_one(fixture: &Fixture, store: &Db, mut innocent: Tx) {
    effect(&mut innocent, "e-1").await;
    drop(store.begin(None).await.expect("a transaction"));
    // It has the one place, so it begins when what is to be done about the one before it is done.
    let next = store.begin(None).await.expect("a transaction");
    next.rollback().await.expect("a rollback");
    innocent.commit(NOW).await.expect("a commit");
    assert_eq!(fixture.effects("e-1").await, 1);
}

/// Symptom: when the server had been started anew, or another one had taken its place, transactions of others lost
/// their connections. Cause: connections that the first one had ended were ended there once more, by their numbers,
/// which others had by then. Fix: it is looked at where the one of the number comes from.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_ended_by_the_number_of_another_one() {
    let Some(fixture) = Fixture::new().await else { return };
    let other = fixture.another().await;
    let (innocent, store) = confused(&fixture, &other, false).await;
    drops_one(&fixture, &store, innocent).await;
}

/// Symptom: the same where all come over a Unix socket. Cause: of these a server says one host, without a port, so the
/// number alone decided. Fix: a server that was started at another time is another one, and so is that of another host.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_ended_on_a_server_that_was_started_anew() {
    let Some(fixture) = Fixture::new().await else { return };
    let other = fixture.another().await;
    let (innocent, store) = confused(&fixture, &other, true).await;
    drops_one(&fixture, &store, innocent).await;
}
