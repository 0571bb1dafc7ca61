//! Appending until somebody ends the process, or enough is written.
//!
//! Each thread is one idempotent producer over all partitions. After a start it first sends the newest
//! batch that the log has of it once more, as a client does that died before it heard: the log has to
//! answer with the old offset. It works in bursts with pauses, so that kills meet a busy and an idle log.

use super::dice::Dice;
use super::known::Known;
use super::line::{Line, say};
use super::plan::{self, Place};
use super::slot::Slot;
use crate::exit::{Exit, Failure};
use crate::time::now_ms;
use bytes::Bytes;
use courant_history::Stamp;
use courant_log::batch::records::{self, NewRecord, Producer};
use courant_log::{AppendError, Appended, Batch, Codec, Log, WriterError};
use std::fmt::Display;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

/// Batches of one thread that wait for their answers. The log remembers five of each producer.
const IN_FLIGHT_MAX: usize = 4;

/// Batches between two pauses.
const BURST: usize = 8;

/// Longest pause after a burst, in milliseconds.
const PAUSE_MS_MAX: u64 = 20;

/// A pause after the log has refused something, for want of room or because too much waits.
const REFUSED_PAUSE: Duration = Duration::from_millis(200);

/// Events of a batch.
const BATCH_EVENTS_MAX: u64 = 4;

/// A log that has not answered after this long never does.
const ANSWER_MAX: Duration = Duration::from_secs(120);

/// What is appended.
#[derive(Debug)]
pub(super) struct Load<'a> {
    pub(super) log: &'a Log,
    /// Which data directory of the run this is.
    pub(super) lap: u64,
    pub(super) seed: u64,
    pub(super) threads: u64,
    /// It ends after so many events.
    pub(super) events_max: u64,
    /// Whether events are told before they are handed over, and refusals afterwards; acknowledgements
    /// always are.
    pub(super) tells_all: bool,
}

/// Appends, and tells stdout. Returns when `events_max` are sent and answered.
///
/// # Errors
/// A refusal that the log owes nobody, no answer at all, or that stdout is gone.
pub(super) fn run(load: &Load<'_>, known: &Known) -> Result<(), Failure> {
    let progress = Progress::default();
    let mut appenders = Vec::new();
    for number in 0..load.threads {
        appenders.push(Appender::new(load, &progress, known, number)?);
    }
    thread::scope(|scope| {
        let running: Vec<_> =
            appenders.into_iter().map(|appender| scope.spawn(move || appender.run(known))).collect();
        let mut ended = Ok(());
        for appender in running {
            let panicked = |_| Err(Failure::new(Exit::Failed, "a thread that appends has panicked"));
            ended = ended.and(appender.join().unwrap_or_else(panicked));
        }
        ended
    })
}

/// What the threads know of each other.
#[derive(Debug, Default)]
struct Progress {
    sent: AtomicU64,
    /// One of them has failed.
    over: AtomicBool,
}

/// The answer to one batch.
#[derive(Debug)]
struct Answer {
    slot: usize,
    first: u64,
    count: u64,
    /// The batch was in the log before this process began.
    repeated: bool,
    result: Result<Appended, AppendError>,
}

/// One thread.
struct Appender<'a> {
    load: &'a Load<'a>,
    progress: &'a Progress,
    /// In the stamps.
    producer: u64,
    /// In the log.
    id: i64,
    dice: Dice,
    slots: Vec<Slot>,
    told: Sender<Answer>,
    answers: Receiver<Answer>,
    in_flight: usize,
    was_refused: bool,
}

impl<'a> Appender<'a> {
    fn new(load: &'a Load<'a>, progress: &'a Progress, known: &Known, number: u64) -> Result<Self, Failure> {
        let producer = plan::producer(load.lap, number);
        let mut slots = Vec::new();
        for place in plan::places() {
            let Some(id) = place.id(load.log) else {
                let sentence = format!("the topic {} is not there any more", place.topic);
                return Err(Failure::new(Exit::Failed, sentence));
            };
            let next = known.newest(place, producer).map_or(0, |newest| newest.first + newest.count);
            slots.push(Slot::new(place, id, next));
        }
        let id = match known.id(producer) {
            Some(id) => id,
            None => new_id(load.log)?,
        };
        let (told, answers) = mpsc::channel();
        let dice = Dice::new(load.seed ^ producer.rotate_left(48));
        Ok(Self {
            load,
            progress,
            producer,
            id,
            dice,
            slots,
            told,
            answers,
            in_flight: 0,
            was_refused: false,
        })
    }

