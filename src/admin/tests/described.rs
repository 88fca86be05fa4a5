//! The description of the API against the API.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::Value;

use super::*;
use crate::admin::endpoints::{Answers, ENDPOINTS};
use crate::admin::shapes::SHAPES;
use crate::api::{
    CertificateStatus, CutNode, Evidence, ListenerStatus, Opinion, ProbeReport, Problem, Refused, Sample, Steered,
    Steering, StepRecord, StepStatus, TrialStatus,
};
use crate::api::{HaltKind, HaltStatus};
use crate::api::{ListenerOutline, Outline, ServiceOutline};
use crate::model::{Holder, NodeState, Timestamp, WorkKind};

fn evidence() -> Evidence {
    let mut sample = Sample::default();
    sample.kinds.insert("status".into(), 1);
    Evidence {
        verdict: "pass".into(),
        reason: "r".into(),
        new: sample.clone(),
        old: sample,
        judges: vec![Opinion::default()],
    }
}

fn holder() -> Holder {
    Holder { kind: WorkKind::Request, method: "GET".into(), path: "/".into(), client: "c".into(), age_ms: 1 }
}

fn entry() -> HistoryEntry {
    let mut entry = fake::entry("v1", "v2", &["a:1"], Outcome::Done);
    entry.cut.push(CutNode { address: "a:1".into(), version: "v1".into(), work: vec![holder()] });
    let (started, ended) = (Timestamp(1), Some(Timestamp(2)));
    entry.steps.push(StepRecord { share: 5.0, started, ended, evidence: Some(evidence()) });
    entry.steered.push(Steered { at: started, steering: Steering::Pause, by: "root".into() });
    entry
}

/// With every field that may be there.
fn full() -> ServiceStatus {
    let mut shop = service("shop", Path::new("/etc/shop.toml"));
    let mut node = fake::node("v1", "a:1", NodeState::Draining);
    node.holders.push(holder());
    node.probe = Some(ProbeReport {
        at: Timestamp(1),
        target: "connect a:1".into(),
        passed: false,
        status: Some(500),
        error: Some("e".into()),
        took_ms: 1,
        body: Some("b".into()),
    });
    shop.nodes.push(node);
    let (nodes, reason) = (vec!["a:1".into()], "r".to_owned());
    shop.unsaved = Some("the disk is full".into());
    shop.refused.push(Refused { version: "v0".into(), nodes, at: Timestamp(1), reason, outcome: Outcome::Unhealthy });
    shop.halt = Some(HaltStatus {
        kind: HaltKind::Maintenance,
        since: Timestamp(1),
        until: None,
        message: None,
        retry_after: Some(60),
        by: "root".into(),
    });
    shop.rollout.as_mut().unwrap().trial = Some(TrialStatus {
        share: 5.0,
        step: 1,
        steps: vec![StepStatus { share: 5.0, hold_ms: None }],
        since: Timestamp(1),
        paused: None,
        promoted: false,
        evidence: Some(evidence()),
    });
    shop
}

