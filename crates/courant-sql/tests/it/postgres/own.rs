//! What only Postgres does, or does in its own way.

use bytes::Bytes;
use courant_core::event_id::EventId;
use courant_sql::sqlx::{self, Connection as _};
use courant_sql::{
    Admission, Class, CommitError, ConnectError, DeadFilter, Failure, Outcome, Postgres, Progress,
    RedriveState, Source, Store as _, Transaction as _,
};

use super::steps::{
    Fixture, NOW, admission, admit, assignment, burial, effect, event, failure, handle, new_event, run,
};
use super::support::make;
use super::transactions::{AFTER, is_noticed, works};

/// An error aborts the whole transaction, whether the handler looks at it or not. Postgres answers the
/// COMMIT of such a transaction with success.
#[tokio::test]
async fn a_swallowed_error_is_noticed() {
    is_noticed(&["SELECT 1 / 0"]).await;
    is_noticed(&["SELECT * FROM no_such_table", AFTER]).await;
}

/// A COMMIT inside is refused, so what was done before it is undone, the inbox row with it. What was
/// published is not lost, because the event is not handled.
#[tokio::test]
async fn a_commit_inside_undoes_everything() {
    let Some(fixture) = Fixture::new().await else { return };
    let lease = fixture.lease().await;
    let event = event(1, Some("k"));
    let (mut tx, _) = admit(&fixture.store, &lease, &event, Source::Log).await;
    effect(&mut tx, "e-1").await;
    let refused = sqlx::query("COMMIT").execute(&mut *tx).await.expect_err("not the handler's to do");
    let code = refused.as_database_error().and_then(|error| error.code().map(|code| code.into_owned()));
    assert_eq!(code.as_deref(), Some("55000"), "{refused}");
    let ended = tx.commit(NOW).await.expect_err("it has ended");
    assert!(matches!(ended, CommitError::Ended), "{ended}");
    assert_eq!(fixture.effects("e-1").await, 0);
    handle(&fixture.store, &lease, &event, Source::Log).await;
    assert_eq!(fixture.effects("e-1").await, 1);
}

/// Statements that change tables belong to the transaction like any other: they end nothing.
#[tokio::test]
async fn changing_tables_ends_no_transaction() {
    let Some(fixture) = Fixture::new().await else { return };
    let lease = fixture.lease().await;
    let event = event(1, Some("k"));
    let (mut tx, _) = admit(&fixture.store, &lease, &event, Source::Log).await;
    run(&mut tx, "CREATE TABLE made (n BIGINT)").await;
    tx.rollback().await.expect("a rollback");
    let made = "SELECT COUNT(*) FROM pg_class WHERE relname = 'made'";
    assert_eq!(fixture.number(made).await, 0);
    let (mut tx, _) = admit(&fixture.store, &lease, &event, Source::Log).await;
    run(&mut tx, "CREATE TABLE made (n BIGINT)").await;
    tx.commit(NOW).await.expect("a commit");
    assert_eq!(fixture.number(made).await, 1);
    let seen = admission(&fixture.store, &lease, &event, Source::Log).await;
    assert_eq!(seen, Admission::Seen(Outcome::Handled));
}

/// A constraint that is looked at with the COMMIT: certainly not committed, and said by its class.
#[tokio::test]
async fn a_deferred_constraint_is_a_refusal() {
    let Some(fixture) = Fixture::new().await else { return };
    let lease = fixture.lease().await;
    let mut tx = fixture.store.begin(None).await.expect("a transaction");
    run(&mut tx, "CREATE TABLE one (n BIGINT UNIQUE DEFERRABLE INITIALLY DEFERRED)").await;
    tx.commit(NOW).await.expect("a commit");
    let event = event(1, Some("k"));
    let (mut tx, _) = admit(&fixture.store, &lease, &event, Source::Log).await;
    run(&mut tx, "INSERT INTO one VALUES (1), (1)").await;
    tx.publish(new_event("p-1", "k")).expect("room");
    match tx.commit(NOW).await.expect_err("two of them") {
        CommitError::Store(error) => assert_eq!(error.class(), Class::Constraint, "{error}"),
        error => panic!("{error}"),
    }
    assert_eq!(fixture.store.outbox_backlog().await.expect("a number"), 0, "its position was given back");
    assert_eq!(admission(&fixture.store, &lease, &event, Source::Log).await, Admission::New);
    works(&fixture.store).await;
}

