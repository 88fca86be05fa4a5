//! Rollouts in a row under mixed load; the old nodes are stopped and killed the moment `wait` returns.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sluicegate::cli::demo::{Kind, Origin, OriginOptions, Over};

use super::stage::{Save, Stage, list, more, states, stop, summary, times, told};

/// Nodes of each version.
const NODES: usize = 3;
/// Requests a second, of all kinds.
const RATE: f64 = 120.0;

/// How the file asks for the next version.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    /// Named versions, one node after the other.
    Rolling,
    /// Named versions, in one swap; the old one stays warm this long.
    BlueGreen(&'static str),
    /// The plain list.
    Plain,
}

/// Each follows each other one, and itself.
const FORMS: [Form; 8] = [
    Form::Rolling,
    Form::Rolling,
    Form::BlueGreen("0s"),
    Form::BlueGreen("700ms"),
    Form::Plain,
    Form::Plain,
    Form::BlueGreen("0s"),
    Form::Plain,
];

/// What differs between the tests.
struct Case {
    name: &'static str,
    /// TOML for `[service.shop.drain]`.
    drain: &'static str,
    /// Whether WebSockets and event streams are left to their own end.
    patient: bool,
    nodes: fn(&mut OriginOptions),
    /// What clients speak: HTTPS in one version of HTTP, or none.
    https: Option<Https>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Https {
    Http1,
    Http2,
}

impl Case {
    const fn new(name: &'static str) -> Self {
        Self { name, drain: "", patient: true, nodes: |_| {}, https: None }
    }

    fn service(&self, form: Form, version: usize, nodes: &[Origin]) -> String {
        let nodes = list(&nodes.iter().map(Origin::address).collect::<Vec<SocketAddr>>());
        let (strategy, keep) = match form {
            Form::BlueGreen(keep) => ("blue-green", keep),
            Form::Rolling | Form::Plain => ("rolling", "30s"),
        };
        let nodes = match form {
            Form::Plain => format!("nodes = {nodes}"),
            Form::Rolling | Form::BlueGreen(_) => {
                format!("release = \"v{version}\"\nversions = {{ v{version} = {nodes} }}")
            }
        };
        format!(
            "{nodes}\nhealth = {{ path = \"/healthz\", interval = \"100ms\" }}\n\
             rollout = {{ strategy = \"{strategy}\", keep = \"{keep}\" }}\ndrain = {{ {} }}\n",
            self.drain
        )
    }

