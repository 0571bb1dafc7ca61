//! `courant group reset`: where a group goes on, said first and done with `--execute`.

use super::{connect, or_dash};
use crate::cli::{Global, GroupReset};
use crate::exit::{Exit, Failure, note};
use crate::explain;
use crate::output::{Format, Row, list};
use crate::text::one_line;
use crate::time::{ResetTo, StartFrom, ago_ms};
use courant_kafka::client::{AdminError, Client, CommittedOffsets, OffsetAt, TopicInfo};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io;

/// The longest name of a group that is repeated, in characters.
const NAME_CHARS_MAX: usize = 300;

/// Offsets by partition.
type Offsets = BTreeMap<i32, i64>;

/// A partition in the outcome.
#[derive(Debug, Serialize)]
struct Moved {
    topic: String,
    partition: i32,
    /// `None`: nothing was committed.
    from: Option<i64>,
    to: i64,
    dry_run: bool,
}

impl Row for Moved {
    const TITLES: &'static [&'static str] = &["topic", "partition", "from", "to"];

    fn cells(&self) -> Vec<String> {
        vec![self.topic.clone(), self.partition.to_string(), or_dash(self.from), self.to.to_string()]
    }
}

/// Says where the group would go on, and with `--execute` commits it.
pub(super) async fn run(global: &Global, args: GroupReset) -> Result<Exit, Failure> {
    let mut client = connect(global).await?;
    let is_known = check_is_at_rest(&mut client, &args.name).await?;
    let topic = client.topic(&args.topic, false).await.map_err(|e| explain::admin(&e))?;
    let partitions: Vec<i32> = match args.partition {
        Some(partition) => vec![partition],
        None => topic.partitions.iter().map(|partition| partition.index).collect(),
    };
    check_is_the_progress(&mut client, &args.name, &args.topic).await?;
    let committed = client.committed(&args.name).await.map_err(|e| explain::admin(&e))?;
    let committed = committed.get(&args.topic).cloned().unwrap_or_default();
    let to = targets(&mut client, &topic, &partitions, &committed, &args.to).await?;
    let rows: Vec<_> = to
        .iter()
        .map(|(partition, to)| Moved {
            topic: args.topic.clone(),
            partition: *partition,
            from: committed.get(partition).copied(),
            to: *to,
            dry_run: !args.execute,
        })
        .collect();
    if args.execute {
        let offsets = CommittedOffsets::from([(args.topic.clone(), to)]);
        client.commit(&args.name, &offsets).await.map_err(|e| explain::admin(&e))?;
    } else if !global.quiet {
        note(format_args!("Nothing was changed; --execute does it."));
    }
    if !is_known && !global.quiet {
        let then = if args.execute { "it was made" } else { "it would be made" };
        let name = one_line(&args.name, NAME_CHARS_MAX);
        note(format_args!(
            "There was no consumer group `{name}`: {then}; `courant group list` has the others."
        ));
    }
    let format = Format::or_default(global.output);
    list(&mut io::stdout().lock(), format, &rows).map_err(|e| Failure::output(&e))?;
    Ok(Exit::Ok)
}

/// Members would go on committing what they have. A group that nobody knows yet can be given a place: then it says
/// false, because the name may be a slip.
async fn check_is_at_rest(client: &mut Client, name: &str) -> Result<bool, Failure> {
    match client.group(name).await {
        Ok(group) if !group.members.is_empty() => {
            Err(explain::admin(&AdminError::GroupInUse { group: name.to_owned() }))
        }
        Ok(_) => Ok(true),
        Err(AdminError::UnknownGroup { .. }) => Ok(false),
        Err(error) => Err(explain::admin(&error)),
    }
}

/// A service with a database goes on where that says, whatever the server has been told.
async fn check_is_the_progress(client: &mut Client, name: &str, topic: &str) -> Result<(), Failure> {
    let copied = client.copied(name).await.map_err(|e| explain::admin(&e))?;
    if !copied.contains(topic) {
        return Ok(());
    }
    let sentence = format!(
        "group `{name}` is a service that keeps its progress in its own database, and what the server has is a copy; \
         to have everything handled anew, with all its effects, count up .generation(…) of its subscription"
    );
    Err(Failure::new(Exit::Conflict, sentence))
}

async fn targets(
    client: &mut Client,
    topic: &TopicInfo,
    partitions: &[i32],
    committed: &Offsets,
    to: &ResetTo,
) -> Result<Offsets, Failure> {
    let starts = offsets(client, topic, partitions, OffsetAt::Start).await?;
    let ends = offsets(client, topic, partitions, OffsetAt::End).await?;
    let wanted: Offsets = match to {
        ResetTo::Place(StartFrom::At(at_ms)) => by_time(client, topic, partitions, *at_ms).await?,
        ResetTo::Place(StartFrom::Ago(ago)) => by_time(client, topic, partitions, ago_ms(*ago)).await?,
        ResetTo::Group(other) => {
            let theirs = client.committed(other).await.map_err(|e| explain::admin(&e))?;
            let theirs = theirs.get(&topic.name).cloned().unwrap_or_default();
            if theirs.is_empty() {
                let sentence = format!("group `{other}` has committed nothing for topic `{}`", topic.name);
                return Err(Failure::new(Exit::NotFound, sentence));
            }
            theirs.into_iter().filter(|(partition, _)| partitions.contains(partition)).collect()
        }
        ResetTo::By(_) | ResetTo::Place(_) => Offsets::new(),
    };
    let mut targets = Offsets::new();
    for partition in partitions {
        let of = |offsets: &Offsets| offsets.get(partition).copied();
        let (start, end) = (of(&starts).unwrap_or(0), of(&ends).unwrap_or(0));
        let target = match to {
            ResetTo::Group(_) => of(&wanted),
            ResetTo::By(count) => of(committed).map(|at| at.saturating_add(*count)),
            ResetTo::Place(place) => Some(match place {
                StartFrom::Start => start,
                StartFrom::End => end,
                StartFrom::Offset(offset) => *offset,
                StartFrom::Last(count) => end.saturating_sub(*count),
                // Nothing is that new: the group goes on with what comes.
                StartFrom::At(_) | StartFrom::Ago(_) => of(&wanted).unwrap_or(end),
            }),
        };
        // A place outside the partition would make a consumer start wherever its settings say.
        targets.extend(target.map(|target| (*partition, target.clamp(start, end))));
    }
    if targets.is_empty() {
        let sentence = format!(
            "the group has committed nothing for topic `{}`, so there is no place to move from; say --to start or --to end",
            topic.name
        );
        return Err(Failure::new(Exit::NotFound, sentence));
    }
    Ok(targets)
}

async fn by_time(
    client: &mut Client,
    topic: &TopicInfo,
    partitions: &[i32],
    at_ms: i64,
) -> Result<Offsets, Failure> {
    offsets(client, topic, partitions, OffsetAt::Time(at_ms)).await
}

async fn offsets(
    client: &mut Client,
    topic: &TopicInfo,
    partitions: &[i32],
    at: OffsetAt,
) -> Result<Offsets, Failure> {
    let found = client.list_offsets(topic, partitions, at).await.map_err(|e| explain::admin(&e))?;
    Ok(found.into_iter().map(|(partition, found)| (partition, found.offset)).collect())
}
