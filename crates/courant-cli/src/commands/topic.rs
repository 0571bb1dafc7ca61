//! `courant topic list|show|create|delete`; the others are in `topic_alter`.

use super::{check_can_ask, confirmed, connect, or_dash, topic_alter};
use crate::cli::{Global, Topic, TopicCreate, TopicDelete, TopicShow};
use crate::exit::{Exit, Failure, note};
use crate::explain;
use crate::output::{Format, Row, list, one};
use courant_kafka::client::{AdminError, Client, NewTopic, OffsetAt, TopicInfo};
use serde::Serialize;
use std::io::{self, IsTerminal};

/// Runs one of the commands about topics.
pub(super) async fn run(global: &Global, command: Topic) -> Result<Exit, Failure> {
    match command {
        Topic::List => list_topics(global).await,
        Topic::Show(args) => show(global, &args).await,
        Topic::Configs(args) => topic_alter::configs(global, &args).await,
        Topic::Offsets(args) => topic_alter::offsets(global, &args).await,
        Topic::Create(args) => create(global, args).await,
        Topic::Alter(args) => topic_alter::alter(global, args).await,
        Topic::Delete(args) => delete(global, &args).await,
    }
}

/// A topic in `topic list`.
#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    id: Option<String>,
    partitions: usize,
    /// Offsets between the oldest and the newest event; `None` when a partition has no leader.
    events: Option<i64>,
}

impl Row for Listed {
    const TITLES: &'static [&'static str] = &["name", "id", "partitions", "events"];

    fn cells(&self) -> Vec<String> {
        vec![self.name.clone(), or_dash(self.id.clone()), self.partitions.to_string(), or_dash(self.events)]
    }
}

async fn list_topics(global: &Global) -> Result<Exit, Failure> {
    let mut client = connect(global).await?;
    let topics = client.topics().await.map_err(|e| explain::admin(&e))?;
    let mut rows = Vec::with_capacity(topics.len());
    for topic in topics {
        let events = match partitions(&mut client, &topic).await {
            Ok(partitions) => Some(partitions.iter().map(|p| p.events).sum()),
            // One topic in trouble does not hide the others.
            Err(AdminError::Call(error)) => return Err(explain::call(&error)),
            Err(_) => None,
        };
        rows.push(Listed { id: id_of(&topic), partitions: topic.partitions.len(), name: topic.name, events });
    }
    if rows.is_empty() && !global.quiet && io::stderr().is_terminal() {
        note(format_args!("There are no topics yet; create one with `courant topic create NAME`."));
    }
    let format = Format::or_default(global.output);
    list(&mut io::stdout().lock(), format, &rows).map_err(|e| Failure::output(&e))?;
    Ok(Exit::Ok)
}

/// A partition in `topic show`.
#[derive(Debug, Serialize)]
struct Partition {
    topic: String,
    partition: i32,
    leader: i32,
    start: i64,
    end: i64,
    events: i64,
}

impl Row for Partition {
    const TITLES: &'static [&'static str] = &["topic", "partition", "leader", "start", "end", "events"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.topic.clone(),
            self.partition.to_string(),
            self.leader.to_string(),
            self.start.to_string(),
            self.end.to_string(),
            self.events.to_string(),
        ]
    }
}

/// The partitions of a topic with their offsets.
async fn partitions(client: &mut Client, topic: &TopicInfo) -> Result<Vec<Partition>, AdminError> {
    let all: Vec<i32> = topic.partitions.iter().map(|p| p.index).collect();
    let starts = client.list_offsets(topic, &all, OffsetAt::Start).await?;
    let ends = client.list_offsets(topic, &all, OffsetAt::End).await?;
    let rows = topic.partitions.iter().map(|partition| {
        let start = starts.get(&partition.index).map_or(0, |at| at.offset);
        let end = ends.get(&partition.index).map_or(start, |at| at.offset);
        Partition {
            topic: topic.name.clone(),
            partition: partition.index,
            leader: partition.leader,
            start,
            end,
            events: end.saturating_sub(start),
        }
    });
    Ok(rows.collect())
}

async fn show(global: &Global, args: &TopicShow) -> Result<Exit, Failure> {
    let mut client = connect(global).await?;
    let rows = async {
        let topic = client.topic(&args.name, false).await?;
        partitions(&mut client, &topic).await
    };
    let rows = rows.await.map_err(|e| explain::admin(&e))?;
    let format = Format::or_default(global.output);
    list(&mut io::stdout().lock(), format, &rows).map_err(|e| Failure::output(&e))?;
    Ok(Exit::Ok)
}

