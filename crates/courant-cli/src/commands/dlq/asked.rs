//! `courant dlq --engine URL --service NAME`: the service itself does it. It says which failures it has, and
//! takes signed requests; what events say stays in its database.

use super::letters::{self, at_ms};
use super::rows::{GroupRow, RedriveRow, ResultRow};
use super::{close, edit, parked, redrive};
use crate::cli::{At, Dlq, DlqClose, DlqDiscardParked, DlqEdit, DlqList, DlqRedrive, Global, Which};
use crate::commands::channel::{Line, states};
use crate::exit::{Exit, Failure, note};
use crate::output::{Format, Stream, list as write_list};
use courant::channel::{Action, Change, Outcome, ParkedChange, ServiceState, Which as Meant, WhichParked};
use courant_core::entropy::Entropy as _;
use courant_log::SystemEntropy;
use courant_sql::Verdict;
use std::collections::BTreeMap;
use std::io;

/// Runs one of the commands on a service that runs.
pub(super) async fn run(global: &Global, command: &Dlq) -> Result<Exit, Failure> {
    let at = command.at();
    match command {
        Dlq::List(args) => list(global, at, args).await,
        Dlq::Show(_) | Dlq::Export(_) => Err(Failure::new(
            Exit::Usage,
            "what events say is in the database alone, and no service sends it: name it with --store, and \
             leave --engine away",
        )),
        Dlq::DiscardParked(args) => discard_parked(global, at, args).await,
        Dlq::Edit(args) => edit(global, at, args).await,
        Dlq::Redrive(args) => redrive(global, at, args).await,
        Dlq::Discard(args) => close(global, at, args, Verdict::Discard).await,
        Dlq::Archive(args) => close(global, at, args, Verdict::Archive).await,
        Dlq::Restore(args) => close(global, at, args, Verdict::Restore).await,
    }
}

/// The failures that the service has told of: no request is needed for that, and no letter comes from it.
async fn list(global: &Global, at: &At, args: &DlqList) -> Result<Exit, Failure> {
    if args.letters || args.state.is_some() || args.which.is_not_a_consumer() {
        let sentence = "a service tells of failures and not of letters: name its database with --store, and \
                        leave --engine away, or give no other filter than --consumer";
        return Err(Failure::new(Exit::Usage, sentence));
    }
    let name = name(at)?;
    let mut found = states(global, &at.engine).await?;
    found.retain(|state| state.service == name);
    if found.is_empty() {
        return Err(unknown(name));
    }
    let mut rows: Vec<GroupRow> = Vec::new();
    for (consumer, state) in newest_of_each_consumer(&found) {
        let is_meant = args.which.consumer.as_ref().is_none_or(|meant| meant.as_str() == consumer);
        let subscriptions = state.subscriptions.iter().filter(|one| is_meant && one.consumer == consumer);
        let failures = subscriptions.filter_map(|one| one.dead.as_ref()).flat_map(|dead| &dead.failures);
        rows.extend(failures.map(|failure| GroupRow::told(consumer, failure)));
    }
    let format = Format::or_default(global.output);
    write_list(&mut io::stdout().lock(), format, &rows).map_err(|error| Failure::output(&error))?;
    Ok(Exit::Ok)
}

/// Instances share a store, so the newest state of a consumer has all of its failures. The newest one comes
/// last.
fn newest_of_each_consumer(states: &[ServiceState]) -> BTreeMap<&str, &ServiceState> {
    let mut newest: BTreeMap<&str, &ServiceState> = BTreeMap::new();
    for state in states {
        for subscription in &state.subscriptions {
            newest.insert(&subscription.consumer, state);
        }
    }
    newest
}

async fn edit(global: &Global, at: &At, args: &DlqEdit) -> Result<Exit, Failure> {
    edit::check_names(args)?;
    let value = edit::new_value(global, args).await?;
    let hex = |value: bytes::Bytes| value.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let action = Action::Edit {
        letter: args.letter,
        event_id: SystemEntropy.uuid().to_string(),
        value_hex: value.map(hex),
        headers: args.headers.clone(),
        deleted: args.deleted.clone(),
        force: args.force,
        reason: args.because.reason.clone(),
    };
    match ask(global, at, &args.because.by.by, action).await?.into_iter().next() {
        Some(Outcome::Edited { event_id, original_event_id }) => {
            edit::shown(global, args, event_id, original_event_id)
        }
        other => Err(refused(other)),
    }
}

