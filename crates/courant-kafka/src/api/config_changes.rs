//! What AlterConfigs and IncrementalAlterConfigs have in common: which configs can be changed, what
//! they become, and the log that keeps it.
//!
//! Only topics have configs that can be changed while the server runs. What a change makes of them may follow
//! from what is set, as with APPEND. So the log takes it only while that is still set; else it is decided anew.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use courant_log::topic_config::{self, ConfigKind, TOPIC_CONFIGS};
use courant_log::{AlterTopicError, Catalog, Log, Topic, WriterError};
use tokio::sync::oneshot;
use tracing::info;

use super::refused::Refused;
use super::tally::Tally;
use crate::broker::Caller;
use crate::limits;
use crate::wire::ErrorCode;

/// The types of resources that have configs here.
pub(super) const TOPIC: i8 = 2;
pub(super) const BROKER: i8 = 4;

/// What to do with a config.
pub(super) const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// Bytes of one resource in an answer, besides its texts.
const RESULT_BYTES: usize = 256;

/// One thing that has configs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Resource {
    pub(super) kind: i8,
    pub(super) name: String,
}

/// What a client wants with one config.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) name: String,
    pub(super) operation: i8,
    pub(super) value: Option<String>,
}

/// What a client wants with one resource.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) resource: Resource,
    pub(super) changes: Vec<Change>,
}

/// How the changes of one request are to be taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    /// The API, for the log.
    pub(super) api: &'static str,
    /// Configs that are not named go back to their defaults.
    pub(super) replace: bool,
    /// Nothing is changed.
    pub(super) only_check: bool,
}

/// What became of one resource.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) resource: Resource,
    pub(super) refused: Option<Refused>,
}

impl Outcome {
    /// Error code and sentence, as an answer has them.
    pub(super) fn error(&self) -> (i16, Option<String>) {
        match &self.refused {
            None => (ErrorCode::NONE.0, None),
            Some(refused) => (refused.code.0, Some(refused.message.clone())),
        }
    }

    /// What it takes in an answer, decoded and encoded.
    pub(super) fn answer_bytes(&self) -> usize {
        let sentence = self.refused.as_ref().map_or(0, |refused| refused.message.len());
        RESULT_BYTES + 2 * (self.resource.name.len() + sentence)
    }
}

/// New values by name; `None`: the default.
type Changes = Vec<(String, Option<String>)>;

type Altered = oneshot::Receiver<Result<Arc<Topic>, AlterTopicError>>;

/// What the log is asked for, and what may have to be asked once more.
struct Asked {
    wanted: Vec<Change>,
    altered: Altered,
}

/// Changes configs, and returns what became of each resource, in their order.
pub(super) async fn alter(caller: &Caller, wanted: Vec<Wanted>, manner: Manner) -> Vec<Outcome> {
    let mut times: HashMap<Resource, usize> = HashMap::new();
    for one in &wanted {
        *times.entry(one.resource.clone()).or_default() += 1;
    }
    let too_many = wanted.len() > limits::TOPICS_PER_CHANGE_MAX;
    let mut ignored = Tally::default();
    let catalog = caller.log().catalog();
    let mut steps = Vec::with_capacity(wanted.len());
    for Wanted { resource, changes } in wanted {
        let step = if too_many {
            let max = limits::TOPICS_PER_CHANGE_MAX;
            Err(Refused::invalid(format!("one request may alter {max} resources")))
        } else if times.get(&resource).is_some_and(|times| *times > 1) {
            Err(Refused::invalid("the request names this resource more than once".to_owned()))
        } else {
            begin(caller, &catalog, &resource, changes, manner, &mut ignored)
        };
        steps.push((resource, step));
    }
    drop(catalog); // Older than the changes that are under way.
    // All are with the log by now, which makes them durable together.
    let mut outcomes = Vec::with_capacity(steps.len());
    let mut failures = Tally::default();
    for (resource, step) in steps {
        let refused = match step {
            Ok(None) => None,
            Ok(Some(asked)) => finish(caller, &resource, asked, manner).await.err(),
            Err(refused) => Some(refused),
        };
        if let Some(refused) = &refused {
            failures.note(|| format!("{}: {}", resource.name, refused.message));
        }
        outcomes.push(Outcome { resource, refused });
    }
    let lines = &caller.broker.lines;
    ignored.warn(caller, &lines.without_effect, &format!("{} asked for what has no effect here", manner.api));
    failures.warn(caller, &lines.changes, &format!("{} refused", manner.api));
    outcomes
}

