//! Probes against tiny origins on real sockets.

mod http2;
mod pacing;
mod scripted;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::{Target, probe, watch_node};
use crate::api::ProbeReport;
use crate::config::{
    Balance, ClientTls, Connections, Drain, Eject, Health, Hold, HostPattern, Match, Probe, Retry, Rollout, Service,
    Strategy, Timeouts,
};
use crate::model::{NodeAddress, Timestamp, Version};

const PATIENCE: Duration = Duration::from_secs(10);

fn http() -> Probe {
    Probe::Http { path: "/healthz?deep=1".to_owned(), host: None, status: vec![200..=299], body: None, header: None }
}

fn health(probe: Probe) -> Health {
    Health { probe, interval: Duration::from_secs(1), timeout: PATIENCE, rise: 2, fall: 3, ..Health::default() }
}

fn service(health: Health) -> Arc<Service> {
    let second = Duration::from_secs(1);
    Arc::new(Service {
        name: "shop".into(),
        source: "shop.toml".into(),
        matches: vec![Match { host: HostPattern::Any, prefix: String::new() }],
        strip_prefix: false,
        release: Version::unnamed(),
        versions: std::collections::BTreeMap::default(),
        health,
        rollout: Rollout { strategy: Strategy::Rolling, keep: second, deadline: second, ..Rollout::default() },
        drain: Drain { requests: second, streams: second, websockets: second, spread: second },
        timeouts: Timeouts { connect: second, response: second, body: second, tunnel: second },
        retry: Retry { attempts: 1, budget: 0.0, buffer: 0 },
        connections: Connections { max: 1, idle: 1, idle_timeout: second, fresh: second, ..Connections::default() },
        weights: std::collections::BTreeMap::default(),
        balance: Balance::default(),
        eject: Eject::default(),
        hold: Hold::default(),
        tls: ClientTls::default(),
        door: None,
        trial: None,
    })
}

/// Answers every connection with `answer` and closes it. The requests' heads are kept.
async fn origin(answer: impl Into<Vec<u8>>) -> (Target, Rc<RefCell<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let answer = answer.into();
    let asked = Rc::new(RefCell::new(String::new()));
    let kept = Rc::clone(&asked);
    tokio::task::spawn_local(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                match stream.read_u8().await {
                    Ok(byte) => head.push(byte),
                    Err(_) => break,
                }
            }
            kept.borrow_mut().push_str(&String::from_utf8_lossy(&head));
            let _ = stream.write_all(&answer).await;
            let _ = stream.shutdown().await;
        }
    });
    (Target { version: Version::new("v2"), address: NodeAddress::new(address), pooled: None }, asked)
}