/// What looks at the whole of a transaction, when it is to be committed.
const BALANCED: [&str; 3] = [
    "CREATE TABLE entries (amount BIGINT NOT NULL)",
    "CREATE FUNCTION balanced() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN \
         IF (SELECT SUM(amount) FROM entries) <> 0 THEN RAISE EXCEPTION 'not balanced'; END IF; \
         RETURN NULL; \
     END $$",
    "CREATE CONSTRAINT TRIGGER balanced AFTER INSERT ON entries DEFERRABLE INITIALLY DEFERRED \
     FOR EACH ROW EXECUTE FUNCTION balanced()",
];

/// Symptom: an event whose commit a deferred trigger of the service refused was handled again and again, without an
/// end, and all events of its key waited; and plain code heard that nobody knew whether it was committed. Cause: what a
/// trigger raises has codes of its own, and these counted as no answer. Fix: it is a refusal, whatever its code is.
#[tokio::test]
async fn what_a_deferred_trigger_raises_is_a_refusal() {
    let Some(fixture) = Fixture::new().await else { return };
    let lease = fixture.lease().await;
    make(&fixture.store, &BALANCED).await;
    let event = event(1, Some("k"));
    let (mut tx, _) = admit(&fixture.store, &lease, &event, Source::Log).await;
    run(&mut tx, "INSERT INTO entries VALUES (7)").await;
    tx.publish(new_event("p-1", "k")).expect("room");
    let refused = tx.commit(NOW).await.expect_err("it is not balanced");
    assert!(matches!(refused, CommitError::Store(_)), "{refused:?}");
    assert_eq!(admission(&fixture.store, &lease, &event, Source::Log).await, Admission::New);
    let mut plain = fixture.store.begin(None).await.expect("a transaction");
    run(&mut plain, "INSERT INTO entries VALUES (7)").await;
    let refused = plain.commit(NOW).await.expect_err("it is not balanced");
    assert!(matches!(refused, CommitError::Store(_)), "{refused:?}");
    let (mut tx, _) = admit(&fixture.store, &lease, &event, Source::Log).await;
    run(&mut tx, "INSERT INTO entries VALUES (7), (-7)").await;
    tx.commit(NOW).await.expect("a commit");
    assert_eq!(fixture.number("SELECT COUNT(*) FROM entries").await, 2);
    assert_eq!(fixture.store.outbox_backlog().await.expect("a number"), 0);
}

/// Postgres keeps no zero byte in a text, and no key of any length in an index.
#[tokio::test]
async fn what_postgres_cannot_keep_as_it_is_comes_back_as_it_was() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (&fixture.store, fixture.lease().await);
    let key = Bytes::from(vec![7; 20_000]);
    let mut odd = event(0, None);
    odd.id = EventId::new("zero\0 and \u{2400}").expect("an id");
    odd.key = Some(key.clone());
    odd.headers.push(("zero\0".to_owned(), Bytes::from_static(b"\0")));
    let failure = Failure { message: "it said \0".to_owned(), ..failure() };
    store.park(&lease, &odd, &failure, 0, NOW, NOW).await.expect("parked");
    let parked = store.parked(&lease.assignment, Some(&key), 10).await.expect("a list");
    assert_eq!((&parked[0].event, parked[0].failure.as_ref()), (&odd, Some(&failure)));
    let mut behind = event(1, None);
    behind.key = Some(key.clone());
    assert_eq!(admission(store, &lease, &behind, Source::Log).await, Admission::Behind);
    let buried = store.bury(&lease, burial(&odd, &failure, true), NOW).await.expect("buried");
    let letter = store.dead_letter(buried.id.expect("a number")).await.expect("an answer").expect("it");
    assert_eq!(letter.event, odd);
    let seen = admission(store, &lease, &odd, Source::Log).await;
    assert_eq!(seen, Admission::Seen(Outcome::Dead));
    let progress = Progress { offset: 0, mark: odd.id.as_str().to_owned(), gap_events: 0 };
    store.save_progress(&[(&lease, &progress)], NOW).await.expect("saved");
    assert_eq!(store.progress(&lease.assignment).await.expect("a row"), Some(progress));
}

