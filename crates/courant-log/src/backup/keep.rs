//! Removing old backups: manifests first, then what no manifest names any more, and never before.

use std::collections::BTreeSet;

use super::manifests;
use super::names::{Name, SEGMENTS, STATES};
use super::target::{Target, TargetError};

/// Keeps the newest `count` backups, and returns how many objects were removed besides manifests.
pub(super) fn keep(target: &dyn Target, count: usize) -> Result<u64, TargetError> {
    let numbers = manifests::numbers(target)?;
    let (old, kept) = numbers.split_at(numbers.len().saturating_sub(count));
    for number in old {
        remove(target, &manifests::name_of(*number))?;
    }
    let mut named = BTreeSet::new();
    for number in kept {
        match manifests::read(target, *number)? {
            Ok(manifest) => named.extend(manifest.objects.into_iter().map(|object| object.name)),
            Err(error) => {
                // What it names is not known, and somebody may still want it.
                tracing::warn!(manifest = %manifests::name_of(*number), %error, "nothing else is removed");
                return Ok(0);
            }
        }
    }
    let mut removed = 0;
    for prefix in [format!("{STATES}/"), format!("{SEGMENTS}/")] {
        let listed = target.list(&prefix).map_err(|source| TargetError::new("list", &prefix, source))?;
        let ours = listed.iter().filter(|listed| Name::parse(&listed.name).is_some());
        for listed in ours.filter(|listed| !named.contains(&listed.name)) {
            remove(target, &listed.name)?;
            removed += 1;
        }
    }
    Ok(removed)
}

fn remove(target: &dyn Target, name: &str) -> Result<(), TargetError> {
    target.remove(name).map_err(|source| TargetError::new("remove", name, source))
}
