//! Consumer groups: the classic protocol of JoinGroup, SyncGroup, Heartbeat and LeaveGroup.
//!
//! [`machine`] is one group without clocks, channels or storage: it is told what happens and when, and
//! says what follows. [`coordinator`] is the shell around all groups: requests in, answers out, one
//! timer, and the log that keeps a group over a restart. [`stored`] has the bytes that it keeps.

mod coordinator;
mod door;
mod machine;
mod stored;
mod subscription;

pub(crate) use coordinator::{Commit, Coordinator, DeleteOffsets, GroupSettings};
pub use door::{ChangeGroupError, GroupMember, GroupView};
pub(crate) use machine::{Description, Identity, Join, JoinRefused, Joined, Protocol, Sync};
