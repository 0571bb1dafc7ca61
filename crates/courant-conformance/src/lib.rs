//! The contracts of engines and of stores as scenarios: what [`courant_engine::Engine`] and
//! [`courant_sql::Store`] promise, tried out on any engine and on any database.
//!
//! An adapter's test opens its engine and holds it against all of them:
//!
//! ```no_run
//! # use courant_conformance::{Subject, check};
//! # use courant_engine::{EngineConfig, EngineUrl, open};
//! # async fn shown() {
//! let subject = Subject::new("memory:", || {
//!     Box::pin(async {
//!         let url: EngineUrl = "memory:".parse()?;
//!         Ok(open(&url, EngineConfig::system()).await?)
//!     })
//! });
//! check(&subject).await.assert_kept();
//! # }
//! ```
//!
//! A scenario asserts what is guaranteed, never how. It makes topics and groups of its own, so an engine
//! that others use as well can be tried, too. What an engine says that it cannot do
//! ([`courant_engine::Capabilities`]) is not asked of it, and the report says so; what it is expected to say
//! stands in a table, against which [`assert_listed`] holds it. That a service which needs more is refused when it
//! is built, and with which code, is tried where services are built, in the tests of the crate `courant`.
//!
//! A store is held against its own scenarios by [`check_store`] in the same way.
//!
//! The scenarios themselves are judged by engines and stores that lie, in the tests of this crate: each lie
//! is seen by a scenario, and a scenario that sees no lie goes.

mod failure;
mod follower;
mod listed;
mod report;
mod scenarios;
mod stage;
mod store;
mod subject;

pub use failure::Failure;
pub(crate) use failure::Outcome;
pub use listed::assert_listed;
pub use report::{Report, check, check_side_by_side, check_some};
pub use scenarios::{Scenario, scenarios};
pub(crate) use stage::Stage;
pub use store::{
    EndingTransaction, OpeningStore, StoreScenario, StoreSubject, check_store, check_store_some,
    store_scenarios,
};
pub use subject::{Opening, Subject};
