//! Every change that is made by HTTP is an event on the topic `_courant.audit`, before it is answered:
//! who, what, when, and what became of it.
//!
//! Where the log takes no events (its disk is full, say) a change such as the deletion of a topic must
//! still be possible: its event waits, in order and within a bound, and is written before the next one, or
//! a little while after the log takes events again.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use courant_core::headers;
use courant_log::Log;
use courant_log::batch::records::NewRecord;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use tracing::{debug, info, warn};
use uuid::Uuid;

use super::ApiState;
use super::guard::Caller;
use super::json::Json;
use super::limits::{AUDIT_DETAIL_BYTES_MAX, AUDIT_ERROR_BYTES_MAX, AUDIT_WAITING_MAX};
use super::own_topics;
use super::problem::{NOT_AUDITED, Problem};
use super::records::cloudevent::floor;
use crate::planted::{Defect, is_planted};

/// The topic of the events.
pub(crate) const AUDIT_TOPIC: &str = "_courant.audit";

/// What publishing is called in an account.
pub(crate) const PUBLISH: &str = "event.publish";

/// Says in an answer where the event of the change is: its offset, or that it waits.
pub(super) const AUDIT_HEADER: &str = "courant-audit";

/// Events that are written together: they make a batch that is smaller than a topic's usual bound.
const BATCH_EVENTS_MAX: usize = 32;

/// A change that somebody asked for.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) caller: Caller,
    /// What is done, such as `topic.create`.
    pub(crate) action: &'static str,
    /// To what it is done: the name of a topic or a group.
    pub(crate) target: String,
    /// What exactly was asked for.
    pub(crate) detail: Value,
}

/// What a change has come to.
#[derive(Debug)]
pub(crate) struct Changed<T> {
    pub(crate) value: T,
    /// Offset of its event; `None` while that waits.
    pub(crate) audited: Option<u64>,
}

impl<T: Serialize> Changed<T> {
    /// The answer, which says where the event is.
    pub(crate) fn answer(self, status: StatusCode) -> Response {
        let mut response = (status, Json(self.value)).into_response();
        response.headers_mut().insert(AUDIT_HEADER, place(self.audited));
        response
    }
}

/// Where an event is, as the header of an answer says it.
pub(super) fn place(audited: Option<u64>) -> HeaderValue {
    audited.map_or(HeaderValue::from_static("waiting"), HeaderValue::from)
}

/// The events that wait, in order, and the turn of whoever writes them.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    waiting: Mutex<VecDeque<Waiting>>,
    /// What comes while one writes is written together by the next one.
    turn: tokio::sync::Mutex<()>,
}

/// An event that is not written yet.
#[derive(Debug)]
struct Waiting {
    event: NewRecord,
    /// Tells its offset.
    written: oneshot::Sender<u64>,
}

/// The payload of an event.
#[derive(Serialize)]
struct Account<'a> {
    id: &'a str,
    time: &'a str,
    time_ms: i64,
    who: Who<'a>,
    action: &'a str,
    target: &'a str,
    /// `done` or `failed`.
    result: &'a str,
    code: Option<&'a str>,
    error: Option<&'a str>,
    detail: &'a Value,
}

#[derive(Serialize)]
struct Who<'a> {
    /// `None`: no credential was asked for.
    name: Option<&'a str>,
    address: Option<String>,
}

impl ApiState {
    /// Makes a change and writes its event, in a task of its own: a client that goes away takes neither
    /// of them with it.
    pub(crate) async fn change<T: Send + 'static>(
        &self,
        change: Change,
        make: impl Future<Output = Result<T, Problem>> + Send + 'static,
    ) -> Result<Changed<T>, Problem> {
        self.change_in_part(change, make, |_| None).await
    }

    /// The same for a change that may be made in part. `missing` says what was not done, and with that its event
    /// tells of a failure.
    pub(crate) async fn change_in_part<T: Send + 'static>(
        &self,
        change: Change,
        make: impl Future<Output = Result<T, Problem>> + Send + 'static,
        missing: impl FnOnce(&T) -> Option<Problem> + Send + 'static,
    ) -> Result<Changed<T>, Problem> {
        let state = self.clone();
        let made = tokio::spawn(async move {
            state.audit().check_room()?;
            let made = make.await;
            let missing = made.as_ref().ok().and_then(missing);
            let event = event(&state, &change, made.as_ref().err().or(missing.as_ref()));
            let audited = state.audit().write(state.log()?, event).await;
            match made {
                Ok(value) => Ok(Changed { value, audited }),
                Err(problem) => Err(problem.audited_at(place(audited))),
            }
        });
        made.await.unwrap_or_else(|failure| Err(Problem::defect(&failure.to_string())))
    }
}

