//! Traffic that an operator stops: on hold, in maintenance.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::support::{LISTENER, QUICK, Site, eventually, get, list, origin};

fn site(more: &str) -> (Site, Vec<sluicegate::cli::demo::Origin>) {
    let nodes = vec![origin("v1")];
    let text = format!("{LISTENER}[service.shop]\nmatch = \"*\"\nnodes = {}\n{QUICK}{more}", list(&nodes));
    (Site::new(&text), nodes)
}

#[test]
fn held_requests_wait_and_go_when_they_are_released_and_no_more_wait_than_may() {
    let (site, _nodes) = site("hold = { most = 2 }\n");
    let proxy = site.start();
    proxy.settled("shop");
    let address = proxy.address();
    let held = site.verb(&["hold", "shop", "--for", "60s", "--json"]);
    let json: Value = serde_json::from_slice(&held.stdout).expect("one document");
    assert_eq!((held.status.code(), &json["halt"]["kind"]), (Some(0), &Value::from("hold")));
    assert!(json["halt"]["by"].as_str().is_some_and(|by| by.contains("uid ")));
    let waiting: Vec<_> = (0..2).map(|_| thread::spawn(move || get(address, "any", "/").expect("an answer"))).collect();
    eventually("both wait", || proxy.service("shop").filter(|shop| shop.waiting == 2));
    let refused = get(address, "any", "/").expect("an answer");
    assert_eq!((refused.status, refused.header("x-sluice-error")), (503, Some("held")));
    assert!(waiting.iter().all(|request| !request.is_finished()));
    let status = site.verb(&["status", "shop"]);
    assert!(String::from_utf8_lossy(&status.stdout).contains("ON HOLD"), "{status:?}");
    assert_eq!(site.verb(&["maintenance", "shop", "off"]).status.code(), Some(2), "it is not in maintenance");

    assert_eq!(site.verb(&["release", "shop"]).status.code(), Some(0));
    for request in waiting {
        assert_eq!(request.join().expect("an end").status, 200);
    }
    assert_eq!(site.verb(&["release", "shop"]).status.code(), Some(2), "nothing is on hold");
    assert_eq!(site.verb(&["hold", "shp"]).status.code(), Some(2));
    assert_eq!(site.verb(&["hold", "shop", "--for", "2h"]).status.code(), Some(2));
}

#[test]
fn a_forgotten_hold_ends_by_itself_also_over_a_restart() {
    let (site, _nodes) = site("");
    let proxy = site.start();
    proxy.settled("shop");
    assert_eq!(site.verb(&["hold", "shop", "--for", "500ms"]).status.code(), Some(0));
    let begun = Instant::now();
    assert_eq!(get(proxy.address(), "any", "/").expect("an answer").status, 200);
    assert!(begun.elapsed() < Duration::from_secs(20));
    eventually("it is over", || proxy.service("shop").filter(|shop| shop.halt.is_none()));

    assert_eq!(site.verb(&["hold", "shop", "--for", "1h"]).status.code(), Some(0));
    let record = || super::support::record(&site.path("state"), "shop");
    eventually("it is on disk", || record()["state"]["halt"]["kind"].as_str().map(ToOwned::to_owned));
    proxy.kill();
    let proxy = site.start();
    let address = proxy.address();
    let request = thread::spawn(move || get(address, "any", "/").expect("an answer"));
    eventually("it waits", || proxy.service("shop").filter(|shop| shop.waiting == 1));
    assert_eq!(site.verb(&["release", "shop"]).status.code(), Some(0));
    assert_eq!(request.join().expect("an end").status, 200);
}

#[test]
fn maintenance_answers_503_with_a_page_or_a_message_until_it_ends() {
    let (site, _nodes) = site("errors = { texts = { \"503\" = \"<h1>Back soon</h1>\" } }\n");
    let proxy = site.start();
    proxy.settled("shop");
    let address = proxy.address();
    assert_eq!(site.verb(&["hold", "shop"]).status.code(), Some(0));
    let waiting = thread::spawn(move || get(address, "any", "/").expect("an answer"));
    eventually("it waits", || proxy.service("shop").filter(|shop| shop.waiting == 1));
    assert_eq!(site.verb(&["maintenance", "shop", "on", "--retry-after", "10m"]).status.code(), Some(0));
    // Whoever was on hold does not wait for it to end.
    assert_eq!(waiting.join().expect("an end").status, 503);
    let page = get(address, "any", "/").expect("an answer");
    assert_eq!((page.status, page.header("retry-after")), (503, Some("600")));
    assert_eq!((page.text().as_str(), page.header("x-sluice-error")), ("<h1>Back soon</h1>", Some("maintenance")));
    assert_eq!(site.verb(&["hold", "shop"]).status.code(), Some(2), "one thing at a time");
    assert_eq!(
        site.verb(&["maintenance", "shop", "on", "--message", "Back at noon & <b>sorry</b>"]).status.code(),
        Some(0)
    );
    let told = get(address, "any", "/").expect("an answer");
    assert_eq!(told.text(), "Back at noon & <b>sorry</b>\n");
    assert!(told.header("content-type").is_some_and(|kind| kind.starts_with("text/plain")));
    assert_eq!(site.verb(&["maintenance", "shop", "off"]).status.code(), Some(0));
    assert_eq!(get(address, "any", "/").expect("an answer").status, 200);
}
