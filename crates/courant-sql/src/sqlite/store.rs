//! Every operation of the store, and which file does it.

use std::num::NonZeroU32;

use sqlx::SqliteConnection;

use super::transaction::SqliteTransaction;
use super::{
    Sqlite, dead, note, outbox, owner, park, prune, redrive, schema, submitted, timers, transaction,
};
use crate::consumer::{Assignment, Consumer, Delivery, Progress};
use crate::dead::{Burial, Buried, DeadFilter, DeadGroup, DeadLetter, DeadState, DeadSummary};
use crate::error::{
    AdvanceError, BeginError, EditError, LeaseError, RedriveError, ResetError, SchemaError, StoreError,
};
use crate::event::{Event, Failure};
use crate::note::{DeadEdit, DeadNote, Decision, Verdict};
use crate::outbox::{LaneBatch, LanePosition, OutboxBell, RelayLease, RelayState};
use crate::parked::{Lease, Parked, ParkedCounts, ParkedEvent, ParkedKey, ParkedOf};
use crate::redrive::{Redrive, RedriveClaim, RedriveEvent};
use crate::store::{Committed, Store};
use crate::submitted::{RefusedEvent, Sequenced, Sequencing};
use crate::timer::Fired;

impl Store for Sqlite {
    const NAME: &'static str = "SQLite";

    type Connection = SqliteConnection;
    type Transaction = SqliteTransaction;

    async fn install(&self, now_ms: i64) -> Result<(), SchemaError> {
        schema::install(self, now_ms).await
    }

    async fn check(&self) -> Result<(), SchemaError> {
        schema::check(self).await
    }

    async fn begin(&self, lease: Option<&Lease>) -> Result<SqliteTransaction, BeginError> {
        transaction::begin(self, lease).await
    }

    async fn take_over(
        &self,
        assignment: &Assignment,
        owner: &str,
        now_ms: i64,
    ) -> Result<Lease, StoreError> {
        owner::take_over(self, assignment, owner, now_ms).await
    }

    async fn progress(&self, assignment: &Assignment) -> Result<Option<Progress>, StoreError> {
        owner::progress(self, assignment).await
    }

    async fn save_progress(&self, saves: &[(&Lease, &Progress)], now_ms: i64) -> Result<(), LeaseError> {
        owner::save_progress(self, saves, now_ms).await
    }

    async fn reset_progress(
        &self,
        lease: &Lease,
        progress: Option<&Progress>,
        now_ms: i64,
    ) -> Result<(), ResetError> {
        owner::reset_progress(self, lease, progress, now_ms).await
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
        park::park(self, lease, event, failure, failures, due_ms, now_ms).await
    }

    async fn queue(&self, lease: &Lease, events: &[Event], now_ms: i64) -> Result<(), LeaseError> {
        park::queue(self, lease, events, now_ms).await
    }

    async fn skip(
        &self,
        lease: &Lease,
        delivery: &Delivery<'_>,
        now_ms: i64,
    ) -> Result<Committed, LeaseError> {
        park::skip(self, lease, delivery, now_ms).await
    }

    async fn due(
        &self,
        assignment: &Assignment,
        now_ms: i64,
        limit: u32,
    ) -> Result<Vec<ParkedEvent>, StoreError> {
        park::due(self, assignment, now_ms, limit).await
    }

    async fn next_due(&self, assignment: &Assignment) -> Result<Option<i64>, StoreError> {
        park::next_due(self, assignment).await
    }

    async fn parked(
        &self,
        assignment: &Assignment,
        key: Option<&[u8]>,
        limit: u32,
    ) -> Result<Vec<ParkedEvent>, StoreError> {
        park::parked(self, assignment, key, limit).await
    }

    async fn parked_keys(
        &self,
        assignment: &Assignment,
        after: Option<&[u8]>,
        limit: u32,
    ) -> Result<Vec<ParkedKey>, StoreError> {
        park::parked_keys(self, assignment, after, limit).await
    }

    async fn parked_counts(&self, of: ParkedOf<'_>) -> Result<ParkedCounts, StoreError> {
        park::parked_counts(self, of).await
    }

    async fn bury(&self, lease: &Lease, burial: Burial<'_>, now_ms: i64) -> Result<Buried, LeaseError> {
        dead::bury(self, lease, burial, now_ms).await
    }

    async fn dead_letters(
        &self,
        filter: &DeadFilter,
        after: i64,
        limit: u32,
    ) -> Result<Vec<DeadSummary>, StoreError> {
        dead::list(self, filter, after, limit).await
    }

    async fn count_dead_letters(&self, filter: &DeadFilter) -> Result<u64, StoreError> {
        dead::count(self, filter).await
    }

    async fn dead_letter_groups(&self, limit: u32) -> Result<Vec<DeadGroup>, StoreError> {
        dead::groups(self, limit).await
    }

    async fn dead_letter(&self, id: i64) -> Result<Option<DeadLetter>, StoreError> {
        dead::get(self, id).await
    }

