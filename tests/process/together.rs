//! Two scripts at once on one service: one wins, the other is told, and nothing is lost.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStdout, Output};

use serde_json::Value;
use sluicegate::api::{HaltKind, Outcome, Progress};

use super::support::{LISTENER, Proxy, QUICK, Site, canary, eventually, list, origin, text};

fn begin(site: &Site, line: &str) -> Child {
    let words: Vec<_> = line.split(' ').collect();
    site.command(&words).spawn().expect("a verb")
}

/// One that waits, as JSON, and has had its first line.
struct Waiting(Child, BufReader<ChildStdout>);

impl Waiting {
    fn begin(site: &Site, line: &str) -> Self {
        let mut child = begin(site, line);
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut first = String::new();
        lines.read_line(&mut first).expect("a line");
        assert!(serde_json::from_str::<Progress>(&first).is_ok_and(|now| now.ended.is_none()), "{first}");
        Self(child, lines)
    }

    /// With what came after the first line.
    fn end(mut self) -> Output {
        let mut stdout = Vec::new();
        self.1.read_to_end(&mut stdout).expect("lines");
        Output { stdout, ..end(self.0) }
    }
}

fn end(child: Child) -> Output {
    child.wait_with_output().expect("an end")
}

/// Both at the same time: their exit codes, the smaller first, and all that they said.
fn both(site: &Site, one: &str, other: &str) -> ([i32; 2], String) {
    let (first, second) = (begin(site, one), begin(site, other));
    let (first, second) = (end(first), end(second));
    let code = |output: &Output| output.status.code().expect("an exit code");
    let mut codes = [code(&first), code(&second)];
    codes.sort_unstable();
    (codes, text(&first) + &text(&second))
}

fn on_trial(proxy: &Proxy, version: &str) {
    eventually("it is on trial", || {
        let shop = proxy.service("shop").filter(|shop| shop.release.as_str() == version)?;
        shop.rollout?.trial.filter(|trial| trial.share > 24.0)
    });
}

/// How the change ended that these lines of JSON followed.
fn ended(output: &Output) -> Option<Outcome> {
    let last = String::from_utf8_lossy(&output.stdout).lines().last().map(ToOwned::to_owned)?;
    serde_json::from_str::<Progress>(&last).ok()?.ended.map(|end| end.outcome)
}

#[test]
fn a_newer_deploy_takes_over_and_the_older_one_is_told_with_5() {
    let (v1, v2, v3) = ([origin("v1")], [origin("v2")], [origin("v3")]);
    let site = Site::new(&canary("v1", &v1, &v2));
    let proxy = site.start();
    proxy.settled("shop");
    let deploy = begin(&site, "deploy shop --version v2");
    on_trial(&proxy, "v2");
    let wait = Waiting::begin(&site, "wait shop --version v2 --json");
    let node = v3[0].address();
    let newer = begin(&site, &format!("deploy shop --version v3 --node {node} --json"));
    let (deploy, wait) = (end(deploy), wait.end());
    assert_eq!((deploy.status.code(), wait.status.code()), (Some(5), Some(5)), "{}{}", text(&deploy), text(&wait));
    let said = String::from_utf8_lossy(&deploy.stderr);
    assert!(said.starts_with("error: shop: ") && said.contains("v3"), "{said}");
    assert!(ended(&wait) == Some(Outcome::Superseded) && wait.stderr.is_empty(), "{}", text(&wait));
    on_trial(&proxy, "v3");
    let steered = end(begin(&site, "promote shop --full --wait --timeout 60s"));
    assert_eq!(steered.status.code(), Some(0), "{}", text(&steered));
    let newer = end(newer);
    assert_eq!((newer.status.code(), ended(&newer)), (Some(0), Some(Outcome::Done)), "{}", text(&newer));
    let file = std::fs::read_to_string(site.config()).expect("a file");
    assert!(
        file.contains("release = \"v3\"") && file.contains("\nv2 = ["),
        "the older one's edit is not put back\n{file}"
    );
}

