//! From a request to its answer: one file per API, named as Kafka names it.
//!
//! When a request is worked on, and what that means for the requests behind it on the same
//! connection:
//!
//! | | works | answers |
//! |---|---|---|
//! | Produce | at once, into the log, in the order of arrival | when the log has it on disk |
//! | Metadata, InitProducerId, everything that creates, alters or deletes topics, partitions, configs and records | changes the log before the next request is read | at its turn |
//! | Fetch, ListOffsets, OffsetFetch, everything about groups | when every earlier answer is known, so that they see what was produced before | then |
//! | FindCoordinator, OffsetForLeaderEpoch, every Describe | at its turn | then |
//! | ApiVersions | at once | at its turn |
//!
//! A request holds its share of the memory for requests until its answer is known, and as much of it until that
//! is written as the answer has no share of its own for. An answer above [`limits::SMALL_ANSWER_BYTES`] that is not
//! as long as its request is made when its share of the memory for answers is there.

mod alter_configs;
mod api_versions;
mod broker_config;
mod config_changes;
#[cfg(test)]
mod counts;
mod create_partitions;
mod create_topics;
mod delete_groups;
mod delete_records;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_log_dirs;
mod describe_producers;
mod describe_topic_partitions;
mod fetch;
mod find_coordinator;
mod heartbeat;
mod incremental_alter_configs;
mod init_producer_id;
mod join_group;
mod leave_group;
mod list_groups;
mod list_offsets;
mod metadata;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod operations;
mod pending;
mod produce;
mod refused;
mod reply;
mod sync_group;
mod tally;
mod target;
mod traces;

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

pub(crate) use self::fetch::SessionCache as FetchSessions;
pub(crate) use self::pending::Pending;
use self::pending::Produced;
pub(crate) use self::produce::can_wait;
pub(crate) use self::reply::Reply;
use self::reply::memory_for;
use crate::broker::Caller;
use crate::budget::Grant;
use crate::limits;
use crate::wire::messages::{
    ApiVersionsRequest, CreateTopicsRequest, DeleteTopicsRequest, FetchRequest, FindCoordinatorRequest,
    InitProducerIdRequest, ListOffsetsRequest, MetadataRequest, ProduceRequest,
};
use crate::wire::{
    ApiKey, ErrorCode, Reader, Request, RequestHeader, Response, WireError, decode_request, encode_response,
    range_of,
};

/// What a client is told that wants a transaction.
const NO_TRANSACTIONS: &str = "transactions are not served yet";

/// Tells the log of such a client, which may ask again and again.
fn warn_of_transactions(caller: &Caller) {
    let line = format_args!("a client wants transactions: {NO_TRANSACTIONS}");
    caller.broker.lines.transactions.warn(caller.peer, line);
}

/// Work that ends in an answer.
pub(crate) type Work = Pin<Box<dyn Future<Output = Result<Reply, Refusal>> + Send>>;

/// A response, not encoded yet, and its share of the memory for answers.
type Answered<R> = Result<(R, Grant), Refusal>;

/// Why a request gets no answer but a closed connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("a request has no readable header: {0}")]
    Header(#[source] WireError),
    #[error("a request is for {key}, which is not served")]
    UnknownApi { key: ApiKey },
    #[error("a request is for version {version} of {key}; {min} to {max} are served{}", too_old(.version, .min))]
    Version { key: ApiKey, version: i16, min: i16, max: i16 },
    #[error("a request for version {version} of {key} is malformed: {source}")]
    Malformed { key: ApiKey, version: i16, source: WireError },
    #[error("a Produce with acks=0 failed with {code}: {message}")]
    Unanswered { code: ErrorCode, message: String },
    #[error("what the requests and answers of all connections become exceeds the memory set aside for it")]
    Overload,
    #[error("the log is gone")]
    LogGone,
    #[error("version {version} of the answer to {key} cannot be written, which is a defect: {source}")]
    Encode { key: ApiKey, version: i16, source: WireError },
}

/// What to do about a version that is not served any more.
fn too_old(version: &i16, min: &i16) -> &'static str {
    if version < min {
        ": the client is too old, or is told to speak to an old server; take a newer one, or its defaults"
    } else {
        ""
    }
}

