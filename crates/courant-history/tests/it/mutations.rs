//! Valid histories of any shape, broken in any way: the checker sees each.

use courant_history::{History, Stamp};

/// xorshift64*
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) % bound
    }
}

/// What a partition holds, in order, and which of it was acknowledged.
fn valid(random: &mut Random) -> Vec<(Stamp, bool)> {
    let producers = 1 + random.below(4);
    let mut sequences = vec![0; producers as usize];
    (0..4 + random.below(40))
        .map(|_| {
            let producer = random.below(producers);
            let sequence = &mut sequences[producer as usize];
            let event = Stamp { topic: "orders".to_owned(), partition: 0, producer, sequence: *sequence };
            *sequence += 1;
            (event, random.below(4) > 0)
        })
        .collect()
}

fn told(sent: &[(Stamp, bool)]) -> History {
    let mut history = History::new();
    for (offset, (event, is_acknowledged)) in (0..).zip(sent) {
        history.sent(event);
        if *is_acknowledged {
            history.acknowledged(event, Some(offset));
        }
    }
    history
}

fn read(history: &mut History, values: &[(u64, Vec<u8>)], end: u64) {
    for (offset, value) in values {
        history.read("tail", "orders", 0, *offset, value);
    }
    history.complete("tail", "orders", 0, 0, end);
}

#[test]
fn every_way_to_break_a_history_is_seen() {
    let mut random = Random(7);
    let mut broken = [0; 5];
    for round in 0..2_000 {
        let sent = valid(&mut random);
        let values: Vec<_> = (0..).zip(sent.iter().map(|(event, _)| event.to_value(50))).collect();
        let end = values.len() as u64 + 1;
        let mut history = told(&sent);
        read(&mut history, &values, end);
        assert_eq!(history.check(), [], "round {round}");

        let at = random.below(sent.len() as u64) as usize;
        let way = random.below(broken.len() as u64) as usize;
        let mut values = values;
        match way {
            // Lost: only what was acknowledged is a promise.
            0 if sent[at].1 => {
                values.remove(at);
            }
            // Its neighbour of the same producer stands in its place, and it in the other's.
            1 => {
                let Some(other) =
                    (at + 1..sent.len()).find(|other| sent[*other].0.producer == sent[at].0.producer)
                else {
                    continue;
                };
                let (a, b) = (values[at].1.clone(), values[other].1.clone());
                (values[at].1, values[other].1) = (b, a);
            }
            2 => values.push((end - 1, sent[at].0.to_value(50))),
            3 => {
                let byte = random.below(values[at].1.len() as u64) as usize;
                values[at].1[byte] ^= 1 << random.below(8);
            }
            4 => values[at].1 = Stamp { partition: 1, ..sent[at].0.clone() }.to_value(50),
            _ => continue,
        }
        broken[way] += 1;
        let mut history = told(&sent);
        read(&mut history, &values, end);
        assert!(!history.check().is_empty(), "round {round}, way {way}, place {at}: nothing was seen");
    }
    assert!(broken.iter().all(|count| *count > 100), "{broken:?}");
}
