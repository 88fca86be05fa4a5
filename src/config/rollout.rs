//! How a new version takes over: `[service.NAME.rollout]`, and what judges it on the way, in `rollout.guard`.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::Fault;
use super::file::misplaced;
use super::judges::{Events, Judge, events, judges};
use super::reader::{At, Table};
use super::units::{self, shorten};
use super::words;
use crate::model::{FailureKind, Share};

/// A canary has at most so many steps: more would not be looked at by anybody.
const MOST_STEPS: usize = 100;

/// How a new version takes over.
#[derive(Clone, Debug, PartialEq)]
pub struct Rollout {
    /// The way.
    pub strategy: Strategy,
    /// Canary: the shares that the new version gets on its way to all; each is more than the one before.
    pub steps: Vec<Step>,
    /// How long the old version stays warm after it gave up its share, ready to go back to.
    pub keep: Duration,
    /// The new version is refused if it is not healthy after this long.
    pub deadline: Duration,
    /// Rolling: nodes that may serve at once beyond as many as served before, or as shall serve if that is more; without a limit if none.
    pub surge: Option<usize>,
    /// Rolling: healthy nodes that go on serving; as many as served before if none, and never more than that.
    pub floor: Option<usize>,
    /// What an operator wants of the rollout in progress.
    pub control: Control,
    /// Which requests that a version on trial fails are answered by the old version.
    pub shield: Option<Shield>,
    /// What judges a version on trial.
    pub guard: Guard,
    /// Who is told what happens.
    pub events: Option<Events>,
}

impl Rollout {
    /// Which failed requests of a version on trial the old one answers, under the strategy.
    pub fn shields(&self) -> Shield {
        self.shield.unwrap_or(match self.strategy {
            Strategy::Canary => Shield::Safe,
            Strategy::Rolling | Strategy::BlueGreen => Shield::Off,
        })
    }
}

/// The way from one version to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Each new node that becomes healthy takes the place of an old one.
    Rolling,
    /// Traffic follows steps, each held and guarded.
    Canary,
    /// All new nodes become healthy, then everything moves in one swap.
    BlueGreen,
}

impl Strategy {
    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rolling => "rolling",
            Self::Canary => "canary",
            Self::BlueGreen => "blue-green",
        }
    }
}

/// One step of a canary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The new version's part of the traffic.
    pub share: Share,
    /// How long; none: until somebody promotes it.
    pub hold: Option<Duration>,
}

/// What an operator wants of the rollout in progress: a level, not an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Control {
    /// It goes its way.
    #[default]
    Run,
    /// It stays at its step.
    Pause,
    /// It takes each further step as soon as the nodes allow.
    Promote,
    /// It goes back.
    Abort,
}

/// Which requests that a version on trial fails are answered by the old version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shield {
    /// None.
    Off,
    /// Those that change nothing: GET, HEAD, OPTIONS.
    Safe,
    /// Those that may run twice, PUT and DELETE and what has an `Idempotency-Key` too, if their bodies are held.
    Idempotent,
}

/// What judges a version on trial: `[service.NAME.rollout.guard]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Guard {
    /// The probability that a version as good as the old one is sent back, over the whole rollout (0.001 is 0.1%).
    pub false_alarm: f64,
    /// Requests that the new version must have answered before a step passes.
    pub min_requests: u64,
    /// A step with fewer is prolonged by up to this.
    pub extend: Duration,
    /// And then?
    pub too_few: TooFew,
    /// Which statuses count as failures.
    pub status: Vec<RangeInclusive<u16>>,
    /// Which other kinds do.
    pub count: Vec<FailureKind>,
    /// The new version's part of failures may be above the old one's by this (0.01 is one percent of all requests). Off if none.
    pub more_errors: Option<f64>,
    /// It may not be above this, whatever the old one's is. Off if none.
    pub max_errors: Option<f64>,
    /// Its latencies may not be above these.
    pub max_latency: Quantiles<Duration>,
    /// Its latencies may be so many times those of the old version.
    pub latency_ratio: Quantiles<f64>,
    /// A request that a version, old or new, has not begun to answer after this long counts as timed out, whatever becomes of it;
    /// the shield then asks the old version. None: `timeouts.response` decides.
    pub patience: Option<Duration>,
    /// Who else is asked while a step holds.
    pub judges: Vec<Judge>,
}

/// What becomes of a step that had too few requests to be judged, even when it was prolonged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TooFew {
    /// It is held until there are enough, or somebody promotes it.
    Hold,
    /// It passes.
    Pass,
}

/// One value for each quantile that is judged; those without are not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quantiles<T> {
    /// Of the median.
    pub p50: Option<T>,
    /// Of the 95th percentile.
    pub p95: Option<T>,
    /// Of the 99th percentile.
    pub p99: Option<T>,
}

