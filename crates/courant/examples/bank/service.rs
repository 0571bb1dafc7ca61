//! A bank of 100 accounts: eight handlers in five subscriptions, told what to do by lines on stdin.
//!
//! Its arguments are an engine and a store. `transfer ID FROM TO CENTS` is answered with `taken ID` once it
//! cannot be lost any more; sent again, it is still one transfer. `ended ID` tells that its last handler
//! runs. `finish` waits until nothing is left to do, and ends the service in order. It can be killed at any
//! moment, and so can what it talks to.
//!
//! It is written once. What differs between databases is the text of its statements, in a folder of each,
//! and the type that `Db` stands for.

use std::io::BufRead as _;
use std::str::FromStr;
use std::time::Duration;

use courant::prelude::*;
use courant::store_api::{Consumer, ParkedOf, Store as _};
use courant::{BoxError, ConsumerName, EventId, PublishError, Running, Service};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::Db;

const ACCOUNTS: i64 = 100;
const FIRST_CENTS: i64 = 500;
/// From here on a transfer is a large one.
const LARGE_CENTS: i64 = 95;
/// Movements of an account from one statement to the next.
const STATEMENT_EVERY: i64 = 20;
/// One transfer of so many fails at its first attempt.
const FAILS_EVERY: i64 = 50;
const RETRY_AFTER: Duration = Duration::from_millis(50);
/// Lines that wait to be followed.
const LINES_MAX: usize = 64;
const CONSUMERS: [&str; 5] = ["ledger", "desk", "audit", "statements", "mail"];

#[derive(Event, Serialize, Deserialize)]
#[event(type = "bank.transfer-requested", topic = "bank.requests", key = from)]
struct TransferRequested {
    transfer: i64,
    from: i64,
    to: i64,
    cents: i64,
}

#[derive(Event, Serialize, Deserialize)]
#[event(type = "bank.debited", topic = "bank.debits", key = to)]
struct Debited {
    transfer: i64,
    to: i64,
    cents: i64,
}

#[derive(Event, Serialize, Deserialize)]
#[event(type = "bank.transfer-refused", topic = "bank.refusals", key = from)]
struct TransferRefused {
    transfer: i64,
    from: i64,
}

#[derive(Event, Serialize, Deserialize)]
#[event(type = "bank.large-transfer-made", topic = "bank.large-transfers", key = from)]
struct LargeTransferMade {
    transfer: i64,
    from: i64,
}

#[derive(Event, Serialize, Deserialize)]
#[event(type = "bank.statement-due", topic = "bank.statements-due", key = account)]
struct StatementDue {
    account: i64,
    movements: i64,
}

#[derive(Event, Serialize, Deserialize)]
#[event(type = "bank.statement-written", topic = "bank.statements", key = account)]
struct StatementWritten {
    account: i64,
    movements: i64,
}

/// What a request can lead to.
type Outcome = (Option<Debited>, Option<LargeTransferMade>, Option<StatementDue>, Option<TransferRefused>);

/// Takes the money, or refuses.
async fn debit(requested: TransferRequested, meta: Meta, mut tx: Tx<Db>) -> Result<Outcome, HandlerError> {
    let TransferRequested { transfer, from, to, cents } = requested;
    let (has,): (i64,) = sqlx::query_as(sql!("balance")).bind(from).fetch_one(&mut *tx).await?;
    if has < cents {
        return Ok((None, None, None, Some(TransferRefused { transfer, from })));
    }
    let statement = move_money(&mut tx, &meta, Movement { transfer, account: from, cents: -cents }).await?;
    if transfer % FAILS_EVERY == 0 && meta.attempt() == 1 {
        return Err(HandlerError::retry("the first attempt fails"));
    }
    let large = (cents >= LARGE_CENTS).then_some(LargeTransferMade { transfer, from });
    Ok((Some(Debited { transfer, to, cents }), large, statement, None))
}

/// Gives the money.
async fn credit(debited: Debited, meta: Meta, mut tx: Tx<Db>) -> Result<Option<StatementDue>, HandlerError> {
    let Debited { transfer, to, cents } = debited;
    let statement = move_money(&mut tx, &meta, Movement { transfer, account: to, cents }).await?;
    if transfer % FAILS_EVERY == 1 && meta.attempt() == 1 {
        return Err(HandlerError::retry("the first attempt fails"));
    }
    println!("ended {transfer}");
    Ok(statement)
}

async fn refuse(refused: TransferRefused, mut tx: Tx<Db>) -> Result<(), HandlerError> {
    note(&mut tx, "refused", refused.transfer, 0).await?;
    println!("ended {}", refused.transfer);
    Ok(())
}

async fn count_refused(refused: TransferRefused, mut tx: Tx<Db>) -> Result<(), HandlerError> {
    note(&mut tx, "refused-counted", refused.transfer, 0).await
}

async fn count_large(large: LargeTransferMade, mut tx: Tx<Db>) -> Result<(), HandlerError> {
    note(&mut tx, "large-counted", large.transfer, 0).await
}

async fn thank_large(large: LargeTransferMade, mut tx: Tx<Db>) -> Result<(), HandlerError> {
    note(&mut tx, "large-thanked", large.transfer, 0).await
}

async fn write_statement(due: StatementDue, mut tx: Tx<Db>) -> Result<StatementWritten, HandlerError> {
    let StatementDue { account, movements } = due;
    note(&mut tx, "statement-written", account, movements).await?;
    Ok(StatementWritten { account, movements })
}

async fn post_statement(written: StatementWritten, mut tx: Tx<Db>) -> Result<(), HandlerError> {
    note(&mut tx, "statement-posted", written.account, written.movements).await
}

/// Money that comes or goes.
struct Movement {
    transfer: i64,
    account: i64,
    cents: i64,
}

