//! Runs with every kind of answer, several readers, gaps of offsets and deleted beginnings: as they are
//! they give no finding, and broken in one place the finding that belongs to it.

use courant_history::{FindingKind, History, Stamp};

use crate::mutations::Random;
use crate::stamp;

/// Passes over each partition: "a", "b", "a" again, and "live", which does not come to the end.
const PASSES: usize = 4;
/// Ways to break a run.
const WAYS: usize = 11;

#[derive(Clone, Copy, Debug)]
enum Answer {
    Missing,
    Refused,
    Acknowledged(Option<u64>),
}

struct Sent {
    stamp: Stamp,
    answer: Answer,
}

struct Pass {
    reader: &'static str,
    partition: u32,
    values: Vec<(u64, Vec<u8>)>,
    start: u64,
    end: u64,
    is_complete: bool,
}

struct Run {
    sent: Vec<Sent>,
    /// Those of partition 0, then those of partition 1.
    passes: Vec<Pass>,
    /// Readers tell before producers do: the order must not matter.
    reads_first: bool,
}

#[test]
fn every_break_gives_the_finding_that_belongs_to_it() {
    let mut random = Random(11);
    for round in 0..2_000 {
        let mut run = valid(&mut random);
        assert_eq!(run.told().check(), [], "round {round}");
        let way = round % WAYS;
        let kind = break_once(&mut run, way, &mut random);
        let found = run.told().check();
        assert!(found.iter().any(|finding| finding.kind() == kind), "round {round}, way {way}: {found:?}");
    }
}

fn valid(random: &mut Random) -> Run {
    let mut run = Run { sent: Vec::new(), passes: Vec::new(), reads_first: random.below(2) == 0 };
    for partition in 0..2 {
        add_partition(&mut run, partition, random);
    }
    run
}

fn add_partition(run: &mut Run, partition: u32, random: &mut Random) {
    let mut sequences = [0; 3];
    let mut end = random.below(3);
    let mut values = Vec::new();
    let events = 10 + random.below(30);
    for event in 0..events {
        let producer = random.below(3);
        let sequence = sequences[producer as usize];
        sequences[producer as usize] += 1;
        let stamp = stamp(partition, producer, sequence);
        // The last ones are always acknowledged with their offsets, so that there is something to break.
        let draw = if event + 3 < events { random.below(10) } else { 0 };
        let (answer, is_there) = match draw {
            0..=5 => (Answer::Acknowledged(Some(end)), true),
            6 => (Answer::Acknowledged(None), true),
            7 => (Answer::Missing, true),
            8 => (Answer::Missing, false),
            _ => (Answer::Refused, false),
        };
        if is_there {
            values.push((end, stamp.to_value(50)));
            end += 1 + random.below(3);
        }
        run.sent.push(Sent { stamp, answer });
    }
    let start = if random.below(2) == 0 { 0 } else { values[values.len() / 4].0 };
    values.retain(|(offset, _)| *offset >= start);
    for reader in ["a", "b", "a"] {
        let values = values.clone();
        run.passes.push(Pass { reader, partition, values, start, end, is_complete: true });
    }
    values.truncate(values.len() / 2);
    run.passes.push(Pass { reader: "live", partition, values, start, end, is_complete: false });
}

impl Run {
    fn told(&self) -> History {
        let mut history = History::new();
        if self.reads_first {
            self.tell_passes(&mut history);
        }
        for Sent { stamp, answer } in &self.sent {
            history.sent(stamp);
            match answer {
                Answer::Missing => {}
                Answer::Refused => history.refused(stamp),
                Answer::Acknowledged(offset) => history.acknowledged(stamp, *offset),
            }
        }
        if !self.reads_first {
            self.tell_passes(&mut history);
        }
        history
    }

    fn tell_passes(&self, history: &mut History) {
        for pass in &self.passes {
            history.reader_seeks(pass.reader, "orders", pass.partition);
            for (offset, value) in &pass.values {
                history.read(pass.reader, "orders", pass.partition, *offset, value);
            }
            if pass.is_complete {
                history.complete(pass.reader, "orders", pass.partition, pass.start, pass.end);
            }
        }
    }

    /// An event that was acknowledged at an offset which its readers have read: where it stands in
    /// `sent`, and the offset.
    fn promise(&self, random: &mut Random) -> (usize, u64) {
        let mut promises = Vec::new();
        for (at, sent) in self.sent.iter().enumerate() {
            let start = self.passes[sent.stamp.partition as usize * PASSES].start;
            match sent.answer {
                Answer::Acknowledged(Some(offset)) if offset >= start => promises.push((at, offset)),
                _ => {}
            }
        }
        promises[random.below(promises.len() as u64) as usize]
    }
}

/// Breaks one promise or one value of a valid run; says what must be found.
fn break_once(run: &mut Run, way: usize, random: &mut Random) -> FindingKind {
    let (at, offset) = run.promise(random);
    let stamp = run.sent[at].stamp.clone();
    let value = stamp.to_value(50);
    let other = Stamp { producer: 8, ..stamp.clone() };
    let first = stamp.partition as usize * PASSES;
    let one = first + random.below(3) as usize;
    let end = run.passes[one].end;
    match way {
        0 => {
            run.passes[one].values.retain(|(there, _)| *there != offset);
            FindingKind::Lost
        }
        1 => {
            for pass in &mut run.passes[first..first + PASSES] {
                pass.values.retain(|(there, _)| *there != offset);
            }
            FindingKind::Lost
        }
        2 => {
            run.passes[one].values.push((end, other.to_value(50)));
            FindingKind::Phantom
        }
        3 => {
            run.sent[at].answer = Answer::Refused;
            FindingKind::RefusedButThere
        }
        4 => {
            run.sent[at].answer = Answer::Acknowledged(Some(offset + 1_000_000));
            FindingKind::ReadAtAnotherOffset
        }
        5 => {
            run.sent.push(Sent { stamp: other, answer: Answer::Acknowledged(Some(offset)) });
            FindingKind::TwoAckedAtOneOffset
        }
        6 => {
            *value_at(&mut run.passes[one], offset) = other.to_value(50);
            run.sent.push(Sent { stamp: other, answer: Answer::Missing });
            FindingKind::InconsistentOffset
        }
        7 => {
            for pass in &mut run.passes[first..first + PASSES] {
                pass.values.push((end, value.clone()));
            }
            FindingKind::Duplicate
        }
        8 => {
            let changed = value_at(&mut run.passes[one], offset);
            let byte = random.below(changed.len() as u64) as usize;
            changed[byte] ^= 1 << random.below(8);
            FindingKind::Torn
        }
        9 => {
            let elsewhere = &mut run.passes[(1 - stamp.partition as usize) * PASSES];
            elsewhere.values.push((elsewhere.end, value));
            FindingKind::Misplaced
        }
        10 => {
            run.passes[one].values.push((offset, value));
            FindingKind::OffsetWentBack
        }
        _ => unreachable!("there are {WAYS} ways"),
    }
}

fn value_at(pass: &mut Pass, offset: u64) -> &mut Vec<u8> {
    let found = pass.values.iter_mut().find(|(there, _)| *there == offset);
    found.map(|(_, value)| value).expect("the pass has seen it")
}
