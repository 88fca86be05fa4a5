//! Which version, which node: pure choices over numbers that the caller brings.

use std::sync::Arc;
use std::time::Duration;

use super::node::Node;
use crate::model::Share;

/// A weight of 1, in the units in which weights are counted here: slow start needs parts of one.
pub const ONE: u32 = 1000;

/// A node that begins to warm up gets this part of its weight: with less, a quiet service would not warm it at all.
const COLD: u32 = ONE / 10;

/// The point in the division between versions for the `turn`-th request.
///
/// Multiples of the golden ratio modulo one are the most evenly spread sequence there is, so shares are met over any
/// window of a few hundred requests, not only on average as with random numbers.
pub fn point_of(turn: u32) -> u32 {
    const GOLDEN: u32 = 0x9E37_79B9; // 2^32 / φ
    turn.wrapping_mul(GOLDEN)
}

/// Which slice a point belongs to.
pub fn slice_at(point: u32, shares: impl IntoIterator<Item = Share>) -> usize {
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

/// Divides everything by these parts, by largest remainder, so that the sum is exact; nothing if all parts are nothing.
pub fn divide(parts: &[u64]) -> Vec<Share> {
    let total: u128 = parts.iter().map(|part| u128::from(*part)).sum();
    if total == 0 {
        return vec![Share::NONE; parts.len()];
    }
    let whole = |part: u64| u128::from(part) * u128::from(Share::ALL.0);
    let mut shares: Vec<_> = parts.iter().map(|part| Share((whole(*part) / total) as u32)).collect();
    let missing = Share::ALL.0 - shares.iter().map(|share| share.0).sum::<u32>();
    let mut by_remainder: Vec<usize> = (0..parts.len()).collect();
    by_remainder.sort_by_key(|&index| std::cmp::Reverse(whole(parts[index]) % total));
    for &index in by_remainder.iter().take(missing as usize) {
        shares[index].0 += 1;
    }
    shares
}

/// The weight of a node that has been warming up for `elapsed` of `time`: grows evenly from a tenth to all of it.
pub fn warmed(weight: u32, elapsed: Duration, time: Duration) -> u32 {
    if elapsed >= time {
        return weight;
    }
    let part = elapsed.as_micros() * u128::from(ONE - COLD) / time.as_micros().max(1) + u128::from(COLD);
    ((u128::from(weight) * part / u128::from(ONE)) as u32).max(1)
}

/// A random number from 0 up to `bound`.
fn below(random: u32, bound: u64) -> u64 {
    (u64::from(random) * bound) >> 32
}

/// Nodes of different weights, for choosing at random.
#[derive(Debug)]
pub struct Weights {
    /// Of each node, the sum of its own weight and all before it. Each weight is at least 1.
    sums: Box<[u64]>,
}

impl Weights {
    /// None if all are alike: then nothing needs to be known of them.
    pub fn new(weights: &[u32]) -> Option<Self> {
        if weights.windows(2).all(|pair| pair[0] == pair[1]) {
            return None;
        }
        let mut sum = 0;
        let sums = weights.iter().map(|weight| {
            sum += u64::from((*weight).max(1));
            sum
        });
        Some(Self { sums: sums.collect() })
    }

    /// The weight of one node.
    pub fn of(&self, index: usize) -> u64 {
        self.sums[index] - self.before(index)
    }

    fn before(&self, index: usize) -> u64 {
        index.checked_sub(1).map_or(0, |before| self.sums[before])
    }

    /// All weights together.
    pub fn total(&self) -> u64 {
        self.sums.last().copied().unwrap_or(0)
    }

    fn at(&self, point: u64) -> usize {
        self.sums.partition_point(|sum| *sum <= point)
    }

    /// Two different nodes, each drawn by its weight.
    fn two(&self, random: u64) -> (usize, usize) {
        let total = self.total();
        // Sums stay below 2^32 · 2^17, so 32 random bits are coarse only where nobody can tell.
        let first = self.at(below(random as u32, total));
        let rest = total - self.of(first);
        if rest == 0 {
            return (first, first);
        }
        let mut point = below((random >> 32) as u32, rest);
        if point >= self.before(first) {
            point += self.of(first);
        }
        (first, self.at(point))
    }
}

/// The less loaded of two different random nodes among the usable ones; any usable one if those two are not. With weights,
/// each is drawn by its weight, and the load is set against it.
pub fn least_of_two<'a>(
    nodes: &'a [Arc<Node>],
    weights: Option<&Weights>,
    random: u64,
    load: &impl Fn(&Node) -> usize,
    usable: impl Fn(&Node) -> bool,
) -> Option<&'a Arc<Node>> {
    let count = nodes.len();
    if count == 0 {
        return None;
    }
    let (first, second) = match weights {
        Some(weights) => weights.two(random),
        None if count == 1 => (0, 0),
        None => {
            let first = below(random as u32, count as u64) as usize;
            (first, (first + 1 + below((random >> 32) as u32, count as u64 - 1) as usize) % count)
        }
    };
    let (a, b) = (&nodes[first], &nodes[second]);
    // Two idle nodes are alike whatever their weights: these have had their say when the two were drawn.
    let relative = |index: usize, other: usize| {
        load(&nodes[index]) as u128 * weights.map_or(1, |weights| u128::from(weights.of(other)))
    };
    match (usable(a), usable(b)) {
        (true, true) => Some(if relative(second, first) < relative(first, second) { b } else { a }),
        (true, false) => Some(a),
        (false, true) => Some(b),
        (false, false) => nodes.iter().cycle().skip(first).take(count).find(|node| usable(node)),
    }
}

