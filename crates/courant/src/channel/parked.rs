//! Giving up what is parked: events that wait for their next attempt, or behind another one of their key.
//!
//! Only the owner of a partition may give an event of it up, and that may be another instance. So the partition is
//! taken over, by one that handles nothing of it; whoever had it finds that out, and takes it back ten seconds later.

use std::time::Duration;

use bytes::Bytes;
use courant_core::consumer::ConsumerName;
use courant_core::operations::{EXPIRY_MAX_MS, Outcome, ParkedChange, Request, WhichParked};
use courant_core::position::TopicPartition;
use courant_core::topic::{InvalidTopicName, TopicName};
use courant_sql::limits::{GIVEN_UP_AT_ONCE, LISTED_MAX};
use courant_sql::{
    Assignment, Consumer, DeadFilter, DeadState, Decision, GiveUpError, GivingUp, Lease, Store, Verdict,
    give_up,
};
use tokio::time::Instant;

use super::acting::{ActError, Times};
use super::deciding::is_noted;
use super::desk::CONSUMER_PREFIX;
use crate::planted::{Defect, is_planted};

/// How long one request gives events up. Whoever has asked waits for the answer, other requests wait behind this one,
/// and the owner so far takes the partition back; a page is given up in any case.
const GIVES_UP_FOR: Duration = Duration::from_secs(4);

/// Who gave up.
const VERSION: &str = concat!("courant ", env!("CARGO_PKG_VERSION"));

/// What is meant, in the words of the store.
struct Meant {
    assignment: Assignment,
    /// None: every key, and what has none.
    key: Option<Bytes>,
}

/// Gives up what is parked, or counts it.
pub(super) async fn discard_parked<S: Store>(
    store: &S,
    request: &Request,
    change: &ParkedChange,
    times: Times,
) -> Result<Vec<Outcome>, ActError> {
    let meant = Meant::of(&change.which)?;
    let before = if change.dry_run {
        0
    } else {
        let since_ms = times.asked_ms.max(request.expires_ms.saturating_sub(EXPIRY_MAX_MS));
        let decision = Decision { verdict: Verdict::Discard, by: &request.actor, reason: &change.reason };
        meant.given_up_before(store, &decision, since_ms).await?
    };
    let (waiting, is_uncounted) = match meant.check_is_there(store).await {
        Ok(()) => meant.count(store).await?,
        // All of it was given up by this request before it was interrupted.
        Err(ActError::NotFound(_)) if before > 0 => (0, false),
        Err(error) => return Err(error),
    };
    // A partition where only dead letters are left stands still for nothing.
    let (events, has_more) = if change.dry_run || (waiting == 0 && !is_uncounted) {
        (waiting, is_uncounted)
    } else {
        match meant.give_up(store, request, change, times.now_ms).await {
            // What it has given up before it was interrupted is told all the same.
            Err(ActError::Conflict(_)) if before > 0 => (0, true),
            given => given?,
        }
    };
    let events = events.saturating_add(before);
    let letters = meant.holding(store).await?;
    if events == 0 && letters > 0 && !has_more {
        let sentence = "nothing waits there but dead letters; decide about those";
        return Err(ActError::Conflict(sentence.to_owned()));
    }
    Ok(vec![Outcome::GivenUp { events, letters, has_more }])
}

impl Meant {
    fn of(which: &WhichParked) -> Result<Self, ActError> {
        let nonsense = |error: InvalidTopicName| ActError::Nonsense(error.to_string());
        if !which.is_plain() {
            let sentence = "it names a key whose parked events are meant, or says that all are, and not both";
            return Err(ActError::Nonsense(sentence.to_owned()));
        }
        if which.consumer.starts_with(CONSUMER_PREFIX) {
            let sentence = "requests that wait are not given up by a request";
            return Err(ActError::Nonsense(sentence.to_owned()));
        }
        let name = ConsumerName::new(&which.consumer).map_err(nonsense)?;
        let topic = TopicName::new(&which.topic).map_err(nonsense)?;
        let consumer = Consumer { name, generation: which.generation };
        let partition = TopicPartition { topic, partition: which.partition };
        let key = which.key.as_ref().map(|key| Bytes::copy_from_slice(key.as_bytes()));
        Ok(Self { assignment: Assignment { consumer, partition }, key })
    }

