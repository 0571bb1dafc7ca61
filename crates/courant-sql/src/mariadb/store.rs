//! Every operation of the store, and which file does it. Each has a bound, except for what waits for other
//! things than the server: [`Store::begin`] for a connection, [`Store::install`] for another installation.

use std::num::NonZeroU32;

use sqlx::MySqlConnection;

use super::transaction::MariadbTransaction;
use super::{
    Mariadb, dead, note, owner, park, prune, redrive, relay, schema, submitted, timers, transaction,
};
use crate::answers::bounded;
use crate::consumer::{Admission, Assignment, Consumer, Delivery, Progress};
use crate::dead::{Burial, Buried, DeadFilter, DeadGroup, DeadLetter, DeadState, DeadSummary};
use crate::error::{
    AdmitError, AdvanceError, BeginError, EditError, LeaseError, RedriveError, ResetError, SchemaError,
    StoreError,
};
use crate::event::{Event, Failure};
use crate::note::{DeadEdit, DeadNote, Decision, Verdict};
use crate::outbox::{LaneBatch, LanePosition, OutboxBell, RelayLease, RelayState};
use crate::parked::{Lease, Parked, ParkedCounts, ParkedEvent, ParkedKey, ParkedOf};
use crate::redrive::{Redrive, RedriveClaim, RedriveEvent};
use crate::store::{Committed, Store};
use crate::submitted::{RefusedEvent, Sequenced, Sequencing};
use crate::timer::Fired;

impl Store for Mariadb {
    const NAME: &'static str = "MariaDB";

    type Connection = MySqlConnection;
    type Transaction = MariadbTransaction;

    async fn install(&self, now_ms: i64) -> Result<(), SchemaError> {
        schema::install(self, now_ms).await
    }

    async fn check(&self) -> Result<(), SchemaError> {
        bounded(schema::check(self)).await
    }

    async fn begin(&self, lease: Option<&Lease>) -> Result<MariadbTransaction, BeginError> {
        transaction::begin(self, lease).await
    }

    async fn begin_admitted(
        &self,
        lease: &Lease,
        deliveries: &[Delivery<'_>],
        now_ms: i64,
    ) -> Result<(MariadbTransaction, Vec<Admission>), AdmitError> {
        transaction::begin_admitted(self, lease, deliveries, now_ms).await
    }

    async fn take_over(
        &self,
        assignment: &Assignment,
        owner: &str,
        now_ms: i64,
    ) -> Result<Lease, StoreError> {
        bounded(owner::take_over(self, assignment, owner, now_ms)).await
    }

    async fn progress(&self, assignment: &Assignment) -> Result<Option<Progress>, StoreError> {
        bounded(owner::progress(self, assignment)).await
    }

    async fn save_progress(&self, saves: &[(&Lease, &Progress)], now_ms: i64) -> Result<(), LeaseError> {
        bounded(owner::save_progress(self, saves, now_ms)).await
    }

    async fn reset_progress(
        &self,
        lease: &Lease,
        progress: Option<&Progress>,
        now_ms: i64,
    ) -> Result<(), ResetError> {
        bounded(owner::reset_progress(self, lease, progress, now_ms)).await
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
        bounded(park::park(self, lease, event, failure, failures, due_ms, now_ms)).await
    }

    async fn queue(&self, lease: &Lease, events: &[Event], now_ms: i64) -> Result<(), LeaseError> {
        bounded(park::queue(self, lease, events, now_ms)).await
    }

    async fn skip(
        &self,
        lease: &Lease,
        delivery: &Delivery<'_>,
        now_ms: i64,
    ) -> Result<Committed, LeaseError> {
        bounded(park::skip(self, lease, delivery, now_ms)).await
    }

    async fn due(
        &self,
        assignment: &Assignment,
        now_ms: i64,
        limit: u32,
    ) -> Result<Vec<ParkedEvent>, StoreError> {
        bounded(park::due(self, assignment, now_ms, limit)).await
    }

    async fn next_due(&self, assignment: &Assignment) -> Result<Option<i64>, StoreError> {
        bounded(park::next_due(self, assignment)).await
    }

    async fn parked(
        &self,
        assignment: &Assignment,
        key: Option<&[u8]>,
        limit: u32,
    ) -> Result<Vec<ParkedEvent>, StoreError> {
        bounded(park::parked(self, assignment, key, limit)).await
    }

    async fn parked_keys(
        &self,
        assignment: &Assignment,
        after: Option<&[u8]>,
        limit: u32,
    ) -> Result<Vec<ParkedKey>, StoreError> {
        bounded(park::parked_keys(self, assignment, after, limit)).await
    }

    async fn parked_counts(&self, of: ParkedOf<'_>) -> Result<ParkedCounts, StoreError> {
        bounded(park::parked_counts(self, of)).await
    }

    async fn bury(&self, lease: &Lease, burial: Burial<'_>, now_ms: i64) -> Result<Buried, LeaseError> {
        bounded(dead::bury(self, lease, burial, now_ms)).await
    }

    async fn dead_letters(
        &self,
        filter: &DeadFilter,
        after: i64,
        limit: u32,
    ) -> Result<Vec<DeadSummary>, StoreError> {
        bounded(dead::list(self, filter, after, limit)).await
    }

    async fn count_dead_letters(&self, filter: &DeadFilter) -> Result<u64, StoreError> {
        bounded(dead::count(self, filter)).await
    }

    async fn dead_letter_groups(&self, limit: u32) -> Result<Vec<DeadGroup>, StoreError> {
        bounded(dead::groups(self, limit)).await
    }

    async fn dead_letter(&self, id: i64) -> Result<Option<DeadLetter>, StoreError> {
        bounded(dead::get(self, id)).await
    }

    async fn discard(&self, ids: &[i64], now_ms: i64) -> Result<Vec<i64>, StoreError> {
        bounded(dead::close(self, ids, DeadState::Discarded, None, now_ms)).await
    }

    async fn archive(&self, ids: &[i64], now_ms: i64) -> Result<Vec<i64>, StoreError> {
        bounded(dead::close(self, ids, DeadState::Archived, None, now_ms)).await
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
            Verdict::Restore => return bounded(dead::restore(self, ids, decision, now_ms)).await,
        };
        bounded(dead::close(self, ids, state, Some(decision), now_ms)).await
    }

