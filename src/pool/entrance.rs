//! A listener as the workers see it: what becomes of a connection between `accept` and its first request.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::config::{Listener, Protocol};
use crate::net::tls::Server;

/// Shared by the workers; the controller swaps it when the listener's settings change, for the connections that come after.
#[derive(Debug)]
pub struct Entrance {
    /// The listener's name.
    pub name: String,
    /// What is spoken, most wanted first. Over TLS the handshake has decided by then.
    pub protocols: Vec<Protocol>,
    /// The port of the HTTPS listener that requests are sent to.
    pub redirect_https: Option<u16>,
    /// Peers that introduce each connection with a PROXY header.
    pub proxy_protocol: Vec<IpNet>,
    /// Whether TLS is spoken.
    pub is_tls: bool,
    /// How. Without it a connection to a listener that speaks TLS is closed: plain text is no way out.
    pub tls: Option<Arc<Server>>,
}

impl Entrance {
    /// The entrance of a listener; `tls` was made from its settings.
    pub fn new(listener: &Listener, tls: Option<Arc<Server>>) -> Self {
        let accepting = &listener.accepting;
        Self {
            name: listener.name.clone(),
            protocols: accepting.protocols.clone(),
            redirect_https: accepting.redirect_https,
            proxy_protocol: accepting.proxy_protocol.clone(),
            is_tls: accepting.tls.is_some(),
            tls,
        }
    }

    /// Whether this peer says in a PROXY header whom it connects for.
    pub fn is_introduced(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.proxy_protocol.iter().any(|net| net.contains(&peer))
    }

    /// Whether a connection can be served as it comes.
    pub fn is_plain(&self) -> bool {
        !self.is_tls && self.proxy_protocol.is_empty()
    }
}
