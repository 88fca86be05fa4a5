//! Which HTTP a service's nodes speak.

use super::Probe;
use super::error::{Fault, Findings};
use super::file::RawHealth;
use super::reader::Table;
use super::units::shorten;

/// Which HTTP Sluice speaks with nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NodeProtocol {
    /// HTTP/1.1, with TLS or without.
    #[default]
    Http1,
    /// HTTP/2 over TLS (RFC 9113 §3.2).
    H2,
    /// HTTP/2 without TLS, with prior knowledge (RFC 9113 §3.3).
    H2c,
    /// What the node chooses in the TLS handshake (ALPN, RFC 7301); HTTP/1.1 without TLS.
    Auto,
}

impl NodeProtocol {
    /// Whether a connection may turn out to carry many exchanges at once.
    pub fn may_multiplex(self) -> bool {
        self != Self::Http1
    }
}

const CHOICES: [(&str, NodeProtocol); 4] = [
    ("http1", NodeProtocol::Http1),
    ("h2", NodeProtocol::H2),
    ("h2c", NodeProtocol::H2c),
    ("auto", NodeProtocol::Auto),
];

pub(super) fn read(t: &mut Table<'_>, default: NodeProtocol) -> NodeProtocol {
    t.choice("protocol", default, &CHOICES, |word| {
        let meant = match word.to_ascii_lowercase().as_str() {
            "http/1.1" | "http/1" | "http1.1" | "h1" => "http1",
            "http/2" | "http2" | "grpc" => "h2c",
            _ => return None,
        };
        let fault = Fault::new(format!("`protocol` cannot be `{}`", shorten(word)));
        Some(if meant == "http1" {
            fault.hint("write \"http1\"")
        } else {
            fault.hint("write \"h2c\", or \"h2\" for nodes that are reached over TLS")
        })
    })
}

/// What a node's address must be for a protocol: TLS or not.
pub(super) fn check_node(address: &str, protocol: NodeProtocol) -> Result<(), Fault> {
    let tls = address.starts_with("https://");
    let shown = shorten(address);
    match protocol {
        NodeProtocol::H2 if !tls => Err(Fault::new(format!(
            "`{shown}` is not reached over TLS, and the `protocol` of this service is \"h2\", which is HTTP/2 over TLS"
        ))
        .hint(format!("write \"https://{shown}\", or `protocol = \"h2c\"` for HTTP/2 without TLS"))),
        NodeProtocol::H2c if tls => Err(Fault::new(format!(
            "`{shown}` is reached over TLS, and the `protocol` of this service is \"h2c\", which is HTTP/2 without TLS"
        ))
        .hint("write `protocol = \"h2\"` for HTTP/2 over TLS")),
        _ => Ok(()),
    }
}

/// The probe that `grpc` asks for, if it is there.
pub(super) fn grpc_probe(raw: &RawHealth<'_>, host: Option<&str>, findings: &Findings<'_>) -> Option<Probe> {
    let at = raw.grpc.get()?;
    let others = [
        ("path", raw.path.get().map(|at| &at.span)),
        ("status", raw.status.get().map(|at| &at.span)),
        ("body", raw.body.get().map(|at| &at.span)),
        ("header", raw.header.get().map(|at| &at.span)),
    ];
    for (key, span) in others {
        if let Some(span) = span {
            let fault = Fault::new(format!("`{key}` cannot stand beside `grpc`, which asks in its own way"));
            findings.add(span, fault.hint(format!("remove `{key}`, or `grpc` for a probe with GET")));
        }
    }
    let known = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    if at.value.len() > 256 || !at.value.chars().all(known) {
        let fault = Fault::new(format!("`{}` is not the name of a gRPC service", shorten(at.value)));
        findings.add(&at.span, fault.hint("write it like \"shop.v1.Cart\", or \"\" for the server as a whole"));
    }
    Some(Probe::Grpc { service: at.value.to_owned(), host: host.map(str::to_owned) })
}
