//! Tests of failure rates that may be looked at after every request, as often as one likes: *test martingales*.
//!
//! Think of a bettor who starts with 1 and, before each request, bets at fair odds on how it will end, if it fails with
//! probability `q`. Bets on failure at an odds ratio of `r` multiply what he has by `r / (1 + q(r-1))` when it fails, and by
//! `1 / (1 + q(r-1))` when it does not: after `k` failures of `n` he has `r^k / (1 + q(r-1))^n`. Odds are fair, so the
//! probability that he *ever* has more than `1/α` is at most `α`, however long he plays (Ville 1939; Robbins 1970, "Statistical
//! methods related to the law of the iterated logarithm"; a fixed `r` is Wald's likelihood ratio, 1945). He who becomes
//! rich has shown that the odds were wrong: that requests fail more than by `q`. We do not know which `r` wins, so the money is
//! spread over a grid of them (the method of mixtures, as in Howard, Ramdas, McAuliffe & Sekhon 2021, "Time-uniform,
//! nonparametric, nonasymptotic confidence sequences", and Johari, Koomen, Pekelis & Walsh 2022, "Always valid inference").
//!
//! Why a grid of odds ratios, and not a Beta prior over rates: `log(1 + q(r-1))` is concave in `q`. So the bound holds for
//! the *average* of the requests' probabilities so far, each of which may depend on everything before it. A database that
//! stumbles for five seconds hits both versions, and breaks no assumption (compare Waudby-Smith & Ramdas 2024, "Estimating means
//! of bounded random variables by betting"). And every function here is monotone in its counts and in `q`, with no special cases.

/// Failures of so many requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Count {
    /// Those that failed, or were slow.
    pub(super) hits: u64,
    /// All of them.
    pub(super) all: u64,
}

impl Count {
    /// The part that failed; 0 of none.
    pub(super) fn rate(self) -> f64 {
        if self.all == 0 { 0.0 } else { self.hits as f64 / self.all as f64 }
    }
}

/// An odds ratio, and the part of the money that bets on it.
type Bet = (f64, f64);

/// Bets that the rate is above. Half of it expects something badly broken (odds ratios from 8 on: half of the answers fail where
/// 1% did is 99), so that this is found within some ten requests; the rest looks for what needs some hundreds anyway, and
/// gives up little by having less. What is kept back (a ratio of 1) bounds what this side can lose while the other one wins.
const ABOVE: [Bet; 12] = [
    (1.0, 0.06),
    (1.03, 0.02),
    (1.1, 0.03),
    (1.25, 0.05),
    (1.6, 0.10),
    (2.3, 0.12),
    (4.0, 0.12),
    (8.0, 0.12),
    (20.0, 0.16),
    (60.0, 0.13),
    (250.0, 0.06),
    (2000.0, 0.03),
];

/// Bets that the rate is below: on the old version. It seldom fails at all, and then the least ratio serves best.
const BELOW: [Bet; 8] =
    [(1.0, 0.20), (0.97, 0.05), (0.9, 0.07), (0.75, 0.09), (0.5, 0.12), (0.25, 0.12), (0.1, 0.15), (0.02, 0.20)];

/// The logarithm of what bets have become if the rate was `q` on average, and its slope over `q`. Convex in `q`.
fn fortune(bets: &[Bet], count: Count, q: f64) -> (f64, f64) {
    let (hits, all) = (count.hits as f64, count.all as f64);
    let one = |(ratio, part): &Bet| {
        let per_request = q.mul_add(ratio - 1.0, 1.0);
        let log = part.ln() + hits * ratio.ln() - all * (q * (ratio - 1.0)).ln_1p();
        (log, -all * (ratio - 1.0) / per_request)
    };
    let most = bets.iter().map(|bet| one(bet).0).fold(f64::NEG_INFINITY, f64::max);
    let (mut sum, mut slope) = (0.0, 0.0);
    for (log, steep) in bets.iter().map(one) {
        let part = (log - most).exp();
        sum += part;
        slope += part * steep;
    }
    (most + sum.ln(), slope / sum)
}

