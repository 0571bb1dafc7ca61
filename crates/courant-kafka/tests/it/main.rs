//! The server side over real sockets, in front of a log in memory.

mod bad_input;
mod fetch;
mod order;
mod produce;
mod support;
mod topics;
