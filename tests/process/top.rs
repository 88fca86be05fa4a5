//! `sluice top` on a terminal, before the real proxy.

use rustix::process::Signal;

use sluicegate::api::HaltKind;

use super::support::{Client, Pty, Site, canary, eventually, get, origin};

#[test]
fn a_canary_is_watched_and_steered_and_the_terminal_is_given_back() {
    let (old, new) = ([origin("v1")], [origin("v2")]);
    let site = Site::new(&canary("v1", &old, &new));
    let proxy = site.start();
    proxy.settled("shop");
    let mut top = Pty::start(site.command(&["top"]), 80, 24);
    top.shows(&["sluice 0.1.0", "SERVICES (1)", "> ", "shop", "settled", "1/1"]);

    site.write(&canary("v2", &old, &new));
    top.shows(&["on trial", "25%", "1/2 manual"]);
    for _ in 0..20 {
        get(proxy.address(), "any", "/").expect("an answer");
    }
    top.types("\r");
    top.shows(&["v1 → v2, canary", "VERSION", "NODES  2 serving", "on trial: v2 with 25%, step 1 of 2"]);
    // No is no.
    top.types("p");
    top.shows(&["promote shop: v2 from 25% to 50%?  y / n"]);
    top.types("n");
    eventually("the question is gone", || (!top.text().contains("y / n")).then_some(()));
    // Nor is a yes to what is no longer so.
    top.types("p");
    top.shows(&["promote shop: v2 from 25% to 50%?  y / n"]);
    assert_eq!(site.verb(&["pause", "shop"]).status.code(), Some(0));
    top.types("y");
    top.shows(&["was decided since you looked", "paused for"]);
    assert_eq!(site.verb(&["resume", "shop"]).status.code(), Some(0));
    eventually("it is not paused", || (!top.text().contains("paused for")).then_some(()));
    top.types("p");
    top.shows(&["promote shop: v2 from 25% to 50%?  y / n"]);
    top.types("y");
    top.shows(&["on trial: v2 with 50%, step 2 of 2"]);
    eventually("it was really promoted", || {
        let trial = proxy.service("shop")?.rollout?.trial?;
        ((trial.share - 50.0).abs() < 0.01).then_some(())
    });
    top.types("z");
    top.shows(&["pause shop"]);
    top.types("y");
    top.shows(&["paused"]);
    top.types("a");
    top.shows(&["abort shop: v1 serves again and v2 is refused?"]);
    top.types("y");
    top.shows(&["refused v2"]);
    eventually("the history says who it was", || {
        let entry = proxy.history("shop").into_iter().next()?;
        entry.steered.iter().any(|act| act.by.contains("uid ")).then_some(())
    });

    top.types("\x1b");
    top.shows(&["SERVICES (1)", "failed"]);
    top.types("q");
    assert_eq!(top.exit().code(), Some(0));
    eventually("the terminal is as it was", || top.left_behind().is_empty().then_some(()));
}

#[test]
fn traffic_is_stopped_and_let_go_by_keys() {
    let old = [origin("v1")];
    let site = Site::new(&canary("v1", &old, &[origin("v2")]));
    let proxy = site.start();
    proxy.settled("shop");
    let mut top = Pty::start(site.command(&["top", "shop"]), 120, 24);
    for (key, stops, goes, kind) in [
        ("h", "hold shop: new requests wait, for 30s at most?  y / n", "release shop:", HaltKind::Hold),
        ("m", "maintenance shop: new requests are answered 503?", "end maintenance shop:", HaltKind::Maintenance),
    ] {
        top.shows(&["shop  settled", "h hold", "m maintenance"]);
        top.types(key);
        top.shows(&[stops]);
        top.types("y");
        eventually("it is stopped", || proxy.service("shop")?.halt.filter(|halt| halt.kind == kind));
        // Until the page shows it, the key means the other thing.
        top.shows(&[if kind == HaltKind::Hold { "ON HOLD" } else { "IN MAINTENANCE" }]);
        top.types(key);
        top.shows(&[goes]);
        top.types("y");
        eventually("it goes on", || proxy.service("shop")?.halt.is_none().then_some(()));
        eventually("the page shows it", || (!top.text().contains(" for ")).then_some(()));
        // What was said of it is taken away by any key.
        top.types("k");
    }
    top.types("q");
    assert_eq!(top.exit().code(), Some(0));
}

