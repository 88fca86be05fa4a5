//! What a version on trial looks like: its share, its steps, and what the guard makes of it. Pure.

use std::time::Duration;

use anstyle::AnsiColor;

use super::words::{clean, colored, columns, dim, duration, percent};
use crate::api::{Evidence, HistoryEntry, Opinion, Sample, ServiceStatus, StepStatus, TrialStatus};
use crate::model::Timestamp;

/// The trial in progress; empty without one.
pub fn lines(service: &ServiceStatus, now: Timestamp) -> Vec<String> {
    let Some((rollout, trial)) = service.rollout.as_ref().and_then(|rollout| Some((rollout, rollout.trial.as_ref()?)))
    else {
        return Vec::new();
    };
    let mut lines = vec![format!("  on trial: {} with {}{}", rollout.to, place(trial), state(trial, now))];
    if trial.steps.len() > 1 {
        let steps: Vec<_> =
            trial.steps.iter().enumerate().map(|(at, step)| self::step(at + 1, step, trial.step)).collect();
        lines.push(format!("  steps: {}", steps.join(" → ")));
    }
    if let Some(evidence) = &trial.evidence {
        lines.push(format!("  guard: {}", verdict(evidence)));
        let old = rollout.from.as_ref().map_or("old".to_owned(), ToString::to_string);
        let rows = [sample(rollout.to.to_string(), &evidence.new), sample(old, &evidence.old)];
        lines.extend(columns("    ", &rows));
        lines.extend(evidence.judges.iter().map(opinion));
    }
    lines
}

/// The same in half a line, for what is told when it changes.
pub fn told(service: &ServiceStatus) -> Option<String> {
    let trial = service.rollout.as_ref()?.trial.as_ref()?;
    let paused = if trial.paused.is_some() { ", paused" } else { "" };
    let promoted = if trial.promoted { ", without further holds" } else { "" };
    Some(format!("on trial with {}{paused}{promoted}", place(trial)))
}

/// What the guard says, without the counts that change all the time.
pub fn judged(service: &ServiceStatus) -> Option<(&str, &Evidence)> {
    let evidence = service.rollout.as_ref()?.trial.as_ref()?.evidence.as_ref()?;
    Some((&evidence.verdict, evidence))
}

/// `5%, step 1 of 3`.
fn place(trial: &TrialStatus) -> String {
    let share = percent(trial.share);
    match (trial.step, trial.steps.len()) {
        (0, 0) => share,
        (0, _) => format!("{share}, before the first step"),
        (step, steps) => format!("{share}, step {step} of {steps}"),
    }
}

fn state(trial: &TrialStatus, now: Timestamp) -> String {
    if let Some(since) = trial.paused {
        return format!(", {}", colored(AnsiColor::Yellow, format!("paused for {}", duration(now.since(since)))));
    }
    let held = format!(", for {}", duration(now.since(trial.since)));
    if trial.promoted {
        return format!("{held}, promoted through all further steps");
    }
    match trial.steps.get(trial.step.wrapping_sub(1)).map(|step| step.hold_ms) {
        Some(Some(hold)) => {
            let left = trial.since.plus(Duration::from_millis(hold)).since(now);
            if left.is_zero() {
                format!("{held}; the hold is over")
            } else {
                format!("{held}, {} left", duration(left))
            }
        }
        Some(None) => format!("{held}, until it is promoted"),
        None => held,
    }
}

fn step(number: usize, step: &StepStatus, now_at: usize) -> String {
    let hold = step.hold_ms.map_or("until promoted".into(), |hold| duration(Duration::from_millis(hold)));
    let text = format!("{} {hold}", percent(step.share));
    if number == now_at { colored(AnsiColor::Cyan, text) } else { dim(text) }
}

fn color_of(verdict: &str) -> AnsiColor {
    match verdict {
        "pass" => AnsiColor::Green,
        "fail" => AnsiColor::Red,
        _ => AnsiColor::Yellow,
    }
}

/// The verdict in its colour, and why.
pub fn verdict(evidence: &Evidence) -> String {
    let color = color_of(&evidence.verdict);
    let between = if evidence.reason.is_empty() { "" } else { ": " };
    format!("{}{between}{}", colored(color, clean(&evidence.verdict)), clean(&evidence.reason).replace('\n', " "))
}

/// What an outside judge says.
fn opinion(opinion: &Opinion) -> String {
    let between = if opinion.reason.is_empty() { "" } else { ": " };
    let (judge, reason) = (clean(&opinion.judge), clean(&opinion.reason).replace('\n', " "));
    format!("    {judge} says {}{between}{reason}", colored(color_of(&opinion.verdict), clean(&opinion.verdict)))
}

