//! Which version, which node: pure choices over numbers that the caller brings.

use std::sync::Arc;

use super::node::Node;
use crate::model::Share;

/// Which slice the `turn`-th request goes to.
///
/// Multiples of the golden ratio modulo one are the most evenly spread sequence there is, so shares are met over any
/// window of a few hundred requests, not only on average as with random numbers.
pub fn slice_of(turn: u32, shares: impl IntoIterator<Item = Share>) -> usize {
    const GOLDEN: u32 = 0x9E37_79B9; // 2^32 / φ
    let point = turn.wrapping_mul(GOLDEN);
    let point = (u64::from(point) * u64::from(Share::ALL.0)) >> 32;
    let mut sum = 0;
    let mut last = 0;
    for (index, share) in shares.into_iter().enumerate() {
        sum += u64::from(share.0);
        last = index;
        if point < sum {
            return index;
        }
    }
    last
}

/// The less loaded of two different random nodes among the usable ones; any usable one if those two are not.
pub fn least_of_two<'a>(
    nodes: &'a [Arc<Node>],
    random: u64,
    load: &impl Fn(&Node) -> usize,
    usable: impl Fn(&Node) -> bool,
) -> Option<&'a Arc<Node>> {
    let count = nodes.len();
    if count == 0 {
        return None;
    }
    let below = |random: u32, bound: usize| ((u64::from(random) * bound as u64) >> 32) as usize;
    let first = below(random as u32, count);
    let second = if count == 1 { first } else { (first + 1 + below((random >> 32) as u32, count - 1)) % count };
    let (a, b) = (&nodes[first], &nodes[second]);
    match (usable(a), usable(b)) {
        (true, true) => Some(if load(b) < load(a) { b } else { a }),
        (true, false) => Some(a),
        (false, true) => Some(b),
        (false, false) => nodes.iter().cycle().skip(first).take(count).find(|node| usable(node)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::NodeId;

    fn nodes(count: usize) -> Vec<Arc<Node>> {
        (0..count)
            .map(|index| {
                let address = format!("127.0.0.1:{}", 5000 + index);
                Node::new(NodeId { service: "s".into(), version: "v".into(), address: address.as_str().into() }, 1)
            })
            .collect()
    }

    proptest! {
        #[test]
        fn shares_are_met_in_any_window_of_four_hundred_requests(start: u32, share in 0u32..=10_000) {
            let shares = [Share(share), Share(10_000 - share)];
            let hits = (0..400u32).filter(|i| slice_of(start.wrapping_add(*i), shares) == 0).count();
            let exact = f64::from(share) / 10_000.0 * 400.0;
            prop_assert!((hits as f64 - exact).abs() <= 4.0, "{hits} of 400 for {share}");
        }

        #[test]
        fn a_share_of_nothing_gets_nothing(turn: u32) {
            prop_assert_eq!(slice_of(turn, [Share::NONE, Share::ALL]), 1);
            prop_assert_eq!(slice_of(turn, [Share::ALL, Share::NONE]), 0);
        }

        #[test]
        fn a_usable_node_is_always_found(count in 1usize..20, random: u64, usable in 0usize..20) {
            let nodes = nodes(count);
            let only = nodes[usable % count].key;
            let found = least_of_two(&nodes, random, &|_| 0, |node| node.key == only);
            prop_assert_eq!(found.map(|node| node.key), Some(only));
            prop_assert!(least_of_two(&nodes, random, &|_| 0, |_| false).is_none());
        }

        #[test]
        fn the_busier_of_two_is_never_taken(random: u64) {
            let nodes = nodes(2);
            let busy = nodes[0].key;
            let found = least_of_two(&nodes, random, &|node| usize::from(node.key == busy), |_| true);
            prop_assert_eq!(found.map(|node| node.key), Some(nodes[1].key));
        }
    }

    #[test]
    fn every_node_gets_its_part() {
        let nodes = nodes(5);
        let mut hits = [0usize; 5];
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..10_000 {
            let chosen = least_of_two(&nodes, random.u64(..), &|_| 0, |_| true).map(|node| node.key);
            let index = nodes.iter().position(|node| Some(node.key) == chosen);
            hits[index.unwrap_or(0)] += 1;
        }
        assert!(hits.iter().all(|hits| (1_700..2_300).contains(hits)), "{hits:?}");
    }
}
