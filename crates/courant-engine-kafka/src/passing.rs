//! Errors that pass by themselves: a cluster has just made a topic, moves a partition, or loads a group.

use std::thread;
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaResult, RDKafkaErrorCode};

use crate::limits::PASSING_PAUSE;
use crate::texts;

/// Whether a code says only that somebody else has to be asked, or the same one later.
pub(crate) fn passes(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::LeaderNotAvailable
            | RDKafkaErrorCode::NotLeaderForPartition
            | RDKafkaErrorCode::ReplicaNotAvailable
            | RDKafkaErrorCode::FencedLeaderEpoch
            | RDKafkaErrorCode::UnknownLeaderEpoch
            | RDKafkaErrorCode::OffsetNotAvailable
            | RDKafkaErrorCode::CoordinatorLoadInProgress
            | RDKafkaErrorCode::CoordinatorNotAvailable
            | RDKafkaErrorCode::NotCoordinator
            | RDKafkaErrorCode::WaitingForCoordinator
            | RDKafkaErrorCode::RebalanceInProgress
    )
}

/// Asks until the answer is not one that passes; the last one, when `within` is over. Waits on its thread.
pub(crate) fn until_passed<T>(within: Duration, mut ask: impl FnMut() -> KafkaResult<T>) -> KafkaResult<T> {
    let deadline = Instant::now() + within;
    loop {
        match ask() {
            Err(error) if texts::code(&error).is_some_and(passes) && Instant::now() < deadline => {
                thread::sleep(PASSING_PAUSE);
            }
            answered => return answered,
        }
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::error::KafkaError;

    use super::*;

    #[test]
    fn what_passes_is_asked_again_and_nothing_else() {
        let mut left = vec![
            Ok(7),
            Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::CoordinatorLoadInProgress)),
            Err(KafkaError::MetadataFetch(RDKafkaErrorCode::LeaderNotAvailable)),
        ];
        let found = until_passed(Duration::from_secs(60), || left.pop().expect("asked three times"));
        assert_eq!(found, Ok(7));
        let refused = KafkaError::ConsumerCommit(RDKafkaErrorCode::GroupAuthorizationFailed);
        let mut asked = 0;
        let found = until_passed::<()>(Duration::from_secs(60), || {
            asked += 1;
            Err(refused.clone())
        });
        assert_eq!((found, asked), (Err(refused), 1));
    }

    #[test]
    fn what_does_not_pass_in_time_is_the_answer() {
        let moving = KafkaError::MetadataFetch(RDKafkaErrorCode::NotCoordinator);
        let found = until_passed::<()>(Duration::ZERO, || Err(moving.clone()));
        assert_eq!(found, Err(moving));
    }
}