#[test]
fn it_follows_the_window_and_a_proxy_that_is_killed_and_comes_back() {
    let old = [origin("v1")];
    let site = Site::new(&canary("v1", &old, &[origin("v2")]));
    let mut top = Pty::start(site.command(&["top", "shop"]), 80, 24);
    top.shows(&["NO ANSWER FROM THE PROXY", "is `sluice run` running?"]);
    let proxy = site.start();
    top.shows(&["shop  settled", "NODES  1 serving"]);
    assert!(!top.text().contains("NO ANSWER"), "{}", top.text());
    top.resize(40, 10);
    top.shows(&["shop  settled", "VERSION"]);
    assert!(top.text().lines().all(|line| line.chars().count() <= 40));
    top.resize(120, 30);
    top.shows(&["generation", "t retry", "HISTORY"]);
    proxy.kill();
    top.shows(&["NO ANSWER FROM THE PROXY for", "shop  settled"]);
    let proxy = site.start();
    let pid = proxy.child.id();
    top.shows(&[&format!("pid {pid}")]);
    eventually("all is well again", || (!top.text().contains("NO ANSWER")).then_some(()));

    // Only what changes is sent: a second costs the clock, a count or two, and their places.
    let clock = |text: &str| text.split("  up ").nth(1).and_then(|rest| rest.split("  ").next()).map(str::to_owned);
    eventually("a second in which nothing happens costs little", || {
        let (began, sent) = (clock(&top.text()), top.sent());
        eventually("the clock goes on", || (clock(&top.text()) != began).then_some(()));
        let cost = top.sent() - sent;
        println!("{cost} bytes a second");
        (cost < 400).then_some(())
    });

    // A closed window ends it, without a signal too.
    top.close();
    top.exit();
}

#[test]
fn the_first_line_tells_what_the_whole_proxy_does() {
    let old = [origin("v1")];
    let more = "[service.gone]\nmatch = \"gone.test\"\nnodes = [\"127.0.0.1:9\"]\nhold = { wait = \"0s\" }\n";
    let site = Site::new(&(canary("v1", &old, &[origin("v2")]) + more));
    let proxy = site.start();
    proxy.settled("shop");
    let mut top = Pty::start(site.command(&["top"]), 80, 24);
    top.shows(&["SERVICES (2)", "0 conns"]);
    let mut clients: Vec<_> = (0..3).map(|_| Client::connect(proxy.address()).expect("a connection")).collect();
    for client in &mut clients {
        assert_eq!(client.get("shop.test", "/").expect("an answer").status, 200);
        assert!(client.get("gone.test", "/").expect("an answer").status >= 500);
    }
    top.shows(&["3 conns"]);
    eventually("all is counted", || {
        let load = proxy.status()?.load;
        ((load.connections, load.requests, load.errors) == (3, 6, 3)).then_some(())
    });
    drop(clients);
    top.shows(&["0 conns"]);
    top.types("q");
    top.exit();
}

#[test]
fn however_it_ends_the_terminal_is_given_back() {
    let old = [origin("v1")];
    let site = Site::new(&canary("v1", &old, &[origin("v2")]));
    let _proxy = site.start();
    for (key, signal, code) in [
        ("\x03", None, 0),
        ("\x1b", None, 0),
        ("", Some(Signal::INT), 0),
        ("", Some(Signal::TERM), 143),
        ("", Some(Signal::HUP), 129),
    ] {
        let mut top = Pty::start(site.command(&["top"]), 80, 24);
        top.shows(&["SERVICES (1)"]);
        assert!(!top.left_behind().is_empty(), "it has the terminal");
        top.types(key);
        if let Some(signal) = signal {
            top.signal(signal);
        }
        assert_eq!(top.exit().code(), Some(code), "{key:?} {signal:?}");
        eventually("the terminal is as it was", || top.left_behind().is_empty().then_some(()));
    }
}

