//! The relay's side of the outbox: what waits in it, and what was published.
//!
//! A lane has no gaps, so what is wanted of it is known by its positions. A read costs what it brings, and
//! not what waits.
//!
//! Whoever publishes has the row of its lane until its commit. The relay waits for it only where `published`
//! would be left too far behind; it says where to look for a lane's first row, and no more. Looks have bounds
//! in numbers at both ends: rows that are gone may stay in the index for as long as anybody reads an older state,
//! and a look without its beginning would pass all of them.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{AssertSqlSafe, MySqlConnection};

use super::Mariadb;
use super::class::failed;
use super::lists;
use super::row::{Columns, signed};
use crate::error::{AdvanceError, StoreError};
use crate::limits::{BUSY_TIMEOUT_MS, LANES, LISTED_MAX};
use crate::outbox::{LaneBatch, LanePosition, NewEvent, Pending, RelayLease, RelayState};
use crate::publishing::by_lane;

const READ: &str = "read the outbox";
const ADVANCE: &str = "move the outbox on";
const KEEP: &str = "show that a relay is there";

/// Positions that one statement deletes.
const DELETED_AT_ONCE: usize = 5_000;

/// Rows that a look may have to pass in each lane because they are gone already, if nobody had the lane.
const PUBLISHED_BEHIND: i64 = 16;

/// [`PUBLISHED_BEHIND`], whoever had the lane. Fewer than a relay reads of a lane at once.
const PUBLISHED_BEHIND_MAX: i64 = 64;

/// Positions of a lane: behind the first, up to the last.
#[derive(Clone, Copy, Debug)]
struct Range {
    lane: u16,
    behind: i64,
    until: i64,
}

pub(super) async fn take_over(
    store: &Mariadb,
    shard: &str,
    owner: &str,
    now_ms: i64,
) -> Result<RelayLease, StoreError> {
    let mut session = store.relaying(ADVANCE).await?;
    let held =
        format!("SELECT epoch FROM courant_relay WHERE shard = ? FOR UPDATE WAIT {}", BUSY_TIMEOUT_MS / 1000);
    // The text is a constant and a number.
    sqlx::query(AssertSqlSafe(held))
        .bind(shard)
        .fetch_optional(&mut *session)
        .await
        .map_err(failed(ADVANCE))?;
    let sql = "INSERT INTO courant_relay (shard, epoch, owner, taken_ms) VALUES (?, 1, ?, ?) \
               ON DUPLICATE KEY UPDATE epoch = epoch + 1, owner = VALUES(owner), \
               taken_ms = VALUES(taken_ms), beat = 0, resting = 0";
    sqlx::query(sql)
        .bind(shard)
        .bind(owner)
        .bind(now_ms)
        .execute(&mut *session)
        .await
        .map_err(failed(ADVANCE))?;
    let row = sqlx::query("SELECT epoch FROM courant_relay WHERE shard = ?")
        .bind(shard)
        .fetch_one(&mut *session)
        .await
        .map_err(failed(ADVANCE))?;
    let epoch = Columns::new(&row, ADVANCE).number(0)?;
    session.commit().await.map_err(failed(ADVANCE))?;
    Ok(RelayLease { shard: shard.to_owned(), epoch })
}

/// Keeps other relays from taking over until the transaction ends.
pub(super) async fn held(connection: &mut MySqlConnection, lease: &RelayLease) -> Result<(), AdvanceError> {
    let row = sqlx::query("SELECT epoch FROM courant_relay WHERE shard = ? LOCK IN SHARE MODE")
        .bind(lease.shard.as_str())
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed(ADVANCE))?;
    let current = row.map_or(Ok(0), |row| Columns::new(&row, ADVANCE).number(0))?;
    if current == lease.epoch {
        return Ok(());
    }
    Err(AdvanceError::Fenced { shard: lease.shard.clone(), held: lease.epoch, current })
}

pub(super) async fn state(store: &Mariadb, shard: &str) -> Result<Option<RelayState>, StoreError> {
    let mut session = store.reader().await?;
    let row = sqlx::query("SELECT epoch, owner, taken_ms, beat FROM courant_relay WHERE shard = ?")
        .bind(shard)
        .fetch_optional(&mut *session)
        .await
        .map_err(failed(KEEP))?;
    session.give_back();
    let Some(row) = row else { return Ok(None) };
    let columns = Columns::new(&row, KEEP);
    Ok(Some(RelayState {
        epoch: columns.number(0)?,
        owner: columns.text(1)?,
        taken_ms: columns.int(2)?,
        beat: columns.number(3)?,
    }))
}