async fn close(global: &Global, at: &At, args: &DlqClose, verdict: Verdict) -> Result<Exit, Failure> {
    letters::said(&args.letters, args.all, &args.which)?;
    let change = Change {
        which: meant(&args.letters, args.all, &args.which),
        reason: args.because.reason.clone(),
        dry_run: args.dry_run,
    };
    let action = match verdict {
        Verdict::Discard => Action::Discard(change),
        Verdict::Archive => Action::Archive(change),
        Verdict::Restore => Action::Restore(change),
    };
    let (mut all, mut sentences, mut is_unknown) = (Vec::new(), Vec::new(), false);
    for outcome in ask(global, at, &args.because.by.by, action).await? {
        match outcome {
            Outcome::Decided { letters, others, only_unknown } => {
                all.extend(letters);
                sentences.extend(others);
                is_unknown = only_unknown;
            }
            other => return Err(refused(Some(other))),
        }
    }
    close::shown(global, args, verdict, all, &sentences, is_unknown)
}

async fn discard_parked(global: &Global, at: &At, args: &DlqDiscardParked) -> Result<Exit, Failure> {
    parked::check_said_yes(args)?;
    let which = WhichParked {
        consumer: args.consumer.to_string(),
        generation: args.generation,
        topic: args.topic.to_string(),
        partition: args.partition,
        key: args.key.clone(),
        all: args.all,
    };
    let reason = args.because.reason.clone();
    let change = ParkedChange { which, reason, dry_run: args.dry_run, at_most: None };
    let action = Action::DiscardParked(change);
    match ask(global, at, &args.because.by.by, action).await?.into_iter().next() {
        Some(Outcome::GivenUp { events, letters, has_more }) => {
            parked::told(global, args, events, letters, has_more)
        }
        other => Err(refused(other)),
    }
}

async fn redrive(global: &Global, at: &At, args: &DlqRedrive) -> Result<Exit, Failure> {
    let by = &args.by.by;
    if let Some(redrive) = &args.status {
        let action = Action::Status { redrive: redrive.clone(), events: args.events, page: None };
        return redriven(global, ask(global, at, by, action).await?);
    }
    if let Some(redrive) = &args.cancel {
        let action = Action::Cancel { redrive: redrive.clone() };
        return redriven(global, ask(global, at, by, action).await?);
    }
    letters::said(&args.letters, args.all, &args.which)?;
    let which = meant(&args.letters, args.all, &args.which);
    if args.dry_run {
        let mut redrives = Vec::new();
        for outcome in ask(global, at, by, Action::Plan { which }).await? {
            match outcome {
                Outcome::Planned { redrives: more } => redrives.extend(more),
                other => return Err(refused(Some(other))),
            }
        }
        return redrive::asked_plan(global, redrives);
    }
    let redrive = args.id.clone().unwrap_or_else(|| format!("redrive-{}", SystemEntropy.uuid()));
    let action = Action::Redrive { redrive, which, rate: args.rate };
    match ask(global, at, by, action).await?.into_iter().next() {
        Some(Outcome::Redrive { progress, was_known }) => {
            if was_known && !global.quiet {
                note(format_args!("There is a redrive {} already; nothing more was asked for.", progress.id));
            }
            let row = RedriveRow::from(&progress);
            redrive::row_shown(global, &row)?;
            if !was_known && row.letters() < args.letters.len() as u64 {
                let sentence = "some of these letters are not there, or somebody has decided about them";
                return Err(Failure::new(Exit::Partly, sentence));
            }
            Ok(Exit::Ok)
        }
        other => Err(refused(other)),
    }
}

/// How far a redrive is, or what it has made of each letter.
fn redriven(global: &Global, outcomes: Vec<Outcome>) -> Result<Exit, Failure> {
    let mut stream: Option<Stream<io::Stdout>> = None;
    for outcome in outcomes {
        match outcome {
            Outcome::Redrive { progress, .. } => {
                return redrive::row_shown(global, &RedriveRow::from(&progress));
            }
            Outcome::Results { results } => {
                let stream = stream
                    .get_or_insert_with(|| Stream::new(io::stdout(), Format::or_default(global.output)));
                for result in &results {
                    stream.row(&ResultRow::from(result)).map_err(|error| Failure::output(&error))?;
                }
            }
            other => return Err(refused(Some(other))),
        }
    }
    if let Some(stream) = stream {
        stream.finish().map_err(|error| Failure::output(&error))?;
    }
    Ok(Exit::Ok)
}

