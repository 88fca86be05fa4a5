//! Signals: how the proxy ends, and how it reads again.

use std::io::Read as _;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::support::{Client, LISTENER, Proxy, QUICK, Site, eventually, get, list, origin, slow_origin};

fn text(nodes: &str, shutdown: &str) -> String {
    format!("shutdown = {{ {shutdown} }}\n{LISTENER}[service.shop]\nmatch = \"*\"\nnodes = {nodes}\n{QUICK}")
}

fn ready(proxy: &Proxy) -> Option<u16> {
    Some(proxy.ask("GET", "/readyz")?.status)
}

#[test]
fn sigterm_turns_readyz_false_waits_finishes_what_runs_and_lets_idle_clients_linger() {
    let node = [slow_origin("v1", Duration::from_millis(1_500))];
    let quick = [origin("v2")];
    let site = Site::new(&format!(
        "{}[service.quick]\nmatch = \"quick.test\"\nnodes = {}\n{QUICK}",
        text(&list(&node), "delay = \"1s\", linger = \"3s\", deadline = \"20s\""),
        list(&quick)
    ));
    let mut proxy = site.start();
    proxy.settled("shop");
    proxy.settled("quick");
    let address = proxy.address();
    assert_eq!(ready(&proxy), Some(200));
    let mut idle = Client::connect(address).expect("a connection");
    assert_eq!(idle.get("quick.test", "/").expect("an answer").status, 200);

    let told = Instant::now();
    proxy.signal(Signal::TERM);
    eventually("/readyz is false", || (ready(&proxy) != Some(200)).then_some(()));
    // Nothing changes for clients as long as the delay lasts.
    let calm = get(address, "quick.test", "/").expect("an answer");
    assert_eq!(calm.status, 200);
    if told.elapsed() < Duration::from_millis(900) {
        assert_eq!(calm.header("connection"), None);
    }
    let mut running = Client::connect(address).expect("a connection");
    running.send("shop.test", "/").expect("a request");

    eventually("the listener is closed", || get(address, "quick.test", "/").is_err().then_some(()));
    assert!(told.elapsed() >= Duration::from_secs(1), "the delay was not kept: {:?}", told.elapsed());
    // A request that was on its way to an idle connection is answered, and is the last one on it.
    let last = idle.get("quick.test", "/").expect("an answer on the idle connection");
    assert_eq!((last.status, last.header("connection")), (200, Some("close")));
    assert_eq!(idle.0.read(&mut [0; 1]).expect("an end"), 0);
    let answer = running.answer().expect("the request that ran is answered");
    assert_eq!((answer.status, answer.header("x-version")), (200, Some("v1")));
    assert_eq!(proxy.exit().code(), Some(0));
    assert!(!site.socket().exists());
}

#[test]
fn a_second_sigterm_ends_at_once() {
    let node = [slow_origin("v1", Duration::from_secs(30))];
    let site = Site::new(&text(&list(&node), "delay = \"30s\", linger = \"30s\", deadline = \"60s\""));
    let mut proxy = site.start();
    proxy.settled("shop");
    let mut running = Client::connect(proxy.address()).expect("a connection");
    running.send("shop.test", "/").expect("a request");
    proxy.signal(Signal::TERM);
    eventually("/readyz is false", || (ready(&proxy) != Some(200)).then_some(()));
    let again = Instant::now();
    proxy.signal(Signal::TERM);
    proxy.exit();
    assert!(again.elapsed() < Duration::from_secs(10), "{:?}", again.elapsed());
    assert!(running.answer().is_err());
}

#[test]
fn what_outlives_the_deadline_is_cut() {
    let node = [slow_origin("v1", Duration::from_secs(30))];
    let site = Site::new(&text(&list(&node), "linger = \"0s\", deadline = \"500ms\""));
    let mut proxy = site.start();
    proxy.settled("shop");
    let mut running = Client::connect(proxy.address()).expect("a connection");
    running.send("shop.test", "/").expect("a request");
    eventually("it is in flight", || (proxy.service("shop")?.nodes[0].in_flight == 1).then_some(()));
    let told = Instant::now();
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.exit().code(), Some(0));
    assert!(told.elapsed() < Duration::from_secs(15), "{:?}", told.elapsed());
    assert!(proxy.log().contains("cut"), "{}", proxy.log());
}

#[test]
fn sighup_reads_again_and_changes_nothing_if_nothing_changed() {
    let node = [origin("v1")];
    let site = Site::new(&text(&list(&node), ""));
    let proxy = site.start();
    let before = proxy.settled("shop");
    proxy.signal(Signal::HUP);
    eventually("it reads", || proxy.log().contains("told to read the configuration").then_some(()));
    site.write(&text(&list(&node), "").replace("match = \"*\"", "match = \"shop.test\""));
    proxy.signal(Signal::HUP);
    eventually("the edit is live", || {
        (get(proxy.address(), "other.test", "/").expect("an answer").status == 404).then_some(())
    });
    let after = proxy.service("shop").expect("a status");
    assert_eq!((after.change, after.nodes[0].since), (before.change, before.nodes[0].since));
}