pub(super) async fn keep(store: &Mariadb, lease: &RelayLease, is_resting: bool) -> Result<(), AdvanceError> {
    let mut session = store.relaying(KEEP).await?;
    let sql = "UPDATE courant_relay SET beat = beat + 1, resting = ? WHERE shard = ? AND epoch = ?";
    let kept = sqlx::query(sql)
        .bind(i64::from(is_resting))
        .bind(lease.shard.as_str())
        .bind(signed(lease.epoch, KEEP)?)
        .execute(&mut *session)
        .await
        .map_err(failed(KEEP))?;
    if kept.rows_affected() == 0 {
        // Says whose it is.
        held(&mut session, lease).await?;
    }
    session.commit().await.map_err(failed(KEEP))?;
    Ok(())
}

pub(super) async fn pending(
    store: &Mariadb,
    first_lane: u16,
    events_per_lane: u32,
    bytes_max: u64,
) -> Result<Vec<LaneBatch>, StoreError> {
    let mut session = store.reader().await?;
    let events_per_lane = events_per_lane.clamp(1, LISTED_MAX);
    let mut ranges = waiting(&mut session, PUBLISHED_BEHIND_MAX + i64::from(events_per_lane)).await?;
    // The first one that was asked for, and round.
    let turn = |lane: u16| (lane + LANES - first_lane % LANES) % LANES;
    ranges.sort_unstable_by_key(|range| turn(range.lane));
    let ranges = fitting(&mut session, &ranges, events_per_lane as usize, bytes_max).await?;
    let mut events = read(&mut session, &ranges).await?;
    session.give_back();
    events.sort_by_key(|pending| (turn(pending.at.lane), pending.at.position));
    by_lane(events.into_iter().map(Ok))
}

/// At most so many positions of each lane behind `published`. The first ones may be gone already.
async fn waiting(connection: &mut MySqlConnection, positions: i64) -> Result<Vec<Range>, StoreError> {
    let sql = "SELECT lane, published, position FROM courant_outbox_lane WHERE position > published";
    let rows = sqlx::query(sql).fetch_all(&mut *connection).await.map_err(failed(READ))?;
    let ranges = rows.iter().map(|row| {
        let columns = Columns::new(row, READ);
        let (behind, last) = (columns.int(1)?, columns.int(2)?);
        Ok(Range { lane: columns.number(0)?, behind, until: last.min(behind.saturating_add(positions)) })
    });
    ranges.collect()
}

/// The first events of the ranges, so many of each, that have about so many bytes; at least one event, if there
/// is one.
async fn fitting(
    connection: &mut MySqlConnection,
    ranges: &[Range],
    events_per_lane: usize,
    bytes_max: u64,
) -> Result<Vec<Range>, StoreError> {
    let Some(condition) = condition(ranges) else { return Ok(Vec::new()) };
    let sql =
        format!("SELECT lane, position, bytes FROM courant_outbox FORCE INDEX (PRIMARY) WHERE {condition}");
    // The text is made of numbers and nothing else.
    let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(&mut *connection).await.map_err(failed(READ))?;
    let mut sizes: BTreeMap<u16, Vec<(i64, u64)>> = BTreeMap::new();
    for row in &rows {
        let columns = Columns::new(row, READ);
        sizes.entry(columns.number(0)?).or_default().push((columns.int(1)?, columns.number(2)?));
    }
    let mut fitting = Vec::new();
    let mut ahead = 0_u64;
    for range in ranges {
        let mut of_lane = sizes.remove(&range.lane).unwrap_or_default();
        of_lane.sort_unstable();
        let mut until = range.behind;
        for (position, bytes) in of_lane.into_iter().take(events_per_lane) {
            if ahead >= bytes_max.max(1) {
                break;
            }
            until = position;
            ahead = ahead.saturating_add(bytes);
        }
        if until > range.behind {
            fitting.push(Range { until, ..*range });
        }
    }
    Ok(fitting)
}