/// Checks one resource and hands its changes to the log. `None`: nothing is to be changed.
fn begin(
    caller: &Caller,
    catalog: &Catalog,
    resource: &Resource,
    wanted: Vec<Change>,
    manner: Manner,
    ignored: &mut Tally,
) -> Result<Option<Asked>, Refused> {
    let topic = find(catalog, resource)?;
    let changes = resolve(&topic.configs, &wanted, manner.replace)?;
    for (name, value) in &changes {
        if let Some(value) = value.as_ref().filter(|value| topic_config::not_in_force(name, value)) {
            ignored.note(|| format!("{}: {name}={value} is stored, and that is all", topic.name));
        }
    }
    if manner.only_check || changes.is_empty() {
        return Ok(None);
    }
    Ok(Some(Asked { wanted, altered: hand_over(caller.log(), topic.clone(), changes) }))
}

fn hand_over(log: &Log, seen: Arc<Topic>, changes: Changes) -> Altered {
    let (done, altered) = oneshot::channel();
    log.alter_topic_seen(seen, changes, move |result| {
        // The client may have gone; the configs are changed all the same.
        let _ = done.send(result);
    });
    altered
}

fn find<'a>(catalog: &'a Catalog, resource: &Resource) -> Result<&'a Arc<Topic>, Refused> {
    match resource.kind {
        TOPIC => catalog.by_name(&resource.name).ok_or_else(|| Refused::unknown_topic(&resource.name)),
        BROKER => Err(Refused::invalid(
            "the broker's settings are those it was started with, see `courant serve --help`; \
             what is about events is set on their topics"
                .to_owned(),
        )),
        other => Err(Refused::invalid(format!("resources of type {other} have no configs here"))),
    }
}

/// What is to be changed in the configs that a topic has set.
fn resolve(configs: &BTreeMap<String, String>, wanted: &[Change], replace: bool) -> Result<Changes, Refused> {
    let mut changes = BTreeMap::new();
    for change in wanted {
        let value = new_value(configs, change)?;
        if changes.contains_key(&change.name) {
            return Err(Refused::invalid(format!("{:?} is changed twice", change.name)));
        }
        changes.insert(change.name.clone(), value);
    }
    if replace {
        for name in configs.keys() {
            changes.entry(name.clone()).or_insert(None);
        }
    }
    Ok(changes.into_iter().filter(|(name, value)| configs.get(name) != value.as_ref()).collect())
}

/// What a change makes of a config; `None`: the default, which a name that does not exist has already.
fn new_value(configs: &BTreeMap<String, String>, change: &Change) -> Result<Option<String>, Refused> {
    let name = change.name.as_str();
    if change.operation == DELETE {
        return Ok(None);
    }
    let given = change.value.as_ref().ok_or_else(|| Refused::invalid(format!("{name:?} has no value")))?;
    let value = match change.operation {
        SET => given.clone(),
        APPEND | SUBTRACT => listed(topic_config::effective(configs, name), change.operation, name, given)?,
        other => return Err(Refused::invalid(format!("{other} is not an operation on a config"))),
    };
    validate(name, &value)?;
    Ok(Some(value))
}

/// A list with more words or fewer.
fn listed(before: &str, operation: i8, name: &str, given: &str) -> Result<String, Refused> {
    let is_list = |config: &topic_config::TopicConfig| {
        config.name == name && matches!(config.kind, ConfigKind::List(_))
    };
    // Words that cannot be in the list are told first; what is left of them is few.
    validate(name, given)?;
    if !TOPIC_CONFIGS.iter().any(is_list) {
        let message = format!("{name} is not a list; only a list can be added to or taken from");
        return Err(Refused::new(ErrorCode::INVALID_CONFIG, message));
    }
    let mut words: Vec<&str> = before.split(',').map(str::trim).collect();
    for word in given.split(',').map(str::trim) {
        match operation {
            APPEND if !words.contains(&word) => words.push(word),
            SUBTRACT => words.retain(|kept| *kept != word),
            _ => {}
        }
    }
    Ok(words.join(","))
}

fn validate(name: &str, value: &str) -> Result<(), Refused> {
    topic_config::validate(name, value)
        .map_err(|error| Refused::new(ErrorCode::INVALID_CONFIG, error.to_string()))
}

/// Waits until the log has changed the configs. Whenever somebody else was faster, what is wanted is decided
/// anew from what that has left.
async fn finish(caller: &Caller, resource: &Resource, asked: Asked, manner: Manner) -> Result<(), Refused> {
    let Asked { wanted, mut altered } = asked;
    let mut tries = 1;
    loop {
        let now = match altered.await.unwrap_or(Err(AlterTopicError::Writer(WriterError::Stopped))) {
            Err(AlterTopicError::Changed { now }) if tries < limits::ALTER_TRIES_MAX => now,
            altered => return told(caller, resource, altered),
        };
        tries += 1;
        let changes = resolve(&now.configs, &wanted, manner.replace)?;
        // Also when nothing is left to change: what the others have set may not be durable yet.
        altered = hand_over(caller.log(), now, changes);
    }
}

