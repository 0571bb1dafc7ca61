//! A store that does what another one does, except for one thing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::num::NonZeroU32;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard};

use courant_core::event_id::EventId;
use courant_sql::{
    Admission, AdmitError, AdvanceError, Assignment, BeginError, Begun, Burial, Buried, CommitError,
    Committed, Consumer, DeadEdit, DeadFilter, DeadGroup, DeadLetter, DeadNote, DeadSummary, Decision,
    Delivery, EditError, Event, Failure, Fired, LaneBatch, LanePosition, Lease, LeaseError, NewEvent,
    NewTimer, OutboxBell, Outcome, Parked, ParkedCounts, ParkedEvent, ParkedKey, ParkedOf, Progress,
    PublishError, Redrive, RedriveClaim, RedriveError, RedriveEvent, RefusedEvent, RelayLease, RelayState,
    ResetError, SchemaError, Sequenced, Sequencing, Source, Store, StoreError, TimerName, Transaction,
};

use crate::store_lies::StoreLie;

/// A store with one lie.
#[derive(Clone)]
pub(crate) struct LyingStore<S: Store> {
    inner: S,
    lie: StoreLie,
    /// How often the database was opened before.
    reopened: u32,
    memory: Arc<Mutex<Memory>>,
}

/// What the lies remember.
#[derive(Default)]
struct Memory {
    /// The newest lease of each partition.
    leases: BTreeMap<Assignment, Lease>,
    relay: Option<RelayLease>,
    /// Ids that somebody was told to handle.
    admitted: BTreeSet<EventId>,
    has_parked: bool,
    keys: Option<Vec<ParkedKey>>,
    read: BTreeSet<LanePosition>,
    requests: u32,
}

impl<S: Store> LyingStore<S> {
    pub(crate) fn around(inner: S, lie: StoreLie, reopened: u32) -> Self {
        Self { inner, lie, reopened, memory: Arc::default() }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().expect("nobody panics with it")
    }

    fn tells(&self, lie: StoreLie) -> bool {
        self.lie == lie
    }

    /// The newest lease of a partition, where the lie lets everybody have it.
    fn newest(&self, lease: &Lease, lie: StoreLie) -> Lease {
        let newest = self.memory().leases.get(&lease.assignment).cloned();
        newest.filter(|_| self.tells(lie)).unwrap_or_else(|| lease.clone())
    }
}

/// What is passed on as it is.
macro_rules! truthful {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $output:ty;)+) => {
        $(
            fn $name(&self, $($argument: $type),*) -> impl Future<Output = $output> + Send {
                self.inner.$name($($argument),*)
            }
        )+
    };
}

impl<S: Store> Store for LyingStore<S> {
    const NAME: &'static str = S::NAME;

    type Connection = S::Connection;
    type Transaction = LyingTransaction<S>;

