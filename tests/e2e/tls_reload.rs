//! Certificates that are replaced while clients come: by the whole proxy, from files, as operators and their tools do it.

use std::fmt::Display;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use sluicegate::api::Status;
use sluicegate::app::{self, Running};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};
use tokio_rustls::rustls::HandshakeKind;
use tokio_rustls::rustls::version::TLS13;

use crate::support::PATIENCE;
use crate::support::client::Client;
use crate::support::node::TestNode;
use crate::support::tls::{Authority, Files, connect, listener, quoted, serial};

/// A whole proxy with its files.
pub struct Stage {
    pub folder: tempfile::TempDir,
    pub address: SocketAddr,
    proxy: Option<Running>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(proxy) = self.proxy.take() {
            let _ = proxy.stop();
        }
    }
}

/// A configuration with one node.
pub fn text(folder: &Path, node: impl Display, tls: &str, more: &str) -> String {
    let folder = folder.display();
    format!(
        "state_dir = \"{folder}/state\"\nworkers = 2\n[admin]\nsocket = \"{folder}/admin.sock\"\n\
         [shutdown]\nlinger = \"0s\"\ndeadline = \"1s\"\n\
         [[listener]]\nname = \"https\"\nbind = \"127.0.0.1:0\"\n{tls}\n\
         [service.app]\nmatch = \"*\"\nnodes = [\"{node}\"]\n{more}\n"
    )
}

impl Stage {
    /// Starts the proxy; returns when the node serves.
    pub async fn start(node: impl Display, tls: &str) -> Self {
        Self::start_with(node, tls, "").await
    }

    /// The same; `more` is TOML for the service.
    pub async fn start_with(node: impl Display, tls: &str, more: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("sluice.toml");
        fs::write(&config, text(folder.path(), node, tls, more)).expect("a configuration");
        let options = app::Options { config, socket: None, state_dir: None };
        let started = tokio::task::spawn_blocking(move || app::start(&options));
        let proxy = started.await.expect("no panic").expect("the proxy starts");
        let mut stage = Self { folder, address: ([127, 0, 0, 1], 0).into(), proxy: Some(proxy) };
        stage.address = stage.status().listeners[0].address.parse().expect("an address");
        stage.until("the node serves", |status| status.services[0].nodes[0].state.as_str() == "serving").await;
        stage
    }

    pub fn save(&self, text: &str) {
        let beside = self.folder.path().join("new");
        fs::write(&beside, text).expect("a file");
        fs::rename(beside, self.folder.path().join("sluice.toml")).expect("a file");
    }

