//! TLS of one listener.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};

use super::files::{self, Pair};
use super::provider;
use super::store::Store;
use crate::api::Problem;
use crate::config::{CertificateSource, ClientAuth, NamedFile, Protocol, ServerTls, TlsVersion};

/// How a listener speaks TLS. Fixed but for the certificates.
#[derive(Debug)]
pub struct Server {
    settings: Arc<ServerTls>,
    protocols: Vec<Protocol>,
    pub(super) store: Arc<Store>,
    pub(super) config: Arc<ServerConfig>,
    /// Of the files that say which clients are let in.
    auth_digest: u64,
}

/// What came of reading a listener's files.
#[derive(Debug)]
pub struct ServerLoad {
    /// What serves from now on; none if nothing can. What could not be read anew is as it was.
    pub server: Option<Arc<Server>>,
    /// What is wrong with which file.
    pub problems: Vec<Problem>,
}

impl Server {
    /// Reads every file that `settings` name. Blocks on the file system.
    ///
    /// `last` is what the listener has now. With the same settings, what serves is never given up: a bad pair leaves the old one in
    /// place, other certificates are swapped in below the same configuration of rustls, and only another CA or revocation list makes a new one.
    /// Without `last` or with other settings, every file has to be good, but for single pairs of a folder.
    pub fn load(settings: &Arc<ServerTls>, protocols: &[Protocol], last: Option<&Arc<Self>>) -> ServerLoad {
        let same = last.filter(|last| last.settings == *settings && last.protocols == protocols);
        let provider = provider(&settings.suites);
        let mut problems = Vec::new();
        let known = last.map(|last| last.store.pairs()).unwrap_or_default();
        let (pairs, whole) = read_pairs(settings, &provider, &known, same.is_some(), &mut problems);
        let auth = settings.client_auth.as_ref().map(|auth| read_auth(auth, &provider)).transpose();
        let (verifier, auth_digest) = match auth {
            Ok(auth) => auth.map_or((None, 0), |(verifier, digest)| (Some(verifier), digest)),
            Err(problem) => {
                problems.push(problem);
                if let Some(same) = same {
                    same.show(pairs);
                    return ServerLoad { server: Some(Arc::clone(same)), problems };
                }
                return ServerLoad { server: None, problems };
            }
        };
        if let Some(same) = same.filter(|same| same.auth_digest == auth_digest) {
            same.show(pairs);
            return ServerLoad { server: Some(Arc::clone(same)), problems };
        }
        if same.is_none() && !whole {
            return ServerLoad { server: None, problems };
        }
        let (default, strict) = (settings.default.as_deref(), settings.strict);
        let store = match same {
            Some(same) => {
                same.show(pairs);
                Arc::clone(&same.store)
            }
            None => Arc::new(Store::new(pairs, default, strict)),
        };
        // Sessions were begun by certificates that may have been revoked since: they end with the list that let them in.
        let heir = last.filter(|last| {
            last.auth_digest == auth_digest
                && last.settings.client_auth == settings.client_auth
                && last.settings.tickets == settings.tickets
                && last.settings.session_cache == settings.session_cache
        });
        match configure(settings, protocols, provider, verifier, &store, heir) {
            Ok(config) => {
                let (settings, protocols) = (Arc::clone(settings), protocols.to_vec());
                let server = Self { settings, protocols, store, config: Arc::new(config), auth_digest };
                ServerLoad { server: Some(Arc::new(server)), problems }
            }
            Err(error) => {
                let hint = "this should not happen with files that could be read; please report it";
                problems.push(place(settings).problem(format!("TLS cannot be set up: {error}"), Some(hint.into())));
                ServerLoad { server: same.cloned(), problems }
            }
        }
    }

    fn show(&self, pairs: Vec<Arc<Pair>>) {
        let shown = self.store.pairs();
        let same = shown.len() == pairs.len() && shown.iter().zip(&pairs).all(|(shown, pair)| Arc::ptr_eq(shown, pair));
        if !same && !pairs.is_empty() {
            self.store.swap(pairs, self.settings.default.as_deref(), self.settings.strict);
        }
    }

    /// Reads the same files again.
    pub fn reload(self: &Arc<Self>) -> ServerLoad {
        Self::load(&self.settings, &self.protocols, Some(self))
    }

    /// The certificates that it shows.
    pub fn pairs(&self) -> Vec<Arc<Pair>> {
        self.store.pairs()
    }

    /// Where the configuration names a certificate, itself or its folder.
    pub fn place_of(&self, pair: &Pair) -> &NamedFile {
        let named = self.settings.certificates.iter().find_map(|source| match source {
            CertificateSource::Pair { cert, .. } => (cert.path == pair.cert).then_some(cert),
            CertificateSource::Folder(folder) => pair.cert.starts_with(&folder.path).then_some(folder),
        });
        named.unwrap_or_else(|| place(&self.settings))
    }

    /// What it was made from.
    pub fn settings(&self) -> &Arc<ServerTls> {
        &self.settings
    }

    /// Whether nodes are told who the client is.
    pub fn forwards_client(&self) -> bool {
        self.settings.client_auth.as_ref().is_some_and(|auth| auth.forward)
    }
}

/// Where a listener's certificates are named first.
fn place(settings: &ServerTls) -> &NamedFile {
    // There is one: the configuration is valid by construction.
    match &settings.certificates[0] {
        CertificateSource::Pair { cert, .. } => cert,
        CertificateSource::Folder(folder) => folder,
    }
}

