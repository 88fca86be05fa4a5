//! TLS as the configuration asks for it, on both sides, and what else concerns a connection before its first request.
//!
//! Files are named here and read elsewhere: a configuration stays valid while a certificate is being replaced.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::error::{Fault, Findings, listed, nearest};
use super::lists::Item;
use super::named::{Files, NamedFile};
use super::protocol::NodeProtocol;
use super::reader::{At, Field, Table};
use super::units::shorten;
use super::words;

/// What a connection speaks after its handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1, and 1.0.
    Http1,
    /// HTTP/2.
    Http2,
}

impl Protocol {
    const ALL: [(&'static str, Self); 2] = [("http/1.1", Self::Http1), ("h2", Self::Http2)];

    /// Its name in ALPN (RFC 7301 §6), and in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http1 => "http/1.1",
            Self::Http2 => "h2",
        }
    }

    /// From its name in ALPN.
    pub fn from_alpn(name: &[u8]) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| known.as_bytes() == name).map(|(_, protocol)| *protocol)
    }

    /// The default of `protocols`.
    pub(super) fn defaults() -> Vec<Self> {
        vec![Self::Http2, Self::Http1]
    }
}

/// `[listener.tls]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// Where certificates come from, in order; at least one.
    pub certificates: Vec<CertificateSource>,
    /// The name whose certificate is shown to clients that name none or an unknown one; none: the first certificate.
    pub default: Option<String>,
    /// Such clients are refused instead.
    pub strict: bool,
    /// The oldest version.
    pub min_version: TlsVersion,
    /// IANA names of the cipher suites, most wanted first; empty: every one that there is.
    pub suites: Vec<&'static str>,
    /// Whether clients may resume a session by a ticket.
    pub tickets: bool,
    /// Sessions that are remembered for clients without tickets.
    pub session_cache: usize,
    /// Certificates for clients.
    pub client_auth: Option<ClientAuth>,
    /// A certificate that ends sooner than each of these is warned of; longest first.
    pub expiry_warning: Vec<Duration>,
}

/// Where certificates come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateSource {
    /// A chain and its key.
    Pair {
        /// PEM, the server's own certificate first.
        cert: NamedFile,
        /// PEM, not encrypted.
        key: NamedFile,
    },
    /// Every pair in a folder.
    Folder(NamedFile),
}

/// The version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// 1.2 (RFC 5246).
    V1_2,
    /// 1.3 (RFC 8446).
    V1_3,
}

/// `client_auth`: whether clients show certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAuth {
    /// Whether a client without one is refused. A bad one is refused in any case.
    pub required: bool,
    /// Who signs them, in PEM.
    pub ca: NamedFile,
    /// Which are revoked, in PEM.
    pub crl: Vec<NamedFile>,
    /// Whether nodes are told in header fields who the client is.
    pub forward: bool,
}

/// `[service.NAME.tls]`: how nodes at `https://` are spoken to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientTls {
    /// Who signs the nodes' certificates, in PEM; the system's roots if not given.
    pub ca: Option<NamedFile>,
    /// The name that nodes must prove, and that is asked for (SNI); a node's own host if not given.
    pub server_name: Option<String>,
    /// What Sluice shows to nodes that ask: chain and key.
    pub certificate: Option<(NamedFile, NamedFile)>,
    /// Takes any certificate.
    pub insecure_skip_verify: bool,
}

impl ClientTls {
    /// The files that it names.
    pub(super) fn files_mut(&mut self) -> impl Iterator<Item = &mut NamedFile> {
        let own = self.certificate.iter_mut().flat_map(|(chain, key)| [chain, key]);
        self.ca.iter_mut().chain(own)
    }
}

/// A version of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyVersion {
    /// Text.
    V1,
    /// Binary.
    V2,
}

