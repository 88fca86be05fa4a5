//! Whole canaries in simulated time: traffic, the machine and the guard. The bench `guard` prints tables of it.

use std::collections::VecDeque;
use std::time::Duration;

use sluicegate::config::{Control, Guard, Step, Strategy};
use sluicegate::model::{BUCKETS, FailureKind, Share, Tally, Timestamp, bucket_of};
use sluicegate::rollout::guard::decide;
use sluicegate::rollout::{Action, Canary, Ejection, Ending, Event, Machine, Verdict, Wanted};

/// What comes in, and how both versions answer.
pub struct Release {
    /// Requests per second, for both versions.
    pub rate: f64,
    /// The part of them that the old version fails.
    pub base: f64,
    /// The part that the new version fails, from its request of this number on and from this share on.
    pub broken: f64,
    pub after: u64,
    pub from_share: Share,
    /// How long it takes to succeed, and to fail.
    pub delays: (Duration, Duration),
    /// How many times as long the new version's answers take; none: nobody counts latencies.
    pub slower: Option<f64>,
    pub guard: Guard,
}

impl Release {
    pub fn good(rate: f64, base: f64) -> Self {
        let (delays, guard) = ((Duration::ZERO, Duration::ZERO), Guard::default());
        Self { rate, base, broken: base, after: 0, from_share: Share::NONE, delays, slower: None, guard }
    }

    pub fn broken(rate: f64, base: f64, broken: f64) -> Self {
        Self { broken, ..Self::good(rate, base) }
    }
}

/// How a canary ended.
#[derive(Clone, Copy, Debug)]
pub struct End {
    pub rolled_back: bool,
    /// Since the first request that the new version got.
    pub time: Duration,
    /// Requests that the new version was given.
    pub requests: u64,
    /// Of those, failed ones.
    pub failures: u64,
}

/// A canary that is not through after this long is held for want of requests.
const LONGEST: u64 = 8 * 3600 * 1000;
/// The guard looks at least this often, in milliseconds, and whenever the new version failed.
const LOOK: f64 = 100.0;

const STEPS: [(u32, u64); 3] = [(500, 60), (2500, 120), (5000, 120)];

/// One version's requests: whether each fails, and how long it takes.
struct Stream {
    error: f64,
    until_failure: f64,
    latencies: Option<Vec<u8>>,
    tally: Tally,
}

impl Stream {
    fn new(error: f64, slower: Option<f64>, random: &mut fastrand::Rng) -> Self {
        let mut stream = Self { error, until_failure: 0.0, latencies: slower.map(latencies), tally: Tally::default() };
        stream.draw(random);
        stream
    }

    /// How many requests succeed before the next one that fails: geometric.
    fn draw(&mut self, random: &mut fastrand::Rng) {
        let uniform = 1.0 - random.f64();
        self.until_failure = if self.error >= 1.0 { 0.0 } else { (uniform.ln() / (-self.error).ln_1p()).floor() };
        if self.error <= 0.0 {
            self.until_failure = f64::INFINITY;
        }
    }

    /// So many more requests; how many of them failed.
    fn take(&mut self, requests: u64, random: &mut fastrand::Rng) -> u64 {
        let (mut left, mut failures) = (requests as f64, 0);
        while self.until_failure < left {
            left -= self.until_failure + 1.0;
            failures += 1;
            self.draw(random);
        }
        self.until_failure -= left;
        if let Some(latencies) = &self.latencies {
            for _ in failures..requests {
                self.tally.latencies.note(usize::from(latencies[random.usize(..latencies.len())]), 1);
            }
        }
        failures
    }

    fn count(&mut self, requests: u64, failures: u64) {
        self.tally.requests += requests;
        self.tally.failures[FailureKind::Status as usize] += failures;
    }
}

/// The buckets of latencies with a long tail, a log-normal with a median of 20 ms, of which any is as probable as any other.
fn latencies(slower: f64) -> Vec<u8> {
    let all = 1 << 14;
    let draw = |i: i32| {
        let normal = quantile_of_normal((f64::from(i) + 0.5) / f64::from(all));
        let seconds = 0.020 * (0.7 * normal).exp() * slower;
        bucket_of(Duration::from_secs_f64(seconds)).min(BUCKETS - 1) as u8
    };
    (0..all).map(draw).collect()
}

