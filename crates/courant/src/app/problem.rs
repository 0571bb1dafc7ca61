//! What is wrong with a service, and what to change: all of it at once.

use std::fmt;

/// The kinds of problems with the codes that they are known by, in the order of the page that lists them.
macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $code:literal,)+) => {
        /// Of which kind a problem is. Its code never changes; the page `docs/guide/framework/start-up.md` lists
        /// them all.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ProblemCode {
            $($(#[$doc])* $variant,)+
        }

        impl ProblemCode {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The code, as it is said and listed.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $code,)+
                }
            }
        }
    };
}

codes! {
    /// The service has a name that none can have.
    ServiceName = "service-name",
    /// Something was said behind the subscriptions that is to be said before them.
    SaidTooLate = "said-too-late",
    /// No engine was named.
    NoEngine = "no-engine",
    /// The engine's URL is none.
    EngineUrl = "engine-url",
    /// The engine does not open.
    EngineDoesNotOpen = "engine-does-not-open",
    /// The engine does not keep the order of a key.
    EngineOrder = "engine-order",
    /// The engine cannot be read from any offset.
    EngineReplay = "engine-replay",
    /// A subscription begins at a time, and the engine finds no offsets by time.
    EngineTimeLookup = "engine-time-lookup",
    /// The engine acknowledges what would not survive what the service needs it to.
    EngineDurability = "engine-durability",
    /// A topic promises less than the service needs, on an engine that could do it.
    TopicDurability = "topic-durability",
    /// The engine's events and offsets end with it, and the service needs them again.
    EngineLifetime = "engine-lifetime",
    /// The engine is for one process, and several are to share its partitions.
    EngineGroups = "engine-groups",
    /// The engine stores what is published twice twice, or remembers it for too short a time.
    EnginePublishDedup = "engine-publish-dedup",
    /// Topics are to have more partitions than the engine can give them, or none.
    Partitions = "partitions",
    /// The engine does not say what topics there are, or does not create one.
    Topics = "topics",
    /// There is no subscription.
    NoSubscription = "no-subscription",
    /// A subscription has a name that none can have.
    ConsumerName = "consumer-name",
    /// Several subscriptions have one name.
    SameName = "same-name",
    /// A subscription reads what cannot be a topic.
    TopicName = "topic-name",
    /// The topic for the copies of dead letters would have too long a name.
    DeadLetterTopicName = "dead-letter-topic-name",
    /// A subscription has no handler.
    NoHandler = "no-handler",
    /// A subscription has several handlers for one type.
    TwoHandlers = "two-handlers",
    /// `.at_least_once()` comes behind handlers.
    ModeTooLate = "mode-too-late",
    /// A command is handled by somebody who is not its owner.
    CommandOfOthers = "command-of-others",
    /// A command is handled by several subscriptions.
    CommandOwners = "command-owners",
    /// Effects are to happen once, and there is no store.
    OnceWithoutStore = "once-without-store",
    /// Events are to be parked, and there is no store.
    ParkWithoutStore = "park-without-store",
    /// A partition is to be blocked, and there is a store.
    BlockWithStore = "block-with-store",
    /// Events are to share transactions, and there are none.
    BatchWithoutTransaction = "batch-without-transaction",
    /// Events are to share transactions, and the store cannot have that.
    BatchNotShared = "batch-not-shared",
    /// A number of events in one transaction that cannot be.
    BatchSize = "batch-size",
    /// A number of events at once that cannot be.
    Concurrency = "concurrency",
    /// A number of parked events that cannot be.
    ParkedMax = "parked-max",
    /// A time for a handler that cannot be.
    Timeout = "timeout",
    /// A generation that cannot be.
    Generation = "generation",
    /// Retries that cannot be kept.
    Retry = "retry",
    /// The inbox forgets an event before it has come for the last time.
    RememberedTooShort = "remembered-too-short",
    /// Closed dead letters are forgotten before anybody has seen what has become of them.
    LettersKeptTooShort = "letters-kept-too-short",
    /// An envelope mapping looks at a place that is none.
    MappingPlace = "mapping-place",
    /// A topic has several envelope mappings.
    MappingTwice = "mapping-twice",
    /// A topic has an envelope mapping, and nobody reads it.
    MappingUnread = "mapping-unread",
    /// Requests are to be taken, and there is no store.
    OperationsWithoutStore = "operations-without-store",
    /// Requests are to be taken, and the engine lets everybody write who reaches it.
    OperationsUnguarded = "operations-unguarded",
    /// The store does not take the tables of the framework.
    StoreTables = "store-tables",
    /// The store does not say how far the service has come.
    ProgressUnknown = "progress-unknown",
    /// The log is not the one that progress was made in.
    OtherLog = "other-log",
}

impl fmt::Display for ProblemCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    code: ProblemCode,
    what: String,
    fix: String,
}

impl Problem {
    pub(crate) fn new(code: ProblemCode, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { code, what: what.into(), fix: fix.into() }
    }

    /// Of which kind it is.
    pub fn code(&self) -> ProblemCode {
        self.code
    }

    /// What is wrong.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// What to change.
    pub fn fix(&self) -> &str {
        &self.fix
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.fix)
    }
}

/// Why a service cannot start: everything that is wrong with it.
///
/// `{:?}` is the same list as `{}`: a `main` that gives back errors shows them in this way.
#[derive(Clone, PartialEq, Eq)]
pub struct BuildError {
    service: String,
    problems: Vec<Problem>,
}

impl BuildError {
    pub(crate) fn new(service: String, problems: Vec<Problem>) -> Self {
        Self { service, problems }
    }

    /// Everything that is wrong, in the order in which it was declared.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the service {:?} cannot start:", self.service)?;
        for (index, problem) in self.problems.iter().enumerate() {
            let Problem { code, what, fix } = problem;
            write!(f, "\n  {}. {what} [{code}]\n     {fix}", index + 1)?;
        }
        Ok(())
    }
}

impl fmt::Debug for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for BuildError {}