    async fn discard(&self, ids: &[i64], now_ms: i64) -> Result<Vec<i64>, StoreError> {
        dead::close(self, ids, DeadState::Discarded, None, now_ms).await
    }

    async fn archive(&self, ids: &[i64], now_ms: i64) -> Result<Vec<i64>, StoreError> {
        dead::close(self, ids, DeadState::Archived, None, now_ms).await
    }

    async fn decide(
        &self,
        ids: &[i64],
        decision: &Decision<'_>,
        now_ms: i64,
    ) -> Result<Vec<i64>, StoreError> {
        let state = match decision.verdict {
            Verdict::Discard => DeadState::Discarded,
            Verdict::Archive => DeadState::Archived,
            Verdict::Restore => return dead::restore(self, ids, decision, now_ms).await,
        };
        dead::close(self, ids, state, Some(decision), now_ms).await
    }

    async fn edit_dead_letter(&self, id: i64, edit: &DeadEdit, now_ms: i64) -> Result<(), EditError> {
        note::edit(self, id, edit, now_ms).await
    }

    async fn dead_letter_notes(&self, id: i64) -> Result<Vec<DeadNote>, StoreError> {
        note::notes(self, id).await
    }

    async fn request_redrive_at(
        &self,
        id: &str,
        requested_by: &str,
        filter: &DeadFilter,
        rate: Option<NonZeroU32>,
        now_ms: i64,
    ) -> Result<Redrive, StoreError> {
        redrive::request(self, id, requested_by, filter, rate, now_ms).await
    }

    async fn redrives_waiting(&self, assignment: &Assignment, now_ms: i64) -> Result<bool, StoreError> {
        redrive::waiting(self, assignment, now_ms).await
    }

    async fn cancel_redrive(&self, id: &str, now_ms: i64) -> Result<Redrive, RedriveError> {
        redrive::cancel(self, id, now_ms).await
    }

    async fn redrive(&self, id: &str) -> Result<Redrive, RedriveError> {
        redrive::get(self, id).await
    }

    async fn redrive_events(
        &self,
        id: &str,
        after: i64,
        limit: u32,
    ) -> Result<Vec<RedriveEvent>, StoreError> {
        redrive::events(self, id, after, limit).await
    }

    async fn claim_redrives(
        &self,
        lease: &Lease,
        limit: u32,
        now_ms: i64,
    ) -> Result<Vec<RedriveClaim>, LeaseError> {
        redrive::claim(self, lease, limit, now_ms).await
    }

    async fn take_over_relay(&self, shard: &str, owner: &str, now_ms: i64) -> Result<RelayLease, StoreError> {
        outbox::take_over_relay(self, shard, owner, now_ms).await
    }

    async fn pending(
        &self,
        first_lane: u16,
        events_per_lane: u32,
        bytes_max: u64,
    ) -> Result<Vec<LaneBatch>, StoreError> {
        outbox::pending(self, first_lane, events_per_lane, bytes_max).await
    }

    async fn advance(&self, lease: &RelayLease, published: &[LanePosition]) -> Result<(), AdvanceError> {
        outbox::advance(self, lease, published).await
    }

    async fn outbox_backlog(&self) -> Result<u64, StoreError> {
        outbox::backlog(self).await
    }

    async fn sequence(
        &self,
        lease: &RelayLease,
        sequencing: &Sequencing<'_>,
        now_ms: i64,
    ) -> Result<Sequenced, AdvanceError> {
        submitted::sequence(self, lease, sequencing, now_ms).await
    }

    async fn refused_events(&self, after: i64, limit: u32) -> Result<Vec<RefusedEvent>, StoreError> {
        submitted::refused(self, after, limit).await
    }

    async fn relay(&self, shard: &str) -> Result<Option<RelayState>, StoreError> {
        submitted::relay(self, shard).await
    }

    async fn keep_relay(&self, lease: &RelayLease, is_resting: bool) -> Result<(), AdvanceError> {
        submitted::keep_relay(self, lease, is_resting).await
    }

    async fn outbox_bell(&self) -> Result<OutboxBell, StoreError> {
        Ok(OutboxBell::silent())
    }

    async fn fire_timers(
        &self,
        lease: &RelayLease,
        limit: u32,
        bytes_max: u64,
        now_ms: i64,
    ) -> Result<Fired, AdvanceError> {
        timers::fire(self, lease, limit, bytes_max, now_ms).await
    }

    async fn next_timer_ms(&self) -> Result<Option<i64>, StoreError> {
        timers::next_ms(self).await
    }

    async fn prune_inbox(&self, consumer: &Consumer, before_ms: i64, limit: u32) -> Result<u64, StoreError> {
        prune::inbox(self, consumer, before_ms, limit).await
    }

    async fn prune_dead_letters(&self, before_ms: i64, limit: u32) -> Result<u64, StoreError> {
        prune::dead_letters(self, before_ms, limit).await
    }
}
