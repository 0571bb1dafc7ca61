//! O7 on Postgres: the commit of another process wakes the relay; if the call is lost, the relay looks by itself.

use std::time::{Duration, Instant};

use bytes::Bytes;
use courant::store_api::sqlx;
use courant::store_api::{NewEvent, Store as _, Transaction as _};
use courant::{EventId, Running};
use courant_core::topic::TopicName;

use super::common::{Db, Site, counted};
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
