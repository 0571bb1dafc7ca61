//! `courant topic configs|offsets|alter`

use super::connect;
use crate::cli::{Global, TopicAlter, TopicConfigs, TopicOffsets};
use crate::exit::{Exit, Failure, note};
use crate::explain;
use crate::output::{Format, Row, list};
use crate::time::{StartFrom, ago_ms, rfc3339};
use courant_kafka::client::OffsetAt;
use serde::Serialize;
use std::io;

/// A config in `topic configs` and `topic alter`.
#[derive(Debug, Serialize)]
struct Config {
    name: String,
    value: Option<String>,
    /// `topic` when it was set, `default` otherwise.
    source: &'static str,
}

impl Row for Config {
    const TITLES: &'static [&'static str] = &["name", "value", "source"];

    fn cells(&self) -> Vec<String> {
        vec![self.name.clone(), super::or_dash(self.value.clone()), self.source.to_owned()]
    }
}

fn print<R: Row>(global: &Global, rows: &[R]) -> Result<Exit, Failure> {
    let format = Format::or_default(global.output);
    list(&mut io::stdout().lock(), format, rows).map_err(|e| Failure::output(&e))?;
    Ok(Exit::Ok)
}

pub(super) async fn configs(global: &Global, args: &TopicConfigs) -> Result<Exit, Failure> {
    let mut client = connect(global).await?;
    let configs = client.topic_configs(&args.name).await.map_err(|e| explain::admin(&e))?;
    let rows: Vec<_> = configs
        .into_iter()
        .filter(|config| args.all || config.is_set)
        .map(|config| Config {
            name: config.name,
            value: config.value,
            source: if config.is_set { "topic" } else { "default" },
        })
        .collect();
    if rows.is_empty() && !global.quiet {
        note(format_args!("Nothing is set on `{}`; --all shows the defaults.", args.name));
    }
    print(global, &rows)
}

/// A partition in `topic offsets`.
#[derive(Debug, Serialize)]
struct Place {
    partition: i32,
    /// `None`: no event is that new.
    offset: Option<i64>,
    /// Of the event at the offset, where it was asked for by time.
    timestamp: Option<String>,
}

impl Row for Place {
    const TITLES: &'static [&'static str] = &["partition", "offset", "timestamp"];

    fn cells(&self) -> Vec<String> {
        vec![self.partition.to_string(), super::or_dash(self.offset), super::or_dash(self.timestamp.clone())]
    }
}

pub(super) async fn offsets(global: &Global, args: &TopicOffsets) -> Result<Exit, Failure> {
    let at = match args.at {
        StartFrom::Start => OffsetAt::Start,
        StartFrom::End => OffsetAt::End,
        StartFrom::At(at_ms) => OffsetAt::Time(at_ms),
        StartFrom::Ago(ago) => OffsetAt::Time(ago_ms(ago)),
        StartFrom::Offset(_) | StartFrom::Last(_) => {
            let sentence = "--at is start, end, or a time such as @-1h: an offset is where it is";
            return Err(Failure::new(Exit::Usage, sentence));
        }
    };
    let mut client = connect(global).await?;
    let found = async {
        let topic = client.topic(&args.name, false).await?;
        let all: Vec<i32> = topic.partitions.iter().map(|partition| partition.index).collect();
        let found = client.list_offsets(&topic, &all, at).await?;
        Ok::<_, courant_kafka::client::AdminError>((all, found))
    };
    let (all, found) = found.await.map_err(|e| explain::admin(&e))?;
    let row = |partition: &i32| {
        let found = found.get(partition);
        let timestamp = found.map(|found| found.timestamp_ms).filter(|at_ms| *at_ms >= 0);
        Place {
            partition: *partition,
            offset: found.map(|found| found.offset),
            timestamp: timestamp.and_then(rfc3339),
        }
    };
    print(global, &all.iter().map(row).collect::<Vec<_>>())
}

pub(super) async fn alter(global: &Global, args: TopicAlter) -> Result<Exit, Failure> {
    let set = args.configs.into_iter().map(|(name, value)| (name, Some(value)));
    let changes: Vec<_> = set.chain(args.deleted.into_iter().map(|name| (name, None))).collect();
    if changes.is_empty() && args.partitions.is_none() {
        let sentence = "nothing to change; say --config KEY=VALUE, --delete-config KEY or --partitions N";
        return Err(Failure::new(Exit::Usage, sentence));
    }
    let mut client = connect(global).await?;
    if !changes.is_empty() {
        let altered = client.alter_topic(&args.name, &changes, args.dry_run).await;
        altered.map_err(|e| explain::admin(&e))?;
    }
    if let Some(total) = args.partitions {
        let added = client.add_partitions(&args.name, total, args.dry_run).await;
        let failed = added.map_err(|e| explain::admin(&e));
        // What was changed before is changed: whoever reads the exit code has to know.
        failed.map_err(|mut failure| {
            if !changes.is_empty() && !args.dry_run {
                failure.sentence =
                    format!("the configs were changed, the partitions were not: {}", failure.sentence);
                failure.exit = Exit::Partly;
            }
            failure
        })?;
    }
    if args.dry_run {
        if !global.quiet {
            note(format_args!("The server would do it; nothing was changed (--dry-run)."));
        }
        return Ok(Exit::Ok);
    }
    configs(global, &TopicConfigs { name: args.name, all: false }).await
}
