//! What only the real process shows: signals, broken pipes, the environment, exit codes.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use sluicegate::admin::UnixSocket;
use sluicegate::api::{ConfigStatus, Port, Progress, Reply, Request, ServiceStatus, Status};
use sluicegate::model::Timestamp;
use tokio::sync::watch;

fn shop() -> ServiceStatus {
    ServiceStatus {
        name: "shop".into(),
        source: "/etc/sluice/shop.toml".into(),
        release: "v2".into(),
        change: 1,
        phase: "rolling".into(),
        reason: None,
        all_down: false,
        halt: None,
        tag: String::new(),
        waiting: 0,
        held: 0,
        held_in_vain: 0,
        rollout: None,
        versions: Vec::new(),
        nodes: Vec::new(),
        refused: Vec::new(),
        unsaved: None,
    }
}

fn status() -> Status {
    Status {
        schema: 1,
        sluice: "0.1.0".into(),
        pid: 1,
        started: Timestamp(0),
        now: Timestamp(1000),
        generation: 1,
        ready: true,
        load: sluicegate::api::Load::default(),
        config: ConfigStatus::default(),
        journal: None,
        certificates: sluicegate::api::CertificatesStatus::default(),
        listeners: Vec::new(),
        // Far more than a pipe holds.
        services: vec![shop(); 5000],
    }
}

/// An admin socket whose changes never end. Lives as long as the test process.
fn proxy(folder: &Path) -> PathBuf {
    let socket = UnixSocket::bind(&folder.join("s.sock")).unwrap();
    let path = socket.path().to_owned();
    let (started, start) = mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (port, mut calls) = Port::new(4);
            let (_ready, ready) = watch::channel(true);
            let moment = Progress { service: shop(), ended: None };
            let (_hold, progress) = watch::channel(moment);
            let control = async {
                while let Some(call) = calls.recv().await {
                    let reply = match call.request {
                        Request::Wait { .. } => Reply::Progress(progress.clone()),
                        Request::History { .. } => Reply::History(Vec::new()),
                        _ => Reply::Status(Box::new(status())),
                    };
                    let _ = call.reply.send(reply);
                }
            };
            started.send(()).unwrap();
            let _ = tokio::join!(socket.serve(port, ready), control);
        });
    });
    start.recv().unwrap();
    path
}

fn sluice(socket: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SLUICE_") {
            command.env_remove(name);
        }
    }
    command.args(args).env("SLUICE_SOCKET", socket).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn finish(mut child: Child) -> Output {
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > Duration::from_secs(30) {
            child.kill().unwrap();
            panic!("it did not end");
        }
        thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().unwrap()
}

#[test]
fn ctrl_c_stops_the_waiting_and_says_that_the_rollout_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = sluice(&proxy(folder.path()), &["wait", "shop"]).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert!(line.contains("rolling"), "{line}");
    let id = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    let ended = finish(child);
    assert_eq!(ended.status.code(), Some(130));
    let err = text(&ended.stderr);
    assert!(err.contains("the rollout goes on"), "{err}");
}

#[test]
fn a_reader_that_goes_away_makes_no_noise() {
    let folder = tempfile::tempdir().unwrap();
    let socket = proxy(folder.path());
    for args in [&["status"][..], &["status", "--json"], &["--help"], &["history", "shop"]] {
        let mut child = sluice(&socket, args).spawn().unwrap();
        let mut out = child.stdout.take().unwrap();
        let mut first = [0; 1];
        out.read_exact(&mut first).unwrap();
        drop(out);
        let ended = finish(child);
        assert_eq!(ended.status.code(), Some(0), "{args:?}");
        assert_eq!(text(&ended.stderr), "", "{args:?}");
    }
}

#[test]
fn flags_come_from_the_environment_too() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = sluice(&proxy(folder.path()), &["history"]);
    command.env("SLUICE_JSON", "1").env("SLUICE_SERVICE", "shop");
    let ended = finish(command.spawn().unwrap());
    assert_eq!(text(&ended.stdout), "[]\n");
    assert_eq!(ended.status.code(), Some(0));
}

#[test]
fn an_unknown_verb_is_exit_code_2_and_a_missing_proxy_1() {
    let nowhere = Path::new("/nowhere/s.sock");
    let ended = finish(sluice(nowhere, &["deplyo"]).spawn().unwrap());
    assert_eq!(ended.status.code(), Some(2));
    assert!(text(&ended.stderr).contains("'deploy'"));
    let ended = finish(sluice(nowhere, &["status"]).spawn().unwrap());
    assert_eq!(ended.status.code(), Some(1));
    assert!(text(&ended.stderr).contains("/nowhere/s.sock"));
}
