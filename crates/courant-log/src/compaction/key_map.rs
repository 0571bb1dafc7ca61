//! The newest offset of each key, in memory that is bounded beforehand.

use super::siphash::hash128;

/// Slots of a map that begins to fill.
const SLOTS_FIRST: usize = 1024;

/// At most three of four slots are taken, so that a search is short, and ends.
const TAKEN_NUMERATOR: usize = 3;
const TAKEN_DENOMINATOR: usize = 4;

/// No event has this offset: offsets are below 2^63.
const NO_OFFSET: u64 = u64::MAX;

/// Keys and the greatest offset of each.
///
/// A key is kept as a hash of 128 bits, in 24 bytes a slot: SipHash-2-4 under a key that only this map
/// knows, so that no client can make two keys collide on purpose. By chance, two of `n` keys have one
/// hash with a probability below n² / 2^129: for 10 million keys, once in 6.8 * 10^24 maps. Then the
/// older one's event would go as if it were the newer one's.
///
/// The map grows as it fills. Growing needs the old slots beside the new ones, and both stay within the
/// bound; so it holds at least one key for each 64 bytes of the bound.
#[derive(Debug)]
pub struct KeyMap {
    hash_key: u128,
    slots: Vec<Slot>,
    keys: usize,
    slots_max: usize,
    full: Option<Full>,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    hash: [u64; 2],
    offset: u64,
}

const FREE: Slot = Slot { hash: [0; 2], offset: NO_OFFSET };

const _: () = assert!(size_of::<Slot>() == 24, "the rustdoc names it");

/// A key map has no room for another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the memory for keys is full; what is below offset {complete_below} can be compacted")]
pub struct Full {
    /// Every event below this offset is in the map, if events were added in the order of offsets.
    pub complete_below: u64,
}

impl KeyMap {
    /// A map that never holds more than `bytes_max` bytes of slots. `hash_key` are 128 random bits, new
    /// ones for each map.
    #[must_use]
    pub fn with_bytes_max(bytes_max: usize, hash_key: u128) -> Self {
        let slots_max = bytes_max / size_of::<Slot>();
        Self { hash_key, slots: Vec::new(), keys: 0, slots_max, full: None }
    }

    /// Adds an event. Events come in the order of their offsets, which are below 2^63.
    ///
    /// # Errors
    /// [`Full`] for the first key that has no room, and then for every event.
    pub fn add(&mut self, key: &[u8], offset: u64) -> Result<(), Full> {
        if let Some(full) = self.full {
            return Err(full);
        }
        let hash = hash128(self.hash_key, key);
        let known = self.slot(hash).and_then(|at| self.slots.get_mut(at)).filter(|slot| !slot.is_free());
        if let Some(slot) = known {
            slot.offset = slot.offset.max(offset);
            return Ok(());
        }
        if !self.has_room() && !self.grow() {
            let full = Full { complete_below: offset };
            self.full = Some(full);
            return Err(full);
        }
        self.put(Slot { hash, offset });
        self.keys += 1;
        Ok(())
    }

    /// The greatest offset that was added for a key.
    #[must_use]
    pub fn newest(&self, key: &[u8]) -> Option<u64> {
        let at = self.slot(hash128(self.hash_key, key))?;
        self.slots.get(at).filter(|slot| !slot.is_free()).map(|slot| slot.offset)
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys == 0
    }