fn told(
    caller: &Caller,
    resource: &Resource,
    altered: Result<Arc<Topic>, AlterTopicError>,
) -> Result<(), Refused> {
    match altered {
        Ok(_) => {
            info!(peer = %caller.peer, topic = resource.name, "altered");
            Ok(())
        }
        Err(AlterTopicError::Unknown) => Err(Refused::unknown_topic(&resource.name)),
        // Somebody else's change was taken each time.
        Err(error @ AlterTopicError::Changed { .. }) => {
            Err(Refused::new(ErrorCode::REQUEST_TIMED_OUT, error.to_string()))
        }
        Err(AlterTopicError::Writer(error)) => Err(Refused::not_written(&error)),
        Err(error) => Err(Refused::new(ErrorCode::INVALID_CONFIG, error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn change(name: &str, operation: i8, value: Option<&str>) -> Change {
        Change { name: name.to_owned(), operation, value: value.map(str::to_owned) }
    }

    #[track_caller]
    fn check(
        configs: &[(&str, &str)],
        wanted: &[(&str, i8, Option<&str>)],
        expected: Result<&[(&str, Option<&str>)], ErrorCode>,
    ) {
        let wanted: Vec<Change> =
            wanted.iter().map(|(name, operation, value)| change(name, *operation, *value)).collect();
        let changes = resolve(&set(configs), &wanted, false);
        let changes = changes.as_ref().map_err(|refused| refused.code);
        let changes: Result<Vec<_>, _> = changes
            .map(|changes| changes.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect());
        assert_eq!(changes.as_deref().map_err(|code| *code), expected);
    }

    #[test]
    fn single_changes() {
        check(&[], &[("retention.ms", SET, Some("5"))], Ok(&[("retention.ms", Some("5"))]));
        check(&[("retention.ms", "5")], &[("retention.ms", DELETE, None)], Ok(&[("retention.ms", None)]));
        check(&[("retention.ms", "5")], &[("retention.ms", SET, Some("5"))], Ok(&[]));
        check(&[], &[("retention.ms", DELETE, Some("ignored"))], Ok(&[]));
        check(&[], &[("no.such.config", DELETE, None)], Ok(&[]));
        check(&[], &[], Ok(&[]));
    }

    #[test]
    fn lists() {
        let policy = "cleanup.policy";
        check(&[], &[(policy, APPEND, Some("compact"))], Ok(&[(policy, Some("delete,compact"))]));
        check(&[], &[(policy, APPEND, Some("delete"))], Ok(&[(policy, Some("delete"))]));
        check(&[(policy, "compact")], &[(policy, APPEND, Some("compact"))], Ok(&[]));
        check(
            &[(policy, "compact, delete")],
            &[(policy, SUBTRACT, Some("delete"))],
            Ok(&[(policy, Some("compact"))]),
        );
        check(&[], &[(policy, SUBTRACT, Some("delete"))], Err(ErrorCode::INVALID_CONFIG));
        check(&[], &[(policy, APPEND, Some("shred"))], Err(ErrorCode::INVALID_CONFIG));
        check(&[], &[("retention.ms", APPEND, Some("5"))], Err(ErrorCode::INVALID_CONFIG));
    }

    #[test]
    fn what_is_refused() {
        check(&[], &[("retention.ms", SET, Some("soon"))], Err(ErrorCode::INVALID_CONFIG));
        check(&[], &[("no.such.config", SET, Some("1"))], Err(ErrorCode::INVALID_CONFIG));
        check(&[], &[("retention.ms", SET, None)], Err(ErrorCode::INVALID_REQUEST));
        check(&[], &[("retention.ms", 4, Some("5"))], Err(ErrorCode::INVALID_REQUEST));
        let twice = [("retention.ms", SET, Some("5")), ("retention.ms", DELETE, None)];
        check(&[], &twice, Err(ErrorCode::INVALID_REQUEST));
    }

    #[test]
    fn replacing_takes_back_what_is_not_named() {
        let configs = set(&[("retention.ms", "5"), ("segment.ms", "7"), ("flush.ms", "9")]);
        let wanted = vec![change("retention.ms", SET, Some("6")), change("segment.ms", SET, Some("7"))];
        let changes = resolve(&configs, &wanted, true).expect("they are valid");
        let expected = [("flush.ms".to_owned(), None), ("retention.ms".to_owned(), Some("6".to_owned()))];
        assert_eq!(changes, expected);
    }
}