async fn read(connection: &mut MySqlConnection, ranges: &[Range]) -> Result<Vec<Pending>, StoreError> {
    let Some(condition) = condition(ranges) else { return Ok(Vec::new()) };
    let sql = format!(
        "SELECT lane, position, event_id, topic, event_key, event_value, headers, timestamp_ms \
         FROM courant_outbox FORCE INDEX (PRIMARY) WHERE {condition}"
    );
    // The text is made of numbers and nothing else.
    let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(&mut *connection).await.map_err(failed(READ))?;
    let events = rows.iter().map(|row| {
        let columns = Columns::new(row, READ);
        Ok(Pending {
            at: LanePosition { lane: columns.number(0)?, position: columns.number(1)? },
            event: NewEvent {
                id: columns.event_id(2)?,
                topic: columns.topic(3)?,
                key: columns.bytes_or_null(4)?,
                value: columns.bytes_or_null(5)?,
                headers: columns.headers(6)?,
                timestamp_ms: columns.int(7)?,
            },
        })
    });
    events.collect()
}

/// Rows of the outbox in the ranges; `None` without any.
fn condition(ranges: &[Range]) -> Option<String> {
    let ranges = ranges.iter().map(|Range { lane, behind, until }| {
        format!("(lane = {lane} AND position > {behind} AND position <= {until})")
    });
    Some(ranges.collect::<Vec<_>>().join(" OR ")).filter(|condition| !condition.is_empty())
}

pub(super) async fn advance(
    store: &Mariadb,
    lease: &RelayLease,
    published: &[LanePosition],
) -> Result<(), AdvanceError> {
    let mut session = store.relaying(ADVANCE).await?;
    held(&mut session, lease).await?;
    let mut furthest: BTreeMap<u16, i64> = BTreeMap::new();
    for at in published {
        let position = signed(at.position, ADVANCE)?;
        let last = furthest.entry(at.lane).or_default();
        *last = position.max(*last);
    }
    let ranges = behind(&mut session, &furthest).await?;
    delete(&mut session, &ranges).await?;
    follow(&mut session, &ranges).await?;
    session.commit().await.map_err(failed(ADVANCE))?;
    Ok(())
}

/// What is to go of each lane, without a lock; refuses positions that were never given. What is read here does
/// not change: a position that was given stays given, and `published` is moved by nobody else.
async fn behind(
    connection: &mut MySqlConnection,
    furthest: &BTreeMap<u16, i64>,
) -> Result<Vec<Range>, AdvanceError> {
    if furthest.is_empty() {
        return Ok(Vec::new());
    }
    let lanes = furthest.keys().map(u16::to_string).collect::<Vec<_>>().join(", ");
    let sql = format!(
        "SELECT lane, position, published FROM courant_outbox_lane FORCE INDEX (PRIMARY) WHERE lane IN ({lanes})"
    );
    // The text is made of numbers and nothing else.
    let rows =
        sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(&mut *connection).await.map_err(failed(ADVANCE))?;
    let mut given: BTreeMap<u16, (i64, i64)> = BTreeMap::new();
    for row in &rows {
        let columns = Columns::new(row, ADVANCE);
        given.insert(columns.number(0)?, (columns.int(1)?, columns.int(2)?));
    }
    let mut ranges = Vec::with_capacity(furthest.len());
    for (&lane, &until) in furthest {
        match given.get(&lane) {
            Some(&(position, behind)) if until <= position => ranges.push(Range { lane, behind, until }),
            _ => return Err(AdvanceError::NoSuchEvent { lane, position: until.unsigned_abs() }),
        }
    }
    ranges.retain(|range| range.until > range.behind);
    Ok(ranges)
}

/// Lets `published` follow where it is far behind: in the lanes that nobody has, and in those where it would be
/// left too far behind. The ones that are waited for come first, in their order, so that nobody waits in a
/// circle: for the others nobody waits.
async fn follow(connection: &mut MySqlConnection, ranges: &[Range]) -> Result<(), StoreError> {
    let lag = |range: &Range| range.until - range.behind;
    let (far, near): (Vec<Range>, Vec<Range>) = ranges
        .iter()
        .copied()
        .filter(|range| lag(range) >= PUBLISHED_BEHIND)
        .partition(|range| lag(range) >= PUBLISHED_BEHIND_MAX);
    move_on(connection, &far).await?;
    let free = free(connection, near).await?;
    move_on(connection, &free).await
}

