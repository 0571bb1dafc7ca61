//! What people do with a dead letter besides sending it back, and the notes that remain of it.

use bytes::Bytes;
use courant_core::event_id::EventId;

/// What somebody has decided about dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision<'a> {
    /// What happens to them.
    pub verdict: Verdict,
    /// Who has decided.
    pub by: &'a str,
    /// Why.
    pub reason: &'a str,
}

/// What happens to dead letters that are not sent back, or not yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// They are given up.
    Discard,
    /// They are kept, and out of the way.
    Archive,
    /// They were archived, and somebody has to decide about them again.
    Restore,
}

/// Other bytes for a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadEdit {
    /// The id that it has now: with another one, somebody else has edited it meanwhile.
    pub replaces: EventId,
    /// The id that it gets.
    pub event_id: EventId,
    /// What it says.
    pub value: Option<Bytes>,
    /// Its headers, in their order.
    pub headers: Vec<(String, Bytes)>,
    /// Who edits it.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// What somebody has done with a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadNote {
    /// What it was.
    pub action: DeadAction,
    /// Who has done it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// What the event was before it was edited.
    pub original: Option<Original>,
}

/// What can be done with a dead letter besides sending it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeadAction {
    /// It was given other bytes.
    Edited,
    /// It was given up.
    Discarded,
    /// It was set aside for good.
    Archived,
    /// It was taken back from there.
    Restored,
}

/// An event before it was edited. Its key, its place and its time are those of the dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Original {
    /// Its id.
    pub event_id: EventId,
    /// What it said.
    pub value: Option<Bytes>,
    /// Its headers, in their order.
    pub headers: Vec<(String, Bytes)>,
}

impl DeadAction {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Edited => "edited",
            Self::Discarded => "discarded",
            Self::Archived => "archived",
            Self::Restored => "restored",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let all = [Self::Edited, Self::Discarded, Self::Archived, Self::Restored];
        all.into_iter().find(|action| action.as_str() == text)
    }
}

impl From<Verdict> for DeadAction {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Discard => Self::Discarded,
            Verdict::Archive => Self::Archived,
            Verdict::Restore => Self::Restored,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_come_back_from_their_text() {
        for action in [DeadAction::Edited, DeadAction::Discarded, DeadAction::Archived, DeadAction::Restored]
        {
            assert_eq!(DeadAction::parse(action.as_str()), Some(action));
        }
        assert_eq!(DeadAction::parse("redriven"), None);
    }
}
