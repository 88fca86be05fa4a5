//! Everything is down, or the new version is: what users and operators get, and how it ends.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use sluicegate::api::ServiceStatus;
use sluicegate::cli::demo::Origin;
use sluicegate::model::NodeState;

use super::stage::{HOST, PATIENCE, Save, Stage, list, more, state, stop, summary, told};

const HEALTH: &str = "path = \"/healthz\", interval = \"100ms\"";

/// One request on a connection of its own; head and body of the answer.
fn get(target: SocketAddr) -> String {
    let mut stream = TcpStream::connect(target).expect("the proxy");
    stream.set_read_timeout(Some(PATIENCE)).expect("an option");
    write!(stream, "GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n").expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("a whole answer");
    answer
}

fn assert_answer(answer: &str, status: u16, says: &str) {
    let head = answer.split("\r\n\r\n").next().unwrap_or_default().to_ascii_lowercase();
    assert!(head.starts_with(&format!("http/1.1 {status} ")), "{answer}");
    assert!(head.contains(says), "no `{says}` in {answer}");
}

fn addresses(nodes: &[Origin]) -> Vec<SocketAddr> {
    nodes.iter().map(Origin::address).collect()
}

/// Starts a node where one was killed.
fn revive(stage: &Stage, node: &mut Origin) {
    let port = node.address().port();
    *node = stage.origin("v1", |options| options.port = port);
}

#[test]
fn when_every_node_is_down_the_answer_says_so_and_ends_with_the_outage() {
    let mut stage = Stage::new();
    let mut nodes = [stage.origin("v1", |_| {}), stage.origin("v1", |_| {})];
    let text = list(&addresses(&nodes));
    stage.run(&format!("nodes = {text}\nhealth = {{ {HEALTH} }}\n"));
    assert_answer(&get(stage.target), 200, "x-version: v1");

    // Gone: before and after it is noticed, nobody can be reached.
    nodes.iter().for_each(Origin::kill);
    assert_answer(&get(stage.target), 502, "x-sluice-error: connect");
    stage.until("the outage is seen", |shop| shop.all_down);
    assert_answer(&get(stage.target), 502, "x-sluice-error: connect");
    for node in &mut nodes {
        revive(&stage, node);
    }
    stage.until("the outage is over", |shop| !shop.all_down);
    assert_answer(&get(stage.target), 200, "x-version: v1");

    // Sick: the check may be wrong, so the nodes are asked all the same, and their own answer is passed on.
    for node in &nodes {
        node.set_healthy(false);
    }
    let shop = stage.until("both are ejected", |shop| {
        shop.all_down && nodes.iter().all(|node| state(shop, node.address()) == "ejected")
    });
    let shown = told(&stage.sluice(&["status"]));
    assert!(shown.to_lowercase().contains("unhealthy"), "{shown}");
    assert!(shop.nodes.iter().all(|node| node.reason.contains("503")), "{shop:#?}");
    let before: u64 = nodes.iter().map(|node| node.counts().requests).sum();
    assert_answer(&get(stage.target), 503, "x-version: v1");
    let after: u64 = nodes.iter().map(|node| node.counts().requests).sum();
    assert_eq!(after, before + 1);

    // Unless the operator wants none of that.
    let refuse = format!("nodes = {text}\nhealth = {{ {HEALTH}, all_down = \"refuse\" }}\n");
    stage.save(&refuse, Save::InPlace);
    stage.sluice(&["wait", "shop", "--timeout", "5s"]);
    assert_answer(&get(stage.target), 503, "x-sluice-error: no-node");
    assert_eq!(nodes.iter().map(|node| node.counts().requests).sum::<u64>(), after);

    // One of them is enough.
    nodes[0].set_healthy(true);
    stage.until("one node serves", |shop| state(shop, nodes[0].address()) == "serving");
    for _ in 0..10 {
        assert_answer(&get(stage.target), 200, "x-version: v1");
    }
}

#[test]
fn a_version_that_never_becomes_healthy_is_refused_and_the_next_one_goes_through() {
    let mut stage = Stage::new();
    let old = [stage.origin("v1", |_| {}), stage.origin("v1", |_| {})];
    let service = format!(
        "release = \"v1\"                 # kept by the verbs\nversions = {{ v1 = {} }}\nhealth = {{ {HEALTH} }}\n\
         rollout = {{ deadline = \"2s\" }}\n",
        list(&addresses(&old))
    );
    stage.run(&service);
    let load = stage.load(100.0, |_| {});
    let serves_since = |shop: &ServiceStatus| -> Vec<_> {
        let old = shop.nodes.iter().filter(|node| node.version.as_str() == "v1");
        old.map(|node| (node.address.clone(), node.state, node.since)).collect()
    };
    let before = serves_since(&stage.shop());
    assert_eq!(before.len(), 2);
    let deploy = |version: &str, nodes: &[Origin]| {
        let mut arguments = vec!["deploy".to_owned(), "shop".into(), "--version".into(), version.into()];
        for node in nodes {
            arguments.extend(["--node".into(), node.address().to_string()]);
        }
        stage.sluice(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    };

    // None of it ever answers well: whatever serves is not touched.
    let text = fs::read_to_string(&stage.config).expect("the file");
    let bad = [0, 1].map(|_| stage.origin("v2", |options| options.unhealthy = true));
    let refused = deploy("v2", &bad);
    assert_eq!(refused.status.code(), Some(3), "{}", told(&refused));
    let words = told(&refused);
    assert!(words.contains(&bad[0].address().to_string()) && words.contains("503"), "{words}");
    assert_eq!(fs::read_to_string(&stage.config).expect("the file"), text, "the file is put back");
    assert_eq!(serves_since(&stage.shop()), before, "a node of v1 was touched");
    assert!(bad.iter().all(|node| node.counts().requests == 0), "a sick node was called");

    // Half of it does, which is not enough.
    let half = [stage.origin("v2b", |options| options.unhealthy = true), stage.origin("v2b", |_| {})];
    let refused = deploy("v2b", &half);
    assert_eq!(refused.status.code(), Some(3), "{}", told(&refused));
    assert_eq!(fs::read_to_string(&stage.config).expect("the file"), text, "the file is put back");
    let serving =
        |shop: &ServiceStatus| serves_since(shop).iter().filter(|(_, state, _)| *state == NodeState::Serving).count();
    stage.until("both nodes of v1 serve, and nothing else", |shop| serving(shop) == 2 && shop.nodes.len() == 2);
    assert_eq!(half[0].counts().requests, 0, "a sick node was called");
    bad.iter().chain(&half).for_each(Origin::kill);
    more(&load, 50);

    let good = [stage.origin("v3", |_| {}), stage.origin("v3", |_| {})];
    let done = deploy("v3", &good);
    assert_eq!(done.status.code(), Some(0), "{}", told(&done));
    for node in &old {
        node.stop_gracefully();
        node.kill();
    }
    more(&load, 50);
    let tally = stop(load);
    println!("refused, then done: {}", summary(&tally));
    assert_eq!((tally.failures(), tally.client_retries), (0, 0), "{}", tally.explain());
    assert!(tally.answers("v3") > 0);
    assert_eq!(stage.ledger.duplicates(), []);
    let history = told(&stage.sluice(&["history", "shop"]));
    assert!(history.contains("v2") && history.contains("v3"), "{history}");
}
