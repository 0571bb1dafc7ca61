//! O10: nobody waits in a circle.

use courant_sql::{Source, Store as _, Transaction as _};

use super::steps::{Fixture, NOW, admit, assignment, event, failure, handle, new_event};

/// Rounds of each writer in the CI. `COURANT_DEADLOCK_ROUNDS` sets another number; a run before a release takes
/// 10,000.
const ROUNDS: &str = "COURANT_DEADLOCK_ROUNDS";
const ROUNDS_DEFAULT: u64 = 150;

/// One publishes in the lanes of `a` and `b`, the other in those of `b` and `a`, and they handle events and
/// park others meanwhile: nobody ever waits in a circle.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_order_of_keys_makes_a_deadlock() {
    let Some(fixture) = Fixture::new().await else { return };
    let rounds = std::env::var(ROUNDS).map_or(ROUNDS_DEFAULT, |rounds| rounds.parse().expect("a number"));
    let (a, b) = (new_event("a", "a"), new_event("b", "b"));
    assert_ne!(a.lane(), b.lane());
    let mut tasks = Vec::new();
    for (task, keys) in (0_u64..).zip([["a", "b"], ["b", "a"], ["a", "b"], ["b", "a"]]) {
        let store = fixture.another().await;
        let lease =
            store.take_over(&assignment(&format!("consumer-{task}")), "test", NOW).await.expect("a lease");
        tasks.push(tokio::spawn(async move {
            for round in 0..rounds {
                let handled = event(round, Some("k"));
                let (mut tx, _) = admit(&store, &lease, &handled, Source::Log).await;
                for key in keys {
                    tx.publish(new_event(&format!("{task}-{round}-{key}"), key)).expect("room");
                }
                tx.commit(NOW).await.expect("no deadlock");
                if round % 50 == 0 {
                    let other = event(rounds + round, Some("other"));
                    store.park(&lease, &other, &failure(), 0, NOW, NOW).await.expect("no deadlock");
                    handle(&store, &lease, &other, Source::Parked).await;
                }
            }
        }));
    }
    for task in tasks {
        task.await.expect("no panic");
    }
    let committed = 4 * rounds * 2;
    assert_eq!(fixture.store.outbox_backlog().await.expect("a number"), committed);
}