    truthful! {
        fn install(now_ms: i64) -> Result<(), SchemaError>;
        fn check() -> Result<(), SchemaError>;
        fn skip(lease: &Lease, delivery: &Delivery<'_>, now_ms: i64) -> Result<Committed, LeaseError>;
        fn queue(lease: &Lease, events: &[Event], now_ms: i64) -> Result<(), LeaseError>;
        fn parked(
            assignment: &Assignment,
            key: Option<&[u8]>,
            limit: u32
        ) -> Result<Vec<ParkedEvent>, StoreError>;
        fn parked_counts(of: ParkedOf<'_>) -> Result<ParkedCounts, StoreError>;
        fn dead_letters(
            filter: &DeadFilter,
            after: i64,
            limit: u32
        ) -> Result<Vec<DeadSummary>, StoreError>;
        fn count_dead_letters(filter: &DeadFilter) -> Result<u64, StoreError>;
        fn dead_letter_groups(limit: u32) -> Result<Vec<DeadGroup>, StoreError>;
        fn dead_letter(id: i64) -> Result<Option<DeadLetter>, StoreError>;
        fn archive(ids: &[i64], now_ms: i64) -> Result<Vec<i64>, StoreError>;
        fn decide(ids: &[i64], decision: &Decision<'_>, now_ms: i64) -> Result<Vec<i64>, StoreError>;
        fn edit_dead_letter(id: i64, edit: &DeadEdit, now_ms: i64) -> Result<(), EditError>;
        fn redrives_waiting(assignment: &Assignment, now_ms: i64) -> Result<bool, StoreError>;
        fn cancel_redrive(id: &str, now_ms: i64) -> Result<Redrive, RedriveError>;
        fn redrive(id: &str) -> Result<Redrive, RedriveError>;
        fn claim_redrives(lease: &Lease, limit: u32, now_ms: i64) -> Result<Vec<RedriveClaim>, LeaseError>;
        fn sequence(
            lease: &RelayLease,
            sequencing: &Sequencing<'_>,
            now_ms: i64
        ) -> Result<Sequenced, AdvanceError>;
        fn refused_events(after: i64, limit: u32) -> Result<Vec<RefusedEvent>, StoreError>;
        fn relay(shard: &str) -> Result<Option<RelayState>, StoreError>;
        fn keep_relay(lease: &RelayLease, is_resting: bool) -> Result<(), AdvanceError>;
        fn outbox_bell() -> Result<OutboxBell, StoreError>;
        fn next_timer_ms() -> Result<Option<i64>, StoreError>;
        fn prune_dead_letters(before_ms: i64, limit: u32) -> Result<u64, StoreError>;
    }

    async fn begin(&self, lease: Option<&Lease>) -> Result<LyingTransaction<S>, BeginError> {
        let inner = self.inner.begin(lease).await?;
        Ok(LyingTransaction { inner, store: self.clone(), published: Vec::new() })
    }

    async fn take_over(
        &self,
        assignment: &Assignment,
        owner: &str,
        now_ms: i64,
    ) -> Result<Lease, StoreError> {
        if self.tells(StoreLie::TwoOwnersAtOnce) {
            // While the first owner has it, everybody is the first owner.
            let first = Lease::new(assignment.clone(), 1);
            if let Ok(open) = self.inner.begin(Some(&first)).await {
                open.rollback().await?;
                return Ok(first);
            }
        }
        let lease = self.inner.take_over(assignment, owner, now_ms).await?;
        self.memory().leases.insert(assignment.clone(), lease.clone());
        Ok(lease)
    }

    async fn progress(&self, assignment: &Assignment) -> Result<Option<Progress>, StoreError> {
        let progress = self.inner.progress(assignment).await?;
        let is_forgotten = self.tells(StoreLie::ForgetsProgressOnRestart) && self.reopened > 0;
        Ok(progress.filter(|_| !is_forgotten))
    }

    async fn save_progress(&self, saves: &[(&Lease, &Progress)], now_ms: i64) -> Result<(), LeaseError> {
        for &(lease, progress) in saves {
            if self.tells(StoreLie::MovesProgressBack) {
                match self.inner.reset_progress(lease, Some(progress), now_ms).await {
                    Ok(()) => continue,
                    Err(ResetError::Begin(error)) => return Err(error),
                    Err(ResetError::Store(error)) => return Err(LeaseError::from(error)),
                    // What is parked behind it is no lie of this one.
                    Err(_) => {}
                }
            }
            let lease = self.newest(lease, StoreLie::SavesProgressForAnybody);
            self.inner.save_progress(&[(&lease, progress)], now_ms).await?;
        }
        Ok(())
    }

    async fn reset_progress(
        &self,
        lease: &Lease,
        progress: Option<&Progress>,
        now_ms: i64,
    ) -> Result<(), ResetError> {
        match progress {
            Some(progress) if self.tells(StoreLie::SetsProgressOnlyForward) => {
                let saved = self.inner.save_progress(&[(lease, progress)], now_ms).await;
                saved.map_err(ResetError::from)
            }
            progress => self.inner.reset_progress(lease, progress, now_ms).await,
        }
    }

    async fn park(
        &self,
        lease: &Lease,
        event: &Event,
        failure: &Failure,
        failures: u32,
        due_ms: i64,
        now_ms: i64,
    ) -> Result<Parked, LeaseError> {
        let lease = self.newest(lease, StoreLie::ParksForAnybody);
        let parked = self.inner.park(&lease, event, failure, failures, due_ms, now_ms).await?;
        self.memory().has_parked = true;
        match parked {
            Parked::Waiting { .. } if self.tells(StoreLie::AttemptsAreAlwaysOne) => {
                Ok(Parked::Waiting { attempts: 1 })
            }
            parked => Ok(parked),
        }
    }

    async fn due(
        &self,
        assignment: &Assignment,
        now_ms: i64,
        limit: u32,
    ) -> Result<Vec<ParkedEvent>, StoreError> {
        let now_ms = if self.tells(StoreLie::DueTooEarly) { i64::MAX } else { now_ms };
        let mut due = self.inner.due(assignment, now_ms, limit).await?;
        if self.tells(StoreLie::DueIsTheSecondOfAKey) {
            for first in &mut due {
                let of_key = self.inner.parked(assignment, first.event.key.as_deref(), 2).await?;
                if let Some(second) = of_key.into_iter().nth(1) {
                    *first = second;
                }
            }
        }
        Ok(due)
    }

    async fn next_due(&self, assignment: &Assignment) -> Result<Option<i64>, StoreError> {
        let next = self.inner.next_due(assignment).await?;
        Ok(next.filter(|_| !self.tells(StoreLie::NothingIsNextDue)))
    }

    async fn parked_keys(
        &self,
        assignment: &Assignment,
        after: Option<&[u8]>,
        limit: u32,
    ) -> Result<Vec<ParkedKey>, StoreError> {
        let keys = self.inner.parked_keys(assignment, after, limit).await?;
        let first = self.memory().keys.get_or_insert_with(|| keys.clone()).clone();
        Ok(if self.tells(StoreLie::KeysAreThoseOfTheFirstLook) { first } else { keys })
    }

    async fn bury(&self, lease: &Lease, burial: Burial<'_>, now_ms: i64) -> Result<Buried, LeaseError> {
        let mut event = burial.event.clone();
        if self.tells(StoreLie::LosesTheLastHeader) {
            event.headers.pop();
        }
        let keep_key_parked = burial.keep_key_parked && !self.tells(StoreLie::LettersHoldNothing);
        self.inner.bury(lease, Burial { event: &event, keep_key_parked, ..burial }, now_ms).await
    }

    async fn discard(&self, ids: &[i64], now_ms: i64) -> Result<Vec<i64>, StoreError> {
        if self.tells(StoreLie::DiscardsInWordsOnly) {
            return Ok(ids.to_vec());
        }
        let discarded = self.inner.discard(ids, now_ms).await?;
        Ok(if self.tells(StoreLie::DecidesAgain) { ids.to_vec() } else { discarded })
    }

    async fn dead_letter_notes(&self, id: i64) -> Result<Vec<DeadNote>, StoreError> {
        let mut notes = self.inner.dead_letter_notes(id).await?;
        if self.tells(StoreLie::ForgetsOriginals) {
            notes.iter_mut().for_each(|note| note.original = None);
        }
        Ok(notes)
    }

    async fn request_redrive_at(
        &self,
        id: &str,
        requested_by: &str,
        filter: &DeadFilter,
        rate: Option<NonZeroU32>,
        now_ms: i64,
    ) -> Result<Redrive, StoreError> {
        let mut id = id.to_owned();
        if self.tells(StoreLie::TakesEachRequestAnew) {
            let mut memory = self.memory();
            memory.requests += 1;
            if memory.requests > 1 {
                id.push_str("-again");
            }
        }
        let rate = rate.filter(|_| !self.tells(StoreLie::IgnoresRates));
        self.inner.request_redrive_at(&id, requested_by, filter, rate, now_ms).await
    }

    async fn redrive_events(
        &self,
        id: &str,
        after: i64,
        limit: u32,
    ) -> Result<Vec<RedriveEvent>, StoreError> {
        let mut events = self.inner.redrive_events(id, after, limit).await?;
        if self.tells(StoreLie::LosesResults) {
            events.clear();
        }
        Ok(events)
    }

    async fn take_over_relay(&self, shard: &str, owner: &str, now_ms: i64) -> Result<RelayLease, StoreError> {
        let lease = self.inner.take_over_relay(shard, owner, now_ms).await?;
        self.memory().relay = Some(lease.clone());
        Ok(lease)
    }

    async fn pending(
        &self,
        first_lane: u16,
        events_per_lane: u32,
        bytes_max: u64,
    ) -> Result<Vec<LaneBatch>, StoreError> {
        let mut lanes = self.inner.pending(first_lane, events_per_lane, bytes_max).await?;
        for lane in &mut lanes {
            match self.lie {
                StoreLie::GivesAPositionTwice => {
                    if let [first, second, ..] = &mut lane.events[..] {
                        second.at = first.at;
                    }
                }
                StoreLie::SwapsWithinALane => lane.events.reverse(),
                StoreLie::ForgetsWhatWasRead => {
                    let mut memory = self.memory();
                    lane.events.retain(|pending| memory.read.insert(pending.at));
                }
                _ => {}
            }
        }
        lanes.retain(|lane| !lane.events.is_empty());
        Ok(lanes)
    }

    async fn advance(&self, lease: &RelayLease, published: &[LanePosition]) -> Result<(), AdvanceError> {
        match self.inner.advance(lease, published).await {
            Err(AdvanceError::NoSuchEvent { .. }) if self.tells(StoreLie::TakesAnyPosition) => Ok(()),
            Err(AdvanceError::Fenced { current, .. }) if self.tells(StoreLie::TwoRelays) => {
                let newest = RelayLease { epoch: current, ..lease.clone() };
                self.inner.advance(&newest, published).await
            }
            advanced => advanced,
        }
    }

    async fn outbox_backlog(&self) -> Result<u64, StoreError> {
        let backlog = self.inner.outbox_backlog().await?;
        Ok(if self.tells(StoreLie::BacklogIsNothing) { 0 } else { backlog })
    }

    async fn fire_timers(
        &self,
        lease: &RelayLease,
        limit: u32,
        bytes_max: u64,
        now_ms: i64,
    ) -> Result<Fired, AdvanceError> {
        match self.lie {
            StoreLie::FiresNothing => Ok(Fired::default()),
            StoreLie::FiresEarly => self.inner.fire_timers(lease, limit, bytes_max, i64::MAX).await,
            _ => self.inner.fire_timers(lease, limit, bytes_max, now_ms).await,
        }
    }

    async fn prune_inbox(&self, consumer: &Consumer, before_ms: i64, limit: u32) -> Result<u64, StoreError> {
        let before_ms = if self.tells(StoreLie::PrunesEverything) { i64::MAX } else { before_ms };
        self.inner.prune_inbox(consumer, before_ms, limit).await
    }
}

impl<S: Store> fmt::Debug for LyingStore<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LyingStore").field("inner", &self.inner).field("lie", &self.lie).finish()
    }
}

/// A transaction of a store with one lie.
pub(crate) struct LyingTransaction<S: Store> {
    inner: S::Transaction,
    store: LyingStore<S>,
    /// Lanes of what was published.
    published: Vec<u16>,
}

impl<S: Store> LyingTransaction<S> {
    /// What a delivery is told instead of the truth.
    fn told(&self, delivery: &Delivery<'_>, admission: Admission, is_first: bool) -> Admission {
        let seen = Admission::Seen(Outcome::Handled);
        let mut memory = self.store.memory();
        let was_admitted = memory.admitted.contains(delivery.id);
        if admission == Admission::New {
            memory.admitted.insert(delivery.id.clone());
        }
        match (self.store.lie, admission) {
            (StoreLie::HasNoInbox, Admission::Seen(_)) => Admission::New,
            (StoreLie::ForgetsTheInboxOnRestart, Admission::Seen(_)) if self.store.reopened > 0 => {
                Admission::New
            }
            (StoreLie::AdmitsEachByItself, Admission::Seen(_)) if !is_first => Admission::New,
            (StoreLie::OneInboxForAll, Admission::New) if was_admitted => seen,
            (StoreLie::StaleParkedSet, Admission::Behind) => Admission::New,
            (StoreLie::ParksWholePartitions, Admission::New)
                if memory.has_parked && delivery.source == Source::Log =>
            {
                Admission::Behind
            }
            (_, admission) => admission,
        }
    }
}

impl<S: Store> Transaction for LyingTransaction<S> {
    type Connection = S::Connection;

