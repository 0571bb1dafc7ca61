//! The log from outside: what it promises. `sim/` shows that it keeps it when the power goes.

mod basics;
mod damage;
mod durability;
mod groups;
mod quarantine;
mod retention;
mod threads;
mod verify;
