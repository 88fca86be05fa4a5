//! The whole proxy against an in-process node, beside its baseline: the same job done by a work-stealing runtime and
//! hyper-util's pooled client. Prints CPU time per request of the proxy's threads alone, so that the load generator and
//! the node on the same machine do not count.
//!
//! `cargo bench --bench loopback -- [--seconds 5] [--connections 64] [--bytes 128] [--rounds 3]`
#![allow(missing_docs)]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use hyper::service::service_fn;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use sluicegate::model::{NodeId, Share};
use sluicegate::net::listener;
use sluicegate::pool::balance::ONE;
use sluicegate::pool::{Command, Edge, Entrance, Node, Pool, Router, ServiceView, Slice, Snapshot};
use sluicegate::{config, proxy};

struct Options {
    seconds: u64,
    connections: usize,
    bytes: usize,
    rounds: usize,
}

fn main() {
    let options = options();
    let node = start_node(options.bytes);
    println!(
        "{} connections, {} B responses, {} s a run; CPU time of the proxy's threads per request",
        options.connections, options.bytes, options.seconds
    );
    let sluice = start_sluice(node);
    let baseline = start_baseline(node);
    let mut results: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for round in 0..options.rounds {
        for (name, address, threads) in [("sluice", sluice, "worker-"), ("baseline", baseline, "baseline")] {
            let run = measure(address, threads, &options);
            println!(
                "round {round}  {name:9} {:6.2} µs/request  {:7.0} requests/s  p50 {:6.0} µs  p99 {:6.0} µs",
                run.cpu_us, run.rate, run.p50_us, run.p99_us
            );
            results.entry(name).or_default().push(run.cpu_us);
        }
    }
    let best = |name| results[name].iter().copied().fold(f64::INFINITY, f64::min);
    println!(
        "best: sluice {:.2} µs, baseline {:.2} µs, ratio {:.2}",
        best("sluice"),
        best("baseline"),
        best("sluice") / best("baseline")
    );
}

fn options() -> Options {
    let mut options = Options { seconds: 4, connections: 64, bytes: 128, rounds: 3 };
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    for pair in arguments.chunks(2) {
        let [name, value] = pair else { panic!("{pair:?} has no value") };
        let value: usize = value.parse().expect("a number");
        match name.as_str() {
            "--seconds" => options.seconds = value as u64,
            "--connections" => options.connections = value,
            "--bytes" => options.bytes = value,
            "--rounds" => options.rounds = value,
            other => panic!("unknown option {other}"),
        }
    }
    options
}

/// A node that answers as fast as it can: one thread a connection would distort the picture, so one epoll loop.
fn start_node(bytes: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a bound socket");
    let mut response = format!("HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n\r\n").into_bytes();
    response.resize(response.len() + bytes, b'x');
    let response: Arc<[u8]> = response.into();
    std::thread::Builder::new()
        .name("node".into())
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                listener.set_nonblocking(true).expect("a socket option");
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                while let Ok((stream, _)) = listener.accept().await {
                    let response = Arc::clone(&response);
                    tokio::spawn(async move { answer(stream, &response).await });
                }
            });
        })
        .expect("a thread");
    address
}

async fn answer(mut stream: tokio::net::TcpStream, response: &[u8]) -> Option<()> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    stream.set_nodelay(true).ok()?;
    let mut buffer = vec![0; 16 * 1024];
    let mut have = 0;
    loop {
        have += stream.read(&mut buffer[have..]).await.ok().filter(|read| *read > 0)?;
        while let Some(end) = buffer[..have].windows(4).position(|w| w == b"\r\n\r\n") {
            stream.write_all(response).await.ok()?;
            buffer.copy_within(end + 4..have, 0);
            have -= end + 4;
        }
    }
}

fn start_sluice(node: SocketAddr) -> SocketAddr {
    let text = format!(
        "[service.app]\nmatch = \"*\"\nnodes = [\"{node}\"]\n[[listener]]\nname = \"http\"\nbind = \"127.0.0.1:0\"\n"
    );
    let config = config::load_str(&text, Path::new("bench.toml")).config.expect("a valid configuration");
    let service = config.services.values().next().expect("a service");
    let (pool, subscriptions) = Pool::new(1);
    proxy::start(subscriptions).expect("workers start");
    let address = service.versions[&service.release][0].clone();
    let id = NodeId { service: service.name.clone(), version: service.release.clone(), address };
    let nodes = vec![(Node::new(id, 1), ONE)];
    let slice = Slice::new(service.release.clone(), Share::ALL, nodes, &service.balance.policy);
    let hold = Arc::default();
    let view = ServiceView {
        settings: Arc::clone(service),
        slices: vec![slice],
        all_down: false,
        trial: None,
        halt: None,
        hold,
        stats: Arc::new(sluicegate::pool::ServiceStats::new(1)),
    };
    pool.publish(Snapshot {
        generation: 0,
        router: Arc::new(Router::new(service.matches.iter().map(|pattern| (pattern, 0)))),
        services: vec![Arc::new(view)],
        edge: Arc::new(Edge::default()),
    });
    let entrance = Arc::new(ArcSwap::from_pointee(Entrance::new(&config.listeners[0], None)));
    let socket = listener::bind(config.listeners[0].bind, 1).expect("a free port").remove(0);
    let address = socket.local_addr().expect("a bound socket");
    pool.tell_one(0, Command::Listen { id: 1, socket, entrance });
    // The workers live as long as the pool, the pool as long as the bench.
    std::mem::forget(pool);
    address
}

