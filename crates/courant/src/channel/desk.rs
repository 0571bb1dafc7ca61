//! Where requests are taken: a subscription of the service's own, so that each is taken once, whichever
//! instance takes it, whatever is killed meanwhile.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use courant_core::clock::Clock;
use courant_core::operations::{
    Answer, EXPIRY_MAX_MS, Envelope, OperationsKey, Outcome, Refusal, Request, Signed, VERSION,
};
use courant_sql::{Store, Transaction as _};
use serde::Deserialize;
use tokio::sync::Notify;
use tracing::{info, warn};

use super::acting::{ActError, Times, act};
use super::readers::Readers;
use crate::planted::{Defect, is_planted};
use crate::runtime::{Seldom, Status};
use crate::service::Prepared;
use crate::subscription::AtLeastOnce;
use crate::{Exhausted, HandlerError, Meta, OtherLog, Publisher, Retry, StartFrom, Subscription};

/// What the consumers of the channel's own begin with.
pub(crate) const CONSUMER_PREFIX: &str = "_courant.";

/// Attempts of a request that the store does not let be followed.
const ATTEMPTS: u32 = 8;

/// Badly signed requests that are answered in a minute. Anybody can send them, and somebody who has mixed two
/// keys up waits for an answer.
const BADLY_SIGNED_ANSWERED_MAX: u32 = 10;

/// Parts of an answer that one transaction writes.
const PARTS_AT_ONCE: usize = 16;

/// How long following one request may take.
const TAKES_MAX: Duration = Duration::from_secs(600);

/// Where the requests to a service are taken.
pub(crate) struct Desk<D> {
    key: OperationsKey,
    service: String,
    store: D,
    clock: Arc<dyn Clock>,
    counts: Arc<Counts>,
    /// Badly signed requests that the log tells of, and those that are answered.
    badly_signed: Seldom,
    badly_signed_answered: Seldom,
    /// Who has to look when somebody has decided.
    woken: OnceLock<Vec<(Arc<Status>, Arc<Notify>)>>,
    /// What edits are held against.
    readers: OnceLock<Readers>,
}

/// What has come of requests.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) applied: AtomicU64,
    pub(super) refused: AtomicU64,
}

/// All of a request that is read before its signature is looked at: nothing unsigned becomes a tree of
/// values.
#[derive(Deserialize)]
struct Named {
    service: String,
}

/// What tells whether the rest of a request can be read.
#[derive(Deserialize)]
struct Versioned {
    version: Option<u64>,
}

/// Whether a request is to be followed.
enum Looked {
    /// It is for somebody else.
    Others,
    Refused(Refusal),
    Take(Box<Request>),
}

