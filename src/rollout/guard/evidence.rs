//! What the guard saw, as numbers for the admin API and in words for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::sequential::{Count, interval};
use crate::api::Sample;
use crate::model::{BUCKETS, FailureKind, Latencies, Tally, upper_edge};

/// One version's numbers; the interval is wrong with a probability of at most `alpha`, over all the times that it is looked at.
pub(super) fn sample(tally: &Tally, alpha: f64) -> Sample {
    let failures = tally.failures.iter().fold(0u64, |sum, kind| sum.saturating_add(*kind));
    let count = Count { hits: failures, all: tally.requests.max(failures) };
    let kinds = FailureKind::ALL.into_iter().filter(|kind| tally.failed(*kind) > 0);
    Sample {
        requests: count.all,
        failures,
        kinds: kinds.map(|kind| (kind.as_str().to_owned(), tally.failed(kind))).collect::<BTreeMap<_, _>>(),
        rate: count.rate(),
        interval: interval(count, alpha),
        p50: milliseconds(&tally.latencies, 0.5),
        p95: milliseconds(&tally.latencies, 0.95),
        p99: milliseconds(&tally.latencies, 0.99),
    }
}

/// A quantile, as the upper edge of its bucket; of the last bucket, which has none, what all others are below.
fn milliseconds(latencies: &Latencies, quantile: f64) -> Option<f64> {
    let bucket = latencies.quantile(quantile)?;
    let edge = upper_edge(bucket).or_else(|| upper_edge(BUCKETS - 2)).unwrap_or(Duration::MAX);
    Some(edge.as_secs_f64() * 1000.0)
}

/// "9 of 17 requests (53%: 8 status, 1 timeout)".
pub(super) fn failures_of(tally: &Tally) -> String {
    let failures = tally.failures.iter().fold(0u64, |sum, kind| sum.saturating_add(*kind));
    let count = Count { hits: failures, all: tally.requests.max(failures) };
    let mut text = format!("{failures} of {} requests ({}", count.all, share_of(count.rate()));
    let mut before = ": ";
    for kind in FailureKind::ALL.into_iter().filter(|kind| tally.failed(*kind) > 0) {
        let _ = write!(text, "{before}{} {}", tally.failed(kind), kind.as_str());
        before = ", ";
    }
    text.push(')');
    text
}

/// A part of one in percent, with two significant digits below ten percent.
pub(super) fn share_of(part: f64) -> String {
    let percent = part * 100.0;
    let decimals = match percent {
        _ if percent <= 0.0 || percent >= 9.95 => 0,
        _ => (1.0 - percent.log10().floor()).clamp(0.0, 6.0) as usize,
    };
    let text = format!("{percent:.decimals$}");
    let text = if decimals == 0 { &text } else { text.trim_end_matches('0').trim_end_matches('.') };
    format!("{text}%")
}

/// "p99" of 0.99.
pub(super) fn quantile_name(quantile: f64) -> String {
    format!("p{:.0}", quantile * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_in_percent_as_people_would() {
        let told = [0.0, 1.0, 0.5294, 0.0995, 0.029, 0.01, 0.00588, 0.0001, 1e-9].map(share_of);
        assert_eq!(told, ["0%", "100%", "53%", "10%", "2.9%", "1%", "0.59%", "0.01%", "0%"]);
    }

    #[test]
    fn failures_are_told_with_their_kinds() {
        let mut tally = Tally { requests: 340, ..Tally::default() };
        assert_eq!(failures_of(&tally), "0 of 340 requests (0%)");
        tally.failures = [8, 0, 0, 1, 0];
        assert_eq!(failures_of(&tally), "9 of 340 requests (2.6%: 8 status, 1 timeout)");
    }
}
