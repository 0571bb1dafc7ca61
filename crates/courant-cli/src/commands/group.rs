//! `courant group list|show|delete`

mod lag;
mod reset;

use self::lag::{Lag, lags};
use super::{check_can_ask, confirmed, connect, or_dash};
use crate::cli::{Global, Group, GroupDelete, GroupShow};
use crate::exit::{Exit, Failure, note};
use crate::explain;
use crate::output::{Format, Row, list, one};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{self, IsTerminal};

/// Runs one of the commands about consumer groups.
pub(super) async fn run(global: &Global, command: Group) -> Result<Exit, Failure> {
    match command {
        Group::List => list_groups(global).await,
        Group::Show(args) => show(global, &args).await,
        Group::Reset(args) => reset::run(global, args).await,
        Group::Delete(args) => delete(global, &args).await,
    }
}

/// A group in `group list`.
#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    state: String,
    protocol_type: String,
}

impl Row for Listed {
    const TITLES: &'static [&'static str] = &["name", "state", "protocol type"];

    fn cells(&self) -> Vec<String> {
        let dash = |text: &str| or_dash(Some(text).filter(|text| !text.is_empty()));
        vec![self.name.clone(), dash(&self.state), dash(&self.protocol_type)]
    }
}

async fn list_groups(global: &Global) -> Result<Exit, Failure> {
    let mut client = connect(global).await?;
    let groups = client.groups().await.map_err(|e| explain::admin(&e))?;
    let row = |group: courant_kafka::client::GroupListing| Listed {
        name: group.name,
        state: group.state,
        protocol_type: group.protocol_type,
    };
    let rows: Vec<_> = groups.into_iter().map(row).collect();
    if rows.is_empty() && !global.quiet && io::stderr().is_terminal() {
        note(format_args!("There are no consumer groups yet; they begin when a consumer joins one."));
    }
    let format = Format::or_default(global.output);
    list(&mut io::stdout().lock(), format, &rows).map_err(|e| Failure::output(&e))?;
    Ok(Exit::Ok)
}

/// A group in `group show -o json`.
#[derive(Debug, Serialize)]
struct Shown {
    name: String,
    state: String,
    protocol: String,
    members: Vec<Member>,
    /// Lag of each topic, and of all.
    topics: BTreeMap<String, Lag>,
    total: Lag,
    partitions: Vec<Place>,
}

/// A member in `group show -o json`.
#[derive(Debug, Serialize)]
struct Member {
    id: String,
    instance_id: Option<String>,
    client_id: String,
    host: String,
    assigned: BTreeMap<String, Vec<i32>>,
}

/// A partition in `group show`.
#[derive(Debug, Serialize)]
struct Place {
    topic: String,
    partition: i32,
    /// `None`: the group has committed nothing here.
    committed: Option<i64>,
    end: i64,
    /// `None`: unknown.
    lag: Option<i64>,
    lag_seconds: Option<f64>,
    /// The client that reads it; `None`: nobody does.
    client_id: Option<String>,
    host: Option<String>,
}

impl Row for Place {
    const TITLES: &'static [&'static str] =
        &["topic", "partition", "committed", "end", "lag", "lag seconds", "client", "host"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.topic.clone(),
            self.partition.to_string(),
            or_dash(self.committed),
            self.end.to_string(),
            known(self.lag.map(|lag| lag.to_string())),
            known(self.lag_seconds.map(seconds)),
            or_dash(self.client_id.clone()),
            or_dash(self.host.clone()),
        ]
    }
}

/// What is not known is never shown as nothing.
fn known(text: Option<String>) -> String {
    text.unwrap_or_else(|| "unknown".to_owned())
}

fn seconds(seconds: f64) -> String {
    if seconds < 10.0 { format!("{seconds:.1}") } else { format!("{seconds:.0}") }
}

