//! Every scenario, by what it is about.

mod closing;
mod commits;
mod groups;
mod keeping;
mod order;
mod publishing;
mod reading;
mod records;
mod times;
mod topics;
mod waiting;

use std::fmt;

use courant_engine::{
    Boxed, Capabilities, GroupScope, Lifetime, OrderScope, PublishDedup, Replay, TimeLookup,
};

use crate::{Outcome, Stage};

/// One promise, and how it is tried out.
#[derive(Clone, Copy)]
pub struct Scenario {
    name: &'static str,
    needs: Needs,
    run: for<'a> fn(&'a mut Stage) -> Boxed<'a, Outcome>,
}

/// What an engine must say that it can do, for a scenario to ask it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs {
    /// What every engine does.
    Nothing,
    /// Order within a partition, also of different keys.
    Partitions,
    /// Reading from any offset.
    Replay,
    /// Offsets by time.
    Times,
    /// Storing what is published twice twice.
    Repetition,
    /// Storing what is published twice once.
    Ids,
    /// Groups of several processes.
    Processes,
    /// Keeping everything when it is closed.
    Storage,
}

impl Scenario {
    /// Its name: what it is about, and what is promised.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Whether an engine that can do this is asked.
    #[must_use]
    pub fn asks_for(&self, can: &Capabilities) -> bool {
        match self.needs {
            Needs::Nothing => true,
            Needs::Partitions => can.order == OrderScope::Partition,
            Needs::Replay => can.replay == Replay::AnyOffset,
            Needs::Times => can.time_lookup == TimeLookup::Timestamp,
            Needs::Repetition => can.publish_dedup == PublishDedup::Nothing,
            Needs::Ids => can.publish_dedup != PublishDedup::Nothing,
            Needs::Processes => can.groups == GroupScope::Everywhere,
            Needs::Storage => can.lifetime == Lifetime::Storage,
        }
    }

    pub(crate) async fn run(self, stage: &mut Stage) -> Outcome {
        (self.run)(stage).await
    }
}

impl fmt::Debug for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scenario")
            .field("name", &self.name)
            .field("needs", &self.needs)
            .finish_non_exhaustive()
    }
}

macro_rules! scenarios {
    ($($needs:ident { $($group:ident::$name:ident,)+ })+) => {
        vec![$($(
            Scenario {
                name: concat!(stringify!($group), "::", stringify!($name)),
                needs: Needs::$needs,
                run: |stage| Box::pin($group::$name(stage)),
            },
        )+)+]
    };
}

/// All of them, in the order in which they are best read.
#[must_use]
pub fn scenarios() -> Vec<Scenario> {
    [about_events(), about_reading(), about_consumers(), about_the_engine()].concat()
}

/// What is published, and what becomes of it.
fn about_events() -> Vec<Scenario> {
    scenarios! {
        Nothing {
            records::every_part_comes_back_as_it_was,
            records::headers_repeat_and_keep_their_order,
            records::null_and_empty_are_different,
            records::bytes_need_not_be_text,
            records::timestamps_are_kept_to_the_millisecond,
            records::a_record_without_a_time_gets_one,
            records::large_records_come_whole,
            order::a_key_keeps_its_order_over_many_calls,
            order::a_key_keeps_its_order_within_a_call,
            order::a_key_has_one_partition,
            order::a_key_is_where_other_clients_look_for_it,
            order::concurrent_publishers_lose_nothing_and_keep_their_order,
            order::topics_do_not_leak_into_each_other,
        }
        Partitions {
            order::a_partition_keeps_the_order_of_different_keys,
            order::a_large_call_stays_in_order,
        }
        Nothing {
            publishing::what_is_answered_can_be_read_at_once,
            publishing::each_record_has_an_offset_of_its_own,
            publishing::answers_are_in_the_order_of_the_records,
            publishing::nothing_is_stored_twice,
            publishing::records_without_a_key_are_stored_as_well,
            publishing::the_partition_that_was_chosen_is_taken,
            publishing::an_unknown_partition_is_refused,
            publishing::an_unknown_topic_is_refused_and_not_made,
            publishing::a_record_that_cannot_be_taken_is_refused_alone,
            publishing::a_time_before_1970_is_refused,
        }
        Repetition {
            publishing::the_same_record_twice_is_two_records,
        }
        Ids {
            publishing::an_event_that_comes_again_is_stored_once,
        }
    }
}

