//! A program uses the tables of its own version, and no others.

use courant_sql::{
    Class, DeadAction, DeadState, Decision, SchemaError, Store as _, Transaction as _, Verdict,
};

use super::steps::{Fixture, NOW, burial, event, failure, run};
use super::support::make_older;

#[tokio::test]
async fn tables_are_installed_once() {
    let Some(fixture) = Fixture::bare().await else { return };
    let store = &fixture.store;
    let missing = store.check().await.expect_err("there are none");
    assert!(matches!(missing, SchemaError::Missing), "{missing}");
    assert!(missing.to_string().contains("install"), "{missing}");
    for _ in 0..2 {
        store.install(NOW).await.expect("the tables");
        store.check().await.expect("they are there");
    }
    assert_eq!(fixture.number("SELECT COUNT(*) FROM courant_outbox_lane").await, 256);
}

/// Two processes start at once on an empty database.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_may_install_at_once() {
    let Some(fixture) = Fixture::bare().await else { return };
    let mut tasks = Vec::new();
    for store in [fixture.another().await, fixture.another().await] {
        tasks.push(tokio::spawn(async move { store.install(NOW).await }));
    }
    for task in tasks {
        task.await.expect("no panic").expect("installed, by one of them");
    }
}

async fn with(statement: &'static str) -> Option<(Fixture, SchemaError)> {
    let fixture = Fixture::new().await?;
    let mut tx = fixture.store.begin(None).await.expect("a transaction");
    run(&mut tx, statement).await;
    tx.commit(NOW).await.expect("a commit");
    let installed = fixture.store.install(NOW).await.expect_err("another version");
    let checked = fixture.store.check().await.expect_err("another version");
    assert_eq!(installed.to_string(), checked.to_string());
    Some((fixture, checked))
}

#[tokio::test]
async fn a_newer_version_is_refused() {
    let Some((fixture, refused)) = with("UPDATE courant_schema SET version = 4").await else { return };
    assert!(matches!(refused, SchemaError::OtherVersion { found: 4, known: 3 }), "{refused}");
    let said = refused.to_string();
    assert!(said.contains("version 4") && said.contains("version 3") && said.contains("newer"), "{said}");
    assert_eq!(fixture.number("SELECT version FROM courant_schema").await, 4, "nothing was changed");
}

#[tokio::test]
async fn an_older_version_is_refused() {
    let Some((_, refused)) = with("UPDATE courant_schema SET version = 0").await else { return };
    assert!(matches!(refused, SchemaError::OtherVersion { found: 0, known: 3 }), "{refused}");
}

/// A program of version 2 has archived a letter. The next one raises its tables once, and has the letter with
/// what was noted of it; only then it can be restored.
#[tokio::test]
async fn tables_of_the_version_before_are_raised_with_what_is_in_them() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (&fixture.store, fixture.lease().await);
    make_older(store).await;
    let event = event(0, Some("k"));
    let buried = store.bury(&lease, burial(&event, &failure(), true), NOW).await.expect("buried");
    let id = buried.id.expect("a number");
    let decision = |verdict| Decision { verdict, by: "bob", reason: "for the auditors" };
    assert_eq!(store.decide(&[id], &decision(Verdict::Archive), NOW).await.expect("decided"), [id]);
    let refused =
        store.decide(&[id], &decision(Verdict::Restore), NOW).await.expect_err("it is no action yet");
    assert_eq!(refused.class(), Class::Constraint, "{refused}");
    let refused = store.check().await.expect_err("an older version");
    assert!(matches!(refused, SchemaError::OtherVersion { found: 2, known: 3 }), "{refused}");
    assert!(refused.to_string().contains("raises the tables"), "{refused}");

    for _ in 0..2 {
        fixture.another().await.install(NOW).await.expect("raised");
    }
    store.check().await.expect("they are of this version");
    let letter = store.dead_letter(id).await.expect("an answer").expect("it is there");
    assert_eq!((letter.summary.state, &letter.event), (DeadState::Archived, &event));
    assert_eq!(store.decide(&[id], &decision(Verdict::Restore), NOW + 1).await.expect("decided"), [id]);
    let notes = store.dead_letter_notes(id).await.expect("a list");
    let noted: Vec<_> = notes.iter().map(|note| (note.action, note.by.as_str(), note.at_ms)).collect();
    assert_eq!(noted, [(DeadAction::Archived, "bob", NOW), (DeadAction::Restored, "bob", NOW + 1)]);
}

#[tokio::test]
async fn another_number_of_lanes_is_refused() {
    let Some((_, refused)) = with("UPDATE courant_schema SET lanes = 64").await else { return };
    assert!(matches!(refused, SchemaError::OtherLanes { found: 64, known: 256 }), "{refused}");
}
