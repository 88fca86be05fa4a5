//! Verbs, from their arguments to output and exit code, against a made-up control plane behind a real socket.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{CommandFactory, Parser};
use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::admin::fake::{Fake, endless, entry, moment, node, progress, refused, service, status};
use crate::api::{ConfigStatus, CutNode, Outcome, Problem, Progress, RefusalKind, Reply, Request};
use crate::model::{Holder, NodeState, WorkKind};

const FILE: &str = "# shop\n[service.shop]\nmatch = \"*\"\nrelease = \"v1\" # now\n\n[service.shop.versions]\nv1 = [\"10.0.0.5:5001\"]\n";

struct Ran {
    code: u8,
    out: String,
    err: String,
}

fn nowhere() -> Environment {
    Environment { variable: Box::new(|_| None), root: false, exists: Box::new(|_| false) }
}

fn run_on(socket: &Path, args: &[&str], terminal: Option<Terminal>) -> Ran {
    let mut line = vec!["sluice", "--socket", socket.to_str().unwrap()];
    line.extend(args);
    let cli = Cli::try_parse_from(line).unwrap();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let screen = Screen::new(&mut out, &mut err, false, terminal);
    let code = execute(cli, screen, &nowhere());
    Ran { code, out: String::from_utf8(out).unwrap(), err: String::from_utf8(err).unwrap() }
}

/// A configuration file that the proxy names as the source of `shop`, and what `Wait` is answered.
struct Scene {
    _folder: TempDir,
    file: PathBuf,
    fake: Fake,
}

impl Scene {
    fn new(wait: impl FnMut(&Path) -> Reply + Send + 'static) -> Self {
        Self::with(FILE, wait)
    }

    fn with(text: &str, mut wait: impl FnMut(&Path) -> Reply + Send + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("shop.toml");
        fs::write(&file, text).unwrap();
        let source = file.clone();
        let fake = Fake::start(folder.path(), move |request| match request {
            Request::Status { service: Some(name) } if name.as_str() != "shop" => {
                refused(RefusalKind::NotFound, &format!("there is no service `{name}`"))
            }
            Request::Status { .. } => Reply::Status(Box::new(status(vec![service("shop", &source)]))),
            Request::Reload => Reply::Config(ConfigStatus::default()),
            Request::History { .. } => Reply::History(vec![
                entry("v1", "v2", &["10.0.0.5:5002"], Outcome::Unhealthy),
                entry("v0", "v1", &["10.0.0.5:5001"], Outcome::Done),
                entry("v9", "v0", &["10.0.0.5:5000"], Outcome::Done),
            ]),
            Request::Wait { .. } | Request::Drain { .. } => wait(&source),
        });
        Self { _folder: folder, file, fake }
    }

    fn ending(outcome: Outcome, message: &'static str) -> Self {
        Self::new(move |source| ends(source, outcome, message))
    }

    fn run(&self, args: &[&str]) -> Ran {
        run_on(&self.fake.socket, args, None)
    }

    fn deploy(&self, more: &[&str]) -> Ran {
        let mut args = vec!["deploy", "shop", "--version", "v2", "--node", "10.0.0.5:5002"];
        args.extend(more);
        self.run(&args)
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.file).unwrap()
    }

    fn asked_to_wait(&self) -> Vec<Option<String>> {
        let asked = self.fake.asked().into_iter();
        asked
            .filter_map(|request| match request {
                Request::Wait { version, .. } => Some(version.map(|version| version.to_string())),
                _ => None,
            })
            .collect()
    }
}

fn ends(source: &Path, outcome: Outcome, message: &str) -> Reply {
    let shop = service("shop", source);
    let mut settled = shop.clone();
    settled.phase = "settled".into();
    settled.reason = None;
    settled.nodes[2].state = NodeState::Serving;
    progress(vec![moment(shop, None), moment(settled, Some((outcome, message)))])
}

