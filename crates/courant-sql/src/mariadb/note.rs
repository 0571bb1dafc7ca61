//! Editing dead letters, and what is written down about them.

use std::collections::BTreeSet;

use sqlx::MySqlConnection;

use super::class::failed;
use super::lists::{self, numbers};
use super::park::write_outcome;
use super::row::{Columns, signed};
use super::{Mariadb, locks};
use crate::columns::note_columns;
use crate::consumer::{Assignment, Outcome};
use crate::dead::DeadState;
use crate::error::{EditError, StoreError};
use crate::event::cut;
use crate::headers;
use crate::limits::{FAILURE_TEXT_BYTES_MAX, LISTED_MAX};
use crate::note::{DeadAction, DeadEdit, DeadNote, Decision};

const EDIT: &str = "edit a dead letter";
const NOTE: &str = "write down what was decided";
const READ: &str = "read what was decided";

pub(super) async fn edit(store: &Mariadb, id: i64, edit: &DeadEdit, now_ms: i64) -> Result<(), EditError> {
    let mut session = store.writer(EDIT).await?;
    // Whoever decides about dead letters holds it: what is undecided now stays so.
    locks::take(&mut session, BTreeSet::from([locks::DECISIONS]), EDIT).await?;
    let (assignment, offset) = match editable(&mut session, id, edit).await {
        Ok(found) => found,
        Err(error) => {
            // The refusal is what matters; the connection is closed if this fails.
            let _ = session.rollback().await;
            return Err(error);
        }
    };
    keep_original(&mut session, id, edit, now_ms).await?;
    change_ids(&mut session, &assignment, offset, edit, now_ms).await?;
    let sql = "UPDATE courant_dead SET event_id = ?, event_value = ?, headers = ? \
               WHERE consumer = ? AND generation = ? AND topic = ? AND partition_id = ? AND event_offset = ?";
    sqlx::query(sql)
        .bind(edit.event_id.as_str())
        .bind(edit.value.as_deref())
        .bind(headers::encode(&edit.headers))
        .bind(assignment.consumer.name.as_str())
        .bind(i64::from(assignment.consumer.generation))
        .bind(assignment.partition.topic.as_str())
        .bind(i64::from(assignment.partition.partition))
        .bind(signed(offset, EDIT)?)
        .execute(&mut *session)
        .await
        .map_err(failed(EDIT))?;
    session.commit().await.map_err(failed(EDIT))?;
    Ok(())
}

/// Where a dead letter stands in the log, if it may be edited.
async fn editable(
    connection: &mut MySqlConnection,
    id: i64,
    edit: &DeadEdit,
) -> Result<(Assignment, u64), EditError> {
    let sql = "SELECT consumer, generation, topic, partition_id, event_offset, event_id, state \
               FROM courant_dead WHERE id = ?";
    let row = sqlx::query(sql).bind(id).fetch_optional(&mut *connection).await.map_err(failed(EDIT))?;
    let Some(row) = row else { return Err(EditError::Unknown { id }) };
    let columns = Columns::new(&row, EDIT);
    let state = columns.known(6, DeadState::parse)?;
    if state != DeadState::Dead {
        return Err(EditError::Decided { id, state });
    }
    let found = columns.event_id(5)?;
    if found != edit.replaces {
        return Err(EditError::Changed { id, found });
    }
    Ok((columns.assignment(0)?, columns.number(4)?))
}

async fn keep_original(
    connection: &mut MySqlConnection,
    id: i64,
    edit: &DeadEdit,
    now_ms: i64,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO courant_dead_note \
               (dead_id, action, done_by, reason, at_ms, event_id, event_value, headers) \
               SELECT id, ?, ?, ?, ?, event_id, event_value, headers FROM courant_dead WHERE id = ?";
    sqlx::query(sql)
        .bind(DeadAction::Edited.as_str())
        .bind(cut(&edit.by, FAILURE_TEXT_BYTES_MAX))
        .bind(cut(&edit.reason, FAILURE_TEXT_BYTES_MAX))
        .bind(now_ms)
        .bind(id)
        .execute(&mut *connection)
        .await
        .map_err(failed(EDIT))?;
    Ok(())
}

/// The original is settled, and may come from the log again; the new one takes its place among the undecided.
async fn change_ids(
    connection: &mut MySqlConnection,
    assignment: &Assignment,
    offset: u64,
    edit: &DeadEdit,
    now_ms: i64,
) -> Result<(), StoreError> {
    let inbox = "UPDATE courant_inbox SET outcome = 'discarded', settled_ms = ? \
                 WHERE consumer = ? AND generation = ? AND event_id = ? AND outcome = 'dead'";
    sqlx::query(inbox)
        .bind(now_ms)
        .bind(assignment.consumer.name.as_str())
        .bind(i64::from(assignment.consumer.generation))
        .bind(edit.replaces.as_str())
        .execute(&mut *connection)
        .await
        .map_err(failed(EDIT))?;
    write_outcome(connection, &assignment.consumer, edit.event_id.as_str(), Outcome::Dead, now_ms).await?;
    let parked = "UPDATE courant_parked SET event_id = ? WHERE consumer = ? AND generation = ? \
                  AND topic = ? AND partition_id = ? AND event_offset = ? AND state = 'dead'";
    sqlx::query(parked)
        .bind(edit.event_id.as_str())
        .bind(assignment.consumer.name.as_str())
        .bind(i64::from(assignment.consumer.generation))
        .bind(assignment.partition.topic.as_str())
        .bind(i64::from(assignment.partition.partition))
        .bind(signed(offset, EDIT)?)
        .execute(&mut *connection)
        .await
        .map_err(failed(EDIT))?;
    Ok(())
}

/// Writes a decision down.
pub(super) async fn decided(
    connection: &mut MySqlConnection,
    ids: &[i64],
    decision: &Decision<'_>,
    now_ms: i64,
) -> Result<(), StoreError> {
    let sql = concat!(
        "INSERT INTO courant_dead_note (dead_id, action, done_by, reason, at_ms) SELECT w.id, ?, ?, ?, ? FROM ",
        numbers!()
    );
    sqlx::query(sql)
        .bind(DeadAction::from(decision.verdict).as_str())
        .bind(cut(decision.by, FAILURE_TEXT_BYTES_MAX))
        .bind(cut(decision.reason, FAILURE_TEXT_BYTES_MAX))
        .bind(now_ms)
        .bind(lists::json(ids.iter().copied()))
        .execute(&mut *connection)
        .await
        .map_err(failed(NOTE))?;
    Ok(())
}

pub(super) async fn notes(store: &Mariadb, id: i64) -> Result<Vec<DeadNote>, StoreError> {
    let sql =
        concat!("SELECT ", note_columns!(), " FROM courant_dead_note WHERE dead_id = ? ORDER BY id LIMIT ?");
    let mut session = store.reader().await?;
    let rows = sqlx::query(sql)
        .bind(id)
        .bind(i64::from(LISTED_MAX))
        .fetch_all(&mut *session)
        .await
        .map_err(failed(READ))?;
    session.give_back();
    rows.iter().map(|row| Columns::new(row, READ).dead_note()).collect()
}