/// Every pair that can be read, or the `known` one of the same file in place of one that cannot; and whether all is well but
/// for single pairs in folders.
fn read_pairs(
    settings: &ServerTls,
    provider: &CryptoProvider,
    known: &[Arc<Pair>],
    keep: bool,
    problems: &mut Vec<Problem>,
) -> (Vec<Arc<Pair>>, bool) {
    let known: HashMap<(&Path, &Path), &Arc<Pair>> =
        known.iter().map(|pair| ((pair.cert.as_path(), pair.key.as_path()), pair)).collect();
    let mut pairs: Vec<Arc<Pair>> = Vec::new();
    let mut read = |cert: &Path, key: &Path| {
        let old = known.get(&(cert, key)).copied();
        match files::pair(provider, cert, key) {
            // The same one again, so that nothing is swapped for nothing.
            Ok(new) => {
                let same = old.filter(|old| old.hash == new.hash).cloned();
                pairs.push(same.unwrap_or_else(|| Arc::new(new)));
                Ok(())
            }
            Err(error) => {
                pairs.extend(old.filter(|_| keep).cloned());
                Err(error)
            }
        }
    };
    let mut whole = true;
    for source in &settings.certificates {
        match source {
            CertificateSource::Pair { cert, key } => {
                if let Err(error) = read(&cert.path, &key.path) {
                    whole = false;
                    let named = if error.path == key.path { key } else { cert };
                    problems.push(error.told(named));
                }
            }
            CertificateSource::Folder(folder) => match files::pairs_in(&folder.path) {
                Ok(found) => {
                    for (cert, key) in found {
                        if let Err(error) = read(&cert, &key) {
                            problems.push(error.told(folder));
                        }
                    }
                }
                Err(error) => {
                    whole = false;
                    problems.push(error.told(folder));
                }
            },
        }
    }
    if pairs.is_empty() && problems.is_empty() {
        let hint = "a pair is NAME.crt or NAME.pem with NAME.key, or fullchain.pem with privkey.pem";
        problems.push(place(settings).problem("there is no certificate here".into(), Some(hint.into())));
    }
    whole &= !pairs.is_empty();
    if let Some(default) = settings.default.as_deref().filter(|_| whole) {
        let proves = |name: &String| {
            let parent = default.split_once('.').map(|(_, parent)| parent);
            name == default || (name.strip_prefix("*.").is_some() && name.strip_prefix("*.") == parent)
        };
        if !pairs.iter().any(|pair| pair.names.iter().any(proves)) {
            whole = false;
            let message = format!("no certificate proves the name `{default}`, which is `default`");
            problems.push(place(settings).problem(message, Some("correct `default`, or add its certificate".into())));
        }
    }
    (pairs, whole)
}

type Verifier = Arc<dyn ClientCertVerifier>;

fn read_auth(auth: &ClientAuth, provider: &Arc<CryptoProvider>) -> Result<(Verifier, u64), Problem> {
    let read = |file: &NamedFile| files::read(&file.path).map_err(|error| error.told(file));
    let ca = read(&auth.ca)?;
    let lists = auth.crl.iter().map(|file| Ok((file, read(file)?))).collect::<Result<Vec<_>, Problem>>()?;
    let digest = files::digest(std::iter::once(&ca).chain(lists.iter().map(|(_, bytes)| bytes)).map(Vec::as_slice));
    let roots = files::roots(&auth.ca.path, &ca).map_err(|error| error.told(&auth.ca))?;
    let mut revoked = Vec::new();
    for (file, bytes) in &lists {
        revoked.extend(files::revocations(&file.path, bytes).map_err(|error| error.told(file))?);
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).with_crls(revoked);
    let builder = if auth.required { builder } else { builder.allow_unauthenticated() };
    let verifier = builder.build().map_err(|error| {
        let file = auth.crl.first().unwrap_or(&auth.ca);
        file.problem(format!("{}: cannot be used: {error}", file.path.display()), None)
    })?;
    Ok((verifier, digest))
}

fn configure(
    settings: &ServerTls,
    protocols: &[Protocol],
    provider: Arc<CryptoProvider>,
    verifier: Option<Verifier>,
    store: &Arc<Store>,
    heir: Option<&Arc<Server>>,
) -> Result<ServerConfig, rustls::Error> {
    let versions: &[_] = match settings.min_version {
        TlsVersion::V1_2 => &[&TLS13, &TLS12],
        TlsVersion::V1_3 => &[&TLS13],
    };
    // Named suites may leave one of the versions without any.
    let offered = |version: &&&'static rustls::SupportedProtocolVersion| {
        provider.cipher_suites.iter().any(|suite| suite.version().version == version.version)
    };
    let versions: Vec<_> = versions.iter().filter(offered).copied().collect();
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(&versions)?;
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::<Store>::clone(store));
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.name().as_bytes().to_vec()).collect();
    // Whoever writes a list of suites means its order.
    config.ignore_client_order = !settings.suites.is_empty();
    if let Some(heir) = heir {
        config.ticketer = Arc::clone(&heir.config.ticketer);
        config.session_storage = Arc::clone(&heir.config.session_storage);
        return Ok(config);
    }
    if settings.tickets {
        config.ticketer = aws_lc_rs::Ticketer::new()?;
    } else {
        config.send_tls13_tickets = if settings.session_cache > 0 { config.send_tls13_tickets } else { 0 };
    }
    config.session_storage = match settings.session_cache {
        0 => Arc::new(NoServerSessionStorage {}),
        sessions => ServerSessionMemoryCache::new(sessions),
    };
    Ok(config)
}
