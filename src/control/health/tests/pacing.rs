//! Rise and fall, and when the loop probes, on a paused clock.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::super::{Verdict, pace};
use super::{health, service};
use crate::api::ProbeReport;
use crate::config::{Health, Probe, Service};
use crate::model::Timestamp;

#[test]
fn a_verdict_needs_so_many_in_a_row() {
    // (rise, fall, initially, probes, what each of them changed)
    let table: [(u32, u32, Option<bool>, &str, &str); 9] = [
        (2, 3, None, "++", ".U"),
        (2, 3, None, "+-++", "...U"),
        (2, 3, None, "---", "..D"),
        (2, 3, Some(true), "--+---++", ".....D.U"),
        (2, 3, Some(false), "+-+-++", ".....U"),
        (1, 1, None, "+-+", "UDU"),
        (0, 0, None, "+-+", "UDU"),
        (2, 2, Some(true), "++++", "...."),
        (2, 2, Some(false), "----", "...."),
    ];
    for (rise, fall, initially, probes, changes) in table {
        let mut verdict = Verdict::new(rise, fall, initially);
        let said: String = probes
            .chars()
            .map(|c| match verdict.observe(c == '+') {
                None => '.',
                Some(true) => 'U',
                Some(false) => 'D',
            })
            .collect();
        assert_eq!(said, changes, "rise {rise}, fall {fall}, initially {initially:?}, probes {probes}");
    }
}

#[test]
fn other_settings_keep_the_verdict_and_what_was_counted() {
    let mut verdict = Verdict::new(2, 5, Some(true));
    assert_eq!((verdict.observe(false), verdict.observe(false)), (None, None));
    verdict.tune(2, 3);
    assert_eq!(verdict.current(), Some(true));
    assert_eq!(verdict.observe(false), Some(false));
}

proptest! {
    #[test]
    fn a_verdict_changes_exactly_when_the_last_probes_agree(
        rise in 1_u32..5, fall in 1_u32..5, initially in any::<Option<bool>>(), probes in prop::collection::vec(any::<bool>(), 0..60),
    ) {
        let mut verdict = Verdict::new(rise, fall, initially);
        let mut current = initially;
        for end in 1..=probes.len() {
            let last = probes[end - 1];
            let needed = if last { rise } else { fall } as usize;
            let agree = end >= needed && probes[end - needed..end].iter().all(|&passed| passed == last);
            let want = (agree && current != Some(last)).then_some(last);
            prop_assert_eq!(verdict.observe(last), want);
            current = want.or(current);
            prop_assert_eq!(verdict.current(), current);
        }
    }
}

/// A probe that takes no time.
struct Answers(Rc<Cell<bool>>);

impl pace::Ask for Answers {
    async fn ask(&self, _: &Health) -> ProbeReport {
        ProbeReport {
            at: Timestamp(0),
            target: String::new(),
            passed: self.0.get(),
            status: None,
            error: None,
            took_ms: 0,
            body: None,
        }
    }
}

/// When a probe was made, and what verdict it changed to.
type Probed = (Duration, Option<bool>);

/// The loop on a paused clock.
struct Loop {
    began: Instant,
    probes: Rc<RefCell<Vec<Probed>>>,
    passes: Rc<Cell<bool>>,
    settings: watch::Sender<Arc<Service>>,
    alarm: Arc<Notify>,
}

impl Loop {
    fn start(health: Health, initially: Option<bool>, passes: bool) -> Self {
        let (settings, receiver) = watch::channel(service(health));
        let (alarm, probes, passes) = (Arc::new(Notify::new()), Rc::default(), Rc::new(Cell::new(passes)));
        let began = Instant::now();
        let (rung, kept, answers): (_, Rc<RefCell<Vec<Probed>>>, _) =
            (Arc::clone(&alarm), Rc::clone(&probes), Rc::clone(&passes));
        tokio::task::spawn_local(async move {
            pace::run(initially, receiver, rung, Answers(answers), |_, change| {
                kept.borrow_mut().push((began.elapsed(), change));
            })
            .await;
        });
        Self { began, probes, passes, settings, alarm }
    }

    async fn until(&self, millis: u64) {
        tokio::time::sleep_until(self.began + Duration::from_millis(millis)).await;
    }

    fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    fn last(&self) -> Probed {
        *self.probes.borrow().last().unwrap()
    }

    fn count(&self) -> usize {
        self.probes.borrow().len()
    }

