//! The HTTP API, `/api/v1`.
//!
//! [`routes`] is the table of everything that can be asked; the router and the OpenAPI document are both
//! built from it. A request comes through `guard`, which says who may ask; handlers parse what was asked
//! with `asked`, look at the log in [`ApiState::blocking`], and make every change through `audit`.

mod access;
mod asked;
mod audit;
mod dead_letters;
mod demo;
mod events;
mod filter;
mod group_changes;
mod groups;
mod guard;
mod health;
mod history;
mod json;
mod lag;
mod openapi;
mod own_topics;
mod publish;
mod readers;
mod records;
mod source;
mod sse;
mod tail;
mod topic_changes;
mod topics;
mod traces;

pub(crate) mod limits;
pub(crate) mod problem;
pub(crate) mod route;
pub(crate) mod series;
pub(crate) mod shares;

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use axum::Router;
use axum::http::HeaderMap;
use courant_core::clock::Clock as _;
use courant_kafka::Broker;
use courant_log::{Log, SystemClock, Topic};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinHandle, spawn_blocking};

pub use self::access::{ApiSettings, ApiTokens, InvalidTokens};
use self::audit::Audit;
use self::dead_letters::Operations;
pub use self::dead_letters::{InvalidServiceKeys, ServiceKeys};
use self::history::History;
use self::lag::Ages;
use self::openapi::Documents;
use self::problem::{METHOD_NOT_ALLOWED, NOT_FOUND, Problem, STARTING};
use self::readers::Readers;
use self::route::Route;
use self::shares::ApiLimits;
pub use self::traces::TraceSettings;
pub(crate) use self::{
    asked::Asked,
    audit::{Change, Changed},
    demo::{redrive_in_demo, turn_in_demo},
    guard::Caller,
    json::Json,
};
use crate::demo::Demo;
use crate::http::Status;

/// Where everything stands.
pub(crate) const PREFIX: &str = "/api/v1";

/// Everything that can be asked, in the order of the OpenAPI document.
pub(crate) fn routes() -> impl Iterator<Item = &'static Route> {
    let tables: [&'static [Route]; 12] = [
        health::ROUTES,
        openapi::ROUTES,
        topics::ROUTES,
        topic_changes::ROUTES,
        groups::ROUTES,
        group_changes::ROUTES,
        records::ROUTES,
        filter::ROUTES,
        publish::ROUTES,
        tail::ROUTES,
        dead_letters::ROUTES,
        traces::ROUTES,
    ];
    tables.into_iter().flatten()
}

/// What the handlers know of the rest of the process. Clones share it.
#[derive(Clone)]
pub(crate) struct ApiState(Arc<Shared>);

struct Shared {
    status: Arc<Status>,
    settings: ApiSettings,
    limits: ApiLimits,
    started: Instant,
    audit: Audit,
    history: Mutex<History>,
    ages: Mutex<Ages>,
    readers: Mutex<Readers>,
    events: events::Events,
    operations: Operations,
    documents: Documents,
    traces: Mutex<traces::Index>,
    looks: Arc<Semaphore>,
    /// Set if a demo runs beside the server.
    demo: OnceLock<Arc<dyn Demo>>,
}

impl fmt::Debug for ApiState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiState").field("settings", &self.0.settings).finish_non_exhaustive()
    }
}

impl ApiState {
    /// `streams_max`: so many connections may be streams at one time.
    pub(crate) fn new(
        status: Arc<Status>,
        settings: ApiSettings,
        streams_max: usize,
        limits: ApiLimits,
    ) -> Self {
        let traces = Mutex::new(traces::Index::new(settings.traces.events));
        Self(Arc::new(Shared {
            status,
            settings,
            limits,
            started: Instant::now(),
            audit: Audit::default(),
            history: Mutex::new(History::of(limits.history_series)),
            ages: Mutex::default(),
            readers: Mutex::default(),
            events: events::Events::new(streams_max, &limits),
            operations: Operations::within(&limits),
            documents: Documents::default(),
            traces,
            looks: Arc::new(Semaphore::new(limits.looks)),
            demo: OnceLock::new(),
        }))
    }

    pub(crate) fn status(&self) -> &Status {
        &self.0.status
    }

    pub(crate) fn settings(&self) -> &ApiSettings {
        &self.0.settings
    }

    /// Its bounds that depend on memory.
    pub(crate) fn limits(&self) -> &ApiLimits {
        &self.0.limits
    }

    /// Whether who sends these headers may read.
    pub(crate) fn may_read(&self, headers: &HeaderMap) -> Result<(), Problem> {
        guard::may_read(self.settings(), headers)
    }

