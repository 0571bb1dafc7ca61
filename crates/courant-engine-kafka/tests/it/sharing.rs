//! Groups over several clients: an engine here is what a process is elsewhere. They know nothing of each
//! other but the server.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use courant_engine::{Next, Partition, Subscription};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::place::{PATIENCE, at_the_beginning, join, publish, record_in};
use crate::server::{Server, opened, place};

const PARTITIONS: u32 = 6;

/// Long enough for a turn of the other subscription.
const TURN: Duration = Duration::from_millis(50);

/// A subscription, what it has, and what it has read.
struct Reader {
    subscription: Box<dyn Subscription>,
    has: BTreeSet<Partition>,
    read: BTreeMap<Partition, Vec<u64>>,
}

impl Reader {
    fn new(subscription: Box<dyn Subscription>) -> Self {
        Self { subscription, has: BTreeSet::new(), read: BTreeMap::new() }
    }

    /// Takes one step; partitions begin where `progress` says, which is kept beside the engine as a store
    /// keeps it.
    async fn step(&mut self, progress: &mut BTreeMap<Partition, u64>) {
        match self.subscription.next(TURN).await.expect("no error") {
            Next::Assigned(partitions) => {
                let positions = partitions
                    .iter()
                    .map(|partition| partition.at(progress.get(partition).copied().unwrap_or_default()));
                self.subscription.seek(positions.collect()).expect("assigned");
                self.has.extend(partitions);
            }
            Next::Revoked(partitions) => {
                partitions.iter().for_each(|partition| assert!(self.has.remove(partition)));
            }
            Next::Records(fetched) => {
                for fetched in fetched {
                    assert!(self.has.contains(&fetched.partition), "{} is another's", fetched.partition);
                    let offsets = fetched.records.iter().map(|record| record.position.offset);
                    self.read.entry(fetched.partition.clone()).or_default().extend(offsets);
                    progress.insert(fetched.partition, fetched.next_offset);
                }
            }
            _ => {}
        }
    }
}

/// The second one takes half of the partitions over, each where the first one has left it, while records
/// come; then the first one goes, and the second one has all. Every record is read once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_clients_share_a_group_and_hand_over() {
    let data = TempDir::new().expect("a directory");
    let Some(server) = Server::start(data.path(), "two_clients_share_a_group_and_hand_over") else { return };
    let (one, two) =
        (opened(&server.url()).await.expect("opens"), opened(&server.url()).await.expect("opens"));
    crate::place::Place::new(one.clone(), false, None).topic("orders", PARTITIONS).await;
    let fill =
        |round: u32| (0..PARTITIONS * 10).map(move |n| record_in(n % PARTITIONS, format!("{round}-{n}")));
    let mut progress = BTreeMap::new();

    let mut first = Reader::new(join(&*one, "billing", "orders").await);
    publish(&*one, fill(0).collect()).await;
    let all_read = |progress: &BTreeMap<Partition, u64>, each: u64| {
        progress.len() == PARTITIONS as usize && progress.values().all(|next| *next == each)
    };
    timeout(PATIENCE, async {
        while !all_read(&progress, 10) {
            first.step(&mut progress).await;
        }
    })
    .await
    .expect("the first one reads everything");
    assert_eq!(first.has.len(), PARTITIONS as usize);

    let mut second = Reader::new(join(&*two, "billing", "orders").await);
    publish(&*two, fill(1).collect()).await;
    let half = PARTITIONS as usize / 2;
    timeout(PATIENCE, async {
        while first.has.len() != half || second.has.len() != half || !all_read(&progress, 20) {
            first.step(&mut progress).await;
            second.step(&mut progress).await;
            assert!(first.has.is_disjoint(&second.has), "a partition has two owners");
        }
    })
    .await
    .expect("they share");

    let read_by_first = first.read;
    drop(first.subscription);
    one.close().await;
    publish(&*two, fill(2).collect()).await;
    timeout(PATIENCE, async {
        while second.has.len() != PARTITIONS as usize || !all_read(&progress, 30) {
            second.step(&mut progress).await;
        }
    })
    .await
    .expect("the second one takes over");

    for number in 0..PARTITIONS {
        let partition = Partition::new("orders", number);
        let of = |read: &BTreeMap<Partition, Vec<u64>>| read.get(&partition).cloned().unwrap_or_default();
        let mut read = [of(&read_by_first), of(&second.read)].concat();
        read.sort_unstable();
        assert!(read.iter().copied().eq(0..30), "{partition}: {read:?}");
    }
    two.close().await;
}

/// A member that commits does so while its group has members, and what it has committed is seen by
/// everybody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_commits_for_its_group() {
    let Some(place) = place("a_member_commits_for_its_group").await else { return };
    place.topic("orders", 2).await;
    let mut subscription = join(&*place.engine, "billing", "orders").await;
    let assigned = crate::place::assigned(&mut *subscription).await;
    subscription.seek(at_the_beginning(&assigned)).expect("assigned");
    let positions = assigned.iter().map(|partition| partition.at(7)).collect();
    place.engine.commit("billing".to_owned(), positions).await.expect("commits");
    let committed = place.engine.committed("billing".to_owned(), assigned).await;
    assert_eq!(committed, Ok(vec![Some(7), Some(7)]));
}