/// By halving, with the tail of Abramowitz & Stegun 26.2.17.
fn quantile_of_normal(part: f64) -> f64 {
    let below = |x: f64| {
        let t = 1.0 / (1.0 + 0.231_641_9 * x.abs());
        let poly =
            t * (0.319_381_530 + t * (-0.356_563_782 + t * (1.781_477_937 + t * (-1.821_255_978 + t * 1.330_274_429))));
        let tail = (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt() * poly;
        if x < 0.0 { tail } else { 1.0 - tail }
    };
    let (mut low, mut high) = (-8.0, 8.0);
    for _ in 0..40 {
        let middle = f64::midpoint(low, high);
        if below(middle) < part { low = middle } else { high = middle }
    }
    low
}

/// The machine, with an outside that does what it says at once.
struct Service {
    machine: Machine,
    now: Timestamp,
    /// When the machine wants a tick.
    wake: Option<Timestamp>,
    stepped: bool,
    ending: Option<Ending>,
}

impl Service {
    fn tell(&mut self, event: Event) {
        for action in self.machine.handle(event, self.now) {
            match action {
                Action::Join(node) => self.tell(Event::Health { node, healthy: true, detail: String::new() }),
                Action::Drain(node) => self.tell(Event::Drained { node }),
                Action::Stepped { .. } => self.stepped = true,
                Action::Ended { ending, .. } => self.ending = Some(ending),
                _ => {}
            }
        }
        self.wake = self.machine.deadline();
    }
}

fn wanted(version: &str, guard: &Guard) -> Wanted {
    let step = |(share, hold)| Step { share: Share(share), hold: Some(Duration::from_secs(hold)) };
    Wanted {
        release: version.into(),
        nodes: (0..4).map(|port| format!("{version}.example:500{port}").as_str().into()).collect(),
        strategy: Strategy::Canary,
        keep: Duration::ZERO,
        deadline: Duration::from_mins(1),
        serve_when_all_down: true,
        slow_start: Duration::ZERO,
        ejection: Ejection::default(),
        canary: Canary {
            steps: STEPS.map(step).to_vec(),
            guarded: true,
            asked: false,
            extend: guard.extend,
            pass_if_too_few: false,
        },
        control: Control::Run,
        surge: None,
        floor: None,
    }
}

/// One canary from its first request to its end.
pub fn run(release: &Release, random: &mut fastrand::Rng) -> End {
    let mut service =
        Service { machine: Machine::new(), now: Timestamp(1_000_000), wake: None, stepped: false, ending: None };
    service.tell(Event::Wanted(wanted("v1", &release.guard)));
    service.ending = None;
    service.tell(Event::Wanted(wanted("v2", &release.guard)));
    let began = service.now;

    let relative = release.slower.map(|_| 1.0);
    let mut old = Stream::new(release.base, relative, random);
    let mut new = Stream::new(release.base, release.slower, random);
    let (mut requests, mut failures) = (0, 0);
    // When outcomes that are not known yet will be.
    let (mut answers, mut errors) = (VecDeque::new(), VecDeque::new());
    // In milliseconds since it began, and in requests: `owed` is the old version's part of a request.
    let (mut clock, mut owed, mut looked) = (random.f64() * 1000.0 / release.rate, 0.0, 0.0);
    let mut share = Share::NONE;
    loop {
        service.now = began.plus(Duration::from_secs_f64(clock / 1000.0));
        if service.wake.is_some_and(|deadline| deadline <= service.now) {
            service.tell(Event::Tick);
        }
        if std::mem::take(&mut service.stepped) {
            share = service.machine.trial().map_or(Share::ALL, |trial| trial.share);
            (old.tally, new.tally) = (Tally::default(), Tally::default());
            looked = clock;
        }
        let over = service.ending.is_some() || share == Share::ALL || clock > LONGEST as f64;
        if over {
            let rolled_back = service.ending == Some(Ending::RolledBack);
            return End { rolled_back, time: Duration::from_secs_f64(clock / 1000.0), requests, failures };
        }
        // Shares are exact: between two requests to the new version come as many to the old one as its share asks for.
        let part = f64::from(share.0) / f64::from(Share::ALL.0);
        owed += (1.0 - part) / part;
        let others = owed.floor();
        owed -= others;
        let failed = old.take(others as u64, random);
        old.count(others as u64, failed);

        requests += 1;
        let error = if requests > release.after && share >= release.from_share { release.broken } else { release.base };
        if (error - new.error).abs() > 1e-12 {
            new.error = error;
            new.draw(random);
        }
        let failed = new.take(1, random);
        failures += failed;
        let (queue, delay) = match failed {
            0 => (&mut answers, release.delays.0),
            _ => (&mut errors, release.delays.1),
        };
        queue.push_back(clock + delay.as_secs_f64() * 1000.0);
        let mut news = false;
        for (failed, queue) in [(0, &mut answers), (1, &mut errors)] {
            while queue.front().is_some_and(|known| *known <= clock) {
                queue.pop_front();
                new.count(1, failed);
                news |= failed > 0;
            }
        }
        new.tally.waiting = (answers.len() + errors.len()) as u64;
        if news || clock - looked >= LOOK {
            looked = clock;
            let verdict = decide(&release.guard, STEPS.len(), &old.tally, &new.tally);
            let enough = service.machine.trial().is_some_and(|trial| trial.enough);
            if matches!(verdict, Verdict::Fail(_)) || (verdict == Verdict::Pass) != enough {
                service.tell(Event::Judged { version: "v2".into(), share, verdict });
            }
        }
        clock += 1000.0 / (release.rate * part);
    }
}

#[test]
fn good_releases_pass_and_broken_ones_are_sent_back_within_tens_of_requests() {
    let mut random = fastrand::Rng::with_seed(7);
    let mut ends =
        |release: &Release, runs: usize| -> Vec<End> { (0..runs).map(|_| run(release, &mut random)).collect() };
    for base in [0.0, 0.001, 0.01] {
        let alarms = ends(&Release::good(100.0, base), 40).iter().filter(|end| end.rolled_back).count();
        assert_eq!(alarms, 0, "at {base}: at 0.1% one in 25 seeds would have one");
        let mut broken = ends(&Release::broken(500.0, base, 0.5), 100);
        assert!(broken.iter().all(|end| end.rolled_back), "at {base}");
        broken.sort_by_key(|end| end.requests);
        let (median, p99) = (broken[50].requests, broken[98].requests);
        assert!(median <= 20 && p99 <= 60, "at {base}: {median} and {p99} requests");
        assert!(broken[98].failures < 20 && broken[98].time < Duration::from_secs(5), "{:?}", broken[98]);
    }
    assert!(ends(&Release::broken(500.0, 0.005, 0.05), 20).iter().all(|end| end.rolled_back));
    let slow = Guard {
        latency_ratio: sluicegate::config::Quantiles { p50: None, p95: None, p99: Some(1.5) },
        ..Guard::default()
    };
    let slow = Release { slower: Some(3.0), guard: slow, ..Release::good(500.0, 0.001) };
    assert!(ends(&slow, 10).iter().all(|end| end.rolled_back && end.requests < 1500));
}
