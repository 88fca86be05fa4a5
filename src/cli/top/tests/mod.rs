//! The view without a terminal: reports and keys in, a screen of text out.

mod anything;
mod asks;
mod keys;
mod panics;
mod pictures;

use std::collections::BTreeMap;
use std::path::Path;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::app::{Act, App, Key};
use super::draw::draw;
use super::paint::{Look, width as width_of};
use crate::admin::fake::{NOW, entry, node, service, status};
use crate::api::{Evidence, Opinion, Outcome, ProbeReport, Sample, ServiceStatus, Status, StepStatus, TrialStatus};
use crate::model::{Holder, NodeState, Timestamp, WorkKind};

/// What the screen would show.
pub(super) fn screen(app: &mut App, width: u16, height: u16) -> String {
    let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
    draw(app, &mut buffer);
    let rows = buffer.content().chunks(usize::from(width.max(1)));
    let text = |row: &[ratatui::buffer::Cell]| {
        let (mut text, mut covered) = (String::new(), 0);
        for cell in row {
            // A wide sign covers the cell behind it.
            if covered == 0 {
                text.push_str(cell.symbol());
                covered = width_of(cell.symbol()).max(1);
            }
            covered -= 1;
        }
        text
    };
    rows.map(|row| text(row).trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// An app that has looked twice, a second apart.
pub(super) fn looked(mut status: Status) -> App {
    let mut app = App::new(Look { color: true });
    status.now = Timestamp(NOW.0 - 1000);
    let before = status.clone();
    app.answered(before, None);
    status.now = NOW;
    status.load.requests += 1_234;
    status.load.errors += 3;
    for (at, service) in status.services.iter_mut().enumerate() {
        for version in &mut service.versions {
            let requests = (version.share * 10_usize.saturating_sub(at) as f64) as u64;
            version.requests += requests;
            if service.name.as_str() == "mail" {
                version.failures += requests / 20;
            }
        }
    }
    app.answered(status, None);
    app.tick(NOW);
    app
}

pub(super) fn press(app: &mut App, keys: &str) -> Act {
    keys.chars().map(|letter| app.press(Key::Char(letter))).last().unwrap_or(Act::Draw)
}

fn plain(name: &str, phase: &str) -> ServiceStatus {
    let mut one = service(name, Path::new("/etc/sluice/services.toml"));
    one.phase = phase.into();
    one.reason = None;
    one.release = "v7".into();
    one.rollout = None;
    one.versions.truncate(1);
    one.versions[0].version = "v7".into();
    one.versions[0].share = 100.0;
    one.nodes.truncate(1);
    one.nodes[0].version = "v7".into();
    one
}

/// A canary at its second step, with everything that can be told of one.
pub(super) fn canary() -> ServiceStatus {
    let mut shop = service("shop", Path::new("/etc/sluice/shop.toml"));
    shop.phase = "on trial".into();
    shop.reason = Some("v2 is held at 25%".into());
    shop.versions[0].share = 75.0;
    shop.versions[1].share = 25.0;
    shop.versions[0].requests = 1_204_511;
    shop.versions[1].requests = 4_812;
    shop.versions[1].shielded = 9;
    (shop.versions[1].shadowed, shop.versions[1].shadow_differed) = (1_500, 3);
    let rollout = shop.rollout.as_mut().unwrap();
    rollout.strategy = "canary".into();
    rollout.ready = 2;
    let sample = |requests, failures, p95| Sample {
        requests,
        failures,
        kinds: BTreeMap::from([("status".into(), failures)]),
        rate: failures as f64 / requests as f64,
        interval: (0.001, 0.012),
        p50: Some(4.2),
        p95: Some(p95),
        p99: Some(93.0),
    };
    rollout.trial = Some(TrialStatus {
        share: 25.0,
        step: 2,
        steps: [5.0, 25.0, 50.0].map(|share| StepStatus { share, hold_ms: Some(120_000) }).to_vec(),
        since: Timestamp(NOW.0 - 50_000),
        paused: None,
        promoted: false,
        evidence: Some(Evidence {
            verdict: "pass".into(),
            reason: "it failed 2 of 812 requests (0.25%), and what served before 7 of 2,431 (0.29%): within the rules"
                .into(),
            new: sample(812, 2, 31.0),
            old: sample(2_431, 7, 29.0),
            judges: vec![Opinion { judge: "webhook".into(), verdict: "pass".into(), reason: String::new() }],
        }),
    });
    let probe = |passed: bool| ProbeReport {
        at: Timestamp(NOW.0 - 400),
        target: "GET http://10.0.0.6:5002/healthz".into(),
        passed,
        status: Some(if passed { 200 } else { 503 }),
        error: (!passed).then(|| "the status is not among 200-399".into()),
        took_ms: 3,
        body: (!passed).then(|| "database is down".into()),
    };
    shop.nodes[0].probe = Some(probe(true));
    shop.nodes[2].state = NodeState::Ejected;
    shop.nodes[2].reason = "3 probes failed".into();
    shop.nodes[2].probe = Some(probe(false));
    let mut leaving = node("v1", "10.0.0.6:5001", NodeState::Draining);
    leaving.reason = "it is no longer wanted".into();
    leaving.holders = vec![Holder {
        kind: WorkKind::WebSocket,
        method: "GET".into(),
        path: "/live".into(),
        client: "192.0.2.7".into(),
        age_ms: 61_000,
    }];
    shop.nodes.push(leaving);
    shop
}

/// A morning with a bit of everything.
pub(super) fn morning() -> Status {
    let mut down = plain("pay", "settled");
    down.all_down = true;
    down.nodes[0].state = NodeState::Ejected;
    let mut failed = plain("cart", "failed");
    failed.reason = Some("v8 never became healthy".into());
    let mut rolling = service("mail", Path::new("/etc/sluice/services.toml"));
    rolling.rollout.as_mut().unwrap().deadline = Some(Timestamp(NOW.0 + 95_000));
    let services = vec![plain("blog", "settled"), failed, rolling, down, plain("search-älter-店", "settled"), canary()];
    let mut status = status(services);
    status.pid = 4711;
    status
}