/// Those whose lanes nobody has; they are locked now.
async fn free(connection: &mut MySqlConnection, mut ranges: Vec<Range>) -> Result<Vec<Range>, StoreError> {
    if ranges.is_empty() {
        return Ok(ranges);
    }
    let lanes = ranges.iter().map(|range| range.lane.to_string()).collect::<Vec<_>>().join(", ");
    let sql = format!(
        "SELECT lane FROM courant_outbox_lane FORCE INDEX (PRIMARY) WHERE lane IN ({lanes}) \
         ORDER BY lane FOR UPDATE SKIP LOCKED"
    );
    // The text is made of numbers and nothing else.
    let rows =
        sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(&mut *connection).await.map_err(failed(ADVANCE))?;
    let lanes = rows.iter().map(|row| Columns::new(row, ADVANCE).number(0));
    let lanes: BTreeSet<u16> = lanes.collect::<Result<_, _>>()?;
    ranges.retain(|range| lanes.contains(&range.lane));
    Ok(ranges)
}

async fn move_on(connection: &mut MySqlConnection, ranges: &[Range]) -> Result<(), StoreError> {
    if ranges.is_empty() {
        return Ok(());
    }
    let cases = ranges.iter().map(|Range { lane, until, .. }| format!("WHEN {lane} THEN {until}"));
    let cases = cases.collect::<Vec<_>>().join(" ");
    let lanes = ranges.iter().map(|range| range.lane.to_string()).collect::<Vec<_>>().join(", ");
    let sql = format!(
        "UPDATE courant_outbox_lane FORCE INDEX (PRIMARY) \
         SET published = GREATEST(published, CASE lane {cases} ELSE 0 END) WHERE lane IN ({lanes}) ORDER BY lane"
    );
    // The text is made of numbers and nothing else.
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *connection).await.map_err(failed(ADVANCE))?;
    Ok(())
}

async fn delete(connection: &mut MySqlConnection, ranges: &[Range]) -> Result<(), StoreError> {
    let sql = "DELETE o FROM JSON_TABLE(?, '$[*]' COLUMNS ( \
                   lane BIGINT PATH '$[0]', position BIGINT PATH '$[1]')) w \
               STRAIGHT_JOIN courant_outbox o FORCE INDEX (PRIMARY) \
               ON o.lane = w.lane AND o.position = w.position";
    let mut places = ranges.iter().flat_map(|range| {
        (range.behind + 1..=range.until).map(move |position| vec![i64::from(range.lane), position])
    });
    loop {
        let some: Vec<Vec<i64>> = places.by_ref().take(DELETED_AT_ONCE).collect();
        if some.is_empty() {
            return Ok(());
        }
        sqlx::query(sql).bind(lists::json(some)).execute(&mut *connection).await.map_err(failed(ADVANCE))?;
    }
}

/// What waits in the lanes, and at most a thousand submitted rows. A lane has no gaps, so from its first row to
/// its last position everything waits.
pub(super) async fn backlog(store: &Mariadb) -> Result<u64, StoreError> {
    let sql = "SELECT COUNT(*) FROM (SELECT 1 FROM courant_outbox_submit LIMIT 1000) s";
    let mut session = store.reader().await?;
    let row = sqlx::query(sql).fetch_one(&mut *session).await.map_err(failed(READ))?;
    let submitted: u64 = Columns::new(&row, READ).number(0)?;
    let lanes = waiting(&mut session, i64::MAX).await?;
    let first = first_rows(&mut session, &lanes).await?;
    session.give_back();
    let in_lanes = lanes.iter().filter_map(|lane| {
        // The relay may have moved on since the lanes were read: then nothing of this one waits.
        let first = first.get(&lane.lane).filter(|first| **first <= lane.until)?;
        Some((lane.until - first).unsigned_abs() + 1)
    });
    Ok(submitted + in_lanes.sum::<u64>())
}

/// The first row of each lane that has one.
async fn first_rows(
    connection: &mut MySqlConnection,
    lanes: &[Range],
) -> Result<BTreeMap<u16, i64>, StoreError> {
    let near = lanes.iter().map(|lane| Range {
        until: lane.until.min(lane.behind.saturating_add(PUBLISHED_BEHIND_MAX)),
        ..*lane
    });
    let Some(condition) = condition(&near.collect::<Vec<_>>()) else { return Ok(BTreeMap::new()) };
    let sql = format!(
        "SELECT lane, MIN(position) FROM courant_outbox FORCE INDEX (PRIMARY) WHERE {condition} GROUP BY lane"
    );
    // The text is made of numbers and nothing else.
    let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(&mut *connection).await.map_err(failed(READ))?;
    let first = rows.iter().map(|row| {
        let columns = Columns::new(row, READ);
        Ok((columns.number(0)?, columns.int(1)?))
    });
    first.collect()
}
