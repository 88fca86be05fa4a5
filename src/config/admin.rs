//! `[admin]`: how verbs, programs and browsers reach the proxy.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{Fault, Findings};
use super::named::Files;
use super::reader::{At, Table};
use super::tls::{CertificateSource, ClientAuth, EXPIRY, ServerTls, TlsVersion, pair};
use super::tokens::{Role, Token};
use super::{Listener, words};

/// How verbs reach the proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admin {
    /// `admin.socket`; where the default is, `app` decides.
    pub socket: Option<PathBuf>,
    /// `admin.http`: the admin API over TCP. On loopback whoever shows nothing may look; elsewhere nothing is open, and there is TLS.
    pub http: Option<SocketAddr>,
    /// `[admin.tls]`: how `http` speaks TLS; plain without.
    pub tls: Option<AdminTls>,
    /// `[[admin.token]]`: who may do more than look over `admin.http`.
    pub tokens: Vec<Token>,
}

/// `[admin.tls]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminTls {
    /// As of a listener.
    pub server: Arc<ServerTls>,
    /// What those may do who show a certificate.
    pub client_role: Role,
}

/// Sessions that are remembered: of programs that ask often.
const SESSIONS: usize = 256;

/// Reads `[admin.tls]`.
pub(super) fn tls(mut t: Table<'_>, source: &Path) -> Option<AdminTls> {
    let findings = t.findings();
    let files = Files { source, findings };
    let shown = pair(&mut t, "cert", &files);
    let ca = t.string("client_ca");
    let crl = t.string_or_strings("client_crl", "`client_crl` is empty: leave it out instead");
    let crl: Vec<_> = crl.get().map(|list| list.value.iter().map(|at| files.named(at)).collect()).unwrap_or_default();
    let roles = [("read", Role::Read), ("operator", Role::Operator)];
    let client_role = t.choice("client_role", Role::Read, &roles, |_| None);
    if ca.is_missing() && (!crl.is_empty() || client_role != Role::Read) {
        let fault = Fault::new("no client is asked for a certificate without `client_ca`");
        findings.add(&t.span, fault.hint("write `client_ca = \"operators-ca.pem\"`: who signs their certificates?"));
    }
    t.finish(|key| match key {
        "certificates" => Some("write `cert = \"…\"` and `key = \"…\"`: there is one certificate".into()),
        "client_auth" | "ca" => Some("write `client_ca = \"…\"`".into()),
        _ => None,
    });
    // Not required by TLS itself: who shows none is told so in words, or shows a token.
    let client_auth = ca.get().map(|at| ClientAuth { required: false, ca: files.named(at), crl, forward: true });
    let (cert, key) = shown?;
    let server = ServerTls {
        certificates: vec![CertificateSource::Pair { cert, key }],
        default: None,
        strict: false,
        min_version: TlsVersion::V1_2,
        suites: Vec::new(),
        tickets: true,
        session_cache: SESSIONS,
        client_auth,
        expiry_warning: EXPIRY.to_vec(),
    };
    Some(AdminTls { server: Arc::new(server), client_role })
}

/// Checks `admin.http`: who can reach it must be somebody whom it can tell from others, and whom nobody overhears.
pub(super) fn http(
    at: &At<&str>,
    tls: Option<&AdminTls>,
    tokens: &[Token],
    listeners: &[Listener],
    findings: &Findings<'_>,
) -> Option<SocketAddr> {
    let address = words::bind(at.value).map_err(|fault| findings.add(&at.span, fault)).ok()?;
    if !address.ip().to_canonical().is_loopback() {
        if let Some(tls) = tls {
            if tokens.is_empty() && tls.server.client_auth.is_none() {
                let fault = Fault::new(format!("nobody could ask on {address}: there is no token and no `client_ca`"));
                findings
                    .add(&at.span, fault.hint("`sluice token NAME` makes a token, `client_ca` is in `[admin.tls]`"));
            }
        } else {
            let fault = Fault::new(format!(
                "`admin.http` must be on loopback, or speak TLS: tokens would cross the network to {address} in clear"
            ));
            findings.add(&at.span, fault.hint(format!("write \"127.0.0.1:{}\", or `[admin.tls]`", address.port())));
        }
    }
    if let Some(listener) = listeners.iter().find(|listener| listener.bind == address && address.port() != 0) {
        findings
            .add(&at.span, Fault::new(format!("the listener `{}` has the address {address} already", listener.name)));
    }
    Some(address)
}
