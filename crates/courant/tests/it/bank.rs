//! The bank: a service in a process of its own that is killed again and again, while what it is asked
//! comes twice and out of order. In the end every transfer was made once, or refused once.
//!
//! `COURANT_BANK_KILLS` sets the number of kills and, with 100 transfers for each, the length of the
//! run; `COURANT_BANK_SEED` what is asked, repeated and killed when.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use courant::prelude::Sqlite;
use courant::store_api::Store as _;

use crate::bank_books::violations;

/// Kills of a run in the CI.
const KILLS: u64 = 50;
const TRANSFERS_PER_KILL: u64 = 100;
/// Transfers that are under way at once.
const WINDOW: usize = 128;
/// One transfer of so many is asked for once more although it was taken.
const REPEATED_EVERY: u64 = 10;
/// Within so many the order is left to chance.
const SHUFFLED: usize = 64;
/// Long enough that only what never comes is not there by then.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a client of the bank wants.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transfer {
    pub(crate) number: i64,
    pub(crate) from: i64,
    pub(crate) to: i64,
    pub(crate) cents: i64,
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }
}

fn from_environment(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

fn skip(test: &str, reason: &str) {
    // Not `eprintln!`: the test harness would swallow it.
    let _ = writeln!(std::io::stderr(), "SKIPPED: bank::{test}: {reason}");
}

/// Where cargo puts the examples that it builds with this test.
fn built() -> Option<PathBuf> {
    let test = std::env::current_exe().expect("this test has a path");
    let example = test.parent()?.parent()?.join("examples").join("bank-service");
    example.is_file().then_some(example)
}

/// Transfers between 100 accounts, in an order that chance has mixed.
fn transfers(count: u64, random: &mut Random) -> Vec<Transfer> {
    let account = |random: &mut Random| i64::try_from(random.below(100)).expect("small");
    let mut transfers: Vec<Transfer> = (1..)
        .map(|number| {
            let (from, cents) = (account(random), 1 + account(random));
            // Another account than the first one.
            let to = (from + 1 + account(random) % 99) % 100;
            Transfer { number, from, to, cents }
        })
        .take(usize::try_from(count).expect("fits"))
        .collect();
    for block in transfers.chunks_mut(SHUFFLED) {
        for at in (1..block.len()).rev() {
            let other = usize::try_from(random.below(at as u64 + 1)).expect("fits");
            block.swap(at, other);
        }
    }
    transfers
}

/// The bank, while it lives.
struct Bank {
    child: Child,
    stdin: ChildStdin,
    said: Receiver<String>,
}

impl Bank {
    fn start(program: &Path, dir: &Path) -> Self {
        let errors = OpenOptions::new().create(true).append(true).open(dir.join("stderr")).expect("opens");
        let mut child = Command::new(program)
            .current_dir(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .expect("starts");
        let stdin = child.stdin.take().expect("piped");
        let stdout = child.stdout.take().expect("piped");
        let (tell, said) = channel();
        std::thread::spawn(move || {
            let lines = std::io::BufRead::lines(std::io::BufReader::new(stdout));
            // Nobody may listen any more; the bank must not wait for that.
            lines.map_while(Result::ok).for_each(|line| drop(tell.send(line)));
        });
        Self { child, stdin, said }
    }

    /// Asks for something. It may have been killed meanwhile, and then it does not matter.
    fn ask(&mut self, line: &str) {
        let _ = self.stdin.write_all(format!("{line}\n").as_bytes());
    }

    fn next(&self, dir: &Path) -> String {
        self.said.recv_timeout(PATIENCE).unwrap_or_else(|error| {
            let errors = fs::read_to_string(dir.join("stderr")).unwrap_or_default();
            panic!("the bank says nothing more ({error}): {errors}")
        })
    }

    /// As a power cut without a loss: SIGKILL. What it had said before is still heard.
    fn kill(mut self) -> Vec<String> {
        self.child.kill().expect("is killed");
        self.child.wait().expect("ends");
        self.said.iter().collect()
    }

    fn finish(mut self, dir: &Path) {
        self.ask("finish");
        while self.next(dir) != "finished" {}
        assert!(self.child.wait().expect("ends").success());
    }
}

/// What the client knows.
struct Client {
    /// To be asked for, the first one first.
    waiting: VecDeque<Transfer>,
    /// Asked for and not answered: the next bank is asked again.
    unanswered: BTreeMap<i64, Transfer>,
    given: BTreeSet<i64>,
    ended: BTreeSet<i64>,
    repeated: u64,
    random: Random,
}

impl Client {
    /// Asks for as much as may be under way.
    fn ask(&mut self, bank: &mut Bank) {
        while self.given.len() - self.ended.len() < WINDOW || self.is_repetition() {
            let Some(transfer) = self.waiting.pop_front() else { return };
            let Transfer { number, from, to, cents } = transfer;
            bank.ask(&format!("transfer {number} {from} {to} {cents}"));
            self.given.insert(number);
            self.unanswered.insert(number, transfer);
        }
    }

    fn is_repetition(&self) -> bool {
        self.waiting.front().is_some_and(|next| self.given.contains(&next.number))
    }

    fn hear(&mut self, line: &str) {
        let number = |text: &str| text.parse::<i64>().expect("a number");
        match line.split_once(' ') {
            Some(("taken", text)) => {
                if let Some(transfer) = self.unanswered.remove(&number(text))
                    && self.random.one_in(REPEATED_EVERY)
                {
                    self.repeated += 1;
                    let at = self.random.below(self.waiting.len() as u64 + 1).min(SHUFFLED as u64);
                    self.waiting.insert(usize::try_from(at).expect("fits"), transfer);
                }
            }
            Some(("ended", text)) => {
                self.ended.insert(number(text));
            }
            _ => assert_eq!(line, "ready"),
        }
    }

    /// The bank was killed: what it has not answered is asked for again, first of all.
    fn after_kill(&mut self, said: &[String]) {
        said.iter().for_each(|line| self.hear(line));
        for (_, transfer) in std::mem::take(&mut self.unanswered).into_iter().rev() {
            self.waiting.push_front(transfer);
        }
    }
}

/// What a run is to be.
struct Plan {
    transfers: u64,
    kills: u64,
    seed: u64,
    without_inbox: bool,
}

/// Runs the bank to its end. Gives back what is wrong in its books.
fn run(program: &Path, plan: &Plan) -> Vec<String> {
    let directory = tempfile::tempdir().expect("a directory");
    let dir = directory.path();
    let mut random = Random(plan.seed);
    let wanted = transfers(plan.transfers, &mut random);
    let mut client = Client {
        waiting: wanted.iter().copied().collect(),
        unanswered: BTreeMap::new(),
        given: BTreeSet::new(),
        ended: BTreeSet::new(),
        repeated: 0,
        random,
    };
    let start = || {
        let mut bank = Bank::start(program, dir);
        if plan.without_inbox {
            bank.ask("without-inbox");
        }
        bank
    };
    let mut bank = start();
    for kill in 1..=plan.kills {
        // Somewhere around its share of the run.
        let share = plan.transfers / (plan.kills + 1);
        let at = share * kill - share / 2 + client.random.below(share.max(1));
        while (client.ended.len() as u64) < at {
            client.ask(&mut bank);
            let line = bank.next(dir);
            client.hear(&line);
        }
        client.after_kill(&bank.kill());
        bank = start();
        // Some are killed before they have begun, or while they begin.
        if client.random.one_in(8) {
            client.after_kill(&bank.kill());
            bank = start();
        }
        if client.random.one_in(8) {
            let line = bank.next(dir);
            client.hear(&line);
            client.after_kill(&bank.kill());
            bank = start();
        }
    }
    while (client.ended.len() as u64) < plan.transfers || !client.waiting.is_empty() {
        client.ask(&mut bank);
        if client.ended.len() as u64 == plan.transfers && client.waiting.is_empty() {
            break;
        }
        let line = bank.next(dir);
        client.hear(&line);
    }
    bank.finish(dir);
    assert!(client.repeated > 0, "nothing was asked for twice");
    books(&dir.join("bank.db"), &wanted)
}

fn books(file: &Path, wanted: &[Transfer]) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let store = Sqlite::open(file).await.expect("opens");
        let backlog = store.outbox_backlog().await.expect("counts");
        let mut reader = store.read().await.expect("reads");
        let mut found = violations(&mut reader, wanted).await;
        if backlog > 0 {
            found.push(format!("{backlog} events are left in the outbox"));
        }
        found
    })
}

