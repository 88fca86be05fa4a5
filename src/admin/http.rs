//! The listener over TCP, plain or with TLS.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio::time::sleep;

use super::endpoints::Needs;
use super::server::{Context, accept};
use crate::api::{Port, Problem};
use crate::config::{Admin, Protocol, Role, Token};
use crate::net::tls::Server;

/// Certificates are looked at this often.
pub(super) const RELOAD: Duration = Duration::from_millis(if cfg!(test) { 50 } else { 60_000 });

/// The listener over TCP, bound.
#[derive(Debug)]
pub struct Http {
    listener: TcpListener,
    /// Whether whoever shows nothing may look: nobody but this machine can ask.
    open: bool,
    tls: Option<Tls>,
    tokens: Arc<[Token]>,
}

/// How connections become safe.
#[derive(Clone, Debug)]
pub(super) struct Tls {
    server: Arc<ArcSwap<Server>>,
    /// What those may do who show a certificate.
    pub(super) role: Role,
}

impl Tls {
    /// What serves now.
    pub(super) fn server(&self) -> Arc<Server> {
        self.server.load_full()
    }
}

impl Http {
    /// Opens it, if it is configured. Blocks on the file system.
    ///
    /// # Errors
    /// The address cannot be bound, or other machines can reach it and tokens would cross the network in clear; the certificate or
    /// the key cannot be read.
    pub fn bind(admin: &Admin) -> io::Result<Option<Self>> {
        let Some(address) = admin.http else { return Ok(None) };
        let open = address.ip().to_canonical().is_loopback();
        let failed = |kind, why: String| io::Error::new(kind, format!("admin.http = {address}: {why}"));
        if !open && admin.tls.is_none() {
            let why = "only a loopback address (127.0.0.1, [::1]) is allowed without `[admin.tls]`";
            return Err(failed(io::ErrorKind::InvalidInput, why.into()));
        }
        let tls = admin.tls.as_ref().map(|tls| {
            let made = Server::load(&tls.server, &[Protocol::Http1], None);
            let server = made.server.ok_or_else(|| failed(io::ErrorKind::InvalidData, told(&made.problems)))?;
            Ok::<_, io::Error>(Tls { server: Arc::new(ArcSwap::new(server)), role: tls.client_role })
        });
        let listener = TcpListener::bind(address).map_err(|error| failed(error.kind(), error.to_string()))?;
        listener.set_nonblocking(true)?;
        Ok(Some(Self { listener, open, tls: tls.transpose()?, tokens: admin.tokens.clone().into() }))
    }

    /// What is shown to clients, as it is renewed; none without TLS.
    pub fn certificates(&self) -> Option<Arc<ArcSwap<Server>>> {
        self.tls.as_ref().map(|tls| Arc::clone(&tls.server))
    }

    /// Where it really listens.
    ///
    /// # Errors
    /// As the system says.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves on a thread of its own until the control plane ends: whoever floods it with handshakes takes no time from the control
    /// plane.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn serve_apart(self, port: Port, ready: watch::Receiver<bool>) -> io::Result<()> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let mut end = ready.clone();
        let serve = async move {
            tokio::select! {
                served = self.serve(port, ready) => if let Err(error) = served {
                    tracing::error!(%error, "the admin API over TCP has ended");
                },
                () = async { while end.changed().await.is_ok() {} } => {}
            }
        };
        thread::Builder::new().name("admin".into()).spawn(move || runtime.block_on(serve)).map(drop)
    }

    /// Serves until it is dropped, and lets those change something who may; must be polled inside a tokio runtime.
    ///
    /// # Errors
    /// As the system says.
    pub async fn serve(self, port: Port, ready: watch::Receiver<bool>) -> io::Result<()> {
        let listener = tokio::net::TcpListener::from_std(self.listener)?;
        let may = if self.open { Needs::Reading } else { Needs::Nothing };
        let context = Context::new(port, ready, may, self.tokens, self.tls.clone());
        tokio::select! {
            ended = accept(listener, context) => ended,
            () = keep_fresh(self.tls) => Ok(()),
        }
    }
}

/// Takes over certificates that were renewed, and revocations. A file that is bad changes nothing but the log.
async fn keep_fresh(tls: Option<Tls>) {
    let Some(tls) = tls else { return std::future::pending().await };
    let mut last = String::new();
    loop {
        sleep(RELOAD).await;
        let server = tls.server();
        let Ok(made) = tokio::task::spawn_blocking(move || server.reload()).await else { continue };
        if let Some(server) = made.server {
            tls.server.store(server);
        }
        let problems = told(&made.problems);
        if !problems.is_empty() && problems != last {
            tracing::warn!("admin.tls: {problems}; what was read before goes on serving");
        }
        last = problems;
    }
}

/// Problems with files, in one line.
fn told(problems: &[Problem]) -> String {
    let all: Vec<_> = problems.iter().map(|problem| problem.message.as_str()).collect();
    all.join("; ")
}