/// How strong the evidence is that the rate is above `q`, as a logarithm. Decreasing in `q`.
///
/// The probability that this ever reaches `ln(1/α)`, although the average rate is at most `q` at each moment, is at most `α`.
pub(super) fn above(count: Count, q: f64) -> f64 {
    fortune(&ABOVE, count, q).0
}

/// The same for a rate below `q`. Increasing in `q`.
pub(super) fn below(count: Count, q: f64) -> f64 {
    fortune(&BELOW, count, q).0
}

/// How strong the evidence is that the rate of `new` is above that of `old` by more than `more`, as a logarithm. Stops as soon as it
/// is certain to be less than `enough`, and may then give any number less than that.
///
/// If the truth is that `old` fails by some `q` on average and `new` by at most `q + more`, then the product of the two bettors'
/// fortunes against these rates is a test martingale too. Nobody knows `q`, so the least product over all of them counts: it is never
/// above the true one. This is universal inference (Wasserman, Ramdas & Balakrishnan 2020) with a mixture for a numerator. An upper
/// bound for `old` and a test against it, at half the error each, would need 1.3 to 2 times as many requests.
pub(super) fn above_other(old: Count, new: Count, more: f64, enough: f64) -> f64 {
    // At the old version's own rate both have lost: it is as good as that, which is cheap to see.
    if enough > 0.0 && new.rate() <= old.rate() + more {
        return 0.0;
    }
    let most = (1.0 - more).max(0.0);
    let product = |q: f64| {
        let ((one, one_slope), (other, other_slope)) =
            (fortune(&BELOW, old, q), fortune(&ABOVE, new, (q + more).min(1.0)));
        (one + other, one_slope + other_slope)
    };
    // A version that is only a little worse is let go here.
    let mut least = product(old.rate().min(most)).0;
    let (mut low, mut high) = (0.0, most);
    for _ in 0..HALVINGS {
        if least < enough {
            break;
        }
        let middle = f64::midpoint(low, high);
        let (here, slope) = product(middle);
        least = least.min(here);
        if slope > 0.0 {
            high = middle;
        } else {
            low = middle;
        }
    }
    least
}

/// Where the average rate lies, with an error of at most `alpha` over all the times one looks: a confidence sequence.
pub(super) fn interval(count: Count, alpha: f64) -> (f64, f64) {
    let enough = (2.0 / alpha).ln();
    let rate = count.rate();
    // Both are outside on one side of the bound, and inside, at the rate itself, on the other.
    let bound = |mut outside: f64, evidence: fn(Count, f64) -> f64| {
        if evidence(count, outside) < enough {
            return outside;
        }
        let mut inside = rate;
        for _ in 0..HALVINGS {
            let middle = f64::midpoint(outside, inside);
            if evidence(count, middle) < enough {
                inside = middle;
            } else {
                outside = middle;
            }
        }
        outside
    };
    (bound(0.0, above), bound(1.0, below))
}

