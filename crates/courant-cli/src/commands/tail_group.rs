//! `courant tail --group`: as a member of a consumer group, which goes on where it has committed.

use super::tail::{Offsets, Printed, offsets};
use super::{connect, interrupted};
use crate::cli::{Global, Tail};
use crate::exit::{Exit, Failure, note};
use crate::explain;
use crate::output::{Format, Stream};
use crate::time::{StartFrom, ago_ms};
use courant_kafka::client::{
    AdminError, Consumer, HEARTBEAT_EVERY, Membership, OffsetAt, Standing, TopicInfo,
};
use std::io::{self, BufWriter, Write};
use std::pin::pin;
use std::time::{Duration, Instant};

/// How often what was printed is committed.
const COMMIT_EVERY: Duration = Duration::from_secs(5);

/// Reads and prints until the end, until enough was printed, or until it is interrupted; then commits
/// and leaves the group.
pub(super) async fn run(global: &Global, group: &str, args: Tail) -> Result<Exit, Failure> {
    // Whoever supervises it says it once, maybe while it joins.
    let mut stop = pin!(interrupted());
    let mut client = connect(global).await?;
    let topic = client.topic(&args.topic, false).await.map_err(|e| explain::admin(&e))?;
    let member = Membership::join(client, group, &args.topic).await.map_err(|e| explain::admin(&e))?;
    let out = BufWriter::new(io::stdout().lock());
    let left = args.count.unwrap_or(u64::MAX);
    let stream = Stream::new(out, Format::or_default(global.output));
    let mut tail = GroupTail { global, args, topic, member, stream, printed: Offsets::new(), left };
    let mut ended = Ok(Exit::Ok);
    loop {
        // A step is never cut off in the middle: what it printed has to be committed.
        let step = tail.generation(&mut stop).await;
        match step {
            Ok(Step::Rebalance) => {
                if let Err(error) = tail.rejoin().await {
                    ended = Err(error);
                    break;
                }
            }
            Ok(Step::Done) => break,
            Ok(Step::Interrupted) => {
                ended = Ok(Exit::Interrupted);
                break;
            }
            Err(error) => {
                ended = Err(error);
                break;
            }
        }
    }
    tail.finish(group, ended).await
}

/// How reading in one generation of the group ended.
enum Step {
    Rebalance,
    Done,
    Interrupted,
}

struct GroupTail<'a, W: Write> {
    global: &'a Global,
    args: Tail,
    topic: TopicInfo,
    member: Membership,
    stream: Stream<W>,
    /// The next offset of each partition, behind what was printed and not committed yet.
    printed: Offsets,
    left: u64,
}