async fn ask(global: &Global, at: &At, by: &str, action: Action) -> Result<Vec<Outcome>, Failure> {
    let name = name(at)?;
    let Some(key_file) = &at.key_file else {
        return Err(Failure::new(Exit::Usage, "name the file with the key of the service: --key-file FILE"));
    };
    let line = Line { global, servers: &at.engine, service: name, key_file };
    let mut found = states(global, &at.engine).await?;
    found.retain(|state| state.service == name);
    if found.is_empty() {
        return Err(unknown(name));
    }
    if !found.iter().any(|state| state.operations) {
        let sentence = format!(
            "the service {name} takes no requests: give its App .operations(key), or name its database with \
             --store"
        );
        return Err(Failure::new(Exit::NotAllowed, sentence));
    }
    line.ask(by, action).await
}

fn name(at: &At) -> Result<&str, Failure> {
    let service = at.service.as_ref().map(|service| service.as_str());
    service.ok_or_else(|| Failure::new(Exit::Usage, "name the service: --service NAME"))
}

fn unknown(name: &str) -> Failure {
    let sentence = format!(
        "no service {name} is on this engine: see `courant services`, or name its database with --store when \
         none runs"
    );
    Failure::new(Exit::NotFound, sentence)
}

/// Which letters are meant, in the words of a request.
fn meant(letters: &[i64], all: bool, which: &Which) -> Meant {
    Meant {
        all,
        letters: letters.to_vec(),
        consumer: which.consumer.as_ref().map(ToString::to_string),
        group: which.group.clone(),
        topic: which.topic.as_ref().map(ToString::to_string),
        key: which.key.clone(),
        since_ms: which.since.and_then(at_ms),
        until_ms: which.until.and_then(at_ms),
    }
}

/// Why a request was not followed.
fn refused(outcome: Option<Outcome>) -> Failure {
    match outcome {
        Some(Outcome::Refused { why, reason }) => {
            let exit = match why {
                courant::channel::Refusal::NotUnderstood => Exit::Usage,
                _ => Exit::NotAllowed,
            };
            Failure::new(exit, format!("the service has refused the request: {reason}"))
        }
        Some(Outcome::NotFound { reason }) => Failure::new(Exit::NotFound, reason),
        Some(Outcome::Conflict { reason }) => Failure::new(Exit::Conflict, reason),
        Some(Outcome::Failed { reason }) => Failure::new(Exit::Failed, reason),
        Some(_) | None => {
            let sentence = "the service has answered something else; compare its version with that of \
                            `courant`";
            Failure::new(Exit::Failed, sentence)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use courant::channel::{Refusal, SubscriptionState};

    #[test]
    fn what_is_meant_is_said_as_it_was_typed() {
        let which = Which { key: Some("ada".to_owned()), ..Which::default() };
        let said = meant(&[7], false, &which);
        assert_eq!((said.letters, said.key.as_deref(), said.all), (vec![7], Some("ada"), false));
    }

    #[test]
    fn a_refusal_says_why_and_ends_as_it_must() {
        let exit = |why| refused(Some(Outcome::Refused { why, reason: "r".to_owned() })).exit;
        assert_eq!(exit(Refusal::BadSignature), Exit::NotAllowed);
        assert_eq!(exit(Refusal::Expired), Exit::NotAllowed);
        assert_eq!(exit(Refusal::NotUnderstood), Exit::Usage);
        assert_eq!(refused(None).exit, Exit::Failed);
    }

    #[test]
    fn the_newest_state_of_a_consumer_counts() {
        let state = |instance: &str, seen_ms| ServiceState {
            instance: instance.to_owned(),
            seen_ms,
            subscriptions: vec![SubscriptionState { consumer: "b".to_owned(), ..Default::default() }],
            ..ServiceState::default()
        };
        let states = [state("old", 1), state("its clock is ahead", 3), state("new", 2)];
        assert_eq!(newest_of_each_consumer(&states)["b"].instance, "new");
    }
}