/// `proxy_protocol` of `[service.NAME.connections]`.
pub(super) fn proxy_version(t: &mut Table<'_>, protocol: NodeProtocol) -> Option<ProxyVersion> {
    let field = t.string("proxy_protocol");
    let at = field.get()?;
    if matches!(protocol, NodeProtocol::H2 | NodeProtocol::H2c) {
        let fault = Fault::new("a PROXY header names one client, and an HTTP/2 connection carries many");
        t.findings().add(&at.span, fault.hint("write `protocol = \"http1\"`, or leave `proxy_protocol` out"));
    }
    match at.value {
        "v1" => Some(ProxyVersion::V1),
        "v2" => Some(ProxyVersion::V2),
        other => {
            t.findings().add(&at.span, unknown("version of the PROXY protocol", other, ["v1", "v2"].into_iter()));
            None
        }
    }
}

/// Everything of a listener but its name and address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepting {
    /// What is spoken there, most wanted first.
    pub protocols: Vec<Protocol>,
    /// The port of the HTTPS listener that every request is sent to instead.
    pub redirect_https: Option<u16>,
    /// Peers that must introduce each connection with a PROXY header; no others may.
    pub proxy_protocol: Vec<IpNet>,
    /// TLS; plain without.
    pub tls: Option<Arc<ServerTls>>,
}

impl Default for Accepting {
    fn default() -> Self {
        Self { protocols: Protocol::defaults(), redirect_https: None, proxy_protocol: Vec::new(), tls: None }
    }
}

impl Accepting {
    /// Whether nodes are told who a client is by its certificate.
    pub fn forwards_clients(&self) -> bool {
        self.tls.as_ref().and_then(|tls| tls.client_auth.as_ref()).is_some_and(|auth| auth.forward)
    }
}

/// What rustls with aws-lc-rs offers, in its own order of preference.
const SUITES: [&str; 9] = [
    "TLS_AES_256_GCM_SHA384",
    "TLS_AES_128_GCM_SHA256",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
];

const DAY: Duration = Duration::from_hours(24);

/// The default of `expiry_warning`: a month to act, a week to hurry, a day to panic.
pub(super) const EXPIRY: [Duration; 3] = [DAY.saturating_mul(30), DAY.saturating_mul(7), DAY];

/// Reads everything of a listener but its name and address.
pub(super) fn accepting(t: &mut Table<'_>, source: &Path) -> Accepting {
    let findings = t.findings();
    let mut accepting = Accepting::default();
    if let Field::Is(list) = t.some_strings("protocols", "`protocols` is empty: nothing could be spoken") {
        accepting.protocols = Vec::new();
        for at in &list.value {
            match Protocol::from_alpn(at.value.as_bytes()) {
                None => {
                    let known = Protocol::ALL.iter().map(|(name, _)| *name);
                    findings.add(&at.span, unknown("protocol", at.value, known));
                }
                Some(known) if accepting.protocols.contains(&known) => {
                    findings.add(&at.span, Fault::new(format!("`{}` is in this list twice", at.value)));
                }
                Some(known) => accepting.protocols.push(known),
            }
        }
    }
    let redirect = t.count("redirect_https", 1..=65535);
    accepting.redirect_https = redirect.get().and_then(|at| u16::try_from(at.value).ok());
    if let Some(mut table) = t.table("proxy_protocol", "listener.proxy_protocol") {
        match table.some_strings("from", "`from` is empty: nobody could introduce a connection") {
            Field::Is(list) => {
                let read = |at: &At<&str>| words::network(at.value).map_err(|fault| findings.add(&at.span, fault)).ok();
                accepting.proxy_protocol = list.value.iter().filter_map(read).collect();
            }
            Field::Missing => {
                let fault = Fault::new("`proxy_protocol` has no `from`: whoever is believed can claim any address");
                findings.add(&table.span, fault.hint("write `proxy_protocol = { from = [\"10.0.0.0/8\"] }`"));
            }
            Field::Broken => {}
        }
        table.finish(|_| None);
    }
    let tls = t.table("tls", "listener.tls").and_then(|table| server(table, source));
    if let (Some(at), Some(_)) = (redirect.get(), &tls) {
        let fault = Fault::new("a listener with `tls` cannot send its clients to HTTPS: they are there");
        findings.add(&at.span, fault.hint("write `redirect_https` in the listener without `tls`"));
    }
    accepting.tls = tls.map(Arc::new);
    accepting
}

