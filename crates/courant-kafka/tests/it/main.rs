//! The server side over real sockets, in front of a log in memory.

mod bad_input;
mod configs;
mod fetch;
mod groups;
mod memory;
mod order;
mod partitions;
mod produce;
mod sessions;
mod support;
mod tls;
mod topics;
