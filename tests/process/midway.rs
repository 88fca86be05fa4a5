//! Verbs that are under way when something happens: the proxy goes, hangs, or cuts what it drains; somebody stops watching.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdout, Output};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sluicegate::api::{Outcome, Progress, Status};

use super::support::{Client, LISTENER, QUICK, Site, canary, eventually, list, origin, slow_origin, text};

/// A verb that has said its first line.
struct Running {
    child: Child,
    lines: BufReader<ChildStdout>,
    first: String,
}

impl Running {
    fn begin(site: &Site, line: &str) -> Self {
        let words: Vec<_> = line.split(' ').collect();
        let mut child = site.command(&words).spawn().expect("a verb");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut first = String::new();
        lines.read_line(&mut first).expect("a line");
        Self { child, lines, first }
    }

    fn interrupt(&self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, Signal::INT).expect("a process");
    }

    /// With all that it said.
    fn end(mut self) -> Output {
        let mut stdout = self.first.into_bytes();
        self.lines.read_to_end(&mut stdout).expect("lines");
        Output { stdout, ..self.child.wait_with_output().expect("an end") }
    }
}

fn last(output: &Output) -> Value {
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let last = lines.lines().last().unwrap_or_else(|| panic!("nothing was said: {}", text(output)));
    serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {last}"))
}

#[test]
fn a_proxy_that_goes_while_it_is_waited_for_is_exit_code_1_and_the_file_keeps_the_edit() {
    let (v1, v2) = ([origin("v1")], [origin("v2")]);
    for signal in [Signal::KILL, Signal::TERM] {
        let site = Site::new(&canary("v1", &v1, &v2));
        let mut proxy = site.start();
        proxy.settled("shop");
        // The difference is its first line; the edit is made then.
        let deploy = Running::begin(&site, "deploy shop --version v2");
        eventually("v2 is on trial", || proxy.service("shop")?.rollout?.trial.filter(|trial| trial.share > 24.0));
        let promote = Running::begin(&site, "promote shop --wait --json");
        let others = ["wait shop", "wait shop --json", "status --watch", "status --watch --json"]
            .map(|line| (line, Running::begin(&site, line)));
        proxy.signal(signal);
        proxy.exit();
        let deploy = deploy.end();
        assert_eq!(deploy.status.code(), Some(1), "{}", text(&deploy));
        assert!(text(&deploy).contains("keeps the edit"), "{}", text(&deploy));
        assert!(std::fs::read_to_string(site.config()).expect("a file").contains("release = \"v2\""));
        for (line, other) in others.into_iter().chain([("promote --json", promote)]) {
            let other = other.end();
            assert_eq!(other.status.code(), Some(1), "{line}: {}", text(&other));
            if line.contains("--json") {
                let error = last(&other);
                assert!(
                    matches!(error["error"]["kind"].as_str(), Some("unreachable" | "unavailable")),
                    "{line}: {error}"
                );
            } else {
                let said = String::from_utf8_lossy(&other.stderr);
                assert!(said.starts_with("error: ") && said.lines().count() == 1, "{line}: {said}");
            }
        }
    }
}

#[test]
fn a_proxy_that_hangs_while_it_is_waited_for_is_given_up_when_the_time_is_over() {
    let (v1, v2) = ([origin("v1")], [origin("v2")]);
    let site = Site::new(&canary("v1", &v1, &v2));
    let proxy = site.start();
    proxy.settled("shop");
    let deploy = Running::begin(&site, "deploy shop --version v2 --timeout 3s --json");
    let wait = Running::begin(&site, "wait shop --timeout 2s");
    let watch = Running::begin(&site, "status --watch --timeout 2s");
    proxy.signal(Signal::STOP);
    let (deploy, wait, watch) = (deploy.end(), wait.end(), watch.end());
    proxy.signal(Signal::CONT);
    let codes = [&deploy, &wait, &watch].map(|output| output.status.code());
    assert_eq!(codes, [Some(7); 3], "{}{}{}", text(&deploy), text(&wait), text(&watch));
    let end: Progress = serde_json::from_value(last(&deploy)).expect("a line");
    assert_eq!(end.ended.map(|end| end.outcome), Some(Outcome::TimedOut));
    assert!(text(&wait).contains("error: --timeout passed; the rollout goes on"), "{}", text(&wait));
    assert!(text(&watch).contains("error: --timeout 2s passed; nothing was changed"), "{}", text(&watch));
}