fn unknown(what: &str, word: &str, known: impl Iterator<Item = &'static str> + Clone) -> Fault {
    let fault = Fault::new(format!("there is no {what} `{}`", shorten(word)));
    match nearest(word, known.clone()) {
        Some(near) => fault.hint(format!("did you mean `{near}`?")),
        None => fault.hint(format!("one of {}", listed(known))),
    }
}

/// `None`, and a finding, without certificates.
fn server(mut t: Table<'_>, source: &Path) -> Option<ServerTls> {
    let findings = t.findings();
    let files = Files { source, findings };
    let certificates = t.items("certificates", "listener.tls.certificates");
    if certificates.get().is_none_or(|at| at.value.is_empty()) && !matches!(certificates, Field::Broken) {
        let span = certificates.get().map_or(&t.span, |at| &at.span);
        let fault = Fault::new("TLS needs `certificates`: at least one");
        findings.add(
            span,
            fault.hint("write `certificates = [{ cert = \"example.com.crt\", key = \"example.com.key\" }]`"),
        );
    }
    let items = if let Field::Is(at) = certificates { at.value } else { Vec::new() };
    let certificates: Vec<_> = items.into_iter().filter_map(|item| certificate(item, &files)).collect();
    let default = t.string("default").get().and_then(|at| name(at, findings));
    let strict_at = t.flag_at("strict");
    let strict = strict_at.as_ref().is_some_and(|at| at.value);
    if let (Some(at), true, true) = (&strict_at, strict, default.is_some()) {
        findings.add(&at.span, Fault::new("`strict` refuses those who would get the `default`: write one of both"));
    }
    let versions = [("1.2", TlsVersion::V1_2), ("1.3", TlsVersion::V1_3)];
    let min_version = t.choice("min_version", TlsVersion::V1_2, &versions, |_| None);
    let suites = suites(t.some_strings("suites", "`suites` is empty: no client could agree"), min_version, findings);
    let tls = ServerTls {
        certificates,
        default,
        strict,
        min_version,
        suites,
        tickets: t.flag("tickets", true),
        session_cache: t.count_or("session_cache", 4096, 0..=1_000_000),
        client_auth: t.table("client_auth", "listener.tls.client_auth").and_then(|table| client_auth(table, &files)),
        expiry_warning: t.durations("expiry_warning").map_or_else(
            || EXPIRY.to_vec(),
            |mut list| {
                list.sort_unstable_by(|a, b| b.cmp(a));
                list
            },
        ),
    };
    t.finish(|key| match key {
        "cert" | "key" | "certificate" => Some("write `certificates = [{ cert = \"…\", key = \"…\" }]`".into()),
        "ca" | "crl" => Some(format!("write `{key}` in `[listener.tls.client_auth]`")),
        _ => None,
    });
    (!tls.certificates.is_empty()).then_some(tls)
}

fn certificate(item: Item<'_>, files: &Files<'_>) -> Option<CertificateSource> {
    match item {
        Item::Text(at) => Some(CertificateSource::Folder(files.named(&at))),
        Item::Table(mut t) => {
            let pair = pair(&mut t, "cert", files);
            t.finish(|_| None);
            let (cert, key) = pair?;
            Some(CertificateSource::Pair { cert, key })
        }
    }
}

