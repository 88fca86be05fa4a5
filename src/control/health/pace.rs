//! When a node is probed.
//!
//! | the node | pause to the next probe |
//! |---|---|
//! | joins: no verdict yet | the interval, but at most 250 ms: a deploy waits for it |
//! | has a verdict for the first time | a random part of the interval, so that nodes that joined together part |
//! | otherwise | the interval, ±10 % |
//! | the data plane could not connect to it | none, then a quarter of the interval (at least 50 ms) until it passes or falls |
//!
//! A routine failure is not followed up faster: `fall` times `interval` is how long an operator lets a node be away.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{Instant, sleep_until};

use super::{Target, Verdict, probe};
use crate::api::ProbeReport;
use crate::config::{Health, Service};
use crate::model::Timestamp;

/// The longest pause of a node that joins.
const JOINING: Duration = Duration::from_millis(250);

/// The shortest pause after an alarm.
const ALARMED: Duration = Duration::from_millis(50);

const ROUTINE_LANES: usize = 256;
const URGENT_LANES: usize = 128;

/// Probes at once, over all nodes: thirty thousand nodes must not burst, nor use up the descriptors.
static ROUTINE: Semaphore = Semaphore::const_new(ROUTINE_LANES);

/// The same for nodes that join or are under alarm, so that they do not stand in line behind a data centre that does not
/// answer.
static URGENT: Semaphore = Semaphore::const_new(URGENT_LANES);

/// Probes one node until it is dropped. Calls `report` with every result and, if it changed, the verdict.
///
/// `initially` is what is known of the node: nothing when it joins. `settings` are read before every probe, and a shorter
/// interval counts at once; the verdict stays. `alarm` is notified when the data plane could not connect to the node.
pub async fn watch_node(
    node: Target,
    initially: Option<bool>,
    settings: watch::Receiver<Arc<Service>>,
    alarm: Arc<Notify>,
    report: impl FnMut(ProbeReport, Option<bool>),
) {
    run(initially, settings, alarm, node, report).await;
}

/// Makes one probe. A trait, so that the loop can be tested without a network.
pub(super) trait Ask {
    async fn ask(&self, health: &Health) -> ProbeReport;
}

impl Ask for Target {
    async fn ask(&self, health: &Health) -> ProbeReport {
        probe(self, health, wall_clock).await
    }
}

/// The loop.
pub(super) async fn run(
    initially: Option<bool>,
    mut settings: watch::Receiver<Arc<Service>>,
    alarm: Arc<Notify>,
    node: impl Ask,
    mut report: impl FnMut(ProbeReport, Option<bool>),
) {
    let mut verdict = Verdict::new(1, 1, initially);
    let (mut alarmed, mut parted) = (false, false);
    if ROUTINE.available_permits() < ROUTINE_LANES / 2 || URGENT.available_permits() < URGENT_LANES / 2 {
        // A mass start: not all in the same millisecond.
        tokio::time::sleep(JOINING.mul_f64(random())).await;
    }
    loop {
        let service = Arc::clone(&settings.borrow_and_update());
        let health = &service.health;
        let passed = {
            let lane = if alarmed || verdict.current().is_none() { &URGENT } else { &ROUTINE };
            // Never closed, so never an error.
            let _permit = lane.acquire().await;
            let result = node.ask(health).await;
            verdict.tune(health.rise, health.fall);
            let passed = result.passed;
            let change = verdict.observe(passed);
            report(result, change);
            passed
        };
        alarmed &= !passed && verdict.current() == Some(true);
        let ended = Instant::now();
        let spread = match verdict.current() {
            None => 1.0,
            Some(_) if !parted => {
                parted = true;
                0.1 + 0.9 * random()
            }
            Some(_) => 0.9 + 0.2 * random(),
        };
        alarmed |= wait(&mut settings, &alarm, ended, |health| {
            let fast = (health.interval / 4).max(ALARMED).min(health.interval);
            let next = match verdict.current() {
                None => health.interval.min(JOINING),
                Some(_) if alarmed => fast,
                Some(_) => health.interval,
            };
            (next.mul_f64(spread), fast)
        })
        .await;
    }
}

/// Waits for the next probe's time. Whether an alarm brought it forward.
async fn wait(
    settings: &mut watch::Receiver<Arc<Service>>,
    alarm: &Notify,
    ended: Instant,
    pauses: impl Fn(&Health) -> (Duration, Duration),
) -> bool {
    let (mut told, mut rung) = (true, false);
    loop {
        let (usual, fast) = pauses(&settings.borrow_and_update().health);
        // Alarms come as fast as requests fail; they never make probes come faster than this.
        let pause = if rung { usual.min(fast) } else { usual };
        tokio::select! {
            biased;
            () = sleep_until(ended + pause) => return rung,
            () = alarm.notified(), if !rung => rung = true,
            changed = settings.changed(), if told => told = changed.is_ok(),
        }
    }
}

/// The one place where randomness enters: from 0 up to 1.
fn random() -> f64 {
    fastrand::f64()
}

fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
