//! What refuses to start, and how it says so.

use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use super::support::{LISTENER, Site, eventually, get, list, origin};

fn service(more: &str) -> String {
    format!("{LISTENER}[service.shop]\nmatch = \"*\"\nnodes = [\"127.0.0.1:1\"]\n{more}")
}

#[test]
fn each_kind_of_wrong_configuration_is_told_with_its_place() {
    let site = Site::new("");
    let at = |line: usize, column: usize| format!("sluice.toml:{line}:{column}: ");
    for (text, place, words) in [
        (String::new(), "sluice.toml: ".into(), "there is no listener"),
        (service("[admin\n"), at(7, 7), "not valid TOML"),
        (service("timeout = { response = \"1s\" }\n"), at(7, 1), "did you mean `timeouts`?"),
        (service("strip_prefix = \"yes\"\n"), at(7, 16), "strip_prefix"),
        (service("timeouts = { response = \"10\" }\n"), at(7, 25), "unit"),
        (service("timeouts = { response = 10 }\n"), at(7, 25), "found a whole number"),
        (service("nodes = [\"127.0.0.1:2\"]\n"), at(7, 1), "second time"),
        (service("release = \"v1\"\n"), at(6, 9), "cannot stand beside"),
        (service("health = { rise = 0 }\n"), at(7, 19), "rise"),
        (service("retry = { budget = \"120%\" }\n"), at(7, 20), "budget"),
        (service("[service.blog]\nmatch = \"*\"\nnodes = [\"127.0.0.1:2\"]\n"), at(8, 9), "already matched"),
        (service("[service.blog]\nmatch = \"blog.test\"\n"), at(7, 10), "has no nodes"),
        (LISTENER.replace("127.0.0.1:0", "localhost"), at(3, 8), "address"),
        (format!("include = [\"missing/*.toml\"]\n{}", service("")), at(1, 12), "cannot be read"),
        (format!("trusted_proxies = [\"10.0.0.0/33\"]\n{}", service("")), at(1, 20), "10.0.0.0/33"),
    ] {
        site.write(&text);
        let (code, said) = site.refused(&[]);
        assert_eq!(code, Some(2), "{text}\n{said}");
        assert!(said.contains(&place), "not {place}\n{text}\n{said}");
        assert!(said.contains(words), "not {words}\n{text}\n{said}");
    }
}

#[test]
fn every_error_is_told_at_once() {
    let site = Site::new(&service("strip_prefix = 1\nhealth = { rize = 1 }\nretry = { attempts = 0 }\n"));
    let (code, said) = site.refused(&[]);
    assert_eq!(code, Some(2));
    assert!(said.contains("3 in all"), "{said}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let site = Site::new("");
    std::fs::remove_file(site.config()).expect("removed");
    let (code, said) = site.refused(&[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("sluice.toml: cannot be read: No such file"), "{said}");
    std::fs::create_dir(site.config()).expect("a folder");
    let (code, said) = site.refused(&[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("it is a folder"), "{said}");
}

#[test]
fn a_port_in_use_is_told_with_listener_and_address() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let site = Site::new(&service("").replace("127.0.0.1:0", &address).replace("\"http\"", "\"front\""));
    let (code, said) = site.refused(&[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("`front`") && said.contains(&address) && said.contains("another process"), "{said}");
    // The socket is not left behind for the verbs to knock at.
    assert!(!site.socket().exists());
}

#[test]
fn a_second_proxy_on_the_same_socket_or_state_is_refused_and_the_first_goes_on() {
    let node = [origin("v1")];
    let site = Site::new(&service("").replace("[\"127.0.0.1:1\"]", &list(&node)));
    let proxy = site.start();
    proxy.settled("shop");
    let (code, said) = site.refused(&[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("s.sock") && said.contains("admin socket"), "{said}");

    let other = site.path("other.sock");
    let (code, said) = site.refused(&["--socket", other.to_str().expect("a path")]);
    assert_eq!(code, Some(1), "{said}");
    let pid = proxy.child.id();
    assert!(said.contains("in use by another sluice") && said.contains(&format!("process {pid}")), "{said}");
    assert_eq!(get(proxy.address(), "shop.test", "/").expect("an answer").status, 200);
    assert!(proxy.status().is_some(), "the first one's socket is gone");
}

#[test]
fn the_socket_of_a_killed_proxy_is_taken_over() {
    let site = Site::new(&service(""));
    site.start().kill();
    assert!(site.socket().exists());
    assert!(site.start().status().is_some());
}

#[test]
fn an_unknown_verb_is_told_with_the_nearest_one() {
    let site = Site::new("");
    let out = site.verb(&["staus"]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(2), "{said}");
    assert!(said.contains("'staus'") && said.contains("'status'"), "{said}");
}

#[test]
fn a_socket_that_answers_nothing_is_given_up() {
    let site = Site::new("");
    let silent = UnixListener::bind(site.socket()).expect("a socket");
    let began = Instant::now();
    let out = site.verb(&["status"]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert!(said.contains("s.sock"), "{said}");
    drop(silent);
    // And one where nobody listens any more.
    let out = site.verb(&["status"]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains("s.sock"), "{said}");
}

#[test]
fn garbage_on_the_admin_socket_harms_nobody() {
    let site = Site::new(&service(""));
    let proxy = site.start();
    let mut held = Vec::new();
    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"[..],
        b"GET\r\n\r\n",
        b"POST /v1/reload HTTP/1.1\r\nHost: s\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"GET /v1/status HTTP/1.1\r\nHost: s\r\n",
        &vec![b'A'; 200_000],
    ] {
        let mut stream = UnixStream::connect(site.socket()).expect("a connection");
        // Refused in the middle is fine.
        let _ = stream.write_all(garbage);
        held.push(stream);
    }
    assert!(proxy.status().is_some_and(|status| status.ready));
    drop(held);
    eventually("it still answers", || proxy.status());
}
