//! Users stay on one version, and move to the new one once.

use std::collections::BTreeMap;

use http::header::SET_COOKIE;
use sluicegate::pool::CohortKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::any::{AnyClient, Http, whole};
use crate::support::client::{Client, Response};
use crate::support::control::refused;
use crate::support::node::TestNode;
use crate::support::trial::on_trial;
use crate::support::{Proxy, until};

const COOKIE: &str = "cohort = {}\n";

/// The cookie of an answer, as a client sends it.
fn cookie(response: &Response) -> Option<String> {
    response.header("set-cookie").map(|value| value.split(';').next().unwrap_or_default().to_owned())
}

async fn ask(client: &mut Client, path: &str, field: &str) -> Response {
    client.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\n{field}\r\n\r\n")).await;
    client.response("GET").await.expect("a response")
}

async fn pair() -> (TestNode, TestNode) {
    (TestNode::answering("old").await, TestNode::answering("new").await)
}

/// What the tests' own key signs.
fn signed(place: u32) -> String {
    format!("sluice-app={}", CohortKey::new(b"the key of the tests").sign(&"app".into(), place))
}

#[tokio::test]
async fn users_with_a_cookie_move_once_while_the_share_grows_and_back_only_on_a_rollback() {
    let (old, new) = pair().await;
    let mut proxy = on_trial(&[old.address], &[new.address], 500, COOKIE);
    let mut client = Client::connect(proxy.address).await;
    let mut users = BTreeMap::new();
    for number in 0..300 {
        let response = client.get("/").await;
        users.insert(cookie(&response).expect("a cookie"), response.text() == "new");
        assert!(users.len() <= number + 1);
    }
    let news = |users: &BTreeMap<String, bool>| users.values().filter(|new| **new).count();
    // Two visitors may have drawn the same place.
    assert!(users.len() > 200 && (8..=17).contains(&news(&users)), "{} of {}", news(&users), users.len());
    for share in [500, 1_000, 2_500, 5_000, 9_990, 10_000] {
        proxy.give(share);
        for (user, is_new) in &mut users {
            let response = ask(&mut client, "/", &format!("cookie: a=b; {user}; c=d")).await;
            assert!(cookie(&response).is_none(), "it has one");
            let now = response.text() == "new";
            assert!(now || !*is_new, "back at {share}");
            *is_new = now;
        }
    }
    assert_eq!(news(&users), users.len());
    proxy.give(0);
    for user in users.keys() {
        assert_eq!(ask(&mut client, "/", &format!("cookie: {user}")).await.text(), "old");
    }
}

/// As often as anybody deploys in a month; half of them are rolled back.
#[tokio::test]
async fn over_fifty_rollouts_no_pinned_user_meets_a_version_that_is_not_its_own() {
    let (old, new) = pair().await;
    let mut proxy = on_trial(&[old.address], &[new.address], 0, COOKIE);
    let mut client = Client::connect(proxy.address).await;
    let users = [0, 4_200, 7_499, 7_500, 9_499, 9_500, 9_999].map(|place| (place, signed(place)));
    for rollout in 0..50 {
        let back = if rollout % 2 == 0 { 0 } else { 10_000 };
        for share in [500, 2_500, back] {
            proxy.give(share);
            for (place, user) in &users {
                let expected = if *place >= 10_000 - share { "new" } else { "old" };
                let response = ask(&mut client, "/", &format!("cookie: {user}")).await;
                assert_eq!((response.text().as_str(), cookie(&response)), (expected, None), "{place} at {share}");
            }
        }
    }
}