/// Whatever letters an id has, its event is handled once; and so is one whose key has parked events.
#[tokio::test]
async fn an_id_may_have_any_letters() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (fixture.narrow().await, fixture.lease().await);
    for (offset, id) in
        (10..).zip(["plain-1", "it's", "a\\b", "'); SELECT 1; --", "zero\0", "\u{2400}", "é", " "])
    {
        let mut odd = event(offset, Some("k'\\"));
        odd.id = EventId::new(id).expect("an id");
        let (tx, first) = admit(&store, &lease, &odd, Source::Log).await;
        assert_eq!(first, Admission::New, "{id:?}");
        tx.commit(NOW).await.expect("a commit");
        let seen = admission(&store, &lease, &odd, Source::Log).await;
        assert_eq!(seen, Admission::Seen(Outcome::Handled), "{id:?}");
    }
    store.park(&lease, &event(1, Some("k'\\")), &failure(), 0, NOW, NOW).await.expect("parked");
    for (offset, key, expected) in
        [(2, Some("k'\\"), Admission::Behind), (3, Some("k"), Admission::New), (4, None, Admission::New)]
    {
        assert_eq!(admission(&store, &lease, &event(offset, key), Source::Log).await, expected, "{key:?}");
    }
    let parked = admission(&store, &lease, &event(1, Some("k'\\")), Source::Log).await;
    assert_eq!(parked, Admission::Behind, "it is parked itself");
    assert_eq!(fixture.number("SELECT COUNT(*) FROM courant_inbox").await, 8);
}

/// What a handler begins is a savepoint, also on a connection that has had other transactions; and one that
/// has made its session forget everything is nobody else's trouble.
#[tokio::test]
async fn a_connection_is_used_again_and_again() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (fixture.narrow().await, fixture.lease().await);
    for offset in 0..6 {
        let event = event(offset, Some("k"));
        let (mut tx, admission) = admit(&store, &lease, &event, Source::Log).await;
        assert_eq!(admission, Admission::New);
        let mut nested = tx.begin().await.expect("a savepoint");
        run_on(&mut nested, "INSERT INTO effects (event_id, who) VALUES ('undone', 'handler')").await;
        nested.rollback().await.expect("undone");
        effect(&mut tx, event.id.as_str()).await;
        match offset % 3 {
            0 => drop(tx.commit(NOW).await.expect("a commit")),
            1 => tx.rollback().await.expect("a rollback"),
            _ => {
                run(&mut tx, "DEALLOCATE ALL").await;
                tx.rollback().await.expect("a rollback");
            }
        }
    }
    let counted = "SELECT COUNT(*) FROM effects";
    assert_eq!((fixture.effects("undone").await, fixture.number(counted).await), (0, 2));
}

/// Which connection of the server's somebody has who handles no event.
async fn used_by_others(store: &Postgres) -> i64 {
    let mut tx = store.begin(None).await.expect("a transaction");
    let id = sqlx::query_scalar::<_, i64>("SELECT pg_backend_pid()::bigint");
    let id = id.fetch_one(&mut *tx).await.expect("a number");
    tx.rollback().await.expect("a rollback");
    id
}

/// A relay that looks while handlers come and go has the same connection each time, on which its statements are planned.
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

async fn run_on(connection: &mut sqlx::PgConnection, sql: &'static str) {
    sqlx::query(sql).execute(connection).await.expect(sql);
}

/// What a handler's transaction writes has the transaction's own id. Behind a savepoint it would have another one, and
/// each event would take two of them.
#[tokio::test]
async fn an_event_takes_one_transaction_id() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (&fixture.store, fixture.lease().await);
    let (mut tx, _) = admit(store, &lease, &event(1, Some("k")), Source::Log).await;
    let own = "SELECT COUNT(*) FROM courant_inbox WHERE xmin::text::bigint = txid_current() % 4294967296";
    let rows = sqlx::query_scalar::<_, i64>(own).fetch_one(&mut *tx).await.expect("a number");
    assert_eq!(rows, 1);
    tx.commit(NOW).await.expect("a commit");
}

/// The end of a transaction that publishes nothing is noticed, too: no row is written there that could be refused.
#[tokio::test]
async fn an_end_is_noticed_where_nothing_is_published() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (&fixture.store, fixture.lease().await);
    // What resets the settings takes the transaction's name, and what the framework has set for the session.
    let ended: [&[&'static str]; 7] = [
        &["COMMIT"],
        &["ROLLBACK"],
        &["ROLLBACK", "BEGIN"],
        &["ROLLBACK AND CHAIN"],
        &["ROLLBACK", "DISCARD ALL", "BEGIN"],
        &["SELECT 1 / 0"],
        &["RESET ALL"],
    ];
    for (offset, statements) in (1..).zip(ended) {
        let event = event(offset, Some("k"));
        let (mut tx, _) = admit(store, &lease, &event, Source::Log).await;
        for statement in statements {
            // The handler does not look at what it gets back.
            let _ = sqlx::query(*statement).execute(&mut *tx).await;
        }
        let refused = tx.commit(NOW).await.expect_err("it had ended");
        assert!(matches!(refused, CommitError::Ended), "{statements:?}: {refused:?}");
        assert_eq!(admission(store, &lease, &event, Source::Log).await, Admission::New, "{statements:?}");
    }
    assert_eq!(fixture.number("SELECT COUNT(*) FROM courant_inbox").await, 0);
}

