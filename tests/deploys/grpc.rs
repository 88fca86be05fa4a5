//! Rollouts under gRPC: unary calls that write, and streams that stay open. Real clients and nodes (tonic) on both ends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use super::grpc_node::{GrpcNode, Raw};
use super::stage::{Save, Stage, list, states, times, told};

const NODES: usize = 2;
/// Clients that place orders one after the other, and clients that listen.
const WRITERS: u64 = 6;
const LISTENERS: u64 = 6;
/// How long a stream is listened to before it is dropped and begun again.
const SESSION: Duration = Duration::from_secs(3);

/// What the clients saw.
#[derive(Debug, Default)]
struct Seen {
    orders: AtomicU64,
    messages: AtomicU64,
    /// Streams that ended with UNAVAILABLE, and were begun again.
    sent_away: AtomicU64,
    /// Anything that must not be.
    wrong: std::sync::Mutex<Vec<String>>,
    stop: AtomicBool,
}

impl Seen {
    fn wrong(&self, what: String) {
        self.wrong.lock().expect("nobody panics here").push(what);
    }

    fn complaints(&self) -> Vec<String> {
        self.wrong.lock().expect("nobody panics here").clone()
    }
}

fn path(path: &'static str) -> PathAndQuery {
    PathAndQuery::from_static(path)
}

async fn ready(client: &mut Grpc<Channel>, seen: &Seen) -> bool {
    let ready = client.ready().await;
    if let Err(error) = &ready {
        seen.wrong(format!("not ready: {error}"));
    }
    ready.is_ok()
}

async fn write(channel: Channel, seen: Arc<Seen>, writer: u64) {
    let mut client = Grpc::new(channel);
    for number in 0_u64.. {
        if seen.stop.load(Ordering::Relaxed) || !ready(&mut client, &seen).await {
            return;
        }
        let order = format!("{writer}-{number}").into_bytes();
        match client.unary(Request::new(order.clone()), path("/test.Orders/Place"), Raw).await {
            Ok(answer) if *answer.get_ref() == order => drop(seen.orders.fetch_add(1, Ordering::Relaxed)),
            Ok(answer) => seen.wrong(format!("another order's answer: {answer:?}")),
            Err(status) => seen.wrong(format!("an order failed: {status:?}")),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn listen(channel: Channel, seen: Arc<Seen>, patient: bool) {
    let mut client = Grpc::new(channel);
    while !seen.stop.load(Ordering::Relaxed) && ready(&mut client, &seen).await {
        let opened = client.server_streaming(Request::new(Vec::new()), path("/test.Orders/Watch"), Raw).await;
        let mut stream = match opened {
            Ok(opened) => opened.into_inner(),
            Err(status) => {
                seen.wrong(format!("a stream did not open: {status:?}"));
                continue;
            }
        };
        let until = Instant::now() + SESSION;
        let mut next = 0_u64;
        while Instant::now() < until && !seen.stop.load(Ordering::Relaxed) {
            match stream.message().await {
                Ok(Some(message)) if message == next.to_string().into_bytes() => {
                    next += 1;
                    seen.messages.fetch_add(1, Ordering::Relaxed);
                }
                Err(status) if !patient && is_farewell(&status) => {
                    seen.sent_away.fetch_add(1, Ordering::Relaxed);
                    break;
                }
                other => {
                    seen.wrong(format!("instead of message {next}: {other:?}"));
                    break;
                }
            }
        }
    }
}

/// The node has to be left: said in the trailers, not by a reset.
fn is_farewell(status: &Status) -> bool {
    status.code() == Code::Unavailable && std::error::Error::source(status).is_none()
}

fn service(version: usize, nodes: &[GrpcNode], drain: &str) -> String {
    let nodes = list(&nodes.iter().map(|node| node.address).collect::<Vec<SocketAddr>>());
    let strategy = if version.is_multiple_of(2) { "rolling" } else { "blue-green" };
    format!(
        "release = \"v{version}\"\nversions = {{ v{version} = {nodes} }}\nconnections = {{ protocol = \"h2c\" }}\n\
         health = {{ grpc = \"\", interval = \"100ms\" }}\n\
         rollout = {{ strategy = \"{strategy}\", keep = \"0s\" }}\ndrain = {{ {drain} }}\n"
    )
}

fn run(drain: &str, patient: bool) {
    let rollouts = times(4);
    let mut stage = Stage::new();
    let start = |ledger: &sluicegate::cli::demo::Ledger| (0..NODES).map(|_| GrpcNode::start(ledger)).collect();
    let mut serving: Vec<GrpcNode> = start(&stage.ledger);
    stage.run(&service(0, &serving, drain));
    let seen = Arc::new(Seen::default());
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    for number in 0..WRITERS.max(LISTENERS) {
        let endpoint = Endpoint::from_shared(format!("http://{}", stage.target)).expect("an address");
        let channel = runtime.block_on(endpoint.connect()).expect("a connection");
        if number < WRITERS {
            runtime.spawn(write(channel.clone(), seen.clone(), number));
        }
        if number < LISTENERS {
            runtime.spawn(listen(channel, seen.clone(), patient));
        }
    }
    for number in 1..=rollouts {
        let next: Vec<GrpcNode> = start(&stage.ledger);
        stage.save(&service(number, &next, drain), Save::Rename);
        let waited = stage.sluice(&["wait", "shop", "--timeout", "2m", "--version", &format!("v{number}")]);
        for node in std::mem::replace(&mut serving, next) {
            node.kill();
        }
        assert!(
            waited.status.code() == Some(0) || (!patient && waited.status.code() == Some(6)),
            "rollout {number}: {:?}\n{}\n{:#?}",
            waited.status,
            told(&waited),
            states(&stage.shop()),
        );
        assert_eq!(seen.complaints(), Vec::<String>::new(), "rollout {number}");
    }
    seen.stop.store(true, Ordering::Relaxed);
    runtime.shutdown_timeout(Duration::from_secs(10));
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (orders, messages, sent_away) = (count(&seen.orders), count(&seen.messages), count(&seen.sent_away));
    println!("gRPC: {rollouts} rollouts: {orders} orders, {messages} messages, {sent_away} streams sent away");
    assert_eq!(seen.complaints(), Vec::<String>::new());
    assert_eq!(stage.ledger.duplicates(), []);
    assert!(stage.ledger.orders() >= orders && orders > 0 && messages > 0);
    assert_eq!(sent_away > 0, !patient, "{sent_away} streams were sent away");
}

#[test]
fn grpc_calls_and_streams_notice_no_rollout() {
    run("", true);
}

#[test]
fn grpc_streams_that_outlast_the_deadline_end_with_unavailable() {
    run("streams = \"500ms\", spread = \"200ms\"", false);
}