/// A control plane that knows everything.
fn complete(request: &Request) -> Reply {
    let problem = || Problem {
        path: "p".into(),
        line: 1,
        column: 1,
        text: "t".into(),
        width: 1,
        message: "m".into(),
        hint: None,
    };
    match request {
        Request::Measures => Reply::Measures(std::sync::Arc::default()),
        Request::Status { .. } => {
            let mut all = status(vec![full()]);
            all.config.problems.push(problem());
            all.listeners.push(ListenerStatus { name: "http".into(), address: "a:1".into(), error: None });
            all.certificates.problems.push(problem());
            all.certificates.list.push(CertificateStatus {
                listeners: vec!["https".into()],
                file: "f".into(),
                names: vec!["n".into()],
                not_before: Timestamp(1),
                not_after: Timestamp(2),
            });
            Reply::Status(Box::new(all))
        }
        Request::Events { .. } => Reply::Events(feed()),
        Request::Config => {
            let mut outline = Outline::default();
            outline.listeners.insert("http".into(), ListenerOutline::default());
            let (source, release, matches) = ("/s.toml".into(), "v1".into(), vec!["*".into()]);
            let versions = [("v1".into(), vec!["a:1".into()])].into();
            let settings = [("health".into(), "0".into())].into();
            outline.services.insert("shop".into(), ServiceOutline { source, release, versions, matches, settings });
            Reply::Outline(Box::new(outline))
        }
        Request::Reload => Reply::Config(ConfigStatus { problems: vec![problem()], ..ConfigStatus::default() }),
        Request::History { .. } => Reply::History(vec![entry()]),
        Request::Wait { .. } | Request::Drain { .. } => {
            let mut last = moment(full(), Some((Outcome::Done, "m")));
            last.ended.as_mut().unwrap().entry = Some(entry());
            progress(vec![last])
        }
        Request::Steer { .. } | Request::Halt { .. } => Reply::Service(Box::new(full())),
    }
}

/// Whether a value is of this type of [`SHAPES`], and notes which shapes were seen.
fn check(kind: &str, value: &Value, at: &str, seen: &mut BTreeSet<String>) {
    let ok = match kind {
        "text" => value.is_string(),
        "count" | "time" => value.is_u64(),
        "number" => value.is_number(),
        "flag" => value.is_boolean(),
        _ if kind.ends_with('?') && value.is_null() => true,
        _ => {
            if let Some(kind) = kind.strip_suffix('?') {
                check(kind, value, at, seen);
            } else if let Some(kind) = kind.strip_prefix('[') {
                let items = value.as_array().unwrap_or_else(|| panic!("{at} is no list"));
                for item in items {
                    check(&kind[..kind.len() - 1], item, at, seen);
                }
            } else if let Some(kind) = kind.strip_prefix('{') {
                let fields = value.as_object().unwrap_or_else(|| panic!("{at} is no object"));
                for item in fields.values() {
                    check(&kind[..kind.len() - 1], item, at, seen);
                }
            } else {
                seen.insert(kind.to_owned());
                let (_, _, fields) =
                    SHAPES.iter().find(|(name, ..)| *name == kind).unwrap_or_else(|| panic!("no shape {kind}"));
                let object = value.as_object().unwrap_or_else(|| panic!("{at} is no object"));
                let described: BTreeSet<_> = fields.iter().map(|(field, _)| *field).collect();
                let sent: BTreeSet<_> = object.keys().map(String::as_str).collect();
                assert_eq!(described, sent, "{kind} at {at}");
                for (field, kind) in *fields {
                    check(kind, &object[*field], &format!("{at}.{field}"), seen);
                }
            }
            true
        }
    };
    assert!(ok, "{at} is not {kind}: {value}");
}

/// A path that the template fits.
fn path(template: &str) -> String {
    template.replace("{service}", "shop").replace("{node}", "10.0.0.5:5001").replace("{file}", "dashboard.js")
}