#[tokio::test]
async fn a_client_is_pinned_by_its_address_as_trusted_proxies_tell_it() {
    let (old, new) = pair().await;
    let service = crate::support::trial::canary(&[old.address], &[new.address], "cohort.by = \"client\"\n");
    let mut proxy = Proxy::with_workers(&format!("trusted_proxies = [\"127.0.0.1\"]\n{service}"), 1);
    proxy.give(5_000);
    let mut client = Client::connect(proxy.address).await;
    let mut news = 0;
    for user in 0..100 {
        // In IPv6, who moves within its own network is the same client.
        let own = [format!("192.0.2.{user}"), format!("2001:db8:0:{user}::1"), format!("2001:db8:0:{user}::2")];
        let mut seen = Vec::new();
        for address in own.iter().chain(&own) {
            seen.push(ask(&mut client, "/", &format!("x-forwarded-for: {address}")).await.text());
        }
        assert!(seen[0] == seen[3] && seen[1..3] == [seen[4].clone(), seen[4].clone()] && seen[4] == seen[5]);
        news += usize::from(seen[0] == "new") + usize::from(seen[1] == "new");
    }
    assert!((60..140).contains(&news), "{news} of 200");
}

#[tokio::test]
async fn the_cookie_holds_a_place_and_is_for_the_whole_host() {
    let (old, new) = pair().await;
    let proxy = on_trial(&[old.address], &[new.address], 5_000, COOKIE);
    let response = Client::connect(proxy.address).await.get("/deep/path").await;
    let set = response.header("set-cookie").expect("a cookie");
    let (pair, attributes) = set.split_once("; ").expect("attributes");
    assert_eq!(attributes, "Path=/; HttpOnly; SameSite=Lax; Max-Age=2592000");
    let value = pair.strip_prefix("sluice-app=1.").expect("its name and form");
    let (place, signature) = value.split_once('.').expect("two parts");
    assert!(place.parse::<u32>().is_ok_and(|place| place < 10_000) && signature.len() == 22);
    // Over TLS, or as a trusted proxy says.
    let more = "cohort = { name = \"c\", max_age = \"session\" }\n";
    let trusted = format!(
        "trusted_proxies = [\"127.0.0.0/8\"]\n{}",
        crate::support::trial::canary(&[old.address], &[new.address], more)
    );
    let mut proxy = Proxy::with_workers(&trusted, 1);
    proxy.give(5_000);
    let response = ask(&mut Client::connect(proxy.address).await, "/", "x-forwarded-proto: https").await;
    let set = response.header("set-cookie").expect("a cookie");
    assert!(set.starts_with("c=1.") && set.ends_with("; Path=/; HttpOnly; SameSite=Lax; Secure"), "{set}");
}

#[tokio::test]
async fn a_forged_cookie_is_replaced_and_moves_nobody() {
    let (old, new) = pair().await;
    let proxy = on_trial(&[old.address], &[new.address], 1, COOKIE);
    let mut client = Client::connect(proxy.address).await;
    let good = signed(9_999);
    assert_eq!(ask(&mut client, "/", &format!("cookie: {good}")).await.text(), "new");
    let other_service = CohortKey::new(b"the key of the tests").sign(&"shop".into(), 9_999);
    let other_key = CohortKey::new(b"guessed").sign(&"app".into(), 9_999);
    let mut to_new = 0;
    for forged in ["1.9999", "1.9999.AAAAAAAAAAAAAAAAAAAAAA", "", "x", &other_service, &other_key, &"9".repeat(5_000)] {
        let response = ask(&mut client, "/", &format!("cookie: sluice-app={forged}")).await;
        assert!(cookie(&response).is_some(), "{forged} is replaced");
        to_new += usize::from(response.text() == "new");
    }
    // They went by their turn, of which one in ten thousand is the new version's.
    assert!(to_new <= 1);
    // A forged one in front does not hide the good one.
    let response = ask(&mut client, "/", &format!("cookie: sluice-app=1.1.x\r\ncookie: {good}")).await;
    assert_eq!((response.text().as_str(), cookie(&response)), ("new", None));
}

