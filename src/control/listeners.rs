//! Opens and closes listeners as the configuration asks, and hands their sockets to the workers.
//!
//! A listener is known by what it is bound to: giving it another name leaves its sockets alone. One that cannot be opened is a
//! problem to be told, and is tried again; the others work meanwhile.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use arc_swap::ArcSwap;
use tracing::{info, warn};

use crate::api::ListenerStatus;
use crate::config;
use crate::net::listener;
use crate::net::tls::Server;
use crate::pool::{Command, Entrance, Pool, SocketId};

/// The listeners.
#[derive(Debug)]
pub(super) struct Listeners {
    pool: Arc<Pool>,
    entries: Vec<Entry>,
    next: SocketId,
}

#[derive(Debug)]
struct Entry {
    wanted: config::Listener,
    /// Shared with the workers: what becomes of its connections.
    entrance: Arc<ArcSwap<Entrance>>,
    /// Its number and where it really listens, or why it does not.
    state: Result<(SocketId, SocketAddr), String>,
}

impl Listeners {
    pub(super) fn new(pool: Arc<Pool>) -> Self {
        Self { pool, entries: Vec::new(), next: 1 }
    }

    /// Makes the open listeners those that are wanted. Those that stay are not touched. Whether all could be opened.
    /// `tls` gives what was made from a listener's files.
    pub(super) fn apply(
        &mut self,
        wanted: &[config::Listener],
        tls: impl Fn(&config::Listener) -> Option<Arc<Server>>,
    ) -> bool {
        let mut old = std::mem::take(&mut self.entries);
        let mut kept: Vec<Option<Entry>> = wanted
            .iter()
            .map(|wanted| {
                let port_zero = wanted.bind.port() == 0;
                let at = old.iter().position(|entry| {
                    entry.state.is_ok()
                        && entry.wanted.bind == wanted.bind
                        && (!port_zero || entry.wanted.name == wanted.name)
                })?;
                let mut entry = old.remove(at);
                entry.wanted = wanted.clone();
                entry.entrance.store(Arc::new(Entrance::new(wanted, tls(wanted))));
                Some(entry)
            })
            .collect();
        // Close before opening: the new one may want the port of an old one (`0.0.0.0:80` for `127.0.0.1:80`).
        for entry in &old {
            self.close(entry);
        }
        let failed = old;
        for (slot, wanted) in kept.iter_mut().zip(wanted) {
            if slot.is_none() {
                // What could not be opened before is asked again, and told again only if the reason is another one.
                let before = failed.iter().find(|entry| entry.wanted == *wanted);
                let entrance = Arc::new(ArcSwap::from_pointee(Entrance::new(wanted, tls(wanted))));
                let state = self.open(wanted, &entrance, before.and_then(|entry| entry.state.as_ref().err()));
                *slot = Some(Entry { wanted: wanted.clone(), entrance, state });
            }
        }
        self.entries = kept.into_iter().flatten().collect();
        self.all_open()
    }

    /// Tries those again that could not be opened. Whether all are open now.
    pub(super) fn retry(&mut self) -> bool {
        let mut entries = std::mem::take(&mut self.entries);
        for entry in entries.iter_mut().filter(|entry| entry.state.is_err()) {
            entry.state = self.open(&entry.wanted, &entry.entrance, entry.state.as_ref().err());
        }
        self.entries = entries;
        self.all_open()
    }

    /// Closes all of them; connections already accepted live on.
    pub(super) fn close_all(&mut self) {
        for entry in std::mem::take(&mut self.entries) {
            self.close(&entry);
        }
    }

    pub(super) fn all_open(&self) -> bool {
        self.entries.iter().all(|entry| entry.state.is_ok())
    }

    /// The first one that could not be opened: why.
    pub(super) fn error(&self) -> Option<&str> {
        self.entries.iter().find_map(|entry| entry.state.as_ref().err()).map(String::as_str)
    }

    pub(super) fn report(&self) -> Vec<ListenerStatus> {
        self.entries
            .iter()
            .map(|entry| ListenerStatus {
                name: entry.wanted.name.clone(),
                address: match &entry.state {
                    Ok((_, address)) => address.to_string(),
                    Err(_) => entry.wanted.bind.to_string(),
                },
                error: entry.state.as_ref().err().cloned(),
            })
            .collect()
    }

    /// Gives every listener what was made from its files anew; for the connections that come after.
    pub(super) fn renew(&mut self, tls: impl Fn(&config::Listener) -> Option<Arc<Server>>) {
        for entry in &self.entries {
            let Some(server) = tls(&entry.wanted) else { continue };
            let before = entry.entrance.load();
            if !before.tls.as_ref().is_some_and(|before| Arc::ptr_eq(before, &server)) {
                entry.entrance.store(Arc::new(Entrance::new(&entry.wanted, Some(server))));
            }
        }
    }

