//! What only MariaDB does, or does in its own way.

use bytes::Bytes;
use courant_core::event_id::EventId;
use courant_sql::sqlx;
use courant_sql::sqlx::mysql::MySqlDatabaseError;
use courant_sql::{
    Admission, BeginError, Class, CommitError, ConnectError, Failure, Mariadb, NewEvent, Outcome, Progress,
    PublishError, Source, Store as _, Transaction as _,
};

use super::relaying::{advance, publish};
use super::steps::{
    Db, Fixture, NOW, Tx, admission, admit, assignment, effect, event, failure, handle, new_event, number,
    run,
};
use super::submitted::{relay, submit};
use super::support::{PUBLISHED, make};
use super::transactions::{AFTER, is_noticed, works};

/// A statement that changes tables commits. The event is not handled then, nothing of it is published, and
/// its next delivery handles it: an inbox row that was committed open says nothing. Only what was done
/// before the statement stays.
#[tokio::test]
async fn a_changed_table_ends_the_transaction() {
    is_noticed(&["CREATE TABLE made (n BIGINT)", AFTER]).await;
    is_noticed(&["TRUNCATE TABLE effects", AFTER]).await;
    let Some(fixture) = Fixture::new().await else { return };
    let lease = fixture.lease().await;
    let event = event(1, Some("k"));
    let (mut tx, _) = admit(&fixture.store, &lease, &event, Source::Log).await;
    effect(&mut tx, "before").await;
    run(&mut tx, "CREATE TABLE made (n BIGINT)").await;
    tx.publish(new_event("p-1", "k")).expect("room");
    let ended = tx.commit(NOW).await.expect_err("it has ended");
    assert!(matches!(ended, CommitError::Ended), "{ended}");
    assert_eq!(fixture.number("SELECT COUNT(*) FROM courant_inbox WHERE outcome = 'open'").await, 1);
    assert_eq!(fixture.effects("before").await, 1, "nothing can take it back");
    handle(&fixture.store, &lease, &event, Source::Log).await;
    assert_eq!(fixture.effects("e-1").await, 1);
    let seen = admission(&fixture.store, &lease, &event, Source::Log).await;
    assert_eq!(seen, Admission::Seen(Outcome::Handled));
    assert_eq!(fixture.number("SELECT COUNT(*) FROM courant_inbox WHERE outcome = 'open'").await, 0);
}

/// An event whose row was left open can be parked, skipped and buried like any other.
#[tokio::test]
async fn an_open_row_is_no_outcome() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (&fixture.store, fixture.lease().await);
    let event = event(1, Some("k"));
    let (mut tx, _) = admit(store, &lease, &event, Source::Log).await;
    run(&mut tx, "COMMIT").await;
    drop(tx);
    let parked = store.park(&lease, &event, &failure(), 0, NOW, NOW).await.expect("parked");
    assert_eq!(parked, courant_sql::Parked::Waiting { attempts: 1 });
    handle(store, &lease, &event, Source::Parked).await;
    let seen = admission(store, &lease, &event, Source::Log).await;
    assert_eq!(seen, Admission::Seen(Outcome::Handled));
}