#[test]
fn status_shows_what_runs() {
    let scene = Scene::ending(Outcome::Done, "");
    let ran = scene.run(&["status"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    for part in [
        "sluice 0.1.0 pid",
        "up 1h, ready",
        "loaded 1m ago",
        "shop  rolling  v1 → v2, rolling, 1 of 2 new nodes serve, for 30s",
        "v1  ██████████░░░░░░░░░░  50%  1/2 nodes  100 requests  1 failed",
        "10.0.0.6:5002  v2  joining  12s ago  3 in flight  passed 2 probes",
    ] {
        assert!(ran.out.contains(part), "{part}\n{}", ran.out);
    }
    assert!(!ran.out.contains('\x1b'));

    let ran = scene.run(&["status", "shop", "--json"]);
    let json: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(json["services"][0]["name"], "shop");
    assert_eq!(ran.out.lines().count(), 1);
}

#[test]
fn status_says_why_the_file_is_not_what_runs_and_what_holds_a_node() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::start(folder.path(), |_| {
        let mut shop = service("shop", Path::new("/s.toml"));
        let mut draining = node("v1", "10.0.0.9:1", NodeState::Draining);
        draining.holders.push(Holder {
            kind: WorkKind::WebSocket,
            method: "GET".into(),
            path: "/chat".into(),
            client: "192.0.2.1".into(),
            age_ms: 190_000,
        });
        shop.nodes.push(draining);
        shop.all_down = true;
        let mut all = status(vec![shop]);
        all.config.stale = true;
        all.config.problems.push(Problem {
            path: "/s.toml".into(),
            line: 3,
            column: 5,
            text: "    x = 1".into(),
            width: 1,
            message: "unknown key `x`".into(),
            hint: Some("did you mean `y`?".into()),
        });
        Reply::Status(Box::new(all))
    });
    let out = run_on(&fake.socket, &["status"], None).out;
    for part in [
        "STALE",
        "/s.toml:3:5: unknown key `x`\n          x = 1\n          ^\n      hint: did you mean `y`?",
        "held by websocket GET /chat from 192.0.2.1, for 3m 10s",
        "every node is unhealthy",
    ] {
        assert!(out.contains(part), "{part}\n{out}");
    }
}

#[test]
fn status_ready_is_an_exit_code_and_nothing_else() {
    let scene = Scene::ending(Outcome::Done, "");
    let quiet = |ran: Ran| (ran.code, ran.out + &ran.err);
    assert_eq!(quiet(scene.run(&["status", "--ready"])), (0, String::new()));
    scene.fake.ready.send(false).unwrap();
    assert_eq!(quiet(scene.run(&["status", "--ready"])), (1, String::new()));
    let gone = run_on(Path::new("/nowhere/s.sock"), &["status", "--ready"], None);
    assert_eq!(quiet(gone), (1, String::new()));
}

#[test]
fn an_unknown_service_is_exit_code_2() {
    let scene = Scene::ending(Outcome::Done, "");
    let ran = scene.run(&["status", "shp"]);
    assert_eq!((ran.code, ran.out.as_str()), (2, ""));
    assert_eq!(ran.err, "error: there is no service `shp`\n");
    let ran = scene.run(&["deploy", "shp", "--version", "v2", "--json"]);
    assert_eq!(ran.code, 2);
    let json: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(json["error"]["kind"], "not-found");
    assert_eq!(scene.text(), FILE);
}

#[test]
fn deploy_edits_the_file_waits_and_shows_each_change_once() {
    let scene = Scene::ending(Outcome::Done, "v2 serves; the nodes of v1 may be stopped");
    let ran = scene.deploy(&[]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    let edited = FILE.replace("\"v1\" # now", "\"v2\" # now") + "v2 = [\"10.0.0.5:5002\"]\n";
    assert_eq!(scene.text(), edited);
    assert_eq!(scene.asked_to_wait(), [Some("v2".to_owned())]);
    for part in [
        "  -release = \"v1\" # now",
        "  +release = \"v2\" # now",
        "  +v2 = [\"10.0.0.5:5002\"]",
        "rolling: 1 of 2 nodes of v2 serve",
        "node 10.0.0.6:5002 (v2) joining: passed 2 probes",
        "node 10.0.0.6:5002 (v2) serving: passed 2 probes",
    ] {
        assert_eq!(ran.out.matches(part).count(), 1, "{part}\n{}", ran.out);
    }
    assert!(ran.out.ends_with("v2 serves; the nodes of v1 may be stopped\n"));
}

#[test]
fn a_refused_or_rolled_back_version_is_taken_out_of_the_file() {
    for (outcome, code) in [(Outcome::Unhealthy, 3), (Outcome::RolledBack, 4)] {
        let scene = Scene::ending(outcome, "v2 never answered");
        let ran = scene.deploy(&[]);
        assert_eq!(ran.code, code);
        assert_eq!(scene.text(), FILE);
        assert!(ran.err.contains("error: v2 never answered"), "{}", ran.err);
        assert!(ran.err.contains("is put back as it was"), "{}", ran.err);
        assert_eq!(scene.fake.asked().last(), Some(&Request::Reload));
    }
}

#[test]
fn somebody_elses_edit_is_not_undone() {
    let scene = Scene::new(|source| {
        fs::write(source, "# mine\n").unwrap();
        ends(source, Outcome::Unhealthy, "no")
    });
    let ran = scene.deploy(&[]);
    assert_eq!(ran.code, 3);
    assert_eq!(scene.text(), "# mine\n");
    assert!(ran.err.contains("changed by somebody else"), "{}", ran.err);
}

#[test]
fn another_service_in_the_same_file_keeps_its_edit() {
    const BLOG: &str = "\n[service.blog]\nnodes = [\"b:1\"]\n";
    let scene = Scene::new(|source| {
        let text = fs::read_to_string(source).unwrap();
        fs::write(source, text + BLOG).unwrap();
        ends(source, Outcome::Unhealthy, "no")
    });
    let ran = scene.deploy(&[]);
    assert_eq!(ran.code, 3);
    assert_eq!(scene.text(), format!("{FILE}v2 = [\"10.0.0.5:5002\"]\n{BLOG}"));
    assert!(ran.err.contains("only service `shop` is put back"), "{}", ran.err);
    assert_eq!(scene.fake.asked().last(), Some(&Request::Reload));
}

#[test]
fn what_comes_from_a_node_cannot_move_the_cursor() {
    let scene = Scene::new(|source| {
        let mut shop = service("shop", source);
        shop.nodes[2].reason = "answered 500: \x1b[2J\u{9b}2J".into();
        shop.reason = Some("\x1b]0;owned\x07".into());
        progress(vec![moment(shop, Some((Outcome::Unhealthy, "probe said \x1b[31mno\nsecond line")))])
    });
    let socket = scene.fake.socket.to_str().unwrap();
    let cli = Cli::try_parse_from(["sluice", "--socket", socket, "wait", "shop"]).unwrap();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    // With colours, so that nothing is taken out on the way.
    let screen = Screen::new(&mut out, &mut err, true, None);
    assert_eq!(execute(cli, screen, &nowhere()), 3);
    let (out, err) = (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap());
    assert!(out.contains("answered 500: \u{fffd}[2J\u{fffd}2J"), "{out:?}");
    assert!(!out.contains("\x1b]") && !out.contains('\x07'), "{out:?}");
    assert_eq!(err, "error: probe said \u{fffd}[31mno\nsecond line\n");
}

#[test]
fn a_reader_that_goes_away_does_not_keep_the_file_from_being_put_back() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }
    let scene = Scene::ending(Outcome::Unhealthy, "no");
    let socket = scene.fake.socket.to_str().unwrap();
    let line = ["sluice", "--socket", socket, "deploy", "shop", "--version", "v2", "--node", "a:1"];
    let (mut out, mut err) = (Closed, Closed);
    let screen = Screen::new(&mut out, &mut err, false, None);
    let code = execute(Cli::try_parse_from(line).unwrap(), screen, &nowhere());
    assert_eq!(code, 3);
    assert_eq!(scene.text(), FILE);
}

