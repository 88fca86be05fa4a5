//! Every route through a real socket, with raw bytes on the client's side: what a well-behaved client library would not send
//! is sent too.

mod dashboard;
mod described;
mod loopback;
mod socket;
mod tls;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use super::fake::{self, Fake, endless, moment, progress, refused, service, status};
use super::*;
use crate::api::{
    ConfigStatus, HistoryEntry, Outcome, Port, Progress, RefusalKind, Reply, Request, ServiceStatus, Status,
};

fn control(request: &Request) -> Reply {
    let shop = service("shop", Path::new("/etc/shop.toml"));
    match request {
        Request::Status { service: Some(name) } if name.as_str() == "gone" => {
            refused(RefusalKind::NotFound, "there is no service `gone`")
        }
        Request::Status { .. } => Reply::Status(Box::new(status(vec![shop]))),
        Request::Events { .. } => Reply::Events(feed()),
        Request::Config => Reply::Outline(Box::default()),
        Request::Measures => Reply::Measures(std::sync::Arc::default()),
        Request::Reload => Reply::Config(ConfigStatus { stale: true, ..ConfigStatus::default() }),
        Request::History { service } if service.as_str() == "gone" => {
            refused(RefusalKind::NotFound, "there is no service `gone`")
        }
        Request::History { .. } => Reply::History(vec![fake::entry("v1", "v2", &["10.0.0.5:5002"], Outcome::Done)]),
        Request::Wait { service, .. } => match service.as_str() {
            "invalid" => refused(RefusalKind::InvalidConfig, "sluice.toml:3:1: unknown key"),
            "superseded" => refused(RefusalKind::Superseded, "v3 is wanted"),
            "down" => refused(RefusalKind::Unavailable, "shutting down"),
            "endless" => endless(moment(shop, None)),
            "cut" => progress(vec![moment(shop, None)]),
            _ => progress(vec![moment(shop.clone(), None), moment(shop, Some((Outcome::Done, "v2 serves")))]),
        },
        Request::Steer { service, .. } if service.as_str() == "settled" => {
            refused(RefusalKind::Conflict, "no version is on trial")
        }
        Request::Steer { .. } | Request::Halt { .. } => Reply::Service(Box::new(shop)),
        Request::Drain { undo: true, .. } => refused(RefusalKind::Conflict, "it is not draining"),
        Request::Drain { .. } => progress(vec![moment(shop, Some((Outcome::Done, "drained")))]),
    }
}

/// Room for a stream.
fn place() -> tokio::sync::OwnedSemaphorePermit {
    std::sync::Arc::new(tokio::sync::Semaphore::new(1)).try_acquire_owned().unwrap()
}

/// Two events, and none to come.
fn feed() -> crate::api::Feed {
    let event = |id, name: Option<&str>| {
        std::sync::Arc::new(crate::api::Event {
            id,
            at: fake::NOW,
            kind: crate::api::EventKind::Began,
            service: name.map(Into::into),
            version: None,
            node: None,
            message: "line one\nline two".into(),
        })
    };
    crate::api::Feed {
        past: vec![event(7, Some("shop")), event(8, Some("blog")), event(9, None)],
        live: tokio::sync::broadcast::channel(1).1,
    }
}

fn start() -> (tempfile::TempDir, Fake) {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::start(folder.path(), control);
    (folder, fake)
}

