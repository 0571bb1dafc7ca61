//! Checkpoints: up to which journal position the segments hold everything, and what they look like
//! there. `docs/formats/journal.md` draws the bytes.
//!
//! A checkpoint is written beside its predecessor and renamed into place once it is durable. The two
//! newest are kept. Producer sequences go into a file of their own: losing it costs a scan of the
//! segments' batch headers, nothing else.

mod files;
mod format;
mod producers;

pub(crate) use files::{CheckpointError, damaged, load, load_producers, store};
pub(crate) use format::{Checkpoint, NO_BOOT, PartitionState};
pub(crate) use producers::{decode_producers, encode_producers};

/// Directory of the checkpoints.
pub(crate) const DIR: &str = "checkpoints";