async fn show(global: &Global, args: &GroupShow) -> Result<Exit, Failure> {
    let mut client = connect(global).await?;
    let group = client.group(&args.name).await.map_err(|e| explain::admin(&e))?;
    let committed = client.committed(&args.name).await.map_err(|e| explain::admin(&e))?;
    let members: Vec<_> = group
        .members
        .into_iter()
        .map(|member| Member {
            id: member.id,
            instance_id: member.instance_id,
            client_id: member.client_id,
            host: member.host,
            assigned: member.assigned,
        })
        .collect();
    let measured = lags(global, client, &committed, &members).await?;
    let partitions: Vec<_> = measured.into_iter().map(|place| with_reader(place, &members)).collect();
    let mut topics: BTreeMap<String, Lag> = BTreeMap::new();
    let mut total = Lag::default();
    for place in &partitions {
        topics.entry(place.topic.clone()).or_default().add(place.lag, place.lag_seconds);
        total.add(place.lag, place.lag_seconds);
    }
    if partitions.is_empty() {
        // Nothing was committed and nothing is read: there is no place to be behind of.
        total = Lag { events: None, seconds: None };
    }
    let shown = Shown {
        name: group.name,
        state: group.state,
        protocol: group.protocol,
        members,
        topics,
        total,
        partitions,
    };
    match Format::or_default(global.output) {
        Format::Json => {
            let mut text = serde_json::to_string_pretty(&shown)
                .map_err(|e| Failure::new(Exit::Failed, format!("the answer cannot be written: {e}")))?;
            text.push('\n');
            io::Write::write_all(&mut io::stdout().lock(), text.as_bytes())
                .map_err(|e| Failure::output(&e))?;
        }
        format => {
            if !global.quiet {
                note(format_args!("{}", summary(&shown)));
            }
            let rows = &shown.partitions;
            list(&mut io::stdout().lock(), format, rows).map_err(|e| Failure::output(&e))?;
        }
    }
    Ok(Exit::Ok)
}

/// The group in one sentence, with the lag of each topic where there are several.
fn summary(shown: &Shown) -> String {
    let lag = |lag: &Lag| {
        let events = known(lag.events.map(|n| n.to_string()));
        let noun = if lag.events == Some(1) { "event" } else { "events" };
        format!("{events} {noun}, {} s", known(lag.seconds.map(seconds)))
    };
    let members = match shown.members.len() {
        1 => "1 member".to_owned(),
        count => format!("{count} members"),
    };
    let mut text = format!("{}: {}, {members}; lag {}", shown.name, shown.state, lag(&shown.total));
    if shown.topics.len() > 1 {
        let topics = shown.topics.iter().map(|(topic, of)| format!("{topic} {}", lag(of)));
        text.push_str(&format!(" ({})", topics.collect::<Vec<_>>().join("; ")));
    }
    text
}

fn with_reader(place: lag::Measured, members: &[Member]) -> Place {
    let reads = |member: &&Member| {
        member.assigned.get(&place.topic).is_some_and(|partitions| partitions.contains(&place.partition))
    };
    let reader = members.iter().find(reads);
    Place {
        topic: place.topic.clone(),
        partition: place.partition,
        committed: place.committed,
        end: place.end,
        lag: place.lag,
        lag_seconds: place.lag_seconds,
        client_id: reader.map(|member| member.client_id.clone()),
        host: reader.map(|member| member.host.clone()),
    }
}

/// The outcome of `group delete`.
#[derive(Debug, Serialize)]
struct Deleted {
    name: String,
    /// Partitions for which it had committed something.
    offsets: usize,
    dry_run: bool,
}

impl Row for Deleted {
    const TITLES: &'static [&'static str] = &["name", "offsets"];

    fn cells(&self) -> Vec<String> {
        vec![self.name.clone(), self.offsets.to_string()]
    }
}

async fn delete(global: &Global, args: &GroupDelete) -> Result<Exit, Failure> {
    check_can_ask(args.yes, args.dry_run, &format!("group `{}`", args.name))?;
    let mut client = connect(global).await?;
    client.group(&args.name).await.map_err(|e| explain::admin(&e))?;
    let committed = client.committed(&args.name).await.map_err(|e| explain::admin(&e))?;
    let offsets = committed.values().map(BTreeMap::len).sum();
    let row = Deleted { name: args.name.clone(), offsets, dry_run: args.dry_run };
    if args.dry_run {
        if !global.quiet {
            note(format_args!("Nothing was deleted (--dry-run)."));
        }
    } else {
        let question = format!("Delete group `{}` and its {offsets} committed offsets for good?", args.name);
        if !args.yes && !confirmed(&question).await? {
            return Err(Failure::new(Exit::Failed, "nothing was deleted"));
        }
        client.delete_group(&args.name).await.map_err(|e| explain::admin(&e))?;
    }
    let format = Format::or_default(global.output);
    one(&mut io::stdout().lock(), format, &row).map_err(|e| Failure::output(&e))?;
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lag_is_a_sentence() {
        let said = |events| {
            summary(&Shown {
                name: "billing".to_owned(),
                state: "Empty".to_owned(),
                protocol: String::new(),
                members: Vec::new(),
                topics: BTreeMap::new(),
                total: Lag { events, seconds: Some(3.12) },
                partitions: Vec::new(),
            })
        };
        assert_eq!(said(Some(1)), "billing: Empty, 0 members; lag 1 event, 3.1 s");
        assert_eq!(said(Some(2)), "billing: Empty, 0 members; lag 2 events, 3.1 s");
        assert_eq!(said(None), "billing: Empty, 0 members; lag unknown events, 3.1 s");
    }
}