#[tokio::test]
async fn over_http2_the_cookie_is_found_in_any_of_its_fields() {
    let (old, new) = pair().await;
    let proxy = on_trial(&[old.address], &[new.address], 5_000, COOKIE);
    let mut client = AnyClient::connect(Http::Two, proxy.address).await;
    for (place, version) in [(0, "old"), (4_999, "old"), (5_000, "new"), (9_999, "new")] {
        let mine = signed(place);
        let fields = [("cookie", "a=1"), ("cookie", mine.as_str()), ("cookie", "z=2"), ("content-length", "0")];
        let (sender, response) = client.begin("GET", "/", &fields);
        drop(sender);
        let answer = whole(response.await.expect("an answer")).await;
        assert_eq!(answer.text(), version, "{place}");
        assert!(!answer.headers.contains_key(SET_COOKIE));
    }
    let (sender, response) = client.begin("GET", "/", &[("content-length", "0")]);
    drop(sender);
    assert!(whole(response.await.expect("an answer")).await.headers.contains_key(SET_COOKIE));
}

#[tokio::test]
async fn a_cookie_is_set_only_while_two_versions_serve_and_not_where_caches_would_share_it() {
    let old = TestNode::start(|mut peer| async move {
        while let Some(request) = peer.request().await {
            let control = if request.line.contains("/asset") { "public, max-age=60" } else { "no-cache" };
            peer.send(format!("HTTP/1.1 200 OK\r\ncache-control: {control}\r\ncontent-length: 3\r\n\r\nold")).await;
        }
    })
    .await;
    let new = TestNode::answering("new").await;
    let mut proxy = on_trial(&[old.address], &[new.address], 0, COOKIE);
    let mut client = Client::connect(proxy.address).await;
    assert!(cookie(&client.get("/").await).is_some());
    assert!(cookie(&client.get("/asset").await).is_none());
    proxy.publish_shares(&[("v1", 10_000)], false);
    assert!(cookie(&client.get("/").await).is_none());
}

#[tokio::test]
async fn a_header_or_another_cookie_pins_without_a_cookie_of_its_own() {
    let (old, new) = pair().await;
    for (by, field) in [("header X-User", "x-user: "), ("cookie session", "cookie: a=b; session=")] {
        let more = format!("cohort.by = \"{by}\"\nbalance.policy = \"hash\"\nbalance.by = \"header X-Other\"\n");
        let mut proxy = on_trial(&[old.address], &[new.address], 3_000, &more);
        let mut client = Client::connect(proxy.address).await;
        let mut before: BTreeMap<usize, bool> = BTreeMap::new();
        for share in [3_000, 6_000, 10_000] {
            proxy.give(share);
            for user in 0..100 {
                for other in 0..2 {
                    // The policy's own key chooses the node, never the version.
                    let response = ask(&mut client, "/", &format!("x-other: {other}{user}\r\n{field}{user}")).await;
                    assert!(cookie(&response).is_none());
                    let now = response.text() == "new";
                    assert!(now || !before.get(&user).copied().unwrap_or(false), "back at {share}");
                    assert!(other == 0 || before[&user] == now, "one version for one user");
                    before.insert(user, now);
                }
            }
            let news = before.values().filter(|new| **new).count();
            assert!(news.abs_diff(share as usize / 100) <= 20, "{news} at {share}");
        }
    }
}

#[tokio::test]
async fn a_pinned_user_whose_version_is_gone_gets_the_other_and_keeps_its_place() {
    let old = TestNode::answering("old").await;
    let dead = refused();
    let proxy = on_trial(&[old.address], &[dead], 5_000, COOKIE);
    let mut client = Client::connect(proxy.address).await;
    for _ in 0..5 {
        let response = ask(&mut client, "/", &format!("cookie: {}", signed(9_000))).await;
        assert_eq!((response.text().as_str(), cookie(&response)), ("old", None));
    }
}