#[test]
fn what_a_drain_deadline_cuts_is_exit_code_6_and_listed() {
    let slow = || slow_origin("slow", Duration::from_mins(1));
    let (v1, v2) = ([slow(), slow()], [origin("v2")]);
    let site = Site::new(&format!(
        "{LISTENER}[service.shop]\nmatch = \"*\"\nrelease = \"v1\"\ndrain = {{ requests = \"300ms\" }}\n{QUICK}\
         rollout = {{ keep = \"0s\" }}\n[service.shop.versions]\nv1 = {}\nv2 = {}\n",
        list(&v1),
        list(&v2)
    ));
    let proxy = site.start();
    proxy.settled("shop");
    // A GET would go to another node and nothing be cut.
    let ask = || {
        let mut client = Client::connect(proxy.address()).expect("a connection");
        client.0.write_all(b"POST / HTTP/1.1\r\nHost: any\r\nContent-Length: 0\r\n\r\n").expect("a request");
        client
    };
    let working = |count: usize| {
        eventually("they work", || {
            let nodes = proxy.service("shop")?.nodes;
            (nodes.iter().map(|node| node.in_flight).sum::<usize>() == count).then_some(nodes)
        })
    };
    let _first = [ask(), ask()];
    let nodes = working(2);
    let node = nodes.iter().find(|node| node.in_flight > 0).expect("one that works").address.clone();
    let drained = site.verb(&["drain", "shop", node.as_str(), "--timeout", "60s"]);
    let said = text(&drained);
    assert_eq!(drained.status.code(), Some(6), "{said}");
    assert!(said.contains(node.as_str()) && said.contains("cut") && said.contains("POST"), "{said}");
    let _second = ask();
    eventually("the other one works", || {
        proxy.service("shop")?.nodes.iter().any(|other| other.address != node && other.in_flight > 0).then_some(())
    });
    let deployed = site.verb(&["deploy", "shop", "--version", "v2", "--json", "--timeout", "60s"]);
    assert_eq!(deployed.status.code(), Some(6), "{}", text(&deployed));
    let end: Progress = serde_json::from_value(last(&deployed)).expect("a line");
    let ended = end.ended.expect("an end");
    assert_eq!(ended.outcome, Outcome::DoneWithCuts);
    assert!(ended.entry.is_some_and(|entry| entry.cut.iter().any(|cut| !cut.work.is_empty())));
    let again = site.verb(&["rollback", "shop", "--timeout", "60s"]);
    assert_eq!(again.status.code(), Some(0), "nothing is left to be cut: {}", text(&again));
}

#[test]
fn who_watches_sees_what_changes_until_he_stops_and_who_waits_may_stop_too() {
    let (v1, v2) = ([origin("v1")], [origin("v2")]);
    let site = Site::new(&canary("v1", &v1, &v2));
    let proxy = site.start();
    proxy.settled("shop");
    let watches = [Running::begin(&site, "status shop --watch"), Running::begin(&site, "status shop --watch --json")];
    site.write(&canary("v2", &v1, &v2));
    let mut watches = watches.map(|mut watch| {
        eventually("it tells", || {
            let mut line = String::new();
            watch.lines.read_line(&mut line).expect("a line");
            watch.first += &line;
            line.contains("v2").then_some(())
        });
        watch
    });
    for watch in &mut watches {
        watch.interrupt();
    }
    let [human, script] = watches.map(Running::end);
    assert_eq!((human.status.code(), script.status.code()), (Some(0), Some(0)), "{}{}", text(&human), text(&script));
    assert!(human.stderr.is_empty() && script.stderr.is_empty());
    let documents = String::from_utf8_lossy(&script.stdout).into_owned();
    for document in documents.lines() {
        let status: Status = serde_json::from_str(document).expect("a status");
        assert_eq!((status.schema, status.services.len()), (1, 1));
    }

    let waits = [Running::begin(&site, "wait shop"), Running::begin(&site, "wait shop --json")];
    for wait in &waits {
        wait.interrupt();
    }
    let [human, script] = waits.map(Running::end);
    assert_eq!(
        (human.status.code(), script.status.code()),
        (Some(130), Some(130)),
        "{}{}",
        text(&human),
        text(&script)
    );
    assert!(text(&human).contains("interrupted; the rollout goes on"), "{}", text(&human));
    assert_eq!(last(&script)["error"]["kind"], "interrupted");
    let shop = proxy.service("shop").expect("the service");
    assert!(shop.rollout.is_some(), "nobody stopped the rollout");
}
