//! A demo beside the server, as `/api/v1/demo` shows it. What it is about is its own business.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use serde::Serialize;

use crate::api::{ApiState, Caller, redrive_in_demo, turn_in_demo};

/// What a demo answers with.
pub type DemoAnswer<'a, T> = Pin<Box<dyn Future<Output = Result<T, DemoError>> + Send + 'a>>;

/// Something that can be looked at, broken and repaired by HTTP.
pub trait Demo: fmt::Debug + Send + Sync + 'static {
    /// The names of its switches.
    fn switches(&self) -> Vec<&'static str>;

    /// How it is now.
    fn look(&self) -> DemoAnswer<'_, DemoState>;

    /// Turns one of its switches. One that stands so already stays so.
    fn turn<'a>(&'a self, switch: &'a str, on: bool) -> DemoAnswer<'a, DemoSwitch>;

    /// Sends its dead letters back to where they failed. Gives back how many.
    fn redrive<'a>(&'a self, by: &'a str) -> DemoAnswer<'a, u64>;
}

/// Why a demo did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DemoError {
    /// It could not.
    #[error("{reason}")]
    Failed {
        /// Why.
        reason: String,
    },
}

/// How a demo is.
#[derive(Clone, Debug, Serialize)]
pub struct DemoState {
    /// What its orders are made from.
    pub seed: u64,
    /// How much faster than at first everything goes.
    pub speed: u32,
    /// Whether it breaks and heals by itself.
    pub script: bool,
    /// What can be broken.
    pub switches: Vec<DemoSwitch>,
    /// What there is to see.
    pub ticks: Vec<DemoTick>,
    /// What was counted.
    pub figures: DemoFigures,
}

/// Something that can be broken.
#[derive(Clone, Debug, Serialize)]
pub struct DemoSwitch {
    /// Its name.
    pub id: &'static str,
    /// What is broken by it.
    pub title: &'static str,
    /// Whether it is.
    pub on: bool,
}

/// Something to see.
#[derive(Clone, Debug, Serialize)]
pub struct DemoTick {
    /// Its name.
    pub id: &'static str,
    /// What it is.
    pub title: &'static str,
    /// How to bring it about.
    pub to_do: &'static str,
    /// Whether it has happened.
    pub done: bool,
    /// What was counted when it happened.
    pub seen: Option<String>,
}

/// What was counted in a demo.
#[derive(Clone, Debug, Serialize)]
pub struct DemoFigures {
    /// Orders that were taken.
    pub placed: i64,
    /// Those that could not be paid.
    pub declined: i64,
    /// Those that were shipped.
    pub shipped: i64,
    /// Events that wait in the outbox of who takes orders.
    pub outbox: u64,
    /// Dead letters that nobody has decided about.
    pub dead_letters: u64,
    /// Events that wait behind them.
    pub parked: u64,
    /// Events that the slowest consumer has not counted yet.
    pub lag: u64,
}

/// What turns the switches of a demo as HTTP does: with an event on the audit topic.
#[derive(Clone, Debug)]
pub struct DemoDesk(ApiState);

impl DemoDesk {
    pub(crate) fn new(state: ApiState) -> Self {
        Self(state)
    }

    /// Turns a switch. `by` is who the audit says it was.
    ///
    /// # Errors
    /// There is no such switch, or the demo could not.
    pub async fn turn(&self, by: &str, switch: &str, on: bool) -> Result<(), DemoError> {
        let caller = Caller { name: Some(by.to_owned()), address: None };
        let turned = turn_in_demo(&self.0, caller, switch.to_owned(), on).await;
        turned.map(|_| ()).map_err(|problem| DemoError::Failed { reason: problem.detail })
    }

    /// Sends the dead letters back.
    ///
    /// # Errors
    /// The demo could not.
    pub async fn redrive(&self, by: &str) -> Result<(), DemoError> {
        let caller = Caller { name: Some(by.to_owned()), address: None };
        let sent = redrive_in_demo(&self.0, caller).await;
        sent.map(|_| ()).map_err(|problem| DemoError::Failed { reason: problem.detail })
    }
}