impl Audit {
    fn waiting(&self) -> MutexGuard<'_, VecDeque<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes that could not be audited are not made.
    fn check_room(&self) -> Result<(), Problem> {
        let waiting = self.waiting().len();
        if waiting < AUDIT_WAITING_MAX {
            return Ok(());
        }
        let sentence = format!(
            "{waiting} audit events wait because the log takes none; make room on the disk, or restart \
             the server if GET /api/v1/health says that the log is read-only"
        );
        Err(Problem::new(&NOT_AUDITED, sentence))
    }

    /// Writes what waits, and then this. `None`: it waits now too.
    async fn write(&self, log: &Log, event: NewRecord) -> Option<u64> {
        if is_planted(Defect::Unaudited) {
            return None;
        }
        let (written, mut told) = oneshot::channel();
        self.waiting().push_back(Waiting { event, written });
        let _turn = tokio::select! {
            biased;
            // Somebody has taken it along.
            offset = &mut told => return offset.ok(),
            turn = self.turn.lock() => turn,
        };
        loop {
            match told.try_recv() {
                Ok(offset) => return Some(offset),
                Err(TryRecvError::Closed) => return None,
                Err(TryRecvError::Empty) => {}
            }
            if !self.write_some(log).await {
                return None;
            }
        }
    }

    /// Writes what waits, if anything does.
    pub(super) async fn catch_up(&self, log: &Log) {
        let _turn = self.turn.lock().await;
        while self.write_some(log).await {}
    }

    /// Writes the events that have waited longest; whoever calls it has the turn. False: none waits, or the
    /// log takes none.
    async fn write_some(&self, log: &Log) -> bool {
        let batch: Vec<_> =
            self.waiting().iter().take(BATCH_EVENTS_MAX).map(|waiting| waiting.event.clone()).collect();
        if batch.is_empty() {
            return false;
        }
        match append(log, &batch).await {
            Ok(base_offset) => {
                let written: Vec<_> = self.waiting().drain(..batch.len()).collect();
                for (offset, Waiting { written, .. }) in (base_offset..).zip(written) {
                    // Who waited for it may have gone.
                    let _ = written.send(offset);
                }
                true
            }
            Err(problem) => {
                let waiting = self.waiting().len();
                warn!(waiting, "audit events wait: {}", problem.detail);
                false
            }
        }
    }
}

/// The event of a change. The server's own log has a line for it as well, but for what was published.
fn event(state: &ApiState, change: &Change, failure: Option<&Problem>) -> NewRecord {
    let Change { caller, action, target, detail } = change;
    let name = caller.name.as_deref();
    let result = if failure.is_none() { "done" } else { "failed" };
    let who = name.unwrap_or("anybody");
    let (address, on) = (&caller.address, target.as_str());
    // Whoever publishes by HTTP does so all day, and the events themselves tell of it.
    if *action == PUBLISH && failure.is_none() {
        debug!(who, ?address, action = *action, on, result, "by HTTP");
    } else {
        info!(who, ?address, action = *action, on, result, "by HTTP");
    }
    let time_ms = state.now_ms();
    let time = jiff::Timestamp::from_millisecond(time_ms).map(|time| time.to_string());
    let (id, time) = (Uuid::now_v7().to_string(), time.unwrap_or_default());
    let kept = kept(detail);
    let account = Account {
        id: &id,
        time: &time,
        time_ms,
        who: Who { name, address: caller.address.map(|address| address.to_string()) },
        action,
        target,
        result,
        code: failure.map(|problem| problem.kind.code),
        error: failure.map(|problem| shortened(&problem.detail)),
        detail: kept.as_ref().unwrap_or(detail),
    };
    // Texts, numbers and what was JSON before: nothing of it can fail to be written.
    let value = serde_json::to_vec(&account).unwrap_or_default();
    let source = state.log().map_or_else(|_| "/courant".to_owned(), |log| format!("/courant/{}", log.id()));
    let what = if failure.is_none() { "courant.change-made" } else { "courant.change-failed" };
    let header =
        |name: &'static str, value: String| (Bytes::from_static(name.as_bytes()), Some(value.into()));
    NewRecord {
        timestamp: time_ms,
        key: Some(target.clone().into()),
        value: Some(value.into()),
        headers: vec![
            header(headers::ID, id.clone()),
            header(headers::SOURCE, source),
            header(headers::SPECVERSION, headers::SPECVERSION_VALUE.to_owned()),
            header(headers::TYPE, what.to_owned()),
            header(headers::TIME, time.clone()),
            header(headers::SUBJECT, target.clone()),
            header(headers::CONTENT_TYPE, "application/json".to_owned()),
        ],
    }
}

