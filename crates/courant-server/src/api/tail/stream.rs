//! One connection that listens: what its subscriptions have to say, piece by piece.

use std::sync::Arc;
use std::time::Instant;

use courant_log::{Catalog, Health, Log, PartitionId};
use serde::Serialize;
use tokio::sync::oneshot;
use tokio::time::sleep_until;

use super::follower::{Follower, Said};
use super::resume::{Place, written};
use super::streams::Held;
use crate::api::ApiState;
use crate::api::limits::{
    EACH_RESUMES_PARTITIONS_MAX, HEARTBEAT, STREAM_LOOK, STREAM_PAUSE, STREAM_PIECE_BYTES,
};
use crate::api::problem::Problem;
use crate::api::records::read::Gap;
use crate::api::sse::{Pieces, event, heartbeat};

/// A stream and its connection.
#[derive(Debug)]
pub(super) struct Stream {
    state: ApiState,
    log: Log,
    held: Held,
    /// What has been adopted of the subscriptions.
    version: Option<u64>,
    /// The topics as the followers know them.
    catalog: Option<Arc<Catalog>>,
    followers: Vec<Follower>,
    /// The follower that is looked at first.
    turn: usize,
    /// Where the client was that has been here before.
    resumed: Vec<Place>,
    /// The first event, until it is said.
    opening: Option<Opening>,
    said: Instant,
    /// Whether what was said last was short, so that there is no haste with the next piece.
    is_brief: bool,
    is_over: bool,
}

#[derive(Debug, Serialize)]
struct Opening {
    stream: String,
    resumed: bool,
    heartbeat_ms: u64,
}

#[derive(Serialize)]
struct Begun<'a> {
    subscription: Option<&'a str>,
    positions: Vec<BegunAt<'a>>,
}

#[derive(Serialize)]
struct BegunAt<'a> {
    topic: &'a str,
    partition: u32,
    next: u64,
    end: u64,
}

#[derive(Serialize)]
struct Skipped<'a> {
    subscription: Option<&'a str>,
    topic: &'a str,
    partition: u32,
    skipped: u64,
    first_offset: u64,
    last_offset: u64,
}

#[derive(Serialize)]
struct InGap<'a> {
    subscription: Option<&'a str>,
    #[serde(flatten)]
    gap: &'a Gap,
}

#[derive(Serialize)]
struct Ended<'a> {
    subscription: Option<&'a str>,
    topic: &'a str,
    partition: Option<u32>,
    reason: &'a str,
}

impl Stream {
    /// A connection that has taken a stream up, or opened it.
    pub(super) fn new(
        state: ApiState,
        held: Held,
        is_resumed: bool,
        resumed: Vec<Place>,
    ) -> Result<Self, Problem> {
        let opening = Opening {
            stream: held.entry.id.clone(),
            resumed: is_resumed,
            heartbeat_ms: u64::try_from(HEARTBEAT.as_millis()).unwrap_or(u64::MAX),
        };
        Ok(Self {
            log: state.log()?.clone(),
            state,
            held,
            version: None,
            catalog: None,
            followers: Vec::new(),
            turn: 0,
            resumed,
            opening: Some(opening),
            said: Instant::now(),
            is_brief: false,
            is_over: false,
        })
    }

    /// The last event: why nothing more comes.
    fn last(&mut self, reason: &str) -> Option<String> {
        self.is_over = true;
        let mut piece = String::new();
        event(&mut piece, "end", None, &json(&serde_json::json!({ "reason": reason })));
        Some(piece)
    }

    /// Follows the subscriptions and the topics as they are now.
    async fn adopt(&mut self) -> Result<String, Problem> {
        if let Some((version, subscriptions)) = self.held.news(self.version) {
            self.version = Some(version);
            let is_kept = |number: u32| subscriptions.iter().any(|wanted| wanted.number == number);
            self.followers.retain(|follower| is_kept(follower.subscription.number));
            for subscription in subscriptions {
                let mut followers = self.followers.iter();
                if followers.any(|follower| follower.subscription.number == subscription.number) {
                    continue;
                }
                let mut places = self.resumed.clone();
                places.retain(|place| place.subscription == subscription.number);
                let resumed = (!places.is_empty()).then_some(places);
                self.followers.push(Follower::new(subscription, resumed));
            }
            // Only the subscriptions that are there when the stream is taken up go on where they were.
            self.resumed.clear();
            self.catalog = None;
        }
        let catalog = self.log.catalog();
        if self.catalog.as_ref().is_some_and(|known| Arc::ptr_eq(known, &catalog)) {
            return Ok(String::new());
        }
        self.catalog = Some(Arc::clone(&catalog));
        let (mut followers, now_ms) = (std::mem::take(&mut self.followers), self.state.now_ms());
        let settled = self.state.blocking(move |state| {
            let mut said = Vec::new();
            for index in 0..followers.len() {
                let all: usize = followers.iter().map(|follower| follower.lanes.len()).sum();
                let follower = &mut followers[index];
                let others = all - follower.lanes.len();
                said.push(follower.settle(state.log()?, &catalog, now_ms, others)?);
            }
            Ok((followers, said))
        });
        let (followers, said) = settled.await?;
        self.followers = followers;
        let pieces = said.into_iter().enumerate().map(|(index, said)| self.piece(index, said));
        Ok(pieces.collect())
    }

