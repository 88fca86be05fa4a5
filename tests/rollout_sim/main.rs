//! The rollout machine: its rules as sentences, and a seeded simulation of everything that can go wrong around it.
//!
//! `SIM_SEED=n` replays one seed with its whole trace, `SIM_SEEDS=n` runs that many.

mod canaries;
mod endings;
mod observer;
mod rules;
mod world;

use world::World;

/// Seeds that run by default: a few seconds in a debug build.
const SEEDS: u64 = 400;
/// Events from the outside in one run.
const STEPS: usize = 250;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} must be a number, not {text:?}")))
}

#[test]
fn no_sequence_of_edits_sickness_loss_restarts_and_clock_jumps_breaks_a_promise() {
    let replayed = number("SIM_SEED");
    let seeds = match replayed {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIM_SEEDS").unwrap_or(SEEDS),
    };
    for seed in seeds {
        let mut world = World::new(seed);
        let result = world.run(STEPS);
        if replayed.is_some() || result.is_err() {
            let kept = if replayed.is_some() { usize::MAX } else { 80 };
            let skipped = world.observer.trace.len().saturating_sub(kept);
            for line in &world.observer.trace[skipped..] {
                eprintln!("{line}");
            }
        }
        if let Err(broken) = result {
            panic!("seed {seed}: {broken}\nreplay it with SIM_SEED={seed} cargo test --test rollout_sim");
        }
    }
}

#[test]
fn the_simulation_reaches_every_phase_and_every_ending() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..60 {
        let mut world = World::new(seed);
        world.run(STEPS).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
        seen.append(&mut world.observer.seen);
    }
    for word in [
        "settled",
        "waiting for health",
        "rolling",
        "keeping",
        "draining",
        "failed",
        "Done",
        "Unhealthy",
        "Superseded",
        "all down",
        "restart",
        "removed",
        "warming",
        "set back",
        "on trial",
        "RolledBack",
        "sent back",
        "a step",
        "all steps",
        "promote",
        "pause",
        "resume",
        "abort",
        "retry",
    ] {
        assert!(seen.contains(word), "no run came across {word:?}, only {seen:?}");
    }
}
