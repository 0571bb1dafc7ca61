//! `/demo`: what there is to see in a demo beside the server, and its switches. Without a demo there is nothing
//! here, and the document does not name it.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Extension, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::on;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::ApiState;
use super::asked::{self, Asked, Path};
use super::audit::{Change, Changed};
use super::guard::Caller;
use super::json::Json;
use super::problem::{NOT_FOUND, NOT_WRITTEN, Problem};
use super::route::{Access, Kind, RequestBody, Route, Schema, Verb, answer, field, path};
use crate::demo::{DemoError, DemoState, DemoSwitch};

/// What the audit calls the dead letters of a demo.
const DEAD_LETTERS: &str = "dead-letters";

pub(super) static ROUTES: &[Route] = &[
    Route {
        method: Verb::Get,
        path: "/demo",
        id: "show_demo",
        summary: "What there is to see in the demo, what of it has happened, and what is broken",
        access: Access::Read,
        parameters: &[],
        body: None,
        answer: answer(200, &DEMO, "The demo as it is now; 404 where none runs"),
        handler: |on_method| on(on_method, show),
    },
    Route {
        method: Verb::Post,
        path: "/demo/switches/{switch}",
        id: "turn_demo_switch",
        summary: "Breaks something in the demo, or repairs it",
        access: Access::Change,
        parameters: &[path("switch", "Its name, such as `carrier`")],
        body: Some(RequestBody::json(&TURN)),
        answer: answer(200, &SWITCH, "The switch as it is now"),
        handler: |on_method| on(on_method, turn),
    },
    Route {
        method: Verb::Post,
        path: "/demo/redrive",
        id: "redrive_demo",
        summary: "Sends the dead letters of the demo back to where they failed",
        access: Access::Change,
        parameters: &[],
        body: None,
        answer: answer(200, &REDRIVEN, "They are on their way"),
        handler: |on_method| on(on_method, redrive),
    },
];

static DEMO: Schema = Schema {
    name: "demo",
    fields: &[
        field("seed", Kind::Integer, "The same seed gives the same orders"),
        field("speed", Kind::Integer, "How much faster than at first everything goes"),
        field("script", Kind::Flag, "Whether it breaks and heals by itself"),
        field("switches", Kind::Many(&Kind::Of(&SWITCH)), "What can be broken"),
        field("ticks", Kind::Many(&Kind::Of(&TICK)), "What there is to see, in the order in which to try it"),
        field("figures", Kind::Of(&FIGURES), "What was counted now"),
    ],
};

static SWITCH: Schema = Schema {
    name: "demo_switch",
    fields: &[
        field("id", Kind::Text, ""),
        field("title", Kind::Text, "What is broken by it"),
        field("on", Kind::Flag, "Whether it is broken"),
    ],
};

static TICK: Schema = Schema {
    name: "demo_tick",
    fields: &[
        field("id", Kind::Text, ""),
        field("title", Kind::Text, ""),
        field("to_do", Kind::Text, "How to bring it about"),
        field("done", Kind::Flag, "Whether it has happened since the demo was started"),
        field("seen", Kind::OrNull(&Kind::Text), "What was counted when it happened"),
    ],
};

static FIGURES: Schema = Schema {
    name: "demo_figures",
    fields: &[
        field("placed", Kind::Integer, "Orders that were taken"),
        field("declined", Kind::Integer, "Orders that could not be paid"),
        field("shipped", Kind::Integer, "Orders that were shipped"),
        field("outbox", Kind::Integer, "Events that wait in the outbox of the storefront"),
        field("dead_letters", Kind::Integer, "Of shipping, that nobody has decided about"),
        field("parked", Kind::Integer, "Events that wait behind them"),
        field("lag", Kind::Integer, "Events that analytics has not counted yet"),
    ],
};

static TURN: Schema =
    Schema { name: "demo_turn", fields: &[field("on", Kind::Flag, "true breaks it, false repairs it")] };

static REDRIVEN: Schema = Schema {
    name: "demo_redriven",
    fields: &[field("letters", Kind::Integer, "How many dead letters are sent back")],
};

async fn show(State(state): State<ApiState>, RawQuery(query): RawQuery) -> Result<Json<DemoState>, Problem> {
    Asked::of(query.as_deref(), &[])?;
    Ok(Json(state.demo()?.look().await.map_err(failed)?))
}

/// Which way a switch goes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Turn {
    on: bool,
}

async fn turn(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    Path(switch): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    Asked::of(query.as_deref(), &[])?;
    state.demo()?;
    let Turn { on } = asked::json(&headers, body)?;
    Ok(turn_in_demo(&state, caller, switch, on).await?.answer(StatusCode::OK))
}

async fn redrive(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    Asked::of(query.as_deref(), &[])?;
    Ok(redrive_in_demo(&state, caller).await?.answer(StatusCode::OK))
}

/// Turns a switch, and writes down who did.
pub(crate) async fn turn_in_demo(
    state: &ApiState,
    caller: Caller,
    switch: String,
    on: bool,
) -> Result<Changed<DemoSwitch>, Problem> {
    let demo = Arc::clone(state.demo()?);
    let switches = demo.switches();
    if !switches.contains(&switch.as_str()) {
        let sentence = format!("there is no switch {switch:?}; there are {}", switches.join(", "));
        return Err(Problem::new(&NOT_FOUND, sentence));
    }
    let detail = json!({ "on": on });
    let change = Change { caller, action: "demo.switch", target: switch.clone(), detail };
    state.change(change, async move { demo.turn(&switch, on).await.map_err(failed) }).await
}

/// How many dead letters were sent back.
#[derive(Debug, Serialize)]
pub(crate) struct Redriven {
    letters: u64,
}

/// Sends the dead letters back, and writes down who did.
pub(crate) async fn redrive_in_demo(state: &ApiState, caller: Caller) -> Result<Changed<Redriven>, Problem> {
    let demo = Arc::clone(state.demo()?);
    let by = caller.name.clone().unwrap_or_else(|| "anybody by HTTP".to_owned());
    let target = DEAD_LETTERS.to_owned();
    let change = Change { caller, action: "demo.redrive", target, detail: json!({}) };
    let made = async move {
        let letters = demo.redrive(&by).await.map_err(failed)?;
        Ok(Redriven { letters })
    };
    state.change(change, made).await
}

fn failed(error: DemoError) -> Problem {
    Problem::new(&NOT_WRITTEN, format!("the demo could not do it: {error}"))
}
