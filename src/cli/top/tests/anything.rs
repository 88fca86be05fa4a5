//! Whatever the proxy says, at whatever size: it is drawn, and nothing in it reaches the terminal as a command.

use proptest::prelude::*;

use super::*;
use crate::api::{ConfigStatus, Load, Problem, VersionStatus};

fn state() -> impl Strategy<Value = NodeState> {
    proptest::sample::select(NodeState::ALL.to_vec())
}

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![0.0..100.0_f64, Just(f64::NAN), Just(f64::INFINITY), Just(-1.0), any::<f64>()]
}

fn time() -> impl Strategy<Value = u64> {
    prop_oneof![Just(NOW.0), Just(0), Just(u64::MAX), any::<u64>(), NOW.0 - 100_000..NOW.0 + 100_000]
}

prop_compose! {
    fn any_trial()(
        share in number(),
        (step, steps) in (0_usize..5, proptest::collection::vec((number(), proptest::option::of(any::<u64>())), 0..4)),
        (since, paused) in (time(), proptest::option::of(time())),
        (promoted, verdict, reason) in (any::<bool>(), ".{0,10}", "(?s).{0,200}"),
        (rate, p95, requests) in (number(), proptest::option::of(number()), any::<u64>()),
    ) -> TrialStatus {
        let sample = Sample { requests, failures: requests, rate, interval: (rate, share), p95, ..Sample::default() };
        let evidence = Evidence { verdict, reason, new: sample.clone(), old: sample, judges: Vec::new() };
        let steps = steps.into_iter().map(|(share, hold_ms)| StepStatus { share, hold_ms }).collect();
        let (since, paused) = (Timestamp(since), paused.map(Timestamp));
        TrialStatus { share, step, steps, since, paused, promoted, evidence: Some(evidence) }
    }
}

prop_compose! {
    fn any_service()(
        (name, phase, reason) in (".{0,40}", ".{0,20}", proptest::option::of("(?s).{0,200}")),
        versions in proptest::collection::vec((".{0,20}", number(), any::<u64>(), any::<usize>()), 0..4),
        nodes in proptest::collection::vec(("(?s).{0,80}", state(), time(), any::<usize>(), any::<bool>()), 0..6),
        (all_down, waiting) in (any::<bool>(), any::<usize>()),
        trial in proptest::option::of(any_trial()),
        rollout in any::<bool>(),
    ) -> ServiceStatus {
        let mut any = canary();
        any.name = name.as_str().into();
        (any.phase, any.reason, any.all_down, any.waiting) = (phase, reason, all_down, waiting);
        let template = any.versions[0].clone();
        any.versions = versions
            .into_iter()
            .map(|(version, share, requests, nodes)| VersionStatus {
                version: version.as_str().into(), share, serving: nodes, nodes, requests, failures: requests,
                ..template.clone()
            })
            .collect();
        let holders = any.nodes.pop().unwrap().holders;
        let probe = any.nodes[0].probe.clone();
        any.nodes = nodes
            .into_iter()
            .map(|(text, state, since, in_flight, more)| {
                let mut node = node(&text, &text, state);
                (node.reason, node.since, node.in_flight) = (text.clone(), Timestamp(since), in_flight);
                if more {
                    node.holders = holders.clone();
                    node.holders.iter_mut().for_each(|holder| holder.path.clone_from(&text));
                    node.probe = probe.clone().map(|probe| ProbeReport { body: Some(text), passed: false, ..probe });
                    node.until = Some(Timestamp(since));
                }
                node
            })
            .collect();
        any.rollout = any.rollout.filter(|_| rollout);
        if let Some(rollout) = &mut any.rollout {
            rollout.trial = trial;
        }
        any
    }
}

prop_compose! {
    fn any_status()(
        services in proptest::collection::vec(any_service(), 0..5),
        (now, started, text, stale) in (time(), time(), "(?s).{0,100}", any::<bool>()),
        (connections, requests, errors) in (any::<u64>(), any::<u64>(), any::<u64>()),
        (column, width) in (any::<usize>(), any::<usize>()),
    ) -> Status {
        let mut any = status(services);
        (any.now, any.started) = (Timestamp(now), Timestamp(started));
        any.load = Load { connections, requests, errors };
        let problem = Problem {
            path: "/etc/sluice/shop.toml".into(), line: 1, column, text: text.clone(), width, message: text.clone(), hint: Some(text),
        };
        any.config = ConfigStatus { stale, problems: vec![problem], ..any.config };
        any
    }
}

/// Every page, with every mode.
const WAYS: [&str; 9] = ["", "?", "c", "\n", "/", "p", "sss", "\njjj", "\na"];

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn everything_is_drawn_at_any_size_and_commands_nothing(
        first in any_status(),
        second in any_status(),
        (width, height) in (0_u16..140, 0_u16..50),
        way in 0..WAYS.len(),
        gone in any::<bool>(),
    ) {
        let mut app = App::new(Look { color: true });
        app.tick(NOW);
        screen(&mut app, width, height);
        for status in [first, second] {
            app.answered(status, None);
            for key in WAYS[way].chars() {
                app.press(if key == '\n' { Key::Enter } else { Key::Char(key) });
            }
            if gone {
                app.failed("it\x1b[2J is\r\ngone".into());
            }
            let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
            draw(&mut app, &mut buffer);
            for cell in buffer.content() {
                prop_assert_eq!(cell.symbol(), super::super::paint::plain(cell.symbol()));
            }
            screen(&mut app, 40, 10);
        }
    }
}

#[test]
fn the_smallest_screens_show_what_fits() {
    let mut app = looked(morning());
    for (width, height) in [(1, 1), (2, 2), (5, 3), (10, 2), (40, 1), (1, 40), (0, 5), (5, 0)] {
        for key in [Key::Escape, Key::Enter, Key::Char('?'), Key::Char('c'), Key::Char('/'), Key::Char('a')] {
            app.press(key);
            screen(&mut app, width, height);
        }
    }
}
