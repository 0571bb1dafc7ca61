//! The books of the bank: what must hold in its database whatever has happened to it.

use std::collections::{BTreeMap, BTreeSet};

use crate::bank::Transfer;

/// As the service has them.
const ACCOUNTS: i64 = 100;
const FIRST_CENTS: i64 = 500;
const LARGE_CENTS: i64 = 95;
const STATEMENT_EVERY: i64 = 20;

type Account = (i64, i64, i64);
type Movement = (i64, i64, i64, i64);

/// What is found in the database.
#[derive(Debug, Default)]
pub(crate) struct Books {
    /// Account, cents, movements.
    pub(crate) accounts: Vec<Account>,
    /// Transfer, account, cents, offset; in the order in which they were made.
    pub(crate) movements: Vec<Movement>,
    /// What, about whom, which one; in this order.
    pub(crate) notes: Vec<(String, i64, i64)>,
    pub(crate) parked: i64,
    pub(crate) dead: i64,
    /// Events that are left in the outbox.
    pub(crate) outbox: u64,
}

impl Books {
    /// Everything that is wrong.
    pub(crate) fn violations(&self, wanted: &[Transfer]) -> Vec<String> {
        let mut found = Vec::new();
        conserved(&self.accounts, &self.movements, &mut found);
        in_order(&self.movements, &mut found);
        let refused = self.notes("refused");
        let made = once(wanted, &self.movements, &refused, &mut found);
        same("refusals that were counted", &self.notes("refused-counted"), &refused, &mut found);
        let large = made.iter().filter(|transfer| transfer.cents >= LARGE_CENTS);
        let large: Vec<_> = large.map(|transfer| (transfer.number, 0)).collect();
        for what in ["large-counted", "large-thanked"] {
            same(what, &self.notes(what), &large, &mut found);
        }
        let due = self.accounts.iter().flat_map(|(account, _, movements)| {
            (1..=movements / STATEMENT_EVERY).map(move |number| (*account, number * STATEMENT_EVERY))
        });
        let due: Vec<_> = due.collect();
        for what in ["statement-written", "statement-posted"] {
            same(what, &self.notes(what), &due, &mut found);
        }
        let (parked, dead) = (self.parked.unsigned_abs(), self.dead.unsigned_abs());
        for (left, count) in
            [("parked events", parked), ("dead letters", dead), ("events in the outbox", self.outbox)]
        {
            if count > 0 {
                found.push(format!("{count} {left} are left"));
            }
        }
        found
    }

    fn notes(&self, what: &str) -> Vec<(i64, i64)> {
        let of_it = self.notes.iter().filter(|(there, _, _)| there == what);
        of_it.map(|(_, about, number)| (*about, *number)).collect()
    }
}

/// No cent has come or gone, and each account has what its movements say.
fn conserved(accounts: &[Account], movements: &[Movement], found: &mut Vec<String>) {
    let total: i64 = accounts.iter().map(|(_, cents, _)| cents).sum();
    if total != ACCOUNTS * FIRST_CENTS {
        found.push(format!("the accounts have {total} cents, not {}", ACCOUNTS * FIRST_CENTS));
    }
    for (account, cents, count) in accounts {
        let own: Vec<i64> =
            movements.iter().filter(|movement| movement.1 == *account).map(|movement| movement.2).collect();
        let expected = FIRST_CENTS + own.iter().sum::<i64>();
        if *cents != expected || usize::try_from(*count) != Ok(own.len()) {
            found.push(format!(
                "account {account} has {cents} cents after {count} movements, its movements give {expected} \
                 after {}",
                own.len()
            ));
        }
        if *cents < 0 {
            found.push(format!("account {account} has {cents} cents"));
        }
    }
}

/// What was debited from an account, and what was credited to it, is in the order of the log.
fn in_order(movements: &[Movement], found: &mut Vec<String>) {
    let mut last: BTreeMap<(i64, bool), i64> = BTreeMap::new();
    for (transfer, account, cents, offset) in movements {
        let before = last.insert((*account, *cents < 0), *offset);
        if before.is_some_and(|before| before >= *offset) {
            found.push(format!(
                "transfer {transfer} at offset {offset} of account {account} comes behind {before:?}"
            ));
        }
    }
}

/// Each transfer was debited and credited once, or refused once. Gives back those that were made.
fn once(
    wanted: &[Transfer],
    movements: &[Movement],
    refused: &[(i64, i64)],
    found: &mut Vec<String>,
) -> Vec<Transfer> {
    let mut of_transfer: BTreeMap<i64, Vec<(i64, i64)>> = BTreeMap::new();
    for (transfer, account, cents, _) in movements {
        of_transfer.entry(*transfer).or_default().push((*account, *cents));
    }
    let mut refusals_of: BTreeMap<i64, u32> = BTreeMap::new();
    for (transfer, _) in refused {
        *refusals_of.entry(*transfer).or_default() += 1;
    }
    let mut made = Vec::new();
    for transfer in wanted {
        let Transfer { number, from, to, cents } = *transfer;
        let refusals = refusals_of.remove(&number).unwrap_or_default();
        let own = of_transfer.remove(&number).unwrap_or_default();
        let count = |movement: (i64, i64)| own.iter().filter(|own| **own == movement).count();
        let (debits, credits) = (count((from, -cents)), count((to, cents)));
        match (debits, credits, refusals, own.len()) {
            (1, 1, 0, 2) => made.push(*transfer),
            (0, 0, 1, 0) => {}
            _ => found.push(format!(
                "transfer {number} was debited {debits} times, credited {credits} times, refused {refusals} \
                 times: {own:?}"
            )),
        }
    }
    if !of_transfer.is_empty() || !refusals_of.is_empty() {
        let (moved, refused) = (of_transfer.keys(), refusals_of.keys());
        found.push(format!("nobody has asked for the transfers {moved:?} and {refused:?}"));
    }
    made
}

/// Each of `expected` once, and nothing else.
fn same(what: &str, notes: &[(i64, i64)], expected: &[(i64, i64)], found: &mut Vec<String>) {
    let (there, wanted): (BTreeSet<_>, BTreeSet<_>) = (notes.iter().collect(), expected.iter().collect());
    let missing: Vec<_> = wanted.difference(&there).collect();
    let foreign: Vec<_> = there.difference(&wanted).collect();
    if !missing.is_empty() || !foreign.is_empty() || notes.len() != there.len() {
        found.push(format!(
            "{what}: {} notes about {} things; missing {missing:?}, too many {foreign:?}",
            notes.len(),
            there.len()
        ));
    }
}
