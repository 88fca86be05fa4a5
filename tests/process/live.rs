//! What changes while requests come: listeners, routes, timeouts, limits, included files.

use std::net::TcpListener;
use std::time::Duration;

use sluicegate::cli::demo::{Load, LoadOptions, Rates};

use super::support::{Client, LISTENER, Proxy, QUICK, Site, eventually, get, list, origin, slow_origin, stop};

fn service(nodes: &str, more: &str) -> String {
    format!("[service.shop]\nmatch = \"shop.test\"\nnodes = {nodes}\n{QUICK}{more}")
}

/// An address that was free a moment ago.
fn free() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").to_string()
}

fn load(proxy: &Proxy) -> Load {
    let rates = Rates { get: 100.0, post: 40.0, ..Rates::default() };
    Load::start(LoadOptions { rates, ..LoadOptions::mixed(proxy.address(), "shop.test", 1.0, 5) }).expect("load")
}

fn names(proxy: &Proxy) -> Vec<String> {
    proxy.status().expect("a status").listeners.into_iter().map(|listener| listener.name).collect()
}

#[test]
fn listeners_come_move_and_go_and_the_others_lose_nothing() {
    let nodes = [origin("v1")];
    let more = |name: &str, bind: &str| {
        format!("{LISTENER}[[listener]]\nname = \"{name}\"\nbind = \"{bind}\"\n{}", service(&list(&nodes), ""))
    };
    let alone = format!("{LISTENER}{}", service(&list(&nodes), ""));
    let site = Site::new(&alone);
    let proxy = site.start();
    proxy.settled("shop");
    let stays = proxy.address();
    let load = load(&proxy);
    let (first, second) = (free(), free());
    for _ in 0..3 {
        site.write(&more("side", &first));
        let there = eventually("a listener is added", || get(first.parse().ok()?, "shop.test", "/").ok());
        assert_eq!(there.status, 200);
        site.write(&more("side", &second));
        eventually("it moved", || get(second.parse().ok()?, "shop.test", "/").ok());
        eventually("the old place is closed", || get(first.parse().ok()?, "shop.test", "/").is_err().then_some(()));
        // Another name for the same place.
        site.write(&more("renamed", &second));
        eventually("it is renamed", || names(&proxy).contains(&"renamed".to_owned()).then_some(()));
        assert_eq!(get(second.parse().expect("an address"), "shop.test", "/").expect("an answer").status, 200);
        site.write(&alone);
        eventually("it is gone", || get(second.parse().ok()?, "shop.test", "/").is_err().then_some(()));
    }
    assert_eq!(proxy.address(), stays);
    let tally = stop(load);
    assert_eq!(tally.failures(), 0, "{}", tally.explain());
}

#[test]
fn a_listener_that_cannot_be_opened_is_told_and_opened_when_it_can() {
    let nodes = [origin("v1")];
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let bind = taken.local_addr().expect("an address");
    let site = Site::new(&format!("{LISTENER}{}", service(&list(&nodes), "")));
    let proxy = site.start();
    proxy.settled("shop");
    site.write(&format!("{LISTENER}[[listener]]\nname = \"side\"\nbind = \"{bind}\"\n{}", service(&list(&nodes), "")));
    let error = eventually("the status tells it", || {
        proxy.status()?.listeners.into_iter().find(|listener| listener.name == "side")?.error
    });
    assert!(error.contains(&bind.to_string()) && error.contains("`side`"), "{error}");
    assert!(proxy.status().is_some_and(|status| status.ready), "an edit took the proxy out of its load balancer");
    assert_eq!(get(proxy.address(), "shop.test", "/").expect("an answer").status, 200);
    drop(taken);
    eventually("it is opened", || get(bind, "shop.test", "/").ok());
}

