//! What a client may do, for the answers that say so: everything, because nobody is asked who they are.
//!
//! An answer that was not asked has [`NOT_ASKED`], which is not the same as nothing.

/// "Not asked for" in a bit field of authorized operations.
pub(super) const NOT_ASKED: i32 = i32::MIN;

// The numbers of the operations (KIP-430).
const READ: i32 = 1 << 3;
const WRITE: i32 = 1 << 4;
const CREATE: i32 = 1 << 5;
const DELETE: i32 = 1 << 6;
const ALTER: i32 = 1 << 7;
const DESCRIBE: i32 = 1 << 8;
const CLUSTER_ACTION: i32 = 1 << 9;
const DESCRIBE_CONFIGS: i32 = 1 << 10;
const ALTER_CONFIGS: i32 = 1 << 11;
const IDEMPOTENT_WRITE: i32 = 1 << 12;

/// Everything that there is to do with a topic.
pub(super) const ON_TOPIC: i32 =
    READ | WRITE | CREATE | DELETE | ALTER | DESCRIBE | DESCRIBE_CONFIGS | ALTER_CONFIGS;

/// Everything that there is to do with a consumer group.
pub(super) const ON_GROUP: i32 = READ | DELETE | DESCRIBE;

/// Everything that there is to do with a cluster.
pub(super) const ON_CLUSTER: i32 =
    CREATE | ALTER | DESCRIBE | CLUSTER_ACTION | DESCRIBE_CONFIGS | ALTER_CONFIGS | IDEMPOTENT_WRITE;
