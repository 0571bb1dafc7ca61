//! One file per noun. Each command returns how it ended, or one sentence why it failed.

mod api;
mod backup;
#[cfg(feature = "sql")]
mod channel;
mod config;
#[cfg(feature = "sql")]
mod demo;
#[cfg(feature = "sql")]
mod dlq;
mod doctor;
mod find;
mod group;
mod log;
mod log_inspect;
mod log_repair;
mod publish;
#[cfg(feature = "sql")]
mod relay;
mod serve;
#[cfg(feature = "sql")]
mod services;
mod tail;
mod tail_group;
mod telemetry;
mod tls;
mod top;
mod topic;
mod topic_alter;
mod torture;
mod trace;

use self::serve::Signals;
#[cfg(feature = "sql")]
use crate::cli::DlqCommand;
use crate::cli::{Cli, Command, Global};
use crate::exit::{Exit, Failure, note};
use crate::explain;
use crate::settings::with_server_of_file;
use clap::CommandFactory;
use courant_kafka::client::{Client, ClientConfig};
use std::fmt::Display;
use std::io::{self, BufRead, IsTerminal, Write};
use std::pin::pin;
use std::thread;

/// The signal at which a command ends that has nothing to finish.
const FIRST: u8 = 1;
/// The one at which a command ends that finishes something at the first.
const SECOND: u8 = 2;

/// Runs one command to its end.
pub(crate) fn run(cli: Cli) -> Result<Exit, Failure> {
    let global = match cli.command {
        // These read the settings file themselves, or need none.
        Command::Serve(_)
        | Command::Doctor(_)
        | Command::Log(_)
        | Command::Backup(_)
        | Command::Restore(_)
        | Command::Torture(_)
        | Command::Config(_)
        | Command::Find(_)
        | Command::Trace(_)
        | Command::Top(_)
        | Command::Completion(_) => cli.global,
        #[cfg(feature = "sql")]
        Command::Demo(_) | Command::Relay(_) => cli.global,
        #[cfg(feature = "sql")]
        Command::Dlq(ref command) if matches!(**command, DlqCommand::Own(_)) => cli.global,
        _ => with_server_of_file(cli.global)?,
    };
    match cli.command {
        Command::Serve(args) => serve::run(&global, &args),
        #[cfg(feature = "sql")]
        Command::Demo(args) => demo::run(&global, &args),
        Command::Doctor(args) => block_on(doctor::run(&global, args)),
        Command::Log(command) => log::run(&global, command),
        Command::Backup(args) => block_on(backup::backup(&global, args)),
        Command::Restore(args) => backup::restore(&global, args),
        Command::Torture(args) => torture::run(&global, &args),
        Command::Config(command) => config::run(&global, command),
        Command::Topic(command) => block_on(topic::run(&global, command)),
        Command::Group(command) => block_on(group::run(&global, command)),
        #[cfg(feature = "sql")]
        Command::Dlq(command) => match *command {
            DlqCommand::Own(command) => block_on(dlq::run(&global, command)),
            DlqCommand::Foreign(command) => block_on(dlq::foreign::run(&global, command)),
        },
        #[cfg(feature = "sql")]
        Command::Services(args) => block_on(services::run(&global, &args)),
        #[cfg(feature = "sql")]
        Command::Relay(args) => relay::run(&global, &args),
        Command::Pub(args) => block_on(publish::run(&global, args)),
        Command::Tail(args) => match args.group.clone() {
            Some(group) => block_on_until(SECOND, tail_group::run(&global, &group, args)),
            None => block_on(tail::run(&global, args)),
        },
        Command::Find(args) => block_on_until(SECOND, find::run(&global, &args)),
        Command::Trace(args) => block_on(trace::run(&global, &args)),
        Command::Top(args) => block_on(top::run(&global, &args)),
        Command::Completion(args) => completion(args.shell),
    }
}

/// Writes what a shell needs to complete our command lines.
fn completion(shell: clap_complete::Shell) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "courant", &mut script);
    io::stdout().lock().write_all(&script).map_err(|error| Failure::output(&error))?;
    Ok(Exit::Ok)
}

/// Asks the person at the terminal. Anything but a clear yes is a no.
async fn confirmed(question: &str) -> Result<bool, Failure> {
    let unheard = |why: &dyn Display| Failure::new(Exit::Failed, format!("nobody to ask: {why}"));
    let mut stderr = io::stderr();
    write!(stderr, "{question} [y/N] ").and_then(|()| stderr.flush()).map_err(|error| unheard(&error))?;
    // Reading a terminal cannot be interrupted, so a thread of its own does it.
    let answer = tokio::task::spawn_blocking(|| {
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer).map(|_| answer)
    });
    tokio::select! {
        answer = answer => {
            let answer = answer.map_err(|error| unheard(&error))?;
            Ok(is_yes(&answer.map_err(|error| unheard(&error))?))
        }
        () = interrupted() => {
            // The question has no end of line yet.
            note(format_args!(""));
            Err(Failure::new(Exit::Interrupted, "nothing was deleted"))
        }
    }
}