fn sample(version: String, sample: &Sample) -> Vec<String> {
    let kinds: Vec<_> = sample
        .kinds
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(kind, count)| format!("{} {count}", clean(kind)))
        .collect();
    let kinds = if kinds.is_empty() { String::new() } else { format!(" ({})", kinds.join(", ")) };
    let quantiles: Vec<_> = [("p50", sample.p50), ("p95", sample.p95), ("p99", sample.p99)]
        .into_iter()
        .filter_map(|(name, value)| value.map(|value| format!("{name} {}", millis(value))))
        .collect();
    vec![
        version,
        format!("{} requests", sample.requests),
        format!("{} failed{kinds}", sample.failures),
        format!("{} ({} to {})", part(sample.rate), part(sample.interval.0), part(sample.interval.1)),
        quantiles.join(", "),
    ]
}

/// A part of one, for people.
fn part(part: f64) -> String {
    let percent = part * 100.0;
    if percent != 0.0 && percent < 1.0 { format!("{percent:.2}%") } else { self::percent(percent) }
}

/// Milliseconds, for people.
fn millis(value: f64) -> String {
    if value < 10.0 { format!("{value:.1}ms") } else { duration(Duration::from_millis(value as u64)) }
}

/// What a finished rollout went through, a line each: its steps, and who steered it.
pub fn past(entry: &HistoryEntry, now: Timestamp) -> Vec<String> {
    let steps = entry.steps.iter().map(|step| {
        let time = duration(step.ended.unwrap_or(entry.finished).since(step.started));
        let judged = step.evidence.as_ref().map(|evidence| format!(": {}", verdict(evidence))).unwrap_or_default();
        format!("  {} for {time}{judged}", percent(step.share))
    });
    let steered = entry
        .steered
        .iter()
        .map(|act| format!("  {} by {}, {} ago", act.steering.as_str(), clean(&act.by), duration(now.since(act.at))));
    steps.chain(steered).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::admin::fake::{NOW, service};

    fn plain(lines: Vec<String>) -> String {
        anstream::adapter::strip_str(&lines.join("\n")).to_string()
    }

    #[test]
    fn a_trial_shows_its_step_what_is_left_and_the_evidence() {
        let mut shop = service("shop", Path::new("/s.toml"));
        assert!(lines(&shop, NOW).is_empty());
        let minute = Some(60_000);
        let trial = TrialStatus {
            share: 5.0,
            step: 1,
            steps: vec![StepStatus { share: 5.0, hold_ms: minute }, StepStatus { share: 50.0, hold_ms: None }],
            since: Timestamp(NOW.0 - 12_000),
            paused: None,
            promoted: false,
            evidence: Some(Evidence {
                verdict: "fail".into(),
                reason: "v2 fails 9 of 17 requests".into(),
                new: Sample {
                    requests: 17,
                    failures: 9,
                    rate: 0.53,
                    interval: (0.2, 0.8),
                    p99: Some(12.0),
                    ..Sample::default()
                },
                old: Sample { requests: 340, failures: 2, rate: 0.0059, interval: (0.0, 0.03), ..Sample::default() },
                judges: vec![Opinion { judge: "webhook".into(), verdict: "hold".into(), reason: "busy".into() }],
            }),
        };
        let show = |trial: TrialStatus| {
            let mut shop = shop.clone();
            shop.rollout.as_mut().unwrap().trial = Some(trial);
            plain(lines(&shop, NOW))
        };
        let text = show(trial.clone());
        for part in [
            "on trial: v2 with 5%, step 1 of 2, for 12s, 48s left",
            "steps: 5% 1m → 50% until promoted",
            "guard: fail: v2 fails 9 of 17 requests",
            "v2  17 requests   9 failed  53% (20% to 80%)  p99 12ms",
            "v1  340 requests  2 failed  0.59% (0% to 3%)",
            "webhook says hold: busy",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        let paused = TrialStatus { paused: Some(Timestamp(NOW.0 - 3_000)), ..trial.clone() };
        assert!(show(paused).contains("paused for 3s"));
        let by_hand = TrialStatus { step: 2, share: 50.0, ..trial.clone() };
        assert!(show(by_hand).contains("until it is promoted"));
        let odd = TrialStatus { step: 9, since: Timestamp(NOW.0 + 9), ..trial };
        assert!(show(odd).contains("step 9 of 2"), "what it does not know does not break it");
        shop.rollout = None;
        assert!(lines(&shop, NOW).is_empty());
    }
}