impl<D: Store> Desk<D> {
    pub(crate) fn new(key: OperationsKey, service: &str, store: D, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            key,
            service: service.to_owned(),
            store,
            clock,
            counts: Arc::default(),
            badly_signed: Seldom::new(1),
            badly_signed_answered: Seldom::new(BADLY_SIGNED_ANSWERED_MAX),
            woken: OnceLock::new(),
            readers: OnceLock::new(),
        })
    }

    pub(super) fn counts(&self) -> Arc<Counts> {
        self.counts.clone()
    }

    /// From now on these subscriptions are told of decisions.
    pub(super) fn wakes(&self, prepared: &[Prepared]) {
        let woken = prepared.iter().filter(|one| !one.orders.consumer.starts_with(CONSUMER_PREFIX));
        let woken = woken.map(|one| (one.status.clone(), one.decided.clone())).collect();
        // A service is built once.
        drop(self.woken.set(woken));
    }

    /// From now on edits are held against what these read.
    pub(crate) fn reads(&self, readers: Readers) {
        // A service is built once.
        drop(self.readers.set(readers));
    }

    /// The subscription that takes requests. Its handler runs outside of the transaction, because what a
    /// request asks for is a transaction of the store's own; the inbox is asked before, and written with the
    /// answer.
    pub(crate) fn subscription<T: Send + Sync + 'static>(
        self: &Arc<Self>,
    ) -> Subscription<D, T, AtLeastOnce> {
        let desk = self.clone();
        // What is older has expired. What was valid while nobody ran is taken.
        let since_ms = self.clock.now_ms().saturating_sub(EXPIRY_MAX_MS);
        Subscription::named(format!("{CONSUMER_PREFIX}ops.{}", self.service))
            .at_least_once()
            .concurrency(1)
            .timeout(TAKES_MAX)
            .retry(Retry::exponential(Duration::from_millis(200), Duration::from_secs(5)).attempts(ATTEMPTS))
            .when_exhausted(Exhausted::Skip)
            .start_from(StartFrom::Time(since_ms))
            .when_log_differs(OtherLog::FromTime(since_ms))
            .on(move |signed: Signed, meta: Meta, publisher: Publisher| {
                let desk = desk.clone();
                async move { desk.take(signed, meta, publisher).await }
            })
    }

    async fn take(
        &self,
        signed: Signed,
        meta: Meta,
        publisher: Publisher,
    ) -> Result<Vec<Answer>, HandlerError> {
        let id = meta.id().to_string();
        let request = match self.look(&signed, &id) {
            Looked::Others => return Ok(Vec::new()),
            Looked::Refused(why) => {
                self.counts.refused.fetch_add(1, Ordering::Relaxed);
                if why == Refusal::BadSignature {
                    return Ok(self.badly_signed(&id));
                }
                warn!(service = self.service, request = id, ?why, "refused a request: {why}");
                let outcome = Outcome::Refused { why, reason: why.to_string() };
                return Ok(self.answers(&id, vec![outcome]));
            }
            Looked::Take(request) => request,
        };
        let times = Times { asked_ms: meta.time_ms(), now_ms: self.clock.now_ms() };
        let outcomes = match act(&self.store, &request, times, self.readers.get()).await {
            Ok(outcomes) => outcomes,
            Err(ActError::Store(error)) if meta.attempt() < ATTEMPTS => {
                return Err(HandlerError::from(error));
            }
            Err(error) => vec![outcome_of(&error)],
        };
        self.counts.applied.fetch_add(1, Ordering::Relaxed);
        info!(
            service = self.service,
            request = id,
            actor = request.actor,
            action = request.action.name(),
            "followed a request"
        );
        self.wake();
        self.all_but_the_last(self.answers(&id, outcomes), &publisher).await
    }

    /// The answer to a request that the key of the service has not signed, if it has one: anybody can send as
    /// many as they like.
    fn badly_signed(&self, id: &str) -> Vec<Answer> {
        let why = Refusal::BadSignature;
        let elapsed_ms = self.clock.elapsed_ms();
        if let Some(requests) = self.badly_signed.again(elapsed_ms) {
            warn!(service = self.service, request = id, ?why, requests, "refused a request: {why}");
        }
        let reason = match self.badly_signed_answered.again(elapsed_ms) {
            None => return Vec::new(),
            Some(1) => why.to_string(),
            Some(requests) => format!("{why}; it is one of {requests} since the last one that was answered"),
        };
        self.answers(id, vec![Outcome::Refused { why, reason }])
    }

    /// Writes the parts of a very long answer, some in each transaction, and gives back the last ones: they
    /// are written with the note that the request was taken. A repetition writes the parts again.
    async fn all_but_the_last(
        &self,
        mut parts: Vec<Answer>,
        publisher: &Publisher,
    ) -> Result<Vec<Answer>, HandlerError> {
        while parts.len() > PARTS_AT_ONCE {
            let rest = parts.split_off(PARTS_AT_ONCE);
            let mut outbox = publisher.outbox();
            for part in &parts {
                outbox.publish(part)?;
            }
            let mut transaction = self.store.begin(None).await?;
            for event in outbox.into_events() {
                transaction.publish(event)?;
            }
            transaction.commit(self.clock.now_ms()).await?;
            parts = rest;
        }
        Ok(parts)
    }

    /// Whether a request is for this service, and one that it may follow. Nothing that it says is believed
    /// before its signature is; but a request that names another service is that one's business.
    fn look(&self, signed: &Signed, id: &str) -> Looked {
        let Some(Envelope { request: text, signature }) = signed.envelope() else { return Looked::Others };
        let Ok(Named { service }) = serde_json::from_str(&text) else { return Looked::Others };
        if service != self.service {
            return Looked::Others;
        }
        if !self.key.has_signed(&text, &signature) && !is_planted(Defect::AnySignature) {
            return Looked::Refused(Refusal::BadSignature);
        }
        match serde_json::from_str::<Versioned>(&text) {
            Ok(Versioned { version: Some(version) }) if version == u64::from(VERSION) => {}
            Ok(_) => return Looked::Refused(Refusal::OtherVersion),
            Err(_) => return Looked::Refused(Refusal::NotUnderstood),
        }
        let Ok(request) = serde_json::from_str::<Request>(&text) else {
            return Looked::Refused(Refusal::NotUnderstood);
        };
        let now_ms = self.clock.now_ms();
        match request.expires_ms {
            _ if request.id != id => Looked::Refused(Refusal::OtherId),
            expires_ms if expires_ms <= now_ms && !is_planted(Defect::NoExpiry) => {
                Looked::Refused(Refusal::Expired)
            }
            expires_ms if expires_ms.saturating_sub(now_ms) > EXPIRY_MAX_MS => {
                Looked::Refused(Refusal::ValidForTooLong)
            }
            _ => Looked::Take(Box::new(request)),
        }
    }

    fn answers(&self, id: &str, outcomes: Vec<Outcome>) -> Vec<Answer> {
        let count = outcomes.len();
        let answer = |(part, outcome): (usize, Outcome)| Answer {
            version: VERSION,
            request: id.to_owned(),
            service: self.service.clone(),
            part: u32::try_from(part).unwrap_or(u32::MAX),
            is_last: part + 1 == count,
            outcome,
        };
        outcomes.into_iter().enumerate().map(answer).collect()
    }

    /// Other instances look by themselves, once a second.
    fn wake(&self) {
        for (status, decided) in self.woken.get().into_iter().flatten() {
            status.update(|state| state.decisions += 1);
            decided.notify_one();
        }
    }
}

fn outcome_of(error: &ActError) -> Outcome {
    let reason = error.to_string();
    match error {
        ActError::NotFound(_) => Outcome::NotFound { reason },
        ActError::Conflict(_) => Outcome::Conflict { reason },
        ActError::Nonsense(_) => Outcome::Refused { why: Refusal::NotUnderstood, reason },
        ActError::Store(_) => Outcome::Failed { reason },
    }
}

impl<D> fmt::Debug for Desk<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("service", &self.service).finish_non_exhaustive()
    }
}
