//! What Sluice itself adds to each request, piece by piece: finding the service, choosing a node, claiming it, preparing
//! the head. All of it together has to be small beside the four system calls that a proxied request costs.
//!
//! `cargo bench --bench hot_path`
#![allow(missing_docs)]

use std::path::Path;
use std::sync::Arc;

use divan::{Bencher, black_box};
use http::{Request, Version};
use sluicegate::config;
use sluicegate::model::{NodeId, Share};
use sluicegate::pool::balance::ONE;
use sluicegate::pool::router::normalised;
use sluicegate::pool::{Node, Router, ServiceView, Slice, Turn};
use sluicegate::proxy::headers::{self, BodyLength, Seen};

fn main() {
    divan::main();
}

fn router(services: usize) -> Router {
    use std::fmt::Write;
    let mut text = String::from("[[listener]]\nname = \"http\"\nbind = \"127.0.0.1:0\"\n");
    for index in 0..services {
        let _ = writeln!(
            text,
            "[service.s{index}]\nmatch = [\"s{index}.example.com\", \"*.s{index}.example.com/api\"]\nnodes = [\"127.0.0.1:1\"]"
        );
    }
    let config = config::load_str(&text, Path::new("bench.toml")).config.expect("a valid configuration");
    Router::new(
        config
            .services
            .values()
            .enumerate()
            .flat_map(|(index, service)| {
                service.matches.iter().map(move |pattern| (pattern, index)).collect::<Vec<_>>()
            })
            .collect::<Vec<_>>(),
    )
}

#[divan::bench(args = [1, 100, 10_000])]
fn route_an_exact_host(bencher: Bencher, services: usize) {
    let router = router(services);
    bencher.bench(|| router.find(black_box("s0.example.com:8080"), &normalised(black_box("/cart/items/42"))));
}

#[divan::bench(args = [1, 10_000])]
fn route_a_wildcard_host_and_a_prefix(bencher: Bencher, services: usize) {
    let router = router(services);
    bencher.bench(|| router.find(black_box("a.b.s0.example.com"), &normalised(black_box("/api/v1/items"))));
}

#[divan::bench]
fn normalise_a_path_with_dot_segments() -> String {
    normalised(black_box("/a/./b/../c/%2e%2e/d")).into_owned()
}

/// Two versions with so many nodes each, of these weights in turn, under this `balance` table.
fn view(nodes: usize, weights: &[u32], balance: &str) -> ServiceView {
    let text = format!(
        "[[listener]]\nname = \"http\"\nbind = \"127.0.0.1:0\"\n[service.s]\nmatch = \"*\"\nnodes = [\"127.0.0.1:1\"]\n\
         balance = {{ {balance} }}"
    );
    let config = config::load_str(&text, Path::new("bench.toml")).config.expect("a valid configuration");
    let settings = Arc::clone(config.services.values().next().expect("a service"));
    let slice = |version: &str, share| {
        let node = |index: usize| {
            let address = format!("127.0.0.1:{}", 1000 + index);
            let id = NodeId { service: "s".into(), version: version.into(), address: address.as_str().into() };
            (Node::new(id, 2), weights[index % weights.len()] * ONE)
        };
        Slice::new(version.into(), share, (0..nodes).map(node).collect(), &settings.balance.policy)
    };
    let slices = vec![slice("v1", Share(7_500)), slice("v2", Share(2_500))];
    ServiceView {
        settings,
        slices,
        all_down: false,
        trial: None,
        halt: None,
        hold: Arc::default(),
        stats: Arc::new(sluicegate::pool::ServiceStats::new(1)),
    }
}

fn choose(bencher: Bencher, view: &ServiceView, with_key: bool) {
    let mut turn = 0u32;
    bencher.bench_local(|| {
        turn = turn.wrapping_add(1);
        let random = u64::from(turn).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let how = Turn::new(turn, random, with_key.then_some(random));
        black_box(view.choose(how, |_| turn, |node| node.inflight_on(0), |_| false, Node::is_closed).is_some())
    });
}

#[divan::bench(args = [1, 3, 100])]
fn choose_a_version_and_a_node(bencher: Bencher, nodes: usize) {
    choose(bencher, &view(nodes, &[1], ""), false);
}

#[divan::bench(args = [3, 100])]
fn choose_by_weight(bencher: Bencher, nodes: usize) {
    choose(bencher, &view(nodes, &[1, 2, 5], ""), false);
}

#[divan::bench(args = [3, 100])]
fn choose_in_turn(bencher: Bencher, nodes: usize) {
    choose(bencher, &view(nodes, &[1, 2, 5], "policy = \"round-robin\""), false);
}

#[divan::bench(args = [3, 100])]
fn choose_by_hash(bencher: Bencher, nodes: usize) {
    choose(bencher, &view(nodes, &[1], "policy = \"hash\""), true);
}

#[divan::bench(args = [3, 100])]
fn make_a_ring(bencher: Bencher, nodes: usize) {
    bencher.bench_local(|| view(nodes, &[1], "policy = \"hash\""));
}

#[divan::bench]
fn claim_and_release(bencher: Bencher) {
    let view = view(1, &[1], "");
    let node = &view.slices[0].nodes[0];
    bencher.bench(|| {
        let claimed = node.claim(0);
        node.release(0);
        claimed
    });
}

fn request() -> Request<()> {
    Request::builder()
        .version(Version::HTTP_11)
        .uri("/cart/items/42?full=1")
        .header("host", "shop.example.com")
        .header("user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36")
        .header("accept", "text/html,application/xhtml+xml")
        .header("accept-encoding", "gzip, br")
        .header("accept-language", "en")
        .header("cookie", "session=0123456789abcdef0123456789abcdef")
        .header("connection", "keep-alive")
        .body(())
        .expect("a request")
}

#[divan::bench]
fn examine_and_rewrite_a_head(bencher: Bencher) {
    bencher.with_inputs(request).bench_values(|request| {
        let mut head = request.into_parts().0;
        let mut seen = Seen::default();
        if headers::examine(&head, false, |_| false, &mut seen).is_ok() {
            seen.rewrite(&mut head.headers, BodyLength::Known);
        }
        head
    });
}

#[divan::bench]
fn copy_a_head_for_a_possible_replay(bencher: Bencher) {
    let request = request();
    bencher.bench(|| request.headers().clone());
}