/// Locks two rows in an order, whatever comes of it.
async fn lock_both(tx: &mut Tx, order: [&'static str; 2], meet: &tokio::sync::Barrier) -> Option<u16> {
    let sql = "UPDATE counters SET number = number + 1 WHERE name = ?";
    sqlx::query(sql).bind(order[0]).execute(&mut **tx).await.expect("a row");
    meet.wait().await;
    let refused = sqlx::query(sql).bind(order[1]).execute(&mut **tx).await.err()?;
    let refused = refused.as_database_error()?.try_downcast_ref::<MySqlDatabaseError>()?;
    Some(refused.number())
}

/// Two handlers wait for each other. The server undoes one of them as a whole, and its handler does not look
/// at the error: what it does afterwards is committed statement by statement, and it is not handled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swallowed_deadlock_is_noticed() {
    let Some(fixture) = Fixture::new().await else { return };
    super::support::make_counters(&fixture.store).await;
    let lease = fixture.lease().await;
    let meet = std::sync::Arc::new(tokio::sync::Barrier::new(2));
    let mut tasks = Vec::new();
    for (offset, order) in [(1, ["key-1", "key-2"]), (2, ["key-2", "key-1"])] {
        let (store, lease) = (fixture.store.clone(), lease.clone());
        let meet = std::sync::Arc::clone(&meet);
        tasks.push(tokio::spawn(async move {
            let event = event(offset, None);
            let (mut tx, _) = admit(&store, &lease, &event, Source::Log).await;
            let refused = lock_both(&mut tx, order, &meet).await;
            tx.publish(new_event(event.id.as_str(), "k")).expect("room");
            (event, refused, tx.commit(NOW).await)
        }));
    }
    let mut undone = 0;
    for task in tasks {
        let (event, refused, committed) = task.await.expect("no panic");
        let again = admission(&fixture.store, &lease, &event, Source::Log).await;
        match (refused, committed) {
            (None, Ok(_)) => assert_eq!(again, Admission::Seen(Outcome::Handled)),
            (Some(1213), Err(CommitError::Ended)) => {
                undone += 1;
                assert_eq!(again, Admission::New);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(undone, 1);
    assert_eq!(fixture.store.outbox_backlog().await.expect("a number"), 1);
}

/// An error of one statement undoes that statement only: MariaDB's rule, and the handler's to decide about.
#[tokio::test]
async fn an_error_of_one_statement_leaves_the_rest() {
    let Some(fixture) = Fixture::new().await else { return };
    let lease = fixture.lease().await;
    let event = event(1, Some("k"));
    let (mut tx, _) = admit(&fixture.store, &lease, &event, Source::Log).await;
    effect(&mut tx, "e-1").await;
    for wrong in
        ["INSERT INTO effects (event_id, who) VALUES (NULL, 'handler')", "SELECT * FROM no_such_table"]
    {
        assert!(sqlx::query(wrong).execute(&mut *tx).await.is_err(), "{wrong}");
    }
    tx.commit(NOW).await.expect("it is still the same transaction");
    assert_eq!(fixture.effects("e-1").await, 1);
}

/// Keys of any length and texts of any characters come back as they were, and are told apart to the last
/// byte: MariaDB would pad texts, fold letters and cut what it sorts by.
#[tokio::test]
async fn what_mariadb_would_take_for_the_same_stays_apart() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (&fixture.store, fixture.lease().await);
    let long = |end: &'static [u8]| Bytes::from([&[7; 20_000][..], end].concat());
    let mut events = Vec::new();
    for (offset, (id, key)) in (0..).zip([
        ("id", long(b"2")),
        ("ID", long(b"1")),
        ("id ", Bytes::from_static(b"k")),
        ("id\0\u{1f980}", Bytes::from_static(b"k ")),
        ("\"\\", Bytes::from_static(&[0, 0xff])),
    ]) {
        let mut odd = event(offset, None);
        odd.id = EventId::new(id).expect("an id");
        odd.key = Some(key);
        odd.headers.push(("zero\0\u{1f980}".to_owned(), Bytes::from_static(b"\0")));
        events.push(odd);
    }
    let failure = Failure { message: "it said \0\u{1f980}".to_owned(), ..failure() };
    for event in &events {
        store.park(&lease, event, &failure, 0, NOW, NOW).await.expect("parked");
        let parked = store.parked(&lease.assignment, event.key.as_deref(), 10).await.expect("a list");
        assert_eq!(parked.len(), 1);
        assert_eq!((&parked[0].event, parked[0].failure.as_ref()), (event, Some(&failure)));
    }
    let mut expected: Vec<_> = events.iter().filter_map(|event| event.key.clone()).collect();
    expected.sort();
    let mut keys: Vec<Bytes> = Vec::new();
    loop {
        let after = keys.last().cloned();
        let next = store.parked_keys(&lease.assignment, after.as_deref(), 1).await.expect("a list");
        let Some(next) = next.first() else { break };
        keys.push(next.key.clone());
    }
    assert_eq!(keys, expected, "one after the other, in the order of their bytes");
    for event in &events {
        handle(store, &lease, event, Source::Parked).await;
    }
    assert_eq!(fixture.number("SELECT COUNT(*) FROM courant_inbox").await, 5);
}

/// What the server does not take in one packet is refused when it is published, and says what to change.
#[tokio::test]
async fn an_event_that_the_server_does_not_take_is_refused_early() {
    let Some(fixture) = Fixture::new().await else { return };
    let packet = fixture.number("SELECT CAST(@@max_allowed_packet AS SIGNED)").await;
    let packet = usize::try_from(packet).expect("a size");
    let mut tx = fixture.store.begin(None).await.expect("a transaction");
    let sized = |bytes: usize| NewEvent {
        key: None,
        headers: Vec::new(),
        value: Some(Bytes::from(vec![0xff; bytes])),
        ..new_event("large", "k")
    };
    let most = (packet - 64 * 1024).min(16 * 1024 * 1024);
    let refused = tx.publish(sized(most + 1)).expect_err("too large");
    match refused {
        PublishError::TooLargeForServer { max, .. } => assert_eq!(max, most),
        PublishError::TooLarge { .. } => assert_eq!(most, 16 * 1024 * 1024),
        other => panic!("{other}"),
    }
    let event = sized(most);
    tx.publish(event.clone()).expect("room");
    tx.commit(NOW).await.expect("it takes that");
    let waiting = fixture.store.pending(0, 10, u64::MAX).await.expect("what waits");
    assert!(waiting[0].events[0].event == event, "and gives it back");
}

/// While a takeover waits, nobody begins anything new in the partition.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_takeover_that_waits_turns_new_transactions_away() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (&fixture.store, fixture.lease().await);
    let (tx, _) = admit(store, &lease, &event(1, None), Source::Log).await;
    let other = fixture.another().await;
    let takeover = tokio::spawn({
        let other = other.clone();
        async move { other.take_over(&assignment("billing"), "other", NOW).await }
    });
    let waiting = "SELECT COUNT(*) FROM information_schema.PROCESSLIST \
                   WHERE DB = DATABASE() AND INFO LIKE '%FOR UPDATE WAIT%' AND ID <> CONNECTION_ID()";
    while number(&other, waiting).await == 0 {
        assert!(!takeover.is_finished(), "it has not waited");
    }
    // It may be on its way to the lock still; then this one is admitted, and ends.
    let refused = loop {
        match store.begin(Some(&lease)).await {
            Ok(tx) => tx.rollback().await.expect("a rollback"),
            Err(refused) => break refused,
        }
        assert!(!takeover.is_finished(), "it has not waited");
    };
    match refused {
        BeginError::Store(error) => assert_eq!(error.class(), Class::Busy, "{error}"),
        error => panic!("{error}"),
    }
    tx.commit(NOW).await.expect("it was there first");
    assert_eq!(takeover.await.expect("no panic").expect("a lease").epoch, 2);
}

/// A takeover looks for what is parked when whoever parks under the lease before has come to an end, and not sooner: it
/// would look for nothing ever after.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_takeover_sees_what_is_being_parked() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease, other) = (fixture.store.clone(), fixture.lease().await, fixture.another().await);
    // Whoever parks holds the partition, and waits for the slot of its key.
    let mut slots = other.begin(None).await.expect("a transaction");
    run(&mut slots, "SELECT slot FROM courant_slot FOR UPDATE").await;
    let parking =
        tokio::spawn(
            async move { store.park(&lease, &event(1, Some("k")), &failure(), 0, NOW + 1, NOW).await },
        );
    let waiting = "SELECT COUNT(*) FROM information_schema.PROCESSLIST \
                   WHERE DB = DATABASE() AND INFO LIKE '%courant_slot%' AND ID <> CONNECTION_ID()";
    while number(&other, waiting).await == 0 {
        assert!(!parking.is_finished(), "it has not waited");
    }
    let takeover = tokio::spawn({
        let other = other.clone();
        async move { other.take_over(&assignment("billing"), "other", NOW).await }
    });
    let waiting = "SELECT COUNT(*) FROM information_schema.PROCESSLIST \
                   WHERE DB = DATABASE() AND INFO LIKE '%FOR UPDATE WAIT%' AND ID <> CONNECTION_ID()";
    while number(&other, waiting).await == 0 {
        assert!(!takeover.is_finished(), "it has not waited");
    }
    slots.rollback().await.expect("a rollback");
    parking.await.expect("no panic").expect("parked");
    let new = takeover.await.expect("no panic").expect("a lease");
    assert_eq!(admission(&other, &new, &event(2, Some("k")), Source::Log).await, Admission::Behind);
}

