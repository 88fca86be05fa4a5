//! TLS by rustls with aws-lc-rs, on both sides.
//!
//! [`Server`] is a listener's, [`Client`] a service's. Both are made from files by blocking code that the control plane runs
//! away from its loop, and are immutable but for one pointer: the certificates of a listener, which are swapped without a
//! new configuration of rustls, so that tickets and sessions outlive them. `files` reads, `store` chooses by name, `session` is what a
//! [`Stream`](super::Stream) does with a connection that speaks TLS.

mod accept;
mod client;
mod facts;
mod files;
mod server;
pub(super) mod session;
mod store;

pub use accept::{Accepted, Greeted};
pub use client::Client;
pub use facts::ClientFacts;
pub use files::{Pair, folders};
pub use server::{Server, ServerLoad};

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};

/// What rustls computes with: aws-lc-rs, with the suites that are named (all of them if none is).
fn provider(suites: &[&str]) -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    if !suites.is_empty() {
        let all = std::mem::take(&mut provider.cipher_suites);
        // IANA's names; rustls has other ones for TLS 1.3.
        let find = |name: &&str| {
            all.iter().find(|suite| {
                let known = suite.suite().as_str().unwrap_or_default();
                known.replacen("TLS13_", "TLS_", 1) == **name
            })
        };
        provider.cipher_suites = suites.iter().filter_map(find).copied().collect();
    }
    Arc::new(provider)
}
