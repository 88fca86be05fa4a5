//! What a version on trial must keep to, each rule reduced to a rate: of requests that fail, or of answers that are slow.
//!
//! A quantile is a rate: p99 is at most 300 ms if at most 1% of the answers take longer (compare Howard & Ramdas 2022, "Sequential
//! estimation of quantiles with applications to A/B testing"). Latencies are counted in buckets, a fifth wide, so a limit is
//! taken as the next edge of a bucket *above* it: in favour of the version on trial.

use std::time::Duration;

use super::evidence::{failures_of, quantile_name, share_of};
use super::sequential::{Count, above, above_other, below};
use crate::config::Guard;
use crate::model::{BUCKETS, Latencies, Tally, upper_edge};

/// One rule that is on.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Rule {
    /// Its failures are above the old version's by at most this.
    MoreErrors(f64),
    /// Its failures are at most this.
    MaxErrors(f64),
    /// This quantile of its latencies is at most that.
    MaxLatency(f64, Duration),
    /// This quantile is at most so many times the old version's.
    LatencyRatio(f64, f64),
}

fn rules(guard: &Guard) -> impl Iterator<Item = Rule> {
    let errors = [guard.more_errors.map(Rule::MoreErrors), guard.max_errors.map(Rule::MaxErrors)];
    let absolute = guard.max_latency.given().map(|(quantile, limit)| Rule::MaxLatency(quantile, limit));
    let relative = guard.latency_ratio.given().map(|(quantile, ratio)| Rule::LatencyRatio(quantile, ratio));
    errors.into_iter().flatten().chain(absolute).chain(relative)
}

/// The error that each rule may make in each window, so that all of them together make at most `false_alarm`.
pub(super) fn alpha(guard: &Guard, windows: usize) -> f64 {
    let parts = rules(guard).count().max(1) * windows.max(1);
    (guard.false_alarm / parts as f64).clamp(f64::MIN_POSITIVE, 1.0)
}

/// Which rule is broken, in words for people; the first one, if several are.
pub(super) fn broken(guard: &Guard, windows: usize, old: &Tally, new: &Tally) -> Option<String> {
    let enough = (1.0 / alpha(guard, windows)).ln();
    rules(guard).find_map(|rule| rule.broken(old, new, enough))
}

impl Rule {
    fn broken(self, old: &Tally, new: &Tally, enough: f64) -> Option<String> {
        match self {
            Self::MoreErrors(more) => (above_other(failed(old), sent(new), more, enough) >= enough).then(|| {
                format!(
                    "it failed {}, and what served before {}; allowed is {} more",
                    failures_of(new),
                    failures_of(old),
                    share_of(more)
                )
            }),
            Self::MaxErrors(most) => exceeds(sent(new), most, enough)
                .then(|| format!("it failed {}; allowed is {}", failures_of(new), share_of(most))),
            Self::MaxLatency(quantile, limit) => {
                let slow = slower(&new.latencies, first_edge_from(limit));
                exceeds(slow, 1.0 - quantile, enough).then(|| {
                    format!(
                        "its {} is above {limit:?}: {} of {} answers took longer, allowed is {}",
                        quantile_name(quantile),
                        slow.hits,
                        slow.all,
                        share_of(1.0 - quantile)
                    )
                })
            }
            Self::LatencyRatio(quantile, ratio) => {
                let (old_edge, new_edge) = slower_by(&old.latencies, &new.latencies, quantile, ratio, enough)?;
                let (was, is) = (slower(&old.latencies, Some(old_edge)), slower(&new.latencies, Some(new_edge)));
                Some(format!(
                    "its {} is more than {ratio} times that of what served before: {} of {} answers took longer than {:?}, and {} of \
                     {} of what served before longer than {:?}",
                    quantile_name(quantile),
                    is.hits,
                    is.all,
                    upper_edge(new_edge).unwrap_or_default(),
                    was.hits,
                    was.all,
                    upper_edge(old_edge).unwrap_or_default()
                ))
            }
        }
    }
}

/// Whether the rate is above `limit` beyond doubt. What is not above it at all is cheap to see.
fn exceeds(count: Count, limit: f64, enough: f64) -> bool {
    count.rate() > limit && above(count, limit) >= enough
}

fn failed(tally: &Tally) -> Count {
    let hits = tally.failures.iter().fold(0u64, |sum, kind| sum.saturating_add(*kind));
    // Counters are read one after the other while they grow.
    Count { hits, all: tally.requests.max(hits) }
}

/// The same of all that were sent. A window begins empty, and where failures are quicker than answers, the first outcomes are
/// failures: as long as nothing else is known, what waits counts as if it went well.
fn sent(tally: &Tally) -> Count {
    let known = failed(tally);
    Count { all: known.all.saturating_add(tally.waiting), ..known }
}

/// Answers that took longer than the upper edge of this bucket; none did if there is no such edge.
fn slower(latencies: &Latencies, bucket: Option<usize>) -> Count {
    Count { hits: bucket.map_or(0, |bucket| latencies.above(bucket)), all: latencies.total() }
}

/// The first bucket that ends at this latency or above.
fn first_edge_from(latency: Duration) -> Option<usize> {
    (0..BUCKETS).find(|bucket| upper_edge(*bucket).is_some_and(|edge| edge >= latency))
}

/// Whether the quantile of `new` is above `ratio` times that of `old`; answers where this shows, as buckets.
///
/// Whatever bucket the true quantile of the old version lies in: at least `1 - quantile` of its answers do not end below that bucket, and
/// if the rule is kept, at most as many of the new one's take longer than `ratio` times its upper edge. So for each bucket the two
/// bettors of [`above_other`] play against these rates, and the least product counts.
fn slower_by(old: &Latencies, new: &Latencies, quantile: f64, ratio: f64, enough: f64) -> Option<(usize, usize)> {
    let rate = 1.0 - quantile;
    let product = |bucket: usize| {
        let not_below =
            Count { hits: bucket.checked_sub(1).map_or(old.total(), |before| old.above(before)), all: old.total() };
        let edge = upper_edge(bucket).and_then(|edge| first_edge_from(edge.mul_f64(ratio)));
        (below(not_below, rate) + above(slower(new, edge), rate), edge)
    };
    // Where the old version's quantile seems to be, a good one shows already that nothing is wrong.
    let likely = old.quantile(quantile)?;
    let edge = upper_edge(likely).and_then(|edge| first_edge_from(edge.mul_f64(ratio)));
    if slower(new, edge).rate() <= rate || product(likely).0 < enough {
        return None;
    }
    let mut least = (f64::INFINITY, None);
    for bucket in 0..BUCKETS {
        let (here, edge) = product(bucket);
        if here < enough {
            return None;
        }
        if here < least.0 {
            least = (here, Some((bucket, edge.unwrap_or(BUCKETS - 1))));
        }
    }
    least.1
}