/// Reads one request and starts what answers it.
///
/// A Produce has been handed to the log when this returns; whoever calls this wakes the committer when nothing
/// more is at hand. Where the connection `is_alone` with this request, it may have waited for the disk.
pub(crate) fn dispatch(
    caller: &Arc<Caller>,
    frame: Bytes,
    shares: Shares,
    is_alone: bool,
) -> Result<Pending, Refusal> {
    let frame_bytes = frame.len();
    caller.broker.counters.request(frame_bytes);
    let mut reader = Reader::bounded(frame, limits::ELEMENTS_MAX);
    let header = RequestHeader::parse(&mut reader).map_err(Refusal::Header)?;
    let key = header.api_key;
    let range = range_of(key).ok_or(Refusal::UnknownApi { key })?;
    let mut call = Call {
        caller: Arc::clone(caller),
        version: header.api_version,
        correlation_id: header.correlation_id,
        client_id: header.client_id.unwrap_or_default(),
        frame_bytes,
        elements: 0,
        grant: shares.memory,
        uncounted: Grant::default(),
        in_flight: shares.in_flight,
        is_alone,
    };
    if !range.serves(header.api_version) {
        if key == ApiKey::API_VERSIONS {
            call.version = 0;
            let reply = call.reply(&api_versions::of_the_future())?;
            return Ok(Pending::Ready(reply.covered(Grant::default(), call.grant)));
        }
        return Err(Refusal::Version { key, version: header.api_version, min: range.min, max: range.max });
    }
    call.start(key, reader)
}

/// What a frame takes of what there is for all.
#[derive(Debug)]
pub(crate) struct Shares {
    /// Covers the frame.
    pub(crate) memory: Grant,
    /// Its share of what the connection may have with the log.
    pub(crate) in_flight: Grant,
}

/// One request, as far as its answer has to know it.
#[derive(Debug)]
struct Call {
    caller: Arc<Caller>,
    version: i16,
    correlation_id: i32,
    /// What the client calls itself.
    client_id: String,
    frame_bytes: usize,
    /// Elements of the arrays in the body.
    elements: usize,
    /// Covers the frame and what its elements become.
    grant: Grant,
    /// Covers its elements where that does not.
    uncounted: Grant,
    /// Held until a Produce is with the log no more, and by all else until it is answered.
    in_flight: Grant,
    /// Nothing else of the connection is under way.
    is_alone: bool,
}

impl Call {
    fn start(mut self, key: ApiKey, reader: Reader) -> Result<Pending, Refusal> {
        let version = self.version;
        let caller = Arc::clone(&self.caller);
        Ok(match key {
            ApiKey::PRODUCE => return self.produce(reader),
            ApiKey::JOIN_GROUP
            | ApiKey::SYNC_GROUP
            | ApiKey::HEARTBEAT
            | ApiKey::LEAVE_GROUP
            | ApiKey::OFFSET_COMMIT
            | ApiKey::OFFSET_FETCH
            | ApiKey::LIST_GROUPS
            | ApiKey::DESCRIBE_GROUPS
            | ApiKey::DELETE_GROUPS
            | ApiKey::OFFSET_DELETE => return self.about_groups(key, reader),
            ApiKey::CREATE_PARTITIONS
            | ApiKey::DELETE_RECORDS
            | ApiKey::ALTER_CONFIGS
            | ApiKey::INCREMENTAL_ALTER_CONFIGS
            | ApiKey::DESCRIBE_CONFIGS
            | ApiKey::DESCRIBE_CLUSTER
            | ApiKey::DESCRIBE_LOG_DIRS
            | ApiKey::DESCRIBE_TOPIC_PARTITIONS
            | ApiKey::DESCRIBE_PRODUCERS
            | ApiKey::OFFSET_FOR_LEADER_EPOCH => return self.about_administration(key, reader),
            ApiKey::FETCH => {
                let request: FetchRequest = self.body(reader)?;
                Pending::Turn(self.turn(fetch::answer(caller, request, version)))
            }
            ApiKey::LIST_OFFSETS => {
                let request: ListOffsetsRequest = self.body(reader)?;
                Pending::Turn(self.turn(list_offsets::answer(caller, request)))
            }
            ApiKey::FIND_COORDINATOR => {
                let request: FindCoordinatorRequest = self.body(reader)?;
                Pending::Turn(self.turn(find_coordinator::answer(caller, request, version)))
            }
            ApiKey::METADATA => {
                let request: MetadataRequest = self.body(reader)?;
                self.now(metadata::begin(caller, request, version), metadata::answer)
            }
            ApiKey::CREATE_TOPICS => {
                let request: CreateTopicsRequest = self.body(reader)?;
                self.now(create_topics::begin(caller, request), create_topics::answer)
            }
            ApiKey::DELETE_TOPICS => {
                let request: DeleteTopicsRequest = self.body(reader)?;
                self.now(delete_topics::begin(caller, request, version), delete_topics::answer)
            }
            ApiKey::INIT_PRODUCER_ID => {
                let request: InitProducerIdRequest = self.body(reader)?;
                self.now(init_producer_id::begin(caller, request), init_producer_id::answer)
            }
            ApiKey::API_VERSIONS => {
                let request: ApiVersionsRequest = self.body(reader)?;
                let reply = self.reply(&api_versions::handle(&caller, &request, version))?;
                Pending::Ready(reply.covered(Grant::default(), self.grant))
            }
            _ => return Err(Refusal::UnknownApi { key }),
        })
    }

