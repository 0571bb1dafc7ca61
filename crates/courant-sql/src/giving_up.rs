//! Giving up events that are parked, and that nobody wants any more.
//!
//! Whoever owns a partition may give an event of it up, and nobody else may. So whoever does it has taken the
//! partition over, makes a dead letter of each event, and discards that: the inbox knows the event from then on, its
//! bytes and who has decided are kept as of every letter. Killed in between, it leaves letters that nobody has
//! decided about, as many as one page has, which keep no key parked.

use crate::consumer::{Admission, Delivery, Source};
use crate::dead::{Burial, DeadReason};
use crate::error::{AdmitError, BeginError, CommitError, StoreError};
use crate::event::Failure;
use crate::limits::GIVEN_UP_AT_ONCE;
use crate::note::{Decision, Verdict};
use crate::parked::{Lease, ParkedEvent};
use crate::store::{Store, Transaction as _};

/// What is said of the failure of an event that has never failed.
const KIND: &str = "courant::Discarded";
const PLACE: &str = "courant dlq discard-parked";
const MESSAGE: &str = "it was given up while it waited";

/// Who gives parked events up, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GivingUp<'a> {
    /// Who has decided.
    pub by: &'a str,
    /// Why.
    pub reason: &'a str,
    /// The version of the program that does it.
    pub code_version: &'a str,
}

/// What has become of the first parked events of a key.
#[derive(Debug)]
#[must_use = "it says whether the rest was given up"]
pub struct GivenUp {
    /// How many were discarded.
    pub events: u64,
    /// How many are dead letters that keep the key parked. They stay.
    pub staying: u64,
    /// Nothing was found but what stays.
    pub is_all: bool,
    /// Why no more of them were given up.
    pub ended: Option<GiveUpError>,
}

/// A parked event was not given up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GiveUpError {
    /// Somebody else has the partition by now.
    #[error(transparent)]
    Lost(BeginError),
    /// Whether it was handled before could not be asked.
    #[error(transparent)]
    Admit(AdmitError),
    /// It was handled before, and could not be taken out of the parked ones.
    #[error(transparent)]
    Commit(CommitError),
    /// The database did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<BeginError> for GiveUpError {
    fn from(error: BeginError) -> Self {
        match error {
            BeginError::Store(error) => Self::Store(error),
            lost @ BeginError::Fenced { .. } => Self::Lost(lost),
        }
    }
}

impl From<AdmitError> for GiveUpError {
    fn from(error: AdmitError) -> Self {
        match error {
            AdmitError::Begin(error) => error.into(),
            AdmitError::Store(error) => Self::Store(error),
            other => Self::Admit(other),
        }
    }
}

impl From<CommitError> for GiveUpError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Store(error) => Self::Store(error),
            other => Self::Commit(other),
        }
    }
}

/// What became of an event that was parked.
enum Taken {
    /// It is the letter of this number.
    Letter(i64),
    /// It was settled before, as the copy of another one, and waits no more.
    Settled,
    /// It is a dead letter that keeps its key parked, and stays so.
    Stays,
}

/// Gives the first parked events of a key up, or of those without one, at most [`GIVEN_UP_AT_ONCE`]. Whoever wants
/// all of them asks again until nothing is left but dead letters. What has become a letter is discarded also where
/// the partition was lost before the page was through.
///
/// # Errors
/// The events could not be listed, or those that are letters by now could not be discarded.
pub async fn give_up<S: Store>(
    store: &S,
    lease: &Lease,
    key: Option<&[u8]>,
    how: &GivingUp<'_>,
    now_ms: i64,
) -> Result<GivenUp, StoreError> {
    let page = store.parked(&lease.assignment, key, GIVEN_UP_AT_ONCE).await?;
    let (mut letters, mut staying, mut ended) = (Vec::with_capacity(page.len()), 0, None);
    for parked in &page {
        match take(store, lease, parked, how, now_ms).await {
            Ok(Taken::Letter(id)) => letters.push(id),
            Ok(Taken::Settled) => {}
            Ok(Taken::Stays) => staying += 1,
            Err(error) => {
                ended = Some(error);
                break;
            }
        }
    }
    let mut events = 0;
    if !letters.is_empty() {
        let decision = Decision { verdict: Verdict::Discard, by: how.by, reason: how.reason };
        events = store.decide(&letters, &decision, now_ms).await?.len() as u64;
    }
    let is_all = ended.is_none() && staying == page.len() as u64;
    Ok(GivenUp { events, staying, is_all, ended })
}

/// Takes one event out of the parked ones.
async fn take<S: Store>(
    store: &S,
    lease: &Lease,
    parked: &ParkedEvent,
    how: &GivingUp<'_>,
    now_ms: i64,
) -> Result<Taken, GiveUpError> {
    let event = &parked.event;
    let waited = Failure { kind: KIND.to_owned(), place: PLACE.to_owned(), message: MESSAGE.to_owned() };
    let burial = Burial {
        event,
        failure: parked.failure.as_ref().unwrap_or(&waited),
        reason: DeadReason::Exhausted,
        keep_key_parked: false,
        code_version: how.code_version,
        copies: Vec::new(),
    };
    let buried = store.bury(lease, burial, now_ms).await?;
    if let Some(id) = buried.id {
        return Ok(Taken::Letter(id));
    }
    // The inbox knows it. Who handles events finds that out as well, and has the commit take it out.
    let (id, offset, key) = (&event.id, event.offset, event.key.as_deref());
    let delivery = Delivery { id, offset, key, source: Source::Parked };
    let (tx, admissions) = store.begin_admitted(lease, &[delivery], now_ms).await?;
    if matches!(admissions[..], [Admission::Seen(_)]) {
        tx.commit(now_ms).await?;
        return Ok(Taken::Settled);
    }
    tx.rollback().await?;
    Ok(Taken::Stays)
}