    /// What the next follower has that may speak.
    async fn read(&mut self) -> Result<String, Problem> {
        let now = Instant::now();
        for _ in 0..self.followers.len() {
            let index = self.turn % self.followers.len();
            self.turn = index + 1;
            let follower = &self.followers[index];
            if follower.rests_until(now).is_some() || !follower.has_news(&self.log) {
                continue;
            }
            let mut followers = std::mem::take(&mut self.followers);
            let looked = self.state.blocking(move |state| {
                let said = followers[index].read(state.log()?, now)?;
                Ok((followers, said))
            });
            let (followers, said) = looked.await?;
            self.followers = followers;
            let piece = self.piece(index, said);
            if !piece.is_empty() {
                return Ok(piece);
            }
        }
        Ok(String::new())
    }

    /// What one follower has said, as events.
    fn piece(&self, index: usize, said: Vec<Said>) -> String {
        let mut piece = String::new();
        let Some(follower) = self.followers.get(index) else { return piece };
        let name = follower.subscription.name.as_deref();
        let lanes: usize = self.followers.iter().map(|follower| follower.lanes.len()).sum();
        let count = said.len();
        for (number, said) in (1..).zip(said) {
            let is_last = number == count;
            let behind = match &said {
                Said::Record { lane, next, .. } if !is_last => Some((*lane, *next)),
                _ => None,
            };
            // Of what was said, only the last goes on where the follower is.
            let says_where = is_last || (behind.is_some() && lanes <= EACH_RESUMES_PARTITIONS_MAX);
            let id = says_where.then(|| self.id(index, behind));
            let id = id.as_deref();
            match said {
                Said::Begun => event(&mut piece, "subscribed", id, &self.begun(follower)),
                Said::Record { json, .. } => event(&mut piece, "record", id, &marked(name, json.get())),
                Said::Skipped { topic, partition, first, last } => {
                    let skipped = last.saturating_sub(first).saturating_add(1);
                    let (subscription, topic, first_offset, last_offset) = (name, &*topic, first, last);
                    let data = Skipped { subscription, topic, partition, skipped, first_offset, last_offset };
                    event(&mut piece, "skipped", id, &json(&data));
                }
                Said::Gap(gap) => {
                    event(&mut piece, "gap", id, &json(&InGap { subscription: name, gap: &gap }));
                }
                Said::Ended { topic, partition, reason } => {
                    let data = Ended { subscription: name, topic: &topic, partition, reason: &reason };
                    event(&mut piece, "ended", id, &json(&data));
                }
            }
        }
        piece
    }

    fn begun(&self, follower: &Follower) -> String {
        let positions = follower.lanes.iter().map(|lane| BegunAt {
            topic: &lane.topic,
            partition: lane.number,
            next: lane.next,
            end: lane.backlog,
        });
        json(&Begun { subscription: follower.subscription.name.as_deref(), positions: positions.collect() })
    }

    /// Where the client goes on; the follower of that number may be at another place than it is.
    fn id(&self, index: usize, behind: Option<(usize, u64)>) -> String {
        let places = self
            .followers
            .iter()
            .enumerate()
            .flat_map(|(number, follower)| follower.places(behind.filter(|_| number == index)));
        written(&self.held.entry.id, places)
    }

    /// Waits until there may be something to say.
    async fn wait(&self) {
        let now = Instant::now();
        let mut until = (now + STREAM_LOOK).min(self.said + HEARTBEAT);
        let mut seen: Vec<(PartitionId, u64)> = Vec::new();
        for follower in &self.followers {
            match follower.rests_until(now) {
                Some(slot) => until = until.min(slot),
                None => seen.extend(follower.lanes.iter().map(|lane| (lane.id, lane.next))),
            }
        }
        let (wake, woken) = oneshot::channel();
        let waiting = self.log.wait(&seen, 1, move || {
            // The stream may have been closed in the same moment.
            let _ = wake.send(());
        });
        tokio::select! {
            _ = woken => {}
            () = self.held.entry.changed.notified() => {}
            () = sleep_until(until.into()) => {}
        }
        drop(waiting);
    }
}

impl Pieces for Stream {
    async fn next(&mut self) -> Option<String> {
        if self.is_over {
            return None;
        }
        if let Some(opening) = self.opening.take() {
            let mut piece = String::new();
            event(&mut piece, "open", None, &json(&opening));
            return Some(piece);
        }
        if self.is_brief {
            sleep_until((self.said + STREAM_PAUSE).into()).await;
        }
        loop {
            if !self.held.is_ours() {
                return self.last("another connection has taken the stream up");
            }
            if matches!(self.log.health(), Health::Stopping) {
                return self.last("the server is stopping");
            }
            let mut piece = match self.adopt().await {
                Ok(piece) => piece,
                Err(problem) => return self.last(&problem.detail),
            };
            if piece.is_empty() {
                piece = match self.read().await {
                    Ok(piece) => piece,
                    Err(problem) => return self.last(&problem.detail),
                };
            }
            if piece.is_empty() && self.said.elapsed() >= HEARTBEAT {
                heartbeat(&mut piece, Some(&self.id(0, None)));
            }
            if !piece.is_empty() {
                self.said = Instant::now();
                self.is_brief = piece.len() < STREAM_PIECE_BYTES / 2;
                return Some(piece);
            }
            self.wait().await;
        }
    }
}

/// The JSON of a record, marked with the subscription that it is of.
fn marked(name: Option<&str>, record: &str) -> String {
    match (name, record.strip_prefix('{')) {
        (Some(name), Some(rest)) => format!("{{\"subscription\":{},{rest}", json(&name)),
        _ => record.to_owned(),
    }
}

fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_else(|error| {
        tracing::error!("an event of a stream could not be written: {error}");
        "null".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_marked_without_being_read() {
        let record = r#"{"offset":9007199254740993}"#;
        assert_eq!(marked(Some("a\"b"), record), r#"{"subscription":"a\"b","offset":9007199254740993}"#);
        assert_eq!(marked(None, record), record);
    }
}
