//! `/metrics` of a real proxy, read by a strict parser; and what is made of its names.

// Counts are whole numbers, far below what a float holds exactly.
#![allow(clippy::float_cmp)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;
use sluicegate::admin::metrics::{ALL, Kind};
use sluicegate::cli::demo::Origin;

use rustix::process::Signal;

use super::support::{Client, Exposition, LISTENER, Proxy, QUICK, Site, eventually, get, list, origin};

fn root(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect("a file of the repository")
}

fn text(nodes: &[Origin], version: &str, more: &str) -> String {
    format!(
        "{LISTENER}{more}[service.shop]\nmatch = \"shop.test\"\nrelease = \"{version}\"\n{QUICK}\
         drain = {{ requests = \"1s\" }}\n[service.shop.versions]\n{version} = {}\n",
        list(nodes)
    )
}

fn scrape(proxy: &Proxy) -> Exposition {
    let answer = proxy.ask("GET", "/metrics").expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let kind = answer.header("content-type").expect("a content type").to_owned();
    assert_eq!(kind.trim(), "application/openmetrics-text; version=1.0.0; charset=utf-8");
    Exposition::parse(&answer.text())
}

fn ask(proxy: &Proxy, host: &str, times: usize) {
    for _ in 0..times {
        get(proxy.address(), host, "/").expect("an answer");
    }
}

#[test]
fn what_clients_and_nodes_did_is_told_and_nothing_goes_backwards_when_nodes_leave() {
    let (old, new) = ([origin("v1"), origin("v1")], [origin("v2")]);
    let site = Site::new(&text(&old, "v1", ""));
    let proxy = site.start();
    proxy.settled("shop");
    let before = scrape(&proxy);
    ask(&proxy, "shop.test", 7);
    ask(&proxy, "nobody.test", 2);
    let after = scrape(&proxy);
    let v1 = [("service", "shop"), ("version", "v1")];
    let shop_2xx = [("service", "shop"), ("code", "2xx")];
    let grown = |name: &str, labels: &[(&str, &str)]| after.value(name, labels) - before.value(name, labels);
    assert_eq!(grown("sluice_requests_total", &shop_2xx), 7.0);
    assert_eq!(grown("sluice_unrouted_requests_total", &[("code", "4xx")]), 2.0);
    assert_eq!(grown("sluice_node_requests_total", &v1), 7.0);
    assert_eq!(grown("sluice_node_response_seconds_count", &v1), 7.0);
    assert!(grown("sluice_node_response_seconds_sum", &v1) > 0.0);
    assert_eq!(after.value("sluice_version_share_ratio", &v1), 1.0);
    assert_eq!(after.value("sluice_nodes", &[v1[0], v1[1], ("state", "serving")]), 2.0);
    assert!(after.value("sluice_probes_total", &[v1[0], v1[1], ("result", "passed")]) >= 2.0);
    assert_eq!(after.value("sluice_rollout_phase", &[("service", "shop"), ("phase", "settled")]), 1.0);
    assert!(after.sum("sluice_worker_requests_total") >= 9.0);
    assert!(after.value("process_resident_memory_bytes", &[]) > 1e6);
    // What docs/metrics.md promises.
    assert_eq!(after.count(&v1), 43);
    assert_eq!(after.count(&[v1[0]]) - 43, 29);
    // The nodes of v1 leave, their counters stay.
    site.write(&text(&new, "v2", ""));
    eventually("v2 serves alone", || {
        proxy.service("shop").filter(|shop| shop.phase == "settled" && shop.nodes.len() == 1)
    });
    ask(&proxy, "shop.test", 3);
    let last = scrape(&proxy);
    last.assert_grew_from(&after);
    assert_eq!(last.value("sluice_node_requests_total", &v1), 7.0);
    assert_eq!(last.value("sluice_node_requests_total", &[v1[0], ("version", "v2")]), 3.0);
    assert_eq!(last.value("sluice_nodes_drained_total", &[v1[0]]), 2.0);
    assert_eq!(last.value("sluice_changes_ended_total", &[v1[0], ("outcome", "done")]), 2.0);
}

#[test]
fn how_much_is_told_is_configured_and_can_be_edited() {
    let nodes = [origin("v1")];
    let site = Site::new(&text(&nodes, "v1", ""));
    let proxy = site.start();
    proxy.settled("shop");
    assert!(!scrape(&proxy).families.contains_key("sluice_node_state"));
    site.write(&text(&nodes, "v1", "[metrics]\nnodes = true\n"));
    let address = nodes[0].address().to_string();
    let node = [("service", "shop"), ("version", "v1"), ("node", &*address), ("state", "serving")];
    eventually("nodes are told", || {
        let told = scrape(&proxy);
        if !told.families.contains_key("sluice_node_state") {
            return None;
        }
        assert_eq!(told.value("sluice_node_state", &node), 1.0);
        Some(())
    });
    site.write(&text(&nodes, "v1", "[metrics]\nservices = false\n"));
    let told = eventually("services are not told", || {
        Some(scrape(&proxy)).filter(|told| !told.families.contains_key("sluice_requests"))
    });
    assert_eq!(told.value("sluice_services", &[]), 1.0);
}