    fn open(
        &mut self,
        wanted: &config::Listener,
        entrance: &Arc<ArcSwap<Entrance>>,
        told: Option<&String>,
    ) -> Result<(SocketId, SocketAddr), String> {
        let opened = listener::bind(wanted.bind, self.pool.workers())
            .map(|sockets| (sockets.first().map(TcpListener::local_addr), sockets));
        let (address, sockets) = match opened {
            Ok((Some(Ok(address)), sockets)) => (address, sockets),
            Ok((Some(Err(error)), _)) | Err(error) => {
                let message = explain(wanted, &error);
                if told != Some(&message) {
                    warn!(listener = wanted.name, "{message}");
                }
                return Err(message);
            }
            Ok((None, _)) => return Err("no socket".into()),
        };
        let id = self.next;
        self.next += 1;
        for (worker, socket) in sockets.into_iter().enumerate() {
            self.pool.tell_one(worker, Command::Listen { id, socket, entrance: Arc::clone(entrance) });
        }
        info!(listener = wanted.name, %address, "listening");
        Ok((id, address))
    }

    fn close(&self, entry: &Entry) {
        if let Ok((id, address)) = &entry.state {
            self.pool.tell(|| Command::Unlisten { id: *id });
            info!(listener = entry.wanted.name, %address, "not listening any more");
        }
    }
}

fn explain(wanted: &config::Listener, error: &io::Error) -> String {
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "; another process listens there: find it with `ss -ltnp 'sport = :{}'` and stop it, or choose another port",
            wanted.bind.port()
        ),
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need root, CAP_NET_BIND_SERVICE, or a higher port here".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => {
            "; no interface has this address: `ip address` lists those that there are".to_owned()
        }
        _ => String::new(),
    };
    format!("cannot listen on {} (listener `{}`): {error}{hint}", wanted.bind, wanted.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::Subscription;

    fn listener(name: &str, bind: &str) -> config::Listener {
        config::Listener {
            name: name.into(),
            bind: bind.parse().unwrap_or_else(|_| ([127, 0, 0, 1], 0).into()),
            accepting: config::Accepting::default(),
        }
    }

    fn told(worker: &mut Subscription) -> Vec<String> {
        std::iter::from_fn(|| worker.commands.try_recv().ok())
            .map(|command| match command {
                Command::Listen { id, .. } => format!("listen {id}"),
                Command::Unlisten { id } => format!("unlisten {id}"),
                other => format!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn what_stays_is_not_touched() {
        let (pool, mut workers) = Pool::new(2);
        let mut listeners = Listeners::new(pool);
        assert!(listeners.apply(&[listener("a", "127.0.0.1:0"), listener("b", "127.0.0.1:0")], |_| None));
        let before = listeners.report();
        assert_ne!(before[0].address, before[1].address);
        assert_eq!(told(&mut workers[1]), ["listen 1", "listen 2"]);
        assert!(listeners.apply(&[listener("b", "127.0.0.1:0"), listener("c", "[::1]:0")], |_| None));
        assert_eq!(listeners.report()[0], before[1]);
        assert_eq!(told(&mut workers[0]), ["listen 1", "listen 2", "unlisten 1", "listen 3"]);
    }

    #[test]
    fn another_name_leaves_the_sockets_alone() -> io::Result<()> {
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
        let (pool, mut workers) = Pool::new(1);
        let mut listeners = Listeners::new(pool);
        listeners.apply(&[listener("a", &port.to_string())], |_| None);
        told(&mut workers[0]);
        assert!(listeners.apply(&[listener("z", &port.to_string())], |_| None));
        assert!(told(&mut workers[0]).is_empty());
        assert_eq!(listeners.report()[0].name, "z");
        Ok(())
    }

    #[test]
    fn a_port_in_use_is_told_with_what_to_do_and_tried_again() -> io::Result<()> {
        let (pool, mut workers) = Pool::new(1);
        let mut listeners = Listeners::new(pool);
        let other = TcpListener::bind(("127.0.0.1", 0))?;
        let address = other.local_addr()?.to_string();
        assert!(!listeners.apply(&[listener("a", &address), listener("b", "127.0.0.1:0")], |_| None));
        assert_eq!(told(&mut workers[0]), ["listen 1"], "the other one works");
        let error = listeners.error().unwrap_or_default();
        assert!(
            error.starts_with(&format!("cannot listen on {address} (listener `a`): Address already in use")),
            "{error}"
        );
        assert!(error.contains("ss -ltnp"), "{error}");
        assert!(!listeners.retry());
        drop(other);
        assert!(listeners.retry());
        assert_eq!(told(&mut workers[0]), ["listen 2"]);
        Ok(())
    }
}
