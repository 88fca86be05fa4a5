//! Certificates, keys and revocation lists: read away from the loop, together with the configuration that names them.
//!
//! Two rules. What an edit asks for anew must be readable, or the edit is refused as a whole, as for any other error in it. What runs already
//! is never given up: a file that went bad leaves in place what was read of it before, and is told. A certificate and its key are
//! replaced one after the other, so a mismatch may last a moment: it is looked at again before anybody is alarmed.

mod expiry;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::Instant;
use tracing::{info, warn};
use xxhash_rust::xxh3::xxh3_64;

use super::controller::Controller;
use crate::api::{CertificateStatus, CertificatesStatus, Problem};
use crate::config::{self, CertificateSource, ClientTls, Config, Loaded, ServerTls};
use crate::model::{NodeAddress, ServiceName, Timestamp};
use crate::net::tls::{self, Client, Server};

pub(super) use expiry::Expiry;

/// A bad file is looked at again after this long: a tool that replaces two files needs milliseconds.
const AGAIN: Duration = Duration::from_secs(1);

/// What was made from files. The next read begins with it, and changes what is the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Certificates {
    /// By the listener's name.
    servers: BTreeMap<String, Arc<Server>>,
    clients: BTreeMap<ServiceName, Arc<Client>>,
}

/// What a read found.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) certificates: Certificates,
    /// What is wrong with files of what runs.
    pub(super) troubles: Vec<Problem>,
    /// Whether an edit was refused for its files.
    refused: bool,
    /// Services whose nodes may show any certificate from now on.
    careless: Vec<ServiceName>,
    /// What to watch, whether it could be read or not.
    pub(super) files: Vec<PathBuf>,
    pub(super) folders: Vec<PathBuf>,
}

/// Finds what is wrong with the files that a configuration names, for those who run nothing yet: problems go to those of the configuration, which is
/// taken away if it cannot serve without them. Blocks on the file system. What it can serve without comes back: bad pairs in folders, and
/// certificates that have ended.
pub fn check_files(loaded: &mut Loaded, now: Timestamp) -> Vec<Problem> {
    let read = read(loaded, &Certificates::default());
    let mut troubles = read.troubles;
    let mut servers: Vec<_> = read.certificates.servers.into_values().collect();
    // Not live, so that it stands in no edit's way.
    if let Some(tls) = loaded.config.as_ref().and_then(|config| config.admin.tls.as_ref()) {
        let made = Server::load(&tls.server, &[config::Protocol::Http1], None);
        if made.server.is_none() {
            loaded.problems.extend(made.problems);
            loaded.config = None;
        }
        servers.extend(made.server);
    }
    for server in &servers {
        for pair in server.pairs().iter().filter(|pair| pair.not_after <= now || pair.not_before > now) {
            let file = pair.cert.display();
            let what = if pair.not_after <= now { "has ended" } else { "does not hold yet" };
            let hint = "clients will refuse it: replace both files".to_owned();
            troubles.push(server.place_of(pair).problem(format!("{file}: the certificate {what}"), Some(hint)));
        }
    }
    troubles
}

