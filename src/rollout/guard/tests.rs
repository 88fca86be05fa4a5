use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::Quantiles;
use crate::model::bucket_of;

/// Failed with a status, of so many.
fn tally(failures: u64, requests: u64) -> Tally {
    Tally { requests, failures: [failures, 0, 0, 0, 0], ..Tally::default() }
}

/// Answers that each took so many milliseconds.
fn answers(latencies: &[(u64, u64)]) -> Tally {
    let mut tally = Tally::default();
    for (count, milliseconds) in latencies {
        tally.requests += count;
        tally.latencies.note(bucket_of(Duration::from_millis(*milliseconds)), *count);
    }
    tally
}

fn reason(guard: &Guard, old: &Tally, new: &Tally) -> String {
    match decide(guard, 3, old, new) {
        Verdict::Fail(why) => why,
        other => panic!("{other:?}"),
    }
}

fn quantiles<T>(p50: Option<T>, p95: Option<T>, p99: Option<T>) -> Quantiles<T> {
    Quantiles { p50, p95, p99 }
}

#[test]
fn a_version_that_fails_half_of_its_requests_is_out_within_some_ten() {
    let why = reason(&Guard::default(), &tally(2, 340), &tally(9, 17));
    assert_eq!(
        why,
        "it failed 9 of 17 requests (53%: 9 status), and what served before 2 of 340 requests (0.59%: 2 status); allowed is 1% more"
    );
    assert!(matches!(decide(&Guard::default(), 3, &tally(0, 60), &tally(3, 3)), Verdict::Fail(_)));
}

#[test]
fn a_few_unlucky_requests_fail_no_version() {
    let guard = Guard::default();
    assert_eq!(decide(&guard, 3, &tally(0, 20), &tally(1, 1)), Verdict::TooFew);
    assert_eq!(decide(&guard, 3, &tally(0, 40), &tally(2, 2)), Verdict::TooFew);
    assert_eq!(decide(&guard, 3, &tally(3, 1000), &tally(3, 50)), Verdict::Pass);
    assert_eq!(decide(&guard, 3, &tally(0, 0), &tally(0, 49)), Verdict::TooFew);
}

#[test]
fn quick_failures_are_not_held_against_slow_answers_that_are_still_on_their_way() {
    let old = tally(10, 1000);
    assert!(matches!(decide(&Guard::default(), 3, &old, &tally(4, 4)), Verdict::Fail(_)));
    let waiting = Tally { waiting: 200, ..tally(4, 4) };
    assert_eq!(decide(&Guard::default(), 3, &old, &waiting), Verdict::TooFew);
}

#[test]
fn what_hits_both_versions_is_not_the_new_ones_fault() {
    assert_eq!(decide(&Guard::default(), 3, &tally(9_500, 19_000), &tally(520, 1_000)), Verdict::Pass);
}

#[test]
fn without_an_old_version_to_compare_with_only_absolute_rules_judge() {
    let guard = Guard::default();
    assert_eq!(decide(&guard, 3, &tally(0, 0), &tally(1_000_000, 1_000_000)), Verdict::Pass);
    let guard = Guard { max_errors: Some(0.05), ..guard };
    assert_eq!(reason(&guard, &tally(0, 0), &tally(7, 9)), "it failed 7 of 9 requests (78%: 7 status); allowed is 5%");
    let slow = Guard { latency_ratio: quantiles(Some(1.0), None, None), more_errors: None, ..Guard::default() };
    assert_eq!(decide(&slow, 1, &Tally::default(), &answers(&[(10_000, 60_000)])), Verdict::Pass);
}

#[test]
fn an_absolute_latency_is_judged_at_the_edge_above_it() {
    let limit = quantiles(None, None, Some(Duration::from_millis(300)));
    let guard = Guard { more_errors: None, max_latency: limit, ..Guard::default() };
    // 327.68 ms is the next edge above.
    assert_eq!(decide(&guard, 3, &Tally::default(), &answers(&[(500, 320)])), Verdict::Pass);
    assert_eq!(
        reason(&guard, &Tally::default(), &answers(&[(90, 20), (10, 400)])),
        "its p99 is above 300ms: 10 of 100 answers took longer, allowed is 1%"
    );
    let far = quantiles(Some(Duration::from_hours(1)), None, None);
    let guard = Guard { max_latency: far, ..guard };
    assert_eq!(
        decide(&guard, 3, &Tally::default(), &answers(&[(500, 3_000_000)])),
        Verdict::Pass,
        "beyond the buckets"
    );
}