#[test]
fn a_configuration_that_the_proxy_does_not_take_is_put_back() {
    let scene = Scene::new(|_| refused(RefusalKind::InvalidConfig, "shop.toml:4:1: no"));
    let ran = scene.deploy(&[]);
    assert_eq!(ran.code, 2);
    assert_eq!(scene.text(), FILE);
    assert!(ran.err.contains("shop.toml:4:1: no") && ran.err.contains("put back"), "{}", ran.err);
}

#[test]
fn what_a_newer_change_took_over_is_left() {
    let by_outcome = Scene::ending(Outcome::Superseded, "v3 took over");
    let by_refusal = Scene::new(|_| refused(RefusalKind::Superseded, "v3 is wanted"));
    for scene in [by_outcome, by_refusal] {
        assert_eq!(scene.deploy(&[]).code, 5);
        assert!(scene.text().contains("v2"));
    }
}

#[test]
fn what_a_drain_deadline_cut_is_listed() {
    let scene = Scene::new(|source| {
        let mut last = moment(service("shop", source), Some((Outcome::DoneWithCuts, "done, but work was cut")));
        let mut done = entry("v1", "v2", &[], Outcome::DoneWithCuts);
        done.cut.push(CutNode {
            address: "10.0.0.5:5001".into(),
            version: "v1".into(),
            work: vec![Holder {
                kind: WorkKind::Request,
                method: "GET".into(),
                path: "/big".into(),
                client: "192.0.2.1".into(),
                age_ms: 30_000,
            }],
        });
        last.ended.as_mut().unwrap().entry = Some(done);
        progress(vec![last])
    });
    let ran = scene.deploy(&[]);
    assert_eq!(ran.code, 6);
    assert!(ran.err.contains("cut on 10.0.0.5:5001: request GET /big"), "{}", ran.err);
}

