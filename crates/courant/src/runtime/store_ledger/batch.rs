//! Several events in one transaction: one begin, one look into the inbox, one write of the outbox and one
//! commit for all of them.
//!
//! ```text
//!   begin ─▶ admit all ─▶ handler, proof ─▶ handler, proof ─▶ … ─▶ outbox, commit
//!                              └── anything fails: roll back; the others together once more; the event
//!                                  that has failed by itself, and what is of its key behind it
//! ```
//!
//! No failure counts here, and nothing is parked: what went wrong is found again where the rules for it
//! are, event by event. The proof keeps a handler away from a transaction that an earlier one has ended.

use std::collections::HashSet;

use bytes::Bytes;
use courant_sql::{Admission, Delivery, Store, Transaction as _};
use tracing::debug;

use super::{StoreLedger, TransactionEscaped, keep_published, lease};
use crate::planted::{Defect, is_planted};
use crate::runtime::faults::FaultPoint;
use crate::runtime::ledger::{Ledger as _, Settled, Trouble, Work};
use crate::subscription::Registered;
use crate::tx::{Lent, Slot};

/// A batch was not handled as one, and has left nothing.
struct Apart {
    /// The event that it failed at, if it was one.
    at: Option<usize>,
    why: String,
}

impl Apart {
    fn at(event: usize, why: impl ToString) -> Self {
        Self { at: Some(event), why: why.to_string() }
    }

    fn whole(why: impl ToString) -> Self {
        Self { at: None, why: why.to_string() }
    }
}

impl<D: Store, T: Send + Sync + 'static> StoreLedger<D, T> {
    /// Settles events of one assignment together if that goes well. Otherwise the event that has failed leaves
    /// them with those of its key, and when the others do not go well together either, all go one by one.
    pub(super) async fn settle_together(&self, works: Vec<Work>) -> Result<Vec<Settled>, Trouble> {
        let entered: Vec<_> = works.iter().map(|work| self.under_way.enter(&work.event.id)).collect();
        for entered in &entered {
            entered.until_begun().await;
        }
        let at = match self.attempt_together(&works).await {
            Ok(settled) => return Ok(settled),
            Err(apart) => self.noted(&works, apart),
        };
        let (mut others, failing) = apart(&works, at);
        let mut settled = vec![None; works.len()];
        if !failing.is_empty() && others.len() > 1 {
            let rest: Vec<Work> = others.iter().filter_map(|index| works.get(*index).cloned()).collect();
            match self.attempt_together(&rest).await {
                Ok(together) => {
                    for (index, one) in others.drain(..).zip(together) {
                        put(&mut settled, index, one);
                    }
                }
                Err(apart) => {
                    self.noted(&rest, apart);
                }
            }
        }
        let singly = others.into_iter().chain(failing);
        self.settle_singly(&works, singly.collect(), &mut settled).await?;
        Ok(settled.into_iter().flatten().collect())
    }

    /// Settles events one by one. What comes behind one that is parked then is not looked at: all of it is put
    /// behind the parked ones at once, as the loop does with what comes later.
    async fn settle_singly(
        &self,
        works: &[Work],
        singly: Vec<usize>,
        settled: &mut [Option<Settled>],
    ) -> Result<(), Trouble> {
        let mut parked: HashSet<&Bytes> = HashSet::new();
        let mut behind = Vec::new();
        for index in singly {
            let Some(work) = works.get(index) else { continue };
            let key = work.event.key.as_ref();
            if key.is_some_and(|key| parked.contains(key)) {
                behind.push((index, work.clone()));
                continue;
            }
            let one = self.settle(work.clone()).await?;
            if matches!(one, Settled::Waits { .. } | Settled::Queued | Settled::Holds) {
                parked.extend(key);
            }
            put(settled, index, one);
        }
        if behind.is_empty() {
            return Ok(());
        }
        let (indices, queued): (Vec<usize>, Vec<Work>) = behind.into_iter().unzip();
        self.queue(queued).await?;
        for index in indices {
            put(settled, index, Settled::Queued);
        }
        Ok(())
    }

    /// Says why a batch was not handled as one; the event that it failed at, if it was one.
    fn noted(&self, works: &[Work], apart: Apart) -> Option<usize> {
        let Apart { at, why } = apart;
        debug!(consumer = %self.consumer, events = works.len(), ?at, why, "a batch is not handled as one");
        at
    }

    async fn attempt_together(&self, works: &[Work]) -> Result<Vec<Settled>, Apart> {
        let faults = &self.caller.context.faults;
        let handlers = works.iter().enumerate().map(|(at, work)| {
            let found = self.caller.handler(work);
            found.map_err(|failed| Apart::at(at, failed.failure.message))
        });
        let handlers = handlers.collect::<Result<Vec<_>, Apart>>()?;
        let (mut transaction, admissions) = self.admit_together(works).await?;
        faults.reach(FaultPoint::AfterBegin).await;
        // Before any handler is called: a handler that is called for nothing is called once more.
        if let Some(at) = waiting(&admissions) {
            self.undo(transaction).await;
            return Err(Apart::at(at, "it waits in the store"));
        }
        for (at, ((work, handler), admission)) in works.iter().zip(handlers).zip(admissions).enumerate() {
            if admission != Admission::New {
                continue;
            }
            let handled = self.handle_in(transaction, handler, work).await;
            transaction = handled.map_err(|why| Apart::at(at, why))?;
        }
        // Without an answer, too, one by one: the inbox has it.
        let committed = transaction.commit(self.now_ms()).await.map_err(Apart::whole)?;
        faults.reach(FaultPoint::AfterCommit).await;
        self.caller.context.committed(&committed);
        Ok(vec![Settled::Done { drained: false }; works.len()])
    }

    async fn admit_together(&self, works: &[Work]) -> Result<(D::Transaction, Vec<Admission>), Apart> {
        let first = works.first().ok_or_else(|| Apart::whole("a batch of nothing"))?;
        let lease = lease(&first.assigned).map_err(|_| Apart::whole("a partition without a lease"))?;
        let mut transaction = self.store.begin(Some(lease)).await.map_err(Apart::whole)?;
        if is_planted(Defect::NoInbox) {
            return Ok((transaction, vec![Admission::New; works.len()]));
        }
        let deliveries: Vec<Delivery<'_>> = works.iter().map(Work::delivery).collect();
        let why = match transaction.admit(&deliveries, self.now_ms()).await {
            Ok(admissions) if admissions.len() == works.len() => return Ok((transaction, admissions)),
            Ok(_) => "the store did not answer for every event".to_owned(),
            Err(error) => error.to_string(),
        };
        self.undo(transaction).await;
        Err(Apart::whole(why))
    }

    /// Calls one handler, and gives the transaction back if the next one may have it. Otherwise it is
    /// rolled back, and the reason is told.
    async fn handle_in(
        &self,
        transaction: D::Transaction,
        handler: &Registered<D, T>,
        work: &Work,
    ) -> Result<D::Transaction, String> {
        let mut begun = self.caller.begin(work);
        let slot = Slot::new(Lent { transaction, outbox: self.caller.outbox(&begun) });
        let mut called = self.caller.call(handler, work, &begun, slot.clone()).await;
        if let Err(failed) = &mut called {
            begun.failed(failed);
        }
        let (lent, returned) = match (called, slot.close()) {
            (Ok(returned), Some(lent)) => (lent, returned),
            (Ok(_), None) => return Err(TransactionEscaped.to_string()),
            (Err(failed), Some(lent)) if !failed.was_cancelled => {
                self.undo(lent.transaction).await;
                return Err(failed.failure.message);
            }
            // Dropped: what may be in the middle of a query is closed, and not used again.
            (Err(failed), _) => return Err(failed.failure.message),
        };
        let (mut transaction, published) = keep_published(lent, returned);
        let whole = match published {
            Ok(()) => transaction.prove().await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(why) = whole {
            self.undo(transaction).await;
            return Err(why);
        }
        self.caller.context.faults.reach(FaultPoint::AfterHandler).await;
        Ok(transaction)
    }
}

