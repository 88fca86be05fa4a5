//! Clients over TLS: who is let in by a certificate, what nodes learn of it, and how clients are let go.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_rustls::rustls::version::{TLS12, TLS13};

use crate::support::client::Client;
use crate::support::node::TestNode;
use crate::support::tls::{Authority, Files, connect, quoted};
use crate::support::{PATIENCE, Proxy, until};
use crate::tls::proxy;

/// Whether a client with this certificate gets an answer.
async fn admitted(ca: &Authority, proxy: &Proxy, own: Option<&Files>) -> Result<u16, String> {
    for versions in [&[&TLS12], &[&TLS13]] {
        let config = Arc::new(ca.client_with(versions, own));
        let mut stream = connect(&config, proxy.address, "app.test").await.map_err(|error| error.to_string())?;
        // In TLS 1.3 a client is done before the server has looked at its certificate.
        stream.write_all(b"GET / HTTP/1.1\r\nhost: app.test\r\n\r\n").await.map_err(|error| error.to_string())?;
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.map_err(|error| error.to_string())?;
        assert_eq!(&head, b"HTTP/1.1 200");
    }
    Ok(200)
}

#[tokio::test]
async fn client_certificates_are_asked_for_and_looked_at() {
    let (mut ca, mut other) = (Authority::new(), Authority::new());
    let files = ca.issue("app", &["app.test"]);
    let (good, revoked) = (ca.issue("good", &["good.test"]), ca.issue("revoked", &["revoked.test"]));
    let foreign = other.issue("foreign", &["foreign.test"]);
    let list = ca.revoke("clients", &[revoked.serial]);
    let node = TestNode::answering("ok").await;
    for (mode, without) in [("required", false), ("optional", true)] {
        let auth = format!(
            "client_auth = {{ mode = \"{mode}\", ca = {}, crl = {} }}",
            quoted(&ca.path("ca.pem")),
            quoted(&list)
        );
        let proxy = proxy(&node, &[&files], &auth);
        assert_eq!(admitted(&ca, &proxy, Some(&good)).await, Ok(200));
        assert_eq!(admitted(&ca, &proxy, None).await.is_ok(), without, "{mode}");
        for bad in [&revoked, &foreign] {
            assert!(admitted(&ca, &proxy, Some(bad)).await.is_err(), "{mode} {bad:?}");
        }
    }
}

#[tokio::test]
async fn nodes_are_told_who_the_client_is_and_cannot_be_lied_to() {
    let mut ca = Authority::new();
    let files = ca.issue("app", &["app.test"]);
    let anna = ca.issue_with("anna", &["anna.test"], |params| {
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "A, B & C=D");
    });
    let node = TestNode::answering("ok").await;
    let auth = format!("client_auth = {{ mode = \"optional\", ca = {}, forward = true }}", quoted(&ca.path("ca.pem")));
    let proxy = proxy(&node, &[&files], &auth);
    for own in [Some(&anna), None] {
        let config = Arc::new(ca.client_with(&[&TLS13], own));
        let mut client = Client::over(connect(&config, proxy.address, "app.test").await.expect("a handshake"));
        let lies = "x-client-verified: yes\r\nx-client-subject: CN=root\r\nx-client-subject: CN=admin\r\n";
        client.send(format!("GET / HTTP/1.1\r\nhost: app.test\r\n{lies}\r\n")).await;
        assert_eq!(client.response("GET").await.map(|response| response.status), Some(200));
    }
    let requests = node.requests();
    assert_eq!(requests[0].all("x-client-verified"), ["yes"]);
    assert_eq!(requests[0].all("x-client-subject"), ["O=A\\, B & C\\=D,CN=anna"]);
    assert_eq!(requests[1].all("x-client-verified"), ["no"]);
    assert!(requests[1].all("x-client-subject").is_empty(), "{:?}", requests[1]);
}

#[tokio::test]
async fn the_end_of_the_process_is_told_to_idle_and_busy_clients() {
    let mut ca = Authority::new();
    let files = ca.issue("app", &["app.test"]);
    let node = TestNode::answering("ok").await;
    let proxy = proxy(&node, &[&files], "");
    let config = Arc::new(ca.client());
    let mut idle = connect(&config, proxy.address, "app.test").await.expect("a handshake");
    let mut used = Client::over(connect(&config, proxy.address, "app.test").await.expect("a handshake"));
    assert_eq!(used.get("/").await.status, 200);
    let half = Client::connect(proxy.address).await;
    let replies = proxy.shut_down(Duration::from_secs(2), PATIENCE);
    until("the answers say so", || proxy.pool.stats()[0].accepted.get() == 3).await;
    // A request that comes now is answered, and the connection closed behind it.
    let response = used.get("/").await;
    assert_eq!(response.status, 200);
    let mut rest = Vec::new();
    timeout(PATIENCE, idle.read_to_end(&mut rest)).await.expect("in time").expect("close_notify");
    assert!(rest.is_empty());
    assert!(replies.all().await.is_empty(), "nothing was cut");
    drop(half);
}
