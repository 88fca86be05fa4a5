//! The admin API over TCP, of the real process: who may what, and who is kept out.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use serde_json::Value;
use sluicegate::admin::new_token;
use sluicegate::api::HaltKind;

use super::support::{Exposition, LISTENER, QUICK, Site, eventually, list, origin};

/// Whatever bytes, and whatever comes back, until the end or a limit.
fn send(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a limit");
    // Who is refused in the middle may be reset.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn ask(address: SocketAddr, line: &str, more: &str) -> u16 {
    let answer = send(address, format!("{line} HTTP/1.1\r\n{more}Connection: close\r\n\r\n").as_bytes());
    answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("{line} {more}: {answer:?}"))
}

/// A free port, which somebody else could take meanwhile: the test would fail, and say why.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port")
}

#[test]
fn tokens_are_asked_for_by_what_changes_something_and_nobody_comes_in_by_the_front_door() {
    let (reader, reads) = new_token().expect("a token");
    let (operator, steers) = new_token().expect("a token");
    let admin = free();
    let node = [origin("v1")];
    // Somebody made the admin API a node of a public service.
    let site = Site::new(&format!(
        "{LISTENER}[admin]\nhttp = \"{admin}\"\n\
         [[admin.token]]\nname = \"grafana\"\nhash = \"{reads}\"\n\
         [[admin.token]]\nname = \"ci\"\nhash = \"{steers}\"\nrole = \"operator\"\n\
         [service.shop]\nmatch = \"shop.test\"\nnodes = {}\n{QUICK}\
         [service.oops]\nmatch = \"*\"\nnodes = [\"{admin}\"]\n",
        list(&node)
    ));
    let proxy = site.start();
    proxy.settled("shop");
    proxy.settled("oops");
    let shown = |token: &str| format!("Host: localhost\r\nAuthorization: Bearer {token}\r\n");
    let (hold, host) = ("POST /v1/services/shop/hold", "Host: localhost\r\n");
    let cut = &operator[..operator.len() - 1];
    for (line, more, expected) in [
        ("GET /v1/status", host.to_owned(), 200),
        ("GET /v1/status", shown(&reader), 200),
        (hold, host.to_owned(), 403),
        (hold, shown(&reader), 403),
        (hold, shown(cut), 401),
        (hold, shown("sluice_"), 401),
        (hold, "Host: localhost\r\nAuthorization: Basic YTpi\r\n".into(), 401),
        ("GET /healthz", shown(cut), 401),
        // What browsers are made to send, with whatever they have.
        (hold, shown(&operator) + "Origin: https://evil.example\r\n", 403),
        (hold, shown(&operator) + "Sec-Fetch-Site: cross-site\r\n", 403),
        (hold, shown(&operator).replace("localhost", "evil.example"), 403),
        ("GET /v1/status", "Host: rebound.example\r\n".into(), 403),
        // Another state than the one that was seen.
        (hold, shown(&operator) + "If-Match: \"0000\"\r\n", 412),
    ] {
        assert_eq!(ask(admin, line, &more), expected, "{line} {more}");
    }
    for (request, part) in [
        (format!("{hold} HTTP/1.1\r\n{}Content-Length: 99999999\r\n\r\n", shown(&operator)), " 413 "),
        (format!("{hold} HTTP/1.1\r\n{}X: {}\r\n\r\n", shown(&operator), "x".repeat(40_000)), " 431 "),
        (format!("{hold} HTTP/1.1\r\n{}Content-Length: 5\r\nContent-Length: 6\r\n\r\n", shown(&operator)), " 400 "),
        (format!("{hold} HTTP/9.9\r\n\r\n"), " 400 "),
        ("\u{0}\u{1}\u{2}\r\n\r\n".into(), " 400 "),
    ] {
        // A body that was promised and not sent, or too long a head: what was said before counts.
        let filler = if part == " 413 " { "x".repeat(100_000) } else { String::new() };
        let answer = send(admin, (request + &filler).as_bytes());
        assert!(answer.contains(part) || answer.is_empty(), "{part}: {answer}");
    }
    // Through a public listener: neither looking nor steering, whatever the client says where it comes from.
    let public = proxy.address();
    for more in ["", "X-Forwarded-For: 127.0.0.1\r\n", "Connection: X-Forwarded-For, Forwarded, Via\r\n"] {
        for line in ["GET /v1/status", "GET /", "GET /metrics", hold] {
            let code = ask(public, line, &format!("Host: localhost\r\n{more}"));
            assert_eq!(code, 403, "{line} {more}");
        }
    }
    assert!(proxy.service("shop").is_some_and(|shop| shop.halt.is_none()), "nothing was changed");
    assert_eq!(ask(admin, hold, &shown(&operator)), 200);
    let halt = eventually("the hold", || proxy.service("shop")?.halt);
    assert_eq!((halt.kind, halt.by.as_str()), (HaltKind::Hold, "token ci"));
    let log = proxy.log();
    for part in [
        "by=\"token ci\" method=POST",
        "by=\"token grafana\" method=POST",
        "by=\"127.0.0.1\" method=POST",
        "status=401",
    ] {
        assert!(log.lines().any(|line| line.contains("audit") && line.contains(part)), "{part}");
    }
    assert!(!log.contains(&operator) && !log.contains(&reader), "no secret is logged");
    let status = proxy.ask("GET", "/v1/status").expect("an answer").text();
    let outline = proxy.ask("GET", "/v1/config").expect("an answer").text();
    for secret in [&operator, &steers, &steers[7..]] {
        assert!(!status.contains(secret) && !outline.contains(secret), "{secret}");
    }
}

