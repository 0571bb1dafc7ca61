//! Which dead letters are meant, and all of them page by page.

use super::unstored;
use crate::cli::Which;
use crate::exit::{Exit, Failure};
use crate::time::{StartFrom, ago_ms};
use bytes::Bytes;
use courant_sql::limits::{LISTED_MAX, REDRIVE_EVENTS_MAX};
use courant_sql::{DeadFilter, DeadGroup, DeadLetter, DeadState, DeadSummary, Store};

/// What the command line means.
#[derive(Debug)]
pub(super) struct Meant {
    pub(super) filter: DeadFilter,
    /// Of this failure, where the store does not know which letters those are.
    group: Option<String>,
    /// Last failures at this time or later, in milliseconds since 1970.
    since_ms: Option<i64>,
    /// Last failures before this time.
    until_ms: Option<i64>,
}

/// Fails unless somebody has said which letters are meant: nothing happens to all of them by accident.
pub(super) fn said(letters: &[i64], all: bool, which: &Which) -> Result<(), Failure> {
    if all || !letters.is_empty() || !which.is_everything() {
        return Ok(());
    }
    let sentence = "say which dead letters are meant: their numbers, a filter such as --consumer NAME or \
                    --group GROUP, or --all";
    Err(Failure::new(Exit::Usage, sentence))
}

/// Turns what was said into a filter of the store.
pub(super) async fn meant<S: Store>(
    store: &S,
    which: &Which,
    letters: &[i64],
    state: Option<DeadState>,
) -> Result<Meant, Failure> {
    let mut filter = DeadFilter {
        consumer: which.consumer.clone(),
        topic: which.topic.clone(),
        key: which.key.as_ref().map(|key| Bytes::copy_from_slice(key.as_bytes())),
        state,
        ids: letters.to_vec(),
        ..DeadFilter::default()
    };
    // The store names the failures of undecided letters alone.
    let is_undecided = state == Some(DeadState::Dead);
    if let Some(name) = which.group.as_ref().filter(|_| is_undecided) {
        let group = group(store, name).await?;
        if which.consumer.as_ref().is_some_and(|consumer| *consumer != group.consumer) {
            let sentence = format!("the failure {name} is one of the consumer {}", group.consumer);
            return Err(Failure::new(Exit::NotFound, sentence));
        }
        filter.consumer = Some(group.consumer);
        filter.kind = Some(group.kind);
        filter.place = Some(group.place);
    }
    let group = which.group.clone().filter(|_| !is_undecided);
    let (since_ms, until_ms) = (which.since.and_then(at_ms), which.until.and_then(at_ms));
    Ok(Meant { filter, group, since_ms, until_ms })
}

/// The instant of a time on the command line.
pub(super) fn at_ms(time: StartFrom) -> Option<i64> {
    match time {
        StartFrom::At(at_ms) => Some(at_ms),
        StartFrom::Ago(ago) => Some(ago_ms(ago)),
        _ => None,
    }
}

async fn group<S: Store>(store: &S, name: &str) -> Result<DeadGroup, Failure> {
    let groups = store.dead_letter_groups(LISTED_MAX).await.map_err(|error| unstored(&error))?;
    let mut named = groups.into_iter().filter(|group| group_name(group) == name);
    match (named.next(), named.next()) {
        (Some(group), None) => Ok(group),
        (None, _) => {
            let sentence =
                format!("nobody has to decide about a failure {name}; `courant dlq list` names them");
            Err(Failure::new(Exit::NotFound, sentence))
        }
        (Some(_), Some(_)) => {
            let sentence =
                format!("two failures have the name {name}; use --consumer, or numbers of letters");
            Err(Failure::new(Exit::Conflict, sentence))
        }
    }
}

/// The short name of a failure.
pub(super) fn group_name(group: &DeadGroup) -> String {
    name_of(group.consumer.as_str(), &group.kind, &group.place)
}