/// Reads stdin on a thread of its own: that cannot be interrupted, and the process must be able to end meanwhile.
async fn from_stdin<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(read).await {
        Ok(read) => read,
        Err(error) => Err(Failure::new(Exit::Failed, format!("stdin cannot be read: {error}"))),
    }
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}

/// Fails unless somebody has said yes, or can be asked.
fn check_can_ask(yes: bool, dry_run: bool, what: &str) -> Result<(), Failure> {
    let may_ask = io::stdin().is_terminal() && io::stderr().is_terminal();
    if yes || dry_run || may_ask {
        return Ok(());
    }
    let sentence = format!("deleting {what} cannot be undone; say --yes when nobody can be asked");
    Err(Failure::new(Exit::Usage, sentence))
}

fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// Runs a client command on this thread until it ends or the user interrupts it.
fn block_on(command: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    block_on_until(FIRST, command)
}

/// Runs a client command on this thread until it ends, or else until so many signals have come.
fn block_on_until(
    signals: u8,
    command: impl Future<Output = Result<Exit, Failure>>,
) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failed, format!("no runtime: {error}")))?;
    let ended = runtime.block_on(async {
        let mut heard = Signals::listen()?;
        end_at_second_signal();
        let stop = async {
            for _ in 0..signals {
                heard.next().await;
            }
        };
        let command = pin!(command);
        tokio::select! {
            // A command that handles the interruption itself has the last word.
            biased;
            ended = command => ended,
            () = stop => Ok(Exit::Interrupted),
        }
    });
    runtime.shutdown_background();
    ended
}

/// Ends when the user presses Ctrl-C, or when a supervisor says with SIGTERM that it is time: from this call on, and
/// not only from the first look at it.
fn interrupted() -> impl Future<Output = ()> {
    let signals = Signals::listen().ok();
    async move {
        match signals {
            Some(mut signals) => signals.next().await,
            // Without a handler the signal ends the process by itself.
            None => std::future::pending().await,
        }
    }
}

/// Ends the process at the second signal, whatever it is at: this thread may wait for a reader who does not read, and
/// hears nothing meanwhile.
fn end_at_second_signal() {
    let watch = || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        let heard = runtime.block_on(async {
            let mut signals = Signals::listen()?;
            signals.next().await;
            signals.next().await;
            Ok::<_, Failure>(())
        });
        if heard.is_ok() {
            std::process::exit(Exit::Interrupted as i32);
        }
    };
    // Without the thread, a second signal is heard by what the command waits for.
    let _ = thread::Builder::new().name("signals".to_owned()).spawn(watch);
}

/// Connects to the server that the command line names.
async fn connect(global: &Global) -> Result<Client, Failure> {
    let config = ClientConfig {
        servers: global.server.clone(),
        client_id: "courant-cli".to_owned(),
        timeout: global.timeout,
        tls: tls::trusted(global)?,
    };
    Client::connect(config).await.map_err(|error| explain::call(&error))
}

/// Connects to the server of a database, not longer than anything may take. What is asked of it then has other bounds.
#[cfg(any(feature = "postgres", feature = "mariadb"))]
async fn in_time<S, E>(
    global: &Global,
    connecting: impl Future<Output = Result<S, E>>,
    unconnected: impl FnOnce(&E) -> Failure,
) -> Result<S, Failure> {
    match tokio::time::timeout(global.timeout, connecting).await {
        Ok(connected) => connected.map_err(|error| unconnected(&error)),
        Err(_) => {
            let sentence = format!(
                "the database does not answer within {:?}; allow more with --timeout",
                global.timeout
            );
            Err(Failure::new(Exit::Unreachable, sentence))
        }
    }
}

/// Whether progress may be shown: only to a person.
fn shows_progress(global: &Global) -> bool {
    !global.quiet && io::stderr().is_terminal()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_yes_deletes() {
        for yes in ["y\n", "Y", " yes \n", "YES"] {
            assert!(is_yes(yes), "{yes:?}");
        }
        for no in ["", "\n", "n\n", "yeah\n", "delete"] {
            assert!(!is_yes(no), "{no:?}");
        }
    }
}
