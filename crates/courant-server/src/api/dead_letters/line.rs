//! Asking a service: a signed request in one topic of the log, and its answer in another.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use axum::http::StatusCode;
use bytes::Bytes;
use courant_core::operations::{
    ANSWERS, Action, Answer, KEPT_MS, OperationsKey, Outcome, REQUESTS, Refusal, Request, Signed, VERSION,
};
use courant_log::batch::records::{NewRecord, Record};
use courant_log::{Health, PartitionId};
use tokio::sync::oneshot;
use tokio::time::timeout;
use uuid::Uuid;

use super::services::SERVICE_NOT_FOUND;
use crate::api::ApiState;
use crate::api::limits::{ANSWER_WAIT, WORDS_BYTES_MAX};
use crate::api::own_topics;
use crate::api::problem::{INVALID, Problem, ProblemKind};
use crate::api::records::cloudevent::floor;
use crate::api::records::read::{Taken, read};
use crate::api::shares::ApiLimits;

static NO_SERVICE_KEY: ProblemKind = ProblemKind {
    status: StatusCode::FORBIDDEN,
    code: "no_service_key",
    title: "The server has no key of the service",
};

static TAKES_NO_REQUESTS: ProblemKind = ProblemKind {
    status: StatusCode::CONFLICT,
    code: "takes_no_requests",
    title: "The service takes no requests",
};

static SERVICE_UNANSWERED: ProblemKind = ProblemKind {
    status: StatusCode::GATEWAY_TIMEOUT,
    code: "service_unanswered",
    title: "The service has not answered",
};

static SERVICE_REFUSED: ProblemKind = ProblemKind {
    status: StatusCode::CONFLICT,
    code: "service_refused",
    title: "The service has refused the request",
};

pub(super) static CONFLICT: ProblemKind =
    ProblemKind { status: StatusCode::CONFLICT, code: "conflict", title: "It contradicts what is there" };

static SERVICE_FAILED: ProblemKind = ProblemKind {
    status: StatusCode::BAD_GATEWAY,
    code: "service_failed",
    title: "The service could not do it",
};

/// What stands in the header for the source of an event.
const SOURCE: &str = "courant";

/// A service that can be asked.
#[derive(Clone, Debug)]
pub(super) struct Line {
    state: ApiState,
    service: String,
    key: OperationsKey,
}

impl Line {
    /// To a service that has said that it is there, that takes requests, and whose key is known.
    pub(super) async fn to(state: &ApiState, service: &str) -> Result<Self, Problem> {
        let name = service.to_owned();
        let takes_requests = state.blocking(move |state| {
            let known = state.operations().known(state)?;
            let instances = known.services.get(&name);
            Ok(instances.map(|instances| instances.iter().any(|instance| instance.operations)))
        });
        match takes_requests.await? {
            None => return Err(not_found(service)),
            Some(false) => {
                let sentence = format!(
                    "the service {service} takes no requests; give its App .operations(key), or name its \
                     database: courant dlq … --store URL"
                );
                return Err(Problem::new(&TAKES_NO_REQUESTS, sentence));
            }
            Some(true) => {}
        }
        let key = state.settings().service_keys.of(service).cloned().ok_or_else(|| {
            let sentence = format!(
                "this server has no key of the service {service}; write `{service} KEY` into a file, and \
                 start the server with --api-service-key-file FILE"
            );
            Problem::new(&NO_SERVICE_KEY, sentence)
        })?;
        Ok(Self { state: state.clone(), service: service.to_owned(), key })
    }