    fn change(&self, change: impl FnOnce(&mut Health)) {
        let mut service = Service::clone(&self.settings.borrow());
        change(&mut service.health);
        self.settings.send(Arc::new(service)).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_joining_node_is_probed_at_once_and_fast_then_at_the_interval() {
    let run = async {
        let node = Loop::start(Health { interval: Duration::from_secs(10), ..health(Probe::Tcp) }, None, true);
        node.until(300).await;
        let millis = |n: usize| node.probes.borrow()[n].0.as_millis();
        assert_eq!((node.count(), node.probes.borrow()[0].1, node.probes.borrow()[1].1), (2, None, Some(true)));
        assert!(millis(0) <= 5, "not at once");
        node.until(100_000).await;
        // The first pause is a random part of the interval; from then on it is the interval, give or take a tenth.
        assert!((1_000..=10_010).contains(&(millis(2) - millis(1))), "{:?}", node.probes.borrow());
        for n in 3..node.count() {
            assert!((9_000..=11_010).contains(&(millis(n) - millis(n - 1))), "{:?}", node.probes.borrow());
        }
        assert!(node.count() >= 10, "{}", node.count());
    };
    tokio::task::LocalSet::new().run_until(run).await;
}

#[tokio::test(start_paused = true)]
async fn an_alarm_brings_the_verdict_soon_and_alarms_without_end_do_not_flood_the_node() {
    let run = async {
        let node = Loop::start(Health { interval: Duration::from_mins(1), ..health(Probe::Tcp) }, Some(true), true);
        // The first pause is a random one; after it, wait until the last probe is longer ago than a quarter of the interval.
        node.until(70_000).await;
        while node.elapsed() < node.last().0 + Duration::from_secs(16) {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let before = node.count();
        node.alarm.notify_one();
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert_eq!(node.count() - before, 1, "not at once");
        // It passed: that alarm is over. But alarms can come again and again; a quarter of the interval is 15 s.
        let before = node.count();
        for _ in 0..10_000 {
            node.alarm.notify_one();
            tokio::time::sleep(Duration::from_millis(6)).await;
        }
        let flooded = node.count() - before;
        assert!((3..=5).contains(&flooded), "{flooded} in a minute");
        node.passes.set(false);
        let (failing, before) = (node.elapsed(), node.count());
        node.alarm.notify_one();
        while node.last().1 != Some(false) {
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert!(node.elapsed() < failing + Duration::from_mins(1), "the verdict took an interval or more");
        }
        assert_eq!(node.count() - before, 3, "fall is 3");
    };
    tokio::task::LocalSet::new().run_until(run).await;
}

#[tokio::test(start_paused = true)]
async fn a_routine_failure_is_not_followed_up_faster() {
    let run = async {
        let node = Loop::start(health(Probe::Tcp), Some(true), false);
        node.until(10).await;
        while node.last().1 != Some(false) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(node.count(), 3);
        assert!(node.last().0 >= Duration::from_secs(1), "{:?}", node.probes.borrow());
    };
    tokio::task::LocalSet::new().run_until(run).await;
}

#[tokio::test(start_paused = true)]
async fn a_shorter_interval_counts_at_once_and_the_verdict_stays() {
    let run = async {
        let node = Loop::start(Health { interval: Duration::from_hours(1), ..health(Probe::Tcp) }, Some(true), true);
        node.until(1_000).await;
        let before = node.count();
        node.change(|health| health.interval = Duration::from_secs(1));
        node.until(11_000).await;
        assert!((8..=13).contains(&(node.count() - before)), "{}", node.count() - before);
        // One failure more than the new settings allow, counted under the old ones.
        node.change(|health| health.fall = 100);
        node.passes.set(false);
        node.until(21_000).await;
        assert!(node.probes.borrow().iter().all(|(_, change)| change.is_none()));
        node.change(|health| health.fall = 2);
        node.until(22_500).await;
        assert_eq!(node.probes.borrow().iter().filter(|(_, change)| *change == Some(false)).count(), 1);
    };
    tokio::task::LocalSet::new().run_until(run).await;
}

#[tokio::test(start_paused = true)]
async fn probing_goes_on_when_nobody_can_change_the_settings_any_more() {
    let run = async {
        let node = Loop::start(health(Probe::Tcp), Some(true), true);
        let probes = Rc::clone(&node.probes);
        drop(node);
        tokio::time::sleep(Duration::from_secs(20)).await;
        let count = probes.borrow().len();
        assert!((17..=25).contains(&count), "{count}");
    };
    tokio::task::LocalSet::new().run_until(run).await;
}
