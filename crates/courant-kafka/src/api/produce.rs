//! Produce (key 0): batches into the log.
//!
//! Every batch is checked and handed to the log before this returns, in the order of the request;
//! the answer is complete when the last of them is on disk or refused. Partitions succeed and fail
//! each on their own: a Produce over several is not atomic.
//!
//! Versions: up to 12 topics are names, from 13 ids; zstd may come from 7 on; from 8 on an error
//! carries a sentence (KIP-467).

mod batch;
mod gather;

use bytes::Bytes;
use courant_log::{AppendError, Appended, Catalog, Topic, WriterError};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::oneshot;
use tokio::task::block_in_place;

use self::gather::Gather;
pub(super) use self::gather::Settled;
use super::tally::Tally;
use super::target::{self, Naming};
use super::traces;
use crate::broker::Caller;
use crate::budget::Grant;
use crate::limits;
use crate::wire::ErrorCode;
use crate::wire::messages::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceData,
    TopicProduceResponse,
};

/// The first version whose topics are ids.
const IDS_FROM: i16 = 13;
/// The first version in which zstd is allowed (KIP-110).
const ZSTD_FROM: i16 = 7;

/// Why one batch is not stored.
#[derive(Clone, Debug)]
struct Refused {
    code: ErrorCode,
    /// It stands in the answer for each partition, of which [`limits::ELEMENT_BYTES`] are counted: so it does not repeat
    /// the topic's name, which may have as many, and stands beside it.
    message: String,
    /// The records that are to blame, by their index in the batch; none: all of them.
    records: Vec<usize>,
    /// Offset of the partition's oldest event, where the client needs it to go on.
    log_start: Option<u64>,
}

impl Refused {
    fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), records: Vec::new(), log_start: None }
    }
}

/// The memory of a request, and how much of it the answer takes.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) grant: Grant,
    pub(super) answer_bytes: usize,
    /// Lets the connection read on once every batch is settled, also while an earlier answer is waited for.
    pub(super) in_flight: Grant,
}

/// A request whose batches the log has, or has not taken.
#[derive(Debug)]
pub(super) struct Submitted {
    /// Where its answer will arrive.
    pub(super) results: oneshot::Receiver<Settled>,
    /// What its batches, as they are stored, and its answer take beyond what was sent.
    pub(super) more_bytes: usize,
}

/// Hands all batches of a request to the log. With nothing else under way on the connection, a lone batch may be
/// committed on this thread. The committer has not been woken for the others.
pub(super) fn submit(
    caller: &Caller,
    request: ProduceRequest,
    version: i16,
    memory: Memory,
    is_alone: bool,
) -> Submitted {
    let (done, results) = oneshot::channel();
    let batches = request.topic_data.iter().map(|topic| topic.partition_data.len()).sum::<usize>();
    let catalog = caller.log().catalog();
    let mut submission = Submission {
        caller,
        version,
        may_wait: is_alone && batches == 1,
        naming: Naming::of(version, IDS_FROM),
        gather: Gather::new(skeleton(&request), memory, done),
        refusals: Tally::default(),
        more_bytes: 0,
    };
    let refused = check_request(&request);
    if let Some(refused) = &refused {
        submission.refusals.note(|| refused.message.clone());
    }
    for (t, data) in request.topic_data.into_iter().enumerate() {
        let topic = find(&catalog, submission.naming, &data);
        for (p, partition) in data.partition_data.into_iter().enumerate() {
            let at = (t, p);
            match (&refused, topic) {
                (Some(refused), _) => submission.gather.refuse(at, refused.clone()),
                (None, Ok(topic)) => submission.append(topic, partition, at),
                (None, Err(code)) => {
                    submission.gather.refuse(at, Refused::new(code, "there is no such topic"));
                }
            }
        }
    }
    submission.refusals.warn(caller, &caller.broker.lines.produces, "Produce refused");
    submission.gather.submitted();
    Submitted { results, more_bytes: submission.more_bytes }
}

/// What is wrong with the request as a whole.
fn check_request(request: &ProduceRequest) -> Option<Refused> {
    if !matches!(request.acks, -1..=1) {
        return Some(Refused::new(
            ErrorCode::INVALID_REQUIRED_ACKS,
            format!("acks is {}; it can be 0, 1 or -1 (all)", request.acks),
        ));
    }
    if request.transactional_id.is_some() {
        return Some(batch::transactional());
    }
    None
}

fn find<'a>(catalog: &'a Catalog, naming: Naming, data: &TopicProduceData) -> Result<&'a Topic, ErrorCode> {
    naming.topic(catalog, &data.name, &data.topic_id).map(|topic| &**topic)
}

/// A request on its way into the log.
#[derive(Debug)]
struct Submission<'a> {
    caller: &'a Caller,
    version: i16,
    /// Nobody is held up when this thread waits for the disk.
    may_wait: bool,
    naming: Naming,
    gather: Gather,
    refusals: Tally,
    more_bytes: usize,
}

