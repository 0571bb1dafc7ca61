//! Backups of the log in a bucket: Amazon S3, or a store that speaks its protocol.
//!
//! [`S3Target`] is a [`courant_log::backup::Target`]. The log is synchronous and has no runtime, and the
//! client of the store is asynchronous: `bridge` stands between them, with threads of its own. Nothing
//! here reads the environment or a file; whoever opens a target hands in what the environment says.
//!
//! A directory has a lock that the kernel takes away from a process that dies. A bucket has none, so
//! here it is an object with a lease, which its holder renews: see `lease`.

mod address;
mod bridge;
mod connect;
mod download;
mod error;
mod lease;
mod limits;
mod lock_object;
mod target;
mod upload;

pub use address::{NotAnS3Url, S3Url};
pub use error::S3Error;
pub use limits::{LEASE, LEASE_MAX, LEASE_MIN};
pub use target::{S3Options, S3Target};