/// An installation was interrupted: some tables are there, and the row that says that it is complete is not.
#[tokio::test]
async fn an_interrupted_installation_goes_on() {
    let Some(fixture) = Fixture::new().await else { return };
    let store = &fixture.store;
    let some =
        ["DELETE FROM courant_schema", "COMMIT", "DROP TABLE courant_inbox", "DROP TABLE courant_slot"];
    make(store, &some).await;
    let missing = store.check().await.expect_err("not complete");
    assert!(matches!(missing, courant_sql::SchemaError::Missing), "{missing}");
    store.install(NOW).await.expect("the rest");
    assert_eq!(fixture.number("SELECT COUNT(*) FROM courant_slot").await, 1025);
    assert_eq!(fixture.number("SELECT COUNT(*) FROM courant_outbox_lane").await, 256);
    let lease = fixture.lease().await;
    handle(store, &lease, &event(1, Some("k")), Source::Log).await;
}

#[tokio::test]
async fn what_is_no_database_is_named() {
    for url in ["sqlite:service.db", "service.db", "", "mysql://u:secret@host:no-port/x", "mysql://host"] {
        let refused = Mariadb::connect(url).await.expect_err("no address");
        assert!(matches!(refused, ConnectError::Url { .. }), "{url}: {refused}");
        assert!(!refused.to_string().contains("secret"), "{refused}");
    }
    let Some(fixture) = Fixture::bare().await else { return };
    let missing = format!("{}_missing", fixture.url());
    let refused = Mariadb::connect(&missing).await.expect_err("no such database");
    assert!(
        matches!(&refused, ConnectError::Store(error) if error.class() == Class::CannotOpen),
        "{refused}"
    );
}

