//! The listener over TLS, where other machines can reach it.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::loopback::bind;
use super::*;
use crate::config::AdminTls;

/// A certification authority; its own certificate is `ca.pem`.
struct Authority {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { folder, issuer: Issuer::new(params, key) }
    }

    /// Writes `NAME.crt` and `NAME.key`.
    fn issue(&self, name: &str) {
        let mut params = CertificateParams::new(vec!["admin.test".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.folder.path().join(format!("{name}.crt")), certificate.pem()).unwrap();
        std::fs::write(self.folder.path().join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    /// Who shows this certificate, if any; of another authority, if it is given.
    fn client(&self, name: Option<&str>, of: &Self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.folder.path().join("ca.pem")).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let Some(name) = name else {
            return Arc::new(builder.with_no_client_auth());
        };
        let file = |ending: &str| of.folder.path().join(format!("{name}.{ending}"));
        let chain = vec![CertificateDer::from_pem_file(file("crt")).unwrap()];
        let key = PrivateKeyDer::from_pem_file(file("key")).unwrap();
        Arc::new(builder.with_client_auth_cert(chain, key).unwrap())
    }
}

/// `[admin]` as a file says it.
fn configured(folder: &Path, tls: &str) -> AdminTls {
    let text = format!(
        "[[listener]]\nname = \"http\"\nbind = \"127.0.0.1:1\"\n[admin]\nhttp = \"0.0.0.0:1\"\n\
         [admin.tls]\ncert = \"server.crt\"\nkey = \"server.key\"\n{tls}"
    );
    let path = folder.join("sluice.toml");
    std::fs::write(&path, text).unwrap();
    let loaded = crate::config::load(&path);
    loaded.config.unwrap_or_else(|| panic!("{:?}", loaded.problems)).admin.tls.unwrap()
}

/// Where it can be reached.
fn start(tls: AdminTls) -> SocketAddr {
    let http = bind("0.0.0.0:0", Some(tls)).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], http.address().unwrap().port()));
    let (port, mut calls) = Port::new(4);
    tokio::spawn(async move {
        let (_ready, ready) = tokio::sync::watch::channel(true);
        http.serve(port, ready).await
    });
    tokio::spawn(async move {
        while let Some(call) = calls.recv().await {
            let _ = call.reply.send(control(&call.request));
        }
    });
    address
}

/// What is answered; none without a connection.
async fn ask(address: SocketAddr, client: Arc<ClientConfig>, line: &str, headers: &str) -> Option<(u16, String)> {
    let request = format!("{line} HTTP/1.1\r\nHost: admin.test:9901\r\n{headers}Connection: close\r\n\r\n");
    let asked = move || {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let connection = ClientConnection::new(client, "admin.test".try_into().unwrap()).unwrap();
        let mut stream = StreamOwned::new(connection, stream);
        stream.write_all(request.as_bytes()).ok()?;
        let mut text = Vec::new();
        let _ = stream.read_to_end(&mut text);
        let text = String::from_utf8(text).unwrap();
        Some((text.split(' ').nth(1)?.parse().unwrap(), text.split_once("\r\n\r\n")?.1.to_owned()))
    };
    tokio::task::spawn_blocking(asked).await.unwrap()
}

const PROMOTE: &str = "POST /v1/services/shop/promote";