    /// Bytes of all slots.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.slots.len() * size_of::<Slot>()
    }

    /// Where the hash is, else where it would be put; `None` while there are no slots. Slots are never
    /// all taken.
    fn slot(&self, hash: [u64; 2]) -> Option<usize> {
        let count = self.slots.len();
        // The upper half of the product spreads the hashes evenly over any number of slots.
        let start = ((u128::from(hash[0]) * count as u128) >> 64) as usize;
        let (before, behind) = self.slots.split_at_checked(start)?;
        let is_here = |slot: &Slot| slot.is_free() || slot.hash == hash;
        let found = behind.iter().position(is_here).map(|at| start + at);
        found.or_else(|| before.iter().position(is_here))
    }

    fn put(&mut self, new: Slot) {
        if let Some(slot) = self.slot(new.hash).and_then(|at| self.slots.get_mut(at)) {
            *slot = new;
        }
    }

    fn has_room(&self) -> bool {
        let taken = self.keys + 1;
        taken.saturating_mul(TAKEN_DENOMINATOR) <= self.slots.len().saturating_mul(TAKEN_NUMERATOR)
    }

    /// Doubles the slots, or takes what the bound leaves. False when that is no room for another key.
    fn grow(&mut self) -> bool {
        let count = self.slots.len();
        let left = self.slots_max - count;
        let wanted = count.saturating_mul(2).max(SLOTS_FIRST).min(left);
        if wanted <= count {
            return false;
        }
        let old = std::mem::replace(&mut self.slots, vec![FREE; wanted]);
        for slot in old.into_iter().filter(|slot| !slot.is_free()) {
            self.put(slot);
        }
        self.has_room()
    }
}

impl Slot {
    fn is_free(&self) -> bool {
        self.offset == NO_OFFSET
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn key(number: u64) -> [u8; 8] {
        number.to_be_bytes()
    }

    #[test]
    fn the_greatest_offset_of_each_key_is_found() {
        let mut map = KeyMap::with_bytes_max(16 * 1024 * 1024, 7);
        let mut expected = BTreeMap::new();
        assert!(map.is_empty());
        assert_eq!(map.newest(&key(0)), None);
        for offset in 0..100_000u64 {
            let number = offset.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 30_000;
            map.add(&key(number), offset).unwrap();
            expected.insert(number, offset);
        }
        assert_eq!(map.len(), expected.len());
        for number in 0..40_000 {
            assert_eq!(map.newest(&key(number)), expected.get(&number).copied(), "{number}");
        }
    }

    #[test]
    fn an_older_event_does_not_take_the_place_of_a_newer_one() {
        let mut map = KeyMap::with_bytes_max(1024, 1);
        map.add(b"k", 9).unwrap();
        map.add(b"k", 3).unwrap();
        assert_eq!(map.newest(b"k"), Some(9));
        map.add(b"", 10).unwrap();
        assert_eq!((map.newest(b""), map.len()), (Some(10), 2));
    }

    #[test]
    fn a_full_map_says_how_far_it_came() {
        for bytes_max in [0, 23, 24, 100, 1000, 24 * 1024, 24 * 1025, 24 * 3000, 24 * 3073, 1_000_000] {
            let mut map = KeyMap::with_bytes_max(bytes_max, 3);
            let full = (0u64..).find_map(|number| map.add(&key(number), 2 * number).err()).unwrap();
            let keys = map.len() as u64;
            assert_eq!(full.complete_below, 2 * keys);
            assert!(map.bytes() <= bytes_max);
            // From then on it takes nothing, so that what it said stays true.
            assert_eq!(map.add(&key(0), 2 * keys + 1), Err(full));
            for number in 0..keys {
                assert_eq!(map.newest(&key(number)), Some(2 * number));
            }
            assert_eq!(map.newest(&key(keys)), None);
            if bytes_max >= 1000 {
                assert!(map.len() >= bytes_max / 66, "{bytes_max} bytes for {keys} keys");
            }
        }
    }

    #[test]
    fn a_full_table_still_takes_newer_events_of_its_keys_until_it_has_refused() {
        let mut map = KeyMap::with_bytes_max(24 * 4, 3);
        for number in 0..3 {
            map.add(&key(number), number).unwrap();
        }
        map.add(&key(1), 10).unwrap();
        assert_eq!(map.add(&key(4), 11), Err(Full { complete_below: 11 }));
        assert_eq!(map.newest(&key(1)), Some(10));
    }
}
