//! `kill -9` in the middle of a rollout: the next process goes on where this one was.
//!
//! What "the same split" means: the first status of the next process shows exactly the nodes and the shares of the last
//! split that the journal holds; that split is the one that was polled just before the kill or a neighbour of it (the step
//! that was in progress); it has no node that was reported drained; and it never has fewer healthy nodes than served
//! when the rollout began. To be exact and not just close, the nodes that do not serve yet are made unready while the next
//! process starts: no step can happen before it is looked at.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use sluicegate::api::{Outcome, ServiceStatus};
use sluicegate::cli::demo::Origin;
use sluicegate::model::NodeState;

use super::support::{LISTENER, Proxy, QUICK, Site, eventually, get, list, number, origin, random, record};

const NODES: usize = 3;

type Nodes = BTreeSet<(String, String)>;

fn text(release: &str, v1: &[Origin], v2: &[Origin], strategy: &str, more: &str) -> String {
    format!(
        "{LISTENER}[service.shop]\nmatch = \"*\"\nrelease = \"{release}\"\n{QUICK}\
         rollout = {{ strategy = \"{strategy}\", keep = \"100ms\"{more} }}\n\
         [service.shop.versions]\nv1 = {}\nv2 = {}\n",
        list(v1),
        list(v2)
    )
}

fn in_state(service: &ServiceStatus, states: &[NodeState]) -> Nodes {
    let nodes = service.nodes.iter().filter(|node| states.contains(&node.state));
    nodes.map(|node| (node.version.to_string(), node.address.to_string())).collect()
}

fn serving(service: &ServiceStatus) -> Nodes {
    in_state(service, &[NodeState::Serving])
}

/// Shares in hundredths of a percent, without those that have none.
fn shares(service: &ServiceStatus) -> Vec<(String, u64)> {
    let all =
        service.versions.iter().map(|version| (version.version.to_string(), (version.share * 100.0).round() as u64));
    all.filter(|(_, share)| *share > 0).collect()
}

/// What was seen of a rollout before the kill.
struct Seen {
    last: ServiceStatus,
    drained: Nodes,
    /// When nodes were told to be ready.
    ready: Vec<Instant>,
    killed: Instant,
}

/// Edits, lets the new nodes become ready one by one, polls, and kills at `moment`.
fn play(site: &Site, proxy: Proxy, text: &str, new: &[Origin], readiness: &[Duration], moment: Duration) -> Seen {
    for origin in new {
        origin.set_healthy(false);
    }
    let mut last = proxy.service("shop").expect("a status");
    let mut drained = Nodes::new();
    let mut ready = Vec::new();
    let began = Instant::now();
    site.write(text);
    while began.elapsed() < moment {
        while ready.len() < new.len() && began.elapsed() >= readiness[ready.len()] {
            new[ready.len()].set_healthy(true);
            ready.push(Instant::now());
        }
        if let Some(now) = proxy.service("shop") {
            assert!(serving(&now).len() >= NODES, "fewer nodes than served before: {now:?}");
            drained.extend(in_state(&now, &[NodeState::Drained]));
            // What is not told any more was drained before it was forgotten.
            let known: Nodes = now.nodes.iter().map(|n| (n.version.to_string(), n.address.to_string())).collect();
            drained.extend(serving(&last).into_iter().filter(|node| !known.contains(node)));
            last = now;
        }
    }
    proxy.kill();
    Seen { last, drained, ready, killed: Instant::now() }
}

/// The split in the journal: its nodes, and its shares.
fn journaled(site: &Site) -> (Nodes, Vec<(String, u64)>) {
    let record = record(&site.path("state"), "shop");
    let slices = record["state"]["machine"]["published"]["slices"].as_array().expect("slices").clone();
    let word = |value: &serde_json::Value| value.as_str().expect("a word").to_owned();
    let nodes = slices.iter().flat_map(|slice| slice["nodes"].as_array().expect("nodes").clone());
    let nodes = nodes.map(|node| (word(&node["version"]), word(&node["address"]))).collect();
    let shares = slices.iter().map(|slice| (word(&slice["version"]), slice["share"].as_u64().expect("a share")));
    (nodes, shares.collect())
}