/// Reads every file that the configuration names, and without one, every file of what runs.
pub(super) fn read(loaded: &mut Loaded, last: &Certificates) -> Read {
    let mut read = Read::default();
    if let Some(config) = &mut loaded.config {
        read.watch(config);
        let (mut refused, mut held_back) = (Vec::new(), Vec::new());
        for listener in &config.listeners {
            let Some(settings) = &listener.accepting.tls else { continue };
            let known = last.servers.get(&listener.name);
            let made = Server::load(settings, &listener.accepting.protocols, known);
            match made.server {
                Some(server) => {
                    read.troubles.extend(made.problems);
                    read.certificates.servers.insert(listener.name.clone(), server);
                }
                None => refused.extend(made.problems),
            }
        }
        for (name, service) in &config.services {
            match client(service, last.clients.get(name), &mut read.troubles) {
                Ok(None) => {}
                Ok(Some(client)) => {
                    let known = last.clients.get(name).is_some_and(|known| Arc::ptr_eq(known, &client));
                    if service.tls.insecure_skip_verify && !known {
                        read.careless.push(name.clone());
                    }
                    read.certificates.clients.insert(name.clone(), client);
                }
                Err(problem) if loaded.files.first() == Some(&service.source) => refused.push(problem),
                Err(problem) => held_back.push((service.source.clone(), problem)),
            }
        }
        read.refused = !refused.is_empty() || !held_back.is_empty();
        for (source, problem) in held_back {
            config.services.retain(|_, service| service.source != source);
            loaded.held_back.insert(source);
            loaded.problems.push(problem);
        }
        if !refused.is_empty() {
            loaded.problems.extend(refused);
            loaded.config = None;
        }
        if read.refused {
            // The same configuration is another one once its files are there.
            let told: String = loaded.problems.iter().map(|problem| problem.message.as_str()).collect();
            loaded.digest ^= xxh3_64(told.as_bytes());
        }
    }
    if loaded.config.is_none() {
        read.troubles.clear();
        read.certificates = Certificates::default();
    }
    // What runs and is not in what was read: an invalid configuration, or an included file that is held back.
    for (name, server) in &last.servers {
        if loaded.config.is_none() {
            read.watch_server(server.settings());
            let made = server.reload();
            read.troubles.extend(made.problems);
            let kept = made.server.unwrap_or_else(|| Arc::clone(server));
            read.certificates.servers.insert(name.clone(), kept);
        }
    }
    for (name, client) in &last.clients {
        let missing = !read.certificates.clients.contains_key(name);
        if missing && (loaded.config.is_none() || !loaded.held_back.is_empty()) {
            read.watch_client(client.settings());
            let kept = client.reload().unwrap_or_else(|problem| {
                read.troubles.push(problem);
                Arc::clone(client)
            });
            read.certificates.clients.insert(name.clone(), kept);
        }
    }
    for server in read.certificates.servers.values() {
        read.files.extend(server.pairs().iter().flat_map(|pair| [pair.cert.clone(), pair.key.clone()]));
    }
    read
}

/// How the nodes of a service are spoken to; none if none of them speaks TLS. What worked before goes on.
fn client(
    service: &config::Service,
    last: Option<&Arc<Client>>,
    troubles: &mut Vec<Problem>,
) -> Result<Option<Arc<Client>>, Problem> {
    if !service.versions.values().flatten().any(NodeAddress::is_tls) {
        return Ok(None);
    }
    match (Client::load(&service.tls, last), last) {
        (Ok(client), _) => Ok(Some(client)),
        (Err(problem), Some(last)) if last.settings() == &service.tls => {
            troubles.push(problem);
            Ok(Some(Arc::clone(last)))
        }
        (Err(problem), _) => Err(problem),
    }
}

impl Read {
    fn watch(&mut self, config: &Config) {
        for listener in &config.listeners {
            if let Some(settings) = &listener.accepting.tls {
                self.watch_server(settings);
            }
        }
        for service in config.services.values() {
            self.watch_client(&service.tls);
        }
    }

    fn watch_server(&mut self, settings: &ServerTls) {
        for source in &settings.certificates {
            match source {
                CertificateSource::Pair { cert, key } => self.files.extend([cert.path.clone(), key.path.clone()]),
                CertificateSource::Folder(folder) => self.folders.extend(tls::folders(&folder.path)),
            }
        }
        if let Some(auth) = &settings.client_auth {
            self.files.extend(std::iter::once(&auth.ca).chain(&auth.crl).map(|file| file.path.clone()));
        }
    }

    fn watch_client(&mut self, settings: &ClientTls) {
        let own = settings.certificate.iter().flat_map(|(cert, key)| [cert, key]);
        self.files.extend(settings.ca.iter().chain(own).map(|file| file.path.clone()));
    }
}

impl Certificates {
    /// What was made for a listener as it is configured.
    pub(super) fn server(&self, listener: &config::Listener) -> Option<Arc<Server>> {
        let settings = listener.accepting.tls.as_ref()?;
        self.servers.get(&listener.name).filter(|server| server.settings() == settings).cloned()
    }

