//! Findings, as many as anybody reads: a log that loses a million events has one defect.

use std::collections::BTreeMap;

use crate::finding::{Finding, FindingKind};

/// How many findings of one kind are listed; the others are counted.
pub const FINDINGS_OF_A_KIND_MAX: usize = 60;

/// Findings by kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings(BTreeMap<FindingKind, Listed>);

#[derive(Clone, Debug, Default)]
struct Listed {
    findings: Vec<Finding>,
    more: u64,
}

impl Findings {
    /// Adds one behind those of its kind.
    pub(crate) fn add(&mut self, finding: Finding) {
        let listed = self.0.entry(finding.kind()).or_default();
        if listed.findings.len() < FINDINGS_OF_A_KIND_MAX {
            listed.findings.push(finding);
        } else {
            listed.more += 1;
        }
    }

    /// Adds the one that there may be.
    pub(crate) fn extend(&mut self, finding: Option<Finding>) {
        if let Some(finding) = finding {
            self.add(finding);
        }
    }

    /// The worst kind first, each kind in the order of adding.
    pub(crate) fn into_vec(self) -> Vec<Finding> {
        let mut all = Vec::new();
        for (kind, Listed { findings, more }) in self.0 {
            all.extend(findings);
            if more > 0 {
                all.push(Finding::More { kind, count: more });
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stamp::Stamp;

    #[test]
    fn what_is_too_much_is_counted_by_kind() {
        let stamp = Stamp { topic: "orders".to_owned(), partition: 0, producer: 1, sequence: 2 };
        let mut findings = Findings::default();
        for offset in 0..100 {
            findings.add(Finding::Phantom { stamp: stamp.clone(), offset });
        }
        findings.add(Finding::Lost { stamp, offset: None, reader: None });
        let all = findings.into_vec();
        assert_eq!(all.len(), 62);
        assert_eq!(all[0].kind(), FindingKind::Lost);
        assert!(matches!(all[60], Finding::Phantom { offset: 59, .. }));
        assert_eq!(all[61], Finding::More { kind: FindingKind::Phantom, count: 40 });
        assert_eq!(all[61].to_string(), "phantom: 40 more that are not listed");
    }
}