/// Steps of a round with weights: enough for parts of a percent.
const STEPS: u64 = 1024;

/// One round over nodes of these weights, in which each has its part, spread as evenly as it can be (nginx calls it smooth).
pub fn round(weights: &Weights) -> Box<[u32]> {
    let all: Vec<u64> = (0..weights.sums.len()).map(|index| weights.of(index)).collect();
    let unit = all.iter().copied().fold(0, gcd).max(1);
    let scale = (weights.total() / unit).div_ceil(STEPS.max(4 * all.len() as u64)).max(1) * unit;
    let turns: Vec<i64> = all.iter().map(|weight| weight.div_ceil(scale).cast_signed()).collect();
    let total: i64 = turns.iter().sum();
    let mut credit = vec![0i64; turns.len()];
    let step = |_| {
        let mut best = 0;
        for (index, turns) in turns.iter().enumerate() {
            credit[index] += turns;
            if credit[index] > credit[best] {
                best = index;
            }
        }
        credit[best] -= total;
        best as u32
    };
    (0..total).map(step).collect()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
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
            let hits = (0..400u32).filter(|i| slice_at(point_of(start.wrapping_add(*i)), shares) == 0).count();
            let exact = f64::from(share) / 10_000.0 * 400.0;
            prop_assert!((hits as f64 - exact).abs() <= 4.0, "{hits} of 400 for {share}");
        }

        #[test]
        fn a_small_share_is_met_within_two_requests_in_any_window(start: u32) {
            for (share, window, wanted) in [(500, 300, 15), (10, 3_000, 3), (2_500, 300, 75), (100, 300, 3)] {
                // The version on trial comes last.
                let shares = [Share(10_000 - share), Share(share)];
                let hits = (0..window).filter(|i| slice_at(point_of(start.wrapping_add(*i)), shares) == 1).count();
                prop_assert!(hits.abs_diff(wanted) <= 2, "{} of {} for {}", hits, window, share);
            }
        }

        #[test]
        fn a_share_of_nothing_gets_nothing(turn: u32) {
            prop_assert_eq!(slice_at(point_of(turn), [Share::NONE, Share::ALL]), 1);
            prop_assert_eq!(slice_at(point_of(turn), [Share::ALL, Share::NONE]), 0);
        }

        #[test]
        fn a_usable_node_is_always_found(count in 1usize..20, random: u64, usable in 0usize..20) {
            let nodes = nodes(count);
            let only = nodes[usable % count].key;
            let found = least_of_two(&nodes, None, random, &|_| 0, |node| node.key == only);
            prop_assert_eq!(found.map(|node| node.key), Some(only));
            prop_assert!(least_of_two(&nodes, None, random, &|_| 0, |_| false).is_none());
        }

        #[test]
        fn the_busier_of_two_is_never_taken(random: u64) {
            let nodes = nodes(2);
            let busy = nodes[0].key;
            let found = least_of_two(&nodes, None, random, &|node| usize::from(node.key == busy), |_| true);
            prop_assert_eq!(found.map(|node| node.key), Some(nodes[1].key));
        }
    }

    proptest! {
        #[test]
        fn parts_sum_to_all_and_none_is_off_by_a_whole(parts in prop::collection::vec(0u64..1_000_000, 1..12)) {
            let total: u64 = parts.iter().sum();
            let shares = divide(&parts);
            let sum: u32 = shares.iter().map(|share| share.0).sum();
            prop_assert_eq!(sum, if total == 0 { 0 } else { 10_000 });
            for (part, share) in parts.iter().zip(&shares) {
                let exact = *part as f64 * 10_000.0 / total.max(1) as f64;
                prop_assert!((f64::from(share.0) - exact).abs() < 1.0);
            }
        }

        #[test]
        fn a_round_gives_each_its_exact_part_and_is_spread(weights in prop::collection::vec(1u32..=20, 2..8)) {
            let Some(known) = Weights::new(&weights) else { return Ok(()) };
            let round = round(&known);
            let total: usize = weights.iter().map(|weight| *weight as usize).sum();
            for (index, weight) in weights.iter().enumerate() {
                let turns = round.iter().filter(|place| **place as usize == index).count();
                prop_assert_eq!(turns * total, *weight as usize * round.len());
                // At no time is a node ahead of its part by more than one turn.
                let mut had = 0.0;
                for (step, place) in round.iter().enumerate() {
                    had += f64::from(u8::from(*place as usize == index));
                    let fair = f64::from(*weight) / total as f64 * (step + 1) as f64;
                    prop_assert!(had - fair <= 1.0 && fair - had <= weights.len() as f64, "{} of {}", had, fair);
                }
            }
        }

        #[test]
        fn a_round_is_bounded_whatever_the_weights(weights in prop::collection::vec(1u32..=100_000, 2..40)) {
            if let Some(known) = Weights::new(&weights) {
                let round = round(&known);
                prop_assert!(round.len() <= 2 * STEPS as usize + weights.len(), "{}", round.len());
                prop_assert!((0..weights.len()).all(|index| round.contains(&(index as u32))), "everybody has a turn");
            }
        }

        #[test]
        fn the_two_that_are_drawn_differ(weights in prop::collection::vec(1u32..=100_000, 2..20), random: u64) {
            if let Some(known) = Weights::new(&weights) {
                let (first, second) = known.two(random);
                prop_assert!(first != second && first < weights.len() && second < weights.len());
            }
        }

        #[test]
        fn warmth_only_grows_and_ends_at_the_weight(weight in 1u32..=100_000, time in 1u64..100_000, at in 0u64..100_000) {
            let time = Duration::from_millis(time);
            let at = Duration::from_millis(at);
            let now = warmed(weight, at, time);
            prop_assert!((1..=weight).contains(&now));
            prop_assert!(warmed(weight, at + Duration::from_millis(1), time) >= now);
            prop_assert_eq!(warmed(weight, time, time), weight);
        }
    }

    #[test]
    fn idle_nodes_are_drawn_by_weight_and_load_is_set_against_it() {
        let nodes = nodes(3);
        let weights = Weights::new(&[1, 3, 4]).expect("they differ");
        let mut random = fastrand::Rng::with_seed(7);
        let mut hits = [0usize; 3];
        for _ in 0..8_000 {
            let chosen = least_of_two(&nodes, Some(&weights), random.u64(..), &|_| 0, |_| true).map(|node| node.key);
            let index = nodes.iter().position(|node| Some(node.key) == chosen);
            hits[index.unwrap_or(0)] += 1;
        }
        for (hits, weight) in hits.iter().zip([1, 3, 4]) {
            assert!(hits.abs_diff(weight * 1000) < 150, "{hits} where {weight} of 8 are fair");
        }
        // Whoever has more work than its weight allows is passed over: under load, work follows the weights.
        let mut work = [0usize; 3];
        for _ in 0..800 {
            let load = |node: &Node| nodes.iter().position(|known| known.key == node.key).map_or(0, |at| work[at]);
            let chosen = least_of_two(&nodes, Some(&weights), random.u64(..), &load, |_| true).map(|node| node.key);
            work[nodes.iter().position(|node| Some(node.key) == chosen).unwrap_or(0)] += 1;
        }
        for (work, weight) in work.iter().zip([1, 3, 4]) {
            assert!(work.abs_diff(weight * 100) < 30, "{work} where {weight} of 8 are fair");
        }
    }

    #[test]
    fn every_node_gets_its_part() {
        let nodes = nodes(5);
        let mut hits = [0usize; 5];
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..10_000 {
            let chosen = least_of_two(&nodes, None, random.u64(..), &|_| 0, |_| true).map(|node| node.key);
            let index = nodes.iter().position(|node| Some(node.key) == chosen);
            hits[index.unwrap_or(0)] += 1;
        }
        assert!(hits.iter().all(|hits| (1_700..2_300).contains(hits)), "{hits:?}");
    }
}
