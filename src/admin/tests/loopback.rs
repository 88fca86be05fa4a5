//! The read-only listener.

use super::*;

/// The loopback listener, asked with these header lines.
async fn ask_http(target: &str, method: &str, headers: &str) -> (u16, String) {
    let listener = bind_http("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let (port, mut calls) = Port::new(4);
    let (_ready, ready) = tokio::sync::watch::channel(true);
    tokio::spawn(serve_http(listener, port, ready));
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
fn the_read_only_listener_stays_on_loopback() {
    let error = bind_http("0.0.0.0:0".parse().unwrap()).unwrap_err();
    assert!(error.to_string().contains("loopback"), "{error}");
}