#[test]
fn a_rollout_that_was_killed_goes_on_with_the_same_split_and_ends_once() {
    let mut random = random(1);
    let versions: [Vec<Origin>; 2] = ["v1", "v2"].map(|version| (0..NODES).map(|_| origin(version)).collect());
    let file = |to: usize, strategy: &str| text(["v1", "v2"][to], &versions[0], &versions[1], strategy, "");
    let site = Site::new(&file(0, "rolling"));
    let proxy = site.start();
    assert!(site.verb(&["wait", "shop", "--timeout", "60s"]).status.success());
    let mut changes: Vec<u64> = proxy.history("shop").iter().map(|entry| entry.change).collect();
    let mut proxy = Some(proxy);
    let (mut before, mut inside, mut after) = (0, 0, 0);

    for round in 0..number("SLUICE_CRASHES", 4) {
        let to = 1 - round as usize % 2;
        let new = &versions[to];
        let strategy = if random.u32(..4) == 0 { "blue-green" } else { "rolling" };
        let mut readiness: Vec<_> = (0..NODES).map(|_| Duration::from_millis(random.u64(20..800))).collect();
        readiness.sort();
        // Most of the kills between the first new node and a little after the last one.
        let latest = readiness[NODES - 1].as_millis() as u64 + 250;
        let earliest = if random.u32(..4) == 0 { 0 } else { readiness[0].as_millis() as u64 };
        let moment = Duration::from_millis(random.u64(earliest..latest));
        println!("crash {round}: {strategy} to {to}, ready after {readiness:?}, killed after {moment:?}");
        let seen = play(&site, proxy.take().expect("a proxy"), &file(to, strategy), new, &readiness, moment);

        let (nodes, split) = journaled(&site);
        assert!(nodes.len() >= NODES, "the journal has fewer nodes than served before: {nodes:?}");
        assert!(nodes.is_disjoint(&seen.drained), "drained, but in the journal's split: {nodes:?}");
        let arrived = |nodes: &Nodes| nodes.iter().filter(|(version, _)| version == ["v1", "v2"][to]).count();
        let recent = seen.ready.iter().filter(|at| seen.killed.duration_since(**at) < Duration::from_millis(500));
        // Blue-green moves all of them in one step.
        let step = if strategy == "rolling" { 1 + recent.count() } else { NODES };
        let apart = arrived(&nodes).abs_diff(arrived(&serving(&seen.last)));
        assert!(apart <= step, "{apart} nodes between the last status and the journal, {step} can be in progress");
        match arrived(&nodes) {
            0 => before += 1,
            NODES => after += 1,
            _ => inside += 1,
        }

        let waits = |origin: &&Origin| !nodes.iter().any(|(_, address)| *address == origin.address().to_string());
        new.iter().filter(waits).for_each(|origin| origin.set_healthy(false));
        let next = site.launch();
        let first = eventually("the next process answers", || next.service("shop"));
        assert_eq!(serving(&first), nodes, "other nodes serve than before the kill");
        assert_eq!(shares(&first), split);
        let address = next.address();
        for _ in 0..8 {
            let answer = get(address, "shop.test", "/").expect("an answer");
            assert_eq!(answer.status, 200, "{}", answer.text());
            let version = answer.header("x-version").expect("a version");
            assert!(split.iter().any(|(name, _)| name == version), "{version} has no share in {split:?}");
        }

        for origin in new {
            origin.set_healthy(true);
        }
        let out = site.verb(&["wait", "shop", "--timeout", "60s"]);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let last = next.settled("shop");
        assert_eq!(serving(&last), new.iter().map(|o| (o.version().to_owned(), o.address().to_string())).collect());
        let history = next.history("shop");
        assert_eq!(history[0].outcome, Outcome::Done);
        assert_eq!((history[0].to.as_str(), history[0].change), (["v1", "v2"][to], last.change));
        changes.insert(0, last.change);
        changes.truncate(100);
        let found: Vec<_> = history.iter().map(|entry| entry.change).collect();
        assert_eq!(found, changes, "not one entry for each rollout");
        proxy = Some(next);
    }
    println!("killed before the first step {before}, between {inside}, after the last {after}");
    let old = versions.iter().flatten().map(|origin| origin.counts().early).sum::<u64>();
    assert_eq!(old, 0, "a node got a request before it was ready");
}

#[test]
fn a_refused_version_stays_refused_over_a_crash() {
    let (v1, v2) = ([origin("v1")], [origin("v2")]);
    let file = |release: &str| text(release, &v1, &v2, "rolling", ", deadline = \"500ms\"");
    let site = Site::new(&file("v1"));
    let proxy = site.start();
    proxy.settled("shop");
    v2[0].set_healthy(false);
    site.write(&file("v2"));
    let waited = site.verb(&["wait", "shop", "--timeout", "60s"]);
    assert_eq!(waited.status.code(), Some(3), "{}", String::from_utf8_lossy(&waited.stderr));
    let refused = proxy.service("shop").expect("a status").refused;
    assert_eq!(refused.len(), 1);
    proxy.kill();

    // It is well now, but nobody asked for it to be tried again.
    v2[0].set_healthy(true);
    let probes = v2[0].counts().probes;
    let proxy = site.start();
    let first = proxy.service("shop").expect("a status");
    assert_eq!(first.refused, refused);
    assert_eq!(shares(&first), [("v1".to_owned(), 10_000)]);
    let waited = site.verb(&["wait", "shop", "--timeout", "60s"]);
    assert_eq!(waited.status.code(), Some(3), "{}", String::from_utf8_lossy(&waited.stdout));
    assert_eq!(v2[0].counts().probes, probes, "it is tried again");
    assert_eq!(v2[0].counts().requests, 0);
    assert_eq!(get(proxy.address(), "shop.test", "/").expect("an answer").header("x-version"), Some("v1"));
}

#[test]
fn killed_again_and_again_while_it_starts_nothing_is_lost() {
    let (v1, v2) = ([origin("v1")], [origin("v2")]);
    let site = Site::new(&text("v1", &v1, &v2, "rolling", ""));
    let proxy = site.start();
    assert!(site.verb(&["wait", "shop", "--timeout", "60s"]).status.success());
    let history = proxy.history("shop");
    assert_eq!(history.len(), 1);
    proxy.kill();
    let mut random = random(2);
    for _ in 0..5 {
        let proxy = site.launch();
        std::thread::sleep(Duration::from_millis(random.u64(0..150)));
        proxy.kill();
    }
    let proxy = site.start();
    assert_eq!(proxy.history("shop"), history);
    assert_eq!(shares(&proxy.service("shop").expect("a status")), [("v1".to_owned(), 10_000)]);
}
