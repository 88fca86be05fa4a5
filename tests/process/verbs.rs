//! What every verb that asks a proxy does when it cannot be asked: gone, hanging, not for this user; or asked for what is not there.
//! What each does when it can is in `outcomes`; two at once in `together`; `top`, which needs a terminal, in `top`.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::process::Output;

use clap::CommandFactory as _;
use serde_json::Value;
use sluicegate::cli::Cli;

use super::support::{LISTENER, QUICK, Site, eventually, list, origin, text};

/// Every verb that asks a proxy, as somebody would type it, with each of its switches.
const VERBS: [&[&str]; 22] = [
    &["plan"],
    &["status"],
    &["status", "shop"],
    &["status", "shop", "--watch"],
    &["deploy", "shop", "--version", "v2", "--node", "127.0.0.1:1"],
    &["wait", "shop"],
    &["rollback", "shop"],
    &["history", "shop"],
    &["promote", "shop"],
    &["promote", "shop", "--full", "--wait"],
    &["pause", "shop"],
    &["resume", "shop"],
    &["abort", "shop"],
    &["abort", "shop", "--wait"],
    &["retry", "shop"],
    &["retry", "shop", "--wait"],
    &["hold", "shop"],
    &["release", "shop"],
    &["maintenance", "shop", "on"],
    &["maintenance", "shop", "off"],
    &["drain", "shop", "127.0.0.1:1"],
    &["drain", "shop", "127.0.0.1:1", "--undo"],
];

/// They ask no proxy.
const ALONE: [&str; 7] = ["run", "demo", "check", "token", "schema", "completions", "man"];

/// Runs them all at once, each as text and as JSON, with more arguments.
fn run(site: &Site, verbs: &[&[&str]], more: &[&str], user: Option<u32>) -> Vec<(String, Output, Output)> {
    let begin = |args: &[&str]| {
        let mut command = site.command(args);
        if let Some(user) = user {
            command.uid(user).gid(user);
        }
        command.spawn().expect("a verb")
    };
    let begun: Vec<_> = verbs
        .iter()
        .map(|verb| {
            let text = [*verb, more].concat();
            let json = [&text[..], &["--json"]].concat();
            (verb.join(" "), begin(&text), begin(&json))
        })
        .collect();
    let end = |child: std::process::Child| child.wait_with_output().expect("an end");
    begun.into_iter().map(|(verb, text, json)| (verb, end(text), end(json))).collect()
}

/// Each fails with this code, says this on standard error, and in JSON the kind of error and nothing else. A health check has its
/// code alone.
fn fails(site: &Site, more: &[&str], user: Option<u32>, (code, says, kind): (i32, &str, &str)) {
    for (verb, text, json) in run(site, &VERBS, more, user) {
        let said = String::from_utf8_lossy(&text.stderr);
        assert_eq!(text.status.code(), Some(code), "{verb}: {said}");
        assert!(text.stdout.is_empty() && said.starts_with("error: ") && said.contains(says), "{verb}: {said}");
        assert!(!said.contains('\u{1b}'), "{verb}: no colours into a pipe: {said:?}");
        assert_eq!(json.status.code(), Some(code), "{verb}");
        let document: Value = serde_json::from_slice(&json.stdout).unwrap_or_else(|_| panic!("{verb}: {json:?}"));
        assert_eq!(document["error"]["kind"], kind, "{verb}: {document}");
        assert!(document["error"]["message"].as_str().is_some_and(|message| message.contains(says)), "{document}");
        assert!(json.stderr.is_empty(), "{verb}: {json:?}");
    }
    for (_, text, json) in run(site, &[&["status", "--ready"]], more, user) {
        for output in [text, json] {
            assert_eq!((output.status.code(), output.stdout.len() + output.stderr.len()), (Some(1), 0), "{output:?}");
        }
    }
}

#[test]
fn a_verb_without_its_rows_here_is_found() {
    let sluice = Cli::command();
    for verb in sluice.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        let name = verb.get_name();
        // It has rows of its own, on a terminal.
        if ALONE.contains(&name) || name == "top" {
            continue;
        }
        let rows: Vec<_> = VERBS.iter().filter(|row| row[0] == name).collect();
        assert!(!rows.is_empty(), "`sluice {name}`: what does it do without a proxy? Give it a row in VERBS");
        let has = |long: &str| verb.get_arguments().any(|argument| argument.get_long() == Some(long));
        assert!(has("json") && has("timeout"), "every verb that asks has --json and --timeout: {name}");
        let switches = verb.get_arguments().filter(|argument| !argument.get_action().takes_values());
        for long in switches.filter_map(|switch| switch.get_long()) {
            let row = rows.iter().any(|row| row.contains(&format!("--{long}").as_str()));
            assert!(row || matches!(long, "json" | "help" | "ready"), "`sluice {name} --{long}` has no row in VERBS");
        }
    }
    for name in VERBS.iter().map(|row| row[0]).chain(ALONE) {
        assert!(sluice.get_subcommands().any(|verb| verb.get_name() == name), "there is no verb `{name}` any more");
    }
}