/// The server keeps the plan of what writes one event, which most transactions do: to make one anew each time
/// would be more work than to follow it.
#[tokio::test]
async fn what_writes_one_event_is_planned_once() {
    let Some(fixture) = Fixture::new().await else { return };
    let store = fixture.narrow().await;
    for number in 1..=20 {
        let mut tx = store.begin(None).await.expect("a transaction");
        tx.publish(new_event(&format!("p-{number}"), "k")).expect("room");
        assert_eq!(tx.commit(NOW).await.expect("a commit").lanes, [new_event("p", "k").lane()]);
    }
    let planned = "SELECT COALESCE(SUM(generic_plans), 0)::bigint FROM pg_prepared_statements \
                   WHERE statement LIKE '%INSERT INTO courant_outbox (%'";
    assert!(super::steps::number(&store, planned).await >= 10);
    let positions = "SELECT SUM(position)::bigint FROM courant_outbox_lane";
    assert_eq!(super::steps::number(&store, positions).await, 20, "each has its own");
}

/// What holds the partition, names the transaction and admits the event is planned once for each connection, too:
/// one statement while nothing is parked in the partition, which is not looked for then.
#[tokio::test]
async fn what_begins_an_event_is_planned_once() {
    let Some(fixture) = Fixture::new().await else { return };
    let store = fixture.narrow().await;
    let lease = store.take_over(&assignment("billing"), "test", NOW).await.expect("a lease");
    for offset in 1..=20 {
        handle(&store, &lease, &event(offset, Some("k")), Source::Log).await;
    }
    let planned = "SELECT COALESCE(SUM(generic_plans), 0)::bigint FROM pg_prepared_statements \
                   WHERE name = 'courant_begin'";
    assert!(super::steps::number(&store, planned).await >= 10);
    let looked = "SELECT COUNT(*) FROM pg_prepared_statements WHERE statement LIKE '%courant_parked%' \
                  AND name LIKE 'courant%'";
    assert_eq!(super::steps::number(&store, looked).await, 0, "nothing is parked");
    store.park(&lease, &event(21, Some("parked")), &failure(), 0, NOW, NOW).await.expect("parked");
    for offset in 22..=41 {
        handle(&store, &lease, &event(offset, Some("k")), Source::Log).await;
    }
    let planned = "SELECT COALESCE(MIN(generic_plans), 0)::bigint FROM pg_prepared_statements \
                   WHERE name IN ('courant_hold', 'courant_admit')";
    assert!(super::steps::number(&store, planned).await >= 10);
}

/// That nothing is parked is known of a lease and all its copies. Whichever way something comes to be parked, and
/// whoever does it, the next event of the key is found to be behind it.
#[tokio::test]
async fn what_is_parked_under_a_copy_of_the_lease_is_found() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, other) = (&fixture.store, fixture.another().await);
    for way in ["claim", "park", "queue", "bury"] {
        let lease = store.take_over(&assignment(way), "test", NOW).await.expect("a lease");
        handle(store, &lease, &event(1, Some("k")), Source::Log).await;
        let (copy, second) = (lease.clone(), event(2, Some("k")));
        match way {
            "park" => {
                other.park(&copy, &second, &failure(), 0, NOW, NOW).await.expect("parked");
            }
            "queue" => other.queue(&copy, std::slice::from_ref(&second), NOW).await.expect("queued"),
            _ => {
                let blocks = way == "bury";
                other.bury(&copy, burial(&second, &failure(), blocks), NOW).await.expect("buried");
            }
        }
        if way == "claim" {
            let third = event(3, Some("k"));
            assert_eq!(admission(store, &lease, &third, Source::Log).await, Admission::New);
            other.request_redrive("r-1", "alice", &DeadFilter::default(), NOW).await.expect("requested");
            assert_eq!(other.claim_redrives(&copy, 10, NOW).await.expect("taken").len(), 1);
        }
        let next = event(4, Some("k"));
        assert_eq!(admission(store, &lease, &next, Source::Log).await, Admission::Behind, "{way}");
        // So it is for the next owner, which finds it there.
        let lease = store.take_over(&assignment(way), "next", NOW).await.expect("a lease");
        assert_eq!(admission(store, &lease, &next, Source::Log).await, Admission::Behind, "{way}");
        let free = event(5, Some("l"));
        assert_eq!(admission(store, &lease, &free, Source::Log).await, Admission::New, "{way}");
    }
}