impl<T: Copy> Quantiles<T> {
    /// Those that are judged, with their quantile as a part of one.
    pub fn given(&self) -> impl Iterator<Item = (f64, T)> {
        [(0.5, self.p50), (0.95, self.p95), (0.99, self.p99)]
            .into_iter()
            .filter_map(|(quantile, value)| Some((quantile, value?)))
    }
}

impl Guard {
    /// Whether anything is ever judged.
    pub fn is_on(&self) -> bool {
        self.more_errors.is_some()
            || self.max_errors.is_some()
            || self.max_latency.given().next().is_some()
            || self.latency_ratio.given().next().is_some()
            || !self.judges.is_empty()
    }

    /// Whether an answer with this status is a failure.
    pub fn fails(&self, status: u16) -> bool {
        self.status.iter().any(|range| range.contains(&status))
    }
}

impl Default for Rollout {
    fn default() -> Self {
        Self {
            strategy: Strategy::Rolling,
            steps: vec![
                Step { share: Share(500), hold: Some(Duration::from_mins(1)) },
                Step { share: Share(2500), hold: Some(Duration::from_mins(2)) },
                Step { share: Share(5000), hold: Some(Duration::from_mins(2)) },
            ],
            keep: Duration::from_secs(30),
            deadline: Duration::from_mins(1),
            surge: None,
            floor: None,
            control: Control::Run,
            shield: None,
            guard: Guard::default(),
            events: None,
        }
    }
}

impl Default for Guard {
    fn default() -> Self {
        Self {
            false_alarm: 0.001,
            min_requests: 50,
            extend: Duration::from_mins(2),
            too_few: TooFew::Hold,
            status: vec![500..=599],
            count: FailureKind::ALL.into_iter().filter(|kind| *kind != FailureKind::Status).collect(),
            more_errors: Some(0.01),
            max_errors: None,
            max_latency: Quantiles { p50: None, p95: None, p99: None },
            latency_ratio: Quantiles { p50: None, p95: None, p99: None },
            judges: Vec::new(),
            patience: Some(Duration::from_secs(10)),
        }
    }
}

pub(super) fn rollout(table: Option<Table<'_>>) -> Rollout {
    let d = Rollout::default();
    let Some(mut t) = table else { return d };
    let strategies = [Strategy::Rolling, Strategy::Canary, Strategy::BlueGreen].map(|way| (way.as_str(), way));
    let controls =
        [("run", Control::Run), ("pause", Control::Pause), ("promote", Control::Promote), ("abort", Control::Abort)];
    let shields = [("off", Shield::Off), ("safe", Shield::Safe), ("idempotent", Shield::Idempotent)];
    let shields = shields.map(|(word, shield)| (word, Some(shield)));
    let rollout = Rollout {
        strategy: t.choice("strategy", d.strategy, &strategies, |_| None),
        steps: steps(&mut t).unwrap_or(d.steps),
        keep: t.duration("keep", d.keep),
        deadline: t.some_duration("deadline", d.deadline),
        surge: t.count("surge", 1..=1_000_000).get().map(|at| at.value),
        floor: t.count("floor", 1..=1_000_000).get().map(|at| at.value),
        control: t.choice("control", d.control, &controls, |_| None),
        shield: t.choice("shield", d.shield, &shields, |_| None),
        guard: guard(t.table("guard", "service.*.rollout.guard")),
        events: t.table("events", "service.*.rollout.events").and_then(events),
    };
    t.finish(misplaced);
    rollout
}

fn steps(t: &mut Table<'_>) -> Option<Vec<Step>> {
    let at = t.span.clone();
    let written = t.tables("steps", "service.*.rollout.steps");
    if written.is_empty() {
        return None;
    }
    if written.len() > MOST_STEPS {
        t.findings().add(&at, Fault::new(format!("a canary has at most {MOST_STEPS} steps")));
    }
    let mut before = None;
    let steps = written.into_iter().filter_map(|mut t| {
        let share = t.string("share");
        if share.is_missing() {
            let fault = Fault::new("this step has no `share`").hint("write one like { share = \"5%\", hold = \"1m\" }");
            t.findings().add(&t.span, fault);
        }
        let share = share.get().and_then(|at| checked(at, &t, share_of).map(|share| (share, at.span.clone())));
        let hold = t.string("hold").get().and_then(|at| checked(at, &t, hold_of)).unwrap_or(Some(Duration::ZERO));
        let step = share.map(|(share, span)| {
            if before.is_some_and(|before| share <= before) {
                let fault = Fault::new(format!("this step's share is not more than the one before ({share})"));
                t.findings().add(&span, fault.hint("a version's share only grows; to go back, abort the rollout"));
            }
            before = Some(share);
            Step { share, hold }
        });
        t.finish(misplaced);
        step
    });
    Some(steps.collect())
}

fn checked<T>(at: &At<&str>, t: &Table<'_>, parse: impl Fn(&str) -> Result<T, Fault>) -> Option<T> {
    parse(at.value).map_err(|fault| t.findings().add(&at.span, fault)).ok()
}