#[test]
fn a_torn_arrow_key_quits_nothing_and_pasted_text_commands_nothing() {
    let old = [origin("v1")];
    let site = Site::new(&canary("v1", &old, &[origin("v2")]));
    let proxy = site.start();
    let mut top = Pty::start(site.command(&["top"]), 80, 24);
    top.shows(&["SERVICES (1)"]);
    top.types("\x1b[200~ay\x1b[201~");
    top.types("\x1b[B\x1bOA");
    // Drawn anew: somebody else wrote on the screen.
    top.scribbles("some message");
    top.types("\x0c");
    top.shows(&["SERVICES (1)"]);
    eventually("nothing of it is left", || (!top.text().contains("some message")).then_some(()));
    // After a stop and `fg`, too.
    top.scribbles("$ fg");
    top.signal(Signal::CONT);
    eventually("nothing of it is left", || (!top.text().contains("$ fg")).then_some(()));
    top.shows(&["SERVICES (1)"]);
    top.types("/sho");
    top.shows(&["/sho", "(1 of 1)"]);
    top.types("\x1b[200~p\x1b[31m\x1b[201~\r");
    top.shows(&["/shop", "Enter open"]);
    assert!(proxy.history("shop").iter().all(|entry| entry.steered.is_empty()));
    top.types("q");
    assert_eq!(top.exit().code(), Some(0));
}

#[test]
fn a_proxy_that_hangs_or_is_not_for_this_user_is_told_with_the_reason() {
    use std::os::unix::process::CommandExt as _;
    let site = Site::new("");
    let hangs = std::os::unix::net::UnixListener::bind(site.socket()).expect("a socket");
    let mut top = Pty::start(site.command(&["top"]), 300, 24);
    top.shows(&["NO ANSWER FROM THE PROXY", "accepts connections but nothing answered"]);
    top.types("q");
    assert_eq!(top.exit().code(), Some(0));
    // Its socket is left, and nobody listens.
    drop(hangs);
    let mut top = Pty::start(site.command(&["top"]), 300, 24);
    top.shows(&["NO ANSWER FROM THE PROXY", "is `sluice run` running?"]);
    top.types("q");
    top.exit();

    let mode = |path: &std::path::Path, mode| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("a mode");
    };
    mode(site.dir.path(), 0o755);
    mode(&site.socket(), 0o000);
    let mut command = site.command(&["top"]);
    if rustix::process::geteuid().is_root() {
        // Nobody's number.
        command.uid(65_534).gid(65_534);
    }
    let mut top = Pty::start(command, 300, 24);
    top.shows(&["NO ANSWER FROM THE PROXY", "your user may not open it"]);
    top.types("q");
    assert_eq!(top.exit().code(), Some(0));
}

#[test]
fn without_a_terminal_it_says_what_to_use_instead() {
    let site = Site::new("");
    let ran = site.verb(&["top"]);
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert_eq!((ran.status.code(), ran.stdout.len()), (Some(2), 0), "{said}");
    assert!(said.contains("needs a terminal") && said.contains("sluice status --watch"), "{said}");
    let mut command = site.command(&["top"]);
    command.env("TERM", "dumb");
    let mut top = Pty::of_kind(command, 80, 24);
    assert_eq!(top.exit().code(), Some(2));
    top.shows(&["needs a terminal"]);
}

#[test]
fn without_colours_there_are_none() {
    let old = [origin("v1")];
    let site = Site::new(&canary("v1", &old, &[origin("v2")]));
    let _proxy = site.start();
    let colors = |no_color: &str| {
        let mut command = site.command(&["top"]);
        command.env("NO_COLOR", no_color);
        let mut top = Pty::start(command, 80, 24);
        top.shows(&["SERVICES (1)", "settled"]);
        top.types("q");
        assert_eq!(top.exit().code(), Some(0));
        top.colors()
    };
    assert_eq!(colors("1"), 0);
    assert!(colors("") > 0);
}