    async fn edit_dead_letter(&self, id: i64, edit: &DeadEdit, now_ms: i64) -> Result<(), EditError> {
        bounded(note::edit(self, id, edit, now_ms)).await
    }

    async fn dead_letter_notes(&self, id: i64) -> Result<Vec<DeadNote>, StoreError> {
        bounded(note::notes(self, id)).await
    }

    async fn request_redrive_at(
        &self,
        id: &str,
        requested_by: &str,
        filter: &DeadFilter,
        rate: Option<NonZeroU32>,
        now_ms: i64,
    ) -> Result<Redrive, StoreError> {
        bounded(redrive::request(self, id, requested_by, filter, rate, now_ms)).await
    }

    async fn redrives_waiting(&self, assignment: &Assignment, now_ms: i64) -> Result<bool, StoreError> {
        bounded(redrive::waiting(self, assignment, now_ms)).await
    }

    async fn cancel_redrive(&self, id: &str, now_ms: i64) -> Result<Redrive, RedriveError> {
        bounded(redrive::cancel(self, id, now_ms)).await
    }

    async fn redrive(&self, id: &str) -> Result<Redrive, RedriveError> {
        bounded(redrive::get(self, id)).await
    }

    async fn redrive_events(
        &self,
        id: &str,
        after: i64,
        limit: u32,
    ) -> Result<Vec<RedriveEvent>, StoreError> {
        bounded(redrive::events(self, id, after, limit)).await
    }

    async fn claim_redrives(
        &self,
        lease: &Lease,
        limit: u32,
        now_ms: i64,
    ) -> Result<Vec<RedriveClaim>, LeaseError> {
        bounded(redrive::claim(self, lease, limit, now_ms)).await
    }

    async fn take_over_relay(&self, shard: &str, owner: &str, now_ms: i64) -> Result<RelayLease, StoreError> {
        bounded(relay::take_over(self, shard, owner, now_ms)).await
    }

    async fn pending(
        &self,
        first_lane: u16,
        events_per_lane: u32,
        bytes_max: u64,
    ) -> Result<Vec<LaneBatch>, StoreError> {
        bounded(relay::pending(self, first_lane, events_per_lane, bytes_max)).await
    }

    async fn advance(&self, lease: &RelayLease, published: &[LanePosition]) -> Result<(), AdvanceError> {
        bounded(relay::advance(self, lease, published)).await
    }

    async fn outbox_backlog(&self) -> Result<u64, StoreError> {
        bounded(relay::backlog(self)).await
    }

    async fn sequence(
        &self,
        lease: &RelayLease,
        sequencing: &Sequencing<'_>,
        now_ms: i64,
    ) -> Result<Sequenced, AdvanceError> {
        bounded(submitted::sequence(self, lease, sequencing, now_ms)).await
    }

    async fn refused_events(&self, after: i64, limit: u32) -> Result<Vec<RefusedEvent>, StoreError> {
        bounded(submitted::refused(self, after, limit)).await
    }

    async fn relay(&self, shard: &str) -> Result<Option<RelayState>, StoreError> {
        bounded(relay::state(self, shard)).await
    }

    async fn keep_relay(&self, lease: &RelayLease, is_resting: bool) -> Result<(), AdvanceError> {
        bounded(relay::keep(self, lease, is_resting)).await
    }

    async fn outbox_bell(&self) -> Result<OutboxBell, StoreError> {
        // A server that tells nobody.
        Ok(OutboxBell::silent())
    }

    async fn fire_timers(
        &self,
        lease: &RelayLease,
        limit: u32,
        bytes_max: u64,
        now_ms: i64,
    ) -> Result<Fired, AdvanceError> {
        bounded(timers::fire(self, lease, limit, bytes_max, now_ms)).await
    }

    async fn next_timer_ms(&self) -> Result<Option<i64>, StoreError> {
        bounded(timers::next_ms(self)).await
    }

    async fn prune_inbox(&self, consumer: &Consumer, before_ms: i64, limit: u32) -> Result<u64, StoreError> {
        bounded(prune::inbox(self, consumer, before_ms, limit)).await
    }

    async fn prune_dead_letters(&self, before_ms: i64, limit: u32) -> Result<u64, StoreError> {
        bounded(prune::dead_letters(self, before_ms, limit)).await
    }
}
