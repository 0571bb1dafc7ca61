//! Figures of the built server, taken from outside by the client that most people use: librdkafka.
//!
//! Each durable figure stands beside a probe of the disk of the same run. The headline is the
//! server's CPU time per million events: it holds on a busy machine, where rates do not.

mod client;
mod console;
mod floor;
mod framework;
mod goal;
mod machine;
mod options;
mod page;
mod passing;
mod peers;
mod percentile;
mod probe;
mod process;
mod rows;
mod server;
mod table;
mod tls;
mod wire;

use std::env;
use std::fmt;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use options::{Asked, Options};
use rows::Bench;
use table::Report;

fn main() -> ExitCode {
    let mut args = env::args().skip(1).peekable();
    let ended = if args.next_if(|arg| arg == floor::COMMAND).is_some() {
        floor::serve(args)
    } else if args.next_if(|arg| arg == "framework").is_some() {
        framework(args)
    } else if args.next_if(|arg| arg == "peers").is_some() {
        beside_peers(args)
    } else if args.next_if(|arg| arg == "console").is_some() {
        console(args)
    } else if args.next_if(|arg| arg == "page").is_some() {
        page(args)
    } else if args.next_if(|arg| arg == page::COMMAND).is_some() {
        target().and_then(|target| page::one(args, &target))
    } else {
        match options::parse(args) {
            Ok(Asked::Help) => out(options::USAGE),
            Ok(Asked::Run(options)) => run(options),
            Err(error) => {
                say(format_args!("courant-bench: {error:#}\n\n{}", options::USAGE));
                return ExitCode::from(2);
            }
        }
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(format_args!("courant-bench: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Takes the figures of the framework: they need no server.
fn framework(args: impl Iterator<Item = String>) -> Result<()> {
    let target = target()?;
    let facts = machine::facts(&target.join("release").join("courant"))?;
    out(&framework::run(args, &target, facts)?)
}

/// Takes figures of Courant and of others in turns.
fn beside_peers(args: impl Iterator<Item = String>) -> Result<()> {
    out(&peers::run(args, &target()?)?)
}

/// Takes the figures of a server whose console is open.
fn console(args: impl Iterator<Item = String>) -> Result<()> {
    let target = target()?;
    let courant = built(&target)?;
    let facts = machine::facts(&courant)?;
    out(&console::run(args, &courant, &target, facts)?)
}

/// Takes all figures, and writes the page that shows them.
fn page(args: impl Iterator<Item = String>) -> Result<()> {
    out(&page::run(args, &target()?)?)
}

/// Takes the figures that were asked for. What was taken before an error is printed all the same.
fn run(options: Options) -> Result<()> {
    let target = target()?;
    let courant = built(&target)?;
    let json = options.json;
    let mut report = Report::new(machine::facts(&courant)?);
    let bench = Bench::new(courant, &target, options)?;
    let measured = bench.run(&mut report);
    let text = if json { report.json() } else { report.markdown() };
    out(&text)?;
    measured
}

/// The built server.
fn built(target: &Path) -> Result<PathBuf> {
    let courant = target.join("release").join("courant");
    if !courant.is_file() {
        bail!(
            "{} is not there: run `cargo xtask bench`, which builds it, or `cargo build --release \
             -p courant-cli --bin courant`",
            courant.display()
        );
    }
    Ok(courant)
}

/// The `target` folder that this program was built into. The data of the runs stand there too: a
/// temporary directory may be memory, which syncs for nothing.
fn target() -> Result<PathBuf> {
    let own = env::current_exe().context("this program does not find itself")?;
    own.parent()
        .and_then(|profile| profile.parent())
        .map(PathBuf::from)
        .with_context(|| format!("{} is not in a target folder", own.display()))
}

/// Figures go to stdout.
fn out(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .context("the figures cannot be written to stdout")
}

/// Progress goes to stderr. That stderr may be gone is nobody's business.
fn say(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}
