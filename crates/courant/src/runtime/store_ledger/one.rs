//! One event in a transaction of its own, and the next one behind it.
//!
//! ```text
//!   begin, inbox ─▶ handler ─▶ outbox ─▶ commit; begin, inbox ─▶ handler ─▶ outbox ─▶ commit; begin, …
//! ```
//!
//! The transaction of the next event begins with the commit of this one, where the store can. It belongs to that
//! event alone: whatever becomes of it has no part in this one, which is committed by then. It does not where another
//! turn has that event at the same time: the answer to the commit would wait for that one's end.

use courant_sql::{Admission, Begun, CommitError, Committed, Source, Store, Transaction as _};
use tracing::warn;

use super::under_way::Entered;
use super::{StoreLedger, TransactionEscaped, keep_published, lease};
use crate::outbox::PublishError;
use crate::planted::{Defect, is_planted};
use crate::runtime::call::Begun as Call;
use crate::runtime::faults::FaultPoint;
use crate::runtime::ledger::{Settled, Trouble, Turns, Work};
use crate::runtime::passing::{Bad, Pause};
use crate::runtime::policy::Failed;
use crate::subscription::Registered;
use crate::tx::{Lent, Slot};
use crate::{HandlerError, StallReason};

/// What an attempt has come to.
enum Attempted {
    Settled(Settled),
    Failed(Failed),
    /// Whether it was committed is not known. The inbox will say.
    InDoubt(String),
}

/// Whether an event may be handled now.
enum Admitted<X> {
    New(X),
    Settled(Settled),
}

/// A transaction that has begun with the commit before it.
pub(super) type BegunIn<D> = Begun<<D as Store>::Transaction>;

/// The event behind the one that is at work.
pub(super) struct Behind<'a, D: Store> {
    turns: &'a dyn Turns,
    next: Option<Next<D>>,
}

/// It, and what has begun of it.
struct Next<D: Store> {
    work: Work,
    begun: Option<BegunIn<D>>,
    /// From before its transaction has begun.
    entered: Option<Entered>,
}

impl<D: Store> Next<D> {
    fn of(work: Work) -> Self {
        Self { work, begun: None, entered: None }
    }
}

