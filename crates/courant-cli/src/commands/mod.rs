//! One file per noun. Each command returns how it ended, or one sentence why it failed.

mod publish;
mod serve;
mod tail;
mod topic;

use crate::cli::{Cli, Command, Global};
use crate::exit::{Exit, Failure};
use crate::explain;
use courant_kafka::client::{Client, ClientConfig};
use std::io::{self, IsTerminal};
use std::pin::pin;

/// Runs one command to its end.
pub(crate) fn run(cli: Cli) -> Result<Exit, Failure> {
    let global = cli.global;
    match cli.command {
        Command::Serve(args) => serve::run(&global, args),
        Command::Topic(command) => block_on(topic::run(&global, command)),
        Command::Pub(args) => block_on(publish::run(&global, args)),
        Command::Tail(args) => block_on(tail::run(&global, args)),
    }
}

/// Runs a client command on this thread until it ends or the user interrupts it.
fn block_on(command: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failed, format!("no runtime: {error}")))?;
    let ended = runtime.block_on(async {
        let command = pin!(command);
        tokio::select! {
            // A command that handles the interruption itself has the last word.
            biased;
            ended = command => ended,
            () = interrupted() => Ok(Exit::Interrupted),
        }
    });
    runtime.shutdown_background();
    ended
}

/// Ends when the user presses Ctrl-C.
async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        // Without a handler the signal ends the process by itself.
        std::future::pending::<()>().await;
    }
}

/// Connects to the server that the command line names.
async fn connect(global: &Global) -> Result<Client, Failure> {
    let config = ClientConfig {
        servers: global.server.clone(),
        client_id: "courant-cli".to_owned(),
        timeout: global.timeout,
    };
    Client::connect(config).await.map_err(|error| explain::call(&error))
}

/// Whether progress may be shown: only to a person.
fn shows_progress(global: &Global) -> bool {
    !global.quiet && io::stderr().is_terminal()
}
