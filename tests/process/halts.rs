//! Traffic that an operator stops: on hold, in maintenance.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::support::{Exposition, LISTENER, QUICK, Site, eventually, get, list, origin};

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
    let measures = Exposition::parse(&proxy.ask("GET", "/metrics").expect("an answer").text());
    let halted = |kind| measures.value("sluice_service_halted", &[("service", "shop"), ("kind", kind)]) > 0.5;
    assert!(halted("hold") && !halted("maintenance"));
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
        site.verb(&["maintenance", "shop", "on", "--message", "Back at noon & <b>sorry</b>\n\u{e4}rgerlich"])
            .status
            .code(),
        Some(0)
    );
    let told = get(address, "any", "/").expect("an answer");
    assert_eq!(told.text(), "Back at noon & <b>sorry</b>\n\u{e4}rgerlich\n");
    let bell = site.verb(&["maintenance", "shop", "on", "--message", "\u{7}"]);
    assert_eq!(bell.status.code(), Some(2), "no control characters");
    assert!(told.header("content-type").is_some_and(|kind| kind.starts_with("text/plain")));
    assert_eq!(site.verb(&["maintenance", "shop", "off"]).status.code(), Some(0));
    assert_eq!(get(address, "any", "/").expect("an answer").status, 200);
}

#[test]
fn whoever_is_on_hold_when_the_proxy_ends_or_the_service_goes_is_told_at_once() {
    let nodes = [origin("v1")];
    let text = |more: &str| {
        format!(
            "shutdown = {{ delay = \"0s\", linger = \"0s\", deadline = \"60s\" }}\n{LISTENER}{more}\
             [service.shop]\nmatch = \"shop.test\"\nnodes = {}\n{QUICK}",
            list(&nodes)
        )
    };
    let blog = format!("[service.blog]\nmatch = \"blog.test\"\nnodes = {}\n{QUICK}", list(&nodes));
    let site = Site::new(&text(&blog));
    let mut proxy = site.start();
    proxy.settled("shop");
    proxy.settled("blog");
    let address = proxy.address();
    for name in ["shop", "blog"] {
        assert_eq!(site.verb(&["hold", name, "--for", "1h"]).status.code(), Some(0));
    }
    let wait = |host: &'static str| thread::spawn(move || get(address, host, "/").expect("an answer"));
    let (shop, blog) = (wait("shop.test"), wait("blog.test"));
    for name in ["shop", "blog"] {
        eventually("it waits", || proxy.service(name).filter(|service| service.waiting == 1));
    }
    site.write(&text(""));
    assert_eq!(blog.join().expect("an end").status, 404);
    assert!(!shop.is_finished());
    let told = Instant::now();
    proxy.signal(rustix::process::Signal::TERM);
    let answer = shop.join().expect("an end");
    assert_eq!((answer.status, answer.header("x-sluice-error")), (503, Some("shutdown")));
    assert!(proxy.exit().success());
    assert!(told.elapsed() < Duration::from_secs(30), "not after the deadline: {:?}", told.elapsed());
}

#[test]
fn what_is_under_way_goes_on_when_the_traffic_is_stopped() {
    use std::io::{Read as _, Write as _};
    let (site, _nodes) = site("");
    let proxy = site.start();
    proxy.settled("shop");
    let mut socket = std::net::TcpStream::connect(proxy.address()).expect("a connection");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a limit");
    let upgrade = "GET /ws HTTP/1.1\r\nHost: any\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    socket.write_all(upgrade.as_bytes()).expect("a written request");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).expect("a head");
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    // "hi", masked with zeros; it comes back without a mask.
    let mut echo = || {
        socket.write_all(b"\x81\x82\0\0\0\0hi").expect("a message");
        let mut back = [0; 4];
        socket.read_exact(&mut back).expect("an echo");
        assert_eq!(&back, b"\x81\x02hi");
    };
    echo();
    for stop in [&["hold", "shop"][..], &["maintenance", "shop", "on"]] {
        let stopped = site.verb(stop);
        assert_eq!(stopped.status.code(), Some(0), "{stopped:?}");
        assert!(String::from_utf8_lossy(&stopped.stdout).contains("1 under way go on"), "{stopped:?}");
        echo();
    }
    assert_eq!(get(proxy.address(), "any", "/").expect("an answer").status, 503);
}

#[test]
fn what_an_operator_was_told_is_done_outlives_a_crash_right_behind_it() {
    let (site, _nodes) = site("");
    for round in 0..10 {
        let proxy = site.start();
        assert_eq!(proxy.service("shop").expect("a status").halt.is_some(), round % 2 == 1, "{round}");
        let how = if round % 2 == 0 { "" } else { "?undo=true" };
        let told = proxy.ask("POST", &format!("/v1/services/shop/maintenance{how}"));
        proxy.kill();
        assert_eq!(told.map(|answer| answer.status), Some(200), "{round}");
    }
}
