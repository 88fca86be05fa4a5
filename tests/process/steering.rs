//! Verbs that steer and look, against the real proxy with a real rollout.

use serde_json::Value;
use sluicegate::api::Outcome;

use super::support::{Site, canary, eventually, get, origin, text};

#[test]
fn a_canary_is_promoted_paused_resumed_and_ends_and_the_history_tells_who_did_it() {
    let (old, new) = ([origin("v1")], [origin("v2")]);
    let site = Site::new(&canary("v1", &old, &new));
    let proxy = site.start();
    proxy.settled("shop");
    // Nothing to steer.
    for verb in ["promote", "pause", "resume", "abort", "retry"] {
        let refused = site.verb(&[verb, "shop"]);
        assert_eq!(refused.status.code(), Some(2), "{verb}: {}", text(&refused));
    }
    site.write(&canary("v2", &old, &new));
    let share = |share: f64| {
        eventually("the share", || {
            let trial = proxy.service("shop")?.rollout?.trial?;
            ((trial.share - share).abs() < 0.01).then_some(trial)
        })
    };
    assert_eq!(share(25.0).step, 1);
    let status = text(&site.verb(&["status", "shop"]));
    assert!(status.contains("on trial: v2 with 25%, step 1 of 2"), "{status}");

    assert_eq!(site.verb(&["pause", "shop"]).status.code(), Some(0));
    assert!(share(25.0).paused.is_some());
    assert_eq!(site.verb(&["pause", "shop"]).status.code(), Some(2), "it is paused already");
    assert_eq!(site.verb(&["resume", "shop"]).status.code(), Some(0));

    let promoted = site.verb(&["promote", "shop", "--json"]);
    let json: Value = serde_json::from_slice(&promoted.stdout).expect("one document");
    assert_eq!(json["name"], "shop");
    assert_eq!(share(50.0).step, 2);
    let done = site.verb(&["promote", "shop", "--full", "--wait", "--timeout", "60s"]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done));
    let entry = &proxy.history("shop")[0];
    assert_eq!((entry.outcome, entry.steered.len()), (Outcome::Done, 4));
    assert!(entry.steered.iter().all(|act| act.by.contains("uid ")), "{:?}", entry.steered);
    let history = text(&site.verb(&["history", "shop"]));
    assert!(history.contains("25% for") && history.contains("promote by"), "{history}");
}

#[test]
fn an_aborted_deploy_ends_with_4_puts_the_file_back_and_can_be_tried_again() {
    let (old, new) = ([origin("v1")], [origin("v2")]);
    let site = Site::new(&canary("v1", &old, &new));
    let proxy = site.start();
    proxy.settled("shop");
    let before = std::fs::read_to_string(site.config()).expect("a file");
    let deploy = site.command(&["deploy", "shop", "--version", "v2"]).spawn().expect("a process");
    eventually("v2 is on trial", || proxy.service("shop")?.rollout?.trial.filter(|trial| trial.share > 0.0));
    let aborted = site.verb(&["abort", "shop", "--wait", "--timeout", "60s"]);
    assert_eq!(aborted.status.code(), Some(0), "{}", text(&aborted));
    let deploy = deploy.wait_with_output().expect("its end");
    assert_eq!(deploy.status.code(), Some(4), "{}", text(&deploy));
    assert_eq!(std::fs::read_to_string(site.config()).expect("a file"), before, "the file is put back");
    let answer = get(proxy.address(), "any", "/").expect("an answer");
    assert_eq!(answer.header("x-demo-version").unwrap_or("v1"), "v1");

    // The file asks for it again: it is refused until somebody says otherwise.
    site.write(&canary("v2", &old, &new));
    eventually("it stays refused", || {
        let shop = proxy.service("shop")?;
        (shop.release.as_str() == "v2" && shop.phase == "failed").then_some(())
    });
    let planned = site.verb(&["plan"]);
    assert_eq!(planned.status.code(), Some(0), "{}", text(&planned));
    assert_eq!(site.verb(&["retry", "shop"]).status.code(), Some(0));
    eventually("v2 is on trial again", || proxy.service("shop")?.rollout?.trial.filter(|trial| trial.share > 0.0));
}

