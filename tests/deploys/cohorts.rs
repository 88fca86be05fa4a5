//! Users who are pinned, over rollouts in a row: each sees one version at a time, and moves to the new one once.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sluicegate::cli::demo::Origin;

use super::canary::{origins, service};
use super::stage::{HOST, Save, Stage, times, told};

/// Browsers, each with its cookies.
const USERS: usize = 30;

const ROLLOUT: &str = "steps = [{ share = \"10%\", hold = \"250ms\" }, { share = \"35%\", hold = \"250ms\" }, { share = \"70%\", hold = \"250ms\" }]\n\
                       [service.shop.rollout.guard]\nmin_requests = 1\n[service.shop.cohort]\nby = \"cookie\"";

/// A browser: one connection, and the cookie that it was given.
struct User {
    stream: BufReader<TcpStream>,
    cookie: Option<String>,
    /// Versions that answered, each time that it was another one than before.
    seen: Vec<String>,
}

impl User {
    fn new(target: SocketAddr) -> Self {
        let stream = TcpStream::connect(target).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        Self { stream: BufReader::new(stream), cookie: None, seen: Vec::new() }
    }

    /// Asks once, and notes who answered.
    fn ask(&mut self) {
        let cookie = self.cookie.as_ref().map(|cookie| format!("cookie: {cookie}\r\n")).unwrap_or_default();
        write!(self.stream.get_mut(), "GET / HTTP/1.1\r\nhost: {HOST}\r\n{cookie}\r\n").expect("a request");
        let (mut version, mut length) = (String::new(), 0);
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("an answer");
        assert!(line.starts_with("HTTP/1.1 200"), "{line}");
        loop {
            line.clear();
            self.stream.read_line(&mut line).expect("a field");
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            match name.to_ascii_lowercase().as_str() {
                "x-version" => version = value.into(),
                "content-length" => length = value.parse().expect("a length"),
                "set-cookie" => self.cookie = value.split(';').next().map(Into::into),
                _ => {}
            }
        }
        self.stream.read_exact(&mut vec![0; length]).expect("a body");
        if self.seen.last() != Some(&version) {
            self.seen.push(version);
        }
    }
}

#[test]
fn a_pinned_user_moves_to_each_new_version_once_and_never_back() {
    let rollouts = times(4);
    let mut stage = Stage::new();
    let mut serving: Vec<Origin> = origins(&stage, "v0", sluicegate::cli::demo::Faults::default());
    stage.run(&service("v0", &[("v0", &serving)], ROLLOUT));
    let done = AtomicBool::new(false);
    let (stage, done) = (&stage, &done);
    let users = std::thread::scope(|scope| {
        let browsing = scope.spawn(move || {
            let mut users: Vec<_> = (0..USERS).map(|_| User::new(stage.target)).collect();
            while !done.load(Ordering::Relaxed) {
                users.iter_mut().for_each(User::ask);
            }
            users
        });
        for number in 1..=rollouts {
            let (before, version) = (format!("v{}", number - 1), format!("v{number}"));
            let next = origins(stage, &version, sluicegate::cli::demo::Faults::default());
            stage.save(&service(&version, &[(&before, &serving), (&version, &next)], ROLLOUT), Save::Rename);
            let waited = stage.sluice(&["wait", "shop", "--timeout", "1m", "--version", &version]);
            if waited.status.code() != Some(0) {
                // Let the other thread go, or nobody would ever learn why.
                done.store(true, Ordering::Relaxed);
                panic!("rollout {number}: {}", told(&waited));
            }
            serving = next;
        }
        done.store(true, Ordering::Relaxed);
        browsing.join().expect("every request was answered")
    });
    let all: Vec<String> = (0..=rollouts).map(|number| format!("v{number}")).collect();
    for user in &users {
        // With short steps a user may see nothing of a version whose next one came before their next request.
        let mut places = user.seen.iter().map(|version| all.iter().position(|known| known == version));
        let mut last = None;
        assert!(
            places.all(|place| place > std::mem::replace(&mut last, place) && place.is_some()),
            "a user went back: {:?}",
            user.seen
        );
    }
    let pinned = users.iter().filter(|user| user.cookie.is_some()).count();
    assert!(pinned * 2 > USERS, "only {pinned} of {USERS} users came by while two versions served");
    let full = users.iter().filter(|user| user.seen == all).count();
    println!("{rollouts} rollouts, {USERS} users: {pinned} were pinned, {full} met every version, nobody went back");
}