#[test]
fn a_timeout_leaves_the_rollout_going_and_says_how_to_follow_it() {
    let scene = Scene::new(|source| endless(moment(service("shop", source), None)));
    let ran = scene.deploy(&["--timeout", "300ms"]);
    assert_eq!(ran.code, 7);
    assert!(scene.text().contains("v2"));
    assert!(ran.err.contains("the rollout goes on") && ran.err.contains("`sluice wait shop`"), "{}", ran.err);

    let ran = scene.run(&["wait", "shop", "--timeout", "300ms", "--json"]);
    assert_eq!(ran.code, 7);
    let last: Progress = serde_json::from_str(ran.out.lines().last().unwrap()).unwrap();
    assert_eq!(last.ended.map(|end| end.outcome), Some(Outcome::TimedOut));
}

#[test]
fn a_proxy_that_goes_in_the_middle_is_exit_code_1_and_the_file_stays() {
    let scene = Scene::new(|source| progress(vec![moment(service("shop", source), None)]));
    let ran = scene.deploy(&[]);
    assert_eq!(ran.code, 1);
    assert!(scene.text().contains("v2"));
    assert!(ran.err.contains("keeps the edit"), "{}", ran.err);
}

#[test]
fn a_second_deploy_of_the_same_changes_nothing_and_waits() {
    let scene = Scene::ending(Outcome::Done, "v2 serves");
    scene.deploy(&[]);
    let once = scene.text();
    let ran = scene.deploy(&[]);
    assert_eq!(ran.code, 0);
    assert_eq!(scene.text(), once);
    assert!(ran.out.contains("nothing to change"), "{}", ran.out);
    assert_eq!(scene.asked_to_wait().len(), 2);
}