    /// Deploys again and again, and asserts that nobody noticed.
    fn run(&self) {
        let rollouts = times(5);
        let mut stage = if self.https.is_some() { Stage::new().with_https() } else { Stage::new() };
        let start = |version: usize, stage: &Stage| -> Vec<Origin> {
            (0..NODES).map(|_| stage.origin(&format!("v{version}"), self.nodes)).collect()
        };
        let mut serving = start(0, &stage);
        stage.run(&self.service(Form::Rolling, 0, &serving));
        let load = stage.load(RATE, |options| {
            if let (Some(https), Some((target, config))) = (self.https, &stage.secure) {
                options.target = *target;
                options.over = Over { tls: Some(config.clone()), http2: https == Https::Http2 };
            }
        });
        // Every node is used, and every kind of work is going on, when the first edit comes.
        more(&load, 200);
        let begun = Instant::now();
        let mut before = 0;
        // Old nodes that were left alone, with the requests that they had seen when `wait` returned.
        let mut witnesses: Vec<(Origin, u64)> = Vec::new();
        let mut gone: Vec<Origin> = Vec::new();
        for number in 1..=rollouts {
            let form = FORMS[(number - 1) % FORMS.len()];
            let next = start(number, &stage);
            let at = Instant::now();
            let save = if number % 2 == 0 { Save::InPlace } else { Save::Rename };
            stage.save(&self.service(form, number, &next), save);
            let version = format!("v{number}");
            let named = ["wait", "shop", "--timeout", "2m", "--version", &version];
            let waited = stage.sluice(if form == Form::Plain { &named[..4] } else { &named[..] });
            let old = std::mem::replace(&mut serving, next);
            // What a deploy script does next, without a moment's mercy. Now and then the nodes are left to stand: a dead
            // one cannot tell that somebody still calls.
            if number % 5 == 4 {
                witnesses.extend(old.into_iter().map(|node| {
                    let seen = node.counts().requests;
                    (node, seen)
                }));
            } else {
                for node in &old {
                    node.stop_gracefully();
                    node.kill();
                }
                gone.extend(old);
            }
            let took = at.elapsed();
            let tally = load.tally();
            println!(
                "{} {number:2} {:22} {:5.2} s  {:5} requests  {} failed",
                self.name,
                format!("{form:?}"),
                took.as_secs_f64(),
                tally.started_total() - before,
                tally.failures(),
            );
            before = tally.started_total();
            assert!(
                // 6: it was done, and the work that the deadline ended is listed.
                waited.status.code() == Some(0) || (!self.patient && waited.status.code() == Some(6)),
                "rollout {number}: {:?}\n{}\n{:#?}\n{}",
                waited.status,
                told(&waited),
                states(&stage.shop()),
                tally.explain(),
            );
            assert_eq!(tally.failures(), 0, "rollout {number}\n{}", tally.explain());
        }
        let tally = stop(load);
        println!("{}: {rollouts} rollouts in {:.0} s: {}", self.name, begun.elapsed().as_secs_f64(), summary(&tally));
        assert_eq!((tally.failures(), tally.client_retries), (0, 0), "{}", tally.explain());
        for kind in Kind::ALL {
            assert!(tally.kinds[&kind].ok > 0, "no {kind} at all");
        }
        assert_eq!(stage.ledger.duplicates(), []);
        assert_eq!(stage.ledger.orders(), tally.kinds[&Kind::Post].ok, "an order is lost, or nobody's");
        if self.patient {
            assert_eq!(tally.restarts, 0, "a session was ended that had time\n{}", tally.explain());
        } else {
            assert!(tally.restarts > 0, "no session was ever ended: the deadline was not tried out");
        }
        for (node, seen) in &witnesses {
            assert_eq!(node.counts().requests, *seen, "a node of {} was called after it was done with", node.version());
        }
        for node in gone.iter().chain(&serving).chain(witnesses.iter().map(|(node, _)| node)) {
            let counts = node.counts();
            assert_eq!((counts.early, counts.late), (0, 0), "a node of {}: {counts:?}", node.version());
            assert!(counts.requests > 0, "a node of {} was never used", node.version());
        }
    }
}

#[test]
fn fifty_rollouts_under_mixed_load_lose_nothing() {
    Case::new("mixed load").run();
}

#[test]
fn a_short_deadline_sends_websockets_to_the_new_nodes() {
    Case { drain: "websockets = \"1s\"", patient: false, ..Case::new("short WebSockets") }.run();
}

#[test]
fn nodes_that_close_idle_connections_after_50_ms_are_no_trouble() {
    Case { nodes: |node| node.idle_close = Some(Duration::from_millis(50)), ..Case::new("idle close") }.run();
}

#[test]
fn nodes_that_need_two_seconds_to_be_ready_get_nothing_before() {
    Case { nodes: |node| node.ready_after = Duration::from_secs(2), ..Case::new("slow start") }.run();
}

#[test]
fn clients_over_tls_notice_nothing() {
    Case { https: Some(Https::Http1), ..Case::new("HTTPS") }.run();
}

#[test]
fn clients_over_http_2_notice_nothing() {
    Case { https: Some(Https::Http2), ..Case::new("HTTP/2") }.run();
}

#[test]
fn a_short_deadline_sends_websockets_over_http_2_to_the_new_nodes() {
    let drain = "websockets = \"1s\"";
    Case { drain, patient: false, https: Some(Https::Http2), ..Case::new("short WebSockets over HTTP/2") }.run();
}
