//! What an edit changes, as properties over random configurations.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use sluicegate::config::{
    Accepting, Admin, AllDown, Balance, ClientTls, Config, Connections, Drain, Eject, Health, Hold, HostPattern,
    Limits, Listener, Match, Metrics, NodeProtocol, Probe, Retry, Rollout, Service, Shutdown, Strategy as Way,
    Timeouts, Tracing,
};
use sluicegate::model::{NodeAddress, ServiceName, Version};
use sluicegate::rollout::diff::{Changes, Spec, apply, diff};

const SECOND: Duration = Duration::from_secs(1);

/// Small alphabets, so that two random configurations have much in common.
fn versions() -> impl Strategy<Value = BTreeMap<Version, Vec<NodeAddress>>> {
    let nodes = btree_set("[a-d]:500[0-3]", 0..4);
    let nodes = nodes.prop_map(|nodes| nodes.into_iter().map(NodeAddress::new).collect::<Vec<_>>());
    btree_map("v[1-3]", nodes.prop_shuffle(), 1..4)
        .prop_map(|versions| versions.into_iter().map(|(version, nodes)| (Version::new(version), nodes)).collect())
}

fn service() -> impl Strategy<Value = Service> {
    (versions(), any::<prop::sample::Index>(), vec("[ab]\\.example", 0..3), any::<bool>(), 0u64..3, any::<bool>())
        .prop_map(|(versions, release, hosts, strip_prefix, number, blue_green)| Service {
            name: "".into(),
            source: PathBuf::from(format!("services/{}.toml", number % 2)),
            matches: hosts
                .into_iter()
                .map(|host| Match { host: HostPattern::Exact(host), prefix: String::new() })
                .collect(),
            strip_prefix,
            release: versions.keys().nth(release.index(versions.len())).expect("at least one").clone(),
            versions,
            health: Health {
                probe: Probe::Tcp,
                interval: SECOND,
                timeout: SECOND,
                rise: 2,
                fall: 3,
                all_down: AllDown::Serve,
                protocol: NodeProtocol::Http1,
                proxy_protocol: None,
            },
            rollout: Rollout {
                strategy: if blue_green { Way::BlueGreen } else { Way::Rolling },
                keep: SECOND,
                deadline: SECOND,
                ..Rollout::default()
            },
            drain: Drain { requests: SECOND, streams: SECOND, websockets: SECOND, spread: SECOND },
            timeouts: Timeouts { connect: SECOND, response: SECOND, body: SECOND, tunnel: SECOND },
            retry: Retry { attempts: 3, budget: 0.2, buffer: 1024 },
            connections: Connections { max: 10 + number as usize, idle: 5, ..Connections::default() },
            weights: BTreeMap::new(),
            balance: Balance { slow_start: SECOND * number as u32, ..Balance::default() },
            eject: Eject::default(),
            hold: Hold::default(),
            tls: ClientTls::default(),
            door: None,
            trial: None,
        })
}

fn config() -> impl Strategy<Value = Config> {
    (btree_map("[ab]", 8080u16..8083, 0..3), btree_map("[abc]", service(), 0..4), 0usize..2).prop_map(
        |(listeners, services, limit)| Config {
            listeners: listeners
                .into_iter()
                .map(|(name, port)| Listener {
                    name,
                    bind: ([127, 0, 0, 1], port).into(),
                    accepting: Accepting::default(),
                })
                .collect(),
            services: services
                .into_iter()
                .map(|(name, service)| {
                    let name = ServiceName::new(name);
                    (name.clone(), Arc::new(Service { name, ..service }))
                })
                .collect(),
            admin: Admin::default(),
            state_dir: None,
            workers: None,
            trusted_proxies: Vec::new(),
            metrics: Metrics::default(),
            access_log: None,
            tracing: Tracing::default(),
            limits: Limits {
                connections: 100 + limit,
                head_size: 1024,
                head: SECOND,
                idle: SECOND,
                ..Limits::default()
            },
            errors: None,
            shutdown: Shutdown { delay: SECOND, linger: SECOND, deadline: SECOND },
        },
    )
}

fn spec() -> impl Strategy<Value = Spec> {
    config().prop_map(|config| Spec::of(&config))
}

/// The same configuration, read again: equal, but nothing is shared.
fn read_again(config: &Config) -> Config {
    let services = config.services.iter().map(|(name, service)| (name.clone(), Arc::new(Service::clone(service))));
    Config { services: services.collect(), ..config.clone() }
}

proptest! {
    #[test]
    fn applying_a_difference_gives_what_was_wanted(a in spec(), b in spec()) {
        prop_assert_eq!(apply(&diff(&a, &b), &a), b);
    }

    #[test]
    fn reading_the_same_file_again_changes_nothing(config in config()) {
        let changes = diff(&Spec::of(&config), &Spec::of(&read_again(&config)));
        prop_assert!(changes.is_empty(), "{}", changes);
        prop_assert!(changes.lines().is_empty());
    }

    #[test]
    fn any_difference_has_a_line(a in spec(), b in spec()) {
        prop_assert_eq!(diff(&a, &b).lines().is_empty(), a == b);
    }

    #[test]
    fn an_edit_of_one_service_concerns_that_one_alone(a in config(), name in "[abc]", edited in service()) {
        let name = ServiceName::new(name);
        let mut b = read_again(&a);
        b.services.insert(name.clone(), Arc::new(Service { name: name.clone(), ..edited }));
        let Changes { global, closed, opened, removed, added, changed } = diff(&Spec::of(&a), &Spec::of(&b));
        prop_assert!(global.is_none() && closed.is_empty() && opened.is_empty() && removed.is_empty());
        prop_assert!(added.keys().chain(changed.keys()).all(|concerned| *concerned == name));
    }

    #[test]
    fn going_there_and_back_again_is_nothing(a in spec(), b in spec()) {
        let there = apply(&diff(&a, &b), &a);
        prop_assert_eq!(apply(&diff(&there, &a), &there), a);
    }
}

#[test]
fn a_difference_reads_like_a_plan() {
    let service = |release: &str, versions: &[(&str, &[&str])]| {
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let any = service().new_tree(&mut runner).expect("a service").current();
        let nodes = |nodes: &[&str]| nodes.iter().copied().map(NodeAddress::from).collect();
        let versions = versions.iter().map(|&(version, list)| (version.into(), nodes(list))).collect();
        Arc::new(Service { release: release.into(), versions, ..any })
    };
    let config = |services: &[(&str, Arc<Service>)]| {
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let any = config().new_tree(&mut runner).expect("a configuration").current();
        let services = services.iter().map(|(name, service)| (ServiceName::new(name), Arc::clone(service))).collect();
        Spec::of(&Config { services, ..any })
    };
    let before =
        config(&[("shop", service("v1", &[("v1", &["a:1", "b:1"])])), ("old", service("v1", &[("v1", &["z:1"])]))]);
    let after = config(&[
        ("shop", service("v2", &[("v1", &["a:1", "c:1"]), ("v2", &["a:2", "b:2"])])),
        ("new", service("-", &[("-", &["y:1"])])),
    ]);
    let lines = diff(&before, &after).to_string();
    assert_eq!(
        lines,
        "service old is removed; its nodes drain\n\
         service new is added: the node list on y:1\n\
         service shop: v2 takes over from v1\n\
         service shop: c:1 joins v1\n\
         service shop: b:1 leaves v1\n\
         service shop: v2 is new, with a:2, b:2\n"
    );
}
