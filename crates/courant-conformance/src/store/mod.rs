//! The contract of stores as scenarios: what [`courant_sql::Store`] promises, tried out on any store.
//!
//! A scenario works with the operations of the trait alone, so that it is the same for every database: its
//! effect is an event in the outbox, its memory the inbox.

mod dead;
mod given;
mod inbox;
mod outbox;
mod owning;
mod parking;
mod pruning;
mod redrive;
mod stage;
mod subject;
mod timers;
mod transactions;

use std::fmt;

use courant_engine::Boxed;
use courant_sql::Store;
use tokio::time::timeout;

pub(crate) use stage::StoreStage;
pub use subject::{EndingTransaction, OpeningStore, StoreSubject};

use crate::{Failure, Outcome, Report};

/// One promise of stores, and how it is tried out.
pub struct StoreScenario<S: Store> {
    name: &'static str,
    /// It ends a transaction behind the store's back, and the subject has to say how.
    ends_transactions: bool,
    run: for<'a> fn(&'a mut StoreStage<S>) -> Boxed<'a, Outcome>,
}

impl<S: Store> StoreScenario<S> {
    /// Its name: what it is about, and what is promised.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }
}

impl<S: Store> fmt::Debug for StoreScenario<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreScenario").field("name", &self.name).finish_non_exhaustive()
    }
}

macro_rules! scenarios {
    ($ends:literal: $($group:ident::$name:ident,)+) => {
        vec![$(
            StoreScenario::<S> {
                name: concat!(stringify!($group), "::", stringify!($name)),
                ends_transactions: $ends,
                run: |stage| Box::pin($group::$name(stage)),
            },
        )+]
    };
}

/// All of them, in the order in which they are best read.
#[must_use]
pub fn store_scenarios<S: Store>() -> Vec<StoreScenario<S>> {
    let mut all: Vec<StoreScenario<S>> = scenarios! { false:
        inbox::what_was_handled_is_seen,
        inbox::what_was_handled_is_seen_after_a_restart,
        inbox::what_was_rolled_back_is_new,
        inbox::each_consumer_has_its_own,
        inbox::an_event_that_comes_twice_in_one_call_is_new_once,
        owning::an_old_owner_begins_nothing,
        owning::an_old_owner_parks_nothing,
        owning::an_old_owner_moves_no_progress,
        owning::progress_never_moves_back,
        owning::progress_is_found_again,
        owning::progress_can_be_set_anywhere,
        parking::a_key_comes_back_in_order,
        parking::what_comes_after_a_parked_event_waits,
        parking::other_keys_flow,
        parking::parked_keys_are_those_of_now,
        parking::attempts_are_counted,
        parking::nothing_is_due_early,
        parking::the_next_due_time_is_told,
        parking::the_last_event_drains_its_key,
        dead::a_letter_is_the_event_as_it_came,
        dead::a_letter_holds_its_key_until_it_is_given_up,
        dead::a_letter_is_decided_once,
        dead::an_edit_keeps_the_original,
        redrive::a_request_is_made_once,
        redrive::what_comes_back_comes_before_newer_events,
        redrive::each_event_has_its_result,
        redrive::a_rate_is_kept,
        outbox::events_come_back_as_they_were_published,
        outbox::positions_have_no_gaps_and_come_once,
        outbox::what_was_read_stays_until_it_is_moved_on,
        outbox::an_old_relay_moves_nothing,
        outbox::nobody_moves_further_than_there_are_events,
        outbox::the_backlog_is_counted,
        pruning::only_what_is_old_is_forgotten,
        timers::a_timer_comes_at_its_time_and_not_before,
        timers::a_cancelled_timer_does_not_come,
        transactions::what_was_committed_is_there,
        transactions::what_was_rolled_back_is_not_published,
        transactions::what_begins_with_a_commit_has_no_part_in_it,
    };
    all.extend(scenarios! { true:
        transactions::a_transaction_that_has_ended_is_not_committed,
    });
    all
}

/// Holds a store against every scenario.
pub async fn check_store<S: Store>(subject: &StoreSubject<S>) -> Report {
    check_store_some(subject, |_| true).await
}

/// Holds a store against the scenarios whose names are wanted.
pub async fn check_store_some<S: Store>(subject: &StoreSubject<S>, wanted: impl Fn(&str) -> bool) -> Report {
    let mut report = Report::of(subject.name());
    for (place, scenario) in (0..).zip(store_scenarios::<S>()) {
        if !wanted(scenario.name) {
            continue;
        }
        if scenario.ends_transactions && subject.ending_of().is_none() {
            report.left_out.push(scenario.name);
            continue;
        }
        report.count(scenario.name, run(subject, place, &scenario).await);
    }
    report
}

async fn run<S: Store>(subject: &StoreSubject<S>, place: u32, scenario: &StoreScenario<S>) -> Outcome {
    let mut stage = StoreStage::new(subject.clone(), place).await?;
    let patience = subject.patience_of();
    match timeout(patience, (scenario.run)(&mut stage)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Failure::new(format!("it does not end within {patience:?}"))),
    }
}
