//! From nodes to shares.

use std::collections::BTreeMap;

use super::nodes::{NodeEntry, Target};
use super::{NodeRef, Slice, Split};
use crate::model::{Share, Version};

/// The split for these nodes: everything healthy on duty, or, if nothing is healthy and `when_all_down` says so, everything on
/// duty. A node that never passed its probes is not on duty, so it is never in here.
pub(super) fn split(nodes: &[NodeEntry], when_all_down: bool) -> Split {
    let healthy = divide(nodes.iter().filter(|entry| entry.serves()));
    if !healthy.is_empty() || !when_all_down {
        return Split { slices: healthy, ..Split::default() };
    }
    let slices = divide(nodes.iter().filter(|entry| entry.is_on_duty()));
    Split { all_down: !slices.is_empty(), slices, trial: None }
}

/// The split while `target` is on trial with this share, which is exact: the rest is divided among the other versions by their
/// nodes. If one side has no healthy node, there is no trial for the moment, and the other side gets everything.
pub(super) fn split_for(nodes: &[NodeEntry], when_all_down: bool, target: &Target, share: Share) -> Split {
    let (new, old): (Vec<_>, Vec<_>) =
        nodes.iter().filter(|entry| entry.serves()).partition(|entry| target.holds(&entry.node));
    if new.is_empty() || old.is_empty() {
        return split(nodes, when_all_down);
    }
    let rest = Share(Share::ALL.0 - share.0);
    let mut slices = divide_share(old.into_iter(), rest);
    let nodes = new.into_iter().map(|entry| entry.node.clone()).collect();
    slices.push(Slice { version: target.version.clone(), share, nodes });
    Split { slices, all_down: false, trial: Some(target.version.clone()) }
}

/// Each version's share is its part of the nodes, by largest remainder, so that the sum is exact.
fn divide<'a>(nodes: impl Iterator<Item = &'a NodeEntry>) -> Vec<Slice> {
    divide_share(nodes, Share::ALL)
}

fn divide_share<'a>(nodes: impl Iterator<Item = &'a NodeEntry>, whole: Share) -> Vec<Slice> {
    let mut versions: BTreeMap<Version, Vec<NodeRef>> = BTreeMap::new();
    for entry in nodes {
        versions.entry(entry.node.version.clone()).or_default().push(entry.node.clone());
    }
    let total: usize = versions.values().map(Vec::len).sum();
    let mut slices: Vec<Slice> = versions
        .into_iter()
        .map(|(version, nodes)| Slice { version, share: Share((nodes.len() * whole.0 as usize / total) as u32), nodes })
        .collect();

    let given: u32 = slices.iter().map(|slice| slice.share.0).sum();
    let missing = if slices.is_empty() { 0 } else { whole.0 - given };
    let mut by_remainder: Vec<usize> = (0..slices.len()).collect();
    by_remainder.sort_by_key(|&index| std::cmp::Reverse(slices[index].nodes.len() * whole.0 as usize % total));
    for &index in by_remainder.iter().cycle().take(missing as usize) {
        slices[index].share.0 += 1;
    }
    slices
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{NodeState, Timestamp};

    fn nodes(counts: &[(&str, usize)]) -> Vec<NodeEntry> {
        let mut all = Vec::new();
        for &(version, number) in counts {
            for _ in 0..number {
                let serial = all.len() as u64;
                let node = NodeRef {
                    version: version.into(),
                    address: format!("10.0.0.1:{}", 5000 + serial).as_str().into(),
                    serial,
                };
                let mut entry = NodeEntry::joining(node, Timestamp(0));
                entry.state = NodeState::Serving;
                entry.healthy = true;
                all.push(entry);
            }
        }
        all
    }

    fn shares(counts: &[(&str, usize)]) -> Vec<u32> {
        split(&nodes(counts), true).slices.iter().map(|slice| slice.share.0).collect()
    }

    #[test]
    fn shares_follow_the_nodes_and_sum_exactly() {
        assert_eq!(shares(&[("v1", 1), ("v2", 1), ("v3", 1)]), [3334, 3333, 3333]);
        assert_eq!(shares(&[("v1", 2), ("v2", 1)]), [6667, 3333]);
        assert_eq!(shares(&[("v1", 5)]), [10_000]);
        for (a, b, c) in [(1, 6, 7), (3, 3, 1), (11, 13, 17), (997, 1, 1)] {
            assert_eq!(shares(&[("v1", a), ("v2", b), ("v3", c)]).iter().sum::<u32>(), 10_000);
        }
    }

    #[test]
    fn a_node_that_never_passed_gets_nothing_even_when_all_are_down() {
        let mut all = nodes(&[("v1", 2)]);
        all[0].state = NodeState::Ejected;
        all[0].healthy = false;
        all[1].state = NodeState::Joining;
        all[1].healthy = false;
        let split = split(&all, true);
        assert!(split.all_down);
        assert_eq!(split.slices[0].nodes, [all[0].node.clone()]);
    }

    #[test]
    fn when_all_are_down_the_split_is_empty_if_so_configured() {
        let mut all = nodes(&[("v1", 1)]);
        all[0].state = NodeState::Ejected;
        all[0].healthy = false;
        assert_eq!(split(&all, false), Split::default());
    }
}