/// The outcome of `topic create`.
#[derive(Debug, Serialize)]
struct Created {
    name: String,
    id: Option<String>,
    partitions: Option<i32>,
    replication_factor: Option<i16>,
    dry_run: bool,
}

impl Row for Created {
    const TITLES: &'static [&'static str] = &["name", "id", "partitions", "replication factor"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            or_dash(self.id.clone()),
            or_dash(self.partitions),
            or_dash(self.replication_factor),
        ]
    }
}

async fn create(global: &Global, args: TopicCreate) -> Result<Exit, Failure> {
    let mut client = connect(global).await?;
    let new = NewTopic {
        name: args.name,
        partitions: args.partitions,
        replication_factor: args.replication_factor,
        configs: args.configs,
        validate_only: args.dry_run,
    };
    let created = client.create_topic(&new).await.map_err(|e| explain::admin(&e))?;
    let row = Created {
        name: created.name,
        id: Some(created.id).filter(|id| !id.is_nil() && !args.dry_run).map(|id| id.to_string()),
        partitions: created.partitions.or(new.partitions),
        replication_factor: created.replication_factor.or(new.replication_factor),
        dry_run: args.dry_run,
    };
    if args.dry_run && !global.quiet {
        note(format_args!("Nothing was created (--dry-run)."));
    }
    let format = Format::or_default(global.output);
    one(&mut io::stdout().lock(), format, &row).map_err(|e| Failure::output(&e))?;
    Ok(Exit::Ok)
}

/// The outcome of `topic delete`.
#[derive(Debug, Serialize)]
struct Deleted {
    name: String,
    id: Option<String>,
    /// `None` when a partition cannot be asked.
    events: Option<i64>,
    dry_run: bool,
}

impl Row for Deleted {
    const TITLES: &'static [&'static str] = &["name", "id", "events"];

    fn cells(&self) -> Vec<String> {
        vec![self.name.clone(), or_dash(self.id.clone()), or_dash(self.events)]
    }
}

async fn delete(global: &Global, args: &TopicDelete) -> Result<Exit, Failure> {
    check_can_ask(args.yes, args.dry_run, &format!("topic `{}`", args.name))?;
    let mut client = connect(global).await?;
    let topic = client.topic(&args.name, false).await.map_err(|e| explain::admin(&e))?;
    // The number is for people. A topic with a partition in trouble can be deleted all the same.
    let partitions = partitions(&mut client, &topic).await.ok();
    let row = Deleted {
        id: id_of(&topic),
        name: topic.name,
        events: partitions.map(|all| all.iter().map(|p| p.events).sum()),
        dry_run: args.dry_run,
    };
    if args.dry_run {
        if !global.quiet {
            note(format_args!("Nothing was deleted (--dry-run)."));
        }
    } else {
        if !args.yes && !confirmed(&question(&row)).await? {
            return Err(Failure::new(Exit::Failed, "nothing was deleted"));
        }
        client.delete_topic(&row.name).await.map_err(|e| explain::admin(&e))?;
    }
    let format = Format::or_default(global.output);
    one(&mut io::stdout().lock(), format, &row).map_err(|e| Failure::output(&e))?;
    Ok(Exit::Ok)
}

fn question(row: &Deleted) -> String {
    let events = match row.events {
        Some(events) => format!("its {events} events"),
        None => "all of its events".to_owned(),
    };
    format!("Delete topic `{}` and {events} for good?", row.name)
}

fn id_of(topic: &TopicInfo) -> Option<String> {
    (!topic.id.is_nil()).then(|| topic.id.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_number_is_null_in_json_and_a_dash_in_the_table() {
        let row = Listed { name: "orders".to_owned(), id: None, partitions: 3, events: None };
        let json = serde_json::to_string(&row).expect("json");
        assert_eq!(json, r#"{"name":"orders","id":null,"partitions":3,"events":null}"#);
        assert_eq!(row.cells(), ["orders", "-", "3", "-"]);
        let row = Deleted { name: "orders".to_owned(), id: None, events: None, dry_run: false };
        assert_eq!(row.cells(), ["orders", "-", "-"]);
    }
}
