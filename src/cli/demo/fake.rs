//! A stand-in for the proxy, so that the demo's own course can be tested: what is true is shown, and a proxy that is
//! careless is found out. One connection to a node for each request, and a swap of all nodes at once.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::channel::Channel;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::time::sleep;

use super::io::Io;
use super::seam::Stop;
use crate::api::{
    ConfigStatus, Ended, ListenerStatus, NodeStatus, Outcome, Progress, ServiceStatus, Status, VersionStatus,
};
use crate::model::{NodeAddress, NodeState, Timestamp, Version};

type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// Keeps its promises.
pub(super) fn careful(config: &Path) -> Result<Stop, String> {
    launch(config, true)
}

/// Says that the old nodes may be stopped while they still work.
pub(super) fn careless(config: &Path) -> Result<Stop, String> {
    launch(config, false)
}

struct Fake {
    config: PathBuf,
    address: SocketAddr,
    waits: bool,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    serving: Vec<SocketAddr>,
    release: String,
    draining: Vec<SocketAddr>,
    in_flight: HashMap<SocketAddr, usize>,
    next: usize,
    refused: BTreeSet<String>,
    ended: HashMap<String, Outcome>,
}

/// Counts a request on its node, to the end of its answer.
struct Held(Arc<Fake>, SocketAddr);

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(count) = self.0.table.lock().unwrap().in_flight.get_mut(&self.1) {
            *count -= 1;
        }
    }
}

fn launch(config: &Path, waits: bool) -> Result<Stop, String> {
    let text = std::fs::read_to_string(config).map_err(|error| error.to_string())?;
    let file: toml::Table = text.parse().unwrap();
    let socket = file["admin"]["socket"].as_str().unwrap().to_owned();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let fake = Arc::new(Fake {
        config: config.to_owned(),
        address: listener.local_addr().unwrap(),
        waits,
        table: Mutex::default(),
    });
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::from_std(listener).unwrap();
            let socket = UnixListener::bind(socket).unwrap();
            tokio::select! {
                _ = stopped => {}
                () = proxy(fake.clone(), listener) => {}
                () = admin(fake.clone(), socket) => {}
                () = control(fake.clone()) => {}
            }
        });
    });
    Ok(Box::new(move || {
        let _ = stop.send(());
        thread.join().unwrap();
    }))
}

async fn proxy(fake: Arc<Fake>, listener: TcpListener) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let fake = fake.clone();
        tokio::spawn(async move {
            let handler = service_fn(move |request| forward(fake.clone(), request));
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(Io::tcp(stream), handler)
                .with_upgrades()
                .await;
        });
    }
}

async fn forward(fake: Arc<Fake>, mut request: Request<Incoming>) -> Result<Response<Body>, hyper::Error> {
    let node = {
        let mut table = fake.table.lock().unwrap();
        table.next += 1;
        let node = table.serving[table.next % table.serving.len()];
        *table.in_flight.entry(node).or_default() += 1;
        node
    };
    let held = Held(fake, node);
    let Ok(stream) = TcpStream::connect(node).await else {
        let mut response = Response::new(empty());
        *response.status_mut() = StatusCode::BAD_GATEWAY;
        return Ok(response);
    };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(Io::tcp(stream)).await?;
    tokio::spawn(connection.with_upgrades());
    let front = hyper::upgrade::on(&mut request);
    let mut response = sender.send_request(request).await?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let back = hyper::upgrade::on(&mut response);
        tokio::spawn(async move {
            let (Ok(front), Ok(back)) = tokio::join!(front, back) else {
                return;
            };
            let front = front.downcast::<Io>().unwrap();
            let back = back.downcast::<Io>().unwrap();
            assert!(front.read_buf.is_empty() && back.read_buf.is_empty());
            let (mut front, mut back) = (front.io, back.io);
            let _ = tokio::io::copy_bidirectional(&mut front, &mut back).await;
            drop(held);
        });
        return Ok(response.map(|_| empty()));
    }
    Ok(response.map(|body| {
        body.map_frame(move |frame| {
            let _held = &held;
            frame
        })
        .boxed_unsync()
    }))
}

fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// Follows the file.
async fn control(fake: Arc<Fake>) {
    let mut since = Instant::now();
    let mut wanted = String::new();
    loop {
        sleep(Duration::from_millis(50)).await;
        let text = std::fs::read_to_string(&fake.config).unwrap();
        let file: toml::Table = text.parse().unwrap();
        let shop = &file["service"]["shop"];
        let release = shop["release"].as_str().unwrap().to_owned();
        if release != wanted {
            wanted.clone_from(&release);
            since = Instant::now();
        }
        {
            let table = fake.table.lock().unwrap();
            if table.release == release || table.refused.contains(&release) {
                continue;
            }
        }
        let nodes: Vec<SocketAddr> = shop["versions"][&release]
            .as_array()
            .unwrap()
            .iter()
            .map(|node| node.as_str().unwrap().parse().unwrap())
            .collect();
        let mut healthy = true;
        for node in &nodes {
            healthy &= passes(*node).await;
        }
        if !healthy {
            if since.elapsed() > Duration::from_secs(5) && release != "v1" {
                let mut table = fake.table.lock().unwrap();
                table.refused.insert(release.clone());
                table.ended.insert(release, Outcome::Unhealthy);
            }
            continue;
        }
        {
            let mut table = fake.table.lock().unwrap();
            table.draining = std::mem::replace(&mut table.serving, nodes);
            table.release.clone_from(&release);
        }
        let busy = || {
            let table = fake.table.lock().unwrap();
            let of = |node| table.in_flight.get(node).copied().unwrap_or(0);
            table.draining.iter().map(of).sum::<usize>()
        };
        while fake.waits && busy() > 0 {
            sleep(Duration::from_millis(10)).await;
        }
        let mut table = fake.table.lock().unwrap();
        table.draining.clear();
        table.ended.insert(release, Outcome::Done);
    }
}

async fn passes(node: SocketAddr) -> bool {
    let probe = async {
        let stream = TcpStream::connect(node).await.ok()?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(Io::tcp(stream)).await.ok()?;
        tokio::spawn(async move { drop(connection.await) });
        let request = Request::get("/healthz").header("host", "probe");
        let request = request.body(Empty::<Bytes>::new()).ok()?;
        Some(sender.send_request(request).await.ok()?.status() == 200)
    };
    probe.await.unwrap_or(false)
}

async fn admin(fake: Arc<Fake>, socket: UnixListener) {
    loop {
        let (stream, _) = socket.accept().await.unwrap();
        let fake = fake.clone();
        tokio::spawn(async move {
            let handler = service_fn(move |request: Request<Incoming>| {
                let fake = fake.clone();
                async move { Ok::<_, hyper::Error>(reply(&fake, request.uri().path())) }
            });
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(Io::new(stream), handler).await;
        });
    }
}

fn reply(fake: &Arc<Fake>, path: &str) -> Response<Body> {
    if path == "/v1/status" {
        let text = serde_json::to_vec(&status(fake)).unwrap();
        let body = Full::from(text).map_err(|never| match never {});
        return Response::new(body.boxed_unsync());
    }
    assert_eq!(path, "/v1/services/shop/wait");
    let (mut sender, body) = Channel::<Bytes, hyper::Error>::new(1);
    let fake = fake.clone();
    tokio::spawn(async move {
        loop {
            let outcome = fake.table.lock().unwrap().ended.get("v2").copied();
            let progress = Progress {
                service: status(&fake).services.remove(0),
                ended: outcome.map(|outcome| Ended { outcome, message: "so it ended".into(), entry: None }),
            };
            let mut line = serde_json::to_vec(&progress).unwrap();
            line.extend_from_slice(b"\n\n");
            let sent = sender.send_data(line.into()).await;
            if sent.is_err() || outcome.is_some() {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
    });
    Response::new(body.boxed_unsync())
}

fn status(fake: &Fake) -> Status {
    let table = fake.table.lock().unwrap();
    let now = Timestamp(1);
    let node = |address: &SocketAddr, state| NodeStatus {
        version: Version::new(&table.release),
        address: NodeAddress::new(address.to_string()),
        state,
        since: now,
        reason: "because".into(),
        probe: None,
        weight: 1,
        until: None,
        in_flight: table.in_flight.get(address).copied().unwrap_or(0),
        requests: 0,
        failures: 0,
        holders: Vec::new(),
    };
    let serving = table.serving.iter().map(|a| node(a, NodeState::Serving));
    let draining = table.draining.iter().map(|a| node(a, NodeState::Draining));
    Status {
        schema: 1,
        sluice: "fake".into(),
        pid: 0,
        started: now,
        now,
        generation: 1,
        ready: true,
        load: crate::api::Load::default(),
        config: ConfigStatus::default(),
        journal: None,
        certificates: crate::api::CertificatesStatus::default(),
        listeners: vec![ListenerStatus { name: "http".into(), address: fake.address.to_string(), error: None }],
        services: vec![ServiceStatus {
            name: "shop".into(),
            source: fake.config.clone(),
            release: Version::new(&table.release),
            change: 1,
            phase: "rolling".into(),
            reason: None,
            all_down: false,
            halt: None,
            tag: String::new(),
            waiting: 0,
            held: 0,
            held_in_vain: 0,
            rollout: None,
            versions: vec![VersionStatus {
                version: Version::new(&table.release),
                share: 100.0,
                serving: table.serving.len(),
                nodes: table.serving.len(),
                requests: 0,
                failures: 0,
                shielded: 0,
                shadowed: 0,
                shadow_differed: 0,
            }],
            nodes: serving.chain(draining).collect(),
            refused: Vec::new(),
            unsaved: None,
        }],
    }
}
