//! The guard: whether a version on trial is worse than it may be, judged from counters alone. Pure.
//!
//! It is asked again and again while a step is held, with counters that grow; so nothing in here is a test for one look. What
//! it promises: a version that keeps to every rule is sent back with a probability of at most `false_alarm`, over all looks,
//! rules and steps together. What it assumes for that: each request's chance to fail, given all that went before, is on average
//! over the step not above what the rules allow. Requests need not be alike, nor their chances constant.
//!
//! `sequential` is the mathematics, `rules` applies it to what is configured, `evidence` tells what was seen. How many requests
//! it takes to find what is broken is measured by `cargo bench --bench guard` and told in docs/guard.md.

mod evidence;
mod rules;
mod sequential;

use super::Verdict;
use crate::api::Evidence;
use crate::config::Guard;
use crate::model::Tally;

/// What was found, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// What the machine acts on.
    pub verdict: Verdict,
    /// What people see of it.
    pub evidence: Evidence,
}

/// Judges `new` against `old`: what both did since one window, a step, began. `windows` share the false alarms: all the steps of a rollout.
pub fn judge(guard: &Guard, windows: usize, old: &Tally, new: &Tally) -> Judgement {
    let verdict = decide(guard, windows, old, new);
    let reason = match &verdict {
        Verdict::Fail(why) | Verdict::Hold(why) => why.clone(),
        Verdict::Pass => {
            let (new, old) = (evidence::failures_of(new), evidence::failures_of(old));
            format!("it failed {new}, and what served before {old}: within the rules")
        }
        Verdict::TooFew => {
            format!("{} of {} requests so far, and nothing wrong in them", new.requests, guard.min_requests)
        }
    };
    let word = verdict.as_str();
    let alpha = rules::alpha(guard, windows);
    let (old, new) = (evidence::sample(old, alpha), evidence::sample(new, alpha));
    Judgement { verdict, evidence: Evidence { verdict: word.into(), reason, new, old, judges: Vec::new() } }
}

/// The verdict alone, which costs some microseconds while nothing is wrong.
pub fn decide(guard: &Guard, windows: usize, old: &Tally, new: &Tally) -> Verdict {
    match rules::broken(guard, windows, old, new) {
        Some(why) => Verdict::Fail(why),
        None if new.requests < guard.min_requests => Verdict::TooFew,
        None => Verdict::Pass,
    }
}

#[cfg(test)]
mod tests;