#[test]
fn a_version_is_too_slow_by_its_ratio_to_the_old_one() {
    let ratio = quantiles(None, None, Some(2.0));
    let guard = Guard { more_errors: None, latency_ratio: ratio, ..Guard::default() };
    let old = answers(&[(18_500, 10), (400, 50), (100, 100)]);
    assert_eq!(decide(&guard, 3, &old, &answers(&[(970, 10), (20, 50), (8, 100)])), Verdict::Pass);
    assert_eq!(decide(&guard, 3, &old, &answers(&[(970, 15), (22, 75), (8, 150)])), Verdict::Pass);
    assert_eq!(
        reason(&guard, &old, &answers(&[(900, 30), (60, 150), (40, 300)])),
        "its p99 is more than 2 times that of what served before: 40 of 1000 answers took longer than 163.84ms, and 100 of \
         19000 of what served before longer than 81.92ms"
    );
}

#[test]
fn evidence_tells_both_versions_and_where_their_rates_lie() {
    let Judgement { verdict, evidence } = judge(&Guard::default(), 3, &tally(2, 1140), &tally(0, 60));
    assert_eq!((verdict, evidence.verdict.as_str()), (Verdict::Pass, "pass"));
    assert_eq!(
        evidence.reason,
        "it failed 0 of 60 requests (0%), and what served before 2 of 1140 requests (0.18%: 2 status): within the rules"
    );
    assert!(evidence.new.interval.0 <= 0.0 && evidence.new.interval.1 < 0.2, "{:?}", evidence.new);
    assert!(evidence.old.interval.0 < 0.0018 && evidence.old.interval.1 < 0.02, "{:?}", evidence.old);
    assert_eq!((evidence.old.failures, evidence.old.kinds["status"]), (2, 2));
    let few = judge(&Guard::default(), 3, &tally(0, 100), &tally(0, 3)).evidence;
    assert_eq!(
        (few.verdict.as_str(), few.reason.as_str()),
        ("not enough requests", "3 of 50 requests so far, and nothing wrong in them")
    );
    assert_eq!(judge(&Guard::default(), 3, &answers(&[(9, 10)]), &answers(&[(9, 10)])).evidence.new.p99, Some(10.24));
}

#[test]
fn a_guard_without_rules_only_counts() {
    let guard = Guard { more_errors: None, ..Guard::default() };
    assert_eq!(decide(&guard, 0, &tally(0, 1000), &tally(1000, 1000)), Verdict::Pass);
}

fn guards() -> impl Strategy<Value = Guard> {
    let part = || prop::option::of(0.0..1.0f64);
    let ratio = || prop::option::of(1.0..1000.0f64);
    let limit = || prop::option::of((1u64..1 << 40).prop_map(Duration::from_micros));
    (1e-9..0.2f64, part(), part(), (ratio(), ratio(), ratio()), (limit(), limit(), limit())).prop_map(
        |(false_alarm, more_errors, max_errors, ratio, limit)| Guard {
            false_alarm,
            more_errors,
            max_errors,
            latency_ratio: quantiles(ratio.0, ratio.1, ratio.2),
            max_latency: quantiles(limit.0, limit.1, limit.2),
            ..Guard::default()
        },
    )
}

fn tallies() -> impl Strategy<Value = Tally> {
    let count = || prop_oneof![0u64..30, 0u64..5_000, 0u64..1_000_000_000_000];
    (count(), prop::array::uniform5(count()), prop::collection::vec((0usize..200, count()), 0..6)).prop_map(
        |(requests, failures, buckets)| {
            let mut tally = Tally { requests, failures, ..Tally::default() };
            for (bucket, count) in buckets {
                tally.latencies.note(bucket, count);
            }
            tally
        },
    )
}

proptest! {
    #[test]
    fn whatever_was_counted_and_configured_numbers_stay_numbers(
        guard in guards(), windows in prop_oneof![0usize..5, Just(usize::MAX)], old in tallies(), new in tallies(),
    ) {
        let Judgement { verdict, evidence } = judge(&guard, windows.min(1 << 40), &old, &new);
        prop_assert_eq!(&verdict, &decide(&guard, windows.min(1 << 40), &old, &new));
        for sample in [evidence.new, evidence.old] {
            let (low, high) = sample.interval;
            prop_assert!(0.0 <= low && low <= sample.rate && sample.rate <= high && high <= 1.0);
        }
    }

    #[test]
    fn a_version_that_does_as_the_old_one_is_never_sent_back(guard in guards(), all in tallies()) {
        let relative = Guard { max_errors: None, max_latency: Quantiles::default(), ..guard };
        prop_assert!(!matches!(decide(&relative, 3, &all, &all), Verdict::Fail(_)));
    }

    #[test]
    fn whoever_is_sent_back_would_be_with_more_failures_too(
        old in (0u64..500, 500u64..5_000), new in (0u64..200, 200u64..400), more in 1u64..50,
    ) {
        let (old, guard) = (tally(old.0, old.1), Guard::default());
        if let Verdict::Fail(_) = decide(&guard, 3, &old, &tally(new.0, new.1)) {
            let worse = tally((new.0 + more).min(new.1), new.1);
            prop_assert!(matches!(decide(&guard, 3, &old, &worse), Verdict::Fail(_)));
        }
    }
}