    /// When the server was started.
    pub(crate) fn started(&self) -> Instant {
        self.0.started
    }

    pub(crate) fn audit(&self) -> &Audit {
        &self.0.audit
    }

    /// What is known of searches and of streams.
    pub(crate) fn events(&self) -> &events::Events {
        &self.0.events
    }

    /// Ends searches, so that those who watch them do not hold the end of the server up.
    pub(crate) fn end_searches(&self) {
        self.0.events.searches.stop();
    }

    /// The OpenAPI documents.
    pub(crate) fn documents(&self) -> &Documents {
        &self.0.documents
    }

    /// What is known of services, and who asks them.
    pub(crate) fn operations(&self) -> &Operations {
        &self.0.operations
    }

    /// The log and the groups in front of it, once the log is open.
    pub(crate) fn broker(&self) -> Result<&Arc<Broker>, Problem> {
        let broker = self.0.status.broker();
        broker.ok_or_else(|| Problem::new(&STARTING, "the log is being opened; ask again in a moment"))
    }

    pub(crate) fn log(&self) -> Result<&Log, Problem> {
        Ok(self.broker()?.log())
    }

    /// The topic of that name.
    pub(crate) fn topic(&self, name: &str) -> Result<Arc<Topic>, Problem> {
        let catalog = self.log()?.catalog();
        catalog.by_name(name).cloned().ok_or_else(|| Problem::topic_not_found(name))
    }

    /// Milliseconds since 1970.
    pub(crate) fn now_ms(&self) -> i64 {
        SystemClock.now_ms()
    }

    pub(crate) fn history<T>(&self, look: impl FnOnce(&mut History) -> T) -> T {
        look(&mut self.0.history.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn ages<T>(&self, look: impl FnOnce(&mut Ages) -> T) -> T {
        look(&mut self.0.ages.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn readers<T>(&self, look: impl FnOnce(&mut Readers) -> T) -> T {
        look(&mut self.0.readers.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn traces<T>(&self, look: impl FnOnce(&mut traces::Index) -> T) -> T {
        look(&mut self.0.traces.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Runs something that may wait for the disk, or that takes long, away from the runtime's workers: a
    /// few at one time.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        look: impl FnOnce(&ApiState) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let state = self.clone();
        // Nobody closes the semaphore.
        let place = Arc::clone(&self.0.looks).acquire_owned().await.ok();
        let looked = spawn_blocking(move || {
            let _place = place;
            look(&state)
        });
        looked.await.unwrap_or_else(|failure| Err(Problem::defect(&failure.to_string())))
    }

    /// A place for a look by somebody who works on his own, and not for a request. `None` where those look beside
    /// the requests.
    pub(crate) async fn place_beside(&self) -> Option<OwnedSemaphorePermit> {
        if !self.0.limits.looks_are_shared {
            return None;
        }
        // Nobody closes the semaphore.
        Arc::clone(&self.0.looks).acquire_owned().await.ok()
    }

    /// Shows a demo from now on. The first one counts.
    pub(crate) fn show_demo(&self, demo: Arc<dyn Demo>) {
        // Set once, by the one who starts the demo.
        let _ = self.0.demo.set(demo);
    }

    /// The demo, if one runs.
    pub(crate) fn demo(&self) -> Result<&Arc<dyn Demo>, Problem> {
        let sentence =
            "there is nothing here without a demo; `courant demo` starts one, with a server of its own";
        self.0.demo.get().ok_or_else(|| Problem::new(&NOT_FOUND, sentence))
    }

    /// Keeps the history of lag from now on, until the task is aborted.
    pub(crate) fn keep_history(&self) -> JoinHandle<()> {
        tokio::spawn(history::keep(self.clone()))
    }

    /// Keeps the index of traces from now on, until the task is aborted.
    pub(crate) fn keep_traces(&self) -> JoinHandle<()> {
        tokio::spawn(traces::keep(self.clone()))
    }
}

/// The API below its prefix.
pub(crate) fn router(state: ApiState) -> Router {
    let mut router = Router::new();
    for route in routes().chain(demo::ROUTES) {
        router = router.route(route.path, route.router(&state));
    }
    let router = router.method_not_allowed_fallback(wrong_method).fallback(nothing);
    Router::new().nest(PREFIX, router.with_state(state))
}

async fn nothing() -> Problem {
    Problem::new(&NOT_FOUND, "there is nothing here; GET /api/v1/openapi.json says what there is")
}

async fn wrong_method() -> Problem {
    let detail = "this address has other methods; GET /api/v1/openapi.json says which";
    Problem::new(&METHOD_NOT_ALLOWED, detail)
}
