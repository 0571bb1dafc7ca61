//! Discarding dead letters of others. They stay where they are; who has decided and why is written down
//! beside them, as `courant dlq foreign discard` does it.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Extension, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use courant_core::decisions::{Decision, ENDING};
use courant_core::topic::TopicName;
use courant_log::batch::records::NewRecord;
use courant_log::{Log, Topic};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::super::line::CONFLICT;
use super::super::{LETTER_NOT_FOUND, actor, reason, short_enough};
use super::{Bounds, Look, Redrives, decided, letter_at};
use crate::api::asked::{self, Path};
use crate::api::limits::{
    FOREIGN_AT_A_TIME, FOREIGN_LETTERS_MAX, FOREIGN_NEWEST_BYTES_MAX, LETTERS_NAMED_MAX,
};
use crate::api::own_topics;
use crate::api::problem::{INTERNAL_TOPIC, INVALID, Problem};
use crate::api::records::read::{Taken, offset};
use crate::api::topics::is_internal;
use crate::api::{ApiState, Asked, Caller, Change, Json};

/// What is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asking {
    which: Wanted,
    reason: String,
    by: Option<String>,
    #[serde(default)]
    execute: bool,
}

/// Which letters, in the words of the API.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Wanted {
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    all: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    letters: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
}

/// A letter, by partition and offset.
type At = (u32, u64);

/// Which letters, understood.
#[derive(Debug)]
enum Meant {
    All,
    Named(BTreeSet<At>),
    Group(String),
}

impl Wanted {
    /// Nothing happens to all letters by accident.
    fn meant(&self) -> Result<Meant, Problem> {
        let invalid = |sentence: String| Problem::new(&INVALID, sentence);
        match (self.all, self.letters.as_slice(), &self.group) {
            (true, [], None) => Ok(Meant::All),
            (false, [], Some(group)) => {
                short_enough("a filter", group)?;
                Ok(Meant::Group(group.clone()))
            }
            (false, letters @ [_, ..], None) if letters.len() <= LETTERS_NAMED_MAX => {
                let named = letters.iter().map(|text| {
                    let at = letter_at(text.as_bytes());
                    at.ok_or_else(|| invalid(format!("{text:?} is no letter; write PARTITION@OFFSET")))
                });
                named.collect::<Result<_, _>>().map(Meant::Named)
            }
            (false, [_, ..], None) => {
                Err(invalid(format!("at most {LETTERS_NAMED_MAX} letters are named at once; use a filter")))
            }
            _ => Err(invalid("say which dead letters are meant by one of letters, group, all".to_owned())),
        }
    }
}

/// Letters that are meant, and about which nobody has decided.
#[derive(Debug)]
struct Found {
    letters: Vec<At>,
    /// Sentences about others.
    others: Vec<String>,
    /// Redrives that have come to their end.
    redrives: Redrives,
}

#[derive(Debug, Serialize)]
struct Discarded {
    topic: String,
    dry_run: bool,
    count: usize,
    letters: Vec<String>,
    others: Vec<String>,
}

impl Found {
    fn told(self, topic: &Topic, dry_run: bool) -> Discarded {
        let named = self.letters.iter().take(LETTERS_NAMED_MAX);
        Discarded {
            topic: topic.name.clone(),
            dry_run,
            count: self.letters.len(),
            letters: named.map(|(partition, offset)| format!("{partition}@{offset}")).collect(),
            others: self.others,
        }
    }
}

pub(in crate::api::dead_letters) async fn discard(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    Asked::of(query.as_deref(), &[])?;
    let asking: Asking = asked::json(&headers, body)?;
    let (by, reason) = (actor(&caller, asking.by.as_deref())?, reason(&asking.reason)?);
    let meant = asking.which.meant()?;
    // Decisions about its events would make another topic of that kind.
    if is_internal(&name) {
        let sentence = format!("{name} is the server's own, and holds no dead letters; name another topic");
        return Err(Problem::new(&INTERNAL_TOPIC, sentence));
    }
    let topic = state.topic(&name)?;
    let (about, again) = (Arc::clone(&topic), Arc::clone(&topic));
    let bounds = Bounds { bytes: FOREIGN_NEWEST_BYTES_MAX, decisions: state.limits().decisions };
    if !asking.execute {
        let found = state.blocking(move |state| find(state.log()?, &about, &meant, bounds)).await?;
        return Ok(Json(found.told(&topic, true)).into_response());
    }
    let detail = json!({ "which": asking.which, "reason": reason, "by": by });
    let change = Change { caller, action: "foreign_dead_letters.discard", target: name, detail };
    let deciding = state.clone();
    let made = state.change(change, async move {
        let mut found = deciding.blocking(move |state| find(state.log()?, &about, &meant, bounds)).await?;
        let decision = Decision::discarded(topic.id.to_string(), &by, &reason, deciding.now_ms());
        write_down(deciding.log()?, &topic, &found.letters, &decision).await?;
        // What was written down stands, also where this cannot be told.
        let redrives = deciding
            .blocking(move |state| Ok(decided(state.log()?, &again, bounds.decisions)?.redrives))
            .await;
        found.others.extend(redriven_since(&found.redrives, &redrives.unwrap_or_default()));
        Ok(found.told(&topic, false))
    });
    Ok(made.await?.answer(StatusCode::OK))
}