/// The first event that has no place in a batch: its turn is decided by what is parked.
fn waiting(admissions: &[Admission]) -> Option<usize> {
    admissions.iter().position(|admission| matches!(admission, Admission::Behind | Admission::Gone))
}

/// The events of a batch that have not failed, and those of the key that has, both in their order. The others
/// come first: they do not wait once more for one that takes all its time.
fn apart(works: &[Work], at: Option<usize>) -> (Vec<usize>, Vec<usize>) {
    let key = at.and_then(|at| works.get(at)).and_then(|work| work.event.key.as_ref());
    let is_other = |index: &usize| {
        let own = works.get(*index).and_then(|work| work.event.key.as_ref());
        at != Some(*index) && (key.is_none() || own != key)
    };
    (0..works.len()).partition(is_other)
}

fn put(settled: &mut [Option<Settled>], index: usize, one: Settled) {
    if let Some(place) = settled.get_mut(index) {
        *place = Some(one);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use courant_core::event_id::EventId;
    use courant_core::position::TopicPartition;
    use courant_core::topic::TopicName;
    use courant_sql::{Event, Outcome, Source};

    use super::*;
    use crate::runtime::ledger::{Assigned, GivenUp};

    fn works(keys: &[Option<&'static str>]) -> Vec<Work> {
        let topic = TopicName::new("t").expect("legal");
        let assigned = Arc::new(Assigned {
            partition: TopicPartition { topic, partition: 0 },
            serial: 1,
            lease: None,
            topic_id: None,
            given_up: GivenUp::default(),
        });
        let works = keys.iter().zip(0_u64..).map(|(key, offset)| Work {
            assigned: assigned.clone(),
            event: Event {
                offset,
                id: EventId::new(&format!("e-{offset}")).expect("legal"),
                key: key.map(Bytes::from),
                value: None,
                headers: Vec::new(),
                timestamp_ms: 0,
            },
            source: Source::Log,
            failures: 0,
        });
        works.collect()
    }

    /// One that waits is found wherever it stands, before a handler is called for those in front of it.
    #[test]
    fn one_that_waits_is_found_behind_others() {
        let seen = Admission::Seen(Outcome::Handled);
        assert_eq!(waiting(&[Admission::New, seen, Admission::New]), None);
        assert_eq!(waiting(&[Admission::New, seen, Admission::Behind, Admission::Gone]), Some(2));
        assert_eq!(waiting(&[Admission::New, Admission::Gone]), Some(1));
    }

    #[test]
    fn the_key_that_has_failed_is_apart_and_in_its_order() {
        let works = works(&[Some("a"), Some("b"), Some("a"), None, None, Some("b")]);
        assert_eq!(apart(&works, Some(2)), (vec![1, 3, 4, 5], vec![0, 2]));
        assert_eq!(apart(&works, Some(3)), (vec![0, 1, 2, 4, 5], vec![3]), "what has no key is alone");
        assert_eq!(apart(&works, None), (vec![0, 1, 2, 3, 4, 5], Vec::new()));
    }
}