async fn ask(answer: impl Into<Vec<u8>>, kind: Probe) -> ProbeReport {
    tokio::task::LocalSet::new()
        .run_until(async {
            let (target, _) = origin(answer).await;
            probe(&target, &health(kind), || Timestamp(77)).await
        })
        .await
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn the_request_says_who_asks_and_whom() {
    tokio::task::LocalSet::new()
        .run_until(async {
            let (target, asked) = origin(answer("204 No Content", "", "")).await;
            let report = probe(&target, &health(http()), || Timestamp(77)).await;
            assert!(report.passed, "{report:?}");
            assert_eq!(
                (report.at, report.status, &report.error, &report.body),
                (Timestamp(77), Some(204), &None, &None)
            );
            assert_eq!(report.target, format!("GET http://{}/healthz?deep=1", target.address));
            let head = asked.take();
            assert!(head.starts_with("GET /healthz?deep=1 HTTP/1.1\r\n"), "{head}");
            for line in [&format!("host: {}", target.address), "connection: close", "user-agent: sluice-probe/0.1.0"] {
                assert!(head.contains(&format!("\r\n{line}\r\n")), "{line} in {head}");
            }

            let mut named = http();
            if let Probe::Http { host, .. } = &mut named {
                *host = Some("shop.example.com".to_owned());
            }
            probe(&target, &health(named), || Timestamp(77)).await;
            assert!(asked.take().contains("\r\nhost: shop.example.com\r\n"));
        })
        .await;
}

#[tokio::test]
async fn a_status_passes_if_a_range_holds_it() {
    for (status, passes) in
        [("200 OK", true), ("299 X", true), ("304 X", true), ("303 X", false), ("305 X", false), ("199 X", false)]
    {
        let mut kind = http();
        if let Probe::Http { status, .. } = &mut kind {
            *status = vec![200..=299, 304..=304];
        }
        if status.starts_with('1') {
            // An interim answer is none; the connection ends behind it.
            let report = ask(answer(status, "", ""), kind).await;
            assert!(!report.passed && report.status.is_none(), "{report:?}");
            continue;
        }
        let report = ask(answer(status, "", ""), kind).await;
        assert_eq!(report.passed, passes, "{report:?}");
        if !passes {
            assert_eq!(report.error.unwrap(), format!("status {}, wanted 200-299, 304", &status[..3]));
        }
    }
}

#[tokio::test]
async fn a_failed_probe_shows_the_status_and_the_beginning_of_the_body_as_text() {
    let body = format!("<h1>down\r\n\u{1b}[31m</h1>{}", "é".repeat(500));
    let report = ask(answer("503 Service Unavailable", "", &body), http()).await;
    assert_eq!(report.status, Some(503));
    assert_eq!(report.error.unwrap(), "status 503, wanted 200-299");
    let shown = report.body.unwrap();
    assert!(shown.starts_with("<h1>down   [31m</h1>éé"), "{shown}");
    assert!(shown.len() <= 203 && !shown.contains(char::is_control), "{shown:?}");
}

#[tokio::test]
async fn a_body_passes_if_it_holds_the_text_with_the_version_filled_in() {
    let kind = || {
        let mut kind = http();
        if let Probe::Http { body, .. } = &mut kind {
            *body = Some("release={version};".to_owned());
        }
        kind
    };
    assert!(ask(answer("200 OK", "", "ok release=v2; up"), kind()).await.passed);
    let split = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nrele\r\n4\r\nase=\r\n3\r\nv2;\r\n0\r\n\r\n";
    assert!(ask(split, kind()).await.passed);
    let report = ask(answer("200 OK", "", "release=v1;"), kind()).await;
    assert_eq!(report.error.unwrap(), "the body does not contain \"release=v2;\"");
    assert_eq!(report.body.unwrap(), "release=v1;");
    // Beyond the first 64 KiB is not looked at; at their very end is.
    let at = |before: usize| format!("{}release=v2;", "x".repeat(before));
    assert!(ask(answer("200 OK", "", &at(64 * 1024 - 11)), kind()).await.passed);
    assert!(!ask(answer("200 OK", "", &at(64 * 1024 - 10)), kind()).await.passed);
    // A body that ends early is no body.
    let short = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort";
    assert_eq!(ask(short, kind()).await.error.unwrap(), "connection closed before the answer was complete");
}

#[tokio::test]
async fn a_header_passes_if_one_of_its_values_is_the_wanted_one() {
    let kind = || {
        let mut kind = http();
        if let Probe::Http { header, .. } = &mut kind {
            *header = Some(("X-Version".to_owned(), "{version}".to_owned()));
        }
        kind
    };
    assert!(ask(answer("200 OK", "x-version: v2\r\n", ""), kind()).await.passed);
    assert!(ask(answer("200 OK", "x-version: v1\r\nx-version: v2\r\n", ""), kind()).await.passed);
    let report = ask(answer("200 OK", "x-version: v1\r\n", "old"), kind()).await;
    assert_eq!(report.error.unwrap(), "header X-Version is \"v1\", wanted \"v2\"");
    assert_eq!(report.body.unwrap(), "old");
    let report = ask(answer("200 OK", "", ""), kind()).await;
    assert_eq!(report.error.unwrap(), "no header X-Version, wanted \"v2\"");
}

#[tokio::test]
async fn what_is_not_http_fails_and_says_so() {
    for garbage in
        ["SSH-2.0-OpenSSH_9.6\r\n", "\0\0\0\0\0\0\0\0", "HTTP/1.1 999999 X\r\n\r\n", "HTTP/9.9 200 OK\r\n\r\n"]
    {
        let report = ask(garbage, http()).await;
        assert!(!report.passed, "{garbage:?}: {report:?}");
        assert!(report.error.as_deref().unwrap().contains("not HTTP/1.1"), "{garbage:?}: {report:?}");
    }
    let report = ask("", http()).await;
    assert_eq!(report.error.unwrap(), "connection closed before the answer was complete");
}

#[tokio::test]
async fn a_huge_head_is_refused() {
    let huge = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(1024 * 1024));
    let report = ask(huge, http()).await;
    assert_eq!(report.error.unwrap(), "the head of the answer is too large (limit 64 KiB)");
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(10_000));
    assert_eq!(ask(many, http()).await.error.unwrap(), "the head of the answer is too large (limit 64 KiB)");
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = NodeAddress::new(listener.local_addr().unwrap().to_string());
    let target = Target { version: Version::unnamed(), address, pooled: None };
    let up = probe(&target, &health(Probe::Tcp), || Timestamp(1)).await;
    assert!(up.passed && up.status.is_none(), "{up:?}");
    assert_eq!(up.target, format!("connect {}", target.address));
    drop(listener);
    for kind in [Probe::Tcp, http()] {
        let report = probe(&target, &health(kind), || Timestamp(1)).await;
        assert_eq!(report.error.unwrap(), "connection refused");
    }
}

