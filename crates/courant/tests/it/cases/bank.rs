//! The bank on one database, with everything around it killed.

use std::path::Path;

use courant::prelude::*;
use courant::store_api::Store as _;

use super::support::{BANK, BankHome, Db, KILLS, KILLS_ON_A_SERVER};
use crate::bank::{BankSite, Killer, Plan, Transfer, run, seed, skip};
use crate::bank_books::Books;
use crate::server::Server;

/// What is in its database in the end.
fn books(url: &str) -> Books {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let store = Db::connect(url).await.expect("opens");
        let outbox = store.outbox_backlog().await.expect("counts");
        let mut reader = store.read().await.expect("reads");
        let accounts = "select account, cents, movements from accounts order by account";
        let accounts = sqlx::query_as(accounts).fetch_all(&mut *reader).await.expect("selects");
        let movements = "select transfer, account, cents, log_offset from movements order by n";
        let movements = sqlx::query_as(movements).fetch_all(&mut *reader).await.expect("selects");
        let notes = "select what, about, number from notes order by what, about, number";
        let notes = sqlx::query_as(notes).fetch_all(&mut *reader).await.expect("selects");
        let parked = "select count(*) from courant_parked";
        let (parked,) = sqlx::query_as(parked).fetch_one(&mut *reader).await.expect("counts");
        let dead = "select count(*) from courant_dead";
        let (dead,) = sqlx::query_as(dead).fetch_one(&mut *reader).await.expect("counts");
        Books { accounts, movements, notes, parked, dead, outbox }
    })
}

fn in_order(wanted: &[Transfer], url: &str) {
    let found = books(url).violations(wanted);
    assert!(found.is_empty(), "seed {}: {}", seed(), found.join("\n"));
}

fn events_in(dir: &Path) -> String {
    format!("embedded:{}", dir.join("events").display())
}

/// The service and its database are killed at random moments; it is asked twice and out of order. No cent
/// is lost, no transfer is made twice or forgotten, and nothing is left to do.
#[test]
fn a_bank_that_is_killed_again_and_again_keeps_its_books() {
    let directory = tempfile::tempdir().expect("a directory");
    let dir = directory.path();
    let Some(mut home) = BankHome::new(dir) else { return };
    let url = home.url();
    let Some(site) = BankSite::new(BANK, dir, events_in(dir), url.clone()) else { return };
    let mut database = || home.kill_and_restart();
    let mut others: Vec<Killer<'_>> = Vec::new();
    if BankHome::CAN_DIE {
        others.push(&mut database);
    }
    let wanted = run(&site, Plan::with_kills(KILLS, 2), &mut others);
    in_order(&wanted, &url);
}

/// The same with its events on a server, which is killed as well. A service that is killed leaves its
/// groups when its session has run out, so here it is rarely the one.
#[test]
fn a_bank_on_a_server_that_is_killed_keeps_its_books() {
    let directory = tempfile::tempdir().expect("a directory");
    let dir = directory.path();
    let Some(mut home) = BankHome::new(dir) else { return };
    let data = dir.join("server");
    std::fs::create_dir(&data).expect("made");
    let Some(mut server) = Server::start(&data) else { return };
    let url = home.url();
    let Some(site) = BankSite::new(BANK, dir, server.url(), url.clone()) else { return };
    let mut database = || home.kill_and_restart();
    let mut events = || server.kill_and_restart();
    let mut others: Vec<Killer<'_>> = vec![&mut events];
    if BankHome::CAN_DIE {
        others.push(&mut database);
    }
    let wanted = run(&site, Plan::with_kills(KILLS_ON_A_SERVER, 10), &mut others);
    in_order(&wanted, &url);
}

/// The twin: without the inbox, what is asked for twice is done twice, and the books say so.
#[test]
fn without_the_inbox_transfers_are_made_twice() {
    if !cfg!(feature = "planted-defects") {
        skip("the framework was built without its planted defects");
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let dir = directory.path();
    let Some(home) = BankHome::new(dir) else { return };
    let Some(site) = BankSite::new(BANK, dir, events_in(dir), home.url()) else { return };
    let plan = Plan { transfers: 300, kills: 3, service_every: 1, without_inbox: true };
    let wanted = run(&site, plan, &mut []);
    let found = books(&home.url()).violations(&wanted);
    assert!(found.iter().any(|wrong| wrong.contains("2 times")), "{}", found.join("\n"));
}