/// Whatever a handler has told its session, the next transaction is at READ COMMITTED and commits at its end;
/// a value that does not fit is an error.
#[tokio::test]
async fn a_transaction_begins_as_it_must() {
    let Some(fixture) = Fixture::new().await else { return };
    let store = Mariadb::connect_with(&fixture.url(), 1).await.expect("one connection");
    let mut tx = store.begin(None).await.expect("a transaction");
    run(&mut tx, "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE").await;
    run(&mut tx, "SET SESSION autocommit = 0").await;
    tx.commit(NOW).await.expect("a commit");
    works(&store).await;
    let mut tx = store.begin(None).await.expect("a transaction");
    let before = seen_by(&mut tx).await;
    works(&fixture.store).await;
    assert_eq!(seen_by(&mut tx).await, before + 1, "what is committed meanwhile is seen");
    let long = format!("INSERT INTO effects (event_id, who) VALUES ('{}', 'x')", "x".repeat(256));
    assert!(sqlx::query(sqlx::AssertSqlSafe(long)).execute(&mut *tx).await.is_err());
    tx.rollback().await.expect("a rollback");
}

async fn seen_by(tx: &mut Tx) -> i64 {
    let sql = "SELECT COUNT(*) FROM effects";
    sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut **tx).await.expect("a number")
}

/// As many deliveries as a transaction takes.
#[tokio::test]
async fn the_largest_number_of_deliveries_is_admitted_in_one_statement() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease): (&Db, _) = (&fixture.store, fixture.lease().await);
    let events: Vec<_> = (0..1000).map(|offset| event(offset, Some("k"))).collect();
    let deliveries: Vec<_> = events.iter().map(|event| super::steps::of(event, Source::Log)).collect();
    let mut tx = store.begin(Some(&lease)).await.expect("a transaction");
    let admissions = tx.admit(&deliveries, NOW).await.expect("answers");
    assert_eq!(admissions, vec![Admission::New; 1000]);
    tx.commit(NOW).await.expect("a commit");
    assert_eq!(fixture.number("SELECT COUNT(*) FROM courant_inbox WHERE outcome = 'handled'").await, 1000);
}

