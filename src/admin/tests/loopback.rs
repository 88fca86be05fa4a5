//! The listener over TCP, on loopback.

use super::*;

/// The loopback listener, asked with these header lines.
async fn ask_http(target: &str, method: &str, headers: &str) -> (u16, String) {
    let http = bind("127.0.0.1:0", None).unwrap();
    let address = http.address().unwrap();
    let (port, mut calls) = Port::new(4);
    let (_ready, ready) = tokio::sync::watch::channel(true);
    tokio::spawn(http.serve(port, ready));
    tokio::spawn(async move {
        while let Some(call) = calls.recv().await {
            let _ = call.reply.send(control(&call.request));
        }
    });
    let request = format!("{method} {target} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n");
    tokio::task::spawn_blocking(move || {
        let stream = std::net::TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let (status, _, body) = send(stream, request.as_bytes());
        (status, body)
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn loopback_reads_and_never_steers() {
    let host = "Host: localhost:9000\r\n";
    for target in ["/healthz", "/readyz", "/v1/status", "/v1/history?service=shop", "/v1/services/shop"] {
        assert_eq!(ask_http(target, "GET", host).await.0, 200, "{target}");
    }
    for target in ["/v1/reload", "/v1/services/shop/promote", "/v1/services/shop/nodes/a:1/drain"] {
        assert_eq!(ask_http(target, "POST", host).await.0, 403, "{target}");
    }
    assert_eq!(ask_http("/v1/status", "POST", host).await.0, 405);
}

#[tokio::test]
async fn loopback_refuses_what_a_foreign_page_makes_a_browser_send() {
    for (headers, expected) in [
        ("Host: evil.example\r\n", 403),
        ("Host: localhost.evil.example:80\r\n", 403),
        ("Host: localhost\r\nOrigin: https://evil.example\r\n", 403),
        ("Host: localhost\r\nOrigin: null\r\n", 403),
        ("Host: localhost\r\nHost: evil.example\r\n", 400),
        ("", 400),
        ("Host: localhost\r\nOrigin: http://localhost:9000\r\n", 200),
        ("Host: [::1]:9000\r\n", 200),
    ] {
        let (code, body) = ask_http("/v1/status", "GET", headers).await;
        assert_eq!(code, expected, "{headers}: {body}");
    }
}

#[test]
fn without_tls_the_listener_stays_on_loopback() {
    let error = bind("0.0.0.0:0", None).unwrap_err();
    assert!(error.to_string().contains("loopback"), "{error}");
}

/// The listener as it would be configured, with two tokens.
pub(super) fn bind(address: &str, tls: Option<crate::config::AdminTls>) -> std::io::Result<Http> {
    let http = Some(address.parse().unwrap());
    let admin = crate::config::Admin { socket: None, http, tls, tokens: tokens() };
    Http::bind(&admin).map(Option::unwrap)
}

/// The token `sluice_test` for a reader, and `sluice_root` for an operator.
fn tokens() -> Vec<crate::config::Token> {
    use crate::config::{Role, Token};
    let token = |name: &str, role| {
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, format!("sluice_{name}").as_bytes());
        Token { name: name.into(), hash: hash.as_ref().try_into().unwrap(), role }
    };
    vec![token("test", Role::Read), token("root", Role::Operator)]
}

#[tokio::test]
async fn a_token_lets_its_owner_do_what_its_role_says_and_a_wrong_one_nothing() {
    let promote = "/v1/services/shop/promote";
    let with = |token: &str| format!("Host: localhost\r\nAuthorization: Bearer {token}\r\n");
    for (target, method, token, expected) in [
        ("/v1/status", "GET", "sluice_test", 200),
        (promote, "POST", "sluice_test", 403),
        (promote, "POST", "sluice_root", 200),
        (promote, "POST", "sluice_roo", 401),
        // Not even what needs no token.
        ("/healthz", "GET", "sluice_wrong", 401),
    ] {
        let (code, body) = ask_http(target, method, &with(token)).await;
        assert_eq!(code, expected, "{method} {target} {token}: {body}");
    }
    assert_eq!(ask_http(promote, "POST", "Host: localhost\r\n").await.0, 403);
}

#[tokio::test]
async fn what_a_page_or_a_proxy_makes_somebody_send_changes_nothing() {
    let promote = "/v1/services/shop/promote";
    for (more, expected) in [
        ("", 200),
        ("Origin: http://localhost:9000\r\nSec-Fetch-Site: same-origin\r\n", 200),
        // Another program's page on this machine.
        ("Origin: http://localhost:3000\r\n", 403),
        ("Origin: http://localhost:9000.evil.example\r\n", 403),
        ("Origin: null\r\n", 403),
        ("Sec-Fetch-Site: cross-site\r\n", 403),
        ("Sec-Fetch-Site: same-site\r\n", 403),
    ] {
        let head = format!("Host: localhost:9000\r\nAuthorization: Bearer sluice_root\r\n{more}");
        assert_eq!(ask_http(promote, "POST", &head).await.0, expected, "{more}");
    }
    // Through a public listener, or any other proxy.
    for header in ["X-Forwarded-For: 10.0.0.1", "Forwarded: for=10.0.0.1", "Via: 1.1 sluice"] {
        assert_eq!(ask_http("/v1/status", "GET", &format!("Host: localhost\r\n{header}\r\n")).await.0, 403, "{header}");
    }
}

#[tokio::test]
async fn events_are_a_stream_that_begins_with_what_was_missed() {
    let (code, body) = ask_http("/v1/events?service=shop&after=5", "GET", "Host: localhost\r\n").await;
    assert_eq!(code, 200);
    let ids: Vec<_> = body.lines().filter_map(|line| line.strip_prefix("id: ")).collect();
    assert_eq!(ids, ["7", "9"], "not those of another service: {body}");
    assert!(body.contains("event: began\ndata: {") && body.contains("line one\\nline two"), "{body}");
    for (target, headers) in [("/v1/events?after=x", ""), ("/v1/events", "Last-Event-ID: x\r\n")] {
        assert_eq!(ask_http(target, "GET", &format!("Host: localhost\r\n{headers}")).await.0, 400);
    }
}