fn connect(fake: &Fake) -> UnixStream {
    let stream = UnixStream::connect(&fake.socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// Sends raw bytes, and gives back status, head and body.
fn send(stream: impl Read + Write, request: &[u8]) -> (u16, String, String) {
    let mut stream = stream;
    stream.write_all(request).unwrap();
    let mut text = Vec::new();
    // A server that refuses while it is sent something may reset; what it said before counts.
    let _ = stream.read_to_end(&mut text);
    let text = String::from_utf8(text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or_else(|| panic!("no status in {head:?}"));
    (status, head.to_ascii_lowercase(), body.to_owned())
}

fn ask(fake: &Fake, method: &str, target: &str) -> (u16, String, String) {
    let request = format!("{method} {target} HTTP/1.1\r\nHost: sluice\r\nConnection: close\r\n\r\n");
    send(connect(fake), request.as_bytes())
}

fn kind(body: &str) -> String {
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    body["error"]["kind"].as_str().unwrap().to_owned()
}

/// The data of a chunked body.
fn lines(stream: UnixStream) -> impl Iterator<Item = String> {
    BufReader::new(stream).lines().map_while(Result::ok).filter(|line| line.starts_with('{'))
}

#[test]
fn every_get_route_answers_with_its_shape() {
    let (_folder, fake) = start();
    let (code, head, body) = ask(&fake, "GET", "/v1/status");
    assert_eq!(code, 200);
    assert!(head.contains("content-type: application/json"), "{head}");
    assert!(head.contains("cache-control: no-store"), "{head}");
    let all: Status = serde_json::from_str(&body).unwrap();
    assert_eq!(all.services.len(), 1);

    let (code, _, body) = ask(&fake, "GET", "/v1/services/shop");
    assert_eq!(code, 200);
    let shop: ServiceStatus = serde_json::from_str(&body).unwrap();
    assert_eq!(shop.name.as_str(), "shop");

    for target in ["/v1/services/shop/history", "/v1/history?service=shop"] {
        let (code, _, body) = ask(&fake, "GET", target);
        assert_eq!(code, 200);
        let entries: Vec<HistoryEntry> = serde_json::from_str(&body).unwrap();
        assert_eq!(entries.len(), 1);
    }

    let (code, _, body) = ask(&fake, "POST", "/v1/reload");
    assert_eq!(code, 200, "an invalid file is an answer, not an error");
    assert!(serde_json::from_str::<ConfigStatus>(&body).unwrap().stale);
}

#[test]
fn health_lives_and_readiness_follows_its_switch() {
    let (_folder, fake) = start();
    assert_eq!(ask(&fake, "GET", "/healthz").0, 200);
    assert_eq!(ask(&fake, "GET", "/healthz").2, "ok\n");
    assert_eq!(ask(&fake, "GET", "/readyz").0, 200);
    fake.ready.send(false).unwrap();
    assert_eq!(ask(&fake, "GET", "/readyz").0, 503);
    assert_eq!(ask(&fake, "GET", "/healthz").0, 200);
    let (code, _, body) = ask(&fake, "HEAD", "/healthz");
    assert_eq!((code, body.as_str()), (200, ""));
    assert!(fake.asked().is_empty(), "control is not needed for these");
}

#[test]
fn names_reach_control_decoded() {
    let (_folder, fake) = start();
    ask(&fake, "GET", "/v1/status?service=caf%C3%A9");
    ask(&fake, "POST", "/v1/services/a%2Fb/wait?version=1.0+5%26");
    ask(&fake, "POST", "/v1/services/shop/nodes/%5B::1%5D:80/drain?undo=true");
    assert_eq!(
        fake.asked(),
        [
            Request::Status { service: Some("café".into()) },
            Request::Wait { service: "a/b".into(), version: Some("1.0+5&".into()) },
            Request::Drain { service: "shop".into(), node: "[::1]:80".into(), undo: true },
        ]
    );
}

#[test]
fn each_refusal_has_its_status() {
    let (_folder, fake) = start();
    for (method, target, code, word) in [
        ("GET", "/v1/services/gone", 404, "not-found"),
        ("GET", "/v1/services/other", 404, "not-found"),
        ("GET", "/v1/services/gone/history", 404, "not-found"),
        ("POST", "/v1/services/invalid/wait", 422, "invalid-config"),
        ("POST", "/v1/services/superseded/wait", 409, "superseded"),
        ("POST", "/v1/services/down/wait", 503, "unavailable"),
        ("POST", "/v1/services/s/nodes/a:1/drain?undo=true", 409, "conflict"),
    ] {
        let (got, _, body) = ask(&fake, method, target);
        assert_eq!((got, kind(&body).as_str()), (code, word), "{target}");
    }
}

#[test]
fn wrong_requests_are_told_what_is_wrong() {
    let (_folder, fake) = start();
    for (method, target, code) in [
        ("GET", "/index.html", 404),
        ("GET", "/v1", 404),
        ("GET", "/v2/status", 404),
        ("GET", "/v1/services/", 404),
        ("GET", "/v1/status/", 404),
        ("POST", "/v1/status", 405),
        ("GET", "/v1/reload", 405),
        ("DELETE", "/v1/services/shop", 405),
        ("GET", "/v1/services/shop/wait", 405),
        ("GET", "/v1/status?servce=shop", 400),
        ("GET", "/v1/status?service=a&service=b", 400),
        ("GET", "/v1/status?service=", 400),
        ("GET", "/v1/history", 400),
        ("GET", "/v1/services/%zz", 400),
        ("GET", "/v1/services/%f", 400),
        ("GET", "/v1/services/%ff", 400),
        ("GET", "/v1/services/a%0ab", 400),
        ("POST", "/v1/services/shop/nodes/a:1/drain?undo=maybe", 400),
    ] {
        let (got, head, body) = ask(&fake, method, target);
        assert_eq!(got, code, "{method} {target}: {body}");
        assert!(!kind(&body).is_empty());
        assert_eq!(got == 405, head.contains("allow:"), "{head}");
    }
    assert!(fake.asked().is_empty());
}

#[test]
fn a_large_head_or_body_is_refused_and_a_small_body_is_ignored() {
    let (_folder, fake) = start();
    let long = "x".repeat(20_000);
    let request = format!("GET /healthz HTTP/1.1\r\nHost: s\r\nX-Long: {long}\r\n\r\n");
    assert_eq!(send(connect(&fake), request.as_bytes()).0, 431);

    let request = format!(
        "POST /v1/reload HTTP/1.1\r\nHost: s\r\nConnection: close\r\nContent-Length: 70000\r\n\r\n{}",
        "x".repeat(70_000)
    );
    let (code, _, body) = send(connect(&fake), request.as_bytes());
    assert_eq!((code, kind(&body).as_str()), (413, "too-large"));
    assert!(fake.asked().is_empty());

    let request = b"POST /v1/reload HTTP/1.1\r\nHost: s\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}";
    assert_eq!(send(connect(&fake), request).0, 200);
}

#[test]
fn bytes_that_are_not_http_get_a_400_and_hurt_nobody() {
    let (_folder, fake) = start();
    assert_eq!(send(connect(&fake), b"\x16\x03\x01 not http\r\n\r\n").0, 400);
    assert_eq!(ask(&fake, "GET", "/healthz").0, 200);
}

#[test]
fn a_followed_change_is_a_stream_of_lines_that_ends() {
    let (_folder, fake) = start();
    let mut stream = connect(&fake);
    stream
        .write_all(b"POST /v1/services/shop/wait?version=v2 HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n")
        .unwrap();
    let moments: Vec<Progress> = lines(stream).map(|line| serde_json::from_str(&line).unwrap()).collect();
    assert!(moments.len() >= 2, "{}", moments.len());
    let (last, before) = moments.split_last().unwrap();
    assert!(before.iter().all(|moment| moment.ended.is_none()));
    assert_eq!(last.ended.as_ref().map(|end| end.outcome), Some(Outcome::Done));
}

#[test]
fn a_change_that_the_proxy_abandons_ends_with_an_error_line() {
    let (_folder, fake) = start();
    let mut stream = connect(&fake);
    stream.write_all(b"POST /v1/services/cut/wait HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n").unwrap();
    let lines: Vec<String> = lines(stream).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(kind(&lines[1]), "unavailable");
}

#[test]
fn two_verbs_are_served_at_once() {
    let (_folder, fake) = start();
    let mut waiting: Vec<_> = (0..2)
        .map(|_| {
            let mut stream = connect(&fake);
            stream.write_all(b"POST /v1/services/endless/wait HTTP/1.1\r\nHost: s\r\n\r\n").unwrap();
            lines(stream)
        })
        .collect();
    for stream in &mut waiting {
        assert!(stream.next().is_some());
    }
    assert_eq!(ask(&fake, "GET", "/v1/status").0, 200);
}

#[tokio::test(start_paused = true)]
async fn a_silent_change_is_kept_alive_and_a_gone_reader_ends_it() {
    use http_body_util::BodyExt;
    let shop = service("shop", Path::new("/etc/shop.toml"));
    let (sender, receiver) = tokio::sync::watch::channel(moment(shop, None));
    let mut body = stream::respond(receiver, place()).into_body();
    let begun = tokio::time::Instant::now();
    let mut next = async || {
        let frame = body.frame().await.unwrap().unwrap();
        frame.into_data().unwrap()
    };
    assert!(next().await.starts_with(b"{"));
    assert_eq!(&next().await[..], b"\n");
    assert_eq!(&next().await[..], b"\n");
    assert_eq!(begun.elapsed().as_secs(), 10);
    drop(body);
    sender.closed().await;
}
