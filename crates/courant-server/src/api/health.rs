//! `GET /health`: whether the server serves, check by check, and its limits.

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::on;
use courant_log::limits::{
    CONFIG_BYTES_MAX, GROUP_NAME_BYTES_MAX, MESSAGE_BYTES_MAX, PARTITIONS_MAX, PARTITIONS_PER_TOPIC_MAX,
};
use courant_log::{Health, Log};
use serde::Serialize;
use tokio::task::spawn_blocking;

use super::ApiState;
use super::asked::Asked;
use super::json::Json;
use super::limits::{
    DAMAGE_NAMED_MAX, HISTORY_INTERVAL, HISTORY_POINTS_MAX, PAGE_ROWS_MAX, SMALL_BODY_BYTES_MAX,
};
use super::problem::Problem;
use super::route::{Access, Kind, Route, Schema, Verb, answer, field};

pub(super) static ROUTES: &[Route] = &[Route {
    method: Verb::Get,
    path: "/health",
    id: "health",
    summary: "Whether the server serves, check by check, and its limits",
    access: Access::Open,
    parameters: &[],
    body: None,
    answer: answer(200, &HEALTH, "The server serves; with the same body, 503 says that it does not"),
    handler: |on_method| on(on_method, health),
}];

static HEALTH: Schema = Schema {
    name: "health",
    fields: &[
        field("status", Kind::Words(&["ready", "not_ready"]), "Whether clients are served"),
        field("version", Kind::Text, "Of the server"),
        field("log_id", Kind::OrNull(&Kind::Text), "The log's identity, made at its creation"),
        field("uptime_seconds", Kind::Integer, "Since the start of the process"),
        field("now_ms", Kind::Integer, "The server's clock, in milliseconds since 1970"),
        field("read_only", Kind::Flag, "Whether this API refuses every change"),
        field("demo", Kind::Flag, "Whether a demo runs beside the server"),
        field("checks", Kind::Many(&Kind::Of(&CHECK)), "What was looked at"),
        field("limits", Kind::Map(&Kind::Integer), "Bounds by name; bytes unless the name says otherwise"),
    ],
};

static CHECK: Schema = Schema {
    name: "check",
    fields: &[
        field("name", Kind::Text, ""),
        field(
            "status",
            Kind::Words(&["ok", "warn", "fail"]),
            "`warn` is no reason to send clients elsewhere",
        ),
        field("detail", Kind::OrNull(&Kind::Text), "What was found, in a sentence"),
    ],
};

#[derive(Serialize)]
struct Shown {
    status: &'static str,
    version: &'static str,
    log_id: Option<String>,
    uptime_seconds: u64,
    now_ms: i64,
    read_only: bool,
    demo: bool,
    checks: Vec<Check>,
    limits: Limits,
}

#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    status: &'static str,
    detail: Option<String>,
}

#[derive(Serialize)]
struct Limits {
    partitions: u32,
    partitions_per_topic: u32,
    batch_bytes: usize,
    config_bytes: usize,
    group_name_bytes: usize,
    page_rows: usize,
    request_body_bytes: usize,
    history_seconds: u64,
    history_points: usize,
    history_series: usize,
}

async fn health(State(state): State<ApiState>, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    Asked::of(query.as_deref(), &[])?;
    // Away from the runtime's workers, and not behind those who look at the log.
    let looking = state.clone();
    let looked = spawn_blocking(move || checks(&looking)).await;
    let checks = looked.map_err(|failure| Problem::defect(&failure.to_string()))?;
    let is_ready = state.status().ready().is_ok();
    let shown = Shown {
        status: if is_ready { "ready" } else { "not_ready" },
        version: env!("CARGO_PKG_VERSION"),
        log_id: state.log().ok().map(|log| log.id().to_string()),
        uptime_seconds: state.started().elapsed().as_secs(),
        now_ms: state.now_ms(),
        read_only: state.settings().read_only,
        demo: state.demo().is_ok(),
        checks,
        limits: limits(state.limits().history_series),
    };
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok((status, Json(shown)).into_response())
}

fn limits(history_series: usize) -> Limits {
    Limits {
        partitions: PARTITIONS_MAX,
        partitions_per_topic: PARTITIONS_PER_TOPIC_MAX,
        batch_bytes: MESSAGE_BYTES_MAX,
        config_bytes: CONFIG_BYTES_MAX,
        group_name_bytes: GROUP_NAME_BYTES_MAX,
        page_rows: PAGE_ROWS_MAX,
        request_body_bytes: SMALL_BODY_BYTES_MAX,
        history_seconds: HISTORY_INTERVAL.as_secs(),
        history_points: HISTORY_POINTS_MAX,
        history_series,
    }
}

fn checks(state: &ApiState) -> Vec<Check> {
    let Ok(log) = state.log() else {
        return vec![failed("log", "the log is being opened".to_owned())];
    };
    let mut checks = vec![of_log(log), of_disk(log), of_damage(log), of_history(state)];
    // Nobody looks for a check of what a defect alone ends.
    checks.extend(state.status().lost().map(|lost| failed("clients", lost.to_owned())));
    checks
}

fn of_log(log: &Log) -> Check {
    match log.health() {
        Health::Ready => Check { name: "log", status: "ok", detail: None },
        Health::Full { reason } => failed("log", reason),
        Health::ReadOnly { reason } => failed("log", format!("the log is read-only: {reason}")),
        Health::Stopping => failed("log", "the server is stopping".to_owned()),
    }
}

fn of_disk(log: &Log) -> Check {
    let (status, detail) = match log.disk_bytes() {
        // The log itself says when there is too little: that is its check.
        Some((total, free)) => {
            let is_scarce = free < total / 20;
            let (free, total) = (gibibytes(free), gibibytes(total));
            let detail = format!("{free} of {total} GiB are free");
            (if is_scarce { "warn" } else { "ok" }, detail)
        }
        None => ("warn", "the disk does not say how much room it has".to_owned()),
    };
    Check { name: "disk", status, detail: Some(detail) }
}

/// With one digit, which is cut off and not rounded: nothing is said to be free that is not.
fn gibibytes(bytes: u64) -> String {
    let tenths = bytes / ((1 << 30) / 10);
    format!("{}.{}", tenths / 10, tenths % 10)
}

fn of_damage(log: &Log) -> Check {
    let damage = log.damage();
    if damage.is_empty() {
        return Check { name: "damage", status: "ok", detail: None };
    }
    let named: Vec<_> = damage.iter().take(DAMAGE_NAMED_MAX).map(|one| one.path.clone()).collect();
    let detail = format!("{} places are damaged, in {}", damage.len(), named.join(", "));
    Check { name: "damage", status: "warn", detail: Some(detail) }
}

fn of_history(state: &ApiState) -> Check {
    match state.history(|history| history.left_out()) {
        0 => Check { name: "lag_history", status: "ok", detail: None },
        left_out => {
            let kept = state.limits().history_series;
            let detail = format!("{left_out} topics of groups have no history of lag: {kept} are kept");
            Check { name: "lag_history", status: "warn", detail: Some(detail) }
        }
    }
}

fn failed(name: &'static str, detail: String) -> Check {
    Check { name, status: "fail", detail: Some(detail) }
}