/// What stands in the place of a detail that is too long: its longest members are left out, and no more of them than
/// have to be. Who adds something long to a request does not hide by it what was done.
fn kept(detail: &Value) -> Option<Value> {
    let mut bytes = detail.to_string().len();
    if bytes <= AUDIT_DETAIL_BYTES_MAX {
        return None;
    }
    let Value::Object(members) = detail else { return Some(json!({ "omitted_bytes": bytes })) };
    let mut lengths: Vec<_> = members.iter().map(|(name, value)| (value.to_string().len(), name)).collect();
    lengths.sort_unstable();
    let mut kept = members.clone();
    for (long, name) in lengths.into_iter().rev() {
        if bytes <= AUDIT_DETAIL_BYTES_MAX {
            break;
        }
        let omitted = json!({ "omitted_bytes": long });
        bytes = bytes.saturating_sub(long).saturating_add(omitted.to_string().len());
        kept.insert(name.clone(), omitted);
    }
    Some(Value::Object(kept))
}

/// As much of a sentence as the account has room for.
fn shortened(sentence: &str) -> &str {
    &sentence[..floor(sentence, AUDIT_ERROR_BYTES_MAX)]
}

async fn append(log: &Log, events: &[NewRecord]) -> Result<u64, Problem> {
    let partition = own_topics::partition(log, AUDIT_TOPIC, &[]).await?;
    own_topics::append(log, partition, events).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use courant_kafka::{Broker, KafkaConfig, KafkaServer};
    use courant_log::batch::records::decode;
    use courant_log::storage::MemoryStorage;
    use courant_log::{LogConfig, SystemClock, SystemEntropy};
    use futures_util::future::join_all;
    use std::sync::Arc;
    use tokio::net::TcpListener;

    use crate::api::ApiSettings;
    use crate::api::problem::INVALID;
    use crate::api::shares::ApiLimits;
    use crate::http::Status;

    fn log() -> Log {
        let mut config = LogConfig::new(Arc::new(SystemClock), Arc::new(SystemEntropy));
        config.reserve_bytes = 0;
        Log::open(Arc::new(MemoryStorage::new(64 * 1024 * 1024)), config).expect("opens").0
    }

    fn numbered(number: usize) -> NewRecord {
        NewRecord { timestamp: 7, value: Some(number.to_string().into()), ..NewRecord::default() }
    }

    /// An event for which nobody waits any more.
    fn left(number: usize) -> Waiting {
        Waiting { event: numbered(number), written: oneshot::channel().0 }
    }

    #[tokio::test]
    async fn what_waits_is_written_first_and_in_order() {
        let (audit, log) = (Audit::default(), log());
        audit.waiting().extend((0..70).map(left));
        assert_eq!(audit.write(&log, numbered(70)).await, Some(70));
        assert_eq!(audit.write(&log, numbered(71)).await, Some(71));
        let expected: Vec<Bytes> = (0..72).map(|number| number.to_string().into()).collect();
        assert_eq!(written(&log, 72), expected);
    }

    /// The values of so many events of the topic, or of some more.
    fn written(log: &Log, count: usize) -> Vec<Bytes> {
        let topic = log.catalog().by_name(AUDIT_TOPIC).cloned().expect("it was made");
        let mut found = Vec::new();
        while found.len() < count {
            let read = log.read(topic.partitions[0], found.len() as u64, 1, true).expect("readable");
            found.extend(decode(&read.bytes, 1_000_000).expect("a batch"));
        }
        found.into_iter().map(|record| record.value.expect("a value")).collect()
    }

    /// Symptom: of events of which some were not stored, the account said that all were published; and whoever was told
    /// of a failure was not told where its event is. Cause: that something is missing was known to the answer alone,
    /// and a problem had no place for the header. Fix: the change says what is missing, and a problem has it.
    #[tokio::test]
    async fn what_was_made_in_part_has_failed_and_every_answer_says_where_its_event_is() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let log = log();
        let broker = Arc::new(Broker::new(log.clone(), KafkaConfig::default()));
        let kafka = KafkaServer::start(broker, vec![listener]);
        let status = Arc::new(Status::default());
        status.serving(&kafka);
        let state = ApiState::new(status, ApiSettings::default(), 2, ApiLimits::default());
        let change = |target: &str| Change {
            caller: Caller::default(),
            action: PUBLISH,
            target: target.to_owned(),
            detail: json!({}),
        };

        let whole = state.change(change("whole"), async { Ok(2) }).await.expect("made");
        assert_eq!((whole.value, whole.audited), (2, Some(0)));
        let missing = |made: &i32| (*made < 2).then(|| Problem::new(&INVALID, "one is missing"));
        let part = state.change_in_part(change("part"), async { Ok(1) }, missing).await.expect("made");
        assert_eq!((part.value, part.audited), (1, Some(1)));
        let none = async { Err::<i32, _>(Problem::new(&INVALID, "nothing was made")) };
        let none = state.change(change("none"), none).await.expect_err("failed").into_response();
        assert_eq!(none.headers()[AUDIT_HEADER], "2");

        let results: Vec<_> = written(&log, 3)
            .iter()
            .map(|account| {
                let account: Value = serde_json::from_slice(account).expect("JSON");
                (account["target"].clone(), account["result"].clone(), account["error"].clone())
            })
            .collect();
        let expected = [
            (json!("whole"), json!("done"), Value::Null),
            (json!("part"), json!("failed"), json!("one is missing")),
            (json!("none"), json!("failed"), json!("nothing was made")),
        ];
        assert_eq!(results, expected);
    }

    #[tokio::test]
    async fn what_cannot_be_written_waits_and_then_no_more_is_changed() {
        let (audit, log) = (Audit::default(), log());
        log.stop();
        assert_eq!(audit.write(&log, numbered(0)).await, None);
        assert_eq!(audit.waiting().len(), 1);
        audit.check_room().expect("there is room for more");
        audit.waiting().extend((1..AUDIT_WAITING_MAX).map(left));
        assert_eq!(audit.check_room().expect_err("no room").kind.code, "not_audited");
    }

    #[tokio::test]
    async fn what_comes_at_one_time_is_written_together_and_each_is_told_its_place() {
        let (audit, log) = (Audit::default(), log());
        // Until all of them have come, somebody else writes.
        let turn = audit.turn.lock().await;
        let writes = join_all((0..50).map(|number| audit.write(&log, numbered(number))));
        let (offsets, ()) = tokio::join!(writes, async move { drop(turn) });
        assert_eq!(offsets, (0_u64..50).map(Some).collect::<Vec<_>>());
        let appends = log.metrics().appends;
        assert!(appends <= 2, "{appends} batches");
    }

    #[tokio::test]
    async fn what_waits_is_also_written_when_nothing_more_is_changed() {
        let (audit, log) = (Audit::default(), log());
        audit.waiting().extend((0..40).map(left));
        audit.catch_up(&log).await;
        assert!(audit.waiting().is_empty());
        assert_eq!(log.metrics().appended_events, 40);
    }

    #[test]
    fn a_long_detail_is_left_out_and_says_so() {
        assert_eq!(kept(&json!({ "configs": {} })), None);
        let long = json!("x".repeat(AUDIT_DETAIL_BYTES_MAX));
        assert_eq!(kept(&long), Some(json!({ "omitted_bytes": AUDIT_DETAIL_BYTES_MAX + 2 })));
        // Symptom: an edit with one long name of a header was audited without its letter and its reason. Cause: a
        // long detail was left out whole. Fix: its longest members are.
        let edit = |name: &str| json!({ "letter": 7, "reason": "a typo", "headers": [name], "by": "anna" });
        assert_eq!(kept(&edit("h")), None);
        let shown = kept(&edit(&"h".repeat(AUDIT_DETAIL_BYTES_MAX))).expect("it is too long");
        assert_eq!(shown["headers"], json!({ "omitted_bytes": AUDIT_DETAIL_BYTES_MAX + 4 }));
        assert_eq!(
            (&shown["letter"], &shown["reason"], &shown["by"]),
            (&json!(7), &json!("a typo"), &json!("anna"))
        );
        let both = json!({ "a": "x".repeat(AUDIT_DETAIL_BYTES_MAX), "b": "x".repeat(AUDIT_DETAIL_BYTES_MAX), "c": 1 });
        let shown = kept(&both).expect("it is too long").to_string();
        assert!(shown.len() < 100 && shown.contains("\"c\":1"), "{shown}");
        assert_eq!(shortened("it is full"), "it is full");
        let long = "ä".repeat(AUDIT_ERROR_BYTES_MAX);
        assert_eq!(shortened(&long).len(), AUDIT_ERROR_BYTES_MAX);
    }
}
