//! Which nodes stand out: counters of one window in, findings out.
//!
//! Two rules. A node that had failures only, and enough of them: for traffic too thin for its workers to see a row. And a
//! node that fails much more often than all others together: whatever a page or a client does hits all of them alike, so what
//! is left is the node.

use crate::config::Eject;

/// What happened at one node in one window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests that it answered well.
    pub successes: u64,
    /// Those that it did not: 5xx, resets, timeouts.
    pub failures: u64,
    /// Among them, those that count in a row.
    pub strikes: u64,
}

impl Tally {
    /// What came since `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            successes: self.successes.saturating_sub(before.successes),
            failures: self.failures.saturating_sub(before.failures),
            strikes: self.strikes.saturating_sub(before.strikes),
        }
    }

    fn all(self) -> u64 {
        self.successes + self.failures
    }
}

/// What is wrong with each node, in words for people; none if nothing is.
pub fn judge(eject: &Eject, nodes: &[Tally]) -> Vec<Option<String>> {
    let sum = |count: fn(Tally) -> u64| nodes.iter().map(|node| count(*node)).sum::<u64>();
    let (all, failures) = (sum(Tally::all), sum(|node| node.failures));
    let one = |node: &Tally| {
        if eject.failures > 0 && node.successes == 0 && node.strikes >= u64::from(eject.failures) {
            return Some(format!("{} requests failed and none was answered in {:?}", node.strikes, eject.window));
        }
        let excess = eject.excess?;
        let (own, others) = (node.all(), all - node.all());
        if own < eject.volume || others < eject.volume {
            return None;
        }
        let part = node.failures as f64 / own as f64;
        let rest = (failures - node.failures) as f64 / others as f64;
        (part - rest > excess).then(|| {
            format!(
                "{:.0}% of its requests failed in {:?}, {:.0}% of the others'",
                part * 100.0,
                eject.window,
                rest * 100.0
            )
        })
    };
    nodes.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(nodes: &[(u64, u64, u64)]) -> Vec<usize> {
        let tally = |(successes, failures, strikes): &(u64, u64, u64)| Tally {
            successes: *successes,
            failures: *failures,
            strikes: *strikes,
        };
        let nodes: Vec<_> = nodes.iter().map(tally).collect();
        let found = judge(&Eject::default(), &nodes);
        found.iter().enumerate().filter_map(|(index, found)| found.as_ref().map(|_| index)).collect()
    }

    #[test]
    fn a_node_that_fails_much_more_than_the_others_stands_out() {
        assert_eq!(found(&[(1000, 0, 0), (600, 400, 0), (1000, 0, 0)]), [1]);
        assert_eq!(found(&[(100, 0, 0), (0, 100, 0)]), [1]);
    }

    #[test]
    fn what_hits_all_nodes_alike_is_no_nodes_fault() {
        assert_eq!(found(&[(500, 500, 0), (600, 400, 0), (450, 550, 0)]), [0; 0]);
        assert_eq!(found(&[(0, 500, 0), (0, 500, 0)]), [0; 0]);
    }

    #[test]
    fn few_requests_prove_nothing() {
        assert_eq!(found(&[(1000, 0, 0), (20, 79, 0)]), [0; 0]);
        assert_eq!(found(&[(99, 0, 0), (0, 1000, 0)]), [0; 0]);
    }

    #[test]
    fn a_node_that_answers_nothing_stands_out_even_with_few_requests() {
        assert_eq!(found(&[(1, 0, 0), (0, 5, 5)]), [1]);
        assert_eq!(found(&[(1, 0, 0), (0, 4, 4)]), [0; 0]);
        assert_eq!(found(&[(1, 0, 0), (1, 5, 5)]), [0; 0]);
        assert_eq!(found(&[(1, 0, 0), (0, 5, 0)]), [0; 0], "a status alone");
    }

    proptest! {
        #[test]
        fn a_node_alone_never_stands_out_by_its_part(successes in 0u64..10_000, failures in 0u64..10_000) {
            prop_assert_eq!(found(&[(successes, failures, 0)]), Vec::<usize>::new());
        }

        #[test]
        fn whoever_fails_least_never_stands_out_by_its_part(
            nodes in prop::collection::vec((0u64..1000, 0u64..1000), 2..8),
        ) {
            let part = |(successes, failures): &(u64, u64)| *failures as f64 / (successes + failures).max(1) as f64;
            let least = nodes.iter().map(part).fold(1.0, f64::min);
            let all: Vec<_> = nodes.iter().map(|(successes, failures)| (*successes, *failures, 0)).collect();
            for index in found(&all) {
                prop_assert!(part(&nodes[index]) > least);
            }
        }
    }
}