#[test]
fn the_short_form_is_deployed_without_a_version() {
    let text = "[service.shop]\nmatch = \"*\"\nnodes = [\"a:1\"]\n";
    let scene = Scene::with(text, |source| ends(source, Outcome::Done, "done"));
    let ran = scene.run(&["deploy", "shop", "--node", "b:1,b:2"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert_eq!(scene.text(), text.replace("\"a:1\"", "\"b:1\", \"b:2\""));
    assert_eq!(scene.asked_to_wait(), [None]);
    let ran = scene.deploy(&[]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("leave --version out"), "{}", ran.err);
}

#[test]
fn another_file_can_be_named() {
    let scene = Scene::ending(Outcome::Done, "done");
    let other = scene.file.with_file_name("other.toml");
    fs::write(&other, FILE).unwrap();
    let ran = scene.deploy(&["--config", other.to_str().unwrap()]);
    assert_eq!(ran.code, 0);
    assert_eq!(scene.text(), FILE);
    assert!(fs::read_to_string(other).unwrap().contains("v2"));
    let ran = scene.deploy(&["--config", "/nowhere/x.toml"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("/nowhere/x.toml"), "{}", ran.err);
}

#[test]
fn deploys_at_once_lose_no_edit() {
    let scene = Scene::ending(Outcome::Done, "done");
    std::thread::scope(|scope| {
        for n in 0..4 {
            let scene = &scene;
            scope.spawn(move || {
                let version = format!("w{n}");
                let ran = scene.run(&["deploy", "shop", "--version", &version, "--node", "a:1"]);
                assert_eq!(ran.code, 0, "{}", ran.err);
            });
        }
    });
    let text = scene.text();
    assert!((0..4).all(|n| text.contains(&format!("w{n} = [\"a:1\"]\n"))), "{text}");
}

#[test]
fn rollback_goes_to_the_newest_other_version_that_served() {
    let scene = Scene::ending(Outcome::Done, "v0 serves");
    let ran = scene.run(&["rollback", "shop"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert!(ran.out.starts_with("going back to v0\n"), "{}", ran.out);
    let edited = FILE.replace("\"v1\" # now", "\"v0\" # now") + "v0 = [\"10.0.0.5:5000\"]\n";
    assert_eq!(scene.text(), edited);
    assert_eq!(scene.asked_to_wait(), [Some("v0".to_owned())]);
    let ran = scene.run(&["rollback", "shop", "--to", "v7"]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("neither in the file nor known to have served"), "{}", ran.err);
}

#[test]
fn history_is_a_table_or_json() {
    let scene = Scene::ending(Outcome::Done, "");
    let ran = scene.run(&["history", "shop", "--limit", "2"]);
    let lines: Vec<&str> = ran.out.lines().collect();
    assert_eq!((ran.code, lines.len()), (0, 3));
    assert!(lines[0].starts_with("WHEN") && lines[1].contains("unhealthy"), "{}", ran.out);
    let ran = scene.run(&["history", "shop", "--json"]);
    let json: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(json.as_array().map(Vec::len), Some(3));
}

#[test]
fn drain_names_the_node_and_ends_when_it_is_empty() {
    let scene = Scene::ending(Outcome::Done, "10.0.0.5:5001 may be stopped");
    let ran = scene.run(&["drain", "shop", "10.0.0.5:5001", "--undo"]);
    assert_eq!(ran.code, 0);
    let wanted = Request::Drain { service: "shop".into(), node: "10.0.0.5:5001".into(), undo: true };
    assert_eq!(scene.fake.asked(), [wanted]);
    let scene = Scene::new(|_| refused(RefusalKind::Conflict, "it is the last node"));
    assert_eq!(scene.run(&["drain", "shop", "10.0.0.5:5001"]).code, 2);
}

#[test]
fn json_lines_end_with_the_end() {
    let scene = Scene::ending(Outcome::Unhealthy, "no");
    let ran = scene.deploy(&["--json"]);
    assert_eq!(ran.code, 3);
    let lines: Vec<Progress> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (last, before) = lines.split_last().unwrap();
    assert_eq!(last.ended.as_ref().map(|end| end.outcome), Some(Outcome::Unhealthy));
    assert!(before.iter().all(|line| line.ended.is_none()));
}

#[test]
fn a_terminal_gets_one_view_that_is_drawn_again() {
    let scene = Scene::ending(Outcome::Done, "v2 serves");
    let terminal = Terminal { width: 60, height: 20 };
    let ran = run_on(&scene.fake.socket, &["wait", "shop"], Some(terminal));
    assert_eq!(ran.code, 0);
    assert!(ran.out.contains("A\x1b[J"), "{:?}", ran.out);
    assert!(ran.out.contains("Ctrl-C stops the waiting"), "{}", ran.out);
    assert!(ran.out.ends_with("v2 serves\n"));
    assert!(ran.out.lines().all(|line| screen::width(line) <= 60), "{}", ran.out);
}

#[test]
fn a_proxy_that_is_not_there_is_exit_code_1_with_the_socket_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("s.sock");
    let dead = folder.path().join("dead.sock");
    drop(UnixListener::bind(&dead).unwrap());
    for socket in [missing, dead] {
        let ran = run_on(&socket, &["status"], None);
        assert_eq!((ran.code, ran.out.as_str()), (1, ""));
        for part in [socket.to_str().unwrap(), "is `sluice run` running?", "--socket"] {
            assert!(ran.err.contains(part), "{}", ran.err);
        }
        let ran = run_on(&socket, &["wait", "shop", "--json"], None);
        assert_eq!(ran.code, 1);
        let json: Value = serde_json::from_str(&ran.out).unwrap();
        assert_eq!(json["error"]["kind"], "unreachable");
    }
}

/// Accepts one connection, reads a request head, and says this; then keeps the connection open until the client goes.
fn speaker(folder: &Path, says: &'static [u8]) -> PathBuf {
    let path = folder.join("speaker.sock");
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut line = String::new();
                while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                    line.clear();
                }
                let _ = stream.write_all(says);
                while reader.read_line(&mut line).is_ok_and(|read| read > 0) {}
            });
        }
    });
    path
}

