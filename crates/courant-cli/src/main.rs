//! The binary `courant`: the server, and tools that talk to it or to any Kafka server.

mod banner;
mod cli;
mod commands;
mod exit;
mod explain;
mod files;
mod output;
mod settings;
mod text;
mod time;

use std::process::ExitCode;

fn main() -> ExitCode {
    match commands::run(cli::read()) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            failure.report();
            failure.exit.into()
        }
    }
}