    pub fn status(&self) -> Status {
        let socket = self.folder.path().join("admin.sock");
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
        let output = command.args(["status", "--json"]).env("SLUICE_SOCKET", socket).output().expect("the verb runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("a status")
    }

    pub async fn until(&self, what: &str, so: impl Fn(&Status) -> bool) -> Status {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let status = self.status();
            if so(&status) {
                return status;
            }
            assert!(tokio::time::Instant::now() < deadline, "not in time: {what}\n{:#?}", status.certificates);
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Puts a certificate and its key in place of others, one after the other, as tools do.
fn replace(new: &Files, old: &Files) {
    for (from, to) in [(&new.cert, &old.cert), (&new.key, &old.key)] {
        let beside = to.with_extension("new");
        fs::copy(from, &beside).expect("a file");
        fs::rename(&beside, to).expect("a file");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_swaps_under_load_fail_no_handshake_and_no_request() {
    let mut ca = Authority::new();
    let files = ca.issue("app", &["app.test"]);
    let versions: Vec<Files> = (0..8).map(|number| ca.issue(&format!("v{number}"), &["app.test"])).collect();
    let node = TestNode::answering("ok").await;
    let stage = Stage::start(node.address, &listener(&[&files], "")).await;
    let address = stage.address;
    let ended = Arc::new(AtomicBool::new(false));
    let (done, failed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    // Full handshakes, and sessions that are resumed again and again.
    let mut clients = Vec::new();
    for number in 0..4 {
        let shared = Arc::new(ca.client());
        let roots = ca.roots();
        let (ended, done, failed) = (Arc::clone(&ended), Arc::clone(&done), Arc::clone(&failed));
        clients.push(tokio::spawn(async move {
            let mut resumed = 0u64;
            while !ended.load(Ordering::SeqCst) {
                let config = if number % 2 == 0 {
                    Arc::clone(&shared)
                } else {
                    let builder = tokio_rustls::rustls::ClientConfig::builder_with_provider(Arc::new(
                        tokio_rustls::rustls::crypto::aws_lc_rs::default_provider(),
                    ));
                    let builder = builder.with_safe_default_protocol_versions().expect("versions");
                    Arc::new(builder.with_root_certificates(Arc::clone(&roots)).with_no_client_auth())
                };
                match connect(&config, address, "app.test").await {
                    Ok(stream) => {
                        let kind = stream.get_ref().1.handshake_kind();
                        resumed += u64::from(kind == Some(HandshakeKind::Resumed));
                        let response = Client::over(stream).get("/").await;
                        let counted = if response.status == 200 { &done } else { &failed };
                        counted.fetch_add(1, Ordering::SeqCst);
                    }
                    Err(error) => {
                        println!("failed: {error}");
                        failed.fetch_add(1, Ordering::SeqCst);
                    }
                }
            }
            resumed
        }));
    }
    for swap in 0..100 {
        replace(&versions[swap % versions.len()], &files);
        sleep(Duration::from_millis(20)).await;
    }
    // The last one serves in the end, and nothing is told as wrong.
    let last = Arc::new(ca.client());
    let wanted = versions[99 % versions.len()].serial;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let stream = connect(&last, address, "app.test").await.expect("a handshake");
        if serial(&stream) == wanted {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "the last certificate never came");
        sleep(Duration::from_millis(20)).await;
    }
    stage.until("no problem is left", |status| status.certificates.problems.is_empty()).await;
    ended.store(true, Ordering::SeqCst);
    let mut resumed = 0;
    for client in clients {
        resumed += client.await.expect("no panic");
    }
    println!("{} handshakes, {resumed} resumed", done.load(Ordering::SeqCst));
    assert_eq!(failed.load(Ordering::SeqCst), 0);
    assert!(done.load(Ordering::SeqCst) > 100, "hardly any load");
    assert!(resumed > 10, "a swap ends no session");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_pair_changes_nothing_and_is_told_until_it_is_mended() {
    let (mut ca, mut other) = (Authority::new(), Authority::new());
    let files = ca.issue("app", &["app.test"]);
    let good = ca.issue("good", &["app.test"]);
    let foreign = other.issue("foreign", &["app.test"]);
    let node = TestNode::answering("ok").await;
    let stage = Stage::start(node.address, &listener(&[&files], "")).await;
    let config = Arc::new(ca.client_with(&[&TLS13], None));
    let began = files.serial;
    for (name, words) in [("mismatch", "does not belong"), ("garbage", "no certificate"), ("gone", "cannot be read")] {
        match name {
            "mismatch" => drop(fs::copy(&foreign.key, &files.key).expect("a file")),
            "garbage" => fs::write(&files.cert, "nothing\n").expect("a file"),
            _ => fs::remove_file(&files.cert).expect("a file"),
        }
        let status = stage
            .until(name, |status| status.certificates.problems.iter().any(|problem| problem.message.contains(words)))
            .await;
        let problem = &status.certificates.problems[0];
        // Shown where the configuration names it.
        assert!(problem.line > 0 && problem.text.contains("certificates ="), "{problem:?}");
        assert_eq!(status.certificates.list[0].names, ["app.test"]);
        let stream = connect(&config, stage.address, "app.test").await.expect("a handshake");
        assert_eq!(serial(&stream), began, "{name}");
    }
    // An edit that has nothing to do with it is applied meanwhile.
    let edited = text(
        stage.folder.path(),
        node.address,
        &listener(&[&files], ""),
        "strip_prefix = true\nhealth = { interval = \"2s\" }",
    );
    let before = stage.status().config.loaded;
    stage.save(&edited);
    stage.until("the edit is applied", |status| status.config.loaded > before && !status.config.stale).await;
    let stream = connect(&config, stage.address, "app.test").await.expect("a handshake");
    assert_eq!(serial(&stream), began);
    replace(&good, &files);
    stage.until("it is mended", |status| status.certificates.problems.is_empty()).await;
    let stream = connect(&config, stage.address, "app.test").await.expect("a handshake");
    assert_eq!(serial(&stream), good.serial);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_whose_files_are_missing_is_refused_until_they_are_there() {
    let mut ca = Authority::new();
    let files = ca.issue("app", &["app.test"]);
    let second = ca.issue("second", &["second.test"]);
    let (cert, key) = (fs::read(&second.cert).expect("a file"), fs::read(&second.key).expect("a file"));
    fs::remove_file(&second.cert).expect("a file");
    fs::remove_file(&second.key).expect("a file");
    let node = TestNode::answering("ok").await;
    let stage = Stage::start(node.address, &listener(&[&files], "")).await;
    stage.save(&text(stage.folder.path(), node.address, &listener(&[&files, &second], ""), ""));
    let status = stage.until("it is refused", |status| status.config.stale).await;
    let problem = &status.config.problems[0];
    assert!(problem.message.contains("second.crt") && problem.message.contains("cannot be read"), "{problem:?}");
    let config = Arc::new(ca.client());
    connect(&config, stage.address, "app.test").await.expect("what was there goes on");
    fs::write(&second.key, key).expect("a file");
    fs::write(&second.cert, cert).expect("a file");
    stage.until("it is applied", |status| !status.config.stale).await;
    let stream = connect(&config, stage.address, "second.test").await.expect("a handshake");
    assert_eq!(serial(&stream), second.serial);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_added_to_a_folder_serves() {
    let mut ca = Authority::new();
    let first = ca.issue("first", &["first.test"]);
    let later = ca.issue("later", &["later.test"]);
    let folder = tempfile::tempdir().expect("a folder");
    let put = |files: &Files, below: &str, cert: &str, key: &str| {
        let target = folder.path().join(below);
        fs::create_dir_all(&target).expect("a folder");
        fs::copy(&files.key, target.join(key)).expect("a file");
        fs::copy(&files.cert, target.join(cert)).expect("a file");
    };
    put(&first, "", "first.pem", "first.key");
    let node = TestNode::answering("ok").await;
    let tls = format!("[listener.tls]\nstrict = true\ncertificates = [{}]", quoted(folder.path()));
    let stage = Stage::start(node.address, &tls).await;
    let config = Arc::new(ca.client());
    connect(&config, stage.address, "first.test").await.expect("a handshake");
    connect(&config, stage.address, "later.test").await.expect_err("not there yet");
    // As certbot does it: a folder for each.
    put(&later, "later.test", "fullchain.pem", "privkey.pem");
    stage.until("it is listed", |status| status.certificates.list.len() == 2).await;
    let stream = connect(&config, stage.address, "later.test").await.expect("a handshake");
    assert_eq!(serial(&stream), later.serial);
    // One bad pair holds back itself alone.
    fs::write(folder.path().join("bad.crt"), "x").expect("a file");
    fs::write(folder.path().join("bad.key"), "x").expect("a file");
    stage.until("it is told", |status| !status.certificates.problems.is_empty()).await;
    connect(&config, stage.address, "first.test").await.expect("a handshake");
    fs::remove_dir_all(folder.path().join("later.test")).expect("a folder");
    stage.until("it is gone", |status| status.certificates.list.len() == 1).await;
    connect(&config, stage.address, "later.test").await.expect_err("gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_revoked_is_out_and_no_session_brings_it_back() {
    let mut ca = Authority::new();
    let files = ca.issue("app", &["app.test"]);
    let (anna, bert) = (ca.issue("anna", &["anna.test"]), ca.issue("bert", &["bert.test"]));
    let list = ca.revoke("clients", &[999]);
    let auth = format!("client_auth = {{ ca = {}, crl = {} }}", quoted(&ca.path("ca.pem")), quoted(&list));
    let node = TestNode::answering("ok").await;
    let stage = Stage::start(node.address, &listener(&[&files], &auth)).await;
    let ask = async |config: &Arc<tokio_rustls::rustls::ClientConfig>| -> std::io::Result<Option<HandshakeKind>> {
        let mut stream = connect(config, stage.address, "app.test").await?;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: app.test\r\nconnection: close\r\n\r\n").await?;
        let mut answer = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("in time")?;
        assert!(answer.starts_with(b"HTTP/1.1 200"));
        Ok(stream.get_ref().1.handshake_kind())
    };
    let anna = Arc::new(ca.client_with(&[&TLS13], Some(&anna)));
    let bert_config = Arc::new(ca.client_with(&[&TLS13], Some(&bert)));
    for config in [&anna, &bert_config] {
        assert_eq!(ask(config).await.expect("let in"), Some(HandshakeKind::Full));
        assert_eq!(ask(config).await.expect("let in"), Some(HandshakeKind::Resumed));
    }
    ca.revoke("clients", &[999, bert.serial]);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while ask(&bert_config).await.is_ok() {
        assert!(tokio::time::Instant::now() < deadline, "still let in");
        sleep(Duration::from_millis(20)).await;
    }
    ask(&anna).await.expect("the others are let in");
}