pub(super) fn share_of(text: &str) -> Result<Share, Fault> {
    let part = units::percent(text)?;
    let share = (part * f64::from(Share::ALL.0)).round();
    if (share / f64::from(Share::ALL.0) - part).abs() > 1e-9 {
        return Err(Fault::new("a share has at most two decimals, like \"0.25%\""));
    }
    Ok(Share(share as u32))
}

fn hold_of(text: &str) -> Result<Option<Duration>, Fault> {
    if text == "manual" {
        return Ok(None);
    }
    units::duration(text).map(Some).map_err(|fault| fault.hint("write a time like \"1m\", or \"manual\""))
}

fn guard(table: Option<Table<'_>>) -> Guard {
    let d = Guard::default();
    let Some(mut t) = table else { return d };
    let false_alarm = t.some_percent("false_alarm", 0.2).get().map_or(d.false_alarm, |at| at.value);
    let (status, count) = match t.numbers_or_strings("errors", "`errors` is empty: nothing would ever count").get() {
        Some(list) => {
            let (mut status, mut count) = (Vec::new(), Vec::new());
            for at in &list.value {
                match FailureKind::ALL.into_iter().find(|kind| kind.as_str() == at.value) {
                    Some(kind) if kind != FailureKind::Status => count.push(kind),
                    _ => status.extend(checked(at, &t, error_of)),
                }
            }
            (status, count)
        }
        None => (d.status, d.count),
    };
    let more_errors = optional(&mut t, "more_errors", d.more_errors, |text| part_of(text, 1.0));
    let guard = Guard {
        false_alarm,
        min_requests: t.count_or("min_requests", d.min_requests as usize, 1..=1_000_000_000) as u64,
        extend: t.duration("extend", d.extend),
        too_few: t.choice("too_few", d.too_few, &[("hold", TooFew::Hold), ("pass", TooFew::Pass)], |_| None),
        status,
        count,
        more_errors,
        max_errors: optional(&mut t, "max_errors", d.max_errors, |text| part_of(text, 1.0)),
        max_latency: quantiles(t.table("max_latency", "service.*.rollout.guard.max_latency"), &|text| {
            units::duration(text).and_then(|limit| if limit.is_zero() { Err(nothing()) } else { Ok(limit) })
        }),
        latency_ratio: quantiles(t.table("latency_ratio", "service.*.rollout.guard.latency_ratio"), &ratio_of),
        patience: optional(&mut t, "patience", d.patience, |text| match units::duration(text)? {
            Duration::ZERO => Err(nothing()),
            patience => Ok(patience),
        }),
        judges: judges(&mut t),
    };
    t.finish(misplaced);
    guard
}

fn nothing() -> Fault {
    Fault::new("this must be more than zero")
}

/// A value that `"off"` switches off.
fn optional<T: Copy>(
    t: &mut Table<'_>,
    key: &'static str,
    default: Option<T>,
    parse: impl Fn(&str) -> Result<T, Fault>,
) -> Option<T> {
    let field = t.string(key);
    match field.get() {
        Some(at) if at.value == "off" => None,
        Some(at) => checked(at, t, parse).or(default),
        None => default,
    }
}

fn quantiles<T: Copy>(table: Option<Table<'_>>, parse: &dyn Fn(&str) -> Result<T, Fault>) -> Quantiles<T> {
    let Some(mut t) = table else {
        return Quantiles { p50: None, p95: None, p99: None };
    };
    let quantiles = Quantiles {
        p50: optional(&mut t, "p50", None, parse),
        p95: optional(&mut t, "p95", None, parse),
        p99: optional(&mut t, "p99", None, parse),
    };
    t.finish(misplaced);
    quantiles
}

fn part_of(text: &str, most: f64) -> Result<f64, Fault> {
    match units::percent(text)? {
        part if part < most => Ok(part),
        _ => Err(Fault::new(format!("this must be below {}%", most * 100.0))),
    }
}

/// `"1.5x"`: at least as long, at most a thousand times.
fn ratio_of(text: &str) -> Result<f64, Fault> {
    let fault = || {
        Fault::new(format!("`{}` is not a ratio", shorten(text)))
            .hint("write one from \"1x\" to \"1000x\", like \"1.5x\"")
    };
    let ratio = text.strip_suffix('x').and_then(|number| number.parse::<f64>().ok()).ok_or_else(fault)?;
    if (1.0..=1000.0).contains(&ratio) { Ok(ratio) } else { Err(fault()) }
}

fn error_of(text: &str) -> Result<RangeInclusive<u16>, Fault> {
    if text == "5xx" {
        return Ok(500..=599);
    }
    words::status(text).map_err(|fault| {
        fault.hint("write \"5xx\", a status, a range like \"500-504\", or one of connect, reset, timeout, truncated")
    })
}
