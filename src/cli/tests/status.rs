//! Reports: status, history, drain, and how progress looks.

use super::*;

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
fn the_short_form_shows_no_names_that_it_does_not_have() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::start(folder.path(), |request| {
        if matches!(request, Request::History { .. }) {
            return Reply::History(vec![entry("-", "-", &["a:1", "b:1"], Outcome::Done)]);
        }
        let mut shop = service("shop", Path::new("/s.toml"));
        shop.versions.truncate(1);
        shop.versions[0].version = "-".into();
        let rollout = shop.rollout.as_mut().unwrap();
        (rollout.from, rollout.to) = (Some("-".into()), "-".into());
        Reply::Status(Box::new(status(vec![shop])))
    });
    let out = run_on(&fake.socket, &["status"], None).out;
    assert!(out.contains("shop  rolling  rolling, 1 of 2 new nodes serve"), "{out}");
    let out = run_on(&fake.socket, &["history", "shop"], None).out;
    assert!(out.contains("2 nodes  rolling"), "{out}");
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

#[tokio::test]
async fn watching_into_a_pipe_tells_what_changes_and_nothing_twice() {
    let folder = tempfile::tempdir().unwrap();
    let (stop, looks) = (std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0)), 4);
    let seen = stop.clone();
    let fake = Fake::start(folder.path(), move |_| {
        let look = seen.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut shop = service("shop", Path::new("/s.toml"));
        shop.nodes[0].requests += look;
        shop.versions[0].requests += look;
        if look >= 2 {
            shop.nodes[2].state = NodeState::Serving;
        }
        let mut all = status(vec![shop]);
        all.now = crate::model::Timestamp(all.now.0 + look);
        if look >= looks {
            return refused(RefusalKind::Unavailable, "shutting down");
        }
        Reply::Status(Box::new(all))
    });
    let socket = fake.socket.clone();
    let watch = |more: &'static [&'static str]| {
        let socket = socket.clone();
        stop.store(0, std::sync::atomic::Ordering::Relaxed);
        tokio::task::spawn_blocking(move || run_on(&socket, &[&["status", "--watch"], more].concat(), None))
    };
    let ran = watch(&["--json"]).await.unwrap();
    assert_eq!(ran.code, 1, "{}", ran.err);
    let states: Vec<Value> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(states.len(), 3, "two documents and the error: {}", ran.out);
    assert_eq!(states[1]["services"][0]["nodes"][2]["state"], "serving");
    let ran = watch(&[]).await.unwrap();
    let lines: Vec<_> = ran.out.lines().collect();
    assert_eq!(lines.iter().filter(|line| line.contains("10.0.0.6:5002")).count(), 2, "{}", ran.out);
    assert_eq!(lines.last(), Some(&"shop: node 10.0.0.6:5002 (v2) serving: passed 2 probes"), "{}", ran.out);
}
