//! `courant dlq foreign`: dead letters that are records of a topic, as other frameworks write them.
//!
//! The records stay where they are. What was decided about them is kept in a topic beside theirs.

mod decisions;
mod discard;
mod letter;
mod listing;
mod plan;
mod redrive;
mod rows;
mod scan;
mod sending;
mod window;

use crate::cli::{DlqForeign, Global};
use crate::exit::{Exit, Failure};

/// Runs one of the commands about letters of others.
pub(in crate::commands) async fn run(global: &Global, command: DlqForeign) -> Result<Exit, Failure> {
    match command {
        DlqForeign::List(args) => listing::list(global, &args).await,
        DlqForeign::Show(args) => listing::show(global, &args).await,
        DlqForeign::Redrive(args) => redrive::run(global, &args).await,
        DlqForeign::Discard(args) => discard::run(global, &args).await,
        DlqForeign::Export(args) => listing::export(global, &args).await,
    }
}
