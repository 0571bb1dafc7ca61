//! O7 on Postgres: the commit of another process wakes the relay; if the call is lost, the relay looks by itself.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use courant::prelude::*;
use courant::store_api::{NewEvent, Store as _, Transaction as _};
use courant::{EventId, Running};
use courant_core::topic::TopicName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::common::{Db, Script, Site, count, counted};
use super::waking::{Reading, WOKEN, assert_quick, commits, resting};

const SILENCED: &str = "alter table courant_outbox disable trigger courant_outbox_ring";

const NOW: i64 = 1_700_000_000_000;

/// What depends on a commit that comes within some hundred milliseconds is tried so often. Each time that a busy
/// machine is later than that takes about a second.
const TRIES: u32 = 20;

fn event(id: &str, kind: &str, n: u32) -> NewEvent {
    let headers = [("ce_id", id), ("ce_type", kind)];
    NewEvent {
        id: EventId::new(id).expect("legal"),
        topic: TopicName::new("test.counted").expect("legal"),
        key: Some(Bytes::from_static(b"a")),
        value: Some(Bytes::from(format!(r#"{{"key":"a","n":{n}}}"#))),
        headers: headers.map(|(name, value)| (name.to_owned(), Bytes::from(value.to_owned()))).to_vec(),
        timestamp_ms: NOW,
    }
}

/// Another process commits an event. How long it takes until it is published.
async fn commit(service: &mut Running<Db>, reading: &mut Reading, other: &Db, n: u32) -> Duration {
    let mut tx = other.begin(None).await.expect("begins");
    tx.publish(event(&format!("evt-{n}"), "test.counted", n)).expect("is taken");
    let begun = Instant::now();
    tx.commit(NOW).await.expect("commits");
    reading.one().await;
    let took = begun.elapsed();
    service.settle().await.expect("settles");
    took
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_of_another_process_is_published_at_once() {
    let Some(site) = Site::on_memory().await else { return };
    let mut service = resting(&site).await;
    let mut reading = Reading::begin(&**service.engine()).await;
    let other = site.store().await;
    let mut took = Vec::new();
    for n in 0..commits() {
        took.push(commit(&mut service, &mut reading, &other, n).await);
    }
    assert_quick(took);
    service.stop().await.expect("stops");
}

/// Whoever takes an event out of the outbox stands still while somebody has the lock, and each time a relay says that
/// nobody has to wake it any more there is a row.
const NOTED: &str = "\
    create function stand_still() returns trigger language plpgsql as \
        $$ begin perform pg_advisory_xact_lock(1); return old; end $$; \
    create trigger stand_still before delete on courant_outbox for each row execute function stand_still(); \
    create table stirred (n bigint generated always as identity); \
    create function stir() returns trigger language plpgsql as \
        $$ begin insert into stirred default values; return null; end $$; \
    create trigger stir after update on courant_relay for each row \
        when (old.resting = 1 and new.resting = 0) execute function stir()";

const STANDS_STILL: &str = "select count(*) from pg_locks where locktype = 'advisory' and not granted \
    and objid = 1 and database = (select oid from pg_database where datname = current_database())";

async fn number(store: &Db, sql: &'static str) -> i64 {
    let mut reader = store.read().await.expect("reads");
    let (number,): (i64,) = sqlx::query_as(sql).fetch_one(&mut *reader).await.expect("selects");
    number
}

/// Waits until the database says this number.
async fn becomes(store: &Db, sql: &'static str, expected: i64) {
    let waiting = async {
        while number(store, sql).await != expected {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting).await.expect(sql);
}

/// The service itself commits an event.
async fn commit_own(service: &Running<Db>, n: u32) {
    let mut tx = service.transaction().await.expect("begins");
    tx.publish(&counted("a", n)).expect("is taken");
    tx.commit().await.expect("commits");
}

/// Commits that wake somebody go one after the other through the whole server. A service that commits while its relay
/// has the event before on its way is at work, and has to wake it no more; one event after the other wakes it.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_at_work_wakes_nobody() {
    let Some(site) = Site::on_memory().await else { return };
    let mut service = resting(&site).await;
    site.home.run(NOTED).await;
    let other = site.store().await;
    for (meanwhile, stirred) in [(0, 0), (3, 1)] {
        let mut locking = other.begin(None).await.expect("begins");
        sqlx::query("select pg_advisory_xact_lock(1)").execute(&mut *locking).await.expect("locks");
        commit_own(&service, 0).await;
        becomes(&other, STANDS_STILL, 1).await;
        for n in 0..meanwhile {
            commit_own(&service, n).await;
        }
        locking.rollback().await.expect("lets go");
        service.settle().await.expect("settles");
        assert_eq!(number(&other, "select count(*) from stirred").await, stirred, "{meanwhile} meanwhile");
    }
    service.stop().await.expect("stops");
}

/// Nothing depends on the call: without it all is published, about a second later. So it is the call that makes
/// the others quick.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_lost_costs_a_second() {
    let Some(site) = Site::on_memory().await else { return };
    site.home.run(SILENCED).await;
    let mut service = resting(&site).await;
    let mut reading = Reading::begin(&**service.engine()).await;
    let other = site.store().await;
    let mut took: Vec<Duration> = Vec::new();
    // The second begins when the relay lies down, and on a busy machine some of it is over before a commit. The first
    // one may also meet the look with which a rest begins.
    for n in 0..TRIES {
        took.push(commit(&mut service, &mut reading, &other, n).await);
        if took.iter().any(|took| *took > WOKEN) {
            break;
        }
    }
    assert!(took.iter().any(|took| *took > WOKEN), "{took:?}");
    service.stop().await.expect("stops");
}

/// The relay cannot say that it rests while somebody has the lock.
const RESTS_LATE: &str = "\
    create function stand_still() returns trigger language plpgsql as \
        $$ begin perform pg_advisory_xact_lock(1); return new; end $$; \
    create trigger stand_still before update on courant_relay for each row \
        when (old.resting = 0 and new.resting = 1) execute function stand_still()";

const SUBMIT: &str = "insert into courant_outbox_submit (topic, event_key, event_value, event_type) \
    values ('test.counted', 'a', '{}', 'test.other')";

const SUBMITTED: &str = "select count(*) from courant_outbox_submit";

/// Another process commits so many events that nobody has to wake the relay any more. No handler is there for them.
async fn commit_many(other: &Db, round: usize) {
    let mut tx = other.begin(None).await.expect("begins");
    for n in 0..20 {
        tx.publish(event(&format!("many-{round}-{n}"), "test.other", n)).expect("is taken");
    }
    tx.commit(NOW).await.expect("commits");
}

/// Symptom: an event of another program was published a second late now and then, each time that the relay had just
/// gone to rest. Cause: it was written while nobody had to wake the relay, and committed behind the look with which the
/// relay went to rest. Fix: there is another look, soon after that.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_before_the_relay_rested_is_found_soon() {
    let Some(site) = Site::on_memory().await else { return };
    let mut service = resting(&site).await;
    site.home.run(RESTS_LATE).await;
    let other = site.store().await;
    let mut took: Vec<Duration> = Vec::new();
    // On a busy machine the look may be over before the commit.
    while took.len() < TRIES as usize && took.iter().all(|took| *took >= WOKEN) {
        let mut locking = other.begin(None).await.expect("begins");
        sqlx::query("select pg_advisory_xact_lock(1)").execute(&mut *locking).await.expect("locks");
        commit_many(&other, took.len()).await;
        becomes(&other, STANDS_STILL, 1).await;
        let mut late = other.begin(None).await.expect("begins");
        sqlx::query(SUBMIT).execute(&mut *late).await.expect("writes");
        locking.rollback().await.expect("lets go");
        service.settle().await.expect("settles");
        let begun = Instant::now();
        late.commit(NOW).await.expect("commits");
        becomes(&other, SUBMITTED, 0).await;
        took.push(begun.elapsed());
        service.settle().await.expect("settles");
    }
    assert!(took.iter().any(|took| *took < WOKEN), "{took:?}");
    service.stop().await.expect("stops");
}

/// Counts connections that hear calls.
const LISTENING: &str = "select count(*) from pg_stat_activity \
    where datname = current_database() and query ilike 'listen %'";

/// Symptom: where several instances of a service ran for long, the server kept the calls of all commits for those that
/// had been the relay once, without end, until commits were refused. Cause: a relay that stands by went on listening,
/// and took nothing of what was said. Fix: it listens while it is the relay.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_stands_by_does_not_listen() {
    let Some(site) = Site::on_memory().await else { return };
    let service = resting(&site).await;
    let other = site.store().await;
    becomes(&other, LISTENING, 1).await;
    let taken = other.take_over_relay("all", "another one", NOW).await.expect("takes it");
    assert_eq!(taken.epoch, 2);
    becomes(&other, LISTENING, 0).await;
    service.stop().await.expect("stops");
}

/// A server between the service and the one of its database. When it is told, the first connection that listens leads
/// nowhere any more, and does not end.
async fn between(url: &str, is_gone: Arc<AtomicBool>) -> String {
    let (user, place) = url.rsplit_once('@').expect("an address with a user");
    let (server, database) = place.split_once('/').expect("an address with a database");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let own = listener.local_addr().expect("an address");
    let (server, has_listener) = (server.to_owned(), Arc::new(AtomicBool::new(false)));
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(&server).await.expect("the server");
            tokio::spawn(pass(client, server, has_listener.clone(), is_gone.clone()));
        }
    });
    // Encrypted, nothing could be told apart.
    format!("{user}@{own}/{database}?sslmode=disable")
}