    pub(super) fn client(&self, service: &ServiceName) -> Option<Arc<Client>> {
        self.clients.get(service).cloned()
    }
}

/// What the loop knows about files.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) certificates: Certificates,
    /// What the admin API shows, which reads it itself.
    admin: Option<Arc<ArcSwap<Server>>>,
    troubles: Vec<Problem>,
    /// Whether the last edit was refused for its files.
    refused: bool,
    /// What the log was told of.
    told: BTreeSet<(PathBuf, String)>,
    /// When to look at bad files again.
    pub(super) again: Option<Instant>,
    pub(super) expiry: Expiry,
}

impl Held {
    /// Nothing is read yet.
    pub(super) fn new(admin: Option<Arc<ArcSwap<Server>>>) -> Self {
        Self { admin, ..Self::default() }
    }

    /// Whatever shows certificates, by name.
    fn shown(&self) -> impl Iterator<Item = (&str, Arc<Server>)> {
        let listeners = self.certificates.servers.iter().map(|(name, server)| (name.as_str(), Arc::clone(server)));
        listeners.chain(self.admin.iter().map(|server| ("admin.http", server.load_full())))
    }

    /// Takes over what a read found. The log is told of what is bad at the second look.
    pub(super) fn take(&mut self, read: Read) {
        for service in &read.careless {
            warn!(
                %service,
                "INSECURE: `insecure_skip_verify` takes any certificate, so whoever stands between can read and change \
                 everything; give `ca` instead"
            );
        }
        let refused = std::mem::replace(&mut self.refused, read.refused);
        let last = std::mem::replace(&mut self.troubles, read.troubles);
        let news = (self.refused && !refused) || self.troubles.iter().any(|problem| !last.contains(problem));
        self.again = news.then(|| Instant::now() + AGAIN);
        for problem in &self.troubles {
            if last.contains(problem) && self.told.insert((problem.path.clone(), problem.message.clone())) {
                warn!("what was there before goes on: {}", config::render(problem).trim_end());
            }
        }
        let bad = |(path, message): &(PathBuf, String)| {
            self.troubles.iter().any(|problem| problem.path == *path && problem.message == *message)
        };
        let mended: Vec<_> = self.told.iter().filter(|told| !bad(told)).cloned().collect();
        for told in mended {
            info!("no longer: {}", told.1);
            self.told.remove(&told);
        }
        self.certificates = read.certificates;
    }

    pub(super) fn status(&self) -> CertificatesStatus {
        let mut list: BTreeMap<(PathBuf, PathBuf), CertificateStatus> = BTreeMap::new();
        for (listener, server) in self.shown() {
            for pair in server.pairs() {
                let status = list.entry((pair.cert.clone(), pair.key.clone())).or_insert_with(|| CertificateStatus {
                    listeners: Vec::new(),
                    file: pair.cert.clone(),
                    names: pair.names.clone(),
                    not_before: pair.not_before,
                    not_after: pair.not_after,
                });
                status.listeners.push(listener.to_owned());
            }
        }
        CertificatesStatus { list: list.into_values().collect(), problems: self.troubles.clone() }
    }

    /// Tells the log of certificates that end soon, each once for each of its warnings.
    pub(super) fn warn_of_expiry(&mut self, now: Timestamp) {
        let mut expiry = std::mem::take(&mut self.expiry);
        for (listener, server) in self.shown() {
            expiry.look(listener, &server, now);
        }
        self.expiry = expiry;
    }
}

impl Controller {
    /// Gives listeners and nodes what was made from files. After the configuration that names them was applied.
    pub(super) fn spread_certificates(&mut self) {
        self.held.warn_of_expiry(self.clock.now());
        let certificates = &self.held.certificates;
        self.listeners.renew(|listener| certificates.server(listener));
        for (name, entry) in &self.entries {
            let client = certificates.client(name);
            for member in entry.members.values() {
                if let Some(client) = client.as_ref().filter(|_| member.node.id.address.is_tls()) {
                    member.node.set_tls(Some(Arc::clone(client)));
                }
            }
        }
    }
}
