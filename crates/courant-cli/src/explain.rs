//! What went wrong with the server, said to a person: what happened, what to change, and the exit
//! code that goes with it.

use crate::exit::{Exit, Failure};
use courant_kafka::client::{AdminError, CallError, ErrorCode, FetchError, PublishError, Refusal};

/// A request without an answer.
pub(crate) fn call(error: &CallError) -> Failure {
    match error {
        CallError::Unreachable { address, source } => Failure::new(
            Exit::Unreachable,
            format!(
                "nothing answers at {address} ({source}); start one with `courant serve`, or name \
                 another with --server"
            ),
        ),
        CallError::AdvertisedUnreachable { .. } => Failure::new(
            Exit::Unreachable,
            format!(
                "{error}; start that server with an address that is reachable from here \
                 (`courant serve --advertise HOST:PORT`)"
            ),
        ),
        CallError::TimedOut { .. } => Failure::new(
            Exit::Unreachable,
            format!("{error}; look at the server's log, or allow more with --timeout"),
        ),
        CallError::Lost { .. } => {
            Failure::new(Exit::Unreachable, format!("{error}; look at the server's log"))
        }
        CallError::NotKafka { .. } => Failure::new(
            Exit::Failed,
            format!(
                "{error}; name the address of its Kafka listener with --server, and if that speaks TLS, whom to \
                 trust with --tls-ca"
            ),
        ),
        CallError::Tls { .. } => Failure::new(
            Exit::Unreachable,
            format!(
                "{error}; the certificate has to be good for this name and to lead to one in the file of --tls-ca; \
                 without that option no TLS is spoken"
            ),
        ),
        _ => Failure::new(Exit::Failed, error.to_string()),
    }
}

/// A question about topics, or a change of them.
pub(crate) fn admin(error: &AdminError) -> Failure {
    match error {
        AdminError::Call(error) => call(error),
        AdminError::UnknownTopic { topic } => Failure::new(
            Exit::NotFound,
            format!(
                "{error}; see `courant topic list`, or create it with `courant topic create \
                 {topic}`"
            ),
        ),
        AdminError::TopicExists { topic } => Failure::new(
            Exit::Conflict,
            format!("{error}; choose another name, or see `courant topic show {topic}`"),
        ),
        AdminError::UnknownPartition { topic, .. } => {
            Failure::new(Exit::NotFound, format!("{error}; see `courant topic show {topic}`"))
        }
        AdminError::UnknownGroup { .. } => {
            Failure::new(Exit::NotFound, format!("{error}; see `courant group list`"))
        }
        AdminError::GroupInUse { group } => Failure::new(
            Exit::Conflict,
            format!(
                "{error}; stop its consumers first (who they are: `courant group show {group}`); one that was \
                 killed, or did not leave the group, counts until its session times out"
            ),
        ),
        AdminError::NoLeader { .. } => {
            Failure::new(Exit::Unreachable, format!("{error}; try again, or look at the servers' logs"))
        }
        AdminError::Refused(refusal) => refused(refusal, error.to_string()),
        _ => Failure::new(Exit::Failed, error.to_string()),
    }
}

/// Publishing.
pub(crate) fn publish(error: &PublishError) -> Failure {
    match error {
        PublishError::Admin(error) => admin(error),
        PublishError::TooLarge { topic, .. } => Failure::new(
            Exit::Failed,
            format!(
                "{error}; send less, or let the topic take more with `courant topic alter {topic} --config \
                 max.message.bytes=BYTES`"
            ),
        ),
        PublishError::GaveUp { .. } => Failure::new(
            Exit::Unreachable,
            format!("{error}; look at the server's log, or allow more with --timeout"),
        ),
        PublishError::Refused(refusal) => refused(refusal, error.to_string()),
        _ => Failure::new(Exit::Failed, error.to_string()),
    }
}

/// Publishing that ended in the middle. In doubt, running the command again may store events twice.
pub(crate) fn unpublished(error: &PublishError, in_doubt: bool) -> Failure {
    let mut failure = publish(error);
    if in_doubt {
        failure.sentence.push_str(
            "; whether the last events were stored is not known, so look with `courant tail` \
             before sending them again",
        );
    }
    failure
}