/// A rate is then known to a part in 10^12.
const HALVINGS: u32 = 40;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn count(hits: u64, all: u64) -> Count {
        Count { hits, all }
    }

    #[test]
    fn a_bettor_starts_with_one_and_spends_all_of_it() {
        for bets in [&ABOVE[..], &BELOW[..]] {
            assert!((bets.iter().map(|(_, part)| part).sum::<f64>() - 1.0).abs() < 1e-12);
            for q in [0.0, 0.3, 1.0] {
                assert!(fortune(bets, count(0, 0), q).0.abs() < 1e-12);
            }
        }
    }

    /// The sum over all outcomes of `n` requests of their probability times what the bets have become.
    fn expected(bets: &[Bet], all: u64, rate: f64, q: f64) -> f64 {
        let choose = |hits: u64| (1..=hits).map(|i| ((all - hits + i) as f64 / i as f64).ln()).sum::<f64>();
        let outcome = |hits: u64| {
            let log = choose(hits) + hits as f64 * rate.ln() + (all - hits) as f64 * (1.0 - rate).ln();
            (log + fortune(bets, count(hits, all), q).0).exp()
        };
        (0..=all).map(outcome).sum()
    }

    #[test]
    fn the_odds_are_fair_at_the_rate_in_question_and_against_the_bettor_on_its_safe_side() {
        for all in [1, 7, 60] {
            for q in [0.003, 0.1, 0.6] {
                for bets in [&ABOVE[..], &BELOW[..]] {
                    assert!((expected(bets, all, q, q) - 1.0).abs() < 1e-9);
                }
                assert!(expected(&ABOVE, all, q * 0.7, q) < 1.0);
                assert!(expected(&BELOW, all, q * 1.4, q) < 1.0);
            }
        }
    }

    #[test]
    fn numbers_stay_numbers_at_the_extremes() {
        for all in [0, 1, 1_000_000_000_000, u64::MAX / 2] {
            for hits in [0, all / 3, all] {
                let it = count(hits, all);
                for q in [0.0, 1e-300, 0.5, 1.0] {
                    assert!(above(it, q).is_finite() && below(it, q).is_finite(), "{it:?} {q}");
                    for more in [0.0, 0.5, 1.0, 7.0] {
                        assert!(above_other(it, count(all - hits, all), more, -1e300).is_finite());
                    }
                }
                for alpha in [1e-300, 0.001, 1.0] {
                    let (low, high) = interval(it, alpha);
                    assert!(0.0 <= low && low <= it.rate() && it.rate() <= high && high <= 1.0, "{it:?} {low} {high}");
                }
            }
        }
    }

    #[test]
    fn an_interval_closes_in_on_the_rate() {
        assert_eq!(interval(count(0, 0), 0.001), (0.0, 1.0));
        let (low, high) = interval(count(500, 10_000), 0.001);
        assert!(low > 0.038 && low < 0.05 && high > 0.05 && high < 0.063, "{low} {high}");
        assert!(interval(count(0, 400), 0.001).0 <= 0.0);
        assert!(interval(count(0, 400), 0.001).1 < 0.03);
    }

    proptest! {
        #[test]
        fn more_failures_are_more_evidence_and_a_higher_bar_is_less(
            (hits, all) in (0u64..5000).prop_flat_map(|all| (0..=all, Just(all))), q in 0.0..1.0f64,
        ) {
            let it = count(hits, all);
            if hits < all {
                prop_assert!(above(count(hits + 1, all), q) >= above(it, q));
                prop_assert!(below(count(hits + 1, all), q) <= below(it, q));
            }
            prop_assert!(above(it, (q + 0.01).min(1.0)) <= above(it, q) + 1e-9);
            prop_assert!(below(it, (q + 0.01).min(1.0)) >= below(it, q) - 1e-9);
            if it.rate() <= q {
                prop_assert!(above(it, q) <= 1e-9, "no evidence above where fewer fail");
            } else {
                prop_assert!(below(it, q) <= 1e-9);
            }
        }

        #[test]
        fn the_least_product_is_found(
            (old_hits, old) in (0u64..3000).prop_flat_map(|all| (0..=all, Just(all))),
            (new_hits, new) in (0u64..3000).prop_flat_map(|all| (0..=all, Just(all))),
            more in 0.0..0.2f64,
        ) {
            let (old, new) = (count(old_hits, old), count(new_hits, new));
            let found = above_other(old, new, more, f64::NEG_INFINITY);
            let tried = (0..=1000).map(|i| {
                let q = f64::from(i) / 1000.0 * (1.0 - more);
                below(old, q) + above(new, q + more)
            });
            let least = tried.fold(f64::INFINITY, f64::min);
            prop_assert!(found <= least + 1e-6, "{} {}", found, least);
            if new.rate() <= old.rate() + more || old.all == 0 {
                prop_assert!(found <= 1e-9, "nothing speaks against it: {}", found);
            }
        }
    }
}