impl<D: Store, T: Send + Sync + 'static> StoreLedger<D, T> {
    /// Settles an event, and then those whose turn it is behind it.
    pub(super) async fn go_on(&self, first: Work, turns: &dyn Turns) {
        let mut next = Some(Next::of(first));
        while let Some(Next { work, begun, entered }) = next {
            let mut behind = Behind { turns, next: None };
            let settled = self.settle_one(&work, begun, Some(&mut behind)).await;
            drop(entered);
            next = behind.next.or_else(|| turns.next().map(Next::of));
            turns.ended(settled);
        }
    }

    /// Tries it until it is known what becomes of it.
    pub(super) async fn settle_one(
        &self,
        work: &Work,
        mut begun: Option<BegunIn<D>>,
        mut behind: Option<&mut Behind<'_, D>>,
    ) -> Result<Settled, Trouble> {
        let entered = self.under_way.enter(&work.event.id);
        if begun.is_none() {
            entered.until_begun().await;
        }
        let mut pause = self.pause();
        let failed = loop {
            match self.attempt(work, begun.take(), behind.as_deref_mut(), &mut pause).await {
                Ok(Attempted::Settled(settled)) => return Ok(settled),
                Ok(Attempted::Failed(failed)) => break failed,
                Ok(Attempted::InDoubt(said)) => pause.in_doubt(&said).await,
                Err(bad) => pause.or_trouble(bad).await?,
            }
        };
        loop {
            match self.keep(work, &failed).await {
                Ok(settled) => return Ok(settled),
                Err(bad) => pause.or_trouble(bad).await?,
            }
        }
    }

    async fn attempt(
        &self,
        work: &Work,
        begun: Option<BegunIn<D>>,
        behind: Option<&mut Behind<'_, D>>,
        pause: &mut Pause,
    ) -> Result<Attempted, Bad> {
        let handler = match self.caller.handler(work) {
            Ok(handler) => handler,
            Err(failed) => {
                if let Some((transaction, _)) = begun {
                    self.undo(transaction).await;
                }
                return Ok(Attempted::Failed(failed));
            }
        };
        let transaction = match self.admit(work, begun).await? {
            Admitted::New(transaction) => transaction,
            Admitted::Settled(settled) => return Ok(Attempted::Settled(settled)),
        };
        // The handler may take long, and the store has nothing to do with that. The inbox has said what was in doubt.
        pause.goes_on();
        let mut call = self.caller.begin(work);
        let mut attempted = if self.rules.at_least_once {
            self.undo(transaction).await;
            self.attempt_outside(handler, work, &call).await
        } else {
            self.attempt_inside(handler, work, &call, transaction, behind).await
        };
        if let Ok(Attempted::Failed(failed)) = &mut attempted {
            call.failed(failed);
        }
        attempted
    }

    /// Calls the handler in a transaction, and commits it.
    async fn attempt_inside(
        &self,
        handler: &Registered<D, T>,
        work: &Work,
        call: &Call,
        transaction: D::Transaction,
        behind: Option<&mut Behind<'_, D>>,
    ) -> Result<Attempted, Bad> {
        self.caller.context.faults.reach(FaultPoint::AfterBegin).await;
        let slot = Slot::new(Lent { transaction, outbox: self.caller.outbox(call) });
        let called = self.caller.call(handler, work, call, slot.clone()).await;
        match (called, slot.close()) {
            (Ok(returned), Some(lent)) => {
                let (transaction, published) = keep_published(lent, returned);
                self.commit(handler, work, transaction, published, behind).await
            }
            (Ok(_), None) => {
                let error = HandlerError::from(TransactionEscaped);
                Ok(Attempted::Failed(Failed::from_handler(&error, handler.place)))
            }
            (Err(failed), Some(lent)) if !failed.was_cancelled => {
                self.undo(lent.transaction).await;
                if failed.lacks_room {
                    // As when there is none for the commit: the store is waited for, and that is no attempt.
                    return Err(Bad::Passing(StallReason::StoreFull, failed.failure.message));
                }
                Ok(Attempted::Failed(failed))
            }
            // Dropped: what may be in the middle of a query is closed, and not used again.
            (Err(failed), _) => Ok(Attempted::Failed(failed)),
        }
    }

    /// Calls the handler without a transaction, then notes that it was done.
    async fn attempt_outside(
        &self,
        handler: &Registered<D, T>,
        work: &Work,
        call: &Call,
    ) -> Result<Attempted, Bad> {
        let returned = match self.caller.call(handler, work, call, Slot::empty()).await {
            Ok(returned) => returned,
            Err(failed) => return Ok(Attempted::Failed(failed)),
        };
        let mut pause = self.pause();
        loop {
            let committed = match self.admit(work, None).await {
                Ok(Admitted::New(transaction)) => {
                    let lent: Lent<D> = Lent { transaction, outbox: self.caller.outbox(call) };
                    let (transaction, published) = keep_published(lent, returned.clone());
                    self.commit(handler, work, transaction, published, None).await
                }
                Ok(Admitted::Settled(settled)) => return Ok(Attempted::Settled(settled)),
                Err(bad) => Err(bad),
            };
            match committed {
                Ok(Attempted::InDoubt(said)) => pause.in_doubt(&said).await,
                Ok(attempted) => return Ok(attempted),
                // The handler is done; only the note is written again.
                Err(bad) => pause.after(bad).await?,
            }
        }
    }

    async fn admit(&self, work: &Work, begun: Option<BegunIn<D>>) -> Result<Admitted<D::Transaction>, Bad> {
        let now_ms = self.now_ms();
        let lease = lease(&work.assigned)?;
        let is_parked = work.source == Source::Parked;
        if !is_parked && is_planted(Defect::NoInbox) {
            return Ok(Admitted::New(self.store.begin(Some(lease)).await?));
        }
        let (transaction, admissions) = match begun {
            Some(begun) => begun,
            None => self.store.begin_admitted(lease, &[work.delivery()], now_ms).await?,
        };
        match admissions.first() {
            Some(Admission::New) => Ok(Admitted::New(transaction)),
            Some(Admission::Seen(_)) if is_parked => match transaction.commit(now_ms).await {
                Ok(committed) => Ok(Admitted::Settled(self.done(work, &committed))),
                Err(error) => Err(Bad::from(error)),
            },
            Some(Admission::Seen(_)) => {
                self.undo(transaction).await;
                Ok(Admitted::Settled(Settled::Done { drained: false }))
            }
            Some(Admission::Behind) => {
                self.undo(transaction).await;
                self.store.queue(lease, std::slice::from_ref(&work.event), now_ms).await?;
                Ok(Admitted::Settled(Settled::Queued))
            }
            Some(Admission::Gone) => {
                self.undo(transaction).await;
                let rest = self.store.parked(&lease.assignment, work.event.key.as_deref(), 1).await?;
                Ok(Admitted::Settled(Settled::Done { drained: rest.is_empty() }))
            }
            None => Err(Bad::Broken("the store did not say whether an event may be handled".to_owned())),
        }
    }

    async fn commit(
        &self,
        handler: &Registered<D, T>,
        work: &Work,
        transaction: D::Transaction,
        published: Result<(), PublishError>,
        behind: Option<&mut Behind<'_, D>>,
    ) -> Result<Attempted, Bad> {
        let context = &self.caller.context;
        let failed = |error: HandlerError| Attempted::Failed(Failed::from_handler(&error, handler.place));
        if let Err(error) = published {
            self.undo(transaction).await;
            return Ok(failed(HandlerError::from(error)));
        }
        context.faults.reach(FaultPoint::AfterHandler).await;
        let committed = match behind {
            Some(behind) => self.commit_and_begin(transaction, behind).await,
            None => transaction.commit(self.now_ms()).await,
        };
        match committed {
            Ok(committed) => {
                context.faults.reach(FaultPoint::AfterCommit).await;
                Ok(Attempted::Settled(self.done(work, &committed)))
            }
            Err(CommitError::Unknown(error)) => {
                warn!(consumer = %self.consumer, event = %work.event.id, %error, "a commit without an answer");
                Ok(Attempted::InDoubt(error.to_string()))
            }
            Err(CommitError::Store(error)) => match Bad::from(error) {
                // A handler may have made its transaction one that only reads.
                Bad::Broken(said) | Bad::Standby(said) => Ok(failed(HandlerError::retry(said))),
                bad => Err(bad),
            },
            Err(error) => Ok(failed(HandlerError::from(error))),
        }
    }

    /// Commits, and begins the transaction of the event behind this one, if one stands ready. That event waits for
    /// nothing that becomes of this one when it is not committed.
    async fn commit_and_begin(
        &self,
        transaction: D::Transaction,
        behind: &mut Behind<'_, D>,
    ) -> Result<Committed, CommitError> {
        let now_ms = self.now_ms();
        let begins = D::Transaction::BEGINS_WITH_COMMIT && !is_planted(Defect::NoInbox);
        let next = if begins { behind.turns.next() } else { None };
        let Some(next) = next else { return transaction.commit(now_ms).await };
        let mut entered = self.under_way.enter_behind(&next.event.id);
        let committed = match next.assigned.lease.as_ref().filter(|_| !entered.is_elsewhere) {
            Some(lease) => transaction.commit_and_begin(lease, &[next.delivery()], now_ms).await,
            None => transaction.commit(now_ms).await.map(|committed| (committed, None)),
        };
        entered.has_begun();
        match committed {
            Ok((committed, begun)) => {
                behind.next = Some(Next { work: next, begun, entered: Some(entered) });
                Ok(committed)
            }
            Err(error) => {
                behind.turns.give_back(next);
                Err(error)
            }
        }
    }
}
