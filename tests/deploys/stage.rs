//! A proxy with its configuration file, the real verbs to ask it, and load on it.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustls::{ClientConfig, RootCertStore};
use sluicegate::api::{ServiceStatus, Status};
use sluicegate::app::{self, Running};
use sluicegate::cli::demo::{Kind, Ledger, Load, LoadOptions, Origin, OriginOptions, Tally};

/// Long enough for a loaded machine; a test that waits this long has failed.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// The `Host` of all requests.
pub const HOST: &str = "shop.example.com";

/// How often something is done: a few times, unless the environment asks for the full measure.
pub fn times(few: usize) -> usize {
    let asked = std::env::var("SLUICE_ROLLOUTS").ok();
    asked.map_or(few, |text| text.parse().expect("SLUICE_ROLLOUTS is a number"))
}

/// How a configuration is saved.
#[derive(Clone, Copy, Debug)]
pub enum Save {
    /// Beside the old one, then in its place.
    Rename,
    /// Over the old one, as most editors do: empty for a moment.
    InPlace,
}

/// A proxy and what belongs to it. Dropping it ends it.
pub struct Stage {
    pub config: PathBuf,
    pub target: SocketAddr,
    pub ledger: Ledger,
    /// Where HTTPS is spoken, and who trusts the certificate there.
    pub secure: Option<(SocketAddr, Arc<ClientConfig>)>,
    proxy: Option<Running>,
    folder: tempfile::TempDir,
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(proxy) = self.proxy.take() {
            let ended = proxy.stop();
            // A second panic would hide the first.
            if !std::thread::panicking() {
                ended.expect("the proxy ends in order");
            }
        }
    }
}

impl Stage {
    /// An empty folder: nodes first.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("sluice.toml");
        let target = ([127, 0, 0, 1], 0).into();
        Self { config, target, ledger: Ledger::new(), secure: None, proxy: None, folder }
    }

    /// A listener for HTTPS as well, with HTTP/2.
    pub fn with_https(mut self) -> Self {
        let made = rcgen::generate_simple_self_signed([HOST.to_owned()]).expect("a certificate");
        fs::write(self.file("cert.pem"), made.cert.pem()).expect("a file");
        fs::write(self.file("key.pem"), made.signing_key.serialize_pem()).expect("a file");
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).expect("a root");
        let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        self.secure = Some((self.target, Arc::new(client)));
        self
    }

    /// Starts the proxy with one service, `shop`; `service` is TOML for it. Returns when all its nodes serve.
    pub fn run(&mut self, service: &str) {
        self.save(service, Save::Rename);
        let options = app::Options { config: self.config.clone(), socket: None, state_dir: None };
        self.proxy = Some(app::start(&options).expect("the proxy starts"));
        let listeners = self.status().listeners;
        let address = |at: usize| listeners[at].address.parse().expect("an address");
        self.target = address(0);
        if let Some((secure, _)) = &mut self.secure {
            *secure = address(1);
        }
        self.until("all nodes serve", |shop| states(shop).iter().all(|(_, state)| state == "serving"));
    }

    /// A file of this test.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Asks for another service, as an operator does.
    pub fn save(&self, service: &str, how: Save) {
        let text = text(self.folder.path(), self.secure.is_some(), service);
        match how {
            Save::InPlace => fs::write(&self.config, text).expect("a configuration"),
            Save::Rename => {
                let beside = self.file("sluice.toml.new");
                fs::write(&beside, text).expect("a configuration");
                fs::rename(beside, &self.config).expect("a configuration");
            }
        }
    }

    /// Runs a verb to its end.
    pub fn sluice(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SLUICE_") {
                command.env_remove(name);
            }
        }
        let socket = self.file("admin.sock");
        command.args(arguments).env("SLUICE_SOCKET", socket).stdin(Stdio::null()).output().expect("the verb runs")
    }

    /// What `sluice status --json` tells.
    pub fn status(&self) -> Status {
        let output = self.sluice(&["status", "--json"]);
        assert_eq!(output.status.code(), Some(0), "{}", told(&output));
        serde_json::from_slice(&output.stdout).expect("a status")
    }

    /// The service.
    pub fn shop(&self) -> ServiceStatus {
        self.status().services.into_iter().find(|service| service.name.as_str() == "shop").expect("the service")
    }

    /// Waits until the service is so.
    pub fn until(&self, what: &str, so: impl Fn(&ServiceStatus) -> bool) -> ServiceStatus {
        let begun = Instant::now();
        loop {
            let shop = self.shop();
            if so(&shop) {
                return shop;
            }
            assert!(begun.elapsed() < PATIENCE, "not in time: {what}\n{shop:#?}");
            sleep(Duration::from_millis(20));
        }
    }

    /// Begins mixed load.
    pub fn load(&self, rate: f64, change: impl FnOnce(&mut LoadOptions)) -> Load {
        let mut options = LoadOptions::mixed(self.target, HOST, rate, fastrand::u64(..));
        // Two loaded cores are shared by everything; what is shown here is whether answers come, not how soon.
        options.timeout = Duration::from_secs(20);
        change(&mut options);
        Load::start(options).expect("load")
    }

    /// Starts an origin that shares the stage's ledger.
    pub fn origin(&self, version: &str, change: impl FnOnce(&mut OriginOptions)) -> Origin {
        let mut options = OriginOptions::new(version, &self.ledger);
        change(&mut options);
        Origin::start(options).expect("a node")
    }
}