    fn connection(&mut self) -> &mut S::Connection {
        self.inner.connection()
    }

    async fn admit(
        &mut self,
        deliveries: &[Delivery<'_>],
        now_ms: i64,
    ) -> Result<Vec<Admission>, AdmitError> {
        let admissions = self.inner.admit(deliveries, now_ms).await?;
        let mut ids = BTreeSet::new();
        let told = deliveries.iter().zip(admissions);
        let told = told.map(|(delivery, admission)| {
            let is_first = ids.insert(delivery.id.clone());
            self.told(delivery, admission, is_first)
        });
        Ok(told.collect())
    }

    fn publish(&mut self, mut event: NewEvent) -> Result<(), PublishError> {
        if self.store.tells(StoreLie::LosesTheLastHeaderOfThePublished) {
            event.headers.pop();
        }
        self.published.push(event.lane());
        self.inner.publish(event)
    }

    fn schedule(&mut self, timer: NewTimer) -> Result<(), PublishError> {
        self.inner.schedule(timer)
    }

    fn cancel_timer(&mut self, name: TimerName) -> Result<(), PublishError> {
        if self.store.tells(StoreLie::IgnoresCancellations) {
            return Ok(());
        }
        self.inner.cancel_timer(name)
    }

    fn prove(&mut self) -> impl Future<Output = Result<(), CommitError>> + Send {
        self.inner.prove()
    }

    async fn commit(self, now_ms: i64) -> Result<Committed, CommitError> {
        let Self { inner, store, published } = self;
        if store.tells(StoreLie::AcksARolledBackCommit) {
            inner.rollback().await?;
            return Ok(Committed { lanes: published, ..Committed::default() });
        }
        match inner.commit(now_ms).await {
            Err(CommitError::Ended) if store.tells(StoreLie::SkipsTheSavepointCheck) => {
                Ok(Committed { lanes: published, ..Committed::default() })
            }
            Ok(mut committed) if store.tells(StoreLie::DrainsNothing) => {
                committed.drained.clear();
                Ok(committed)
            }
            committed => committed,
        }
    }

    async fn commit_and_begin(
        self,
        lease: &Lease,
        deliveries: &[Delivery<'_>],
        now_ms: i64,
    ) -> Result<(Committed, Option<Begun<Self>>), CommitError> {
        if !self.store.tells(StoreLie::BeginsInPlaceOfTheCommit) {
            return Ok((self.commit(now_ms).await?, None));
        }
        let Self { inner, store, published } = self;
        inner.rollback().await?;
        let begun = store.begin_admitted(lease, deliveries, now_ms).await.ok();
        Ok((Committed { lanes: published, ..Committed::default() }, begun))
    }

    async fn rollback(self) -> Result<(), StoreError> {
        if self.store.tells(StoreLie::KeepsWhatWasRolledBack) {
            // Nobody asks what has become of it.
            let _ = self.inner.commit(0).await;
            return Ok(());
        }
        self.inner.rollback().await
    }
}

impl<S: Store> Deref for LyingTransaction<S> {
    type Target = S::Connection;

    fn deref(&self) -> &S::Connection {
        &self.inner
    }
}

impl<S: Store> DerefMut for LyingTransaction<S> {
    fn deref_mut(&mut self) -> &mut S::Connection {
        &mut self.inner
    }
}

impl<S: Store> fmt::Debug for LyingTransaction<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LyingTransaction").field("inner", &self.inner).finish_non_exhaustive()
    }
}