/// Where one can read.
fn about_reading() -> Vec<Scenario> {
    scenarios! {
        Nothing {
            reading::a_new_group_finds_what_was_there_before,
            reading::ends_are_exact_after_every_publish,
            reading::an_empty_partition_begins_and_ends_at_0,
            reading::ends_of_what_is_unknown_are_refused,
            reading::what_is_fetched_says_the_ends,
            reading::a_read_is_bounded,
            reading::a_paused_partition_waits,
            reading::a_resumed_partition_goes_on_where_it_was,
        }
        Replay {
            reading::reading_begins_at_any_offset,
            reading::a_subscription_can_go_back,
            reading::what_follows_is_where_it_says,
            reading::an_offset_behind_the_end_is_named,
            reading::after_an_error_the_others_go_on_and_it_can_be_sought_again,
            reading::each_record_is_read_back_where_it_is,
            reading::behind_the_end_nothing_is_read_back,
            reading::what_is_unknown_is_not_read_back,
        }
        Times {
            times::the_first_record_of_a_time_is_found,
            times::behind_all_times_there_is_nothing,
            times::each_partition_is_asked_for_itself,
        }
        Nothing {
            waiting::a_wait_ends_when_something_comes,
            waiting::a_wait_without_news_ends_with_nothing,
            waiting::a_look_comes_back_at_once,
            waiting::a_wait_that_is_given_up_loses_nothing,
        }
    }
}

/// Who reads, and how far they are.
fn about_consumers() -> Vec<Scenario> {
    scenarios! {
        Nothing {
            groups::two_groups_each_get_everything,
            groups::members_share_the_partitions,
            groups::a_partition_is_given_up_before_another_has_it,
            groups::nothing_comes_of_a_partition_that_was_revoked,
            groups::who_leaves_gives_everything_back,
            groups::nothing_is_read_before_it_is_sought,
            groups::what_is_not_assigned_cannot_be_sought,
            groups::what_was_assigned_is_what_it_says_that_it_has,
            groups::an_unknown_topic_cannot_be_subscribed,
            commits::a_commit_is_found_again,
            commits::the_last_commit_counts_also_a_lower_one,
            commits::groups_have_their_own,
            commits::partitions_have_their_own,
            commits::what_was_never_committed_is_nothing,
            commits::an_unknown_partition_takes_nothing_of_the_commit,
        }
        Processes {
            groups::members_in_several_processes_share_the_partitions,
        }
    }
}

/// What there is, and for how long.
fn about_the_engine() -> Vec<Scenario> {
    scenarios! {
        Nothing {
            topics::a_topic_has_the_partitions_that_were_asked_for,
            topics::a_topic_that_is_there_is_not_made_again,
            topics::what_is_not_there_is_nothing,
            topics::a_topic_without_partitions_is_refused,
            topics::each_topic_has_an_id_of_its_own,
            topics::a_config_that_nobody_knows_is_refused,
            topics::a_topic_promises_what_the_engine_does,
        }
        Storage {
            keeping::records_are_found_again,
            keeping::offsets_go_on_where_they_were,
            keeping::the_log_keeps_its_identity,
            keeping::topics_keep_their_ids,
            keeping::commits_are_found_again,
        }
        Nothing {
            closing::a_closed_engine_refuses_everything,
            closing::closing_ends_a_wait,
            closing::closing_twice_is_closing_once,
        }
    }
}
