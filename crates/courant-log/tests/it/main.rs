//! The log from outside: what it promises. `sim/` shows that it keeps it when the power goes.

mod alone;
mod backup;
mod basics;
mod buffers;
mod cached;
mod compaction;
mod configs;
mod damage;
mod durability;
mod few_files;
mod groups;
mod inspect;
mod large_groups;
mod quarantine;
mod retention;
mod returning;
mod scrub;
mod threads;
mod verify;
mod write_back;
