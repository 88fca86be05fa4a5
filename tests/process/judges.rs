//! Outside judges of a version on trial, as real servers beside the real proxy.

use std::net::TcpListener;

use serde_json::Value;
use sluicegate::api::{Evidence, HistoryEntry, Outcome};
use sluicegate::cli::demo::Origin;

use super::support::server::Server;
use super::support::{LISTENER, Proxy, QUICK, Site, eventually, get, list, origin};

/// One step that ends as soon as everybody lets it.
fn canary(release: &str, old: &[Origin], new: &[Origin], judges: &str) -> String {
    format!(
        "{LISTENER}[service.shop]\nmatch = \"*\"\nrelease = \"{release}\"\n{QUICK}\
         [service.shop.rollout]\nstrategy = \"canary\"\nkeep = \"0s\"\nsteps = [{{ share = \"50%\" }}]\n\
         [service.shop.rollout.guard]\nmore_errors = \"off\"\nmin_requests = 1\nextend = \"0s\"\ntoo_few = \"pass\"\n{judges}\n\
         [service.shop.versions]\nv1 = {}\nv2 = {}\n",
        list(old),
        list(new)
    )
}

/// The evidence, once the judge's verdict is this. Requests go on meanwhile.
fn opinion(proxy: &Proxy, verdict: &str) -> Evidence {
    eventually(verdict, || {
        get(proxy.address(), "any", "/").ok()?;
        let evidence = proxy.service("shop")?.rollout?.trial?.evidence?;
        (evidence.judges.first()?.verdict == verdict).then_some(evidence)
    })
}

/// How the rollout of v2 ended, once it has.
fn ended(proxy: &Proxy) -> Option<HistoryEntry> {
    proxy.history("shop").into_iter().find(|entry| entry.to.as_str() == "v2")
}

