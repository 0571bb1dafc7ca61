//! Dead letters with everything that is known of them, page by page: for a file, or for another program.

use std::time::Instant;

use axum::extract::{Extension, RawQuery, State};
use courant_core::operations::ToldLetter;
use courant_log::Log;
use serde::Serialize;

use super::letters::{Whole, looked_for, told, whole};
use super::line::Line;
use super::{LETTER_NOT_FOUND, actor};
use crate::api::asked::Path;
use crate::api::limits::{EXPORT_TIME_MAX, RECORD_PAGE_BYTES_MAX};
use crate::api::problem::Problem;
use crate::api::{ApiState, Caller, Json};

#[derive(Debug, Serialize)]
pub(super) struct Exported {
    service: String,
    letters: Vec<Whole>,
    next: Option<String>,
}

pub(super) async fn export(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    Path(service): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<Exported>, Problem> {
    let action = looked_for(query.as_deref(), true)?;
    let line = Line::to(&state, &service).await?;
    let (letters, next) = told(line.ask(&actor(&caller, None)?, action, &LETTER_NOT_FOUND).await?)?;
    state.blocking(move |state| exported(state.log()?, service, letters, next)).await.map(Json)
}

/// Looks the events up, at least one of them, and as many as there is time and room for. May wait for the disk.
fn exported(
    log: &Log,
    service: String,
    told: Vec<ToldLetter>,
    mut next: Option<i64>,
) -> Result<Exported, Problem> {
    let (begun, mut bytes) = (Instant::now(), 0_usize);
    let mut letters = Vec::with_capacity(told.len());
    let mut left = told.into_iter().peekable();
    while let Some(one) = left.next() {
        let number = one.letter;
        let whole = whole(log, service.clone(), one)?;
        bytes = bytes.saturating_add(whole.bytes());
        letters.push(whole);
        let is_enough = bytes > RECORD_PAGE_BYTES_MAX || begun.elapsed() > EXPORT_TIME_MAX;
        if is_enough && left.peek().is_some() {
            next = Some(number);
            break;
        }
    }
    Ok(Exported { service, letters, next: next.map(|next| next.to_string()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use courant_log::storage::MemoryStorage;
    use courant_log::{LogConfig, SystemClock, SystemEntropy};

    #[test]
    fn letters_whose_events_are_gone_are_exported_as_well_and_the_next_page_is_kept() {
        let mut config = LogConfig::new(Arc::new(SystemClock), Arc::new(SystemEntropy));
        config.reserve_bytes = 0;
        let storage = Arc::new(MemoryStorage::new(64 * 1024 * 1024));
        let (log, _) = Log::open(storage, config).expect("opens");
        let letter = |letter| ToldLetter { letter, topic: "orders".to_owned(), ..ToldLetter::default() };
        let page = exported(&log, "billing".to_owned(), vec![letter(3), letter(7)], Some(7));
        let page = serde_json::to_value(page.expect("a page")).expect("JSON");
        assert_eq!((page["letters"].as_array().map(Vec::len), page["next"].as_str()), (Some(2), Some("7")));
        assert_eq!(page["letters"][0]["letter"]["letter"], 3);
        let missing = page["letters"][0]["record_missing"].as_str().expect("a sentence");
        assert!(missing.contains("orders"), "{missing}");
    }
}