/// The whole configuration.
fn text(folder: &std::path::Path, secure: bool, service: &str) -> String {
    let folder = folder.display();
    let https = r#"
[[listener]]
name = "https"
bind = "127.0.0.1:0"
protocols = ["h2", "http/1.1"]
tls = { certificates = [{ cert = "cert.pem", key = "key.pem" }] }
"#;
    let https = if secure { https } else { "" };
    format!(
        r#"state_dir = "{folder}/state"
workers = 2

[admin]
socket = "{folder}/admin.sock"

[[listener]]
name = "http"
bind = "127.0.0.1:0"
{https}
[service.shop]
match = "*"
{service}"#
    )
}

/// What a verb wrote.
pub fn told(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Addresses as TOML.
pub fn list<'a>(nodes: impl IntoIterator<Item = &'a SocketAddr>) -> String {
    let mut text = String::from("[");
    for node in nodes {
        let _ = write!(text, "\"{node}\", ");
    }
    text.push(']');
    text
}

/// The nodes and the words for their states.
pub fn states(shop: &ServiceStatus) -> Vec<(String, String)> {
    shop.nodes.iter().map(|node| (node.address.to_string(), node.state.to_string())).collect()
}

/// The state of one node.
pub fn state(shop: &ServiceStatus, node: SocketAddr) -> String {
    let address = node.to_string();
    let found = states(shop).into_iter().find(|(node, _)| *node == address);
    found.map_or_else(|| "gone".into(), |(_, state)| state)
}

/// Waits until this much more was begun.
pub fn more(load: &Load, requests: u64) {
    let (begun, before) = (Instant::now(), load.tally().started_total());
    while load.tally().started_total() < before + requests {
        assert!(begun.elapsed() < PATIENCE, "the load stands still");
        sleep(Duration::from_millis(10));
    }
}

/// Ends load and waits for what is in flight.
pub fn stop(load: Load) -> Tally {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(load.stop())
}

/// Begun and failed, by kind.
pub fn summary(tally: &Tally) -> String {
    let mut text = format!("{} requests, {} failed:", tally.started_total(), tally.failures());
    for kind in Kind::ALL {
        let counted = &tally.kinds[&kind];
        let _ = write!(text, " {kind} {}", counted.started);
        if counted.failures() > 0 {
            let _ = write!(text, " ({:?})", counted.failed);
        }
    }
    let p99 = Duration::from_micros(tally.short().value_at_quantile(0.99));
    let _ = write!(
        text,
        "; {} messages, {} events, {} restarts, {} connections, p99 {p99:.1?}",
        tally.messages, tally.events, tally.restarts, tally.connections
    );
    text
}