    /// A request about consumer groups, worked on at its turn.
    fn about_groups(mut self, key: ApiKey, reader: Reader) -> Result<Pending, Refusal> {
        let version = self.version;
        let caller = Arc::clone(&self.caller);
        Ok(Pending::Turn(match key {
            ApiKey::JOIN_GROUP => {
                let request = self.body(reader)?;
                let client_id = std::mem::take(&mut self.client_id);
                self.turn(join_group::answer(caller, request, client_id, version))
            }
            ApiKey::SYNC_GROUP => {
                let request = self.body(reader)?;
                self.turn(sync_group::answer(caller, request))
            }
            ApiKey::HEARTBEAT => {
                let request = self.body(reader)?;
                self.turn(heartbeat::answer(caller, request))
            }
            ApiKey::LEAVE_GROUP => {
                let request = self.body(reader)?;
                self.turn(leave_group::answer(caller, request, version))
            }
            ApiKey::OFFSET_COMMIT => {
                let request = self.body(reader)?;
                self.turn(offset_commit::answer(caller, request))
            }
            ApiKey::OFFSET_FETCH => {
                let request = self.body(reader)?;
                self.turn(offset_fetch::answer(caller, request, version))
            }
            ApiKey::LIST_GROUPS => {
                let request = self.body(reader)?;
                self.turn(list_groups::answer(caller, request))
            }
            ApiKey::DESCRIBE_GROUPS => {
                let request = self.body(reader)?;
                self.turn(describe_groups::answer(caller, request, version))
            }
            ApiKey::DELETE_GROUPS => {
                let request = self.body(reader)?;
                self.turn(delete_groups::answer(caller, request))
            }
            ApiKey::OFFSET_DELETE => {
                let request = self.body(reader)?;
                self.turn(offset_delete::answer(caller, request))
            }
            _ => return Err(Refusal::UnknownApi { key }),
        }))
    }

    /// A request of a tool that administers or looks on.
    fn about_administration(mut self, key: ApiKey, reader: Reader) -> Result<Pending, Refusal> {
        let caller = Arc::clone(&self.caller);
        Ok(match key {
            ApiKey::CREATE_PARTITIONS => {
                let request = self.body(reader)?;
                self.now(create_partitions::begin(caller, request), create_partitions::answer)
            }
            ApiKey::DELETE_RECORDS => {
                let request = self.body(reader)?;
                self.now(delete_records::begin(caller, request), delete_records::answer)
            }
            ApiKey::ALTER_CONFIGS => {
                let request = self.body(reader)?;
                self.now(alter_configs::begin(caller, request), alter_configs::answer)
            }
            ApiKey::INCREMENTAL_ALTER_CONFIGS => {
                let request = self.body(reader)?;
                self.now(incremental_alter_configs::begin(caller, request), incremental_alter_configs::answer)
            }
            ApiKey::DESCRIBE_CONFIGS => {
                let request = self.body(reader)?;
                Pending::Turn(self.turn(describe_configs::answer(caller, request)))
            }
            ApiKey::DESCRIBE_CLUSTER => {
                let request = self.body(reader)?;
                Pending::Turn(self.turn(describe_cluster::answer(caller, request)))
            }
            ApiKey::DESCRIBE_LOG_DIRS => {
                let request = self.body(reader)?;
                Pending::Turn(self.turn(describe_log_dirs::answer(caller, request)))
            }
            ApiKey::DESCRIBE_TOPIC_PARTITIONS => {
                let request = self.body(reader)?;
                Pending::Turn(self.turn(describe_topic_partitions::answer(caller, request)))
            }
            ApiKey::DESCRIBE_PRODUCERS => {
                let request = self.body(reader)?;
                Pending::Turn(self.turn(describe_producers::answer(caller, request)))
            }
            ApiKey::OFFSET_FOR_LEADER_EPOCH => {
                let request = self.body(reader)?;
                Pending::Turn(self.turn(offset_for_leader_epoch::answer(caller, request)))
            }
            _ => return Err(Refusal::UnknownApi { key }),
        })
    }