impl<W: Write> GroupTail<'_, W> {
    /// Reads what the member is assigned, until the group shares it anew.
    async fn generation(&mut self, stop: &mut (impl Future<Output = ()> + Unpin)) -> Result<Step, Failure> {
        let (positions, ends) = self.places().await?;
        let mut consumer = Consumer::new(connect(self.global).await?, self.topic.clone(), positions);
        let mut heartbeat = Instant::now();
        let mut committed = Instant::now();
        loop {
            if self.left == 0 || (!self.args.follow && has_reached(&consumer, &ends)) {
                return Ok(Step::Done);
            }
            if consumer.positions().is_empty() {
                tokio::select! {
                    () = tokio::time::sleep(HEARTBEAT_EVERY) => {}
                    () = &mut *stop => return Ok(Step::Interrupted),
                }
            } else {
                let events = tokio::select! {
                    events = consumer.next() => events.map_err(|e| explain::fetch(&e))?,
                    () = &mut *stop => return Ok(Step::Interrupted),
                };
                for event in events.iter().take(usize::try_from(self.left).unwrap_or(usize::MAX)) {
                    let row = Printed::of(&self.args.topic, event);
                    self.stream.row(&row).map_err(|e| Failure::output(&e))?;
                    self.printed.insert(event.partition, event.record.offset + 1);
                    self.left -= 1;
                }
                self.stream.flush().map_err(|e| Failure::output(&e))?;
            }
            if committed.elapsed() >= COMMIT_EVERY {
                committed = Instant::now();
                self.commit().await?;
            }
            if heartbeat.elapsed() >= HEARTBEAT_EVERY {
                heartbeat = Instant::now();
                let standing = self.member.heartbeat().await.map_err(|e| explain::admin(&e))?;
                if standing == Standing::Rebalancing {
                    return Ok(Step::Rebalance);
                }
            }
        }
    }

    /// Where the member goes on, and where the partitions end now.
    async fn places(&mut self) -> Result<(Offsets, Offsets), Failure> {
        let partitions = self.member.partitions.clone();
        let places = async {
            let committed = self.member.committed().await?;
            let mut client = connect(self.global).await.map_err(Trouble::Told)?;
            // Also for a topic that has grown since.
            self.topic = client.topic(&self.args.topic, false).await?;
            let ends = offsets(client.list_offsets(&self.topic, &partitions, OffsetAt::End).await?);
            let at = match self.args.from.unwrap_or(StartFrom::Start) {
                StartFrom::End => OffsetAt::End,
                StartFrom::At(at_ms) => OffsetAt::Time(at_ms),
                StartFrom::Ago(ago) => OffsetAt::Time(ago_ms(ago)),
                StartFrom::Start | StartFrom::Offset(_) | StartFrom::Last(_) => OffsetAt::Start,
            };
            let starts = offsets(client.list_offsets(&self.topic, &partitions, OffsetAt::Start).await?);
            let fresh = offsets(client.list_offsets(&self.topic, &partitions, at).await?);
            let mut positions = Offsets::new();
            for partition in &partitions {
                let of = |offsets: &Offsets| offsets.get(partition).copied();
                let end = of(&ends).unwrap_or(0);
                let start = of(&starts).unwrap_or(0);
                let fresh = match self.args.from {
                    Some(StartFrom::Offset(offset)) => offset,
                    Some(StartFrom::Last(count)) => end.saturating_sub(count),
                    _ => of(&fresh).unwrap_or(end),
                };
                positions.insert(*partition, of(&committed).unwrap_or(fresh).clamp(start, end.max(start)));
            }
            Ok((positions, ends))
        };
        places.await.map_err(|trouble: Trouble| match trouble {
            Trouble::Told(failure) => failure,
            Trouble::Admin(error) => explain::admin(&error),
        })
    }

    /// Gives up what others may get, after committing it.
    async fn rejoin(&mut self) -> Result<(), Failure> {
        self.commit().await?;
        self.printed.clear();
        self.member.rejoin().await.map_err(|e| explain::admin(&e))
    }

    async fn commit(&mut self) -> Result<(), Failure> {
        if self.printed.is_empty() {
            return Ok(());
        }
        let committed = self.member.commit(&self.printed).await.map_err(|e| explain::admin(&e))?;
        if !committed && !self.global.quiet {
            note(format_args!(
                "The group was shared anew before this was committed; others may print it again."
            ));
        }
        Ok(())
    }

    /// However it ended: what was printed is one document, and the group is left. It is committed where all is well;
    /// else whoever is assigned the partitions prints it again.
    async fn finish(mut self, group: &str, ended: Result<Exit, Failure>) -> Result<Exit, Failure> {
        let finished = self.stream.finish().map_err(|e| Failure::output(&e));
        let ended = match ended.and_then(|exit| finished.map(|()| exit)) {
            Ok(exit) => commit_last(self.global, &mut self.member, group, &self.printed).await.map(|()| exit),
            Err(failure) => Err(failure),
        };
        // Who does not answer is not asked again.
        if !matches!(&ended, Err(failure) if failure.exit == Exit::Unreachable) {
            // Who cannot say goodbye is missed when its session ends.
            let _ = self.member.leave().await;
        }
        ended
    }
}

/// Commits what was printed since the last time, and says how far the group has come.
async fn commit_last(
    global: &Global,
    member: &mut Membership,
    group: &str,
    printed: &Offsets,
) -> Result<(), Failure> {
    let committed = match printed.is_empty() {
        true => true,
        false => member.commit(printed).await.map_err(|e| explain::admin(&e))?,
    };
    if global.quiet {
        return Ok(());
    }
    let places = printed.iter().map(|(partition, next)| format!("{partition} at {next}"));
    let places = places.collect::<Vec<_>>().join(", ");
    match (committed, places.is_empty()) {
        (true, true) => note(format_args!("{group} has left; it had nothing to commit.")),
        (true, false) => note(format_args!("{group} has committed: partition {places}.")),
        (false, _) => note(format_args!("{group} could not commit: the group was shared anew.")),
    }
    Ok(())
}

/// Trouble that was put into words already, and trouble that was not.
enum Trouble {
    Told(Failure),
    Admin(AdminError),
}

impl From<AdminError> for Trouble {
    fn from(error: AdminError) -> Self {
        Self::Admin(error)
    }
}

/// Whether everything that was there when this generation began has been printed.
fn has_reached(consumer: &Consumer, ends: &Offsets) -> bool {
    let mut positions = consumer.positions().iter();
    positions.all(|(partition, position)| ends.get(partition).is_none_or(|end| position >= end))
}