/// Looks for the letters: named ones wherever they are, others among the newest ones, which are those that
/// failures are counted of. About so many bytes are read. May wait for the disk.
fn find(log: &Log, topic: &Topic, meant: &Meant, bounds: Bounds) -> Result<Found, Problem> {
    let mut look = Look::newest(log, topic, bounds);
    let mut left = BTreeSet::new();
    if let Meant::Named(named) = meant {
        look = named_ones(topic, named, bounds);
        left.clone_from(named);
    }
    let is_named = !left.is_empty();
    let mut letters = Vec::new();
    look.through(log, topic, |partition, record, cause| {
        if letters.len() as u64 >= FOREIGN_LETTERS_MAX || (is_named && left.is_empty()) {
            return Taken::No;
        }
        let at = (partition, offset(record.offset));
        let is_meant = match meant {
            Meant::All => true,
            Meant::Named(_) => left.remove(&at),
            Meant::Group(group) => cause.group() == *group,
        };
        letters.extend(is_meant.then_some(at));
        Taken::Yes
    })?;
    check_nobody_redrives(&look.redrives, topic)?;
    let is_reached = |at: At| !look.is_cut || look.reached.is_some_and(|reached| at <= reached);
    let mut others: Vec<String> = left
        .into_iter()
        .map(|(partition, offset)| {
            if is_reached((partition, offset)) {
                format!("there is no letter {partition}@{offset} that nobody has decided about")
            } else {
                format!("letter {partition}@{offset} was not reached; name fewer letters at once")
            }
        })
        .collect();
    if !is_named && letters.is_empty() {
        others.push("no dead letter that nobody has decided about is meant".to_owned());
    }
    if !is_named && look.is_cut {
        let sentence = "only the newest letters of the topic are gone through here; `courant dlq foreign discard` \
                        goes through all of them";
        others.push(sentence.to_owned());
    }
    if letters.is_empty() {
        return Err(Problem::new(&LETTER_NOT_FOUND, others.join("; ")));
    }
    Ok(Found { letters, others, redrives: look.redrives })
}

/// Fails while a redrive has not come to its end: nobody knows what it has published, and what it will publish.
fn check_nobody_redrives(redrives: &Redrives, topic: &Topic) -> Result<(), Problem> {
    let Some((id, _)) = redrives.iter().find(|(_, is_ended)| !**is_ended) else { return Ok(()) };
    let sentence = format!(
        "the redrive {id} of these letters runs, or was killed: wait for its end, or end it with \
         `courant dlq foreign redrive {} --id {id} --cancel`",
        topic.name
    );
    Err(Problem::new(&CONFLICT, sentence))
}

/// What is said of a redrive that has begun while letters were given up: it has not seen all that was decided.
fn redriven_since(before: &Redrives, now: &Redrives) -> Option<String> {
    let (id, _) = now.iter().find(|(id, is_ended)| before.get(*id) != Some(*is_ended))?;
    Some(format!(
        "the redrive {id} of these letters has begun meanwhile: it may have published some of them before they were \
         given up"
    ))
}

/// A look at what stands between the first and the last of these letters in each partition.
fn named_ones(topic: &Topic, named: &BTreeSet<At>, bounds: Bounds) -> Look {
    let mut look = Look::of(bounds);
    for partition in 0..u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX) {
        let mut of_it = named.range((partition, 0)..=(partition, u64::MAX));
        let first = of_it.next();
        let last = of_it.next_back().or(first);
        look.from.extend(first.copied());
        look.until.insert(partition, last.map_or(0, |(_, offset)| offset.saturating_add(1)));
    }
    look
}

