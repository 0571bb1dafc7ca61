//! What others have done in the store: asked for redrives, given dead letters up. Another process cannot
//! wake the loop, so the loop looks from time to time. A look reads, and holds nobody up.

use std::time::Duration;

use super::Driver;
use crate::runtime::ledger::Trouble;
use crate::runtime::time::after;

/// How often the loop looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Driver {
    /// Looks from now on, where there is a store that others can change.
    pub(super) fn begin_looking(&mut self) {
        let is_shared = self.ledger.is_shared();
        self.look_ms = is_shared.then(|| after(self.context.time.now_ms(), LOOK_EVERY));
    }

    /// Looks, if it is time to.
    pub(super) async fn look_around(&mut self) -> Result<(), Trouble> {
        let Some(look_ms) = self.look_ms else { return Ok(()) };
        let now_ms = self.context.time.now_ms();
        let next_ms = after(now_ms, LOOK_EVERY);
        if now_ms < look_ms {
            // A clock that is set back puts no look off.
            self.look_ms = Some(look_ms.min(next_ms));
            return Ok(());
        }
        self.look_ms = Some(next_ms);
        for part in self.parts.values_mut() {
            let news = self.ledger.news(&part.assigned).await?;
            // They are taken when nothing is under way.
            self.is_holding |= news.redrives;
            // What waited behind a letter that was given up is due.
            part.due_ms.extend(news.due_ms);
        }
        Ok(())
    }
}