#[test]
fn of_two_verbs_at_once_both_are_right_or_one_is_told_why_not() {
    let (v1, v2) = ([origin("v1"), origin("v1")], [origin("v2")]);
    let site = Site::new(&canary("v1", &v1, &v2));
    let proxy = site.start();
    proxy.settled("shop");
    let one_alone = |line: &str, why: &str| {
        let (codes, said) = both(&site, line, line);
        assert_eq!(codes, [0, 2], "{line}: {said}");
        assert!(said.contains(why), "{line}: {said}");
    };
    let both_do = |line: &str| {
        let (codes, said) = both(&site, line, line);
        assert_eq!(codes, [0, 0], "{line}: {said}");
    };
    // Whoever comes second asks for what is so already, or waits for the same end.
    both_do("hold shop --for 60s");
    one_alone("release shop", "not on hold");
    both_do("maintenance shop on");
    one_alone("maintenance shop off", "not in maintenance");
    let (codes, said) = both(&site, "hold shop", "maintenance shop on");
    // A hold that came second met maintenance; one that came first became it.
    assert!(matches!(codes, [0, 0 | 2]), "{said}");
    assert_eq!(proxy.service("shop").and_then(|shop| Some(shop.halt?.kind)), Some(HaltKind::Maintenance));
    assert_eq!(site.verb(&["maintenance", "shop", "off"]).status.code(), Some(0));

    let (first, second) = (v1[0].address(), v1[1].address());
    both_do(&format!("drain shop {first}"));
    one_alone(&format!("drain shop {first} --undo"), "was not taken out by hand");
    let (codes, said) = both(&site, &format!("drain shop {first}"), &format!("drain shop {second}"));
    assert_eq!(codes, [0, 2], "one of them is the last node: {said}");
    for node in [first, second] {
        site.verb(&["drain", "shop", &node.to_string(), "--undo"]);
    }
    proxy.settled("shop");

    let deploys = [begin(&site, "deploy shop --version v2"), begin(&site, "deploy shop --version v2 --json")];
    on_trial(&proxy, "v2");
    let waits = Waiting::begin(&site, "wait shop --version v2 --json");
    one_alone("pause shop", "paused");
    one_alone("resume shop", "not paused");
    let (codes, said) = both(&site, "abort shop --wait", "abort shop --wait");
    assert!(matches!(codes, [0, 0 | 2]), "{said}");
    // Whoever waited learns it, whether he came first or second, and the file is put back.
    for waited in deploys {
        let waited = end(waited);
        assert_eq!(waited.status.code(), Some(4), "{}", text(&waited));
    }
    let waits = waits.end();
    assert_eq!((waits.status.code(), ended(&waits)), (Some(4), Some(Outcome::RolledBack)), "{}", text(&waits));
    assert!(std::fs::read_to_string(site.config()).expect("a file").contains("release = \"v1\""));

    site.write(&canary("v2", &v1, &v2));
    eventually("it stays refused", || proxy.service("shop").filter(|shop| shop.phase == "failed"));
    one_alone("retry shop", "");
    on_trial(&proxy, "v2");
    assert_eq!(site.verb(&["abort", "shop", "--wait"]).status.code(), Some(0));
    // One tries it again and waits, others carry it through.
    let retries = Waiting::begin(&site, "retry shop --wait --json");
    on_trial(&proxy, "v2");
    let (codes, said) = both(&site, "promote shop --full --wait --timeout 60s", "promote shop --full --wait");
    // Whoever comes after the end has nothing to promote.
    assert!(matches!(codes, [0, 0 | 2]), "{said}");
    let retries = retries.end();
    assert_eq!((retries.status.code(), ended(&retries)), (Some(0), Some(Outcome::Done)), "{}", text(&retries));
    assert_eq!(proxy.history("shop")[0].outcome, Outcome::Done);
}

#[test]
fn of_two_who_go_back_none_goes_forward_again() {
    let (v1, v2) = ([origin("v1")], [origin("v2")]);
    let site = Site::new(&canary("v1", &v1, &v2));
    let proxy = site.start();
    proxy.settled("shop");
    let deploy = begin(&site, "deploy shop --version v2");
    on_trial(&proxy, "v2");
    assert_eq!(site.verb(&["promote", "shop", "--full", "--wait"]).status.code(), Some(0));
    assert_eq!(end(deploy).status.code(), Some(0));
    // Back to v1, which is a canary again; whoever comes second would undo it.
    let first = begin(&site, "rollback shop");
    on_trial(&proxy, "v1");
    let second = end(begin(&site, "rollback shop"));
    assert_eq!(second.status.code(), Some(2), "{}", text(&second));
    assert!(text(&second).contains("is on its way to v1") && text(&second).contains("--to v2"), "{}", text(&second));
    let script = end(begin(&site, "rollback shop --json"));
    let error: Value = serde_json::from_slice(&script.stdout).expect("one document");
    assert_eq!((script.status.code(), &error["error"]["kind"]), (Some(2), &Value::from("conflict")));
    assert_eq!(site.verb(&["promote", "shop", "--full", "--wait"]).status.code(), Some(0));
    assert_eq!(end(first).status.code(), Some(0));
    assert_eq!(proxy.settled("shop").release.as_str(), "v1");
}

#[test]
fn services_of_one_file_are_deployed_at_once_and_no_edit_is_lost() {
    let nodes = [origin("v1"), origin("v2")];
    let names = ["a", "b", "c", "d"];
    let service = |name: &str| {
        format!(
            "[service.{name}]\nmatch = \"{name}.test\"\nrelease = \"v1\"\n{QUICK}[service.{name}.versions]\nv1 = {}\n",
            list(&nodes[..1])
        )
    };
    let site = Site::new(&format!("{LISTENER}{}", names.map(service).concat()));
    let proxy = site.start();
    for name in names {
        proxy.settled(name);
    }
    let node = nodes[1].address();
    let deploys =
        names.map(|name| begin(&site, &format!("deploy {name} --version v2 --node {node} --json --timeout 60s")));
    for deploy in deploys {
        let deploy = end(deploy);
        assert_eq!((deploy.status.code(), ended(&deploy)), (Some(0), Some(Outcome::Done)), "{}", text(&deploy));
        let lines = String::from_utf8_lossy(&deploy.stdout).into_owned();
        assert!(lines.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{lines}");
    }
    assert_eq!(
        std::fs::read_to_string(site.config()).expect("a file").matches("release = \"v2\"").count(),
        names.len()
    );
}
