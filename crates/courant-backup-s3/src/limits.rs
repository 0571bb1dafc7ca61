//! Every bound of talking to a store, with the relations that must hold between them.

use std::time::Duration;

/// Bytes of one part of an upload, and of one piece of a download. Of an object on its way up, two parts
/// are in memory: one that goes and one that fills. S3 takes no parts under 5 MiB, and Cloudflare R2
/// wants all but the last to be alike.
pub(crate) const PART_BYTES: usize = 8 * 1024 * 1024;

/// Parts of one object, as S3 has it: objects of up to 78 GiB.
pub(crate) const PARTS_MAX: usize = 10_000;

/// Bytes of the prefix in an address. A key has at most 1024, and names of objects some hundred.
pub(crate) const PREFIX_BYTES_MAX: usize = 512;

/// Bytes of the name of a bucket: S3 has 63, its older buckets 255.
pub(crate) const BUCKET_BYTES_MAX: usize = 255;

/// Objects in one listing: far more than a log has segments.
pub(crate) const LISTED_MAX: usize = 10_000_000;

/// Bytes of the lock object that are read.
pub(crate) const LOCK_BYTES_MAX: u64 = 4096;

/// Bytes of a text that names the holder of a lock.
pub(crate) const HOLDER_BYTES_MAX: usize = 300;

/// How long nobody else takes a lock that its holder has stopped to renew.
pub const LEASE: Duration = Duration::from_secs(600);

/// The shortest lease.
pub const LEASE_MIN: Duration = Duration::from_secs(1);

/// The longest lease that is believed.
pub const LEASE_MAX: Duration = Duration::from_secs(3600);

/// Renewals in the time of one lease.
pub(crate) const RENEWALS_PER_LEASE: u32 = 20;

/// A lock that nobody seems to renew is watched for this part of its lease before it is taken: longer
/// than between two renewals, so that clocks alone never decide.
pub(crate) const WATCHES_PER_LEASE: u32 = 10;

/// How often the lock is tried when others are quicker.
pub(crate) const LOCK_TRIES_MAX: u32 = 5;

/// How long giving the lock back may take; after that its lease ends by itself.
pub(crate) const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);

/// One request, with its body. A part needs 70 kB/s.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);

/// How often a request is repeated that failed for a reason that may pass.
pub(crate) const RETRIES_MAX: usize = 10;

/// From the first attempt on, how long a request is repeated.
pub(crate) const RETRY_TIME: Duration = Duration::from_secs(150);

/// Bytes of a store's own words that are told.
pub(crate) const CAUSE_BYTES_MAX: usize = 600;

// A write that begins while the first half of a lease lasts has ended before the second half has.
const _: () = assert!(REQUEST_TIMEOUT.as_secs() + RETRY_TIME.as_secs() < LEASE.as_secs() / 2);
const _: () = assert!(RENEWALS_PER_LEASE > WATCHES_PER_LEASE);
const _: () = assert!(PART_BYTES >= 5 * 1024 * 1024);