/// The short name of a failure. It is the same as long as consumer, error and place are.
pub(super) fn name_of(consumer: &str, kind: &str, place: &str) -> String {
    courant::channel::failure_name(consumer, kind, place)
}

impl Meant {
    fn takes(&self, letter: &DeadSummary) -> bool {
        let failure = &letter.failure;
        let name = || name_of(letter.consumer.name.as_str(), &failure.kind, &failure.place);
        self.group.as_ref().is_none_or(|group| *group == name())
            && self.since_ms.is_none_or(|since_ms| letter.last_failed_ms >= since_ms)
            && self.until_ms.is_none_or(|until_ms| letter.last_failed_ms < until_ms)
    }

    /// A filter of the store that means the same, and how many letters it takes. The store knows no times, so
    /// with them the letters are named one by one. When there are none, the filter is not to be used: it names
    /// nothing, which restricts nothing.
    pub(super) async fn fixed<S: Store>(mut self, store: &S) -> Result<(DeadFilter, u64), Failure> {
        if self.since_ms.is_none() && self.until_ms.is_none() {
            let count = store.count_dead_letters(&self.filter).await.map_err(|error| unstored(&error))?;
            return Ok((self.filter, count));
        }
        let most = usize::try_from(REDRIVE_EVENTS_MAX).unwrap_or(usize::MAX);
        let mut ids = Vec::new();
        let mut pages = Pages::new();
        while let Some(page) = pages.next(store, &self).await? {
            ids.extend(page.into_iter().map(|letter| letter.id));
            if ids.len() >= most {
                ids.truncate(most);
                break;
            }
        }
        let count = ids.len() as u64;
        self.filter.ids = ids;
        Ok((self.filter, count))
    }
}

/// All letters that are meant, by their numbers.
#[derive(Debug)]
pub(super) struct Pages {
    after: i64,
}

impl Pages {
    pub(super) fn new() -> Self {
        Self { after: 0 }
    }

    /// The next ones; a page may be empty. `None` after the last one.
    pub(super) async fn next<S: Store>(
        &mut self,
        store: &S,
        meant: &Meant,
    ) -> Result<Option<Vec<DeadSummary>>, Failure> {
        let page = store.dead_letters(&meant.filter, self.after, LISTED_MAX).await;
        let mut page = page.map_err(|error| unstored(&error))?;
        let Some(last) = page.last() else { return Ok(None) };
        self.after = last.id;
        page.retain(|letter| meant.takes(letter));
        Ok(Some(page))
    }
}

/// One letter with its bytes.
pub(super) async fn one<S: Store>(store: &S, id: i64) -> Result<DeadLetter, Failure> {
    let letter = store.dead_letter(id).await.map_err(|error| unstored(&error))?;
    letter.ok_or_else(|| {
        let sentence = format!("there is no dead letter {id}; `courant dlq list --letters` has the numbers");
        Failure::new(Exit::NotFound, sentence)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_keeps_its_name_and_shares_it_with_no_other() {
        let name = name_of("billing", "Declined", "bill");
        assert_eq!(name, name_of("billing", "Declined", "bill"));
        assert_eq!(name.len(), 8);
        for (consumer, kind, place) in
            [("b", "Declined", "bill"), ("billing", "D", "bill"), ("billingD", "eclined", "bill")]
        {
            assert_ne!(name, name_of(consumer, kind, place));
        }
    }

    #[test]
    fn nothing_happens_to_all_letters_by_accident() {
        let nothing = Which::default();
        assert_eq!(said(&[], false, &nothing).expect_err("says nothing").exit, Exit::Usage);
        assert_eq!(said(&[], true, &nothing), Ok(()));
        assert_eq!(said(&[7], false, &nothing), Ok(()));
        let some = Which { key: Some("a".to_owned()), ..Which::default() };
        assert_eq!(said(&[], false, &some), Ok(()));
    }
}