/// A lane that somebody always has would hide its first row further and further behind what is gone. So the relay
/// waits for it in the end, and what it reads until then begins behind what is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_is_not_left_far_behind() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (&fixture.store, relay(&fixture.store).await);
    let lane = publish(store, 100).await;
    let mut writer = store.begin(None).await.expect("a transaction");
    let lock = format!("UPDATE courant_outbox_lane SET position = position WHERE lane = {lane}");
    run(&mut writer, &lock).await;
    advance(store, &lease, lane, 63).await;
    let next = store.pending(0, 2, u64::MAX).await.expect("what waits");
    let read: Vec<u64> = next[0].events.iter().map(|pending| pending.at.position).collect();
    assert_eq!(read, [64, 65]);
    assert_eq!(store.outbox_backlog().await.expect("a number"), 37);
    let advancing = tokio::spawn({
        let (store, lease) = (store.clone(), lease.clone());
        async move { advance(&store, &lease, lane, 64).await }
    });
    let waits = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE DB = DATABASE() \
                 AND INFO LIKE 'UPDATE courant_outbox_lane FORCE%' AND ID <> CONNECTION_ID()";
    while number(store, waits).await == 0 {
        assert!(!advancing.is_finished(), "it has not waited");
    }
    writer.rollback().await.expect("a rollback");
    advancing.await.expect("moved on");
    assert_eq!(number(store, PUBLISHED).await, 64);
    assert_eq!(store.outbox_backlog().await.expect("a number"), 36);
}

/// O6: a step costs what it brings, and not what waits or was published before. Of each lane it reads some rows, by
/// their index, where all of them would be 400: the server counts what it has read for a connection.
#[tokio::test]
async fn a_step_reads_the_first_rows_of_each_lane() {
    let Some(fixture) = Fixture::new().await else { return };
    let lease = relay(&fixture.store).await;
    let insert = "INSERT INTO courant_outbox (lane, position, event_id, topic, headers, timestamp_ms, bytes) \
                  SELECT seq % 256, seq DIV 256 + 1, CONCAT('e-', seq), 'orders', '[]', 0, 10 FROM seq_0_to_102399";
    submit(&fixture.store, &[insert, "UPDATE courant_outbox_lane SET position = 400"]).await;
    let store = fixture.narrow().await;
    let batches = store.pending(0, 4, u64::MAX).await.expect("what waits");
    assert_eq!(batches.iter().map(|batch| batch.events.len()).collect::<Vec<_>>(), [4; 256]);
    let last: Vec<_> = batches.iter().filter_map(|batch| batch.events.last()).map(|last| last.at).collect();
    store.advance(&lease, &last).await.expect("moved on");
    let read = "SELECT CAST(SUM(VARIABLE_VALUE) AS SIGNED) FROM information_schema.SESSION_STATUS \
                WHERE VARIABLE_NAME LIKE 'HANDLER_READ%'";
    let rows = number(&store, read).await;
    assert!((2 * 4 * 256..40_000).contains(&rows), "{rows} rows");
    assert_eq!(store.outbox_backlog().await.expect("a number"), 396 * 256);
}

/// Which connection of the server's somebody has who handles no event.
async fn used_by_others(store: &Db) -> i64 {
    let mut tx = store.begin(None).await.expect("a transaction");
    let id = sqlx::query_scalar::<_, i64>("SELECT CAST(CONNECTION_ID() AS SIGNED)");
    let id = id.fetch_one(&mut *tx).await.expect("a number");
    tx.rollback().await.expect("a rollback");
    id
}

/// Symptom: a relay prepared its statements again and again, with two questions more for each. Cause: a connection that
/// nobody used went to whoever came next, and the relay got one of a handler. Fix: both have their own.
#[tokio::test]
async fn handlers_that_end_leave_others_their_connection() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (&fixture.store, fixture.lease().await);
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(store.begin(None).await.expect("a transaction"));
    }
    for tx in open {
        tx.rollback().await.expect("a rollback");
    }
    let others = used_by_others(store).await;
    for offset in [1, 3, 5] {
        let (first, _) = admit(store, &lease, &event(offset, Some("k")), Source::Log).await;
        let (second, _) = admit(store, &lease, &event(offset + 1, Some("l")), Source::Log).await;
        assert_eq!(used_by_others(store).await, others, "while they work");
        first.commit(NOW).await.expect("a commit");
        second.commit(NOW).await.expect("a commit");
        assert_eq!(used_by_others(store).await, others, "when they have ended");
    }
}