/// Writes a decision down about each of these letters.
async fn write_down(log: &Log, topic: &Topic, letters: &[At], decision: &Decision) -> Result<(), Problem> {
    let name = format!("{}{ENDING}", topic.name);
    TopicName::new(&name).map_err(|error| {
        let sentence = format!("decisions about {} cannot be written down: {error}", topic.name);
        Problem::new(&INVALID, sentence)
    })?;
    let id = own_topics::partition(log, &name, &[("cleanup.policy", "compact")]).await?;
    let value = serde_json::to_vec(decision).map_err(|error| Problem::defect(&error.to_string()))?;
    let value = Bytes::from(value);
    for some in letters.chunks(FOREIGN_AT_A_TIME) {
        let record = |(partition, offset): &At| NewRecord {
            timestamp: decision.at_ms,
            key: Some(Bytes::from(format!("{partition}@{offset}"))),
            value: Some(value.clone()),
            headers: Vec::new(),
        };
        let records: Vec<NewRecord> = some.iter().map(record).collect();
        own_topics::append(log, id, &records).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{append, create, dead, decide, log};
    use super::*;

    const MOST: Bounds = Bounds { bytes: FOREIGN_NEWEST_BYTES_MAX, decisions: 1_000 };

    /// Named letters are found whatever stands in the partitions before theirs. What one look has not come to is
    /// not said to be absent.
    #[test]
    fn named_letters_are_found_in_every_partition() {
        let log = log();
        let topic = create(&log, "orders-dlt", 2);
        let decisions = create(&log, "orders-dlt.courant-decisions", 1);
        for partition in [0, 0, 0, 1, 1] {
            append(&log, &topic, partition, dead());
        }
        decide(&log, &decisions, &topic, "0@1");
        let named = |letters: &[At]| Meant::Named(letters.iter().copied().collect());
        let found = find(&log, &topic, &named(&[(0, 0), (0, 1), (0, 9), (1, 1)]), MOST).expect("some");
        assert_eq!(found.letters, [(0, 0), (1, 1)]);
        assert!(found.others[0].contains("no letter 0@1") && found.others[1].contains("no letter 0@9"));
        // One read is enough for what is named, and for nothing behind it.
        let found = find(&log, &topic, &named(&[(0, 0), (1, 0)]), Bounds { bytes: 1, ..MOST }).expect("some");
        assert_eq!(found.letters, [(0, 0)]);
        assert!(found.others[0].contains("1@0 was not reached"), "{:?}", found.others);
        let found = find(&log, &topic, &Meant::All, Bounds { bytes: 1, ..MOST }).expect("some");
        assert!(found.letters.len() < 4 && found.others[0].contains("courant dlq foreign"), "{found:?}");
        let refused = find(&log, &topic, &Meant::Group("none".to_owned()), MOST).expect_err("none");
        assert!(refused.detail.contains("nobody has decided"), "{}", refused.detail);
    }

    fn say_of_redrive(log: &Log, decisions: &Topic, about: &Topic, is_ended: bool) {
        let value = format!(r#"{{"topic_id":"{}","is_ended":{is_ended}}}"#, about.id);
        let key = Some(Bytes::from_static(b"redrive priced"));
        append(log, decisions, 0, NewRecord { key, value: Some(value.into()), ..NewRecord::default() });
    }

    /// What a redrive is publishing is not given up; when it has ended, what it has left is.
    #[test]
    fn nothing_is_given_up_while_a_redrive_runs() {
        let log = log();
        let topic = create(&log, "orders-dlt", 1);
        let decisions = create(&log, "orders-dlt.courant-decisions", 1);
        append(&log, &topic, 0, dead());
        let before = find(&log, &topic, &Meant::All, MOST).expect("some");
        // One of another topic of that name is none of this.
        say_of_redrive(&log, &decisions, &decisions, false);
        assert_eq!(find(&log, &topic, &Meant::All, MOST).expect("some").letters, [(0, 0)]);
        say_of_redrive(&log, &decisions, &topic, false);
        let refused = find(&log, &topic, &Meant::All, MOST).expect_err("it runs");
        assert_eq!(refused.kind.code, "conflict");
        assert!(refused.detail.contains("redrive priced"), "{}", refused.detail);
        say_of_redrive(&log, &decisions, &topic, true);
        let after = find(&log, &topic, &Meant::All, MOST).expect("some");
        assert_eq!(after.letters, [(0, 0)]);
        let said = redriven_since(&before.redrives, &after.redrives).expect("it was not there before");
        assert!(said.contains("redrive priced"), "{said}");
        assert_eq!(redriven_since(&after.redrives, &after.redrives), None);
    }

    fn meant(json: &str) -> Result<Meant, Problem> {
        serde_json::from_str::<Wanted>(json).expect("what can be asked").meant()
    }

    #[test]
    fn nothing_happens_to_all_letters_by_accident() {
        for nothing in
            ["{}", r#"{"all":false}"#, r#"{"all":true,"group":"g"}"#, r#"{"letters":["0@1"],"group":"g"}"#]
        {
            assert_eq!(meant(nothing).expect_err(nothing).kind.code, "invalid");
        }
        for bad in [r#"{"letters":["1"]}"#, r#"{"letters":["-1@2"]}"#] {
            assert_eq!(meant(bad).expect_err(bad).kind.code, "invalid");
        }
        assert!(matches!(meant(r#"{"all":true}"#), Ok(Meant::All)));
        assert!(matches!(meant(r#"{"group":"g"}"#), Ok(Meant::Group(group)) if group == "g"));
        let named = meant(r#"{"letters":["2@7","0@1","0@1"]}"#);
        assert!(matches!(named, Ok(Meant::Named(named)) if named == BTreeSet::from([(0, 1), (2, 7)])));
        let many = json!({ "letters": vec!["0@1"; LETTERS_NAMED_MAX + 1] }).to_string();
        assert_eq!(meant(&many).expect_err("too many").kind.code, "invalid");
    }
}
