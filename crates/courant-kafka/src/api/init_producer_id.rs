//! InitProducerId (key 22): a number for an idempotent producer (KIP-98).
//!
//! A producer that already has one and lost its place in a sequence asks again and gets a fresh
//! one (KIP-360); only transactions would need more.

use std::sync::Arc;

use courant_log::WriterError;
use tokio::sync::oneshot;

use super::Answered;
use crate::broker::Caller;
use crate::budget::Grant;
use crate::wire::ErrorCode;
use crate::wire::messages::{InitProducerIdRequest, InitProducerIdResponse};

/// Takes a producer id for InitProducerId.
pub(super) async fn begin(caller: Arc<Caller>, request: InitProducerIdRequest) -> InitProducerIdResponse {
    if request.transactional_id.is_some() {
        super::warn_of_transactions(&caller);
        // Final for Java and librdkafka: the producer fails at once instead of trying for ever.
        return refused(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
    }
    let (done, allocated) = oneshot::channel();
    caller.log().allocate_producer_id(move |result| {
        // The client may have gone; ids are not scarce.
        let _ = done.send(result);
    });
    match allocated.await.unwrap_or(Err(WriterError::Stopped)) {
        Ok(producer_id) => {
            InitProducerIdResponse { producer_id, producer_epoch: 0, ..InitProducerIdResponse::default() }
        }
        Err(error) => {
            let line = format_args!("no producer id could be given: {error}");
            caller.broker.lines.producer_ids.warn(caller.peer, line);
            // Clients try again on this one.
            refused(ErrorCode::COORDINATOR_NOT_AVAILABLE)
        }
    }
}

/// The answer is a few numbers, and takes no memory worth counting.
pub(super) async fn answer(
    _caller: Arc<Caller>,
    response: InitProducerIdResponse,
) -> Answered<InitProducerIdResponse> {
    Ok((response, Grant::default()))
}

fn refused(code: ErrorCode) -> InitProducerIdResponse {
    InitProducerIdResponse {
        error_code: code.0,
        producer_id: -1,
        producer_epoch: -1,
        ..InitProducerIdResponse::default()
    }
}
