//! The shop as the server shows it by HTTP.

use super::shop::{Look, Shop, Trouble};
use crate::cli::Demo as Args;
use courant_server::{Demo, DemoAnswer, DemoError, DemoFigures, DemoState, DemoSwitch, DemoTick};
use std::sync::Arc;

/// What answers for the shop.
#[derive(Debug)]
pub(super) struct Desk {
    shop: Arc<Shop>,
    seed: u64,
    speed: u32,
    is_scripted: bool,
}

impl Desk {
    pub(super) fn new(shop: Arc<Shop>, args: &Args, is_scripted: bool) -> Self {
        Self { shop, seed: args.seed, speed: args.speed, is_scripted }
    }

    fn shown(&self, look: Look) -> DemoState {
        let Look { figures, ticks, troubles } = look;
        let tick = |tick: super::shop::Tick| DemoTick {
            id: tick.id,
            title: tick.title,
            to_do: tick.to_do,
            done: tick.seen.is_some(),
            seen: tick.seen,
        };
        DemoState {
            seed: self.seed,
            speed: self.speed,
            script: self.is_scripted,
            switches: troubles.into_iter().map(|(trouble, on)| switch(trouble, on)).collect(),
            ticks: ticks.into_iter().map(tick).collect(),
            figures: DemoFigures {
                placed: figures.placed,
                declined: figures.declined,
                shipped: figures.shipped,
                outbox: figures.outbox,
                dead_letters: figures.dead,
                parked: figures.behind,
                lag: figures.lag,
            },
        }
    }
}

impl Demo for Desk {
    fn switches(&self) -> Vec<&'static str> {
        Trouble::ALL.map(Trouble::id).to_vec()
    }

    fn look(&self) -> DemoAnswer<'_, DemoState> {
        Box::pin(async move {
            let look = self.shop.look().await.map_err(|error| failed(&error))?;
            Ok(self.shown(look))
        })
    }

    fn turn<'a>(&'a self, id: &'a str, on: bool) -> DemoAnswer<'a, DemoSwitch> {
        Box::pin(async move {
            let trouble = Trouble::named(id).ok_or_else(|| failed(&format!("there is no switch {id:?}")))?;
            self.shop.turn(trouble, on).await.map_err(|error| failed(&error))?;
            Ok(switch(trouble, on))
        })
    }

    fn redrive<'a>(&'a self, by: &'a str) -> DemoAnswer<'a, u64> {
        Box::pin(async move { self.shop.redrive(by).await.map_err(|error| failed(&error)) })
    }
}

fn switch(trouble: Trouble, on: bool) -> DemoSwitch {
    DemoSwitch { id: trouble.id(), title: trouble.title(), on }
}

fn failed(error: &dyn std::fmt::Display) -> DemoError {
    DemoError::Failed { reason: error.to_string() }
}
