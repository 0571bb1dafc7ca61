//! Consumer groups within the process: which subscription has which partition.
//!
//! Partitions are dealt out among the members that want their topic, by number. A partition changes hands
//! in two steps: the one who has it is told, and gives it up; only then the other one gets it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use tokio::sync::Notify;

use crate::Partition;

/// All groups of an engine.
#[derive(Debug, Default)]
pub(super) struct Groups {
    by_name: HashMap<String, Group>,
    next_member: u64,
}

/// One group.
#[derive(Debug, Default)]
struct Group {
    members: BTreeMap<u64, Member>,
    owners: BTreeMap<Partition, u64>,
    /// Counts what may change the assignment.
    version: u64,
}

#[derive(Debug)]
struct Member {
    topics: Vec<Arc<str>>,
    wake: Arc<Notify>,
    /// The version that it has followed.
    followed: Option<u64>,
}

/// What a member has to do.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) revoked: Vec<Partition>,
    pub(super) assigned: Vec<Partition>,
}

impl Groups {
    /// A new member's number, and what wakes it.
    pub(super) fn join(&mut self, group: &str, topics: Vec<Arc<str>>) -> (u64, Arc<Notify>) {
        let number = self.next_member;
        self.next_member += 1;
        let wake = Arc::new(Notify::new());
        let group = self.by_name.entry(group.to_owned()).or_default();
        group.members.insert(number, Member { topics, wake: wake.clone(), followed: None });
        group.changed();
        (number, wake)
    }

    /// Takes a member out, with all that it has.
    pub(super) fn leave(&mut self, name: &str, member: u64) {
        let Some(group) = self.by_name.get_mut(name) else { return };
        group.members.remove(&member);
        group.owners.retain(|_, owner| *owner != member);
        group.changed();
        if group.members.is_empty() {
            self.by_name.remove(name);
        }
    }

    /// Gives partitions back that a member was told to.
    pub(super) fn give_up(&mut self, group: &str, member: u64, partitions: &[Partition]) {
        let Some(group) = self.by_name.get_mut(group) else { return };
        for partition in partitions {
            if group.owners.get(partition) == Some(&member) {
                group.owners.remove(partition);
            }
        }
        group.changed();
    }

    /// What changes for a member now. `partitions` says how many a topic has.
    ///
    /// What is assigned is the member's at once. What is revoked is so until it gives it up; until then it
    /// must not ask again.
    pub(super) fn look(&mut self, group: &str, member: u64, partitions: impl Fn(&str) -> u32) -> Change {
        let Some(group) = self.by_name.get_mut(group) else { return Change::default() };
        let version = group.version;
        if group.members.get(&member).is_none_or(|member| member.followed == Some(version)) {
            return Change::default();
        }
        let wanted = group.share_of(member, partitions);
        let owned = group.owners.iter().filter(|(_, owner)| **owner == member);
        let revoked: Vec<_> =
            owned.map(|(partition, _)| partition).filter(|owned| !wanted.contains(*owned)).cloned().collect();
        if !revoked.is_empty() {
            return Change { revoked, assigned: Vec::new() };
        }
        let free = |partition: &Partition| !group.owners.contains_key(partition);
        let assigned: Vec<_> = wanted.into_iter().filter(free).collect();
        group.owners.extend(assigned.iter().map(|partition| (partition.clone(), member)));
        if let Some(member) = group.members.get_mut(&member) {
            member.followed = Some(version);
        }
        Change { revoked, assigned }
    }

    /// Has every member look again: there are topics that were not there before.
    pub(super) fn topics_changed(&mut self) {
        self.by_name.values_mut().for_each(Group::changed);
    }
}

impl Group {
    fn changed(&mut self) {
        self.version += 1;
        for member in self.members.values() {
            member.wake.notify_one();
        }
    }

    /// The partitions that a member is to have: of each of its topics every nth, n being how many want
    /// the topic.
    fn share_of(&self, member: u64, partitions: impl Fn(&str) -> u32) -> BTreeSet<Partition> {
        let topics = self.members.get(&member).map(|member| &member.topics);
        let mut share = BTreeSet::new();
        for topic in topics.into_iter().flatten() {
            let wanting: Vec<u64> = self
                .members
                .iter()
                .filter(|(_, other)| other.topics.contains(topic))
                .map(|(number, _)| *number)
                .collect();
            let Some(first) = wanting.iter().position(|number| *number == member) else { continue };
            let numbers = (0..partitions(topic)).skip(first).step_by(wanting.len());
            share.extend(numbers.map(|number| Partition { topic: topic.clone(), number }));
        }
        share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTITIONS: u32 = 5;

    fn look(groups: &mut Groups, member: u64) -> (Vec<u32>, Vec<u32>) {
        let numbers = |partitions: Vec<Partition>| partitions.into_iter().map(|p| p.number).collect();
        let change = groups.look("billing", member, |_| PARTITIONS);
        (numbers(change.revoked), numbers(change.assigned))
    }

    fn orders(numbers: &[u32]) -> Vec<Partition> {
        numbers.iter().map(|number| Partition::new("orders", *number)).collect()
    }

    #[test]
    fn a_partition_has_one_owner_and_changes_hands_in_two_steps() {
        let mut groups = Groups::default();
        let (first, _) = groups.join("billing", vec!["orders".into()]);
        assert_eq!(look(&mut groups, first), (vec![], vec![0, 1, 2, 3, 4]));
        assert_eq!(look(&mut groups, first), (vec![], vec![]), "nothing has changed");
        let (second, _) = groups.join("billing", vec!["orders".into()]);
        assert_eq!(look(&mut groups, second), (vec![], vec![]), "the first one still has all");
        assert_eq!(look(&mut groups, first), (vec![1, 3], vec![]));
        assert_eq!(look(&mut groups, second), (vec![], vec![]), "it was told, and has not given up yet");
        groups.give_up("billing", first, &orders(&[1, 3]));
        assert_eq!(look(&mut groups, second), (vec![], vec![1, 3]));
        groups.leave("billing", first);
        assert_eq!(look(&mut groups, second), (vec![], vec![0, 2, 4]));
        groups.leave("billing", second);
        assert!(groups.by_name.is_empty());
    }

    #[test]
    fn members_share_only_the_topics_that_both_want() {
        let mut groups = Groups::default();
        let (first, _) = groups.join("billing", vec!["orders".into(), "payments".into()]);
        let (_second, _) = groups.join("billing", vec!["payments".into()]);
        let change = groups.look("billing", first, |_| 2);
        let expected = [("orders", 0), ("orders", 1), ("payments", 0)];
        assert_eq!(change.assigned, expected.map(|(topic, number)| Partition::new(topic, number)));
    }

    #[test]
    fn nobody_gives_up_what_another_has() {
        let mut groups = Groups::default();
        let (first, _) = groups.join("billing", vec!["orders".into()]);
        look(&mut groups, first);
        let (second, _) = groups.join("billing", vec!["orders".into()]);
        groups.give_up("billing", second, &orders(&[0, 1]));
        assert_eq!(look(&mut groups, second), (vec![], vec![]));
    }
}