fn start_baseline(node: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a bound socket");
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("baseline")
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async move {
            let mut connector = HttpConnector::new();
            connector.set_nodelay(true);
            let client: Client<_, hyper::body::Incoming> =
                Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector);
            listener.set_nonblocking(true).expect("a socket option");
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            while let Ok((stream, _)) = listener.accept().await {
                let client = client.clone();
                stream.set_nodelay(true).expect("a socket option");
                tokio::spawn(async move {
                    let service = service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
                        let client = client.clone();
                        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
                        *request.uri_mut() = format!("http://{node}{path}").parse().expect("a URI");
                        request.headers_mut().remove(http::header::CONNECTION);
                        async move {
                            let bad = |_| {
                                let mut response = http::Response::new(http_body_util::Either::Right(String::new()));
                                *response.status_mut() = http::StatusCode::BAD_GATEWAY;
                                response
                            };
                            let answer = client.request(request).await;
                            Ok::<_, Infallible>(answer.map_or_else(bad, |r| r.map(http_body_util::Either::Left)))
                        }
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .timer(TokioTimer::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
    });
    address
}

struct Run {
    cpu_us: f64,
    rate: f64,
    p50_us: f64,
    p99_us: f64,
}

/// Keeps all connections busy for a while, one request on each at a time.
fn measure(target: SocketAddr, threads: &str, options: &Options) -> Run {
    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicU64::new(0));
    let load = {
        let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
        let (connections, bytes) = (options.connections, options.bytes);
        std::thread::spawn(move || load(target, connections, bytes, &stop, &done))
    };
    std::thread::sleep(Duration::from_millis(500));
    let (cpu, count, start) = (cpu_ns(threads), done.load(Ordering::Relaxed), Instant::now());
    std::thread::sleep(Duration::from_secs(options.seconds));
    let (cpu, count, elapsed) =
        (cpu_ns(threads) - cpu, done.load(Ordering::Relaxed) - count, start.elapsed().as_secs_f64());
    stop.store(true, Ordering::Relaxed);
    let latencies = load.join().expect("the load ran");
    Run {
        cpu_us: cpu as f64 / 1000.0 / count as f64,
        rate: count as f64 / elapsed,
        p50_us: latencies.value_at_quantile(0.5) as f64 / 1000.0,
        p99_us: latencies.value_at_quantile(0.99) as f64 / 1000.0,
    }
}

fn load(
    target: SocketAddr,
    connections: usize,
    bytes: usize,
    stop: &AtomicBool,
    done: &AtomicU64,
) -> hdrhistogram::Histogram<u64> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    // A first request by plain means: a proxy that answers wrongly must not be measured.
    let mut probe = TcpStream::connect(target).expect("the proxy listens");
    probe.write_all(b"GET / HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n").expect("a request");
    let mut answer = Vec::new();
    probe.read_to_end(&mut answer).expect("an answer");
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    let latencies = std::cell::RefCell::new(hdrhistogram::Histogram::new(3).expect("a histogram"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let one = || async {
            let mut stream = tokio::net::TcpStream::connect(target).await.expect("the proxy listens");
            stream.set_nodelay(true).expect("a socket option");
            let mut buffer = vec![0; 64 * 1024];
            while !stop.load(Ordering::Relaxed) {
                let begun = Instant::now();
                stream
                    .write_all(b"GET /path HTTP/1.1\r\nhost: bench\r\nuser-agent: bench\r\naccept: */*\r\n\r\n")
                    .await?;
                let mut have = 0;
                let mut need = usize::MAX;
                while have < need {
                    let read = stream.read(&mut buffer[have.min(32 * 1024)..]).await?;
                    assert!(read > 0, "the proxy closed a connection");
                    have += read;
                    if need == usize::MAX
                        && let Some(end) = buffer[..have.min(buffer.len())].windows(4).position(|w| w == b"\r\n\r\n")
                    {
                        need = end + 4 + bytes;
                    }
                }
                done.fetch_add(1, Ordering::Relaxed);
                let _ = latencies.borrow_mut().record(begun.elapsed().as_nanos() as u64);
            }
            Ok::<_, std::io::Error>(())
        };
        let runs = futures_util::future::join_all((0..connections).map(|_| one()));
        for result in runs.await {
            result.expect("no connection fails");
        }
    });
    latencies.into_inner()
}

/// CPU time of this process's threads whose name starts so, in nanoseconds.
fn cpu_ns(prefix: &str) -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("procfs");
    tasks
        .filter_map(Result::ok)
        .filter(|task| std::fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.starts_with(prefix)))
        .filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok())
        .filter_map(|text| text.split(' ').next()?.parse::<u64>().ok())
        .sum()
}
