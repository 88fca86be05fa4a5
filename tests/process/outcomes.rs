//! What each verb says and how it ends, before a real proxy: as text, as JSON, as an exit code. Two services that are alike go the
//! same way, one for people and one for scripts.

use serde_json::Value;
use sluicegate::api::{HaltKind, HistoryEntry, Outcome, Progress, ServiceStatus, Status};
use sluicegate::cli::demo::Origin;

use super::support::{LISTENER, Proxy, QUICK, Site, by_hand, eventually, list, origin, text};

/// For people and for scripts.
const SERVICES: [&str; 2] = ["shop", "blog"];

/// Both services, with these versions, and more of each.
fn services(release: &str, versions: &[(&str, &[Origin])], rollout: impl Fn(&str) -> String) -> String {
    let versions: Vec<_> = versions.iter().map(|(name, nodes)| format!("{name} = {}\n", list(nodes))).collect();
    let versions = versions.concat();
    let one = |name: &str| {
        format!(
            "[service.{name}]\nmatch = \"{name}.test\"\nrelease = \"{release}\"\n{QUICK}{}\
             [service.{name}.versions]\n{versions}",
            rollout(name)
        )
    };
    format!("{LISTENER}{}{}", one(SERVICES[0]), one(SERVICES[1]))
}

/// What is written with `--json`.
enum Shape {
    /// The service as it is afterwards, of which this is so.
    Service(fn(&ServiceStatus) -> bool),
    /// A line for each change, and the last with this outcome.
    Lines(Outcome),
    /// The status of one service.
    Status,
    /// So many entries.
    History(usize),
    /// Whether something would change.
    Plan(bool),
    /// An error of this kind.
    Error(&'static str),
}
use Shape::{Error, History, Lines, Plan, Service};

impl Shape {
    fn fits(&self, output: &str) -> bool {
        let document = || serde_json::from_str::<Value>(output).unwrap_or_else(|error| panic!("{error}: {output}"));
        match self {
            Service(is) => {
                let service: ServiceStatus =
                    serde_json::from_str(output).unwrap_or_else(|error| panic!("{error}: {output}"));
                service.name.as_str() == "blog" && is(&service)
            }
            Lines(outcome) => {
                let lines: Vec<Progress> =
                    output.lines().map(|line| serde_json::from_str(line).expect("a line")).collect();
                let ends = lines.iter().filter_map(|line| line.ended.as_ref()).count();
                ends == 1
                    && lines.last().and_then(|last| last.ended.as_ref()).is_some_and(|end| end.outcome == *outcome)
            }
            Shape::Status => {
                let status: Status = serde_json::from_str(output).expect("a status");
                status.schema == 1 && status.services.len() == 1 && status.services[0].name.as_str() == "blog"
            }
            History(entries) => serde_json::from_str::<Vec<HistoryEntry>>(output).expect("a list").len() == *entries,
            Plan(changes) => document()["changes"] == *changes && document()["schema"] == 1,
            Error(kind) => document()["error"]["kind"] == *kind,
        }
    }
}

/// A verb, `@` for the service; its exit code; what it says to people, and to scripts.
type Cell<'a> = (&'a str, i32, &'a str, Shape);

/// Runs it for both at once.
fn try_one(site: &Site, (line, code, says, shape): &Cell<'_>) {
    let begin = |name: &str, more: &[&str]| {
        let words: Vec<_> =
            line.split(' ').map(|word| if word == "@" { name } else { word }).chain(more.iter().copied()).collect();
        site.command(&words).spawn().expect("a verb")
    };
    let (human, script) = (begin(SERVICES[0], &[]), begin(SERVICES[1], &["--json"]));
    let (human, script) = (human.wait_with_output().expect("an end"), script.wait_with_output().expect("an end"));
    let said = text(&human);
    println!("{line}\n{said}");
    assert_eq!((human.status.code(), script.status.code()), (Some(*code), Some(*code)), "{line}: {said}");
    assert!(said.contains(says), "{line} does not say `{says}`:\n{said}");
    // What is wrong in a file is shown as a compiler would.
    let complains = said.contains("error: ") || *line == "plan";
    assert_eq!(complains && *code != 0, !matches!(code, 0 | 6), "{line}: {said}");
    let output = String::from_utf8_lossy(&script.stdout);
    assert!(shape.fits(output.trim_end()), "{line}: {output}");
    assert!(!output.contains('\u{1b}') && !said.contains('\u{1b}'), "{line}: colours into a pipe");
}

fn try_all(site: &Site, cells: &[Cell<'_>]) {
    for cell in cells {
        try_one(site, cell);
    }
}

fn settled(proxy: &Proxy) {
    for name in SERVICES {
        proxy.settled(name);
    }
}

fn shared(proxy: &Proxy, share: f64) {
    for name in SERVICES {
        eventually("the share", || {
            let trial = proxy.service(name)?.rollout?.trial?;
            ((trial.share - share).abs() < 0.01).then_some(())
        });
    }
}

/// At which step the version on trial is, if it is not paused.
fn step(service: &ServiceStatus) -> Option<usize> {
    let trial = service.rollout.as_ref()?.trial.as_ref()?;
    trial.paused.is_none().then_some(trial.step)
}

fn halted(service: &ServiceStatus) -> Option<HaltKind> {
    service.halt.as_ref().map(|halt| halt.kind)
}

#[test]
fn each_verb_does_what_it_says_and_says_what_it_did() {
    let (v1, v2) = ([origin("v1")], [origin("v2"), origin("v2")]);
    let site = Site::new(&services("v1", &[("v1", &v1), ("v2", &v2)], by_hand));
    let proxy = site.start();
    settled(&proxy);
    let ready = site.verb(&["status", "--ready", "--timeout", "60s"]);
    assert_eq!((ready.status.code(), text(&ready).as_str()), (Some(0), ""), "a health check says nothing");
    try_all(
        &site,
        &[
            ("status @", 0, "settled", Shape::Status),
            ("history @ --limit 1", 0, "v1", History(1)),
            ("plan", 0, "nothing would change", Plan(false)),
            ("wait @ --version v9", 5, "v9", Error("superseded")),
            ("deploy @ --version v2 --timeout 1s", 7, "sluice.toml keeps the edit", Lines(Outcome::TimedOut)),
        ],
    );
    shared(&proxy, 25.0);
    try_all(
        &site,
        &[
            ("status @", 0, "on trial: v2 with 25%, step 1 of 2", Shape::Status),
            ("wait @ --timeout 300ms", 7, "the rollout goes on: follow it", Lines(Outcome::TimedOut)),
            ("pause @", 0, "paused; v2 stays at 25%", Service(|service| step(service).is_none())),
            ("pause @", 2, "paused", Error("conflict")),
            ("resume @", 0, "goes on", Service(|service| step(service) == Some(1))),
            ("resume @", 2, "not paused", Error("conflict")),
            ("promote @ --wait --timeout 300ms", 7, "it goes on: `sluice wait", Lines(Outcome::TimedOut)),
        ],
    );
    shared(&proxy, 50.0);
    let node = v2[0].address();
    try_all(
        &site,
        &[
            ("promote @ --full --wait --timeout 60s", 0, "v2 serves", Lines(Outcome::Done)),
            ("wait @ --timeout 60s", 0, "v2", Lines(Outcome::Done)),
            ("history @ --limit 1", 0, "promote by", History(1)),
            ("deploy @ --version v2 --timeout 60s", 0, "it says that already", Lines(Outcome::Done)),
            (&format!("drain @ {node} --timeout 60s"), 0, "may be stopped", Lines(Outcome::Done)),
            (&format!("drain @ {node} --undo --timeout 60s"), 0, "is back", Lines(Outcome::Done)),
            ("hold @ --for 60s", 0, "for 1m at most", Service(|service| halted(service) == Some(HaltKind::Hold))),
            ("release @", 0, "requests go on", Service(|service| halted(service).is_none())),
            ("release @", 2, "not on hold", Error("conflict")),
            ("maintenance @ on", 0, "answered 503", Service(|service| halted(service) == Some(HaltKind::Maintenance))),
            ("hold @", 2, "it is in maintenance", Error("conflict")),
            ("maintenance @ off", 0, "answered again", Service(|service| halted(service).is_none())),
            ("maintenance @ off", 2, "not in maintenance", Error("conflict")),
            ("rollback @ --timeout 1s", 7, "going back to v1", Lines(Outcome::TimedOut)),
            ("abort @ --wait --timeout 60s", 0, "v1 is refused", Lines(Outcome::RolledBack)),
            ("abort @", 2, "nothing to go back from", Error("conflict")),
            ("wait @", 4, "v1", Lines(Outcome::RolledBack)),
            ("retry @ --wait --timeout 1s", 7, "v1 is tried again", Lines(Outcome::TimedOut)),
            ("retry @", 2, "", Error("conflict")),
            ("promote @ --full", 0, "every further step without a hold", Service(|_| true)),
            ("wait @ --timeout 60s", 0, "v1 serves", Lines(Outcome::Done)),
        ],
    );
    // Nothing is left to steer.
    for verb in ["promote", "pause", "resume", "abort", "retry"] {
        try_one(&site, &(&format!("{verb} @"), 2, "", Error("conflict")));
    }
}

#[test]
fn a_version_that_never_becomes_healthy_is_exit_code_3_of_whoever_waits() {
    let v1 = [origin("v1")];
    let patient = |_: &str| "rollout = { deadline = \"300ms\" }\n".to_owned();
    let site = Site::new(&services("v1", &[("v1", &v1)], patient));
    let proxy = site.start();
    settled(&proxy);
    let before = std::fs::read_to_string(site.config()).expect("a file");
    try_one(
        &site,
        &("deploy @ --version v2 --node 127.0.0.1:1 --timeout 60s", 3, "127.0.0.1:1", Lines(Outcome::Unhealthy)),
    );
    let after = std::fs::read_to_string(site.config()).expect("a file");
    assert_eq!(after.matches("release = \"v1\"").count(), 2, "both are put back: {after}");
    // Without `deploy`, by whoever edits the file.
    site.write(
        &before.replace("release = \"v1\"", "release = \"v2\"").replace("v1 = [", "v2 = [\"127.0.0.1:1\"]\nv1 = ["),
    );
    try_all(
        &site,
        &[
            ("wait @ --timeout 60s", 3, "refused", Lines(Outcome::Unhealthy)),
            ("status @", 0, "refused", Shape::Status),
            ("retry @ --wait --timeout 60s", 3, "127.0.0.1:1", Lines(Outcome::Unhealthy)),
            // What served before is told; the file asks for it again.
            ("rollback @ --to v1 --timeout 60s", 0, "going back to v1", Lines(Outcome::Done)),
            ("rollback @ --to v2 --timeout 60s", 3, "127.0.0.1:1", Lines(Outcome::Unhealthy)),
        ],
    );
    site.write(&(before + "oops"));
    try_all(
        &site,
        &[
            ("wait @", 2, "sluice.toml", Error("invalid-config")),
            ("retry @", 2, "sluice.toml", Error("invalid-config")),
            ("plan", 2, "sluice.toml", Plan(false)),
        ],
    );
}