#[test]
fn no_step_passes_before_the_webhook_lets_it_and_the_webhook_is_told_of_the_trial() {
    let (old, new) = ([origin("v1")], [origin("v2")]);
    let server = Server::start(r#"{"verdict": "hold", "reason": "the tests still run"}"#);
    let judges = format!(
        "[service.shop.rollout.guard.webhook]\nurl = \"http://{}/judge\"\ninterval = \"20ms\"\nheaders = [\"X-Key: secret\"]\n",
        server.address
    );
    let site = Site::new(&canary("v1", &old, &new, &judges));
    let proxy = site.start();
    proxy.settled("shop");
    site.write(&canary("v2", &old, &new, &judges));
    let evidence = opinion(&proxy, "hold");
    assert_eq!(evidence.verdict, "hold");
    assert!(evidence.reason.contains("does not let it pass yet: the tests still run"), "{}", evidence.reason);
    let asked = server.asked();
    assert!(asked.starts_with("POST /judge HTTP/1.1\r\n") && asked.contains("x-key: secret"), "{asked}");
    let case: Value = serde_json::from_str(asked.split_once("\r\n\r\n").expect("a body").1).expect("JSON");
    assert_eq!((&case["service"], &case["version"], &case["share"]), (&"shop".into(), &"v2".into(), &50.0.into()));
    assert!(case["evidence"]["new"]["requests"].is_u64(), "{case}");

    // What it says cannot be understood, or it is not there: nothing passes either.
    server.says(500, "out of order");
    let evidence = opinion(&proxy, "unavailable");
    assert!(evidence.reason.contains("cannot be asked: status 500: out of order"), "{}", evidence.reason);
    server.says(200, "well done");
    eventually("an answer that is no verdict", || {
        opinion(&proxy, "unavailable").reason.contains("its answer is not like").then_some(())
    });

    server.says(200, r#"{"verdict": "pass"}"#);
    eventually("the end", || ended(&proxy).filter(|entry| entry.outcome == Outcome::Done));
}

#[test]
fn a_value_of_prometheus_outside_of_its_bounds_sends_a_version_back() {
    let (old, new) = ([origin("v1")], [origin("v2")]);
    let value = |value: &str| {
        format!(
            r#"{{"status":"success","data":{{"resultType":"vector","result":[{{"metric":{{}},"value":[1,"{value}"]}}]}}}}"#
        )
    };
    let server = Server::start(&value("NaN"));
    let judges = format!(
        "[[service.shop.rollout.guard.prometheus]]\nurl = \"http://{}\"\nquery = 'lost{{v=\"{{version}}\"}}'\nmax = 0.02\ninterval = \"20ms\"\n",
        server.address
    );
    let site = Site::new(&canary("v1", &old, &new, &judges));
    let proxy = site.start();
    proxy.settled("shop");
    site.write(&canary("v2", &old, &new, &judges));
    assert!(opinion(&proxy, "unavailable").reason.contains("the query finds nothing"));
    assert!(
        server.asked().starts_with("GET /api/v1/query?query=lost%7Bv%3D%22v2%22%7D HTTP/1.1"),
        "{}",
        server.asked()
    );
    server.says(200, &value("0.5"));
    let entry = eventually("the end", || ended(&proxy));
    assert_eq!(entry.outcome, Outcome::RolledBack);
    assert!(entry.reason.contains("does not accept it: the value is 0.5, allowed is at most 0.02"), "{}", entry.reason);
    let evidence = entry.steps[0].evidence.as_ref().expect("evidence");
    assert_eq!((evidence.verdict.as_str(), evidence.judges[0].verdict.as_str()), ("fail", "fail"));
}

#[test]
fn a_judge_that_nobody_can_reach_is_ignored_if_so_configured() {
    let (old, new) = ([origin("v1")], [origin("v2")]);
    let nobody = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    let judges =
        format!("[service.shop.rollout.guard.webhook]\nurl = \"http://{nobody}/\"\nunavailable = \"ignore\"\n");
    let site = Site::new(&canary("v1", &old, &new, &judges));
    let proxy = site.start();
    proxy.settled("shop");
    site.write(&canary("v2", &old, &new, &judges));
    eventually("the end", || {
        get(proxy.address(), "any", "/").ok()?;
        ended(&proxy).filter(|entry| entry.outcome == Outcome::Done)
    });
}

#[test]
fn a_server_is_told_of_a_rollout_in_order_and_again_until_it_takes_it() {
    let (old, new) = ([origin("v1")], [origin("v2")]);
    let server = Server::start("");
    server.says(503, "not now");
    let events = format!(
        "[service.shop.rollout.events]\nurl = \"http://{}/hook\"\nheaders = [\"X-Key: secret\"]\n",
        server.address
    );
    let canary = |release: &str| {
        canary(release, &old, &new, &events).replace("too_few = \"pass\"", "").replace("more_errors = \"off\"", "")
    };
    let site = Site::new(&canary("v1"));
    let proxy = site.start();
    proxy.settled("shop");
    site.write(&canary("v2"));
    eventually("the end", || {
        get(proxy.address(), "any", "/").ok()?;
        ended(&proxy)
    });
    let first = eventually("the first try", || server.told().first().cloned());
    assert_eq!(
        (&first["event"], &first["version"], &first["service"]),
        (&"began".into(), &"v1".into(), &"shop".into())
    );
    // The process has done all of it; nobody was told but of the beginning.
    assert!(server.told().iter().all(|told| told["id"] == first["id"]));
    server.says(204, "");
    let told = eventually("the last event", || {
        let told = server.told();
        told.iter().any(|told| told["event"] == "ended" && told["version"] == "v2").then_some(told)
    });
    let mut seen = Vec::new();
    for told in &told {
        let line =
            format!("{} {}", told["event"].as_str().expect("a word"), told["version"].as_str().expect("a version"));
        if seen.last() != Some(&line) {
            seen.push(line);
        }
    }
    let wanted = ["began v1", "ended v1", "began v2", "stepped v2", "verdict v2", "stepped v2", "ended v2"];
    assert_eq!(seen, wanted, "{told:#?}");
    let last = told.last().expect("one");
    assert_eq!(
        (&last["outcome"], last["text"].as_str().is_some_and(|text| text.starts_with("shop: v2 done"))),
        (&"done".into(), true)
    );
    assert!(server.asked().contains("x-key: secret"));
}