    fn produce(mut self, reader: Reader) -> Result<Pending, Refusal> {
        let request: ProduceRequest = self.body(reader)?;
        let answered = request.acks != 0;
        let is_small = self.is_small_and_counted();
        // What is not kept for the answer need not be counted with it.
        self.client_id = String::new();
        let names: usize = request.topic_data.iter().map(|topic| topic.name.len()).sum();
        // The log has the bytes until they are on disk, whether or not the client stays. The answer repeats the names,
        // and is there also when it has none.
        let memory = produce::Memory {
            answer_bytes: (self.elements * limits::ELEMENT_BYTES + names).max(1),
            grant: std::mem::take(&mut self.grant),
            in_flight: std::mem::take(&mut self.in_flight),
        };
        let submitted = produce::submit(&self.caller, request, self.version, memory, self.is_alone);
        let is_small = is_small && submitted.more_bytes <= limits::SMALL_PRODUCE_BYTES_MAX;
        Ok(Pending::Produced(Produced { results: submitted.results, answered, is_small, call: self }))
    }

    /// Whether this is one of the small Produces of which there may be many, and all that it takes is covered until its
    /// answer is written. Where others have all memory for requests, it is as any other request.
    fn is_small_and_counted(&mut self) -> bool {
        let bytes = self.frame_bytes + self.elements * limits::ELEMENT_BYTES;
        let budget = &self.caller.broker.request_budget;
        self.frame_bytes <= limits::SMALL_PRODUCE_BYTES_MAX && budget.try_cover(&mut self.grant, bytes)
    }

    /// A handler that runs at its turn, and the encoding of what it returns.
    fn turn<R: Response>(self, answer: impl Future<Output = Answered<R>> + Send + 'static) -> Work {
        Box::pin(async move {
            let (response, grant) = answer.await?;
            Ok(self.reply(&response)?.covered(grant, self.grant))
        })
    }

    /// A handler in two parts: the one that changes the log, and the one that makes the answer.
    #[expect(clippy::async_yields_async, reason = "what it yields is worked on later, at its turn")]
    fn now<P, R, F>(
        self,
        begun: impl Future<Output = P> + Send + 'static,
        answer: impl FnOnce(Arc<Caller>, P) -> F + Send + 'static,
    ) -> Pending
    where
        P: Send,
        R: Response,
        F: Future<Output = Answered<R>> + Send + 'static,
    {
        Pending::Now(Box::pin(async move {
            let caller = Arc::clone(&self.caller);
            self.turn(answer(caller, begun.await))
        }))
    }

    fn body<R: Request>(&mut self, mut reader: Reader) -> Result<R, Refusal> {
        let request = decode_request(&mut reader, self.version).map_err(|source| Refusal::Malformed {
            key: R::KEY,
            version: self.version,
            source,
        })?;
        self.elements = limits::ELEMENTS_MAX.saturating_sub(reader.elements_left());
        let more = self.elements * limits::ELEMENT_BYTES;
        if more <= limits::UNCOUNTED_ELEMENTS_BYTES {
            return Ok(request);
        }
        let budget = &self.caller.broker.request_budget;
        // What is small goes on when others have left no memory, a few at a time.
        let is_covered = budget.try_cover(&mut self.grant, self.frame_bytes + more)
            || self.caller.elements.try_more(&mut self.uncounted, more);
        if is_covered { Ok(request) } else { Err(Refusal::Overload) }
    }

    fn reply<R: Response>(&self, response: &R) -> Result<Reply, Refusal> {
        match encode_response(response, self.version, self.correlation_id) {
            Ok(pieces) => Ok(Reply::of(pieces)),
            Err(source) => Err(Refusal::Encode { key: R::KEY, version: self.version, source }),
        }
    }
}

/// A group needs a name, and one that can be stored.
fn check_group_id(group: &str) -> Result<(), ErrorCode> {
    match group.is_empty() || group.len() > limits::GROUP_TEXT_BYTES_MAX {
        true => Err(ErrorCode::INVALID_GROUP_ID),
        false => Ok(()),
    }
}

/// The same bytes, without what they were cut from.
fn copied(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_too_old_is_told_what_to_take() {
        let said = |version| Refusal::Version { key: ApiKey::PRODUCE, version, min: 3, max: 13 }.to_string();
        assert_eq!(
            said(1),
            "a request is for version 1 of Produce (0); 3 to 13 are served: the client is too old, or is told to \
             speak to an old server; take a newer one, or its defaults"
        );
        assert_eq!(said(14), "a request is for version 14 of Produce (0); 3 to 13 are served");
    }
}
