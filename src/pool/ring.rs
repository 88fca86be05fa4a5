//! Consistent hashing: a ring of points, a number for each node; a key belongs to the first point at or after it.
//!
//! A node that comes or goes moves its own keys only. The points depend on nothing but the nodes' addresses and weights, so
//! every worker, every restart and every proxy agree.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Never changed: with another one, every key would move at the next update.
const SEED: u64 = 0x51_1C_E0;

/// Points of a node of weight 1: the shares of equal nodes then differ by some ten percent.
const POINTS: u64 = 128;

/// Points of one ring: 1.5 MB.
const MOST: u64 = 1 << 17;

/// Where keys meet nodes. Nodes are told by their place in the list that the ring was made of.
#[derive(Debug)]
pub struct Ring {
    /// Ascending.
    points: Box<[u64]>,
    /// Of each point.
    owners: Box<[u32]>,
}

/// A key's hash, the same everywhere and for ever.
pub fn hash(key: &[u8]) -> u64 {
    xxh3_64_with_seed(key, SEED)
}

/// The same, mixed with something else.
pub fn hash_with(key: u64, salt: &[u8]) -> u64 {
    xxh3_64_with_seed(salt, key ^ SEED)
}

impl Ring {
    /// A ring of these nodes: address and weight, in units of which `one` is the weight 1.
    pub fn new<'a>(nodes: impl Iterator<Item = (&'a str, u32)> + Clone, one: u32) -> Self {
        let wanted = |weight: u32| (POINTS * u64::from(weight)).div_ceil(u64::from(one.max(1))).max(1);
        let total: u64 = nodes.clone().map(|(_, weight)| wanted(weight)).sum();
        // By powers of two, so that one node more seldom changes how many points the others have.
        let shift = (0..32).find(|shift| total >> shift <= MOST).unwrap_or(32);
        let mut points = Vec::with_capacity((total >> shift) as usize);
        for (owner, (address, weight)) in nodes.enumerate() {
            let seed = hash(address.as_bytes());
            // A heavier node has the points of a lighter one and more: a weight that grows takes keys and moves no other.
            for index in 0..(wanted(weight) >> shift).max(1) {
                points.push((xxh3_64_with_seed(&index.to_le_bytes(), seed), owner as u32));
            }
        }
        points.sort_unstable();
        let (points, owners): (Vec<_>, Vec<_>) = points.into_iter().unzip();
        Self { points: points.into(), owners: owners.into() }
    }

    /// The nodes for this key in the order of preference; one may come several times.
    pub fn at(&self, hash: u64) -> impl Iterator<Item = usize> {
        let first = self.points.partition_point(|point| *point < hash);
        let (before, after) = self.owners.split_at(first);
        after.iter().chain(before).map(|owner| *owner as usize)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEYS: u64 = 4000;

    fn addresses(count: usize) -> Vec<String> {
        (0..count).map(|index| format!("10.0.{}.{}:5001", index / 200, index % 200)).collect()
    }

    fn ring(nodes: &[(String, u32)]) -> Ring {
        Ring::new(nodes.iter().map(|(address, weight)| (address.as_str(), *weight)), 1)
    }

    fn owners(nodes: &[(String, u32)]) -> Vec<String> {
        let ring = ring(nodes);
        let owner = |key: u64| ring.at(hash(&key.to_le_bytes())).next().map(|owner| nodes[owner].0.clone());
        (0..KEYS).filter_map(owner).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn a_node_that_leaves_moves_its_own_keys_and_no_other(count in 2usize..20, gone: prop::sample::Index) {
            let all: Vec<_> = addresses(count).into_iter().map(|address| (address, 1)).collect();
            let gone = gone.index(count);
            let mut rest = all.clone();
            let gone = rest.remove(gone).0;
            let (before, after) = (owners(&all), owners(&rest));
            prop_assert_eq!(before.len(), after.len());
            for (before, after) in before.iter().zip(&after) {
                prop_assert!(before == after || *before == gone, "{} moved to {}", before, after);
            }
            let moved = before.iter().zip(&after).filter(|(before, after)| before != after).count() as u64;
            prop_assert!(moved <= 2 * KEYS / count as u64, "{} of {} keys moved, of {} nodes", moved, KEYS, count);
        }

        #[test]
        fn a_weight_that_grows_takes_keys_and_moves_no_other(count in 2usize..10, light in 1u32..5, more in 1u32..5) {
            let mut all: Vec<_> = addresses(count).into_iter().map(|address| (address, 3)).collect();
            all[0].1 = light;
            let before = owners(&all);
            all[0].1 = light + more;
            for (before, after) in before.iter().zip(owners(&all)) {
                prop_assert!(*before == after || after == all[0].0);
            }
        }
    }

    #[test]
    fn keys_are_spread_by_weight() {
        let nodes: Vec<_> = addresses(4).into_iter().zip([1, 1, 2, 4]).collect();
        let owners = owners(&nodes);
        for (address, weight) in &nodes {
            let part = owners.iter().filter(|owner| *owner == address).count() as f64 / owners.len() as f64;
            let fair = f64::from(*weight) / 8.0;
            assert!((part - fair).abs() < 0.35 * fair, "{address} has {part}, fair is {fair}");
        }
    }

    #[test]
    fn keys_stay_where_they_are_from_one_release_to_the_next() {
        let nodes: Vec<_> = addresses(5).into_iter().map(|address| (address, 1)).collect();
        let ring = ring(&nodes);
        let at = |key: &str| ring.at(hash(key.as_bytes())).next();
        // If this fails, an update would send every user to another node.
        assert_eq!(["alice", "bob", "carol", "dave"].map(at), [Some(3), Some(1), Some(2), Some(0)]);
    }

    #[test]
    fn a_ring_is_bounded_however_many_nodes_and_weights_there_are() {
        let nodes: Vec<_> = addresses(3000).into_iter().map(|address| (address, 100)).collect();
        let ring = ring(&nodes);
        assert!(ring.points.len() as u64 <= MOST + nodes.len() as u64, "{}", ring.points.len());
        let first: std::collections::BTreeSet<_> = ring.owners.iter().collect();
        assert_eq!(first.len(), nodes.len(), "every node has its point");
    }
}
