//! On disk: the version of the tables, which is the same for every database. A change of the tables is
//! a new version; a program raises the one before, and refuses every other one.

use crate::error::SchemaError;
use crate::limits::LANES;

pub(crate) const VERSION: i64 = 3;

/// The version that an installation raises to this one.
pub(crate) const RAISED: i64 = 2;

/// What the tables say of themselves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Installed {
    pub(crate) version: i64,
    pub(crate) lanes: i64,
}

impl Installed {
    /// A table without its row: nothing that this program has made.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(crate) const UNKNOWN: Self = Self { version: 0, lanes: 0 };

    /// Whether an installation raises these tables to the version of this program.
    pub(crate) fn is_raised(self) -> bool {
        self.version == RAISED && self.lanes == i64::from(LANES)
    }

    pub(crate) fn check(self) -> Result<(), SchemaError> {
        if self.version != VERSION {
            return Err(SchemaError::OtherVersion { found: self.version, known: VERSION });
        }
        if self.lanes != i64::from(LANES) {
            return Err(SchemaError::OtherLanes { found: self.lanes, known: i64::from(LANES) });
        }
        Ok(())
    }
}