#[test]
fn every_verb_says_that_the_proxy_is_gone() {
    let site = Site::new("");
    let gone = (1, "is `sluice run` running?", "unreachable");
    fails(&site, &[], None, gone);
    // Killed: its socket is left, and nobody listens.
    drop(UnixListener::bind(site.socket()).expect("a socket"));
    fails(&site, &["--timeout", "30s"], None, gone);
}

#[test]
fn every_verb_gives_up_a_proxy_that_hangs_when_its_time_is_over() {
    let site = Site::new("");
    // The kernel accepts into the queue; nobody ever takes it out.
    let _hangs = UnixListener::bind(site.socket()).expect("a socket");
    fails(&site, &["--timeout", "100ms"], None, (7, "--timeout", "timed-out"));
}

#[test]
fn every_verb_says_that_this_user_may_not_ask() {
    let node = [origin("v1")];
    let site = Site::new(&format!("{LISTENER}[service.shop]\nmatch = \"*\"\nnodes = {}\n{QUICK}", list(&node)));
    let proxy = site.start();
    proxy.settled("shop");
    std::fs::set_permissions(site.dir.path(), std::fs::Permissions::from_mode(0o755)).expect("a mode");
    let user = if rustix::process::geteuid().is_root() {
        // Nobody's number; the socket is for root and its group.
        Some(65_534)
    } else {
        // The owner may not either, then.
        std::fs::set_permissions(site.socket(), std::fs::Permissions::from_mode(0o000)).expect("a mode");
        None
    };
    fails(&site, &[], user, (1, "your user may not open it", "unreachable"));
    if user.is_none() {
        std::fs::set_permissions(site.socket(), std::fs::Permissions::from_mode(0o660)).expect("a mode");
    }
    let shop = eventually("the proxy", || proxy.service("shop"));
    assert!(shop.halt.is_none() && shop.phase == "settled", "nothing was changed");
}

#[test]
fn every_verb_says_that_there_is_no_such_service() {
    let node = [origin("v1")];
    let site = Site::new(&format!("{LISTENER}[service.blog]\nmatch = \"*\"\nnodes = {}\n{QUICK}", list(&node)));
    let proxy = site.start();
    proxy.settled("blog");
    for (verb, human, json) in run(&site, &VERBS, &["--timeout", "30s"], None) {
        let codes = (human.status.code(), json.status.code());
        if matches!(verb.as_str(), "plan" | "status") {
            assert_eq!(codes, (Some(0), Some(0)), "{verb}: {}", text(&human));
            continue;
        }
        let said = String::from_utf8_lossy(&human.stderr);
        assert_eq!(codes, (Some(2), Some(2)), "{verb}: {said}");
        let next = said.contains("blog") || said.contains("`sluice status` lists");
        assert!(said.contains("`shop`") && next && human.stdout.is_empty(), "{verb}: {said}");
        let document: Value = serde_json::from_slice(&json.stdout).unwrap_or_else(|_| panic!("{verb}: {json:?}"));
        assert_eq!(document["error"]["kind"], "not-found", "{verb}: {document}");
        assert!(json.stderr.is_empty(), "{verb}: {json:?}");
    }
}

#[test]
fn a_deploy_whose_turn_does_not_come_in_time_writes_nothing() {
    let node = [origin("v1")];
    let site = Site::new(&format!("{LISTENER}[service.shop]\nmatch = \"*\"\nnodes = {}\n{QUICK}", list(&node)));
    let proxy = site.start();
    proxy.settled("shop");
    let before = std::fs::read_to_string(site.config()).expect("a file");
    // Another sluice that edits in this folder, and was stopped in the middle.
    let folder = std::fs::File::open(site.dir.path()).expect("a folder");
    rustix::fs::flock(&folder, rustix::fs::FlockOperation::LockExclusive).expect("a lock");
    let deploy = site.verb(&["deploy", "shop", "--node", "127.0.0.1:1", "--timeout", "500ms"]);
    let said = text(&deploy);
    assert_eq!(deploy.status.code(), Some(7), "{said}");
    assert!(said.contains("another sluice edits in its folder") && said.contains("nothing was written"), "{said}");
    assert_eq!(std::fs::read_to_string(site.config()).expect("a file"), before);
}
