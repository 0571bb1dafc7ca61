//! What somebody wants to be told of.

use serde::Deserialize;

use crate::api::ApiState;
use crate::api::filter::{Condition, Where};
use crate::api::limits::{
    STREAM_PARTITIONS_MAX, STREAM_RATE_MAX, STREAM_RATE_MIN, SUBSCRIPTION_NAME_BYTES_MAX, TOPICS_NAMED_MAX,
};
use crate::api::problem::{BAD_REQUEST, INVALID, Problem};
use crate::api::records::begin::Begin;
use crate::api::records::partition;

/// A wish for the records of topics, as it is sent.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wish {
    /// What the records of it are marked with; they are not where it has none.
    pub(super) name: Option<String>,
    pub(super) topics: Vec<String>,
    pub(super) partitions: Option<Vec<u32>>,
    /// `end` where it is missing.
    pub(super) from: Option<String>,
    /// Where some partitions begin, whatever `from` says.
    #[serde(default)]
    pub(super) positions: Vec<WishPosition>,
    #[serde(rename = "where", default)]
    pub(super) condition: Where,
    /// Records a second at most; others are passed over.
    pub(super) rate: Option<u64>,
}

/// Where one partition begins.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WishPosition {
    pub(super) topic: String,
    pub(super) partition: u32,
    pub(super) offset: u64,
}

/// A wish that was understood.
#[derive(Debug)]
pub(super) struct Subscription {
    /// Its number in the stream; never given twice.
    pub(super) number: u32,
    pub(super) name: Option<String>,
    pub(super) topics: Vec<String>,
    /// By number; `None`: all, also those that a topic gets later.
    pub(super) partitions: Option<Vec<u32>>,
    pub(super) begin: Begin,
    pub(super) positions: Vec<WishPosition>,
    pub(super) condition: Condition,
    pub(super) rate: Option<u64>,
    /// Partitions that it had when it was made.
    pub(super) width: usize,
}

impl Wish {
    /// Understands a wish. Its topics must exist.
    pub(super) fn understood(self, state: &ApiState, number: u32) -> Result<Subscription, Problem> {
        let bad = |sentence: String| Problem::new(&BAD_REQUEST, sentence);
        let Self { name, mut topics, mut partitions, from, positions, condition, rate } = self;
        if name.as_ref().is_some_and(|name| !(1..=SUBSCRIPTION_NAME_BYTES_MAX).contains(&name.len())) {
            return Err(bad(format!("a subscription's name has 1 to {SUBSCRIPTION_NAME_BYTES_MAX} bytes")));
        }
        topics.sort_unstable();
        topics.dedup();
        if !(1..=TOPICS_NAMED_MAX).contains(&topics.len()) {
            return Err(bad(format!("a subscription names 1 to {TOPICS_NAMED_MAX} topics")));
        }
        if rate.is_some_and(|rate| !(STREAM_RATE_MIN..=STREAM_RATE_MAX).contains(&rate)) {
            return Err(bad(format!("a rate is {STREAM_RATE_MIN} to {STREAM_RATE_MAX} records a second")));
        }
        if let Some(numbers) = &mut partitions {
            numbers.sort_unstable();
            numbers.dedup();
        }
        let mut width = 0;
        for name in &topics {
            let topic = state.topic(name)?;
            for number in partitions.iter().flatten() {
                partition(&topic, *number)?;
            }
            width += partitions.as_ref().map_or(topic.partitions.len(), Vec::len);
        }
        check_width(width)?;
        if positions.len() > STREAM_PARTITIONS_MAX {
            return Err(bad(format!("a subscription has at most {STREAM_PARTITIONS_MAX} positions")));
        }
        let begin = from.map_or(Ok(Begin::End), |from| from.parse()).map_err(bad)?;
        let condition = Condition::of(condition)?;
        Ok(Subscription { number, name, topics, partitions, begin, positions, condition, rate, width })
    }
}

/// Refuses more partitions than a stream follows.
pub(super) fn check_width(width: usize) -> Result<(), Problem> {
    if width <= STREAM_PARTITIONS_MAX {
        return Ok(());
    }
    let sentence = format!(
        "a stream follows at most {STREAM_PARTITIONS_MAX} partitions, and these would be {width}; name fewer \
         topics or partitions"
    );
    Err(Problem::new(&INVALID, sentence))
}
