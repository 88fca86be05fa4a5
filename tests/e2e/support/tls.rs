//! Certificates made for a test, and TLS clients and nodes that use them.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::{self, ClientConfig, HandshakeKind, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::PATIENCE;

/// A certification authority with a folder for its files.
pub struct Authority {
    pub folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
    serial: u64,
}

/// The files of a certificate.
#[derive(Clone, Debug)]
pub struct Files {
    pub cert: PathBuf,
    pub key: PathBuf,
    pub serial: u64,
}

impl Files {
    /// As `certificates` takes it.
    pub fn toml(&self) -> String {
        format!("{{ cert = {}, key = {} }}", quoted(&self.cert), quoted(&self.key))
    }
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("ca.pem"), certificate.pem()).expect("a file");
        Self { folder, issuer: Issuer::new(params, key), certificate, serial: 1 }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes `NAME.crt` and `NAME.key` for these host names; each call makes another key.
    pub fn issue(&mut self, name: &str, hosts: &[&str]) -> Files {
        self.issue_with(name, hosts, |_| {})
    }

    pub fn issue_with(&mut self, name: &str, hosts: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Files {
        self.serial += 1;
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).expect("host names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.serial_number = Some(SerialNumber::from(self.serial));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let files = Files {
            cert: self.path(&format!("{name}.crt")),
            key: self.path(&format!("{name}.key")),
            serial: self.serial,
        };
        fs::write(&files.cert, certificate.pem()).expect("a file");
        fs::write(&files.key, key.serialize_pem()).expect("a file");
        files
    }

    /// Writes `NAME.crl`, which revokes these.
    pub fn revoke(&self, name: &str, serials: &[u64]) -> PathBuf {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(2090, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let path = self.path(&format!("{name}.crl"));
        let list = params.signed_by(&self.issuer).expect("a list").pem().expect("PEM");
        fs::write(&path, list).expect("a file");
        path
    }

    pub fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).expect("a root");
        Arc::new(roots)
    }

    /// A client that trusts this authority.
    pub fn client(&self) -> ClientConfig {
        self.client_with(rustls::ALL_VERSIONS, None)
    }

    pub fn client_with(&self, versions: &[&'static SupportedProtocolVersion], own: Option<&Files>) -> ClientConfig {
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(self.roots());
        match own {
            Some(files) => {
                let (chain, key) = read(files);
                builder.with_client_auth_cert(chain, key).expect("a client certificate")
            }
            None => builder.with_no_client_auth(),
        }
    }

    /// A node's side.
    #[expect(clippy::unused_self, reason = "it reads as what the authority vouches for")]
    pub fn server(&self, files: &Files) -> ServerConfig {
        let (chain, key) = read(files);
        ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a certificate")
    }
}

pub fn read(files: &Files) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = CertificateDer::pem_file_iter(&files.cert).expect("PEM").map(|der| der.expect("PEM")).collect();
    (chain, PrivateKeyDer::from_pem_file(&files.key).expect("a key"))
}

pub type TlsClient = client::TlsStream<TcpStream>;

/// A handshake with the proxy; the error is the proxy's alert, or what the client thinks of its certificate.
pub async fn connect(config: &Arc<ClientConfig>, address: SocketAddr, name: &str) -> std::io::Result<TlsClient> {
    let tcp = TcpStream::connect(address).await?;
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    timeout(PATIENCE, TlsConnector::from(Arc::clone(config)).connect(name, tcp)).await.expect("in time")
}

/// The serial number of the certificate that the proxy showed.
pub fn serial(stream: &TlsClient) -> u64 {
    use x509_parser::prelude::{FromDer, X509Certificate};
    let chain = stream.get_ref().1.peer_certificates().expect("a certificate");
    let (_, certificate) = X509Certificate::from_der(&chain[0]).expect("a certificate");
    certificate.tbs_certificate.serial.iter_u64_digits().next().unwrap_or_default()
}

/// TOML for a listener that speaks TLS.
pub fn listener(certificates: &[&Files], more: &str) -> String {
    let list: Vec<String> = certificates.iter().map(|files| files.toml()).collect();
    format!("[listener.tls]\ncertificates = [{}]\n{more}\n", list.join(", "))
}

/// A path as TOML.
pub fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display())
}

/// A node that speaks TLS. Dropped, it stops accepting and drops its connections.
pub struct TlsNode {
    pub address: SocketAddr,
    /// How each handshake was made.
    pub kinds: Arc<Mutex<Vec<Option<HandshakeKind>>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for TlsNode {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl TlsNode {
    /// Runs `script` for each connection.
    pub async fn start<F>(
        config: ServerConfig,
        script: impl Fn(server::TlsStream<TcpStream>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let script = Arc::new(script);
        let kinds = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&kinds);
        let task = tokio::spawn(async move {
            let mut scripts = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, script, seen) = (acceptor.clone(), Arc::clone(&script), Arc::clone(&seen));
                scripts.spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        seen.lock().expect("no panic while locked").push(stream.get_ref().1.handshake_kind());
                        script(stream).await;
                    }
                });
            }
        });
        Self { address, kinds, task }
    }

    /// Answers every request without a body with 200 and `body`.
    pub async fn answering(config: ServerConfig, body: &'static str, close: bool) -> Self {
        Self::start(config, move |mut stream| async move {
            while head(&mut stream).await.is_some() {
                let close = if close { "connection: close\r\n" } else { "" };
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n{close}\r\n{body}", body.len());
                if stream.write_all(answer.as_bytes()).await.is_err() || !close.is_empty() {
                    let _ = stream.shutdown().await;
                    return;
                }
            }
        })
        .await
    }

    /// As a node is configured.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    pub fn kinds(&self) -> Vec<Option<HandshakeKind>> {
        self.kinds.lock().expect("no panic while locked").clone()
    }
}

/// A request's head.
pub async fn head(stream: &mut server::TlsStream<TcpStream>) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}