    fn run(mut self, known: &Known) -> Result<(), Failure> {
        let ended = self.append(known);
        if ended.is_err() {
            self.progress.over.store(true, Ordering::Relaxed);
        }
        ended
    }

    fn append(&mut self, known: &Known) -> Result<(), Failure> {
        self.repeat(known)?;
        while !self.progress.over.load(Ordering::Relaxed)
            && self.progress.sent.load(Ordering::Relaxed) < self.load.events_max
        {
            for _ in 0..BURST {
                self.append_one()?;
            }
            while self.in_flight > 0 {
                self.take_answer()?;
            }
            self.pause();
        }
        Ok(())
    }

    /// Sends once more what the log has already.
    fn repeat(&mut self, known: &Known) -> Result<(), Failure> {
        for at in 0..self.slots.len() {
            let place = self.slot(at)?.place;
            let Some(newest) = known.newest(place, self.producer) else {
                continue;
            };
            let batch = Batch::validate(newest.bytes.clone()).map_err(|error| self.failed(place, &error))?;
            self.hand_over(at, (newest.first, newest.count), batch, true)?;
            self.take_answer()?;
        }
        Ok(())
    }

    /// Sends a new batch to any partition that is open.
    fn append_one(&mut self) -> Result<(), Failure> {
        if self.in_flight == IN_FLIGHT_MAX {
            self.take_answer()?;
        }
        let begin = usize::try_from(self.dice.below(self.slots.len() as u64)).unwrap_or(0);
        let mut in_turn = (begin..self.slots.len()).chain(0..begin);
        let Some(at) = in_turn.find(|at| self.slots.get(*at).is_some_and(Slot::is_open)) else {
            // A closed slot has something in flight, and opens with the last answer to it.
            return self.take_answer();
        };
        let (place, first) = (self.slot(at)?.place, self.slot(at)?.next);
        let count = 1 + self.dice.below(BATCH_EVENTS_MAX);
        let stamps: Vec<Stamp> = stamps(self.producer, place, first, count).collect();
        let batch = self.batch(place, &stamps)?;
        if self.load.tells_all {
            say(stamps.into_iter().map(Line::Sent)).map_err(|error| Failure::output(&error))?;
        }
        self.progress.sent.fetch_add(count, Ordering::Relaxed);
        self.slot(at)?.sends(count);
        self.hand_over(at, (first, count), batch, false)
    }

    fn hand_over(
        &mut self,
        at: usize,
        (first, count): (u64, u64),
        batch: Batch,
        repeated: bool,
    ) -> Result<(), Failure> {
        let id = self.slot(at)?.id;
        let told = self.told.clone();
        self.in_flight += 1;
        self.load.log.append(id, batch, move |result| {
            // Nobody waits any more when this process is ending.
            let _ = told.send(Answer { slot: at, first, count, repeated, result });
        });
        Ok(())
    }

    fn take_answer(&mut self) -> Result<(), Failure> {
        let answer = self.answers.recv_timeout(ANSWER_MAX).map_err(|_| {
            let sentence = format!("the log has not answered within {} s", ANSWER_MAX.as_secs());
            Failure::new(Exit::Failed, sentence)
        })?;
        self.in_flight = self.in_flight.saturating_sub(1);
        let Answer { slot: at, first, count, repeated, result } = answer;
        let place = self.slot(at)?.place;
        let stamps = stamps(self.producer, place, first, count);
        match result {
            Ok(appended) => {
                let lines = (appended.base_offset..).zip(stamps);
                let lines = lines.map(|(offset, stamp)| Line::Acknowledged(stamp, offset));
                say(lines).map_err(|error| Failure::output(&error))?;
            }
            // That a repetition was not taken says nothing of what it repeats.
            Err(error) if repeated && waits(&error) => self.was_refused = true,
            Err(error) if !repeated && (waits(&error) || self.slot(at)?.follows_refused(&error)) => {
                self.was_refused = true;
                self.slot(at)?.refuses(first);
                if self.load.tells_all {
                    say(stamps.map(Line::Refused)).map_err(|error| Failure::output(&error))?;
                }
            }
            Err(error) => return Err(self.refused(place, first, &error)),
        }
        if !repeated {
            self.slot(at)?.is_answered();
        }
        Ok(())
    }

