//! `courant dlq` on the store of each database: the same words have the same rows and the same exit codes, whatever
//! keeps the letters. No service runs: the letters are those that one has left behind.

use bytes::Bytes;
use courant_core::consumer::ConsumerName;
use courant_core::event_id::EventId;
use courant_core::position::TopicPartition;
use courant_core::topic::TopicName;
use courant_sql::{
    Assignment, Burial, Consumer, DeadReason, Event, Failure, ParkedOf, Sqlite, Store, Transaction as _, sqlx,
};
use serde_json::{Value, json};

use crate::cli::{assert_fails, rows};
use crate::relay_support::Database;
use crate::server::courant;

const USAGE: i32 = 2;
const NOT_FOUND: i32 = 3;
const CONFLICT: i32 = 4;
const UNREACHABLE: i32 = 6;

/// When the letters have failed.
const FAILED_MS: i64 = 1_764_000_000_000;

/// One customer each.
const KEYS: [&str; 3] = ["ada", "bob", "cat"];

/// What is done one after the other. `@0` to `@2` are the letters of [`KEYS`].
#[cfg(any(feature = "mariadb", feature = "postgres"))]
const COMMANDS: &[&[&str]] = &[
    &["list"],
    &["list", "--letters"],
    &["list", "--consumer", "billing", "--topic", "shop.orders", "--key", "bob"],
    &["list", "--since", "@1764000000000", "--until", "@1764000000001"],
    &["list", "--until", "@1764000000000"],
    &["show", "@0"],
    &["redrive", "--all", "--dry-run"],
    &["redrive", "@0", "@1", "--id", "first", "--rate", "1", "--by", "grace"],
    &["redrive", "--all", "--id", "first", "--by", "heidi"],
    &["redrive", "--status", "first"],
    &["redrive", "--status", "first", "--events"],
    &["list", "--state", "redriving"],
    &["redrive", "--cancel", "first"],
    &["redrive", "--status", "first", "--events"],
    &["edit", "@0", r#"{"total":2}"#, "--reason", "a typo", "--by", "grace"],
    &["edit", "@0", "--keep-value", "-H", "tenant=blue", "--delete-header", "raw", "--reason", "whose"],
    &["show", "@0"],
    &["discard", "@1", "--reason", "paid by hand", "--by", "grace", "--dry-run"],
    &["discard", "@1", "--reason", "paid by hand", "--by", "grace"],
    &["archive", "--key", "cat", "--reason", "for the auditors", "--by", "grace"],
    &["restore", "@2", "--reason", "not over yet", "--by", "grace"],
    &["archive", "@2", "--reason", "for the auditors", "--by", "grace"],
    &["list"],
    &["list", "--state", "archived"],
    &["export", "--state", "any"],
];

/// The partition that everything is about.
fn assignment() -> Assignment {
    let consumer = Consumer { name: ConsumerName::new("billing").unwrap(), generation: 1 };
    let partition = TopicPartition { topic: TopicName::new("shop.orders").unwrap(), partition: 2 };
    Assignment { consumer, partition }
}

fn order(offset: u64, id: &str, key: Option<&'static str>) -> Event {
    Event {
        offset,
        id: EventId::new(id).unwrap(),
        key: key.map(Bytes::from),
        value: Some(Bytes::from_static(br#"{"total":1}"#)),
        headers: vec![
            ("ce_id".to_owned(), Bytes::from(id.to_owned())),
            ("content-type".to_owned(), Bytes::from_static(b"application/json")),
            // Of no text.
            ("raw".to_owned(), Bytes::from_static(&[0, 0xff])),
        ],
        timestamp_ms: FAILED_MS - 1,
    }
}

fn failure() -> Failure {
    Failure {
        kind: "billing::NotBilled".to_owned(),
        place: "billing::bill".to_owned(),
        message: "the order cannot be billed: the card was declined".to_owned(),
    }
}

/// What a service leaves behind that has given up one event of each key.
async fn give_up(store: &impl Store) {
    let lease = store.take_over(&assignment(), "a test", FAILED_MS).await.expect("a lease");
    let failure = failure();
    for (offset, key) in (0..).zip(KEYS) {
        let event = order(offset, &format!("order-of-{key}"), Some(key));
        let burial = Burial {
            event: &event,
            failure: &failure,
            reason: DeadReason::Exhausted,
            keep_key_parked: true,
            code_version: "2.1",
            copies: Vec::new(),
        };
        store.bury(&lease, burial, FAILED_MS).await.expect("it is a letter");
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Does something with the store of a database.
macro_rules! with_store {
    ($database:expr, $work:ident) => {{
        let url = $database.url();
        runtime().block_on(async {
            match $database {
                Database::Sqlite(_) => Box::pin($work(&Sqlite::connect(&url).await.expect("opens"))).await,
                #[cfg(feature = "postgres")]
                Database::Postgres { .. } => {
                    Box::pin($work(&courant_sql::Postgres::connect(&url).await.expect("connects"))).await;
                }
                #[cfg(feature = "mariadb")]
                Database::Mariadb { .. } => {
                    Box::pin($work(&courant_sql::Mariadb::connect(&url).await.expect("connects"))).await;
                }
            }
        });
    }};
}

/// Puts the letters into a database.
fn fill(database: &Database) {
    with_store!(database, give_up);
}

/// Runs `courant dlq` on a database.
fn dlq(url: &str, words: &[&str]) -> std::process::Output {
    courant(&[&["dlq"][..], words, &["--store", url]].concat(), "")
}

/// The numbers of the letters, in the order of [`KEYS`].
fn letters(url: &str) -> Vec<i64> {
    let listed = rows(dlq(url, &["list", "--letters"]));
    let number = |key: &str| {
        let row = listed.iter().find(|row| row["key"] == key).expect(key);
        row["id"].as_i64().expect("a number")
    };
    KEYS.map(number).to_vec()
}

/// Puts what differs from run to run out of what was said: numbers of letters, times of the run, new ids.
fn level(said: &mut Value, letters: &[i64]) {
    const OF_THE_RUN: [&str; 6] = ["requested", "finished", "since", "at", "event_id", "original_event_id"];
    match said {
        Value::Array(all) => all.iter_mut().for_each(|one| level(one, letters)),
        Value::Object(fields) => {
            let header = fields.get("key").and_then(Value::as_str).unwrap_or_default();
            let names_an_event = ["ce_id", "ce_causationid"].contains(&header);
            for (name, field) in fields.iter_mut() {
                if let (Some(number), "id" | "letter") = (field.as_i64(), name.as_str()) {
                    *field = json!(letters.iter().position(|letter| *letter == number));
                } else if name == "filter"
                    || OF_THE_RUN.contains(&name.as_str()) && !field.is_null()
                    || name == "value" && names_an_event
                {
                    *field = json!("…");
                } else {
                    level(field, letters);
                }
            }
        }
        _ => {}
    }
}

/// What every one of [`COMMANDS`] says.
#[cfg(any(feature = "mariadb", feature = "postgres"))]
fn said(url: &str) -> Vec<Vec<Value>> {
    let letters = letters(url);
    let numbers: Vec<String> = letters.iter().map(i64::to_string).collect();
    let said = COMMANDS.iter().map(|words| {
        let words: Vec<&str> = words
            .iter()
            .map(|word| match *word {
                "@0" => numbers[0].as_str(),
                "@1" => numbers[1].as_str(),
                "@2" => numbers[2].as_str(),
                word => word,
            })
            .collect();
        let mut said = rows(dlq(url, &words));
        said.iter_mut().for_each(|row| level(row, &letters));
        said
    });
    said.collect()
}

/// Every command says on this database what it says on SQLite, and what cannot be done ends in the same way.
#[cfg(any(feature = "mariadb", feature = "postgres"))]
fn is_the_same(database: &Database) {
    let sqlite = Database::sqlite();
    fill(&sqlite);
    fill(database);
    let (expected, found) = (said(&sqlite.url()), said(&database.url()));
    for ((words, expected), found) in COMMANDS.iter().zip(&expected).zip(&found) {
        assert_eq!(found, expected, "{words:?}");
    }
    is_as_it_should_be(&expected);

    let url = database.url();
    let discarded = rows(dlq(&url, &["list", "--state", "discarded"]));
    let discarded = discarded[0]["id"].to_string();
    assert_fails(&dlq(&url, &["show", "999999"]), NOT_FOUND, "999999");
    assert_fails(&dlq(&url, &["redrive", "--cancel", "second"]), NOT_FOUND, "second");
    assert_fails(&dlq(&url, &["discard", &discarded, "--reason", "twice"]), CONFLICT, "discarded");
    assert_fails(&dlq(&url, &["edit", &discarded, "{}", "--reason", "late"]), CONFLICT, "discarded");
    let (place, _) = url.rsplit_once('/').expect("an address ends with a database");
    let nowhere = format!("{place}/there_is_no_such_database");
    assert_fails(&dlq(&nowhere, &["list"]), NOT_FOUND, "cannot be opened");
}

/// It is something that the databases agree about.
#[cfg(any(feature = "mariadb", feature = "postgres"))]
fn is_as_it_should_be(said: &[Vec<Value>]) {
    let of = |word: &str| {
        let at = COMMANDS.iter().position(|words| words.contains(&word)).expect(word);
        &said[at]
    };
    assert_eq!(of("list")[0]["letters"], 3);
    let cancelled = &of("--cancel")[0];
    assert_eq!((&cancelled["state"], &cancelled["cancelled"]), (&json!("cancelled"), &json!(2)));
    let letters = of("export");
    let states: Vec<&Value> = letters.iter().map(|letter| &letter["state"]).collect();
    assert_eq!(states, ["dead", "discarded", "archived"]);
    let actions = |letter: usize| {
        let notes = letters[letter]["notes"].as_array().expect("a list");
        notes.iter().map(|note| note["action"].as_str().expect("a word")).collect::<Vec<_>>()
    };
    assert_eq!(actions(0), ["edited", "edited"]);
    assert_eq!(actions(1), ["discarded"]);
    assert_eq!(actions(2), ["archived", "restored", "archived"]);
    let headers = letters[0]["headers"].as_array().expect("a list");
    let has = |name: &str| headers.iter().any(|header| header["key"] == name);
    assert!(has("tenant") && has("ce_causationid") && !has("raw"), "{headers:?}");
}

/// Nobody listens there: that is said in time, and without the password.
#[cfg(any(feature = "mariadb", feature = "postgres"))]
fn is_told_that_nobody_is_there(scheme: &str) {
    let port = crate::server::fixed_port();
    let url = format!("{scheme}://me:swordfish@127.0.0.1:{port}/billing");
    let relay = ["relay", "--outbox", &url, "--to", "courant://127.0.0.1:1", "--once", "--timeout", "2s"];
    for output in [dlq(&url, &["list", "--timeout", "2s"]), courant(&relay, "")] {
        assert_fails(&output, UNREACHABLE, "");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!said.trim().is_empty() && !said.contains("swordfish"), "{said}");
    }
}

#[cfg(feature = "postgres")]
#[test]
fn on_postgres_it_is_the_same() {
    is_told_that_nobody_is_there("postgres");
    if let Some(database) = Database::postgres("dlq_databases") {
        is_the_same(&database);
    }
}

#[cfg(feature = "mariadb")]
#[test]
fn on_mariadb_it_is_the_same() {
    is_told_that_nobody_is_there("mariadb");
    if let Some(database) = Database::mariadb("dlq_databases") {
        is_the_same(&database);
    }
}

/// A transaction that has the rows of all letters.
#[cfg(any(feature = "mariadb", feature = "postgres"))]
const HOLD: &str = "BEGIN; SELECT id FROM courant_dead FOR UPDATE";

/// Symptom: `courant dlq discard --timeout 1s` waited for a minute, and then said that the connection was lost, while
/// somebody else had the letters. Cause: the time bounded the connecting alone. Fix: the server is told to end a
/// statement that takes longer, and so changes nothing later, when nobody waits any more.
#[cfg(any(feature = "mariadb", feature = "postgres"))]
fn is_told_that_somebody_has_the_letters(url: &str) {
    let numbers = letters(url);
    let first = numbers[0].to_string();
    let discard = ["discard", "--all", "--reason", "paid by hand"];
    let edit = ["edit", &first, "{}", "--reason", "a typo"];
    for (words, soon) in [(&discard[..], "1s"), (&edit[..], "500ms")] {
        // On a busy machine that may be over before the command has come to the letters, and it says so. One that has
        // more time comes to them.
        let asked = |time: &str| dlq(url, &[words, &["--timeout", time]].concat());
        let is_late = |output: &std::process::Output| {
            String::from_utf8_lossy(&output.stderr).contains("does not answer within")
        };
        let mut outputs = [soon, "5s", "20s"].into_iter().map(asked);
        let output = outputs.find(|output| !is_late(output)).expect("the database answers");
        assert_fails(&output, UNREACHABLE, "another connection holds the lock");
        assert_fails(&output, UNREACHABLE, "wait longer with --timeout");
    }
    // Looking needs no lock.
    assert_eq!(letters(url), numbers);
}

/// Nothing that was refused has been done later, and everything can be done.
#[cfg(any(feature = "mariadb", feature = "postgres"))]
fn can_be_discarded(url: &str) {
    let numbers = letters(url);
    let discarded = rows(dlq(url, &["discard", "--all", "--reason", "paid by hand", "--timeout", "20s"]));
    let discarded: Vec<_> = discarded.iter().map(|row| row["letter"].as_i64().expect("a number")).collect();
    assert_eq!(discarded, numbers);
}

#[cfg(feature = "postgres")]
#[test]
fn on_postgres_letters_that_others_have_are_not_waited_for_longer_than_was_said() {
    use courant_sql::sqlx::Connection as _;
    let Some(database) = Database::postgres("dlq_waiting") else { return };
    fill(&database);
    let (url, runtime) = (database.url(), runtime());
    let mut other = runtime.block_on(sqlx::postgres::PgConnection::connect(&url)).expect("connects");
    runtime.block_on(sqlx::raw_sql(HOLD).execute(&mut other)).expect("it has the letters");
    is_told_that_somebody_has_the_letters(&url);
    runtime.block_on(sqlx::raw_sql("ROLLBACK").execute(&mut other)).expect("a rollback");
    runtime.block_on(other.close()).expect("it ends");
    can_be_discarded(&url);
}

#[cfg(feature = "mariadb")]
#[test]
fn on_mariadb_letters_that_others_have_are_not_waited_for_longer_than_was_said() {
    use courant_sql::sqlx::Connection as _;
    let Some(database) = Database::mariadb("dlq_waiting") else { return };
    fill(&database);
    let (url, runtime) = (database.url(), runtime());
    let mut other = runtime.block_on(sqlx::mysql::MySqlConnection::connect(&url)).expect("connects");
    runtime.block_on(sqlx::raw_sql(HOLD).execute(&mut other)).expect("it has the letters");
    is_told_that_somebody_has_the_letters(&url);
    runtime.block_on(sqlx::raw_sql("ROLLBACK").execute(&mut other)).expect("a rollback");
    runtime.block_on(other.close()).expect("it ends");
    can_be_discarded(&url);
}

/// A handler of a service on SQLite has the lock of the database while it runs. Whoever decides about letters waits
/// for it for as long as `--timeout` says, is told so then, and has changed nothing; looking needs no lock.
#[test]
fn a_database_that_stays_locked_is_said() {
    let database = Database::sqlite();
    fill(&database);
    let url = database.url();
    let numbers = letters(&url);
    let runtime = runtime();
    let handler = runtime.block_on(async {
        let store = Sqlite::connect(&url).await.expect("opens");
        store.begin(None).await.expect("the lock")
    });
    let because = ["--all", "--reason", "paid by hand", "--timeout", "1s"];
    let discard = [&["discard"][..], &because].concat();
    assert_fails(&dlq(&url, &discard), UNREACHABLE, "another connection holds the lock");
    assert_fails(&dlq(&url, &["redrive", "--all", "--timeout", "1s"]), UNREACHABLE, "holds the lock");
    assert_eq!(letters(&url), numbers);
    runtime.block_on(handler.rollback()).expect("a rollback");
    let mut discarded = rows(dlq(&url, &discard));
    discarded.iter_mut().for_each(|row| level(row, &numbers));
    let discarded: Vec<&Value> = discarded.iter().map(|row| &row["letter"]).collect();
    assert_eq!(discarded, [0, 1, 2]);
}

/// Of more events than the command has in memory at one time.
const OF_DAN: u64 = 105;

/// What stands behind the letters: two events behind that of `ada`, a key whose first event waits for its next attempt,
/// and an event without a key.
fn behind() -> Vec<Event> {
    let ada = [10, 11].map(|offset| order(offset, &format!("ada-{offset}"), Some("ada")));
    let dan = (21..20 + OF_DAN).map(|offset| order(offset, &format!("dan-{offset}"), Some("dan")));
    ada.into_iter().chain(dan).collect()
}

async fn park_more(store: &impl Store) {
    let lease = store.take_over(&assignment(), "a test", FAILED_MS).await.expect("a lease");
    let later = FAILED_MS + 1_000_000_000_000;
    for event in [order(20, "dan-20", Some("dan")), order(400, "nobody-400", None)] {
        store.park(&lease, &event, &failure(), 2, later, FAILED_MS).await.expect("it is parked");
    }
    store.queue(&lease, &behind(), FAILED_MS).await.expect("they are behind");
}

/// Nothing waits but what the letters keep, also when it comes from the log again.
async fn only_letters_are_parked(store: &impl Store) {
    let lease = store.take_over(&assignment(), "a test", FAILED_MS).await.expect("a lease");
    store.queue(&lease, &behind(), FAILED_MS).await.expect("they are settled");
    let counts = store.parked_counts(ParkedOf::all(&assignment().consumer)).await.expect("counts");
    assert_eq!((counts.waiting, counts.queued, counts.blocking), (0, 0, 3), "{counts:?}");
    store.reset_progress(&lease, None, FAILED_MS).await.expect_err("the letters are in the way");
}

async fn nothing_is_in_the_way(store: &impl Store) {
    let lease = store.take_over(&assignment(), "a test", FAILED_MS).await.expect("a lease");
    store.reset_progress(&lease, None, FAILED_MS).await.expect("another log may begin");
}

/// Of what key how many events were given up.
fn keys(rows: &[Value]) -> Vec<(Option<&str>, Option<u64>)> {
    rows.iter().map(|row| (row["key"].as_str(), row["events"].as_u64())).collect()
}

/// Gives up what is parked.
fn discard_parked(url: &str, more: &[&str]) -> std::process::Output {
    let of = ["discard-parked", "--consumer", "billing", "--topic", "shop.orders"];
    let because = ["--reason", "the log is gone", "--by", "grace"];
    dlq(url, &[&of[..], &because[..], more].concat())
}

/// Symptom: events that waited behind a failure could be handled or left behind by a new generation, and nothing else,
/// so that a service whose log was gone did not begin on another one. Cause: only dead letters could be discarded. Fix:
/// what is parked can be, by whoever takes the partition over, and leaves letters that are closed.
fn what_is_parked_can_be_discarded(database: &Database) {
    fill(database);
    with_store!(database, park_more);
    let url = database.url();
    let discard = |more: &[&str]| discard_parked(&url, more);
    let all = ["--partition", "2", "--all"];
    let key = |key: &'static str| ["--partition", "2", "--yes", "--key", key];
    assert_fails(&discard(&all), USAGE, "--yes does it");
    assert_fails(&discard(&key("eve")), NOT_FOUND, "nothing of this key is parked");
    assert_fails(&discard(&["--partition", "1", "--all", "--yes"]), NOT_FOUND, "nothing is parked");
    assert_fails(&discard(&key("cat")), CONFLICT, "nothing waits there but dead letters");

    let meant = rows(discard(&[&all[..], &["--dry-run"]].concat()));
    assert_eq!(keys(&meant), [(Some("ada"), Some(2)), (Some("dan"), Some(OF_DAN)), (None, Some(1))]);
    assert_eq!(meant[0]["dry_run"], true);
    assert_eq!(keys(&rows(discard(&key("dan")))), [(Some("dan"), Some(OF_DAN))]);
    let rest = rows(discard(&[&all[..], &["--yes"]].concat()));
    assert_eq!(keys(&rest), [(Some("ada"), Some(2)), (None, Some(1))]);
    with_store!(database, only_letters_are_parked);

    let discarded = rows(dlq(&url, &["list", "--state", "discarded"]));
    assert_eq!(discarded.len() as u64, OF_DAN + 3);
    let of = |event: &str| {
        let row = discarded.iter().find(|row| row["event_id"] == event).expect(event);
        rows(dlq(&url, &["show", &row["id"].to_string()])).remove(0)
    };
    let (failed, waited) = (of("dan-20"), of("ada-10"));
    assert_eq!((&failed["error"], &failed["attempts"]), (&json!("billing::NotBilled"), &json!(4)));
    assert_eq!((&waited["error"], &waited["attempts"]), (&json!("courant::Discarded"), &json!(1)));
    assert_eq!(waited["value"], r#"{"total":1}"#);
    let note = &waited["notes"][0];
    assert_eq!((&note["action"], &note["by"]), (&json!("discarded"), &json!("grace")));
    assert_eq!(note["reason"], "the log is gone");

    assert_eq!(rows(dlq(&url, &["discard", "--all", "--reason", "the log is gone"])).len(), KEYS.len());
    with_store!(database, nothing_is_in_the_way);
}

#[test]
fn on_sqlite_what_is_parked_can_be_discarded() {
    what_is_parked_can_be_discarded(&Database::sqlite());
}

#[cfg(feature = "postgres")]
#[test]
fn on_postgres_what_is_parked_can_be_discarded() {
    if let Some(database) = Database::postgres("dlq_parked") {
        what_is_parked_can_be_discarded(&database);
    }
}

#[cfg(feature = "mariadb")]
#[test]
fn on_mariadb_what_is_parked_can_be_discarded() {
    if let Some(database) = Database::mariadb("dlq_parked") {
        what_is_parked_can_be_discarded(&database);
    }
}

/// A service takes the partition back when this event has become a letter.
const TAKEN_BACK: &str = "CREATE TRIGGER taken_back AFTER INSERT ON courant_dead WHEN NEW.event_offset = 10 \
                          BEGIN UPDATE courant_owner SET epoch = epoch + 1; END";

/// What has become a letter by the time that the partition is lost is discarded and told of; the rest stays parked, and
/// the same command goes on with it.
#[test]
fn a_partition_that_is_taken_back_leaves_no_letter_undecided() {
    let database = &Database::sqlite();
    fill(database);
    with_store!(database, park_more);
    let url = database.url();
    runtime().block_on(async {
        let store = Sqlite::connect(&url).await.expect("opens");
        let mut tx = store.begin(None).await.expect("a transaction");
        sqlx::raw_sql(TAKEN_BACK).execute(&mut *tx).await.expect("a trigger");
        tx.commit(FAILED_MS).await.expect("a commit");
    });
    let ada = ["--partition", "2", "--yes", "--key", "ada"];
    let output = discard_parked(&url, &ada);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(CONFLICT), "{stderr}");
    assert!(stderr.contains("say the same again"), "{stderr}");
    let told: Value = serde_json::from_slice(&output.stdout).expect("one row");
    assert_eq!(keys(std::slice::from_ref(&told)), [(Some("ada"), Some(1))]);
    let discarded = rows(dlq(&url, &["list", "--state", "discarded"]));
    assert_eq!(discarded.iter().map(|row| &row["event_id"]).collect::<Vec<_>>(), ["ada-10"]);
    let undecided = rows(dlq(&url, &["list", "--letters"]));
    assert_eq!(undecided.len(), KEYS.len(), "{undecided:?}");
    assert_eq!(keys(&rows(discard_parked(&url, &ada))), [(Some("ada"), Some(1))]);
}
