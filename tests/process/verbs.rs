//! What every verb that asks a proxy does when it cannot be asked: gone, hanging, not for this user.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::process::Output;

use serde_json::Value;

use super::support::{LISTENER, QUICK, Site, eventually, list, origin};

/// Every verb that asks a proxy, as somebody would type it.
const VERBS: [&[&str]; 17] = [
    &["plan"],
    &["status"],
    &["status", "shop", "--watch"],
    &["deploy", "shop", "--version", "v2", "--node", "127.0.0.1:1"],
    &["wait", "shop"],
    &["rollback", "shop"],
    &["history", "shop"],
    &["promote", "shop"],
    &["pause", "shop"],
    &["resume", "shop"],
    &["abort", "shop", "--wait"],
    &["retry", "shop"],
    &["hold", "shop"],
    &["release", "shop"],
    &["maintenance", "shop", "on"],
    &["maintenance", "shop", "off"],
    &["drain", "shop", "127.0.0.1:1"],
];

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

/// Each fails with this code, says this on standard error, and in JSON the kind of error and nothing else.
fn fails(all: Vec<(String, Output, Output)>, code: i32, says: &str, kind: &str) {
    for (verb, text, json) in all {
        let said = String::from_utf8_lossy(&text.stderr);
        assert_eq!(text.status.code(), Some(code), "{verb}: {said}");
        assert!(text.stdout.is_empty() && said.contains(says), "{verb}: {said}");
        assert!(!said.contains('\u{1b}'), "{verb}: no colours into a pipe: {said:?}");
        assert_eq!(json.status.code(), Some(code), "{verb}");
        let document: Value = serde_json::from_slice(&json.stdout).unwrap_or_else(|_| panic!("{verb}: {json:?}"));
        assert_eq!(document["error"]["kind"], kind, "{verb}: {document}");
        assert!(json.stderr.is_empty(), "{verb}: {json:?}");
    }
}

#[test]
fn every_verb_says_that_the_proxy_is_gone() {
    let site = Site::new("");
    fails(run(&site, &VERBS, &[], None), 1, "is `sluice run` running?", "unreachable");
}

#[test]
fn every_verb_gives_up_a_proxy_that_hangs_when_its_time_is_over() {
    let site = Site::new("");
    // The kernel accepts into the queue; nobody ever takes it out.
    let _hangs = UnixListener::bind(site.socket()).expect("a socket");
    let verbs: Vec<_> = VERBS
        .into_iter()
        // They ask what there is first, which has a limit of its own; a file that is being edited is not dropped in the middle.
        .filter(|verb| !matches!(verb[0], "deploy" | "rollback" | "drain"))
        .collect();
    fails(run(&site, &verbs, &["--timeout", "100ms"], None), 7, "--timeout", "timed-out");
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
    fails(run(&site, &VERBS, &[], user), 1, "your user may not open it", "unreachable");
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
    for (verb, text, json) in run(&site, &VERBS, &["--timeout", "30s"], None) {
        if matches!(verb.as_str(), "plan" | "status") {
            assert_eq!((text.status.code(), json.status.code()), (Some(0), Some(0)), "{verb}: {text:?}");
            continue;
        }
        let said = String::from_utf8_lossy(&text.stderr);
        assert_eq!((text.status.code(), json.status.code()), (Some(2), Some(2)), "{verb}: {said}");
        let next = said.contains("blog") || said.contains("`sluice status` lists the services");
        assert!(said.contains("`shop`") && next, "{verb}: {said}");
    }
}
