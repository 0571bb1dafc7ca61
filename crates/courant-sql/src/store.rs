//! Every operation that the framework needs of a database.

use std::fmt;
use std::future::Future;
use std::num::NonZeroU32;
use std::ops::DerefMut;

use crate::consumer::{Admission, Assignment, Consumer, Delivery, Progress};
use crate::dead::{Burial, Buried, DeadFilter, DeadGroup, DeadLetter, DeadSummary};
use crate::error::{
    AdmitError, AdvanceError, BeginError, EditError, LeaseError, RedriveError, SchemaError, StoreError,
};
use crate::event::{Event, Failure};
use crate::note::{DeadEdit, DeadNote, Decision};
use crate::outbox::{LaneBatch, LanePosition, OutboxBell, RelayLease, RelayState};
use crate::parked::{Lease, Parked, ParkedCounts, ParkedEvent, ParkedKey, ParkedOf};
use crate::redrive::{Redrive, RedriveClaim, RedriveEvent};
use crate::submitted::{RefusedEvent, Sequenced, Sequencing};
use crate::timer::Fired;

pub use crate::transaction::{Begun, Committed, Transaction};

/// A database with the framework's tables.
///
/// Operations that take a [`Lease`] are transactions of their own, refused once somebody else has the
/// partition. `now_ms` is the present, in milliseconds since 1970.
pub trait Store: Clone + fmt::Debug + Send + Sync + 'static {
    /// The database's name, for messages.
    const NAME: &'static str;

    /// What queries run on.
    type Connection: Send;

    /// What handlers run in.
    type Transaction: Transaction<Connection = Self::Connection> + DerefMut<Target = Self::Connection>;

    // --- the tables ---
    /// Creates the tables, if there are none, and checks them.
    ///
    /// # Errors
    /// Says which version they are of, or what the database said.
    fn install(&self, now_ms: i64) -> impl Future<Output = Result<(), SchemaError>> + Send;

    /// Checks that the tables are those of this version.
    ///
    /// # Errors
    /// Says which version they are of, or what the database said.
    fn check(&self) -> impl Future<Output = Result<(), SchemaError>> + Send;

    // --- transactions and ownership ---
    /// Begins a transaction: with a lease to handle events, without one for plain code.
    ///
    /// # Errors
    /// [`BeginError::Fenced`] once somebody else has the partition.
    fn begin(
        &self,
        lease: Option<&Lease>,
    ) -> impl Future<Output = Result<Self::Transaction, BeginError>> + Send;

    /// [`Store::begin`] with a lease and [`Transaction::admit`] in one, with fewer answers to wait for.
    ///
    /// # Errors
    /// Those of both.
    fn begin_admitted(
        &self,
        lease: &Lease,
        deliveries: &[Delivery<'_>],
        now_ms: i64,
    ) -> impl Future<Output = Result<(Self::Transaction, Vec<Admission>), AdmitError>> + Send {
        crate::transaction::begin_admitted(self, lease, deliveries, now_ms)
    }

    /// Takes a partition over: waits for what is under way, refuses what is later. `owner` is for people.
    ///
    /// # Errors
    /// Says what the database said.
    fn take_over(
        &self,
        assignment: &Assignment,
        owner: &str,
        now_ms: i64,
    ) -> impl Future<Output = Result<Lease, StoreError>> + Send;

    // --- progress ---
    /// How far the consumer has come; `None` at the beginning.
    ///
    /// # Errors
    /// Says what the database said.
    fn progress(
        &self,
        assignment: &Assignment,
    ) -> impl Future<Output = Result<Option<Progress>, StoreError>> + Send;

    /// Moves the low-water marks of partitions on, each of them named once, in one transaction where the
    /// database can. They never move back: an older one changes nothing.
    ///
    /// # Errors
    /// [`BeginError::Fenced`] once somebody else has one of them. Nothing of that one is saved.
    fn save_progress(
        &self,
        saves: &[(&Lease, &Progress)],
        now_ms: i64,
    ) -> impl Future<Output = Result<(), LeaseError>> + Send;

    /// Sets the low-water mark anywhere. Settled events stay settled; closed dead letters behind it go.
    ///
    /// # Errors
    /// [`crate::ResetError::InTheWay`] while other events have offsets that come again.
    fn reset_progress(
        &self,
        lease: &Lease,
        progress: Option<&Progress>,
        now_ms: i64,
    ) -> impl Future<Output = Result<(), crate::ResetError>> + Send;

    // --- parked events ---
    /// Parks an event that has failed, until `due_ms`, and its key with it. Also for one that was parked
    /// before and has failed again, after `failures`: a failure that is kept already is not counted twice.
    ///
    /// # Errors
    /// [`BeginError::Fenced`] once somebody else has the partition.
    fn park(
        &self,
        lease: &Lease,
        event: &Event,
        failure: &Failure,
        failures: u32,
        due_ms: i64,
        now_ms: i64,
    ) -> impl Future<Output = Result<Parked, LeaseError>> + Send;

    /// Puts events behind the parked ones of their keys, in the order of their offsets. What was settled or
    /// is parked stays as it is. An event whose key has nothing parked any more is due at once.
    ///
    /// # Errors
    /// [`BeginError::Fenced`] once somebody else has the partition.
    fn queue(
        &self,
        lease: &Lease,
        events: &[Event],
        now_ms: i64,
    ) -> impl Future<Output = Result<(), LeaseError>> + Send;

    /// Settles an event that its handler asked to pass.
    ///
    /// # Errors
    /// [`BeginError::Fenced`] once somebody else has the partition.
    fn skip(
        &self,
        lease: &Lease,
        delivery: &Delivery<'_>,
        now_ms: i64,
    ) -> impl Future<Output = Result<Committed, LeaseError>> + Send;

    /// Parked events that are due, the longest due first: of each key at most its first one.
    ///
    /// # Errors
    /// Says what the database said.
    fn due(
        &self,
        assignment: &Assignment,
        now_ms: i64,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<ParkedEvent>, StoreError>> + Send;

    /// When the next parked event of a partition is due.
    ///
    /// # Errors
    /// Says what the database said.
    fn next_due(
        &self,
        assignment: &Assignment,
    ) -> impl Future<Output = Result<Option<i64>, StoreError>> + Send;

    /// The parked events of a key, or all without one, in order.
    ///
    /// # Errors
    /// Says what the database said.
    fn parked(
        &self,
        assignment: &Assignment,
        key: Option<&[u8]>,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<ParkedEvent>, StoreError>> + Send;

    /// Keys of a partition that have parked events, in the order of their bytes, after `after`. To be
    /// asked after taking the partition over, and not before.
    ///
    /// # Errors
    /// Says what the database said.
    fn parked_keys(
        &self,
        assignment: &Assignment,
        after: Option<&[u8]>,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<ParkedKey>, StoreError>> + Send;

    /// How much of a consumer is parked, of all topics or of some.
    ///
    /// # Errors
    /// Says what the database said.
    fn parked_counts(
        &self,
        of: ParkedOf<'_>,
    ) -> impl Future<Output = Result<ParkedCounts, StoreError>> + Send;

    // --- dead letters ---
    /// Makes an event a dead letter. Its inbox row says so, and its copies are published with it.
    ///
    /// # Errors
    /// [`BeginError::Fenced`] once somebody else has the partition.
    fn bury(
        &self,
        lease: &Lease,
        burial: Burial<'_>,
        now_ms: i64,
    ) -> impl Future<Output = Result<Buried, LeaseError>> + Send;

    /// Dead letters by number, from the first one after `after`.
    ///
    /// # Errors
    /// Says what the database said.
    fn dead_letters(
        &self,
        filter: &DeadFilter,
        after: i64,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<DeadSummary>, StoreError>> + Send;

    /// How many dead letters are meant.
    ///
    /// # Errors
    /// Says what the database said.
    fn count_dead_letters(&self, filter: &DeadFilter)
    -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Undecided dead letters by consumer, kind and place of their failure, the largest group first.
    ///
    /// # Errors
    /// Says what the database said.
    fn dead_letter_groups(
        &self,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<DeadGroup>, StoreError>> + Send;

    /// One dead letter with its bytes.
    ///
    /// # Errors
    /// Says what the database said.
    fn dead_letter(&self, id: i64) -> impl Future<Output = Result<Option<DeadLetter>, StoreError>> + Send;

    /// Gives undecided dead letters up, at most [`crate::limits::LISTED_MAX`] at once. What waits behind
    /// them is due at once. Answers with those that were given up.
    ///
    /// # Errors
    /// Says what the database said.
    fn discard(&self, ids: &[i64], now_ms: i64) -> impl Future<Output = Result<Vec<i64>, StoreError>> + Send;

    /// Keeps undecided dead letters out of the way. What waits behind them is due. Answers with which.
    ///
    /// # Errors
    /// Says what the database said.
    fn archive(&self, ids: &[i64], now_ms: i64) -> impl Future<Output = Result<Vec<i64>, StoreError>> + Send;

    /// Discards or archives, or takes back what was archived, and notes who has decided that and why.
    ///
    /// # Errors
    /// Says what the database said.
    fn decide(
        &self,
        ids: &[i64],
        decision: &Decision<'_>,
        now_ms: i64,
    ) -> impl Future<Output = Result<Vec<i64>, StoreError>> + Send;

    /// Gives an undecided dead letter other bytes under another id, and keeps what it was in a note.
    ///
    /// # Errors
    /// Says why it cannot be edited, or what the database said.
    fn edit_dead_letter(
        &self,
        id: i64,
        edit: &DeadEdit,
        now_ms: i64,
    ) -> impl Future<Output = Result<(), EditError>> + Send;

    /// What people have done with a dead letter, the oldest first.
    ///
    /// # Errors
    /// Says what the database said.
    fn dead_letter_notes(&self, id: i64) -> impl Future<Output = Result<Vec<DeadNote>, StoreError>> + Send;

    // --- redrive ---
    /// Asks for dead letters to be sent back, under an id of the caller. Under an id that exists
    /// nothing changes. A dry run is [`Store::count_dead_letters`].
    ///
    /// # Errors
    /// Says what the database said.
    fn request_redrive(
        &self,
        id: &str,
        requested_by: &str,
        filter: &DeadFilter,
        now_ms: i64,
    ) -> impl Future<Output = Result<Redrive, StoreError>> + Send {
        self.request_redrive_at(id, requested_by, filter, None, now_ms)
    }

    /// [`Store::request_redrive`], of which each second at most `rate` events are taken.
    ///
    /// # Errors
    /// Says what the database said.
    fn request_redrive_at(
        &self,
        id: &str,
        requested_by: &str,
        filter: &DeadFilter,
        rate: Option<NonZeroU32>,
        now_ms: i64,
    ) -> impl Future<Output = Result<Redrive, StoreError>> + Send;

    /// Whether [`Store::claim_redrives`] would take something now. Only reads.
    ///
    /// # Errors
    /// Says what the database said.
    fn redrives_waiting(
        &self,
        assignment: &Assignment,
        now_ms: i64,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Cancels what has not been taken yet.
    ///
    /// # Errors
    /// [`RedriveError::Unknown`] for an id that nobody gave.
    fn cancel_redrive(
        &self,
        id: &str,
        now_ms: i64,
    ) -> impl Future<Output = Result<Redrive, RedriveError>> + Send;

    /// How far a redrive is.
    ///
    /// # Errors
    /// [`RedriveError::Unknown`] for an id that nobody gave.
    fn redrive(&self, id: &str) -> impl Future<Output = Result<Redrive, RedriveError>> + Send;

    /// The events of a redrive by number, from the first one after `after`.
    ///
    /// # Errors
    /// Says what the database said.
    fn redrive_events(
        &self,
        id: &str,
        after: i64,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<RedriveEvent>, StoreError>> + Send;

    /// The partition's owner takes up to `limit` requested events: each becomes the first of its key
    /// again, by offset, and is due. No event of these keys may be under way.
    ///
    /// # Errors
    /// [`BeginError::Fenced`] once somebody else has the partition.
    fn claim_redrives(
        &self,
        lease: &Lease,
        limit: u32,
        now_ms: i64,
    ) -> impl Future<Output = Result<Vec<RedriveClaim>, LeaseError>> + Send;

    // --- outbox ---
    /// Takes the relaying of the outbox over.
    ///
    /// # Errors
    /// Says what the database said.
    fn take_over_relay(
        &self,
        shard: &str,
        owner: &str,
        now_ms: i64,
    ) -> impl Future<Output = Result<RelayLease, StoreError>> + Send;

    /// What waits in the outbox: of each lane up to `events_per_lane` events, of all about `bytes_max`, the
    /// lanes in order from `first_lane` on and around. At least one event, if there is one.
    ///
    /// # Errors
    /// Says what the database said.
    fn pending(
        &self,
        first_lane: u16,
        events_per_lane: u32,
        bytes_max: u64,
    ) -> impl Future<Output = Result<Vec<LaneBatch>, StoreError>> + Send;

    /// Takes what was published out of the outbox: in each lane everything up to a position.
    ///
    /// # Errors
    /// [`AdvanceError::Fenced`] once another relay has it.
    fn advance(
        &self,
        lease: &RelayLease,
        published: &[LanePosition],
    ) -> impl Future<Output = Result<(), AdvanceError>> + Send;

    /// How many events wait in the outbox, and how many submitted rows, of which at most 1,000 are counted.
    ///
    /// # Errors
    /// Says what the database said.
    fn outbox_backlog(&self) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Moves committed rows of `courant_outbox_submit` into their lanes, in the order of their numbers,
    /// and those that can never be events into `courant_outbox_refused`. One transaction.
    ///
    /// # Errors
    /// [`AdvanceError::Fenced`] once another relay has it.
    fn sequence(
        &self,
        lease: &RelayLease,
        sequencing: &Sequencing<'_>,
        now_ms: i64,
    ) -> impl Future<Output = Result<Sequenced, AdvanceError>> + Send;

    /// Submitted rows that were refused, by number, from the first one after `after`.
    ///
    /// # Errors
    /// Says what the database said.
    fn refused_events(
        &self,
        after: i64,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<RefusedEvent>, StoreError>> + Send;

    /// Who relays the outbox; `None` before the first one.
    ///
    /// # Errors
    /// Says what the database said.
    fn relay(&self, shard: &str) -> impl Future<Output = Result<Option<RelayState>, StoreError>> + Send;

    /// Shows other relays that this one is there, and writers whether it has to be woken.
    ///
    /// # Errors
    /// [`AdvanceError::Fenced`] once another relay has it.
    fn keep_relay(
        &self,
        lease: &RelayLease,
        is_resting: bool,
    ) -> impl Future<Output = Result<(), AdvanceError>> + Send;

    /// What wakes a relay that rests. Correctness never depends on it.
    ///
    /// # Errors
    /// Says what the database said.
    fn outbox_bell(&self) -> impl Future<Output = Result<OutboxBell, StoreError>> + Send;

    // --- timers ---
    /// Puts timers that are due at `now_ms` into the outbox and takes them out of their table, in one
    /// transaction: by due time, those of the same instant by id, with `now_ms` as their timestamp. At
    /// most `limit` of them, of about `bytes_max` together; at least one, if one is due. One that a
    /// transaction is just cancelling or replacing may be left for the next call.
    ///
    /// # Errors
    /// [`AdvanceError::Fenced`] once another relay has the lease.
    fn fire_timers(
        &self,
        lease: &RelayLease,
        limit: u32,
        bytes_max: u64,
        now_ms: i64,
    ) -> impl Future<Output = Result<Fired, AdvanceError>> + Send;

    /// When the next timer is due, or was.
    ///
    /// # Errors
    /// Says what the database said.
    fn next_timer_ms(&self) -> impl Future<Output = Result<Option<i64>, StoreError>> + Send;

    // --- pruning ---
    /// Forgets up to `limit` events that were settled before `before_ms`: a delivery of one after
    /// that is a new one. Answers with how many.
    ///
    /// # Errors
    /// Says what the database said.
    fn prune_inbox(
        &self,
        consumer: &Consumer,
        before_ms: i64,
        limit: u32,
    ) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Forgets up to `limit` dead letters that were redriven or discarded before `before_ms`, and
    /// redrives that have none left. Answers with how many dead letters.
    ///
    /// # Errors
    /// Says what the database said.
    fn prune_dead_letters(
        &self,
        before_ms: i64,
        limit: u32,
    ) -> impl Future<Output = Result<u64, StoreError>> + Send;
}
