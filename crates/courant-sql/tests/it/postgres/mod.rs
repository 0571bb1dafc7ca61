//! Every case on Postgres.

mod answers;
mod attached;
mod behind;
mod lost;
mod own;
mod restored;
mod submitted_side_by_side;
mod support;
mod vanishing;
mod written;

#[path = "../cases/dead_letters.rs"]
mod dead_letters;
#[path = "../cases/dead_notes.rs"]
mod dead_notes;
#[path = "../cases/deadlocks.rs"]
mod deadlocks;
#[path = "../cases/fencing.rs"]
mod fencing;
#[path = "../cases/inbox.rs"]
mod inbox;
#[path = "../cases/logs.rs"]
mod logs;
#[path = "../cases/outbox.rs"]
mod outbox;
#[path = "../cases/parking.rs"]
mod parking;
#[path = "../cases/pruning.rs"]
mod pruning;
#[path = "../cases/redrive.rs"]
mod redrive;
#[path = "../cases/relaying.rs"]
mod relaying;
#[path = "../cases/restoring.rs"]
mod restoring;
#[path = "../cases/schema.rs"]
mod schema;
#[path = "../cases/soak.rs"]
mod soak;
#[path = "../cases/steps.rs"]
mod steps;
#[path = "../cases/submitted.rs"]
mod submitted;
#[path = "../cases/timers.rs"]
mod timers;
#[path = "../cases/transactions.rs"]
mod transactions;