/// Symptom: a service that was set back read the ids of all closed dead letters behind that place into its memory, and
/// sent them to the server in one statement, which takes so many bytes and no more. Cause: the list had no bound. Fix:
/// they go in pieces, and all of them, with their notes.
#[tokio::test]
async fn closed_letters_make_room_in_pieces() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (&fixture.store, fixture.lease().await);
    let letters = "INSERT INTO courant_dead (consumer, generation, topic, partition_id, event_offset, event_id, \
                   headers, timestamp_ms, state, reason, blocks_key, attempts, first_failed_ms, last_failed_ms, \
                   error_kind, error_place, error_message, code_version, closed_ms) \
                   SELECT 'billing', 1, 'orders', 3, seq, CONCAT('e-', seq), '[]', 0, \
                   IF(seq % 2 = 0, 'redriven', 'discarded'), 'exhausted', 0, 1, 0, 0, '', '', '', '', 0 \
                   FROM seq_0_to_1510";
    let notes = "INSERT INTO courant_dead_note (dead_id, action, done_by, reason, at_ms) \
                 SELECT id, 'discarded', 'alice', '', 0 FROM courant_dead";
    submit(store, &[letters, notes]).await;
    make(store, &["CREATE TABLE forgotten (at DATETIME(6) NOT NULL)"]).await;
    // In a trigger the time is that of the statement which has pulled it.
    let counts = "CREATE TRIGGER counts AFTER DELETE ON courant_dead FOR EACH ROW \
                  INSERT INTO forgotten (at) VALUES (NOW(6))";
    let mut tx = store.begin(None).await.expect("a transaction");
    sqlx::raw_sql(counts).execute(&mut *tx).await.expect("a trigger");
    tx.rollback().await.expect("nothing to roll back");

    let progress = Progress { offset: 9, mark: "e-9".to_owned(), gap_events: 0 };
    store.reset_progress(&lease, Some(&progress), NOW).await.expect("nothing is in the way");
    let left = "SELECT COUNT(*) FROM courant_dead WHERE event_offset < 10";
    assert_eq!(
        (number(store, left).await, number(store, "SELECT COUNT(*) FROM courant_dead").await),
        (10, 10)
    );
    assert_eq!(number(store, "SELECT COUNT(*) FROM courant_dead_note").await, 10);
    assert_eq!(number(store, "SELECT COUNT(*) FROM forgotten").await, 1501);
    let most = "SELECT MAX(rows_of) FROM (SELECT COUNT(*) AS rows_of FROM forgotten GROUP BY at) AS pieces";
    assert_eq!(number(store, most).await, 500);
}

/// Symptom: whoever had asked for very many redrives that had nothing to send back could not have old letters
/// forgotten. Cause: the ids of all redrives without an event were one parameter, which `max_allowed_packet` bounds.
/// Fix: they go in pieces, all of them.
#[tokio::test]
async fn redrives_without_an_event_are_forgotten_in_pieces() {
    let Some(fixture) = Fixture::new().await else { return };
    // A statement has one time, also for what it sets off.
    make(
        &fixture.store,
        &[
            "CREATE TABLE forgotten (moment DATETIME(6) NOT NULL)",
            "CREATE TRIGGER forgets BEFORE DELETE ON courant_redrive \
             FOR EACH ROW INSERT INTO forgotten (moment) VALUES (NOW(6))",
        ],
    )
    .await;
    let row = |name: &str, finished: i64| format!("('{name}', 'alice', 0, '', 'done', {finished})");
    let mut rows: Vec<String> = (0..1_201).map(|n| row(&format!("r-{n}"), NOW)).collect();
    rows.push(row("r-later", NOW + 1));
    let columns = "(id, requested_by, requested_ms, filter, state, finished_ms)";
    let mut tx = fixture.store.begin(None).await.expect("a transaction");
    run(&mut tx, &format!("INSERT INTO courant_redrive {columns} VALUES {}", rows.join(", "))).await;
    tx.commit(NOW).await.expect("a commit");
    assert_eq!(fixture.store.prune_dead_letters(NOW + 1, 10).await.expect("pruned"), 0, "no letter");
    assert_eq!(fixture.number("SELECT COUNT(*) FROM courant_redrive").await, 1, "the later one");
    assert_eq!(fixture.number("SELECT COUNT(*) FROM forgotten").await, 1_201);
    let largest = "SELECT MAX(n) FROM (SELECT COUNT(*) AS n FROM forgotten GROUP BY moment) pieces";
    assert_eq!(fixture.number(largest).await, 500);
}
