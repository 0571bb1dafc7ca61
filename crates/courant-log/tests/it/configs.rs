//! Changes of a topic's configs that follow from what was set.

use std::sync::{Arc, Mutex};

use courant_log::storage::MemoryStorage;
use courant_log::{AlterTopicError, Log, Topic};

use courant_sim::tiny::{create, open, slot, taken};

type Altered = Arc<Mutex<Option<Result<Arc<Topic>, AlterTopicError>>>>;

const POLICY: &str = "cleanup.policy";

fn set(log: &Log, seen: &Arc<Topic>, policy: &str) -> Altered {
    let (slot, done) = slot();
    log.alter_topic_seen(seen.clone(), vec![(POLICY.to_owned(), Some(policy.to_owned()))], done);
    slot
}

/// Two changes are decided from the same configs, and stand in one group. The second would take back what the
/// first has set: it is refused with what is set now, and is taken when it was decided from that.
#[test]
fn a_change_of_what_is_no_longer_set_is_refused() {
    let log = open(&MemoryStorage::new(64 * 1024 * 1024), 1);
    let seen = create(&log, "orders", 1, &[(POLICY, "delete")]);
    let (first, second) = (set(&log, &seen, "delete,compact"), set(&log, &seen, "delete"));
    while log.commit() {}
    let first = taken(&first).expect("altered");
    assert_eq!(taken(&second), Err(AlterTopicError::Changed { now: first.clone() }));
    assert_eq!(log.catalog().by_name("orders"), Some(&first));

    let again = set(&log, &first, "compact");
    while log.commit() {}
    let again = taken(&again).expect("altered");
    assert_eq!(again.configs.get(POLICY).map(String::as_str), Some("compact"));

    // A topic that has grown has the same configs.
    let (grown, done) = slot();
    log.add_partitions(again.id, 2, done);
    let after = set(&log, &again, "delete");
    while log.commit() {}
    taken(&grown).expect("grown");
    assert_eq!(taken(&after).expect("altered").partitions.len(), 2);
}