    /// Sends a request, and waits for its answer. When none comes in time, the request has expired.
    /// `missing` is what is said of something that the request names and that is not there.
    pub(super) async fn ask(
        &self,
        by: &str,
        action: Action,
        missing: &'static ProblemKind,
    ) -> Result<Vec<Outcome>, Problem> {
        let Ok(place) = timeout(ANSWER_WAIT, self.state.operations().place(&self.service)).await else {
            let sentence = "too many requests wait for this service, or for all; ask again in a moment";
            return Err(Problem::new(&SERVICE_UNANSWERED, sentence));
        };
        let answered = timeout(ANSWER_WAIT, self.answered(by, action)).await;
        drop(place);
        let outcomes = answered.unwrap_or_else(|_| Err(self.unanswered()))?;
        for outcome in &outcomes {
            not_refused(outcome, missing)?;
        }
        Ok(outcomes)
    }

    async fn answered(&self, by: &str, action: Action) -> Result<Vec<Outcome>, Problem> {
        let log = self.state.log()?.clone();
        let kept = [("retention.ms", KEPT_MS)];
        let answers = own_topics::partition(&log, ANSWERS, &kept).await?;
        let requests = own_topics::partition(&log, REQUESTS, &kept).await?;
        let mut next = log.offsets(answers).map_or(0, |ends| ends.high_watermark);
        let now_ms = self.state.now_ms();
        let wait_ms = i64::try_from(ANSWER_WAIT.as_millis()).unwrap_or(i64::MAX);
        let request = Request {
            version: VERSION,
            id: Uuid::new_v4().to_string(),
            service: self.service.clone(),
            actor: by.to_owned(),
            expires_ms: now_ms.saturating_add(wait_ms),
            action,
        };
        own_topics::append(&log, requests, &[event(&request, &self.key, now_ms)?]).await?;
        let held = Held { all: self.state.operations().answer_room(), bytes: 0 };
        let mut parts = Parts::of(request.id, self.service.clone(), held);
        loop {
            (next, parts) = self.state.blocking(move |state| gather(state, answers, next, parts)).await?;
            if parts.is_whole() {
                return Ok(parts.parts.into_values().collect());
            }
            if matches!(log.health(), Health::Stopping) {
                return Err(own_topics::unanswered());
            }
            let (wake, woken) = oneshot::channel();
            let waiting = log.wait(&[(answers, next)], 1, move || {
                // Who waits for it may have gone.
                let _ = wake.send(());
            });
            let _ = woken.await;
            drop(waiting);
        }
    }

    fn unanswered(&self) -> Problem {
        let sentence = format!(
            "the service {} has not answered within {ANSWER_WAIT:?}, and does not follow the request any \
             more unless it has begun; GET /api/v1/services says when it was seen last",
            self.service
        );
        Problem::new(&SERVICE_UNANSWERED, sentence)
    }
}

pub(super) fn not_found(service: &str) -> Problem {
    let sentence = format!("no service {service:?} says that it is there; GET /api/v1/services lists them");
    Problem::new(&SERVICE_NOT_FOUND, sentence)
}

/// A service that has answered with something that makes no sense here.
pub(super) fn not_understood() -> Problem {
    let sentence = "the service has answered something else; compare its version with that of the server";
    Problem::new(&SERVICE_FAILED, sentence)
}

fn not_refused(outcome: &Outcome, missing: &'static ProblemKind) -> Result<(), Problem> {
    let refused = |reason: &str| format!("the service has refused the request: {}", words(reason));
    match outcome {
        Outcome::Refused { why: Refusal::NotUnderstood, reason } => {
            Err(Problem::new(&INVALID, refused(reason)))
        }
        Outcome::Refused { why: Refusal::BadSignature, reason } => {
            let sentence = format!("{}; the key in the server's key file is another", refused(reason));
            Err(Problem::new(&SERVICE_REFUSED, sentence))
        }
        Outcome::Refused { reason, .. } => Err(Problem::new(&SERVICE_REFUSED, refused(reason))),
        Outcome::NotFound { reason } => Err(Problem::new(missing, words(reason))),
        Outcome::Conflict { reason } => Err(Problem::new(&CONFLICT, words(reason))),
        Outcome::Failed { reason } => Err(Problem::new(&SERVICE_FAILED, words(reason))),
        _ => Ok(()),
    }
}