impl Submission<'_> {
    fn append(&mut self, topic: &Topic, data: PartitionProduceData, at: (usize, usize)) {
        let partition = match target::partition(topic, data.index) {
            Ok(partition) => partition,
            Err(code) => {
                let message = format!("the topic has {} partitions", topic.partitions.len());
                return self.gather.refuse(at, Refused::new(code, message));
            }
        };
        let sent = data.records.as_ref().map_or(0, Bytes::len);
        let broker = &self.caller.broker;
        let budget = &broker.request_budget;
        let checked = batch::check(broker, topic, data.records, self.version, broker.now_ms());
        // Under the topic's codec it may be many times as large, and waits for the log as long.
        let checked = checked.and_then(|batch| {
            let more = batch.bytes().len().saturating_sub(sent);
            self.more_bytes = self.more_bytes.saturating_add(more);
            match self.gather.grow(budget, more) {
                true => Ok(batch),
                false => Err(no_memory()),
            }
        });
        match checked {
            Ok(batch) => {
                if batch.header().is_log_append_time() {
                    self.gather.at_time(at, batch.header().max_timestamp);
                }
                let done = self.gather.one_more();
                let naming = self.naming;
                let span = traces::append(&self.caller.broker, topic, data.index, &batch);
                let done = move |result: Result<Appended, AppendError>| {
                    traces::appended(span, &result);
                    match result {
                        Ok(appended) => done.stored(at, &appended),
                        Err(error) => done.refuse(at, from_append(&error, naming)),
                    }
                };
                let log = self.caller.log();
                if self.may_wait && log.is_alone() && can_wait() {
                    // Another thread goes on with what else is to be done here, heartbeats among it.
                    block_in_place(|| log.append_here(partition, batch, done));
                } else {
                    // More may have come with this one: whoever reads wakes the committer for all of it.
                    log.append_quietly(partition, batch, done);
                }
            }
            Err(mut refused) => {
                if !refused.records.is_empty() {
                    self.gather.name(budget, &mut refused.records);
                    self.more_bytes += refused.records.len() * limits::RECORD_ERROR_BYTES;
                }
                let place = format_args!("{}, partition {}", topic.name, data.index);
                self.refusals.note(|| format!("{place}: {}", refused.message));
                self.gather.refuse(at, refused);
            }
        }
    }
}

/// Whether the runtime has other threads that can take over what this one was about to do.
pub(crate) fn can_wait() -> bool {
    Handle::try_current().is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread)
}

/// What the client is told when a batch becomes larger than there is memory for. It may send it again.
fn no_memory() -> Refused {
    let message = "under the topic's compression.type the batch is larger, and requests of other clients have all \
                   memory for that: send it again";
    Refused::new(ErrorCode::REQUEST_TIMED_OUT, message)
}

/// What the client is told when the log does not take a batch.
fn from_append(error: &AppendError, naming: Naming) -> Refused {
    let code = match error {
        // The topic was deleted in the meantime.
        AppendError::UnknownPartition => naming.unknown(),
        // A gap: the client must send what is missing first, or give up.
        AppendError::OutOfOrderSequence { .. } => ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
        AppendError::StaleEpoch => ErrorCode::INVALID_PRODUCER_EPOCH,
        // Clients begin a new epoch, or take a new producer id, and go on.
        AppendError::UnknownProducer { .. } => ErrorCode::UNKNOWN_PRODUCER_ID,
        AppendError::TooLarge { .. } => ErrorCode::MESSAGE_TOO_LARGE,
        AppendError::Writer(WriterError::Busy) => ErrorCode::REQUEST_TIMED_OUT,
        // A full disk, and nothing was stored; or a writer that has ended, and the next start may find it. Clients try
        // again, and who is idempotent has it once.
        _ => ErrorCode::KAFKA_STORAGE_ERROR,
    };
    // Without the beginning of the log, Kafka's producer takes the partition for one that is moving: it sends the same
    // batch again and again, until its time is up.
    let log_start = match error {
        AppendError::UnknownProducer { log_start } => Some(*log_start),
        _ => None,
    };
    Refused { log_start, ..Refused::new(code, error.to_string()) }
}

/// The answer with every result still open.
fn skeleton(request: &ProduceRequest) -> ProduceResponse {
    let partition = |data: &PartitionProduceData| PartitionProduceResponse {
        index: data.index,
        error_code: ErrorCode::UNKNOWN_SERVER_ERROR.0,
        base_offset: -1,
        // A batch that keeps the time its producer gave it says so with -1.
        log_append_time_ms: -1,
        log_start_offset: -1,
        ..PartitionProduceResponse::default()
    };
    let topic = |data: &TopicProduceData| TopicProduceResponse {
        name: data.name.clone(),
        topic_id: data.topic_id,
        partition_responses: data.partition_data.iter().map(partition).collect(),
    };
    ProduceResponse {
        responses: request.topic_data.iter().map(topic).collect(),
        ..ProduceResponse::default()
    }
}

/// The first error in an answer. With acks=0 there is no answer, and an error closes the connection.
pub(super) fn first_error(response: &ProduceResponse) -> Option<(i16, String)> {
    response
        .responses
        .iter()
        .flat_map(|topic| &topic.partition_responses)
        .find(|partition| partition.error_code != ErrorCode::NONE.0)
        .map(|partition| {
            let message = partition.error_message.clone().unwrap_or_default();
            (partition.error_code, message)
        })
}