#[tokio::test]
async fn from_elsewhere_a_token_or_a_certificate_is_needed_for_everything_but_health() {
    let (ours, other) = (Authority::new(), Authority::new());
    for name in ["server", "alice"] {
        ours.issue(name);
        other.issue(name);
    }
    let address = start(configured(ours.folder.path(), "client_ca = \"ca.pem\"\n"));
    let nobody = ours.client(None, &ours);
    let alice = ours.client(Some("alice"), &ours);
    let token = |token: &str| format!("Authorization: Bearer {token}\r\n");
    let (test, root) = (token("sluice_test"), token("sluice_root"));
    for (client, line, headers, expected) in [
        (&nobody, "GET /healthz", "", 200),
        (&nobody, "GET /readyz", "", 200),
        (&nobody, "GET /v1/status", "", 401),
        (&nobody, "GET /metrics", "", 401),
        (&nobody, "GET /v1/events", "", 401),
        (&nobody, "GET /v1/whoami", "", 401),
        (&nobody, PROMOTE, "", 401),
        (&nobody, "GET /v1/status", &test, 200),
        (&nobody, PROMOTE, &test, 403),
        (&nobody, PROMOTE, &root, 200),
        (&nobody, PROMOTE, &token("sluice_wrong"), 401),
        (&alice, "GET /v1/status", "", 200),
        (&alice, PROMOTE, "", 403),
        (&alice, PROMOTE, &root, 200),
        // A browser shows the certificate to whomever a page makes it ask.
        (&alice, "GET /v1/status", "Origin: https://evil.example\r\n", 403),
        (&alice, "GET /v1/status", "Origin: http://admin.test:9901\r\n", 403),
        (&alice, "GET /v1/status", "Origin: https://admin.test:9901\r\n", 200),
        (&alice, PROMOTE, &format!("{root}Sec-Fetch-Site: cross-site\r\n"), 403),
    ] {
        let (code, body) = ask(address, Arc::clone(client), line, headers).await.expect("an answer");
        assert_eq!(code, expected, "{line} {headers}: {body}");
    }
    let stranger = ours.client(Some("alice"), &other);
    assert_eq!(ask(address, stranger, "GET /healthz", "").await, None, "of an authority that nobody named");
    // Without TLS nothing is said.
    let plain = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: admin.test\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = Vec::new();
        let _ = stream.read_to_end(&mut text);
        text
    });
    assert!(!plain.await.unwrap().starts_with(b"HTTP"));
}

#[tokio::test]
async fn a_certificate_may_be_an_operators() {
    let ours = Authority::new();
    for name in ["server", "alice"] {
        ours.issue(name);
    }
    let address = start(configured(ours.folder.path(), "client_ca = \"ca.pem\"\nclient_role = \"operator\"\n"));
    let alice = ours.client(Some("alice"), &ours);
    assert_eq!(ask(address, Arc::clone(&alice), PROMOTE, "").await.map(|answer| answer.0), Some(200));
    let (_, body) = ask(address, alice, "GET /v1/whoami", "").await.unwrap();
    assert!(body.contains("certificate CN=alice") && body.contains("operator"), "{body}");
}

#[tokio::test]
async fn a_renewed_certificate_serves_and_a_bad_one_changes_nothing() {
    let (ours, other) = (Authority::new(), Authority::new());
    ours.issue("server");
    other.issue("server");
    let address = start(configured(ours.folder.path(), "client_ca = \"ca.pem\"\n"));
    let file = |authority: &Authority, name: &str| authority.folder.path().join(name);
    let code = async |client| ask(address, client, "GET /healthz", "").await.map(|answer| answer.0);
    std::fs::write(file(&ours, "server.crt"), "no certificate").unwrap();
    tokio::time::sleep(http::RELOAD * 4).await;
    assert_eq!(code(ours.client(None, &ours)).await, Some(200));
    for name in ["server.key", "server.crt"] {
        std::fs::copy(file(&other, name), file(&ours, name)).unwrap();
    }
    let begun = Instant::now();
    while code(other.client(None, &other)).await != Some(200) {
        assert!(begun.elapsed() < Duration::from_secs(30), "it is never read again");
    }
}

#[test]
fn without_its_certificate_it_does_not_start_and_says_why() {
    let ours = Authority::new();
    let tls = configured(ours.folder.path(), "client_ca = \"ca.pem\"\n");
    let error = bind("127.0.0.1:0", Some(tls)).unwrap_err().to_string();
    assert!(error.contains("server.crt"), "{error}");
}