/// The last two events of a redrive are handled at the same moment: it has ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redrive_ends_with_its_last_two_events() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (&fixture.store, fixture.lease().await);
    for round in 0..10 {
        let events = [event(2 * round, Some("a")), event(2 * round + 1, Some("b"))];
        for event in &events {
            store.bury(&lease, burial(event, &failure(), false), NOW).await.expect("buried");
        }
        let id = format!("r-{round}");
        store.request_redrive(&id, "alice", &DeadFilter::default(), NOW).await.expect("requested");
        assert_eq!(store.claim_redrives(&lease, 10, NOW).await.expect("taken").len(), 2);
        let (first, _) = admit(store, &lease, &events[0], Source::Parked).await;
        let (second, _) = admit(store, &lease, &events[1], Source::Parked).await;
        let (first, second) = tokio::join!(tokio::spawn(first.commit(NOW)), tokio::spawn(second.commit(NOW)));
        first.expect("no panic").expect("a commit");
        second.expect("no panic").expect("a commit");
        let redrive = store.redrive(&id).await.expect("it is known");
        assert_eq!((redrive.state, redrive.handled), (RedriveState::Done, 2), "{id}");
    }
}

/// A dead letter is given up at the moment when another event of its key is put behind it: whichever is
/// first, the event has its turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_is_queued_behind_a_closing_dead_letter_has_its_turn() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (&fixture.store, fixture.lease().await);
    for round in 0..20 {
        let (dead, behind) = (event(2 * round, Some("k")), event(2 * round + 1, Some("k")));
        let buried = store.bury(&lease, burial(&dead, &failure(), true), NOW).await.expect("buried");
        let id = buried.id.expect("a number");
        let discarding = tokio::spawn({
            let store = store.clone();
            async move { store.discard(&[id], NOW).await }
        });
        store.queue(&lease, std::slice::from_ref(&behind), NOW).await.expect("queued");
        assert_eq!(discarding.await.expect("no panic").expect("discarded"), [id]);
        let due = store.due(&lease.assignment, NOW, 10).await.expect("a list");
        assert_eq!(due.len(), 1, "round {round}");
        handle(store, &lease, &behind, Source::Parked).await;
    }
}

/// While a takeover waits, nobody begins anything new in the partition.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_takeover_that_waits_turns_new_transactions_away() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (&fixture.store, fixture.lease().await);
    let (tx, _) = admit(store, &lease, &event(1, None), Source::Log).await;
    let takeover = tokio::spawn({
        let other = fixture.another().await;
        async move { other.take_over(&assignment("billing"), "other", NOW).await }
    });
    let waiting = "SELECT COUNT(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted \
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    while fixture.number(waiting).await == 0 {
        assert!(!takeover.is_finished(), "it has not waited");
    }
    match store.begin(Some(&lease)).await.expect_err("it is being taken over") {
        courant_sql::BeginError::Store(error) => assert_eq!(error.class(), Class::Busy, "{error}"),
        error => panic!("{error}"),
    }
    tx.commit(NOW).await.expect("it was there first");
    assert_eq!(takeover.await.expect("no panic").expect("a lease").epoch, 2);
}

#[tokio::test]
async fn what_is_no_database_is_named() {
    for url in ["sqlite:service.db", "service.db", "", "postgres://u:secret@host:no-port/x"] {
        let refused = Postgres::connect(url).await.expect_err("no address");
        assert!(matches!(refused, ConnectError::Url { .. }), "{url}: {refused}");
        assert!(!refused.to_string().contains("secret"), "{refused}");
    }
    let Some(fixture) = Fixture::bare().await else { return };
    let missing = format!("{}_missing", fixture.url());
    let refused = Postgres::connect(&missing).await.expect_err("no such database");
    assert!(
        matches!(&refused, ConnectError::Store(error) if error.class() == Class::CannotOpen),
        "{refused}"
    );
}

/// Every commit is on the disk when it is answered, and a client that is gone is noticed.
#[tokio::test]
async fn commits_are_synced() {
    let Some(fixture) = Fixture::new().await else { return };
    let mut tx = fixture.store.begin(None).await.expect("a transaction");
    for (setting, value) in [
        ("synchronous_commit", "on"),
        ("transaction_isolation", "read committed"),
        ("client_connection_check_interval", "1s"),
    ] {
        let found: String = sqlx::query_scalar("SELECT current_setting($1)")
            .bind(setting)
            .fetch_one(&mut *tx)
            .await
            .expect("a setting");
        assert_eq!(found, value, "{setting}");
    }
    tx.rollback().await.expect("a rollback");
}