/// Reading.
pub(crate) fn fetch(error: &FetchError) -> Failure {
    match error {
        FetchError::Admin(error) => admin(error),
        FetchError::OutOfRange { topic, .. } => Failure::new(
            Exit::NotFound,
            format!("{error}; see `courant topic show {topic}`, or begin with --from start"),
        ),
        FetchError::Refused(refusal) => refused(refusal, error.to_string()),
        _ => Failure::new(Exit::Failed, error.to_string()),
    }
}

/// The server said no: its code decides how the process ends.
fn refused(refusal: &Refusal, sentence: String) -> Failure {
    let is = |codes: &[ErrorCode]| codes.contains(&refusal.code);
    let exit = if is(&[
        ErrorCode::TOPIC_AUTHORIZATION_FAILED,
        ErrorCode::CLUSTER_AUTHORIZATION_FAILED,
        ErrorCode::POLICY_VIOLATION,
    ]) {
        Exit::NotAllowed
    } else if is(&[ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, ErrorCode::UNKNOWN_TOPIC_ID]) {
        Exit::NotFound
    } else if is(&[
        ErrorCode::REQUEST_TIMED_OUT,
        ErrorCode::LEADER_NOT_AVAILABLE,
        ErrorCode::NOT_LEADER_OR_FOLLOWER,
        ErrorCode::NOT_CONTROLLER,
    ]) {
        Exit::Unreachable
    } else {
        Exit::Failed
    };
    let advice = if refusal.code == ErrorCode::INVALID_TOPIC_EXCEPTION {
        "; a name has 1 to 249 of the characters a-z A-Z 0-9 . _ -"
    } else if refusal.code == ErrorCode::LEADER_NOT_AVAILABLE {
        // All that an answer to Metadata can say of a topic that could not be made on its first use.
        "; if the topic is not there yet, `courant topic create` says why it cannot be made"
    } else {
        ""
    };
    Failure::new(exit, sentence + advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_follow_what_happened() {
        let unreachable = CallError::Unreachable {
            address: "127.0.0.1:9092".to_owned(),
            source: std::io::ErrorKind::ConnectionRefused.into(),
        };
        let failure = call(&unreachable);
        assert_eq!(failure.exit, Exit::Unreachable);
        assert!(failure.sentence.starts_with("nothing answers at 127.0.0.1:9092"), "{}", failure.sentence);
        assert!(failure.sentence.contains("courant serve"));
        let topic = || "orders".to_owned();
        let unknown = AdminError::UnknownTopic { topic: topic() };
        assert_eq!(admin(&unknown).exit, Exit::NotFound);
        let exists = AdminError::TopicExists { topic: topic() };
        assert_eq!(admin(&exists).exit, Exit::Conflict);
        let unknown = PublishError::Admin(AdminError::UnknownTopic { topic: topic() });
        assert_eq!(publish(&unknown).exit, Exit::NotFound);
    }

    #[test]
    fn a_doubtful_outcome_is_told() {
        let error = PublishError::from(CallError::TimedOut {
            address: "127.0.0.1:9092".to_owned(),
            api: "Produce",
            after: std::time::Duration::from_secs(1),
        });
        let failure = unpublished(&error, true);
        assert_eq!(failure.exit, Exit::Unreachable);
        assert!(failure.sentence.contains("not known"), "{failure:?}");
        assert!(!unpublished(&error, false).sentence.contains("not known"));
    }

    #[test]
    fn refusals_are_sorted_by_their_code() {
        let exit = |code: ErrorCode| {
            let refusal = Refusal { code, message: None };
            admin(&AdminError::Refused(refusal)).exit
        };
        assert_eq!(exit(ErrorCode::TOPIC_AUTHORIZATION_FAILED), Exit::NotAllowed);
        assert_eq!(exit(ErrorCode::REQUEST_TIMED_OUT), Exit::Unreachable);
        assert_eq!(exit(ErrorCode::INVALID_CONFIG), Exit::Failed);
        let unmade = Refusal { code: ErrorCode::LEADER_NOT_AVAILABLE, message: None };
        let unmade = publish(&PublishError::Admin(AdminError::Refused(unmade)));
        assert_eq!(unmade.exit, Exit::Unreachable);
        assert!(unmade.sentence.contains("`courant topic create` says why"), "{unmade:?}");
    }
}