/// 0 requests of a pinned user meet the other version, over steps and reconnects.
#[tokio::test]
async fn a_session_and_a_websocket_that_span_a_step_stay_where_they_are() {
    let node = |name: &'static str| {
        TestNode::start(move |mut peer| async move {
            while let Some(request) = peer.request().await {
                if request.header("upgrade").is_none() {
                    peer.respond(200, name).await;
                    continue;
                }
                peer.send("HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n")
                    .await;
                loop {
                    let mut byte = [0];
                    if peer.stream.read_exact(&mut byte).await.is_err() {
                        return;
                    }
                    peer.send(name).await;
                }
            }
        })
    };
    let (old, new) = (node("old").await, node("new").await);
    let mut proxy = on_trial(&[old.address], &[new.address], 1_000, COOKIE);
    let upgrade = "upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-key: x\r\nsec-websocket-version: 13";
    let mut sockets = Vec::new();
    for place in [100, 8_000, 9_500] {
        let mut client = Client::connect(proxy.address).await;
        let mine = signed(place);
        client.send(format!("GET / HTTP/1.1\r\nhost: a\r\ncookie: {mine}\r\n{upgrade}\r\n\r\n")).await;
        assert_eq!(client.head().await.expect("a head").status, 101);
        sockets.push((place, client));
    }
    let mut steady = Client::connect(proxy.address).await;
    for share in [1_000, 5_000, 9_000] {
        proxy.give(share);
        for (place, client) in &mut sockets {
            client.stream.write_all(b"?").await.expect("a tunnel");
            let mut name = [0; 3];
            client.stream.read_exact(&mut name).await.expect("an answer");
            // As it was when it was opened.
            assert_eq!(&name, if *place >= 9_000 { b"new" } else { b"old" }, "{place} at {share}");
            let expected = if *place >= 10_000 - share { "new" } else { "old" };
            assert_eq!(ask(&mut steady, "/", &format!("cookie: {}", signed(*place))).await.text(), expected);
        }
    }
    drop(sockets);
    until("the tunnels end", || proxy.node(old.address).inflight() + proxy.node(new.address).inflight() == 0).await;
}

#[tokio::test]
async fn an_asset_that_one_version_lacks_is_asked_of_the_other() {
    let node = |own: &'static str| {
        TestNode::start(move |mut peer| async move {
            while let Some(request) = peer.request().await {
                let path = request.line.split(' ').nth(1).unwrap_or_default().to_owned();
                let has = path.ends_with(own) || path.ends_with("both");
                if path.ends_with("broken") {
                    peer.respond(if own == "old" { 404 } else { 500 }, "?").await;
                } else {
                    peer.respond(if has { 200 } else { 404 }, own).await;
                }
            }
        })
    };
    let (old, new) = (node("old").await, node("new").await);
    let mut proxy = on_trial(&[old.address], &[new.address], 5_000, "cohort = { assets = [\"/assets/\"] }\n");
    let mut client = Client::connect(proxy.address).await;
    let (on_old, on_new) = (format!("cookie: {}", signed(0)), format!("cookie: {}", signed(9_999)));
    for (path, user, status, text) in [
        ("/assets/x.new", &on_old, 200, "new"),
        ("/assets/x.old", &on_new, 200, "old"),
        ("/assets/x.both", &on_old, 200, "old"),
        ("/assets/none", &on_old, 404, "old"),
        ("/assets/none", &on_new, 404, "new"),
        ("/assets/broken", &on_old, 404, "?"),
        ("/assetsx.new", &on_old, 404, "old"),
        ("/page.new", &on_old, 404, "old"),
        ("/./assets//x.new", &on_old, 200, "new"),
    ] {
        let response = ask(&mut client, path, user).await;
        assert_eq!((response.status, response.text().as_str()), (status, text), "{path} {user}");
    }
    client.send(format!("POST /assets/x.new HTTP/1.1\r\nhost: a\r\n{on_old}\r\ncontent-length: 0\r\n\r\n")).await;
    assert_eq!(client.response("POST").await.expect("a response").status, 404, "only GET and HEAD");
    // Those who were asked beside are not judged by it.
    assert_eq!(proxy.judged(new.address), (2, vec![]));
    until("no claim is left", || proxy.node(old.address).inflight() + proxy.node(new.address).inflight() == 0).await;
    proxy.publish_shares(&[("v1", 10_000)], false);
    assert_eq!(ask(&mut client, "/assets/x.new", &on_old).await.status, 404);
}