#[test]
fn an_answer_that_is_not_http_or_not_ours_is_exit_code_1() {
    for (says, part) in [
        (&b"220 smtp ready\r\n\r\n"[..], "the connection to the proxy broke"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "of another version"),
        (b"HTTP/1.1 500 X\r\nContent-Length: 4\r\n\r\noops", "oops"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let socket = speaker(folder.path(), says);
        let ran = run_on(&socket, &["status"], None);
        assert_eq!(ran.code, 1);
        assert!(ran.err.contains(part), "{part}: {}", ran.err);
    }
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_answers_nothing_is_given_up_after_five_seconds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.sock");
    // The kernel accepts into the queue; nobody ever takes it out.
    let _listener = UnixListener::bind(&path).unwrap();
    let begun = tokio::time::Instant::now();
    let client = Client::new(path);
    let failure = client.get_text("/v1/status").await.unwrap_err();
    assert_eq!(failure.code, 1);
    assert!(failure.message.contains("nothing answered within 5 s"), "{}", failure.message);
    assert_eq!(begun.elapsed().as_secs(), 5);
    let failure = client.stream("/v1/services/shop/wait").await.unwrap_err();
    assert_eq!((failure.code, begun.elapsed().as_secs()), (1, 10));
}

#[tokio::test]
async fn a_stream_that_falls_silent_is_given_up_after_fifteen_seconds() {
    let folder = tempfile::tempdir().unwrap();
    let socket = speaker(folder.path(), b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{}\n\n\r\n");
    let client = Client::new(socket);
    // `stream` asks for /healthz first, which would wait for the end of this body.
    let mut lines = client.open("/v1/services/shop/wait").await.unwrap();
    assert_eq!(lines.next().await.unwrap().as_deref(), Some("{}"));
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    // Cancelled again and again, as a view that redraws itself does: the deadline must not begin anew.
    let failure = loop {
        match tokio::time::timeout(Duration::from_secs(1), lines.next()).await {
            Ok(result) => break result.unwrap_err(),
            Err(_) => assert!(begun.elapsed().as_secs() < 20),
        }
    };
    assert_eq!(failure.code, 1);
    assert!(failure.message.contains("nothing was heard"), "{}", failure.message);
}

#[test]
fn every_verb_has_an_example_and_every_flag_a_variable() {
    let command = Cli::command();
    let names: Vec<_> = command.get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
    assert_eq!(names, ["run", "demo", "check", "status", "deploy", "wait", "rollback", "history", "drain"]);
    for verb in command.get_subcommands() {
        let after = verb.get_after_help().unwrap().to_string();
        let last = after.lines().last().unwrap();
        assert!(last.starts_with("Example: "), "{}", verb.get_name());
        assert!(last.contains(&format!("sluice {}", verb.get_name())), "{last}");
        for argument in verb.get_arguments() {
            let variable = argument.get_env().and_then(|name| name.to_str());
            assert!(
                variable.is_some_and(|name| name.starts_with("SLUICE_")),
                "{} {}",
                verb.get_name(),
                argument.get_id()
            );
        }
    }
    command.debug_assert();
}

#[test]
fn examples_can_be_run_as_they_stand() {
    for verb in Cli::command().get_subcommands() {
        let after = verb.get_after_help().unwrap().to_string();
        let example = after.lines().last().unwrap().trim_start_matches("Example: ");
        let line = example.rsplit("&& ").next().unwrap().split(' ');
        assert!(Cli::try_parse_from(line).is_ok(), "{example}");
    }
}

#[test]
fn a_wrong_command_line_is_exit_code_2_with_a_suggestion() {
    let error = Cli::try_parse_from(["sluice", "stauts"]).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("'status'"), "{error}");
    let error = Cli::try_parse_from(["sluice", "wait", "shop", "--timeout", "30"]).unwrap_err();
    assert!(error.to_string().contains("write `30s`"), "{error}");
    assert_eq!(error.exit_code(), 2);
}

#[test]
fn check_and_run_without_any_configuration_say_where_they_looked() {
    for verb in ["check", "run"] {
        let cli = Cli::try_parse_from(["sluice", verb]).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = execute(cli, Screen::new(&mut out, &mut err, false, None), &nowhere());
        assert_eq!(code, 2);
        let err = String::from_utf8(err).unwrap();
        assert!(err.contains("/etc/sluice/sluice.toml"), "{err}");
    }
}