/// What a service says, as long as a sentence is.
pub(super) fn words(said: &str) -> String {
    said[..floor(said, WORDS_BYTES_MAX)].to_owned()
}

/// The memory for answers that are being put together.
#[derive(Debug)]
pub(super) struct AnswerRoom {
    bytes: AtomicUsize,
    /// Bytes of one answer, over all of its parts, and of all answers.
    one_max: usize,
    all_max: usize,
}

impl AnswerRoom {
    pub(super) fn of(limits: &ApiLimits) -> Self {
        Self { bytes: AtomicUsize::new(0), one_max: limits.answer_bytes, all_max: limits.answers_bytes }
    }
}

/// The bytes of an answer, among those of all answers that are being put together.
#[derive(Debug)]
struct Held {
    all: Arc<AnswerRoom>,
    bytes: usize,
}

impl Held {
    fn add(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.all.bytes.fetch_add(bytes, Relaxed);
    }

    /// Refuses what is too much, alone or together with the others.
    fn check(&self) -> Result<(), Problem> {
        let AnswerRoom { bytes, one_max, all_max } = &*self.all;
        if self.bytes > *one_max {
            let sentence = format!("the answer has more than {one_max} bytes; ask for less");
            return Err(Problem::new(&SERVICE_FAILED, sentence));
        }
        if bytes.load(Relaxed) > *all_max {
            let sentence = "the answers that are being read now are too long together; ask again in a moment";
            return Err(Problem::new(&SERVICE_UNANSWERED, sentence));
        }
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.all.bytes.fetch_sub(self.bytes, Relaxed);
    }
}

/// The parts of an answer that have come.
#[derive(Debug)]
struct Parts {
    id: String,
    service: String,
    parts: BTreeMap<u32, Outcome>,
    last: Option<u32>,
    held: Held,
}

impl Parts {
    fn of(id: String, service: String, held: Held) -> Self {
        Self { id, service, parts: BTreeMap::new(), last: None, held }
    }

    /// Takes a record in. Whoever can write into the topic can write under this id, so what is no answer of
    /// the service is passed. A part may come twice: it is the same then.
    fn take(&mut self, record: &Record) {
        let is_ours = record.key.as_deref() == Some(self.id.as_bytes());
        let Some(value) = record.value.as_ref().filter(|_| is_ours) else { return };
        let Ok(answer) = serde_json::from_slice::<Answer>(value) else { return };
        if answer.version != VERSION || answer.service != self.service || answer.request != self.id {
            return;
        }
        self.held.add(value.len());
        if answer.is_last {
            self.last = Some(answer.part);
        }
        self.parts.insert(answer.part, answer.outcome);
    }

    fn is_whole(&self) -> bool {
        self.last.is_some_and(|last| self.parts.len() as u64 > u64::from(last))
    }
}

/// Reads the answers that have come. May wait for the disk.
fn gather(
    state: &ApiState,
    answers: PartitionId,
    mut next: u64,
    mut parts: Parts,
) -> Result<(u64, Parts), Problem> {
    let log = state.log()?;
    let gone = || Problem::topic_not_found(ANSWERS);
    let ends = log.offsets(answers).ok_or_else(gone)?;
    while next < ends.high_watermark && !parts.is_whole() {
        let passed = read(log, answers, next..ends.high_watermark, |record| {
            parts.take(record);
            Taken::Yes
        })?;
        next = passed.next.max(next.saturating_add(1));
        parts.held.check()?;
    }
    Ok((next, parts))
}