#[test]
fn routes_timeouts_and_limits_change_for_the_next_request() {
    let nodes = [slow_origin("v1", Duration::from_millis(300))];
    let text = |top: &str, more: &str| format!("{top}\n{LISTENER}{}", service(&list(&nodes), more));
    let site = Site::new(&text("", ""));
    let proxy = site.start();
    let before = proxy.settled("shop");
    let mut kept = Client::connect(proxy.address()).expect("a connection");
    assert_eq!(kept.get("shop.test", "/").expect("an answer").status, 200);

    site.write(&text("", "timeouts = { response = \"50ms\" }\n"));
    eventually("the timeout is shorter", || (kept.get("shop.test", "/").ok()?.status == 504).then_some(()));
    site.write(&text("", "timeouts = { response = \"20s\" }\n"));
    eventually("it is longer again", || (get(proxy.address(), "shop.test", "/").ok()?.status == 200).then_some(()));

    site.write(
        &text("", "")
            .replace("\"shop.test\"", "\"shop.test/app\"")
            .replace(QUICK, &format!("strip_prefix = true\n{QUICK}")),
    );
    eventually("the route is another one", || {
        (get(proxy.address(), "shop.test", "/").ok()?.status == 404).then_some(())
    });
    assert_eq!(get(proxy.address(), "shop.test", "/app").expect("an answer").status, 200);

    let fat = format!("/app?{}", "x".repeat(20_000));
    assert_ne!(get(proxy.address(), "shop.test", &fat).expect("an answer").status, 414);
    site.write(&text("limits = { head_size = \"8KiB\" }", "").replace("\"shop.test\"", "\"shop.test/app\""));
    eventually("the limit is lower", || (get(proxy.address(), "shop.test", &fat).ok()?.status == 414).then_some(()));
    let after = proxy.service("shop").expect("a status");
    assert_eq!(after.nodes[0].since, before.nodes[0].since, "the node was touched");
    assert_eq!(after.change, before.change);
}

#[test]
fn a_broken_service_file_holds_back_that_service_alone() {
    let (shop, blog) = ([origin("shop")], [origin("blog")]);
    let one = |name: &str, nodes: &str, more: &str| {
        format!("[service.{name}]\nmatch = \"{name}.test\"\nnodes = {nodes}\n{QUICK}{more}")
    };
    let site = Site::new(&format!("include = [\"services/*.toml\"]\n{LISTENER}"));
    std::fs::create_dir(site.path("services")).expect("a folder");
    site.replace("services/shop.toml", &one("shop", &list(&shop), ""));
    site.replace("services/blog.toml", &one("blog", &list(&blog), ""));
    let proxy = site.start();
    proxy.settled("shop");
    proxy.settled("blog");
    let status = |host: &str| get(proxy.address(), host, "/").expect("an answer").status;

    site.replace("services/shop.toml", &one("shop", "[\"127.0.0.1:1\"", ""));
    site.replace(
        "services/blog.toml",
        &one("blog", &list(&blog), "strip_prefix = true\n").replace("blog.test", "new.test"),
    );
    eventually("the other file's edit is live", || (status("new.test") == 200).then_some(()));
    assert_eq!(status("shop.test"), 200, "the broken file's service is gone");
    let told = proxy.status().expect("a status").config;
    assert!(told.stale);
    assert!(told.problems.iter().all(|problem| problem.path.ends_with("services/shop.toml")), "{:?}", told.problems);

    // A restart with the broken file: the other one serves, and the first comes when it is mended.
    drop(proxy);
    let proxy = site.start();
    let status = |host: &str| get(proxy.address(), host, "/").expect("an answer").status;
    assert_eq!((status("new.test"), status("shop.test")), (200, 404));
    site.replace("services/shop.toml", &one("shop", &list(&shop), ""));
    eventually("the mended file is live", || (status("shop.test") == 200).then_some(()));
    assert!(!proxy.status().expect("a status").config.stale);
}

#[test]
fn versions_without_nodes_are_told_only_while_they_matter() {
    let (v1, v2) = ([origin("v1")], [origin("v2")]);
    let text = |release: &str| {
        format!(
            "{LISTENER}[service.shop]\nmatch = \"*\"\nrelease = \"{release}\"\n{QUICK}\
             versions = {{ v1 = {}, v2 = {} }}\n",
            list(&v1),
            list(&v2)
        )
    };
    let site = Site::new(&text("v1"));
    let proxy = site.start();
    proxy.settled("shop");
    assert_eq!(get(proxy.address(), "shop.test", "/").expect("an answer").status, 200);
    site.write(&text("v2"));
    assert!(site.verb(&["wait", "shop", "--timeout", "60s"]).status.success());
    let told = eventually("the old version is not told any more", || {
        let service = proxy.settled("shop");
        (service.versions.len() == 1).then_some(service)
    });
    assert_eq!(told.versions[0].version.as_str(), "v2");
    // Its requests are not forgotten: they are there again when it comes back.
    site.write(&text("v1"));
    assert!(site.verb(&["wait", "shop", "--timeout", "60s"]).status.success());
    let back = proxy.settled("shop");
    let v1 = back.versions.iter().find(|version| version.version.as_str() == "v1").expect("v1");
    assert!(v1.requests >= 1);
}