#[test]
fn a_failing_edit_shows_in_the_measures_of_the_configuration() {
    let nodes = [origin("v1")];
    let site = Site::new(&text(&nodes, "v1", ""));
    let proxy = site.start();
    assert_eq!(scrape(&proxy).value("sluice_config_last_reload_successful", &[]), 1.0);
    site.write("nonsense = 1\n");
    let told = eventually("the edit is refused", || {
        Some(scrape(&proxy)).filter(|told| told.value("sluice_config_last_reload_successful", &[]) == 0.0)
    });
    assert!(told.value("sluice_config_problems", &[]) >= 1.0);
}

#[test]
fn the_access_log_is_opened_again_on_sigusr1_and_edited_live_and_no_line_is_lost() {
    let nodes = [origin("v1")];
    let log = |name: &str| format!("[log.access]\npath = \"{name}\"\nformat = \"{{path}}\"\n");
    let site = Site::new(&text(&nodes, "v1", &log("log.a")));
    let mut proxy = site.start();
    proxy.settled("shop");
    let read = |name: &str| fs::read_to_string(site.path(name)).unwrap_or_default();
    let mut asked = BTreeSet::new();
    let mut client = Client::connect(proxy.address()).expect("a connection");
    for round in 0..5 {
        for number in 0..20 {
            let path = format!("/{round}-{number}");
            client.get("shop.test", &path).expect("an answer");
            asked.insert(path);
            if round < 3 && number == 10 {
                eventually("there is a log", || site.path("log.a").exists().then_some(()));
                fs::rename(site.path("log.a"), site.path(&format!("log.{round}"))).expect("a renamed file");
                proxy.signal(Signal::USR1);
            }
        }
        if round == 3 {
            site.write(&text(&nodes, "v1", &log("log.b")));
            eventually("the edit is seen", || proxy.log().matches("configuration applied").next().map(drop));
        }
    }
    drop(client);
    proxy.signal(Signal::TERM);
    assert!(proxy.exit().success());
    let files = ["log.0", "log.1", "log.2", "log.a", "log.b"];
    let told: Vec<String> =
        files.iter().flat_map(|name| read(name).lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    assert_eq!(told.len(), asked.len(), "{told:?}");
    assert_eq!(told.into_iter().collect::<BTreeSet<_>>(), asked);
    assert_eq!(read("log.b").lines().count(), 20, "from the edit on");
}

/// Names of metrics in an expression of PromQL.
fn names(expression: &str) -> BTreeSet<String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    expression
        .split(|c: char| !word(c))
        .filter(|name| name.starts_with("sluice_") || name.starts_with("process_"))
        .map(str::to_owned)
        .collect()
}

/// Everything under a key, anywhere in a document.
fn under(value: &Value, key: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                match value {
                    Value::String(text) if name == key => found.push(text.clone()),
                    _ => under(value, key, found),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|value| under(value, key, found)),
        _ => {}
    }
}

#[test]
fn the_dashboard_and_the_alerts_ask_for_nothing_that_is_not_told() {
    let nodes = [origin("v1")];
    let site = Site::new(&text(&nodes, "v1", "[metrics]\nnodes = true\n"));
    let proxy = site.start();
    proxy.settled("shop");
    let told = scrape(&proxy);
    let known = told.sample_names();
    let dashboard: Value = serde_json::from_str(&root("config/grafana-dashboard.json")).expect("JSON");
    let mut expressions = Vec::new();
    under(&dashboard, "expr", &mut expressions);
    assert!(expressions.len() >= 12, "{expressions:?}");
    let mut queries = Vec::new();
    under(&dashboard, "query", &mut queries);
    let alerts = root("config/alerts.yml");
    let rules: Vec<String> =
        alerts.lines().filter_map(|line| line.trim().strip_prefix("expr: ")).map(str::to_owned).collect();
    assert!(rules.len() >= 8, "{rules:?}");
    for expression in expressions.iter().chain(&queries).chain(&rules) {
        for name in names(expression) {
            // No listener speaks TLS here.
            let elsewhere = name == "sluice_certificate_expiry_timestamp_seconds";
            assert!(elsewhere || known.contains(&name), "{name} is asked for by {expression}, and not told");
        }
        // A label that no family has matches nothing, silently.
        for label in expression.split(['{', ',', '(']).filter_map(|part| part.trim().split_once(['=', '~', '!'])) {
            let label = label.0.trim();
            if label.chars().all(|c| c.is_ascii_lowercase()) && !label.is_empty() && label != "le" {
                assert!(ALL.iter().any(|family| family.labels.contains(&label)), "{label} in {expression}");
            }
        }
    }
}

#[test]
fn the_table_of_metrics_is_what_the_code_says() {
    let table: Vec<String> =
        root("docs/metrics.md").lines().filter(|line| line.starts_with("| `")).map(str::to_owned).collect();
    let wanted: Vec<String> = ALL
        .iter()
        .map(|family| {
            let kind = match family.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram => "histogram",
            };
            let labels: Vec<_> = family.labels.iter().map(|label| format!("`{label}`")).collect();
            format!("| `{}` | {kind} | {} | {} |", family.full_name(), labels.join(" "), family.help)
        })
        .collect();
    assert_eq!(table, wanted, "docs/metrics.md should hold:\n{}", wanted.join("\n"));
}

#[test]
fn names_keep_to_the_conventions() {
    let mut seen = BTreeSet::new();
    for family in ALL {
        let name = family.full_name();
        assert!(name.starts_with("sluice_") || name.starts_with("process_"), "{name}");
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
        assert!(
            !family.name.ends_with("_total") && !family.help.ends_with('.') && !family.help.contains('\n'),
            "{name}"
        );
        assert!(seen.insert(name.clone()), "{name} is there twice");
    }
}