    /// Fails where nothing is parked that could be meant: nobody becomes the owner of a partition that is named by
    /// mistake.
    async fn check_is_there<S: Store>(&self, store: &S) -> Result<(), ActError> {
        let mut is_there = !store.parked(&self.assignment, self.key.as_deref(), 1).await?.is_empty();
        if !is_there && self.key.is_none() {
            is_there = !store.parked_keys(&self.assignment, None, 1).await?.is_empty();
        }
        if is_there {
            return Ok(());
        }
        let of_key = if self.key.is_some() { " of this key" } else { "" };
        Err(ActError::NotFound(format!("nothing{of_key} is parked in {}", self.assignment)))
    }

    /// How many events would be given up, and whether there may be more.
    async fn count<S: Store>(&self, store: &S) -> Result<(u64, bool), ActError> {
        let mut parked: u64 = 0;
        let mut after = self.before_key();
        'pages: loop {
            let keys = store.parked_keys(&self.assignment, after.as_deref(), LISTED_MAX).await?;
            let Some(last) = keys.last() else { break };
            for one in &keys {
                match &self.key {
                    Some(key) if one.key < *key => {}
                    Some(key) if one.key > *key => break 'pages,
                    _ => parked = parked.saturating_add(one.events),
                }
            }
            after = Some(last.key.clone());
        }
        // Dead letters that hold a key are among what is parked of it.
        let waiting = parked.saturating_sub(self.holding(store).await?);
        if self.key.is_some() {
            return Ok((waiting, false));
        }
        // With their bytes, so no more than a page of them.
        let without_key = store.parked(&self.assignment, None, GIVEN_UP_AT_ONCE).await?.len();
        let has_more = without_key >= GIVEN_UP_AT_ONCE as usize;
        Ok((waiting.saturating_add(without_key as u64), has_more))
    }

    /// Fails where more waits than whoever has asked knows of.
    async fn check_at_most<S: Store>(&self, store: &S, at_most: Option<u64>) -> Result<(), ActError> {
        let Some(at_most) = at_most else { return Ok(()) };
        let (waiting, is_uncounted) = self.count(store).await?;
        if waiting <= at_most && !is_uncounted {
            return Ok(());
        }
        let more = if is_uncounted { " or more" } else { "" };
        let sentence = format!("more events wait there than {at_most}: {waiting}{more}; look again");
        Err(ActError::Conflict(sentence))
    }

    /// What a look at the keys begins after: what a key begins with comes before it.
    fn before_key(&self) -> Option<Bytes> {
        self.key.as_ref().filter(|key| !key.is_empty()).map(|key| key.slice(..key.len() - 1))
    }

    /// How many dead letters keep keys parked that are meant, also while a redrive that was asked for has not come to
    /// them.
    async fn holding<S: Store>(&self, store: &S) -> Result<u64, ActError> {
        let mut count = 0;
        for state in [DeadState::Dead, DeadState::Redriving] {
            let filter = self.filter(state);
            let mut after = 0;
            loop {
                let page = store.dead_letters(&filter, after, LISTED_MAX).await?;
                let Some(last) = page.last() else { break };
                after = last.id;
                let holding = page.iter().filter(|letter| {
                    letter.blocks_key && self.is_of(&letter.consumer, letter.position.partition)
                });
                count += holding.count() as u64;
            }
        }
        Ok(count)
    }

    /// How many events this request has given up before it was interrupted, and was taken again.
    async fn given_up_before<S: Store>(
        &self,
        store: &S,
        decision: &Decision<'_>,
        since_ms: i64,
    ) -> Result<u64, ActError> {
        if is_planted(Defect::DecisionsForgotten) {
            return Ok(0);
        }
        let filter = self.filter(DeadState::Discarded);
        let (mut count, mut after) = (0, 0);
        loop {
            let page = store.dead_letters(&filter, after, LISTED_MAX).await?;
            let Some(last) = page.last() else { return Ok(count) };
            after = last.id;
            for letter in &page {
                // What is given up while it waits fails once more by that.
                let is_new = letter.last_failed_ms >= since_ms
                    && self.is_of(&letter.consumer, letter.position.partition);
                if is_new && is_noted(store, letter.id, decision, since_ms).await? {
                    count += 1;
                }
            }
        }
    }

    fn filter(&self, state: DeadState) -> DeadFilter {
        DeadFilter {
            consumer: Some(self.assignment.consumer.name.clone()),
            topic: Some(self.assignment.partition.topic.clone()),
            key: self.key.clone(),
            state: Some(state),
            ..DeadFilter::default()
        }
    }

    /// Whether a letter is of this consumer in its generation, and of this partition: the store's filter knows neither.
    fn is_of(&self, consumer: &Consumer, partition: u32) -> bool {
        *consumer == self.assignment.consumer && partition == self.assignment.partition.partition
    }

    /// Takes the partition over and gives events up. Says how many, and whether there may be more.
    async fn give_up<S: Store>(
        &self,
        store: &S,
        request: &Request,
        change: &ParkedChange,
        now_ms: i64,
    ) -> Result<(u64, bool), ActError> {
        // Before it is taken over, so that it does not stand still for nothing; and behind that, because until then
        // its owner may have parked more.
        self.check_at_most(store, change.at_most).await?;
        let owner = format!("the request {}", request.id);
        let lease = store.take_over(&self.assignment, &owner, now_ms).await?;
        self.check_at_most(store, change.at_most).await?;
        let how = GivingUp { by: &request.actor, reason: &change.reason, code_version: VERSION };
        let until = Instant::now() + GIVES_UP_FOR;
        let mut giving = Giving { store, lease, how, now_ms, until, events: 0, has_more: false };
        if let Some(key) = &self.key {
            giving.one(Some(key)).await?;
            return Ok((giving.events, giving.has_more));
        }
        let mut after: Option<Bytes> = None;
        loop {
            let keys = store.parked_keys(&self.assignment, after.as_deref(), LISTED_MAX).await?;
            let Some(last) = keys.last() else { break };
            after = Some(last.key.clone());
            for one in &keys {
                giving.one(Some(&one.key)).await?;
                if giving.has_more {
                    return Ok((giving.events, true));
                }
            }
        }
        giving.one(None).await?;
        Ok((giving.events, giving.has_more))
    }
}

/// What one request gives up.
struct Giving<'a, S> {
    store: &'a S,
    lease: Lease,
    how: GivingUp<'a>,
    now_ms: i64,
    until: Instant,
    events: u64,
    /// It ends before all were looked at.
    has_more: bool,
}

impl<S: Store> Giving<'_, S> {
    /// Gives up what waits of a key, or without one, for as long as there is time.
    async fn one(&mut self, key: Option<&Bytes>) -> Result<(), ActError> {
        loop {
            let key = key.map(|key| &key[..]);
            let given = give_up(self.store, &self.lease, key, &self.how, self.now_ms).await?;
            self.events = self.events.saturating_add(given.events);
            match given.ended {
                Some(GiveUpError::Store(error)) => return Err(error.into()),
                // Somebody else has the partition by now.
                Some(error) if self.events == 0 => {
                    return Err(ActError::Conflict(format!("{error}: ask again")));
                }
                Some(_) => self.has_more = true,
                None if given.is_all => {}
                None if Instant::now() < self.until => continue,
                None => self.has_more = true,
            }
            return Ok(());
        }
    }
}
