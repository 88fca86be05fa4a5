//! Public HTTP/1.1 cases as data, sent as they are. They live beside the repository, not in it: `SLUICE_VECTORS` names the
//! folder, else it is `../shared/vectors/http1`. Without it there is nothing to run.
//!
//! Of each case: the node gets nothing ambiguous and no request that the framing of what was sent does not hold; the client
//! never gets a 5xx for its own mistake; where the case has a verdict for what the client sees, it is no `Fail`; and the next
//! client is served.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use crate::support::client::Client;
use crate::support::node::TestNode;
use crate::support::{PATIENCE, Proxy, app};

#[derive(Clone, Debug, Deserialize)]
struct Case {
    id: String,
    steps: Vec<String>,
    #[serde(default)]
    scored: bool,
    /// `status/connection` → `Pass`, `Warn` or `Fail`.
    #[serde(default)]
    table: Option<BTreeMap<String, String>>,
}

fn cases(file: &str) -> Option<Vec<Case>> {
    let folder = std::env::var_os("SLUICE_VECTORS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/vectors/http1"), PathBuf::from);
    let path = folder.join(file);
    match std::fs::read(&path) {
        Ok(text) => Some(serde_json::from_slice(&text).expect("cases")),
        Err(error) => {
            println!("skipped: {}: {error}", path.display());
            None
        }
    }
}

/// What the client saw.
#[derive(Debug, Default)]
struct Outcome {
    received: Vec<u8>,
    closed: bool,
}

impl Outcome {
    /// The statuses of the final responses, in order. Bodies of the node hold no line that looks like a status line.
    fn statuses(&self) -> Vec<u16> {
        let text = String::from_utf8_lossy(&self.received);
        let all = text.match_indices("HTTP/1.").filter_map(|(at, _)| text.get(at + 9..at + 12)?.parse().ok());
        all.filter(|status| *status >= 200).collect()
    }

    fn verdict<'a>(&self, case: &'a Case) -> Option<&'a str> {
        let status = self.statuses().first().map_or("None".to_owned(), u16::to_string);
        let connection = match (self.closed, &*status) {
            (true, _) => "ClosedByServer",
            (false, "None") => "TimedOut",
            (false, _) => "Open",
        };
        case.table.as_ref()?.get(&format!("{status}/{connection}")).map(String::as_str)
    }
}

/// Sends the steps, each after the proxy went quiet, and reads until it closed or went quiet.
async fn converse(proxy: &Proxy, case: &Case) -> Outcome {
    let mut stream = TcpStream::connect(proxy.address).await.expect("a connection");
    let mut outcome = Outcome::default();
    for step in &case.steps {
        // Latin-1: one character, one byte.
        let bytes: Vec<u8> = step.chars().map(|c| u8::try_from(u32::from(c)).expect("Latin-1")).collect();
        if stream.write_all(&bytes).await.is_err() {
            outcome.closed = true;
        }
        let quiet = Duration::from_millis(if outcome.statuses().is_empty() { 700 } else { 250 });
        listen(&mut stream, &mut outcome, quiet).await;
    }
    // A machine under load is slow to answer and to close: a bad verdict gets more time, a good one stays good.
    let deadline = Instant::now() + Duration::from_secs(5);
    while !outcome.closed && outcome.verdict(case) == Some("Fail") && Instant::now() < deadline {
        listen(&mut stream, &mut outcome, Duration::from_millis(500)).await;
    }
    outcome
}

async fn listen(stream: &mut TcpStream, outcome: &mut Outcome, quiet: Duration) {
    let mut space = [0; 8192];
    while !outcome.closed {
        match timeout(quiet, stream.read(&mut space)).await {
            Ok(Ok(0) | Err(_)) => outcome.closed = true,
            Ok(Ok(read)) => outcome.received.extend(&space[..read]),
            Err(_) => return,
        }
    }
}

/// Runs one case. Returns its verdict (`Warn` if it has none of its own), or what is wrong.
async fn run(case: &Case) -> Result<String, String> {
    let node = TestNode::start(|mut peer| async move {
        while let Some(request) = peer.request().await {
            peer.respond(200, if request.line.starts_with("HEAD ") { "" } else { "fine" }).await;
        }
    })
    .await;
    let proxy = Proxy::with_workers(&app(&[node.address], ""), 1);
    let outcome = converse(&proxy, case).await;
    let mut next = Client::connect(proxy.address).await;
    let served = timeout(PATIENCE, next.get("/next")).await.map_err(|_| "the next client waits")?;
    if served.status != 200 {
        return Err(format!("the next client got {}", served.status));
    }
    let statuses = outcome.statuses();
    if statuses.iter().any(|status| *status >= 500 && *status != 501 && *status != 505) {
        return Err(format!("the client got {statuses:?}"));
    }
    let mut lines: Vec<String> = node.requests().into_iter().map(|request| request.line).collect();
    if lines.pop().as_deref() != Some("GET /next HTTP/1.1") {
        return Err("a request was still under way when the next client was served".into());
    }
    // The client gets an answer for each request that a node gets, and no more: else one of them was hidden in another.
    let answered = statuses.iter().filter(|status| **status < 400).count();
    if answered != lines.len() {
        return Err(format!("the node got {lines:?}, the client {statuses:?}"));
    }
    // No case holds more than one request a step by the framing of RFC 9112 §6.3, where it is valid at all: a second one in
    // the same step is the body of the first, or follows a message that has a length and a coding, or is malformed, after
    // which the connection ends (§6.1, §6.3).
    if lines.len() > case.steps.len() || lines.iter().any(|line| line.contains("/smuggled")) {
        return Err(format!("the node got {lines:?}"));
    }
    match outcome.verdict(case) {
        Some("Fail") if case.scored => Err(format!("{statuses:?}, closed: {}", outcome.closed)),
        verdict => Ok(verdict.unwrap_or("Warn").to_owned()),
    }
}

async fn run_all(file: &str) {
    let Some(cases) = cases(file) else { return };
    let count = cases.len();
    assert!(count > 100, "{file} is not what it was");
    let gate = Arc::new(Semaphore::new(16));
    let mut running = tokio::task::JoinSet::new();
    for case in cases {
        let gate = Arc::clone(&gate);
        running.spawn(async move {
            let _turn = gate.acquire().await;
            let result = run(&case).await;
            (case, result)
        });
    }
    let mut verdicts = BTreeMap::<String, usize>::new();
    let mut wrong = Vec::new();
    while let Some(done) = running.join_next().await {
        match done.expect("no panic") {
            (case, Ok(verdict)) => {
                if verdict == "Fail" {
                    println!("{}: not reached, scored: {}", case.id, case.scored);
                }
                *verdicts.entry(verdict).or_default() += 1;
            }
            (case, Err(why)) => wrong.push(format!("{}: {why}: {:?}", case.id, case.steps)),
        }
    }
    println!("{file}: {count} cases, {verdicts:?}, {} wrong", wrong.len());
    wrong.sort();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn the_public_probe_finds_nothing() {
    run_all("h1probe.json").await;
}

#[tokio::test]
async fn the_public_smuggling_gadgets_smuggle_nothing() {
    run_all("smuggler.json").await;
}