/// One connection of them.
async fn pass(
    mut client: TcpStream,
    mut server: TcpStream,
    has_listener: Arc<AtomicBool>,
    is_gone: Arc<AtomicBool>,
) {
    let (mut asked, mut answered) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    let mut listens = false;
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let Ok(read @ 1..) = read else { return };
                if listens && is_gone.load(Ordering::SeqCst) {
                    pending::<()>().await;
                }
                let wants = asked[..read].windows(6).any(|word| word == b"LISTEN");
                listens |= wants && !has_listener.swap(true, Ordering::SeqCst);
                if server.write_all(&asked[..read]).await.is_err() {
                    return;
                }
            }
            read = server.read(&mut answered) => {
                let Ok(read @ 1..) = read else { return };
                if client.write_all(&answered[..read]).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Symptom: after a failover, or behind a router that forgets connections on which nothing comes, each event of another
/// process was published a second late for as long as the relay ran. Cause: nothing says of a connection on which the
/// relay only listens that it leads nowhere. Fix: the relay asks, and listens anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_listens_anew_where_it_can_hear_nothing() {
    let Some(site) = Site::on_memory().await else { return };
    let is_gone = Arc::new(AtomicBool::new(false));
    let through = between(&site.home.url(), is_gone.clone()).await;
    let store = Db::connect(&through).await.expect("opens");
    let app = App::new("test").engine(site.engine()).partitions(1).in_world(&site.world).store(store);
    let counting = Subscription::named("counting").on(count);
    let service = app.state(Script::default()).subscribe(counting).build().await;
    let mut service = service.expect("fits together").start().await.expect("starts");
    service.settle().await.expect("settles");
    let other = site.store().await;
    becomes(&other, LISTENING, 1).await;
    is_gone.store(true, Ordering::SeqCst);
    // The server does not know that nobody hears the first one.
    becomes(&other, LISTENING, 2).await;
    service.stop().await.expect("stops");
}