#[test]
fn every_endpoint_answers_with_the_shape_that_is_described() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::start(folder.path(), complete);
    let mut seen = BTreeSet::new();
    for endpoint in ENDPOINTS {
        let required: Vec<_> =
            endpoint.query.iter().filter(|known| known.required).map(|known| format!("{}=shop", known.name)).collect();
        let target = format!("{}?{}", path(endpoint.path), required.join("&"));
        let (code, head, body) = ask(&fake, endpoint.method, &target);
        assert_eq!(code, 200, "{} {target}: {body}", endpoint.method);
        let json = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_else(|_| panic!("{target}: {text}"));
        match endpoint.answers {
            Answers::Measures => assert!(head.contains("application/openmetrics-text"), "{head}"),
            Answers::Page(kind) => assert!(head.contains(kind), "{head}"),
            Answers::Text => assert!(head.contains("text/plain"), "{head}"),
            Answers::Document => assert!(json(&body).is_object()),
            Answers::Json(kind) => check(kind, &json(&body), endpoint.path, &mut seen),
            Answers::List(kind) => check(&format!("[{kind}]"), &json(&body), endpoint.path, &mut seen),
            Answers::Events(kind) => {
                let line = body.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
                check(kind, &json(line), endpoint.path, &mut seen);
            }
            Answers::Lines(kind) => {
                let line = body.lines().find(|line| line.starts_with('{')).unwrap();
                check(kind, &json(line), endpoint.path, &mut seen);
            }
        }
    }
    let (_, _, body) = ask(&fake, "GET", "/v1/nothing");
    check("Error", &serde_json::from_str(&body).unwrap(), "error", &mut seen);
    let described: BTreeSet<_> = SHAPES.iter().map(|(name, ..)| (*name).to_owned()).collect();
    assert_eq!(described, seen, "nothing is described that is never sent");
}

#[test]
fn the_description_names_every_endpoint_and_nothing_else() {
    let (_folder, fake) = start();
    let (code, _, body) = ask(&fake, "GET", "/v1/openapi.json");
    assert_eq!(code, 200);
    let document: Value = serde_json::from_str(&body).unwrap();
    let described: BTreeSet<_> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| {
            methods.as_object().unwrap().keys().map(move |method| (method.to_uppercase(), path.clone()))
        })
        .collect();
    let served: BTreeSet<_> =
        ENDPOINTS.iter().map(|endpoint| (endpoint.method.to_owned(), endpoint.path.to_owned())).collect();
    assert_eq!(described, served);
    assert_eq!(served.len(), ENDPOINTS.len(), "no endpoint stands there twice");
    // Every reference leads somewhere.
    for part in body.split("\"$ref\":\"#").skip(1) {
        let pointer = part.split('"').next().unwrap();
        assert!(document.pointer(pointer).is_some(), "{pointer}");
    }
}

/// The table of `docs/admin-api.md`.
fn table() -> String {
    let mut text = String::from("| request | role | answer | |\n|---|---|---|---|\n");
    for endpoint in ENDPOINTS {
        let query: Vec<_> = endpoint.query.iter().map(|known| format!("`{}`: {}", known.name, known.about)).collect();
        let answer = match endpoint.answers {
            Answers::Text => "text".to_owned(),
            Answers::Page(_) => "a page".to_owned(),
            Answers::Document => "JSON".to_owned(),
            Answers::Measures => "OpenMetrics".to_owned(),
            Answers::Json(shape) => format!("`{shape}`"),
            Answers::List(shape) => format!("list of `{shape}`"),
            Answers::Lines(shape) => format!("lines of `{shape}`"),
            Answers::Events(shape) => format!("SSE of `{shape}`"),
        };
        let role = match endpoint.needs {
            crate::admin::endpoints::Needs::Nothing => "none",
            crate::admin::endpoints::Needs::Reading => "read",
            crate::admin::endpoints::Needs::Steering => "operator",
        };
        let about = [&[endpoint.about.to_owned()], &query[..]].concat().join("<br>");
        let _ = writeln!(text, "| `{} {}` | {role} | {answer} | {about} |", endpoint.method, endpoint.path);
    }
    text
}

/// `UPDATE_DOCS=1 cargo test` writes the table.
#[test]
fn the_document_has_the_table_of_endpoints() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/admin-api.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (head, rest) = text.split_once("<!-- endpoints -->\n").unwrap();
    let (written, tail) = rest.split_once("<!-- end of endpoints -->").unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let text = format!("{head}<!-- endpoints -->\n{}<!-- end of endpoints -->{tail}", table());
        std::fs::write(&path, text).unwrap();
        return;
    }
    assert_eq!(written, table(), "run it with UPDATE_DOCS=1");
}
