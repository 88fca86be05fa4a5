//! By which policy new nodes come in and old ones go. The machine interprets a [`Plan`] and does not know strategies.
//!
//! A plan is made anew at every event, from what is, so a strategy that is edited in the middle of a change simply applies
//! from then on. A further strategy is a further row here: one that moves traffic by shares adds a ceiling for the new
//! version to `Plan`, which `split` honours.

use std::time::Duration;

use crate::config::Strategy;

/// What the plan depends on.
#[derive(Clone, Copy, Debug)]
pub struct Situation {
    /// What the configuration says.
    pub strategy: Strategy,
    /// Canary and blue-green: how long old nodes stay ready.
    pub keep: Duration,
    /// Whether one version takes over from another; false for an edit of one version's nodes, and on the way back.
    pub replaces: bool,
    /// Whether a healthy node serves that is not wanted: something that must not be mixed with the new version.
    pub protects: bool,
}

/// How nodes come and go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// How healthy nodes come in.
    pub admit: Admit,
    /// How old nodes go.
    pub retire: Retire,
    /// How long old nodes stay ready before they drain; not at all if zero.
    pub keep: Duration,
}

/// How healthy nodes come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admit {
    /// Each as soon as it is healthy.
    Each,
    /// None before every one is healthy.
    Together,
}

/// How old nodes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retire {
    /// One for each new one that serves; the rest when every new one does.
    OneForOne,
    /// None before every new one serves.
    Together,
}

/// The policy for this situation.
pub fn plan(situation: Situation) -> Plan {
    match situation.strategy {
        Strategy::BlueGreen if situation.replaces => Plan {
            // With nothing healthy to protect, waiting for the last node would only prolong an outage.
            admit: if situation.protects { Admit::Together } else { Admit::Each },
            retire: Retire::Together,
            keep: situation.keep,
        },
        // New nodes wait for their share beside the old ones, which stay until the trial is over.
        Strategy::Canary if situation.replaces => {
            Plan { admit: Admit::Each, retire: Retire::Together, keep: situation.keep }
        }
        Strategy::Rolling | Strategy::Canary | Strategy::BlueGreen => {
            Plan { admit: Admit::Each, retire: Retire::OneForOne, keep: Duration::ZERO }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn situation(strategy: Strategy) -> Situation {
        Situation { strategy, keep: Duration::from_mins(1), replaces: true, protects: true }
    }

    #[test]
    fn rolling_goes_node_by_node_and_keeps_nothing() {
        let plan = plan(situation(Strategy::Rolling));
        assert_eq!(plan, Plan { admit: Admit::Each, retire: Retire::OneForOne, keep: Duration::ZERO });
    }

    #[test]
    fn blue_green_moves_everything_together_and_keeps_the_old() {
        let plan = plan(situation(Strategy::BlueGreen));
        assert_eq!(plan, Plan { admit: Admit::Together, retire: Retire::Together, keep: Duration::from_mins(1) });
    }

    #[test]
    fn blue_green_with_nothing_to_protect_lets_each_node_in() {
        let plan = plan(Situation { protects: false, ..situation(Strategy::BlueGreen) });
        assert_eq!(plan.admit, Admit::Each);
    }

    #[test]
    fn blue_green_within_one_version_is_rolling() {
        let within = Situation { replaces: false, ..situation(Strategy::BlueGreen) };
        assert_eq!(plan(within), plan(Situation { strategy: Strategy::Rolling, ..within }));
    }
}
