//! The guard's promises in numbers, over whole simulated canaries: how often it sends a good version back, and how many
//! requests it takes to find a broken one. Prints the tables of docs/guard.md.
//!
//! `cargo bench --bench guard -- [--runs 1000]`
#![allow(missing_docs, dead_code)]

#[path = "../tests/rollout_sim/canaries.rs"]
mod canaries;

use std::time::{Duration, Instant};

use canaries::{End, Release, run};
use sluicegate::config::{Guard, Quantiles};
use sluicegate::model::Share;

fn main() {
    let args: Vec<_> = std::env::args().collect();
    let runs =
        args.iter().position(|arg| arg == "--runs").and_then(|at| args.get(at + 1)?.parse().ok()).unwrap_or(1000);
    let began = Instant::now();
    good(runs);
    broken(runs);
    println!("\n{runs} rollouts a row, in {:.0?}", began.elapsed());
}

/// Half of the runs on each of two threads; the same seeds give the same table.
fn ends(release: &Release, runs: usize) -> Vec<End> {
    let batch = |seeds: std::ops::Range<usize>| -> Vec<End> {
        seeds.map(|seed| run(release, &mut fastrand::Rng::with_seed(seed as u64))).collect()
    };
    std::thread::scope(|scope| {
        let first = scope.spawn(|| batch(0..runs / 2));
        let mut all = batch(runs / 2..runs);
        all.extend(first.join().expect("a run does not panic"));
        all
    })
}

fn all_rules() -> Guard {
    let ratio = Quantiles { p50: Some(1.5), p95: Some(1.5), p99: Some(1.5) };
    Guard { latency_ratio: ratio, max_errors: Some(0.05), ..Guard::default() }
}

fn good(runs: usize) {
    println!("| requests/s | errors, both versions | sent back | through after |");
    println!("|--:|--:|--:|--:|");
    for rate in [1.0, 10.0, 100.0, 1000.0] {
        for base in [0.0, 0.001, 0.01] {
            row(&format!("{rate} | {}%", base * 100.0), &Release::good(rate, base), runs);
        }
    }
    let just = Release::broken(100.0, 0.001, 0.011);
    row("100 | 0.1%, and 1% more: all that is allowed", &just, runs);
    let late = Release { delays: (Duration::from_secs(2), Duration::ZERO), ..Release::good(1000.0, 0.01) };
    row("1000 | 1%, at once, while answers take 2 s", &late, runs);
    let latencies = Release { slower: Some(1.0), guard: all_rules(), ..Release::good(100.0, 0.01) };
    row("100 | 1%, latencies judged too", &latencies, runs);
}

fn row(label: &str, release: &Release, runs: usize) {
    let mut ends = ends(release, runs);
    let alarms = ends.iter().filter(|end| end.rolled_back).count();
    ends.retain(|end| !end.rolled_back);
    let time = ranks(&ends, |end| end.time).map_or("never".into(), |(median, _)| time(median));
    println!("| {label} | {alarms} of {runs} | {time} |");
}

fn broken(runs: usize) {
    println!("\n| release, and requests/s | found | requests it got | of them failed | time to the decision |");
    println!("|---|--:|--:|--:|--:|");
    let row = |label: &str, release: Release| {
        let mut ends = ends(&release, runs);
        ends.retain(|end| end.rolled_back);
        let found = ends.len();
        let Some((requests, requests_99)) = ranks(&ends, |end| end.requests) else {
            return println!("| {label} | {found} of {runs} | | | |");
        };
        let (failures, failures_99) = ranks(&ends, |end| end.failures).unwrap_or_default();
        let (median, p99) = ranks(&ends, |end| end.time).unwrap_or_default();
        println!(
            "| {label} | {found} of {runs} | {requests} / {requests_99} | {failures} / {failures_99} | {} / {} |",
            time(median),
            time(p99)
        );
    };
    row("every answer is a 500 · 500/s", Release::broken(500.0, 0.001, 1.0));
    row("half of them, base 0 · 500/s", Release::broken(500.0, 0.0, 0.5));
    row("half of them, base 0.1% · 500/s", Release::broken(500.0, 0.001, 0.5));
    row("half of them, base 1% · 500/s", Release::broken(500.0, 0.01, 0.5));
    row("half of them, base 1% · 1000/s", Release::broken(1000.0, 0.01, 0.5));
    row("half of them, base 1% · 100/s", Release::broken(100.0, 0.01, 0.5));
    row("half of them, base 1% · 10/s", Release::broken(10.0, 0.01, 0.5));
    row("half of them, base 1% · 1/s", Release::broken(1.0, 0.01, 0.5));
    row("20% over a base of 0.5% · 500/s", Release::broken(500.0, 0.005, 0.2));
    row("5% over a base of 0.5% · 500/s", Release::broken(500.0, 0.005, 0.05));
    row("3% over a base of 0.5% · 500/s", Release::broken(500.0, 0.005, 0.03));
    let ratio = Quantiles { p50: None, p95: None, p99: Some(1.5) };
    let slow = Guard { latency_ratio: ratio, ..Guard::default() };
    row(
        "three times slower, `latency_ratio.p99 = \"1.5x\"` · 500/s",
        Release { slower: Some(3.0), guard: slow, ..Release::good(500.0, 0.001) },
    );
    row(
        "accepts and never answers, `patience = \"1s\"` · 500/s",
        Release { delays: (Duration::ZERO, Duration::from_secs(1)), ..Release::broken(500.0, 0.001, 1.0) },
    );
    row("crashes after 10 requests · 500/s", Release { after: 10, ..Release::broken(500.0, 0.001, 1.0) });
    row(
        "30% fail, but only from a share of 25% on · 500/s",
        Release { from_share: Share(2500), ..Release::broken(500.0, 0.001, 0.3) },
    );
}

/// The median and the 99th percentile.
fn ranks<T: Ord + Copy>(ends: &[End], value: impl Fn(&End) -> T) -> Option<(T, T)> {
    let mut values: Vec<T> = ends.iter().map(value).collect();
    values.sort_unstable();
    let at =
        |part: f64| values.get(((values.len() as f64 * part) as usize).min(values.len().saturating_sub(1))).copied();
    Some((at(0.5)?, at(0.99)?))
}

fn time(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds < 1.0 => format!("{:.0} ms", seconds * 1000.0),
        seconds if seconds < 100.0 => format!("{seconds:.1} s"),
        seconds => format!("{:.0} min", seconds / 60.0),
    }
}