/// A chain and its key: both or none.
pub(super) fn pair(t: &mut Table<'_>, cert: &'static str, files: &Files<'_>) -> Option<(NamedFile, NamedFile)> {
    let (chain, key) = (t.string(cert), t.string("key"));
    let lacks = |there: &At<&str>, missing: &str| {
        files.findings.add(&there.span, Fault::new(format!("`{missing}` is missing: a certificate needs its key")));
    };
    match (&chain, &key) {
        (Field::Is(chain), Field::Is(key)) => return Some((files.named(chain), files.named(key))),
        (Field::Is(chain), Field::Missing) => lacks(chain, "key"),
        (Field::Missing, Field::Is(key)) => lacks(key, cert),
        (Field::Missing, Field::Missing) if cert == "cert" => {
            files.findings.add(&t.span, Fault::new("`cert` and `key` are missing"));
        }
        _ => {}
    }
    None
}

fn client_auth(mut t: Table<'_>, files: &Files<'_>) -> Option<ClientAuth> {
    let findings = t.findings();
    let mode = t.choice("mode", true, &[("optional", false), ("required", true)], |_| None);
    let ca = t.string("ca");
    if ca.is_missing() {
        let fault = Fault::new("`client_auth` has no `ca`: who signs the certificates of clients?");
        findings.add(&t.span, fault.hint("write `ca = \"clients.pem\"`"));
    }
    let crl = t.string_or_strings("crl", "`crl` is empty: leave it out instead");
    let crl = crl.get().map(|list| list.value.iter().map(|at| files.named(at)).collect()).unwrap_or_default();
    let forward = t.flag("forward", false);
    t.finish(|_| None);
    Some(ClientAuth { required: mode, ca: files.named(ca.get()?), crl, forward })
}

fn suites(list: Field<Vec<At<&str>>>, min: TlsVersion, findings: &Findings<'_>) -> Vec<&'static str> {
    let Field::Is(list) = list else { return Vec::new() };
    let mut suites = Vec::new();
    for at in &list.value {
        match SUITES.iter().find(|known| **known == at.value) {
            None => findings.add(&at.span, unknown("suite", at.value, SUITES.iter().copied())),
            Some(known) if suites.contains(known) => {
                findings.add(&at.span, Fault::new(format!("`{known}` is in this list twice")));
            }
            Some(known) => suites.push(*known),
        }
    }
    // The suites of TLS 1.3 name no key exchange.
    if min == TlsVersion::V1_3 && !suites.is_empty() && suites.iter().all(|suite| suite.contains("_WITH_")) {
        findings.add(&list.span, Fault::new("none of these `suites` is one of TLS 1.3, which is `min_version`"));
    }
    suites
}

/// A host name as it stands in a certificate; without case.
fn name(at: &At<&str>, findings: &Findings<'_>) -> Option<String> {
    if rustls_pki_types::ServerName::try_from(at.value).is_ok() {
        return Some(at.value.to_ascii_lowercase());
    }
    let fault = Fault::new(format!("`{}` is not a host name", shorten(at.value)));
    findings.add(&at.span, fault.hint("write it like \"shop.example.com\""));
    None
}

/// `[service.NAME.tls]`.
pub(super) fn client(t: Option<Table<'_>>, source: &Path) -> ClientTls {
    let Some(mut t) = t else { return ClientTls::default() };
    let findings = t.findings();
    let files = Files { source, findings };
    let ca = t.string("ca");
    let skip = t.flag_at("insecure_skip_verify");
    let insecure_skip_verify = skip.as_ref().is_some_and(|at| at.value);
    if let (Some(at), true, Some(_)) = (&skip, insecure_skip_verify, ca.get()) {
        findings.add(&at.span, Fault::new("`insecure_skip_verify` looks at no `ca`: write one of both"));
    }
    let tls = ClientTls {
        ca: ca.get().map(|at| files.named(at)),
        server_name: t.string("server_name").get().and_then(|at| name(at, findings)),
        certificate: pair(&mut t, "certificate", &files),
        insecure_skip_verify,
    };
    t.finish(|_| None);
    tls
}