/// Killed at random moments, asked twice and out of order: no cent is lost, no transfer is made twice or
/// forgotten, and nothing is left to do.
#[test]
fn a_bank_that_is_killed_again_and_again_keeps_its_books() {
    let Some(program) = built() else {
        skip("a_bank_that_is_killed_again_and_again_keeps_its_books", "its service was not built");
        return;
    };
    let kills = from_environment("COURANT_BANK_KILLS", KILLS);
    let seed = from_environment("COURANT_BANK_SEED", 20_261_129);
    let plan = Plan { transfers: kills * TRANSFERS_PER_KILL, kills, seed, without_inbox: false };
    let found = run(&program, &plan);
    assert!(found.is_empty(), "seed {seed}: {}", found.join("\n"));
}

/// The twin: without the inbox, what is asked for twice is done twice, and the books say so.
#[test]
fn without_the_inbox_transfers_are_made_twice() {
    const NAME: &str = "without_the_inbox_transfers_are_made_twice";
    if !cfg!(feature = "planted-defects") {
        skip(NAME, "the framework was built without its planted defects");
        return;
    }
    let Some(program) = built() else {
        skip(NAME, "its service was not built");
        return;
    };
    let found = run(&program, &Plan { transfers: 300, kills: 3, seed: 7, without_inbox: true });
    assert!(found.iter().any(|wrong| wrong.contains("2 times")), "{}", found.join("\n"));
}
