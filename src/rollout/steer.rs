//! What operators may do to a change in progress, and what it does.

use super::machine::Machine;
use super::nodes::{named, same_set};
use super::{Action, Ending, Wanted};
use crate::api::{Refused, Steering};
use crate::config::Control;
use crate::model::{NodeState, Timestamp};

impl Machine {
    /// Says why it is not possible, if it is not.
    pub fn can_steer(&self, steering: Steering) -> Result<(), String> {
        let change = self.change.as_ref().filter(|change| !change.told);
        match steering {
            Steering::Promote | Steering::PromoteFull if self.on_trial().is_some() => Ok(()),
            Steering::Promote | Steering::PromoteFull => {
                Err("no version is on trial, so there is no hold to end; `sluice status` tells what is going on".into())
            }
            Steering::Pause | Steering::Resume => {
                let Some(change) = change.filter(|change| change.arrived.is_none()) else {
                    return Err("no rollout is in progress".into());
                };
                match (steering, change.pause) {
                    (Steering::Pause, true) => Err("it is paused already; `sluice resume` lets it go on".into()),
                    (Steering::Resume, false) if self.wanted.as_ref().is_some_and(|w| w.control == Control::Pause) => {
                        Err("the configuration pauses it: set `rollout.control` to \"run\" there".into())
                    }
                    (Steering::Resume, false) => Err("it is not paused".into()),
                    _ => Ok(()),
                }
            }
            Steering::Abort => {
                let prior = change.and_then(|change| change.prior.as_ref());
                let Some(prior) = prior else {
                    return Err("no new version is on its way, so there is nothing to go back from".into());
                };
                if !self.can_go_back() {
                    return Err(format!(
                        "no node of {} is healthy, so going back would fail every request; mend or start one first",
                        named(&prior.version)
                    ));
                }
                Ok(())
            }
            Steering::Retry => match (&self.wanted, self.back) {
                (Some(wanted), true) if wanted.control == Control::Abort => {
                    Err("the configuration aborts it: set `rollout.control` to \"run\" there".into())
                }
                (Some(_), true) => Ok(()),
                // A first version has nothing to go back to, so it is not refused; but nobody waits for it any more.
                (Some(_), false)
                    if self.change.as_ref().is_some_and(|change| change.told && change.arrived.is_none()) =>
                {
                    Ok(())
                }
                _ => Err("the version that the configuration asks for is not refused".into()),
            },
        }
    }

    pub(super) fn steer(&mut self, steering: Steering, now: Timestamp, out: &mut Vec<Action>) {
        if self.can_steer(steering).is_err() {
            return;
        }
        match (steering, &mut self.change) {
            (Steering::Promote, Some(change)) => change.trial.promoted = true,
            (Steering::PromoteFull, Some(change)) => change.trial.full = true,
            (Steering::Pause, Some(change)) => change.pause = true,
            (Steering::Resume, Some(change)) => change.pause = false,
            (Steering::Abort, _) => self.roll_back("an operator aborted it", now, out),
            (Steering::Retry, _) => {
                let Some(wanted) = self.wanted.clone() else {
                    return;
                };
                self.refused.retain(|refused| !is_refused(refused, &wanted));
                self.wanted = None;
                self.want(wanted, now, out);
            }
            (_, None) => {}
        }
    }

    /// The configuration says that it shall go back.
    pub(super) fn follow_abort(&mut self, now: Timestamp, out: &mut Vec<Action>) {
        let asked = self.wanted.as_ref().is_some_and(|wanted| wanted.control == Control::Abort);
        if asked && !self.back && self.can_steer(Steering::Abort).is_ok() {
            self.roll_back("`rollout.control` is \"abort\"", now, out);
        }
    }

    /// Sends the wanted version back and refuses it: one swap to nodes that are healthy and at hand.
    pub(super) fn roll_back(&mut self, why: &str, now: Timestamp, out: &mut Vec<Action>) {
        let Some(prior) = self.change.as_ref().and_then(|change| change.prior.clone()) else {
            return;
        };
        let version = self.target().version;
        let reason = format!("{} was sent back: {why}; {} serves", named(&version), named(&prior.version));
        self.go_back(Ending::RolledBack, reason, now, out);
        for entry in &mut self.nodes {
            // It was kept for this.
            if entry.state == NodeState::Standby && entry.healthy && prior.holds(&entry.node) {
                entry.enter(NodeState::Serving, format!("{version} was sent back"), now);
            }
        }
    }
}

/// Whether it is this version with these nodes that was refused.
pub(super) fn is_refused(refused: &Refused, wanted: &Wanted) -> bool {
    refused.version == wanted.release && same_set(&refused.nodes, &wanted.nodes)
}