#[test]
fn each_request_that_the_api_describes_asks_for_the_role_that_it_says() {
    let (reader, reads) = new_token().expect("a token");
    let admin = free();
    let node = [origin("v1")];
    let site = Site::new(&format!(
        "{LISTENER}[admin]\nhttp = \"{admin}\"\n[[admin.token]]\nname = \"grafana\"\nhash = \"{reads}\"\n\
         [service.shop]\nmatch = \"*\"\nnodes = {}\n{QUICK}",
        list(&node)
    ));
    let proxy = site.start();
    let before = proxy.settled("shop");
    let described = proxy.ask("GET", "/v1/openapi.json").expect("an answer").body;
    let described: Value = serde_json::from_slice(&described).expect("a description");
    let shown = |token: &str| format!("Host: localhost\r\nAuthorization: Bearer {token}\r\n");
    let mut steering = 0;
    for (path, methods) in described["paths"].as_object().expect("paths") {
        let path = path.replace("{service}", "shop").replace("{node}", &node[0].address().to_string());
        for (method, operation) in methods.as_object().expect("methods") {
            // Its answer has no end.
            if path == "/v1/events" {
                continue;
            }
            let line = format!("{} {}", method.to_uppercase(), path.replace("{file}", "app.js"));
            // A wrong token is refused even where none is needed.
            let wrong = format!("{} HTTP/1.1\r\n{}Connection: close\r\n\r\n", line, shown("sluice_wrong"));
            let wrong = send(admin, wrong.as_bytes());
            assert!(
                wrong.starts_with("HTTP/1.1 401 ") && wrong.contains("\"kind\":\"unauthorized\""),
                "{line}: {wrong}"
            );
            let operators = operation["x-sluice-role"] == "operator";
            steering += usize::from(operators);
            for who in ["Host: localhost\r\n".to_owned(), shown(&reader)] {
                let answer = send(admin, format!("{line} HTTP/1.1\r\n{who}Connection: close\r\n\r\n").as_bytes());
                let code = answer.split(' ').nth(1).unwrap_or_default();
                assert_eq!(code == "403", operators, "{line} {who}: {answer}");
                assert!(!operators || answer.contains("\"kind\":\"forbidden\""), "{line}: {answer}");
            }
        }
    }
    assert!(steering >= 10, "{steering}");
    let after = proxy.service("shop").expect("the service");
    assert_eq!((after.tag, after.halt), (before.tag, None), "nothing was changed");
}

#[test]
fn the_end_of_its_certificate_is_told_as_for_listeners() {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::new(vec!["admin.test".to_owned()]).expect("a certificate");
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let site = Site::new(&format!(
        "{LISTENER}[admin]\nhttp = \"{}\"\ntls = {{ cert = \"a.crt\", key = \"a.key\" }}\n",
        free()
    ));
    site.replace("a.crt", &params.self_signed(&key).expect("a certificate").pem());
    site.replace("a.key", &key.serialize_pem());
    let proxy = site.start();
    let certificates = proxy.status().expect("a status").certificates.list;
    let [certificate] = &certificates[..] else { panic!("{certificates:?}") };
    assert_eq!((&certificate.listeners[..], certificate.names.len()), (&["admin.http".to_owned()][..], 1));
    let told = super::support::text(&site.verb(&["status"]));
    assert!(told.contains("(admin.test) HAS ENDED"), "{told}");
    let measures = Exposition::parse(&proxy.ask("GET", "/metrics").expect("an answer").text());
    let file = certificate.file.display().to_string();
    let end = measures.value("sluice_certificate_expiry_timestamp_seconds", &[("file", file.as_str())]);
    assert!((end - 1_577_836_800.0).abs() < 1.0, "{end}");
    let log = proxy.log();
    assert!(log.lines().any(|line| line.contains("has ended") && line.contains("admin.http")), "{log}");
}
