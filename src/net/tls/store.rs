//! The certificates of a listener: chosen by the name that a client asks for, swapped as a whole.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::files::Pair;

/// What a listener shows. rustls asks it at each handshake; the control plane swaps it.
#[derive(Debug)]
pub(super) struct Store(ArcSwap<Index>);

/// Certificates by name. Several for one name differ in their kind of key, and the client's abilities decide.
#[derive(Debug, Default)]
struct Index {
    pairs: Vec<Arc<Pair>>,
    exact: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// By what follows the `*.`, which stands for exactly one label (RFC 6125 §6.4.3).
    wildcard: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// For those who ask for nothing that is here; empty: they are refused.
    default: Vec<Arc<CertifiedKey>>,
}

impl Index {
    fn new(pairs: Vec<Arc<Pair>>, default: Option<&str>, strict: bool) -> Self {
        let mut index = Self::default();
        for pair in &pairs {
            for name in &pair.names {
                let (names, key) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut index.wildcard, parent),
                    None => (&mut index.exact, name.as_str()),
                };
                names.entry(key.to_owned()).or_default().push(Arc::clone(&pair.certified));
            }
        }
        if !strict {
            let first = || pairs.first().map(|pair| vec![Arc::clone(&pair.certified)]);
            index.default = default.and_then(|name| index.find(name)).cloned().or_else(first).unwrap_or_default();
        }
        index.pairs = pairs;
        index
    }

    fn find(&self, name: &str) -> Option<&Vec<Arc<CertifiedKey>>> {
        // Names come in any case, and nearly always in this one.
        let lower;
        let name = if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            lower = name.to_ascii_lowercase();
            &lower
        } else {
            name
        };
        let name = name.strip_suffix('.').unwrap_or(name);
        self.exact.get(name).or_else(|| self.wildcard.get(name.split_once('.')?.1))
    }

    fn of(&self, name: Option<&str>) -> &[Arc<CertifiedKey>] {
        name.and_then(|name| self.find(name)).unwrap_or(&self.default)
    }
}

impl Store {
    pub(super) fn new(pairs: Vec<Arc<Pair>>, default: Option<&str>, strict: bool) -> Self {
        Self(ArcSwap::from_pointee(Index::new(pairs, default, strict)))
    }

    /// Shows these from the next handshake on.
    pub(super) fn swap(&self, pairs: Vec<Arc<Pair>>, default: Option<&str>, strict: bool) {
        self.0.store(Arc::new(Index::new(pairs, default, strict)));
    }

    pub(super) fn pairs(&self) -> Vec<Arc<Pair>> {
        self.0.load().pairs.clone()
    }

    /// Whether there is a certificate for a client that asks for this.
    pub(super) fn serves(&self, name: Option<&str>) -> bool {
        !self.0.load().of(name).is_empty()
    }
}

impl ResolvesServerCert for Store {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let index = self.0.load();
        let able = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        let fitting = index.of(hello.server_name());
        fitting.iter().find(able).or(fitting.first()).cloned()
    }
}
