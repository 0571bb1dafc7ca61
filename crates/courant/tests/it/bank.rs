//! The bank: a service in a process of its own that is killed again and again, and so is what it talks to,
//! while what it is asked comes twice and out of order. What every database has in common of that: the one
//! who asks, repeats and kills.
//!
//! `COURANT_BANK_KILLS` sets the number of kills of each run, and `COURANT_BANK_TRANSFERS` how many transfers there are
//! for each; `COURANT_BANK_SEED` what is asked, repeated and killed when.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::given::from_environment;

const TRANSFERS_PER_KILL: u64 = 100;
/// A long run says after so many kills that it has come so far.
const TOLD_EVERY: u64 = 250;
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

/// Says why a test is not run.
pub(crate) fn skip(reason: &str) {
    let test = std::thread::current().name().unwrap_or("bank").to_owned();
    // Not `eprintln!`: the test harness would swallow it.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {test}: {reason}");
}

/// Where cargo puts the examples that it builds with this test.
fn built(name: &str) -> Option<PathBuf> {
    let test = std::env::current_exe().expect("this test has a path");
    let example = test.parent()?.parent()?.join("examples").join(name);
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
    /// It has told that it runs.
    is_ready: bool,
}

impl Bank {
    fn start(site: &BankSite) -> Self {
        let dir = &site.dir;
        let errors = OpenOptions::new().create(true).append(true).open(dir.join("stderr")).expect("opens");
        let mut child = Command::new(&site.program)
            .args([&site.engine, &site.store])
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
        Self { child, stdin, said, is_ready: false }
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

/// Where a bank is to live.
pub(crate) struct BankSite {
    program: PathBuf,
    dir: PathBuf,
    engine: String,
    store: String,
}

impl BankSite {
    /// The bank of a database, with its files in `dir`. `None`: it was not built, and the test is skipped.
    pub(crate) fn new(program: &str, dir: &Path, engine: String, store: String) -> Option<Self> {
        let Some(program) = built(program) else {
            skip("its service was not built");
            return None;
        };
        Some(Self { program, dir: dir.to_owned(), engine, store })
    }
}

/// What a run is to be.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) transfers: u64,
    pub(crate) kills: u64,
    /// Of so many kills one is the service's, at least; the others are those of what it talks to.
    pub(crate) service_every: u64,
    pub(crate) without_inbox: bool,
}

impl Plan {
    /// A run with so many kills, or with as many as the environment says.
    pub(crate) fn with_kills(kills: u64, service_every: u64) -> Self {
        let kills = from_environment("COURANT_BANK_KILLS", kills);
        let transfers = kills * from_environment("COURANT_BANK_TRANSFERS", TRANSFERS_PER_KILL);
        Self { transfers, kills, service_every, without_inbox: false }
    }
}

/// Kills something that the service talks to, and starts it again.
pub(crate) type Killer<'a> = &'a mut dyn FnMut();

pub(crate) fn seed() -> u64 {
    from_environment("COURANT_BANK_SEED", 20_261_129)
}

/// A run under way.
struct Run<'a> {
    site: &'a BankSite,
    plan: Plan,
    client: Client,
}

/// Runs the bank to its end. Gives back what it was asked for.
pub(crate) fn run(site: &BankSite, plan: Plan, others: &mut [Killer<'_>]) -> Vec<Transfer> {
    let mut random = Random(seed());
    let wanted = transfers(plan.transfers, &mut random);
    let client = Client {
        waiting: wanted.iter().copied().collect(),
        unanswered: BTreeMap::new(),
        given: BTreeSet::new(),
        ended: BTreeSet::new(),
        repeated: 0,
        random,
    };
    let mut run = Run { site, plan, client };
    let mut bank = run.start();
    for kill in 1..=plan.kills {
        // Somewhere around its share of the run.
        let share = plan.transfers / (plan.kills + 1);
        let at = share * kill - share / 2 + run.client.random.below(share.max(1));
        run.until(&mut bank, at);
        bank = run.kill(bank, kill, others);
        if kill.is_multiple_of(TOLD_EVERY) {
            let ended = run.client.ended.len();
            // Not `eprintln!`: the test harness would swallow it.
            let _ =
                writeln!(std::io::stderr(), "{kill} of {} kills, {ended} transfers have ended", plan.kills);
        }
    }
    run.until(&mut bank, plan.transfers);
    while !run.client.waiting.is_empty() {
        run.client.ask(&mut bank);
        if !run.client.waiting.is_empty() {
            run.hear(&mut bank);
        }
    }
    bank.finish(&site.dir);
    assert!(run.client.repeated > 0, "nothing was asked for twice");
    wanted
}

impl Run<'_> {
    fn start(&self) -> Bank {
        let mut bank = Bank::start(self.site);
        if self.plan.without_inbox {
            bank.ask("without-inbox");
        }
        bank
    }

    fn hear(&mut self, bank: &mut Bank) {
        let line = bank.next(&self.site.dir);
        bank.is_ready |= line == "ready";
        self.client.hear(&line);
    }

    /// Asks and hears until so many transfers have ended.
    fn until(&mut self, bank: &mut Bank, ended: u64) {
        while (self.client.ended.len() as u64) < ended {
            self.client.ask(bank);
            self.hear(bank);
        }
    }

    /// Kills the service, something that it talks to, or both.
    fn kill(&mut self, mut bank: Bank, kill: u64, others: &mut [Killer<'_>]) -> Bank {
        let count = others.len() as u64;
        if count == 0 || kill.is_multiple_of(self.plan.service_every) {
            self.client.after_kill(&bank.kill());
            // Sometimes what it talks to goes with it.
            if count > 0 && self.client.random.one_in(4) {
                self.kill_other(others);
            }
            return self.again();
        }
        // A service that finds nobody when it starts does not start; that is not what is tried here.
        while !bank.is_ready {
            self.hear(&mut bank);
        }
        self.kill_other(others);
        bank
    }

    fn kill_other(&mut self, others: &mut [Killer<'_>]) {
        let which = self.client.random.below(others.len() as u64);
        others[usize::try_from(which).expect("few")]();
    }

    /// Starts the service again. Some are killed before they have begun, or while they begin.
    fn again(&mut self) -> Bank {
        let mut bank = self.start();
        if self.client.random.one_in(8) {
            self.client.after_kill(&bank.kill());
            bank = self.start();
        }
        if self.client.random.one_in(8) {
            self.hear(&mut bank);
            self.client.after_kill(&bank.kill());
            bank = self.start();
        }
        bank
    }
}