/// A request as an event.
fn event(request: &Request, key: &OperationsKey, now_ms: i64) -> Result<NewRecord, Problem> {
    let value = serde_json::to_vec(&Signed::new(request, key));
    let value = value.map_err(|error| Problem::defect(&error.to_string()))?;
    let headers = Signed::headers(&request.id, SOURCE);
    let headers = headers.into_iter().map(|(name, value)| (Bytes::from(name), Some(Bytes::from(value))));
    Ok(NewRecord {
        timestamp: now_ms,
        key: None,
        value: Some(Bytes::from(value)),
        headers: headers.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::limits::ANSWER_BYTES_MAX;

    fn record(id: &str, answer: &Answer) -> Record {
        Record {
            offset: 0,
            timestamp: 0,
            key: Some(Bytes::copy_from_slice(id.as_bytes())),
            value: Some(serde_json::to_vec(answer).expect("JSON").into()),
            headers: Vec::new(),
        }
    }

    fn answer(part: u32, is_last: bool) -> Answer {
        Answer {
            version: 1,
            request: "r-1".to_owned(),
            service: "shop".to_owned(),
            part,
            is_last,
            outcome: Outcome::NotFound { reason: part.to_string() },
        }
    }

    fn parts() -> Parts {
        let held = Held { all: Arc::new(AnswerRoom::of(&ApiLimits::default())), bytes: 0 };
        Parts::of("r-1".to_owned(), "shop".to_owned(), held)
    }

    #[test]
    fn an_answer_is_whole_when_all_of_its_parts_are_there() {
        let mut parts = parts();
        for (part, is_last, is_whole) in [(1, true, false), (1, true, false), (0, false, true)] {
            parts.take(&record("r-1", &answer(part, is_last)));
            assert_eq!(parts.is_whole(), is_whole, "{part}");
        }
    }

    #[test]
    fn only_the_service_itself_answers() {
        let mut parts = parts();
        parts.take(&record("r-2", &answer(0, true)));
        parts.take(&record("r-1", &Answer { service: "billing".to_owned(), ..answer(0, true) }));
        parts.take(&record("r-1", &Answer { request: "r-2".to_owned(), ..answer(0, true) }));
        parts.take(&record("r-1", &Answer { version: 2, ..answer(0, true) }));
        parts.take(&Record { value: Some("{".into()), ..record("r-1", &answer(0, true)) });
        assert!(!parts.is_whole() && parts.parts.is_empty());
    }

    #[test]
    fn answers_hold_no_more_than_all_of_them_may() {
        let all = Arc::new(AnswerRoom::of(&ApiLimits::default()));
        let mut held = Vec::new();
        for _ in 0..3 {
            let mut one = Held { all: Arc::clone(&all), bytes: 0 };
            one.add(ANSWER_BYTES_MAX);
            held.push(one);
        }
        assert_eq!(held[2].check().expect_err("too many").kind.code, "service_unanswered");
        drop(held.remove(0));
        held[0].check().expect("there is room again");
        held[0].add(1);
        assert_eq!(held[0].check().expect_err("too long").kind.code, "service_failed");
        drop(held);
        assert_eq!(all.bytes.load(Relaxed), 0);
    }

    /// An account of a change has what the service said, and has to fit into the audit's topic.
    #[test]
    fn what_a_service_says_is_no_longer_than_a_sentence() {
        let failed = Outcome::Failed { reason: "ä".repeat(1_000_000) };
        let problem = not_refused(&failed, &SERVICE_NOT_FOUND).expect_err("failed");
        assert_eq!(problem.detail.len(), WORDS_BYTES_MAX);
    }

    #[test]
    fn a_refusal_is_a_problem_that_says_why() {
        let code =
            |outcome: Outcome| not_refused(&outcome, &SERVICE_NOT_FOUND).expect_err("refused").kind.code;
        let refused = |why| Outcome::Refused { why, reason: "r".to_owned() };
        assert_eq!(code(refused(Refusal::BadSignature)), "service_refused");
        assert_eq!(code(refused(Refusal::NotUnderstood)), "invalid");
        assert_eq!(code(Outcome::NotFound { reason: "r".to_owned() }), "service_not_found");
        assert_eq!(code(Outcome::Failed { reason: "r".to_owned() }), "service_failed");
        assert!(not_refused(&Outcome::Planned { redrives: Vec::new() }, &SERVICE_NOT_FOUND).is_ok());
    }
}
