//! The scenarios of stores are judged by stores that lie: each lie is seen by the scenarios that are there
//! because of it, and a scenario that sees no lie goes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use courant_conformance::{StoreSubject, check_store, check_store_some, store_scenarios};
use courant_sql::Sqlite;

use crate::lying_store::LyingStore;
use crate::store_lies::{STORE_LIES, StoreLie};
use crate::stores::roll_back;

/// Databases in memory by their numbers, and how often each was opened.
type Places = Arc<Mutex<BTreeMap<u32, (Sqlite, u32)>>>;

/// One of them. It lives on while somebody has it, so whoever opens it again finds what is in it.
async fn opened(
    places: &Places,
    number: u32,
) -> Result<(Sqlite, u32), Box<dyn std::error::Error + Send + Sync>> {
    if let Some((store, times)) = places.lock().expect("nobody panics with it").get_mut(&number) {
        *times += 1;
        return Ok((store.clone(), *times));
    }
    let store = Sqlite::connect("sqlite::memory:").await?;
    places.lock().expect("nobody panics with it").insert(number, (store.clone(), 0));
    Ok((store, 0))
}

fn subject(lie: StoreLie) -> StoreSubject<LyingStore<Sqlite>> {
    let places = Places::default();
    let subject = StoreSubject::<LyingStore<Sqlite>>::new(format!("{lie:?}"), move |number| {
        let places = places.clone();
        Box::pin(async move {
            let (store, times) = opened(&places, number).await?;
            Ok(LyingStore::around(store, lie, times))
        })
    });
    subject.ending(|connection| Box::pin(roll_back(connection)))
}

/// The wrapper without a lie keeps every promise: what the others break is broken by their lies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_tells_the_truth_keeps_everything() {
    check_store(&subject(StoreLie::Truth)).await.assert_kept();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_lie_of_a_store_is_seen_and_every_scenario_sees_one() {
    let mut useful: BTreeSet<&str> = BTreeSet::new();
    for (lie, seen_by) in STORE_LIES {
        let report = check_store_some(&subject(*lie), |name| seen_by.contains(&name)).await;
        let broken: BTreeSet<&str> = report.broken.iter().map(|(name, _)| *name).collect();
        let expected: BTreeSet<&str> = seen_by.iter().copied().collect();
        assert_eq!(broken, expected, "{lie:?}: {:?} {:?}", report.kept, report.broken);
        useful.extend(seen_by.iter());
    }
    let scenarios = store_scenarios::<Sqlite>();
    let names: BTreeSet<&str> = scenarios.iter().map(|scenario| scenario.name()).collect();
    assert_eq!(names.len(), scenarios.len(), "names are told once");
    let superfluous: Vec<_> = names.difference(&useful).collect();
    assert!(superfluous.is_empty(), "these see no lie: give them one, or take them out: {superfluous:?}");
    for (at, (lie, _)) in STORE_LIES.iter().enumerate() {
        assert!(STORE_LIES[at + 1..].iter().all(|(other, _)| other != lie), "{lie:?} is there twice");
    }
}
