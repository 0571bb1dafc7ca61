//! Leaving: by a member's wish, or because it was silent for too long.

use super::{Effect, Group, Now, State};
use crate::wire::ErrorCode;

impl Group {
    /// Members leave; each hears whether it was there. A static member may be named by its instance
    /// alone, so that an administrator can take it out (KIP-345).
    pub(crate) fn leave(
        &mut self,
        leaving: &[(String, Option<String>)],
        now: Now,
    ) -> (Vec<Result<(), ErrorCode>>, Vec<Effect>) {
        let mut effects = Vec::new();
        let mut gone = Vec::new();
        let mut outcomes = Vec::with_capacity(leaving.len());
        for (member_id, instance_id) in leaving {
            let found = self.find_leaving(member_id, instance_id.as_deref());
            outcomes.push(found.as_ref().map(|_| ()).map_err(|code| *code));
            if let Ok(Some(id)) = found
                && !gone.contains(&id)
            {
                gone.push(id);
            }
        }
        self.remove(&gone, now, &mut effects);
        (outcomes, effects)
    }

    /// The member that is meant. `None` for an id that was given and never joined with.
    fn find_leaving(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> Result<Option<String>, ErrorCode> {
        if let Some(instance) = instance_id {
            return match self.statics.get(instance) {
                None => Err(ErrorCode::UNKNOWN_MEMBER_ID),
                Some(id) if !member_id.is_empty() && id != member_id => Err(ErrorCode::FENCED_INSTANCE_ID),
                Some(id) => Ok(Some(id.clone())),
            };
        }
        if self.pending.remove(member_id).is_some() {
            return Ok(None);
        }
        match self.members.contains_key(member_id) {
            true => Ok(Some(member_id.to_owned())),
            false => Err(ErrorCode::UNKNOWN_MEMBER_ID),
        }
    }

    /// Takes members out; the others share what they had.
    pub(super) fn remove(&mut self, ids: &[String], now: Now, effects: &mut Vec<Effect>) {
        for id in ids {
            self.forget(id, effects);
        }
        match self.state {
            State::Completing { .. } | State::Stable if !ids.is_empty() => self.rebalance(now, effects),
            State::Preparing { .. } => self.complete_when_all_are_back(now, effects),
            State::Empty | State::Completing { .. } | State::Stable | State::Dead => {}
        }
    }

    /// Takes one member out and answers what it waits for.
    pub(super) fn forget(&mut self, id: &str, effects: &mut Vec<Effect>) {
        let Some(mut member) = self.members.remove(id) else { return };
        member.refuse(ErrorCode::UNKNOWN_MEMBER_ID, effects);
        if let Some(instance) = &member.instance_id {
            self.statics.remove(instance);
        }
        self.elect_leader();
    }
}