    fn pause(&mut self) {
        let pause = Duration::from_millis(self.dice.below(PAUSE_MS_MAX + 1));
        let refused = std::mem::take(&mut self.was_refused);
        thread::sleep(if refused { REFUSED_PAUSE } else { pause });
    }

    fn slot(&mut self, at: usize) -> Result<&mut Slot, Failure> {
        self.slots.get_mut(at).ok_or_else(|| Failure::new(Exit::Failed, "an answer to nothing that was sent"))
    }

    fn batch(&mut self, place: Place, stamps: &[Stamp]) -> Result<Batch, Failure> {
        let first = stamps.first().map_or(0, |stamp| stamp.sequence);
        let base_sequence = i32::try_from(first).map_err(|error| self.failed(place, &error))?;
        let now = now_ms();
        let events: Vec<NewRecord> = stamps
            .iter()
            .map(|stamp| NewRecord {
                timestamp: now,
                value: Some(Bytes::from(stamp.to_value(value_bytes(&mut self.dice)))),
                ..NewRecord::default()
            })
            .collect();
        let producer = Producer { id: self.id, epoch: 0, base_sequence };
        let bytes = records::encode(&events, Codec::None, Some(producer))
            .map_err(|error| self.failed(place, &error))?;
        Batch::validate(bytes).map_err(|error| self.failed(place, &error))
    }

    fn failed(&self, place: Place, error: &dyn Display) -> Failure {
        let Place { topic, partition } = place;
        let sentence = format!("no batch can be made for partition {partition} of topic `{topic}`: {error}");
        Failure::new(Exit::Failed, sentence)
    }

    fn refused(&self, place: Place, sequence: u64, error: &AppendError) -> Failure {
        let Place { topic, partition } = place;
        let producer = self.producer;
        let sentence = format!(
            "sequence {sequence} of producer {producer} in partition {partition} of topic `{topic}` was \
             refused: {error}"
        );
        Failure::new(Exit::Failed, sentence)
    }
}

/// A producer's events in a partition.
fn stamps(producer: u64, place: Place, first: u64, count: u64) -> impl Iterator<Item = Stamp> {
    let Place { topic, partition } = place;
    let sequences = first..first.saturating_add(count);
    sequences.map(move |sequence| Stamp { topic: topic.to_owned(), partition, producer, sequence })
}

/// A producer id of the log that nobody has had.
fn new_id(log: &Log) -> Result<i64, Failure> {
    let failed = |error: &dyn Display| {
        Failure::new(Exit::Failed, format!("the log gives out no producer id: {error}"))
    };
    let (told, allocated) = mpsc::channel();
    log.allocate_producer_id(move |answer| {
        // Nobody waits any more when this process is ending.
        let _ = told.send(answer);
    });
    let answer = allocated.recv_timeout(ANSWER_MAX).map_err(|error| failed(&error))?;
    answer.map_err(|error| failed(&error))
}

/// Whether a log that refuses like this takes the batch later.
fn waits(error: &AppendError) -> bool {
    matches!(
        error,
        AppendError::Writer(WriterError::DiskFull { .. } | WriterError::Busy | WriterError::OutOfFiles)
    )
}

/// Mostly small values, some of which fill blocks of their own.
fn value_bytes(dice: &mut Dice) -> usize {
    let (least, range) = match dice.below(100) {
        0 => (2_000, 6_000),
        1..=15 => (200, 1_800),
        _ => (60, 140),
    };
    usize::try_from(least + dice.below(range)).unwrap_or(60)
}
