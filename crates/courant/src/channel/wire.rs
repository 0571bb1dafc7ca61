//! Requests and answers as events, and what the store knows in the words of an answer.

use courant_core::operations::{
    ANSWERS, Answer, REQUEST_TYPE, REQUESTS, RedriveProgress, RedriveResult, Signed, ToldLetter, ToldNote,
};
use courant_sql::{
    DeadAction, DeadNote, DeadReason, DeadState, DeadSummary, Redrive, RedriveEvent, RedriveEventState,
    RedriveState,
};

use crate::{Event, Key};

// Compile errors about events are about those of a service.
#[diagnostic::do_not_recommend]
impl Event for Signed {
    const TYPE: &'static str = REQUEST_TYPE;
    const TOPIC: &'static str = REQUESTS;

    /// None waits for another.
    fn key(&self) -> Option<Key> {
        None
    }
}

// Compile errors about events are about those of a service.
#[diagnostic::do_not_recommend]
impl Event for Answer {
    const TYPE: &'static str = "courant.answer";
    const TOPIC: &'static str = ANSWERS;

    fn key(&self) -> Option<Key> {
        Some(Key::of(&self.request))
    }
}

/// How far a redrive is.
pub(super) fn progress(redrive: &Redrive) -> RedriveProgress {
    let state = match redrive.state {
        RedriveState::Running => "running",
        RedriveState::Done => "done",
        RedriveState::Cancelled => "cancelled",
    };
    RedriveProgress {
        id: redrive.id.clone(),
        requested_by: redrive.requested_by.clone(),
        requested_ms: redrive.requested_ms,
        filter: redrive.filter.clone(),
        state: state.to_owned(),
        finished_ms: redrive.finished_ms,
        pending: redrive.pending,
        delivering: redrive.delivering,
        handled: redrive.handled,
        failed: redrive.failed,
        cancelled: redrive.cancelled,
    }
}

/// What a redrive has made of one letter.
pub(super) fn result(event: &RedriveEvent) -> RedriveResult {
    let result = match event.state {
        RedriveEventState::Pending => "pending",
        RedriveEventState::Delivering => "delivering",
        RedriveEventState::Handled => "handled",
        RedriveEventState::Failed => "failed",
        RedriveEventState::Cancelled => "cancelled",
    };
    RedriveResult {
        letter: event.dead_id,
        result: result.to_owned(),
        since_ms: event.changed_ms,
        state: word(event.dead_state).to_owned(),
    }
}

/// What is told of a letter: nothing of what its event says, and not the text of its error.
pub(super) fn told(letter: DeadSummary, notes: Option<Vec<ToldNote>>) -> ToldLetter {
    let reason = match letter.reason {
        DeadReason::Exhausted => "exhausted",
        DeadReason::Undecodable => "undecodable",
        DeadReason::Refused => "refused",
    };
    ToldLetter {
        letter: letter.id,
        consumer: letter.consumer.name.to_string(),
        generation: letter.consumer.generation,
        topic: letter.position.topic.to_string(),
        partition: letter.position.partition,
        offset: letter.position.offset,
        event_id: letter.event_id.to_string(),
        state: word(letter.state).to_owned(),
        reason: reason.to_owned(),
        blocks_key: letter.blocks_key,
        attempts: letter.attempts,
        first_failed_ms: letter.first_failed_ms,
        last_failed_ms: letter.last_failed_ms,
        error: letter.failure.kind,
        place: letter.failure.place,
        code_version: letter.code_version,
        notes,
    }
}

/// What is told of a note: not the bytes that were there before an edit.
pub(super) fn told_note(note: DeadNote) -> ToldNote {
    let action = match note.action {
        DeadAction::Edited => "edited",
        DeadAction::Discarded => "discarded",
        DeadAction::Archived => "archived",
        DeadAction::Restored => "restored",
    };
    ToldNote { action: action.to_owned(), by: note.by, reason: note.reason, at_ms: note.at_ms }
}

/// The word for where a letter stands.
pub(super) fn word(state: DeadState) -> &'static str {
    match state {
        DeadState::Dead => "dead",
        DeadState::Redriving => "redriving",
        DeadState::Redriven => "redriven",
        DeadState::Discarded => "discarded",
        DeadState::Archived => "archived",
    }
}

/// Where a letter stands that has this word.
pub(super) fn state(word: &str) -> Option<DeadState> {
    let all = [
        DeadState::Dead,
        DeadState::Redriving,
        DeadState::Redriven,
        DeadState::Discarded,
        DeadState::Archived,
    ];
    all.into_iter().find(|state| self::word(*state) == word)
}