/// Changes an account, and notes which event did. Says whether a statement is due.
async fn move_money(
    tx: &mut Tx<Db>,
    meta: &Meta,
    movement: Movement,
) -> Result<Option<StatementDue>, HandlerError> {
    let Movement { transfer, account, cents } = movement;
    sqlx::query(sql!("change-account")).bind(cents).bind(account).execute(&mut **tx).await?;
    let (movements,): (i64,) =
        sqlx::query_as(sql!("movements-of")).bind(account).fetch_one(&mut **tx).await?;
    let offset = i64::try_from(meta.position().offset)?;
    sqlx::query(sql!("note-movement"))
        .bind(transfer)
        .bind(account)
        .bind(cents)
        .bind(offset)
        .execute(&mut **tx)
        .await?;
    Ok((movements % STATEMENT_EVERY == 0).then_some(StatementDue { account, movements }))
}

async fn note(tx: &mut Tx<Db>, what: &str, about: i64, number: i64) -> Result<(), HandlerError> {
    sqlx::query(sql!("note")).bind(what).bind(about).bind(number).execute(&mut **tx).await?;
    Ok(())
}

/// What a line asks for.
enum Order {
    Transfer(TransferRequested),
    Finish,
    /// Breaks what this program is there to show.
    WithoutInbox,
}

impl FromStr for Order {
    type Err = BoxError;

    fn from_str(line: &str) -> Result<Self, BoxError> {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["transfer", transfer, from, to, cents] => Ok(Self::Transfer(TransferRequested {
                transfer: transfer.parse()?,
                from: from.parse()?,
                to: to.parse()?,
                cents: cents.parse()?,
            })),
            ["finish"] => Ok(Self::Finish),
            ["without-inbox"] => Ok(Self::WithoutInbox),
            _ => Err(format!("{line:?}: neither transfer ID FROM TO CENTS nor finish").into()),
        }
    }
}

/// Runs the bank until it is told to finish, or killed.
pub(crate) async fn run() -> Result<(), BoxError> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, engine, store] = &arguments[..] else {
        return Err("a bank is started with an engine and a store".into());
    };
    let service = bank(engine, Db::connect(store).await?).await?;
    open_accounts(&service).await?;
    let mut service = service.start().await?;
    println!("ready");
    let mut lines = lines();
    let mut taking = JoinSet::new();
    while let Some(line) = lines.recv().await {
        match line.parse::<Order>()? {
            Order::Transfer(requested) => {
                taking.spawn(take(service.publisher(), requested));
            }
            Order::Finish => break,
            Order::WithoutInbox => break_inbox()?,
        }
        while let Some(taken) = taking.try_join_next() {
            taken??;
        }
    }
    while let Some(taken) = taking.join_next().await {
        taken??;
    }
    until_nothing_waits(&mut service).await?;
    service.stop().await?;
    println!("finished");
    Ok(())
}

async fn bank(engine: &str, store: Db) -> Result<Service<Db>, BoxError> {
    let [ledger, desk, audit, statements, mail] = CONSUMERS;
    let service = App::new("bank")
        .engine(engine)
        .partitions(2)
        .store(store)
        .subscribe(consumer(ledger).on(debit).on(credit))
        .subscribe(consumer(desk).on(refuse))
        .subscribe(consumer(audit).on(count_refused).on(count_large))
        .subscribe(consumer(statements).on(write_statement))
        .subscribe(consumer(mail).on(post_statement).on(thank_large));
    Ok(service.build().await?)
}

fn consumer(name: &str) -> Subscription<Db> {
    Subscription::named(name).retry(Retry::every(RETRY_AFTER).attempts(1_000))
}

async fn open_accounts(service: &Service<Db>) -> Result<(), BoxError> {
    let mut tx = service.transaction().await?;
    for account in 0..ACCOUNTS {
        sqlx::query(sql!("open-account")).bind(account).bind(FIRST_CENTS).execute(&mut *tx).await?;
    }
    tx.commit().await?;
    Ok(())
}

/// The lines of stdin. Reading them blocks, so a thread of its own does.
fn lines() -> mpsc::Receiver<String> {
    let (read, lines) = mpsc::channel(LINES_MAX);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if read.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}

async fn take(publisher: Publisher, requested: TransferRequested) -> Result<(), BoxError> {
    let transfer = requested.transfer;
    let id = EventId::new(&format!("transfer-{transfer}"))?;
    loop {
        match publisher.publish_as(&id, &requested).await {
            Ok(()) => break,
            // Under one id it is one event, however often it is sent.
            Err(PublishError::Engine(error)) if error.is_passing() => tokio::time::sleep(RETRY_AFTER).await,
            Err(error) => return Err(error.into()),
        }
    }
    println!("taken {transfer}");
    Ok(())
}

/// Waits until nothing is left to do, also not later.
async fn until_nothing_waits(service: &mut Running<Db>) -> Result<(), BoxError> {
    loop {
        service.settle().await?;
        let mut waiting = 0;
        for name in CONSUMERS {
            let consumer = Consumer { name: ConsumerName::new(name)?, generation: 1 };
            let counts = service.store().parked_counts(ParkedOf::all(&consumer)).await?;
            waiting += counts.waiting + counts.queued;
        }
        if waiting == 0 {
            return Ok(());
        }
        tokio::time::sleep(RETRY_AFTER).await;
    }
}

#[cfg(feature = "planted-defects")]
fn break_inbox() -> Result<(), BoxError> {
    courant::planted::plant(courant::planted::Defect::NoInbox);
    Ok(())
}

#[cfg(not(feature = "planted-defects"))]
fn break_inbox() -> Result<(), BoxError> {
    Err("without-inbox needs the feature planted-defects".into())
}