#[test]
fn a_plan_tells_what_a_file_would_do_and_changes_nothing() {
    let (old, new) = ([origin("v1")], [origin("v2")]);
    let site = Site::new(&canary("v1", &old, &new));
    let proxy = site.start();
    proxy.settled("shop");
    let plan = |content: &str, more: &[&str]| {
        site.replace("next.toml", content);
        let next = site.path("next.toml");
        let mut args = vec!["plan", "--config", next.to_str().expect("a path")];
        args.extend(more);
        let output = site.verb(&args);
        (output.status.code(), text(&output))
    };
    let (code, said) = plan(&canary("v1", &old, &new), &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("nothing would change"), "{said}");

    let next = canary("v2", &old, &new).replace("match = \"*\"", "match = [\"*\", \"shop.test/x\"]")
        + "[service.blog]\nmatch = \"blog.test\"\nnodes = [\"127.0.0.1:9\"]\n[service.shop.timeouts]\nresponse = \"7s\"\n";
    let (code, said) = plan(&next, &[]);
    assert_eq!(code, Some(8), "{said}");
    for part in [
        "~ service shop",
        "v2 takes over from v1 (canary): 25% until it is promoted, 50% until it is promoted, then all",
        &format!("+ {} (v2) joins", new[0].address()),
        &format!("- {} (v1) drains", old[0].address()),
        "+ answers for shop.test/x",
        "~ settings: timeouts",
        "+ service blog is added",
    ] {
        assert!(said.contains(part), "{part}\n{said}");
    }
    let (code, said) = plan(&next, &["--json"]);
    let json: Value = serde_json::from_str(&said).expect("one document");
    assert_eq!((code, &json["changes"], &json["schema"]), (Some(8), &Value::from(true), &Value::from(1)));
    assert_eq!(json["services"][1]["rollout"]["join"][0]["address"], new[0].address().to_string());

    let (code, said) = plan(&next.replace("response", "respond"), &[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("unknown key"), "{said}");
    assert_eq!(proxy.service("shop").map(|shop| shop.release.to_string()).as_deref(), Some("v1"));
    drop(proxy);
    assert_eq!(plan(&next, &[]).0, Some(1));
}

/// A request to the admin socket, with more header lines: status, head, and what comes until it says so or ends.
fn ask(site: &Site, line: &str, more: &str, until: &str) -> (String, String) {
    use std::io::{Read as _, Write as _};
    let mut stream = std::os::unix::net::UnixStream::connect(site.socket()).expect("a socket");
    stream.set_read_timeout(Some(std::time::Duration::from_secs(30))).expect("a limit");
    write!(stream, "{line} HTTP/1.1\r\nHost: s\r\nConnection: close\r\n{more}\r\n").expect("a written request");
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let read = if !until.is_empty() && text.contains(until) { 0 } else { stream.read(&mut piece).expect("bytes") };
        if read == 0 {
            return (text.split(' ').nth(1).unwrap_or_default().to_owned(), text);
        }
        bytes.extend_from_slice(&piece[..read]);
    }
}

#[test]
fn of_two_scripts_that_saw_the_same_state_one_wins_and_the_other_is_told() {
    let (old, new) = ([origin("v1")], [origin("v2")]);
    let site = Site::new(&canary("v1", &old, &new));
    let proxy = site.start();
    proxy.settled("shop");
    site.write(&canary("v2", &old, &new));
    eventually("v2 is on trial", || proxy.service("shop")?.rollout?.trial.filter(|trial| trial.share > 24.0));
    let (_, seen) = ask(&site, "GET /v1/services/shop", "", "");
    let tag = seen.lines().find_map(|line| line.strip_prefix("etag: ")).expect("an ETag").to_owned();
    let condition = format!("If-Match: {tag}\r\n");
    let promote = || ask(&site, "POST /v1/services/shop/promote", &condition, "").0;
    let mut codes = std::thread::scope(|scope| {
        let both = [scope.spawn(promote), scope.spawn(promote)];
        both.map(|one| one.join().expect("an answer"))
    });
    codes.sort();
    assert_eq!(codes, ["200", "412"]);
    let trial = proxy.service("shop").and_then(|shop| shop.rollout?.trial).expect("a trial");
    assert_eq!(trial.step, 2, "one step, not two");
    let hold = ask(&site, "POST /v1/services/shop/hold", &condition, "").0;
    assert_eq!(hold, "412");
    let (code, _) = ask(&site, "POST /v1/services/shop/pause", "If-Match: unquoted\r\n", "");
    assert_eq!(code, "400");
    let log = proxy.log();
    let audit: Vec<_> = log.lines().filter(|line| line.contains("audit")).collect();
    for part in ["status=200", "status=412", "/v1/services/shop/promote", "uid "] {
        assert!(audit.iter().any(|line| line.contains(part)), "{part}: {audit:?}");
    }
}

#[test]
fn events_tell_a_rollout_from_its_beginning_to_its_end_and_are_taken_up_again() {
    let (old, new) = ([origin("v1")], [origin("v2")]);
    let site = Site::new(&canary("v1", &old, &new));
    let proxy = site.start();
    proxy.settled("shop");
    site.write(&canary("v2", &old, &new));
    eventually("v2 is on trial", || proxy.service("shop")?.rollout?.trial.filter(|trial| trial.share > 24.0));
    assert_eq!(site.verb(&["abort", "shop"]).status.code(), Some(0));
    site.write("[[");
    let (code, told) = ask(&site, "GET /v1/events?after=0", "", "event: invalid");
    assert_eq!(code, "200");
    let mut rest = told.as_str();
    for kind in ["gap", "node", "configured", "began", "step", "steered", "ended", "invalid"] {
        let at = rest.find(&format!("event: {kind}\n"));
        if matches!(kind, "configured" | "began" | "node" | "gap") {
            assert!(at.is_some() || told.contains(&format!("event: {kind}\n")), "{kind}\n{told}");
            continue;
        }
        rest = &rest[at.unwrap_or_else(|| panic!("{kind}\n{told}"))..];
    }
    // Whoever comes back gets what came after.
    let last_but_one = told.lines().filter_map(|line| line.strip_prefix("id: ")).rev().nth(1).expect("two events");
    let (_, again) = ask(&site, "GET /v1/events", &format!("Last-Event-ID: {last_but_one}\r\n"), "event: invalid");
    assert_eq!(again.matches("event: ").count(), 1, "{again}");
}