#[tokio::test]
async fn a_name_that_is_not_an_address_fails_and_says_so() {
    for address in ["not an address", "127.0.0.1", "127.0.0.1:99999"] {
        let target = Target { version: Version::unnamed(), address: address.into(), pooled: None };
        let report = probe(&target, &health(Probe::Tcp), || Timestamp(1)).await;
        assert!(!report.passed && report.error.is_some_and(|error| !error.is_empty()), "{address}");
    }
}

#[tokio::test]
async fn a_node_that_accepts_and_says_nothing_is_given_up_in_time() {
    // Never accepted by the process: the kernel completes the connection alone, as it does for one that hangs.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = NodeAddress::new(listener.local_addr().unwrap().to_string());
    let mut health = health(http());
    health.timeout = Duration::from_millis(200);
    let report = probe(&Target { version: Version::unnamed(), address, pooled: None }, &health, || Timestamp(1)).await;
    assert!(!report.passed && report.took_ms >= 200, "{report:?}");
    assert_eq!(report.error.unwrap(), "no answer within 200ms");
}

#[tokio::test]
async fn a_node_that_dies_and_comes_back_is_told_both_times() {
    let run = async {
        let (target, _) = origin(answer("200 OK", "", "")).await;
        let (settings, receiver) =
            watch::channel(service(Health { interval: Duration::from_millis(20), ..health(http()) }));
        let (sender, mut changes) = tokio::sync::mpsc::unbounded_channel();
        let report = move |report: ProbeReport, change| {
            if let Some(change) = change {
                sender.send((change, report)).unwrap();
            }
        };
        let watching = tokio::task::spawn_local(watch_node(target, None, receiver, Arc::new(Notify::new()), report));
        let (up, report) = timeout(PATIENCE, changes.recv()).await.unwrap().unwrap();
        assert!(up && report.passed && report.at > Timestamp(0));
        // It does not die, it is asked for what it does not have.
        let mut sick = Service::clone(&settings.borrow());
        if let Probe::Http { status, .. } = &mut sick.health.probe {
            *status = vec![201..=201];
        }
        let well = settings.send_replace(Arc::new(sick));
        let (up, report) = timeout(PATIENCE, changes.recv()).await.unwrap().unwrap();
        assert!(!up && report.error.as_deref() == Some("status 200, wanted 201"), "{report:?}");
        settings.send_replace(well);
        assert!(timeout(PATIENCE, changes.recv()).await.unwrap().unwrap().0);
        watching.abort();
        assert!(timeout(PATIENCE, changes.recv()).await.unwrap().is_none(), "a cancelled loop goes on");
    };
    tokio::task::LocalSet::new().run_until(run).await;
}

/// There is one of these for each of thirty thousand nodes.
#[test]
fn the_loop_is_small() {
    let (_settings, receiver) = watch::channel(service(health(http())));
    let target = Target { version: Version::unnamed(), address: "127.0.0.1:1".into(), pooled: None };
    let size = size_of_val(&watch_node(target, None, receiver, Arc::new(Notify::new()), |_, _| {}));
    assert!(size < 4096, "{size} bytes a node");
}
