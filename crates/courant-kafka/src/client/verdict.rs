//! What a server's answer to a Produce says about the batches in it.

use super::{AdminError, CallError, PublishError, Refusal};
use crate::wire::ErrorCode;
use crate::wire::messages::{PartitionProduceResponse, ProduceResponse};

/// What became of the first batch of a partition.
pub(super) enum Verdict {
    Stored { base_offset: i64 },
    TooLarge(Refusal),
    Retry(Refusal),
    Refused(Refusal),
}

/// The answers of a Produce, if each partition that was asked for has exactly one: a second one
/// would acknowledge a batch that was never sent.
pub(super) fn answers(
    asked: impl Iterator<Item = i32>,
    response: ProduceResponse,
) -> Option<Vec<PartitionProduceResponse>> {
    let answers: Vec<PartitionProduceResponse> =
        response.responses.into_iter().flat_map(|topic| topic.partition_responses).collect();
    let mut asked: Vec<i32> = asked.collect();
    let mut answered: Vec<i32> = answers.iter().map(|answer| answer.index).collect();
    asked.sort_unstable();
    answered.sort_unstable();
    (asked == answered).then_some(answers)
}

/// Whether the server may have got a Produce that ended in this error.
pub(super) fn may_have_arrived(error: &PublishError) -> bool {
    !matches!(
        error,
        PublishError::Encode(_)
            | PublishError::Admin(AdminError::Call(
                CallError::Unreachable { .. }
                    | CallError::AdvertisedUnreachable { .. }
                    | CallError::Unsupported { .. }
                    | CallError::Unwritable { .. }
            ))
    )
}

/// Whether a server says so also when it has written the batch, or may have.
pub(super) fn is_after_append(code: ErrorCode) -> bool {
    [
        ErrorCode::REQUEST_TIMED_OUT,
        ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        ErrorCode::KAFKA_STORAGE_ERROR,
    ]
    .contains(&code)
}

/// Reads the answer for one partition.
pub(super) fn verdict(answer: &PartitionProduceResponse) -> Verdict {
    let code = ErrorCode(answer.error_code);
    let refusal = || Refusal::new(answer.error_code, answer.error_message.clone());
    if code == ErrorCode::NONE {
        Verdict::Stored { base_offset: answer.base_offset }
    } else if code == ErrorCode::DUPLICATE_SEQUENCE_NUMBER {
        // Stored by an attempt whose answer was lost, so long ago that the server forgot where.
        Verdict::Stored { base_offset: -1 }
    } else if code == ErrorCode::MESSAGE_TOO_LARGE || code == ErrorCode::RECORD_LIST_TOO_LARGE {
        Verdict::TooLarge(refusal())
    } else if code.is_retriable() {
        Verdict::Retry(refusal())
    } else {
        Verdict::Refused(refusal())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::messages::TopicProduceResponse;

    #[test]
    fn each_partition_must_be_answered_once() {
        let answered = |partitions: &[i32]| {
            let topic = TopicProduceResponse {
                partition_responses: partitions
                    .iter()
                    .map(|index| PartitionProduceResponse {
                        index: *index,
                        ..PartitionProduceResponse::default()
                    })
                    .collect(),
                ..TopicProduceResponse::default()
            };
            let response = ProduceResponse { responses: vec![topic], ..ProduceResponse::default() };
            answers([0, 1].into_iter(), response).is_some()
        };
        assert!(answered(&[1, 0]));
        assert!(!answered(&[0, 0]));
        assert!(!answered(&[0]));
        assert!(!answered(&[0, 1, 1]));
    }

    #[test]
    fn verdicts() {
        let answer = |code: ErrorCode| PartitionProduceResponse {
            error_code: code.0,
            base_offset: 7,
            ..PartitionProduceResponse::default()
        };
        assert!(matches!(verdict(&answer(ErrorCode::NONE)), Verdict::Stored { base_offset: 7 }));
        assert!(matches!(
            verdict(&answer(ErrorCode::DUPLICATE_SEQUENCE_NUMBER)),
            Verdict::Stored { base_offset: -1 }
        ));
        assert!(matches!(verdict(&answer(ErrorCode::MESSAGE_TOO_LARGE)), Verdict::TooLarge(_)));
        assert!(matches!(verdict(&answer(ErrorCode::KAFKA_STORAGE_ERROR)), Verdict::Retry(_)));
        assert!(matches!(verdict(&answer(ErrorCode::INVALID_RECORD)), Verdict::Refused(_)));
    }
}
