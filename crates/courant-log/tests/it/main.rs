//! The log from outside: what it promises. `sim/` shows that it keeps it when the power goes.

mod backup;
mod basics;
mod damage;
mod durability;
mod groups;
mod inspect;
mod quarantine;
mod retention;
mod threads;
mod verify;
